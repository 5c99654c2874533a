#include "native/lift.h"

#include <stdarg.h>

int lift_refuse(struct lift *l, const char *fmt, ...)
{
    char text[240];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return pt2_err_set(l->err, PT2_ERR_PROGRAM_REFUSED, "node '%s' (%s): %s",
                       l->node ? l->node->name : "", l->node ? l->node->target : "", text);
}

int lift_no_memory(struct lift *l)
{
    return pt2_err_set(l->err, PT2_ERR_NOMEM, "a plan");
}

/* ---- values ---- */

const struct lifted *lift_arg(const struct lift *l, const char *name)
{
    int64_t value = node_value(l->node, name);

    return value < 0 ? NULL : &l->values[value];
}

struct lifted *lift_out(struct lift *l)
{
    return &l->values[node_out_at(l->node, 0)];
}

bool lift_is_rows(const struct lifted *v)
{
    return v && v->kind == KIND_ROWS;
}

static bool grow(void **array, size_t *room, size_t n, size_t size)
{
    size_t more = *room ? *room * 2 : 64;
    void *bigger;

    if (n < *room)
        return true;
    bigger = realloc(*array, more * size);
    if (!bigger)
        return false;
    memset((uint8_t *)bigger + *room * size, 0, (more - *room) * size);
    *array = bigger;
    *room = more;
    return true;
}

int lift_register(struct lift *l, int64_t width, uint32_t *ret)
{
    size_t room = l->room_registers;

    if (width < 1 || width > LIFT_MAX_WIDTH)
        return lift_refuse(l, "a row of %lld elements", (long long)width);
    if (!grow((void **)&l->widths, &room, l->n_registers, sizeof(*l->widths)))
        return lift_no_memory(l);
    room = l->room_registers;
    if (!grow((void **)&l->makers, &room, l->n_registers, sizeof(*l->makers)))
        return lift_no_memory(l);
    l->room_registers = room;
    l->widths[l->n_registers] = (uint32_t)width;
    l->makers[l->n_registers] = (int64_t)l->n_steps - 1;
    *ret = (uint32_t)l->n_registers++;
    return 0;
}

struct plan_step *lift_step(struct lift *l, enum plan_op op)
{
    struct step *step;

    if (!grow((void **)&l->steps, &l->room_steps, l->n_steps, sizeof(*l->steps))) {
        lift_no_memory(l);
        return NULL;
    }
    step = &l->steps[l->n_steps++];
    memset(step, 0, sizeof(*step));
    step->s.op = op;
    for (int d = 0; d < PLAN_MAX_DIMS; d++)
        step->s.sizes[d] = 1;
    return &step->s;
}

int lift_new_rows(struct lift *l, const struct lifted *like, struct lifted *ret)
{
    for (unsigned d = 0; d < like->n_dims; d++)
        if (like->dims[d].label == DIM_GROUP)
            return lift_refuse(l, "heads and sequence in one dimension");
    struct lifted v = *like;
    int64_t width = 1;

    v.kind = KIND_ROWS;
    v.offset = 0;
    for (unsigned d = v.n_dims; d-- > 0;) {
        if (dim_in_row(&v.dims[d]) == 0)
            continue;
        v.dims[d].stride = (int32_t)width;
        if (__builtin_mul_overflow(width, dim_in_row(&v.dims[d]), &width) ||
            width > LIFT_MAX_WIDTH)
            return lift_refuse(l, "a row of too many elements");
    }
    if (lift_register(l, width, &v.reg) < 0)
        return -1;
    *ret = v;
    return 0;
}

struct strided lift_strided(const struct lifted *v)
{
    struct strided s = {.view = {.source = PLAN_REGISTER, .i = v->reg, .offset = v->offset}};

    for (unsigned d = 0; d < v->n_dims; d++) {
        if (dim_in_row(&v->dims[d]) == 0)
            continue;
        s.sizes[s.n_dims] = dim_in_row(&v->dims[d]);
        s.strides[s.n_dims++] = v->dims[d].stride;
    }
    return s;
}

/* Dimensions that lie one in the other, in both, become one. */
static void join_dims(struct strided *a, struct strided *b)
{
    unsigned n = 0;

    for (unsigned d = 0; d < a->n_dims; d++) {
        if (a->sizes[d] == 1)
            continue;
        if (n > 0 && a->strides[n - 1] == a->strides[d] * a->sizes[d] &&
            b->strides[n - 1] == b->strides[d] * a->sizes[d]) {
            a->sizes[n - 1] *= a->sizes[d];
            a->strides[n - 1] = a->strides[d];
            b->strides[n - 1] = b->strides[d];
            continue;
        }
        a->sizes[n] = a->sizes[d];
        a->strides[n] = a->strides[d];
        b->strides[n++] = b->strides[d];
    }
    a->n_dims = n;
}

