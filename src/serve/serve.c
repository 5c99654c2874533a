#include "serve/serve.h"

#include "base/log.h"
#include "base/metrics.h"
#include "serve/impl.h"

#include <errno.h>
#include <sys/eventfd.h>

#define KEEP_MS 5000 /* at a stop, for saving, once nothing runs any more */

/* ---- calls ---- */

void serve_call_init(struct serve_call *call, enum serve_verb verb,
                     void (*done)(struct serve_call *call), void *context)
{
    *call = (struct serve_call){
        .verb = verb, .done = done, .context = context, .position = -1};
}

void serve_call_done(struct serve_call *call)
{
    serve_info_done(&call->info);
    free(TAKE(call->logits));
    free(TAKE(call->file));
}

void serve_finish(struct serve *serve, struct serve_call *call)
{
    int64_t now = clock_mono_ns(), begun = call->begun_ns ? call->begun_ns : now;

    pthread_mutex_lock(&serve->lock);
    call->state = SERVE_DONE;
    figures_publish_locked(serve);
    pthread_mutex_unlock(&serve->lock);
    call->queue_ns = begun - call->submitted_ns;
    call->run_ns = now - begun;
    if (call->verb == SERVE_STEP)
        figures_step(serve, call);
    call->done(call);
}

/* A waiting call that is no longer in its queue: nobody else may touch it. */
static void give_up_locked(struct serve_call *call, enum pt2_error code, const char *why)
{
    pt2_err_set(&call->err, code, "%s", why);
    call->state = SERVE_DONE;
    call->session = NULL;
    call->runner = NULL;
}

void serve_waits_no_more_locked(struct serve *serve, const struct serve_call *call)
{
    serve->n_waiting--;
    holders_wait_no_more_locked(serve, holders_of(call));
    metrics_add(METRIC_CALLS_WAITING, -1, NULL);
}

/* Unlock, and finish the calls of a list. */
static void finish_list_unlock(struct serve *serve, struct serve_call *list)
{
    for (struct serve_call *call = list; call; call = call->next)
        serve_waits_no_more_locked(serve, call);
    pthread_mutex_unlock(&serve->lock);
    while (list) {
        struct serve_call *next = list->next;

        serve_finish(serve, list);
        list = next;
    }
}

/* ---- submitting ---- */

/* It waits from now on, where there is room for it. */
static int wait_locked(struct serve *serve, struct serve_call *call)
{
    unsigned max = serve->options.max_waiting_all;

    if (serve->n_waiting >= max) {
        metrics_add(METRIC_CALLS_REFUSED, 1, METRICS_LABELS("all"));
        return pt2_err_set(&call->err, PT2_ERR_QUEUE_FULL, "%u of %u calls wait already",
                           serve->n_waiting, max);
    }
    if (holders_wait_locked(serve, holders_of(call), &call->err) < 0)
        return -1;
    serve->n_waiting++;
    metrics_add(METRIC_CALLS_WAITING, 1, NULL);
    return 0;
}

static int enqueue_open_locked(struct serve *serve, struct serve_call *call)
{
    struct runner *r;

    if (serve->n_sessions >= serve->options.max_sessions) {
        metrics_add(METRIC_SESSIONS_REFUSED, 1, METRICS_LABELS("sessions"));
        return pt2_err_set(&call->err, PT2_ERR_BUDGET, "there are %u sessions already",
                           serve->n_sessions);
    }
    if (wait_locked(serve, call) < 0)
        return -1;
    if (holders_add_locked(serve, holders_of(call), call->max_sessions, &call->err) < 0) {
        serve_waits_no_more_locked(serve, call);
        return -1;
    }
    if (runner_for_locked(serve, call, &r, &call->err) < 0) {
        holders_remove_locked(serve, holders_of(call));
        serve_waits_no_more_locked(serve, call);
        return -1;
    }
    serve->n_sessions++;
    runner_push_open_locked(r, call);
    return 0;
}

static int no_session(const char *id, struct pt2_err *err)
{
    return pt2_err_set(err, PT2_ERR_NOT_FOUND, "there is no session '%.*s'",
                       SERVE_ID_SIZE, id);
}

static int enqueue_locked(struct serve *serve, const char *id, struct serve_call *call)
{
    struct session *s = session_find_locked(serve, id, call->who);

    if (!s)
        return no_session(id, &call->err);
    call->position = s->position;
    if (s->n_waiting >= serve->options.max_waiting) {
        metrics_add(METRIC_CALLS_REFUSED, 1, METRICS_LABELS("session"));
        return pt2_err_set(&call->err, PT2_ERR_QUEUE_FULL,
                           "%u calls wait for session '%s' already", s->n_waiting, id);
    }
    if (wait_locked(serve, call) < 0)
        return -1;
    session_push_locked(s, call);
    runner_returned_locked(s);
    if (!s->running)
        runner_push_ready_locked(s->runner, s);
    return 0;
}

