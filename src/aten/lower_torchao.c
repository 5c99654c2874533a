/* torchao's ops of quantised programs, which it defines in Python (quantization/
 * quant_primitives.py, 0.18) and no libtorch has: each spelled in the aten ops that it is
 * in eager, in their order and in their dtypes, so that the numbers are the same bit for
 * bit.
 *
 * A block is what shares a scale and a zero point.  Sizes that a block cuts are seen as
 * two, how many blocks and how long one is; the scales have 1 in place of what is in a
 * block:
 *
 *     data (N, K), block_size (1, g)      seen as (N, K / g, g), scales as (N, K / g, 1)
 *
 * Nothing that a run dequantises is kept for the next: it would take four times the
 * program's own memory.  What a run needs beside the result is a slice. */
#include "aten/lower.h"

#include <float.h>

/* Bytes of a result that are worked on at a time: they stay in the second cache. */
#define SLICE_BYTES (INT64_C(1) << 20)

/* Places of the arguments that differ between the three. */
enum { CHOOSE_BLOCKS = 2, CHOOSE_LIMITS = 4, QUANT_BLOCKS = 1, QUANT_LIMITS = 5 };

struct blocks {
    struct bridge_value seen[BRIDGE_MAX_DIMS], scales[BRIDGE_MAX_DIMS]; /* sizes */
    struct bridge_value reduced[BRIDGE_MAX_DIMS]; /* the dimensions within a block */
    struct bridge_value counts[BRIDGE_MAX_DIMS];  /* blocks along each size of the data */
    unsigned n, n_reduced;
};

static int add_size(struct blocks *b, int64_t size, bool is_in_block, struct pt2_err *err)
{
    if (b->n == BRIDGE_MAX_DIMS)
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED, "blocks of more than %d sizes",
                           BRIDGE_MAX_DIMS);
    b->seen[b->n] = INT(size);
    b->scales[b->n] = INT(is_in_block ? 1 : size);
    if (is_in_block)
        b->reduced[b->n_reduced++] = INT(b->n);
    b->n++;
    return 0;
}

/* torchao's _get_reduction_params. */
static int blocks_init(const struct bridge_tensor *x, const struct bridge_value *sizes,
                       struct blocks *b, struct pt2_err *err)
{
    unsigned n = bridge_tensor_n_dims(x);

