#include "http/session_call.h"

#include "base/metrics.h"
#include "http/config.h"
#include "http/reply.h"
#include "http/session_json.h"
#include "serve/ledger.h"

#include <inttypes.h>

/* ---- replies ---- */

/* On the pool: the database knows what became of the session. */
static void reply_fate(struct http_request *req)
{
    struct pt2_err err = {0};

    ledger_fate(req->app->store, req->params[0], http_who(req), &err);
    http_reply_err(req, &err);
}

json_t *session_problem_extra(const struct serve_call *call)
{
    enum pt2_error code = call->err.code;

    if (call->position >= 0 &&
        (code == PT2_ERR_POSITION_GAP || code == PT2_ERR_CANNOT_REWIND ||
         code == PT2_ERR_PRECONDITION || code == PT2_ERR_LIMIT))
        return json_pack("{s:I}", "position", (json_int_t)call->position);
    return NULL;
}

void session_reply_err(struct http_request *req, const struct serve_call *call)
{
    if (call->err.code == PT2_ERR_NOT_FOUND && req->params[0])
        http_run_blocking(req, reply_fate);
    else
        http_reply_err_with(req, &call->err, session_problem_extra(call));
}

void session_reply_info(struct session_call *sc, unsigned status)
{
    http_reply_json(sc->req, status, session_json(&sc->call.info));
}

void session_reply_timing(struct http_request *req, const struct serve_call *call)
{
    http_reply_header(req, "Server-Timing", "queue;dur=%.3f, run;dur=%.3f",
                      (double)call->queue_ns / 1e6, (double)call->run_ns / 1e6);
}

/* ---- the call ---- */

static void context_free(void *context)
{
    struct session_call *sc = context;

    serve_call_done(&sc->call);
    if (sc->extra_free)
        sc->extra_free(sc->extra);
    free(sc);
}

static void done(struct serve_call *call)
{
    struct session_call *sc = call->context;
    struct http_request *req = sc->req;

    if (call->err.code == PT2_ERR_NONE)
        sc->reply(sc);
    else
        session_reply_err(req, call);
    http_request_unref(req); /* sc may go with it */
}

static int reserve(struct serve_call *call, uint64_t bytes, struct pt2_err *err)
{
    struct session_call *sc = call->context;

    if (!sc->is_reserved &&
        http_reserve_answer(sc->req, bytes + sc->answer_bytes, err) < 0)
        return -1;
    sc->is_reserved = true;
    return 0;
}

void session_call_late(const struct http_request *req, struct serve_call *call)
{
    if (serve_cancel(req->app->serve, call, PT2_ERR_NOT_IN_TIME,
                     "its turn did not come within sessions.max_wait"))
        metrics_add(METRIC_CALLS_LATE, 1, NULL);
}

static void cancelled(struct http_request *req, enum http_cancel why)
{
    struct session_call *sc = req->context;

    if (why == HTTP_SHUTDOWN)
        serve_cancel(req->app->serve, &sc->call, PT2_ERR_DRAINING,
                     "the daemon is stopping");
    else if (why == HTTP_DEADLINE)
        session_call_late(req, &sc->call);
    else
        serve_cancel(req->app->serve, &sc->call, PT2_ERR_CANCELLED,
                     "the client closed its connection before the call had begun");
}

/* One of If-Match's entity tags; -1 for one that no session has. */
static bool read_tag(const char **at, int64_t *ret)
{
    const char *s = *at + strspn(*at, " \t"), *end;
    bool is_weak = after_prefix(s, "W/") != NULL;
    char *digits_end;

    if (is_weak)
        s += 2;
    end = *s == '"' ? strchr(s + 1, '"') : NULL;
    if (!end)
        return false;
    *ret = strtoll(s + 1, &digits_end, 10);
    if (is_weak || digits_end != end || s[1] < '0' || s[1] > '9')
        *ret = -1;
    *at = end + 1 + strspn(end + 1, " \t");
    return true;
}

static int read_if_match(struct session_call *sc)
{
    const char *s = http_header(sc->req, "If-Match");
    size_t n = 0;

    if (!s || streq(s, "*"))
        return 0;
    do {
        if (n == SESSION_MAX_IF_MATCH || !read_tag(&s, &sc->if_match[n++]) ||
            (*s != ',' && *s != '\0')) {
            http_reply_problem(sc->req, PT2_ERR_BAD_REQUEST,
                               "If-Match must be a position in double quotes, as "
                               "If-Match: \"7\" (at most %d of them)",
                               SESSION_MAX_IF_MATCH);
            return -1;
        }
    } while (*s++ == ',');
    sc->call.if_match = sc->if_match;
    sc->call.n_if_match = n;
    return 0;
}

void session_call_of(const struct http_request *req, struct serve_call *call)
{
    call->who = http_who(req);
    call->owner = req->caller.owner;
    call->holder = req->caller.holder;
    call->max_sessions = req->caller.max_sessions;
}

struct session_call *session_call_new(struct http_request *req, enum serve_verb verb,
                                      void (*reply)(struct session_call *sc))
{
    struct session_call *sc = calloc(1, sizeof(*sc));
    struct pt2_err err = {0};

    if (!sc) {
        pt2_err_set(&err, PT2_ERR_NOMEM, "no memory for a call");
        http_reply_err(req, &err);
        return NULL;
    }
    serve_call_init(&sc->call, verb, done, sc);
    session_call_of(req, &sc->call);
    sc->call.reserve = reserve;
    sc->req = req;
    sc->id = verb == SERVE_OPEN ? NULL : req->params[0];
    sc->reply = reply;
    req->context = sc;
    req->context_free = context_free;
    if (sc->id && read_if_match(sc) < 0)
        return NULL; /* freed with the request */
    http_on_cancel(req, cancelled);
    http_set_deadline(req, config_get_ms(req->app->config, "sessions.max_wait"));
    return sc;
}

void session_call_submit(struct session_call *sc)
{
    http_request_ref(sc->req);
    serve_submit(sc->req->app->serve, sc->id, &sc->call);
}

int session_facts(struct http_request *req, struct serve_facts *ret_facts)
{
    struct pt2_err err = {0};

    if (serve_facts(req->app->serve, req->params[0], http_who(req), ret_facts, &err) == 0)
        return 0;
    http_run_blocking(req, reply_fate);
    return -1;
}
