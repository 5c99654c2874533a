/* keep.c - all sessions, saved at a stop and taken up by the next start.
 *
 * At a stop each runner saves its own, once it has nothing else to do; from the drain on no
 * call is taken, so what is saved stays true.  A start makes of each ID.saved a session that
 * is away: its cache comes when it is called (spill.c), and until it is changed the file
 * is still good, should the process be killed. */
#include "base/json.h"
#include "base/log.h"
#include "base/metrics.h"
#include "serve/impl.h"

/* ---- a session as JSON ---- */

/* What a session is, all of it but its cache and labels.  A member that is added here is one
 * that files of earlier versions have not: give it a value where it is missing. */
enum member_kind { MEMBER_TEXT, MEMBER_INT, MEMBER_DTYPE };

static const struct member {
    const char *name;
    enum member_kind kind;
    size_t offset, size;
} members[] = {
#define MEMBER(name, kind, field)                                                        \
    {name, kind, offsetof(struct session, field), sizeof(((struct session *)0)->field)}
    MEMBER("id", MEMBER_TEXT, id),
    MEMBER("owner", MEMBER_TEXT, owner),
    MEMBER("program", MEMBER_TEXT, facts.program),
    MEMBER("batch_size", MEMBER_INT, facts.batch_size),
    MEMBER("max_cache_len", MEMBER_INT, facts.max_cache_len),
    MEMBER("vocab_size", MEMBER_INT, facts.vocab_size),
    MEMBER("cache_bytes", MEMBER_INT, facts.cache_bytes),
    MEMBER("file_bytes", MEMBER_INT, facts.file_bytes),
    MEMBER("cache_dtype", MEMBER_DTYPE, facts.cache_dtype),
    MEMBER("made_as", MEMBER_DTYPE, made_as),
    MEMBER("position", MEMBER_INT, position),
    MEMBER("rewind_floor", MEMBER_INT, rewind_floor),
    MEMBER("created", MEMBER_INT, created_ms),
    MEMBER("ttl", MEMBER_INT, ttl_s),
    MEMBER("number", MEMBER_INT, number),
#undef MEMBER
};
_Static_assert(sizeof(int64_t) == sizeof(uint64_t), "MEMBER_INT is either");

static json_t *member_json(const struct session *s, const struct member *m)
{
    const char *at = (const char *)s + m->offset;
    int64_t n;
    enum pt2_dtype dtype;

    switch (m->kind) {
    case MEMBER_TEXT:
        return json_string(at);
    case MEMBER_DTYPE:
        memcpy(&dtype, at, sizeof(dtype));
        return dtype == PT2_DTYPE_NONE ? json_null()
                                       : json_string(pt2_dtype_safetensors(dtype));
    default:
        memcpy(&n, at, sizeof(n));
        return json_integer(n);
    }
}

static bool read_dtype(const json_t *json, void *to)
{
    enum pt2_dtype dtype = PT2_DTYPE_NONE;

    if (json_is_string(json))
        dtype = pt2_dtype_from_safetensors(json_string_value(json));
    if (!json_is_null(json) && dtype == PT2_DTYPE_NONE)
        return false;
    memcpy(to, &dtype, sizeof(dtype));
    return true;
}

static bool read_member(const json_t *facts, const struct member *m, struct session *s)
{
    const json_t *json = json_object_get(facts, m->name);
    char *at = (char *)s + m->offset;
    int64_t n = json_integer_value(json);

    if (m->kind == MEMBER_DTYPE)
        return read_dtype(json, at);
    if (m->kind == MEMBER_TEXT && json_is_string(json))
        return (size_t)snprintf(at, m->size, "%s", json_string_value(json)) < m->size;
    if (m->kind == MEMBER_TEXT || !json_is_integer(json) || n < 0)
        return false;
    memcpy(at, &n, sizeof(n));
    return true;
}

/* Under the lock; new. */
static json_t *facts_json_locked(const struct session *s)
{
    int64_t left_ms = (session_expires_ns_locked(s) - clock_mono_ns()) / 1000000;
    json_t *facts =
        json_pack("{s:O, s:s, s:b, s:I}", "labels", s->labels, "engine",
                  pt2_engine_kind_name(s->engine), "can_rewind", s->can_rewind, "expires",
                  (json_int_t)(clock_unix_ms() + left_ms));

    for (size_t i = 0; facts && i < ARRAY_LEN(members); i++)
        if (json_object_set_new(facts, members[i].name, member_json(s, &members[i])) < 0) {
            json_decref(facts);
            return NULL;
        }
    return facts;
}

/* ---- a stop ---- */

bool keep_is_due_locked(const struct serve *serve)
{
    if (!serve->draining || !serve->options.persist || !*serve->saved.path)
        return false;
    for (const struct runner *r = serve->runners; r; r = r->next)
        if (!r->is_saved)
            return true;
    return false;
}