    *b = (struct blocks){.n = 0};
    if (sizes->kind != BRIDGE_LIST || sizes->list.n != n || n == 0)
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED,
                           "block_size of %zu sizes for a tensor of %u",
                           sizes->kind == BRIDGE_LIST ? sizes->list.n : 1, n);
    for (unsigned i = 0; i < n; i++) {
        const struct bridge_value *item = &sizes->list.items[i];
        int64_t size = bridge_tensor_size(x, i),
                block = item->kind == BRIDGE_INT ? item->i : 0;

        if (block < 1 || size < 1 || size % block != 0)
            return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED,
                               "block_size %u is %lld, the tensor's size %lld", i,
                               (long long)block, (long long)size);
        b->counts[i] = INT(size / block);
        if (block != size && block != 1 && add_size(b, size / block, false, err) < 0)
            return -1;
        if (add_size(b, block == 1 ? size : block, block != 1, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- single steps ---- */

static bool is_real(enum pt2_dtype dtype)
{
    return dtype == PT2_FLOAT32 || lower_is_half(dtype);
}

/* As torch promotes two tensors of these. */
static enum pt2_dtype promoted(enum pt2_dtype a, enum pt2_dtype b)
{
    return a == b ? a : PT2_FLOAT32;
}

static int to_dtype(struct bridge_tensor **t, enum pt2_dtype dtype, struct pt2_err *err)
{
    if (bridge_tensor_dtype(*t) == dtype)
        return 0;
    return CALL(t, err, "aten::_to_copy", "", TENSOR(*t), DTYPE(dtype));
}

/* x = op(x, other), in x's dtype: a libtorch without kernels for half precision computes
 * it in float32 and rounds, as later kernels do inside. */
static int step(struct bridge_tensor **x, struct pt2_err *err, const char *name,
                const char *overload, struct bridge_value other)
{
    enum pt2_dtype dtype = bridge_tensor_dtype(*x);
    struct bridge_value args[OP_MAX_ARGS] = {{0}, other};
    AUTO(bridge_tensor) wide = NULL;

    if (lower_lacks_half()) {
        if (lower_widen(*x, x, err) < 0)
            return -1;
        if (other.kind == BRIDGE_TENSOR) {
            if (lower_widen(other.t, &wide, err) < 0)
                return -1;
            args[1].t = wide;
        }
    }
    args[0] = TENSOR(*x);
    if (lower_op(x, err, name, overload, args) < 0)
        return -1;
    return to_dtype(x, dtype, err);
}

#define STEP(x, err, name, overload, ...)                                                \
    step(x, err, name, overload, (struct bridge_value){__VA_ARGS__})
#define STEP_TENSOR(x, err, name, t_)                                                    \
    STEP(x, err, name, "Tensor", .kind = BRIDGE_TENSOR, .t = t_)
#define STEP_FLOAT(x, err, name, overload, f_)                                           \
    STEP(x, err, name, overload, .kind = BRIDGE_FLOAT, .f = f_)

/* x times scale: in the dtype that torch promotes them to. */
static int times(struct bridge_tensor **x, struct bridge_tensor *scale,
                 struct pt2_err *err)
{
    enum pt2_dtype dtype = promoted(bridge_tensor_dtype(*x), bridge_tensor_dtype(scale));

    if (to_dtype(x, dtype, err) < 0)
        return -1;
    return STEP_TENSOR(x, err, "aten::mul", scale);
}

/* Between two numbers (or one of them NONE).  The same in any dtype that holds them. */
static int clamp(struct bridge_tensor **x, struct bridge_value min,
                 struct bridge_value max, struct pt2_err *err)
{
    enum pt2_dtype dtype = bridge_tensor_dtype(*x);

    if (lower_lacks_half() && lower_widen(*x, x, err) < 0)
        return -1;
    if (CALL(x, err, "aten::clamp", "", TENSOR(*x), min, max) < 0)
        return -1;
    return to_dtype(x, dtype, err);
}

/* ---- quant_min, quant_max ---- */

struct limits {
    double min, max; /* whole numbers of 32 bits fit */
};

static double number_or(const struct bridge_value *v, double other)
{
    return v->kind == BRIDGE_FLOAT ? v->f : v->kind == BRIDGE_INT ? (double)v->i : other;
}

/* args: quant_min, quant_max; what is not given is the dtype's.  ops_torchao.c has seen
 * to it that they lie in it. */
static struct limits limits_of(const struct bridge_value *args, enum pt2_dtype dtype)
{
    struct limits all = {0, 0};

    op_torchao_limits(dtype, &all.min, &all.max);
    return (struct limits){number_or(&args[0], all.min), number_or(&args[1], all.max)};
}

/* ---- scales and zero points ---- */

/* The scales, or zero points, in the blocks' shape. */
static int scales_view(const struct bridge_value *arg, const char *name,
                       const struct blocks *b, struct bridge_tensor **ret,
                       struct pt2_err *err)
{
    if (arg->kind != BRIDGE_TENSOR)
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED, "%s is no tensor", name);
    if (CALL(ret, err, "aten::view", "", *arg,
             INTS((struct bridge_value *)b->scales, b->n)) < 0)
        return pt2_err_prefix(err, "%s", name);
    return 0;
}

static int check_real(const struct bridge_value *x, const char *name, struct pt2_err *err)
{
    if (x->kind == BRIDGE_TENSOR && is_real(bridge_tensor_dtype(x->t)))
        return 0;
    return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED,
                       "%s is no tensor of float32, float16 or bfloat16", name);
}

