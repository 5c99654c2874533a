#include "aten/lower.h"

#include <math.h>

/* Bytes of a weight that are widened to float32 at a time: they stay in the second cache.
 */
#define SLICE_BYTES (UINT64_C(1) << 20)

int lower_op(struct bridge_tensor **ret, struct pt2_err *err, const char *name,
             const char *overload, const struct bridge_value *args)
{
    const struct bridge_op *op = bridge_op_find(name, overload);
    struct bridge_value v;

    if (!op)
        return pt2_err_set(err, PT2_ERR_INTERNAL, "libtorch has no %s.%s", name,
                           overload);
    if (bridge_call(op, args, &v, 1, err) < 0)
        return -1;
    bridge_tensor_free(*ret); /* what the local held before */
    *ret = v.t;
    return 0;
}

bool lower_is_half(enum pt2_dtype dtype)
{
    return dtype == PT2_FLOAT16 || dtype == PT2_BFLOAT16;
}

static bool is_half_value(const struct bridge_value *v)
{
    return v->kind == BRIDGE_TENSOR && lower_is_half(bridge_tensor_dtype(v->t));
}

static int to_dtype(struct bridge_tensor *t, enum pt2_dtype dtype,
                    struct bridge_tensor **ret, struct pt2_err *err)
{
    return CALL(ret, err, "aten::_to_copy", "", TENSOR(t), DTYPE(dtype));
}

int lower_widen(struct bridge_tensor *x, struct bridge_tensor **ret, struct pt2_err *err)
{
    if (lower_is_half(bridge_tensor_dtype(x)))
        return to_dtype(x, PT2_FLOAT32, ret, err);
    x = bridge_tensor_ref(x); /* before *ret goes, which may be the same */
    bridge_tensor_free(*ret);
    *ret = x;
    return 0;
}

/* x back in dtype, where it was widened. */
static int narrow_to(struct bridge_tensor *x, enum pt2_dtype dtype,
                     struct bridge_value *ret, struct pt2_err *err)
{
    struct bridge_tensor *t = NULL;

    if (bridge_tensor_dtype(x) == dtype)
        t = bridge_tensor_ref(x);
    else if (to_dtype(x, dtype, &t, err) < 0)
        return -1;
    *ret = TENSOR(t);
    return 0;
}

/* ---- any op in float32 ---- */

/* What a call in float32 must remember of the call as it was. */
struct widened {
    struct bridge_value args[OP_MAX_ARGS];  /* half tensors replaced */
    struct bridge_value items[OP_MAX_ARGS]; /* lists that hold replaced ones */
    struct bridge_tensor
        *owned[OP_MAX_ARGS]; /* the replacements, of args that are tensors */
};

static void widened_done(struct widened *w)
{
    for (unsigned i = 0; i < OP_MAX_ARGS; i++) {
        bridge_tensor_free(w->owned[i]);
        for (size_t k = 0; k < w->items[i].list.n; k++)
            bridge_tensor_free(w->items[i].list.items[k].t);
        free(w->items[i].list.items);
    }
}

/* The items of a list of tensors, each widened or taken again; NONE stays. */
static int widen_list(const struct bridge_value *from, struct bridge_value *ret,
                      struct pt2_err *err)
{
    ret->list.items = calloc(from->list.n + 1, sizeof(*ret->list.items));
    if (!ret->list.items)
        return pt2_err_set(err, PT2_ERR_NOMEM, "arguments of a node");
    for (size_t i = 0; i < from->list.n; i++) {
        struct bridge_value *item = &ret->list.items[i];

        item->kind = from->list.items[i].kind;
        ret->list.n++;
        if (item->kind == BRIDGE_TENSOR &&
            lower_widen(from->list.items[i].t, &item->t, err) < 0)
            return -1;
    }
    ret->kind = BRIDGE_LIST;
    return 0;
}

