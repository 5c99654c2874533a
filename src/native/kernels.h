/* kernels.h - the inner loops of the native engine: one table of them for each instruction
 * set, chosen at start by the CPU, or by $PT2_ISA.
 *
 * Activations are float32 rows.  Weights are float32, bfloat16 or float16, row-major as they
 * lie in the archive, on any alignment of their element; rows of caches may be int8, too, as
 * whole numbers whose scales are the caller's.  Sums are float32.  "avx512bf16"
 * rounds the rows to bfloat16, as torch does, where they meet weights of bfloat16.
 *
 * What a result is does not depend on how the work was cut: each output element of linear is
 * summed along k in one order that k alone decides, whatever the number of rows or outputs in
 * the call; mix adds positions in their order.  So one row gives bit for bit what it gives
 * among many, on any number of threads.  Between two instruction sets there is rounding.
 *
 * Pure functions on the caller's memory; any thread. */
#ifndef NATIVE_KERNELS_H
#define NATIVE_KERNELS_H

#include <pt2/dtype.h>
#include <pt2/err.h>

#include "base/util.h"
#include "native/quant.h"

/* Rows as linear reads them: floats, or what `pack` of its dtype has made of them. */
struct kernel_rows {
    const uint8_t *at;
    size_t stride; /* bytes from one row to the next */
};

/* n_rows rows of k floats, ldx apart, for linear of that dtype of weights.  Borrows x, or
 * writes to `to`: n_rows * KERNEL_ROW_BYTES(k), 64-aligned. */
typedef struct kernel_rows kernel_pack(const float *x, size_t ldx, size_t n_rows, size_t k,
                                       void *to);
/* Not a multiple of 4096 where k is: rows that lie so fight for the same lines of a cache. */
#define KERNEL_ROW_BYTES(k) (((k) * 2 + 127) / 64 * 64)

/* y[r * ldy + o] = sum over i of x[r][i] * w[o * k + i], for r < n_rows, o < n_out.
 * w: (n_out, k) of the function's dtype, rows k apart.  next: as many bytes that are wanted
 * soon, brought into the second cache meanwhile; NULL: those that follow. */
typedef void kernel_linear(struct kernel_rows x, size_t n_rows, const void *w, size_t k,
                           size_t n_out, float *y, size_t ldy, const void *next);

/* y[r * ldy + d] += sum over j < n of p[r * ldp + j] * v[j * v_stride + d], r < n_rows,
 * d < n_d, in the order of j.  v: rows of n_d elements, v_stride elements apart.  next: as of
 * kernel_linear, rows like those of v; never NULL. */
typedef void kernel_mix(const float *p, size_t ldp, size_t n_rows, const void *v,
                        size_t v_stride, size_t n, size_t n_d, float *y, size_t ldy,
                        const void *next);

/* Elements of a half-precision type as float32, and back, rounded to nearest even. */
typedef void kernel_widen(const void *from, size_t n, float *to);
typedef void kernel_narrow(const float *from, size_t n, void *to);

enum kernel_unary {
    KERNEL_NEG, KERNEL_ABS, KERNEL_SQUARE, KERNEL_SQRT, KERNEL_RSQRT, KERNEL_EXP,
    KERNEL_SILU, KERNEL_SIGMOID, KERNEL_TANH, KERNEL_GELU, /* by erf */
    KERNEL_GELU_TANH, KERNEL_RELU, KERNEL_COS, KERNEL_SIN, KERNEL_LOG, KERNEL_SOFTPLUS,
    KERNEL_EXPM1, KERNEL_POSITIVE, /* 1 where x > 0, else 0 */
    KERNEL_ROUND_BF16, KERNEL_ROUND_F16, /* to that dtype and back */
    KERNEL_N_UNARY
};
enum kernel_binary {
    KERNEL_ADD, KERNEL_SUB, KERNEL_MUL, KERNEL_DIV,
    KERNEL_KEEP, KERNEL_DROP, /* a where b is not 0, where it is; elsewhere 0 */
    KERNEL_MAX, KERNEL_MIN,
    KERNEL_N_BINARY
};