/* ---- choose_qparams_affine ---- */

/* The least and the largest of each block, and 0 among them. */
static int extremes(const struct call *call, const struct blocks *b, bool keeps,
                    struct bridge_tensor **ret_min, struct bridge_tensor **ret_max,
                    struct pt2_err *err)
{
    AUTO(bridge_tensor) x = NULL;
    AUTO(bridge_tensor) zeros = NULL;
    struct bridge_value dims = INTS((struct bridge_value *)b->reduced, b->n_reduced);

    if (CALL(&x, err, "aten::view", "", call->args[0],
             INTS((struct bridge_value *)b->seen, b->n)) < 0)
        return -1;
    /* exact in any dtype: wide where the kernels of half precision may lack */
    if (lower_lacks_half() && lower_widen(x, &x, err) < 0)
        return -1;
    if (CALL(ret_min, err, "aten::amin", "", TENSOR(x), dims, BOOL(keeps)) < 0 ||
        CALL(ret_max, err, "aten::amax", "", TENSOR(x), dims, BOOL(keeps)) < 0 ||
        CALL(&zeros, err, "aten::zeros_like", "", TENSOR(*ret_min)) < 0 ||
        CALL(ret_min, err, "aten::minimum", "", TENSOR(*ret_min), TENSOR(zeros)) < 0 ||
        CALL(ret_max, err, "aten::maximum", "", TENSOR(*ret_max), TENSOR(zeros)) < 0)
        return -1;
    if (to_dtype(ret_min, bridge_tensor_dtype(call->args[0].t), err) < 0)
        return -1;
    return to_dtype(ret_max, bridge_tensor_dtype(call->args[0].t), err);
}

/* scale = (max - min) / (quant_max - quant_min)
 * zero point = quant_min - round(min / scale) */
static int asymmetric(struct bridge_tensor *min, struct bridge_tensor *max, double eps,
                      struct limits limits, struct bridge_tensor **ret_scale,
                      struct bridge_tensor **ret_zero, struct pt2_err *err)
{
    AUTO(bridge_tensor) scale = bridge_tensor_ref(max);
    AUTO(bridge_tensor) zero = bridge_tensor_ref(min);

    if (STEP_TENSOR(&scale, err, "aten::sub", min) < 0 ||
        STEP_FLOAT(&scale, err, "aten::div", "Tensor", limits.max - limits.min) < 0 ||
        clamp(&scale, FLOAT(eps), (struct bridge_value){.kind = BRIDGE_NONE}, err) < 0 ||
        STEP_TENSOR(&zero, err, "aten::div", scale) < 0 ||
        STEP(&zero, err, "aten::round", "", .kind = BRIDGE_DEFAULT) < 0 ||
        STEP_FLOAT(&zero, err, "aten::rsub", "Scalar", limits.min) < 0 ||
        clamp(&zero, FLOAT(limits.min), FLOAT(limits.max), err) < 0)
        return -1;
    *ret_scale = TAKE(scale);
    *ret_zero = TAKE(zero);
    return 0;
}

/* The larger of min / quant_min and max / quant_max. */
static int unclipped(struct bridge_tensor *min, struct bridge_tensor *max,
                     struct limits limits, struct bridge_tensor **ret,
                     struct pt2_err *err)
{
    AUTO(bridge_tensor) low = bridge_tensor_ref(min);
    AUTO(bridge_tensor) high = bridge_tensor_ref(max);
    AUTO(bridge_tensor) mask = NULL;

    if (STEP_FLOAT(&low, err, "aten::div", "Tensor", limits.min) < 0 ||
        STEP_FLOAT(&high, err, "aten::div", "Tensor", limits.max) < 0)
        return -1;
    if (CALL(&mask, err, "aten::gt", "Tensor", TENSOR(low), TENSOR(high)) < 0)
        return -1;
    return CALL(ret, err, "aten::where", "self", TENSOR(mask), TENSOR(low), TENSOR(high));
}

