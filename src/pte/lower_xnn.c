/* lower_xnn.c - nodes as parts of an XNNPACK delegate. */
#include "base/log.h"
#include "pte/lower_impl.h"

#include <math.h>

/* ---- values ---- */

static int shape_of(struct lowering *l, uint32_t value, struct xnn_shape *ret_shape)
{
    int64_t sizes[PTE_MAX_DIMS];

    if (lower_sizes(l, value, sizes, &ret_shape->n) < 0)
        return -1;
    if (ret_shape->n > XNN_MAX_DIMS)
        return pt2_err_set(l->err, PT2_ERR_NOT_EXPORTABLE,
                           "format pte: %u dimensions in a delegate", ret_shape->n);
    for (unsigned i = 0; i < ret_shape->n; i++)
        ret_shape->sizes[i] = (uint32_t)sizes[i];
    return 0;
}

int lower_xnn_begin(struct lowering *l)
{
    if (l->delegate)
        return 0;
    l->delegate = xnn_graph_new();
    if (!l->delegate)
        return pt2_err_set(l->err, PT2_ERR_NOMEM, "a delegate");
    l->n_args = l->n_inner = 0;
    return 0;
}

/* An input of the delegate: this value of the program. */
static uint32_t bind(struct lowering *l, uint32_t value, const struct xnn_shape *shape)
{
    for (uint32_t i = 0; i < l->n_args; i++)
        if (l->args[i] == value) {
            uint32_t x = xnn_input_at(l->delegate, i);
            struct xnn_shape has = xnn_shape_of(l->delegate, x);

            if (memcmp(&has, shape, sizeof(has)) == 0)
                return x;
        }
    l->args[l->n_args++] = value;
    return xnn_input(l->delegate, shape);
}

int lower_xnn_value(struct lowering *l, uint32_t value, uint32_t *ret_inner)
{
    struct lowered *x = &l->values[value];
    struct xnn_shape shape = {0};

    if (x->inner == NO_VALUE) {
        if (shape_of(l, value, &shape) < 0)
            return -1;
        x->inner = bind(l, lower_value(l, value), &shape);
        l->inner[l->n_inner++] = value;
    }
    *ret_inner = x->inner;
    return 0;
}

int lower_xnn_weight(struct lowering *l, uint32_t value, uint32_t *ret_inner)
{
    struct lowered *x = &l->values[value];
    struct xnn_shape shape = {0};

    if (x->blob == PTE_NONE)
        return lower_xnn_value(l, value, ret_inner);
    if (shape_of(l, value, &shape) < 0)
        return -1;
    *ret_inner = xnn_constant(l->delegate, &shape, pte_blob_key(l->p, x->blob),
                              pte_failed(l->p) ? 0 : l->p->blobs[x->blob].bytes);
    return 0;
}

static uint32_t number(struct lowering *l, double value)
{
    struct xnn_shape one = {1, {1}};

    return bind(l, lower_number(l, value), &one);
}

void lower_xnn_made(struct lowering *l, const struct pt2_node *node, uint32_t inner)
{
    static const uint32_t turn[] = {1, 0, 2};
    uint32_t value = node->outputs[0].value;
    struct xnn_shape s = xnn_shape_of(l->delegate, inner);
    struct xnn_shape turned = {3, {s.sizes[1], s.sizes[0], s.sizes[2]}};

    if (l->values[value].is_turned && s.sizes[1] == 1)
        inner = xnn_reshape(l->delegate, inner, &turned, &turned);
    else if (l->values[value].is_turned)
        inner = xnn_transpose(l->delegate, inner, turn);
    l->values[value].inner = inner;
    l->inner[l->n_inner++] = value;
}

/* ---- the end ---- */

int lower_xnn_end(struct lowering *l)
{
    struct xnn_graph *g = l->delegate;
    uint32_t n_outs = 0;

    if (!g)
        return 0;
    for (uint32_t i = 0; i < l->n_inner; i++) {
        struct lowered *x = &l->values[l->inner[i]];

        if (x->value == NO_VALUE && x->last_use >= l->node && x->blob == PTE_NONE) {
            x->value = lower_activation(l, l->inner[i]);
            xnn_output(g, x->inner);
            l->args[l->n_args + n_outs++] = x->value;
        }
        x->inner = NO_VALUE;
    }
    if (xnn_graph_failed(g))
        l->p->failed = true;
    l->delegate = NULL;
    if (n_outs == 0) { /* nothing of it is read */
        xnn_graph_free(g);
        return 0;
    }
    pte_call_delegate(l->p, pte_add_delegate(l->p, g), l->args, l->n_args + n_outs, n_outs);
    return 0;
}

