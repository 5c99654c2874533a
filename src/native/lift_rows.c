#include "native/lift.h"

/* ---- elements ---- */

static const struct {
    const char *op;
    enum kernel_unary f;
} unaries[] = {
    {"neg", KERNEL_NEG},   {"abs", KERNEL_ABS},         {"square", KERNEL_SQUARE},
    {"sqrt", KERNEL_SQRT}, {"rsqrt", KERNEL_RSQRT},     {"exp", KERNEL_EXP},
    {"silu", KERNEL_SILU}, {"sigmoid", KERNEL_SIGMOID}, {"tanh", KERNEL_TANH},
    {"relu", KERNEL_RELU}, {"cos", KERNEL_COS},         {"sin", KERNEL_SIN},
    {"log", KERNEL_LOG},   {"expm1", KERNEL_EXPM1},
};

static const struct {
    const char *op;
    enum kernel_binary f;
} binaries[] = {
    {"add", KERNEL_ADD}, {"sub", KERNEL_SUB},     {"mul", KERNEL_MUL},
    {"div", KERNEL_DIV}, {"maximum", KERNEL_MAX}, {"minimum", KERNEL_MIN},
    {"rsub", KERNEL_SUB}, {"max", KERNEL_MAX},    {"min", KERNEL_MIN}, /* of two */
};

static int binary(struct lift *l, enum kernel_binary f, struct lifted *ret)
{
    const struct lifted *self = lift_arg(l, "self"), *other = lift_arg(l, "other");
    const struct lifted *rows = lift_is_rows(self) ? self : other;
    struct operand a, b;

    if (node_arg(l->node, "alpha") || node_arg(l->node, "rounding_mode"))
        return lift_refuse(l, "a factor or a rounding");
    if (!node_arg(l->node, "other")) /* max.dim */
        return lift_refuse(l, "of one value, with its places");
    if (lift_operand(l, node_arg(l->node, "self"), rows, &a) < 0 ||
        lift_operand(l, node_arg(l->node, "other"), rows, &b) < 0)
        return -1;
    return node_is(l->node, "rsub") ? lift_binary(l, f, &b, &a, ret)
                                    : lift_binary(l, f, &a, &b, ret);
}

static int gelu(struct lift *l, const struct lifted *in, struct lifted *ret)
{
    const struct pt2_arg *arg = node_arg(l->node, "approximate");
    bool is_tanh = arg && arg->kind == PT2_ARG_STRING && streq(arg->s, "tanh");

    if (arg && !is_tanh && !(arg->kind == PT2_ARG_STRING && streq(arg->s, "none")))
        return lift_refuse(l, "an approximation that is not known");
    return lift_unary(l, is_tanh ? KERNEL_GELU_TANH : KERNEL_GELU, in, ret);
}

static int softplus(struct lift *l, const struct lifted *in, struct lifted *ret)
{
    double beta, threshold;

    if (!node_float(l->node, "beta", 1, &beta) || beta != 1 ||
        !node_float(l->node, "threshold", 20, &threshold) || threshold != 20)
        return lift_refuse(l, "numbers that are not the usual ones");
    return lift_unary(l, KERNEL_SOFTPLUS, in, ret);
}

static int compare(struct lift *l, const struct lifted *in, struct lifted *ret)
{
    double number;

    if (!node_float(l->node, "other", 1, &number) || number != 0)
        return lift_refuse(l, "a comparison with what is not 0");
    return lift_unary(l, KERNEL_POSITIVE, in, ret);
}

/* What is kept of the one plus what is kept of the other. */
static int where(struct lift *l, struct lifted *ret)
{
    const struct lifted *rows = lift_arg(l, "condition");
    struct operand condition = lift_rows_operand(rows), of[2];
    struct lifted kept, rest;

    if (lift_operand(l, node_arg(l->node, "self"), rows, &of[0]) < 0 ||
        lift_operand(l, node_arg(l->node, "other"), rows, &of[1]) < 0 ||
        lift_binary(l, KERNEL_KEEP, &of[0], &condition, &kept) < 0 ||
        lift_binary(l, KERNEL_DROP, &of[1], &condition, &rest) < 0)
        return -1;
    of[0] = lift_rows_operand(&kept);
    of[1] = lift_rows_operand(&rest);
    return lift_binary(l, KERNEL_ADD, &of[0], &of[1], ret);
}

