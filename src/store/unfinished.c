#include "store/unfinished.h"

#include "base/clock.h"
#include "base/folder.h"
#include "base/metrics.h"
#include "store/uploads_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define STEP (UINT64_C(16) << 20) /* what a body of unknown length reserves at once */

/* ---- places ---- */

static void folder_of(const struct uploads *uploads, const char *id,
                      char ret_path[PATH_MAX])
{
    char name[MODEL_ID_SIZE];

    model_id_to_file_name(id, name);
    snprintf(ret_path, PATH_MAX, "%.*s/unfinished/%s", PATH_MAX - 600, uploads->path,
             name);
}

static void hash_owner(const char *owner, char ret_hex[SHA256_HEX])
{
    uint8_t digest[SHA256_BYTES];

    sha256_of(owner, strlen(owner), digest);
    sha256_to_hex(digest, ret_hex);
}

static void path_of(const struct uploads *uploads, const char *owner, const char *id,
                    const char *name, char ret_path[PATH_MAX])
{
    char hex[SHA256_HEX];
    size_t n;

    hash_owner(owner, hex);
    folder_of(uploads, id, ret_path);
    n = strlen(ret_path);
    snprintf(ret_path + n, PATH_MAX - n, "/%s-%s", hex, name);
}

/* What else lies there is fsck's. */
static bool is_folder(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* The last file of a model takes its folder along. */
static void remove_folder_if_empty(const char *path)
{
    char folder[PATH_MAX];

    snprintf(folder, sizeof(folder), "%s", path);
    *strrchr(folder, '/') = '\0';
    (void)!rmdir(folder);
}

/* ---- writers: the holder of mutex ---- */

static struct upload *find_writer(const struct uploads *uploads, const char *path)
{
    for (struct upload *u = uploads->writers; u; u = u->next_writer)
        if (streq(u->temp.path, path))
            return u;
    return NULL;
}

void unfinished_let_go_locked(struct upload *upload)
{
    struct upload **at = &upload->uploads->writers;

    while (*at != upload)
        at = &(*at)->next_writer;
    *at = upload->next_writer;
    upload->is_resumed = false;
    close(TAKE_FD(upload->temp.fd));
    upload->temp.path[0] = '\0';
}

static void let_go(struct upload *upload)
{
    pthread_mutex_lock(&upload->uploads->mutex);
    unfinished_let_go_locked(upload);
    pthread_mutex_unlock(&upload->uploads->mutex);
}

/* ---- what is there: the holder of mutex ---- */

static bool has_expired(const struct uploads *uploads, const struct stat *st)
{
    int64_t written_ms =
        st->st_mtim.tv_sec * INT64_C(1000) + st->st_mtim.tv_nsec / 1000000;

    return clock_unix_ms() - written_ms > uploads->ttl_ms;
}

static bool find_file(const struct uploads *uploads, const char *path,
                      uint64_t *ret_bytes)
{
    struct stat st;

    if (lstat(path, &st) < 0 || !S_ISREG(st.st_mode) || has_expired(uploads, &st))
        return false;
    *ret_bytes = (uint64_t)st.st_size;
    return true;
}

/* Files that nobody writes; expired ones go. */
struct census {
    struct uploads *uploads;
    char owner[SHA256_HEX]; /* of whom n_own are; "": of nobody */
    uint64_t bytes;
    size_t n, n_own;
};

static int count_file(void *ctx, const char *folder, const char *name,
                      struct pt2_err *err)
{
    struct census *census = ctx;
    char path[PATH_MAX + NAME_MAX + 2];
    uint64_t bytes;

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    if (find_writer(census->uploads, path))
        return 0;
    if (!find_file(census->uploads, path, &bytes))
        return folder_remove(path, err);
    census->bytes += bytes;
    census->n++;
    census->n_own += *census->owner && after_prefix(name, census->owner);
    return 0;
}

static int count_folder(void *ctx, const char *folder, const char *name,
                        struct pt2_err *err)
{
    char path[PATH_MAX + NAME_MAX + 2];

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    if (!is_folder(path))
        return 0;
    if (folder_each(path, count_file, ctx, err) < 0)
        return -1;
    (void)!rmdir(path); /* where it is empty */
    return 0;
}

static int take_census(struct uploads *uploads, struct census *ret, struct pt2_err *err)
{
    char path[PATH_MAX + 16];

    snprintf(path, sizeof(path), "%s/unfinished", uploads->path);
    return folder_each(path, count_folder, ret, err);
}

int unfinished_expire_locked(struct uploads *uploads, struct pt2_err *err)
{
    struct census census = {.uploads = uploads};

    return take_census(uploads, &census, err);
}

/* What others than upload (NULL: all) have, and may grow to. */
static int take_census_of_others(struct uploads *uploads, const struct upload *upload,
                                 struct census *ret, struct pt2_err *err)
{
    *ret = (struct census){.uploads = uploads};
    if (upload)
        hash_owner(upload->owner, ret->owner);
    if (take_census(uploads, ret, err) < 0)
        return -1;
    for (const struct upload *u = uploads->writers; u; u = u->next_writer) {
        if (u == upload)
            continue;
        ret->bytes += u->reserved_bytes;
        ret->n++;
        ret->n_own += upload && streq(u->owner, upload->owner);
    }
    return 0;
}

int unfinished_measure(struct uploads *uploads, struct unfinished_figures *ret_figures,
                       struct pt2_err *err)
{
    struct census census;
    int r;

    pthread_mutex_lock(&uploads->mutex);
    r = take_census_of_others(uploads, NULL, &census, err);
    pthread_mutex_unlock(&uploads->mutex);
    if (r == 0)
        *ret_figures = (struct unfinished_figures){.n = census.n, .bytes = census.bytes};
    return r;
}

/* The file may grow to that size.  What others may grow to counts as if it were there. */
static int reserve_locked(struct upload *upload, uint64_t bytes, bool is_new,
                          struct pt2_err *err)
{
    struct uploads *uploads = upload->uploads;
    uint64_t max = uploads->max_unfinished_bytes, others;
    struct census census;

    if (take_census_of_others(uploads, upload, &census, err) < 0)
        return -1;
    if (is_new && census.n >= UNFINISHED_MAX)
        return pt2_err_set(err, PT2_ERR_QUEUE_FULL,
                           "%zu of %d unfinished uploads are there already", census.n,
                           UNFINISHED_MAX);
    if (is_new && *upload->owner && census.n_own >= UNFINISHED_MAX / 2) {
        metrics_add(METRIC_HTTP_REFUSED, 1, METRICS_LABELS("unfinished-uploads"));
        return pt2_err_set(err, PT2_ERR_TOKEN_LIMIT,
                           "'%s' has %zu unfinished uploads, and may have %d",
                           upload->owner, census.n_own, UNFINISHED_MAX / 2);
    }
    /* Its own file is in the census until it is among the writers. */
    others = census.bytes - (upload->is_resumed ? 0 : upload->bytes);
    if (bytes > max || others > max - bytes)
        return pt2_err_set(err, PT2_ERR_NO_SPACE,
                           "%llu bytes are needed, unfinished uploads may have %llu "
                           "together, and others have %llu",
                           (unsigned long long)bytes, (unsigned long long)max,
                           (unsigned long long)others);
    upload->reserved_bytes = bytes;
    return 0;
}

int unfinished_reserve(struct upload *upload, uint64_t bytes, struct pt2_err *err)
{
    int r;

    if (bytes <= upload->reserved_bytes)
        return 0;
    pthread_mutex_lock(&upload->uploads->mutex);
    r = reserve_locked(upload, bytes + STEP, false, NULL);
    if (r < 0)
        r = reserve_locked(upload, bytes, false, err);
    pthread_mutex_unlock(&upload->uploads->mutex);
    return r;
}

/* ---- to go on ---- */

static int open_file(struct upload *upload, const char *path, bool is_new,
                     struct pt2_err *err)
{
    char folder[PATH_MAX];
    AUTO_FD int fd = -1;

    folder_of(upload->uploads, upload->id, folder);
    if (mkdir(folder, 0700) < 0 && errno != EEXIST)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", folder);
    if (!is_new && chmod(path, 0600) < 0) /* upload_finish was interrupted */
        return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | (is_new ? O_CREAT | O_EXCL : 0),
              0600);
    if (fd < 0 || lseek(fd, (off_t)upload->offset, SEEK_SET) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    upload->temp.fd = TAKE_FD(fd);
    snprintf(upload->temp.path, sizeof(upload->temp.path), "%s", path);
    return 0;
}

static int resume_locked(struct upload *upload, int64_t *ret_offset, struct pt2_err *err)
{
    struct uploads *uploads = upload->uploads;
    char path[PATH_MAX];
    uint64_t there = 0;
    bool is_new;

    path_of(uploads, upload->owner, upload->id, upload->name, path);
    if (find_writer(uploads, path))
        return pt2_err_set(err, PT2_ERR_CONFLICT, "another request writes '%s' now",
                           upload->name);
    is_new = !find_file(uploads, path, &there);
    if (there != upload->offset) {
        *ret_offset = (int64_t)there;
        return pt2_err_set(err, PT2_ERR_CONFLICT,
                           "%llu bytes of '%s' are there, Upload-Offset says %llu",
                           (unsigned long long)there, upload->name,
                           (unsigned long long)upload->offset);
    }
    /* The census removes an expired one, in whose place the new one comes. */
    there += upload->expected_bytes;
    if (reserve_locked(upload, there, is_new, err) < 0 ||
        open_file(upload, path, is_new, err) < 0)
        return -1;
    upload->is_resumed = true;
    upload->next_writer = uploads->writers;
    uploads->writers = upload;
    return 0;
}

int upload_resume(struct uploads *uploads, const char *owner, const char *id,
                  const char *name, uint64_t offset, uint64_t expected_bytes,
                  struct upload *ret_upload, int64_t *ret_offset, struct pt2_err *err)
{
    int r;

    *ret_offset = -1;
    if (upload_begin(uploads, owner, id, name, expected_bytes, ret_upload, err) < 0)
        return -1;
    ret_upload->offset = ret_upload->bytes = offset;
    pthread_mutex_lock(&uploads->mutex);
    r = resume_locked(ret_upload, ret_offset, err);
    pthread_mutex_unlock(&uploads->mutex);
    return r;
}

/* ---- to stop for now ---- */

static int sync_folders(const struct upload *upload, struct pt2_err *err)
{
    char folder[PATH_MAX];

    folder_of(upload->uploads, upload->id, folder);
    if (folder_sync(folder, err) < 0)
        return -1;
    *strrchr(folder, '/') = '\0';
    return folder_sync(folder, err);
}

/* Written bytes count, also those of a write that failed further on. */
static int settle(const struct upload *upload, uint64_t *ret_offset, struct pt2_err *err)
{
    struct stat st;

    if (futimens(upload->temp.fd, NULL) < 0 || fsync(upload->temp.fd) < 0 ||
        fstat(upload->temp.fd, &st) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", upload->temp.path);
    if (st.st_nlink == 0)
        return pt2_err_set(err, PT2_ERR_CONFLICT, "'%s' was deleted meanwhile",
                           upload->name);
    *ret_offset = (uint64_t)st.st_size;
    return sync_folders(upload, err);
}

int upload_pause(struct upload *upload, uint64_t *ret_offset, struct pt2_err *err)
{
    if (!upload->is_resumed)
        return 0;
    if (settle(upload, ret_offset, err) < 0) {
        unfinished_give_up(upload); /* nobody knows what of it the disk has */
        return -1;
    }
    let_go(upload);
    return 0;
}

void unfinished_give_up(struct upload *upload)
{
    (void)!unlink(upload->temp.path);
    remove_folder_if_empty(upload->temp.path);
    let_go(upload);
}

/* ---- what has come ---- */

/* *ret_path is its file.  The holder of mutex. */
static int find_locked(struct uploads *uploads, const char *owner, const char *id,
                       const char *name, char ret_path[PATH_MAX], uint64_t *ret_bytes,
                       struct pt2_err *err)
{
    path_of(uploads, owner, id, name, ret_path);
    if (find_writer(uploads, ret_path))
        return pt2_err_set(err, PT2_ERR_CONFLICT, "a request writes '%s' now", name);
    if (uploads->lock_fd < 0 || !find_file(uploads, ret_path, ret_bytes))
        return pt2_err_set(err, PT2_ERR_NOT_FOUND,
                           "there is no unfinished upload of '%s'", name);
    return 0;
}

int unfinished_find(struct uploads *uploads, const char *owner, const char *id,
                    const char *name, uint64_t *ret_offset, struct pt2_err *err)
{
    char path[PATH_MAX];
    int r;

    if (uploads_check_names(id, name, err) < 0)
        return -1;
    pthread_mutex_lock(&uploads->mutex);
    r = find_locked(uploads, owner, id, name, path, ret_offset, err);
    pthread_mutex_unlock(&uploads->mutex);
    return r;
}

int unfinished_remove(struct uploads *uploads, const char *owner, const char *id,
                      const char *name, struct pt2_err *err)
{
    char path[PATH_MAX];
    uint64_t bytes;
    int r;

    if (uploads_check_names(id, name, err) < 0)
        return -1;
    pthread_mutex_lock(&uploads->mutex);
    r = find_locked(uploads, owner, id, name, path, &bytes, err);
    if (r == 0 && unlink(path) < 0)
        r = pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    if (r == 0)
        remove_folder_if_empty(path);
    pthread_mutex_unlock(&uploads->mutex);
    return r;
}

void unfinished_replaced_locked(const struct upload *upload)
{
    char path[PATH_MAX];

    path_of(upload->uploads, upload->owner, upload->id, upload->name, path);
    if (find_writer(upload->uploads, path))
        return;
    if (unlink(path) == 0 || errno == ENOENT)
        remove_folder_if_empty(path);
}

/* ---- of a model, and all ---- */

bool unfinished_is_any(const struct uploads *uploads, const char *id)
{
    char path[PATH_MAX];

    folder_of(uploads, id, path);
    return access(path, F_OK) == 0;
}

void unfinished_remove_all(struct uploads *uploads, const char *id)
{
    char path[PATH_MAX];

    folder_of(uploads, id, path);
    pthread_mutex_lock(&uploads->mutex);
    (void)!folder_remove(path, NULL); /* else it expires */
    pthread_mutex_unlock(&uploads->mutex);
}

static int sync_file(void *ctx, const char *folder, const char *name, struct pt2_err *err)
{
    char path[PATH_MAX + NAME_MAX + 2];
    struct stat st;
    AUTO_FD int fd = -1;

    (void)ctx;
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    if (lstat(path, &st) < 0 || !S_ISREG(st.st_mode))
        return 0;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    return fd < 0 || fsync(fd) < 0 ? pt2_err_errno(err, PT2_ERR_IO, "%s", path) : 0;
}

static int sync_folder(void *ctx, const char *folder, const char *name,
                       struct pt2_err *err)
{
    char path[PATH_MAX + NAME_MAX + 2];

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    if (!is_folder(path))
        return 0;
    if (folder_each(path, sync_file, ctx, err) < 0)
        return -1;
    return folder_sync(path, err);
}

int unfinished_sync(const char *folder, struct pt2_err *err)
{
    return folder_each(folder, sync_folder, NULL, err) < 0 ? -1
                                                           : folder_sync(folder, err);
}
