#include <pt2/checkpoint.h>

#include "base/log.h"
#include "base/json.h"
#include "checkpoint/file_names.h"
#include "checkpoint/files.h"
#include "checkpoint/gguf_config.h"
#include "checkpoint/gguf_parts.h"
#include "checkpoint/gguf_tokenizer.h"
#include "checkpoint/gguf_weights.h"
#include "checkpoint/hf_json.h"
#include "checkpoint/index.h"
#include "checkpoint/quantized.h"
#include "checkpoint/safetensors.h"

#include <sys/stat.h>

#define MAX_CONFIG ((size_t)1 << 20) /* bytes */

struct pt2_checkpoint {
    struct files files;
    json_t *config;
    struct tensors tensors; /* sorted by name */
    bool is_gguf;
    struct gguf gguf;            /* borrows files */
    struct gguf_sources sources; /* by recipe */
    struct quantized_sources quantized; /* by recipe, where it is no GGUF */
};

DEFINE_AUTO(pt2_checkpoint)

void pt2_checkpoint_free(struct pt2_checkpoint *c)
{
    if (!c)
        return;
    gguf_sources_done(&c->sources);
    quantized_done(&c->quantized);
    gguf_done(&c->gguf);
    files_done(&c->files);
    json_decref(c->config);
    tensors_done(&c->tensors);
    free(c);
}

static int read_config(struct pt2_checkpoint *c, const char *dir, struct pt2_err *err)
{
    AUTO_PTR char *text = NULL;
    bool found;
    size_t len;

    if (files_open(&c->files, CONFIG_NAME, PT2_FILE_CONFIG, &found, err) < 0)
        return -1;
    if (!found)
        return pt2_err_set(err, PT2_ERR_NOT_FOUND,
                           "'%s' holds no config.json, and no *.gguf", dir);
    if (c->files.files[0].info.bytes > MAX_CONFIG)
        return pt2_err_set(err, PT2_ERR_BAD_CONFIG,
                           "'config.json' has %llu bytes, at most %zu are read",
                           (unsigned long long)c->files.files[0].info.bytes, MAX_CONFIG);
    if (files_read_all(&c->files, 0, MAX_CONFIG, &text, &len, err) < 0 ||
        hf_json_parse(CONFIG_NAME, text, len, &c->config, err) < 0)
        return -1;
    if (!json_is_object(c->config))
        return pt2_err_set(err, PT2_ERR_BAD_CONFIG, "'config.json' must be an object");
    return 0;
}

/* Open the shards that the index names, each once. */
static int open_shards(struct pt2_checkpoint *c, const struct shard_index *index,
                       struct pt2_err *err)
{
    for (size_t i = 0; i < index->n; i++) {
        const char *shard = index->entries[i].shard;
        bool found;

        if (i > 0 && streq(shard, index->entries[i - 1].shard))
            continue;
        if (files_open(&c->files, shard, PT2_FILE_WEIGHTS, &found, err) < 0)
            return -1;
        if (!found)
            return pt2_err_set(err, PT2_ERR_BAD_CHECKPOINT,
                               "'%s', which the index names, is missing", shard);
    }
    return 0;
}

/* There is neither a model.safetensors nor an index: the only other one will do. */
static int open_only(struct pt2_checkpoint *c, struct pt2_err *err)
{
    char **names = NULL, first[256] = "";
    bool found = false;
    size_t n = 0;

    if (files_list(&c->files, ".safetensors", &names, &n, err) < 0)
        return -1;
    if (n > 0)
        snprintf(first, sizeof(first), "%s", names[0]);
    files_free_names(names, n);
    if (n > 1)
        return pt2_err_set(err, PT2_ERR_BAD_CHECKPOINT,
                           "%zu files *.safetensors, but no " INDEX_NAME
                           " that says what is "
                           "in them",
                           n);
    if (n == 1 && files_open(&c->files, first, PT2_FILE_WEIGHTS, &found, err) < 0)
        return -1;
    if (found)
        return 0;
    return pt2_err_set(
        err, PT2_ERR_BAD_CHECKPOINT,
        "no *.safetensors beside config.json (pickled weights, *.bin and *.pt, "
        "are never read)");
}