static int power(struct lift *l, const struct lifted *in, struct lifted *ret)
{
    struct operand a, b;
    struct lifted square;
    double e;

    if (!node_arg(l->node, "exponent") || !node_float(l->node, "exponent", 0, &e))
        return lift_refuse(l, "an exponent that is no number");
    if (e == 2)
        return lift_unary(l, KERNEL_SQUARE, in, ret);
    if (e == 0.5 || e == -0.5)
        return lift_unary(l, e > 0 ? KERNEL_SQRT : KERNEL_RSQRT, in, ret);
    if (e != 3)
        return lift_refuse(l, "an exponent of %g", e);
    if (lift_unary(l, KERNEL_SQUARE, in, &square) < 0)
        return -1;
    a = (struct operand){.source = PLAN_REGISTER, .rows = &square, .n_dims = square.n_dims,
                         .view = {.source = PLAN_REGISTER, .i = square.reg}};
    memcpy(a.dims, square.dims, sizeof(a.dims));
    b = (struct operand){.source = PLAN_REGISTER, .rows = in, .n_dims = in->n_dims,
                         .view = {.source = PLAN_REGISTER, .i = in->reg,
                                  .offset = in->offset}};
    memcpy(b.dims, in->dims, sizeof(b.dims));
    return lift_binary(l, KERNEL_MUL, &a, &b, ret);
}

static int clamp(struct lift *l, const struct lifted *in, struct lifted *ret)
{
    struct lifted v = *in, low;
    double number;

    if (node_arg(l->node, "min")) {
        if (!node_float(l->node, "min", 0, &number))
            return lift_refuse(l, "a bound that is no number");
        if (lift_binary_number(l, KERNEL_MAX, &v, number, &low) < 0)
            return -1;
        v = low;
    }
    if (node_arg(l->node, "max")) {
        if (!node_float(l->node, "max", 0, &number))
            return lift_refuse(l, "a bound that is no number");
        if (lift_binary_number(l, KERNEL_MIN, &v, number, &low) < 0)
            return -1;
        v = low;
    }
    *ret = v;
    return 0;
}

/* ---- put together ---- */

static int cat_dims(struct lift *l, const struct pt2_arg *list, bool stacks,
                    struct lifted *parts, struct lifted *ret, unsigned *ret_dim)
{
    for (uint32_t i = 0; i < list->list.n; i++) {
        const struct pt2_arg *arg = &list->list.items[i];
        struct lifted *v = &parts[i];

        if (arg->kind != PT2_ARG_TENSOR || !lift_is_rows(&l->values[arg->value]))
            return lift_refuse(l, "a part that does not depend on tokens");
        *v = l->values[arg->value];
        if (i == 0 && !node_dim(l->node, "dim", 0, v->n_dims + stacks, ret_dim))
            return lift_refuse(l, "dimensions");
        if (i > 0 && v->n_dims != parts[0].n_dims - stacks)
            return lift_refuse(l, "parts of different shapes");
        if (stacks) {
            if (v->n_dims == PT2_MAX_DIMS)
                return lift_refuse(l, "dimensions");
            memmove(&v->dims[*ret_dim + 1], &v->dims[*ret_dim],
                    (v->n_dims - *ret_dim) * sizeof(*v->dims));
            v->dims[*ret_dim] = new_dim(DIM_ONE, 1, 0);
            v->n_dims++;
        }
        if (v->is_last != parts[0].is_last)
            return lift_refuse(l, "the last row beside all rows");
        for (unsigned d = 0; d < v->n_dims; d++)
            if (d == *ret_dim ? v->dims[d].label != DIM_ROW && v->dims[d].label != DIM_ONE
                              : !dim_is_same(&v->dims[d], &parts[0].dims[d]))
                return lift_refuse(l, "parts put together along batch or sequence");
        v->dims[*ret_dim].label = DIM_ROW;
    }
    *ret = parts[0];
    for (uint32_t i = 1; i < list->list.n; i++)
        ret->dims[*ret_dim].size += parts[i].dims[*ret_dim].size;
    return 0;
}

