/* weights_walk.h - the walk over a decoder's weights: the tensors of the checkpoint by the
 * names that they may have, appended as weights.  weights.c says which a decoder has,
 * weights_moe.c which a layer with experts.
 *
 * One thread at a time. */
#ifndef EXPORT_WEIGHTS_WALK_H
#define EXPORT_WEIGHTS_WALK_H

#include "export/weights.h"

#define WALK_NAME_SIZE (WEIGHT_FQN_SIZE - 8) /* a fqn's without "model." */

struct walk {
    const struct decoder_spec *spec;
    const struct pt2_checkpoint *checkpoint;
    struct weights *weights;
    size_t cap, sources_cap; /* of weights->list, weights->sources */
    size_t n_missing;
    char missing[300]; /* the first of them */
    struct pt2_err *err;
};

/* The shape of a weight: one number, a vector, a matrix, or many of these. */
struct shape {
    unsigned n_dims;
    int64_t sizes[3];
};

static inline struct shape vector(int64_t n)
{
    return (struct shape){1, {n}};
}

static inline struct shape matrix(int64_t rows, int64_t cols)
{
    return (struct shape){2, {rows, cols}};
}

/* The tensor that transformers would take for that name; NULL: there is none. */
const struct pt2_checkpoint_tensor *walk_find(const struct walk *k, const char *name);
/* What follows "<layers>.<i>."; NULL: it is of no layer. */
const char *walk_name_in_layer(const struct decoder_names *n, const char *name);
/* Names within a layer; layer -1: of no layer. */
void walk_name(const struct walk *k, int64_t layer, const char *part,
               char ret_name[WALK_NAME_SIZE]);

/* Append a weight that has no source yet; it is in walk.weights. */
struct weight *walk_begin(struct walk *k, enum weight_role role, int64_t layer,
                          const char *name, struct shape shape);
/* The tensor of that name, which must have that shape, is what of w comes next.  One that is
 * missing is noted, so that all of them are known in the end: walk_check_missing.
 * Errors: those of weights_bind. */
MUST_USE int walk_source(struct walk *k, struct weight *w, const char *name,
                         struct shape shape);

/* BAD_CHECKPOINT where one was missing; names the first, counts all. */
MUST_USE int walk_check_missing(const struct walk *k);

/* Append the weight that the tensor of a name is, under that name or another one. */
struct weight *walk_add(struct walk *k, enum weight_role role, int64_t layer,
                        const char *fqn_name, const char *tensor_name, struct shape shape);
/* Append the weight that the tensor "part", or "module.part", is, or a linear's weight,
 * (rows, cols), and its bias.  NULL, -1: the errors of weights_bind. */
struct weight *walk_tensor(struct walk *k, enum weight_role role, int64_t layer,
                           const char *part, struct shape shape);
struct weight *walk_part(struct walk *k, enum weight_role role, int64_t layer,
                         const char *module, const char *part, struct shape shape);
MUST_USE int walk_linear(struct walk *k, enum weight_role role, int64_t layer,
                         const char *module, int64_t rows, int64_t cols, bool has_bias);

/* Append what a layer with experts has for an MLP. */
MUST_USE int walk_experts(struct walk *k, int64_t layer);

#endif
