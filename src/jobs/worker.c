#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/metrics.h"
#include "jobs/build_key.h"
#include "jobs/figures.h"
#include "jobs/impl.h"
#include "jobs/patch.h"
#include "jobs/produce.h"
#include "store/builds_db.h"

#include <poll.h>

#define TELL_MS  100  /* at least, between two reports of progress in one stage */
#define RETRY_MS 5000 /* the database did not take a change */

/* How a run went, and what its jobs become by it. */
enum ending {
    RUN_SUCCEEDED,   /* recorded and shown already, together with the program */
    RUN_FAILED,      /* problem */
    RUN_DIED,        /* problem, after the last of three attempts */
    RUN_INTERRUPTED, /* the daemon stops */
    RUN_CANCELLED,   /* nobody wants it any more */
    RUN_MERGED,      /* another run makes the same */
};

struct attempt {
    struct jobs *jobs;
    struct run *run;
    char path[PATH_MAX]; /* the model's folder */
    bool is_pinned;      /* it keeps its name */
    struct pt2_checkpoint *checkpoint;
    struct temp_file temp, pte;
    uint8_t pte_sha256[SHA256_BYTES];
    struct patch patch; /* of success */
    struct build build; /* what was found, or made */
    json_t *problem;
};

/* ---- progress ---- */

static void report(struct attempt *a, const char *stage, int64_t done, int64_t total)
{
    struct jobs *jobs = a->jobs;
    struct run *run = a->run;
    int64_t now = clock_mono_ms();
    bool is_due;

    pthread_mutex_lock(&jobs->mutex);
    is_due = !streq(run->stage, stage) || now - run->told_ms >= TELL_MS;
    snprintf(run->stage, sizeof(run->stage), "%s", stage);
    run->done = done;
    run->total = total;
    if (is_due) {
        run->told_ms = now;
        for (struct job *job = run->jobs; job; job = job->next) {
            job->n_told++;
            job_tell_locked(job);
        }
    }
    pthread_mutex_unlock(&jobs->mutex);
}

static void child_progress(void *ctx, const char *stage, int64_t done, int64_t total)
{
    report(ctx, stage, done, total);
}

static bool must_stop(const struct attempt *a)
{
    bool stop;

    pthread_mutex_lock(&a->jobs->mutex);
    stop = a->run->is_cancelled || a->jobs->is_interrupted;
    pthread_mutex_unlock(&a->jobs->mutex);
    return stop;
}

static bool digest_progress(void *ctx, uint64_t done, uint64_t total)
{
    report(ctx, "digest", (int64_t)done, (int64_t)total);
    return !must_stop(ctx);
}

/* ---- problems ---- */

static enum ending failed(struct attempt *a, const struct pt2_err *err)
{
    json_decref(a->problem);
    a->problem = json_problem_object(err);
    return RUN_FAILED;
}

static enum ending died(struct attempt *a, const char *text)
{
    struct pt2_err err = {0};

    pt2_err_set(&err, PT2_ERR_WORKER_DIED, "%s", text);
    log_warning("export of model '%s': %s", a->run->model, text);
    metrics_add(METRIC_JOB_WORKERS_DIED, 1, NULL);
    failed(a, &err);
    return RUN_DIED;
}

static enum ending stopped(const struct attempt *a)
{
    bool is_cancelled;

    pthread_mutex_lock(&a->jobs->mutex);
    is_cancelled = a->run->is_cancelled;
    pthread_mutex_unlock(&a->jobs->mutex);
    return is_cancelled ? RUN_CANCELLED : RUN_INTERRUPTED;
}

/* ---- changes ---- */

/* A finished job is known by its row alone. */
static void let_go_locked(struct job *job)
{
    job_tell_locked(job);
    job_leave_locked(job);
    job_free(job);
}

/* What was written is true.  The holder of change. */
static void apply_all(struct jobs *jobs, struct run *run, const struct patch *patch)
{
    struct job *job, *next;

    figures_run_ends(run, patch);
    pthread_mutex_lock(&jobs->mutex);
    run->is_closed = job_is_finished(patch->state);
    for (job = run->jobs; job; job = next) {
        next = job->next;
        patch_apply(patch, job);
        if (job_is_finished(patch->state))
            let_go_locked(job);
        else
            job_tell_locked(job);
    }
    pthread_mutex_unlock(&jobs->mutex);
}

/* ---- is it there already? ---- */

