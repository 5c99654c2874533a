/* spill.c - idle sessions' caches, put on the disk where memory is short, and back.
 *
 *          make_room                      bring_back
 *     in memory ──► file being written ──► away ──► in memory, the file removed
 *          ▲                  │
 *          └──────────────────┘ it failed, or the session was called meanwhile
 *
 * Only the runner that a cache belongs to touches it.  So a runner that needs memory puts away
 * one of its own, or asks another runner for one of its, and waits; while it waits it does
 * what it is asked itself, so that two that wait for each other both go on. */
#include "base/log.h"
#include "base/metrics.h"
#include "serve/impl.h"

#define WAIT_NS ((int64_t)10 * 1000000000) /* for another runner, which may be at a long run */
#define WARN_NS ((int64_t)60 * 1000000000) /* from one warning to the next */

/* ---- which ---- */

/* Also one whose calls wait: where nobody is idle, they take turns in memory. */
static bool may_leave_locked(const struct session *s)
{
    return !s->running && !s->is_away && !s->is_leaving && !s->is_doomed;
}

/* An idle one before others; then that which was not used for the longest time. */
static struct session *find_oldest_locked(const struct serve *serve)
{
    struct session *oldest = NULL;
    bool is_idle = false;

    for (struct session *s = serve->oldest; s; s = s->newer) {
        bool idle = session_is_idle_locked(s);

        if (may_leave_locked(s) && (!oldest || idle > is_idle ||
                                    (idle == is_idle && s->used_ns < oldest->used_ns))) {
            oldest = s;
            is_idle = idle;
        }
    }
    return oldest;
}

static void ask_locked(struct session *s)
{
    s->is_leaving = true;
    s->runner->n_leaving++;
    s->runner->serve->n_leaving++;
    pthread_cond_signal(&s->runner->wake);
    pthread_cond_broadcast(&s->runner->serve->spilled); /* its runner may wait there */
}

/* One more attempt is over, for all that wait. */
static void ended_locked(struct serve *serve, bool failed)
{
    serve->n_spill_ends++;
    serve->n_spill_failures += failed;
    pthread_cond_broadcast(&serve->spilled);
}

void spill_stays_locked(struct session *s)
{
    if (!s->is_leaving)
        return;
    s->is_leaving = false;
    s->runner->n_leaving--;
    s->runner->serve->n_leaving--;
    ended_locked(s->runner->serve, /* failed= */ false);
}

/* ---- away ---- */

static int reserve_file_locked(struct serve *serve, uint64_t bytes, struct pt2_err *err)
{
    uint64_t max = serve->options.spill_bytes;

    /* One that comes back gives its file up: without room beyond the budget for the one that
     * makes way for it, sessions could not take turns where both budgets are full. */
    if (serve->n_returning > 0 && serve->spill_bytes <= max)
        max = serve->spill_bytes + bytes;
    if (bytes > max - MIN(max, serve->spill_bytes))
        return pt2_err_set(err, PT2_ERR_NO_SPACE,
                           "a cache of %llu bytes finds no room in the %llu that spilled "
                           "sessions may take, of which %llu are in use",
                           (unsigned long long)bytes, (unsigned long long)max,
                           (unsigned long long)serve->spill_bytes);
    serve->spill_bytes += bytes;
    return 0;
}

/* Without the lock; *ret_bytes are promised of the disk's. */
static int write_file(struct runner *r, struct session *s, int64_t position,
                      uint64_t *ret_bytes, struct saved_image *ret_image,
                      struct pt2_err *err)
{
    struct serve *serve = r->serve;
    uint64_t bytes = pt2_cache_image_bytes(s->cache, position);
    int ret;

    pthread_mutex_lock(&serve->lock);
    ret = reserve_file_locked(serve, bytes, err);
    pthread_mutex_unlock(&serve->lock);
    if (ret < 0)
        return -1;
    *ret_bytes = bytes;
    return saved_spill(&serve->saved, s->id, s->cache, position, NULL, ret_image, err);
}

