/* plan.h - a program compiled for rows.
 *
 * A row is what the graph computes for one token of one batch element: each value's
 * dimensions but batch and sequence.  The plan is a list of steps over rows; any number of
 * rows, of any sessions, go through it together, so weights are read once for all of them.
 *
 *     registers   float32, for each row `width` elements; the steps read and write these
 *     tables      float32, (max_cache_len, width): values that depend on the position alone
 *                 (rotary cos and sin), computed when the plan is made
 *     weights     in the mapped archive, in their dtype; of whole numbers: packed (pack.h)
 *     constants   float32, small, widened when the plan is made (norm weights, biases)
 *     caches      blocks.h: pairs of key and value rows for each layer
 *
 * Made by plan_compile (compile.c and its parts), run by run.c, printed by print.c.
 * Immutable once made; any thread. */
#ifndef NATIVE_PLAN_H
#define NATIVE_PLAN_H

#include "native/kernels.h"
#include "native/quant.h"

#include <pt2/archive.h>
#include <pt2/program.h>

#define PLAN_MAX_DIMS 4 /* of a step over strided elements */
#define PLAN_MAX_OUTS 8 /* linears that share their input */
#define PLAN_MAX_CHOICE 1024 /* elements that some are chosen from */
#define PLAN_MAX_POSITIONS (INT64_C(1) << 20) /* of a cache: each is computed */

enum plan_source { PLAN_REGISTER, PLAN_TABLE, PLAN_CONSTANT, PLAN_NUMBER };

/* What a step reads: elements of one of these, strided.  Element (i0, i1, i2, i3) of a row is
 * at offset + i0 * strides[0] + i1 * strides[1] + ...; a stride of 0 repeats.
 *
 *     UNARY, BINARY, GATE, COPY   by the step's sizes[0..3]; GATE: both with strides[3] 1
 *     REDUCE, SOFTMAX, TURN       sizes[3] is the dimension that they go over
 *     TOPK, GATHER, SCATTER       sizes[0..2] are lines; strides[3] goes along one, however
 *                                 many elements of it are read
 *     PICK, EXPERTS               strides[0] from one choice to the next, and from one row of
 *                                 the input to the next (0: one for all); a row side by side
 *     MIX                         strides[0] from one summand to the next
 *     RMS_NORM, LAYER_NORM, ROPE, STORE, ATTEND   strides[0] from one group or head to the
 *                                 next; what is in a head lies side by side
 *     LINEAR, LOGITS, QUANTIZE, DEQUANTIZE   side by side */
struct plan_view {
    enum plan_source source;
    uint32_t i;    /* the register, table or constant */
    float number;  /* PLAN_NUMBER */
    uint32_t offset;
    int32_t strides[PLAN_MAX_DIMS];
};

enum plan_op {
    PLAN_EMBED,   /* out[:] = weights[token] (widened), times scale */
    PLAN_LINEAR,  /* out_j = in · weights_j^T + bias_j, for each of n_outs */
    PLAN_RMS_NORM,
    PLAN_LAYER_NORM,
    PLAN_ROPE,    /* n_groups heads of `size`, the first n_rot of each turned, the rest copied */
    PLAN_TURN,    /* x * cos + this * sin is ROPE: of each pair the other, one of them negated */
    PLAN_STORE,   /* in: a key or value row (kv_heads, head_dim) into the cache at the row's position */
    PLAN_ATTEND,  /* in: queries (heads, head_dim); out: (heads, head_dim) */
    PLAN_UNARY,
    PLAN_BINARY,
    PLAN_GATE,    /* out = f(in) * b */
    PLAN_COPY,    /* out elements = in elements */
    PLAN_REDUCE,  /* sum, mean or max of the last dimension */
    PLAN_SOFTMAX, /* over the last dimension */
    /* mixtures of experts; which of so many are numbers, whole, in a register */
    PLAN_TOPK,    /* out: where the k largest of each line's n elements stand, as torch has them */
    PLAN_GATHER,  /* out: in's elements where b says, of each line */
    PLAN_SCATTER, /* out: lines of sizes[3] elements, `fill`, and b's where in says */
    PLAN_PICK,    /* out: (sizes[2], sizes[3]) rows of a constant, where in says */
    PLAN_EXPERTS, /* out: (n_chosen, n_out); row c is in's row c by the weights of expert b[c] */
    PLAN_MIX,     /* out: the sum of n rows of in, each times an element of b */
    PLAN_QUANTIZE,   /* out: the row as whole numbers, as kernels have it (quant.h) */
    PLAN_DEQUANTIZE, /* out: such a row as floats again */
    PLAN_LOGITS,  /* the row's answer: in, (vocab_size) */
};