/* ---- nodes ---- */

static int unary(struct lowering *l, const struct pt2_node *node, enum xnn_op op)
{
    uint32_t x;

    if (lower_xnn_value(l, lower_tensor(node, "self"), &x) < 0)
        return -1;
    lower_xnn_made(l, node, xnn_unary(l->delegate, op, x));
    return 0;
}

static int binary(struct lowering *l, const struct pt2_node *node, enum xnn_op op)
{
    const struct pt2_arg *other = lower_arg(node, "other");
    uint32_t a, b;

    if (lower_xnn_value(l, lower_tensor(node, "self"), &a) < 0)
        return -1;
    if (other->kind == PT2_ARG_TENSOR) {
        if (lower_xnn_value(l, other->value, &b) < 0)
            return -1;
    } else {
        b = number(l, other->kind == PT2_ARG_FLOAT ? other->f : (double)other->i);
    }
    lower_xnn_made(l, node, xnn_binary(l->delegate, op, a, b));
    return 0;
}

static int linear(struct lowering *l, const struct pt2_node *node)
{
    uint32_t bias_value = lower_tensor(node, "bias"), x, w, bias = XNN_NO_VALUE;

    if (lower_xnn_value(l, lower_tensor(node, "input"), &x) < 0 ||
        lower_xnn_weight(l, lower_tensor(node, "weight"), &w) < 0 ||
        (bias_value != NO_VALUE && lower_xnn_weight(l, bias_value, &bias) < 0))
        return -1;
    lower_xnn_made(l, node, xnn_fully_connected(l->delegate, x, w, bias));
    return 0;
}

/* Sizes that are symbolic as 0: XNNPACK finds them when it runs, one a node. */
static struct xnn_shape with_open(const struct lowering *l, uint32_t value,
                                  struct xnn_shape shape)
{
    for (unsigned i = 0; i < shape.n; i++)
        if (lower_is_open(l, &lower_meta(l, value)->sizes[i]))
            shape.sizes[i] = 0;
    return shape;
}

static int reshape(struct lowering *l, const struct pt2_node *node)
{
    uint32_t value = node->outputs[0].value, x;
    struct xnn_shape shape = {0}, open;

    if (lower_xnn_value(l, lower_tensor(node, "self"), &x) < 0 ||
        shape_of(l, value, &shape) < 0)
        return -1;
    open = with_open(l, value, shape);
    lower_xnn_made(l, node, xnn_reshape(l->delegate, x, &open, &shape));
    return 0;
}

/* Is all that reads the transpose of a matrix the second operand of a bmm?  That has a flag
 * for it. */
static bool is_for_bmm(const struct lowering *l, const struct pt2_node *node)
{
    uint32_t value = node->outputs[0].value;
    const struct lowered *x = &l->values[value];
    const struct pt2_node *reader;
    int64_t n = lower_meta(l, value)->n_dims, d0 = lower_int(node, "dim0", 0),
            d1 = lower_int(node, "dim1", 0);

    d0 += d0 < 0 ? n : 0;
    d1 += d1 < 0 ? n : 0;
    if (!streq(lower_op(node), "transpose.int") || n != 3 || d0 + d1 != 3 || x->n_uses != 1 ||
        x->last_use >= pt2_program_n_nodes(l->from))
        return false;
    reader = &l->nodes[x->last_use];
    return streq(lower_op(reader) ?: "", "bmm.default") &&
           lower_tensor(reader, "mat2") == value;
}

