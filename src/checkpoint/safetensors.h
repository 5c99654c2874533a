/* safetensors.h - the header of a .safetensors file.
 *
 *     8 bytes: n, little-endian │ n bytes of JSON │ the tensors, without gaps
 *     {"<name>": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}, ...,
 *      "__metadata__": {"<key>": "<text>"}}
 *
 * Checked as the format's own library does (safetensors 0.6, src/tensor.rs), and more
 * strictly: names twice, dimensions, UTF-8. */
#ifndef CHECKPOINT_SAFETENSORS_H
#define CHECKPOINT_SAFETENSORS_H

#include "checkpoint/files.h"
#include "checkpoint/tensors.h"

#define SAFETENSORS_MAX_HEADER ((uint64_t)16 << 20) /* bytes */

/* Append the tensors of file i, which must hold nothing else.
 * Errors: BAD_CHECKPOINT, CHECKPOINT_CHANGED, IO, NOMEM. */
MUST_USE int safetensors_read(const struct files *files, size_t i,
                              struct tensors *tensors, struct pt2_err *err);

#endif
