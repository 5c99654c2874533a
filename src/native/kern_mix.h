/* kern_mix.h - values by probabilities: tiles of rows x vectors of dimensions, each element
 * summed in the order of positions.  Part of kern_body.h. */

/* rows by vecs vectors; kind, rows, vecs are constants where it is called.  Of the last
 * vector there are `lanes` lanes. */
INLINE void mix_tile(enum kern_weights kind, int rows, int vecs, size_t lanes, const float *p,
                     size_t ldp, const uint8_t *v, const uint8_t *next, size_t v_stride,
                     size_t n, float *y, size_t ldy)
{
    size_t size = weight_size(kind);
    vec sums[ROWS * OUTS];

    UNROLL for (int t = 0; t < rows * vecs; t++)
    {
        const float *at = y + (size_t)(t / vecs) * ldy + (size_t)(t % vecs) * LANES;

        sums[t] = lanes == LANES ? load(at) : load_part(at, lanes);
    }
    for (size_t j = 0; j < n; j++) {
        UNROLL for (int d = 0; d < vecs; d++) {
            size_t offset = (j * v_stride + (size_t)d * LANES) * size;
            const uint8_t *at = v + offset;
            vec value = lanes == LANES ? widen(kind, at) : widen_part(kind, at, lanes);

            if ((size_t)d * LANES * size % 64 == 0) /* a line */
                __builtin_prefetch(next + offset, 0, 2);
            UNROLL for (int r = 0; r < rows; r++)
                sums[r * vecs + d] += splat(p[(size_t)r * ldp + j]) * value;
        }
    }
    UNROLL for (int t = 0; t < rows * vecs; t++) {
        float *at = y + (size_t)(t / vecs) * ldy + (size_t)(t % vecs) * LANES;

        if (lanes == LANES)
            store(at, sums[t]);
        else
            store_part(at, sums[t], lanes);
    }
}

INLINE void mix_rows(enum kern_weights kind, int vecs, size_t lanes, const float *p, size_t ldp,
                     size_t n_rows, const uint8_t *v, const uint8_t *next, size_t v_stride,
                     size_t n, float *y, size_t ldy)
{
    for (; n_rows >= ROWS; n_rows -= ROWS) {
        mix_tile(kind, ROWS, vecs, lanes, p, ldp, v, next, v_stride, n, y, ldy);
        p += ROWS * ldp;
        y += ROWS * ldy;
    }
    switch (n_rows) { /* fewer than ROWS */
    case 3:
        mix_tile(kind, MIN(3, ROWS), vecs, lanes, p, ldp, v, next, v_stride, n, y, ldy);
        break;
    case 2:
        mix_tile(kind, MIN(2, ROWS), vecs, lanes, p, ldp, v, next, v_stride, n, y, ldy);
        break;
    case 1:
        mix_tile(kind, 1, vecs, lanes, p, ldp, v, next, v_stride, n, y, ldy);
    }
}

INLINE void mix(enum kern_weights kind, const float *p, size_t ldp, size_t n_rows,
                const uint8_t *v, size_t v_stride, size_t n, size_t n_d, float *y, size_t ldy,
                const uint8_t *next)
{
    size_t size = weight_size(kind), d = 0;

    for (; d + OUTS * LANES <= n_d; d += OUTS * LANES)
        mix_rows(kind, OUTS, LANES, p, ldp, n_rows, v + d * size, next + d * size,
                 v_stride, n, y + d, ldy);
    for (; d + LANES <= n_d; d += LANES)
        mix_rows(kind, 1, LANES, p, ldp, n_rows, v + d * size, next + d * size,
                 v_stride, n, y + d, ldy);
    if (d < n_d)
        mix_rows(kind, 1, n_d - d, p, ldp, n_rows, v + d * size, next + d * size,
                 v_stride, n, y + d, ldy);
}

#define DEFINE_MIX(name, kind)                                                            \
    static void name(const float *p, size_t ldp, size_t n_rows, const void *v,            \
                     size_t v_stride, size_t n, size_t n_d, float *y, size_t ldy,         \
                     const void *next)                                                    \
    {                                                                                     \
        mix(kind, p, ldp, n_rows, v, v_stride, n, n_d, y, ldy, next);                     \
    }
DEFINE_MIX(mix_f32, WEIGHTS_F32)
DEFINE_MIX(mix_bf16, WEIGHTS_BF16)
DEFINE_MIX(mix_f16, WEIGHTS_F16)
DEFINE_MIX(mix_i8, WEIGHTS_I8)