static int widen_args(const struct call *call, struct widened *w, struct pt2_err *err)
{
    for (unsigned i = 0; i < call->n_args; i++) {
        const struct bridge_value *arg = &call->args[i];

        w->args[i] = *arg;
        if (is_half_value(arg)) {
            if (lower_widen(arg->t, &w->owned[i], err) < 0)
                return -1;
            w->args[i].t = w->owned[i];
        } else if (arg->kind == BRIDGE_LIST && call->op->args[i].type == OP_TENSOR) {
            if (widen_list(arg, &w->items[i], err) < 0)
                return -1;
            w->args[i] = w->items[i];
        } else if (arg->kind == BRIDGE_DTYPE && lower_is_half(arg->dtype)) {
            w->args[i] = DTYPE(PT2_FLOAT32); /* rounded afterwards */
        }
    }
    return 0;
}

struct promotion {
    enum pt2_dtype
        half[2]; /* the half type seen: [0] among tensors, [1] among 0-dim ones */
    bool is_float[2], is_wide[2];
};

static void promote(struct promotion *p, const struct bridge_value *v)
{
    enum pt2_dtype dtype;
    unsigned rank;

    if (v->kind != BRIDGE_TENSOR)
        return;
    dtype = bridge_tensor_dtype(v->t);
    rank = bridge_tensor_n_dims(v->t) == 0;
    if (!pt2_dtype_is_float(dtype))
        return;
    p->is_float[rank] = true;
    if (!lower_is_half(dtype) || (p->half[rank] && p->half[rank] != dtype))
        p->is_wide[rank] = true;
    p->half[rank] = dtype;
}

/* The dtype that a result of float32 is to be rounded to; NONE: to none.  As torch
 * promotes: the dtype argument if given, otherwise by the tensors, 0-dim ones only where
 * there is no other of floating point. */
static enum pt2_dtype result_dtype(const struct call *call)
{
    struct promotion p = {0};
    unsigned rank;

    for (unsigned i = 0; i < call->n_args; i++) {
        const struct bridge_value *arg = &call->args[i];

        if (arg->kind == BRIDGE_DTYPE)
            return lower_is_half(arg->dtype) ? arg->dtype : PT2_DTYPE_NONE;
        promote(&p, arg);
        for (size_t k = 0; arg->kind == BRIDGE_LIST && k < arg->list.n; k++)
            promote(&p, &arg->list.items[k]);
    }
    rank = p.is_float[0] ? 0 : 1;
    return p.is_wide[rank] ? PT2_DTYPE_NONE : p.half[rank];
}

/* Put what an in-place op wrote where it belongs: the argument itself is what it answers.
 */
static int write_back(const struct call *call, const struct widened *w,
                      struct bridge_value *rets, struct pt2_err *err)
{
    for (unsigned i = 0; i < call->n_args; i++) {
        struct bridge_tensor *self = NULL;

        if (!call->op->args[i].is_written || !w->owned[i])
            continue;
        if (CALL(&self, err, "aten::copy_", "", TENSOR(call->args[i].t),
                 TENSOR(w->owned[i])) < 0)
            return -1;
        for (unsigned k = 0; k < call->node->n_outputs; k++)
            if (call->op->rets[k].alias == call->op->args[i].alias) {
                bridge_value_done(&rets[k]);
                rets[k] = TENSOR(bridge_tensor_ref(self));
            }
        bridge_tensor_free(self);
    }
    return 0;
}

static int round_results(const struct call *call, struct bridge_value *rets,
                         struct pt2_err *err)
{
    enum pt2_dtype dtype = result_dtype(call);

    for (unsigned k = 0; dtype && k < call->node->n_outputs; k++) {
        struct bridge_value rounded;

        if (rets[k].kind != BRIDGE_TENSOR ||
            bridge_tensor_dtype(rets[k].t) != PT2_FLOAT32)
            continue;
        if (narrow_to(rets[k].t, dtype, &rounded, err) < 0)
            return -1;
        bridge_value_done(&rets[k]);
        rets[k] = rounded;
    }
    return 0;
}

