/* eval.h - compute what of a graph does not depend on tokens: constants, and values of the
 * position (rotary tables, masks, the places where a cache is written).
 *
 * A small interpreter of the ops that such values are made of, on strided tensors of int64,
 * bool, float32, and half precisions (each result rounded to its dtype, as torch does it).
 * It is told the run: cache_position = first .. first + s - 1, and counters (one-element
 * integer buffers that Transformers 5 keeps) equal to first.
 *
 * One thread at a time for each evaluator. */
#ifndef NATIVE_EVAL_H
#define NATIVE_EVAL_H

#include "base/util.h"

#include <pt2/archive.h>
#include <pt2/program.h>

enum eval_class {
    EVAL_TOKENS,    /* depends on input_ids or a cache */
    EVAL_CONSTANT,  /* depends on weights and numbers alone */
    EVAL_POSITION,  /* on cache_position (or a counter, or the number of tokens) as well */
};

/* A tensor, contiguous, new memory. */
struct eval_tensor {
    enum pt2_dtype dtype;
    unsigned n_dims;
    int64_t sizes[PT2_MAX_DIMS];
    int64_t n; /* elements */
    /* by dtype: float dtypes as float (rounded to theirs), int dtypes as int64_t, bool as
     * uint8_t */
    union {
        float *f;
        int64_t *i;
        uint8_t *b;
    };
};
void eval_tensor_done(struct eval_tensor *tensor);

struct eval;

/* Classify each value of the graph.  archive and program are borrowed.  new: eval_free.
 * Errors: NOMEM, PROGRAM_REFUSED. */
MUST_USE int eval_new(const struct pt2_archive *archive, const struct pt2_program *program,
                      const struct pt2_decoder *decoder, struct eval **ret_eval,
                      struct pt2_err *err);
void eval_free(struct eval *eval);
DEFINE_AUTO(eval)

enum eval_class eval_class(const struct eval *eval, uint32_t value);
/* Is the input of a kind that a session may have its own of? */
bool eval_may_be_state(const struct pt2_input *in);
/* Is this input a counter? */
bool eval_is_counter(const struct eval *eval, uint32_t value);
/* Does each counter end a run as the next one expects it: equal to first + s?
 * Errors: PROGRAM_REFUSED where one does not. */
MUST_USE int eval_check_counters(struct eval *eval, struct pt2_err *err);

/* The value in a run of s tokens from first on (s is the exported sequence length where that
 * is fixed).  Of class CONSTANT or POSITION.  Results are remembered within one run only.
 * Errors: PROGRAM_REFUSED (an op that it has not, with the node's name), LIMIT, NOMEM. */
MUST_USE int eval_value(struct eval *eval, uint32_t value, int64_t first, int64_t s,
                        struct eval_tensor *ret_tensor, struct pt2_err *err);
/* The same of a sym_int or sym_bool value, or of an argument that is one. */
MUST_USE int eval_int(struct eval *eval, uint32_t value, int64_t first, int64_t s,
                      int64_t *ret, struct pt2_err *err);

/* The value of a POSITION tensor as a table: row p is what position p gets, (max_cache_len,
 * width): the tensor's elements but for dimension s_dim, in row-major order.  Checked to be
 * the same from whichever run a position is computed.  new memory, 64-aligned.
 * Errors: as eval_value; PROGRAM_REFUSED where it is not. */
MUST_USE int eval_table(struct eval *eval, uint32_t value, int s_dim, float **ret_table,
                        uint32_t *ret_width, struct pt2_err *err);

/* A cache of `length` positions, fewer than max_cache_len, is one of two:
 *
 *     it rolls   from position `length` on each run of one row moves its rows on by one, and
 *                writes the last: in the run of position p slot j is position
 *                j + max(0, p - length + 1).  Runs of one row alone are looked at: what
 *                Transformers exports for more is wrong beyond the window.
 *     a ring     position p is written to slot p mod length; behind a run that ends at e slot
 *                j is the newest position up to e that falls on it.
 *
 * What follows is found by computing a value for every position, and is exact; of masks and
 * slots of caches that are longer than 8192 for positions evenly apart, as many as take no
 * longer. */
struct eval_cache {
    int64_t length;
    bool is_ring;
};

/* What a mask lets through: value is a POSITION tensor of booleans (true: seen) or of floats
 * added to scores (0: seen, the dtype's lowest or -inf: not), its last two dimensions
 * (s, length): row p sees max(0, p - window + 1) .. p; *ret_window is 0 where it sees all of
 * 0 .. p.
 * Errors: PROGRAM_REFUSED where it is anything else. */
MUST_USE int eval_mask(struct eval *eval, uint32_t value, struct eval_cache cache,
                       int64_t *ret_window, struct pt2_err *err);
/* Is the value the slots of the run's positions: cache_position itself, whatever it was
 * computed from (a counter and an arange, say), but not beyond length - 1, or modulo the
 * length of a ring?  (s) or (1, s) elements. */
MUST_USE int eval_is_positions(struct eval *eval, uint32_t value, struct eval_cache cache,
                               bool *ret_is, struct pt2_err *err);
/* Is it one number, the run's first position, but not beyond length - 1? */
MUST_USE int eval_is_first(struct eval *eval, uint32_t value, int64_t length, bool *ret_is,
                           struct pt2_err *err);
/* Is it the slots that a cache's rows come from as it rolls: 0 .. length - 1 while there is
 * room, 1 .. length - 1, 0 from then on? */
MUST_USE int eval_is_rolling(struct eval *eval, uint32_t value, int64_t length, bool *ret_is,
                             struct pt2_err *err);

#endif