/* A matrix of whole numbers, times a scale for each group along a row. */
struct plan_quant {
    const int8_t *data;  /* (n_out, k), in the mapped archive */
    const float *scale;  /* (n_out, k / group), there too, or a constant */
    struct quant_shape shape; /* bits as the program says; 8 where pack.c finds larger numbers */
    bool is_linear;      /* some linear reads it, so it is packed */
    const void *packed;  /* for linears; NULL: not packed yet */
    const char *fqn;     /* for printing; borrowed from the program */
};

struct plan_linear_out {
    uint32_t out;      /* register */
    uint32_t n_out;
    const void *weights; /* (n_out, k), in the mapped archive; NULL: of whole numbers */
    enum pt2_dtype dtype;
    int32_t bias;      /* constant (n_out); -1: none */
    int32_t quant;     /* those, of plan.quants */
    const char *fqn;   /* of the weights, for printing; borrowed from the program */
};

struct plan_attend {
    uint32_t layer;      /* of the cache */
    uint32_t heads, kv_heads, head_dim, v_head_dim;
    float scale;         /* of the scores */
    float soft_cap;      /* 0: none: scores = cap * tanh(scores / cap) */
    int64_t window;      /* a row at p sees max(0, p - window + 1) .. p; 0: all up to p */
    int32_t sinks;       /* constant (heads): a logit each beside the scores; -1: none */
};

struct plan_experts {
    const void *weights; /* (n_experts, n_out, k), in the mapped archive */
    bool is_transposed;  /* they are (n_experts, k, n_out) */
    enum pt2_dtype dtype;
    uint32_t n_experts, n_chosen, n_out, k;
    const char *fqn;     /* of the weights, for printing; borrowed from the program */
};

struct plan_turn {
    uint32_t n_rot; /* the first of a head; what is made of the rest is 0 */
    bool interleaved;
    bool flipped; /* the second of a pair is negated, and not the first as ROPE has it */
};

struct plan_step {
    enum plan_op op;
    uint32_t out;             /* register; in full, contiguous from `out_offset` */
    uint32_t out_offset;
    uint32_t sizes[PLAN_MAX_DIMS]; /* row-major; the leading ones that it has not are 1 */
    struct plan_view in, b;   /* b: the second operand of those that have one */
    union {
        enum kernel_unary unary; /* UNARY, GATE */
        enum kernel_binary binary;
        struct {
            struct plan_linear_out outs[PLAN_MAX_OUTS];
            uint32_t n_outs, k;
            bool of_whole; /* in is what QUANTIZE made; then all weights are whole numbers */
        } linear; /* in is contiguous, k elements */
        struct {
            const void *weights; /* (n_rows, width); NULL: of whole numbers */
            enum pt2_dtype dtype;
            int32_t quant; /* those, of plan.quants */
            uint32_t n_rows, width;
            float scale;
            const char *fqn;
        } embed;
        struct {
            int32_t weight, bias; /* constants; -1: none */
            float eps;
            bool unit_offset;
            uint32_t n_groups, size;
        } norm;
        struct {
            uint32_t cos, sin; /* tables, n_rot wide */
            uint32_t n_groups, size, n_rot;
            bool interleaved;
        } rope;
        struct plan_turn turn;
        struct {
            uint32_t layer;
            bool is_value;
        } store;
        struct plan_attend attend;
        enum { PLAN_SUM, PLAN_MEAN, PLAN_MAX } reduce;
        struct {
            uint32_t n; /* elements of a line; k of them are in sizes[3] */
            bool is_sorted;
        } topk;
        struct {
            uint32_t k; /* elements of a line that are written */
            float fill;
        } scatter;
        uint32_t pick; /* the constant, (rows, sizes[3]) */
        struct plan_experts experts;
        uint32_t mix_n;
        float quantize_eps; /* the smallest scale of a row */
    };
};

