/* half.h - bfloat16 and float16 to float32 and back, rounded to nearest even, as torch does:
 * for loops that become vectors, so without branches.  Any thread. */
#ifndef BASE_HALF_H
#define BASE_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint32_t float_bits(float f)
{
    uint32_t u;

    memcpy(&u, &f, sizeof(u));
    return u;
}

static inline float float_of_bits(uint32_t u)
{
    float f;

    memcpy(&f, &u, sizeof(f));
    return f;
}

/* c10/util/BFloat16.h, round_to_nearest_even */
static inline uint16_t bf16_of_float(float f)
{
    uint32_t u = float_bits(f), rounded = (u + 0x7fff + (u >> 16 & 1)) >> 16;

    return (u & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : (uint16_t)rounded;
}

static inline float bf16_to_float(uint16_t b)
{
    return float_of_bits((uint32_t)b << 16);
}

/* A number that is normal in float16 has its exponent shifted (by 112 = 127 - 15) and its 13
 * low bits rounded away; a smaller one is rounded by adding 0.5, whose last bit is float16's
 * smallest step. */
static inline uint16_t f16_of_float(float f)
{
    uint32_t u = float_bits(f), sign = u >> 16 & 0x8000, a = u & 0x7fffffff;
    uint32_t normal = (a - (112u << 23) + 0xfff + (a >> 13 & 1)) >> 13;
    uint32_t small = float_bits(float_of_bits(a < 0x38800000 ? a : 0) + 0.5f) -
                     float_bits(0.5f);
    uint32_t h = a < 0x38800000 ? small : normal;

    h = a >= 0x477ff000 ? 0x7c00 : h; /* 65520 and more */
    h = a > 0x7f800000 ? 0x7e00 : h;  /* NaN */
    return (uint16_t)(sign | h);
}

/* The exponent is corrected by a multiplication, which is exact, subnormals included. */
static inline float f16_to_float(uint16_t h)
{
    uint32_t a = (uint32_t)(h & 0x7fff) << 13, sign = (uint32_t)(h & 0x8000) << 16;
    uint32_t finite = float_bits(float_of_bits(a) * 0x1p112f);
    uint32_t u = a >= 0x0f800000 ? a | 0x7f800000 : finite; /* infinity, NaN */

    return float_of_bits(sign | u);
}

#endif
