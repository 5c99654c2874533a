#include "store/unfinished.h"
#include "store/uploads_impl.h"

#include "base/clock.h"
#include "base/folder.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

/* ---- places ---- */

void uploads_folder(const struct uploads *uploads, const char *id,
                    char ret_path[PATH_MAX])
{
    char name[MODEL_ID_SIZE];

    model_id_to_file_name(id, name);
    snprintf(ret_path, PATH_MAX, "%.*s/files/%s", PATH_MAX - 600, uploads->path, name);
}

void uploads_file(const struct uploads *uploads, const char *id, const char *name,
                  const char *sha256_hex, char ret_path[PATH_MAX])
{
    size_t n;

    uploads_folder(uploads, id, ret_path);
    n = strlen(ret_path);
    snprintf(ret_path + n, PATH_MAX - n, "/%s-%s", sha256_hex, name);
}

struct pt2_checkpoint_file uploads_file_facts(const struct stat *st)
{
    return (struct pt2_checkpoint_file){
        .bytes = (uint64_t)st->st_size,
        .dev = st->st_dev,
        .inode = st->st_ino,
        .mtime_ns = st->st_mtim.tv_sec * INT64_C(1000000000) + st->st_mtim.tv_nsec,
        .ctime_ns = st->st_ctim.tv_sec * INT64_C(1000000000) + st->st_ctim.tv_nsec};
}

/* ---- opening: the holder of mutex ---- */

static int failed(const struct uploads *uploads, const char *path, struct pt2_err *err)
{
    if (errno == EACCES || errno == EROFS || errno == EPERM || errno == ENOTDIR)
        return pt2_err_errno(err, PT2_ERR_FORBIDDEN,
                             "no models are taken: the models directory '%s' can't be "
                             "written",
                             models_dir(uploads->models));
    return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
}

static int make_folder(const struct uploads *uploads, const char *path, mode_t mode,
                       struct pt2_err *err)
{
    return mkdir(path, mode) < 0 && errno != EEXIST ? failed(uploads, path, err) : 0;
}

/* Still the file that we hold, at the place where others look? */
static bool is_open(const struct uploads *uploads, const char *lock)
{
    struct stat ours, named;

    return uploads->lock_fd >= 0 && fstat(uploads->lock_fd, &ours) == 0 &&
           stat(lock, &named) == 0 && ours.st_dev == named.st_dev &&
           ours.st_ino == named.st_ino;
}

static int take_lock(struct uploads *uploads, const char *path, struct pt2_err *err)
{
    AUTO_FD int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        return failed(uploads, path, err);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK
                   ? pt2_err_set(err, PT2_ERR_FORBIDDEN,
                                 "no models are taken: another daemon takes those for the "
                                 "models directory '%s'",
                                 models_dir(uploads->models))
                   : pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    if (uploads->lock_fd >= 0)
        close(uploads->lock_fd);
    uploads->lock_fd = TAKE_FD(fd);
    return 0;
}

/* Files and what is under way; the lock is held. */
static int make_inside(struct uploads *uploads, struct pt2_err *err)
{
    char path[PATH_MAX + 16];

    snprintf(path, sizeof(path), "%s/files", uploads->path);
    if (make_folder(uploads, path, 0700, err) < 0)
        return -1;
    snprintf(path, sizeof(path), "%s/unfinished", uploads->path);
    if (make_folder(uploads, path, 0700, err) < 0 || unfinished_sync(path, err) < 0)
        return -1;
    /* Nothing is under way in there: whoever had the lock is gone. */
    snprintf(path, sizeof(path), "%s/tmp", uploads->path);
    if (folder_remove(path, err) < 0 ||
        temp_folder_init(&uploads->temp, path, "the models directory", err) < 0)
        return -1;
    return folder_sync(uploads->path, err);
}

/* A lock without its folders would be taken for all of it. */
static void let_go_of_lock(struct uploads *uploads)
{
    if (uploads->lock_fd >= 0)
        close(TAKE_FD(uploads->lock_fd));
}

