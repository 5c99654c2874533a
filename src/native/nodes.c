#include "native/nodes.h"

/* prefix and then n bytes of s, cut where they are too long. */
static void put_name(struct node_op *op, const char *prefix, const char *s, size_t n)
{
    size_t n_prefix = strlen(prefix);

    n = MIN(n, sizeof(op->name) - 1 - n_prefix);
    memcpy(op->name, prefix, n_prefix);
    memcpy(op->name + n_prefix, s, n);
    op->name[n_prefix + n] = '\0';
}

struct node_op node_op(const struct pt2_node *node)
{
    struct node_op op = {""};
    const char *aten = after_prefix(node->target, "torch.ops.aten."), *dot;
    const char *scalar = aten ? NULL : after_prefix(node->target, "_operator."),
               *own = after_prefix(node->target, "torch.ops.transformers."),
               *llama = after_prefix(node->target, "torch.ops.llama."),
               *ao = after_prefix(node->target, "torch.ops.torchao.");

    if (aten) {
        dot = strchr(aten, '.');
        put_name(&op, "", aten, dot ? (size_t)(dot - aten) : strlen(aten));
        return op;
    }
    if (llama) {
        dot = strchr(llama, '.');
        put_name(&op, "llama.", llama, dot ? (size_t)(dot - llama) : strlen(llama));
        return op;
    }
    if (own) {
        dot = strchr(own, '.');
        put_name(&op, "transformers.", own, dot ? (size_t)(dot - own) : strlen(own));
        return op;
    }
    if (ao) {
        dot = strchr(ao, '.');
        put_name(&op, "torchao.", ao, dot ? (size_t)(dot - ao) : strlen(ao));
        return op;
    }
    if (!scalar)
        scalar = after_prefix(node->target, "math.");
    if (!scalar && after_prefix(node->target, "torch.sym_"))
        scalar = node->target + strlen("torch.");
    if (scalar)
        put_name(&op, "scalar.", scalar, strlen(scalar));
    return op;
}

bool node_is(const struct pt2_node *node, const char *name)
{
    struct node_op op = node_op(node);

    return streq(op.name, name);
}

bool node_is_in(const struct node_op *op, const char *const *names)
{
    for (; *names; names++)
        if (streq(op->name, *names))
            return true;
    return false;
}

/* ---- arguments ---- */

const struct pt2_arg *node_arg(const struct pt2_node *node, const char *name)
{
    for (uint32_t i = 0; i < node->n_inputs; i++)
        if (node->inputs[i].name && streq(node->inputs[i].name, name))
            return node->inputs[i].arg.kind == PT2_ARG_NONE ? NULL : &node->inputs[i].arg;
    return NULL;
}

static bool is_value(const struct pt2_arg *arg)
{
    return arg->kind == PT2_ARG_TENSOR || arg->kind == PT2_ARG_SYM_INT ||
           arg->kind == PT2_ARG_SYM_BOOL || arg->kind == PT2_ARG_SYM_FLOAT;
}

static bool is_list(const struct pt2_arg *arg)
{
    return arg->kind >= PT2_ARG_TENSORS;
}

const struct pt2_arg *node_list(const struct pt2_node *node, const char *name)
{
    const struct pt2_arg *arg = node_arg(node, name);

    return arg && is_list(arg) ? arg : NULL;
}

int64_t node_value(const struct pt2_node *node, const char *name)
{
    const struct pt2_arg *arg = node_arg(node, name);

    return arg && is_value(arg) ? (int64_t)arg->value : -1;
}

bool node_int(const struct pt2_node *node, const char *name, int64_t other, int64_t *ret)
{
    const struct pt2_arg *arg = node_arg(node, name);

    if (arg && arg->kind != PT2_ARG_INT)
        return false;
    *ret = arg ? arg->i : other;
    return true;
}

bool node_float(const struct pt2_node *node, const char *name, double other, double *ret)
{
    const struct pt2_arg *arg = node_arg(node, name);

    if (arg && arg->kind == PT2_ARG_INT)
        *ret = (double)arg->i;
    else if (arg && arg->kind != PT2_ARG_FLOAT)
        return false;
    else
        *ret = arg ? arg->f : other;
    return true;
}