static int in_float32(const struct call *call, struct bridge_value *rets,
                      struct pt2_err *err)
{
    struct widened w = {0};
    unsigned n = call->node->n_outputs;
    int r = widen_args(call, &w, err);

    if (r == 0)
        r = bridge_call(call->target, w.args, rets, n, err);
    if (r == 0) {
        r = call->writes ? write_back(call, &w, rets, err)
                         : round_results(call, rets, err);
        for (unsigned k = 0; r < 0 && k < n; k++)
            bridge_value_done(&rets[k]);
    }
    widened_done(&w);
    return r;
}

/* ---- linear, a slice of the weight at a time ---- */

/* out[..., at:at+n] = linear(x, weight[at:at+n], bias[at:at+n]), in float32 */
static int linear_slice(struct bridge_tensor *x, const struct call *call, int64_t at,
                        int64_t n, struct bridge_tensor *out, struct pt2_err *err)
{
    const struct bridge_value *bias = &call->args[2];
    AUTO(bridge_tensor) w = NULL;
    AUTO(bridge_tensor) b = NULL;
    AUTO(bridge_tensor) y = NULL;
    AUTO(bridge_tensor) to = NULL;

    if (CALL(&w, err, "aten::narrow", "", call->args[1], INT(0), INT(at), INT(n)) < 0 ||
        lower_widen(w, &w, err) < 0)
        return -1;
    if (bias->kind == BRIDGE_TENSOR &&
        (CALL(&b, err, "aten::narrow", "", *bias, INT(0), INT(at), INT(n)) < 0 ||
         lower_widen(b, &b, err) < 0))
        return -1;
    if (CALL(&y, err, "aten::linear", "", TENSOR(x), TENSOR(w),
             b ? TENSOR(b) : (struct bridge_value){.kind = BRIDGE_NONE}) < 0 ||
        CALL(&to, err, "aten::narrow", "", TENSOR(out), INT(-1), INT(at), INT(n)) < 0)
        return -1;
    return CALL(&to, err, "aten::copy_", "", TENSOR(to), TENSOR(y));
}

/* The shape that linear answers, in x's dtype; its elements are not yet those. */
static int linear_out(struct bridge_tensor *x, int64_t n_out, struct bridge_tensor **ret,
                      struct pt2_err *err)
{
    struct bridge_value sizes[BRIDGE_MAX_DIMS];
    unsigned n_dims = bridge_tensor_n_dims(x);

    for (unsigned i = 0; i < n_dims; i++)
        sizes[i] = INT(i + 1 < n_dims ? bridge_tensor_size(x, i) : n_out);
    return CALL(ret, err, "aten::new_zeros", "", TENSOR(x), INTS(sizes, n_dims));
}

/* A slice is a plain case: everything in one half type, shapes that fit. */
static bool linear_is_plain(const struct call *call)
{
    const struct bridge_value *x = &call->args[0], *w = &call->args[1],
                              *b = &call->args[2];
    enum pt2_dtype dtype;

    if (!is_half_value(x) || !is_half_value(w))
        return false;
    dtype = bridge_tensor_dtype(x->t);
    if (bridge_tensor_dtype(w->t) != dtype || bridge_tensor_n_dims(w->t) != 2 ||
        bridge_tensor_n_dims(x->t) < 1)
        return false;
    return b->kind != BRIDGE_TENSOR ||
           (bridge_tensor_dtype(b->t) == dtype && bridge_tensor_n_dims(b->t) == 1 &&
            bridge_tensor_size(b->t, 0) == bridge_tensor_size(w->t, 0));
}

static int linear_in_slices(const struct call *call, struct bridge_value *rets,
                            struct pt2_err *err)
{
    struct bridge_tensor *weight = call->args[1].t;
    int64_t n_out = bridge_tensor_size(weight, 0), n_in = bridge_tensor_size(weight, 1);
    int64_t step = MAX(1, (int64_t)(SLICE_BYTES / sizeof(float)) / MAX(1, n_in));
    AUTO(bridge_tensor) x = NULL;
    AUTO(bridge_tensor) out = NULL;

