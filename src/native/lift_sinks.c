/* Attention sinks: a logit for each head behind those of the positions, whose probability is
 * dropped; and the largest of the scores, which is taken off before. */
#include "native/lift.h"

/* The constant that a value repeats for each token: (heads), before two dimensions of 1. */
static int sinks_of(struct lift *l, uint32_t value, const struct scores *s, uint32_t *ret)
{
    const struct pt2_value *v = pt2_program_value(l->program, value);
    const struct pt2_node *node;
    int64_t n = 1;

    /* Without what repeats it, in batches and for tokens, which may be constant too. */
    while ((node = v->node >= 0 ? pt2_program_node(l->program, (uint32_t)v->node) : NULL) &&
           (node_is(node, "expand") || node_is(node, "expand_as")) &&
           node_value(node, "self") >= 0) {
        value = (uint32_t)node_value(node, "self");
        v = pt2_program_value(l->program, value);
    }
    if (eval_class(l->eval, value) != EVAL_CONSTANT)
        return lift_refuse(l, "sinks that are no constants");
    for (unsigned d = 0; d < v->meta.n_dims; d++) {
        int64_t size = v->meta.sizes[d].value;

        if (size != 1 && d + 3 != v->meta.n_dims)
            return lift_refuse(l, "sinks that are not one for each head");
        n *= size;
    }
    if (n != (int64_t)s->heads)
        return lift_refuse(l, "%lld sinks for %u heads", (long long)n, s->heads);
    if (lift_constant(l, value, ret) < 0)
        return -1;
    return l->plan->constant_sizes[*ret] == n ? 0 : lift_refuse(l, "sinks of another size");
}

static int add_sinks(struct lift *l, const struct pt2_arg *list)
{
    struct lifted v = l->values[list->list.items[0].value];
    struct dim *last = &v.dims[v.n_dims - 1];
    unsigned dim;

    if (list->list.n != 2 || list->list.items[1].kind != PT2_ARG_TENSOR ||
        !node_dim(l->node, "dim", 0, v.n_dims, &dim) || dim + 1 != v.n_dims ||
        last->label != DIM_POS || v.scores.has_sinks || v.scores.is_probability ||
        !v.scores.is_masked)
        return lift_refuse(l, "scores put together with other values than sinks");
    for (unsigned d = 0; d + 3 < v.n_dims; d++)
        if (v.dims[d].label == DIM_ROW && v.dims[d].size != 1)
            return lift_refuse(l, "sinks beside heads in groups");
    if (sinks_of(l, list->list.items[1].value, &v.scores, &v.scores.sinks) < 0)
        return -1;
    v.scores.has_sinks = true;
    *last = new_dim(DIM_DATA, last->size + 1, 0);
    *lift_out(l) = v;
    return 0;
}

int lift_drop_sinks(struct lift *l, const struct lifted *in, unsigned dim, int64_t from,
                    int64_t to)
{
    struct lifted v = *in;
    struct dim *last = &v.dims[v.n_dims - 1];

    if (dim + 1 == v.n_dims && !v.scores.has_sinks) { /* as whose shape sinks are repeated */
        v.kind = KIND_LARGEST;
        v.value = UINT32_MAX;
        *lift_out(l) = v;
        return 0;
    }
    if (dim + 1 != v.n_dims || last->label != DIM_DATA || from != 0 || to != last->size - 1 ||
        !v.scores.is_probability)
        return lift_refuse(l, "a part of the scores that is not all but the sinks");
    *last = new_dim(DIM_POS, last->size - 1, 0);
    *lift_out(l) = v;
    return 0;
}

/* ---- the largest, which softmax takes off anyway ---- */

/* Is `dim`, a number or a list of one, the last dimension? */
static bool is_last(const struct pt2_node *node, unsigned n_dims)
{
    const struct pt2_arg *dim = node_arg(node, "dim"), *list = node_list(node, "dim");

    dim = !list ? dim : list->list.n == 1 ? &list->list.items[0] : NULL;
    return dim && dim->kind == PT2_ARG_INT && (dim->i == -1 || dim->i == (int64_t)n_dims - 1);
}

static int largest(struct lift *l, const struct lifted *scores)
{
    int64_t places = node_out_at(l->node, 1);
    struct lifted v = *scores;
    bool keeps = false;

    if (!is_last(l->node, v.n_dims) || !node_bool(l->node, "keepdim", false, &keeps) || !keeps ||
        (places >= 0 && l->needed[places]))
        return lift_refuse(l, "not the largest of each row's scores");
    v.kind = KIND_LARGEST;
    v.value = (uint32_t)node_value(l->node, "self");
    *lift_out(l) = v;
    return 0;
}

int lift_sinks(struct lift *l, const struct node_op *op, bool *ret_is)
{
    const struct lifted *self = lift_arg(l, "self"), *other = lift_arg(l, "other");
    const struct pt2_arg *list = node_list(l->node, "tensors");

    *ret_is = true;
    if (streq(op->name, "cat") && list && list->list.n > 0 &&
        list->list.items[0].kind == PT2_ARG_TENSOR &&
        l->values[list->list.items[0].value].kind == KIND_SCORES)
        return add_sinks(l, list);
    if ((streq(op->name, "max") || streq(op->name, "amax")) && self &&
        self->kind == KIND_SCORES)
        return largest(l, self);
    if (streq(op->name, "expand_as") && self && self->kind == KIND_EVAL && other &&
        other->kind == KIND_LARGEST)
        return 0; /* add_sinks looks for what is repeated */
    *ret_is = false;
    return 0;
}
