/* random_graph.h - decoder programs made at random, of the parts that exports have and in the
 * ways these are spelled.  The same seed gives the same archive.
 *
 *     random_graph.c   dice, values, what lies in the archive, the frame of a program
 *     random_blocks.c  linears, norms, arithmetic, rows cut up and put together
 *     random_attend.c  positions, masks, rotary embeddings, caches, attention
 *
 * Numbers are drawn so that logits stay of a few units and no step cancels much. */
#ifndef TESTS_RANDOM_GRAPH_H
#define TESTS_RANDOM_GRAPH_H

#include "mini_graph.h"

#include "base/util.h"

/* A value of the graph; a size of -1 is the sequence's where it is not fixed. */
struct val {
    uint32_t v;
    enum pt2_dtype dtype;
    unsigned n;
    int64_t sizes[PT2_MAX_DIMS];
};

struct stored { /* a parameter, buffer or constant */
    char fqn[24];
    enum pt2_input_kind kind;
    struct val shape;
    float *elements; /* NULL: zeros */
};

struct gen {
    struct mini m;
    uint64_t dice;
    enum pt2_dtype dtype;
    int64_t batch, s, len, vocab, dim;
    bool last_row;
    struct val x, positions; /* (s), int64: where rows are written */
    struct val mask;         /* of the layer before, of this window */
    int64_t window;          /* -1: there is none yet */
    struct stored stored[256];
    unsigned n_stored, n_caches;
};

/* What the test needs to know of a program. */
struct random_facts {
    int64_t batch, s, len, vocab; /* s: -1 where it is not fixed */
    bool is_half;                 /* of bfloat16 */
};
void random_graph_write(uint64_t seed, const char *path, struct random_facts *ret_facts);

/* ---- random_graph.c ---- */

unsigned gen_below(struct gen *g, unsigned n);
bool gen_chance(struct gen *g, unsigned percent);
double gen_real(struct gen *g, double from, double to);

struct val gen_shape(enum pt2_dtype dtype, unsigned n, const int64_t *sizes);
/* x's shape, its last dimension another. */
struct val gen_wide(struct val x, int64_t last);
struct val gen_op(struct gen *g, struct val shape, const char *op, uint32_t n_args,
                  const struct pt2_named_arg *args);
#define OP(g, shape, op, ...)                                                             \
    gen_op(g, shape, op,                                                                  \
           sizeof((struct pt2_named_arg[]){__VA_ARGS__}) / sizeof(struct pt2_named_arg),  \
           (struct pt2_named_arg[]){__VA_ARGS__})
struct pt2_named_arg gen_ints(struct gen *g, const char *name, unsigned n,
                              const int64_t *ints);
struct pt2_named_arg gen_tensors(struct gen *g, const char *name, unsigned n,
                                 const struct val *vals);

/* A parameter with elements around center. */
struct val gen_param(struct gen *g, double center, double spread, unsigned n,
                     const int64_t *sizes);
/* A float32 constant of these elements (taken). */
struct val gen_table(struct gen *g, float *elements, unsigned n, const int64_t *sizes);
struct val gen_cache(struct gen *g, const char *fqn, unsigned n, const int64_t *sizes);
/* A buffer that ends the run as this value. */
void gen_mutation(struct gen *g, const char *fqn, struct val value);

/* ---- random_blocks.c ---- */

struct val gen_to(struct gen *g, struct val x, enum pt2_dtype dtype);
struct val gen_unary(struct gen *g, const char *op, struct val x);
struct val gen_binary(struct gen *g, const char *op, struct val a, struct val b);
struct val gen_number(struct gen *g, const char *op, struct val x, double number);
struct val gen_reshape(struct gen *g, struct val x, unsigned n, const int64_t *sizes);
/* The transpose of two dimensions; counted from the front. */
struct val gen_turn(struct gen *g, struct val x, unsigned a, unsigned b);
/* Elements from .. from + n - 1 of the last dimension. */
struct val gen_slice(struct gen *g, struct val x, int64_t from, int64_t n);
/* The last dimension cut into parts of these sizes. */
void gen_cut(struct gen *g, struct val x, unsigned n, const int64_t *sizes, struct val *ret);
struct val gen_cat(struct gen *g, unsigned n, const struct val *parts);

struct val gen_linear(struct gen *g, struct val x, int64_t out);
struct val gen_norm(struct gen *g, struct val x);
struct val gen_mlp(struct gen *g, struct val x);
/* Some steps that change elements, or move them about. */
struct val gen_noise(struct gen *g, struct val x);

/* ---- random_attend.c ---- */

void gen_positions(struct gen *g);
/* x with something of its position added, or times it. */
struct val gen_place(struct gen *g, struct val x);
struct val gen_attention(struct gen *g, struct val x);

#endif