    if (lower_widen(call->args[0].t, &x, err) < 0 ||
        linear_out(call->args[0].t, n_out, &out, err) < 0)
        return -1;
    for (int64_t at = 0; at < n_out; at += step)
        if (linear_slice(x, call, at, MIN(step, n_out - at), out, err) < 0)
            return -1;
    rets[0] = TENSOR(TAKE(out));
    return 0;
}

/* ---- scaled_dot_product_attention, as torch's _scaled_dot_product_attention_math ----
 */

/* k or v with each head repeated, where q has n times as many (enable_gqa). */
static int repeat_heads(const struct bridge_tensor *q, struct bridge_tensor **kv,
                        struct pt2_err *err)
{
    unsigned nq = bridge_tensor_n_dims(q), n = bridge_tensor_n_dims(*kv);
    int64_t heads, kv_heads;

    if (nq < 3 || n < 3)
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED,
                           "enable_gqa wants a head dimension");
    heads = bridge_tensor_size(q, nq - 3);
    kv_heads = bridge_tensor_size(*kv, n - 3);
    if (kv_heads == 0 || heads % kv_heads != 0)
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED,
                           "%lld heads over %lld key-value heads", (long long)heads,
                           (long long)kv_heads);
    if (heads == kv_heads)
        return 0;
    return CALL(kv, err, "aten::repeat_interleave", "self_int", TENSOR(*kv),
                INT(heads / kv_heads), INT(-3));
}

/* Minus infinity where mask is false; or the mask added, where it is of numbers. */
static int add_mask(struct bridge_tensor **scores, struct bridge_tensor *mask,
                    struct pt2_err *err)
{
    AUTO(bridge_tensor) m = NULL;

    if (bridge_tensor_dtype(mask) == PT2_BOOL)
        return CALL(&m, err, "aten::logical_not", "", TENSOR(mask)) < 0
                   ? -1
                   : CALL(scores, err, "aten::masked_fill", "Scalar", TENSOR(*scores),
                          TENSOR(m), FLOAT(-INFINITY));
    if (lower_widen(mask, &m, err) < 0)
        return -1;
    return CALL(scores, err, "aten::add", "Tensor", TENSOR(*scores), TENSOR(m));
}

/* Query i sees keys 0 .. i: torch's is_causal counts from the top left, whatever the
 * lengths. */
static int add_causal(struct bridge_tensor **scores, struct pt2_err *err)
{
    unsigned n = bridge_tensor_n_dims(*scores);
    struct bridge_value sizes[2] = {INT(bridge_tensor_size(*scores, n - 2)),
                                    INT(bridge_tensor_size(*scores, n - 1))};
    AUTO(bridge_tensor) mask = NULL;

    if (CALL(&mask, err, "aten::ones", "", INTS(sizes, 2), DTYPE(PT2_BOOL)) < 0 ||
        CALL(&mask, err, "aten::tril", "", TENSOR(mask)) < 0)
        return -1;
    return add_mask(scores, mask, err);
}

/* Softmax over the keys; a row that sees none is zeros, not NaN (torch's _safe_softmax).
 */
static int safe_softmax(struct bridge_tensor **scores, struct pt2_err *err)
{
    AUTO(bridge_tensor) blind = NULL;

    if (CALL(&blind, err, "aten::eq", "Scalar", TENSOR(*scores), FLOAT(-INFINITY)) < 0 ||
        CALL(&blind, err, "aten::all", "dim", TENSOR(blind), INT(-1), BOOL(true)) < 0 ||
        CALL(scores, err, "aten::softmax", "int", TENSOR(*scores), INT(-1)) < 0)
        return -1;
    return CALL(scores, err, "aten::masked_fill", "Scalar", TENSOR(*scores),
                TENSOR(blind), FLOAT(0.0));
}

