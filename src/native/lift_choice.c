/* A router's choice: the best of a row's elements, and what is taken or put where these
 * stand.  And tokens in the order of their experts, as grouped products want them: pairs of a
 * row and one of its choices, sorted by what was chosen.  A plan sorts for itself where it
 * runs (run_experts.c), so here sorted pairs are the same pairs, with the order's label. */
#include "native/lift.h"

bool lift_is_last_in_row(const struct lifted *v, unsigned dim)
{
    for (unsigned d = dim + 1; d < v->n_dims; d++)
        if (dim_in_row(&v->dims[d]) > 1)
            return false;
    return true;
}

/* ---- the largest ---- */

static int gather_from(struct lift *l, const struct lifted *in, const struct lifted *choice,
                       unsigned dim, struct lifted *ret)
{
    struct lifted from = lift_last_dim(in, dim), where = lift_last_dim(choice, dim);
    struct plan_step *step;

    for (unsigned d = 0; d < in->n_dims; d++)
        if (d != dim && !dim_is_same(&in->dims[d], &choice->dims[d]))
            return lift_refuse(l, "choices of other lines");
    if (choice->n > in->dims[dim].size || !lift_is_last_in_row(choice, dim) ||
        in->is_last != choice->is_last)
        return lift_refuse(l, "choices of another dimension");
    step = lift_step(l, PLAN_GATHER);
    if (!step || lift_new_rows(l, choice, ret) < 0 ||
        lift_lines(l, &from, &where, choice->dims[dim].size, step) < 0)
        return -1;
    step->out = ret->reg;
    return 0;
}

static int topk(struct lift *l, const struct lifted *in)
{
    struct lifted like = *in, moved, choice;
    int64_t values = node_out_at(l->node, 0), indices = node_out_at(l->node, 1), k, n;
    bool is_largest, is_sorted;
    struct plan_step *step;
    unsigned dim;

    if (!node_dim(l->node, "dim", -1, in->n_dims, &dim) || !node_int(l->node, "k", 0, &k) ||
        !node_bool(l->node, "largest", true, &is_largest) || !is_largest ||
        !node_bool(l->node, "sorted", true, &is_sorted))
        return lift_refuse(l, "not the largest, or no plain numbers");
    n = in->dims[dim].size;
    if ((in->dims[dim].label != DIM_ROW && in->dims[dim].label != DIM_ONE) ||
        !lift_is_last_in_row(in, dim))
        return lift_refuse(l, "over a dimension that is not a row's last");
    if (k < 1 || k > n || n > PLAN_MAX_CHOICE)
        return lift_refuse(l, "%lld of %lld; at most of %d", (long long)k, (long long)n,
                           PLAN_MAX_CHOICE);
    like.dims[dim] = k == 1 ? new_dim(DIM_ONE, 1, 0) : new_dim(DIM_ROW, k, 0);
    moved = lift_last_dim(in, dim);
    step = lift_step(l, PLAN_TOPK);
    if (!step || lift_new_rows(l, &like, &choice) < 0 ||
        lift_lines(l, &moved, NULL, k, step) < 0)
        return -1;
    step->out = choice.reg;
    step->topk.n = (uint32_t)n;
    step->topk.is_sorted = is_sorted;
    choice.kind = KIND_CHOICE;
    choice.n = n;
    if (indices >= 0)
        l->values[indices] = choice;
    return values < 0 ? 0 : gather_from(l, in, &choice, dim, &l->values[values]);
}

static int gather(struct lift *l, const struct lifted *in)
{
    const struct lifted *index = lift_arg(l, "index");
    unsigned dim;

    if (!index || index->kind != KIND_CHOICE || index->n_dims != in->n_dims ||
        !node_dim(l->node, "dim", 0, in->n_dims, &dim))
        return lift_refuse(l, "not by what was chosen");
    return gather_from(l, in, index, dim, lift_out(l));
}

/* ---- one number everywhere, and others at some places ---- */

static bool is_filled(const struct node_op *op)
{
    static const char *const names[] = {"zeros_like", "empty_like", "ones_like", "full_like",
                                        NULL};

    return node_is_in(op, names);
}

/* What such a node makes in the shape of rows, or of an order. */
static int fill(struct lift *l, const struct pt2_node *node, struct lifted *ret)
{
    int64_t self = node_value(node, "self");
    const struct pt2_value *out =
        pt2_program_value(l->program, (uint32_t)node_out_at(node, 0));
    struct lifted v = l->values[self];

    v.order_to_be = v.kind == KIND_ORDER;
    if (!node_float(node, "fill_value", node_is(node, "ones_like"), &v.number) ||
        (!v.order_to_be && !pt2_dtype_is_float(out->meta.dtype)))
        return lift_refuse(l, "filled with what is no number of the rows' kind");
    v.kind = KIND_FILL;
    *ret = v;
    return 0;
}

