#include "store/models_impl.h"

#include "base/json.h"
#include "checkpoint/file_names.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <pt2/checkpoint.h>
#include <sys/stat.h>

#define MAX_CACHED 4096 /* descriptions kept; then all are forgotten */
#define MAX_FILES  4096 /* looked at in one model's folder */

int models_new(const char *dir, const char *bundled, struct models **ret_models,
               struct pt2_err *err)
{
    struct models *models = calloc(1, sizeof(*models));

    if (!models)
        return pt2_err_set(err, PT2_ERR_NOMEM, "models");
    snprintf(models->dirs[0], sizeof(models->dirs[0]), "%s", dir);
    snprintf(models->dirs[1], sizeof(models->dirs[1]), "%s", bundled ? bundled : "");
    models->n_dirs = bundled ? 2 : 1;
    pthread_mutex_init(&models->change, NULL);
    pthread_mutex_init(&models->mutex, NULL);
    *ret_models = models;
    return 0;
}

void models_free(struct models *models)
{
    if (!models)
        return;
    for (size_t i = 0; i < models->n_pins; i++)
        free(models->pins[i].path);
    free(models->pins);
    pthread_mutex_destroy(&models->change);
    pthread_mutex_destroy(&models->mutex);
    free(models->cached);
    free(models);
}

/* ---- names and places ---- */

static bool lies_beneath(const char *path, const char *root)
{
    const char *rest = streq(root, "/") ? path : after_prefix(path, root);

    return rest && rest[0] == '/' && rest[1];
}

bool models_resolve(const char *root, const char *folder, const char *name,
                    char ret_path[PATH_MAX])
{
    char path[PATH_MAX + MODEL_ID_SIZE + 2];

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return realpath(path, ret_path) && lies_beneath(ret_path, root);
}

/* A model by itself: a part of one is a model in a folder with the rest alone. */
static bool is_model_file(const char *name)
{
    return ends_with(name, ".gguf") &&
           fnmatch("*-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9].gguf", name,
                   0) != 0;
}

/* ---- one folder, or one file ---- */

struct folder {
    bool is_model;           /* holds config.json or weights; or is a file of weights */
    char link[NAME_MAX + 1]; /* a file that leads out of the models directory, "" */
    struct sha256 hash;      /* of what stat says of its files, in order of names */
    uint8_t identity[SHA256_BYTES];
};

static void hash_stat(struct sha256 *h, const char *name, const struct stat *st)
{
    char line[NAME_MAX + 160];

    snprintf(line, sizeof(line), "%s/%llx/%llx/%llx/%lld.%09ld/%lld.%09ld\n", name,
             (unsigned long long)st->st_dev, (unsigned long long)st->st_ino,
             (unsigned long long)st->st_size, (long long)st->st_mtim.tv_sec,
             st->st_mtim.tv_nsec, (long long)st->st_ctim.tv_sec, st->st_ctim.tv_nsec);
    sha256_add(h, line, strlen(line));
}

/* False: it is no regular file. */
static bool add_file(const char *path, const char *name, struct folder *folder)
{
    struct stat st;

    if (stat(path, &st) < 0 || !S_ISREG(st.st_mode))
        return false;
    hash_stat(&folder->hash, name, &st);
    return true;
}

static void look_at_file(const char *root, const char *path, const char *name,
                         struct folder *folder)
{
    char target[PATH_MAX];

    if (!models_resolve(root, path, name, target)) {
        if (errno != ENOENT)
            snprintf(folder->link, sizeof(folder->link), "%s", name);
        return;
    }
    if (add_file(target, name, folder) &&
        (streq(name, CONFIG_NAME) || file_names_is_weights(name) ||
         ends_with(name, ".safetensors.index.json")))
        folder->is_model = true;
}

/* A folder could be read at another time: nothing can be said of it. */
static bool is_shortage(int error)
{
    return error == ENOMEM || error == EMFILE || error == ENFILE;
}

/* What is at path, the place of that id: a file counts where the id is no ORG/NAME.  One that
 * can't be read is no model.  Errors: NOMEM, IO. */
