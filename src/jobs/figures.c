#include "jobs/figures.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/metrics.h"

static const char *const formats[] = {"pt2", "pte"};

void figures_jobs_init(const struct jobs_options *options)
{
    static const char *const outcomes[] = {"succeeded", "cached", "failed", "cancelled"};

    metrics_set(METRIC_JOB_WORKERS, options->n_workers, NULL);
    metrics_set(METRIC_JOBS_QUEUE_LIMIT, (double)options->max_queued, NULL);
    /* So that the first one of a kind is an increase. */
    for (size_t i = 0; i < ARRAY_LEN(outcomes); i++)
        for (size_t f = 0; f < ARRAY_LEN(formats); f++)
            metrics_add(METRIC_JOBS_FINISHED, 0, METRICS_LABELS(outcomes[i], formats[f]));
}

static const char *format_of(const struct job_row *row)
{
    json_auto_t *options = json_of_text(row->options);
    const char *format = json_string_value(json_object_get(options, "format"));

    return format && streq(format, "pte") ? formats[1] : formats[0];
}

void figures_job_begins(const struct job_row *row, const struct patch *patch)
{
    metrics_observe(METRIC_JOB_QUEUE, (double)(patch->now_ms - row->created_ms) / 1000,
                    NULL);
}

void figures_job_ends(const struct job_row *row, const struct patch *patch)
{
    bool is_success = patch->state == JOB_SUCCEEDED;
    int64_t ms = row->started_ms ? patch->now_ms - row->started_ms : 0;
    const char *format;

    if (!job_is_finished(patch->state))
        return;
    format = format_of(row);
    metrics_add(METRIC_JOBS_FINISHED, 1,
                METRICS_LABELS(is_success && patch->cached ? "cached"
                                                           : job_state_name(patch->state),
                               format));
    if (is_success && !patch->cached)
        metrics_observe(METRIC_JOB_DURATION, (double)ms / 1000, METRICS_LABELS(format));
    log_info("export %s of model '%s' %s%s after %lld ms", row->id, row->model,
             job_state_name(patch->state), patch->cached ? " (cached)" : "",
             (long long)ms);
}

void figures_run_ends(const struct run *run, const struct patch *patch)
{
    for (const struct job *job = run->jobs; job; job = job->next)
        figures_job_ends(&job->row, patch);
}

void jobs_figures(struct jobs *jobs, struct jobs_figures *ret_figures)
{
    struct jobs_figures f = {.max_queued = jobs->options.max_queued,
                             .max_running = jobs->options.n_workers};
    int64_t oldest_ms = INT64_MAX;

    pthread_mutex_lock(&jobs->mutex);
    f.n_queued = jobs->n_queued;
    f.n_running = jobs->n_running;
    for (const struct run *run = jobs->queue; run; run = run->next)
        if (run->jobs)
            oldest_ms = MIN(oldest_ms, run->jobs->row.created_ms);
    pthread_mutex_unlock(&jobs->mutex);
    if (oldest_ms != INT64_MAX)
        f.oldest_queued_ms = MAX(clock_unix_ms() - oldest_ms, 0);
    *ret_figures = f;
}

int jobs_states(struct jobs *jobs, int64_t ret_n[JOB_N_STATES], struct pt2_err *err)
{
    return jobs_db_count(jobs->parts.store, ret_n, err);
}
