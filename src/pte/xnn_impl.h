/* xnn_impl.h - what the graph and its payload share.  Private to xnn.c, xnn_payload.c. */
#ifndef PTE_XNN_IMPL_H
#define PTE_XNN_IMPL_H

#include "pte/xnn.h"
#include "program/arena.h"

#define XNN_MAX_INPUTS 5 /* of a node */

enum xnn_role { XNN_INNER, XNN_IS_INPUT, XNN_IS_OUTPUT };

struct xnn_value {
    enum xnn_type type;
    struct xnn_shape shape;
    enum xnn_role role;
    uint32_t place; /* among the inputs, or the outputs */
    uint32_t data;  /* of graph's data, from 1; 0: no constant */
    uint32_t scales; /* the same; 0: it has none in data */
    uint32_t group;
    uint32_t n_scales;
};

struct xnn_node {
    enum xnn_op op;
    uint32_t in[XNN_MAX_INPUTS];
    uint32_t n_in, out;
    uint32_t flags; /* XNNPACK's */
    uint32_t axis;
    struct xnn_shape a, b; /* order or new shape; offsets and sizes */
    float min, max;
};

struct xnn_data {
    const char *key;
    uint64_t bytes;
};

struct xnn_graph {
    struct arena memory;
    struct xnn_value *values;
    uint32_t n_values, cap_values;
    struct xnn_node *nodes;
    uint32_t n_nodes, cap_nodes;
    struct xnn_data *data;
    uint32_t n_data, cap_data;
    uint32_t *inputs, *outputs;
    uint32_t n_inputs, n_outputs, cap_inputs, cap_outputs;
    bool failed;
};

#endif
