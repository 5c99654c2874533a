/* jobs.h - export jobs: a durable queue, and workers that turn models into programs.
 *
 * A job is a row in the database before jobs_submit returns.  Jobs that ask for the same
 * model and options share one run; a run is one `pt2-export --job` child process, started
 * by a worker thread (worker.c) with limits and no network, and others that make a .pte of
 * what it wrote and verify it where the options say so (produce.h).  The program is found again
 * by its key (build_key.h), and then no run is needed.  A job whose run's child died, or
 * was interrupted by the daemon's own end, three times is failed.  A start re-queues what
 * was queued or running.
 *
 *     queued ──► running ──► succeeded | failed
 *        └──────────┴──────► cancelled
 *
 * Any thread.  All calls but jobs_watch, jobs_unwatch, jobs_drain and jobs_figures wait for the
 * database, so not on an HTTP thread. */
#ifndef JOBS_JOBS_H
#define JOBS_JOBS_H

#include "base/util.h"
#include "store/jobs_db.h"
#include "store/models.h"
#include "store/objects.h"
#include "store/programs.h"
#include "store/store.h"

#include <jansson.h>
#include <pt2/checkpoint.h>
#include <pt2/engine.h>

struct jobs;

#define JOB_MAX_ATTEMPTS 3

struct jobs_parts { /* all borrowed */
    struct store *store;
    struct objects *objects;
    struct programs *programs;
    struct models *models;
};

struct jobs_options {
    unsigned n_workers;        /* runs at once, 1 and more */
    size_t max_queued;         /* jobs; beyond, QUEUE_FULL */
    int64_t timeout_ms;        /* of one run's children */
    uint64_t max_memory_bytes; /* of the child that exports; 0: no limit */
    struct pt2_engine_options engine; /* of those that verify; kind is not read */
    int64_t keep_ms;           /* how long finished jobs are kept; 0: for ever */
    int64_t max_kept;          /* finished jobs are among so many that came last */
    const char *export_path;   /* pt2-export, copied */
};

/* Take up what the table holds, and start the workers.  new: jobs_free.
 * Errors: IO, NO_SPACE, NOMEM, INTERNAL (no thread). */
MUST_USE int jobs_new(const struct jobs_parts *parts, const struct jobs_options *options,
                      struct jobs **ret_jobs, struct pt2_err *err);
/* Begin no more runs; what runs goes on. */
void jobs_drain(struct jobs *jobs);
/* Drain, wait up to grace_ms for what runs, then interrupt it: its jobs are queued for
 * the next start, with no strike against them. */
void jobs_stop(struct jobs *jobs, int64_t grace_ms);
/* After jobs_stop, which it calls where that was left out; after all watches ended. */
void jobs_free(struct jobs *jobs);
DEFINE_AUTO(jobs)

/* ---- asking for one ---- */

struct jobs_request {
    const char *model;                       /* id */
    const struct pt2_checkpoint *checkpoint; /* open, borrowed */
    const json_t *options;    /* all resolved, as export_options_to_json gives them */
    const json_t *deviations; /* array of strings, as known before the run */
    const json_t *labels;     /* object; NULL: none */
    const char *owner;        /* base/owner.h; NULL: nobody */
    const char *holder;       /* as whose it counts; NULL or "": the owner's */
    size_t max_unfinished;    /* of the holder's; beyond, TOKEN_LIMIT; 0: any number */
    uint64_t program_bytes;   /* of the files to come */
    /* Called within the transaction that records the job; -1 undoes it.  NULL: none. */
    int (*also)(void *ctx, const json_t *job, struct pt2_err *err);
    void *ctx;
};

/* Make a job: durable on return, succeeded where the program is there already.
 * *ret_job is new, the object that API.md shows.
 * Errors: QUEUE_FULL, TOKEN_LIMIT, NO_SPACE (also where the file would not fit), IO,
 * NOMEM. */
MUST_USE int jobs_submit(struct jobs *jobs, const struct jobs_request *request,
                         json_t **ret_job, struct pt2_err *err);

/* ---- one of them: that who (base/owner.h) sees, else NOT_FOUND ---- */

/* *ret_job is new; state and version (struct jobs_event) may be NULL.
 * Errors: NOT_FOUND, IO, NOMEM. */
MUST_USE int jobs_get(struct jobs *jobs, const char *id, const char *who,
                      enum job_state *ret_state, int64_t *ret_version, json_t **ret_job,
                      struct pt2_err *err);
/* The run goes on while another job shares it.  Errors: NOT_FOUND, CONFLICT (finished),
 * IO, NO_SPACE. */
MUST_USE int jobs_cancel(struct jobs *jobs, const char *id, const char *who,
                         json_t **ret_job, struct pt2_err *err);
/* Forget a finished one.  Errors: NOT_FOUND, CONFLICT (not finished), IO. */
MUST_USE int jobs_delete(struct jobs *jobs, const char *id, const char *who,
                         struct pt2_err *err);

/* Newest first, those that came before the cursor (0: from the newest).  *ret_list is
 * new; *ret_next 0: no more.  Errors: IO, NOMEM. */
MUST_USE int jobs_list(struct jobs *jobs, const struct jobs_filter *filter, int64_t limit,
                       int64_t before, json_t **ret_list, int64_t *ret_next,
                       struct pt2_err *err);

/* ---- following one ---- */

struct jobs_event {
    const char *job; /* JSON text, borrowed for the call; NULL: out of memory */
    size_t len;
    int64_t version; /* grows with every change of the job */
    bool is_finished;
};

/* Embedded by the caller; untouched by it while it watches. */
struct jobs_watch {
    /* A change: at most ten a second, and always the last.  Called under the lock of
     * jobs: must not wait, nor call jobs.  After an event that is_finished there are no
     * more. */
    void (*changed)(struct jobs_watch *watch, const struct jobs_event *event);
    struct jobs_watch *next, **link; /* jobs' own */
};

/* Follow an unfinished job.  First of all changed is called once with its present state,
 * before this returns.  True: watched, until the last event or jobs_unwatch.  False: it
 * is finished or unknown to who (jobs_get says which); changed was not called. */
bool jobs_watch(struct jobs *jobs, const char *id, const char *who,
                struct jobs_watch *watch);
/* No more calls once this returns.  Nothing where the last event was already. */
void jobs_unwatch(struct jobs *jobs, struct jobs_watch *watch);

/* ---- figures ---- */

struct jobs_figures {
    size_t n_queued, max_queued;   /* jobs */
    size_t n_running, max_running; /* runs */
    int64_t oldest_queued_ms;      /* since when the oldest one waits; 0: none does */
};
void jobs_figures(struct jobs *jobs, struct jobs_figures *ret_figures);
/* How many there are of each state.  Errors: IO. */
MUST_USE int jobs_states(struct jobs *jobs, int64_t ret_n[JOB_N_STATES],
                         struct pt2_err *err);

#endif
