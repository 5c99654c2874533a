#include "base/metrics.h"
#include "serve/cache_file.h"
#include "serve/impl.h"

/* ---- room for sessions ---- */

static int reserve_session(struct runner *r, const struct serve_call *call,
                           struct pt2_err *err)
{
    int ret = 0;

    pthread_mutex_lock(&r->serve->lock);
    if (r->serve->draining)
        ret = pt2_err_set(err, PT2_ERR_DRAINING, "the daemon is stopping");
    else if (r->is_evicted) /* a fork whose parent was the last session and is gone */
        ret = pt2_err_set(err, PT2_ERR_BUDGET, "the program was closed meanwhile");
    else if (r->serve->n_sessions >= r->serve->options.max_sessions)
        ret = pt2_err_set(err, PT2_ERR_BUDGET, "there are %u sessions already",
                          r->serve->n_sessions);
    if (ret < 0 && err->code == PT2_ERR_BUDGET)
        metrics_add(METRIC_SESSIONS_REFUSED, 1, METRICS_LABELS("sessions"));
    if (ret == 0)
        ret = holders_add_locked(r->serve, holders_of(call), call->max_sessions, err);
    if (ret == 0) {
        r->serve->n_sessions++;
        r->n_sessions++;
    }
    pthread_mutex_unlock(&r->serve->lock);
    return ret;
}

/* Give back the place of a session that came to nothing; its bytes go when the runner
 * settles. */
static void release(struct runner *r, const struct serve_call *call)
{
    pthread_mutex_lock(&r->serve->lock);
    r->serve->n_sessions--;
    holders_remove_locked(r->serve, holders_of(call));
    if (--r->n_sessions == 0)
        r->idle_since_ns = clock_mono_ns();
    pthread_mutex_unlock(&r->serve->lock);
}

/* ---- making sessions ---- */

/* Describe it for the call, tell the hook, put it into the table.  s is taken on success.
 */
static int publish(struct runner *r, struct session **s, struct serve_call *call)
{
    struct serve *serve = r->serve;
    const struct serve_hooks *hooks = &serve->options.hooks;
    int ret;

    pthread_mutex_lock(&serve->lock);
    ret = session_info_locked(*s, &call->info, &call->err);
    pthread_mutex_unlock(&serve->lock);
    if (ret < 0 || (hooks->opened &&
                    hooks->opened(hooks->context, (*s)->id, (*s)->owner, r->program,
                                  &call->err) < 0))
        return -1;
    pthread_mutex_lock(&serve->lock);
    call->position = (*s)->position;
    session_insert_locked(serve, *s);
    call->info.number = (*s)->number;
    *s = NULL;
    pthread_mutex_unlock(&serve->lock);
    return 0;
}

/* What its keys and values are: a counter has not their dimensions. */
static enum pt2_dtype element_dtype(const struct pt2_cache *cache)
{
    for (size_t i = 0; i < pt2_cache_n_buffers(cache); i++) {
        struct pt2_cache_buffer buffer;

        pt2_cache_buffer(cache, i, &buffer);
        if (buffer.n_dims >= 3)
            return buffer.dtype;
    }
    return PT2_DTYPE_NONE;
}

/* An engine for it. */
static int open_engine(struct runner *r, const struct serve_call *call,
                       struct pt2_engine **ret_engine, struct pt2_err *err)
{
    if (runner_engine(r, ret_engine, err) == 0)
        return 0;
    if (call->open.cache_dtype == PT2_INT8 && err->code == PT2_ERR_PROGRAM_REFUSED)
        return pt2_err_prefix(err, "a cache_dtype of int8 wants the engine native");
    return -1;
}

