#include "checkpoint/ggml.h"

#include "base/half.h"

/* The layouts are those of ggml-common.h; scales are float16, everything little-endian.
 */

static float half_at(const uint8_t *p)
{
    return f16_to_float((uint16_t)(p[0] | p[1] << 8));
}

/* ---- plain types ---- */

static void from_f32(const uint8_t *from, size_t n, float *to)
{
    memcpy(to, from, n * sizeof(*to));
}

static void from_f64(const uint8_t *from, size_t n, float *to)
{
    for (size_t i = 0; i < n; i++) {
        double d;

        memcpy(&d, from + i * sizeof(d), sizeof(d));
        to[i] = (float)d;
    }
}

static void from_f16(const uint8_t *from, size_t n, float *to)
{
    for (size_t i = 0; i < n; i++)
        to[i] = half_at(from + 2 * i);
}

static void from_bf16(const uint8_t *from, size_t n, float *to)
{
    for (size_t i = 0; i < n; i++)
        to[i] = bf16_to_float((uint16_t)(from[2 * i] | from[2 * i + 1] << 8));
}

/* ---- blocks of 32 ---- */

/* {d, 16 bytes}: low halves first, then high ones */
static void from_q4_0(const uint8_t *b, size_t n, float *to)
{
    for (; n > 0; n--, b += 18, to += 32) {
        float d = half_at(b);

        for (unsigned j = 0; j < 16; j++) {
            to[j] = d * (float)((b[2 + j] & 15) - 8);
            to[16 + j] = d * (float)((b[2 + j] >> 4) - 8);
        }
    }
}

/* {d, m, 16 bytes} */
static void from_q4_1(const uint8_t *b, size_t n, float *to)
{
    for (; n > 0; n--, b += 20, to += 32) {
        float d = half_at(b), m = half_at(b + 2);

        for (unsigned j = 0; j < 16; j++) {
            to[j] = d * (float)(b[4 + j] & 15) + m;
            to[16 + j] = d * (float)(b[4 + j] >> 4) + m;
        }
    }
}

/* The 32 numbers of 5 bits: bit j of the first four bytes, and a half of the 16 behind.
 */
static void unpack_5(const uint8_t *b, int32_t to[32])
{
    uint32_t high =
        b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;

    for (unsigned j = 0; j < 16; j++) {
        to[j] = (int32_t)((b[4 + j] & 15) | (high >> j & 1) << 4);
        to[16 + j] = (int32_t)(b[4 + j] >> 4 | (high >> (16 + j) & 1) << 4);
    }
}

/* {d, 4 bytes of fifth bits, 16 bytes} */
static void from_q5_0(const uint8_t *b, size_t n, float *to)
{
    int32_t q[32];

    for (; n > 0; n--, b += 22, to += 32) {
        float d = half_at(b);

        unpack_5(b + 2, q);
        for (unsigned j = 0; j < 32; j++)
            to[j] = d * (float)(q[j] - 16);
    }
}

/* {d, m, 4 bytes of fifth bits, 16 bytes} */
static void from_q5_1(const uint8_t *b, size_t n, float *to)
{
    int32_t q[32];

    for (; n > 0; n--, b += 24, to += 32) {
        float d = half_at(b), m = half_at(b + 2);

        unpack_5(b + 4, q);
        for (unsigned j = 0; j < 32; j++)
            to[j] = d * (float)q[j] + m;
    }
}

/* {d, 32 bytes} */
static void from_q8_0(const uint8_t *b, size_t n, float *to)
{
    for (; n > 0; n--, b += 34, to += 32) {
        float d = half_at(b);

        for (unsigned j = 0; j < 32; j++)
            to[j] = (float)(int8_t)b[2 + j] * d;
    }
}

/* {d, 16 bytes}: numbers of sixteen levels */
static void from_iq4_nl(const uint8_t *b, size_t n, float *to)
{
    static const float levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                     1,    13,   25,  38,  53,  69,  89,  113};

    for (; n > 0; n--, b += 18, to += 32) {
        float d = half_at(b);

        for (unsigned j = 0; j < 16; j++) {
            to[j] = d * levels[b[2 + j] & 15];
            to[16 + j] = d * levels[b[2 + j] >> 4];
        }
    }
}