/* The file is whole: it is what holds the cache now. */
static void leave_locked(struct runner *r, struct session *s,
                         const struct saved_image *image)
{
    struct serve *serve = r->serve;
    uint64_t before = runner_cache_bytes(r);

    s->image = *image;
    s->made_as = pt2_cache_dtype(s->cache);
    s->is_away = true;
    serve->n_away++;
    pthread_mutex_unlock(&serve->lock);
    runner_drop_cache(r, s);
    metrics_add(METRIC_SESSION_SPILLS, 1, METRICS_LABELS("ok"));
    metrics_add(METRIC_SESSION_SPILL_IO, (double)image->bytes, METRICS_LABELS("out"));
    log_debug("session %s is put on the disk, %llu bytes", s->id,
              (unsigned long long)image->bytes);
    pthread_mutex_lock(&serve->lock);
    budget_freed_locked(r, before);
    s->cache_bytes = 0;
}

static void warn_locked(struct serve *serve, const struct session *s,
                        const struct pt2_err *err)
{
    int64_t now = clock_mono_ns();

    if (serve->spill_warned_ns != 0 && now - serve->spill_warned_ns < WARN_NS)
        return;
    serve->spill_warned_ns = now;
    log_warning("session %s stays in memory, which is short: %s", s->id, err->text);
}

/* True: it went, or there was no need to any more. */
static bool put_away_locked(struct runner *r, struct session *s)
{
    struct serve *serve = r->serve;
    struct saved_image image = {0};
    struct pt2_err err = {0};
    int64_t position = s->position;
    bool was_idle = session_is_idle_locked(s);
    uint64_t bytes = 0;
    int ret;

    serve->n_leaving++;
    pthread_mutex_unlock(&serve->lock);
    ret = write_file(r, s, position, &bytes, &image, &err);
    pthread_mutex_lock(&serve->lock);
    serve->n_leaving--;
    if (ret == 0 && !s->is_doomed && was_idle == session_is_idle_locked(s)) {
        leave_locked(r, s, &image);
    } else {
        serve->spill_bytes -= bytes;
        pthread_mutex_unlock(&serve->lock);
        (void)!saved_remove(&serve->saved, s->id, NULL);
        pthread_mutex_lock(&serve->lock);
    }
    if (ret < 0) {
        metrics_add(METRIC_SESSION_SPILLS, 1, METRICS_LABELS("failed"));
        warn_locked(serve, s, &err);
    }
    spill_stays_locked(s); /* somebody may have asked meanwhile */
    ended_locked(serve, ret < 0);
    return ret == 0;
}

/* ---- making room ---- */

void spill_leaving_locked(struct runner *r)
{
    while (r->n_leaving > 0) {
        struct session *s = r->serve->oldest;

        while (!(s->runner == r && s->is_leaving))
            s = s->newer;
        s->is_leaving = false;
        r->n_leaving--;
        r->serve->n_leaving--;
        if (may_leave_locked(s))
            (void)put_away_locked(r, s);
        else
            ended_locked(r->serve, /* failed= */ false);
    }
}

/* Until some session has left, or has not after all. */
static bool wait_locked(struct runner *r)
{
    struct serve *serve = r->serve;
    int64_t end_ns = clock_mono_ns() + WAIT_NS;
    struct timespec until = {end_ns / 1000000000, end_ns % 1000000000};
    uint64_t ends = serve->n_spill_ends, failures = serve->n_spill_failures;

    while (serve->n_spill_ends == ends && !serve->abandoning) {
        if (r->n_leaving > 0)
            spill_leaving_locked(r);
        else if (pthread_cond_timedwait(&serve->spilled, &serve->lock, &until) != 0)
            return false;
    }
    return serve->n_spill_failures == failures && !serve->abandoning;
}

bool spill_make_room_locked(struct runner *r)
{
    struct serve *serve = r->serve;
    struct session *s;

    if (!*serve->saved.path || serve->options.spill_bytes == 0)
        return false;
    s = find_oldest_locked(serve);
    if (s && s->runner == r)
        return put_away_locked(r, s);
    if (s)
        ask_locked(s);
    else if (serve->n_leaving == 0)
        return false;
    return wait_locked(r);
}

/* ---- back ---- */

/* A cache for the image, empty. */
static int make_cache(struct runner *r, struct session *s, struct pt2_cache **ret_cache,
                      struct pt2_err *err)
{
    struct pt2_engine *engine;

    if (runner_engine(r, &engine, err) < 0 ||
        budget_reserve(r, s, pt2_cache_image_cost(engine, s->image.bytes), err) < 0)
        return -1;
    return runner_make_cache(r, engine, s->made_as, ret_cache, err);
}

/* What was written can't be read, as why says: the session ends.  why becomes what its client
 * is told. */
