/* kern_linear.h - rows by weights: tiles of rows x outputs, lanes along k.
 * Part of kern_body.h.
 *
 * Sums along k run in LANES partial sums, lane l over the elements i with i % LANES == l, in
 * order (by KERN_DOT_BF16: over pairs of them), and are then added up by halves: that order is
 * the same in each tile, for one row and for many.
 *
 * Each panel of OUTS outputs' weights meets as many rows as the second cache holds, while the
 * panel after the next is on its way from memory.  One row goes through weights that lie in a
 * row as fast as the processor fetches by itself. */

#define ROWS_BYTES 300000 /* of x, that stay in the second cache */
#define AHEAD      2      /* panels */

/* Elements of k that a vector holds. */
INLINE size_t step_of(enum kern_weights kind)
{
    return kind == WEIGHTS_DOT ? 2 * LANES : LANES;
}

INLINE vec add_product(enum kern_weights kind, vec sum, vec x, vec weight)
{
#ifdef KERN_DOT_BF16
    if (kind == WEIGHTS_DOT)
        return KERN_DOT_BF16(sum, x, weight);
#endif
    (void)kind;
    return sum + x * weight;
}

INLINE struct kernel_rows row_at(struct kernel_rows x, size_t r)
{
    return (struct kernel_rows){x.at + r * x.stride, x.stride};
}

#define TILE_SUMS (MAX(ROWS * OUTS, WIDE_OUTS) + LANES)

/* rows x outs sums over the whole of k; kind, rows and outs are constants where it is called,
 * so that the sums lie in registers.  Fetches n_next outputs' weights at next. */
INLINE void tile(enum kern_weights kind, int rows, int outs, struct kernel_rows x,
                 const uint8_t *w, const uint8_t *next, int n_next, size_t k, float *y,
                 size_t ldy)
{
    size_t size = weight_size(kind), step = step_of(kind), i = 0;
    size_t x_size = kind == WEIGHTS_DOT ? 2 : 4;
    vec sums[TILE_SUMS], xs[ROWS];
    float each[TILE_SUMS];

    UNROLL for (int t = 0; t < rows * outs; t++)
        sums[t] = (vec){};
    for (; i + step <= k; i += step) {
        UNROLL for (int r = 0; r < rows; r++)
            xs[r] = load((const float *)(x.at + (size_t)r * x.stride + i * x_size));
        UNROLL for (int o = 0; o < outs; o++) {
            const uint8_t *at = w + ((size_t)o * k + i) * size;
            vec weight = widen(kind, at);

            if (o < n_next) /* into the second cache */
                __builtin_prefetch(next + ((size_t)o * k + i) * size, 0, 2);
            UNROLL for (int r = 0; r < rows; r++)
                sums[r * outs + o] = add_product(kind, sums[r * outs + o], xs[r], weight);
        }
    }
    if (i < k) {
        UNROLL for (int r = 0; r < rows; r++)
            xs[r] = widen_part(kind == WEIGHTS_DOT ? kind : WEIGHTS_F32,
                               x.at + (size_t)r * x.stride + i * x_size, k - i);
        UNROLL for (int o = 0; o < outs; o++) {
            vec weight = widen_part(kind, w + ((size_t)o * k + i) * size, k - i);

            UNROLL for (int r = 0; r < rows; r++)
                sums[r * outs + o] = add_product(kind, sums[r * outs + o], xs[r], weight);
        }
    }
    UNROLL for (int t = rows * outs; t % LANES; t++)
        sums[t] = (vec){};
    UNROLL for (int t = 0; t < rows * outs; t += LANES)
        store(each + t, sum_each(sums + t));
    UNROLL for (int t = 0; t < rows * outs; t++)
        y[(size_t)(t / outs) * ldy + (size_t)(t % outs)] = each[t];
}

