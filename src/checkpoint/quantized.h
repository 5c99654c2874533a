/* quantized.h - the quantised tensors of safetensors as the values that they stand for.
 *
 * A float8 tensor (F8_E4M3, F8_E5M2) becomes float32: each element times the scale of its
 * block, row, tensor or place, as Transformers 5.18 dequantises (integrations/
 * finegrained_fp8.py, Fp8Dequantize): one product in float32, which whoever reads rounds
 * to the dtype that is wanted.  Without scales the elements are themselves.  The scales,
 * and what was for activations, are no tensors of the checkpoint any more.
 *
 * The two tensors X_blocks (n, rows, groups, 16) and X_scales (n, rows, groups) of
 * quant_method mxfp4 become X, float32 (n, 32 groups, rows), as
 * integrations/mxfp4.py (convert_moe_packed_tensors) turns it.  All its values but those
 * that overflow are exact in bfloat16.
 *
 * Values are made while they are read, any part at a time: no memory but the stack's.
 * Immutable once mapped: any thread. */
#ifndef CHECKPOINT_QUANTIZED_H
#define CHECKPOINT_QUANTIZED_H

#include "checkpoint/files.h"
#include "checkpoint/tensors.h"

#include <jansson.h>

struct quantized_source;

struct quantized_sources {
    struct quantized_source *items;
    size_t n, cap;
};

/* Find them among the tensors, which are sorted by name and are not afterwards; each gets
 * its place in ret_sources plus 1 in its field recipe.  config is that of the checkpoint:
 * quantization_config has the size of a block, which matters where the last block of a
 * row or column is cut, and says whether scales must be there.
 * Errors: BAD_CHECKPOINT (scales missing, or of a shape that does not fit),
 * NOT_EXPORTABLE (zero points, scales of another type), NOMEM. */
MUST_USE int quantized_map(const json_t *config, struct tensors *tensors,
                           struct quantized_sources *ret_sources, struct pt2_err *err);
void quantized_done(struct quantized_sources *sources);

/* Make len bytes from offset on of the float32 values of source i; within the tensor.
 * Errors: CHECKPOINT_CHANGED, IO. */
MUST_USE int quantized_read(const struct quantized_sources *sources, size_t i,
                            const struct files *files, uint64_t offset, void *buf,
                            size_t len, struct pt2_err *err);

#endif
