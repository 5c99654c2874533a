/* graph_math.c - nodes that compute. */
#include "export/graph_impl.h"

#include <math.h>

/* ---- element by element ---- */

uint32_t graph_unary(struct graph *g, const char *op, uint32_t x)
{
    struct pt2_named_arg args[] = {arg_tensor("self", x)};
    struct pt2_tensor_meta meta;

    if (g->failed)
        return 0;
    meta = graph_like(g, x, meta_of(g, x)->dtype, last_size(g, x));
    return graph_add_node(g, op, "default", args, 1, &meta);
}

uint32_t graph_gelu(struct graph *g, uint32_t x, bool tanh)
{
    struct pt2_named_arg args[] = {
        arg_tensor("self", x),
        named("approximate", 2, (struct pt2_arg){.kind = PT2_ARG_STRING, .s = "tanh"})};
    struct pt2_tensor_meta meta;

    if (g->failed)
        return 0;
    meta = graph_like(g, x, meta_of(g, x)->dtype, last_size(g, x));
    return graph_add_node(g, "gelu", "default", args, tanh ? 2 : 1, &meta);
}

static uint32_t add_binary(struct graph *g, const char *op, uint32_t x,
                           struct pt2_named_arg y, enum pt2_dtype dtype)
{
    struct pt2_named_arg args[] = {arg_tensor("self", x), y};
    struct pt2_tensor_meta meta;

    if (g->failed)
        return 0;
    meta = graph_like(g, x, dtype, last_size(g, x));
    return graph_add_node(g, op, "Tensor", args, 2, &meta);
}

uint32_t graph_outer_product(struct graph *g, uint32_t x, uint32_t y)
{
    struct pt2_named_arg args[] = {arg_tensor("self", x), arg_tensor("other", y)};
    struct pt2_tensor_meta meta;

    if (g->failed)
        return 0;
    meta = graph_like(g, x, meta_of(g, x)->dtype, last_size(g, y));
    return graph_add_node(g, "mul", "Tensor", args, 2, &meta);
}

uint32_t graph_binary(struct graph *g, const char *op, uint32_t x, uint32_t y)
{
    bool is_wide;

    if (g->failed)
        return 0;
    is_wide = meta_of(g, y)->dtype == PT2_FLOAT32 && meta_of(g, y)->n_dims > 0;
    return add_binary(g, op, x, arg_tensor("other", y),
                      is_wide ? PT2_FLOAT32 : meta_of(g, x)->dtype);
}

uint32_t graph_binary_number(struct graph *g, const char *op, uint32_t x, double y)
{
    return g->failed ? 0
                     : add_binary(g, op, x, arg_float("other", 1, y), meta_of(g, x)->dtype);
}

uint32_t graph_binary_int(struct graph *g, const char *op, uint32_t x, int64_t y)
{
    return g->failed ? 0
                     : add_binary(g, op, x, arg_int("other", y), meta_of(g, x)->dtype);
}

uint32_t graph_pow(struct graph *g, uint32_t x, int64_t exponent)
{
    struct pt2_named_arg args[] = {arg_tensor("self", x), arg_int("exponent", exponent)};
    struct pt2_tensor_meta meta;

    if (g->failed)
        return 0;
    meta = graph_like(g, x, meta_of(g, x)->dtype, last_size(g, x));
    return graph_add_node(g, "pow", "Tensor_Scalar", args, 2, &meta);
}

uint32_t graph_to(struct graph *g, uint32_t x, enum pt2_dtype dtype)
{
    struct pt2_named_arg args[] = {
        arg_tensor("self", x),
        named("dtype", 1, (struct pt2_arg){.kind = PT2_ARG_SCALAR_TYPE, .dtype = dtype})};
    struct pt2_tensor_meta meta;

    if (g->failed || meta_of(g, x)->dtype == dtype)
        return x;
    meta = graph_like(g, x, dtype, last_size(g, x));
    return graph_add_node(g, "to", "dtype", args, 2, &meta);
}

uint32_t graph_remainder(struct graph *g, uint32_t x, int64_t n)
{
    struct pt2_named_arg args[] = {arg_tensor("self", x), arg_int("other", n)};
    struct pt2_tensor_meta meta;

    if (g->failed)
        return 0;
    meta = graph_like(g, x, meta_of(g, x)->dtype, last_size(g, x));
    return graph_add_node(g, "remainder", "Scalar", args, 2, &meta);
}

uint32_t graph_compare_int(struct graph *g, const char *op, uint32_t x, int64_t y)
{
    struct pt2_named_arg args[] = {arg_tensor("self", x), arg_int("other", y)};
    struct pt2_tensor_meta meta;

    if (g->failed)
        return 0;
    meta = graph_like(g, x, PT2_BOOL, last_size(g, x));
    return graph_add_node(g, op, "Scalar", args, 2, &meta);
}