/* Open the weights and, where they are sharded, read the index. */
static int open_weights(struct pt2_checkpoint *c, struct shard_index *index,
                        struct pt2_err *err)
{
    bool found;

    if (files_open(&c->files, SINGLE_NAME, PT2_FILE_WEIGHTS, &found, err) < 0)
        return -1;
    if (found)
        return 0;
    if (files_open(&c->files, INDEX_NAME, PT2_FILE_INDEX, &found, err) < 0)
        return -1;
    if (!found)
        return open_only(c, err);
    if (index_read(&c->files, c->files.n_files - 1, index, err) < 0)
        return -1;
    return open_shards(c, index, err);
}

static int open_extras(struct pt2_checkpoint *c, struct pt2_err *err)
{
    const char *name;
    bool found;

    for (size_t i = 0; (name = file_names_extra(i)) != NULL; i++)
        if (files_open(&c->files, name, PT2_FILE_EXTRA, &found, err) < 0)
            return -1;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    const struct pt2_checkpoint_tensor *x = a, *y = b;

    return strcmp(x->name, y->name);
}

static int sort_tensors(struct pt2_checkpoint *c, struct pt2_err *err)
{
    struct tensors *t = &c->tensors;

    if (t->n > 0)
        qsort(t->items, t->n, sizeof(*t->items), by_name);
    for (size_t i = 1; i < t->n; i++)
        if (streq(t->items[i - 1].name, t->items[i].name))
            return pt2_err_set(err, PT2_ERR_BAD_CHECKPOINT,
                               "tensor '%s' is there twice: in '%s' and in '%s'",
                               t->items[i].name,
                               c->files.files[t->items[i - 1].file].info.name,
                               c->files.files[t->items[i].file].info.name);
    return 0;
}

static int read_tensors(struct pt2_checkpoint *c, struct pt2_err *err)
{
    for (size_t i = 0; i < c->files.n_files; i++)
        if (c->files.files[i].info.kind == PT2_FILE_WEIGHTS &&
            safetensors_read(&c->files, i, &c->tensors, err) < 0)
            return -1;
    return sort_tensors(c, err);
}

static int read_all(struct pt2_checkpoint *c, struct shard_index *index,
                    struct pt2_err *err)
{
    if (open_weights(c, index, err) < 0 || open_extras(c, err) < 0 ||
        read_tensors(c, err) < 0 || index_check(index, &c->files, &c->tensors, err) < 0 ||
        quantized_map(c->config, &c->tensors, &c->quantized, err) < 0)
        return -1;
    return sort_tensors(c, err); /* some have new names */
}

/* ---- GGUF ---- */

static int read_gguf(struct pt2_checkpoint *c, struct pt2_err *err)
{
    const struct gguf_arch *arch = gguf_arch_find(c->gguf.arch);
    char names[200];

    c->is_gguf = true;
    if (!arch)
        return pt2_err_set(err, PT2_ERR_NOT_EXPORTABLE,
                           "'%s' is of architecture '%s'; read from GGUF are %s",
                           c->files.files[0].info.name, c->gguf.arch,
                           gguf_arch_names(names));
    if (gguf_config(&c->gguf, arch, &c->config, err) < 0 ||
        gguf_map_tensors(&c->gguf, arch, &c->tensors, &c->sources, err) < 0)
        return -1;
    return sort_tensors(c, err);
}

/* Safetensors come first where there are both. */
static int find_gguf(struct pt2_checkpoint *c, struct pt2_err *err)
{
    char **names = NULL;
    size_t n = 0;

    if (files_list(&c->files, ".safetensors", &names, &n, err) < 0)
        return -1;
    files_free_names(names, n);
    return n > 0 ? 0 : gguf_open_only(&c->gguf, &c->files, err);
}

/* ---- opening ---- */

