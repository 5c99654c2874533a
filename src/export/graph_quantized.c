/* graph_quantized.c - nodes of torchao's ops, spelled as torch.export spells those of
 * torchao 0.18 (quant_primitives.py). */
#include "base/log.h"
#include "export/graph_impl.h"

#define LIBRARY "torchao"

/* The bounds of symmetric numbers of so many bits. */
static struct pt2_named_arg arg_min(unsigned bits)
{
    return arg_int("quant_min", -(1 << (bits - 1)));
}

static struct pt2_named_arg arg_max(unsigned bits)
{
    return arg_int("quant_max", (1 << (bits - 1)) - 1);
}

/* All but the last dimension in blocks of 1, that one in blocks of group. */
static uint32_t block_of(const struct graph *g, uint32_t x, int64_t group,
                         struct pt2_arg ret_items[PT2_MAX_DIMS])
{
    unsigned n = meta_of(g, x)->n_dims;

    for (unsigned i = 0; i < n; i++)
        ret_items[i] =
            (struct pt2_arg){.kind = PT2_ARG_INT, .i = i + 1 == n ? group : 1};
    return n;
}

uint32_t graph_dequantize(struct graph *g, uint32_t x, uint32_t scale, uint32_t zero_point,
                          int64_t group, unsigned bits)
{
    struct pt2_arg block[PT2_MAX_DIMS];
    struct pt2_named_arg args[MAX_ARGS];
    struct pt2_tensor_meta meta;
    enum pt2_dtype dtype;

    if (g->failed)
        return 0;
    dtype = meta_of(g, scale)->dtype;
    args[0] = arg_tensor("input", x);
    args[1] = arg_list("block_size", PT2_ARG_INTS, block, block_of(g, x, group, block));
    args[2] = arg_tensor("scale", scale);
    args[3] = arg_tensor("zero_point", zero_point);
    args[4] = arg_dtype("input_dtype", 1, PT2_INT8);
    args[5] = arg_min(bits);
    args[6] = arg_max(bits);
    args[7] = arg_dtype("output_dtype", 1, dtype);
    meta = *meta_of(g, x);
    meta = graph_contiguous(g, dtype, meta.n_dims, meta.sizes);
    return graph_add_node_of(g, LIBRARY, "dequantize_affine", "default", args,
                             dtype == PT2_FLOAT32 ? 7 : 8, &meta);
}

/* The rows' scales and zero points: (..., k) to (...) each. */
static void choose(struct graph *g, uint32_t x, struct pt2_named_arg block,
                   uint32_t ret_values[2])
{
    struct pt2_named_arg args[] = {
        arg_tensor("input", x),
        named("mapping_type", 1, (struct pt2_arg){.kind = PT2_ARG_STRING, .s = "ASYMMETRIC"}),
        block,
        arg_dtype("target_dtype", 1, PT2_INT8),
        arg_min(8),
        arg_max(8),
        arg_none("eps"),
        arg_none("scale_dtype"),
        arg_dtype("zero_point_dtype", 1, PT2_INT8)};
    struct pt2_tensor_meta meta = *meta_of(g, x), metas[2];

    metas[0] = graph_contiguous(g, meta.dtype, meta.n_dims - 1, meta.sizes);
    metas[1] = graph_contiguous(g, PT2_INT8, meta.n_dims - 1, meta.sizes);
    graph_add_tuple_of(g, LIBRARY, "choose_qparams_affine", "default", args, ARRAY_LEN(args),
                       metas, 2, ret_values);
}

uint32_t graph_round_rows(struct graph *g, uint32_t x)
{
    struct pt2_arg items[PT2_MAX_DIMS];
    struct pt2_named_arg args[MAX_ARGS];
    struct pt2_tensor_meta meta;
    uint32_t chosen[2];
    int64_t k;

    if (g->failed)
        return 0;
    meta = *meta_of(g, x);
    k = last_size(g, x).value;
    args[1] = arg_list("block_size", PT2_ARG_INTS, items, block_of(g, x, k, items));
    choose(g, x, args[1], chosen);
    args[0] = arg_tensor("input", x);
    args[2] = arg_tensor("scale", chosen[0]);
    args[3] = arg_tensor("zero_point", chosen[1]);
    args[4] = arg_dtype("output_dtype", 1, PT2_INT8);
    args[5] = arg_min(8);
    args[6] = arg_max(8);
    meta = graph_contiguous(g, PT2_INT8, meta.n_dims, meta.sizes);
    x = graph_add_node_of(g, LIBRARY, "quantize_affine", "default", args, 7, &meta);
    return graph_dequantize(g, x, chosen[0], chosen[1], k, 8);
}
