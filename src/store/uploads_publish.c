/* uploads_publish.c - a model from files that came, and its end. */
#include "store/uploads_impl.h"

#include "base/clock.h"
#include "base/folder.h"
#include "base/json.h"
#include "base/log.h"
#include "store/files_db.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

enum source {
    SOURCE_NONE,
    SOURCE_MODEL, /* the published model has it */
    SOURCE_UPLOAD,
};

struct publication {
    struct uploads *uploads;
    const char *id;
    const struct upload_file *files;
    size_t n;
    enum source sources[UPLOADS_MAX_FILES];
    struct pt2_checkpoint_file seen[UPLOADS_MAX_FILES]; /* of SOURCE_MODEL */
    char model[PATH_MAX]; /* where the published model lies or will lie */
};

/* ---- where each file is ---- */

static bool is_same(const struct pt2_checkpoint_file *a,
                    const struct pt2_checkpoint_file *b)
{
    return a->bytes == b->bytes && a->dev == b->dev && a->inode == b->inode &&
           a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns;
}

/* *ret_is_it: the published model's file has the digest, which is remembered or read. */
static int look_at_published(struct publication *p, size_t i, bool *ret_is_it,
                             struct pt2_err *err)
{
    const struct upload_file *file = &p->files[i];
    char path[PATH_MAX + FILE_NAME_MAX_LEN + 2], hex[SHA256_HEX];
    struct store *store = p->uploads->store;
    int64_t read_ms = clock_unix_ms();
    uint8_t sha256[SHA256_BYTES];
    struct stat st;
    bool found;
    AUTO_FD int fd = -1;

    *ret_is_it = false;
    snprintf(path, sizeof(path), "%s/%s", p->model, file->name);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
        (uint64_t)st.st_size != file->bytes)
        return 0;
    p->seen[i] = uploads_file_facts(&st);
    if (files_db_find(store, &p->seen[i], sha256, &found, err) < 0)
        return -1;
    if (!found &&
        (sha256_of_file(fd, path, &p->uploads->is_stopping, sha256, err) < 0 ||
         files_db_remember(store, &p->seen[i], sha256, read_ms, err) < 0))
        return -1;
    sha256_to_hex(sha256, hex);
    *ret_is_it = streq(hex, file->sha256);
    return 0;
}

static bool has_come(const struct publication *p, const struct upload_file *file)
{
    char path[PATH_MAX];
    struct stat st;

    uploads_file(p->uploads, p->id, file->name, file->sha256, path);
    return lstat(path, &st) == 0 && S_ISREG(st.st_mode) &&
           (uint64_t)st.st_size == file->bytes;
}

static int find_sources(struct publication *p, struct pt2_err *err)
{
    bool is_it = false;

    for (size_t i = 0; i < p->n; i++) {
        if (look_at_published(p, i, &is_it, err) < 0)
            return -1;
        p->sources[i] = is_it                         ? SOURCE_MODEL
                        : has_come(p, &p->files[i]) ? SOURCE_UPLOAD
                                                    : SOURCE_NONE;
    }
    return 0;
}

static int check_complete(const struct publication *p, json_t **ret_missing,
                          struct pt2_err *err)
{
    const size_t shortages = json_shortages();
    json_auto_t *missing = json_array();
    const char *first = NULL;
    size_t n;

    for (size_t i = 0; i < p->n; i++) {
        if (p->sources[i] != SOURCE_NONE)
            continue;
        first = first ? first : p->files[i].name;
        json_array_append_new(missing, json_string(p->files[i].name));
    }
    missing = json_if_whole(missing, shortages);
    n = json_array_size(missing);
    if (!missing)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a list of files");
    if (n == 0)
        return 0;
    *ret_missing = json_incref(missing);
    return pt2_err_set(err, PT2_ERR_MISSING_FILES,
                       "%zu of %zu files have not come with that size and digest: '%s'%s; "
                       "PUT each to /v1/models/{id}/files/{name}, then publish again",
                       n, p->n, first, n > 1 ? ", …" : "");
}

