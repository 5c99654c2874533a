/* lift.h - from a graph's tensors to rows; inside plan_compile only.
 *
 *     compile.c      the walk over the graph, the plan's memory
 *     lift_value.c   registers, operands, the steps over elements
 *     lift_view.c    ops that only show elements otherwise    lift_reshape.c  as other sizes
 *     lift_choice.c  a router's choice, and tokens in the order of their experts
 *     lift_experts.c the weights of those that are chosen, and products with them
 *     lift_rows.c    ops on rows: elements, reductions, norms, linears, embeddings
 *     lift_caches.c  caches and how they are written
 *     lift_pick.c    products with constants that pick elements, or average them
 *     lift_attend.c  scores, attention      lift_sdpa.c   ops that are attention as a whole
 *     lift_sinks.c   logits beside the scores
 *     lift_weights.c weights where they lie, constants, tables
 *     lift_quant.c   rows and weights of whole numbers
 *     fuse.c, fuse_gelu.c, fuse_rope.c   several steps as one
 *     place.c        dead steps, registers, the tail
 *
 * Each value of the graph that depends on tokens is `lifted`: its dimensions are labelled,
 * and those of a row have strides in a register.  Views are new labels and strides. */
#ifndef NATIVE_LIFT_H
#define NATIVE_LIFT_H

#include "native/eval.h"
#include "native/nodes.h"
#include "native/plan.h"

/* Stands for a sequence length that is not fixed, where sizes are compared: a prime beyond
 * what other dimensions have. */
#define ANY_LENGTH INT64_C(1000003)

#define LIFT_MAX_WIDTH (INT32_MAX / 4) /* elements of a row, and of a dimension of it */

enum label {
    DIM_ONE, /* size 1: whatever is needed */
    DIM_BATCH,
    DIM_SEQ,
    DIM_MERGED, /* batch * sequence */
    DIM_GROUP,  /* heads that share a key * sequence; its stride is from head to head */
    DIM_ROW,
    DIM_PAIRS, /* a rows' own dimension and one of a row, merged in that order */
    /* of caches */
    DIM_KV,   /* key and value heads */
    DIM_REP,  /* how often each is repeated */
    DIM_HEAD, /* KV and REP merged, in that order */
    DIM_POS,
    DIM_DATA, /* of a head */
};

struct dim {
    enum label label;
    int64_t size;
    int32_t stride; /* in the register; of scores: in heads; of experts: which of the
                     * weights' dimensions it is */
    /* of DIM_PAIRS */
    int32_t n;       /* elements of it that a row has */
    enum label of;   /* the rows' own dimension */
    uint32_t order;  /* the pairs stand in that of lift.orders, plus 1; 0: in their own */
};

static inline struct dim new_dim(enum label label, int64_t size, int32_t stride)
{
    return (struct dim){.label = label, .size = size, .stride = stride};
}

/* Elements of the dimension that a row has; 0: it is the rows' own. */
static inline int64_t dim_in_row(const struct dim *d)
{
    return d->label == DIM_ROW ? d->size : d->label == DIM_PAIRS ? d->n : 0;
}

/* Do they mean the same? */
static inline bool dim_is_same(const struct dim *a, const struct dim *b)
{
    return a->label == b->label && a->size == b->size &&
           (a->label != DIM_PAIRS || (a->n == b->n && a->of == b->of && a->order == b->order));
}

enum kind {
    KIND_NONE,
    KIND_EVAL,   /* eval.h computes it */
    KIND_IDS,    /* input_ids */
    KIND_ROWS,
    KIND_CACHE,
    KIND_SCORES,
    KIND_LARGEST, /* a score for each row and head: the largest, or any, for its shape */
    KIND_SHARE,   /* for each row and head: what of a softmax with a sink is not the sink's */
    KIND_CHOICE,  /* which of n: whole numbers, in a register */
    KIND_ORDER,   /* of pairs, by what was chosen: places of pairs, or of their rows */
    KIND_COUNTS,  /* of the pairs in such an order, for each of n; or sums of these so far */
    KIND_EXPERTS, /* matrices, those that were chosen */
    KIND_FILL,    /* one number everywhere, in the shape of rows; or in that of an order */
};

