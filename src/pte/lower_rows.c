/* lower_rows.c - experts, a token at a time where their number is symbolic.
 *
 * A mixture of experts gathers the weights of each token's experts (export/decoder_moe.c).
 * For one token that is a few matrices; for all that a call may have it would be so many
 * times as much of the arena.  So these nodes, from the one that repeats the tokens to the
 * sum over their experts, are lowered for one token, in a loop over the tokens. */
#include "base/log.h"
#include "pte/loop.h"
#include "pte/lower_impl.h"

#define MAX_ROW_INPUTS 8

static bool is_op(const struct pt2_node *node, const char *op)
{
    return streq(lower_op(node) ?: "", op);
}

/* A tensor of tokens, or of so many rows for each: its first size alone is symbolic. */
static bool has_rows(const struct lowering *l, uint32_t value)
{
    const struct pt2_tensor_meta *meta = lower_meta(l, value);

    for (unsigned i = 0; i < meta->n_dims; i++)
        if (lower_is_open(l, &meta->sizes[i]) != (i == 0))
            return false;
    return meta->n_dims > 0;
}

/* One row for each token. */
static bool is_by_token(const struct lowering *l, uint32_t value)
{
    return has_rows(l, value) && lower_is_symbol(l, lower_meta(l, value)->sizes[0].expr);
}

/* What a token's rows of the result depend on are that token's rows of the operands. */
static bool is_row_wise(const struct lowering *l, const struct pt2_node *node)
{
    static const char *const ops[] = {
        "add.Tensor",      "bmm.default",     "clamp.default",   "div.Tensor",
        "gelu.default",    "mul.Tensor",      "relu.default",    "repeat_interleave.self_int",
        "reshape.default", "sigmoid.default", "silu.default",    "slice.Tensor",
        "softplus.default", "square.default", "squeeze.dim",     "sub.Tensor",
        "tanh.default",    "unsqueeze.default", "view.default"};
    bool is_known = false;

    if (lower_does_nothing(l, node))
        return true;
    if (node->n_outputs != 1 || node->outputs[0].kind != PT2_ARG_TENSOR ||
        !has_rows(l, node->outputs[0].value))
        return false;
    if (is_op(node, "index.Tensor")) /* rows of a parameter */
        return !lower_is_dynamic(l, lower_tensor(node, "self"));
    if (is_op(node, "slice.Tensor") && lower_int(node, "dim", 0) == 0)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(ops) && !is_known; i++)
        is_known = is_op(node, ops[i]);
    return is_known;
}

/* Operands from before `first` that are not the same for all tokens: each once.  False where
 * one has not a row for each token, or there are too many. */
static bool find_inputs(const struct lowering *l, uint32_t first, uint32_t last,
                        uint32_t ret_inputs[MAX_ROW_INPUTS], uint32_t *ret_n)
{
    uint32_t n = 0;

    for (uint32_t i = first; i <= last; i++)
        for (uint32_t k = 0; k < l->nodes[i].n_inputs; k++) {
            const struct pt2_arg *arg = &l->nodes[i].inputs[k].arg;
            uint32_t at = 0;

            if (arg->kind != PT2_ARG_TENSOR || !lower_is_dynamic(l, arg->value) ||
                pt2_program_value(l->from, arg->value)->node >= (int32_t)first)
                continue;
            while (at < n && ret_inputs[at] != arg->value)
                at++;
            if (at == MAX_ROW_INPUTS || !is_by_token(l, arg->value))
                return false;
            ret_inputs[at] = arg->value;
            n = MAX(n, at + 1);
        }
    *ret_n = n;
    return n > 0;
}

static bool is_like(const struct lowering *l, uint32_t a, uint32_t b)
{
    const struct pt2_tensor_meta *x = lower_meta(l, a), *y = lower_meta(l, b);

    for (unsigned i = 1; i < x->n_dims && x->n_dims == y->n_dims; i++)
        if (x->sizes[i].value != y->sizes[i].value)
            return false;
    return x->n_dims == y->n_dims && x->dtype == y->dtype;
}

/* The sum over the experts of a token: shaped as the tokens are, and the result of all nodes
 * from `first` on, of which nothing else reads anything. */