int lift_dims(struct lift *l, const struct strided *a_in, const struct strided *b_in,
              struct plan_step *step)
{
    struct strided a = *a_in, b = b_in ? *b_in : *a_in;
    unsigned front;

    join_dims(&a, &b);
    if (a.n_dims > PLAN_MAX_DIMS)
        return lift_refuse(l, "elements strided in %u dimensions", a.n_dims);
    front = PLAN_MAX_DIMS - a.n_dims;
    step->in = a.view;
    step->b = b_in ? b.view : (struct plan_view){0};
    for (unsigned d = 0; d < PLAN_MAX_DIMS; d++) {
        step->sizes[d] = d < front ? 1 : (uint32_t)a.sizes[d - front];
        step->in.strides[d] = d < front ? 0 : a.strides[d - front];
        step->b.strides[d] = d < front || !b_in ? 0 : b.strides[d - front];
    }
    if (a.n_dims == 0) /* one element */
        step->in.strides[3] = step->b.strides[3] = 1;
    return 0;
}

bool lift_is_contiguous(const struct lifted *v)
{
    int64_t width = 1;

    for (unsigned d = v->n_dims; d-- > 0;) {
        int64_t n = dim_in_row(&v->dims[d]);

        if (n > 1 && v->dims[d].stride != width)
            return false;
        width *= MAX(n, 1);
    }
    return true;
}

struct lifted lift_last_dim(const struct lifted *in, unsigned dim)
{
    struct lifted v = *in;

    memmove(&v.dims[dim], &v.dims[dim + 1], (v.n_dims - dim - 1) * sizeof(*v.dims));
    v.dims[v.n_dims - 1] = in->dims[dim];
    return v;
}

/* The dimensions but the last. */
static struct strided outer_of(const struct lifted *v)
{
    struct lifted outer = *v;

    outer.n_dims--;
    return lift_strided(&outer);
}

int lift_lines(struct lift *l, const struct lifted *a, const struct lifted *b, int64_t size,
               struct plan_step *step)
{
    struct strided of_a = outer_of(a), of_b = outer_of(b ? b : a);

    if (lift_dims(l, &of_a, b ? &of_b : NULL, step) < 0)
        return -1;
    if (step->sizes[0] != 1)
        return lift_refuse(l, "elements strided in more than %d dimensions", PLAN_MAX_DIMS);
    for (int d = 0; d < PLAN_MAX_DIMS - 1; d++) {
        step->sizes[d] = step->sizes[d + 1];
        step->in.strides[d] = step->in.strides[d + 1];
        step->b.strides[d] = step->b.strides[d + 1];
    }
    step->sizes[3] = (uint32_t)size;
    step->in.strides[3] = a->dims[a->n_dims - 1].stride;
    step->b.strides[3] = b ? b->dims[b->n_dims - 1].stride : 0;
    return 0;
}

/* ---- steps over elements ---- */

static int one_input(struct lift *l, enum plan_op op, const struct lifted *in,
                     struct lifted *ret, struct plan_step **ret_step)
{
    struct strided a = lift_strided(in);
    struct plan_step *step = lift_step(l, op);

    if (!step || lift_new_rows(l, in, ret) < 0 || lift_dims(l, &a, NULL, step) < 0)
        return -1;
    step->out = ret->reg;
    *ret_step = step;
    return 0;
}

int lift_unary(struct lift *l, enum kernel_unary f, const struct lifted *in,
               struct lifted *ret)
{
    struct plan_step *step;

    if (one_input(l, PLAN_UNARY, in, ret, &step) < 0)
        return -1;
    step->unary = f;
    return 0;
}

int lift_copy(struct lift *l, const struct lifted *in, struct lifted *ret)
{
    struct plan_step *step;

    return one_input(l, PLAN_COPY, in, ret, &step);
}

int lift_contiguous(struct lift *l, const struct lifted *in, struct lifted *ret)
{
    if (!lift_is_contiguous(in))
        return lift_copy(l, in, ret);
    *ret = *in;
    return 0;
}

/* ---- operands ---- */

void lift_number_operand(double number, struct operand *ret)
{
    memset(ret, 0, sizeof(*ret));
    ret->source = PLAN_NUMBER;
    ret->view.source = PLAN_NUMBER;
    ret->view.number = (float)number;
}

/* The dimension of `beside` that dimension d of n stands over, from the right. */
static const struct dim *over(const struct lifted *beside, unsigned n, unsigned d)
{
    int at = (int)beside->n_dims - (int)n + (int)d;

    return at < 0 ? NULL : &beside->dims[at];
}

