/* Weights of whole numbers, and rows that meet them as whole numbers, as torchao spells them:
 *
 *     choose_qparams_affine(x) -> scale, zero point of each row
 *     quantize_affine(x, scale, zero point) -> whole numbers
 *     dequantize_affine(those, scale, zero point) -> the row, rounded to them
 *     dequantize_affine(data, scale, zero points) -> a matrix of weights
 *
 * The rounded row becomes two steps, to whole numbers and back.  A linear with weights of whole
 * numbers takes the first one's row; where no one else wants floats, the second one is dead. */
#include "native/lift.h"

#include <float.h>
#include <math.h>

#define QMIN (-128)
#define QMAX 127

static const struct pt2_node *maker(const struct lift *l, int64_t value, const char *op)
{
    const struct pt2_value *v = value < 0 ? NULL : pt2_program_value(l->program, (uint32_t)value);
    const struct pt2_node *node =
        v && v->node >= 0 ? pt2_program_node(l->program, (uint32_t)v->node) : NULL;

    return node && node_is(node, op) ? node : NULL;
}

/* An argument that is a dtype; `other` where it is not given, PT2_DTYPE_NONE for all else. */
static enum pt2_dtype dtype_arg(const struct pt2_node *node, const char *name,
                                enum pt2_dtype other)
{
    const struct pt2_arg *arg = node_arg(node, name);

    return !arg ? other : arg->kind == PT2_ARG_SCALAR_TYPE ? arg->dtype : PT2_DTYPE_NONE;
}

/* Is the block a whole row: 1, ..., 1, k? */
static bool block_is_row(const struct pt2_node *node, unsigned n_dims, int64_t k)
{
    const struct pt2_arg *block = node_list(node, "block_size");

    if (!block || block->kind != PT2_ARG_INTS || block->list.n != n_dims)
        return false;
    for (unsigned d = 0; d < n_dims; d++)
        if (block->list.items[d].i != (d + 1 < n_dims ? 1 : k))
            return false;
    return true;
}

static bool range_is(const struct pt2_node *node, double low, double high)
{
    double min, max;

    return node_float(node, "quant_min", QMIN, &min) &&
           node_float(node, "quant_max", QMAX, &max) && min == low && max == high;
}

/* ---- rows ---- */

static int check_choice(struct lift *l, const struct pt2_node *choose, unsigned n_dims, int64_t k,
                        float *ret_eps)
{
    const struct pt2_arg *how = node_arg(choose, "mapping_type");
    enum pt2_dtype scale = dtype_arg(choose, "scale_dtype", PT2_FLOAT32),
                   zero = dtype_arg(choose, "zero_point_dtype", PT2_INT32);
    double eps;

    if (!how || how->kind != PT2_ARG_STRING || !streq(how->s, "ASYMMETRIC"))
        return lift_refuse(l, "rows are quantised in another way than ASYMMETRIC");
    if (dtype_arg(choose, "target_dtype", PT2_DTYPE_NONE) != PT2_INT8 ||
        !range_is(choose, QMIN, QMAX))
        return lift_refuse(l, "rows of other whole numbers than int8, -128 to 127");
    if (scale != PT2_FLOAT32 || (zero != PT2_INT8 && zero != PT2_INT16 && zero != PT2_INT32 &&
                                 zero != PT2_INT64))
        return lift_refuse(l, "scales of %s, zero points of %s", pt2_dtype_name(scale),
                           pt2_dtype_name(zero));
    if (!block_is_row(choose, n_dims, k))
        return lift_refuse(l, "a scale for other blocks than a row of %lld", (long long)k);
    /* the smallest scale: torch.finfo(float32).smallest_normal where none is given */
    if (!node_float(choose, "eps", (double)FLT_MIN, &eps) || !(eps >= (double)FLT_MIN) ||
        eps > (double)FLT_MAX)
        return lift_refuse(l, "a smallest scale that is no normal number above 0");
    *ret_eps = (float)eps;
    return 0;
}