static double number_or(const struct bridge_value *v, double other)
{
    return v->kind == BRIDGE_FLOAT ? v->f : v->kind == BRIDGE_INT ? (double)v->i : other;
}

/* q k^T / sqrt(d): both sides times the root of the scale, as torch does against
 * overflow. */
static int attention_scores(struct bridge_tensor *q, struct bridge_tensor *k,
                            double scale, struct bridge_tensor **ret, struct pt2_err *err)
{
    double root = sqrt(fabs(scale));
    AUTO(bridge_tensor) qs = NULL;
    AUTO(bridge_tensor) kt = NULL;

    if (CALL(&qs, err, "aten::mul", "Scalar", TENSOR(q),
             FLOAT(scale < 0 ? -root : root)) < 0 ||
        CALL(&kt, err, "aten::transpose", "int", TENSOR(k), INT(-2), INT(-1)) < 0 ||
        CALL(&kt, err, "aten::mul", "Scalar", TENSOR(kt), FLOAT(root)) < 0)
        return -1;
    return CALL(ret, err, "aten::matmul", "", TENSOR(qs), TENSOR(kt));
}

/* args: query, key, value, attn_mask, dropout_p (0), is_causal, scale, enable_gqa */
static int attention(const struct call *call, struct bridge_value *rets,
                     struct pt2_err *err)
{
    const struct bridge_value *args = call->args;
    bool is_causal = args[5].kind == BRIDGE_BOOL && args[5].b;
    bool is_gqa = args[7].kind == BRIDGE_BOOL && args[7].b;
    AUTO(bridge_tensor) q = NULL;
    AUTO(bridge_tensor) k = NULL;
    AUTO(bridge_tensor) v = NULL;
    AUTO(bridge_tensor) scores = NULL;
    unsigned n;

    if (args[0].kind != BRIDGE_TENSOR || args[1].kind != BRIDGE_TENSOR ||
        args[2].kind != BRIDGE_TENSOR || (n = bridge_tensor_n_dims(args[0].t)) < 2 ||
        bridge_tensor_n_dims(args[1].t) < 2 || bridge_tensor_n_dims(args[2].t) < 2)
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED,
                           "wants tensors of two dimensions or more");
    if (is_causal && args[3].kind == BRIDGE_TENSOR)
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED,
                           "attn_mask and is_causal together");
    if (lower_widen(args[0].t, &q, err) < 0 || lower_widen(args[1].t, &k, err) < 0 ||
        lower_widen(args[2].t, &v, err) < 0)
        return -1;
    if (is_gqa && (repeat_heads(q, &k, err) < 0 || repeat_heads(q, &v, err) < 0))
        return -1;
    if (attention_scores(
            q, k, number_or(&args[6], 1.0 / sqrt((double)bridge_tensor_size(q, n - 1))),
            &scores, err) < 0)
        return -1;
    if (is_causal && add_causal(&scores, err) < 0)
        return -1;
    if (args[3].kind == BRIDGE_TENSOR && add_mask(&scores, args[3].t, err) < 0)
        return -1;
    if (safe_softmax(&scores, err) < 0 ||
        CALL(&scores, err, "aten::matmul", "", TENSOR(scores), TENSOR(v)) < 0)
        return -1;
    return narrow_to(scores, bridge_tensor_dtype(args[0].t), &rets[0], err);
}

/* ---- rms_norm, as torch's composite ---- */

/* The last dimensions, as the normalized shape names them: -1, -2, ... */
static int norm_dims(const struct call *call, struct bridge_value *ret_dims,
                     struct pt2_err *err)
{
    const struct bridge_value *shape = &call->args[1];
    const struct bridge_tensor *x = call->args[0].t;
    unsigned n = bridge_tensor_n_dims(x);

