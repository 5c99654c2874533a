#include "store/objects.h"

#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define OBJECT_MODE 0400
/* Left free for the database's log, whoever fills the disk. */
#define RESERVE_BYTES ((uint64_t)16 << 20)

struct objects {
    char dir[PATH_MAX];    /* STATE/objects */
    char temp[PATH_MAX];   /* STATE/tmp */
    pthread_mutex_t mutex; /* guards next_temp */
    uint64_t next_temp;
};

/* ---- folders ---- */

static int make_folder(const char *path, struct pt2_err *err)
{
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    return 0;
}

static int sync_folder(const char *path, struct pt2_err *err)
{
    AUTO_FD int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 || fsync(fd) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    return 0;
}

/* Call each(ctx, folder, name) for what lies in a folder, "." and ".." left out. */
static int each_entry(const char *folder,
                      int (*each)(void *ctx, const char *folder, const char *name,
                                  struct pt2_err *err),
                      void *ctx, struct pt2_err *err)
{
    DIR *dir = opendir(folder);
    struct dirent *entry;
    int r = 0;

    if (!dir)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", folder);
    while (r == 0) {
        errno = 0;
        entry = readdir(dir);
        if (!entry) {
            if (errno)
                r = pt2_err_errno(err, PT2_ERR_IO, "%s", folder);
            break;
        }
        if (!streq(entry->d_name, ".") && !streq(entry->d_name, ".."))
            r = each(ctx, folder, entry->d_name, err);
    }
    closedir(dir);
    return r;
}

static int remove_temp(void *ctx, const char *folder, const char *name,
                       struct pt2_err *err)
{
    char path[PATH_MAX + NAME_MAX + 2];

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    if (unlink(path) < 0 && errno != ENOENT && errno != EISDIR)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    return 0;
}

int objects_open(const char *state_dir, struct objects **ret_objects, struct pt2_err *err)
{
    AUTO(objects) objects = calloc(1, sizeof(*objects));

    if (!objects)
        return pt2_err_set(err, PT2_ERR_NOMEM, "objects");
    pthread_mutex_init(&objects->mutex, NULL);
    if (strlen(state_dir) > PATH_MAX - 128)
        return pt2_err_set(err, PT2_ERR_IO, "state directory: path too long");
    snprintf(objects->dir, sizeof(objects->dir), "%s/objects", state_dir);
    snprintf(objects->temp, sizeof(objects->temp), "%s/tmp", state_dir);
    if (make_folder(objects->dir, err) < 0 || make_folder(objects->temp, err) < 0 ||
        sync_folder(state_dir, err) < 0 ||
        each_entry(objects->temp, remove_temp, NULL, err) < 0)
        return -1;
    *ret_objects = TAKE(objects);
    return 0;
}

void objects_free(struct objects *objects)
{
    if (!objects)
        return;
    pthread_mutex_destroy(&objects->mutex);
    free(objects);
}

/* ---- writing ---- */

