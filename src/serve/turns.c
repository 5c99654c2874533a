/* turns.c - the thread of an open program: whose turn it is, and which steps run together.
 *
 * A turn takes the sessions that have work, in the order in which they got it.  Steps are
 * gathered until the engine's rows are full, then run together; what is left of a long one
 * goes to the end of the queue.  All other calls are done as they come. */
#include "base/metrics.h"
#include "serve/impl.h"

/* How long to wait for more steps: a part of the last run, within bounds. */
#define GATHER_PART      8
#define GATHER_MIN_NS    100000 /* less than that is sooner over than waited for */
#define GATHER_MAX_NS    4000000
#define GATHER_MAX_SKIPS 63

/* Rows of a run in which a long prompt has company: a few times what one row takes. */
#define SHARED_ROWS 64

/* ---- calls: begun, answered ---- */

static void begin_locked(struct serve *serve, struct serve_call *call)
{
    call->state = SERVE_RUNNING;
    call->begun_ns = clock_mono_ns();
    serve->n_busy++;
    serve_waits_no_more_locked(serve, call);
    metrics_add(METRIC_CALLS_RUNNING, 1, NULL);
}

/* Answer a call that ran; called and returns with the lock held. */
static void answer_locked(struct serve *serve, struct serve_call *call)
{
    pthread_mutex_unlock(&serve->lock);
    metrics_add(METRIC_CALLS_RUNNING, -1, NULL);
    serve_finish(serve, call);
    pthread_mutex_lock(&serve->lock);
    if (--serve->n_busy == 0)
        pthread_cond_broadcast(&serve->quiet);
}

/* The call is through: what it changed becomes the session's, the next one may come. */
static void conclude_locked(struct runner *r, struct session *s, struct serve_call *call)
{
    if (call->err.code == PT2_ERR_ENGINE_DIED && r->serve->abandoning) {
        pt2_err_clear(&call->err); /* that was us */
        pt2_err_set(&call->err, PT2_ERR_DRAINING, "the daemon stopped meanwhile");
    }
    if (call->err.code == PT2_ERR_NONE)
        work_commit_locked(s, call);
    else if (call->is_spoilt)
        work_spoilt_locked(s, call);
    call->position = s->position;
    s->running = NULL;
    s->used_ns = clock_mono_ns();
    if (s->is_doomed) {
        s->next_drop = r->drops;
        r->drops = s;
    } else if (s->first) {
        runner_push_ready_locked(r, s);
    }
}

/* May a call that has more slices to run go on? */
static bool may_go_on_locked(struct serve *serve, struct session *s,
                             struct serve_call *call)
{
    if (s->is_doomed)
        pt2_err_set(&call->err, PT2_ERR_GONE, "the session was deleted meanwhile");
    else if (serve->abandoning)
        pt2_err_set(&call->err, PT2_ERR_DRAINING, "the daemon is stopping");
    return call->err.code == PT2_ERR_NONE;
}

/* The call that the session is at, begun if it is not yet; NULL: there is none any more. */
static struct serve_call *current_locked(struct runner *r, struct session *s)
{
    if (s->running)
        return s->running;
    s->running = session_pop_locked(s);
    if (s->running) {
        begin_locked(r->serve, s->running);
    } else if (s->is_doomed) { /* its calls were given up meanwhile */
        s->next_drop = r->drops;
        r->drops = s;
    }
    return s->running;
}

/* Called and returns with the lock held. */
static void end_locked(struct runner *r, struct session *s, struct serve_call *call)
{
    pthread_mutex_unlock(&r->serve->lock);
    work_end(call);
    pthread_mutex_lock(&r->serve->lock);
    budget_settle_locked(r);
    conclude_locked(r, s, call);
    answer_locked(r->serve, call);
}

/* The same, for a step that ran: its session may go on soon. */
static void end_step_locked(struct runner *r, struct session *s, struct serve_call *call)
{
    if (!s->first && !s->is_doomed) {
        s->answered_in = r->gathering.run;
        r->gathering.n_returning++;
    }
    end_locked(r, s, call);
}

static void turn_open_locked(struct runner *r, struct serve_call *call)
{
    begin_locked(r->serve, call);
    pthread_mutex_unlock(&r->serve->lock);
    work_open(r, call);
    pthread_mutex_lock(&r->serve->lock);
    budget_settle_locked(r);
    answer_locked(r->serve, call);
}