bool node_bool(const struct pt2_node *node, const char *name, bool other, bool *ret)
{
    const struct pt2_arg *arg = node_arg(node, name);

    if (arg && arg->kind != PT2_ARG_BOOL)
        return false;
    *ret = arg ? arg->b : other;
    return true;
}

bool node_dim(const struct pt2_node *node, const char *name, int64_t other, unsigned n_dims,
              unsigned *ret)
{
    int64_t dim;

    if (!node_int(node, name, other, &dim))
        return false;
    dim += dim < 0 ? n_dims : 0;
    if (dim < 0 || dim >= n_dims)
        return false;
    *ret = (unsigned)dim;
    return true;
}

/* ---- outputs ---- */

int64_t node_out_at(const struct pt2_node *node, unsigned i)
{
    for (uint32_t o = 0; o < node->n_outputs; o++) {
        const struct pt2_arg *out = &node->outputs[o];
        uint32_t n = is_list(out) ? out->list.n : 1;

        if (i < n) {
            out = is_list(out) ? &out->list.items[i] : out;
            return is_value(out) ? (int64_t)out->value : -1;
        }
        i -= n;
    }
    return -1;
}

int64_t node_out(const struct pt2_node *node)
{
    return node->n_outputs == 1 && !is_list(&node->outputs[0]) ? node_out_at(node, 0) : -1;
}

void node_each_input(const struct pt2_node *node, void (*fn)(void *context, uint32_t value),
                     void *context)
{
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        const struct pt2_arg *arg = &node->inputs[i].arg;

        if (is_value(arg))
            fn(context, arg->value);
        for (uint32_t k = 0; is_list(arg) && k < arg->list.n; k++)
            if (is_value(&arg->list.items[k]))
                fn(context, arg->list.items[k].value);
    }
}

/* ---- memory ---- */

int64_t node_written(const struct pt2_node *node)
{
    struct node_op op = node_op(node);
    size_t n = strlen(op.name);
    int64_t self = node_value(node, "self");

    if (streq(op.name, "llama.update_cache"))
        return node_value(node, "cache");
    if (n < 2 || op.name[n - 1] != '_' || op.name[n - 2] == '_' || streq(op.name, "detach_"))
        return -1;
    return self;
}

bool node_is_view(const struct node_op *op)
{
    static const char *const names[] = {
        "alias",     "broadcast_to", "chunk", "contiguous", "detach", "detach_",    "diagonal",
        "expand",    "expand_as", "flatten",  "movedim", "narrow",    "numpy_T",
        "permute",   "reshape", "reshape_as", "select", "slice",      "split",
        "split_with_sizes", "squeeze", "swapaxes", "t", "to",         "transpose",
        "type_as",   "unbind",  "unflatten",  "unfold", "unsqueeze",  "unsqueeze_",
        "view",      "view_as", "dropout",    "_unsafe_view", "_reshape_alias", "real",
        "tensor_split", "swapdims", "lift",   "squeeze_", "transpose_", NULL};

    return node_is_in(op, names);
}

bool node_reads_shape_only(const struct node_op *op)
{
    static const char *const names[] = {
        "new_ones",  "new_zeros", "new_full",   "new_empty",  "ones_like", "zeros_like",
        "full_like", "empty_like", "sym_size",  "sym_numel",  NULL};

    return node_is_in(op, names) || node_is_check(op);
}

bool node_is_check(const struct node_op *op)
{
    static const char *const names[] = {
        "_assert_async", "_assert_scalar", "_assert_tensor_metadata",
        "sym_constrain_range", "sym_constrain_range_for_size", NULL};

    return node_is_in(op, names);
}

void nodes_roots(const struct pt2_program *program, uint32_t *roots)
{
    for (uint32_t i = 0; i < pt2_program_n_values(program); i++)
        roots[i] = i;
    for (uint32_t i = 0; i < pt2_program_n_nodes(program); i++) {
        const struct pt2_node *node = pt2_program_node(program, i);
        struct node_op op = node_op(node);
        bool answers_self = !streq(op.name, "llama.update_cache");
        int64_t self = answers_self ? node_written(node) : -1, out;

        if (self < 0 && node_is_view(&op)) {
            self = node_value(node, "self");
            self = self < 0 ? node_value(node, "input") : self;
        }
        for (unsigned k = 0; self >= 0 && (out = node_out_at(node, k)) >= 0; k++)
            roots[out] = roots[self];
    }
}