struct scores {
    uint32_t cache;        /* of the keys */
    struct plan_view q;    /* (heads, head_dim), heads strides[0] apart */
    uint32_t heads, head_dim;
    double inner, outer;   /* factors before and after tanh; without tanh: inner alone */
    bool has_tanh, is_masked, is_probability;
    bool has_sinks;        /* a logit each behind the positions */
    uint32_t sinks;        /* the constant */
    int64_t window;
};

struct lifted {
    enum kind kind;
    unsigned n_dims;
    struct dim dims[PT2_MAX_DIMS];
    bool is_last;       /* of the sequence's last row alone */
    uint32_t reg, offset; /* ROWS, CHOICE, EXPERTS */
    uint32_t cache;     /* CACHE */
    double factor;      /* CACHE: its elements times this */
    bool is_fresh;      /* CACHE: with this run's rows, out of place */
    bool is_rolled;     /* CACHE: a copy, moved on for this run's rows, which it has not yet */
    struct scores scores;
    int64_t n;          /* CHOICE, COUNTS */
    uint32_t value;     /* EXPERTS: the weights; LARGEST: the scores it is of */
    bool of_rows, is_inverse; /* ORDER: places of rows; of the sorted pairs in their own order */
    bool is_sum;        /* COUNTS */
    double number;      /* FILL */
    bool order_to_be;   /* FILL: in the shape of an order */
};

struct cache {
    uint32_t value;
    const char *fqn;
    enum pt2_dtype dtype;
    unsigned n_dims;
    struct dim dims[PT2_MAX_DIMS];
    unsigned pos_dim, heads_dim;
    int64_t length;     /* positions; below max_cache_len: it rolls, or (eval.h) */
    bool is_ring;       /* known once it is written */
    uint32_t kv_heads, head_dim;
    bool is_stored, is_in_place, is_mutated;
    int32_t layer;      /* -1: not attended yet */
    bool is_value;
};

/* Strided elements of a row, before they are brought to PLAN_MAX_DIMS. */
struct strided {
    struct plan_view view; /* its strides are not used */
    unsigned n_dims;
    int64_t sizes[PT2_MAX_DIMS];
    int32_t strides[PT2_MAX_DIMS];
};

#define CAT_MAX 8
#define STEP_CAT ((enum plan_op)(PLAN_LOGITS + 1)) /* until place.c: rows put together */

struct cat { /* pieces with the same dimensions but for one */
    unsigned n, dim;
    struct strided pieces[CAT_MAX];
};

struct step {
    struct plan_step s;
    uint32_t cat; /* STEP_CAT */
    bool is_dead;
};

struct lift {
    const struct pt2_archive *archive;
    const struct pt2_program *program;
    const struct pt2_decoder *decoder;
    struct eval *eval;
    struct plan *plan;
    struct lifted *values;   /* by the program's values */
    uint32_t *roots, *same;  /* nodes.h */
    struct step *steps;
    size_t n_steps, room_steps;
    uint32_t *widths;        /* of registers, each written by one step (or one cat) */
    int64_t *makers;         /* of registers: the step */
    size_t n_registers, room_registers;
    struct cat *cats;
    size_t n_cats, room_cats;
    struct cache *caches;
    size_t n_caches;
    struct lifted *orders;   /* the choices, of one dimension, that pairs are sorted by */
    size_t n_orders;
    /* what was computed already, by values; -1: not */
    int32_t *constant_of;
    struct of_length {       /* for caches of which length (-length: rings); 0: not yet */
        int64_t mask, window, positions, ring, rolling;
        bool is_positions, is_ring, is_rolling;
    } *known;                /* of the first of the values that are the same */
    bool *needed;            /* by values: the answer, or a cache, needs it */
    struct table_key {
        uint32_t value;
        int s_dim;
    } *table_keys;           /* by tables */
    const struct pt2_node *node; /* being lifted */
    uint32_t node_i;
    struct pt2_err *err;
};

