/* xnn.c - values and nodes of an XNNPACK graph. */
#include "pte/xnn.h"

#include "base/log.h"
#include "pte/list.h"
#include "pte/xnn_impl.h"

#define FLAG_TRANSPOSE_B 1 /* XNN_FLAG_TRANSPOSE_B */

struct xnn_graph *xnn_graph_new(void)
{
    return calloc(1, sizeof(struct xnn_graph));
}

void xnn_graph_free(struct xnn_graph *g)
{
    if (!g)
        return;
    free(g->values);
    free(g->nodes);
    free(g->data);
    free(g->inputs);
    free(g->outputs);
    arena_done(&g->memory);
    free(g);
}

bool xnn_graph_failed(const struct xnn_graph *g)
{
    return g->failed;
}

static uint32_t add_value(struct xnn_graph *g, enum xnn_type type,
                          const struct xnn_shape *shape)
{
    if (!list_grow(&g->failed, &g->values, g->n_values, &g->cap_values, sizeof(*g->values)))
        return 0;
    g->values[g->n_values] = (struct xnn_value){.type = type, .shape = *shape};
    return g->n_values++;
}

struct xnn_shape xnn_shape_of(const struct xnn_graph *g, uint32_t value)
{
    if (g->failed)
        return (struct xnn_shape){0};
    ASSERT(value < g->n_values);
    return g->values[value].shape;
}

uint32_t xnn_n_inputs(const struct xnn_graph *g)
{
    return g->n_inputs;
}

uint32_t xnn_n_outputs(const struct xnn_graph *g)
{
    return g->n_outputs;
}

size_t xnn_n_nodes(const struct xnn_graph *g)
{
    return g->n_nodes;
}

uint32_t xnn_input(struct xnn_graph *g, const struct xnn_shape *shape)
{
    uint32_t x = add_value(g, XNN_FLOAT32, shape);

    if (!list_grow(&g->failed, &g->inputs, g->n_inputs, &g->cap_inputs, sizeof(*g->inputs)))
        return 0;
    g->values[x].role = XNN_IS_INPUT;
    g->values[x].place = g->n_inputs;
    g->inputs[g->n_inputs++] = x;
    return x;
}

uint32_t xnn_input_at(const struct xnn_graph *g, uint32_t i)
{
    return g->failed ? 0 : g->inputs[i];
}

void xnn_output(struct xnn_graph *g, uint32_t value)
{
    if (!list_grow(&g->failed, &g->outputs, g->n_outputs, &g->cap_outputs, sizeof(*g->outputs)))
        return;
    ASSERT(g->values[value].role == XNN_INNER && g->values[value].data == 0);
    g->values[value].role = XNN_IS_OUTPUT;
    g->values[value].place = g->n_outputs;
    g->outputs[g->n_outputs++] = value;
}

/* ---- constants ---- */

/* The number of the data with this key, counted from 1. */
static uint32_t add_data(struct xnn_graph *g, const char *key, uint64_t bytes)
{
    for (uint32_t i = 0; i < g->n_data; i++)
        if (streq(g->data[i].key, key))
            return i + 1;
    if (!list_grow(&g->failed, &g->data, g->n_data, &g->cap_data, sizeof(*g->data)))
        return 0;
    key = arena_string(&g->memory, key, strlen(key));
    if (!key) {
        g->failed = true;
        return 0;
    }
    g->data[g->n_data++] = (struct xnn_data){key, bytes};
    return g->n_data;
}

uint32_t xnn_constant(struct xnn_graph *g, const struct xnn_shape *shape, const char *key,
                      uint64_t bytes)
{
    uint32_t data = add_data(g, key, bytes), x = add_value(g, XNN_FLOAT32, shape);

    if (!g->failed)
        g->values[x].data = data;
    return x;
}

static uint32_t add_weights(struct xnn_graph *g, enum xnn_type type,
                            const struct xnn_shape *shape, uint32_t group, const char *key,
                            const char *scales_key)
{
    uint64_t n_out = shape->sizes[0], k = shape->sizes[1], n_scales = n_out * (k / group);
    bool is_int4 = type == XNN_GROUP_INT4;
    uint32_t data = add_data(g, key, is_int4 ? n_out * ((k + 1) / 2) : n_out * k);
    uint32_t scales = add_data(g, scales_key, n_scales * (is_int4 ? 2 : 4));
    uint32_t x = add_value(g, type, shape);

    ASSERT(shape->n == 2 && k % group == 0);
    if (g->failed)
        return 0;
    g->values[x].data = data;
    g->values[x].scales = scales;
    g->values[x].group = group;
    g->values[x].n_scales = (uint32_t)n_scales;
    return x;
}

uint32_t xnn_weights_int8(struct xnn_graph *g, const struct xnn_shape *shape,
                          const char *key, const char *scales_key)
{
    return add_weights(g, XNN_CHANNEL_INT8, shape, shape->sizes[1], key, scales_key);
}

uint32_t xnn_weights_int4(struct xnn_graph *g, const struct xnn_shape *shape,
                          uint32_t group, const char *key, const char *scales_key)
{
    return add_weights(g, XNN_GROUP_INT4, shape, group, key, scales_key);
}

/* ---- nodes ---- */

/* Add the node; its result has this type and shape. */
static uint32_t add_node(struct xnn_graph *g, struct xnn_node node, enum xnn_type type,
                         const struct xnn_shape *shape)
{
    node.out = add_value(g, type, shape);
    if (!list_grow(&g->failed, &g->nodes, g->n_nodes, &g->cap_nodes, sizeof(*g->nodes)))
        return 0;
    g->nodes[g->n_nodes++] = node;
    return node.out;
}

