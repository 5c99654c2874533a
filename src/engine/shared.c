#include "engine/shared.h"

#include "base/log.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static int map_fd(struct shared *shared, int fd, uint64_t size, struct pt2_err *err)
{
    void *data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (data == MAP_FAILED)
        return pt2_err_errno(err, PT2_ERR_NOMEM, "shared memory of %ju bytes",
                             (uintmax_t)size);
    shared->data = data;
    shared->size = size;
    return 0;
}

int shared_init(struct shared *shared, const char *name, uint64_t size,
                struct pt2_err *err)
{
    AUTO_FD int fd = -1;

    ASSERT(size > 0);
    *shared = (struct shared)SHARED_NONE;
    if (size > INT64_MAX)
        return pt2_err_set(err, PT2_ERR_NOMEM, "shared memory of %ju bytes",
                           (uintmax_t)size);
    if ((fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING)) < 0 ||
        ftruncate(fd, (off_t)size) < 0 || fcntl(fd, F_ADD_SEALS, SEALS) < 0)
        return pt2_err_errno(err, PT2_ERR_NOMEM, "shared memory of %ju bytes",
                             (uintmax_t)size);
    if (map_fd(shared, fd, size, err) < 0)
        return -1;
    shared->fd = TAKE_FD(fd);
    return 0;
}

int shared_map(struct shared *shared, int fd, uint64_t size, struct pt2_err *err)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);

    *shared = (struct shared)SHARED_NONE;
    if (seals < 0 || (seals & SEALS) != SEALS)
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "shared memory whose size is not sealed");
    if (fstat(fd, &st) < 0 || size == 0 || (uint64_t)st.st_size != size)
        return pt2_err_set(err, PT2_ERR_INVALID, "shared memory is not of %ju bytes",
                           (uintmax_t)size);
    return map_fd(shared, fd, size, err);
}

void shared_close_fd(struct shared *shared)
{
    if (shared->fd >= 0)
        close(shared->fd);
    shared->fd = -1;
}

void shared_drop_pages(struct shared *shared)
{
    /* Where it fails the memory is held until the next growth: no harm done. */
    (void)madvise(shared->data, shared->size, MADV_REMOVE);
}

void shared_done(struct shared *shared)
{
    shared_close_fd(shared);
    if (shared->data)
        munmap(shared->data, shared->size);
    shared->data = NULL;
}