static int open_locked(struct uploads *uploads, struct pt2_err *err)
{
    char path[PATH_MAX + 8];

    snprintf(path, sizeof(path), "%s/lock", uploads->path);
    if (is_open(uploads, path))
        return 0;
    if (make_folder(uploads, models_dir(uploads->models), 0755, err) < 0 ||
        make_folder(uploads, uploads->path, 0700, err) < 0 ||
        take_lock(uploads, path, err) < 0 || make_inside(uploads, err) < 0) {
        let_go_of_lock(uploads);
        return -1;
    }
    return 0;
}

int uploads_open(struct uploads *uploads, struct pt2_err *err)
{
    int r;

    pthread_mutex_lock(&uploads->mutex);
    r = open_locked(uploads, err);
    pthread_mutex_unlock(&uploads->mutex);
    return r;
}

/* ---- expiry ---- */

static int expire(void *ctx, const char *folder, const char *name, struct pt2_err *err)
{
    const struct uploads *uploads = ctx;
    char path[PATH_MAX + NAME_MAX + 2];
    struct stat st;
    int64_t age_ms;

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    if (lstat(path, &st) < 0)
        return 0;
    age_ms = clock_unix_ms() -
             (st.st_mtim.tv_sec * INT64_C(1000) + st.st_mtim.tv_nsec / 1000000);
    return age_ms > uploads->ttl_ms ? folder_remove(path, err) : 0;
}

void uploads_expire(struct uploads *uploads)
{
    char path[PATH_MAX + 8];
    struct pt2_err err = {0};

    snprintf(path, sizeof(path), "%s/files", uploads->path);
    pthread_mutex_lock(&uploads->mutex);
    if (folder_each(path, expire, uploads, &err) < 0 ||
        unfinished_expire_locked(uploads, &err) < 0)
        log_warning("uploads that have expired stay: %s", err.text);
    pthread_mutex_unlock(&uploads->mutex);
}

/* ---- life ---- */

int uploads_new(struct models *models, struct store *store,
                const struct uploads_limits *limits, struct uploads **ret_uploads,
                struct pt2_err *err)
{
    struct uploads *uploads = calloc(1, sizeof(*uploads));
    struct pt2_err why = {0};

    if (!uploads)
        return pt2_err_set(err, PT2_ERR_NOMEM, "uploads");
    *uploads = (struct uploads){.models = models,
                                .store = store,
                                .ttl_ms = limits->ttl_ms,
                                .max_unfinished_bytes = limits->max_unfinished_bytes,
                                .lock_fd = -1};
    pthread_mutex_init(&uploads->mutex, NULL);
    snprintf(uploads->path, sizeof(uploads->path), "%.*s/.uploads", PATH_MAX - 700,
             models_dir(models));
    /* Otherwise it is made for the first upload, which is told why it can't be. */
    if (access(uploads->path, F_OK) == 0) {
        if (uploads_open(uploads, &why) < 0)
            log_warning("%s", why.text);
        else
            uploads_expire(uploads);
    }
    *ret_uploads = uploads;
    return 0;
}

void uploads_stop(struct uploads *uploads)
{
    atomic_store(&uploads->is_stopping, true);
}

void uploads_free(struct uploads *uploads)
{
    if (!uploads)
        return;
    if (uploads->lock_fd >= 0)
        close(uploads->lock_fd);
    pthread_mutex_destroy(&uploads->mutex);
    free(uploads);
}

/* ---- a file ---- */

int uploads_check_names(const char *id, const char *name, struct pt2_err *err)
{
    if (model_id_check_new(id, err) < 0)
        return -1;
    if (!file_names_is_allowed(name))
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "a checkpoint holds no file '%.140s': config.json, "
                           "*.safetensors, model.safetensors.index.json, *.gguf, "
                           "tokenizer.json and the like are taken",
                           name);
    return 0;
}

int upload_begin(struct uploads *uploads, const char *owner, const char *id,
                 const char *name, uint64_t expected_bytes, struct upload *ret_upload,
                 struct pt2_err *err)
{
    if (uploads_check_names(id, name, err) < 0 || uploads_open(uploads, err) < 0 ||
        temp_folder_check_room(&uploads->temp, expected_bytes, err) < 0)
        return -1;
    *ret_upload = (struct upload){.uploads = uploads,
                                  .expected_bytes = expected_bytes,
                                  .temp = TEMP_NO_FILE};
    snprintf(ret_upload->id, sizeof(ret_upload->id), "%s", id);
    snprintf(ret_upload->name, sizeof(ret_upload->name), "%s", name);
    snprintf(ret_upload->owner, sizeof(ret_upload->owner), "%s", owner);
    sha256_start(&ret_upload->hash);
    return 0;
}