/* Its sizes in a run of s tokens: of one, where any number goes. */
static int eval_shape(struct lift *l, uint32_t value, struct eval_tensor *ret)
{
    return eval_value(l->eval, value, 0, MAX(l->decoder->seq_len, 1), ret, l->err);
}

/* Where copies for each batch element are given, they must be the same. */
static int check_batches(struct lift *l, const float *rows, size_t n_rows, uint32_t width,
                         const struct operand *o, unsigned batch_dim, int64_t inner)
{
    int64_t n = o->dims[batch_dim].size;

    for (size_t r = 0; r < n_rows; r++)
        for (int64_t i = 0; i < width; i++) {
            int64_t in_batch = i / inner % n;

            if (rows[r * width + (size_t)i] != rows[r * width + (size_t)(i - in_batch * inner)])
                return lift_refuse(l, "an operand that differs between batch elements");
        }
    return 0;
}

/* The dimensions of a table or a constant, labelled by those that they stand over. */
static int label_operand(struct lift *l, uint32_t value, const struct eval_tensor *shape,
                         const struct lifted *beside, struct operand *o, int *ret_s_dim)
{
    const struct pt2_value *v = pt2_program_value(l->program, value);
    int64_t stride = 1;

    if (v->meta.n_dims != shape->n_dims)
        return lift_refuse(l, "'%s' has other dimensions than its metadata", v->name);
    *ret_s_dim = -1;
    o->n_dims = shape->n_dims;
    for (unsigned d = shape->n_dims; d-- > 0;) {
        const struct dim *under = over(beside, shape->n_dims, d);
        int64_t size = shape->sizes[d];
        bool is_long = v->meta.sizes[d].expr != NULL;

        o->dims[d] = new_dim(DIM_ONE, 1, 0);
        if (under && under->label == DIM_SEQ && (size != 1 || is_long)) {
            *ret_s_dim = (int)d;
            o->dims[d] = *under;
            continue;
        }
        if (is_long)
            return lift_refuse(l, "'%s' has the sequence where the tokens have not", v->name);
        if (under && (under->label == DIM_MERGED || under->label == DIM_PAIRS) &&
            size != 1)
            return lift_refuse(l, "'%s' beside batch and sequence merged", v->name);
        if (under && under->label == DIM_BATCH && size != 1)
            o->dims[d] = new_dim(DIM_BATCH, size, (int32_t)stride);
        else if (size != 1)
            o->dims[d] = new_dim(DIM_ROW, size, (int32_t)stride);
        stride *= size;
    }
    return 0;
}

static int eval_operand(struct lift *l, uint32_t value, const struct lifted *beside,
                        struct operand *o)
{
    struct eval_tensor shape;
    bool is_table = eval_class(l->eval, value) == EVAL_POSITION;
    int s_dim = -1;
    const float *rows;
    size_t n_rows = is_table ? (size_t)l->decoder->max_cache_len : 1;
    uint32_t width;
    int64_t n;

    memset(o, 0, sizeof(*o));
    if (eval_shape(l, value, &shape) < 0)
        return -1;
    n = shape.n;
    eval_tensor_done(&shape);
    if (n < 1 || label_operand(l, value, &shape, beside, o, &s_dim) < 0)
        return lift_refuse(l, "an empty operand");
    if (!is_table && s_dim >= 0)
        return lift_refuse(l, "a constant for each place of the sequence");
    o->source = o->view.source = is_table ? PLAN_TABLE : PLAN_CONSTANT;
    if (is_table ? lift_table(l, value, s_dim, &o->view.i) < 0
                 : lift_constant(l, value, &o->view.i) < 0)
        return -1;
    rows = is_table ? l->plan->tables[o->view.i] : l->plan->constants[o->view.i];
    width = is_table ? l->plan->table_widths[o->view.i] : l->plan->constant_sizes[o->view.i];
    for (unsigned d = 0; d < o->n_dims; d++)
        if (o->dims[d].label == DIM_BATCH &&
            check_batches(l, rows, n_rows, width, o, d, o->dims[d].stride) < 0)
            return -1;
    return 0;
}

struct operand lift_rows_operand(const struct lifted *rows)
{
    struct operand o = {.source = PLAN_REGISTER, .rows = rows, .n_dims = rows->n_dims};

    memcpy(o.dims, rows->dims, sizeof(o.dims));
    o.view = (struct plan_view){.source = PLAN_REGISTER, .i = rows->reg, .offset = rows->offset};
    return o;
}

int lift_operand(struct lift *l, const struct pt2_arg *arg, const struct lifted *beside,
                 struct operand *ret)
{
    const struct lifted *v;
    double number;
    bool is_number;

