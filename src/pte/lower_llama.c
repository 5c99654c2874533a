/* lower_llama.c - ExecuTorch's own ops for caches and attention over them, and the number
 * that both take: the run's first position, read from the tensor.
 *
 * The argument lists are those of ExecuTorch 1.5.1's extension/llm/custom_ops. */
#include "pte/lower_impl.h"

static const char llama[] = "torch.ops.llama.";

bool lower_is_llama(const struct pt2_node *node)
{
    return after_prefix(node->target, llama) ||
           streq(node->target, "torch.ops.aten.item.default");
}

/* A number of a tensor of one. */
static int lower_item(struct lowering *l, const struct pt2_node *node)
{
    uint32_t value = lower_tensor(node, "self"), x, number = pte_int_out(l->p);

    if (value == NO_VALUE || node->n_outputs != 1 ||
        node->outputs[0].kind != PT2_ARG_SYM_INT)
        return lower_refuse(l, node, "no number of a tensor");
    x = lower_value(l, value);
    PTE_CALL(l->p, "aten::_local_scalar_dense", "", x, number);
    l->values[node->outputs[0].value].value = number;
    return 0;
}

/* A symbol that lower_item has made, or a number. */
static int number_value(struct lowering *l, const struct pt2_node *node, const char *name,
                        uint32_t *ret_value)
{
    const struct pt2_arg *arg = lower_arg(node, name);

    if (arg && arg->kind == PT2_ARG_INT)
        *ret_value = pte_int(l->p, arg->i);
    else if (arg && arg->kind == PT2_ARG_SYM_INT &&
             l->values[arg->value].value != NO_VALUE)
        *ret_value = l->values[arg->value].value;
    else
        return lower_refuse(l, node, "a position that no node has made");
    return 0;
}

/* The rows come after those of the positions before; what the op answers says nothing. */
static int lower_update_cache(struct lowering *l, const struct pt2_node *node)
{
    uint32_t rows = lower_value(l, lower_tensor(node, "value"));
    uint32_t cache = lower_value(l, lower_tensor(node, "cache")), first, nothing;

    if (number_value(l, node, "start_pos", &first) < 0)
        return -1;
    nothing = lower_result(l, node);
    PTE_CALL(l->p, "llama::update_cache", "out", rows, cache, first, nothing, nothing);
    return 0;
}

static int lower_custom_sdpa(struct lowering *l, const struct pt2_node *node)
{
    uint32_t q = lower_value(l, lower_tensor(node, "query"));
    uint32_t k = lower_value(l, lower_tensor(node, "key"));
    uint32_t v = lower_value(l, lower_tensor(node, "value"));
    uint32_t mask = lower_tensor(node, "attn_mask"), first, out;
    const struct pt2_arg *is_causal = lower_arg(node, "is_causal");
    const struct pt2_arg *scale = lower_arg(node, "scale");

    if (number_value(l, node, "start_pos", &first) < 0)
        return -1;
    mask = mask == NO_VALUE ? pte_null(l->p) : lower_value(l, mask);
    out = lower_result(l, node);
    PTE_CALL(l->p, "llama::custom_sdpa", "out", q, k, v, first, mask, pte_double(l->p, 0),
             pte_bool(l->p, is_causal && is_causal->kind == PT2_ARG_BOOL && is_causal->b),
             scale && scale->kind == PT2_ARG_FLOAT ? pte_double(l->p, scale->f)
                                                   : pte_null(l->p),
             out, out);
    return 0;
}

int lower_llama(struct lowering *l, const struct pt2_node *node)
{
    const char *op = after_prefix(node->target, llama);

    if (lower_xnn_end(l) < 0)
        return -1;
    if (!op)
        return lower_item(l, node);
    if (streq(op, "update_cache.default"))
        return lower_update_cache(l, node);
    if (streq(op, "custom_sdpa.default"))
        return lower_custom_sdpa(l, node);
    return lower_refuse(l, node, "an op that ExecuTorch's llama library has not");
}
