/* program_checks.h - which engines take a program: found out by a thread of its own, one
 * program after another, the newest first, and kept in the programs' table with the
 * engines' version.  When there is nothing to ask it reads programs that are doubted (whole.h).
 *
 * A verdict that failed for a passing reason (no memory, input or output) is asked for
 * again at the next start.  Any thread. */
#ifndef STORE_PROGRAM_CHECKS_H
#define STORE_PROGRAM_CHECKS_H

#include "store/objects.h"
#include "store/programs.h"
#include "store/store.h"
#include "store/whole.h"

struct program_checks;

/* Starts the thread with the programs that have no verdict of this version.
 * new: program_checks_free, which waits for the check that runs.
 * Errors: NOMEM, INTERNAL (no thread). */
MUST_USE int program_checks_new(struct store *store, struct objects *objects,
                                struct whole_state *whole,
                                const struct programs_options *options,
                                struct program_checks **ret_checks, struct pt2_err *err);
/* Nobody waits any more, and the thread ends after the check that runs. */
void program_checks_stop(struct program_checks *checks);
void program_checks_free(struct program_checks *checks);

/* There is a new program. */
void program_checks_wake(struct program_checks *checks);
/* Wait until there may be a verdict on the program, no longer than that; not at all where two
 * threads wait already. */
void program_checks_wait(struct program_checks *checks, const char *id, int64_t ms);

/* {"native": {ok, reason}, "aten": {ok, reason}} of a row; where there is no verdict of
 * this version, ok is null.  new; NULL: out of memory. */
struct program_row;
json_t *program_checks_json(const struct program_checks *checks,
                            const struct program_row *row);

#endif