struct kernels {
    const char *name; /* "portable", "avx2", ...: see isa.c */
    /* by dtype: PT2_FLOAT32, PT2_BFLOAT16, PT2_FLOAT16, PT2_INT8 (not narrow); NULL for all
     * others */
    kernel_pack *pack[PT2_N_DTYPES];
    kernel_linear *linear[PT2_N_DTYPES];
    kernel_mix *mix[PT2_N_DTYPES];
    kernel_widen *widen[PT2_N_DTYPES];
    kernel_narrow *narrow[PT2_N_DTYPES];
    /* n floats as whole numbers of -127 to 127 times a scale, the bits of a bfloat16: the
     * smallest of these that is at least the largest magnitude / 127.  Rounded to nearest even
     * of the quotient, the same bits by all instruction sets.  Not finite: the scale is NaN. */
    uint16_t (*narrow_i8)(const float *from, size_t n, int8_t *to);

    /* y[i] = f(x[i]); y may be x */
    void (*unary)(enum kernel_unary f, const float *x, size_t n, float *y);
    /* y[i] = a[i * a_step] f b[i * b_step], steps 0 or 1; y may be a or b */
    void (*binary)(enum kernel_binary f, const float *a, size_t a_step, const float *b,
                   size_t b_step, size_t n, float *y);
    /* y[i] = x[i] * rsqrt(mean of squares + eps) * weight[i]; weight: float32 or NULL (1).
     * With unit_offset 1 + weight[i]. */
    void (*rms_norm)(const float *x, size_t n, float eps, const float *weight,
                     bool unit_offset, float *y);
    /* y[i] = (x[i] - mean) * rsqrt(variance + eps) * weight[i] + bias[i]; either may be NULL */
    void (*layer_norm)(const float *x, size_t n, float eps, const float *weight,
                       const float *bias, float *y);
    /* Softmax in place over n values, -inf where masked; all -inf gives zeros. */
    void (*softmax)(float *x, size_t n);
    /* A part of one: x[i] = e^(x[i] * scale - max), max the largest x[i] * scale.  The sum of
     * these; zeros where max is -inf. */
    float (*soften)(float *x, size_t n, float scale, float *ret_max);
    /* y[i] = y[i] * a + x[i] * b */
    void (*merge)(float *y, float a, const float *x, float b, size_t n);
    /* y = x * cos + rotate(x) * sin over a head of n_rot dimensions, the halves apart
     * (interleaved: the pairs side by side); cos, sin: n_rot values. */
    void (*rope)(const float *x, size_t n_rot, const float *cos, const float *sin,
                 bool interleaved, float *y);
    /* y[i] = silu(a[i]) * b[i], and gelu's two kinds the same way (f: KERNEL_SILU, ...) */
    void (*gate)(enum kernel_unary f, const float *a, const float *b, size_t n, float *y);

    /* n_rows rows of k floats, ldx apart, to whole numbers, each by its own scale and zero
     * point: as torchao's choose_qparams_affine (ASYMMETRIC, int8, -128 .. 127) and
     * quantize_affine for blocks of one row.  eps: the least scale, at least FLT_MIN, which
     * is torchao's where its eps is None.  A row with a number that is not finite, or whose
     * range is not, gets the scale NaN, so that all that comes of it is NaN, as in torch.  to: n_rows * QUANT_ROW_BYTES(k),
     * 64-aligned (quant.h).  All instruction sets give the same bits. */
    void (*quantize_rows)(const float *x, size_t ldx, size_t n_rows, size_t k, float eps,
                          void *to);
    /* y[r * ldy + o - first] = sum over groups g of
     *     x_scale[r] * scale[o][g] * sum over i in g of (x[r][i] - x_zero[r]) * w[o][i]
     * for the outputs o = first .. first + n - 1 of a packed matrix; first: a multiple of
     * QUANT_PANEL.  rows: of quantize_rows, n_rows of them.  The same bits in all
     * instruction sets. */
    void (*linear_q8)(const void *rows, size_t n_rows, const struct quant_shape *shape,
                      const void *packed, uint32_t first, uint32_t n, float *y, size_t ldy);
    /* y[r * ldy + o - first] = sum over i of x[r * ldx + i] * scale[o][group of i] * w[o][i];
     * otherwise as linear_q8. */
    void (*linear_w)(const float *x, size_t ldx, size_t n_rows,
                     const struct quant_shape *shape, const void *packed, uint32_t first,
                     uint32_t n, float *y, size_t ldy);
};

/* The best for this CPU; or the one that $PT2_ISA names.
 * Errors: UNSUPPORTED ($PT2_ISA names none, or one that this CPU lacks; the text lists them). */
MUST_USE int kernels_choose(const struct kernels **ret_kernels, struct pt2_err *err);

/* All that this CPU can run, best first; NULL after the last.  For tests. */
const struct kernels *kernels_at(size_t i);

#endif