static bool is_end(const struct lowering *l, uint32_t first, uint32_t i)
{
    const struct pt2_node *node = &l->nodes[i];
    const struct pt2_arg *dims = lower_arg(node, "dim");

    if (!is_op(node, "sum.dim_IntList") || !dims || dims->kind != PT2_ARG_INTS ||
        dims->list.n != 1 || dims->list.items[0].i != 1 ||
        !is_by_token(l, node->outputs[0].value) ||
        !is_like(l, node->outputs[0].value, lower_tensor(&l->nodes[first], "self")))
        return false;
    for (uint32_t k = first; k < i; k++)
        if (l->values[l->nodes[k].outputs[0].value].last_use > i)
            return false;
    return true;
}

bool lower_rows_at(const struct lowering *l, uint32_t node, uint32_t *ret_last)
{
    const struct pt2_node *start = &l->nodes[node];
    uint32_t last = node, inputs[MAX_ROW_INPUTS], n;

    if (!is_op(start, "repeat_interleave.self_int") || lower_int(start, "dim", -1) != 0 ||
        !is_by_token(l, lower_tensor(start, "self")))
        return false;
    while (last < pt2_program_n_nodes(l->from) && is_row_wise(l, &l->nodes[last]))
        last++;
    *ret_last = last;
    return last < pt2_program_n_nodes(l->from) && is_end(l, node, last) &&
           find_inputs(l, node, last, inputs, &n);
}

/* The input's row of this round in its place: (1, ...). */
static void take_row(struct lowering *l, const struct pte_loop *loop, uint32_t value)
{
    uint32_t row = pte_loop_row(l->p, loop, lower_value(l, value));
    int64_t sizes[PTE_MAX_DIMS] = {1};
    struct pte_tensor t;

    if (pte_failed(l->p))
        return;
    t = *pte_tensor(l->p, row);
    for (unsigned i = 0; i < t.n_dims; i++)
        sizes[i + 1] = t.sizes[i];
    l->values[value].value = pte_view(l->p, row, t.dtype, t.n_dims + 1, sizes, 0);
}

/* Without its first dimension, which is 1. */
static uint32_t flat_row(struct lowering *l, uint32_t x)
{
    int64_t sizes[PTE_MAX_DIMS];
    struct pte_tensor t;

    if (pte_failed(l->p))
        return 0;
    t = *pte_tensor(l->p, x);
    for (unsigned i = 1; i < t.n_dims; i++)
        sizes[i - 1] = t.sizes[i];
    return pte_view(l->p, x, t.dtype, t.n_dims - 1, sizes, 0);
}

/* One round: the nodes as for a call of one token. */
static int put_round(struct lowering *l, uint32_t first, uint32_t last)
{
    l->is_row = true;
    for (l->node = first; l->node <= last && !pte_failed(l->p); l->node++)
        if (lower_node(l, &l->nodes[l->node]) < 0)
            return -1;
    l->node = last;
    if (!pte_failed(l->p) && lower_xnn_end(l) < 0)
        return -1;
    l->is_row = false;
    return 0;
}

int lower_rows(struct lowering *l, uint32_t first, uint32_t last)
{
    uint32_t inputs[MAX_ROW_INPUTS], wholes[MAX_ROW_INPUTS], n, rows;
    uint32_t made = l->nodes[last].outputs[0].value, like;
    struct pte_loop loop;

    if (!find_inputs(l, first, last, inputs, &n) || lower_xnn_end(l) < 0)
        return -1;
    like = lower_value(l, lower_tensor(&l->nodes[first], "self"));
    /* et_copy_index makes no tensor smaller than it was: this gives it its rows. */
    rows = lower_activation(l, made);
    PTE_CALL(l->p, "aten::full_like", "out", like, pte_int(l->p, 0), pte_null(l->p), rows,
             rows);
    loop = pte_loop_begin(l->p, like);
    for (uint32_t i = 0; i < n; i++) {
        wholes[i] = lower_value(l, inputs[i]);
        take_row(l, &loop, inputs[i]);
    }
    if (put_round(l, first, last) < 0)
        return -1;
    for (uint32_t i = 0; i < n; i++)
        l->values[inputs[i]].value = wholes[i];
    pte_loop_end(l->p, &loop, rows, flat_row(l, l->values[made].value));
    l->values[made].value = rows;
    return 0;
}
