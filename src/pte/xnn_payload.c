/* xnn_payload.c - the bytes of an XNNPACK delegate. */
#include "base/half.h"
#include "base/log.h"
#include "pte/flatbuffer.h"
#include "pte/xnn_impl.h"

#define INVALID          UINT32_MAX /* XNN_INVALID_VALUE_ID */
#define VALUE_INPUT      1          /* XNN_VALUE_FLAG_EXTERNAL_INPUT */
#define VALUE_OUTPUT     2
#define HEADER_BYTES     32
#define UNION_PER_CHANNEL 1 /* XNNQuantParams */
#define UNION_PER_TOKEN   3
#define UNION_PER_GROUP   4
#define UNION_TENSOR      1 /* XValueUnion */
#define UNION_QUANTIZED   2

struct making {
    const struct xnn_graph *g;
    struct fb fb;
};

static uint32_t external_id(const struct xnn_graph *g, const struct xnn_value *v)
{
    switch (v->role) {
    case XNN_IS_INPUT:
        return v->place;
    case XNN_IS_OUTPUT:
        return g->n_inputs + v->place;
    case XNN_INNER:
        break;
    }
    return INVALID;
}

static uint32_t tensor_table(struct making *m, uint32_t i)
{
    const struct xnn_value *v = &m->g->values[i];
    uint32_t dims = fb_vector(&m->fb, v->shape.sizes, v->shape.n, sizeof(uint32_t));
    uint32_t flags = v->role == XNN_IS_INPUT    ? VALUE_INPUT
                     : v->role == XNN_IS_OUTPUT ? VALUE_OUTPUT
                                                : 0;

    return FB_TABLE(&m->fb, FB_I16(0, v->type), FB_U32(1, v->shape.n), FB_REF(2, dims),
                    FB_U32(3, v->data), FB_U32(4, external_id(m->g, v)), FB_U32(5, flags),
                    FB_U32(6, i));
}

static uint32_t value_table(struct making *m, uint32_t i)
{
    const struct xnn_value *v = &m->g->values[i];
    struct fb *fb = &m->fb;
    uint32_t tensor = tensor_table(m, i), kind = UNION_PER_TOKEN, params, none;

    if (v->type == XNN_FLOAT32)
        return FB_TABLE(fb, FB_U8(0, UNION_TENSOR), FB_REF(1, tensor));
    none = fb_vector(fb, NULL, 0, sizeof(float)); /* readers want it, if empty */
    if (v->type == XNN_CHANNEL_INT8) {
        kind = UNION_PER_CHANNEL;
        params = FB_TABLE(fb, FB_REF(0, none), FB_I32(1, 0), FB_U32(2, v->scales),
                          FB_U32(3, v->n_scales));
    } else if (v->type == XNN_GROUP_INT4) {
        kind = UNION_PER_GROUP;
        params = FB_TABLE(fb, FB_REF(0, none), FB_I32(1, 0), FB_I32(2, v->group),
                          FB_U32(4, v->scales), FB_U32(5, v->n_scales));
    } else {
        params = FB_TABLE(fb, FB_I32(0, 1)); /* dimensions that a scale is for */
    }
    tensor = FB_TABLE(fb, FB_REF(0, tensor), FB_U8(1, kind), FB_REF(2, params));
    return FB_TABLE(fb, FB_U8(0, UNION_QUANTIZED), FB_REF(1, tensor));
}

static uint32_t shape_vector(struct making *m, const struct xnn_shape *shape)
{
    return fb_vector(&m->fb, shape->sizes, shape->n, sizeof(uint32_t));
}

static uint32_t input_of(const struct xnn_node *n, uint32_t i)
{
    return i < n->n_in ? n->in[i] : INVALID;
}

/* The table of the node's own kind. */
static uint32_t node_body(struct making *m, const struct xnn_node *n)
{
    struct fb *fb = &m->fb;
    uint32_t a, b;

    switch (n->op) {
    case XNN_FULLY_CONNECTED:
        return FB_TABLE(fb, FB_U32(0, n->in[0]), FB_U32(1, n->in[1]), FB_U32(2, n->in[2]),
                        FB_U32(3, n->out), FB_U32(4, n->flags));
    case XNN_RESHAPE:
    case XNN_TRANSPOSE:
        a = shape_vector(m, &n->a);
        return FB_TABLE(fb, FB_U32(0, n->a.n), FB_REF(1, a), FB_U32(2, n->in[0]),
                        FB_U32(3, n->out), FB_U32(4, n->flags));
    case XNN_SLICE:
        a = shape_vector(m, &n->a);
        b = shape_vector(m, &n->b);
        return FB_TABLE(fb, FB_U32(0, n->a.n), FB_REF(1, a), FB_REF(2, b),
                        FB_U32(3, n->in[0]), FB_U32(4, n->out), FB_U32(5, n->flags));
    case XNN_CONCATENATE2:
    case XNN_CONCATENATE3:
    case XNN_CONCATENATE4:
        return FB_TABLE(fb, FB_U32(0, n->axis), FB_U32(1, input_of(n, 0)),
                        FB_U32(2, input_of(n, 1)), FB_U32(3, input_of(n, 2)),
                        FB_U32(4, input_of(n, 3)), FB_U32(5, n->out), FB_U32(6, n->flags),
                        FB_U32(7, INVALID));
    default:
        if (n->n_in == 2)
            return FB_TABLE(fb, FB_U32(0, n->in[0]), FB_U32(1, n->in[1]),
                            FB_U32(2, n->out), FB_U32(3, n->flags));
        return FB_TABLE(fb, FB_U32(0, n->in[0]), FB_U32(1, n->out), FB_U32(2, n->flags));
    }
}