/* The parts that are not empty. */
static unsigned drop_empty(struct lifted *parts, unsigned n, unsigned dim)
{
    unsigned left = 0;

    for (unsigned i = 0; i < n; i++)
        if (parts[i].dims[dim].size > 0)
            parts[left++] = parts[i];
    return left;
}

static int cat(struct lift *l, bool stacks, struct lifted *ret)
{
    const struct pt2_arg *list = node_arg(l->node, "tensors");
    struct lifted parts[CAT_MAX], like;
    struct cat *cats, *cat;
    unsigned dim = 0, n;

    if (!list || list->kind != PT2_ARG_TENSORS || list->list.n < 1 || list->list.n > CAT_MAX)
        return lift_refuse(l, "so many parts");
    if (cat_dims(l, list, stacks, parts, &like, &dim) < 0)
        return -1;
    n = drop_empty(parts, list->list.n, dim);
    if (n == 1) {
        *ret = parts[0];
        return 0;
    }
    cats = realloc(l->cats, (l->n_cats + 1) * sizeof(*cats));
    if (!cats)
        return lift_no_memory(l);
    l->cats = cats;
    cat = &cats[l->n_cats];
    memset(cat, 0, sizeof(*cat));
    cat->n = n;
    for (unsigned d = 0; d < dim; d++)
        cat->dim += dim_in_row(&like.dims[d]) > 0;
    for (unsigned i = 0; i < cat->n; i++)
        cat->pieces[i] = lift_strided(&parts[i]);
    if (!lift_step(l, STEP_CAT) || lift_new_rows(l, &like, ret) < 0)
        return -1;
    l->steps[l->n_steps - 1].s.out = ret->reg;
    l->steps[l->n_steps - 1].cat = (uint32_t)l->n_cats++;
    return 0;
}

/* ---- over a dimension ---- */

static int reduced_dim(struct lift *l, const struct lifted *in, unsigned *ret)
{
    const struct pt2_arg *arg = node_arg(l->node, "dim");
    int64_t d;

    if (!arg || (arg->kind == PT2_ARG_INTS && arg->list.n != 1) ||
        (arg->kind != PT2_ARG_INTS && arg->kind != PT2_ARG_INT))
        return lift_refuse(l, "not over one dimension");
    if (arg->kind == PT2_ARG_INTS && arg->list.items[0].kind != PT2_ARG_INT)
        return lift_refuse(l, "not over one dimension");
    d = arg->kind == PT2_ARG_INTS ? arg->list.items[0].i : arg->i;
    d += d < 0 ? in->n_dims : 0;
    if (d < 0 || d >= in->n_dims ||
        (in->dims[d].label != DIM_ROW && in->dims[d].label != DIM_ONE))
        return lift_refuse(l, "over a dimension that is no row's");
    *ret = (unsigned)d;
    return 0;
}

static void drop_dim(struct lifted *v, unsigned dim)
{
    v->n_dims--;
    memmove(&v->dims[dim], &v->dims[dim + 1], (v->n_dims - dim) * sizeof(*v->dims));
}

static int reduce(struct lift *l, const struct lifted *in, int how, struct lifted *ret)
{
    struct lifted moved, like = *in;
    struct plan_step *step;
    bool keeps;
    unsigned dim;

    if (reduced_dim(l, in, &dim) < 0)
        return -1;
    if (!node_bool(l->node, "keepdim", false, &keeps))
        return lift_refuse(l, "'keepdim' is no plain bool");
    if (in->dims[dim].label == DIM_ONE) {
        *ret = *in;
        if (!keeps)
            drop_dim(ret, dim);
        return 0;
    }
    moved = lift_last_dim(in, dim);
    like.dims[dim] = new_dim(DIM_ONE, 1, 0);
    if (!keeps)
        drop_dim(&like, dim);
    step = lift_step(l, PLAN_REDUCE);
    if (!step || lift_new_rows(l, &like, ret) < 0 || lift_lines(l, &moved, NULL, moved.dims[moved.n_dims - 1].size, step) < 0)
        return -1;
    step->out = ret->reg;
    step->reduce = how;
    return 0;
}