static int open_model(struct attempt *a, struct pt2_err *err)
{
    char identity[SHA256_HEX];

    if (models_pin(a->jobs->parts.models, a->run->model, a->path, err) < 0)
        return -1;
    a->is_pinned = true;
    if (pt2_checkpoint_open(a->path, &a->checkpoint, err) < 0)
        return -1;
    build_identity(a->checkpoint, identity);
    pthread_mutex_lock(&a->jobs->mutex);
    memcpy(a->run->identity, identity, sizeof(identity));
    pthread_mutex_unlock(&a->jobs->mutex);
    return 0;
}

/* Before the jobs are seen to be finished, so that nobody finds the model in use by what
 * has ended. */
static void let_go_of_model(struct attempt *a)
{
    if (a->is_pinned)
        models_unpin(a->jobs->parts.models, a->path);
    a->is_pinned = false;
}

/* The holder of change.  1: this run's jobs belong to another one now. */
static int merge(struct attempt *a, const char *key)
{
    struct run *other;
    struct job *job;

    pthread_mutex_lock(&a->jobs->mutex);
    other = run_with_key_locked(a->jobs, key, a->run);
    if (other) {
        a->run->is_closed = true;
        while ((job = a->run->jobs)) {
            job_leave_locked(job);
            job_join_locked(other, job);
        }
    } else {
        memcpy(a->run->key, key, SHA256_HEX);
    }
    pthread_mutex_unlock(&a->jobs->mutex);
    return other != NULL;
}

static void begin_success(struct attempt *a)
{
    patch_begin(&a->patch, JOB_SUCCEEDED);
    a->patch.program = a->build.program;
    a->patch.deviations = a->build.deviations;
    a->patch.verify = a->build.verify;
    a->patch.pte = a->build.pte;
}

/* What a build names may have to be read first (whole.h), which nobody waits for holding change. */
static int settle_build(struct attempt *a, const char *key, struct pt2_err *err)
{
    struct build build = {0};
    bool found;
    int r = build_find(&a->jobs->parts, key, WHOLE_WAIT, &found, &build, err);

    build_done(&build);
    return r;
}

/* The holder of change.  *ret_found: the jobs have succeeded. */
static int use_build(struct attempt *a, const char *key, bool *ret_found,
                     struct pt2_err *err)
{
    struct store *store = a->jobs->parts.store;

    if (builds_db_find(store, key, ret_found, &a->build, err) < 0)
        return -1;
    if (!*ret_found)
        return 0;
    let_go_of_model(a);
    begin_success(a);
    a->patch.cached = true;
    if (patch_write_all(&a->patch, store, a->run, err) < 0)
        return -1;
    apply_all(a->jobs, a->run, &a->patch);
    return 0;
}

/* ---- making it ---- */

static int record_build(void *ctx, const char *id, struct pt2_err *err)
{
    struct attempt *a = ctx;
    struct store *store = a->jobs->parts.store;

    snprintf(a->build.program, sizeof(a->build.program), "%s", id);
    begin_success(a);
    if (builds_db_put(store, a->run->key, &a->build, err) < 0)
        return -1;
    return patch_write_all(&a->patch, store, a->run, err);
}

/* Take what the child wrote as a program.  The holder of change. */
static int keep_program(struct attempt *a, const uint8_t sha256[SHA256_BYTES],
                        struct pt2_err *err)
{
    const struct program_source source = {.origin = PROGRAM_EXPORT,
                                          .model = a->run->model,
                                          .pte = a->build.pte ? &a->pte : NULL,
                                          .pte_sha256 = a->pte_sha256,
                                          .also = record_build,
                                          .ctx = a};
    char id[PROGRAM_ID_SIZE];

    if (programs_add(a->jobs->parts.programs, &a->temp, sha256, &source, id, NULL, err) <
        0)
        return -1;
    apply_all(a->jobs, a->run, &a->patch);
    return 0;
}

/* The child opened the folder by its name, after we did: neither may its files have been
 * written, nor another folder have taken that name. */
static int check_unchanged(const struct attempt *a, struct pt2_err *err)
{
    struct pt2_checkpoint *named = NULL;
    char identity[SHA256_HEX] = "";
    struct pt2_err why = {0};

    if (pt2_checkpoint_check_unchanged(a->checkpoint, err) < 0)
        return -1;
    if (pt2_checkpoint_open(a->path, &named, &why) == 0)
        build_identity(named, identity);
    pt2_checkpoint_free(named);
    if (why.code == PT2_ERR_NOMEM)
        return pt2_err_set(err, why.code, "%s", why.text);
    if (!streq(identity, a->run->identity))
        return pt2_err_set(err, PT2_ERR_CHECKPOINT_CHANGED,
                           "the folder of model '%s' was replaced meanwhile",
                           a->run->model);
    return 0;
}

