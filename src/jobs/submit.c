#include "base/clock.h"
#include "base/json.h"
#include "base/metrics.h"
#include "jobs/build_key.h"
#include "jobs/figures.h"
#include "jobs/impl.h"
#include "store/builds_db.h"
#include "store/programs.h"

#include <sys/random.h>

/* Files that are not remembered are read at once up to here; more is a worker's work. */
#define MAX_QUICK_BYTES ((uint64_t)16 << 20)

struct submission {
    struct jobs *jobs;
    const struct jobs_request *request;
    struct job *job; /* owned until it has joined a run */
    char key[SHA256_HEX], identity[SHA256_HEX], share[SHA256_HEX];
};

/* ---- the row ---- */

static int make_id(char ret_id[JOB_ID_SIZE], struct pt2_err *err)
{
    uint8_t random[13];

    if (getrandom(random, sizeof(random), 0) != sizeof(random))
        return pt2_err_errno(err, PT2_ERR_INTERNAL, "getrandom");
    ret_id += snprintf(ret_id, JOB_ID_SIZE, "exp_");
    for (size_t i = 0; i < sizeof(random); i++)
        ret_id += snprintf(ret_id, 3, "%02x", random[i]);
    return 0;
}

static int fill_row(const struct jobs_request *request, struct job_row *row,
                    struct pt2_err *err)
{
    if (make_id(row->id, err) < 0)
        return -1;
    row->state = JOB_QUEUED;
    row->version = 1;
    row->created_ms = clock_unix_ms();
    snprintf(row->owner, sizeof(row->owner), "%s", request->owner ? request->owner : "");
    row->model = strdup(request->model);
    row->options = json_canonical(request->options);
    row->labels = request->labels ? json_canonical(request->labels) : strdup("{}");
    row->deviations = json_to_text(request->deviations, JSON_COMPACT);
    if (!row->model || !row->options || !row->labels || !row->deviations)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a job");
    return 0;
}

/* Is there a program of that key?  Then the job has succeeded before it began. */
static int find_build(struct submission *s, struct pt2_err *err)
{
    struct job_row *row = &s->job->row;
    struct store *store = s->jobs->parts.store;
    struct build build;
    bool found = false;

    if (build_key_quick(store, s->request->checkpoint, row->options, MAX_QUICK_BYTES,
                        &found, s->key, err) < 0)
        return -1;
    if (!found) {
        s->key[0] = '\0';
        return 0;
    }
    if (build_find(&s->jobs->parts, s->key, WHOLE_BE_SHORT, &found, &build, err) < 0)
        return -1;
    if (!found)
        return 0;
    memcpy(row->program, build.program, sizeof(row->program));
    free(row->deviations);
    row->deviations = build.deviations;
    row->verify = build.verify;
    row->pte = build.pte;
    row->state = JOB_SUCCEEDED;
    row->cached = true;
    row->started_ms = row->finished_ms = row->created_ms;
    return 0;
}

/* ---- a place in the queue ---- */

static int reserve(struct jobs *jobs, struct pt2_err *err)
{
    int r = 0;

    pthread_mutex_lock(&jobs->mutex);
    if (jobs->n_queued >= jobs->options.max_queued) {
        metrics_add(METRIC_JOBS_REFUSED, 1, NULL);
        r = pt2_err_set(err, PT2_ERR_QUEUE_FULL, "%zu of %zu exports wait already",
                        jobs->n_queued, jobs->options.max_queued);
    } else {
        jobs->n_queued++;
    }
    pthread_mutex_unlock(&jobs->mutex);
    return r;
}

static void give_back(struct jobs *jobs)
{
    pthread_mutex_lock(&jobs->mutex);
    jobs->n_queued--;
    pthread_mutex_unlock(&jobs->mutex);
}

/* ---- recording ---- */

static int insert_within(struct submission *s, json_t **ret_job, struct pt2_err *err)
{
    const struct jobs_request *request = s->request;
    struct job_row *row = &s->job->row;
    json_auto_t *json = NULL;

    if (jobs_db_insert(s->jobs->parts.store, row, &row->seq, err) < 0)
        return -1;
    json = job_to_json(row, NULL);
    if (!json)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a job");
    if (request->also && request->also(request->ctx, json, err) < 0)
        return -1;
    *ret_job = json_incref(json);
    return 0;
}