static void turn_other_locked(struct runner *r, struct session *s, struct serve_call *call)
{
    pthread_mutex_unlock(&r->serve->lock);
    work_other(r, s, call);
    pthread_mutex_lock(&r->serve->lock);
    end_locked(r, s, call);
}

/* ---- steps ---- */

/* Rows that one more step may have; -1: any.  In company a long prompt gets so many that the
 * others' tokens do not wait long, and leaves room for a token of each. */
static int64_t room_locked(const struct runner *r, const struct session *s)
{
    int64_t max = r->home ? pt2_engine_max_rows(r->home->engine) : 0, n_others = 0;
    int64_t left, shared;

    if (r->batch.n == BATCH_MAX)
        return 0;
    for (const struct session *other = r->ready; other && n_others < BATCH_MAX;
         other = other->next_ready)
        n_others++;
    if (r->batch.n == 0 && (max == 0 || n_others + r->gathering.n_returning == 0))
        return -1;
    left = r->batch.n == 0 ? MAX(max, s->facts.batch_size) : MAX(max - r->batch.n_rows, 0);
    shared = MIN(max, SHARED_ROWS);
    shared -= r->batch.n_rows + MIN(n_others * s->facts.batch_size, shared / 2);
    return MAX(shared, MIN(left, s->facts.batch_size));
}

/* Take the session's step into the batch.  False: the batch is full. */
static bool gather_locked(struct runner *r, struct session *s, struct serve_call *call)
{
    struct batch *batch = &r->batch;
    int64_t room = room_locked(r, s);
    bool fits = false;

    if (room != 0) {
        pthread_mutex_unlock(&r->serve->lock);
        fits = work_slice(r, s, call, room, &batch->steps[batch->n]);
        pthread_mutex_lock(&r->serve->lock);
    }
    if (call->err.code == PT2_ERR_BUDGET && batch->n > 0)
        work_slice_back(call); /* those who hold the memory are about to be done */
    if (call->err.code != PT2_ERR_NONE) {
        end_locked(r, s, call);
        return true;
    }
    if (!fits) {
        runner_push_back_locked(r, s);
        return false;
    }
    batch->n_rows += batch->steps[batch->n].s * s->facts.batch_size;
    batch->sessions[batch->n++] = s;
    return true;
}

/* Those that the last run answered may be about to call again: give them a moment, if
 * there is something to run without them, so that they run with it.  A moment is a small
 * part of what a run takes; where nobody comes, the next ones are done without. */
static void wait_for_returning_locked(struct runner *r)
{
    struct gathering *g = &r->gathering;
    struct timespec until = {g->until_ns / 1000000000, g->until_ns % 1000000000};
    unsigned n = g->n_returning;

    if (!r->ready || n == 0 || clock_mono_ns() >= g->until_ns)
        return;
    if (g->n_skipped < g->n_skips) {
        g->n_skipped++;
        return;
    }
    while (g->n_returning > 0 && !r->serve->ending && clock_mono_ns() < g->until_ns)
        pthread_cond_timedwait(&r->wake, &r->serve->lock, &until);
    g->n_skips = g->n_returning < n ? 0 : MIN(2 * g->n_skips + 1, GATHER_MAX_SKIPS);
    g->n_skipped = 0;
}

static void begin_gathering_locked(struct runner *r, int64_t run_ns)
{
    int64_t wait_ns = MIN(run_ns / GATHER_PART, GATHER_MAX_NS);

    r->gathering.run++;
    r->gathering.n_returning = 0;
    r->gathering.until_ns = wait_ns < GATHER_MIN_NS ? 0 : clock_mono_ns() + wait_ns;
}

/* Was a file cut under them?  Whoever keeps it is told before those who asked. */
static void look_for_damage(struct runner *r)
{
    bool is_damaged = false;

    for (size_t i = 0; i < r->batch.n; i++) {
        struct pt2_err *err = &r->batch.steps[i].err;

        if (err->code != PT2_ERR_PROGRAM_DAMAGED)
            continue;
        is_damaged = true;
        pt2_err_prefix(err, "program '%.12s'", r->program);
    }
    if (is_damaged)
        runner_suspect(r);
}

