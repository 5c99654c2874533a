/* gguf_weights.h - the tensors of a GGUF file as those of a Hugging Face checkpoint:
 * under their names there, their values unpacked, what llama.cpp's converter did undone.
 *
 * A plain tensor that was kept as it is lies in the file as it is.  Any other is made
 * while it is read, float32, any part of it at a time: no memory but the stack's.
 *
 * Immutable once mapped: any thread. */
#ifndef CHECKPOINT_GGUF_WEIGHTS_H
#define CHECKPOINT_GGUF_WEIGHTS_H

#include "checkpoint/gguf.h"
#include "checkpoint/gguf_arch.h"
#include "checkpoint/tensors.h"

/* How the values of one tensor are made. */
struct gguf_source {
    const struct ggml_type *type;
    enum gguf_op op;
    uint32_t file;
    uint64_t offset;    /* of the first stored byte */
    int64_t rows, cols; /* as stored; a vector is one column */
    int64_t head_rows;  /* of GGUF_UNPERMUTE_* */
};

struct gguf_sources {
    struct gguf_source *items;
    size_t n, cap;
};

/* Append the tensors, each with its place in ret_sources plus 1 in its field recipe, 0
 * where it lies in the file as it is.  One that the table does not name keeps its name.
 * Errors: BAD_CHECKPOINT (a shape that the table's operation doesn't fit), NOMEM. */
MUST_USE int gguf_map_tensors(const struct gguf *gguf, const struct gguf_arch *arch,
                              struct tensors *tensors, struct gguf_sources *ret_sources,
                              struct pt2_err *err);
void gguf_sources_done(struct gguf_sources *sources);

/* Make len bytes from offset on of the float32 values; within the tensor.
 * Errors: CHECKPOINT_CHANGED, IO. */
MUST_USE int gguf_source_read(const struct gguf_source *source, const struct files *files,
                              uint64_t offset, void *buf, size_t len,
                              struct pt2_err *err);

/* The row that is stored where row r is wanted: the same, but where rows are permuted. */
uint64_t gguf_stored_row(const struct gguf_source *source, uint64_t r);

/* Bits of the whole numbers that the blocks of a source are, 32 neighbours of a row with one
 * scale; 0: they are of another form, or the operation changes the values or cuts a block. */
unsigned gguf_group_bits(const struct gguf_source *source);
/* Read those of groups first .. first + n - 1, within the tensor; values (32 n), scales (n),
 * either may be NULL.  Errors: CHECKPOINT_CHANGED, IO. */
MUST_USE int gguf_groups_read(const struct gguf_source *source, const struct files *files,
                              uint64_t first, size_t n, int8_t *values, float *scales,
                              struct pt2_err *err);

#endif
