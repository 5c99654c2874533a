/* hub_list.h - what a hub says of a model, and which of its files make a checkpoint.
 *
 * The answer to GET /api/models/{repo}/revision/{revision}?blobs=true (huggingface_hub,
 * hf_api.py, model_info and RepoSibling):
 *
 *     {"sha": "<commit>", "siblings": [
 *         {"rfilename": "config.json", "size": 683, "blobId": "<git SHA-1>"},
 *         {"rfilename": "model.safetensors", "size": 135, "blobId": "<of the pointer>",
 *          "lfs": {"sha256": "<SHA-256>", "size": 269060552, "pointerSize": 134}}, …], …}
 *
 * Pure functions; one thread at a time per list. */
#ifndef CMD_HUB_LIST_H
#define CMD_HUB_LIST_H

#include "cmd/blob_hash.h"

#include <pt2/err.h>

#define HUB_COMMIT_SIZE 41 /* hex and the '\0' */

struct hub_file {
    char *name;
    uint64_t bytes;
    enum blob_hash_kind kind;
    char digest[BLOB_HASH_HEX];
    bool is_wanted;
};

struct hub_list {
    char commit[HUB_COMMIT_SIZE];
    struct hub_file *files; /* those that a checkpoint may hold, as the hub lists them */
    size_t n;
};

/* hub_list_done, also after an error.  Errors: BAD_JSON and INVALID (it makes no sense),
 * NOMEM. */
MUST_USE int hub_list_parse(const char *text, size_t len, struct hub_list *ret_list,
                            struct pt2_err *err);
void hub_list_done(struct hub_list *list);

/* NULL: there is none of that name. */
struct hub_file *hub_list_find(const struct hub_list *list, const char *name);

/* Mark config.json, tokenizer and the like, and weights: model.safetensors, or else the
 * index (*ret_has_index: its shards are still to be marked), or else the only
 * *.safetensors, or else the only *.gguf; with `only` those of that name in any case.
 * Errors: NOT_FOUND (the text says which weights there are). */
MUST_USE int hub_list_choose(struct hub_list *list, const char *only, bool *ret_has_index,
                             struct pt2_err *err);

#endif