/* All rows, for outs outputs. */
INLINE void tile_rows(enum kern_weights kind, int outs, struct kernel_rows x, size_t n_rows,
                      const uint8_t *w, const uint8_t *next, size_t k, float *y, size_t ldy)
{
    size_t stride = k * weight_size(kind);

    if (n_rows < OUTS * ROWS) {
        for (; n_rows >= ROWS; n_rows -= ROWS) {
            tile(kind, ROWS, outs, x, w, next, outs, k, y, ldy);
            x.at += ROWS * x.stride;
            y += ROWS * ldy;
        }
    } else {
        for (size_t t = 0; n_rows >= ROWS; n_rows -= ROWS, t++) {
            tile(kind, ROWS, outs, x, w, next + t % OUTS * stride, 1, k, y, ldy);
            x.at += ROWS * x.stride;
            y += ROWS * ldy;
        }
    }
    switch (n_rows) { /* fewer than ROWS */
    case 3:
        tile(kind, MIN(3, ROWS), outs, x, w, next, outs, k, y, ldy);
        break;
    case 2:
        tile(kind, MIN(2, ROWS), outs, x, w, next, outs, k, y, ldy);
        break;
    case 1:
        tile(kind, 1, outs, x, w, next, outs, k, y, ldy);
    }
}

/* Rows that fit the second cache. */
INLINE void block(enum kern_weights kind, struct kernel_rows x, size_t n_rows,
                  const uint8_t *w, size_t k, size_t n_out, float *y, size_t ldy,
                  const uint8_t *next)
{
    size_t stride = k * weight_size(kind), o = 0;

    for (; o + OUTS <= n_out; o += OUTS)
        tile_rows(kind, OUTS, x, n_rows, w + o * stride,
                  next ? next + o * stride : w + (o + AHEAD * OUTS) * stride, k, y + o, ldy);
    for (; o < n_out; o++)
        tile_rows(kind, 1, x, n_rows, w + o * stride,
                  next ? next + o * stride : w + (o + AHEAD) * stride, k, y + o, ldy);
}

INLINE void linear(enum kern_weights kind, struct kernel_rows x, size_t n_rows,
                   const uint8_t *w, size_t k, size_t n_out, float *y, size_t ldy,
                   const uint8_t *next)
{
    size_t stride = k * weight_size(kind), o = 0;
    size_t most = MAX(ROWS_BYTES / MAX(x.stride, 64) / ROWS, 1) * ROWS; /* one row: any stride */

    for (; n_rows == 1 && o + WIDE_OUTS <= n_out; o += WIDE_OUTS)
        if (next)
            tile(kind, 1, WIDE_OUTS, x, w + o * stride, next + o * stride, WIDE_OUTS, k, y + o,
                 ldy);
        else
            tile(kind, 1, WIDE_OUTS, x, w + o * stride, w, 0, k, y + o, ldy);
    for (size_t r = 0; r < n_rows; r += most)
        block(kind, row_at(x, r), MIN(most, n_rows - r), w + o * stride, k, n_out - o,
              y + r * ldy + o, ldy, next ? next + o * stride : NULL);
}

#define DEFINE_LINEAR(name, kind)                                                         \
    static void name(struct kernel_rows x, size_t n_rows, const void *w, size_t k,        \
                     size_t n_out, float *y, size_t ldy, const void *next)                \
    {                                                                                     \
        linear(kind, x, n_rows, w, k, n_out, y, ldy, next);                               \
    }
DEFINE_LINEAR(linear_f32, WEIGHTS_F32)
DEFINE_LINEAR(linear_f16, WEIGHTS_F16)
DEFINE_LINEAR(linear_i8, WEIGHTS_I8)
#ifdef KERN_DOT_BF16
DEFINE_LINEAR(linear_bf16, WEIGHTS_DOT)
#else
DEFINE_LINEAR(linear_bf16, WEIGHTS_BF16)
#endif

/* ---- rows as linear reads them ---- */

static struct kernel_rows rows_as_they_are(const float *x, size_t ldx, size_t n_rows, size_t k,
                                           void *scratch)
{
    (void)n_rows, (void)k, (void)scratch;
    return (struct kernel_rows){(const uint8_t *)x, ldx * sizeof(float)};
}

#ifdef KERN_DOT_BF16
static struct kernel_rows rows_for_dot(const float *x, size_t ldx, size_t n_rows, size_t k,
                                       void *scratch)
{
    struct kernel_rows rows = {scratch, KERNEL_ROW_BYTES(k)};

    for (size_t r = 0; r < n_rows; r++)
        narrow_bf16(x + r * ldx, k, (uint8_t *)scratch + r * rows.stride);
    return rows;
}
#define rows_bf16 rows_for_dot
#else
#define rows_bf16 rows_as_they_are
#endif