static int transpose(struct lowering *l, const struct pt2_node *node)
{
    int64_t d0 = lower_int(node, "dim0", 0), d1 = lower_int(node, "dim1", 0);
    uint32_t order[XNN_MAX_DIMS], x;
    struct xnn_shape shape;

    if (is_for_bmm(l, node)) {
        l->values[node->outputs[0].value].transposed = lower_tensor(node, "self");
        return 0;
    }
    if (lower_is_shape(l, node))
        return reshape(l, node);
    if (lower_xnn_value(l, lower_tensor(node, "self"), &x) < 0)
        return -1;
    shape = xnn_shape_of(l->delegate, x);
    for (uint32_t i = 0; i < shape.n; i++)
        order[i] = i;
    d0 += d0 < 0 ? shape.n : 0;
    d1 += d1 < 0 ? shape.n : 0;
    order[d0] = (uint32_t)d1;
    order[d1] = (uint32_t)d0;
    lower_xnn_made(l, node, xnn_transpose(l->delegate, x, order));
    return 0;
}

static int bmm(struct lowering *l, const struct pt2_node *node)
{
    uint32_t mat2 = lower_tensor(node, "mat2"), from = l->values[mat2].transposed, a, b;
    bool transposed = from != NO_VALUE;

    if (lower_xnn_value(l, lower_tensor(node, "self"), &a) < 0 ||
        lower_xnn_value(l, transposed ? from : mat2, &b) < 0)
        return -1;
    lower_xnn_made(l, node, xnn_batch_matrix_multiply(l->delegate, a, b, transposed));
    return 0;
}

static int silu(struct lowering *l, const struct pt2_node *node)
{
    uint32_t x;

    if (lower_xnn_value(l, lower_tensor(node, "self"), &x) < 0)
        return -1;
    lower_xnn_made(l, node,
                xnn_binary(l->delegate, XNN_MULTIPLY, x,
                           xnn_unary(l->delegate, XNN_SIGMOID, x)));
    return 0;
}

/* 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), as aten.gelu says for "tanh". */
static int gelu_tanh(struct lowering *l, const struct pt2_node *node)
{
    struct xnn_graph *g;
    uint32_t x, y;

    if (lower_xnn_value(l, lower_tensor(node, "self"), &x) < 0)
        return -1;
    g = l->delegate;
    y = xnn_binary(g, XNN_MULTIPLY, xnn_unary(g, XNN_SQUARE, x), number(l, 0.044715));
    y = xnn_binary(g, XNN_MULTIPLY, xnn_binary(g, XNN_ADD, y, number(l, 1)), x);
    y = xnn_unary(g, XNN_TANH, xnn_binary(g, XNN_MULTIPLY, y, number(l, 0.7978845608028654)));
    y = xnn_binary(g, XNN_MULTIPLY, xnn_binary(g, XNN_ADD, y, number(l, 1)), x);
    lower_xnn_made(l, node, xnn_binary(g, XNN_MULTIPLY, y, number(l, 0.5)));
    return 0;
}

static int gelu(struct lowering *l, const struct pt2_node *node)
{
    const struct pt2_arg *how = lower_arg(node, "approximate");

    if (how && how->kind == PT2_ARG_STRING && streq(how->s, "tanh"))
        return gelu_tanh(l, node);
    return unary(l, node, XNN_GELU);
}

static double number_of(const struct pt2_node *node, const char *name, double otherwise)
{
    const struct pt2_arg *arg = lower_arg(node, name);

    if (!arg || (arg->kind != PT2_ARG_FLOAT && arg->kind != PT2_ARG_INT))
        return otherwise;
    return arg->kind == PT2_ARG_FLOAT ? arg->f : (double)arg->i;
}

static int clamp(struct lowering *l, const struct pt2_node *node, double min, double max)
{
    uint32_t x;

    if (lower_xnn_value(l, lower_tensor(node, "self"), &x) < 0)
        return -1;
    lower_xnn_made(l, node, xnn_clamp(l->delegate, x, (float)min, (float)max));
    return 0;
}

static int slice(struct lowering *l, const struct pt2_node *node)
{
    uint32_t offsets[XNN_MAX_DIMS] = {0}, x;
    struct xnn_shape shape = {0}, open, from;
    int64_t dim = lower_int(node, "dim", 0), start = lower_int(node, "start", 0);

    if (lower_xnn_value(l, lower_tensor(node, "self"), &x) < 0 ||
        shape_of(l, node->outputs[0].value, &shape) < 0)
        return -1;
    from = xnn_shape_of(l->delegate, x);
    dim += dim < 0 ? from.n : 0;
    if (start < 0)
        start += from.sizes[dim];
    offsets[dim] = (uint32_t)start;
    open = with_open(l, node->outputs[0].value, shape);
    lower_xnn_made(l, node, xnn_slice(l->delegate, x, offsets, &open, &shape));
    return 0;
}