/* SYMMETRIC: the larger magnitude over half the range.  The zero point is the middle. */
static int symmetric(struct bridge_tensor *min, struct bridge_tensor *max, double eps,
                     struct limits limits, bool is_clipped,
                     struct bridge_tensor **ret_scale, struct bridge_tensor **ret_zero,
                     struct pt2_err *err)
{
    AUTO(bridge_tensor) scale = bridge_tensor_ref(min);
    AUTO(bridge_tensor) zero = NULL;
    int64_t middle = (int64_t)((limits.max + limits.min + 1) / 2);

    if (!is_clipped) {
        if (unclipped(min, max, limits, &scale, err) < 0)
            return -1;
    } else if (STEP(&scale, err, "aten::neg", "", .kind = BRIDGE_DEFAULT) < 0 ||
               STEP(&scale, err, "aten::maximum", "", .kind = BRIDGE_TENSOR,
                    .t = max) < 0 ||
               STEP_FLOAT(&scale, err, "aten::div", "Tensor",
                          (limits.max - limits.min) / 2) < 0) {
        return -1;
    }
    if (CALL(&zero, err, "aten::full_like", "", TENSOR(scale), INT(middle)) < 0 ||
        clamp(&scale, FLOAT(eps), (struct bridge_value){.kind = BRIDGE_NONE}, err) < 0)
        return -1;
    *ret_scale = TAKE(scale);
    *ret_zero = TAKE(zero);
    return 0;
}

/* torch.finfo(dtype).smallest_normal */
static double smallest_normal(enum pt2_dtype dtype)
{
    return dtype == PT2_FLOAT16 ? 0x1p-14 : FLT_MIN;
}

/* args: input, mapping_type, block_size, target_dtype, quant_min, quant_max, eps,
 * scale_dtype, zero_point_dtype, keepdim */
static int choose(const struct call *call, struct bridge_value *rets, struct pt2_err *err)
{
    const struct bridge_value *args = call->args;
    bool keeps = args[9].kind == BRIDGE_BOOL && args[9].b,
         is_asymmetric = streq(args[1].s, "ASYMMETRIC");
    struct limits limits = limits_of(args + CHOOSE_LIMITS, args[3].dtype);
    enum pt2_dtype dtype, zero_dtype;
    AUTO(bridge_tensor) min = NULL;
    AUTO(bridge_tensor) max = NULL;
    AUTO(bridge_tensor) scale = NULL;
    AUTO(bridge_tensor) zero = NULL;
    struct blocks b;
    double eps;

    if (check_real(&args[0], "input", err) < 0 ||
        blocks_init(args[0].t, &args[CHOOSE_BLOCKS], &b, err) < 0 ||
        extremes(call, &b, keeps, &min, &max, err) < 0)
        return -1;
    dtype = bridge_tensor_dtype(args[0].t);
    eps = number_or(&args[6], smallest_normal(dtype));
    if (is_asymmetric ? asymmetric(min, max, eps, limits, &scale, &zero, err) < 0
                      : symmetric(min, max, eps, limits, streq(args[1].s, "SYMMETRIC"),
                                  &scale, &zero, err) < 0)
        return -1;
    if (keeps && (CALL(&scale, err, "aten::view", "", TENSOR(scale),
                       INTS(b.counts, bridge_tensor_n_dims(args[0].t))) < 0 ||
                  CALL(&zero, err, "aten::view", "", TENSOR(zero),
                       INTS(b.counts, bridge_tensor_n_dims(args[0].t))) < 0))
        return -1;
    zero_dtype = args[8].kind == BRIDGE_DTYPE ? args[8].dtype
                 : is_asymmetric              ? PT2_INT32
                                              : dtype;
    if (to_dtype(&scale, args[7].kind == BRIDGE_DTYPE ? args[7].dtype : dtype, err) < 0 ||
        to_dtype(&zero, zero_dtype, err) < 0)
        return -1;
    rets[0] = TENSOR(TAKE(scale));
    rets[1] = TENSOR(TAKE(zero));
    return 0;
}