/* Where nothing is before it, a light call is done at once.  True: it was. */
static bool do_at_once_locked(struct serve *serve, const char *id,
                              struct serve_call *call)
{
    struct session *s = id ? session_find_locked(serve, id, call->who) : NULL;

    if (!s || !work_is_light(s, call) || !session_is_idle_locked(s))
        return false;
    work_light_locked(s, call);
    call->position = s->position;
    return true;
}

void serve_submit(struct serve *serve, const char *id, struct serve_call *call)
{
    int ret = -1;

    call->submitted_ns = clock_mono_ns();
    pthread_mutex_lock(&serve->lock);
    if (call->cancelled) {
        call->state = SERVE_DONE; /* err says why */
    } else if (serve->draining) {
        pt2_err_set(&call->err, PT2_ERR_DRAINING, "the daemon is stopping");
    } else if (!do_at_once_locked(serve, id, call)) {
        call->state = SERVE_WAITING;
        ret = id ? enqueue_locked(serve, id, call) : enqueue_open_locked(serve, call);
    }
    if (ret < 0)
        call->state = SERVE_DONE; /* a cancel comes too late */
    pthread_mutex_unlock(&serve->lock);
    if (ret < 0)
        serve_finish(serve, call);
}

/* Take a waiting call out of its queue.  False: it is in none. */
static bool unqueue_locked(struct serve *serve, struct serve_call *call)
{
    struct runner *r = call->runner;

    if (call->verb != SERVE_OPEN)
        return session_remove_locked(call->session, call);
    if (!runner_remove_open_locked(r, call))
        return false;
    serve->n_sessions--;
    holders_remove_locked(serve, holders_of(call));
    if (--r->n_sessions == 0)
        r->idle_since_ns = clock_mono_ns();
    pthread_cond_signal(&r->wake);
    return true;
}

bool serve_cancel(struct serve *serve, struct serve_call *call, enum pt2_error code,
                  const char *why)
{
    pthread_mutex_lock(&serve->lock);
    if (call->state == SERVE_NEW) {
        call->cancelled = true; /* serve_submit finishes it */
        pt2_err_set(&call->err, code, "%s", why);
    } else if (call->state == SERVE_WAITING && unqueue_locked(serve, call)) {
        if (call->session) {
            call->position = call->session->position;
            call->session->used_ns = clock_mono_ns();
        }
        call->next = NULL;
        give_up_locked(call, code, why);
        finish_list_unlock(serve, call);
        return true;
    } else {
        pthread_mutex_unlock(&serve->lock);
        return false;
    }
    pthread_mutex_unlock(&serve->lock);
    return true;
}

/* ---- sessions ---- */

int serve_facts(struct serve *serve, const char *id, const char *who,
                struct serve_facts *ret_facts, struct pt2_err *err)
{
    struct session *s;

    pthread_mutex_lock(&serve->lock);
    s = session_find_locked(serve, id, who);
    if (s)
        *ret_facts = s->facts;
    pthread_mutex_unlock(&serve->lock);
    return s ? 0 : no_session(id, err);
}

int serve_list(struct serve *serve, const char *who, uint64_t before, size_t max,
               bool (*filter)(void *context, const struct serve_info *info),
               void *context, struct serve_info **ret, size_t *ret_n, struct pt2_err *err)
{
    struct serve_info *list = calloc(max + 1, sizeof(*list));
    size_t n = 0;
    int status = 0;

    if (!list)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory to list sessions");
    pthread_mutex_lock(&serve->lock);
    for (struct session *s = serve->newest; s && n < max && status == 0; s = s->older) {
        if ((before != 0 && s->number >= before) || !owner_is_seen_by(s->owner, who))
            continue;
        status = session_info_locked(s, &list[n], err);
        if (status == 0 && filter && !filter(context, &list[n]))
            serve_info_done(&list[n]);
        else if (status == 0)
            n++;
    }
    pthread_mutex_unlock(&serve->lock);
    if (status < 0) {
        while (n > 0)
            serve_info_done(&list[--n]);
        free(list);
        return -1;
    }
    *ret = list;
    *ret_n = n;
    return 0;
}

void serve_tell_closed(struct serve *serve, const char *id, const char *program,
                       enum serve_end how)
{
    static const char *const names[] = {[SERVE_DELETED] = "deleted",
                                        [SERVE_EXPIRED] = "expired",
                                        [SERVE_LOST] = "lost"};
    const struct serve_hooks *hooks = &serve->options.hooks;

