#include "store/temp_file.h"

#include "base/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

/* Left free for the database's log, whoever fills the disk. */
#define RESERVE_BYTES ((uint64_t)16 << 20)

/* ---- the folder ---- */

static int remove_temp(void *ctx, const char *folder, const char *name,
                       struct pt2_err *err)
{
    char path[PATH_MAX + NAME_MAX + 2];

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    if (unlink(path) < 0 && errno != ENOENT && errno != EISDIR)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    return 0;
}

int temp_folder_init(struct temp_folder *folder, const char *path, const char *what,
                     struct pt2_err *err)
{
    if ((size_t)snprintf(folder->path, sizeof(folder->path), "%s", path) >
        sizeof(folder->path) - 32)
        return pt2_err_set(err, PT2_ERR_IO, "%s: path too long", path);
    folder->what = what;
    atomic_init(&folder->next, 0);
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    return folder_each(path, remove_temp, NULL, err);
}

int temp_folder_check_room(const struct temp_folder *folder, uint64_t bytes,
                           struct pt2_err *err)
{
    struct statvfs fs;
    uint64_t free_bytes;

    if (statvfs(folder->path, &fs) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", folder->path);
    free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (free_bytes < RESERVE_BYTES || free_bytes - RESERVE_BYTES < bytes)
        return pt2_err_set(err, PT2_ERR_NO_SPACE,
                           "%llu bytes are needed, %s has %llu left",
                           (unsigned long long)bytes, folder->what,
                           (unsigned long long)(free_bytes < RESERVE_BYTES
                                                    ? 0
                                                    : free_bytes - RESERVE_BYTES));
    return 0;
}

/* ---- a file ---- */

int temp_file_for_child(struct temp_folder *folder, uint64_t expected_bytes,
                        struct temp_file *ret_file, struct pt2_err *err)
{
    struct temp_file file = TEMP_NO_FILE;

    if (temp_folder_check_room(folder, expected_bytes, err) < 0)
        return -1;
    file.folder = folder;
    if ((size_t)snprintf(file.path, sizeof(file.path), "%s/%llu.part", folder->path,
                         atomic_fetch_add(&folder->next, 1)) >= sizeof(file.path))
        return pt2_err_set(err, PT2_ERR_IO, "%s: path too long", folder->path);
    *ret_file = file;
    return 0;
}

int temp_file_make(struct temp_folder *folder, uint64_t expected_bytes,
                   struct temp_file *ret_file, struct pt2_err *err)
{
    struct temp_file file = TEMP_NO_FILE;

    if (temp_file_for_child(folder, expected_bytes, &file, err) < 0)
        return -1;
    file.fd = open(file.path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file.fd < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", file.path);
    *ret_file = file;
    return 0;
}

int temp_file_open(struct temp_file *file, uint64_t bytes, struct pt2_err *err)
{
    struct stat st;
    AUTO_FD int fd = open(file->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    if (fd < 0 || fstat(fd, &st) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", file->path);
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != bytes)
        return pt2_err_set(err, PT2_ERR_IO, "%s is no file of %llu bytes", file->path,
                           (unsigned long long)bytes);
    file->fd = TAKE_FD(fd);
    return 0;
}

static int remove_if_begins(void *ctx, const char *folder, const char *name,
                            struct pt2_err *err)
{
    return after_prefix(name, ctx) ? remove_temp(NULL, folder, name, err) : 0;
}

void temp_file_drop(struct temp_file *file)
{
    if (file->fd >= 0)
        close(TAKE_FD(file->fd));
    if (file->path[0]) {
        /* The walk takes memory and a descriptor, which may be what the file fails for. */
        (void)!unlink(file->path);
        (void)!folder_each(file->folder->path, remove_if_begins,
                           strrchr(file->path, '/') + 1, NULL);
    }
    file->path[0] = '\0';
}

int temp_file_write(struct temp_file *file, const void *data, size_t len,
                    struct pt2_err *err)
{
    const char *p = data;
    ssize_t n;

    while (len > 0) {
        n = write(file->fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return pt2_err_errno(err, PT2_ERR_IO, "%s", file->path);
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

int temp_file_sync(struct temp_file *file, mode_t mode, struct pt2_err *err)
{
    if (fchmod(file->fd, mode) < 0 || fsync(file->fd) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", file->path);
    return 0;
}