static int open_dir(struct pt2_checkpoint *c, const char *dir, struct pt2_err *err)
{
    struct shard_index index = {0};
    int r;

    if (files_open_dir(&c->files, dir, err) < 0 || find_gguf(c, err) < 0)
        return -1;
    if (c->files.n_files > 0)
        return read_gguf(c, err);
    if (read_config(c, dir, err) < 0)
        return -1;
    r = read_all(c, &index, err);
    index_done(&index);
    return r;
}

static int open_file(struct pt2_checkpoint *c, const char *path, struct pt2_err *err)
{
    const char *slash = strrchr(path, '/');
    AUTO_PTR char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");

    if (!dir)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for a checkpoint");
    if (files_open_dir(&c->files, dir, err) < 0 ||
        gguf_open_file(&c->gguf, &c->files, slash ? slash + 1 : path, err) < 0)
        return -1;
    return read_gguf(c, err);
}

int pt2_checkpoint_open(const char *path, struct pt2_checkpoint **ret_checkpoint,
                        struct pt2_err *err)
{
    AUTO(pt2_checkpoint) c = calloc(1, sizeof(*c));
    struct stat st;

    if (!c)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for a checkpoint");
    c->files = (struct files)FILES_INIT;
    if (stat(path, &st) == 0 && S_ISREG(st.st_mode) ? open_file(c, path, err) < 0
                                                    : open_dir(c, path, err) < 0)
        return -1;
    *ret_checkpoint = TAKE(c);
    return 0;
}

const json_t *pt2_checkpoint_config(const struct pt2_checkpoint *c)
{
    return c->config;
}

size_t pt2_checkpoint_n_tensors(const struct pt2_checkpoint *c)
{
    return c->tensors.n;
}

const struct pt2_checkpoint_tensor *pt2_checkpoint_tensor(const struct pt2_checkpoint *c,
                                                          size_t i)
{
    return &c->tensors.items[i];
}

const struct pt2_checkpoint_tensor *
pt2_checkpoint_find_tensor(const struct pt2_checkpoint *c, const char *name)
{
    const struct pt2_checkpoint_tensor key = {.name = name};

    return c->tensors.n ? bsearch(&key, c->tensors.items, c->tensors.n,
                                  sizeof(*c->tensors.items), by_name)
                        : NULL;
}

size_t pt2_checkpoint_n_files(const struct pt2_checkpoint *c)
{
    return c->files.n_files;
}

const struct pt2_checkpoint_file *pt2_checkpoint_file(const struct pt2_checkpoint *c,
                                                      size_t i)
{
    return &c->files.files[i].info;
}

int64_t pt2_checkpoint_find_file(const struct pt2_checkpoint *c, const char *name)
{
    for (size_t i = 0; i < c->files.n_files; i++)
        if (streq(c->files.files[i].info.name, name))
            return (int64_t)i;
    return -1;
}

int pt2_checkpoint_read(const struct pt2_checkpoint *c,
                        const struct pt2_checkpoint_tensor *tensor, uint64_t offset,
                        void *buf, size_t len, struct pt2_err *err)
{
    if (offset > tensor->bytes || len > tensor->bytes - offset)
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "bytes %llu and %zu more of tensor '%s', which has %llu",
                           (unsigned long long)offset, len, tensor->name,
                           (unsigned long long)tensor->bytes);
    if (tensor->recipe > 0 && !c->is_gguf)
        return quantized_read(&c->quantized, tensor->recipe - 1, &c->files, offset, buf,
                              len, err);
    if (tensor->recipe > 0)
        return gguf_source_read(&c->sources.items[tensor->recipe - 1], &c->files, offset,
                                buf, len, err);
    return files_read(&c->files, tensor->file, tensor->offset + offset, buf, len, err);
}

int pt2_checkpoint_read_groups(const struct pt2_checkpoint *c,
                               const struct pt2_checkpoint_tensor *tensor, uint64_t first,
                               size_t n, int8_t *values, float *scales,
                               struct pt2_err *err)
{
    uint64_t n_groups = tensor->bytes / sizeof(float) / PT2_CHECKPOINT_GROUP;

