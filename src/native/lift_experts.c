/* The weights of chosen experts, and rows by these: as a batch of matrices that were indexed
 * (bmm), or by rows in the order of their experts (grouped_mm). */
#include "native/lift.h"

/* ---- what was chosen, of constants ---- */

/* One dimension that the row's elements of up to two values lie along; in step->sizes[3],
 * strides[3]. */
static int along_one(struct lift *l, const struct strided *a, const struct strided *b,
                     struct plan_step *step)
{
    if (lift_dims(l, a, b, step) < 0)
        return -1;
    if (step->sizes[0] != 1 || step->sizes[1] != 1 || step->sizes[2] != 1)
        return lift_refuse(l, "choices that are strided");
    return 0;
}

/* Rows of a constant matrix, or elements of a constant. */
static int pick(struct lift *l, uint32_t value, unsigned n_dims, const struct lifted *choice)
{
    struct lifted like = *choice;
    struct strided where = lift_strided(choice);
    int64_t width =
        n_dims == 1 ? 1 : pt2_program_value(l->program, value)->meta.sizes[1].value;
    struct plan_step *step, along;
    uint32_t constant;

    if (lift_constant(l, value, &constant) < 0 || along_one(l, &where, NULL, &along) < 0)
        return -1;
    if (l->plan->constant_sizes[constant] < choice->n * width)
        return lift_refuse(l, "a constant of %u elements", l->plan->constant_sizes[constant]);
    if (n_dims == 2)
        like.dims[like.n_dims++] = new_dim(DIM_ROW, width, 1);
    step = lift_step(l, PLAN_PICK);
    if (!step || lift_new_rows(l, &like, lift_out(l)) < 0)
        return -1;
    step->out = lift_out(l)->reg;
    step->in = along.in;
    step->in.strides[0] = along.in.strides[3];
    step->sizes[2] = along.sizes[3];
    step->sizes[3] = (uint32_t)width;
    step->pick = constant;
    return 0;
}

/* weights[choice] */
static int choose(struct lift *l, uint32_t value, const struct lifted *choice)
{
    const struct pt2_value *v = pt2_program_value(l->program, value);
    unsigned n_dims = v->meta.n_dims;
    struct lifted out = *choice;

    if (eval_class(l->eval, value) != EVAL_CONSTANT || n_dims < 1 || n_dims > 3 ||
        choice->n_dims + n_dims - 1 > PT2_MAX_DIMS)
        return lift_refuse(l, "'%s' is no constant to choose of", v->name);
    if (v->meta.sizes[0].value < choice->n)
        return lift_refuse(l, "'%s' has %lld, %lld are chosen from", v->name,
                           (long long)v->meta.sizes[0].value, (long long)choice->n);
    if (n_dims < 3)
        return pick(l, value, n_dims, choice);
    for (int d = 1; d < 3; d++)
        out.dims[out.n_dims++] = new_dim(DIM_DATA, v->meta.sizes[d].value, d);
    out.kind = KIND_EXPERTS;
    out.value = value;
    *lift_out(l) = out;
    return 0;
}

/* ---- products ---- */

struct product {
    uint32_t weights;     /* the value, (n, a, b) */
    bool is_transposed;   /* rows are as long as its a, outputs as many as its b */
    const struct lifted *choice; /* CHOICE, or EXPERTS that stand for it */
    const struct lifted *rows;
    unsigned n_before;    /* dimensions of both before those of rows and matrices */
    unsigned row_dim;     /* of the rows */
};

/* The row's elements along the leading dimensions. */
static struct strided leading(const struct lifted *v, const struct lifted *like, unsigned n)
{
    struct strided s = {.view = {.source = PLAN_REGISTER, .i = v->reg, .offset = v->offset}};

    for (unsigned d = 0; d < n; d++) {
        if (dim_in_row(&like->dims[d]) == 0)
            continue;
        s.sizes[s.n_dims] = dim_in_row(&like->dims[d]);
        s.strides[s.n_dims++] = v->dims[d].label == DIM_ONE ? 0 : v->dims[d].stride;
    }
    return s;
}