/* Run what was gathered, and answer what is through. */
static void run_batch_locked(struct runner *r)
{
    struct batch *batch = &r->batch;
    int64_t begin_ns = clock_mono_ns();

    figures_batch(batch);
    pthread_mutex_unlock(&r->serve->lock);
    pt2_engine_steps(r->home->engine, batch->steps, batch->n);
    look_for_damage(r);
    pthread_mutex_lock(&r->serve->lock);
    begin_gathering_locked(r, clock_mono_ns() - begin_ns);
    for (size_t i = 0; i < batch->n; i++) {
        struct session *s = batch->sessions[i];
        struct serve_call *call = s->running;

        if (work_slice_done(call, &batch->steps[i]) &&
            may_go_on_locked(r->serve, s, call))
            runner_push_ready_locked(r, s);
        else
            end_step_locked(r, s, call);
    }
    batch->n = 0;
    batch->n_rows = 0;
}

/* Where steps run one at a time, one is all: a call that is done before it might find the
 * engine dead and open it anew, while the step's cache is still with the old one. */
static bool is_full(const struct runner *r)
{
    return r->batch.n > 0 && pt2_engine_max_rows(r->home->engine) == 0;
}

/* One turn of the sessions that have work.  False: there are none. */
static bool turn_locked(struct runner *r)
{
    struct session *s;
    bool any;

    if (r->home && pt2_engine_max_rows(r->home->engine) > 0)
        wait_for_returning_locked(r);
    s = runner_pop_ready_locked(r);
    any = s != NULL;
    for (; s; s = is_full(r) ? NULL : runner_pop_ready_locked(r)) {
        struct serve_call *call = current_locked(r, s);

        if (!call)
            continue;
        if (!may_go_on_locked(r->serve, s, call))
            end_locked(r, s, call);
        else if (call->verb != SERVE_STEP)
            turn_other_locked(r, s, call);
        else if (!gather_locked(r, s, call))
            break;
    }
    if (r->batch.n > 0)
        run_batch_locked(r);
    return any;
}

/* ---- the thread ---- */

static void free_drops_locked(struct runner *r)
{
    struct session *s = TAKE(r->drops);

    if (!s)
        return;
    pthread_mutex_unlock(&r->serve->lock);
    while (s) {
        struct session *next = s->next_drop;

        runner_drop_cache(r, s);
        spill_forget(r, s);
        session_free(s);
        s = next;
    }
    pthread_mutex_lock(&r->serve->lock);
}

/* Is it time to close the program?  Otherwise wait for what comes, if nothing is there.
 */
static bool rest_locked(struct runner *r)
{
    int64_t end_ns = r->idle_since_ns + r->serve->options.program_idle_ms * 1000000;
    struct timespec until = {end_ns / 1000000000, end_ns % 1000000000};

    if (r->n_leaving > 0)
        return false;
    if (r->serve->ending || r->is_evicted)
        return true;
    if (r->n_sessions > 0) {
        pthread_cond_wait(&r->wake, &r->serve->lock);
        return false;
    }
    if (!r->home || clock_mono_ns() >= end_ns)
        return true;
    pthread_cond_timedwait(&r->wake, &r->serve->lock, &until);
    return false;
}

/* At the daemon's end: the sessions that are left. */
static void free_sessions(struct runner *r)
{
    struct serve *serve = r->serve;
    struct session *s, *next;

    pthread_mutex_lock(&serve->lock);
    for (s = serve->newest; s; s = next) {
        next = s->older;
        if (s->runner == r)
            session_doom_locked(serve, s);
    }
    free_drops_locked(r);
    pthread_mutex_unlock(&serve->lock);
}

void *turns_run(void *arg)
{
    struct runner *r = arg;
    struct serve *serve = r->serve;
    struct serve_call *open;

    pthread_setname_np(pthread_self(), "pt2-runner");
    pthread_mutex_lock(&serve->lock);
    while (true) {
        free_drops_locked(r);
        spill_leaving_locked(r);
        open = runner_pop_open_locked(r);
        if (open)
            turn_open_locked(r, open);
        if (!turn_locked(r) && !open && !r->drops && !keep_sessions_locked(r) &&
            rest_locked(r))
            break;
    }
    runner_unlink_locked(r);
    pthread_mutex_unlock(&serve->lock);
    free_sessions(r);
    runner_close(r);
    pthread_mutex_lock(&serve->lock);
    budget_settle_locked(r);
    metrics_add(METRIC_PROGRAMS_OPEN, -1, NULL);
    if (!serve->ending)
        metrics_add(METRIC_PROGRAMS_CLOSED, 1,
                    METRICS_LABELS(r->is_evicted ? "evicted" : "idle"));
    r->next = serve->finished;
    serve->finished = r;
    pthread_cond_signal(&serve->keeper_wake);
    pthread_cond_broadcast(&serve->quiet);
    pthread_mutex_unlock(&serve->lock);
    return NULL;
}
