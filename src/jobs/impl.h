/* impl.h - what the files of jobs share: jobs, runs and their locks.
 *
 * Two locks, taken in this order:
 *   change  held by whoever changes a job's state, while it writes the database and then
 *           the structs; so writes and structs are in the same order.  Waits for the
 * disk. mutex   guards the structs, the queue and the watches; never held while waiting.
 * With `change` alone the structs may be read (nobody else writes them, but for a run's
 * progress); writing takes both.  The store's own lock comes between the two: the list of
 * jobs takes mutex while it reads the table. */
#ifndef JOBS_IMPL_H
#define JOBS_IMPL_H

#include "base/sha256.h"
#include "jobs/jobs.h"

#include <pthread.h>

#define STAGE_SIZE 32

struct run;

/* Reports of progress between two changes of state; beyond, versions would repeat.  At
 * ten a second they are enough for a day. */
#define JOB_MAX_TOLD 1000000

/* An unfinished job. */
struct job {
    struct job_row row;
    char holder[OWNER_SIZE]; /* as whose it counts; "": row.owner */
    int64_t n_told; /* reports of progress since row.version */
    struct run *run;
    struct job *next, **link; /* among those of its run */
    struct jobs_watch *watches;
};

/* What one child process makes, for the jobs that share it. */
struct run {
    char share[SHA256_HEX];    /* model and options: who may join while it waits */
    char identity[SHA256_HEX]; /* of the files it reads; "" until they are open */
    char key[SHA256_HEX];      /* build_key.h; "" until it is known */
    char *model, *options;
    struct job *jobs;
    bool is_running;
    bool is_closed;    /* no job may join any more */
    bool is_cancelled; /* closed, because nobody wants it */
    int stop_fd;       /* eventfd: readable once the run has to end */
    char stage[STAGE_SIZE];
    int64_t done, total;
    int64_t told_ms;          /* of the last progress that watches saw */
    struct run *next, **link; /* in the queue, or among those that run */
};

struct jobs {
    struct jobs_parts parts;
    struct jobs_options options;
    char *export_path;
    pthread_t *threads;
    unsigned n_threads;
    pthread_mutex_t change;
    pthread_mutex_t mutex;
    pthread_cond_t has_work;  /* for workers: a run was queued, or the end has come */
    pthread_cond_t run_ended; /* for jobs_stop */
    struct run *queue, **queue_end, *running;
    size_t n_queued;  /* jobs; those being submitted count too */
    size_t n_running; /* runs that a worker holds */
    bool is_draining, is_interrupted, is_stopped;
};

static inline int64_t job_version(const struct job_row *row, int64_t n_told)
{
    return row->version * JOB_MAX_TOLD + n_told;
}

/* job_json.c: the object of API.md.  run may be NULL.  new; NULL: out of memory. */
json_t *job_to_json(const struct job_row *row, const struct run *run);

/* ---- run.c: with both locks held, where the name says locked ---- */

/* NULL: out of memory. */
struct run *run_new(const char *model, const char *options);
void run_free(struct run *run); /* has no jobs */
void run_share_key(const char *model, const char *options, char ret_share[SHA256_HEX]);
/* A run that a new job with these may join; NULL: none.  identity and key may be "". */
struct run *run_find_locked(struct jobs *jobs, const char *share, const char *identity,
                            const char *key);
struct run *run_with_key_locked(struct jobs *jobs, const char *key,
                                const struct run *but);
void run_enqueue_locked(struct jobs *jobs, struct run *run);
/* Out of the queue or the running ones. */
void run_unlink_locked(struct jobs *jobs, struct run *run);
void run_stop_locked(struct run *run);

/* NULL: there is none that who sees. */
struct job *job_find_locked(struct jobs *jobs, const char *id, const char *who);
size_t job_count_locked(const struct jobs *jobs, const char *holder);
void job_join_locked(struct run *run, struct job *job);
void job_leave_locked(struct job *job);
void job_free(struct job *job); /* has no watches and no run */

/* Tell the job's watches of a change; a finished job's watches end. */
void job_tell_locked(struct job *job);

/* ---- jobs.c ---- */

/* Jobs that finished longer ago than they are kept. */
int jobs_forget_old(struct jobs *jobs, struct pt2_err *err);

/* ---- worker.c ---- */

void *worker_main(void *jobs);

#endif
