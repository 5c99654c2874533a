/* rope.h - rotary position embedding: what config.json says of it, and the frequencies.
 *
 * All of it follows transformers 5.18, modeling_rope_utils.py, which computes in float32;
 * so does this, operation by operation.  The one exception is base ** (i / dim), which is
 * rounded from double here and by torch's vectorised pow there: one in a hundred
 * frequencies differs in its last bit, none for the usual bases and sizes. */
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
};

struct rope {
    enum rope_type type;
    int64_t dim;                    /* rotated part of a head; even */
    double theta;                   /* the base */
    double factor;                  /* all but default */
    double original_max;            /* yarn, llama3: original_max_position_embeddings */
    int64_t max_position;           /* max_position_embeddings */
    double attention_scale;         /* cos and sin are multiplied by it; 1 but for yarn */
    double beta_fast, beta_slow;    /* yarn */
    bool truncate;                  /* yarn */
    double low_factor, high_factor; /* llama3: low_freq_factor, high_freq_factor */
};

/* Read it from a config.json, in both spellings: `rope_parameters` (transformers 5), or
 * `rope_theta` and `rope_scaling` beside each other.  dim is the head's size.
 * Errors: BAD_CONFIG; NOT_EXPORTABLE (a type or a field that is not known). */
MUST_USE int rope_read(const struct fields *config, int64_t dim, int64_t max_position,
                       struct rope *ret_rope, struct pt2_err *err);

/* May positions up to max_cache_len - 1 be rotated with the frequencies of rope_inv_freq?
 * Errors: NOT_EXPORTABLE: dynamic, and beyond max_position_embeddings. */
MUST_USE int rope_check_len(const struct rope *rope, int64_t max_cache_len,
                            struct pt2_err *err);

/* inv_freq: dim / 2 radians a position. */
void rope_inv_freq(const struct rope *rope, float *ret_freq);

#endif
