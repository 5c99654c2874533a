#include "jobs/jobs.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "jobs/figures.h"
#include "jobs/impl.h"
#include "jobs/patch.h"

#include <time.h>

int jobs_forget_old(struct jobs *jobs, struct pt2_err *err)
{
    const struct jobs_options *o = &jobs->options;
    int64_t before_ms = o->keep_ms > 0 ? clock_unix_ms() - o->keep_ms : 0;

    return jobs_db_prune(jobs->parts.store, before_ms, o->max_kept, err);
}

/* ---- taking up what the table holds ---- */

static int recover_row(void *ctx, const struct job_row *row, struct pt2_err *err)
{
    struct jobs *jobs = ctx;
    struct job *job = calloc(1, sizeof(*job));
    char share[SHA256_HEX];
    struct run *run;

    if (!job)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a job");
    job->row = *row;
    run_share_key(row->model, row->options, share);
    run = run_find_locked(jobs, share, "", "");
    if (!run) {
        run = run_new(row->model, row->options);
        if (run)
            run_enqueue_locked(jobs, run);
    }
    job->row.model = strdup(row->model);
    job->row.options = strdup(row->options);
    job->row.labels = strdup(row->labels);
    job->row.deviations = strdup(row->deviations);
    job->row.error = NULL;
    if (run)
        job_join_locked(run, job);
    if (!run || !job->row.model || !job->row.options || !job->row.labels ||
        !job->row.deviations) {
        if (!run)
            job_free(job);
        return pt2_err_set(err, PT2_ERR_NOMEM, "a job");
    }
    jobs->n_queued++;
    return 0;
}

static char *interrupted_text(const struct job_row *row)
{
    struct pt2_err err = {0};
    json_auto_t *problem = NULL;

    pt2_err_set(&err, PT2_ERR_WORKER_DIED,
                "the export was interrupted %lld times by the daemon's end",
                (long long)row->attempts);
    problem = json_problem_object(&err);
    return problem ? json_to_text(problem, JSON_COMPACT) : NULL;
}

/* A job that was running when the daemon died waits again, or has failed. */
static int recover_job(struct jobs *jobs, struct job *job, struct pt2_err *err)
{
    bool fails = job->row.attempts >= JOB_MAX_ATTEMPTS;
    AUTO_PTR char *error = NULL;
    struct patch patch;

    if (job->row.state != JOB_RUNNING)
        return 0;
    patch_begin(&patch, fails ? JOB_FAILED : JOB_QUEUED);
    if (fails)
        patch.error = error = interrupted_text(&job->row);
    if (patch_write(&patch, jobs->parts.store, &job->row, err) < 0)
        return -1;
    figures_job_ends(&job->row, &patch);
    patch_apply(&patch, job);
    if (fails) {
        job_leave_locked(job);
        job_free(job);
        jobs->n_queued--;
    }
    return 0;
}

static int recover_run(struct jobs *jobs, struct run *run, struct pt2_err *err)
{
    struct job *job, *next;

    for (job = run->jobs; job; job = next) {
        next = job->next;
        if (recover_job(jobs, job, err) < 0)
            return -1;
    }
    if (!run->jobs) {
        run_unlink_locked(jobs, run);
        run_free(run);
    }
    return 0;
}

/* Before the workers start. */
static int recover(struct jobs *jobs, struct pt2_err *err)
{
    struct run *run, *next;

    if (jobs_forget_old(jobs, err) < 0)
        return -1;
    if (jobs_db_unfinished(jobs->parts.store, recover_row, jobs, err) < 0)
        return -1;
    for (run = jobs->queue; run; run = next) {
        next = run->next;
        if (recover_run(jobs, run, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- start and stop ---- */

static int start_workers(struct jobs *jobs, struct pt2_err *err)
{
    jobs->threads = calloc(jobs->options.n_workers, sizeof(*jobs->threads));
    if (!jobs->threads)
        return pt2_err_set(err, PT2_ERR_NOMEM, "export workers");
    for (unsigned i = 0; i < jobs->options.n_workers; i++) {
        if (pthread_create(&jobs->threads[i], NULL, worker_main, jobs) != 0)
            return pt2_err_set(err, PT2_ERR_INTERNAL, "no thread for an export worker");
        jobs->n_threads++;
    }
    return 0;
}

int jobs_new(const struct jobs_parts *parts, const struct jobs_options *options,
             struct jobs **ret_jobs, struct pt2_err *err)
{
    AUTO(jobs) jobs = calloc(1, sizeof(*jobs));
    pthread_condattr_t attr;

    if (!jobs)
        return pt2_err_set(err, PT2_ERR_NOMEM, "jobs");
    ASSERT(options->n_workers > 0);
    jobs->parts = *parts;
    jobs->options = *options;
    jobs->queue_end = &jobs->queue;
    figures_jobs_init(options);
    pthread_mutex_init(&jobs->change, NULL);
    pthread_mutex_init(&jobs->mutex, NULL);
    pthread_cond_init(&jobs->has_work, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&jobs->run_ended, &attr);
    pthread_condattr_destroy(&attr);
    jobs->export_path = strdup(options->export_path);
    if (!jobs->export_path)
        return pt2_err_set(err, PT2_ERR_NOMEM, "jobs");
    if (recover(jobs, err) < 0 || start_workers(jobs, err) < 0)
        return -1;
    *ret_jobs = TAKE(jobs);
    return 0;
}

void jobs_drain(struct jobs *jobs)
{
    pthread_mutex_lock(&jobs->mutex);
    jobs->is_draining = true;
    pthread_mutex_unlock(&jobs->mutex);
}

static void wait_for_runs(struct jobs *jobs, int64_t grace_ms)
{
    int64_t until = clock_mono_ms() + grace_ms;
    struct timespec at = {.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};

    pthread_mutex_lock(&jobs->mutex);
    while (jobs->n_running > 0 && clock_mono_ms() < until)
        pthread_cond_timedwait(&jobs->run_ended, &jobs->mutex, &at);
    pthread_mutex_unlock(&jobs->mutex);
}

static void interrupt_runs(struct jobs *jobs)
{
    pthread_mutex_lock(&jobs->mutex);
    jobs->is_interrupted = jobs->is_stopped = true;
    for (struct run *run = jobs->running; run; run = run->next)
        run_stop_locked(run);
    pthread_cond_broadcast(&jobs->has_work);
    pthread_mutex_unlock(&jobs->mutex);
}

void jobs_stop(struct jobs *jobs, int64_t grace_ms)
{
    jobs_drain(jobs);
    wait_for_runs(jobs, grace_ms);
    interrupt_runs(jobs);
    for (unsigned i = 0; i < jobs->n_threads; i++)
        pthread_join(jobs->threads[i], NULL);
    jobs->n_threads = 0;
}

static void free_runs(struct run *run)
{
    struct run *next;
    struct job *job;

    for (; run; run = next) {
        next = run->next;
        while ((job = run->jobs)) {
            job_leave_locked(job);
            job_free(job);
        }
        run_free(run);
    }
}

void jobs_free(struct jobs *jobs)
{
    if (!jobs)
        return;
    jobs_stop(jobs, 0);
    free_runs(jobs->running);
    free_runs(jobs->queue);
    pthread_cond_destroy(&jobs->run_ended);
    pthread_cond_destroy(&jobs->has_work);
    pthread_mutex_destroy(&jobs->mutex);
    pthread_mutex_destroy(&jobs->change);
    free(jobs->threads);
    free(jobs->export_path);
    free(jobs);
}