uint32_t xnn_unary(struct xnn_graph *g, enum xnn_op op, uint32_t x)
{
    struct xnn_shape shape = xnn_shape_of(g, x);

    return add_node(g, (struct xnn_node){.op = op, .in = {x}, .n_in = 1}, XNN_FLOAT32,
                    &shape);
}

uint32_t xnn_binary(struct xnn_graph *g, enum xnn_op op, uint32_t a, uint32_t b)
{
    struct xnn_shape x = xnn_shape_of(g, a), y = xnn_shape_of(g, b);
    struct xnn_shape shape = {.n = MAX(x.n, y.n)};

    for (unsigned i = 0; i < shape.n; i++) {
        uint32_t m = i + x.n < shape.n ? 1 : x.sizes[i + x.n - shape.n];
        uint32_t n = i + y.n < shape.n ? 1 : y.sizes[i + y.n - shape.n];

        ASSERT(m == n || m == 1 || n == 1);
        shape.sizes[i] = MAX(m, n);
    }
    return add_node(g, (struct xnn_node){.op = op, .in = {a, b}, .n_in = 2}, XNN_FLOAT32,
                    &shape);
}

uint32_t xnn_clamp(struct xnn_graph *g, uint32_t x, float min, float max)
{
    struct xnn_shape shape = xnn_shape_of(g, x);

    return add_node(
        g,
        (struct xnn_node){.op = XNN_CLAMP, .in = {x}, .n_in = 1, .min = min, .max = max},
        XNN_FLOAT32, &shape);
}

uint32_t xnn_rows_int8(struct xnn_graph *g, uint32_t x)
{
    struct xnn_shape shape = xnn_shape_of(g, x);

    for (uint32_t i = 0; i < g->n_nodes; i++) /* one serves all that read them */
        if (g->nodes[i].op == XNN_CONVERT && g->nodes[i].in[0] == x)
            return g->nodes[i].out;
    return add_node(g, (struct xnn_node){.op = XNN_CONVERT, .in = {x}, .n_in = 1},
                    XNN_ROW_INT8, &shape);
}

uint32_t xnn_fully_connected(struct xnn_graph *g, uint32_t x, uint32_t weights,
                             uint32_t bias)
{
    struct xnn_shape shape = xnn_shape_of(g, x), w = xnn_shape_of(g, weights);

    if (g->failed)
        return 0;
    ASSERT(w.n == 2 && shape.n > 0 && shape.sizes[shape.n - 1] == w.sizes[1]);
    ASSERT((g->values[weights].type == XNN_FLOAT32) == (g->values[x].type == XNN_FLOAT32));
    shape.sizes[shape.n - 1] = w.sizes[0];
    return add_node(g,
                    (struct xnn_node){.op = XNN_FULLY_CONNECTED,
                                      .in = {x, weights, bias},
                                      .n_in = 3},
                    XNN_FLOAT32, &shape);
}

uint32_t xnn_reshape(struct xnn_graph *g, uint32_t x, const struct xnn_shape *to,
                     const struct xnn_shape *shape)
{
    return add_node(
        g, (struct xnn_node){.op = XNN_RESHAPE, .in = {x}, .n_in = 1, .a = *to},
        XNN_FLOAT32, shape);
}

uint32_t xnn_transpose(struct xnn_graph *g, uint32_t x, const uint32_t *order)
{
    struct xnn_shape from = xnn_shape_of(g, x), shape = from, by = {.n = from.n};

    for (unsigned i = 0; i < from.n; i++) {
        by.sizes[i] = order[i];
        shape.sizes[i] = from.sizes[order[i]];
    }
    return add_node(g,
                    (struct xnn_node){.op = XNN_TRANSPOSE, .in = {x}, .n_in = 1, .a = by},
                    XNN_FLOAT32, &shape);
}

uint32_t xnn_slice(struct xnn_graph *g, uint32_t x, const uint32_t *offsets,
                   const struct xnn_shape *sizes, const struct xnn_shape *shape)
{
    struct xnn_node node = {.op = XNN_SLICE, .in = {x}, .n_in = 1, .b = *sizes};

    node.a.n = sizes->n;
    memcpy(node.a.sizes, offsets, sizes->n * sizeof(*offsets));
    return add_node(g, node, XNN_FLOAT32, shape);
}

uint32_t xnn_concatenate(struct xnn_graph *g, uint32_t axis, const uint32_t *values,
                         uint32_t n)
{
    struct xnn_node node = {.op = XNN_CONCATENATE2 + (n - 2), .n_in = n, .axis = axis};
    struct xnn_shape shape = xnn_shape_of(g, values[0]);

    ASSERT(n >= 2 && n <= 4);
    for (uint32_t i = 0; i < n; i++) {
        node.in[i] = values[i];
        if (i > 0)
            shape.sizes[axis] += xnn_shape_of(g, values[i]).sizes[axis];
    }
    return add_node(g, node, XNN_FLOAT32, &shape);
}

uint32_t xnn_batch_matrix_multiply(struct xnn_graph *g, uint32_t a, uint32_t b,
                                   bool transposed)
{
    struct xnn_shape shape = xnn_shape_of(g, a), y = xnn_shape_of(g, b);

    if (g->failed)
        return 0;
    ASSERT(shape.n == y.n && shape.n >= 2);
    ASSERT(shape.sizes[shape.n - 1] == y.sizes[shape.n - (transposed ? 1 : 2)]);
    shape.sizes[shape.n - 1] = y.sizes[shape.n - (transposed ? 2 : 1)];
    return add_node(g,
                    (struct xnn_node){.op = XNN_BATCH_MATRIX_MULTIPLY,
                                      .in = {a, b},
                                      .n_in = 2,
                                      .flags = transposed ? FLAG_TRANSPOSE_B : 0},
                    XNN_FLOAT32, &shape);
}