static int multiply(struct lift *l, const struct product *p)
{
    struct lifted x = *p->rows, like;
    struct strided of_rows, of_choice;
    struct expert_weights w;
    struct plan_step *step, along;

    if (lift_expert_weights(l, p->weights, p->is_transposed, &w) < 0)
        return -1;
    for (unsigned d = 0; d < p->n_before; d++)
        if (x.dims[d].label != DIM_ONE && !dim_is_same(&x.dims[d], &p->choice->dims[d]))
            return lift_refuse(l, "rows of other pairs than experts were chosen for");
    for (unsigned d = p->n_before; d < x.n_dims; d++)
        if (d != p->row_dim && x.dims[d].size != 1)
            return lift_refuse(l, "several rows for an expert");
    if (x.dims[p->row_dim].label != DIM_ROW || x.dims[p->row_dim].size != (int64_t)w.k ||
        p->choice->n > (int64_t)w.n || x.is_last != p->choice->is_last)
        return lift_refuse(l, "rows that are not %u wide", w.k);
    if (x.dims[p->row_dim].stride != 1 && lift_copy(l, p->rows, &x) < 0)
        return -1;
    of_rows = leading(&x, p->choice, p->n_before);
    of_choice = leading(p->choice, p->choice, p->n_before);
    if (along_one(l, &of_rows, &of_choice, &along) < 0)
        return -1;
    like = x;
    memcpy(like.dims, p->choice->dims, p->n_before * sizeof(*like.dims));
    like.dims[p->row_dim] = new_dim(DIM_ROW, w.n_out, 1);
    step = lift_step(l, PLAN_EXPERTS);
    if (!step || lift_new_rows(l, &like, lift_out(l)) < 0)
        return -1;
    step->out = lift_out(l)->reg;
    step->in = along.in;
    step->b = along.b;
    step->in.strides[0] = along.sizes[3] == 1 ? 0 : along.in.strides[3];
    step->b.strides[0] = along.sizes[3] == 1 ? 0 : along.b.strides[3];
    step->sizes[2] = along.sizes[3];
    step->sizes[3] = w.n_out;
    step->experts = (struct plan_experts){
        .weights = w.data, .is_transposed = w.is_transposed, .dtype = w.dtype,
        .n_experts = w.n, .n_chosen = along.sizes[3], .n_out = w.n_out, .k = w.k,
        .fqn = w.fqn};
    return 0;
}

/* experts · columns, or rows · experts */
static int batched(struct lift *l, const struct lifted *left, const struct lifted *right)
{
    bool is_left = left->kind == KIND_EXPERTS;
    const struct lifted *experts = is_left ? left : right, *rows = is_left ? right : left;
    unsigned n = experts->n_dims;
    struct product p = {.weights = experts->value, .choice = experts, .rows = rows};

    if (n < 3 || rows->n_dims != n || experts->dims[n - 2].label != DIM_DATA ||
        experts->dims[n - 1].label != DIM_DATA)
        return lift_refuse(l, "experts' matrices that are shown otherwise");
    p.n_before = n - 2;
    p.row_dim = is_left ? n - 2 : n - 1;
    /* the dimension that a row's elements go with */
    p.is_transposed = experts->dims[is_left ? n - 1 : n - 2].stride == 1;
    return multiply(l, &p);
}

/* Rows in the order of their experts, up to `offs` those of each. */
static int grouped(struct lift *l, const struct lifted *rows, int64_t weights)
{
    const struct lifted *offs = lift_arg(l, "offs");
    struct product p = {.weights = (uint32_t)weights, .is_transposed = true, .rows = rows,
                        .n_before = 1, .row_dim = 1};

    if (!lift_is_rows(rows) || rows->n_dims != 2 || weights < 0 ||
        l->values[weights].kind != KIND_EVAL || node_arg(l->node, "bias") ||
        rows->dims[0].label != DIM_PAIRS || rows->dims[0].order == 0)
        return lift_refuse(l, "not rows in the order of their experts by constants");
    if (!offs || offs->kind != KIND_COUNTS || !offs->is_sum || offs->n_dims != 1 ||
        !dim_is_same(&offs->dims[0], &rows->dims[0]))
        return lift_refuse(l, "ends of groups of another order than the rows'");
    p.choice = &l->orders[rows->dims[0].order - 1];
    return multiply(l, &p);
}

static const struct lifted *only_index(const struct lift *l)
{
    const struct pt2_arg *list = node_list(l->node, "indices");
    int64_t value = node_is(l->node, "index_select") ? node_value(l->node, "index") : -1;

    if (list && list->list.n == 1 && list->list.items[0].kind == PT2_ARG_TENSOR)
        value = list->list.items[0].value;
    return value < 0 ? NULL : &l->values[value];
}

int lift_experts(struct lift *l, const struct node_op *op, bool *ret_is)
{
    const struct lifted *self = lift_arg(l, "self"),
                        *other = lift_arg(l, node_arg(l->node, "mat2") ? "mat2" : "other"),
                        *index = only_index(l);
    const char *name = op->name;
    int64_t dim = 0;

    *ret_is = true;
    if ((streq(name, "index") || streq(name, "index_select")) && self &&
        self->kind == KIND_EVAL && index && index->kind == KIND_CHOICE &&
        node_int(l->node, "dim", 0, &dim) && dim == 0)
        return choose(l, (uint32_t)node_value(l->node, "self"), index);
    if ((streq(name, "bmm") || streq(name, "matmul")) && self && other &&
        ((self->kind == KIND_EXPERTS && lift_is_rows(other)) ||
         (other->kind == KIND_EXPERTS && lift_is_rows(self))))
        return batched(l, self, other);
    if (streq(name, "transformers.grouped_mm_fallback"))
        return grouped(l, lift_arg(l, "input"), node_value(l->node, "weight"));
    if (streq(name, "_grouped_mm"))
        return grouped(l, self, node_value(l->node, "mat2"));
    *ret_is = false;
    return 0;
}
