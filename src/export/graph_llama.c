/* graph_llama.c - ExecuTorch's ops for caches and attention over them (ExecuTorch 1.5.1,
 * extension/llm/custom_ops), and the number that both take for the run's first position. */
#include "export/graph_impl.h"

static struct pt2_named_arg arg_number(const char *name, uint32_t value)
{
    return named(name, 1, (struct pt2_arg){.kind = PT2_ARG_SYM_INT, .value = value});
}

uint32_t graph_first_item(struct graph *g, uint32_t x, const char *symbol)
{
    struct pt2_named_arg args[] = {arg_tensor("self", x), arg_int("dim", 0),
                                   arg_int("index", 0)};
    struct pt2_tensor_meta meta = graph_contiguous(g, PT2_INT64, 0, NULL);
    uint32_t value = 0;

    args[0] = arg_tensor("self", graph_add_node(g, "select", "int", args, 3, &meta));
    if (!g->failed)
        g->failed = pt2_program_add_symbol(g->program, "torch.ops.aten.item.default", "item",
                                           args, 1, symbol, &value, g->err) < 0;
    return value;
}

static uint32_t add_llama(struct graph *g, const char *op, const struct pt2_named_arg *args,
                          uint32_t n_args, const struct pt2_tensor_meta *meta)
{
    char target[80];
    uint32_t value = 0;

    if (g->failed)
        return 0;
    snprintf(target, sizeof(target), "torch.ops.llama.%s.default", op);
    g->failed = pt2_program_add_node(g->program, target, op, args, n_args, meta, &value,
                                     g->err) < 0;
    return value;
}

void graph_update_cache(struct graph *g, uint32_t value, uint32_t cache, uint32_t first)
{
    const struct pt2_named_arg args[] = {arg_tensor("value", value),
                                         arg_tensor("cache", cache),
                                         arg_number("start_pos", first)};
    const struct pt2_dim one = dim_of(1);
    struct pt2_tensor_meta meta;

    if (g->failed)
        return;
    meta = graph_contiguous(g, meta_of(g, value)->dtype, 1, &one); /* what nobody reads */
    add_llama(g, "update_cache", args, ARRAY_LEN(args), &meta);
}

uint32_t graph_custom_sdpa(struct graph *g, uint32_t q, uint32_t k, uint32_t v,
                           uint32_t first, uint32_t mask, double scale)
{
    bool is_causal = mask == GRAPH_NO_BIAS;
    const struct pt2_named_arg args[] = {
        arg_tensor("query", q),
        arg_tensor("key", k),
        arg_tensor("value", v),
        arg_number("start_pos", first),
        is_causal ? arg_none("attn_mask") : arg_tensor("attn_mask", mask),
        arg_float("drpout_p", 1, 0), /* as the schema spells it */
        arg_bool("is_causal", 1, is_causal),
        arg_float("scale", 1, scale)};
    struct pt2_tensor_meta meta;

    if (g->failed)
        return 0;
    meta = graph_contiguous(g, meta_of(g, q)->dtype, 4, meta_of(g, q)->sizes);
    return add_llama(g, "custom_sdpa", args, ARRAY_LEN(args), &meta);
}
