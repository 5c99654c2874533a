/* kern_body.h - the kernels, written once over vectors of LANES floats.
 *
 * Included by a kern_<isa>.c after it has defined
 *     KERN_NAME   the table's symbol        KERN_TEXT  its name
 *     LANES       floats in a vector        ROWS, OUTS the tile of many rows
 *     WIDE_OUTS   outputs at once for one row
 * and for what the processor does better than plain C
 *     KERN_WIDEN_BF16(p), KERN_WIDEN_F16(p), KERN_WIDEN_I8(p)   LANES of that type at p as
 *                 a vec
 *     KERN_DOT_BF16(sum, x, w)   in each lane sum + the products of a pair of bfloat16
 *     KERN_MAX(a, b), KERN_MIN(a, b)   by lanes; b where one is NaN
 *     KERN_SCALE(y, n)                 y * 2^n by lanes, rounded once
 *     KERN_DOT_U8 and others of kern_quant.h
 *     KERN_LOAD_PART(p, n), KERN_STORE_PART(p, v, n)   the first n < LANES floats at p */
#include "base/half.h"
#include "native/kern_math.h"
#include "native/kernels.h"

#include <math.h>

#include "native/kern_vec.h"

/* ---- elements of a dtype to float32, and back ---- */

static void widen_all_f32(const void *from, size_t n, float *to)
{
    memcpy(to, from, n * sizeof(float));
}

static void widen_all_bf16(const void *from, size_t n, float *to)
{
    widen_all(WEIGHTS_BF16, from, n, to);
}

static void widen_all_f16(const void *from, size_t n, float *to)
{
    widen_all(WEIGHTS_F16, from, n, to);
}

static void widen_all_i8(const void *from, size_t n, float *to)
{
    widen_all(WEIGHTS_I8, from, n, to);
}

static void narrow_f32(const float *from, size_t n, void *to)
{
    memcpy(to, from, n * sizeof(float));
}

INLINE uvec where(ivec mask, uvec a, uvec b)
{
    return ((uvec)mask & a) | (~(uvec)mask & b);
}

/* As bf16_of_float and f16_of_float. */
INLINE uvec narrow_bf16_vec(vec v)
{
    uvec u = (uvec)v;

    return where((u & 0x7fffffff) > 0x7f800000, (uvec){} + 0x7fc0,
                 (u + 0x7fff + (u >> 16 & 1)) >> 16);
}

INLINE uvec narrow_f16_vec(vec v)
{
    uvec sign = (uvec)v >> 16 & 0x8000, a = (uvec)v & 0x7fffffff;
    uvec normal = (a - (112u << 23) + 0xfff + (a >> 13 & 1)) >> 13;
    ivec is_small = a < 0x38800000;
    uvec h = (uvec)((vec)((uvec)is_small & a) + 0.5f) - float_bits(0.5f);

    h = where(is_small, h, normal);
    h = where(a >= 0x477ff000, (uvec){} + 0x7c00, h);
    h = where(a > 0x7f800000, (uvec){} + 0x7e00, h);
    return sign | h;
}

static void narrow_bf16(const float *from, size_t n, void *to)
{
    uint16_t *out = to;
    size_t i = 0;

    for (; i + LANES <= n; i += LANES)
        *(hvec *)(out + i) =
            __builtin_convertvector(narrow_bf16_vec(load(from + i)), hvec);
    for (; i < n; i++)
        out[i] = bf16_of_float(from[i]);
}

static void narrow_f16(const float *from, size_t n, void *to)
{
    uint16_t *out = to;
    size_t i = 0;

    for (; i + LANES <= n; i += LANES)
        *(hvec *)(out + i) = __builtin_convertvector(narrow_f16_vec(load(from + i)), hvec);
    for (; i < n; i++)
        out[i] = f16_of_float(from[i]);
}

