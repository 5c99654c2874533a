/* run.h - run a plan on rows.
 *
 * The rows of a run may belong to several sessions; each row has a token, a position and a
 * block table (of its batch element).  Rows of one table must be in the order of their
 * positions, and their blocks owned (block_table_own).  A step's work is split over the
 * team's threads; between steps they meet.
 *
 * One thread at a time for each runner.  After runner_new nothing is allocated. */
#ifndef NATIVE_RUN_H
#define NATIVE_RUN_H

#include "native/blocks.h"
#include "native/plan.h"
#include "native/team.h"

#define RUN_MAX_ROWS  256 /* of one run; more are cut by the engine */
#define RUN_TAIL_ROWS 32  /* that go through the plan's tail together: logits are wide */

struct run_row {
    int64_t token, position;
    struct block_table *table;
    float *logits; /* (vocab_size) to be filled; NULL: not wanted */
};

struct plan_runner;

MUST_USE int plan_runner_new(const struct plan *plan, const struct block_store *store,
                             const struct kernels *kernels, struct team *team,
                             struct plan_runner **ret_runner, struct pt2_err *err);
void plan_runner_free(struct plan_runner *runner);
DEFINE_AUTO(plan_runner)
uint64_t plan_runner_bytes(const struct plan_runner *runner); /* private memory */

/* Run n_rows rows, at most RUN_MAX_ROWS.  Can't fail. */
void plan_runner_run(struct plan_runner *runner, const struct run_row *rows, size_t n_rows);

#endif
