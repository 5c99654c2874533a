#include "export/quantize.h"

#include "base/half.h"
#include "base/log.h"

/* A float of up to 2^22 plus this is a whole number: rounded to the nearest, ties to even. */
#define ROUNDER 0x1.8p23f

static float rounded(enum pt2_dtype dtype, float x)
{
    return dtype == PT2_BFLOAT16  ? bf16_to_float(bf16_of_float(x))
           : dtype == PT2_FLOAT16 ? f16_to_float(f16_of_float(x))
                                  : x;
}

/* The largest magnitude; as bits these are in the order of their values, NaN the largest. */
static float largest(const float *x, size_t n)
{
    int32_t most = 0;

    for (size_t i = 0; i < n; i++) {
        int32_t bits = (int32_t)(float_bits(x[i]) & 0x7fffffff);

        most = bits > most ? bits : most;
    }
    return float_of_bits((uint32_t)most);
}

static float scale_of(enum pt2_dtype dtype, unsigned bits, const float *x, size_t group)
{
    float smallest = dtype == PT2_FLOAT16 ? 0x1p-14f : 0x1p-126f, most = largest(x, group);
    float scale = rounded(dtype, most / (bits == 4 ? 7.5f : 127.5f));

    if (most != most)
        return float_of_bits(0x7fc00000); /* one NaN on all machines */
    return scale < smallest ? smallest : scale;
}

void quantize_scales(enum pt2_dtype dtype, unsigned bits, const float *x, size_t n_groups,
                     size_t group, void *ret_scales)
{
    uint16_t *half = ret_scales;
    float *wide = ret_scales;

    for (size_t i = 0; i < n_groups; i++) {
        float scale = scale_of(dtype, bits, x + i * group, group);

        if (dtype == PT2_BFLOAT16)
            half[i] = bf16_of_float(scale);
        else if (dtype == PT2_FLOAT16)
            half[i] = f16_of_float(scale);
        else
            wide[i] = scale;
    }
}

#define SAME(x)   (x)
#define AS_BF16(x) bf16_to_float(bf16_of_float(x))
#define AS_F16(x)  f16_to_float(f16_of_float(x))
#define LOOP(name, round)                                                                \
    static void name(const float *restrict x, size_t n, float factor, float low,         \
                     float high, int8_t *restrict to)                                    \
    {                                                                                    \
        for (size_t i = 0; i < n; i++) {                                                 \
            float v = round(x[i] * factor);                                              \
                                                                                         \
            v = (v + ROUNDER) - ROUNDER;                                                 \
            v = v < low ? low : v;                                                       \
            v = v > high ? high : v;                                                     \
            v = v == v ? v : 0;                                                          \
            to[i] = (int8_t)(int32_t)v;                                                  \
        }                                                                                \
    }

LOOP(values_f32, SAME)
LOOP(values_bf16, AS_BF16)
LOOP(values_f16, AS_F16)

void quantize_values(enum pt2_dtype dtype, unsigned bits, const float *x, size_t n_groups,
                     size_t group, int8_t *ret_values)
{
    float high = bits == 4 ? 7 : 127;

    ASSERT(bits == 4 || bits == 8);
    for (size_t i = 0; i < n_groups; i++, x += group, ret_values += group) {
        float factor = rounded(dtype, 1 / scale_of(dtype, bits, x, group));

        if (dtype == PT2_BFLOAT16)
            values_bf16(x, group, factor, -high - 1, high, ret_values);
        else if (dtype == PT2_FLOAT16)
            values_f16(x, group, factor, -high - 1, high, ret_values);
        else
            values_f32(x, group, factor, -high - 1, high, ret_values);
    }
}