/* PROGRAM_REFUSED with the node's name and op.  Returns -1. */
int lift_refuse(struct lift *l, const char *fmt, ...) PT2_PRINTF(2, 3);
int lift_no_memory(struct lift *l);

/* ---- lift_value.c ---- */

/* An argument that is lifted; NULL where it is not a tensor. */
const struct lifted *lift_arg(const struct lift *l, const char *name);
struct lifted *lift_out(struct lift *l);
bool lift_is_rows(const struct lifted *v);
/* A new register of so many elements a row. */
MUST_USE int lift_register(struct lift *l, int64_t width, uint32_t *ret);
/* A step that is not filled in yet; NULL: no memory. */
struct plan_step *lift_step(struct lift *l, enum plan_op op);
/* The dimensions of dims that are ROW, contiguous in a new register. */
MUST_USE int lift_new_rows(struct lift *l, const struct lifted *like, struct lifted *ret);
/* The dimension brought to the end. */
struct lifted lift_last_dim(const struct lifted *in, unsigned dim);
/* Fill in a step over lines of `size` elements: those of the last dimension of a, and of b
 * (may be NULL), whose other dimensions are the same.
 * Errors: PROGRAM_REFUSED where the lines lie in more than three dimensions. */
MUST_USE int lift_lines(struct lift *l, const struct lifted *a, const struct lifted *b,
                        int64_t size, struct plan_step *step);
/* The row's elements of a value, in its order. */
struct strided lift_strided(const struct lifted *v);
/* Bring two (b may be NULL) with the same sizes to a step's four dimensions.
 * Errors: PROGRAM_REFUSED where they are more. */
MUST_USE int lift_dims(struct lift *l, const struct strided *a, const struct strided *b,
                       struct plan_step *step);
MUST_USE int lift_unary(struct lift *l, enum kernel_unary f, const struct lifted *in,
                        struct lifted *ret);
/* The same elements, side by side in a register of their own. */
MUST_USE int lift_copy(struct lift *l, const struct lifted *in, struct lifted *ret);
/* A value whose ROW dimensions lie side by side, in order. */
bool lift_is_contiguous(const struct lifted *v);
MUST_USE int lift_contiguous(struct lift *l, const struct lifted *in, struct lifted *ret);

/* An operand of a step over elements: rows, a table, a constant, a number. */
struct operand {
    enum plan_source source;
    const struct lifted *rows; /* NULL: not rows */
    struct plan_view view;     /* of the others */
    unsigned n_dims;           /* of the others: labels and strides as of rows */
    struct dim dims[PT2_MAX_DIMS];
};
/* What an argument is, beside a value of rows. */
MUST_USE int lift_operand(struct lift *l, const struct pt2_arg *arg, const struct lifted *beside,
                          struct operand *ret);
void lift_number_operand(double number, struct operand *ret);
struct operand lift_rows_operand(const struct lifted *rows);
/* A number where the rows are not 0 (KEEP), or are (DROP); elsewhere 0. */
MUST_USE int lift_number_where(struct lift *l, enum kernel_binary f, double number,
                               const struct lifted *rows, struct lifted *ret);
MUST_USE int lift_binary(struct lift *l, enum kernel_binary f, const struct operand *a,
                         const struct operand *b, struct lifted *ret);
MUST_USE int lift_binary_number(struct lift *l, enum kernel_binary f, const struct lifted *a,
                                double number, struct lifted *ret);

/* ---- lift_view.c ---- */