/* ---- blocks of 256 ---- */

/* {16 bytes of scale and minimum, 64 bytes, d, dmin}: 16 values share a scale */
static void from_q2_k(const uint8_t *b, size_t n, float *to)
{
    for (; n > 0; n--, b += 84, to += 256) {
        float d = half_at(b + 80), dmin = half_at(b + 82);

        for (unsigned g = 0; g < 16; g++) {
            const uint8_t *q = b + 16 + g / 8 * 32 + g % 2 * 16;
            float dl = d * (float)(b[g] & 15), ml = dmin * (float)(b[g] >> 4);
            unsigned shift = g % 8 / 2 * 2;

            for (unsigned j = 0; j < 16; j++)
                to[16 * g + j] = dl * (float)(q[j] >> shift & 3) - ml;
        }
    }
}

/* {32 bytes of third bits, 64 bytes, 12 bytes of scales, d}.  A scale's low half is in
 * the first eight bytes, its two high bits in the last four; 4 comes off where the third
 * bit is clear. */
static void from_q3_k(const uint8_t *b, size_t n, float *to)
{
    for (; n > 0; n--, b += 110, to += 256) {
        const uint8_t *s = b + 96;
        float d = half_at(b + 108);

        for (unsigned g = 0; g < 16; g++) {
            const uint8_t *q = b + 32 + g / 8 * 32 + g % 2 * 16, *h = b + g % 2 * 16;
            int low = g < 8 ? s[g] & 15 : s[g - 8] >> 4;
            float dl = d * (float)((low | (s[8 + g % 4] >> g / 4 * 2 & 3) << 4) - 32);
            unsigned shift = g % 8 / 2 * 2, bit = g / 2;

            for (unsigned j = 0; j < 16; j++)
                to[16 * g + j] =
                    dl * (float)((q[j] >> shift & 3) - (h[j] >> bit & 1 ? 0 : 4));
        }
    }
}

/* Scale and minimum, 6 bits each, of group g of the 12 bytes that Q4_K and Q5_K have. */
static void k_scale(const uint8_t *s, unsigned g, float *ret_scale, float *ret_min)
{
    if (g < 4) {
        *ret_scale = (float)(s[g] & 63);
        *ret_min = (float)(s[g + 4] & 63);
    } else {
        *ret_scale = (float)((s[g + 4] & 15) | (s[g - 4] >> 2 & 0x30));
        *ret_min = (float)(s[g + 4] >> 4 | (s[g] >> 2 & 0x30));
    }
}

/* {d, dmin, 12 bytes of scales, 128 bytes}: 32 values share a scale */
static void from_q4_k(const uint8_t *b, size_t n, float *to)
{
    for (; n > 0; n--, b += 144, to += 256) {
        float d = half_at(b), dmin = half_at(b + 2);

        for (unsigned g = 0; g < 8; g++) {
            const uint8_t *q = b + 16 + g / 2 * 32;
            unsigned shift = g % 2 * 4;
            float scale, min;

            k_scale(b + 4, g, &scale, &min);
            scale = d * scale;
            min = dmin * min;
            for (unsigned j = 0; j < 32; j++)
                to[32 * g + j] = scale * (float)(q[j] >> shift & 15) - min;
        }
    }
}

/* {d, dmin, 12 bytes of scales, 32 bytes of fifth bits, 128 bytes} */
static void from_q5_k(const uint8_t *b, size_t n, float *to)
{
    for (; n > 0; n--, b += 176, to += 256) {
        float d = half_at(b), dmin = half_at(b + 2);
        const uint8_t *h = b + 16;

        for (unsigned g = 0; g < 8; g++) {
            const uint8_t *q = b + 48 + g / 2 * 32;
            unsigned shift = g % 2 * 4;
            float scale, min;

            k_scale(b + 4, g, &scale, &min);
            scale = d * scale;
            min = dmin * min;
            for (unsigned j = 0; j < 32; j++)
                to[32 * g + j] =
                    scale * (float)((q[j] >> shift & 15) | (h[j] >> g & 1) << 4) - min;
        }
    }
}

