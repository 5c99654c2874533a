#include "http/exchange.h"

#include "base/log.h"
#include "base/metrics.h"
#include "http/clients.h"
#include "http/pool.h"
#include "http/server_parts.h"
#include "http/watcher.h"

struct http_exchange *exchange_new(struct http_server *server, struct http_link *link,
                                   int fd, const char *target)
{
    struct http_exchange *x = calloc(1, sizeof(*x));

    if (!x)
        return NULL;
    x->target = strdup(target);
    if (!x->target) {
        free(x);
        return NULL;
    }
    pthread_mutex_init(&x->lock, NULL);
    atomic_init(&x->refs, 1);
    x->req.x = x;
    x->req.app = server->app;
    x->server = server;
    x->link = link;
    x->is_tls = link->tls != NULL;
    x->fd = fd;
    x->client = client_ref(link->client);
    x->target_len = strlen(target);
    x->started_ms = http_now_ms();
    x->deadline_ms = INT64_MAX;
    buf_init(&x->stream.pending, HTTP_STREAM_MAX);
    return x;
}

void exchange_ref(struct http_exchange *x)
{
    atomic_fetch_add(&x->refs, 1);
}

void out_header_free(struct out_header *h)
{
    free(h->name);
    free(h->value);
    free(h);
}

static void free_out_headers(struct out_header *h)
{
    while (h) {
        struct out_header *next = h->next;

        out_header_free(h);
        h = next;
    }
}

void exchange_unref(struct http_exchange *x)
{
    if (atomic_fetch_sub(&x->refs, 1) != 1)
        return;
    if (x->on_reply)
        x->on_reply(x->on_reply_ctx, &x->req, /* status= */ 0, NULL, NULL);
    if (x->req.context_free)
        x->req.context_free(x->req.context);
    if (x->response)
        MHD_destroy_response(x->response);
    body_done(x);
    json_decref(x->req.json);
    free_out_headers(x->out_headers);
    buf_done(&x->stream.pending);
    share_done(x);
    client_unref(x->client);
    pthread_mutex_destroy(&x->lock);
    free(x->headers);
    free(x->text);
    free(x->target);
    free(x);
}

/* ---- replying ---- */

void exchange_resume_locked(struct http_exchange *x)
{
    if (!x->suspended)
        return;
    x->suspended = false;
    metrics_add(METRIC_HTTP_SUSPENDED, -1, NULL);
    watcher_unwait(x->server->watcher, x->link);
    MHD_resume_connection(x->conn);
}

static void note_problem(struct http_exchange *x, unsigned status, const json_t *json)
{
    const char *type = json_string_value(json_object_get(json, "type"));

    if (status >= 400 && type && strncmp(type, "/problems/", 10) == 0)
        snprintf(x->problem, sizeof(x->problem), "%s", type + 10);
}

bool exchange_reply(struct http_exchange *x, unsigned status,
                    struct MHD_Response *response, const json_t *json)
{
    http_reply_fn *on_reply = NULL;
    bool is_first;

    pthread_mutex_lock(&x->lock);
    is_first = !x->replied;
    x->replied = true;
    if (is_first)
        on_reply = TAKE(x->on_reply);
    pthread_mutex_unlock(&x->lock);
    if (!is_first) {
        if (response)
            MHD_destroy_response(response);
        return false;
    }
    if (on_reply)
        on_reply(x->on_reply_ctx, &x->req, response ? status : 0,
                 response ? MHD_get_response_header(response, "Location") : NULL, json);
    pthread_mutex_lock(&x->lock);
    x->status = status;
    note_problem(x, status, json);
    if (!x->ended) /* its socket is open */
        audit_note(x, response, json);
    if (!x->ended)
        x->response = TAKE(response);
    x->ready = true;
    exchange_resume_locked(x);
    pthread_mutex_unlock(&x->lock);
    if (response) /* too late */
        MHD_destroy_response(response);
    return true;
}

void exchange_force(struct http_exchange *x)
{
    bool is_working;

    pthread_mutex_lock(&x->lock);
    if (x->stream.begun) {
        x->stream.ended = true;
        exchange_resume_locked(x);
    }
    is_working = x->n_working > 0;
    pthread_mutex_unlock(&x->lock);
    if (!is_working)
        http_reply_problem(&x->req, PT2_ERR_DRAINING, "the daemon is stopping");
}

static enum MHD_Result queue(struct http_exchange *x)
{
    struct MHD_Response *response;
    enum MHD_Result r;

    pthread_mutex_lock(&x->lock);
    response = TAKE(x->response);
    pthread_mutex_unlock(&x->lock);
    x->phase = PHASE_QUEUED;
    if (!response)
        return MHD_NO;
    r = MHD_queue_response(x->conn, x->status, response);
    MHD_destroy_response(response);
    return r;
}

enum MHD_Result exchange_answer(struct http_exchange *x)
{
    bool ready, waits = false;

    pthread_mutex_lock(&x->lock);
    ready = x->ready;
    if (!ready && watcher_wait(x->server->watcher, x->link, x->deadline_ms)) {
        MHD_suspend_connection(x->conn);
        metrics_add(METRIC_HTTP_SUSPENDED, 1, NULL);
        x->suspended = waits = true;
    }
    pthread_mutex_unlock(&x->lock);
    if (waits)
        return MHD_YES;
    if (!ready)
        exchange_force(x); /* too late to wait */
    pthread_mutex_lock(&x->lock);
    ready = x->ready;
    pthread_mutex_unlock(&x->lock);
    /* Not ready: a reply is in the making on another thread, and nothing may wait. */
    return ready ? queue(x) : MHD_NO;
}