uint32_t graph_compare(struct graph *g, const char *op, uint32_t x, uint32_t y)
{
    struct pt2_named_arg args[] = {arg_tensor("self", x), arg_tensor("other", y)};
    struct pt2_tensor_meta meta;

    if (g->failed)
        return 0;
    meta = graph_like(g, x, PT2_BOOL, last_size(g, x));
    return graph_add_node(g, op, "Tensor", args, 2, &meta);
}

uint32_t graph_clamp(struct graph *g, uint32_t x, double min, double max)
{
    struct pt2_named_arg args[] = {arg_tensor("self", x), arg_float("min", 1, min),
                                   arg_float("max", 1, max)};
    struct pt2_tensor_meta meta;

    if (g->failed)
        return 0;
    if (isinf(min))
        args[1] = arg_none("min");
    meta = graph_like(g, x, meta_of(g, x)->dtype, last_size(g, x));
    return graph_add_node(g, "clamp", "default", args, 3, &meta);
}

uint32_t graph_min(struct graph *g, uint32_t x, uint32_t y)
{
    struct pt2_named_arg args[] = {arg_tensor("self", x), arg_tensor("other", y)};
    struct pt2_tensor_meta meta;

    if (g->failed)
        return 0;
    meta = graph_like(g, x, meta_of(g, x)->dtype, last_size(g, x));
    return graph_add_node(g, "min", "other", args, 2, &meta);
}

uint32_t graph_where(struct graph *g, uint32_t condition, uint32_t x, uint32_t y)
{
    struct pt2_named_arg args[] = {arg_tensor("condition", condition),
                                   arg_tensor("self", x), arg_tensor("other", y)};
    struct pt2_tensor_meta meta;

    if (g->failed)
        return 0;
    meta = graph_like(g, x, meta_of(g, x)->dtype, last_size(g, x));
    return graph_add_node(g, "where", "self", args, 3, &meta);
}

uint32_t graph_where_number(struct graph *g, uint32_t condition, uint32_t x, double y)
{
    struct pt2_named_arg args[] = {arg_tensor("condition", condition),
                                   arg_tensor("self", x), arg_float("other", 1, y)};
    struct pt2_tensor_meta meta;

    if (g->failed)
        return 0;
    meta = graph_like(g, x, meta_of(g, x)->dtype, last_size(g, x));
    return graph_add_node(g, "where", "ScalarOther", args, 3, &meta);
}

uint32_t graph_outer(struct graph *g, const char *op, uint32_t x, uint32_t y,
                     bool is_swapped)
{
    struct pt2_named_arg args[] = {arg_tensor("self", is_swapped ? y : x),
                                   arg_tensor("other", is_swapped ? x : y)};
    bool is_math = streq(op, "mul") || streq(op, "sub");
    struct pt2_tensor_meta meta;
    struct pt2_dim sizes[2];

    if (g->failed)
        return 0;
    sizes[0] = meta_of(g, x)->sizes[0];
    sizes[1] = meta_of(g, y)->sizes[0];
    meta = graph_contiguous(g, is_math ? meta_of(g, x)->dtype : PT2_BOOL, 2, sizes);
    return graph_add_node(g, op, "Tensor", args, 2, &meta);
}

uint32_t graph_and(struct graph *g, uint32_t x, uint32_t y)
{
    return graph_binary(g, "__and__", x, y);
}

/* ---- the rest ---- */

uint32_t graph_embedding(struct graph *g, uint32_t weight, uint32_t ids)
{
    struct pt2_named_arg args[] = {arg_tensor("weight", weight),
                                   arg_tensor("indices", ids)};
    struct pt2_tensor_meta meta;
    struct pt2_dim sizes[3];
    unsigned n;

    if (g->failed)
        return 0;
    n = meta_of(g, ids)->n_dims;
    for (unsigned i = 0; i < n; i++)
        sizes[i] = meta_of(g, ids)->sizes[i];
    sizes[n] = last_size(g, weight);
    meta = graph_contiguous(g, meta_of(g, weight)->dtype, n + 1, sizes);
    return graph_add_node(g, "embedding", "default", args, 2, &meta);
}

