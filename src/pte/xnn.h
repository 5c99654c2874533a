/* xnn.h - a graph for ExecuTorch's XNNPACK backend, and its payload.
 *
 * A value is a float32 tensor: an input, an output, an inner one, or a constant that the
 * backend packs when it loads (weights and biases of fully connected nodes alone: what
 * others read of the constants is freed by some releases, so it comes as an input).
 * A node's result has the shape that XNNPACK gives it.
 *
 *     payload: 0 | "XH00" | u16 30 | u32 where the FlatBuffer is, its bytes |
 *              u32 where constants are, u64 their bytes (none: named ones) | FlatBuffer "XN01"
 *
 * After ExecuTorch 1.5.1's backends/xnnpack/serialization (schema.fbs, xnnpack_graph_serialize.py).
 * The first failure sticks, as in program.h.  One thread at a time. */
#ifndef PTE_XNN_H
#define PTE_XNN_H

#include "base/util.h"

#include <pt2/err.h>

#define XNN_MAX_DIMS 6
#define XNN_NO_VALUE UINT32_MAX

/* The union XNodeUnion's numbers. */
enum xnn_op {
    XNN_ADD = 1,
    XNN_FULLY_CONNECTED = 2,
    XNN_SOFTMAX = 3,
    XNN_SIGMOID = 4,
    XNN_TRANSPOSE = 5,
    XNN_CLAMP = 6,
    XNN_DIVIDE = 8,
    XNN_MINIMUM = 12,
    XNN_MULTIPLY = 15,
    XNN_SUBTRACT = 16,
    XNN_CONVERT = 18,
    XNN_RESHAPE = 20,
    XNN_SQUARE_ROOT = 22,
    XNN_MAXIMUM = 26,
    XNN_NEGATE = 27,
    XNN_SQUARE = 28,
    XNN_ABS = 30,
    XNN_CONCATENATE2 = 32,
    XNN_CONCATENATE3 = 33,
    XNN_CONCATENATE4 = 34,
    XNN_SLICE = 35,
    XNN_BATCH_MATRIX_MULTIPLY = 37,
    XNN_RECIPROCAL_SQUARE_ROOT = 40,
    XNN_GELU = 42,
    XNN_TANH = 43,
    XNN_EXP = 44,
};

/* XNNDatatype's numbers. */
enum xnn_type { XNN_FLOAT32 = 1, XNN_CHANNEL_INT8 = 6, XNN_ROW_INT8 = 9, XNN_GROUP_INT4 = 10 };

struct xnn_graph;

struct xnn_shape {
    unsigned n;
    uint32_t sizes[XNN_MAX_DIMS];
};

/* new: xnn_graph_free; NULL where there is no memory. */
struct xnn_graph *xnn_graph_new(void);
void xnn_graph_free(struct xnn_graph *g);
bool xnn_graph_failed(const struct xnn_graph *g);

struct xnn_shape xnn_shape_of(const struct xnn_graph *g, uint32_t value);

/* ---- values ---- */

/* The next input: argument i of the delegate's call, in the order of these calls. */
uint32_t xnn_input(struct xnn_graph *g, const struct xnn_shape *shape);
/* The value of input i. */
uint32_t xnn_input_at(const struct xnn_graph *g, uint32_t i);
/* The next output; a value may be read within the graph too. */
void xnn_output(struct xnn_graph *g, uint32_t value);
uint32_t xnn_n_inputs(const struct xnn_graph *g);
uint32_t xnn_n_outputs(const struct xnn_graph *g);
size_t xnn_n_nodes(const struct xnn_graph *g);

/* A constant of the program's named data, by its key (copied), of that many bytes. */
uint32_t xnn_constant(struct xnn_graph *g, const struct xnn_shape *shape, const char *key,
                      uint64_t bytes);
/* Weights (n_out, k) as XNNPACK has them: int8 with a scale each row (float32), or unsigned
 * nibbles, 8 for zero, the even column the low one, with scales of groups (bfloat16). */
uint32_t xnn_weights_int8(struct xnn_graph *g, const struct xnn_shape *shape, const char *key,
                          const char *scales_key);
uint32_t xnn_weights_int4(struct xnn_graph *g, const struct xnn_shape *shape, uint32_t group,
                          const char *key, const char *scales_key);

/* ---- nodes: each answers its result ---- */

uint32_t xnn_unary(struct xnn_graph *g, enum xnn_op op, uint32_t x);
/* Broadcasts as numpy does. */
uint32_t xnn_binary(struct xnn_graph *g, enum xnn_op op, uint32_t a, uint32_t b);
uint32_t xnn_clamp(struct xnn_graph *g, uint32_t x, float min, float max);
/* x: (..., k), weights: (n_out, k) floats or whole numbers, which want x from xnn_rows_int8;
 * bias: (n_out) or XNN_NO_VALUE. */
uint32_t xnn_fully_connected(struct xnn_graph *g, uint32_t x, uint32_t weights, uint32_t bias);
/* Rows of whole numbers, each with a scale and a zero point of its own. */
uint32_t xnn_rows_int8(struct xnn_graph *g, uint32_t x);
/* to: as XNNPACK gets it, where 0 stands for the size that is found when it runs; shape: the
 * largest that it can be. */
uint32_t xnn_reshape(struct xnn_graph *g, uint32_t x, const struct xnn_shape *to,
                     const struct xnn_shape *shape);
uint32_t xnn_transpose(struct xnn_graph *g, uint32_t x, const uint32_t *order);
/* sizes: the same; 0: all from the offset on. */
uint32_t xnn_slice(struct xnn_graph *g, uint32_t x, const uint32_t *offsets,
                   const struct xnn_shape *sizes, const struct xnn_shape *shape);
/* 2 to 4 of them, along axis. */
uint32_t xnn_concatenate(struct xnn_graph *g, uint32_t axis, const uint32_t *values,
                         uint32_t n);
/* (b, m, k) by (b, k, n), transposed: (b, n, k). */
uint32_t xnn_batch_matrix_multiply(struct xnn_graph *g, uint32_t a, uint32_t b,
                                   bool transposed);

/* ---- the payload ---- */

/* new: the caller frees.  Errors: NOMEM, LIMIT. */
MUST_USE int xnn_payload(const struct xnn_graph *g, uint8_t **ret_bytes, size_t *ret_len,
                         struct pt2_err *err);

#endif
