/* fsck_uploads.c - files that came for models and were not published yet (uploads.h), and, under
 * the same lock, the models that were. */
#include "store/fsck_impl.h"

#include "base/folder.h"
#include "store/model_id.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

struct place {
    struct fsck *f;
    char models[PATH_MAX];
    char dir[PATH_MAX]; /* MODELS/.uploads */
};

static int temp_entry(void *ctx, const char *folder, const char *name, struct pt2_err *err)
{
    const struct place *place = ctx;

    (void)err;
    fsck_leftover(place->f, folder, name, "was under way");
    return 0;
}

/* 1: whole, 0: not, -1: err.  SHA256-NAME. */
static int is_whole(const char *path, const char *name, uint64_t *ret_bytes,
                    struct pt2_err *err)
{
    uint8_t due[SHA256_BYTES], digest[SHA256_BYTES];
    char hex[SHA256_HEX];
    struct stat st;
    AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    snprintf(hex, sizeof(hex), "%.64s", name);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || !sha256_from_hex(hex, due) ||
        name[strlen(hex)] != '-')
        return 0;
    if (sha256_of_file(fd, path, NULL, digest, err) < 0)
        return -1;
    *ret_bytes = (uint64_t)st.st_size;
    return memcmp(due, digest, sizeof(due)) == 0;
}

static int put_aside(const struct place *place, const char *path, const char *name,
                     struct pt2_err *err)
{
    char to[PATH_MAX + NAME_MAX + 16];

    snprintf(to, sizeof(to), "%s/" OBJECTS_LOST, place->dir);
    if (mkdir(to, 0700) < 0 && errno != EEXIST)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", to);
    snprintf(to, sizeof(to), "%s/" OBJECTS_LOST "/%s", place->dir, name);
    return rename(path, to) < 0 ? pt2_err_errno(err, PT2_ERR_IO, "%s", path) : 0;
}

/* A daemon that was killed when it had published it: the model has it, by the same inode. */
static bool is_in_model(const struct place *place, const char *folder, const char *name)
{
    char path[PATH_MAX + 2 * NAME_MAX + 4], id[NAME_MAX + 1], *slash;
    struct stat came, published;

    snprintf(id, sizeof(id), "%s", strrchr(folder, '/') + 1);
    slash = strstr(id, "%2F"); /* model_id_to_file_name */
    if (slash) {
        *slash = '/';
        memmove(slash + 1, slash + 3, strlen(slash + 3) + 1);
    }
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    if (!model_id_is_valid(id) || lstat(path, &came) < 0)
        return false;
    snprintf(path, sizeof(path), "%s/%s/%s", place->models, id, name + SHA256_HEX);
    return lstat(path, &published) == 0 && came.st_dev == published.st_dev &&
           came.st_ino == published.st_ino;
}

static int file_entry(void *ctx, const char *folder, const char *name, struct pt2_err *err)
{
    const struct place *place = ctx;
    char path[PATH_MAX + NAME_MAX + 2];
    uint64_t bytes = 0;
    int whole;

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    whole = is_whole(path, name, &bytes, err);
    if (whole < 0)
        return -1;
    fsck_count_file(place->f, bytes);
    if (whole && is_in_model(place, folder, name))
        fsck_leftover(place->f, folder, name, "was published");
    if (whole)
        return 0;
    if (place->f->options->repair && put_aside(place, path, name, err) < 0)
        return -1;
    fsck_found(place->f, FSCK_PROBLEM,
               place->f->options->repair ? "moved to .uploads/" OBJECTS_LOST : NULL,
               "%s: has another digest than its name says", path);
    return 0;
}

static int model_entry(void *ctx, const char *folder, const char *name, struct pt2_err *err)
{
    const struct place *place = ctx;
    char path[PATH_MAX + NAME_MAX + 2];
    struct stat st;

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return folder_each(path, file_entry, ctx, err);
    fsck_found(place->f, FSCK_PROBLEM, NULL, "%s: is none of pt2d's folders", path);
    return 0;
}

/* OWNER-NAME: the digest is the owner's, there is none of the content to compare. */
static int unfinished_entry(void *ctx, const char *folder, const char *name,
                            struct pt2_err *err)
{
    const struct place *place = ctx;
    uint8_t owner[SHA256_BYTES];
    char path[PATH_MAX + NAME_MAX + 2], hex[SHA256_HEX];
    struct stat st;

    (void)err;
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    snprintf(hex, sizeof(hex), "%.64s", name);
    if (lstat(path, &st) == 0 && S_ISREG(st.st_mode) && sha256_from_hex(hex, owner) &&
        name[strlen(hex)] == '-')
        fsck_count_file(place->f, (uint64_t)st.st_size);
    else
        fsck_leftover(place->f, folder, name, "is no part of an upload");
    return 0;
}

static int unfinished_model(void *ctx, const char *folder, const char *name,
                            struct pt2_err *err)
{
    const struct place *place = ctx;
    char path[PATH_MAX + NAME_MAX + 2];
    struct stat st;

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return folder_each(path, unfinished_entry, ctx, err);
    fsck_leftover(place->f, folder, name, "is no part of an upload");
    return 0;
}

static int look_into(struct place *place, const char *name, folder_fn *each,
                     struct pt2_err *err)
{
    char path[PATH_MAX + 16];

    snprintf(path, sizeof(path), "%s/%s", place->dir, name);
    return access(path, F_OK) < 0 ? 0 : folder_each(path, each, place, err);
}

int fsck_uploads(struct fsck *f, struct pt2_err *err)
{
    const char *models = f->options->models_dir;
    struct place place = {.f = f};
    char lock[PATH_MAX + 8];
    AUTO_FD int fd = -1;

    if (*models)
        snprintf(place.models, sizeof(place.models), "%.*s", PATH_MAX - 700, models);
    else
        snprintf(place.models, sizeof(place.models), "%.*s/models", PATH_MAX - 700,
                 store_dir(f->store));
    snprintf(place.dir, sizeof(place.dir), "%.*s/.uploads", PATH_MAX - 16, place.models);
    snprintf(lock, sizeof(lock), "%s/lock", place.dir);
    fd = open(lock, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return 0; /* nothing was ever uploaded */
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        snprintf(lock, sizeof(lock), "%.*s: not looked at, another daemon takes its uploads",
                 PATH_MAX - 100, place.dir);
        f->options->say(f->options->ctx, lock);
        return 0;
    }
    /* Models first: a link that goes changes what is known of the others' file. */
    return fsck_models(f, place.models, err) < 0 ||
                   look_into(&place, "tmp", temp_entry, err) < 0 ||
                   look_into(&place, "files", model_entry, err) < 0 ||
                   look_into(&place, "unfinished", unfinished_model, err) < 0
               ? -1
               : 0;
}
