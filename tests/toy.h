/* toy.h - small decoder programs, built in C, whose logits the tests can compute
 * themselves.
 *
 * One layer of attention without projections: q and k are rows of `embed.weight`, v of
 * `value.weight`, and the logits are embed.weight times what was attended to:
 *
 *     x = embed[ids]; K[pos] = x; V[pos] = value[ids]
 *     logits = (softmax(where(j <= pos, x K^T, -inf)) V) embed^T     (j > pos - window)
 *
 * in every way of taking tokens that an engine has to cope with. */
#ifndef TESTS_TOY_H
#define TESTS_TOY_H

#include "base/util.h"

#include <pt2/program.h>

struct toy {
    int64_t batch, length, vocab, dim; /* 0: 1, 16, 11, 4 */
    int64_t seq_len;                   /* rows a run; 0: dynamic, 1 .. max_rows */
    int64_t max_rows;                  /* 0: length */
    enum pt2_dtype dtype;              /* NONE: float32 */
    bool counters; /* writes at cumulative_length_0 as Transformers 5 does, but never sets
                    * it: so it must be set from outside */
    bool last_row; /* answers the last row's logits alone, (batch, vocab) */
    bool rolls;    /* seq_len 1: the cache moves along and the newest row is the last */
    int64_t window; /* 0: none; otherwise rows see so many positions, and the cache is a ring
                     * of them and a run's rows but one */
    bool filled; /* the archive's cache is not zeros, as if 3 tokens 1, 2, 3 were there */
    bool updates; /* by ExecuTorch's llama::update_cache and llama::custom_sdpa */
    int64_t start; /* updates: which of the run's positions they begin at; 0: the first */
    bool not_causal; /* updates: a row sees all that is written, of later rows too */
    const char
        *extra_op; /* one more node on x, of this target: for a refusal; may be NULL */
};

/* Write the archive.  Aborts where that fails. */
void toy_write(const struct toy *toy, const char *path);

/* The logits (vocab) after the last of ids, in double precision. */
void toy_logits(const struct toy *toy, const int64_t *ids, int64_t n_ids,
                double *ret_logits);

/* Row id of the two tables. */
double toy_embed(const struct toy *toy, int64_t id, int64_t d);
double toy_value(const struct toy *toy, int64_t id, int64_t d);

#endif