/* Is the value, which depends on no token's elements, filled in the shape of rows? */
static const struct pt2_node *filled_rows(const struct lift *l, int64_t value)
{
    const struct pt2_value *v = value < 0 ? NULL : pt2_program_value(l->program, (uint32_t)value);
    const struct pt2_node *node =
        v && v->node >= 0 ? pt2_program_node(l->program, (uint32_t)v->node) : NULL;
    struct node_op op = node ? node_op(node) : (struct node_op){""};

    return is_filled(&op) && node_value(node, "self") >= 0 &&
                   lift_is_rows(&l->values[node_value(node, "self")])
               ? node
               : NULL;
}

/* Do the places, and what is put there, go with the lines that they are put into? */
static bool lines_match(const struct lifted *self, const struct lifted *index,
                        const struct lifted *src, unsigned dim)
{
    if (index->n_dims != self->n_dims || (src && src->n_dims != self->n_dims))
        return false;
    for (unsigned d = 0; d < self->n_dims; d++)
        if ((d != dim && !dim_is_same(&self->dims[d], &index->dims[d])) ||
            (src && !dim_is_same(&src->dims[d], &index->dims[d])))
            return false;
    return true;
}

/* scatter of a number, or of rows, where it was chosen */
static int scatter(struct lift *l, const struct pt2_node *made)
{
    const struct lifted *index = lift_arg(l, "index"), *src = lift_arg(l, "src");
    struct lifted self, where, values;
    struct plan_step *step;
    unsigned dim;
    double number = 0;

    if (fill(l, made, &self) < 0)
        return -1;
    if (!index || index->kind != KIND_CHOICE || (src && !lift_is_rows(src)) ||
        !node_dim(l->node, "dim", 0, self.n_dims, &dim) || index->n > self.dims[dim].size ||
        (self.dims[dim].label != DIM_ROW && self.dims[dim].label != DIM_ONE) ||
        !lift_is_last_in_row(&self, dim) || !lines_match(&self, index, src, dim))
        return lift_refuse(l, "not to where it was chosen");
    if (!src && !node_float(l->node, "value", 0, &number))
        return lift_refuse(l, "a value that is no number");
    where = lift_last_dim(index, dim);
    values = lift_last_dim(src ? src : index, dim);
    step = lift_step(l, PLAN_SCATTER);
    if (!step || lift_new_rows(l, &self, &self) < 0 ||
        lift_lines(l, &where, &values, self.dims[dim].size, step) < 0)
        return -1;
    if (!src)
        step->b = (struct plan_view){.source = PLAN_NUMBER, .number = (float)number};
    step->out = self.reg;
    step->scatter.k = (uint32_t)index->dims[dim].size;
    step->scatter.fill = (float)self.number;
    if (lift_check_write(l) < 0)
        return -1;
    *lift_out(l) = self;
    return 0;
}

/* ---- masks of rows' elements ---- */

static int masked_fill(struct lift *l, const struct lifted *self, const struct lifted *mask)
{
    struct operand value, keep = lift_rows_operand(self), of = lift_rows_operand(mask), rest;
    struct lifted kept, filled;

    if (lift_operand(l, node_arg(l->node, "value"), self, &value) < 0 ||
        lift_binary(l, KERNEL_DROP, &keep, &of, &kept) < 0 ||
        lift_binary(l, KERNEL_KEEP, &value, &of, &filled) < 0)
        return -1;
    keep = lift_rows_operand(&kept);
    rest = lift_rows_operand(&filled);
    return lift_binary(l, KERNEL_ADD, &keep, &rest, lift_out(l)) < 0 ? -1
                                                                      : lift_check_write(l);
}

static bool is_bool(const struct lift *l, const char *arg)
{
    int64_t value = node_value(l->node, arg);

    return value >= 0 &&
           pt2_program_value(l->program, (uint32_t)value)->meta.dtype == PT2_BOOL;
}

/* ---- rows once for each choice ---- */