static int softmax(struct lift *l, const struct lifted *in, struct lifted *ret)
{
    struct plan_step *step;
    struct lifted moved;
    unsigned dim;

    if (reduced_dim(l, in, &dim) < 0)
        return -1;
    if (!lift_is_last_in_row(in, dim))
        return lift_refuse(l, "over a dimension that is not the last");
    moved = lift_last_dim(in, dim);
    step = lift_step(l, PLAN_SOFTMAX);
    if (!step || lift_new_rows(l, in, ret) < 0 || lift_lines(l, &moved, NULL, in->dims[dim].size, step) < 0)
        return -1;
    step->out = ret->reg;
    return 0;
}

static int norm_constant(struct lift *l, const char *name, int64_t size, int32_t *ret)
{
    int64_t value = node_value(l->node, name);
    uint32_t i;

    *ret = -1;
    if (value < 0)
        return 0;
    if (eval_class(l->eval, (uint32_t)value) != EVAL_CONSTANT)
        return lift_refuse(l, "a '%s' that is no constant", name);
    if (lift_constant(l, (uint32_t)value, &i) < 0)
        return -1;
    if (l->plan->constant_sizes[i] != size)
        return lift_refuse(l, "a '%s' of %u elements", name, l->plan->constant_sizes[i]);
    *ret = (int32_t)i;
    return 0;
}

/* layer_norm, rms_norm of the last dimension; native_layer_norm, whose other outputs are the
 * means and deviations */
static int norm(struct lift *l, enum plan_op op, const struct lifted *in, struct lifted *ret)
{
    const struct pt2_arg *shape = node_list(l->node, "normalized_shape");
    struct lifted v = *in;
    unsigned last = v.n_dims - 1;
    int32_t weight, bias = -1;
    struct plan_step *step;
    double eps;

    for (unsigned i = 1; i < 3; i++)
        if (node_out_at(l->node, i) >= 0 && l->needed[node_out_at(l->node, i)])
            return lift_refuse(l, "a norm's means or deviations");
    if (!shape || shape->list.n != 1 || v.n_dims == 0 || v.dims[last].label != DIM_ROW)
        return lift_refuse(l, "not over the last dimension");
    if (!node_float(l->node, "eps", op == PLAN_LAYER_NORM ? 1e-5 : 1.1920928955078125e-07,
                    &eps))
        return lift_refuse(l, "'eps' is no number");
    if (norm_constant(l, "weight", v.dims[last].size, &weight) < 0 ||
        norm_constant(l, "bias", v.dims[last].size, &bias) < 0)
        return -1;
    if (v.dims[last].stride != 1 && lift_copy(l, in, &v) < 0)
        return -1;
    step = lift_step(l, op);
    if (!step || lift_new_rows(l, &v, ret) < 0 || lift_lines(l, &v, NULL, v.dims[last].size, step) < 0)
        return -1;
    if (step->sizes[0] != 1 || step->sizes[1] != 1)
        return lift_refuse(l, "groups that are strided in two dimensions");
    step->norm.n_groups = step->sizes[2];
    step->norm.size = step->sizes[3];
    step->in.strides[0] = step->in.strides[2];
    step->norm.weight = weight;
    step->norm.bias = bias;
    step->norm.eps = (float)eps;
    step->out = ret->reg;
    return 0;
}

/* ---- weights ---- */

/* Of whole numbers (then which of the plan's), or of floats. */
static int find_weights(struct lift *l, uint32_t value, bool is_transposed, struct weights *ret,
                        int32_t *ret_quant)
{
    const struct plan_quant *q;

    if (lift_quant_weights(l, value, is_transposed, ret_quant) < 0)
        return -1;
    if (*ret_quant < 0)
        return lift_weights(l, value, is_transposed, ret);
    q = &l->plan->quants[*ret_quant];
    *ret = (struct weights){.dtype = PT2_INT8, .n_out = q->shape.n_out, .k = q->shape.k,
                            .fqn = q->fqn};
    return 0;
}