static bool is_same_rows(const struct lifted *a, const struct lifted *b)
{
    if (!lift_is_rows(a) || !lift_is_rows(b) || a->reg != b->reg || a->offset != b->offset ||
        a->n_dims != b->n_dims || a->is_last != b->is_last)
        return false;
    for (unsigned d = 0; d < a->n_dims; d++)
        if (!dim_is_same(&a->dims[d], &b->dims[d]) || a->dims[d].stride != b->dims[d].stride)
            return false;
    return true;
}

/* The rows as whole numbers, made once for all who want them: optimum says it again for each
 * linear. */
static int quantized(struct lift *l, const struct lifted *x, float eps, uint32_t k, uint32_t *ret)
{
    struct plan_step *step;

    for (size_t i = 0; i < l->n_steps; i++) {
        const struct plan_step *s = &l->steps[i].s;

        if (s->op == PLAN_QUANTIZE && s->in.i == x->reg && s->in.offset == x->offset &&
            s->sizes[3] == k && s->quantize_eps == eps) {
            *ret = s->out;
            return 0;
        }
    }
    step = lift_step(l, PLAN_QUANTIZE);
    if (!step || lift_register(l, (int64_t)(QUANT_ROW_BYTES(k) / sizeof(float)), ret) < 0)
        return -1;
    step->in = (struct plan_view){.source = PLAN_REGISTER, .i = x->reg, .offset = x->offset,
                                  .strides = {0, 0, 0, 1}};
    step->sizes[3] = k;
    step->quantize_eps = eps;
    step->out = *ret;
    return 0;
}

/* dequantize_affine(quantize_affine(x, ...), ...) of tokens' rows */
static int rounded_rows(struct lift *l, struct lifted *ret)
{
    const struct pt2_node *node = l->node,
                          *quantize = maker(l, node_value(node, "input"), "torchao.quantize_affine"),
                          *choose = maker(l, node_value(node, "scale"),
                                          "torchao.choose_qparams_affine");
    int64_t scale = node_value(node, "scale"), zero = node_value(node, "zero_point"), value;
    const struct lifted *in;
    struct plan_step *step;
    struct lifted x;
    uint32_t k, whole;
    float eps = 0;

    if (!quantize || !choose)
        return lift_refuse(l, "not of rows that choose_qparams_affine and quantize_affine made");
    if (node_out_at(choose, 0) != scale || node_out_at(choose, 1) != zero ||
        node_value(quantize, "scale") != scale || node_value(quantize, "zero_point") != zero)
        return lift_refuse(l, "scales and zero points of different rows");
    value = node_value(quantize, "input");
    in = value < 0 ? NULL : &l->values[value];
    if (!lift_is_rows(in) || node_value(choose, "input") < 0 ||
        !is_same_rows(in, &l->values[node_value(choose, "input")]))
        return lift_refuse(l, "scales of other rows than those that are quantised");
    if (pt2_program_value(l->program, (uint32_t)value)->meta.dtype != PT2_FLOAT32 ||
        dtype_arg(node, "output_dtype", PT2_FLOAT32) != PT2_FLOAT32)
        return lift_refuse(l, "rows that are not float32");
    if (dtype_arg(quantize, "output_dtype", PT2_DTYPE_NONE) != PT2_INT8 ||
        dtype_arg(node, "input_dtype", PT2_DTYPE_NONE) != PT2_INT8 ||
        !range_is(quantize, QMIN, QMAX))
        return lift_refuse(l, "rows of other whole numbers than int8, -128 to 127");
    if (in->n_dims == 0 || in->dims[in->n_dims - 1].label != DIM_ROW)
        return lift_refuse(l, "rows whose last dimension is not their own");
    for (unsigned d = 0; d + 1 < in->n_dims; d++)
        if (dim_in_row(&in->dims[d]) > 1)
            return lift_refuse(l, "rows that are matrices");
    k = (uint32_t)in->dims[in->n_dims - 1].size;
    if (k > QUANT_MAX_K)
        return lift_refuse(l, "rows of %u whole numbers, more than %d", k, QUANT_MAX_K);
    if (check_choice(l, choose, in->n_dims, k, &eps) < 0)
        return -1;
    if (!block_is_row(quantize, in->n_dims, k) || !block_is_row(node, in->n_dims, k))
        return lift_refuse(l, "a scale for other blocks than a row of %u", k);
    if (lift_contiguous(l, in, &x) < 0 || quantized(l, &x, eps, k, &whole) < 0)
        return -1;
    step = lift_step(l, PLAN_DEQUANTIZE);
    if (!step || lift_new_rows(l, &x, ret) < 0)
        return -1;
    step->in = (struct plan_view){.source = PLAN_REGISTER, .i = whole, .strides = {0, 0, 0, 1}};
    step->sizes[3] = k;
    step->out = ret->reg;
    return 0;
}