/* Does the step read its second operand? */
static inline bool plan_has_second(const struct plan_step *s)
{
    return s->op == PLAN_BINARY || s->op == PLAN_GATE || s->op == PLAN_GATHER ||
           s->op == PLAN_SCATTER || s->op == PLAN_EXPERTS || s->op == PLAN_MIX;
}

/* Does it read its first one? */
static inline bool plan_has_first(const struct plan_step *s)
{
    return s->op != PLAN_EMBED;
}

struct plan;

/* Bytes of weights that the step reads for one row. */
uint64_t plan_step_bytes(const struct plan *plan, const struct plan_step *s);

/* Sum them up in weight_bytes. */
void plan_count_bytes(struct plan *plan);

struct plan_cache { /* a layer's pair */
    const char *key_fqn, *value_fqn; /* borrowed from the program */
    enum pt2_dtype dtype;
    uint32_t kv_heads, head_dim, v_head_dim;
    /* Positions that the program's buffers hold.  Below max_cache_len they roll or are a ring;
     * the plan's cache is neither, it has a place for every position and attention a window
     * over them.  Positions that have left the window may be forgotten (blocks.h). */
    int64_t length;
};

/* A buffer of the program that a session has its own of: a cache, or a counter of the
 * positions that are written. */
struct plan_buffer {
    const char *fqn; /* borrowed from the program */
    enum pt2_dtype dtype;
    unsigned n_dims;
    int64_t sizes[PT2_MAX_DIMS]; /* of a cache ([batch,] kv_heads, max_cache_len, head_dim) */
    bool is_counter;
    int64_t length; /* positions of a cache; below max_cache_len it rolls, or */
    unsigned position_dim; /* of a cache; those of llama::update_cache have it before the heads */
    bool is_ring;   /* position p is row p mod length */
    uint32_t layer; /* of a cache, and which of the pair it is */
    bool is_value;
};

struct plan {
    struct pt2_decoder decoder;
    enum pt2_dtype dtype;          /* of the program's weights, mainly: for printing */
    struct plan_step *steps;
    size_t n_steps;
    /* Steps from this one on are wanted for the rows whose logits are asked for alone: none
     * of them stores or attends. */
    size_t tail;
    uint32_t *widths;              /* of the registers, each a multiple of 16 */
    size_t n_registers;
    float **tables;                /* (max_cache_len, width), 64-aligned */
    uint32_t *table_widths;
    size_t n_tables;
    float **constants;
    uint32_t *constant_sizes;
    size_t n_constants;
    struct plan_cache *caches;
    size_t n_caches;
    struct plan_buffer *buffers; /* in the order of the program's inputs */
    size_t n_buffers;
    struct plan_quant *quants;
    size_t n_quants;
    struct packing *packing;       /* of these, once they are packed (pack.h) */
    void **copies;                 /* matrices that do not lie in the file as steps want them */
    size_t n_copies;
    uint64_t private_bytes;        /* tables, constants and all else that is not mapped */
    uint64_t weight_bytes;         /* read by one row */
};

/* Compile the program.  archive and program are borrowed and must outlive the plan.
 * new: plan_free.
 * Errors: PROGRAM_REFUSED (what can't be compiled: the node and why; such a program runs on
 * aten), PROGRAM_DAMAGED (the archive is cut), NOMEM, LIMIT. */
MUST_USE int plan_compile(const struct pt2_archive *archive, const struct pt2_program *program,
                          struct plan **ret_plan, struct pt2_err *err);
void plan_free(struct plan *plan);
DEFINE_AUTO(plan)

/* The plan for people, a step a line: shapes, bytes read, kernel.  new: the caller frees.
 * Errors: NOMEM. */
MUST_USE int plan_print(const struct plan *plan, const struct kernels *kernels, char **ret_text,
                        struct pt2_err *err);

/* Compile the program and print its plan, with the kernels of this machine.  new: the caller
 * frees.  Errors: those of both. */
MUST_USE int plan_describe(const struct pt2_archive *archive, const struct pt2_program *program,
                           char **ret_text, struct pt2_err *err);

#endif
