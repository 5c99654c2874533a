/* kern_math.h - scalar arithmetic that every instruction set shares: the functions that are
 * rare enough to go through libm. */
#ifndef NATIVE_KERN_MATH_H
#define NATIVE_KERN_MATH_H

#include "native/kernels.h"

void math_unary(enum kernel_unary f, const float *x, size_t n, float *y);
/* MAX and MIN, as torch has them: a NaN wins. */
void math_extreme(enum kernel_binary f, const float *a, size_t a_step, const float *b,
                  size_t b_step, size_t n, float *y);

#endif
