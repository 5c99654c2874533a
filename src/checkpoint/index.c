#include "checkpoint/index.h"

#include "base/scan.h"

#define MAX_INDEX ((size_t)32 << 20) /* bytes */

/* A plain name in the checkpoint's own directory. */
static bool is_shard_name(const char *name)
{
    return name[0] != '.' && !strchr(name, '/') && strlen(name) <= 255 &&
           ends_with(name, ".safetensors");
}

static int add(struct shard_index *index, size_t *cap, const struct index_entry *entry,
               struct pt2_err *err)
{
    size_t more = MAX((size_t)64, *cap * 2);
    struct index_entry *grown;

    if (index->n == *cap) {
        grown = reallocarray(index->entries, more, sizeof(*grown));
        if (!grown)
            return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for the index");
        index->entries = grown;
        *cap = more;
    }
    index->entries[index->n++] = *entry;
    return 0;
}

static int read_map(struct scan *s, struct shard_index *index)
{
    struct index_entry entry;
    size_t cap = 0;
    int more;

    if (scan_enter(s, '{') < 0)
        return -1;
    while ((more = scan_member(s, &entry.tensor)) > 0) {
        if (scan_string(s, &entry.shard) < 0)
            return -1;
        if (!is_shard_name(entry.shard))
            return scan_fail(s,
                             "'%.64s' is not the name of a .safetensors file in the "
                             "checkpoint's directory",
                             entry.shard);
        if (index->n == TENSORS_MAX)
            return scan_fail(s, "more than %u tensors", TENSORS_MAX);
        if (add(index, &cap, &entry, s->err) < 0)
            return -1;
    }
    return more;
}

static int compare_entries(const void *a, const void *b)
{
    const struct index_entry *x = a, *y = b;
    int r = strcmp(x->shard, y->shard);

    return r ? r : strcmp(x->tensor, y->tensor);
}

int index_read(const struct files *files, size_t i, struct shard_index *index,
               struct pt2_err *err)
{
    const char *name = files->files[i].info.name;
    char what[300];
    bool has_map = false;
    struct scan s;
    size_t len;
    int more;

    if (files->files[i].info.bytes > MAX_INDEX)
        return pt2_err_set(err, PT2_ERR_BAD_CHECKPOINT, "'%s' has more than %zu bytes",
                           name, MAX_INDEX);
    if (files_read_all(files, i, MAX_INDEX, &index->text, &len, err) < 0)
        return -1;
    snprintf(what, sizeof(what), "'%s'", name);
    scan_begin(&s, index->text, len, what, PT2_ERR_BAD_CHECKPOINT, err);
    if (scan_enter(&s, '{') < 0)
        return -1;
    while ((more = scan_member(&s, &name)) > 0) {
        bool is_map = streq(name, "weight_map");

        if (is_map && has_map)
            return scan_fail(&s, "\"weight_map\" is there twice");
        has_map |= is_map;
        if ((is_map ? read_map(&s, index) : scan_skip(&s)) < 0)
            return -1;
    }
    if (more < 0 || scan_end(&s) < 0)
        return -1;
    if (index->n == 0)
        return scan_fail(&s, "\"weight_map\" names no tensors");
    qsort(index->entries, index->n, sizeof(*index->entries), compare_entries);
    return 0;
}

void index_done(struct shard_index *index)
{
    free(index->text);
    free(index->entries);
    *index = (struct shard_index){0};
}

static int compare_name(const void *name, const void *tensor)
{
    return strcmp(name, ((const struct pt2_checkpoint_tensor *)tensor)->name);
}

/* Tensors that the index names in shards which lack them: the first, and how many. */
static int refuse_missing(const struct index_entry *first, size_t n, struct pt2_err *err)
{
    char rest[60] = "";

    if (n > 1)
        snprintf(rest, sizeof(rest), ", and %zu more that are missing", n - 1);
    return pt2_err_set(err, PT2_ERR_BAD_CHECKPOINT,
                       "the index names tensor '%s' in '%s', which lacks it%s",
                       first->tensor, first->shard, rest);
}

int index_check(const struct shard_index *index, const struct files *files,
                const struct tensors *tensors, struct pt2_err *err)
{
    const struct index_entry *missing = NULL;
    size_t n_missing = 0;

    for (size_t i = 0; i < index->n; i++) {
        const struct index_entry *e = &index->entries[i];
        const struct pt2_checkpoint_tensor *t =
            tensors->n ? bsearch(e->tensor, tensors->items, tensors->n,
                                 sizeof(*tensors->items), compare_name)
                       : NULL;

        if (!t) {
            missing = n_missing++ ? missing : e;
            continue;
        }
        if (!streq(files->files[t->file].info.name, e->shard))
            return pt2_err_set(err, PT2_ERR_BAD_CHECKPOINT,
                               "the index names tensor '%s' in '%s'; it is in '%s'",
                               e->tensor, e->shard, files->files[t->file].info.name);
    }
    return missing ? refuse_missing(missing, n_missing, err) : 0;
}
