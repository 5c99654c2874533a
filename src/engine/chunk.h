/* chunk.h - cut a step of s tokens into runs of the graph.
 *
 * A program computes a fixed number of rows a run (its exported sequence length k), or
 * any number up to a maximum.  Where fewer tokens are left than k:
 *
 *     positions   p  p+1  p+2  p+3
 *     tokens      t0  t1   t1   t1     pad: the rows behind the tokens compute waste,
 * which the caller undoes in the cache tokens      c   d    t0   t1     lead: where p + k
 * would pass the end of the cache, the window moves back over tokens already there
 *     positions   p  p+1  p+1  p+1     repeat: the same where those tokens are not known;
 *                                      only in graphs that write at cache_position
 *
 * Transformers 5 writes at a counter and counts on from there, so it never gets the
 * third. Pure functions; any thread. */
#ifndef ENGINE_CHUNK_H
#define ENGINE_CHUNK_H

#include "base/util.h"

#include <pt2/err.h>

/* How a program takes its tokens. */
struct chunk_shape {
    int64_t seq_len; /* rows of each run; 0: any, at most max_rows */
    int64_t max_rows;
    int64_t max_cache_len;
    bool last_row_only; /* the graph answers its last row's logits alone */
    bool has_counters;  /* it writes at counters, not at cache_position */
    bool rolls;         /* a row too many can not be undone: it moves the others */
    int64_t ring_len;   /* of the shortest ring that it writes; 0: none.  A row too many
                         * stays at the last token's position, so that it takes no other's */
};

/* Can every step be cut?  Errors: PROGRAM_REFUSED. */
MUST_USE int chunk_check(const struct chunk_shape *shape, struct pt2_err *err);

/* The step, and how far it is. */
struct chunk_step {
    int64_t start, s; /* the whole step */
    int64_t done;     /* tokens of it that are through */
    bool all_rows;    /* each token's logits are wanted */
    int64_t known;    /* the tokens at known .. start - 1 are known; start: none */
};

struct chunk_run {
    int64_t first; /* position of the run's first row */
    int64_t lead;  /* rows before the step's tokens */
    int64_t take;  /* tokens of the step, from `done` on */
    int64_t pad;   /* rows behind them */
    bool repeat;   /* the pad stays at the last token's position */
};

/* The next run.  Errors: UNSUPPORTED (the end of the cache can not be reached). */
MUST_USE int chunk_next(const struct chunk_shape *shape, const struct chunk_step *step,
                        struct chunk_run *ret_run, struct pt2_err *err);

/* The positions that the step's runs may write, the whole of it: *ret_low .. *ret_high
 * - 1. Errors: as chunk_next. */
MUST_USE int chunk_span(const struct chunk_shape *shape, const struct chunk_step *step,
                        int64_t *ret_low, int64_t *ret_high, struct pt2_err *err);

#endif
