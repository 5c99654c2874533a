/* graph_select.c - nodes that choose: the largest, and elements by their numbers. */
#include "base/log.h"
#include "export/graph_impl.h"

uint32_t graph_topk(struct graph *g, uint32_t x, int64_t k, bool is_sorted,
                    uint32_t *ret_indices)
{
    struct pt2_named_arg args[] = {arg_tensor("self", x), arg_int("k", k),
                                   arg_int("dim", -1), arg_bool("largest", 1, true),
                                   arg_bool("sorted", 1, false)};
    struct pt2_tensor_meta metas[2];
    uint32_t values[2];

    *ret_indices = 0;
    if (g->failed)
        return 0;
    ASSERT(k >= 1 && k <= last_size(g, x).value);
    metas[0] = graph_like(g, x, meta_of(g, x)->dtype, dim_of(k));
    metas[1] = graph_like(g, x, PT2_INT64, dim_of(k));
    graph_add_tuple(g, "topk", "default", args, is_sorted ? 2 : 5, metas, 2, values);
    *ret_indices = values[1];
    return values[0];
}

/* amax, not max.dim: XNNPACK takes the latter for a pooling and makes NaN of -inf. */
uint32_t graph_max_last(struct graph *g, uint32_t x)
{
    struct pt2_arg last = {.kind = PT2_ARG_INT, .i = -1};
    struct pt2_named_arg args[] = {arg_tensor("self", x),
                                   arg_list("dim", PT2_ARG_INTS, &last, 1),
                                   arg_bool("keepdim", 1, true)};
    struct pt2_tensor_meta meta;

    if (g->failed)
        return 0;
    meta = *meta_of(g, x);
    meta.sizes[meta.n_dims - 1] = dim_of(1);
    meta = graph_contiguous(g, meta.dtype, meta.n_dims, meta.sizes);
    return graph_add_node(g, "amax", "default", args, 3, &meta);
}

uint32_t graph_sum(struct graph *g, uint32_t x, int dim, bool keeps)
{
    struct pt2_arg which = {.kind = PT2_ARG_INT, .i = dim};
    struct pt2_named_arg args[] = {arg_tensor("self", x),
                                   arg_list("dim", PT2_ARG_INTS, &which, 1),
                                   arg_bool("keepdim", 1, true)};
    struct pt2_tensor_meta meta;
    unsigned at;

    if (g->failed)
        return 0;
    meta = *meta_of(g, x);
    at = dim < 0 ? meta.n_dims - (unsigned)-dim : (unsigned)dim;
    meta.sizes[at] = dim_of(1);
    if (!keeps) {
        meta.n_dims--;
        memmove(&meta.sizes[at], &meta.sizes[at + 1],
                (meta.n_dims - at) * sizeof(meta.sizes[0]));
    }
    meta = graph_contiguous(g, meta.dtype, meta.n_dims, meta.sizes);
    return graph_add_node(g, "sum", "dim_IntList", args, keeps ? 3 : 2, &meta);
}

uint32_t graph_repeat_rows(struct graph *g, uint32_t x, int64_t n_repeats,
                           struct pt2_dim n_rows)
{
    struct pt2_named_arg args[] = {arg_tensor("self", x), arg_int("repeats", n_repeats),
                                   arg_int("dim", 0)};
    struct pt2_dim sizes[2];
    struct pt2_tensor_meta meta;

    if (g->failed)
        return 0;
    sizes[0] = n_rows;
    sizes[1] = last_size(g, x);
    meta = graph_contiguous(g, meta_of(g, x)->dtype, 2, sizes);
    return graph_add_node(g, "repeat_interleave", "self_int", args, 3, &meta);
}

uint32_t graph_index_rows(struct graph *g, uint32_t x, uint32_t indices)
{
    struct pt2_arg list = {.kind = PT2_ARG_TENSOR, .value = indices};
    struct pt2_named_arg args[] = {
        arg_tensor("self", x), arg_list("indices", PT2_ARG_OPTIONAL_TENSORS, &list, 1)};
    struct pt2_tensor_meta meta;

    if (g->failed)
        return 0;
    meta = *meta_of(g, x);
    meta.sizes[0] = meta_of(g, indices)->sizes[0];
    meta = graph_contiguous(g, meta.dtype, meta.n_dims, meta.sizes);
    return graph_add_node(g, "index", "Tensor", args, 2, &meta);
}

uint32_t graph_gather_last(struct graph *g, uint32_t x, uint32_t indices)
{
    struct pt2_named_arg args[3];
    struct pt2_tensor_meta meta;

    if (g->failed)
        return 0;
    args[0] = arg_tensor("self", x);
    args[1] = arg_int("dim", meta_of(g, x)->n_dims - 1);
    args[2] = arg_tensor("index", indices);
    meta = graph_like(g, x, meta_of(g, x)->dtype, last_size(g, indices));
    return graph_add_node(g, "gather", "default", args, 3, &meta);
}

uint32_t graph_ones_at(struct graph *g, uint32_t x, uint32_t indices)
{
    struct pt2_named_arg zeros[] = {arg_tensor("self", x),
                                    arg_bool("pin_memory", 2, false)};
    struct pt2_named_arg args[4];
    struct pt2_tensor_meta meta;

    if (g->failed)
        return 0;
    meta = graph_like(g, x, meta_of(g, x)->dtype, last_size(g, x));
    args[0] = arg_tensor("self", graph_add_node(g, "zeros_like", "default", zeros, 2, &meta));
    args[1] = arg_int("dim", meta.n_dims - 1);
    args[2] = arg_tensor("index", indices);
    args[3] = arg_int("value", 1);
    return graph_add_node(g, "scatter", "value", args, 4, &meta);
}

uint32_t graph_masked_fill(struct graph *g, uint32_t x, uint32_t mask, double value)
{
    struct pt2_named_arg args[] = {arg_tensor("self", x), arg_tensor("mask", mask),
                                   arg_float("value", 1, value)};
    struct pt2_tensor_meta meta;

    if (g->failed)
        return 0;
    meta = graph_like(g, x, meta_of(g, x)->dtype, last_size(g, x));
    return graph_add_node(g, "masked_fill", "Scalar", args, 3, &meta);
}
