/* eval_impl.h - the evaluator's tensors and ops; inside eval_*.c only.
 *
 *     eval.c        classes, runs: which nodes a value needs, in the graph's order
 *     eval_tensor.c strided tensors over shared memory, as torch has them: views share
 *     eval_math.c   ops on elements      eval_shape.c  views, and what makes tensors
 *     eval_quant.c  constants kept as whole numbers
 *     eval_table.c  a value for every position: tables, masks, positions */
#ifndef NATIVE_EVAL_IMPL_H
#define NATIVE_EVAL_IMPL_H

#include "native/eval.h"
#include "native/nodes.h"
#include "program/arena.h"

#define EVAL_MAX_ELEMENTS (INT64_C(1) << 28) /* of one tensor */
#define EVAL_MAX_BYTES    (UINT64_C(1) << 31) /* of a run, and of what is kept: programs may be
                                               * anybody's */
#define NODE_MAX_OUTS     16

struct storage {
    enum pt2_dtype dtype;
    int64_t n;
    union { /* as in struct eval_tensor */
        float *f;
        int64_t *i;
        uint8_t *b;
    };
};

struct tensor {
    struct storage *storage;
    unsigned n_dims;
    int64_t sizes[PT2_MAX_DIMS], strides[PT2_MAX_DIMS], offset; /* in elements */
};

#define EVAL_MAX_WORK     (UINT64_C(1) << 35) /* elements and nodes, of all runs: a minute or two */
#define EVAL_NODE_WORK    64

typedef int eval_fn(struct eval *eval, const struct pt2_node *node, struct tensor *ret,
                    struct pt2_err *err);

enum kept { KEPT_NOT, KEPT_RUN, KEPT_ALWAYS };

struct eval {
    const struct pt2_archive *archive;
    const struct pt2_program *program;
    struct pt2_decoder decoder;
    uint32_t positions;     /* the value cache_position */
    uint8_t *classes;       /* enum eval_class, by values; after class_rank */
    uint32_t *roots;        /* nodes.h */
    int32_t *inputs;        /* by values: the place among the inputs; -1 */
    int32_t *last_write;    /* by roots: the last node that writes it; -1 */
    bool *counters;         /* by values */
    eval_fn **fns;          /* by nodes; NULL: not known */
    struct tensor *values;
    uint8_t *kept;          /* enum kept, by values */
    uint32_t *of_run;       /* the values that are KEPT_RUN */
    uint32_t n_of_run;
    uint32_t *order;        /* the nodes that `wanted` needs, in order */
    uint32_t n_order;
    int64_t wanted;         /* a value; -1: none yet */
    int64_t first, s;       /* of the run */
    struct arena memory_run, memory_always, *memory;
    uint64_t bytes_run, bytes_always; /* in these */
    uint64_t work;
};

/* ---- eval.c ---- */

/* The value of a run, with no copy; valid until the next one. */
MUST_USE int eval_run(struct eval *eval, uint32_t value, int64_t first, int64_t s,
                      struct tensor *ret, struct pt2_err *err);
/* An argument of a node in this run.  False, with err set, where it is not there. */
MUST_USE int eval_arg(struct eval *eval, const struct pt2_node *node, const char *name,
                      struct tensor *ret, struct pt2_err *err);
/* A number among the arguments, plain or a symbol or a tensor of one element. */
MUST_USE int eval_arg_int(struct eval *eval, const struct pt2_node *node, const char *name,
                          int64_t other, int64_t *ret, struct pt2_err *err);
/* A list of numbers, plain or symbols; one number is a list of one. */
MUST_USE int eval_arg_ints(struct eval *eval, const struct pt2_node *node, const char *name,
                           int64_t *ret, unsigned *ret_n, struct pt2_err *err);
/* The sizes of a value in this run, by its metadata: numbers, or s. */
MUST_USE int eval_meta_sizes(struct eval *eval, uint32_t value, int64_t *ret_sizes,
                             struct pt2_err *err);
/* PROGRAM_REFUSED with the node's name and op before the text. */
int eval_refuse(struct pt2_err *err, const struct pt2_node *node, const char *fmt, ...)
    PT2_PRINTF(3, 4);
/* The dtype of the node's output. */
enum pt2_dtype eval_out_dtype(const struct eval *eval, const struct pt2_node *node);

/* ---- eval_tensor.c ---- */

/* Contiguous, not filled. */
MUST_USE int tensor_new(struct eval *eval, enum pt2_dtype dtype, unsigned n_dims,
                        const int64_t *sizes, struct tensor *ret, struct pt2_err *err);
/* No dimensions, the number rounded to the dtype. */
MUST_USE int tensor_number(struct eval *eval, enum pt2_dtype dtype, double f, int64_t i,
                           struct tensor *ret, struct pt2_err *err);
MUST_USE int tensor_load(struct eval *eval, const struct pt2_payload *payload,
                         struct tensor *ret, struct pt2_err *err);
int64_t tensor_n(const struct tensor *t);
bool tensor_is_contiguous(const struct tensor *t);
bool tensor_is_float(const struct tensor *t);
/* Element at a place of the storage. */
float tensor_f(const struct tensor *t, int64_t at);
int64_t tensor_i(const struct tensor *t, int64_t at);
float tensor_round(enum pt2_dtype dtype, float f);

/* Lines of elements: from a tensor, converted; to one, rounded. */
#define LINE_MAX 512
struct line {
    bool is_int;
    union {
        float f[LINE_MAX];
        int64_t i[LINE_MAX];
    };
};
typedef void line_fn(const void *context, struct line *in, size_t n, struct line *out);
/* out[..] = fn(in[0][..], ..), ins broadcast to out's shape; modes say how each is read, and
 * out_is_int how the result is written. */
#define LINE_MAX_INS 3
MUST_USE int tensor_map(struct tensor *out, bool out_is_int, const struct tensor *ins,
                        const bool *as_int, unsigned n_ins, line_fn *fn, const void *context,
                        const struct pt2_node *node, struct pt2_err *err);
/* out's elements become in's, in out's dtype, broadcast. */
MUST_USE int tensor_copy(struct tensor *out, const struct tensor *in,
                         const struct pt2_node *node, struct pt2_err *err);
/* A view with these sizes (none of them -1), a copy where there is no such view. */
MUST_USE int tensor_reshape(struct eval *eval, const struct tensor *in, unsigned n_dims,
                            const int64_t *sizes, struct tensor *ret,
                            const struct pt2_node *node, struct pt2_err *err);
MUST_USE int tensor_expand(const struct tensor *in, unsigned n_dims, const int64_t *sizes,
                           struct tensor *ret, const struct pt2_node *node,
                           struct pt2_err *err);
/* The shape that all broadcast to. */
MUST_USE int tensor_broadcast(const struct tensor *ins, unsigned n_ins, unsigned *ret_n_dims,
                              int64_t *ret_sizes, const struct pt2_node *node,
                              struct pt2_err *err);
/* The next index of a walk over sizes, row-major; false after the last. */
bool tensor_next(unsigned n_dims, const int64_t *sizes, int64_t *at);
/* The place in the storage of an index. */
int64_t tensor_at(const struct tensor *t, const int64_t *at);

/* ---- the ops; NULL: none of that name ---- */

eval_fn *eval_math_find(const char *op);
eval_fn *eval_shape_find(const char *op);
eval_fn *eval_make_find(const char *op);
eval_fn *eval_quant_find(const char *op);

#endif