/* Is it an op that shows elements otherwise?  Then do it (rows, caches, scores, ids). */
MUST_USE int lift_view(struct lift *l, const struct node_op *op, bool *ret_is);
/* lift_reshape.c: the dimensions of a value as these sizes (one may be -1).
 * Errors: PROGRAM_REFUSED. */
MUST_USE int lift_reshape(struct lift *l, const struct lifted *in, const int64_t *sizes,
                          unsigned n, struct lifted *ret);
/* An argument that is a list of sizes; ANY_LENGTH for the length of the run. */
MUST_USE int lift_sizes(struct lift *l, const char *name, int64_t *ret, unsigned *ret_n);

/* ---- lift_index.c, lift_choice.c, lift_experts.c ---- */

/* Is a row's dimension indexed by what does not depend on tokens?  Then show the elements, which
 * must follow one another. */
MUST_USE int lift_index(struct lift *l, const struct lifted *in, bool *ret_is);
MUST_USE int lift_choice(struct lift *l, const struct node_op *op, bool *ret_is);
MUST_USE int lift_experts(struct lift *l, const struct node_op *op, bool *ret_is);
/* Is the dimension the last one of those that a row has? */
bool lift_is_last_in_row(const struct lifted *v, unsigned dim);

/* ---- lift_rows.c, lift_attend.c, lift_sdpa.c, lift_sinks.c ---- */

/* May the node's write in place be taken for a new value?  It may where nobody reads the old
 * one, or a view of it, any more; so may a node that writes nothing.
 * Errors: PROGRAM_REFUSED. */
MUST_USE int lift_check_write(struct lift *l);
MUST_USE int lift_sinks(struct lift *l, const struct node_op *op, bool *ret_is);
/* Do the leading dimensions of the queries (or probabilities) and of a cache mean that
 * head h sees key head h / (heads / kv_heads)?  Both without their last two. */
bool lift_heads_match(const struct lift *l, const struct lifted *q, const struct lifted *c,
                      bool may_group, uint32_t *ret_heads);
/* Scores of the queries over the keys k, neither scaled nor masked.
 * Errors: PROGRAM_REFUSED, NOMEM. */
MUST_USE int lift_queries(struct lift *l, const struct lifted *q, const struct lifted *k,
                          bool may_group, struct scores *ret);
/* The scores masked by that value of the graph. */
MUST_USE int lift_mask_of(struct lift *l, uint32_t value, struct scores *s);
/* Attend by the scores to the values, a cache; what comes of it is shaped like `like`. */
MUST_USE int lift_put_attend(struct lift *l, const struct scores *s,
                             const struct lifted *values, const struct lifted *like,
                             struct lifted *ret);
/* scaled_dot_product_attention, and what it becomes on a CPU; llama::custom_sdpa. */
MUST_USE int lift_sdpa(struct lift *l);
MUST_USE int lift_custom_sdpa(struct lift *l);
/* Is the step attention by these scores, but for their sinks?  (lift_attend.c) */
bool lift_attends_by(const struct lift *l, const struct plan_step *step, const struct scores *s);
/* Scores without the sinks behind them; of scores that have none, what shows their shape. */
MUST_USE int lift_drop_sinks(struct lift *l, const struct lifted *in, unsigned dim,
                             int64_t from, int64_t to);

MUST_USE int lift_rows(struct lift *l, const struct node_op *op, bool *ret_is);
MUST_USE int lift_attend(struct lift *l, const struct node_op *op, bool *ret_is);

/* ---- lift_caches.c ---- */