uint32_t graph_rows(struct graph *g, uint32_t table, uint32_t indices)
{
    struct pt2_named_arg args[] = {arg_tensor("self", table), arg_int("dim", 0),
                                   arg_tensor("index", indices)};
    struct pt2_tensor_meta meta;

    if (g->failed)
        return 0;
    meta = *meta_of(g, table);
    meta.sizes[0] = meta_of(g, indices)->sizes[0];
    meta = graph_contiguous(g, meta.dtype, meta.n_dims, meta.sizes);
    return graph_add_node(g, "index_select", "default", args, 3, &meta);
}

uint32_t graph_linear(struct graph *g, uint32_t x, uint32_t weight, uint32_t bias)
{
    struct pt2_named_arg args[] = {arg_tensor("input", x), arg_tensor("weight", weight),
                                   arg_tensor("bias", bias)};
    struct pt2_tensor_meta meta;

    if (g->failed)
        return 0;
    meta = graph_like(g, x, meta_of(g, x)->dtype, meta_of(g, weight)->sizes[0]);
    return graph_add_node(g, "linear", "default", args, bias == GRAPH_NO_BIAS ? 2 : 3,
                          &meta);
}

uint32_t graph_index_copy(struct graph *g, uint32_t buffer, uint32_t positions,
                          uint32_t source)
{
    struct pt2_named_arg args[] = {arg_tensor("self", buffer), arg_int("dim", 0),
                                   arg_tensor("index", positions),
                                   arg_tensor("source", source)};
    struct pt2_tensor_meta meta;

    if (g->failed)
        return 0;
    meta = *meta_of(g, buffer);
    args[1].arg.i = meta.n_dims - 2;
    return graph_add_node(g, "index_copy_", "default", args, 4, &meta);
}

uint32_t graph_attention(struct graph *g, uint32_t q, uint32_t k, uint32_t v,
                         uint32_t mask, double scale)
{
    struct pt2_named_arg args[MAX_ARGS] = {
        arg_tensor("query", q), arg_tensor("key", k), arg_tensor("value", v),
        arg_tensor("attn_mask", mask), arg_float("scale", 2, scale)};
    struct pt2_tensor_meta meta;
    uint32_t n = 5;

    if (g->failed)
        return 0;
    if (meta_of(g, q)->sizes[1].value != meta_of(g, k)->sizes[1].value)
        args[n++] = arg_bool("enable_gqa", 2, true);
    meta = graph_like(g, q, meta_of(g, q)->dtype, last_size(g, v));
    return graph_add_node(g, "scaled_dot_product_attention", "default", args, n, &meta);
}

uint32_t graph_layer_norm(struct graph *g, uint32_t x, uint32_t weight, uint32_t bias,
                          double eps)
{
    struct pt2_arg size = {.kind = PT2_ARG_INT};
    struct pt2_named_arg args[] = {
        arg_tensor("input", x), arg_list("normalized_shape", PT2_ARG_INTS, &size, 1),
        arg_tensor("weight", weight), arg_tensor("bias", bias), arg_float("eps", 1, eps)};
    struct pt2_tensor_meta meta;

    if (g->failed)
        return 0;
    size.i = last_size(g, x).value;
    for (size_t i = 2; i < 4; i++)
        if (args[i].arg.value == GRAPH_NO_BIAS)
            args[i] = arg_none(args[i].name);
    meta = *meta_of(g, x);
    meta = graph_contiguous(g, meta.dtype, meta.n_dims, meta.sizes);
    return graph_add_node(g, "layer_norm", "default", args, 5, &meta);
}

static uint32_t product(struct graph *g, const char *op, uint32_t x,
                        struct pt2_named_arg y)
{
    struct pt2_named_arg args[] = {arg_tensor("self", x), y};
    struct pt2_tensor_meta meta;

    if (g->failed)
        return 0;
    meta = *meta_of(g, x);
    meta.sizes[meta.n_dims - 1] = last_size(g, y.arg.value);
    meta = graph_contiguous(g, meta.dtype, meta.n_dims, meta.sizes);
    return graph_add_node(g, op, "default", args, 2, &meta);
}

uint32_t graph_matmul(struct graph *g, uint32_t x, uint32_t y)
{
    return product(g, "matmul", x, arg_tensor("other", y));
}

uint32_t graph_bmm(struct graph *g, uint32_t x, uint32_t y)
{
    return product(g, "bmm", x, arg_tensor("mat2", y));
}

uint32_t graph_softmax(struct graph *g, uint32_t x)
{
    struct pt2_named_arg args[] = {arg_tensor("self", x), arg_int("dim", -1),
                                   arg_dtype("dtype", 1, PT2_FLOAT32)};
    struct pt2_tensor_meta meta;

    if (g->failed)
        return 0;
    meta = graph_like(g, x, PT2_FLOAT32, last_size(g, x));
    return graph_add_node(g, "softmax", "int", args, 3, &meta);
}