static void lose(struct runner *r, struct session *s, struct pt2_err *why)
{
    bool is_doomed;

    pthread_mutex_lock(&r->serve->lock);
    is_doomed = s->is_doomed;
    if (is_doomed) /* its file was removed with it */
        pthread_mutex_unlock(&r->serve->lock);
    else
        serve_end_unlock(r->serve, s, SERVE_LOST, PT2_ERR_SESSION_LOST,
                         "what was put away of the session can't be read any more");
    if (!is_doomed)
        log_error("session %s is lost: %s", s->id, why->text);
    pt2_err_clear(why);
    if (is_doomed)
        pt2_err_set(why, PT2_ERR_GONE, "the session was deleted meanwhile");
    else
        pt2_err_set(why, PT2_ERR_SESSION_LOST,
                    "session '%s' is lost: what was put away of it can't be read any more",
                    s->id);
}

/* It is in memory, and the file is not needed any more. */
static void settle(struct runner *r, struct session *s, struct pt2_cache *cache)
{
    struct serve *serve = r->serve;
    struct pt2_err err = {0};

    if (saved_remove(&serve->saved, s->id, &err) < 0) /* the next start does */
        log_warning("session %s is back, and its file stays: %s", s->id, err.text);
    runner_give_cache(r, s, cache);
    metrics_add(METRIC_SESSION_RETURNS, 1, METRICS_LABELS("ok"));
    metrics_add(METRIC_SESSION_SPILL_IO, (double)s->image.bytes, METRICS_LABELS("in"));
    log_debug("session %s is back in memory, %llu bytes", s->id,
              (unsigned long long)s->image.bytes);
    pthread_mutex_lock(&serve->lock);
    s->is_away = false;
    serve->n_away--;
    serve->spill_bytes -= s->image.bytes;
    pthread_mutex_unlock(&serve->lock);
}

int spill_bring_back(struct runner *r, struct session *s, struct pt2_err *err)
{
    struct pt2_cache *cache = NULL;
    struct pt2_err why = {0};
    int ret;

    pthread_mutex_lock(&r->serve->lock);
    r->serve->n_returning++;
    pthread_mutex_unlock(&r->serve->lock);
    ret = make_cache(r, s, &cache, &why);
    pthread_mutex_lock(&r->serve->lock);
    r->serve->n_returning--;
    pthread_mutex_unlock(&r->serve->lock);
    if (ret == 0 &&
        saved_read(&r->serve->saved, s->id, s->is_kept, &s->image, cache, &why) == 0 &&
        spill_unkeep(r, s, &why) == 0) {
        settle(r, s, cache);
        return 0;
    }
    pt2_cache_free(cache);
    pthread_mutex_lock(&r->serve->lock);
    s->cache_bytes = 0; /* the call's end settles what was promised */
    pthread_mutex_unlock(&r->serve->lock);
    metrics_add(
        METRIC_SESSION_RETURNS, 1,
        METRICS_LABELS(why.code == PT2_ERR_SESSION_LOST ? "lost" : "failed"));
    if (why.code == PT2_ERR_SESSION_LOST)
        lose(r, s, &why);
    return pt2_err_set(err, why.code, "%s", why.text);
}

int spill_unkeep(struct runner *r, struct session *s, struct pt2_err *err)
{
    struct serve *serve = r->serve;

    if (!s->is_kept)
        return 0;
    if (saved_unkeep(&serve->saved, s->id, err) < 0)
        return -1;
    pthread_mutex_lock(&serve->lock);
    s->is_kept = false;
    pthread_mutex_unlock(&serve->lock);
    return 0;
}

void spill_forget(struct runner *r, struct session *s)
{
    struct serve *serve = r->serve;
    struct pt2_err err = {0};
    bool is_wanted;
    int ret = 0;

    if (!s->is_away && !s->is_kept)
        return;
    pthread_mutex_lock(&serve->lock);
    serve->n_away -= s->is_away;
    serve->spill_bytes -= s->is_away ? s->image.bytes : 0;
    is_wanted = serve->ending && s->is_kept; /* by the next start */
    pthread_mutex_unlock(&serve->lock);
    if (!is_wanted)
        ret = saved_remove(&serve->saved, s->id, &err);
    /* Its name may have gone before, and not on the disk. */
    if (!is_wanted && ret == 0 && s->is_kept)
        ret = saved_sync(&serve->saved, &err);
    if (ret < 0)
        log_warning("the file of session %s, which has ended, stays: %s", s->id, err.text);
}