static int embedding(struct lift *l, struct lifted *ret)
{
    const struct lifted *ids = lift_arg(l, "indices");
    int64_t weight = node_value(l->node, "weight");
    struct lifted like;
    struct plan_step *step;
    struct weights w = {0};
    int32_t quant;

    if (!ids || ids->kind != KIND_IDS || weight < 0 || ids->n_dims >= PT2_MAX_DIMS)
        return lift_refuse(l, "not of the token ids");
    if (find_weights(l, (uint32_t)weight, false, &w, &quant) < 0)
        return -1;
    like = *ids;
    like.dims[like.n_dims++] = new_dim(DIM_ROW, w.k, 1);
    step = lift_step(l, PLAN_EMBED);
    if (!step || lift_new_rows(l, &like, ret) < 0)
        return -1;
    step->out = ret->reg;
    step->sizes[3] = w.k;
    step->embed.weights = w.data;
    step->embed.dtype = w.dtype;
    step->embed.quant = quant;
    step->embed.n_rows = w.n_out;
    step->embed.width = w.k;
    step->embed.scale = 1;
    step->embed.fqn = w.fqn;
    return 0;
}

static int linear(struct lift *l, const struct lifted *in, uint32_t weight,
                  bool is_transposed, const char *bias, struct lifted *ret)
{
    struct lifted x, like;
    struct plan_step *step;
    struct weights w;
    int32_t bias_i, quant;
    uint32_t whole;
    bool is_pick, of_whole;

    if (find_weights(l, weight, is_transposed, &w, &quant) < 0 ||
        norm_constant(l, bias, w.n_out, &bias_i) < 0)
        return -1;
    if (bias_i < 0 && quant < 0 && (lift_pick(l, in, &w, ret, &is_pick) < 0 || is_pick))
        return is_pick ? 0 : -1;
    for (unsigned d = 0; d + 1 < in->n_dims; d++)
        if (dim_in_row(&in->dims[d]) > 1)
            return lift_refuse(l, "rows that are matrices");
    if (in->n_dims == 0 || in->dims[in->n_dims - 1].label != DIM_ROW ||
        in->dims[in->n_dims - 1].size != w.k)
        return lift_refuse(l, "an input that is not %u wide", w.k);
    if (lift_contiguous(l, in, &x) < 0)
        return -1;
    like = x;
    like.dims[like.n_dims - 1].size = w.n_out;
    of_whole = quant >= 0 && lift_quantized_rows(l, &x, &whole);
    if (quant >= 0)
        l->plan->quants[quant].is_linear = true;
    step = lift_step(l, PLAN_LINEAR);
    if (!step || lift_new_rows(l, &like, ret) < 0)
        return -1;
    step->in = (struct plan_view){.source = PLAN_REGISTER, .i = x.reg, .offset = x.offset,
                                  .strides = {0, 0, 0, 1}};
    if (of_whole)
        step->in = (struct plan_view){.source = PLAN_REGISTER, .i = whole,
                                      .strides = {0, 0, 0, 1}};
    step->linear.of_whole = of_whole;
    step->out = ret->reg;
    step->sizes[3] = w.n_out;
    step->linear.k = w.k;
    step->linear.n_outs = 1;
    step->linear.outs[0] =
        (struct plan_linear_out){ret->reg, w.n_out, w.data, w.dtype, bias_i, quant, w.fqn};
    return 0;
}

static int addmm(struct lift *l, struct lifted *ret)
{
    const struct lifted *x = lift_arg(l, "mat1");
    int64_t weight = node_value(l->node, "mat2");

    if (!lift_is_rows(x) || weight < 0 || node_arg(l->node, "beta") ||
        node_arg(l->node, "alpha"))
        return lift_refuse(l, "factors, or no tokens' rows");
    return linear(l, x, (uint32_t)weight, true, "self", ret);
}

static int matmul(struct lift *l, struct lifted *ret)
{
    const struct lifted *x = lift_arg(l, "self");
    const char *name = node_arg(l->node, "mat2") ? "mat2" : "other";
    int64_t weight = node_value(l->node, name);

    if (!lift_is_rows(x) || weight < 0 || l->values[weight].kind != KIND_EVAL)
        return lift_refuse(l, "a product of tokens' values");
    return linear(l, x, (uint32_t)weight, true, "no bias", ret);
}

/* ---- in place ---- */

struct later {
    struct lift *l;
    uint32_t root, out;
    bool found;
};