static int look_into(const char *root, const char *path, const char *id,
                     struct folder *ret_folder, struct pt2_err *err)
{
    struct dirent **names = NULL;
    int n;

    *ret_folder = (struct folder){0};
    sha256_start(&ret_folder->hash);
    if (is_model_file(id) && !strchr(id, '/') && add_file(path, id, ret_folder)) {
        ret_folder->is_model = true;
        sha256_finish(&ret_folder->hash, ret_folder->identity);
        return 0;
    }
    n = scandir(path, &names, NULL, alphasort);
    if (n < 0)
        return is_shortage(errno) ? pt2_err_errno(err, PT2_ERR_IO, "%s", path) : 0;
    for (int i = 0; i < n; i++) {
        errno = 0;
        if (i < MAX_FILES && names[i]->d_name[0] != '.')
            look_at_file(root, path, names[i]->d_name, ret_folder);
        free(names[i]);
    }
    free(names);
    sha256_finish(&ret_folder->hash, ret_folder->identity);
    return 0;
}

int models_is_model(const char *root, const char *path, const char *id,
                    bool *ret_is_model, struct pt2_err *err)
{
    struct folder folder;

    if (look_into(root, path, id, &folder, err) < 0)
        return -1;
    *ret_is_model = folder.is_model;
    return 0;
}

/* ---- what one model is ---- */

static bool find_cached(struct models *models, const char *id,
                        const uint8_t identity[SHA256_BYTES],
                        struct pt2_model_info *ret_info)
{
    bool found = false;

    pthread_mutex_lock(&models->mutex);
    for (size_t i = 0; i < models->n_cached && !found; i++) {
        if (!streq(models->cached[i].id, id) ||
            memcmp(models->cached[i].identity, identity, SHA256_BYTES) != 0)
            continue;
        *ret_info = models->cached[i].info;
        found = true;
    }
    pthread_mutex_unlock(&models->mutex);
    return found;
}

/* Without memory it is not kept. */
static void keep_cached(struct models *models, const char *id,
                        const uint8_t identity[SHA256_BYTES],
                        const struct pt2_model_info *info)
{
    struct description *list, *d = NULL;

    pthread_mutex_lock(&models->mutex);
    for (size_t i = 0; i < models->n_cached && !d; i++)
        if (streq(models->cached[i].id, id))
            d = &models->cached[i];
    if (!d) {
        if (models->n_cached == MAX_CACHED)
            models->n_cached = 0;
        list = realloc(models->cached, (models->n_cached + 1) * sizeof(*list));
        if (list) {
            models->cached = list;
            d = &list[models->n_cached++];
        }
    }
    if (d) {
        snprintf(d->id, sizeof(d->id), "%s", id);
        memcpy(d->identity, identity, SHA256_BYTES);
        d->info = *info;
    }
    pthread_mutex_unlock(&models->mutex);
}

/* A checkpoint that can't be opened is one that can't be exported, for that reason. */
static int describe(const char *path, struct pt2_model_info *ret_info,
                    struct pt2_err *err)
{
    struct pt2_checkpoint *checkpoint = NULL;
    struct pt2_err why = {0};
    int r;

    if (pt2_checkpoint_open(path, &checkpoint, &why) == 0) {
        r = pt2_model_describe(checkpoint, ret_info, err);
        pt2_checkpoint_free(checkpoint);
        return r;
    }
    if (why.code == PT2_ERR_NOMEM)
        return pt2_err_set(err, why.code, "%s", why.text);
    *ret_info = (struct pt2_model_info){.max_position_embeddings = -1, .vocab_size = -1};
    snprintf(ret_info->reason, sizeof(ret_info->reason), "%s", why.text);
    return 0;
}

static json_t *text_or_null(const char *s)
{
    return s[0] ? json_string_lossy(s) : json_null();
}

static json_t *int_or_null(int64_t n)
{
    return n >= 0 ? json_integer(n) : json_null();
}

