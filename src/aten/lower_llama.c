/* ExecuTorch's ops for caches and attention over them, which no libtorch has
 * (extension/llm/custom_ops, ExecuTorch 1.5.1): all is (batch, positions, heads, head_dim). */
#include "aten/lower.h"

#define NONE ((struct bridge_value){.kind = BRIDGE_NONE})

/* Are the first n arguments tensors of four dimensions, and start_pos a number from 0 on? */
static int check_args(const struct call *call, unsigned n, unsigned start,
                      struct pt2_err *err)
{
    for (unsigned i = 0; i < n; i++)
        if (call->args[i].kind != BRIDGE_TENSOR || bridge_tensor_n_dims(call->args[i].t) != 4)
            return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED,
                               "'%s' wants (batch, positions, heads, head_dim)",
                               call->op->args[i].name);
    if (call->args[start].kind != BRIDGE_INT || call->args[start].i < 0)
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED, "start_pos is no position");
    return 0;
}

/* Rows from start on, s of them, in a cache of so many? */
static int check_rows(const struct bridge_tensor *cache, int64_t start, int64_t s,
                      struct pt2_err *err)
{
    int64_t n = bridge_tensor_size(cache, 1);

    if (s <= n && start <= n - s)
        return 0;
    return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED,
                       "%lld rows from %lld on, the cache has %lld", (long long)s,
                       (long long)start, (long long)n);
}

/* args: value, cache (written), start_pos */
int lower_update_cache(const struct call *call, struct bridge_value *rets,
                       struct pt2_err *err)
{
    const struct bridge_value *args = call->args;
    AUTO(bridge_tensor) rows = NULL;
    AUTO(bridge_tensor) nothing = NULL;
    struct bridge_value one = INT(1);
    int64_t s;

    if (check_args(call, 2, 2, err) < 0)
        return -1;
    s = bridge_tensor_size(args[0].t, 1);
    for (unsigned d = 0; d < 4; d++)
        if (d != 1 && bridge_tensor_size(args[0].t, d) != bridge_tensor_size(args[1].t, d))
            return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED,
                               "the value is not shaped as the cache is");
    if (bridge_tensor_dtype(args[0].t) != bridge_tensor_dtype(args[1].t))
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED,
                           "the value is not of the cache's dtype");
    if (check_rows(args[1].t, args[2].i, s, err) < 0 ||
        CALL(&rows, err, "aten::narrow", "", args[1], INT(1), args[2], INT(s)) < 0 ||
        CALL(&rows, err, "aten::copy_", "", TENSOR(rows), args[0]) < 0 ||
        CALL(&nothing, err, "aten::new_zeros", "", args[0], INTS(&one, 1)) < 0)
        return -1;
    rets[0] = TENSOR(TAKE(nothing));
    return 0;
}

/* (s, start + s): row i sees the positions up to start + i. */
static int causal_mask(int64_t start, int64_t s, struct bridge_tensor **ret,
                       struct pt2_err *err)
{
    AUTO(bridge_tensor) places = NULL;
    AUTO(bridge_tensor) own = NULL;

    if (CALL(&places, err, "aten::arange", "", INT(start + s)) < 0 ||
        CALL(&own, err, "aten::narrow", "", TENSOR(places), INT(0), INT(start), INT(s)) < 0 ||
        CALL(&own, err, "aten::unsqueeze", "", TENSOR(own), INT(1)) < 0)
        return -1;
    return CALL(ret, err, "aten::le", "Tensor", TENSOR(places), TENSOR(own));
}

/* What attention reads of a cache, heads before positions: all of it beside a mask, what is
 * written otherwise. */
static int read_cache(struct bridge_tensor *cache, int64_t n, struct bridge_tensor **ret,
                      struct pt2_err *err)
{
    if (CALL(ret, err, "aten::narrow", "", TENSOR(cache), INT(1), INT(0), INT(n)) < 0)
        return -1;
    return CALL(ret, err, "aten::transpose", "int", TENSOR(*ret), INT(1), INT(2));
}

