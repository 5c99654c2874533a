#include "base/log.h"
#include "base/metrics.h"
#include "serve/impl.h"

#include <errno.h>
#include <malloc.h>
#include <pt2/archive.h>

/* ---- engines ---- */

static void home_free(struct runner *r, struct home *home)
{
    struct home **link = &r->homes;

    while (*link != home)
        link = &(*link)->next;
    *link = home->next;
    pt2_engine_free(home->engine);
    free(home);
}

static void home_leave(struct runner *r, struct home *home)
{
    if (home && --home->n_caches == 0 && home != r->home)
        home_free(r, home);
}

/* The engine died: it stays for the caches that have not moved yet. */
static void retire(struct runner *r)
{
    struct home *home = r->home;

    r->home = NULL;
    home->n_caches++;
    home_leave(r, home);
    metrics_add(METRIC_ENGINES_DIED, 1, NULL);
}

void runner_suspect(const struct runner *r)
{
    const struct serve_hooks *hooks = &r->serve->options.hooks;

    if (hooks->suspected)
        hooks->suspected(hooks->context, r->program);
}

/* What is stored was an archive once; if it is none any more, or no longer opens, that is
 * no fault of the client's. */
static bool is_damaged(const struct runner *r)
{
    struct pt2_archive *archive = NULL;
    bool is_archive = pt2_archive_open(r->path, &archive, NULL) == 0;

    pt2_archive_free(archive);
    return r->was_open || !is_archive;
}

static int fail_to_open(const struct runner *r, struct pt2_err *err)
{
    if (err->code != PT2_ERR_PROGRAM_DAMAGED &&
        (err->code != PT2_ERR_BAD_ARCHIVE || !is_damaged(r)))
        return -1;
    err->code = PT2_ERR_PROGRAM_DAMAGED;
    runner_suspect(r);
    return pt2_err_prefix(err, "the stored file of program '%.12s' is damaged",
                          r->program);
}

static int open_engine(struct runner *r, struct pt2_err *err)
{
    struct pt2_engine_options options = r->serve->options.engine;
    struct home *home = calloc(1, sizeof(*home));

    if (!home)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory to open a program");
    options.packed_path = *r->packed_path ? r->packed_path : NULL;
    options.stop_fd = r->serve->stop_fd;
    /* kind is written by this thread alone */
    options.kind = r->kind == PT2_ENGINE_AUTO ? r->asked : r->kind;
    if (pt2_engine_open(r->path, &options, &home->engine, err) < 0) {
        free(home);
        return fail_to_open(r, err);
    }
    if (pt2_engine_warning(home->engine))
        log_warning("program '%.12s': %s", r->program, pt2_engine_warning(home->engine));
    pthread_mutex_lock(&r->serve->lock);
    r->kind = pt2_engine_kind(home->engine);
    pthread_mutex_unlock(&r->serve->lock);
    home->next = r->homes;
    r->homes = r->home = home;
    r->was_open = true;
    return 0;
}

int runner_engine(struct runner *r, struct pt2_engine **ret_engine, struct pt2_err *err)
{
    if (r->home && pt2_engine_is_dead(r->home->engine))
        retire(r);
    if (!r->home && open_engine(r, err) < 0)
        return -1;
    *ret_engine = r->home->engine;
    return 0;
}

int runner_settle(struct runner *r, struct session *s, struct pt2_engine **ret_engine,
                  struct pt2_err *err)
{
    struct home *old;

    if (!s->cache && spill_bring_back(r, s, err) < 0)
        return -1;
    old = s->home;
    if (runner_engine(r, ret_engine, err) < 0)
        return -1;
    if (old == r->home)
        return 0;
    if (pt2_cache_adopt(s->cache, *ret_engine, err) < 0)
        return -1;
    s->home = r->home;
    s->home->n_caches++;
    home_leave(r, old);
    return 0;
}

void runner_drop_cache(struct runner *r, struct session *s)
{
    if (!s->cache)
        return;
    pt2_cache_free(TAKE(s->cache));
    home_leave(r, TAKE(s->home));
}

int runner_make_cache(struct runner *r, struct pt2_engine *engine, enum pt2_dtype dtype,
                      struct pt2_cache **ret_cache, struct pt2_err *err)
{
    if (pt2_cache_new_as(engine, dtype, ret_cache, err) == 0)
        return 0;
    if (err->code != PT2_ERR_ENGINE_DIED)
        return -1;
    pt2_err_clear(err); /* nothing is lost by that */
    if (runner_engine(r, &engine, err) < 0)
        return -1;
    return pt2_cache_new_as(engine, dtype, ret_cache, err);
}

void runner_give_cache(struct runner *r, struct session *s, struct pt2_cache *cache)
{
    s->cache = cache;
    s->home = r->home;
    s->home->n_caches++;
}

uint64_t runner_cache_bytes(const struct runner *r)
{
    uint64_t bytes = 0;

    for (const struct home *home = r->homes; home; home = home->next)
        bytes += pt2_engine_cache_bytes(home->engine);
    return bytes;
}

/* ---- the queue ---- */

void runner_push_open_locked(struct runner *r, struct serve_call *open)
{
    open->runner = r;
    open->next = NULL;
    *r->last_open = open;
    r->last_open = &open->next;
    pthread_cond_signal(&r->wake);
}

struct serve_call *runner_pop_open_locked(struct runner *r)
{
    struct serve_call *open = r->opens;