static int count_entry(void *ctx, const char *folder, const char *name,
                       struct pt2_err *err)
{
    ++*(size_t *)ctx;
    return 0;
}

/* The published model is these files and nothing else. */
static bool is_published(const struct publication *p)
{
    size_t n = 0;

    for (size_t i = 0; i < p->n; i++)
        if (p->sources[i] != SOURCE_MODEL)
            return false;
    return folder_each(p->model, count_entry, &n, NULL) == 0 && n == p->n;
}

/* ---- putting it together: between models_change_begin and _end ---- */

static int add_file(const struct publication *p, size_t i, const char *folder,
                    struct pt2_err *err)
{
    const struct upload_file *file = &p->files[i];
    char from[PATH_MAX + FILE_NAME_MAX_LEN + 2], to[PATH_MAX + FILE_NAME_MAX_LEN + 2];
    struct pt2_checkpoint_file facts;
    struct stat st;

    if (p->sources[i] == SOURCE_UPLOAD) {
        uploads_file(p->uploads, p->id, file->name, file->sha256, from);
    } else {
        snprintf(from, sizeof(from), "%s/%s", p->model, file->name);
        if (lstat(from, &st) == 0)
            facts = uploads_file_facts(&st);
        else
            facts = (struct pt2_checkpoint_file){0};
        if (!is_same(&facts, &p->seen[i]))
            return pt2_err_set(err, PT2_ERR_CONFLICT, "'%s' was changed meanwhile",
                               file->name);
    }
    snprintf(to, sizeof(to), "%s/%s", folder, file->name);
    if (link(from, to) == 0)
        return 0;
    if (errno == ENOENT)
        return pt2_err_set(err, PT2_ERR_CONFLICT,
                           "'%s' was published, deleted or expired meanwhile",
                           file->name);
    if (errno == EPERM)
        return pt2_err_errno(err, PT2_ERR_FORBIDDEN,
                             "'%s' of the model that is there can't be taken over",
                             file->name);
    return pt2_err_errno(err, PT2_ERR_IO, "%s", to);
}

static int check_is_checkpoint(const char *folder, struct pt2_err *err)
{
    struct pt2_checkpoint *checkpoint = NULL;
    struct pt2_err why = {0};

    if (pt2_checkpoint_open(folder, &checkpoint, &why) == 0) {
        pt2_checkpoint_free(checkpoint);
        return 0;
    }
    if (why.code == PT2_ERR_NOT_EXPORTABLE) /* GET says so of the model */
        return 0;
    if (why.code == PT2_ERR_NOT_FOUND) /* its text names our folder */
        return pt2_err_set(err, PT2_ERR_BAD_CHECKPOINT,
                           "the files hold no " CONFIG_NAME ", and no *.gguf");
    return pt2_err_set(err, why.code, "%s", why.text);
}

