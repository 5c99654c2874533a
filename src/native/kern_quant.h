/* kern_quant.h - weights of whole numbers, packed as quant.h draws it; lanes are outputs.
 * Part of kern_body.h.
 *
 * linear_q8: in each group the products of whole numbers are summed exactly, in whatever
 * order; over the groups their floats are added in order by one fused operation each.  So all
 * instruction sets give the same bits.  With w + offset for w, off by offset * (sum of x),
 * which the sum begins with; and for a zero point, off by zero point * (sum of weights),
 * which each panel holds for the row as a whole.
 *
 * linear_w: along k in four partial sums, number i in that of i % 4, added up by group.
 *
 * What the processor does better than plain C:
 *     KERN_DOT_U8(sum, w, x)  in each lane sum + the four products of w's bytes, without a
 *                             sign, and x's with theirs
 *     KERN_DOT_U4(sum, w, x)  the same where w's bytes are below 16
 *     KERN_FMA(a, b, c)       a * b + c, rounded once
 *     KERN_OF_HALF(v)         in each lane the lowest 4 bits - 8, as a float
 *     QUANT_ROWS, QUANT_PANELS   linear_q8's tile of many rows */
#include "native/quant.h"

#include <float.h>

typedef int16_t words __attribute__((vector_size(LANES * 4), aligned(1), may_alias));
typedef int8_t narrow_bytes __attribute__((vector_size(LANES), aligned(1), may_alias));
typedef int32_t four_bytes __attribute__((may_alias));

#ifndef QUANT_ROWS
#define QUANT_ROWS   2
#define QUANT_PANELS 1
#endif
#ifndef WEIGHT_ROWS
#define WEIGHT_ROWS 2 /* a sum and four parts each, and a weight */
#endif
#define PANEL_VECS (QUANT_PANEL / LANES)
#define STEP_BYTES (QUANT_PANEL * 4)

/* The products of each byte fit 16 bits: 255 * -128. */
#ifndef KERN_DOT_U8
INLINE ivec dot_u8(ivec sum, ivec w, ivec x)
{
    words even = ((words)w & 255) * ((words)x << 8 >> 8);
    words odd = (words)((uvec)w >> 8 & 0x00ff00ff) * ((words)x >> 8);

    return sum + ((ivec)even << 16 >> 16) + ((ivec)even >> 16) + ((ivec)odd << 16 >> 16) +
           ((ivec)odd >> 16);
}
#define KERN_DOT_U8 dot_u8
#endif
#ifndef KERN_DOT_U4
#define KERN_DOT_U4 KERN_DOT_U8
#endif
#ifndef KERN_FMA
INLINE vec fma_lanes(vec a, vec b, vec c)
{
    for (int l = 0; l < LANES; l++)
        c[l] = fmaf(a[l], b[l], c[l]);
    return c;
}
#define KERN_FMA fma_lanes
#endif
#ifndef KERN_OF_HALF
#define KERN_OF_HALF(v) __builtin_convertvector(((ivec)(v) & 15) - 8, vec)
#endif

/* ---- rows to whole numbers ---- */

/* Of the row and of 0; false where a number is not finite. */
INLINE bool find_range(const float *x, size_t k, float *ret_min, float *ret_max)
{
    vec low = {}, high = {};
    ivec odd = {};

    for (size_t i = 0; i < k; i += LANES) {
        vec v = i + LANES <= k ? load(x + i) : load_part(x + i, k - i);

        low = KERN_MIN(v, low);
        high = KERN_MAX(v, high);
        odd |= ((ivec)v & 0x7f800000) == 0x7f800000;
    }
    *ret_min = -max_lanes(-low);
    *ret_max = max_lanes(high);
    return !any_lane(odd);
}

/* To the nearest whole number, of two the even one; |v| at most 2^22. */
INLINE vec round_even(vec v)
{
    return (v + 0x1.8p23f) - 0x1.8p23f;
}

/* As torch: product, rounding and sum are separate operations of floats.  What is beyond
 * +-1024 is beyond 8 bits with any zero point. */
INLINE ivec quantized(vec v, float by, float zero_point)
{
    v = KERN_MIN(KERN_MAX(v * by, splat(-1024)), splat(1024));
    v = round_even(v) + zero_point;
    return __builtin_convertvector(KERN_MIN(KERN_MAX(v, splat(-128)), splat(127)), ivec);
}

INLINE int32_t sum_integers(ivec v)
{
#if LANES >= 16
    v += ACROSS(v, 8);
#endif
#if LANES >= 8
    v += ACROSS(v, 4);
#endif
    v += ACROSS(v, 2);
    v += ACROSS(v, 1);
    return v[0];
}

