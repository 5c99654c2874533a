#include "jobs/figures.h"
#include "jobs/impl.h"
#include "jobs/patch.h"

/* A page of a list ends early where the jobs in it hold this much text. */
#define MAX_PAGE_BYTES ((size_t)16 << 20)

static int not_found(const char *id, struct pt2_err *err)
{
    return pt2_err_set(err, PT2_ERR_NOT_FOUND, "there is no export '%.60s'", id);
}

/* *ret_job NULL: there is no unfinished one of that id.  -1: out of memory. */
static int find_live(struct jobs *jobs, const char *id, const char *who,
                     enum job_state *ret_state, int64_t *ret_version, json_t **ret_job)
{
    const struct job *job;
    json_t *json = NULL;

    pthread_mutex_lock(&jobs->mutex);
    job = job_find_locked(jobs, id, who);
    if (job) {
        json = job_to_json(&job->row, job->run);
        *ret_state = job->row.state;
        *ret_version = job_version(&job->row, job->n_told);
    }
    pthread_mutex_unlock(&jobs->mutex);
    *ret_job = json;
    return job && !json ? -1 : 0;
}

static int find_row(struct jobs *jobs, const char *id, const char *who,
                    struct job_row *ret_row, struct pt2_err *err)
{
    bool found;

    if (jobs_db_find(jobs->parts.store, id, &found, ret_row, err) < 0)
        return -1;
    return found && owner_is_seen_by(ret_row->owner, who) ? 0 : not_found(id, err);
}

int jobs_get(struct jobs *jobs, const char *id, const char *who,
             enum job_state *ret_state, int64_t *ret_version, json_t **ret_job,
             struct pt2_err *err)
{
    enum job_state state = JOB_QUEUED;
    AUTO_JOB_ROW row = {0};
    int64_t version = 0;
    json_t *json;

    if (find_live(jobs, id, who, &state, &version, &json) < 0)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a job");
    if (!json) {
        if (find_row(jobs, id, who, &row, err) < 0)
            return -1;
        state = row.state;
        version = job_version(&row, 0);
        json = job_to_json(&row, NULL);
        if (!json)
            return pt2_err_set(err, PT2_ERR_NOMEM, "a job");
    }
    if (ret_state)
        *ret_state = state;
    if (ret_version)
        *ret_version = version;
    *ret_job = json;
    return 0;
}

/* ---- cancelling ---- */

static int refuse_cancel(struct jobs *jobs, const char *id, const char *who,
                         struct pt2_err *err)
{
    AUTO_JOB_ROW row = {0};

    if (find_row(jobs, id, who, &row, err) < 0)
        return -1;
    return pt2_err_set(err, PT2_ERR_CONFLICT, "export '%s' is %s already", id,
                       job_state_name(row.state));
}

/* The job is cancelled; so is its run, where nobody else is in it. */
static json_t *leave_locked(struct jobs *jobs, struct job *job, const struct patch *patch)
{
    struct run *run = job->run;
    json_t *json;

    patch_apply(patch, job);
    json = job_to_json(&job->row, run);
    job_tell_locked(job);
    job_leave_locked(job);
    job_free(job);
    if (!run->is_running)
        jobs->n_queued--;
    if (run->jobs)
        return json;
    run->is_closed = run->is_cancelled = true;
    if (run->is_running) {
        run_stop_locked(run);
    } else {
        run_unlink_locked(jobs, run);
        run_free(run);
    }
    return json;
}

/* The holder of change. */
static int cancel(struct jobs *jobs, const char *id, const char *who, json_t **ret_job,
                  struct pt2_err *err)
{
    struct patch patch;
    struct job *job;

    pthread_mutex_lock(&jobs->mutex);
    job = job_find_locked(jobs, id, who);
    pthread_mutex_unlock(&jobs->mutex);
    if (!job)
        return refuse_cancel(jobs, id, who, err);
    patch_begin(&patch, JOB_CANCELLED);
    if (patch_write(&patch, jobs->parts.store, &job->row, err) < 0)
        return -1;
    figures_job_ends(&job->row, &patch);
    pthread_mutex_lock(&jobs->mutex);
    *ret_job = leave_locked(jobs, job, &patch);
    pthread_mutex_unlock(&jobs->mutex);
    return *ret_job ? 0 : pt2_err_set(err, PT2_ERR_NOMEM, "a job");
}

int jobs_cancel(struct jobs *jobs, const char *id, const char *who, json_t **ret_job,
                struct pt2_err *err)
{
    int r;

    pthread_mutex_lock(&jobs->change);
    r = cancel(jobs, id, who, ret_job, err);
    pthread_mutex_unlock(&jobs->change);
    return r;
}

int jobs_delete(struct jobs *jobs, const char *id, const char *who, struct pt2_err *err)
{
    AUTO_JOB_ROW row = {0};
    int r;

    pthread_mutex_lock(&jobs->change);
    r = find_row(jobs, id, who, &row, err);
    if (r == 0 && !job_is_finished(row.state))
        r = pt2_err_set(err, PT2_ERR_CONFLICT, "export '%s' is %s: cancel it first", id,
                        job_state_name(row.state));
    if (r == 0)
        r = jobs_db_delete(jobs->parts.store, id, err);
    pthread_mutex_unlock(&jobs->change);
    return r;
}

/* ---- lists ---- */

struct listing {
    struct jobs *jobs;
    json_t *list;
    int64_t limit, last;
    size_t bytes;
    bool has_more;
};

static int list_row(void *ctx, const struct job_row *row, struct pt2_err *err)
{
    struct listing *l = ctx;
    enum job_state state;
    int64_t version;
    json_t *json = NULL;

    if ((int64_t)json_array_size(l->list) == l->limit || l->bytes > MAX_PAGE_BYTES) {
        l->has_more = true;
        return 0;
    }
    l->last = row->seq;
    l->bytes += strlen(row->options);
    if (!job_is_finished(row->state) &&
        find_live(l->jobs, row->id, /* who= */ NULL, &state, &version, &json) < 0)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a list of jobs");
    if (!json)
        json = job_to_json(row, NULL);
    if (json_array_append_new(l->list, json) < 0)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a list of jobs");
    return 0;
}

int jobs_list(struct jobs *jobs, const struct jobs_filter *filter, int64_t limit,
              int64_t before, json_t **ret_list, int64_t *ret_next, struct pt2_err *err)
{
    json_auto_t *list = json_array();
    struct listing l = {.jobs = jobs, .list = list, .limit = limit};

    if (jobs_db_list(jobs->parts.store, filter, before, limit + 1, list_row, &l, err) < 0)
        return -1;
    *ret_next = l.has_more ? l.last : 0;
    *ret_list = json_incref(list);
    return 0;
}