static int repeat(struct lift *l, const struct lifted *in)
{
    struct lifted v = *in;
    struct dim *d;
    int64_t times;
    unsigned dim;

    if (!node_dim(l->node, "dim", 0, in->n_dims, &dim) || !node_arg(l->node, "dim") ||
        !node_int(l->node, "repeats", 0, &times) || times < 1 || times > LIFT_MAX_WIDTH)
        return lift_refuse(l, "a repetition that is not of one dimension");
    d = &v.dims[dim];
    if (d->label == DIM_ONE)
        *d = new_dim(times == 1 ? DIM_ONE : DIM_ROW, times, 0);
    else if (times > 1 && d->label != DIM_BATCH && d->label != DIM_SEQ &&
             d->label != DIM_MERGED)
        return lift_refuse(l, "a repetition of a row's elements");
    else if (times > 1)
        *d = (struct dim){.label = DIM_PAIRS, .size = d->size * times, .n = (int32_t)times,
                          .of = d->label};
    *lift_out(l) = v;
    return 0;
}

/* ---- orders ---- */

/* The dimension of pairs, of however few kinds it is. */
static struct dim as_pairs(const struct dim *d, uint32_t order)
{
    struct dim pairs = *d;

    pairs.label = DIM_PAIRS;
    pairs.order = order;
    if (d->label == DIM_PAIRS)
        return pairs;
    pairs.n = d->label == DIM_ROW ? (int32_t)d->size : 1;
    pairs.of = d->label == DIM_ROW ? DIM_ONE : d->label;
    return pairs;
}

/* The same pairs as they were before: the inverse of as_pairs. */
static struct dim unsorted(const struct dim *d)
{
    struct dim was = *d;

    was.order = 0;
    if (d->of == DIM_ONE && d->n > 1)
        return new_dim(DIM_ROW, d->n, d->stride);
    if (d->n == 1)
        return new_dim(d->of, d->size, 0);
    return was;
}

static int sort(struct lift *l, const struct lifted *choice)
{
    int64_t values = node_out_at(l->node, 0), places = node_out_at(l->node, 1);
    struct lifted *orders, v = *choice;
    bool descends;
    unsigned dim;

    if (choice->n_dims != 1 || !node_dim(l->node, "dim", -1, 1, &dim) ||
        !node_bool(l->node, "descending", false, &descends) || descends ||
        (choice->dims[0].label == DIM_PAIRS && choice->dims[0].order != 0))
        return lift_refuse(l, "choices sorted in another way");
    orders = realloc(l->orders, (l->n_orders + 1) * sizeof(*orders));
    if (!orders)
        return lift_no_memory(l);
    l->orders = orders;
    v.dims[0] = as_pairs(&choice->dims[0], (uint32_t)l->n_orders + 1);
    orders[l->n_orders++] = v;
    if (values >= 0)
        l->values[values] = v;
    v.kind = KIND_ORDER;
    if (places >= 0)
        l->values[places] = v;
    return 0;
}

/* Places of pairs, as those of their rows. */
static int places_of_rows(struct lift *l, const struct lifted *order)
{
    int64_t by;

    if (!node_int(l->node, "other", 0, &by) || order->n_dims != 1 ||
        by != order->dims[0].n || order->of_rows || order->is_inverse)
        return lift_refuse(l, "places of pairs by another number than there are of a row");
    *lift_out(l) = *order;
    lift_out(l)->of_rows = true;
    return 0;
}

/* Rows, pairs or sorted pairs by an order. */
static int by_order(struct lift *l, const struct lifted *in, const struct lifted *order)
{
    const struct dim *pairs = &order->dims[0];
    struct lifted v = *in;
    struct dim was = unsorted(pairs), *d = &v.dims[0];
    int32_t stride = in->dims[0].stride;

    if (in->n_dims < 1 || order->n_dims != 1)
        return lift_refuse(l, "an order of more or fewer dimensions");
    if (order->is_inverse) {
        if (!dim_is_same(d, pairs))
            return lift_refuse(l, "pairs that are not in that order");
        *d = was;
        d->stride = stride;
    } else if (order->of_rows) {
        if (d->label != pairs->of || d->size * pairs->n != pairs->size)
            return lift_refuse(l, "rows that are not those which were sorted");
        *d = *pairs;
        d->stride = 0;
    } else {
        if (!dim_is_same(d, &was))
            return lift_refuse(l, "pairs that are not those which were sorted");
        *d = *pairs;
        d->stride = stride;
    }
    *lift_out(l) = v;
    return 0;
}

/* Are they 0, 1, 2, .. up to the number of pairs, in a run of s tokens? */
static int check_range(struct lift *l, uint32_t value, const struct dim *pairs, int64_t s,
                       bool *ret_is)
{
    int64_t n = pairs->n * (pairs->of == DIM_ONE ? 1 : l->decoder->batch_size * s);
    struct eval_tensor t;

    *ret_is = false;
    if (eval_value(l->eval, value, 0, s, &t, l->err) < 0)
        return -1;
    *ret_is = t.n == n && (t.dtype == PT2_INT64 || t.dtype == PT2_INT32);
    for (int64_t i = 0; *ret_is && i < n; i++)
        *ret_is = t.i[i] == i;
    eval_tensor_done(&t);
    return 0;
}