static bool is_pte(const struct run *run)
{
    json_auto_t *options = json_of_text(run->options);
    const char *format = json_string_value(json_object_get(options, "format"));

    return format && streq(format, "pte");
}

/* The ExecuTorch program that the result tells of, where there is to be one. */
static int take_pte(struct attempt *a, const json_t *result, struct pt2_err *err)
{
    const json_t *pte = json_object_get(result, "pte");
    const char *hex = json_string_value(json_object_get(pte, "sha256"));
    json_int_t bytes = json_integer_value(json_object_get(pte, "bytes"));

    if (!a->pte.folder)
        return 0;
    if (!hex || !sha256_from_hex(hex, a->pte_sha256) || bytes <= 0)
        return pt2_err_set(err, PT2_ERR_IO, "the export worker made no .pte");
    a->build.pte = json_to_text(pte, JSON_COMPACT);
    if (!a->build.pte)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a job's result");
    return temp_file_open(&a->pte, (uint64_t)bytes, err);
}

static enum ending succeed(struct attempt *a, const json_t *result)
{
    const char *hex = json_string_value(json_object_get(result, "sha256"));
    json_int_t bytes = json_integer_value(json_object_get(result, "bytes"));
    const json_t *deviations = json_object_get(result, "deviations");
    const json_t *verify = json_object_get(result, "verify");
    uint8_t sha256[SHA256_BYTES];
    struct pt2_err err = {0};
    int r;

    if (!hex || !sha256_from_hex(hex, sha256) || bytes <= 0 || !json_is_array(deviations))
        return died(a, "the export worker sent a result that is none");
    a->build.deviations = json_to_text(deviations, JSON_COMPACT);
    a->build.verify = verify ? json_to_text(verify, JSON_COMPACT) : NULL;
    if (!a->build.deviations || (verify && !a->build.verify))
        pt2_err_set(&err, PT2_ERR_NOMEM, "a job's result");
    if (err.code || check_unchanged(a, &err) < 0)
        return failed(a, &err);
    let_go_of_model(a);
    if (temp_file_open(&a->temp, (uint64_t)bytes, &err) < 0 ||
        take_pte(a, result, &err) < 0)
        return died(a, err.text);
    pthread_mutex_lock(&a->jobs->change);
    r = a->run->jobs ? keep_program(a, sha256, &err) : 0;
    pthread_mutex_unlock(&a->jobs->change);
    if (r == 0)
        return RUN_SUCCEEDED;
    if (err.code == PT2_ERR_BAD_ARCHIVE || err.code == PT2_ERR_BAD_PROGRAM) {
        pt2_err_prefix(&err, "the export worker wrote a file that is no program");
        return died(a, err.text);
    }
    return failed(a, &err);
}

static enum ending judge(struct attempt *a, const struct child_end *end)
{
    switch (end->outcome) {
    case CHILD_DONE:
        return succeed(a, end->result);
    case CHILD_REFUSED:
        a->problem = json_incref(end->result);
        return RUN_FAILED;
    case CHILD_STOPPED:
        return stopped(a);
    default:
        return died(a, end->text);
    }
}

static enum ending make_program(struct attempt *a)
{
    struct jobs *jobs = a->jobs;
    struct produce_task task = {.export_path = jobs->export_path,
                                .model_dir = a->path,
                                .options = a->run->options,
                                .timeout_ms = jobs->options.timeout_ms,
                                .max_memory_bytes = jobs->options.max_memory_bytes,
                                .engine = jobs->options.engine,
                                .stop_fd = a->run->stop_fd,
                                .progress = child_progress,
                                .ctx = a};
    struct child_end end = {0};
    struct pt2_err err = {0};
    enum ending ending;

    if (temp_file_for_child(objects_temp(jobs->parts.objects), 0, &a->temp, &err) < 0)
        return failed(a, &err);
    task.output = a->temp.path;
    if (is_pte(a->run)) {
        if (temp_file_for_child(objects_temp(jobs->parts.objects), 0, &a->pte, &err) < 0)
            return failed(a, &err);
        task.pte_output = a->pte.path;
    }
    if (produce(&task, &end, &err) < 0)
        return failed(a, &err);
    ending = judge(a, &end);
    child_end_done(&end);
    return ending;
}

/* Find it, or another run that makes it, or make it. */
static enum ending find_or_make(struct attempt *a)
{
    struct pt2_err err = {0};
    char key[SHA256_HEX];
    bool found = false, is_merged = false;
    int r;

