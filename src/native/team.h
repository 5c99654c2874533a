/* team.h - the compute threads of the native engine: one team for the process.
 *
 * A job is one function called once for each part, 0 .. n_threads - 1, part 0 on the caller's
 * own thread.  The parts meet at barriers inside the job (team_meet); the barrier spins for a
 * short while, then sleeps.  Between jobs the threads spin, then sleep.  Jobs of several
 * engines run one after another. */
#ifndef NATIVE_TEAM_H
#define NATIVE_TEAM_H

#include "base/util.h"

#include <pt2/err.h>

#define TEAM_THREAD_NAME "pt2-compute" /* of all but the callers' own */

struct team;

/* new: team_free.  n_threads 0: as many as there are cores this process may use. */
MUST_USE int team_new(unsigned n_threads, struct team **ret_team, struct pt2_err *err);
void team_free(struct team *team);
DEFINE_AUTO(team)
unsigned team_n_threads(const struct team *team);

/* Run the job; returns when every part has.  Any thread. */
void team_run(struct team *team, void (*job)(void *context, unsigned part), void *context);
/* In a job: wait until all parts are here.  What each wrote before, all see after. */
void team_meet(struct team *team);

/* The team of the process, made at first use and kept; n_threads counts at first use. */
MUST_USE int team_shared(unsigned n_threads, struct team **ret_team, struct pt2_err *err);

#endif
