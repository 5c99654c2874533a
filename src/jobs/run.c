#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "jobs/impl.h"

#include <sys/eventfd.h>

/* ---- runs ---- */

void run_share_key(const char *model, const char *options, char ret_share[SHA256_HEX])
{
    uint8_t digest[SHA256_BYTES];
    struct sha256 h;

    sha256_start(&h);
    sha256_add(&h, model, strlen(model) + 1);
    sha256_add(&h, options, strlen(options));
    sha256_finish(&h, digest);
    sha256_to_hex(digest, ret_share);
}

struct run *run_new(const char *model, const char *options)
{
    struct run *run = calloc(1, sizeof(*run));

    if (!run)
        return NULL;
    run->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    run->model = strdup(model);
    run->options = strdup(options);
    if (run->stop_fd < 0 || !run->model || !run->options) {
        run_free(run);
        return NULL;
    }
    run_share_key(model, options, run->share);
    return run;
}

void run_free(struct run *run)
{
    if (!run)
        return;
    ASSERT(!run->jobs);
    if (run->stop_fd >= 0)
        close(run->stop_fd);
    free(run->model);
    free(run->options);
    free(run);
}

static bool may_join(const struct run *run, const char *share, const char *identity,
                     const char *key)
{
    if (run->is_closed)
        return false;
    if (key[0] && streq(run->key, key))
        return true;
    return streq(run->share, share) &&
           (!run->is_running || (identity[0] && streq(run->identity, identity)));
}

struct run *run_find_locked(struct jobs *jobs, const char *share, const char *identity,
                            const char *key)
{
    struct run *run;

    for (run = jobs->running; run; run = run->next)
        if (may_join(run, share, identity, key))
            return run;
    for (run = jobs->queue; run; run = run->next)
        if (may_join(run, share, identity, key))
            return run;
    return NULL;
}

struct run *run_with_key_locked(struct jobs *jobs, const char *key, const struct run *but)
{
    for (struct run *run = jobs->running; run; run = run->next)
        if (run != but && !run->is_closed && streq(run->key, key))
            return run;
    return NULL;
}

void run_enqueue_locked(struct jobs *jobs, struct run *run)
{
    run->is_running = false;
    run->key[0] = run->identity[0] = '\0';
    run->next = NULL;
    run->link = jobs->queue_end;
    *jobs->queue_end = run;
    jobs->queue_end = &run->next;
    pthread_cond_signal(&jobs->has_work);
}

void run_unlink_locked(struct jobs *jobs, struct run *run)
{
    *run->link = run->next;
    if (run->next)
        run->next->link = run->link;
    else if (jobs->queue_end == &run->next)
        jobs->queue_end = run->link;
    run->next = NULL;
    run->link = NULL;
}

void run_stop_locked(struct run *run)
{
    uint64_t one = 1;

    (void)!write(run->stop_fd, &one, sizeof(one));
}

/* ---- jobs ---- */

static struct job *find_among(struct run *run, const char *id)
{
    for (; run; run = run->next)
        for (struct job *job = run->jobs; job; job = job->next)
            if (streq(job->row.id, id))
                return job;
    return NULL;
}

struct job *job_find_locked(struct jobs *jobs, const char *id, const char *who)
{
    struct job *job = find_among(jobs->running, id);

    if (!job)
        job = find_among(jobs->queue, id);
    return job && owner_is_seen_by(job->row.owner, who) ? job : NULL;
}

static size_t count_among(const struct run *run, const char *holder)
{
    size_t n = 0;

    for (; run; run = run->next)
        for (const struct job *job = run->jobs; job; job = job->next)
            n += streq(*job->holder ? job->holder : job->row.owner, holder);
    return n;
}

size_t job_count_locked(const struct jobs *jobs, const char *holder)
{
    return count_among(jobs->running, holder) + count_among(jobs->queue, holder);
}

void job_join_locked(struct run *run, struct job *job)
{
    struct job **at = &run->jobs;

    while (*at)
        at = &(*at)->next;
    job->run = run;
    job->next = NULL;
    job->link = at;
    *at = job;
}

void job_leave_locked(struct job *job)
{
    *job->link = job->next;
    if (job->next)
        job->next->link = job->link;
    job->run = NULL;
    job->next = NULL;
    job->link = NULL;
}

void job_free(struct job *job)
{
    if (!job)
        return;
    ASSERT(!job->watches && !job->run);
    job_row_done(&job->row);
    free(job);
}

/* ---- watches ---- */

static void tell(struct jobs_watch *watch, const struct job *job, const char *text)
{
    struct jobs_event event = {.job = text,
                               .len = text ? strlen(text) : 0,
                               .version = job_version(&job->row, job->n_told),
                               .is_finished = job_is_finished(job->row.state)};

    watch->changed(watch, &event);
}

static void unlink_watch(struct jobs_watch *watch)
{
    *watch->link = watch->next;
    if (watch->next)
        watch->next->link = watch->link;
    watch->next = NULL;
    watch->link = NULL;
}

/* new; NULL: out of memory. */
static char *job_text(const struct job *job)
{
    json_auto_t *json = job_to_json(&job->row, job->run);

    return json ? json_to_text(json, JSON_COMPACT) : NULL;
}

void job_tell_locked(struct job *job)
{
    bool is_last = job_is_finished(job->row.state);
    struct jobs_watch *watch, *next;
    AUTO_PTR char *text = NULL;

    if (!job->watches)
        return;
    text = job_text(job);
    for (watch = job->watches; watch; watch = next) {
        next = watch->next;
        if (is_last)
            unlink_watch(watch);
        tell(watch, job, text);
    }
}

bool jobs_watch(struct jobs *jobs, const char *id, const char *who,
                struct jobs_watch *watch)
{
    AUTO_PTR char *text = NULL;
    struct job *job;

    pthread_mutex_lock(&jobs->mutex);
    watch->link = NULL;
    job = job_find_locked(jobs, id, who);
    if (job) {
        watch->next = job->watches;
        watch->link = &job->watches;
        if (watch->next)
            watch->next->link = &watch->next;
        job->watches = watch;
        text = job_text(job);
        tell(watch, job, text);
    }
    pthread_mutex_unlock(&jobs->mutex);
    return job != NULL;
}

void jobs_unwatch(struct jobs *jobs, struct jobs_watch *watch)
{
    pthread_mutex_lock(&jobs->mutex);
    if (watch->link)
        unlink_watch(watch);
    pthread_mutex_unlock(&jobs->mutex);
}