/* The caller has a session's place. */
static int open_session(struct runner *r, struct serve_call *call)
{
    const struct pt2_decoder *decoder;
    struct pt2_engine *engine;
    struct pt2_cache *cache;
    AUTO(session) s = NULL;

    if (open_engine(r, call, &engine, &call->err) < 0 ||
        session_new(r->serve->node, call->owner, call->open.labels, &s, &call->err) < 0 ||
        budget_reserve(r, s, pt2_cache_cost(engine), &call->err) < 0)
        return -1;
    decoder = pt2_engine_decoder(engine);
    s->facts.cache_bytes = pt2_cache_bytes_as(engine, call->open.cache_dtype);
    s->facts.file_bytes = MAX(s->facts.cache_bytes, pt2_cache_bytes(engine));
    s->facts.batch_size = decoder->batch_size;
    s->facts.max_cache_len = decoder->max_cache_len;
    s->facts.vocab_size = decoder->vocab_size;
    memcpy(s->facts.program, r->program, sizeof(s->facts.program));
    s->engine = pt2_engine_kind(engine);
    s->can_rewind = pt2_engine_can_rewind(engine);
    s->ttl_s = call->open.ttl_s;
    if (runner_make_cache(r, engine, call->open.cache_dtype, &cache, &call->err) < 0)
        return -1;
    s->runner = r;
    snprintf(s->holder, sizeof(s->holder), "%s", holders_of(call) ? holders_of(call) : "");
    runner_give_cache(r, s, cache);
    s->facts.cache_dtype = element_dtype(s->cache);
    if (publish(r, &s, call) == 0)
        return 0;
    runner_drop_cache(r, s);
    return -1;
}

void work_open(struct runner *r, struct serve_call *call)
{
    if (open_session(r, call) < 0)
        release(r, call);
}

static int fork_position(const struct session *s, const struct serve_call *call,
                         int64_t *ret_position, struct pt2_err *err)
{
    *ret_position = call->fork.position < 0 ? s->position : call->fork.position;
    return session_check_rewind(s, *ret_position, err);
}

static int fork_session(struct runner *r, struct session *parent, struct serve_call *call)
{
    struct pt2_engine *engine;
    struct pt2_cache *cache;
    AUTO(session) s = NULL;
    int64_t position;

    if (fork_position(parent, call, &position, &call->err) < 0 ||
        runner_settle(r, parent, &engine, &call->err) < 0 ||
        session_new(r->serve->node, call->owner, parent->labels, &s, &call->err) < 0 ||
        budget_reserve(r, s, pt2_cache_cost(engine), &call->err) < 0 ||
        pt2_cache_fork(parent->cache, &cache, &call->err) < 0)
        return -1;
    s->runner = r;
    snprintf(s->holder, sizeof(s->holder), "%s", holders_of(call) ? holders_of(call) : "");
    runner_give_cache(r, s, cache);
    s->facts = parent->facts;
    s->engine = parent->engine;
    s->can_rewind = parent->can_rewind;
    s->ttl_s = call->fork.ttl_s < 0 ? parent->ttl_s : call->fork.ttl_s;
    s->position = position;
    s->rewind_floor = parent->rewind_floor;
    if (publish(r, &s, call) == 0)
        return 0;
    runner_drop_cache(r, s);
    return -1;
}

static void work_fork(struct runner *r, struct session *parent, struct serve_call *call)
{
    if (reserve_session(r, call, &call->err) == 0 && fork_session(r, parent, call) < 0)
        release(r, call);
}

/* ---- steps ---- */

/* The tokens of a step that one turn takes, in the room that is left; 0: none fits.  Those
 * of a program that can't go back can't be undone by parts, so they are all taken. */
static int64_t slice_tokens(const struct pt2_engine *engine, const struct session *s,
                            const struct serve_call *call, int64_t room)
{
    int64_t n = call->step.s - call->n_taken;

    if (s->can_rewind)
        n = MIN(n, pt2_engine_slice(engine));
    if (room < 0)
        return n;
    return MIN(n, room / s->facts.batch_size);
}