/* ---- the handler ---- */

/* The handler is through: what happened meanwhile may be told now. */
static void handler_returned(struct http_exchange *x)
{
    unsigned untold;

    pthread_mutex_lock(&x->lock);
    x->returned = true;
    untold = x->cancel_pending & ~x->cancel_told;
    pthread_mutex_unlock(&x->lock);
    if (untold)
        watcher_tell(x->server->watcher, x, untold);
}

void exchange_call(void (*fn)(struct http_request *req), struct http_request *req)
{
    log_set_request(req->id);
    fn(req);
    log_set_request(NULL);
}

void exchange_work(void (*fn)(struct http_request *req), struct http_request *req)
{
    struct http_exchange *x = exchange_of(req);
    bool is_late;

    pthread_mutex_lock(&x->lock);
    is_late = x->replied;
    if (!is_late)
        x->n_working++;
    pthread_mutex_unlock(&x->lock);
    if (is_late)
        return;
    exchange_call(fn, req);
    pthread_mutex_lock(&x->lock);
    x->n_working--;
    pthread_mutex_unlock(&x->lock);
}

static void run_on_pool(void *arg, bool is_stopping)
{
    struct http_exchange *x = arg;

    if (is_stopping)
        exchange_force(x);
    else
        exchange_work(x->req.route->handler, &x->req);
    handler_returned(x);
    exchange_unref(x);
}

enum MHD_Result exchange_serve(struct http_exchange *x)
{
    struct pt2_err err = {0};

    x->phase = PHASE_SERVED;
    x->is_handed = true;
    watcher_serves(x->server->watcher, x->link, x);
    if (!(x->req.route->flags & HTTP_BLOCKING)) {
        exchange_call(x->req.route->handler, &x->req);
        handler_returned(x);
        return exchange_answer(x);
    }
    exchange_ref(x);
    if (pool_push(x->server->pool, run_on_pool, x, false, &err) < 0) {
        http_reply_err(&x->req, &err);
        handler_returned(x);
        exchange_unref(x);
    }
    return exchange_answer(x);
}

void exchange_cancel(struct http_exchange *x, enum http_cancel why)
{
    static const char *const names[] = {"client gone", "deadline", "shutdown"};
    void (*fn)(struct http_request *, enum http_cancel) = NULL;
    bool is_open;

    if (why == HTTP_CLIENT_GONE)
        atomic_store(&x->gone, true);
    pthread_mutex_lock(&x->lock);
    x->cancel_pending |= 1u << why;
    /* Nothing is left to cancel once there is a reply, but for a stream. */
    is_open = x->stream.begun ? !x->stream.ended : !x->replied;
    if (x->returned && is_open && !(x->cancel_told & 1u << why)) {
        x->cancel_told |= 1u << why;
        fn = x->on_cancel;
    }
    if (why == HTTP_CLIENT_GONE && x->stream.begun) {
        x->stream.ended = true;
        exchange_resume_locked(x);
    }
    pthread_mutex_unlock(&x->lock);
    if (!fn)
        return;
    metrics_add(METRIC_HTTP_CANCELLED, 1, METRICS_LABELS(names[why]));
    fn(&x->req, why);
}

/* ---- the end ---- */

static void count(struct http_exchange *x, unsigned status, int64_t ms)
{
    const char *route = x->req.route ? x->req.route->path : "none";
    char code[8];

    snprintf(code, sizeof(code), "%u", status);
    metrics_add(
        METRIC_HTTP_REQUESTS, 1,
        METRICS_LABELS(route, x->req.route ? x->req.route->method : "none", code));
    if (x->problem[0])
        metrics_add(METRIC_HTTP_PROBLEMS, 1, METRICS_LABELS(route, code, x->problem));
    metrics_observe(METRIC_HTTP_DURATION, (double)ms / 1000, METRICS_LABELS(route));
    log_with(x->req.route && x->req.route->flags & HTTP_QUIET ? LOG_LEVEL_DEBUG
                                                              : LOG_LEVEL_INFO,
             LOG_REQUEST(x->req.id), "%s '%s' %u in %lld ms", x->method, x->target, status,
             (long long)ms);
    audit_line(x, status);
}

void exchange_ended(struct http_exchange *x)
{
    struct MHD_Response *unsent;
    bool must_tell;
    unsigned status;

    watcher_serves(x->server->watcher, x->link, NULL);
    body_cut(x);
    pthread_mutex_lock(&x->lock);
    status = x->raw_status ? x->raw_status : x->status;
    must_tell = x->stream.begun && !x->stream.ended;
    x->stream.closed = true;
    x->ended = true;
    unsent = TAKE(x->response);
    pthread_mutex_unlock(&x->lock);
    if (unsent) /* a stream's holds a reference to x: it must go before x can */
        MHD_destroy_response(unsent);
    if (must_tell) {
        atomic_store(&x->gone, true);
        watcher_tell(x->server->watcher, x, 1u << HTTP_CLIENT_GONE);
    }
    /* A client that left before its answer, or what libmicrohttpd refused itself. */
    if (x->phase != PHASE_QUEUED && !x->raw_status)
        status = 0;
    if (x->phase != PHASE_NEW)
        count(x, status, http_now_ms() - x->started_ms);
    if (x->lingers)
        watcher_linger(x->server->watcher, x->fd);
    if (x->counted) {
        atomic_fetch_sub(&x->server->n_active, 1);
        metrics_add(METRIC_HTTP_ACTIVE, -1, NULL);
    }
}