static bool is_last_dim(const struct lowering *l, const struct pt2_node *node)
{
    int64_t n = lower_meta(l, lower_tensor(node, "self"))->n_dims;
    int64_t dim = lower_int(node, "dim", -1);

    return dim == -1 || dim == n - 1;
}

/* All that is float32, of at most XNN_MAX_DIMS dimensions. */
static bool is_for_xnn(const struct lowering *l, const struct pt2_node *node)
{
    const struct pt2_tensor_meta *out;

    if (node->n_outputs != 1 || node->outputs[0].kind != PT2_ARG_TENSOR)
        return false;
    out = lower_meta(l, node->outputs[0].value);
    if (out->dtype != PT2_FLOAT32 || out->n_dims > XNN_MAX_DIMS || out->n_dims == 0)
        return false;
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        const struct pt2_arg *arg = &node->inputs[i].arg;

        if (arg->kind == PT2_ARG_TENSOR &&
            (lower_meta(l, arg->value)->dtype != PT2_FLOAT32 ||
             lower_meta(l, arg->value)->n_dims > XNN_MAX_DIMS))
            return false;
    }
    return true;
}

struct xnn_kind {
    const char *op;
    int (*lower)(struct lowering *l, const struct pt2_node *node, enum xnn_op op);
    enum xnn_op xnn;
};

static const struct xnn_kind simple[] = {
    {"add.Tensor", binary, XNN_ADD},
    {"div.Tensor", binary, XNN_DIVIDE},
    {"min.other", binary, XNN_MINIMUM},
    {"mul.Tensor", binary, XNN_MULTIPLY},
    {"rsqrt.default", unary, XNN_RECIPROCAL_SQUARE_ROOT},
    {"sigmoid.default", unary, XNN_SIGMOID},
    {"square.default", unary, XNN_SQUARE},
    {"sub.Tensor", binary, XNN_SUBTRACT},
    {"tanh.default", unary, XNN_TANH},
};

static int lower_taken(struct lowering *l, const struct pt2_node *node, bool *ret_taken)
{
    const char *op = lower_op(node);

    for (size_t i = 0; i < ARRAY_LEN(simple); i++)
        if (streq(op, simple[i].op))
            return simple[i].lower(l, node, simple[i].xnn);
    if (streq(op, "linear.default"))
        return linear(l, node);
    if (streq(op, "transpose.int"))
        return transpose(l, node);
    if (lower_is_shape(l, node))
        return reshape(l, node);
    if (streq(op, "bmm.default"))
        return bmm(l, node);
    if (streq(op, "silu.default"))
        return silu(l, node);
    if (streq(op, "gelu.default"))
        return gelu(l, node);
    if (streq(op, "relu.default"))
        return clamp(l, node, 0, INFINITY);
    if (streq(op, "clamp.default"))
        return clamp(l, node, number_of(node, "min", -INFINITY),
                     number_of(node, "max", INFINITY));
    if (streq(op, "slice.Tensor") && lower_int(node, "step", 1) == 1)
        return slice(l, node);
    if (streq(op, "softmax.int") && is_last_dim(l, node))
        return unary(l, node, XNN_SOFTMAX);
    if (streq(op, "pow.Tensor_Scalar") && number_of(node, "exponent", 0) == 2)
        return unary(l, node, XNN_SQUARE);
    *ret_taken = false;
    return 0;
}

/* What only gives a tensor another shape begins no delegate: outside it costs nothing,
 * where the sizes are known. */
static bool is_free(const struct lowering *l, const struct pt2_node *node)
{
    return lower_is_shape(l, node) && !is_for_bmm(l, node) &&
           !l->values[node->outputs[0].value].is_turned &&
           !lower_is_dynamic(l, node->outputs[0].value);
}

int lower_xnn(struct lowering *l, const struct pt2_node *node, bool *ret_taken)
{
    *ret_taken = is_for_xnn(l, node) && (l->delegate || !is_free(l, node));
    if (!*ret_taken)
        return 0;
    if (lower_xnn_begin(l) < 0)
        return -1;
    return lower_taken(l, node, ret_taken);
}