/* Does it hold this run's rows? */
bool lift_cache_is_ready(const struct lift *l, const struct lifted *v);
/* The buffers that are caches, before the walk; and what must hold after it. */
MUST_USE int lift_caches(struct lift *l);
MUST_USE int lift_caches_done(struct lift *l);
/* A cache by an index of its positions: it rolls. */
MUST_USE int lift_roll(struct lift *l, const struct lifted *self);
/* index_copy, index_put of rows into a cache; in place or not. */
MUST_USE int lift_write(struct lift *l, const struct lifted *self, bool is_in_place);
/* llama::update_cache */
MUST_USE int lift_update(struct lift *l);
/* Is `start_pos` the first of the run's positions?  Errors: PROGRAM_REFUSED where not. */
MUST_USE int lift_start_is_first(struct lift *l, int64_t length);
/* copy_ of the new contents, made out of place, to the buffer. */
MUST_USE int lift_write_back(struct lift *l, const struct lifted *self);
/* Keys and values that are attended together are a layer: which? */
MUST_USE int lift_layer(struct lift *l, uint32_t key, uint32_t value, uint32_t *ret);

/* ---- lift_weights.c ---- */

struct weights {
    const void *data; /* (n_out, k) */
    enum pt2_dtype dtype;
    uint32_t n_out, k;
    const char *fqn;
};
/* A matrix as linear wants it: as it is, or (is_transposed) given as (k, n_out). */
MUST_USE int lift_weights(struct lift *l, uint32_t value, bool is_transposed,
                          struct weights *ret);
/* The value that one is through views and conversions that lose nothing, perhaps transposed. */
uint32_t lift_source(const struct lift *l, uint32_t value, bool *ret_is_turned);
/* The tensor of the archive that a value is, through such; NULL: none. */
const struct pt2_payload *lift_payload(const struct lift *l, uint32_t value);
/* Matrices that one is chosen of: (n, n_out, k), or (n, k, n_out) where they are transposed;
 * is_transposed: they are given so. */
struct expert_weights {
    const void *data;
    enum pt2_dtype dtype;
    uint32_t n, n_out, k;
    bool is_transposed;
    const char *fqn;
};
MUST_USE int lift_expert_weights(struct lift *l, uint32_t value, bool is_transposed,
                                 struct expert_weights *ret);
/* linear(in, w) where w is no weight, but a constant that averages a line or turns pairs of
 * its elements: then do it. */
MUST_USE int lift_pick(struct lift *l, const struct lifted *in, const struct weights *w,
                       struct lifted *ret, bool *ret_is);
MUST_USE int lift_constant(struct lift *l, uint32_t value, uint32_t *ret);
/* A constant of these numbers. */
MUST_USE int lift_numbers(struct lift *l, const float *numbers, uint32_t n, uint32_t *ret);
/* A constant that is one number. */
MUST_USE int lift_number(struct lift *l, uint32_t value, bool *ret_is, double *ret);
MUST_USE int lift_table(struct lift *l, uint32_t value, int s_dim, uint32_t *ret);

/* ---- lift_quant.c ---- */

MUST_USE int lift_quant(struct lift *l, const struct node_op *op, bool *ret_is);
/* A matrix of whole numbers as linear (is_transposed: given as (k, n_out)) and embedding want
 * it: which of the plan's; *ret is -1 where it is none, or none that kernels have. */
MUST_USE int lift_quant_weights(struct lift *l, uint32_t value, bool is_transposed, int32_t *ret);
/* Are the contiguous rows whole numbers dequantised?  Then the register that has those. */
bool lift_quantized_rows(const struct lift *l, const struct lifted *x, uint32_t *ret);

/* ---- fuse.c, fuse_rope.c, place.c ---- */

MUST_USE int fuse_steps(struct lift *l);
void fuse_ropes(struct lift *l, const uint32_t *uses);
void fuse_gelu(struct lift *l, struct plan_step *s);
/* The step that makes the register that a view shows; NULL: not a register. */
struct step *fuse_maker(const struct lift *l, const struct plan_view *view);
/* How often each register is read. */
MUST_USE int fuse_uses(const struct lift *l, uint32_t **ret_uses);
/* Call fn for each view that a step reads. */
void fuse_each_view(struct lift *l, struct step *step,
                    void (*fn)(void *context, struct plan_view *view), void *context);
MUST_USE int place_steps(struct lift *l);

#endif