int lift_quant(struct lift *l, const struct node_op *op, bool *ret_is)
{
    struct lifted v;

    /* read through the node that dequantises; nothing else takes them */
    *ret_is = streq(op->name, "torchao.choose_qparams_affine") ||
              streq(op->name, "torchao.quantize_affine");
    if (*ret_is || !streq(op->name, "torchao.dequantize_affine"))
        return 0;
    *ret_is = true;
    if (rounded_rows(l, &v) < 0)
        return -1;
    *lift_out(l) = v;
    return 0;
}

bool lift_quantized_rows(const struct lift *l, const struct lifted *x, uint32_t *ret)
{
    int64_t made = l->makers[x->reg];
    const struct step *step = made < 0 ? NULL : &l->steps[made];

    if (!step || step->s.op != PLAN_DEQUANTIZE || step->s.out != x->reg || x->offset != 0)
        return false;
    *ret = step->s.in.i;
    return true;
}

/* ---- weights ---- */

/* Elements where they lie in the mapped file, contiguous; NULL: they don't. */
static const void *mapped(const struct lift *l, const struct pt2_payload *p)
{
    size_t size = pt2_dtype_size(p->dtype);
    int64_t stride = 1;
    const uint8_t *data;

    for (unsigned d = p->n_dims; d-- > 0; stride *= p->sizes[d])
        if (p->sizes[d] != 1 && p->strides[d] != stride)
            return NULL;
    data = p->is_zeros ? NULL : pt2_archive_data(l->archive, p->record);
    if (!data)
        return NULL;
    data += (uint64_t)p->storage_offset * size;
    return (uintptr_t)data % size == 0 ? data : NULL;
}

static uint64_t n_elements(const struct pt2_payload *p)
{
    uint64_t n = 1;

    for (unsigned d = 0; d < p->n_dims; d++)
        n *= (uint64_t)p->sizes[d];
    return n; /* fits: the archive has so many */
}

/* The argument is a tensor of the archive: which?  NULL: it is none. */
static const struct pt2_payload *payload_arg(const struct lift *l, const struct pt2_node *node,
                                             const char *name)
{
    int64_t value = node_value(node, name);

    return value < 0 || eval_class(l->eval, (uint32_t)value) != EVAL_CONSTANT
               ? NULL
               : lift_payload(l, (uint32_t)value);
}

static bool is_zero(const struct lift *l, const struct pt2_payload *p)
{
    const uint8_t *data;
    uint64_t n;

    if (p->is_zeros)
        return true;
    data = mapped(l, p);
    if (!data)
        return false;
    n = n_elements(p) * pt2_dtype_size(p->dtype);
    return n == 0 || (data[0] == 0 && memcmp(data, data + 1, n - 1) == 0);
}

/* What dequantize_affine makes a matrix of, where the kernels have it: int8 data in groups along
 * a row, as it lies in the file, float32 scales, no zero points. */
