/* jobs_db.h - the table of export jobs.  Any thread; waits for the database.
 * Errors of all: IO, NO_SPACE, NOMEM. */
#ifndef STORE_JOBS_DB_H
#define STORE_JOBS_DB_H

#include "base/owner.h"
#include "base/sha256.h"
#include "store/store.h"

#define JOB_ID_SIZE    32 /* "exp_", 26 characters and the '\0', with some to spare */
#define JOB_MAX_LABELS 32 /* that a filter may name */

enum job_state { JOB_QUEUED, JOB_RUNNING, JOB_SUCCEEDED, JOB_FAILED, JOB_CANCELLED };
#define JOB_N_STATES 5

const char *job_state_name(enum job_state state); /* "queued" */
static inline bool job_is_finished(enum job_state state)
{
    return state >= JOB_SUCCEEDED;
}

struct job_row {
    int64_t seq; /* order of arrival, 1 and up */
    char id[JOB_ID_SIZE];
    char owner[OWNER_SIZE];
    enum job_state state;
    char *model;
    char *options;    /* JSON object, all resolved */
    char *labels;     /* JSON object */
    int64_t attempts; /* runs begun and not handed back at a stop */
    int64_t version;  /* grows with each change that a client sees */
    bool cached;
    char program[SHA256_HEX];                    /* "" until succeeded */
    char *deviations;                            /* JSON array */
    char *error;                                 /* JSON problem; NULL: none */
    char *verify; /* JSON object; NULL: not verified, or not yet */
    char *pte;    /* JSON object; NULL: no ExecuTorch program, or not yet */
    int64_t created_ms, started_ms, finished_ms; /* 0: not yet */
};

void job_row_done(struct job_row *row);
#define AUTO_JOB_ROW __attribute__((cleanup(job_row_done))) struct job_row

/* Add one; *ret_seq is its seq. */
MUST_USE int jobs_db_insert(struct store *store, const struct job_row *row,
                            int64_t *ret_seq, struct pt2_err *err);
/* Write what can change of the row of that id: state, attempts, version, cached, program,
 * deviations, error, verify, pte, started, finished. */
MUST_USE int jobs_db_update(struct store *store, const struct job_row *row,
                            struct pt2_err *err);
/* *ret_row must be empty. */
MUST_USE int jobs_db_find(struct store *store, const char *id, bool *ret_found,
                          struct job_row *ret_row, struct pt2_err *err);
MUST_USE int jobs_db_delete(struct store *store, const char *id, struct pt2_err *err);
/* Forget what finished before that time (0: nothing for its age), and what finished and is
 * not among the max_kept that came last. */
MUST_USE int jobs_db_prune(struct store *store, int64_t before_ms, int64_t max_kept,
                           struct pt2_err *err);

struct jobs_filter {
    int state;         /* enum job_state; -1: any */
    const char *who;   /* who asks: sees his own; NULL: all */
    const char *model; /* NULL: any */
    size_t n_labels;
    struct {
        const char *name, *value;
    } labels[JOB_MAX_LABELS];
};
typedef int jobs_db_each(void *ctx, const struct job_row *row, struct pt2_err *err);
/* Newest first, those with a seq below before (0: from the newest). */
MUST_USE int jobs_db_list(struct store *store, const struct jobs_filter *filter,
                          int64_t before, int64_t limit, jobs_db_each *each, void *ctx,
                          struct pt2_err *err);
/* How many there are of each state. */
MUST_USE int jobs_db_count(struct store *store, int64_t ret_n[JOB_N_STATES],
                           struct pt2_err *err);
/* All that are queued or running, oldest first. */
MUST_USE int jobs_db_unfinished(struct store *store, jobs_db_each *each, void *ctx,
                                struct pt2_err *err);

#endif