INLINE void quantize_numbers(const float *x, size_t k, float by, float zero_point, int8_t *to,
                             int32_t *sums)
{
    int32_t sum = 0;
    size_t i = 0;

    for (*sums++ = 0; i < k; i += 32, *sums++ = sum) {
        ivec part = {};

        for (size_t at = i; at < i + 32; at += LANES) {
            ivec q = {};

            if (at + LANES <= k)
                q = quantized(load(x + at), by, zero_point);
            else if (at < k)
                q = first_lanes(k - at) &
                    quantized(load_part(x + at, k - at), by, zero_point);
            *(narrow_bytes *)(to + at) = __builtin_convertvector(q, narrow_bytes);
            part += q;
        }
        sum += sum_integers(part);
    }
    memset(to + i, 0, QUANT_ROW_END(k) - i);
}

INLINE void quantize_row(const float *x, size_t k, float eps, int8_t *to,
                         struct quant_row *row)
{
    float min, max, scale, zero_point;

    if (!find_range(x, k, &min, &max)) {
        memset(to, 0, QUANT_ROW_BYTES(k));
        row->scale = NAN;
        return;
    }
    scale = MAX((max - min) / 255.0f, eps);
    zero_point = -128.0f - rintf(min / scale);
    zero_point = MIN(MAX(zero_point, -128.0f), 127.0f);
    row->scale = scale <= FLT_MAX ? scale : NAN; /* what meets it is 0: times infinity, NaN */
    row->zero_point = (int32_t)zero_point;
    quantize_numbers(x, k, 1.0f / scale, zero_point, to, row->sums);
}

static void quantize_rows(const float *x, size_t ldx, size_t n_rows, size_t k, float eps,
                          void *to)
{
    uint8_t *at = to;

    for (size_t r = 0; r < n_rows; r++, x += ldx, at += QUANT_ROW_BYTES(k))
        quantize_row(x, k, eps, (int8_t *)at, quant_row_at(at, k));
}

/* ---- quantised rows by packed weights ---- */

struct quant_rows {
    const uint8_t *at;
    size_t k, stride; /* bytes */
};

INLINE const struct quant_row *row_end(struct quant_rows x, int r)
{
    return (const void *)(x.at + (size_t)r * x.stride + QUANT_ROW_END(x.k));
}

INLINE ivec four_numbers(const uint8_t *p)
{
    return *(const four_bytes *)(const void *)p - (ivec){};
}

/* rows x panels outputs; bits, rows and panels are constants where it is called.  n: outputs
 * of these panels that there are. */
INLINE void quant_tile(unsigned bits, int rows, int panels, const struct quant_shape *shape,
                       struct quant_rows x, const uint8_t *w, float *y, size_t ldy, size_t n)
{
    size_t panel_bytes = quant_panel_bytes(shape), per_step = bits == 4 ? 8 : 4;
    size_t n_steps = ((size_t)shape->group + per_step - 1) / per_step;
    int vecs = panels * PANEL_VECS;
    vec sums[QUANT_ROWS * QUANT_PANELS * PANEL_VECS];
    ivec dots[QUANT_ROWS * QUANT_PANELS * PANEL_VECS];
    const uint8_t *group = w + 64, *numbers = x.at;

