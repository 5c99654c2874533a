/* graph.h - aten ops as calls: each adds one node to a program and answers its value.
 *
 * Spelled as torch.export spells them (argument names and kinds of the schemas), with the
 * shape, strides and dtype that eager torch gives the result.  The first failure sticks:
 * later calls do nothing and answer 0, graph_failed() says so, the caller's err why.
 *
 * One thread at a time. */
#ifndef EXPORT_GRAPH_H
#define EXPORT_GRAPH_H

#include "base/util.h"

#include <pt2/program.h>

struct graph {
    struct pt2_program *program; /* borrowed */
    struct pt2_err *err;         /* borrowed; may be NULL */
    bool failed;
    /* To symbolic sizes contiguous and view, not reshape: of these ExecuTorch makes a view to
     * the symbol's value, which XNNPACK does not take; the other's -1 stays. */
    bool no_reshape;
};

static inline struct pt2_dim dim_of(int64_t n)
{
    return (struct pt2_dim){NULL, n};
}

void graph_init(struct graph *g, struct pt2_program *program, struct pt2_err *err);
static inline bool graph_failed(const struct graph *g)
{
    return g->failed;
}

/* ---- inputs ---- */

uint32_t graph_parameter(struct graph *g, const char *fqn, enum pt2_dtype dtype,
                         unsigned n_dims, const int64_t *sizes, bool requires_grad);
/* A buffer that the checkpoint holds, as it does the parameters. */
uint32_t graph_persistent_buffer(struct graph *g, const char *fqn, enum pt2_dtype dtype,
                                 unsigned n_dims, const int64_t *sizes);
/* Not persistent: the caches and inv_freq. */
uint32_t graph_buffer(struct graph *g, const char *fqn, enum pt2_dtype dtype,
                      unsigned n_dims, const int64_t *sizes);
/* An int64 input of the caller's, by its argument name. */
uint32_t graph_user_input(struct graph *g, const char *name, unsigned n_dims,
                          const struct pt2_dim *sizes);
void graph_output(struct graph *g, uint32_t x);

/* ---- element by element; the result is shaped and laid out like x ---- */

uint32_t graph_unary(struct graph *g, const char *op, uint32_t x); /* "silu": aten.silu */
uint32_t graph_gelu(struct graph *g, uint32_t x, bool tanh);
/* op is add, mul, sub or div (aten.add.Tensor); y broadcasts to x.  The result is float32
 * where y is, unless y is one number. */
uint32_t graph_binary(struct graph *g, const char *op, uint32_t x, uint32_t y);
uint32_t graph_binary_number(struct graph *g, const char *op, uint32_t x, double y);
uint32_t graph_binary_int(struct graph *g, const char *op, uint32_t x, int64_t y);
uint32_t graph_pow(struct graph *g, uint32_t x, int64_t exponent);
/* x modulo n, 0 or more. */
uint32_t graph_remainder(struct graph *g, uint32_t x, int64_t n);
uint32_t graph_compare_int(struct graph *g, const char *op, uint32_t x, int64_t y);
/* min of -INFINITY: no lower bound. */
uint32_t graph_clamp(struct graph *g, uint32_t x, double min, double max);
uint32_t graph_min(struct graph *g, uint32_t x, uint32_t y); /* element by element */
/* condition, y broadcast to x. */
uint32_t graph_where(struct graph *g, uint32_t condition, uint32_t x, uint32_t y);
uint32_t graph_where_number(struct graph *g, uint32_t condition, uint32_t x, double y);
/* x itself where it has the dtype already. */
uint32_t graph_to(struct graph *g, uint32_t x, enum pt2_dtype dtype);

/* y broadcasts to x: bool. */
uint32_t graph_compare(struct graph *g, const char *op, uint32_t x, uint32_t y);

/* x: (n, 1), y: (m): (n, m).  op is mul, sub (x's dtype), le, gt, lt (bool); is_swapped: y
 * op x. */
uint32_t graph_outer(struct graph *g, const char *op, uint32_t x, uint32_t y,
                     bool is_swapped);
uint32_t graph_and(struct graph *g, uint32_t x, uint32_t y);

/* ---- shapes ---- */

/* n times a size. */
struct pt2_dim graph_times(struct graph *g, struct pt2_dim size, int64_t n);
/* Of the last dimension, which is no symbol; 0 after a failure. */
static inline int64_t graph_last_size(const struct graph *g, uint32_t x)
{
    const struct pt2_tensor_meta *meta;

    if (g->failed)
        return 0;
    meta = &pt2_program_value(g->program, x)->meta;
    return meta->sizes[meta->n_dims - 1].value;
}

uint32_t graph_arange(struct graph *g, int64_t n);     /* int64 */
/* A dimension of size 1 more before dim, or less at it; dim < 0 counts from the end.  x is
 * contiguous. */