/* ---- quantize_affine, dequantize_affine ---- */

/* What both work on: the data as blocks, and what comes out. */
struct conversion {
    struct blocks blocks;
    struct bridge_tensor *x, *scale, *zero, *out; /* seen as blocks; zero may be NULL */
    enum pt2_dtype dtype;                          /* of the result */
    struct limits limits;
};

static void conversion_done(struct conversion *c)
{
    bridge_tensor_free(c->x);
    bridge_tensor_free(c->scale);
    bridge_tensor_free(c->zero);
    bridge_tensor_free(c->out);
}

/* args: input, block_size, scale, zero_point, ... */
static int conversion_init(const struct call *call, enum pt2_dtype dtype,
                           struct conversion *c, struct pt2_err *err)
{
    const struct bridge_value *args = call->args;
    struct blocks *b = &c->blocks;

    *c = (struct conversion){.dtype = dtype,
                             .limits = limits_of(args + QUANT_LIMITS, args[4].dtype)};
    if (args[0].kind != BRIDGE_TENSOR)
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED, "input is no tensor");
    if (blocks_init(args[0].t, &args[QUANT_BLOCKS], b, err) < 0 ||
        check_real(&args[2], "scale", err) < 0)
        return -1;
    if (CALL(&c->x, err, "aten::view", "", args[0], INTS(b->seen, b->n)) < 0 ||
        scales_view(&args[2], "scale", b, &c->scale, err) < 0)
        return -1;
    if (args[3].kind != BRIDGE_NONE && args[3].kind != BRIDGE_DEFAULT &&
        scales_view(&args[3], "zero_point", b, &c->zero, err) < 0)
        return -1;
    /* each element is written below */
    return CALL(&c->out, err, "aten::new_empty", "", TENSOR(c->x), INTS(b->seen, b->n),
                DTYPE(dtype));
}

/* Rows at .. at + n of the first size; all of it where it has but one. */
static int rows_of(struct bridge_tensor *t, int64_t at, int64_t n,
                   struct bridge_tensor **ret, struct pt2_err *err)
{
    bool is_one = bridge_tensor_size(t, 0) == 1;

    return CALL(ret, err, "aten::narrow", "", TENSOR(t), INT(0), INT(is_one ? 0 : at),
                INT(is_one ? 1 : n));
}

/* clamp(round(x * (1 / scale)) + zero, min, max); 1 / scale is a reciprocal there too */
static int quantize_rows(const struct conversion *c, struct bridge_tensor **x,
                         struct bridge_tensor *scale, struct bridge_tensor *zero,
                         struct pt2_err *err)
{
    AUTO(bridge_tensor) inverse = bridge_tensor_ref(scale);
    AUTO(bridge_tensor) z = bridge_tensor_ref(zero);

    if (STEP(&inverse, err, "aten::reciprocal", "", .kind = BRIDGE_DEFAULT) < 0 ||
        times(x, inverse, err) < 0 ||
        STEP(x, err, "aten::round", "", .kind = BRIDGE_DEFAULT) < 0 ||
        to_dtype(&z, bridge_tensor_dtype(*x), err) < 0 ||
        STEP_TENSOR(x, err, "aten::add", z) < 0)
        return -1;
    return clamp(x, FLOAT(c->limits.min), FLOAT(c->limits.max), err);
}

/* (x - zero) * scale */
static int dequantize_rows(const struct conversion *c, struct bridge_tensor **x,
                           struct bridge_tensor *scale, struct bridge_tensor *zero,
                           struct pt2_err *err)
{
    AUTO(bridge_tensor) z = zero ? bridge_tensor_ref(zero) : NULL;

    if (to_dtype(x, c->dtype, err) < 0 || (z && to_dtype(&z, c->dtype, err) < 0) ||
        (z && STEP_TENSOR(x, err, "aten::sub", z) < 0))
        return -1;
    return times(x, scale, err);
}