static json_t *model_json(const char *id, const struct pt2_model_info *info)
{
    const char *dtype = info->dtype ? pt2_dtype_name(info->dtype) : "";

    return json_pack("{s:o, s:o, s:o, s:o, s:I, s:I, s:o, s:o, s:b, s:o}", "id",
                     json_string_lossy(id), "model_type", text_or_null(info->model_type),
                     "architecture", text_or_null(info->architecture), "dtype",
                     text_or_null(dtype), "parameters", (json_int_t)info->parameters,
                     "bytes", (json_int_t)info->bytes, "max_position_embeddings",
                     int_or_null(info->max_position_embeddings), "vocab_size",
                     int_or_null(info->vocab_size), "exportable", (int)info->exportable,
                     "reason", text_or_null(info->exportable ? "" : info->reason));
}

static void link_reason(const char *link, char *ret_text, size_t size)
{
    snprintf(ret_text, size, "file '%s' is a link that leads out of the models directory",
             link);
}

static int describe_model(struct models *models, const char *id, const char *path,
                          const struct folder *folder, json_t **ret_json,
                          struct pt2_err *err)
{
    struct pt2_model_info info = {.max_position_embeddings = -1, .vocab_size = -1};

    if (folder->link[0]) {
        link_reason(folder->link, info.reason, sizeof(info.reason));
    } else if (!find_cached(models, id, folder->identity, &info)) {
        if (describe(path, &info, err) < 0)
            return -1;
        keep_cached(models, id, folder->identity, &info);
    }
    *ret_json = model_json(id, &info);
    return *ret_json ? 0 : pt2_err_set(err, PT2_ERR_NOMEM, "a model");
}

/* ---- finding one ---- */

int models_not_found(const char *id, struct pt2_err *err)
{
    return pt2_err_set(err, PT2_ERR_NOT_FOUND,
                       "there is no model '%.100s': a model is a folder NAME or ORG/NAME "
                       "beneath the models directory, with config.json and *.safetensors "
                       "or with a *.gguf, or a file NAME.gguf",
                       id);
}

/* What lies in a model's folder is its own: no list has it as ORG/NAME. */
static int lies_in_model(const char *root, const char *id, bool *ret_lies,
                         struct pt2_err *err)
{
    const char *slash = strchr(id, '/');
    char org[MODEL_ID_SIZE], path[PATH_MAX];

    *ret_lies = false;
    if (!slash)
        return 0;
    snprintf(org, sizeof(org), "%.*s", (int)(slash - id), id);
    if (!models_resolve(root, root, org, path))
        return 0;
    return models_is_model(root, path, "", ret_lies, err);
}

/* The models directory wins over the bundled models. */
static int find(struct models *models, const char *id, char ret_path[PATH_MAX],
                struct folder *ret_folder, struct pt2_err *err)
{
    char root[PATH_MAX];
    bool lies_in;

    for (size_t i = 0; i < models->n_dirs && model_id_is_valid(id); i++) {
        if (!realpath(models->dirs[i], root) || !models_resolve(root, root, id, ret_path))
            continue;
        if (look_into(root, ret_path, id, ret_folder, err) < 0)
            return -1;
        if (!ret_folder->is_model)
            continue;
        if (lies_in_model(root, id, &lies_in, err) < 0)
            return -1;
        if (!lies_in)
            return 0;
    }
    return models_not_found(id, err);
}

int models_get(struct models *models, const char *id, json_t **ret_json,
               struct pt2_err *err)
{
    char path[PATH_MAX];
    struct folder folder;

    if (find(models, id, path, &folder, err) < 0)
        return -1;
    return describe_model(models, id, path, &folder, ret_json, err);
}

int models_path(struct models *models, const char *id, char ret_path[PATH_MAX],
                struct pt2_err *err)
{
    char text[NAME_MAX + 80];
    struct folder folder;

    if (find(models, id, ret_path, &folder, err) < 0)
        return -1;
    if (!folder.link[0])
        return 0;
    link_reason(folder.link, text, sizeof(text));
    return pt2_err_set(err, PT2_ERR_NOT_EXPORTABLE, "model '%s': %s", id, text);
}

/* ---- all of them ---- */

struct ids {
    char **list;
    size_t n, cap;
};

