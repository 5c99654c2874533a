#include "store/objects.h"

#include "base/folder.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define PACKED_SUFFIX ".packed"

struct objects {
    char state[PATH_MAX];    /* STATE */
    char dir[PATH_MAX];      /* STATE/objects */
    char lost[PATH_MAX];     /* STATE/lost+found */
    struct temp_folder temp; /* STATE/tmp */
};

int objects_look(const char *state_dir, struct objects **ret_objects, struct pt2_err *err)
{
    AUTO(objects) objects = calloc(1, sizeof(*objects));

    if (!objects)
        return pt2_err_set(err, PT2_ERR_NOMEM, "objects");
    if (strlen(state_dir) > PATH_MAX - 128)
        return pt2_err_set(err, PT2_ERR_IO, "state directory: path too long");
    snprintf(objects->state, sizeof(objects->state), "%s", state_dir);
    snprintf(objects->dir, sizeof(objects->dir), "%s/objects", state_dir);
    snprintf(objects->lost, sizeof(objects->lost), "%s/" OBJECTS_LOST, state_dir);
    *ret_objects = TAKE(objects);
    return 0;
}

int objects_open(const char *state_dir, struct objects **ret_objects, struct pt2_err *err)
{
    AUTO(objects) objects = NULL;
    char temp[PATH_MAX];

    if (objects_look(state_dir, &objects, err) < 0)
        return -1;
    snprintf(temp, sizeof(temp), "%s/tmp", state_dir);
    if (mkdir(objects->dir, 0700) < 0 && errno != EEXIST)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", objects->dir);
    if (temp_folder_init(&objects->temp, temp, "the state directory", err) < 0 ||
        folder_sync(state_dir, err) < 0)
        return -1;
    *ret_objects = TAKE(objects);
    return 0;
}

void objects_free(struct objects *objects)
{
    free(objects);
}

struct temp_folder *objects_temp(struct objects *objects)
{
    return &objects->temp;
}

/* ---- writing ---- */

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

void objects_packed_path(const struct objects *objects, const char *sha256_hex,
                         char ret_path[PATH_MAX])
{
    snprintf(ret_path, PATH_MAX, "%.*s/%.2s/%.64s" PACKED_SUFFIX, PATH_MAX - 88, objects->dir,
             sha256_hex, sha256_hex);
}

