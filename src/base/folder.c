#include "base/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#define MAX_DEPTH 32

int folder_make(const char *path, mode_t mode, struct pt2_err *err)
{
    char part[PATH_MAX];
    size_t n = 0;

    while (path[n]) {
        n += 1 + strcspn(path + n + 1, "/");
        if ((size_t)snprintf(part, sizeof(part), "%.*s", (int)n, path) >= sizeof(part))
            return pt2_err_set(err, PT2_ERR_IO, "%.100s…: the path is too long", path);
        if (mkdir(part, mode) < 0 && errno != EEXIST)
            return pt2_err_errno(err, PT2_ERR_IO, "%s", part);
    }
    return 0;
}

int folder_each(const char *folder, folder_fn *each, void *ctx, struct pt2_err *err)
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

int folder_sync(const char *folder, struct pt2_err *err)
{
    AUTO_FD int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 || fsync(fd) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", folder);
    return 0;
}

static int remove_at(const char *path, unsigned depth, struct pt2_err *err);

static int remove_entry(void *ctx, const char *folder, const char *name,
                        struct pt2_err *err)
{
    const unsigned *depth = ctx;
    char path[PATH_MAX];

    if ((size_t)snprintf(path, sizeof(path), "%s/%s", folder, name) >= sizeof(path))
        return pt2_err_set(err, PT2_ERR_IO, "%s: path too long", folder);
    return remove_at(path, *depth + 1, err);
}

static int remove_at(const char *path, unsigned depth, struct pt2_err *err)
{
    if (unlink(path) == 0 || errno == ENOENT)
        return 0;
    /* EISDIR from Linux, EPERM from POSIX */
    if (errno != EISDIR && errno != EPERM)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    if (depth >= MAX_DEPTH)
        return pt2_err_set(err, PT2_ERR_IO, "%s: too deep", path);
    if (rmdir(path) == 0)
        return 0;
    if (errno != ENOTEMPTY && errno != EEXIST)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    if (folder_each(path, remove_entry, &depth, err) < 0)
        return -1;
    return rmdir(path) < 0 && errno != ENOENT
               ? pt2_err_errno(err, PT2_ERR_IO, "%s", path)
               : 0;
}

int folder_remove(const char *path, struct pt2_err *err)
{
    return remove_at(path, 0, err);
}