    if (open) {
        r->opens = open->next;
        if (!r->opens)
            r->last_open = &r->opens;
    }
    return open;
}

bool runner_remove_open_locked(struct runner *r, struct serve_call *open)
{
    for (struct serve_call **link = &r->opens; *link; link = &(*link)->next) {
        if (*link != open)
            continue;
        *link = open->next;
        if (!*link)
            r->last_open = link;
        return true;
    }
    return false;
}

void runner_push_ready_locked(struct runner *r, struct session *s)
{
    if (s->is_ready)
        return;
    s->is_ready = true;
    s->next_ready = NULL;
    *r->last_ready = s;
    r->last_ready = &s->next_ready;
    pthread_cond_signal(&r->wake);
}

void runner_returned_locked(struct session *s)
{
    struct gathering *g = &s->runner->gathering;

    if (s->answered_in == g->run && g->n_returning > 0)
        g->n_returning--;
    s->answered_in = 0;
}

void runner_push_back_locked(struct runner *r, struct session *s)
{
    s->is_ready = true;
    s->next_ready = r->ready;
    if (!r->ready)
        r->last_ready = &s->next_ready;
    r->ready = s;
}

struct session *runner_pop_ready_locked(struct runner *r)
{
    struct session *s = r->ready;

    if (s) {
        r->ready = s->next_ready;
        if (!r->ready)
            r->last_ready = &r->ready;
        s->is_ready = false;
    }
    return s;
}

/* ---- starting ---- */

void runner_unlink_locked(struct runner *r)
{
    struct runner **link = &r->serve->runners;

    while (*link && *link != r)
        link = &(*link)->next;
    if (*link)
        *link = r->next; /* an evicted one is not there any more */
}

/* What a program had lies about in arenas of threads that end; kept, it grows for weeks. */
static void give_back(void)
{
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__) /* whose malloc has no arenas */
    malloc_trim(0);
#endif
}

void runner_close(struct runner *r)
{
    if (!r->home)
        return;
    home_free(r, TAKE(r->home));
    give_back();
}

void runner_free(struct runner *r)
{
    pthread_cond_destroy(&r->wake);
    free(r);
}

static int start_locked(struct serve *serve, const struct serve_call *open,
                        struct runner **ret_runner, struct pt2_err *err)
{
    struct runner *r = calloc(1, sizeof(*r));
    pthread_condattr_t attr;

    if (!r)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory to open a program");
    r->serve = serve;
    r->asked = open->open.kind;
    r->kind = PT2_ENGINE_AUTO;
    snprintf(r->program, sizeof(r->program), "%s", open->open.program);
    snprintf(r->path, sizeof(r->path), "%s", open->open.path);
    snprintf(r->packed_path, sizeof(r->packed_path), "%s",
             open->open.packed_path ? open->open.packed_path : "");
    figures_label_locked(serve, r->program, r->label);
    r->last_open = &r->opens;
    r->last_ready = &r->ready;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&r->wake, &attr);
    pthread_condattr_destroy(&attr);
    /* The thread waits for the lock, so it sees what comes below. */
    errno = pthread_create(&r->thread, NULL, turns_run, r);
    if (errno != 0) {
        pt2_err_errno(err, PT2_ERR_INTERNAL, "cannot start a thread for a program");
        runner_free(r);
        return -1;
    }
    serve->n_threads++;
    r->next = serve->runners;
    serve->runners = r;
    metrics_add(METRIC_PROGRAMS_OPEN, 1, NULL);
    *ret_runner = r;
    return 0;
}

/* Room for one more open program, at the cost of one that has no sessions. */
static int make_room_locked(struct serve *serve, struct pt2_err *err)
{
    struct runner *idle = NULL;
    unsigned n = 0;

    for (struct runner *r = serve->runners; r; r = r->next) {
        n++;
        if (r->n_sessions == 0 && (!idle || r->idle_since_ns < idle->idle_since_ns))
            idle = r;
    }
    if (n < serve->options.max_programs)
        return 0;
    if (!idle) {
        metrics_add(METRIC_SESSIONS_REFUSED, 1, METRICS_LABELS("programs"));
        return pt2_err_set(err, PT2_ERR_BUDGET,
                           "sessions of %u programs are open, and no more than %u "
                           "programs can be",
                           n, serve->options.max_programs);
    }
    runner_unlink_locked(idle);
    idle->is_evicted = true;
    pthread_cond_signal(&idle->wake);
    return 0;
}

/* Auto means native where that is possible, whatever is open already; of one that native was
 * asked for and that is not open, nobody knows yet whether it is. */
static bool is_wanted(const struct runner *r, const struct serve_call *open)
{
    if (open->open.kind == PT2_ENGINE_AUTO)
        return r->asked == PT2_ENGINE_AUTO || r->kind == PT2_ENGINE_NATIVE;
    return open->open.kind == (r->kind == PT2_ENGINE_AUTO ? r->asked : r->kind);
}

int runner_for_locked(struct serve *serve, const struct serve_call *open,
                      struct runner **ret_runner, struct pt2_err *err)
{
    struct runner *r = serve->runners;

    while (r && !(streq(r->program, open->open.program) && is_wanted(r, open)))
        r = r->next;
    if (!r &&
        (make_room_locked(serve, err) < 0 || start_locked(serve, open, &r, err) < 0))
        return -1;
    r->n_sessions++;
    *ret_runner = r;
    return 0;
}
