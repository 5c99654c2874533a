/* index.h - model.safetensors.index.json: which shard holds which tensor.
 *
 *     {"metadata": {...}, "weight_map": {"<tensor>": "model-00001-of-00002.safetensors"}}
 */
#ifndef CHECKPOINT_INDEX_H
#define CHECKPOINT_INDEX_H

#include "checkpoint/files.h"
#include "checkpoint/safetensors.h"

struct index_entry {
    const char *tensor, *shard; /* in the index's text */
};

struct shard_index {
    char *text;
    struct index_entry *entries; /* sorted by shard, then by tensor */
    size_t n;
};

/* Read the index, which is file i.  index_done, also after an error.
 * Errors: BAD_CHECKPOINT, CHECKPOINT_CHANGED, IO, NOMEM. */
MUST_USE int index_read(const struct files *files, size_t i, struct shard_index *index,
                        struct pt2_err *err);
void index_done(struct shard_index *index);
/* Is each tensor of the index in the shard that it names?  tensors are sorted by name.
 * Errors: BAD_CHECKPOINT. */
MUST_USE int index_check(const struct shard_index *index, const struct files *files,
                         const struct tensors *tensors, struct pt2_err *err);

#endif
