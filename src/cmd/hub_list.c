#include "cmd/hub_list.h"

#include "base/json.h"
#include "checkpoint/file_names.h"

#define MAX_FILES 100000

/* ---- reading ---- */

static const char *text_of(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}

static int bad(struct pt2_err *err, const char *what)
{
    return pt2_err_set(err, PT2_ERR_INVALID, "the hub's answer makes no sense: %s", what);
}

/* Of a file in large file storage the digest is SHA-256, otherwise git's. */
static bool read_facts(const json_t *sibling, struct hub_file *ret_file)
{
    const json_t *lfs = json_object_get(sibling, "lfs");
    bool is_large = json_is_object(lfs);
    const char *digest = is_large ? text_of(lfs, "sha256") : text_of(sibling, "blobId");
    const json_t *size = json_object_get(is_large ? lfs : sibling, "size");

    ret_file->kind = is_large ? BLOB_SHA256 : BLOB_GIT;
    if (!digest || !blob_hash_is_hex(ret_file->kind, digest) || !json_is_integer(size) ||
        json_integer_value(size) < 0)
        return false;
    snprintf(ret_file->digest, sizeof(ret_file->digest), "%s", digest);
    ret_file->bytes = (uint64_t)json_integer_value(size);
    return true;
}

static int add_file(const json_t *sibling, struct hub_list *list, struct pt2_err *err)
{
    const char *name = text_of(sibling, "rfilename");
    struct hub_file file = {0}, *grown;

    if (!name)
        return bad(err, "a file has no name");
    if (!file_names_is_allowed(name)) /* README.md, pickled weights, folders, … */
        return 0;
    if (hub_list_find(list, name))
        return bad(err, "a file is listed twice");
    if (!read_facts(sibling, &file))
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "the hub gives no size and digest for '%s'", name);
    grown = reallocarray(list->files, list->n + 1, sizeof(*grown));
    if (grown)
        list->files = grown;
    file.name = grown ? strdup(name) : NULL;
    if (!file.name)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a list of files");
    grown[list->n++] = file;
    return 0;
}

static int read_list(const json_t *json, struct hub_list *list, struct pt2_err *err)
{
    const json_t *siblings = json_object_get(json, "siblings"), *sibling;
    const char *commit = text_of(json, "sha");
    size_t i;

    if (!commit || !blob_hash_is_hex(BLOB_GIT, commit))
        return bad(err, "'sha' is no commit");
    snprintf(list->commit, sizeof(list->commit), "%s", commit);
    if (!json_is_array(siblings) || json_array_size(siblings) > MAX_FILES)
        return bad(err, "'siblings' is no list of files");
    json_array_foreach (siblings, i, sibling)
        if (add_file(sibling, list, err) < 0)
            return -1;
    return 0;
}

int hub_list_parse(const char *text, size_t len, struct hub_list *ret_list,
                   struct pt2_err *err)
{
    json_auto_t *json = NULL;

    *ret_list = (struct hub_list){0};
    if (json_parse(text, len, &json, err) < 0)
        return -1;
    return read_list(json, ret_list, err);
}

void hub_list_done(struct hub_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        free(list->files[i].name);
    free(list->files);
    *list = (struct hub_list){0};
}

struct hub_file *hub_list_find(const struct hub_list *list, const char *name)
{
    for (size_t i = 0; i < list->n; i++)
        if (streq(list->files[i].name, name))
            return &list->files[i];
    return NULL;
}

/* ---- choosing ---- */

/* The only file that ends so; NULL where there are none or several. */
static struct hub_file *find_only(const struct hub_list *list, const char *suffix)
{
    struct hub_file *found = NULL;

    for (size_t i = 0; i < list->n; i++) {
        if (!ends_with(list->files[i].name, suffix))
            continue;
        if (found)
            return NULL;
        found = &list->files[i];
    }
    return found;
}

static int no_weights(const struct hub_list *list, const char *only, struct pt2_err *err)
{
    char names[300] = "";
    size_t used = 0, n = 0;

    for (size_t i = 0; i < list->n; i++) {
        if (!file_names_is_weights(list->files[i].name))
            continue;
        if (used < sizeof(names))
            used += (size_t)snprintf(names + used, sizeof(names) - used, "%s'%s'",
                                     n ? ", " : "", list->files[i].name);
        n++;
    }
    if (n == 0)
        return pt2_err_set(err, PT2_ERR_NOT_FOUND,
                           "the model has neither *.safetensors nor *.gguf (pickled "
                           "weights, *.bin and *.pt, are never taken)");
    return pt2_err_set(err, PT2_ERR_NOT_FOUND, "%s%s%s%s; there are %s",
                       only ? "the model has no weights '" : "the model has several weights",
                       only ? only : "", only ? "'" : "",
                       only ? "" : ": name one with --file", names);
}

int hub_list_choose(struct hub_list *list, const char *only, bool *ret_has_index,
                    struct pt2_err *err)
{
    struct hub_file *weights = NULL;

    if (only)
        weights = file_names_is_weights(only) ? hub_list_find(list, only) : NULL;
    else if (!(weights = hub_list_find(list, SINGLE_NAME)) &&
             !(weights = hub_list_find(list, INDEX_NAME)) &&
             !(weights = find_only(list, ".safetensors")))
        weights = find_only(list, ".gguf");
    if (!weights)
        return no_weights(list, only, err);
    for (size_t i = 0; i < list->n; i++)
        list->files[i].is_wanted = !file_names_is_weights(list->files[i].name) &&
                                   !streq(list->files[i].name, INDEX_NAME);
    weights->is_wanted = true;
    *ret_has_index = streq(weights->name, INDEX_NAME);
    return 0;
}
