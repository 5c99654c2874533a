/* quantize.h - floats to whole numbers of 8 or 4 bits, by groups that share a scale.
 *
 * Bit for bit what torchao 0.18 makes of them (quant_primitives.py, choose_qparams_affine with
 * MappingType.SYMMETRIC, then quantize_affine), in the dtype of the weight: each operation
 * rounds to it.  Of a group
 *
 *     scale = max(|x|) / 7.5 (127.5 of 8 bits), the smallest normal number at least
 *     value = x * (1 / scale), to the nearest, ties to even, clamped to -8 .. 7 (-128 .. 127)
 *
 * A NaN makes the scale NaN and the values 0, an infinity the scale infinite and the values 0:
 * torchao's on x86-64.
 *
 * Pure; any thread.  Loops that the compiler turns into vectors. */
#ifndef EXPORT_QUANTIZE_H
#define EXPORT_QUANTIZE_H

#include "base/util.h"

#include <pt2/dtype.h>

/* x: n_groups times group numbers, of the dtype (float32, bfloat16 or float16), as float32.
 * ret_scales: (n_groups) of the dtype. */
void quantize_scales(enum pt2_dtype dtype, unsigned bits, const float *x, size_t n_groups,
                     size_t group, void *ret_scales);
/* ret_values: (n_groups * group); one that has 4 bits takes a byte too. */
void quantize_values(enum pt2_dtype dtype, unsigned bits, const float *x, size_t n_groups,
                     size_t group, int8_t *ret_values);

#endif