/* {128 bytes of low halves, 64 of high pairs, 16 signed scales, d} */
static void from_q6_k(const uint8_t *b, size_t n, float *to)
{
    for (; n > 0; n--, b += 210, to += 256) {
        float d = half_at(b + 208);

        for (unsigned g = 0; g < 16; g++) {
            const uint8_t *low = b + g / 8 * 64 + g % 4 * 16;
            const uint8_t *high = b + 128 + g / 8 * 32 + g % 2 * 16;
            float dl = d * (float)(int8_t)b[192 + g];
            unsigned low_shift = g % 8 / 4 * 4, high_shift = g % 8 / 2 * 2;

            for (unsigned j = 0; j < 16; j++)
                to[16 * g + j] = dl * (float)(((low[j] >> low_shift & 15) |
                                               (high[j] >> high_shift & 3) << 4) -
                                              32);
        }
    }
}

/* ---- the table ---- */

/* gguf-py, constants.py: GGMLQuantizationType, GGML_QUANT_SIZES */
static const struct ggml_type types[] = {
    {0, "F32", 1, 4, PT2_FLOAT32, from_f32},
    {1, "F16", 1, 2, PT2_FLOAT16, from_f16},
    {2, "Q4_0", 32, 18, PT2_DTYPE_NONE, from_q4_0},
    {3, "Q4_1", 32, 20, PT2_DTYPE_NONE, from_q4_1},
    {6, "Q5_0", 32, 22, PT2_DTYPE_NONE, from_q5_0},
    {7, "Q5_1", 32, 24, PT2_DTYPE_NONE, from_q5_1},
    {8, "Q8_0", 32, 34, PT2_DTYPE_NONE, from_q8_0},
    {9, "Q8_1", 32, 40, PT2_DTYPE_NONE, NULL},
    {10, "Q2_K", 256, 84, PT2_DTYPE_NONE, from_q2_k},
    {11, "Q3_K", 256, 110, PT2_DTYPE_NONE, from_q3_k},
    {12, "Q4_K", 256, 144, PT2_DTYPE_NONE, from_q4_k},
    {13, "Q5_K", 256, 176, PT2_DTYPE_NONE, from_q5_k},
    {14, "Q6_K", 256, 210, PT2_DTYPE_NONE, from_q6_k},
    {15, "Q8_K", 256, 292, PT2_DTYPE_NONE, NULL},
    {16, "IQ2_XXS", 256, 66, PT2_DTYPE_NONE, NULL},
    {17, "IQ2_XS", 256, 74, PT2_DTYPE_NONE, NULL},
    {18, "IQ3_XXS", 256, 98, PT2_DTYPE_NONE, NULL},
    {19, "IQ1_S", 256, 50, PT2_DTYPE_NONE, NULL},
    {20, "IQ4_NL", 32, 18, PT2_DTYPE_NONE, from_iq4_nl},
    {21, "IQ3_S", 256, 110, PT2_DTYPE_NONE, NULL},
    {22, "IQ2_S", 256, 82, PT2_DTYPE_NONE, NULL},
    {23, "IQ4_XS", 256, 136, PT2_DTYPE_NONE, NULL},
    {24, "I8", 1, 1, PT2_INT8, NULL},
    {25, "I16", 1, 2, PT2_INT16, NULL},
    {26, "I32", 1, 4, PT2_INT32, NULL},
    {27, "I64", 1, 8, PT2_INT64, NULL},
    {28, "F64", 1, 8, PT2_FLOAT64, from_f64},
    {29, "IQ1_M", 256, 56, PT2_DTYPE_NONE, NULL},
    {30, "BF16", 1, 2, PT2_BFLOAT16, from_bf16},
    {34, "TQ1_0", 256, 54, PT2_DTYPE_NONE, NULL},
    {35, "TQ2_0", 256, 66, PT2_DTYPE_NONE, NULL},
    {39, "MXFP4", 32, 17, PT2_DTYPE_NONE, NULL},
    {40, "NVFP4", 64, 36, PT2_DTYPE_NONE, NULL},
    {41, "Q1_0", 128, 18, PT2_DTYPE_NONE, NULL},
};

const struct ggml_type *ggml_type_find(uint32_t id)
{
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (types[i].id == id)
            return &types[i];
    return NULL;
}