    if (open_model(a, &err) < 0)
        return failed(a, &err);
    if (build_key(a->jobs->parts.store, a->checkpoint, a->run->options, digest_progress,
                  a, key, &err) < 0)
        return err.code == PT2_ERR_CANCELLED ? stopped(a) : failed(a, &err);
    if (settle_build(a, key, &err) < 0)
        return err.code == PT2_ERR_CANCELLED ? stopped(a) : failed(a, &err);
    pthread_mutex_lock(&a->jobs->change);
    r = use_build(a, key, &found, &err);
    if (r == 0 && !found)
        is_merged = merge(a, key);
    pthread_mutex_unlock(&a->jobs->change);
    if (r < 0)
        return failed(a, &err);
    if (found)
        return RUN_SUCCEEDED;
    return is_merged ? RUN_MERGED : make_program(a);
}

/* ---- afterwards ---- */

/* Jobs whose run died: those out of attempts fail, the others wait for the next run.  The
 * holder of change. */
static int write_deaths(struct attempt *a, const struct patch *fail,
                        const struct patch *again, struct pt2_err *err)
{
    struct store *store = a->jobs->parts.store;

    for (struct job *job = a->run->jobs; job; job = job->next)
        if (patch_write(job->row.attempts >= JOB_MAX_ATTEMPTS ? fail : again, store,
                        &job->row, err) < 0)
            return -1;
    return 0;
}

static void apply_deaths(struct attempt *a, const struct patch *fail,
                         const struct patch *again)
{
    struct job *job, *next;

    for (job = a->run->jobs; job; job = job->next)
        if (job->row.attempts >= JOB_MAX_ATTEMPTS)
            figures_job_ends(&job->row, fail);
    pthread_mutex_lock(&a->jobs->mutex);
    for (job = a->run->jobs; job; job = next) {
        next = job->next;
        if (job->row.attempts >= JOB_MAX_ATTEMPTS) {
            patch_apply(fail, job);
            let_go_locked(job);
        } else {
            patch_apply(again, job);
            job_tell_locked(job);
            a->jobs->n_queued++;
        }
    }
    pthread_mutex_unlock(&a->jobs->mutex);
}

static int bury(struct attempt *a, const char *error, struct pt2_err *err)
{
    struct store *store = a->jobs->parts.store;
    struct patch fail, again;

    patch_begin(&fail, JOB_FAILED);
    patch_begin(&again, JOB_QUEUED);
    fail.error = error;
    if (store_begin(store, err) < 0)
        return -1;
    if (write_deaths(a, &fail, &again, err) < 0) {
        store_rollback(store);
        return -1;
    }
    if (store_commit(store, err) < 0)
        return -1;
    apply_deaths(a, &fail, &again);
    return 0;
}

/* A failed job always says why: where there was no memory to, it was for want of memory.  new;
 * NULL: there is none yet. */
static char *problem_text(struct attempt *a)
{
    const struct pt2_err err = {.code = PT2_ERR_NOMEM,
                                .text = "memory ran out, and what failed before is not known"};

    if (!a->problem)
        a->problem = json_problem_object(&err);
    return a->problem ? json_to_text(a->problem, JSON_COMPACT) : NULL;
}

/* Write and show how the run ended.  The holder of change. */
static int settle(struct attempt *a, enum ending ending, struct pt2_err *err)
{
    bool is_bad = ending == RUN_FAILED || ending == RUN_DIED;
    AUTO_PTR char *error = is_bad ? problem_text(a) : NULL;
    struct patch patch;

    if (is_bad && !error)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory to say why it failed");

    if (ending == RUN_SUCCEEDED || ending == RUN_CANCELLED || ending == RUN_MERGED)
        return 0;
    if (ending == RUN_DIED)
        return bury(a, error, err);
    patch_begin(&patch, ending == RUN_FAILED ? JOB_FAILED : JOB_QUEUED);
    patch.error = error;
    patch.attempts = ending == RUN_INTERRUPTED ? -1 : 0;
    if (patch_write_all(&patch, a->jobs->parts.store, a->run, err) < 0)
        return -1;
    apply_all(a->jobs, a->run, &patch);
    return 0;
}

static bool is_interrupted(struct jobs *jobs)
{
    bool is;

    pthread_mutex_lock(&jobs->mutex);
    is = jobs->is_interrupted;
    pthread_mutex_unlock(&jobs->mutex);
    return is;
}

