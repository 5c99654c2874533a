/* float8.h - the small floating-point types of quantised checkpoints, as float32.
 *
 * torch's float8_e4m3fn, float8_e5m2, float8_e8m0fnu (a power of two, the scale of a
 * block) and float4_e2m1fn_x2 (two to a byte, the low half first).  Every value is exact
 * in float32, subnormals included; products are rounded once, to the nearest.
 *
 * Pure functions; any thread.  Loops that the compiler turns into vectors. */
#ifndef CHECKPOINT_FLOAT8_H
#define CHECKPOINT_FLOAT8_H

#include "base/util.h"

/* n elements times scale; from and to must not overlap. */
void float8_e4m3_scaled(const uint8_t *restrict from, size_t n, float scale,
                        float *restrict to);
void float8_e5m2_scaled(const uint8_t *restrict from, size_t n, float scale,
                        float *restrict to);
/* n elements, each times the scale at its own place. */
void float8_e4m3_times(const uint8_t *restrict from, size_t n,
                       const float *restrict scales, float *restrict to);
void float8_e5m2_times(const uint8_t *restrict from, size_t n,
                       const float *restrict scales, float *restrict to);

/* Two to the power of b - 127; 255 is NaN (c10/util/Float8_e8m0fnu.h). */
float float8_e8m0(uint8_t b);
/* The same where 255 is infinite (torch.exp2). */
float float8_exponent(uint8_t b);

/* The value of each half byte, times two to the power of exponent - 127 (torch.ldexp: 0
 * stays 0). */
void float4_e2m1_values(uint8_t exponent, float ret_values[16]);

#endif