int objects_check_room(const struct objects *objects, uint64_t bytes, struct pt2_err *err)
{
    struct statvfs fs;
    uint64_t free_bytes;

    if (statvfs(objects->temp, &fs) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", objects->temp);
    free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (free_bytes < RESERVE_BYTES || free_bytes - RESERVE_BYTES < bytes)
        return pt2_err_set(err, PT2_ERR_NO_SPACE,
                           "%llu bytes are needed, the state directory has %llu left",
                           (unsigned long long)bytes,
                           (unsigned long long)(free_bytes < RESERVE_BYTES
                                                    ? 0
                                                    : free_bytes - RESERVE_BYTES));
    return 0;
}

static int name_temp(struct objects *objects, uint64_t expected_bytes,
                     struct object_temp *temp, struct pt2_err *err)
{
    uint64_t n;

    if (objects_check_room(objects, expected_bytes, err) < 0)
        return -1;
    pthread_mutex_lock(&objects->mutex);
    n = objects->next_temp++;
    pthread_mutex_unlock(&objects->mutex);
    temp->objects = objects;
    if ((size_t)snprintf(temp->path, sizeof(temp->path), "%s/%llu.part", objects->temp,
                         (unsigned long long)n) >= sizeof(temp->path))
        return pt2_err_set(err, PT2_ERR_IO, "%s: path too long", objects->temp);
    return 0;
}

int objects_temp(struct objects *objects, uint64_t expected_bytes,
                 struct object_temp *ret_temp, struct pt2_err *err)
{
    struct object_temp temp = OBJECT_NO_TEMP;

    if (name_temp(objects, expected_bytes, &temp, err) < 0)
        return -1;
    temp.fd = open(temp.path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (temp.fd < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", temp.path);
    *ret_temp = temp;
    return 0;
}

int objects_temp_for_child(struct objects *objects, uint64_t expected_bytes,
                           struct object_temp *ret_temp, struct pt2_err *err)
{
    struct object_temp temp = OBJECT_NO_TEMP;

    if (name_temp(objects, expected_bytes, &temp, err) < 0)
        return -1;
    *ret_temp = temp;
    return 0;
}

int object_temp_open(struct object_temp *temp, uint64_t bytes, struct pt2_err *err)
{
    struct stat st;
    AUTO_FD int fd = open(temp->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    if (fd < 0 || fstat(fd, &st) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", temp->path);
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != bytes)
        return pt2_err_set(err, PT2_ERR_IO, "%s is no file of %llu bytes", temp->path,
                           (unsigned long long)bytes);
    temp->fd = TAKE_FD(fd);
    return 0;
}

static int remove_if_begins(void *ctx, const char *folder, const char *name,
                            struct pt2_err *err)
{
    return after_prefix(name, ctx) ? remove_temp(NULL, folder, name, err) : 0;
}

void object_temp_drop(struct object_temp *temp)
{
    if (temp->fd >= 0)
        close(TAKE_FD(temp->fd));
    if (temp->path[0])
        (void)!each_entry(temp->objects->temp, remove_if_begins,
                          strrchr(temp->path, '/') + 1, NULL);
    temp->path[0] = '\0';
}

int object_temp_write(struct object_temp *temp, const void *data, size_t len,
                      struct pt2_err *err)
{
    const char *p = data;
    ssize_t n;

    while (len > 0) {
        n = write(temp->fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return pt2_err_errno(err, PT2_ERR_IO, "%s", temp->path);
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

int object_temp_sync(struct object_temp *temp, struct pt2_err *err)
{
    if (fchmod(temp->fd, OBJECT_MODE) < 0 || fsync(temp->fd) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", temp->path);
    return 0;
}

/* STATE/objects/ab */
static void folder_path(const struct objects *objects, const char *sha256_hex,
                        char ret_path[PATH_MAX])
{
    snprintf(ret_path, PATH_MAX, "%.*s/%.2s", PATH_MAX - 8, objects->dir, sha256_hex);
}

void objects_path(const struct objects *objects, const char *sha256_hex,
                  char ret_path[PATH_MAX])
{
    snprintf(ret_path, PATH_MAX, "%.*s/%.2s/%.64s", PATH_MAX - 80, objects->dir,
             sha256_hex, sha256_hex);
}

int objects_keep(struct objects *objects, struct object_temp *temp,
                 const char *sha256_hex, struct pt2_err *err)
{
    char path[PATH_MAX], folder[PATH_MAX];

    ASSERT(strlen(sha256_hex) == SHA256_HEX - 1);
    folder_path(objects, sha256_hex, folder);
    objects_path(objects, sha256_hex, path);
    if (mkdir(folder, 0700) == 0) {
        if (sync_folder(objects->dir, err) < 0)
            return -1;
    } else if (errno != EEXIST) {
        return pt2_err_errno(err, PT2_ERR_IO, "%s", folder);
    }
    if (access(path, F_OK) == 0) /* same name, same content */
        return 0;
    if (rename(temp->path, path) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    temp->path[0] = '\0';
    return sync_folder(folder, err);
}

/* ---- reading ---- */

int objects_open_file(const struct objects *objects, const char *sha256_hex, int *ret_fd,
                      uint64_t *ret_bytes, struct pt2_err *err)
{
    char path[PATH_MAX];
    struct stat st;
    AUTO_FD int fd = -1;

    objects_path(objects, sha256_hex, path);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT)
        return pt2_err_set(err, PT2_ERR_NOT_FOUND, "object %s is not there", sha256_hex);
    if (fd < 0 || fstat(fd, &st) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    *ret_bytes = (uint64_t)st.st_size;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int objects_remove(struct objects *objects, const char *sha256_hex, struct pt2_err *err)
{
    char path[PATH_MAX];

    objects_path(objects, sha256_hex, path);
    if (unlink(path) < 0 && errno != ENOENT)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    return 0;
}

/* ---- sweeping ---- */

struct sweep {
    struct objects *objects;
    int (*keep)(void *ctx, const char *sha256_hex, bool *ret_keep, struct pt2_err *err);
    void *ctx;
};

/* Files that bear no digest are not ours: they stay. */
static int sweep_file(void *ctx, const char *folder, const char *name,
                      struct pt2_err *err)
{
    struct sweep *sweep = ctx;
    uint8_t digest[SHA256_BYTES];
    bool keep = true;

    if (!sha256_from_hex(name, digest))
        return 0;
    if (sweep->keep(sweep->ctx, name, &keep, err) < 0)
        return -1;
    return keep ? 0 : objects_remove(sweep->objects, name, err);
}

static int sweep_folder(void *ctx, const char *folder, const char *name,
                        struct pt2_err *err)
{
    char path[PATH_MAX + NAME_MAX + 2];

    if (strlen(name) != 2)
        return 0;
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return each_entry(path, sweep_file, ctx, err);
}

int objects_sweep(struct objects *objects,
                  int (*keep)(void *ctx, const char *sha256_hex, bool *ret_keep,
                              struct pt2_err *err),
                  void *ctx, struct pt2_err *err)
{
    struct sweep sweep = {.objects = objects, .keep = keep, .ctx = ctx};

    return each_entry(objects->dir, sweep_folder, &sweep, err);
}