    if (hooks->closed)
        hooks->closed(hooks->context, id, program, how);
    metrics_add(METRIC_SESSIONS_ENDED, 1, METRICS_LABELS(names[how]));
}

void serve_end_unlock(struct serve *serve, struct session *s, enum serve_end how,
                      enum pt2_error code, const char *why)
{
    char id[SERVE_ID_SIZE], program[SERVE_PROGRAM_SIZE];
    struct serve_call *waiting = TAKE(s->first);
    bool is_kept = s->is_kept;

    memcpy(id, s->id, sizeof(id));
    memcpy(program, s->facts.program, sizeof(program));
    s->last = &s->first;
    s->n_waiting = 0;
    for (struct serve_call *call = waiting; call; call = call->next)
        give_up_locked(call, code, why);
    session_doom_locked(serve, s);
    figures_publish_locked(serve);
    finish_list_unlock(serve, waiting);
    if (is_kept) /* before it is recorded: a start in between must not find it */
        (void)!saved_remove(&serve->saved, id, NULL);
    serve_tell_closed(serve, id, program, how);
}

int serve_delete(struct serve *serve, const char *id, const char *who,
                 struct pt2_err *err)
{
    struct session *s;

    pthread_mutex_lock(&serve->lock);
    s = session_find_locked(serve, id, who);
    if (!s) {
        pthread_mutex_unlock(&serve->lock);
        return no_session(id, err);
    }
    serve_end_unlock(serve, s, SERVE_DELETED, PT2_ERR_GONE, "the session was deleted");
    return 0;
}

/* ---- the keeper: expires sessions, joins runners that have finished ---- */

static void join_finished_locked(struct serve *serve)
{
    while (serve->finished) {
        struct runner *r = serve->finished;

        serve->finished = r->next;
        pthread_mutex_unlock(&serve->lock);
        pthread_join(r->thread, NULL);
        runner_free(r);
        pthread_mutex_lock(&serve->lock);
        serve->n_threads--;
    }
}

/* A session whose time is over, NULL where there is none; then *ret_next_ns is when the
 * next one's may be. */
static struct session *find_expired_locked(struct serve *serve, int64_t *ret_next_ns)
{
    int64_t now = clock_mono_ns(), next = now + 3600 * (int64_t)1000000000;

    for (struct session *s = serve->oldest; s; s = s->newer) {
        int64_t expires = session_expires_ns_locked(s);

        if (!session_is_idle_locked(s)) /* its time begins again at the end of its work */
            expires = MAX(expires, now + s->ttl_s * 1000000000);
        if (expires <= now)
            return s;
        next = MIN(next, expires);
    }
    *ret_next_ns = next;
    return NULL;
}

static void *keep(void *arg)
{
    struct serve *serve = arg;

    pthread_setname_np(pthread_self(), "pt2-keeper");
    pthread_mutex_lock(&serve->lock);
    while (!serve->ending) {
        int64_t next_ns = 0;
        struct session *s = find_expired_locked(serve, &next_ns);
        struct timespec until = {next_ns / 1000000000, next_ns % 1000000000};

        if (s) {
            serve_end_unlock(serve, s, SERVE_EXPIRED, PT2_ERR_SESSION_EXPIRED,
                             "the session expired");
            pthread_mutex_lock(&serve->lock);
        } else if (serve->finished) {
            join_finished_locked(serve);
        } else {
            pthread_cond_timedwait(&serve->keeper_wake, &serve->lock, &until);
        }
    }
    pthread_mutex_unlock(&serve->lock);
    return NULL;
}

/* ---- beginning and end ---- */

static void init_cond(pthread_cond_t *cond)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

static void set_defaults(struct serve_options *o)
{
    if (o->max_cache_bytes == 0)
        o->max_cache_bytes = (uint64_t)4 << 30;
    if (o->max_sessions == 0)
        o->max_sessions = 1024;
    if (o->max_programs == 0)
        o->max_programs = 8;
    if (o->max_waiting == 0)
        o->max_waiting = 16;
    if (o->max_waiting_all == 0)
        o->max_waiting_all = 1024;
    if (o->program_idle_ms == 0)
        o->program_idle_ms = 60000;
}

static bool is_node(const char *name)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789");

    return n > 0 && n <= 32 && name[n] == '\0';
}

static void release(struct serve *serve)
{
    if (serve->stop_fd >= 0)
        close(serve->stop_fd);
    pthread_cond_destroy(&serve->keeper_wake);
    pthread_cond_destroy(&serve->quiet);
    pthread_cond_destroy(&serve->spilled);
    pthread_mutex_destroy(&serve->lock);
    holders_done(serve);
    free(serve);
}

int serve_new(const struct serve_options *options, struct serve **ret_serve,
              struct pt2_err *err)
{
    const char *node = options->node ? options->node : "local";
    struct serve *serve;