typedef int rows_fn(const struct conversion *c, struct bridge_tensor **x,
                    struct bridge_tensor *scale, struct bridge_tensor *zero,
                    struct pt2_err *err);

static int convert_rows(const struct conversion *c, rows_fn *rows, int64_t at, int64_t n,
                        struct pt2_err *err)
{
    AUTO(bridge_tensor) x = NULL;
    AUTO(bridge_tensor) scale = NULL;
    AUTO(bridge_tensor) zero = NULL;
    AUTO(bridge_tensor) to = NULL;

    if (rows_of(c->x, at, n, &x, err) < 0 || rows_of(c->scale, at, n, &scale, err) < 0 ||
        (c->zero && rows_of(c->zero, at, n, &zero, err) < 0) ||
        rows(c, &x, scale, zero, err) < 0 || rows_of(c->out, at, n, &to, err) < 0)
        return -1;
    return CALL(&to, err, "aten::copy_", "", TENSOR(to), TENSOR(x));
}

/* A slice at a time, and the result in the shape of the input. */
static int convert(const struct call *call, enum pt2_dtype dtype, rows_fn *rows,
                   struct bridge_value *rets, struct pt2_err *err)
{
    struct bridge_value shape[BRIDGE_MAX_DIMS];
    const struct bridge_tensor *input = call->args[0].t;
    struct bridge_tensor *out = NULL;
    struct conversion c;
    int64_t n_rows, step, row = sizeof(float);
    int r = conversion_init(call, dtype, &c, err);

    if (r == 0) {
        for (unsigned i = 1; i < c.blocks.n; i++)
            row *= c.blocks.seen[i].i;
        n_rows = c.blocks.seen[0].i;
        step = MAX(1, SLICE_BYTES / row);
        for (int64_t at = 0; r == 0 && at < n_rows; at += step)
            r = convert_rows(&c, rows, at, MIN(step, n_rows - at), err);
        for (unsigned i = 0; i < bridge_tensor_n_dims(input); i++)
            shape[i] = INT(bridge_tensor_size(input, i));
    }
    if (r == 0)
        r = CALL(&out, err, "aten::view", "", TENSOR(c.out),
                 INTS(shape, bridge_tensor_n_dims(input)));
    conversion_done(&c);
    if (r == 0)
        rets[0] = TENSOR(out);
    return r;
}

/* args: input, block_size, scale, zero_point, output_dtype, quant_min, quant_max */
static int quantize(const struct call *call, struct bridge_value *rets,
                    struct pt2_err *err)
{
    if (check_real(&call->args[0], "input", err) < 0)
        return -1;
    if (call->args[3].kind != BRIDGE_TENSOR)
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED, "zero_point is no tensor");
    return convert(call, call->args[4].dtype, quantize_rows, rets, err);
}

/* args: input, block_size, scale, zero_point, input_dtype, quant_min, quant_max,
 * output_dtype */
static int dequantize(const struct call *call, struct bridge_value *rets,
                      struct pt2_err *err)
{
    const struct bridge_value *args = call->args;

    if (args[0].kind == BRIDGE_TENSOR && bridge_tensor_dtype(args[0].t) != args[4].dtype)
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED, "input is of %s, input_dtype %s",
                           pt2_dtype_name(bridge_tensor_dtype(args[0].t)),
                           pt2_dtype_name(args[4].dtype));
    return convert(call, args[7].kind == BRIDGE_DTYPE ? args[7].dtype : PT2_FLOAT32,
                   dequantize_rows, rets, err);
}

int lower_torchao(const struct call *call, struct bridge_value *rets, struct pt2_err *err)
{
    const char *name = call->op->name + strlen("torchao::");

    if (streq(name, "choose_qparams_affine"))
        return choose(call, rets, err);
    return streq(name, "quantize_affine") ? quantize(call, rets, err)
                                          : dequantize(call, rets, err);
}