    UNROLL for (int t = 0; t < rows * vecs; t++)
        sums[t] = (vec){};
    for (size_t from = 0; from < shape->k; from += shape->group) {
        UNROLL for (int r = 0; r < rows; r++) {
            const int32_t *before = row_end(x, r)->sums + from / 32;
            int32_t sum = before[(shape->group + 31) / 32] - before[0];

            UNROLL for (int v = 0; v < vecs; v++)
                dots[r * vecs + v] = -(bits == 4 ? 8 : 128) * sum - (ivec){};
        }
        for (size_t s = 0; s < n_steps; s++, numbers += per_step) {
            UNROLL for (int v = 0; v < vecs; v++) {
                size_t at = (size_t)(v / PANEL_VECS) * panel_bytes + 64 + s * STEP_BYTES +
                            (size_t)(v % PANEL_VECS) * LANES * 4;
                ivec step = *(const ivec *)(group + at);

                if (rows > 1 && at % 64 == 0) /* the panels after these */
                    __builtin_prefetch(group + at + (size_t)panels * panel_bytes, 0, 2);
                UNROLL for (int r = 0; r < rows; r++) {
                    const uint8_t *four = numbers + (size_t)r * x.stride;
                    ivec dot = dots[r * vecs + v];

                    if (bits == 4) {
                        dot = KERN_DOT_U4(dot, step & 0x0f0f0f0f, four_numbers(four));
                        dot = KERN_DOT_U4(dot, (ivec)((uvec)step >> 4 & 0x0f0f0f0f),
                                          four_numbers(four + 4));
                    } else {
                        dot = KERN_DOT_U8(dot, step, four_numbers(four));
                    }
                    dots[r * vecs + v] = dot;
                }
            }
        }
        UNROLL for (int v = 0; v < vecs; v++) {
            vec scale = load((const float *)(group + (size_t)(v / PANEL_VECS) * panel_bytes) +
                             v % PANEL_VECS * LANES);

            UNROLL for (int r = 0; r < rows; r++)
                sums[r * vecs + v] =
                    KERN_FMA(__builtin_convertvector(dots[r * vecs + v], vec), scale,
                             sums[r * vecs + v]);
        }
        group += quant_group_bytes(shape);
    }
    UNROLL for (int r = 0; r < rows; r++) {
        const struct quant_row *end = row_end(x, r);

        UNROLL for (int v = 0; v < vecs; v++) {
            size_t o = (size_t)v * LANES;
            vec of_weights = load((const float *)(w + (size_t)(v / PANEL_VECS) * panel_bytes) +
                                  v % PANEL_VECS * LANES);
            vec sum = KERN_FMA(splat((float)-end->zero_point), of_weights, sums[r * vecs + v]);

            sum *= end->scale;
            if (o + LANES <= n)
                store(y + (size_t)r * ldy + o, sum);
            else if (o < n)
                store_part(y + (size_t)r * ldy + o, sum, n - o);
        }
    }
}

/* All rows, for that many panels. */
INLINE void quant_tiles(unsigned bits, int panels, const struct quant_shape *shape,
                        struct quant_rows x, size_t n_rows, const uint8_t *w, float *y,
                        size_t ldy, size_t n)
{
    for (; n_rows >= QUANT_ROWS; n_rows -= QUANT_ROWS) {
        quant_tile(bits, QUANT_ROWS, panels, shape, x, w, y, ldy, n);
        x.at += QUANT_ROWS * x.stride;
        y += QUANT_ROWS * ldy;
    }
    switch (n_rows) { /* fewer than QUANT_ROWS */
#define CASE(rows)                                                                        \
    case rows:                                                                            \
        quant_tile(bits, MIN(rows, QUANT_ROWS), panels, shape, x, w, y, ldy, n);          \
        break;
        CASE(1)
        CASE(2)
        CASE(3)
        CASE(4)
        CASE(5)
#undef CASE
    }
}

/* A block of rows that the second cache holds meets all panels. */
INLINE void linear_q(unsigned bits, const struct quant_shape *shape, struct quant_rows x,
                     size_t n_rows, const uint8_t *w, size_t n, float *y, size_t ldy)
{
    size_t panel_bytes = quant_panel_bytes(shape);
    size_t most = MAX(ROWS_BYTES / x.stride / QUANT_ROWS, 1) * QUANT_ROWS;

    for (size_t r = 0; r < n_rows; r += most, x.at += most * x.stride) {
        size_t rows = MIN(most, n_rows - r), o = 0;

        for (; n_rows > 1 && o + (QUANT_PANELS - 1) * QUANT_PANEL < n;
             o += QUANT_PANELS * QUANT_PANEL)
            quant_tiles(bits, QUANT_PANELS, shape, x, rows,
                        w + o / QUANT_PANEL * panel_bytes, y + r * ldy + o, ldy, n - o);
        for (; o < n; o += QUANT_PANEL)
            quant_tiles(bits, 1, shape, x, rows, w + o / QUANT_PANEL * panel_bytes,
                        y + r * ldy + o, ldy, n - o);
    }
}

static void linear_q8(const void *rows, size_t n_rows, const struct quant_shape *shape,
                      const void *packed, uint32_t first, uint32_t n, float *y, size_t ldy)
{
    struct quant_rows x = {rows, shape->k, QUANT_ROW_BYTES(shape->k)};
    const uint8_t *w = packed;

    w += first / QUANT_PANEL * quant_panel_bytes(shape);
    if (shape->bits == 4)
        linear_q(4, shape, x, n_rows, w, n, y, ldy);
    else
        linear_q(8, shape, x, n_rows, w, n, y, ldy);
}

/* ---- rows of floats by packed weights ---- */