int objects_keep(struct objects *objects, struct temp_file *temp,
                 const char *sha256_hex, bool replace, struct pt2_err *err)
{
    char path[PATH_MAX], folder[PATH_MAX];

    ASSERT(strlen(sha256_hex) == SHA256_HEX - 1);
    folder_path(objects, sha256_hex, folder);
    objects_path(objects, sha256_hex, path);
    if (mkdir(folder, 0700) == 0) {
        if (folder_sync(objects->dir, err) < 0)
            return -1;
    } else if (errno != EEXIST) {
        return pt2_err_errno(err, PT2_ERR_IO, "%s", folder);
    }
    if (!replace && access(path, F_OK) == 0) /* same name, same content */
        return 0;
    if (rename(temp->path, path) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    temp->path[0] = '\0';
    return folder_sync(folder, err);
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

int objects_check(const struct objects *objects, const char *sha256_hex,
                  const atomic_bool *stop, bool *ret_is_whole, struct pt2_err *err)
{
    uint8_t due[SHA256_BYTES], digest[SHA256_BYTES];
    char path[PATH_MAX];
    struct pt2_err why = {0};
    AUTO_FD int fd = -1;

    ASSERT(sha256_from_hex(sha256_hex, due));
    objects_path(objects, sha256_hex, path);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && errno != ENOENT && errno != ELOOP)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    if (fd < 0) {
        *ret_is_whole = false;
        return 0;
    }
    errno = 0;
    if (sha256_of_file(fd, path, stop, digest, &why) < 0 && errno != EIO)
        return pt2_err_set(err, why.code, "%s", why.text);
    *ret_is_whole = why.code == PT2_ERR_NONE && memcmp(due, digest, sizeof(due)) == 0;
    return 0;
}

static int remove_packed(const struct objects *objects, const char *sha256_hex,
                         struct pt2_err *err)
{
    char path[PATH_MAX];

    objects_packed_path(objects, sha256_hex, path);
    if (unlink(path) < 0 && errno != ENOENT)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    return 0;
}

int objects_put_aside(struct objects *objects, const char *sha256_hex, struct pt2_err *err)
{
    char path[PATH_MAX], to[PATH_MAX + SHA256_HEX + 2];

    if (mkdir(objects->lost, 0700) == 0) {
        if (folder_sync(objects->state, err) < 0)
            return -1;
    } else if (errno != EEXIST) {
        return pt2_err_errno(err, PT2_ERR_IO, "%s", objects->lost);
    }
    snprintf(to, sizeof(to), "%s/%s", objects->lost, sha256_hex);
    objects_path(objects, sha256_hex, path);
    if (rename(path, to) < 0 && errno != ENOENT)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    return remove_packed(objects, sha256_hex, err);
}

int objects_remove(struct objects *objects, const char *sha256_hex, struct pt2_err *err)
{
    char path[PATH_MAX];

    if (remove_packed(objects, sha256_hex, err) < 0)
        return -1;
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

/* <digest>.packed, of an object that is there, stays; so does not what it was being written as
 * (<digest>.packed.<any>) when the daemon died. */
static int sweep_packed(const struct sweep *sweep, const char *folder, const char *name,
                        struct pt2_err *err)
{
    char path[PATH_MAX + NAME_MAX + 2], hex[SHA256_HEX];
    uint8_t digest[SHA256_BYTES];
    const char *suffix = strlen(name) < SHA256_HEX ? "" : name + SHA256_HEX - 1;

    snprintf(hex, sizeof(hex), "%.64s", name);
    if (strncmp(suffix, PACKED_SUFFIX, strlen(PACKED_SUFFIX)) != 0 ||
        !sha256_from_hex(hex, digest))
        return 0;
    objects_path(sweep->objects, hex, path);
    if (streq(suffix, PACKED_SUFFIX) && access(path, F_OK) == 0)
        return 0;
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    if (unlink(path) < 0 && errno != ENOENT)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    return 0;
}

/* Files that bear no digest are not ours: they stay. */
static int sweep_file(void *ctx, const char *folder, const char *name,
                      struct pt2_err *err)
{
    struct sweep *sweep = ctx;
    uint8_t digest[SHA256_BYTES];
    bool keep = true;

    if (!sha256_from_hex(name, digest))
        return sweep_packed(sweep, folder, name, err);
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
    return folder_each(path, sweep_file, ctx, err);
}

int objects_sweep(struct objects *objects,
                  int (*keep)(void *ctx, const char *sha256_hex, bool *ret_keep,
                              struct pt2_err *err),
                  void *ctx, struct pt2_err *err)
{
    struct sweep sweep = {.objects = objects, .keep = keep, .ctx = ctx};

    return folder_each(objects->dir, sweep_folder, &sweep, err);
}

/* ---- how much there is ---- */

static int add_file(void *ctx, const char *folder, const char *name, struct pt2_err *err)
{
    char path[PATH_MAX + NAME_MAX + 2];
    uint64_t *bytes = ctx;
    struct stat st;

    (void)err;
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    if (lstat(path, &st) == 0 && S_ISREG(st.st_mode))
        *bytes += (uint64_t)st.st_blocks * 512;
    return 0;
}

static int add_folder(void *ctx, const char *folder, const char *name,
                      struct pt2_err *err)
{
    char path[PATH_MAX + NAME_MAX + 2];

    if (strlen(name) != 2)
        return 0;
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return folder_each(path, add_file, ctx, err);
}

int objects_usage(const struct objects *objects, uint64_t *ret_bytes,
                  struct pt2_err *err)
{
    *ret_bytes = 0;
    return folder_each(objects->dir, add_folder, ret_bytes, err);
}