static int assemble(const struct publication *p, const char *folder, struct pt2_err *err)
{
    if (mkdir(folder, 0755) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", folder);
    for (size_t i = 0; i < p->n; i++)
        if (add_file(p, i, folder, err) < 0)
            return -1;
    if (check_is_checkpoint(folder, err) < 0)
        return -1;
    return folder_sync(folder, err);
}

/* Nobody writes these files, so they are at rest as soon as they have their names. */
static void remember_digests(const struct publication *p)
{
    char path[PATH_MAX + FILE_NAME_MAX_LEN + 2];
    struct pt2_checkpoint_file facts;
    uint8_t sha256[SHA256_BYTES];
    struct stat st;

    for (size_t i = 0; i < p->n; i++) {
        snprintf(path, sizeof(path), "%s/%s", p->model, p->files[i].name);
        if (lstat(path, &st) < 0 || !sha256_from_hex(p->files[i].sha256, sha256))
            continue;
        facts = uploads_file_facts(&st);
        (void)!files_db_remember(p->uploads->store, &facts, sha256, FILES_DB_AT_REST,
                                 NULL);
    }
}

static void remove_uploads(struct uploads *uploads, const char *id)
{
    char path[PATH_MAX];

    uploads_folder(uploads, id, path);
    pthread_mutex_lock(&uploads->mutex);
    (void)!folder_remove(path, NULL); /* else it expires */
    pthread_mutex_unlock(&uploads->mutex);
}

/* Links that go change their files' ctime: so they go before anyone opens the model. */
static int put_in_place(struct publication *p, bool is_there, struct pt2_err *err)
{
    struct temp_file temp;
    int r;

    if (temp_file_for_child(&p->uploads->temp, 0, &temp, err) < 0)
        return -1;
    r = assemble(p, temp.path, err);
    if (r == 0)
        r = models_change_place(p->uploads->models, p->id, temp.path, is_there, err);
    if (r == 0)
        remove_uploads(p->uploads, p->id);
    (void)!folder_remove(temp.path, NULL); /* what was there before; else at a start */
    if (r == 0)
        remember_digests(p);
    return r;
}

int uploads_publish(struct uploads *uploads, const char *id,
                    const struct upload_file *files, size_t n,
                    enum uploads_published *ret_published, json_t **ret_missing,
                    struct pt2_err *err)
{
    AUTO_PTR struct publication *p = calloc(1, sizeof(*p));
    char there[PATH_MAX];
    bool is_there;
    int r;

    *ret_missing = NULL;
    if (!p)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a publication");
    ASSERT(n <= UPLOADS_MAX_FILES);
    *p = (struct publication){.uploads = uploads, .id = id, .files = files, .n = n};
    snprintf(p->model, sizeof(p->model), "%.*s/%s", PATH_MAX - MODEL_ID_SIZE - 2,
             models_dir(uploads->models), id);
    if (model_id_check_new(id, err) < 0 || uploads_open(uploads, err) < 0)
        return -1;
    uploads_expire(uploads);
    if (find_sources(p, err) < 0 || check_complete(p, ret_missing, err) < 0)
        return -1;
    if (is_published(p)) {
        remove_uploads(uploads, id);
        *ret_published = UPLOADS_UNCHANGED;
        return 0;
    }
    if (models_change_begin(uploads->models, id, there, &is_there, err) < 0)
        return -1;
    r = put_in_place(p, is_there, err);
    models_change_end(uploads->models);
    if (r == 0)
        *ret_published = is_there ? UPLOADS_REPLACED : UPLOADS_MADE;
    return r;
}

/* ---- the end ---- */

static bool is_uploaded(const struct uploads *uploads, const char *id)
{
    char path[PATH_MAX];

    if (model_id_check_new(id, NULL) < 0)
        return false;
    uploads_folder(uploads, id, path);
    return access(path, F_OK) == 0 || unfinished_is_any(uploads, id);
}

int uploads_delete(struct uploads *uploads, const char *id, struct pt2_err *err)
{
    char path[PATH_MAX];
    struct pt2_err why = {0};
    struct temp_file temp;

    /* That a file leads out does not keep a model. */
    if (models_path(uploads->models, id, path, &why) < 0 &&
        why.code != PT2_ERR_NOT_EXPORTABLE && !is_uploaded(uploads, id))
        return pt2_err_set(err, why.code, "%s", why.text);
    if (uploads_open(uploads, err) < 0 ||
        temp_file_for_child(&uploads->temp, 0, &temp, err) < 0)
        return -1;
    why = (struct pt2_err){0};
    if (models_take_away(uploads->models, id, temp.path, &why) < 0 &&
        !(why.code == PT2_ERR_NOT_FOUND && is_uploaded(uploads, id)))
        return pt2_err_set(err, why.code, "%s", why.text);
    if (is_uploaded(uploads, id)) {
        remove_uploads(uploads, id);
        unfinished_remove_all(uploads, id);
    }
    return folder_remove(temp.path, err);
}