static void see_later(void *context, uint32_t value)
{
    struct later *later = context;

    if (later->l->roots[value] == later->root &&
        pt2_program_value(later->l->program, value)->node < (int32_t)later->l->node_i)
        later->found = true;
}

int lift_check_write(struct lift *l)
{
    int64_t self = node_written(l->node);
    struct later later = {.l = l};

    if (self < 0)
        return 0;
    later.root = l->roots[self];
    for (uint32_t i = l->node_i + 1; i < pt2_program_n_nodes(l->program); i++)
        node_each_input(pt2_program_node(l->program, i), see_later, &later);
    for (uint32_t i = 0; i < pt2_program_n_outputs(l->program); i++) {
        const struct pt2_output *out = pt2_program_output(l->program, i);

        if (out->arg.kind == PT2_ARG_TENSOR)
            see_later(&later, out->arg.value);
    }
    if (later.found || pt2_program_value(l->program, later.root)->node < 0)
        return lift_refuse(l, "written in place, and read later");
    return 0;
}

/* ---- the ops ---- */

static int in_first(struct lift *l, const char *op, const struct lifted *in,
                    struct lifted *ret, bool *ret_is)
{
    static const char *const reductions[] = {"sum", "mean", "amax"};

    for (size_t i = 0; i < ARRAY_LEN(unaries); i++)
        if (streq(op, unaries[i].op))
            return lift_unary(l, unaries[i].f, in, ret);
    for (int i = 0; i < (int)ARRAY_LEN(reductions); i++)
        if (streq(op, reductions[i]))
            return reduce(l, in, i, ret);
    if (streq(op, "gelu"))
        return gelu(l, in, ret);
    if (streq(op, "softplus"))
        return softplus(l, in, ret);
    if (streq(op, "gt"))
        return compare(l, in, ret);
    if (streq(op, "pow"))
        return power(l, in, ret);
    if (streq(op, "clamp") || streq(op, "clamp_min") || streq(op, "clamp_max"))
        return clamp(l, in, ret);
    if (streq(op, "softmax") || streq(op, "_softmax"))
        return softmax(l, in, ret);
    if (streq(op, "layer_norm") || streq(op, "native_layer_norm") || streq(op, "rms_norm"))
        return norm(l, streq(op, "rms_norm") ? PLAN_RMS_NORM : PLAN_LAYER_NORM, in, ret);
    if (streq(op, "linear") && node_value(l->node, "weight") >= 0)
        return linear(l, in, (uint32_t)node_value(l->node, "weight"), false, "bias", ret);
    *ret_is = false;
    return 0;
}

int lift_rows(struct lift *l, const struct node_op *op_in, bool *ret_is)
{
    struct node_op op = *op_in;
    const struct lifted *self = lift_arg(l, node_arg(l->node, "self") ? "self" : "input"),
                        *other = lift_arg(l, "other");
    struct lifted v;
    int r = 0;

    if (node_written(l->node) >= 0)
        op.name[strlen(op.name) - 1] = '\0';
    *ret_is = true;
    if (streq(op.name, "embedding")) {
        r = embedding(l, &v);
    } else if (streq(op.name, "cat") || streq(op.name, "stack")) {
        r = cat(l, streq(op.name, "stack"), &v);
    } else if (streq(op.name, "addmm")) {
        r = addmm(l, &v);
    } else if (streq(op.name, "where") && lift_is_rows(lift_arg(l, "condition"))) {
        r = where(l, &v);
    } else if (lift_is_rows(self) && (streq(op.name, "matmul") || streq(op.name, "mm"))) {
        r = matmul(l, &v);
    } else {
        *ret_is = false;
        for (size_t i = 0; i < ARRAY_LEN(binaries) && !*ret_is; i++)
            if (streq(op.name, binaries[i].op) && (lift_is_rows(self) || lift_is_rows(other))) {
                *ret_is = true;
                r = binary(l, binaries[i].f, &v);
            }
        if (!*ret_is && lift_is_rows(self)) {
            *ret_is = true;
            r = in_first(l, op.name, self, &v, ret_is);
        }
    }
    if (r < 0 || !*ret_is)
        return r;
    if (lift_check_write(l) < 0)
        return -1;
    *lift_out(l) = v;
    return 0;
}