static struct session *find_unsaved_locked(const struct runner *r)
{
    struct session *s = r->serve->oldest;

    while (s && (s->runner != r || s->was_stopped))
        s = s->newer;
    return s;
}

/* Without the lock; the file of a session that is true as it is stays. */
static int save(struct runner *r, struct session *s, const json_t *facts,
                struct pt2_err *err)
{
    struct serve *serve = r->serve;

    if (atomic_load(&serve->is_late))
        return pt2_err_set(err, PT2_ERR_DRAINING, "the time to save it is over");
    if (!facts)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory to describe it");
    if (spill_unkeep(r, s, err) < 0 ||
        (s->cache && saved_spill(&serve->saved, s->id, s->cache, s->position,
                                 &serve->is_late, &s->image, err) < 0))
        return -1;
    return saved_keep(&serve->saved, s->id, &s->image, facts, err);
}

/* Nobody used it since its file was written; and the file has its name, which an unkeep that failed
 * may have taken. */
static bool is_still_true_locked(struct session *s)
{
    struct serve *serve = s->runner->serve;
    bool is_true = s->is_kept && s->used_ns == s->kept_used_ns;

    if (!is_true)
        return false;
    pthread_mutex_unlock(&serve->lock);
    is_true = saved_is_kept(&serve->saved, s->id);
    pthread_mutex_lock(&serve->lock);
    return is_true;
}

static void save_locked(struct runner *r, struct session *s)
{
    struct serve *serve = r->serve;
    json_auto_t *facts = NULL;
    struct pt2_err err = {0};
    int ret;

    s->was_stopped = true;
    if (is_still_true_locked(s))
        return;
    if (s->cache)
        s->made_as = pt2_cache_dtype(s->cache);
    facts = facts_json_locked(s);
    pthread_mutex_unlock(&serve->lock);
    ret = save(r, s, facts, &err);
    if (ret < 0) {
        log_warning("session %s can not be saved, and is lost: %s", s->id, err.text);
        (void)!saved_remove(&serve->saved, s->id, NULL);
    }
    metrics_add(METRIC_SESSIONS_SAVED, 1, METRICS_LABELS(ret < 0 ? "failed" : "ok"));
    pthread_mutex_lock(&serve->lock);
    s->is_kept = ret == 0;
}

bool keep_sessions_locked(struct runner *r)
{
    struct serve *serve = r->serve;
    int64_t begun_ns = clock_mono_ns();
    struct pt2_err err = {0};
    struct session *s;
    unsigned n = 0;

    if (r->is_saved || !serve->draining || !serve->options.persist || !*serve->saved.path)
        return false;
    for (; (s = find_unsaved_locked(r)); n += s->is_kept)
        save_locked(r, s);
    pthread_mutex_unlock(&serve->lock);
    if (n > 0 && saved_sync(&serve->saved, &err) < 0)
        log_error("sessions were saved, but may not be there after a power cut: %s",
                  err.text);
    if (n > 0)
        log_info("saved %u sessions of program '%.12s' in %lld ms", n, r->program,
                 (long long)(clock_mono_ns() - begun_ns) / 1000000);
    pthread_mutex_lock(&serve->lock);
    r->is_saved = true;
    pthread_cond_broadcast(&serve->quiet);
    return true;
}

/* ---- a start ---- */

struct found {
    struct session *session; /* ours */
    int64_t expires_ms;
};

struct finding {
    struct serve *serve;
    struct found *found; /* n of them */
    size_t n, size;
};

static int read_session(const json_t *facts, const char *id, struct session *s)
{
    const char *engine = json_string_value(json_object_get(facts, "engine"));

    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        if (!read_member(facts, &members[i], s))
            return -1;
    if (!engine || !streq(s->id, id) || strlen(s->facts.program) != 64 ||
        s->rewind_floor > s->position || s->position > s->facts.max_cache_len)
        return -1;
    s->engine = streq(engine, pt2_engine_kind_name(PT2_ENGINE_NATIVE)) ? PT2_ENGINE_NATIVE
                                                                       : PT2_ENGINE_ATEN;
    s->can_rewind = json_is_true(json_object_get(facts, "can_rewind"));
    return 0;
}

int keep_read_facts(const json_t *facts, const char *id, const char *node,
                    struct session **ret_session, int64_t *ret_expires_ms,
                    struct pt2_err *err)
{
    const json_t *expires = json_object_get(facts, "expires");
    AUTO(session) s = NULL;

    if (session_new(node, NULL, json_object_get(facts, "labels"), &s, err) < 0)
        return -1;
    if (!json_is_integer(expires) || read_session(facts, id, s) < 0)
        return pt2_err_set(err, PT2_ERR_INVALID, "the file says of it what can't be");
    *ret_expires_ms = json_integer_value(expires);
    *ret_session = TAKE(s);
    return 0;
}

