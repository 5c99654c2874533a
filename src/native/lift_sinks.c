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

/* ---- the other way: the sinks' share as a factor behind attention ----
 *
 *     padded = constant_pad_nd(scores, (0, 1)) + sinks     0 but for the last column
 *     share  = linear(softmax(padded), row)                row: ones, and 0 at the end
 *     rows   = bmm(softmax(scores), values) * share
 *
 * as profile edge has it (src/export/decoder_edge.c). */

static int pad(struct lift *l, const struct lifted *scores)
{
    const struct pt2_arg *sizes = node_list(l->node, "pad");
    struct lifted v = *scores;
    struct dim *last = &v.dims[v.n_dims - 1];
    double number;

    if (!sizes || sizes->kind != PT2_ARG_INTS || sizes->list.n != 2 ||
        sizes->list.items[0].i != 0 || sizes->list.items[1].i != 1 ||
        !node_float(l->node, "value", 0, &number) || number != 0 || last->label != DIM_POS ||
        v.scores.has_sinks || v.scores.is_probability || !v.scores.is_masked)
        return lift_refuse(l, "scores padded by more than a place for sinks");
    *last = new_dim(DIM_DATA, last->size + 1, 0);
    *lift_out(l) = v;
    return 0;
}

static bool is_padded(const struct lifted *v)
{
    return v && v->kind == KIND_SCORES && v->dims[v->n_dims - 1].label == DIM_DATA &&
           !v->scores.has_sinks && !v->scores.is_probability;
}

/* Are the heads of scores, (., heads, ., s, positions), in their own order, as many as that? */
static bool heads_in_order(const struct lifted *v, int64_t *ret_heads)
{
    int64_t n = 1;

    for (unsigned d = v->n_dims - 1; d-- > 0;) {
        if (v->dims[d].label != DIM_ROW)
            continue;
        if (v->dims[d].stride != n)
            return false;
        n *= v->dims[d].size;
    }
    *ret_heads = n;
    return true;
}

/* The last column of (., heads, ., 1, n) is the sinks; the rest must be 0. */
static int read_column(struct lift *l, const struct lifted *scores, const struct eval_tensor *t,
                       uint32_t *ret)
{
    int64_t n = scores->dims[scores->n_dims - 1].size, heads, width = 1;
    AUTO_PTR float *sinks = NULL;

    for (unsigned d = 0; d < t->n_dims; d++) {
        int at = (int)d + (int)scores->n_dims - (int)t->n_dims;
        const struct dim *dim = at < 0 ? NULL : &scores->dims[at];

        if (!dim || t->sizes[d] != (dim->label == DIM_ROW || d + 1 == t->n_dims ? dim->size : 1))
            return lift_refuse(l, "sinks that are not one for each head");
        width *= dim->label == DIM_ROW ? dim->size : 1;
    }
    if (!pt2_dtype_is_float(t->dtype) || !heads_in_order(scores, &heads) || width != heads ||
        heads != (int64_t)scores->scores.heads || t->n != heads * n)
        return lift_refuse(l, "sinks that are not one for each head");
    sinks = calloc((size_t)heads, sizeof(*sinks));
    if (!sinks)
        return lift_no_memory(l);
    for (int64_t i = 0; i < t->n; i++)
        if (i % n == n - 1)
            sinks[i / n] = t->f[i];
        else if (t->f[i] != 0)
            return lift_refuse(l, "scores padded by sinks, and changed otherwise");
    return lift_numbers(l, sinks, (uint32_t)heads, ret);
}

static int add_column(struct lift *l, const struct lifted *scores, int64_t value)
{
    struct lifted v = *scores;
    struct eval_tensor t;
    int r;

    if (value < 0 || node_arg(l->node, "alpha") ||
        eval_class(l->eval, (uint32_t)value) != EVAL_CONSTANT)
        return lift_refuse(l, "sinks that are no constants");
    if (eval_value(l->eval, (uint32_t)value, 0, MAX(l->decoder->seq_len, 1), &t, l->err) < 0)
        return -1;
    r = read_column(l, scores, &t, &v.scores.sinks);
    eval_tensor_done(&t);
    if (r < 0)
        return -1;
    v.scores.has_sinks = true;
    *lift_out(l) = v;
    return 0;
}

/* The sum of all probabilities but the sinks'. */
static int sum_share(struct lift *l, const struct lifted *p)
{
    int64_t weight = node_value(l->node, "weight");
    struct lifted v = *p;
    struct weights w;

    if (!p->scores.is_probability || !p->scores.has_sinks || weight < 0 ||
        node_arg(l->node, "bias"))
        return lift_refuse(l, "a product of scores that is no sum of probabilities");
    if (lift_weights(l, (uint32_t)weight, /* is_transposed= */ false, &w) < 0)
        return -1;
    if (w.dtype != PT2_FLOAT32 || w.n_out != 1 || w.k != p->dims[p->n_dims - 1].size)
        return lift_refuse(l, "a product of scores that is no sum of probabilities");
    for (uint32_t i = 0; i < w.k; i++)
        if (((const float *)w.data)[i] != (i + 1 < w.k))
            return lift_refuse(l, "a product of scores that is no sum of probabilities");
    v.kind = KIND_SHARE;
    v.dims[v.n_dims - 1] = new_dim(DIM_ONE, 1, 0);
    *lift_out(l) = v;
    return 0;
}

/* Rows (., heads, s, head_dim) that attention by the same scores made. */
static int take_share(struct lift *l, const struct lifted *rows, const struct lifted *share)
{
    int64_t maker = rows->kind == KIND_ROWS ? l->makers[rows->reg] : -1, heads;
    struct lifted v = *rows;
    struct plan_step *step, old;

    if (maker < 0 || l->steps[maker].s.out != rows->reg || rows->offset != 0 ||
        !lift_attends_by(l, &l->steps[maker].s, &share->scores) ||
        rows->n_dims != share->n_dims || !lift_is_contiguous(rows) ||
        !heads_in_order(share, &heads))
        return lift_refuse(l, "the share of positions in a softmax, of other rows than theirs");
    for (unsigned d = 0; d + 1 < rows->n_dims; d++)
        if (!dim_is_same(&rows->dims[d], &share->dims[d]))
            return lift_refuse(l, "the share of positions in a softmax, of other heads");
    if (rows->dims[rows->n_dims - 1].size != l->steps[maker].s.attend.v_head_dim)
        return lift_refuse(l, "the share of positions in a softmax, of parts of heads");
    old = l->steps[maker].s;
    step = lift_step(l, PLAN_ATTEND);
    if (!step || lift_new_rows(l, rows, &v) < 0)
        return -1;
    old.attend.sinks = (int32_t)share->scores.sinks;
    old.out = v.reg;
    old.out_offset = 0;
    *step = old;
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
    const struct lifted *self = lift_arg(l, "self"), *other = lift_arg(l, "other"),
                        *input = lift_arg(l, "input");
    const struct pt2_arg *list = node_list(l->node, "tensors");

    *ret_is = true;
    if (streq(op->name, "constant_pad_nd") && self && self->kind == KIND_SCORES)
        return pad(l, self);
    if (streq(op->name, "add") && is_padded(self))
        return add_column(l, self, node_value(l->node, "other"));
    if (streq(op->name, "linear") && input && input->kind == KIND_SCORES)
        return sum_share(l, input);
    if (streq(op->name, "mul") && self && other && other->kind == KIND_SHARE)
        return take_share(l, self, other);
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