    ASSERT(tensor->group_bits > 0 && c->is_gguf && tensor->recipe > 0);
    if (first > n_groups || n > n_groups - first)
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "groups %llu and %zu more of tensor '%s', which has %llu",
                           (unsigned long long)first, n, tensor->name,
                           (unsigned long long)n_groups);
    return gguf_groups_read(&c->sources.items[tensor->recipe - 1], &c->files, first, n,
                            values, scales, err);
}

int pt2_checkpoint_read_file(const struct pt2_checkpoint *c, size_t i, uint64_t offset,
                             void *buf, size_t len, struct pt2_err *err)
{
    const struct pt2_checkpoint_file *info = pt2_checkpoint_file(c, i);

    if (offset > info->bytes || len > info->bytes - offset)
        return pt2_err_set(
            err, PT2_ERR_INVALID, "bytes %llu and %zu more of '%s', which has %llu",
            (unsigned long long)offset, len, info->name, (unsigned long long)info->bytes);
    return files_read(&c->files, i, offset, buf, len, err);
}

int pt2_checkpoint_extra(const struct pt2_checkpoint *c, const char *name, size_t max,
                         char **ret_text, size_t *ret_len, struct pt2_err *err)
{
    int64_t i = pt2_checkpoint_find_file(c, name);

    if (i >= 0)
        return files_read_all(&c->files, (size_t)i, max, ret_text, ret_len, err);
    *ret_text = NULL;
    *ret_len = 0;
    return 0;
}

int pt2_checkpoint_extra_json(const struct pt2_checkpoint *c, const char *name,
                              size_t max, json_t **ret_json, struct pt2_err *err)
{
    AUTO_PTR char *text = NULL;
    size_t len;

    if (pt2_checkpoint_extra(c, name, max, &text, &len, err) < 0)
        return -1;
    if (text)
        return hf_json_parse(name, text, len, ret_json, err);
    *ret_json = NULL;
    return 0;
}

/* ---- files that a GGUF file stands for ---- */

static int make_config(const struct pt2_checkpoint *c, char **ret_text, size_t *ret_len,
                       struct pt2_err *err)
{
    *ret_text = json_to_text(c->config, JSON_INDENT(2) | JSON_SORT_KEYS);
    if (!*ret_text)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for a config.json");
    *ret_len = strlen(*ret_text);
    return 0;
}

static const struct {
    const char *name;
    int (*make)(const struct gguf *gguf, char **ret_text, size_t *ret_len,
                struct pt2_err *err); /* NULL: make_config */
} made[] = {
    {CONFIG_NAME, NULL},
    {"tokenizer.json", gguf_tokenizer_json},
    {"tokenizer_config.json", gguf_tokenizer_config},
    {"chat_template.jinja", gguf_chat_template},
};

size_t pt2_checkpoint_n_made(const struct pt2_checkpoint *c)
{
    return c->is_gguf ? ARRAY_LEN(made) : 0;
}

const char *pt2_checkpoint_made_name(const struct pt2_checkpoint *c, size_t i)
{
    return i < pt2_checkpoint_n_made(c) ? made[i].name : NULL;
}

int pt2_checkpoint_make(const struct pt2_checkpoint *c, size_t i, char **ret_text,
                        size_t *ret_len, struct pt2_err *err)
{
    if (i >= pt2_checkpoint_n_made(c))
        return pt2_err_set(err, PT2_ERR_INVALID, "file %zu of %zu", i,
                           pt2_checkpoint_n_made(c));
    return made[i].make ? made[i].make(&c->gguf, ret_text, ret_len, err)
                        : make_config(c, ret_text, ret_len, err);
}

int pt2_checkpoint_check_unchanged(const struct pt2_checkpoint *c, struct pt2_err *err)
{
    return files_check_unchanged(&c->files, err);
}

int pt2_checkpoint_digest_file(const struct pt2_checkpoint *c, size_t i,
                               uint8_t ret_sha256[32], struct pt2_err *err)
{
    return files_digest(&c->files, i, ret_sha256, err);
}