static void lost(void *context, const char *id, const char *why)
{
    (void)context;
    log_warning("session %s was saved, and is lost: %s", id, why);
    metrics_add(METRIC_SESSION_RETURNS, 1, METRICS_LABELS("lost"));
}

/* Collects, since the order in which they were made is to be theirs again. */
static bool collect(void *context, const char *id, const struct saved_image *image,
                    const json_t *facts)
{
    struct finding *f = context;
    struct session *s = NULL;
    int64_t expires_ms = 0;
    struct pt2_err err = {0};

    if (!f->serve->options.persist)
        return false;
    if (f->n == f->size) {
        size_t size = MAX(2 * f->size, 64);
        struct found *more = realloc(f->found, size * sizeof(*more));

        if (!more) {
            lost(NULL, id, "no memory");
            return false;
        }
        f->found = more;
        f->size = size;
    }
    if (keep_read_facts(facts, id, f->serve->node, &s, &expires_ms, &err) < 0) {
        lost(NULL, id, err.text);
        return false;
    }
    s->image = *image;
    f->found[f->n++] = (struct found){s, expires_ms};
    return true;
}

static int compare_found(const void *a, const void *b)
{
    uint64_t i = ((const struct found *)a)->session->number,
             j = ((const struct found *)b)->session->number;

    return (i > j) - (i < j);
}

/* Into the table, with a runner, whose engine opens at the first call. */
static int insert_locked(struct serve *serve, struct session *s, int64_t left_ms,
                         const struct serve_call *open, struct pt2_err *err)
{
    struct runner *r;

    if (serve->n_sessions >= serve->options.max_sessions)
        return pt2_err_set(err, PT2_ERR_BUDGET, "there are %u sessions already",
                           serve->n_sessions);
    memcpy(s->holder, s->owner, sizeof(s->holder));
    if (holders_add_locked(serve, s->holder, /* max= */ 0, err) < 0)
        return -1;
    if (runner_for_locked(serve, open, &r, err) < 0) {
        holders_remove_locked(serve, s->holder);
        return -1;
    }
    serve->n_sessions++;
    serve->n_away++;
    serve->spill_bytes += s->image.bytes;
    s->runner = r;
    s->is_away = s->is_kept = true;
    session_insert_locked(serve, s);
    /* The clock may have been set back meanwhile. */
    left_ms = MIN(left_ms, s->ttl_s * 1000);
    s->used_ns = clock_mono_ns() - (s->ttl_s * 1000 - left_ms) * 1000000;
    s->kept_used_ns = s->used_ns;
    return 0;
}

/* s is taken.  False: it is lost, or has expired. */
static bool take_up(struct serve *serve, struct session *taken, int64_t left_ms)
{
    const struct serve_hooks *hooks = &serve->options.hooks;
    AUTO(session) s = taken;
    char path[PATH_MAX] = "", packed_path[PATH_MAX] = "";
    struct serve_call open = {.open = {.program = s->facts.program,
                                       .path = path,
                                       .packed_path = packed_path,
                                       .kind = s->engine}};
    struct pt2_err err = {0};
    int ret;

    if (hooks->returned && hooks->returned(hooks->context, s->id, s->owner, s->facts.program, path,
                                           packed_path, &err) < 0) {
        lost(NULL, s->id, err.text);
        (void)!saved_remove(&serve->saved, s->id, NULL);
        return false;
    }
    if (left_ms > 0) {
        pthread_mutex_lock(&serve->lock);
        ret = insert_locked(serve, s, left_ms, &open, &err);
        if (ret == 0)
            s = NULL;
        pthread_mutex_unlock(&serve->lock);
        if (ret == 0)
            return true;
        lost(NULL, s->id, err.text);
    }
    (void)!saved_remove(&serve->saved, s->id, NULL);
    serve_tell_closed(serve, s->id, s->facts.program,
                      left_ms > 0 ? SERVE_LOST : SERVE_EXPIRED);
    return false;
}

int keep_take_up(struct serve *serve, struct pt2_err *err)
{
    struct finding f = {.serve = serve};
    const struct saved_visitor visitor = {collect, lost, &f};
    int64_t now_ms = clock_unix_ms();
    int ret = saved_each(&serve->saved, &visitor, err);
    unsigned n = 0;

    if (f.n > 0)
        qsort(f.found, f.n, sizeof(*f.found), compare_found);
    for (size_t i = 0; i < f.n; i++) {
        if (ret == 0)
            n += take_up(serve, f.found[i].session, f.found[i].expires_ms - now_ms);
        else
            session_free(f.found[i].session);
    }
    free(f.found);
    if (n > 0)
        log_info("%u saved sessions are there again", n);
    return ret;
}