static int insert(struct submission *s, json_t **ret_job, struct pt2_err *err)
{
    struct store *store = s->jobs->parts.store;
    json_t *json = NULL;

    if (store_begin(store, err) < 0)
        return -1;
    if (insert_within(s, &json, err) < 0) {
        store_rollback(store);
        return -1;
    }
    if (store_commit(store, err) < 0) {
        json_decref(json);
        return -1;
    }
    *ret_job = json;
    return 0;
}

/* The holder of change, so that nobody else comes between. */
static int check_limit(const struct submission *s, struct pt2_err *err)
{
    const char *holder = s->request->holder && *s->request->holder
                             ? s->request->holder
                             : s->job->row.owner;
    size_t max = s->request->max_unfinished, n;

    if (!max)
        return 0;
    pthread_mutex_lock(&s->jobs->mutex);
    n = job_count_locked(s->jobs, holder);
    pthread_mutex_unlock(&s->jobs->mutex);
    if (n < max)
        return 0;
    metrics_add(METRIC_HTTP_REFUSED, 1, METRICS_LABELS("exports"));
    return pt2_err_set(err, PT2_ERR_TOKEN_LIMIT,
                       "%zu exports of '%s' are unfinished, and %zu may be", n,
                       holder, max);
}

static int insert_cached(struct submission *s, json_t **ret_job, struct pt2_err *err)
{
    const struct job_row *row = &s->job->row;
    const struct patch patch = {
        .state = row->state, .cached = true, .now_ms = row->finished_ms};

    if (insert(s, ret_job, err) < 0)
        return -1;
    figures_job_ends(row, &patch);
    (void)!jobs_forget_old(s->jobs, NULL); /* no run ends that would */
    return 0;
}

/* The run that will do it, a new one at the end of the queue where there is none.  Where
 * it runs already the job runs as well.  The holder of change. */
static int choose_run(struct submission *s, struct run **ret_run, struct pt2_err *err)
{
    const struct job_row *row = &s->job->row;
    struct run *run;

    pthread_mutex_lock(&s->jobs->mutex);
    run = run_find_locked(s->jobs, s->share, s->identity, s->key);
    pthread_mutex_unlock(&s->jobs->mutex);
    if (run && run->is_running) {
        s->job->row.state = JOB_RUNNING;
        s->job->row.attempts = 1;
        s->job->row.started_ms = s->job->row.created_ms;
    }
    *ret_run = run ? run : run_new(row->model, row->options);
    return *ret_run ? 0 : pt2_err_set(err, PT2_ERR_NOMEM, "a run");
}

static void join(struct submission *s, struct run *run)
{
    struct jobs *jobs = s->jobs;

    pthread_mutex_lock(&jobs->mutex);
    if (!run->link)
        run_enqueue_locked(jobs, run);
    if (run->is_running)
        jobs->n_queued--;
    job_join_locked(run, TAKE(s->job));
    pthread_mutex_unlock(&jobs->mutex);
}

static int queue(struct submission *s, json_t **ret_job, struct pt2_err *err)
{
    struct jobs *jobs = s->jobs;
    struct run *run = NULL;
    int r;

    build_identity(s->request->checkpoint, s->identity);
    run_share_key(s->job->row.model, s->job->row.options, s->share);
    pthread_mutex_lock(&jobs->change);
    r = check_limit(s, err);
    if (r == 0)
        r = choose_run(s, &run, err);
    if (r == 0)
        r = insert(s, ret_job, err);
    if (r == 0)
        join(s, run);
    else if (run && !run->link)
        run_free(run);
    pthread_mutex_unlock(&jobs->change);
    return r;
}

static int submit(struct submission *s, json_t **ret_job, struct pt2_err *err)
{
    if (fill_row(s->request, &s->job->row, err) < 0 || find_build(s, err) < 0)
        return -1;
    if (s->job->row.state == JOB_SUCCEEDED)
        return insert_cached(s, ret_job, err);
    if (programs_check_room(s->jobs->parts.programs, s->request->program_bytes, err) < 0 ||
        reserve(s->jobs, err) < 0)
        return -1;
    if (queue(s, ret_job, err) == 0)
        return 0;
    give_back(s->jobs);
    return -1;
}

int jobs_submit(struct jobs *jobs, const struct jobs_request *request, json_t **ret_job,
                struct pt2_err *err)
{
    struct submission s = {.jobs = jobs, .request = request};
    int r;

    s.job = calloc(1, sizeof(*s.job));
    if (!s.job)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a job");
    snprintf(s.job->holder, sizeof(s.job->holder), "%s",
             request->holder ? request->holder : "");
    r = submit(&s, ret_job, err);
    job_free(s.job);
    return r;
}