    if (!is_node(node))
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "the node's name must be 1 to 32 of a-z and 0-9, not '%s'",
                           node);
    serve = calloc(1, sizeof(*serve));
    if (!serve)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for sessions");
    serve->options = *options;
    set_defaults(&serve->options);
    snprintf(serve->node, sizeof(serve->node), "%s", node);
    pthread_mutex_init(&serve->lock, NULL);
    init_cond(&serve->keeper_wake);
    init_cond(&serve->quiet);
    init_cond(&serve->spilled);
    figures_init(serve);
    serve->stop_fd = eventfd(0, EFD_CLOEXEC);
    if (serve->stop_fd >= 0)
        errno = pthread_create(&serve->keeper, NULL, keep, serve);
    if (errno != 0) {
        pt2_err_errno(err, PT2_ERR_INTERNAL, "cannot start a thread for sessions");
        release(serve);
        return -1;
    }
    if (options->saved_path &&
        (saved_init(&serve->saved, options->saved_path, options->temp, err) < 0 ||
         keep_take_up(serve, err) < 0)) {
        serve_free(serve);
        return -1;
    }
    *ret_serve = serve;
    return 0;
}

/* Put the calls that wait in a queue before those of *list, as given up. */
static void drain_queue_locked(struct serve_call **queue, struct serve_call ***last,
                               struct serve_call **list)
{
    for (struct serve_call *call = *queue; call; call = call->next)
        give_up_locked(call, PT2_ERR_DRAINING, "the daemon is stopping");
    **last = *list;
    *list = *queue;
    *queue = NULL;
    *last = queue;
}

void serve_drain(struct serve *serve)
{
    struct serve_call *waiting = NULL;

    pthread_mutex_lock(&serve->lock);
    serve->draining = true;
    for (struct session *s = serve->newest; s; s = s->older) {
        drain_queue_locked(&s->first, &s->last, &waiting);
        s->n_waiting = 0;
    }
    for (struct runner *r = serve->runners; r; r = r->next) {
        for (struct serve_call *call = r->opens; call; call = call->next) {
            serve->n_sessions--;
            holders_remove_locked(serve, holders_of(call));
            r->n_sessions--;
        }
        drain_queue_locked(&r->opens, &r->last_open, &waiting);
        pthread_cond_signal(&r->wake); /* there may be sessions to be saved */
    }
    finish_list_unlock(serve, waiting);
}

bool serve_is_idle(struct serve *serve)
{
    bool is_idle;

    pthread_mutex_lock(&serve->lock);
    is_idle = serve->n_busy == 0 && !keep_is_due_locked(serve);
    pthread_mutex_unlock(&serve->lock);
    return is_idle;
}

/* Wait while calls run, or sessions are to be saved. */
static void wait_quiet_locked(struct serve *serve, int64_t ms)
{
    int64_t end_ns = clock_mono_ns() + ms * 1000000;
    struct timespec until = {end_ns / 1000000000, end_ns % 1000000000};

    while ((serve->n_busy > 0 || keep_is_due_locked(serve)) &&
           pthread_cond_timedwait(&serve->quiet, &serve->lock, &until) != ETIMEDOUT)
        ;
}

void serve_stop(struct serve *serve, int64_t grace_ms)
{
    serve_drain(serve);
    pthread_mutex_lock(&serve->lock);
    wait_quiet_locked(serve, grace_ms);
    serve->abandoning = true;
    pthread_cond_broadcast(&serve->spilled);
    ASSERT(eventfd_write(serve->stop_fd, 1) == 0);
    while (serve->n_busy > 0)
        pthread_cond_wait(&serve->quiet, &serve->lock);
    wait_quiet_locked(serve, KEEP_MS);
    atomic_store(&serve->is_late, true);
    while (keep_is_due_locked(serve))
        pthread_cond_wait(&serve->quiet, &serve->lock);
    pthread_mutex_unlock(&serve->lock);
}

void serve_free(struct serve *serve)
{
    if (!serve)
        return;
    serve_stop(serve, 0);
    pthread_mutex_lock(&serve->lock);
    serve->ending = true;
    pthread_cond_broadcast(&serve->keeper_wake);
    for (struct runner *r = serve->runners; r; r = r->next)
        pthread_cond_signal(&r->wake);
    pthread_mutex_unlock(&serve->lock);
    pthread_join(serve->keeper, NULL);
    pthread_mutex_lock(&serve->lock);
    join_finished_locked(serve);
    while (serve->n_threads > 0) {
        pthread_cond_wait(&serve->quiet, &serve->lock);
        join_finished_locked(serve);
    }
    pthread_mutex_unlock(&serve->lock);
    release(serve);
}