    if (shape->kind != BRIDGE_LIST || shape->list.n < 1 || shape->list.n > n)
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED,
                           "normalized_shape of %zu dimensions",
                           shape->kind == BRIDGE_LIST ? shape->list.n : 0);
    for (size_t i = 0; i < shape->list.n; i++) {
        ret_dims[i] = INT((int64_t)i - (int64_t)shape->list.n);
        if (shape->list.items[i].i !=
            bridge_tensor_size(x, n - (unsigned)(shape->list.n - i)))
            return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED,
                               "normalized_shape is not that of the input");
    }
    return 0;
}

/* args: input, normalized_shape, weight, eps */
static int rms_norm(const struct call *call, struct bridge_value *rets,
                    struct pt2_err *err)
{
    const struct bridge_value *args = call->args;
    struct bridge_value dims[BRIDGE_MAX_DIMS];
    AUTO(bridge_tensor) x = NULL;
    AUTO(bridge_tensor) r = NULL;
    AUTO(bridge_tensor) w = NULL;
    double eps;

    if (args[0].kind != BRIDGE_TENSOR)
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED, "wants a tensor");
    eps = number_or(&args[3],
                    bridge_tensor_dtype(args[0].t) == PT2_FLOAT64 ? 0x1p-52 : 0x1p-23);
    if (norm_dims(call, dims, err) < 0 || lower_widen(args[0].t, &x, err) < 0 ||
        CALL(&r, err, "aten::pow", "Tensor_Scalar", TENSOR(x), INT(2)) < 0 ||
        CALL(&r, err, "aten::mean", "dim", TENSOR(r), INTS(dims, args[1].list.n),
             BOOL(true)) < 0 ||
        CALL(&r, err, "aten::add", "Scalar", TENSOR(r), FLOAT(eps)) < 0 ||
        CALL(&r, err, "aten::rsqrt", "", TENSOR(r)) < 0 ||
        CALL(&r, err, "aten::mul", "Tensor", TENSOR(x), TENSOR(r)) < 0)
        return -1;
    if (args[2].kind == BRIDGE_TENSOR &&
        (lower_widen(args[2].t, &w, err) < 0 ||
         CALL(&r, err, "aten::mul", "Tensor", TENSOR(r), TENSOR(w)) < 0))
        return -1;
    return narrow_to(r, bridge_tensor_dtype(args[0].t), &rets[0], err);
}

/* ---- which way ---- */

bool lower_lacks_half(void)
{
    return bridge_version() < 205;
}

static bool has_half(const struct call *call)
{
    for (unsigned i = 0; i < call->n_args; i++) {
        const struct bridge_value *arg = &call->args[i];

        if (is_half_value(arg) || (arg->kind == BRIDGE_DTYPE && lower_is_half(arg->dtype)))
            return true;
        for (size_t k = 0; arg->kind == BRIDGE_LIST && k < arg->list.n; k++)
            if (is_half_value(&arg->list.items[k]))
                return true;
    }
    return false;
}

bool lower_can(const struct op *op)
{
    return op->lowering == OP_SDPA || op->lowering == OP_RMS_NORM || op_is_spelled(op);
}

int lower_call(const struct call *call, struct bridge_value *rets, struct pt2_err *err)
{
    if (call->op->lowering == OP_GROUPED)
        return lower_grouped(call, rets, err);
    if (call->op->lowering == OP_UPDATE_CACHE)
        return lower_update_cache(call, rets, err);
    if (call->op->lowering == OP_CUSTOM_SDPA)
        return lower_custom_sdpa(call, rets, err);
    if (call->op->lowering == OP_TORCHAO)
        return lower_torchao(call, rets, err);
    if (!call->target)
        return call->op->lowering == OP_SDPA ? attention(call, rets, err)
                                             : rms_norm(call, rets, err);
    if (lower_lacks_half() && call->op->half == OP_HALF_F32 && has_half(call))
        return call->op->lowering == OP_LINEAR && linear_is_plain(call)
                   ? linear_in_slices(call, rets, err)
                   : in_float32(call, rets, err);
    return bridge_call(call->target, call->args, rets, call->node->n_outputs, err);
}