static uint32_t node_table(struct making *m, const struct xnn_node *n)
{
    uint32_t body = node_body(m, n), range;

    if (n->op != XNN_CLAMP)
        return FB_TABLE(&m->fb, FB_U8(0, n->op), FB_REF(1, body));
    range = FB_TABLE(&m->fb, FB_U32(0, float_bits(n->min)), FB_U32(1, float_bits(n->max)));
    return FB_TABLE(&m->fb, FB_U8(0, n->op), FB_REF(1, body), FB_REF(3, range));
}

static uint32_t data_table(struct making *m, const struct xnn_data *d)
{
    uint32_t key = fb_string(&m->fb, d ? d->key : "");

    if (!d) /* the first is reserved: no constant */
        return FB_TABLE(&m->fb, FB_REF(2, key));
    return FB_TABLE(&m->fb, FB_U64(0, UINT64_MAX), FB_U64(1, d->bytes), FB_REF(2, key));
}

static uint32_t graph_table(struct making *m, uint32_t *at)
{
    const struct xnn_graph *g = m->g;
    struct fb *fb = &m->fb;
    uint32_t nodes, values, inputs, outputs, data, version;

    for (uint32_t i = 0; i < g->n_values; i++)
        at[i] = value_table(m, i);
    values = fb_refs(fb, at, g->n_values);
    for (uint32_t i = 0; i < g->n_nodes; i++)
        at[i] = node_table(m, &g->nodes[i]);
    nodes = fb_refs(fb, at, g->n_nodes);
    for (uint32_t i = 0; i <= g->n_data; i++)
        at[i] = data_table(m, i ? &g->data[i - 1] : NULL);
    data = fb_refs(fb, at, g->n_data + 1);
    inputs = fb_vector(fb, g->inputs, g->n_inputs, sizeof(uint32_t));
    outputs = fb_vector(fb, g->outputs, g->n_outputs, sizeof(uint32_t));
    version = fb_string(fb, "0");
    return FB_TABLE(fb, FB_REF(0, version), FB_REF(1, nodes), FB_REF(2, values),
                    FB_U32(3, g->n_inputs + g->n_outputs), FB_REF(4, inputs),
                    FB_REF(5, outputs), FB_REF(8, data));
}

static void put_header(uint8_t *to, uint32_t fb_bytes)
{
    uint16_t header = 30;
    uint32_t at = HEADER_BYTES, end = HEADER_BYTES + fb_bytes;

    memset(to, 0, HEADER_BYTES);
    memcpy(to + 4, "XH00", 4);
    memcpy(to + 8, &header, sizeof(header));
    memcpy(to + 10, &at, sizeof(at));
    memcpy(to + 14, &fb_bytes, sizeof(fb_bytes));
    memcpy(to + 18, &end, sizeof(end)); /* constants would be there */
}

int xnn_payload(const struct xnn_graph *g, uint8_t **ret_bytes, size_t *ret_len,
                struct pt2_err *err)
{
    size_t n = MAX(MAX(g->n_values, g->n_nodes), g->n_data + 1);
    AUTO_PTR uint32_t *at = calloc(n, sizeof(*at));
    struct making m = {.g = g};
    uint8_t *bytes, *payload = NULL;
    size_t len;
    int r;

    ASSERT(!g->failed);
    if (!at)
        return pt2_err_set(err, PT2_ERR_NOMEM, "an XNNPACK graph");
    r = fb_finish(&m.fb, graph_table(&m, at), "XN01", 0, &bytes, &len, err);
    if (r == 0) {
        payload = malloc(HEADER_BYTES + len);
        if (!payload)
            r = pt2_err_set(err, PT2_ERR_NOMEM, "an XNNPACK payload");
    }
    if (r == 0) {
        put_header(payload, (uint32_t)len);
        memcpy(payload + HEADER_BYTES, bytes, len);
        *ret_bytes = payload;
        *ret_len = HEADER_BYTES + len;
    }
    fb_done(&m.fb);
    return r;
}