/* aten's op of (batch, heads, positions, head_dim) each. */
static int attend(const struct call *call, struct bridge_tensor *q, struct bridge_tensor *k,
                  struct bridge_tensor *v, struct bridge_value mask,
                  struct bridge_tensor **ret, struct pt2_err *err)
{
    const char *target = "torch.ops.aten.scaled_dot_product_attention.default";
    bool groups = bridge_tensor_size(q, 1) != bridge_tensor_size(k, 1);
    struct call plain = {.node = call->node, .op = op_find(target)};
    struct bridge_value args[] = {TENSOR(q), TENSOR(k),       TENSOR(v),    mask,
                                  FLOAT(0),  BOOL(false),     call->args[7], BOOL(groups)};
    struct bridge_value out;

    plain.n_args = ARRAY_LEN(args);
    memcpy(plain.args, args, sizeof(args));
    plain.target = bridge_op_find(plain.op->call_name, plain.op->overload);
    if (plain.target && bridge_op_n_args(plain.target) != plain.n_args)
        plain.target = NULL; /* before enable_gqa: spelled in other ops */
    if (lower_call(&plain, &out, err) < 0)
        return -1;
    bridge_tensor_free(*ret);
    *ret = out.t;
    return 0;
}

/* args: query, key, value, start_pos, attn_mask, drpout_p (0), is_causal, scale.  Causality
 * counts from start_pos; a mask is over the whole cache; without both, all that is written
 * is seen.  Half precision is computed in float32 and rounded once. */
int lower_custom_sdpa(const struct call *call, struct bridge_value *rets,
                      struct pt2_err *err)
{
    const struct bridge_value *args = call->args;
    bool is_causal = args[6].kind == BRIDGE_BOOL && args[6].b;
    bool is_masked = args[4].kind == BRIDGE_TENSOR;
    AUTO(bridge_tensor) q = NULL;
    AUTO(bridge_tensor) k = NULL;
    AUTO(bridge_tensor) v = NULL;
    AUTO(bridge_tensor) mask = NULL;
    AUTO(bridge_tensor) x = NULL;
    enum pt2_dtype dtype;
    int64_t s, n;

    if (check_args(call, 3, 3, err) < 0)
        return -1;
    if (is_causal && is_masked)
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED, "attn_mask and is_causal together");
    s = bridge_tensor_size(args[0].t, 1);
    if (check_rows(args[1].t, args[3].i, s, err) < 0 ||
        check_rows(args[2].t, args[3].i, s, err) < 0)
        return -1;
    n = is_masked ? bridge_tensor_size(args[1].t, 1) : args[3].i + s;
    if (CALL(&q, err, "aten::transpose", "int", args[0], INT(1), INT(2)) < 0 ||
        read_cache(args[1].t, n, &k, err) < 0 || read_cache(args[2].t, n, &v, err) < 0)
        return -1;
    if (is_masked ? lower_widen(args[4].t, &mask, err) < 0
                  : is_causal && s > 1 && causal_mask(args[3].i, s, &mask, err) < 0)
        return -1;
    dtype = bridge_tensor_dtype(q);
    if (lower_widen(q, &q, err) < 0 || lower_widen(k, &k, err) < 0 ||
        lower_widen(v, &v, err) < 0 ||
        attend(call, q, k, v, mask ? TENSOR(mask) : NONE, &x, err) < 0 ||
        CALL(&x, err, "aten::transpose", "int", TENSOR(x), INT(1), INT(2)) < 0 ||
        CALL(&x, err, "aten::contiguous", "", TENSOR(x)) < 0 ||
        (lower_is_half(dtype) &&
         CALL(&x, err, "aten::_to_copy", "", TENSOR(x), DTYPE(dtype)) < 0))
        return -1;
    rets[0] = TENSOR(TAKE(x));
    return 0;
}