/* Memory for the answer, and for what the failure of a later slice would need. */
static int prepare_step(struct session *s, struct serve_call *call, bool is_sliced)
{
    uint64_t rows = call->step.rows == PT2_ROWS_ALL ? (uint64_t)call->step.s : 1, bytes;

    if (call->step.rows == PT2_ROWS_NONE)
        rows = 0;
    if (!size_mul(rows, (uint64_t)s->facts.batch_size, &rows) ||
        !size_mul(rows, (uint64_t)s->facts.vocab_size * sizeof(float), &bytes))
        return pt2_err_set(&call->err, PT2_ERR_NOMEM, "the logits are too many");
    if (call->reserve && call->reserve(call, bytes, &call->err) < 0)
        return -1;
    if (bytes > 0) {
        call->logits = malloc(bytes);
        if (!call->logits)
            return pt2_err_set(&call->err, PT2_ERR_NOMEM,
                               "no memory for %llu bytes of logits",
                               (unsigned long long)bytes);
    }
    if (is_sliced)
        return pt2_undo_new(s->cache, call->start,
                            MIN(call->step.s, s->position - call->start), &call->undo,
                            &call->err);
    return 0;
}

/* n tokens from the first that is not taken yet. */
static struct pt2_step slice_of(const struct session *s, const struct serve_call *call,
                                int64_t n)
{
    bool all = call->step.rows == PT2_ROWS_ALL;
    bool is_last = call->n_taken + n == call->step.s;
    struct pt2_step step = {
        .cache = s->cache,
        .input_ids = call->step.input_ids + call->n_taken,
        .s = n,
        .start = call->start + call->n_taken,
        .rows = all || is_last ? call->step.rows : PT2_ROWS_NONE,
        .logits = call->logits,
        .ids_stride = call->step.s,
        .rows_stride = all ? call->step.s : 1,
    };

    if (all)
        step.logits += call->n_taken * s->facts.vocab_size;
    return step;
}

static int begin_step(struct session *s, struct serve_call *call)
{
    if (session_check_match(s, call, &call->err) < 0)
        return -1;
    call->start = call->step.start < 0 ? s->position : call->step.start;
    return session_check_step(s, call->start, call->step.s, &call->err);
}

/* Has the native engine died between two slices?  What undoes those before is its own, so it
 * must not be left before that is done. */
static bool is_left(const struct runner *r, const struct session *s,
                    const struct serve_call *call)
{
    return call->undo && s->engine == PT2_ENGINE_NATIVE &&
           (s->home != r->home || pt2_engine_is_dead(s->home->engine));
}

bool work_slice(struct runner *r, struct session *s, struct serve_call *call,
                int64_t room, struct pt2_step *ret_step)
{
    struct pt2_engine *engine;
    int64_t n;

    if (call->n_taken == 0 && begin_step(s, call) < 0)
        return false;
    if (is_left(r, s, call)) {
        pt2_err_set(&call->err, PT2_ERR_PROGRAM_DAMAGED,
                    "a file of program '%.12s' was cut short while the step ran", r->program);
        return false;
    }
    if (runner_settle(r, s, &engine, &call->err) < 0)
        return false;
    n = slice_tokens(engine, s, call, room);
    if (n == 0)
        return false;
    if (call->n_taken == 0 && prepare_step(s, call, n < call->step.s) < 0)
        return false;
    if (budget_reserve(r, s, pt2_cache_growth(s->cache, call->start + call->n_taken, n),
                       &call->err) < 0)
        return false;
    *ret_step = slice_of(s, call, n);
    return true;
}

void work_slice_back(struct serve_call *call)
{
    pt2_err_clear(&call->err);
    if (call->n_taken > 0)
        return;
    free(TAKE(call->logits));
    pt2_undo_free(TAKE(call->undo));
}

bool work_slice_done(struct serve_call *call, const struct pt2_step *step)
{
    if (step->err.code != PT2_ERR_NONE) {
        pt2_err_set(&call->err, step->err.code, "%s", step->err.text);
        call->is_spoilt = step->err.code == PT2_ERR_PROGRAM_DAMAGED;
        return false;
    }
    call->n_taken += step->s;
    return call->n_taken < call->step.s;
}

/* ---- saving and restoring ---- */

static int reserve_file(void *context, uint64_t bytes, struct pt2_err *err)
{
    struct serve_call *call = context;

    return call->reserve ? call->reserve(call, bytes, err) : 0;
}

