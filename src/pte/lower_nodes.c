/* lower_nodes.c - the graph's nodes as the lowering walks them: without contiguous.
 *
 * Every tensor of the file is contiguous, so such a node does nothing here: who reads its
 * result reads what it was made of. */
#include "pte/lower_impl.h"

static bool is_contiguous(const struct pt2_node *node)
{
    return streq(lower_op(node) ?: "", "contiguous.default") && node->n_outputs == 1 &&
           node->outputs[0].kind == PT2_ARG_TENSOR && lower_tensor(node, "self") != NO_VALUE;
}

bool lower_does_nothing(const struct lowering *l, const struct pt2_node *node)
{
    return node->n_outputs == 1 && node->outputs[0].kind == PT2_ARG_TENSOR &&
           lower_root(l, node->outputs[0].value) != node->outputs[0].value;
}

static int check_list(struct lowering *l, const struct pt2_node *node,
                      const struct pt2_arg *arg)
{
    if (arg->kind != PT2_ARG_TENSORS && arg->kind != PT2_ARG_OPTIONAL_TENSORS)
        return 0;
    for (uint32_t i = 0; i < arg->list.n; i++)
        if (arg->list.items[i].kind == PT2_ARG_TENSOR &&
            lower_root(l, arg->list.items[i].value) != arg->list.items[i].value)
            return lower_refuse(l, node, "a list with a result of contiguous in it");
    return 0;
}

static int copy_node(struct lowering *l, const struct pt2_node *from,
                     struct pt2_named_arg *args, struct pt2_node *to)
{
    *to = *from;
    to->inputs = args;
    for (uint32_t i = 0; i < from->n_inputs; i++) {
        args[i] = from->inputs[i];
        if (args[i].arg.kind == PT2_ARG_TENSOR)
            args[i].arg.value = lower_root(l, args[i].arg.value);
        else if (check_list(l, from, &args[i].arg) < 0)
            return -1;
    }
    if (!is_contiguous(from))
        return 0;
    l->values[from->outputs[0].value].same_as = lower_tensor(to, "self");
    to->n_inputs = 0;
    return 0;
}

int lower_copy_nodes(struct lowering *l)
{
    uint32_t n = pt2_program_n_nodes(l->from);
    size_t n_args = 0, at = 0;

    for (uint32_t i = 0; i < n; i++)
        n_args += pt2_program_node(l->from, i)->n_inputs;
    l->nodes = calloc((size_t)n + 1, sizeof(*l->nodes));
    l->node_args = calloc(n_args + 1, sizeof(*l->node_args));
    if (!l->nodes || !l->node_args)
        return pt2_err_set(l->err, PT2_ERR_NOMEM, "an ExecuTorch program");
    for (uint32_t i = 0; i < n; i++) {
        const struct pt2_node *node = pt2_program_node(l->from, i);

        if (copy_node(l, node, l->node_args + at, &l->nodes[i]) < 0)
            return -1;
        at += node->n_inputs;
    }
    return 0;
}
