/* rope.h - rotary position embeddings: reading how they are scaled, and their
 * frequencies.
 *
 * The formulas are those of transformers 5.18, modeling_rope_utils.py, which computes in
 * float32; so does this, operation by operation.  The one exception is base ** (i / dim),
 * which is rounded from double here and by torch's vectorised pow there: one in a hundred
 * frequencies differs in its last bit, none for the usual bases and sizes.
 *
 * Any thread; what a rope points to is the config's, which must outlive it. */
#ifndef EXPORT_ROPE_H
#define EXPORT_ROPE_H

#include "base/util.h"
#include "export/fields.h"

enum rope_type {
    ROPE_DEFAULT,
    ROPE_LINEAR,
    ROPE_DYNAMIC, /* as at the start: exact up to max_position_embeddings */
    ROPE_YARN,
    ROPE_LLAMA3,
    ROPE_LONGROPE,
    ROPE_SINUSOIDAL, /* fairseq's: theta ** -(i / (dim / 2 - 1)) */
};

struct rope {
    enum rope_type type;
    const char *prefix;             /* of the buffer's name: "", "full_attention_" */
    int64_t dim;                    /* rotated part of a head; even */
    double theta;                   /* the base */
    double factor;                  /* all but default */
    double alpha;                   /* dynamic: of the base, at any length; 0: none */
    double original_max;            /* yarn, llama3, longrope, query_beta:
                                       original_max_position_embeddings */
    int64_t max_position;           /* max_position_embeddings */
    double attention_scale;         /* cos and sin are multiplied by it; mostly 1 */
    double beta_fast, beta_slow;    /* yarn */
    bool truncate;                  /* yarn */
    double low_factor, high_factor; /* llama3: low_freq_factor, high_freq_factor */
    const json_t *short_factor, *long_factor; /* longrope: dim / 2 numbers each */
    double query_beta; /* queries are multiplied by 1 + it * log(1 + floor(position /
                          original_max)); 0: not */
};

/* What a model type makes of the fields. */
struct rope_rules {
    const char *theta_field, *partial_field; /* beside rope_parameters; NULL: the usual */
    double theta;                            /* where left out; 0: 10000 */
    double partial;      /* where left out; 0: this model type rotates whole heads */
    double original_max; /* original_max_position_embeddings where left out beside
                            rope_parameters; 0: rope_parameters' own, max_position */
    bool is_required;    /* rope_parameters can not be left out: the class has its own */
    bool is_longrope_only; /* "su" and "yarn" are longrope, no other scaling is known */
    bool reads_alpha, reads_query_beta;
    bool reads_sections; /* mrope: of text alone all sections have the same positions */
};

/* Read it from a config.json, in both spellings: `rope_parameters` (transformers 5), or
 * `rope_theta` and `rope_scaling` beside each other.
 * Errors: BAD_CONFIG; NOT_EXPORTABLE (a type or a field that is not known). */
MUST_USE int rope_read(const struct fields *config, const struct rope_rules *rules,
                       int64_t head_dim, int64_t max_position, struct rope *ret_rope,
                       struct pt2_err *err);

/* Read two: those of rope_parameters' full_attention and sliding_attention, in this
 * order. In the older spelling rope_scaling is of the first alone, whose base is
 * rope_theta; that of the second is the field local_field, NULL or left out: local_theta.
 * Errors as above. */
MUST_USE int rope_read_two(const struct fields *config, const struct rope_rules *rules,
                           const char *local_field, double local_theta, int64_t head_dim,
                           int64_t max_position, struct rope ret_ropes[2],
                           struct pt2_err *err);

/* May positions up to max_cache_len - 1 be rotated with the frequencies that
 * rope_inv_freq has?  Errors: NOT_EXPORTABLE: dynamic, and beyond
 * max_position_embeddings. */
MUST_USE int rope_check_len(const struct rope *rope, int64_t max_cache_len,
                            struct pt2_err *err);

/* Do positions up to max_cache_len - 1 turn by both lists: those below original_max by
 * the short one, the others by the long one? */
bool rope_is_long(const struct rope *rope, int64_t max_cache_len);

/* inv_freq: dim / 2 radians a position.  is_long: longrope's second list. */
void rope_inv_freq(const struct rope *rope, bool is_long, float *ret_freq);

#endif