static void pause_for(struct jobs *jobs, int64_t ms)
{
    int64_t until = clock_mono_ms() + ms;

    while (clock_mono_ms() < until && !is_interrupted(jobs))
        poll(NULL, 0, 100);
}

/* The run is no more, or waits again for the jobs that are left. */
static void put_away(struct jobs *jobs, struct run *run)
{
    pthread_mutex_lock(&jobs->mutex);
    run_unlink_locked(jobs, run);
    jobs->n_running--;
    if (run->jobs)
        run_enqueue_locked(jobs, run);
    else
        run_free(run);
    pthread_cond_broadcast(&jobs->run_ended);
    pthread_mutex_unlock(&jobs->mutex);
}

/* What can't be written now is tried again; at a stop it is left to the next start, which
 * finds the jobs running. */
static void end_run(struct attempt *a, enum ending ending)
{
    struct jobs *jobs = a->jobs;
    bool is_settled = false;

    while (!is_settled) {
        struct pt2_err err = {0};

        pthread_mutex_lock(&jobs->change);
        is_settled = settle(a, ending, &err) == 0;
        if (is_settled)
            put_away(jobs, a->run);
        pthread_mutex_unlock(&jobs->change);
        if (is_settled)
            break;
        log_error("the end of an export of model '%s' can't be recorded: %s",
                  a->run->model, err.text);
        if (is_interrupted(jobs))
            break;
        pause_for(jobs, RETRY_MS);
    }
    (void)!jobs_forget_old(jobs, NULL);
}

static void attempt_done(struct attempt *a)
{
    temp_file_drop(&a->temp);
    temp_file_drop(&a->pte);
    pt2_checkpoint_free(a->checkpoint);
    json_decref(a->problem);
    build_done(&a->build);
}

static void perform(struct jobs *jobs, struct run *run)
{
    struct attempt a = {.jobs = jobs, .run = run, .temp = TEMP_NO_FILE, .pte = TEMP_NO_FILE};

    enum ending ending = find_or_make(&a);

    let_go_of_model(&a);
    end_run(&a, ending);
    attempt_done(&a);
}

/* ---- the thread ---- */

/* False: the end has come. */
static bool wait_for_run(struct jobs *jobs)
{
    bool go_on;

    pthread_mutex_lock(&jobs->mutex);
    while (!jobs->is_stopped && (jobs->is_draining || !jobs->queue))
        pthread_cond_wait(&jobs->has_work, &jobs->mutex);
    go_on = !jobs->is_stopped;
    pthread_mutex_unlock(&jobs->mutex);
    return go_on;
}

static struct run *first_in_queue(struct jobs *jobs)
{
    struct run *run;

    pthread_mutex_lock(&jobs->mutex);
    run = jobs->is_draining ? NULL : jobs->queue;
    pthread_mutex_unlock(&jobs->mutex);
    return run;
}

static void mark_running(struct jobs *jobs, struct run *run, const struct patch *patch)
{
    pthread_mutex_lock(&jobs->mutex);
    run_unlink_locked(jobs, run);
    run->is_running = true;
    run->next = jobs->running;
    run->link = &jobs->running;
    if (run->next)
        run->next->link = &run->next;
    jobs->running = run;
    jobs->n_running++;
    snprintf(run->stage, sizeof(run->stage), "starting");
    run->done = run->total = 0;
    for (struct job *job = run->jobs; job; job = job->next) {
        figures_job_begins(&job->row, patch);
        patch_apply(patch, job);
        jobs->n_queued--;
        job_tell_locked(job);
    }
    pthread_mutex_unlock(&jobs->mutex);
}

/* NULL with err empty: none was left. */
static struct run *begin_run(struct jobs *jobs, struct pt2_err *err)
{
    struct patch patch;
    struct run *run;

    patch_begin(&patch, JOB_RUNNING);
    patch.attempts = 1;
    pthread_mutex_lock(&jobs->change);
    run = first_in_queue(jobs);
    if (run && patch_write_all(&patch, jobs->parts.store, run, err) < 0)
        run = NULL;
    if (run)
        mark_running(jobs, run, &patch);
    pthread_mutex_unlock(&jobs->change);
    return run;
}

void *worker_main(void *ctx)
{
    struct jobs *jobs = ctx;

    pthread_setname_np(pthread_self(), "pt2-exports");
    while (wait_for_run(jobs)) {
        struct pt2_err err = {0};
        struct run *run = begin_run(jobs, &err);

        if (run) {
            perform(jobs, run);
        } else if (err.code) {
            log_error("an export can't begin: %s", err.text);
            pause_for(jobs, RETRY_MS);
        }
    }
    return NULL;
}