/* The largest magnitude; infinite or NaN where one element is. */
INLINE float largest_magnitude(const float *x, size_t n)
{
    uvec most = {};
    uint32_t largest = 0;
    size_t i = 0;

    /* without their sign, floats are ordered as their bits are */
    for (; i + LANES <= n; i += LANES) {
        uvec a = (uvec)load(x + i) & 0x7fffffff;

        most = where(a > most, a, most);
    }
    for (int l = 0; l < LANES; l++)
        largest = MAX(largest, most[l]);
    for (; i < n; i++)
        largest = MAX(largest, float_bits(x[i]) & 0x7fffffff);
    return float_of_bits(largest);
}

#define TO_WHOLE 0x1.8p23f /* what is added to it loses its fraction, to nearest even */

static uint16_t narrow_i8(const float *x, size_t n, int8_t *to)
{
    float most = largest_magnitude(x, n), by;
    uint32_t scale = (float_bits(most / 127) + 0xffff) >> 16; /* up: 127 * scale >= most */
    size_t i = 0;

    if (scale == 0 || scale >= 0x7f80) { /* of no use to divide by */
        memset(to, 0, n);
        return scale == 0 ? 0 : 0x7fc0;
    }
    by = float_of_bits(scale << 16);
    for (; i + LANES <= n; i += LANES)
        *(bvec *)(to + i) =
            __builtin_convertvector((ivec)(load(x + i) / by + TO_WHOLE), bvec);
    for (; i < n; i++)
        to[i] = (int8_t)float_bits(x[i] / by + TO_WHOLE);
    return (uint16_t)scale;
}

#include "native/kern_funcs.h"
#include "native/kern_linear.h"
#include "native/kern_mix.h"
#include "native/kern_quant.h"

/* ---- elementwise ---- */

INLINE void unary_all(enum kernel_unary f, const float *x, size_t n, float *y)
{
    size_t i = 0;

    for (; i + LANES <= n; i += LANES)
        store(y + i, unary_vec(f, load(x + i)));
    if (i < n)
        store_part(y + i, unary_vec(f, load_part(x + i, n - i)), n - i);
}

