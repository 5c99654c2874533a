#include "checkpoint/float8.h"

#include "base/half.h"

#include <math.h>

/* The exponent is corrected by a multiplication (by 2 to the 120 = 127 - 7), which is
 * exact.  There are no infinities: all bits set is NaN. */
static inline float e4m3(uint8_t b)
{
    uint32_t a = (uint32_t)(b & 0x7f) << 20, sign = (uint32_t)(b & 0x80) << 24;
    uint32_t finite = float_bits(float_of_bits(a) * 0x1p120f);

    return float_of_bits(sign | (a == 0x7f00000 ? 0x7fc00000 : finite));
}

/* The upper byte of a float16. */
static inline float e5m2(uint8_t b)
{
    return f16_to_float((uint16_t)(b << 8));
}

void float8_e4m3_scaled(const uint8_t *restrict from, size_t n, float scale,
                        float *restrict to)
{
    for (size_t i = 0; i < n; i++)
        to[i] = e4m3(from[i]) * scale;
}

void float8_e5m2_scaled(const uint8_t *restrict from, size_t n, float scale,
                        float *restrict to)
{
    for (size_t i = 0; i < n; i++)
        to[i] = e5m2(from[i]) * scale;
}

void float8_e4m3_times(const uint8_t *restrict from, size_t n,
                       const float *restrict scales, float *restrict to)
{
    for (size_t i = 0; i < n; i++)
        to[i] = e4m3(from[i]) * scales[i];
}

void float8_e5m2_times(const uint8_t *restrict from, size_t n,
                       const float *restrict scales, float *restrict to)
{
    for (size_t i = 0; i < n; i++)
        to[i] = e5m2(from[i]) * scales[i];
}

float float8_exponent(uint8_t b)
{
    /* 2 to the -127 is subnormal. */
    return float_of_bits(b ? (uint32_t)b << 23 : 1u << 22);
}

float float8_e8m0(uint8_t b)
{
    return b == 0xff ? NAN : float8_exponent(b);
}

void float4_e2m1_values(uint8_t exponent, float ret_values[16])
{
    /* Two to the power of 128 alone is not finite. */
    float scale = float8_exponent(exponent == 255 ? 254 : exponent);
    float more = exponent == 255 ? 2 : 1;
    static const float values[16] = {0,   0.5f,  1,   1.5f,  2,   3,  4,  6,
                                     -0., -0.5f, -1., -1.5f, -2., -3, -4, -6};

    for (unsigned i = 0; i < 16; i++)
        ret_values[i] = values[i] * scale * more;
}