uint32_t graph_unsqueeze(struct graph *g, uint32_t x, int dim);
uint32_t graph_squeeze(struct graph *g, uint32_t x, int dim);
uint32_t graph_mean_last(struct graph *g, uint32_t x); /* keeps the dimension, as 1 */
uint32_t graph_cat_last(struct graph *g, uint32_t x, uint32_t y); /* of one shape each */
/* The n values from first on, of one shape (m): (n, m). */
uint32_t graph_stack(struct graph *g, uint32_t first, int64_t n);
/* The last of dimension dim, which may be symbolic and stays as 1.  x is contiguous. */
uint32_t graph_take_last(struct graph *g, uint32_t x, unsigned dim);
/* The same, but the dimension goes. */
uint32_t graph_select_last(struct graph *g, uint32_t x, unsigned dim);
/* Elements start .. end - 1 of the last dimension, where end is not beyond it. */
uint32_t graph_slice_last(struct graph *g, uint32_t x, int64_t start, int64_t end);
/* Elements start, start + 2, ... of the last dimension. */
uint32_t graph_every_other(struct graph *g, uint32_t x, int64_t start);
/* The last dimensions of x and y, of one shape, as x0, y0, x1, y1, ... */
uint32_t graph_interleave(struct graph *g, uint32_t x, uint32_t y);
/* (b, kv, l, d), none of them symbolic: each head n_repeats times; x itself for once. */
uint32_t graph_repeat_heads(struct graph *g, uint32_t x, int64_t n_repeats);
/* x of four dimensions, each of size 1 or like's. */
uint32_t graph_expand_as(struct graph *g, uint32_t x, uint32_t like);
/* The last dimension, of size 1, as often as it takes; the others alike: (..., size). */
uint32_t graph_expand_last(struct graph *g, uint32_t x, int64_t size);
/* A 0 more at the end of the last dimension. */
uint32_t graph_pad_last(struct graph *g, uint32_t x);
/* x (a, b, 1, 1) times y (n): (a, b, 1, n). */
uint32_t graph_outer_product(struct graph *g, uint32_t x, uint32_t y);
uint32_t graph_transpose(struct graph *g, uint32_t x, unsigned a, unsigned b);
/* One size at most may be symbolic; it is written as -1.  is_copy: reshape; otherwise x
 * is contiguous, or only its last dimension becomes two, whose first stays the same. */
uint32_t graph_view(struct graph *g, uint32_t x, unsigned n_dims,
                    const struct pt2_dim *sizes, bool is_copy);

/* ---- choosing ---- */

/* The k largest of the last dimension, and where they were: ret_indices, int64.
 * is_sorted: the largest first. */
uint32_t graph_topk(struct graph *g, uint32_t x, int64_t k, bool is_sorted,
                    uint32_t *ret_indices);
uint32_t graph_max_last(struct graph *g, uint32_t x); /* keeps the dimension, as 1 */
uint32_t graph_sum(struct graph *g, uint32_t x, int dim, bool keeps);
/* Each row of x, (n, m), so many times: (n_rows, m). */
uint32_t graph_repeat_rows(struct graph *g, uint32_t x, int64_t n_repeats,
                           struct pt2_dim n_rows);
/* x[indices], of the first dimension; indices int64 (n): (n, ...). */
uint32_t graph_index_rows(struct graph *g, uint32_t x, uint32_t indices);
/* x's elements at indices (n, k) of its last dimension: (n, k). */
uint32_t graph_gather_last(struct graph *g, uint32_t x, uint32_t indices);
/* Of the shape and dtype of x, (n, m): 1 at indices (n, k) of the last dimension, else 0. */
uint32_t graph_ones_at(struct graph *g, uint32_t x, uint32_t indices);
/* x where the bool mask isn't, else value. */
uint32_t graph_masked_fill(struct graph *g, uint32_t x, uint32_t mask, double value);

/* ---- whole numbers, by torchao's ops ---- */

/* x, int8 (..., k), as the floats that it stands for: scale and zero_point, int8, are of each
 * group of neighbours, of the last dimension; bits: 8 or 4. */
uint32_t graph_dequantize(struct graph *g, uint32_t x, uint32_t scale, uint32_t zero_point,
                          int64_t group, unsigned bits);
/* x by way of numbers of 8 bits, each row of its last dimension by its own scale and zero
 * point. */
uint32_t graph_round_rows(struct graph *g, uint32_t x);

/* ---- the rest ---- */

#define GRAPH_NO_BIAS UINT32_MAX

/* Rows of a table (n, ...) at indices (s): (s, ...). */
uint32_t graph_rows(struct graph *g, uint32_t table, uint32_t indices);
uint32_t graph_embedding(struct graph *g, uint32_t weight, uint32_t ids);
/* ---- graph_llama.c: for ops of ExecuTorch's namespace llama ---- */

/* The first of x (n), a number that only the run knows. */
uint32_t graph_first_item(struct graph *g, uint32_t x, const char *symbol);
/* Write value (1, s, kv, d) into cache (1, l, kv, d) from that number on. */
void graph_update_cache(struct graph *g, uint32_t value, uint32_t cache, uint32_t first);
/* q (1, s, h, d), k and v (1, l, kv, d): (1, s, h, d).  mask (s, l), added; GRAPH_NO_BIAS:
 * a row sees the positions up to its own, the first row's being that number. */
uint32_t graph_custom_sdpa(struct graph *g, uint32_t q, uint32_t k, uint32_t v,
                           uint32_t first, uint32_t mask, double scale);

/* ---- and of aten ---- */

/* Over the last dimension; weight, bias: GRAPH_NO_BIAS for none. */
uint32_t graph_layer_norm(struct graph *g, uint32_t x, uint32_t weight, uint32_t bias,
                          double eps);
uint32_t graph_bmm(struct graph *g, uint32_t x, uint32_t y); /* of three dimensions */
uint32_t graph_matmul(struct graph *g, uint32_t x, uint32_t y); /* of the last two */
uint32_t graph_softmax(struct graph *g, uint32_t x); /* over the last, in float32 */
uint32_t graph_linear(struct graph *g, uint32_t x, uint32_t weight, uint32_t bias);
/* Write source (b, h, s, d) into buffer (b, h, l, d) at positions (s), in place; both may
 * be without b. */
uint32_t graph_index_copy(struct graph *g, uint32_t buffer, uint32_t positions,
                          uint32_t source);
/* q (b, h, s, d), k and v (b, kv, l, d), mask bool (s, l): (b, h, s, d). */
uint32_t graph_attention(struct graph *g, uint32_t q, uint32_t k, uint32_t v,
                         uint32_t mask, double scale);

#endif