static int add_id(struct ids *ids, const char *id, struct pt2_err *err)
{
    char **list;
    size_t cap = ids->cap ? 2 * ids->cap : 64;

    if (ids->n == ids->cap) {
        list = reallocarray(ids->list, cap, sizeof(*list));
        if (!list)
            return pt2_err_set(err, PT2_ERR_NOMEM, "a list of models");
        ids->list = list;
        ids->cap = cap;
    }
    ids->list[ids->n] = strdup(id);
    if (!ids->list[ids->n])
        return pt2_err_set(err, PT2_ERR_NOMEM, "a list of models");
    ids->n++;
    return 0;
}

static void ids_done(struct ids *ids)
{
    for (size_t i = 0; i < ids->n; i++)
        free(ids->list[i]);
    free(ids->list);
}

/* Where models are looked for; org is NULL at the top, where folders that are no models are
 * looked into. */
struct scan {
    const char *root, *org;
    struct ids *ids;
};

static int scan(const struct scan *s, const char *folder, struct pt2_err *err);

static int scan_entry(const struct scan *s, const char *folder, const char *name,
                      struct pt2_err *err)
{
    char path[PATH_MAX], id[MODEL_ID_SIZE + NAME_MAX + 2];
    struct folder seen;

    if (!model_id_is_part(name, strlen(name)) ||
        !models_resolve(s->root, folder, name, path))
        return 0;
    snprintf(id, sizeof(id), "%s%s%s", s->org ? s->org : "", s->org ? "/" : "", name);
    if (look_into(s->root, path, id, &seen, err) < 0)
        return -1;
    if (seen.is_model)
        return strlen(id) < MODEL_ID_SIZE ? add_id(s->ids, id, err) : 0;
    if (s->org)
        return 0;
    return scan(&(struct scan){.root = s->root, .org = name, .ids = s->ids}, path, err);
}

/* A folder that can't be read has none. */
static int scan(const struct scan *s, const char *folder, struct pt2_err *err)
{
    DIR *dir = opendir(folder);
    const struct dirent *entry;
    int r = 0;

    if (!dir)
        return is_shortage(errno) ? pt2_err_errno(err, PT2_ERR_IO, "%s", folder) : 0;
    while (r == 0 && (entry = readdir(dir)))
        if (entry->d_type != DT_REG || is_model_file(entry->d_name))
            r = scan_entry(s, folder, entry->d_name, err);
    closedir(dir);
    return r;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* One that goes away meanwhile is left out. */
static int add_model(struct models *models, const char *id, json_t *list,
                     struct pt2_err *err)
{
    struct pt2_err why = {0};
    json_t *json;

    if (models_get(models, id, &json, &why) < 0)
        return why.code == PT2_ERR_NOT_FOUND ? 0
                                             : pt2_err_set(err, why.code, "%s", why.text);
    if (json_array_append_new(list, json) < 0)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a list of models");
    return 0;
}

static int list_ids(struct models *models, struct ids *ids, size_t limit,
                    const char *after, json_t *list, bool *ret_more, struct pt2_err *err)
{
    size_t i = 0;

    if (ids->n > 0)
        qsort(ids->list, ids->n, sizeof(*ids->list), by_text);
    while (after && i < ids->n && strcmp(ids->list[i], after) <= 0)
        i++;
    for (; i < ids->n && json_array_size(list) < limit; i++) {
        if (i > 0 && streq(ids->list[i], ids->list[i - 1]))
            continue; /* in both directories */
        if (add_model(models, ids->list[i], list, err) < 0)
            return -1;
    }
    *ret_more = i < ids->n;
    return 0;
}

int models_list(struct models *models, size_t limit, const char *after, json_t **ret_list,
                bool *ret_more, struct pt2_err *err)
{
    json_auto_t *list = json_array();
    struct ids ids = {0};
    char root[PATH_MAX];
    int r = 0;

    for (size_t i = 0; r == 0 && i < models->n_dirs; i++)
        if (realpath(models->dirs[i], root))
            r = scan(&(struct scan){.root = root, .ids = &ids}, root, err);
    if (r == 0)
        r = list_ids(models, &ids, limit, after, list, ret_more, err);
    ids_done(&ids);
    if (r == 0)
        *ret_list = json_incref(list);
    return r;
}