/* A step's numbers of each row, by those of one vector of outputs. */
INLINE void add_step(unsigned bits, int rows, const float *x, size_t ldx, ivec step,
                     vec *sums)
{
    int n = bits == 4 ? 8 : 4;

    UNROLL for (int i = 0; i < n; i++) {
        vec w = bits == 4 ? KERN_OF_HALF((uvec)step >> (8 * (i % 4) + i / 4 * 4))
                          : __builtin_convertvector(
                                (ivec)((uvec)step << (24 - 8 * i)) >> 24, vec);

        UNROLL for (int r = 0; r < rows; r++)
            sums[r * 4 + i % 4] += x[(size_t)r * ldx + (size_t)i] * w;
    }
}

/* rows x LANES outputs; bits and rows are constants where it is called.  w: these lanes of
 * the panel.  n: outputs of these that there are. */
INLINE void weight_tile(unsigned bits, int rows, const struct quant_shape *shape,
                        const float *x, size_t ldx, const uint8_t *w, float *y, size_t ldy,
                        size_t n)
{
    size_t per_step = bits == 4 ? 8 : 4, panel_bytes = quant_panel_bytes(shape);
    uint32_t sign = bits == 4 ? 0 : 0x80808080;
    const uint8_t *at = w + STEP_BYTES;
    vec sums[WEIGHT_ROWS];

    UNROLL for (int r = 0; r < rows; r++)
        sums[r] = (vec){};
    for (size_t from = 0; from < shape->k; from += shape->group) {
        vec scale = load((const float *)(const void *)at), parts[WEIGHT_ROWS * 4];
        size_t i = 0;

        UNROLL for (int t = 0; t < rows * 4; t++)
            parts[t] = (vec){};
        at += STEP_BYTES;
        for (; i + per_step <= shape->group; i += per_step, at += STEP_BYTES) {
            if (rows > 1) /* the panel after this one */
                __builtin_prefetch(at + panel_bytes, 0, 2);
            add_step(bits, rows, x + from + i, ldx, *(const ivec *)at ^ (ivec)(sign - (uvec){}),
                     parts);
        }
        if (i < shape->group) {
            float rest[WEIGHT_ROWS * 8] = {0};

            for (int r = 0; r < rows; r++)
                memcpy(rest + r * 8, x + (size_t)r * ldx + from + i,
                       (shape->group - i) * sizeof(*x));
            add_step(bits, rows, rest, 8, *(const ivec *)at ^ (ivec)(sign - (uvec){}), parts);
            at += STEP_BYTES;
        }
        UNROLL for (int r = 0; r < rows; r++)
            sums[r] += (parts[r * 4] + parts[r * 4 + 1] +
                        (parts[r * 4 + 2] + parts[r * 4 + 3])) *
                       scale;
    }
    for (int r = 0; r < rows; r++)
        if (n >= LANES)
            store(y + (size_t)r * ldy, sums[r]);
        else
            store_part(y + (size_t)r * ldy, sums[r], n);
}

INLINE void linear_of_weights(unsigned bits, const struct quant_shape *shape, const float *x,
                              size_t ldx, size_t n_rows, const uint8_t *w, size_t n, float *y,
                              size_t ldy)
{
    size_t most = MAX(ROWS_BYTES / (shape->k * sizeof(*x)) / WEIGHT_ROWS, 1) * WEIGHT_ROWS;

    for (size_t from = 0; from < n_rows; from += most)
        for (size_t o = 0; o < n; o += LANES) {
            const uint8_t *at = w + o / QUANT_PANEL * quant_panel_bytes(shape) +
                                o % QUANT_PANEL * 4;
            size_t r = from, end = MIN(n_rows, from + most);

            for (; r + WEIGHT_ROWS <= end; r += WEIGHT_ROWS)
                weight_tile(bits, WEIGHT_ROWS, shape, x + r * ldx, ldx, at, y + r * ldy + o,
                            ldy, n - o);
            for (; r < end; r++)
                weight_tile(bits, 1, shape, x + r * ldx, ldx, at, y + r * ldy + o, ldy, n - o);
        }
}

static void linear_w(const float *x, size_t ldx, size_t n_rows,
                     const struct quant_shape *shape, const void *packed, uint32_t first,
                     uint32_t n, float *y, size_t ldy)
{
    const uint8_t *w = packed;

    w += first / QUANT_PANEL * quant_panel_bytes(shape);
    if (shape->bits == 4)
        linear_of_weights(4, shape, x, ldx, n_rows, w, n, y, ldy);
    else
        linear_of_weights(8, shape, x, ldx, n_rows, w, n, y, ldy);
}