    if (!arg)
        return lift_refuse(l, "an operand is missing");
    switch (arg->kind) {
    case PT2_ARG_INT:
        lift_number_operand((double)arg->i, ret);
        return 0;
    case PT2_ARG_FLOAT:
        lift_number_operand(arg->f, ret);
        return 0;
    case PT2_ARG_BOOL:
        lift_number_operand(arg->b, ret);
        return 0;
    case PT2_ARG_TENSOR:
        break;
    default:
        return lift_refuse(l, "an operand that is no tensor");
    }
    v = &l->values[arg->value];
    if (v->kind == KIND_ROWS) {
        *ret = lift_rows_operand(v);
        return 0;
    }
    if (v->kind != KIND_EVAL)
        return lift_refuse(l, "an operand of another kind");
    if (lift_number(l, arg->value, &is_number, &number) < 0)
        return -1;
    if (is_number && eval_class(l->eval, arg->value) == EVAL_CONSTANT) {
        unsigned n = pt2_program_value(l->program, arg->value)->meta.n_dims;

        lift_number_operand(number, ret);
        ret->n_dims = n;
        for (unsigned d = 0; d < n; d++)
            ret->dims[d] = new_dim(DIM_ONE, 1, 0);
        return 0;
    }
    return eval_operand(l, arg->value, beside, ret);
}

static bool repeats(const struct dim *d)
{
    return d->label == DIM_ONE || (d->label == DIM_ROW && d->size == 1);
}

/* The dimension that two become, broadcast. */
static bool join(const struct dim *a, const struct dim *b, struct dim *ret)
{
    if (repeats(a) || repeats(b)) {
        *ret = repeats(a) ? *b : *a;
        return true;
    }
    *ret = *a;
    return dim_is_same(a, b);
}

/* An operand's elements over the dimensions of the result. */
static struct strided spread(const struct operand *o, const struct lifted *out)
{
    struct strided s = {.view = o->view};

    for (unsigned d = 0; d < out->n_dims; d++) {
        int at = (int)d - (int)(out->n_dims - o->n_dims);

        if (dim_in_row(&out->dims[d]) == 0)
            continue;
        s.sizes[s.n_dims] = dim_in_row(&out->dims[d]);
        s.strides[s.n_dims++] =
            at < 0 || dim_in_row(&o->dims[at]) < 2 ? 0 : o->dims[at].stride;
    }
    return s;
}

int lift_binary(struct lift *l, enum kernel_binary f, const struct operand *a,
                const struct operand *b, struct lifted *ret)
{
    static const struct dim one = {.label = DIM_ONE, .size = 1};
    struct lifted like = {.kind = KIND_ROWS, .n_dims = MAX(a->n_dims, b->n_dims)};
    struct strided wide[2];
    struct plan_step *step;

    if (a->rows && b->rows && a->rows->is_last != b->rows->is_last)
        return lift_refuse(l, "the last row beside all rows");
    like.is_last = a->rows ? a->rows->is_last : b->rows && b->rows->is_last;
    for (unsigned d = 0; d < like.n_dims; d++) {
        int at_a = (int)d - (int)(like.n_dims - a->n_dims),
            at_b = (int)d - (int)(like.n_dims - b->n_dims);

        if (!join(at_a < 0 ? &one : &a->dims[at_a], at_b < 0 ? &one : &b->dims[at_b],
                  &like.dims[d]))
            return lift_refuse(l, "dimensions that mean different things");
    }
    step = lift_step(l, PLAN_BINARY);
    if (!step || lift_new_rows(l, &like, ret) < 0)
        return -1;
    wide[0] = spread(a, ret);
    wide[1] = spread(b, ret);
    if (lift_dims(l, &wide[0], &wide[1], step) < 0)
        return -1;
    for (int d = 0; d < PLAN_MAX_DIMS; d++) {
        step->in.strides[d] = a->source == PLAN_NUMBER ? 0 : step->in.strides[d];
        step->b.strides[d] = b->source == PLAN_NUMBER ? 0 : step->b.strides[d];
    }
    step->out = ret->reg;
    step->binary = f;
    return 0;
}

int lift_binary_number(struct lift *l, enum kernel_binary f, const struct lifted *a,
                       double number, struct lifted *ret)
{
    struct operand left = lift_rows_operand(a), right;

    lift_number_operand(number, &right);
    return lift_binary(l, f, &left, &right, ret);
}

int lift_number_where(struct lift *l, enum kernel_binary f, double number,
                      const struct lifted *rows, struct lifted *ret)
{
    struct operand left, right = lift_rows_operand(rows);

    lift_number_operand(number, &left);
    return lift_binary(l, f, &left, &right, ret);
}