static bool find_quant(const struct lift *l, const struct pt2_node *node, struct plan_quant *ret)
{
    const struct pt2_payload *data = payload_arg(l, node, "input"),
                             *scale = payload_arg(l, node, "scale"),
                             *zero = payload_arg(l, node, "zero_point");
    const struct pt2_arg *block = node_list(node, "block_size");
    struct plan_quant q = {0};
    int64_t n, k, group;
    double min, max;

    if (!data || !scale || (!zero && node_arg(node, "zero_point")) ||
        data->dtype != PT2_INT8 || data->n_dims != 2 || scale->dtype != PT2_FLOAT32 ||
        dtype_arg(node, "input_dtype", PT2_DTYPE_NONE) != PT2_INT8 ||
        dtype_arg(node, "output_dtype", PT2_FLOAT32) != PT2_FLOAT32 || !block ||
        block->kind != PT2_ARG_INTS || block->list.n != 2 || block->list.items[0].i != 1)
        return false;
    n = data->sizes[0];
    k = data->sizes[1];
    group = block->list.items[1].i;
    if (n < 1 || k < 1 || n > INT32_MAX || k > LIFT_MAX_WIDTH || group < 1 || k % group != 0 ||
        n_elements(scale) != (uint64_t)n * (uint64_t)(k / group) ||
        (zero && (n_elements(zero) != n_elements(scale) || !is_zero(l, zero))))
        return false;
    q.data = mapped(l, data);
    q.scale = mapped(l, scale);
    if (!q.data || !node_float(node, "quant_min", QMIN, &min) ||
        !node_float(node, "quant_max", QMAX, &max))
        return false;
    /* dequantize_affine does not clamp: pack.c looks whether the data keeps what is said here */
    q.shape = (struct quant_shape){(uint32_t)n, (uint32_t)k, (uint32_t)group,
                                   min >= -8 && max <= 7 ? 4 : 8};
    q.fqn = data->fqn;
    *ret = q;
    return quant_shape_is_valid(&q.shape);
}

/* Scales that lie as they can't be read there are a constant of the plan. */
static int add_quant(struct lift *l, const struct pt2_node *node, struct plan_quant *q,
                     int32_t *ret)
{
    struct plan *p = l->plan;
    struct plan_quant *more;
    uint32_t scale;

    if (!q->scale) {
        if (lift_constant(l, (uint32_t)node_value(node, "scale"), &scale) < 0)
            return -1;
        q->scale = p->constants[scale];
    }
    for (size_t i = 0; i < p->n_quants; i++)
        if (p->quants[i].data == q->data && p->quants[i].scale == q->scale &&
            memcmp(&p->quants[i].shape, &q->shape, sizeof(q->shape)) == 0) {
            *ret = (int32_t)i;
            return 0;
        }
    more = realloc(p->quants, (p->n_quants + 1) * sizeof(*more));
    if (!more)
        return lift_no_memory(l);
    p->quants = more;
    more[p->n_quants] = *q;
    *ret = (int32_t)p->n_quants++;
    return 0;
}

int lift_quant_weights(struct lift *l, uint32_t value, bool is_transposed, int32_t *ret)
{
    const struct pt2_value *v;
    const struct pt2_node *node;
    struct plan_quant q;
    bool is_turned;

    *ret = -1;
    value = lift_source(l, value, &is_turned);
    v = pt2_program_value(l->program, value);
    node = maker(l, value, "torchao.dequantize_affine");
    if (!node || is_turned != is_transposed || eval_class(l->eval, value) != EVAL_CONSTANT ||
        !find_quant(l, node, &q) || v->meta.dtype != PT2_FLOAT32 || v->meta.n_dims != 2 ||
        v->meta.sizes[0].expr || v->meta.sizes[1].expr ||
        v->meta.sizes[0].value != (int64_t)q.shape.n_out ||
        v->meta.sizes[1].value != (int64_t)q.shape.k)
        return 0;
    return add_quant(l, node, &q, ret);
}
