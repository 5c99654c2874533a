/* convert.h - elements from one floating-point type to another, as torch converts them:
 * to the nearest, ties to even; by way of float32; NaN stays NaN, too big becomes
 * infinite.
 *
 * Pure; any thread.  Loops that the compiler turns into vectors. */
#ifndef EXPORT_CONVERT_H
#define EXPORT_CONVERT_H

#include "base/util.h"

#include <pt2/dtype.h>

/* from: float64, float32, bfloat16, float16; to: float32, bfloat16, float16.  Both
 * aligned to their elements; they must not overlap. */
void convert_elements(enum pt2_dtype from, const void *src, enum pt2_dtype to, void *dst,
                      size_t n);

#endif
