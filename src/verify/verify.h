/* verify.h - run a program for some tokens on every engine that takes it, one token at a
 * time and all at once, and compare the logits (doc/verifying.md).
 *
 * Opens engines of its own and takes their memory: the mapped program, the caches of each
 * run, and two buffers of logits.  Any thread; one call a program. */
#ifndef VERIFY_VERIFY_H
#define VERIFY_VERIFY_H

#include "verify/compare.h"

#include <pt2/engine.h>

/* The runs, in the order in which one is the others' reference. */
enum verify_run {
    VERIFY_NATIVE, /* one token at a time */
    VERIFY_ATEN,
    VERIFY_NATIVE_AT_ONCE,
    VERIFY_ATEN_AT_ONCE,
};
#define VERIFY_N_RUNS 4

const char *verify_run_name(enum verify_run run); /* "native_at_once" */

struct verify_task {
    const char *path;     /* of the archive */
    enum pt2_dtype dtype; /* that its weights are in: how much rounding there may be */
    int64_t n_tokens;     /* of each batch element: 1 to the program's max_cache_len */
    uint32_t seed;
    struct pt2_engine_options engine; /* kind is not read */
    /* After each step; done and total count tokens of all runs.  NULL: none. */
    void (*progress)(void *ctx, int64_t done, int64_t total);
    void *ctx;
};

/* How far a run may be from its reference: comparison_ratio and comparison_rms. */
struct verify_limits {
    double largest, rms;
};

#define VERIFY_REASON_SIZE 480

struct verify_result {
    int64_t n_tokens, batch_size;
    uint32_t seed;
    enum pt2_dtype dtype;
    enum verify_run reference;
    struct {
        bool is_made;
        char reason[VERIFY_REASON_SIZE]; /* why it was not made */
        struct verify_limits limits;
        struct comparison comparison;    /* with the reference */
    } runs[VERIFY_N_RUNS];
};

/* Verify.  An engine that refuses the program is left out, and the result says why.
 * Errors: VERIFY_FAILED (logits differ beyond the limits, or are NaN or infinite: in
 * which run, at which position), PROGRAM_REFUSED (no engine takes it), PROGRAM_FAILED,
 * LIMIT and ENGINE_DIED (a step), INVALID (n_tokens), IO, NOMEM. */
MUST_USE int verify_program(const struct verify_task *task,
                            struct verify_result *ret_result, struct pt2_err *err);

/* For runs of which one is libtorch's, in that dtype, of so many layers.  doc/verifying.md
 * says where the numbers come from. */
struct verify_limits verify_limits(enum pt2_dtype dtype, int64_t n_layers);

#endif