int upload_write(struct upload *upload, const void *data, size_t len, struct pt2_err *err)
{
    if (upload->temp.fd < 0 &&
        temp_file_make(&upload->uploads->temp, upload->expected_bytes, &upload->temp,
                       err) < 0)
        return -1;
    if (upload->is_resumed && unfinished_reserve(upload, upload->bytes + len, err) < 0)
        return -1;
    if (upload->offset == 0)
        sha256_add(&upload->hash, data, len);
    upload->bytes += len;
    return temp_file_write(&upload->temp, data, len, err);
}

/* The synced file gets its place among those that came.  The holder of mutex. */
static int keep_locked(struct upload *upload, const char *sha256_hex, bool *ret_is_new,
                       struct pt2_err *err)
{
    char folder[PATH_MAX], path[PATH_MAX];
    char *slash;

    uploads_folder(upload->uploads, upload->id, folder);
    uploads_file(upload->uploads, upload->id, upload->name, sha256_hex, path);
    if (mkdir(folder, 0700) < 0 && errno != EEXIST)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", folder);
    *ret_is_new = access(path, F_OK) < 0;
    /* Also where it is there: that keeps the folder from expiring. */
    if (rename(upload->temp.path, path) < 0)
        return errno == ENOENT && upload->is_resumed
                   ? pt2_err_set(err, PT2_ERR_CONFLICT, "'%s' was deleted meanwhile",
                                 upload->name)
                   : pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    if (upload->is_resumed)
        unfinished_let_go_locked(upload);
    upload->temp.path[0] = '\0';
    unfinished_replaced_locked(upload);
    if (folder_sync(folder, err) < 0)
        return -1;
    slash = strrchr(folder, '/');
    *slash = '\0';
    return folder_sync(folder, err);
}

/* What earlier requests brought is read again. */
static int digest_all(struct upload *upload, uint8_t ret_sha256[SHA256_BYTES],
                      struct pt2_err *err)
{
    if (upload->offset == 0) {
        sha256_finish(&upload->hash, ret_sha256);
        return 0;
    }
    if (lseek(upload->temp.fd, 0, SEEK_SET) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", upload->temp.path);
    return sha256_of_file(upload->temp.fd, upload->temp.path,
                          &upload->uploads->is_stopping, ret_sha256, err);
}

int upload_finish(struct upload *upload, const uint8_t *expected,
                  uint8_t ret_sha256[SHA256_BYTES], bool *ret_is_new, struct pt2_err *err)
{
    struct uploads *uploads = upload->uploads;
    char hex[SHA256_HEX], expected_hex[SHA256_HEX];
    int r;

    if (upload->temp.fd < 0 && upload_write(upload, "", 0, err) < 0)
        return -1;
    if (digest_all(upload, ret_sha256, err) < 0)
        return -1;
    sha256_to_hex(ret_sha256, hex);
    if (expected && memcmp(expected, ret_sha256, SHA256_BYTES) != 0) {
        if (upload->is_resumed)
            unfinished_give_up(upload);
        sha256_to_hex(expected, expected_hex);
        return pt2_err_set(err, PT2_ERR_DIGEST_MISMATCH,
                           "the body's SHA-256 is %s, Repr-Digest says %s", hex,
                           expected_hex);
    }
    if (temp_file_sync(&upload->temp, UPLOADS_FILE_MODE, err) < 0)
        return -1;
    uploads_expire(uploads);
    pthread_mutex_lock(&uploads->mutex);
    r = keep_locked(upload, hex, ret_is_new, err);
    pthread_mutex_unlock(&uploads->mutex);
    return r;
}

void upload_drop(struct upload *upload)
{
    uint64_t offset;

    if (upload->is_resumed)
        (void)!upload_pause(upload, &offset, NULL);
    temp_file_drop(&upload->temp);
}
