/* Rows by a matrix for each group of them, as mixtures of experts do it.
 *
 * transformers::grouped_mm_fallback is an op that Transformers defines in Python
 * (integrations/moe.py, 5.18), so no libtorch has it; aten::_grouped_mm came with 2.8, and
 * kernels of it trust its offsets.  Both are spelled here, in any libtorch. */
#include "aten/lower.h"

/* args: rows (S, k), matrices (n, k, n_out), ends (n) */
struct groups {
    struct bridge_tensor *x, *w, *ends;
    int64_t n, n_rows, n_out;
};

static int groups_init(const struct call *call, struct groups *g, struct pt2_err *err)
{
    const struct bridge_value *args = call->args;
    enum pt2_dtype dtype;

    for (int i = 0; i < 3; i++)
        if (args[i].kind != BRIDGE_TENSOR ||
            bridge_tensor_n_dims(args[i].t) != (i == 0 ? 2 : i == 1 ? 3 : 1))
            return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED,
                               "wants rows, a matrix for each group, and the groups' ends");
    *g = (struct groups){.x = args[0].t, .w = args[1].t, .ends = args[2].t};
    g->n = bridge_tensor_size(g->w, 0);
    g->n_rows = bridge_tensor_size(g->x, 0);
    g->n_out = bridge_tensor_size(g->w, 2);
    if (bridge_tensor_size(g->w, 1) != bridge_tensor_size(g->x, 1) ||
        bridge_tensor_size(g->ends, 0) != g->n)
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED,
                           "rows of %lld by %lld matrices of %lld, %lld groups",
                           (long long)bridge_tensor_size(g->x, 1), (long long)g->n,
                           (long long)bridge_tensor_size(g->w, 1),
                           (long long)bridge_tensor_size(g->ends, 0));
    dtype = bridge_tensor_dtype(g->ends);
    if (dtype != PT2_INT32 && dtype != PT2_INT64)
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED, "ends of groups in %s",
                           pt2_dtype_name(dtype));
    if (bridge_tensor_dtype(g->x) != bridge_tensor_dtype(g->w))
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED, "rows in %s, matrices in %s",
                           pt2_dtype_name(bridge_tensor_dtype(g->x)),
                           pt2_dtype_name(bridge_tensor_dtype(g->w)));
    return 0;
}

static int64_t end_of(const struct groups *g, int64_t i)
{
    const void *ends = bridge_tensor_data(g->ends);

    i *= bridge_tensor_stride(g->ends, 0);
    return bridge_tensor_dtype(g->ends) == PT2_INT32 ? ((const int32_t *)ends)[i]
                                                      : ((const int64_t *)ends)[i];
}

/* out[from:to] = x[from:to] · w[i], rounded once */
static int group(const struct groups *g, int64_t i, int64_t from, int64_t to,
                 struct bridge_tensor *out, struct pt2_err *err)
{
    AUTO(bridge_tensor) x = NULL;
    AUTO(bridge_tensor) w = NULL;
    AUTO(bridge_tensor) y = NULL;
    AUTO(bridge_tensor) part = NULL;

    if (CALL(&x, err, "aten::narrow", "", TENSOR(g->x), INT(0), INT(from), INT(to - from)) < 0 ||
        CALL(&w, err, "aten::select", "int", TENSOR(g->w), INT(0), INT(i)) < 0)
        return -1;
    if (lower_lacks_half() && (lower_widen(x, &x, err) < 0 || lower_widen(w, &w, err) < 0))
        return -1;
    if (CALL(&y, err, "aten::mm", "", TENSOR(x), TENSOR(w)) < 0 ||
        CALL(&part, err, "aten::narrow", "", TENSOR(out), INT(0), INT(from),
             INT(to - from)) < 0)
        return -1;
    return CALL(&part, err, "aten::copy_", "", TENSOR(part), TENSOR(y));
}

int lower_grouped(const struct call *call, struct bridge_value *rets, struct pt2_err *err)
{
    AUTO(bridge_tensor) out = NULL;
    struct bridge_value sizes[2];
    struct groups g = {0};

    if (groups_init(call, &g, err) < 0)
        return -1;
    sizes[0] = INT(g.n_rows);
    sizes[1] = INT(g.n_out);
    if (CALL(&out, err, "aten::new_zeros", "", TENSOR(g.x), INTS(sizes, 2)) < 0)
        return -1;
    for (int64_t i = 0, from = 0; i < g.n; i++) {
        int64_t to = end_of(&g, i);

        if (to < from || to > g.n_rows)
            return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED,
                               "a group of rows that ends at %lld, after %lld of %lld",
                               (long long)to, (long long)from, (long long)g.n_rows);
        if (to > from && group(&g, i, from, to, out, err) < 0)
            return -1;
        from = to;
    }
    rets[0] = TENSOR(TAKE(out));
    return 0;
}