static void save(struct session *s, struct serve_call *call)
{
    /* the outcome is in call->err */
    (void)!cache_file_write(s->cache, s->facts.program, s->position, reserve_file, call,
                            &call->file, &call->file_size, &call->err);
}

struct restoring {
    struct runner *runner;
    struct session *session;
};

static int reserve_restored(void *context, int64_t position, struct pt2_err *err)
{
    const struct restoring *restoring = context;
    struct session *s = restoring->session;

    if (position == 0)
        return 0;
    return budget_reserve(restoring->runner, s, pt2_cache_growth(s->cache, 0, position),
                          err);
}

static void restore(struct runner *r, struct session *s, struct serve_call *call)
{
    struct restoring restoring = {r, s};
    int ret;

    /* What may fail comes before the cache is touched. */
    pthread_mutex_lock(&r->serve->lock);
    ret = session_info_locked(s, &call->info, &call->err);
    pthread_mutex_unlock(&r->serve->lock);
    if (ret == 0)
        (void)!cache_file_read(call->restore.data, call->restore.size, s->cache,
                               s->facts.program, s->facts.max_cache_len, reserve_restored,
                               &restoring, &call->start, &call->err);
}

/* ---- all of them ---- */

/* Of a session that is away: the cache, in memory, for a call that works on it; for one
 * that does not, but changes the session, a file that is not taken for the truth. */
static int have_cache(struct runner *r, struct session *s, struct serve_call *call)
{
    if (s->cache)
        return 0;
    if (call->verb == SERVE_SAVE || call->verb == SERVE_RESTORE)
        return spill_bring_back(r, s, &call->err);
    return call->verb == SERVE_REWIND ? spill_unkeep(r, s, &call->err) : 0;
}

void work_other(struct runner *r, struct session *s, struct serve_call *call)
{
    if (session_check_match(s, call, &call->err) < 0 || have_cache(r, s, call) < 0)
        return;
    switch (call->verb) {
    case SERVE_FORK:
        work_fork(r, s, call);
        break;
    case SERVE_SAVE:
        save(s, call);
        break;
    case SERVE_RESTORE:
        restore(r, s, call);
        break;
    default:
        break; /* the light ones: work_commit_locked */
    }
}

void work_end(struct serve_call *call)
{
    if (call->undo && call->err.code != PT2_ERR_NONE &&
        (call->n_taken > 0 || call->is_spoilt)) {
        pt2_undo_apply(call->undo);
        call->is_spoilt = false;
    }
    pt2_undo_free(TAKE(call->undo));
}

void work_spoilt_locked(struct session *s, const struct serve_call *call)
{
    s->position = MIN(s->position, call->start);
    s->rewind_floor = pt2_cache_rewind_floor(s->cache, s->position);
}

void work_commit_locked(struct session *s, struct serve_call *call)
{
    if (call->verb == SERVE_GET || call->verb == SERVE_REWIND) {
        work_light_locked(s, call);
        return;
    }
    if (call->verb == SERVE_STEP)
        s->position = call->start + call->step.s;
    else if (call->verb == SERVE_RESTORE)
        s->position = call->start;
    else
        return;
    s->rewind_floor = pt2_cache_rewind_floor(s->cache, s->position);
    call->info.position = s->position;
    call->info.rewind_floor = s->rewind_floor;
}

bool work_is_light(const struct session *s, const struct serve_call *call)
{
    return call->verb == SERVE_GET || (call->verb == SERVE_REWIND && !s->is_kept);
}

void work_light_locked(struct session *s, struct serve_call *call)
{
    s->used_ns = clock_mono_ns();
    if (session_check_match(s, call, &call->err) < 0)
        return;
    if (call->verb == SERVE_REWIND) {
        int64_t before = s->position;

        if (session_check_rewind(s, call->rewind.position, &call->err) < 0)
            return;
        s->position = call->rewind.position;
        if (session_info_locked(s, &call->info, &call->err) < 0)
            s->position = before;
        return;
    }
    (void)!session_info_locked(s, &call->info, &call->err);
}