static void unary(enum kernel_unary f, const float *x, size_t n, float *y)
{
    switch (f) {
#define CASE(name)                                                                        \
    case KERNEL_##name:                                                                   \
        unary_all(KERNEL_##name, x, n, y);                                                \
        break;
        EACH_FUNCTION(CASE)
#undef CASE
    default:
        math_unary(f, x, n, y);
    }
}

INLINE vec binary_vec(enum kernel_binary f, vec a, vec b)
{
    switch (f) {
    case KERNEL_ADD:
        return a + b;
    case KERNEL_SUB:
        return a - b;
    case KERNEL_MUL:
        return a * b;
    case KERNEL_KEEP:
        return choose(b != 0.0f, a, (vec){});
    case KERNEL_DROP:
        return choose(b != 0.0f, (vec){}, a);
    default:
        return a / b;
    }
}

INLINE void binary_all(enum kernel_binary f, const float *a, size_t a_step, const float *b,
                       size_t b_step, size_t n, float *y)
{
    vec one_a = splat(n > 0 ? a[0] : 0), one_b = splat(n > 0 ? b[0] : 0);
    size_t i = 0;

    for (; i + LANES <= n; i += LANES)
        store(y + i, binary_vec(f, a_step ? load(a + i) : one_a, b_step ? load(b + i) : one_b));
    if (i < n)
        store_part(y + i,
                   binary_vec(f, a_step ? load_part(a + i, n - i) : one_a,
                              b_step ? load_part(b + i, n - i) : one_b),
                   n - i);
}

static void binary(enum kernel_binary f, const float *a, size_t a_step, const float *b,
                   size_t b_step, size_t n, float *y)
{
    switch (f) {
    case KERNEL_ADD:
        binary_all(KERNEL_ADD, a, a_step, b, b_step, n, y);
        break;
    case KERNEL_SUB:
        binary_all(KERNEL_SUB, a, a_step, b, b_step, n, y);
        break;
    case KERNEL_MUL:
        binary_all(KERNEL_MUL, a, a_step, b, b_step, n, y);
        break;
    case KERNEL_DIV:
        binary_all(KERNEL_DIV, a, a_step, b, b_step, n, y);
        break;
    case KERNEL_KEEP:
        binary_all(KERNEL_KEEP, a, a_step, b, b_step, n, y);
        break;
    case KERNEL_DROP:
        binary_all(KERNEL_DROP, a, a_step, b, b_step, n, y);
        break;
    default:
        math_extreme(f, a, a_step, b, b_step, n, y);
    }
}

/* ---- norms, softmax, rotary embedding, gates ---- */

INLINE float sum_all(const float *x, size_t n)
{
    vec sum = {};
    size_t i = 0;

    for (; i + LANES <= n; i += LANES)
        sum += load(x + i);
    if (i < n)
        sum += load_part(x + i, n - i);
    return sum_lanes(sum);
}

/* Of (x - mean)^2. */
INLINE float sum_squares(const float *x, size_t n, float mean)
{
    vec sum = {};
    size_t i = 0;

    for (; i + LANES <= n; i += LANES) {
        vec d = load(x + i) - mean;

        sum += d * d;
    }
    for (; i < n; i++)
        sum[0] += (x[i] - mean) * (x[i] - mean);
    return sum_lanes(sum);
}

/* y = (x - mean) * scale * (offset + weight) + bias */
INLINE void normalise(const float *x, size_t n, float mean, float scale, float offset,
                      const float *weight, const float *bias, float *y)
{
    size_t i = 0;

    for (; i + LANES <= n; i += LANES) {
        vec v = (load(x + i) - mean) * scale;

        if (weight)
            v *= offset + load(weight + i);
        if (bias)
            v += load(bias + i);
        store(y + i, v);
    }
    for (; i < n; i++) {
        float f = (x[i] - mean) * scale;

        if (weight)
            f *= offset + weight[i];
        y[i] = bias ? f + bias[i] : f;
    }
}

static void rms_norm(const float *x, size_t n, float eps, const float *weight,
                     bool unit_offset, float *y)
{
    float scale = 1.0f / sqrtf(sum_squares(x, n, 0) / (float)n + eps);

    normalise(x, n, 0, scale, unit_offset ? 1.0f : 0.0f, weight, NULL, y);
}

static void layer_norm(const float *x, size_t n, float eps, const float *weight,
                       const float *bias, float *y)
{
    float mean = sum_all(x, n) / (float)n;
    float scale = 1.0f / sqrtf(sum_squares(x, n, mean) / (float)n + eps);

    normalise(x, n, mean, scale, 0, weight, bias, y);
}

/* x *= scale; the largest of these, NaN where one is. */
INLINE float scale_and_find_largest(float *x, size_t n, float scale)
{
    vec most = splat(-INFINITY);
    ivec nan = {};
    size_t i = 0;

    for (; i + LANES <= n; i += LANES) {
        vec v = load(x + i) * scale;

        store(x + i, v);
        most = KERN_MAX(v, most);
        nan |= v != v;
    }
    if (i < n) {
        vec v = load_part(x + i, n - i) * scale;

        store_part(x + i, v, n - i);
        v = choose(first_lanes(n - i), v, splat(-INFINITY));
        most = KERN_MAX(v, most);
        nan |= v != v;
    }
    return any_lane(nan) ? NAN : max_lanes(most);
}

static float soften(float *x, size_t n, float scale, float *ret_max)
{
    float max = scale_and_find_largest(x, n, scale);
    vec sum = {};
    size_t i = 0;

    *ret_max = max;
    if (max == -INFINITY) {
        memset(x, 0, n * sizeof(*x));
        return 0;
    }
    for (; i + LANES <= n; i += LANES) {
        vec e = exp_vec(load(x + i) - max);

        store(x + i, e);
        sum += e;
    }
    if (i < n) {
        vec e = exp_vec(load_part(x + i, n - i) - max);

        store_part(x + i, e, n - i);
        sum += choose(first_lanes(n - i), e, (vec){});
    }
    return sum_lanes(sum);
}

static void merge(float *y, float a, const float *x, float b, size_t n)
{
    size_t i = 0;

    for (; i + LANES <= n; i += LANES)
        store(y + i, load(y + i) * a + load(x + i) * b);
    if (i < n)
        store_part(y + i, load_part(y + i, n - i) * a + load_part(x + i, n - i) * b, n - i);
}

static void softmax(float *x, size_t n)
{
    float max, sum = soften(x, n, 1.0f, &max);
    vec by = splat(sum);
    size_t i = 0;

    if (max == -INFINITY)
        return;
    for (; i + LANES <= n; i += LANES)
        store(x + i, load(x + i) / by);
    for (; i < n; i++)
        x[i] /= sum;
}

static void rope(const float *x, size_t n_rot, const float *cos, const float *sin,
                 bool interleaved, float *y)
{
    size_t half = n_rot / 2, i = 0;

    if (interleaved) {
        for (; i < n_rot; i += 2) {
            float a = x[i], b = x[i + 1];

            y[i] = a * cos[i] - b * sin[i];
            y[i + 1] = b * cos[i + 1] + a * sin[i + 1];
        }
        return;
    }
    for (; i + LANES <= half; i += LANES) {
        vec a = load(x + i), b = load(x + i + half);

        store(y + i, a * load(cos + i) - b * load(sin + i));
        store(y + i + half, b * load(cos + i + half) + a * load(sin + i + half));
    }
    for (; i < half; i++) {
        float a = x[i], b = x[i + half];

        y[i] = a * cos[i] - b * sin[i];
        y[i + half] = b * cos[i + half] + a * sin[i + half];
    }
}

INLINE void gate_all(enum kernel_unary f, const float *a, const float *b, size_t n, float *y)
{
    size_t i = 0;

    for (; i + LANES <= n; i += LANES)
        store(y + i, unary_vec(f, load(a + i)) * load(b + i));
    if (i < n)
        store_part(y + i, unary_vec(f, load_part(a + i, n - i)) * load_part(b + i, n - i),
                   n - i);
}

static void gate(enum kernel_unary f, const float *a, const float *b, size_t n, float *y)
{
    switch (f) {
    case KERNEL_SILU:
        gate_all(KERNEL_SILU, a, b, n, y);
        break;
    case KERNEL_GELU:
        gate_all(KERNEL_GELU, a, b, n, y);
        break;
    default:
        gate_all(KERNEL_GELU_TANH, a, b, n, y);
    }
}

const struct kernels KERN_NAME = {
    .name = KERN_TEXT,
    .pack = {[PT2_FLOAT32] = rows_as_they_are,
             [PT2_BFLOAT16] = rows_bf16,
             [PT2_FLOAT16] = rows_as_they_are,
             [PT2_INT8] = rows_as_they_are},
    .linear = {[PT2_FLOAT32] = linear_f32,
               [PT2_BFLOAT16] = linear_bf16,
               [PT2_FLOAT16] = linear_f16,
               [PT2_INT8] = linear_i8},
    .mix = {[PT2_FLOAT32] = mix_f32,
            [PT2_BFLOAT16] = mix_bf16,
            [PT2_FLOAT16] = mix_f16,
            [PT2_INT8] = mix_i8},
    .widen = {[PT2_FLOAT32] = widen_all_f32,
              [PT2_BFLOAT16] = widen_all_bf16,
              [PT2_FLOAT16] = widen_all_f16,
              [PT2_INT8] = widen_all_i8},
    .narrow = {[PT2_FLOAT32] = narrow_f32,
               [PT2_BFLOAT16] = narrow_bf16,
               [PT2_FLOAT16] = narrow_f16},
    .narrow_i8 = narrow_i8,
    .unary = unary,
    .binary = binary,
    .rms_norm = rms_norm,
    .layer_norm = layer_norm,
    .softmax = softmax,
    .soften = soften,
    .merge = merge,
    .rope = rope,
    .gate = gate,
    .quantize_rows = quantize_rows,
    .linear_q8 = linear_q8,
    .linear_w = linear_w,
};