/* empty[order] = 0, 1, 2, ..: the order's inverse */
static int invert(struct lift *l, const struct lifted *order, int64_t numbers)
{
    int64_t s = l->decoder->seq_len;
    bool is = false, is_too = true;

    if (numbers < 0 || l->values[numbers].kind != KIND_EVAL || order->n_dims != 1 ||
        order->of_rows || order->is_inverse)
        return lift_refuse(l, "numbers that are written in an order");
    if (check_range(l, (uint32_t)numbers, &order->dims[0], MAX(s, 1), &is) < 0 ||
        (s <= 0 && check_range(l, (uint32_t)numbers, &order->dims[0], 3, &is_too) < 0))
        return -1;
    if (!is || !is_too)
        return lift_refuse(l, "numbers that are not 0, 1, 2 and so on, written in an order");
    *lift_out(l) = *order;
    lift_out(l)->is_inverse = true;
    return lift_check_write(l);
}

/* How many pairs each one was chosen by: histc over whole numbers. */
static int counts(struct lift *l, const struct lifted *choice)
{
    int64_t bins;
    double min, max;

    if (choice->n_dims != 1 || !node_int(l->node, "bins", 100, &bins) || bins != choice->n ||
        !node_float(l->node, "min", 0, &min) || min != 0 ||
        !node_float(l->node, "max", 0, &max) || max != (double)(bins - 1))
        return lift_refuse(l, "counts of another range than was chosen from");
    *lift_out(l) = *choice;
    lift_out(l)->kind = KIND_COUNTS;
    return 0;
}

/* ---- the ops ---- */

/* The only index, of the first dimension; NULL: another. */
static const struct lifted *only_index(const struct lift *l)
{
    const struct pt2_arg *list = node_list(l->node, "indices");

    if (!list || list->list.n != 1 || list->list.items[0].kind != PT2_ARG_TENSOR)
        return NULL;
    return &l->values[list->list.items[0].value];
}

static bool is_kind(const struct lifted *v, enum kind kind)
{
    return v && v->kind == kind;
}

int lift_choice(struct lift *l, const struct node_op *op, bool *ret_is)
{
    const struct lifted *self = lift_arg(l, "self"), *index = only_index(l);
    const struct pt2_node *made = filled_rows(l, node_value(l->node, "self"));
    const char *name = op->name;

    *ret_is = true;
    if (streq(name, "topk") && lift_is_rows(self))
        return topk(l, self);
    if (streq(name, "gather") && lift_is_rows(self))
        return gather(l, self);
    if (is_filled(op) && (lift_is_rows(self) || is_kind(self, KIND_ORDER)))
        return fill(l, l->node, lift_out(l));
    if ((streq(name, "scatter") || streq(name, "scatter_")) && made)
        return scatter(l, made);
    if ((streq(name, "masked_fill") || streq(name, "masked_fill_")) && lift_is_rows(self) &&
        lift_is_rows(lift_arg(l, "mask")))
        return masked_fill(l, self, lift_arg(l, "mask"));
    if ((streq(name, "logical_not") || streq(name, "bitwise_not")) && lift_is_rows(self) &&
        is_bool(l, "self"))
        return lift_number_where(l, KERNEL_DROP, 1, self, lift_out(l));
    if (streq(name, "repeat_interleave") && lift_is_rows(self))
        return repeat(l, self);
    if (streq(name, "sort") && is_kind(self, KIND_CHOICE))
        return sort(l, self);
    if (streq(name, "floor_divide") && is_kind(self, KIND_ORDER))
        return places_of_rows(l, self);
    if (streq(name, "index") && is_kind(index, KIND_ORDER) && lift_is_rows(self))
        return by_order(l, self, index);
    if (streq(name, "index_put_") && is_kind(index, KIND_ORDER) && is_kind(self, KIND_FILL) &&
        self->order_to_be && self->n_dims == 1 &&
        dim_is_same(&self->dims[0], &index->dims[0]))
        return invert(l, index, node_value(l->node, "values"));
    if (streq(name, "histc") && is_kind(self, KIND_CHOICE))
        return counts(l, self);
    if (streq(name, "cumsum") && is_kind(self, KIND_COUNTS) && !self->is_sum) {
        *lift_out(l) = *self;
        lift_out(l)->is_sum = true;
        return 0;
    }
    *ret_is = false;
    return 0;
}
