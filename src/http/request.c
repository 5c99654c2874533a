#include "http/exchange.h"
#include "http/pool.h"
#include "http/server_parts.h"
#include "http/watcher.h"

#include <errno.h>
#include <strings.h>

const char *http_query(const struct http_request *req, const char *name)
{
    const struct http_exchange *x = exchange_of(req);

    for (size_t i = 0; i < x->n_query; i++)
        if (streq(x->query[i].name, name))
            return x->query[i].value;
    return NULL;
}

bool http_query_each(const struct http_request *req, size_t i, const char **ret_name,
                     const char **ret_value)
{
    const struct http_exchange *x = exchange_of(req);

    if (i >= x->n_query)
        return false;
    *ret_name = x->query[i].name;
    *ret_value = x->query[i].value;
    return true;
}

int http_query_int(struct http_request *req, const char *name, int64_t min, int64_t max,
                   int64_t *ret)
{
    const char *text = http_query(req, name);
    long long value;
    char *end;

    if (!text)
        return 0;
    errno = 0;
    value = strtoll(text, &end, 10);
    if (!strchr("-0123456789", *text) || end == text || *end || errno || value < min ||
        value > max) {
        http_reply_problem(req, PT2_ERR_INVALID,
                           "?%s= must be a number from %lld to %lld, not '%s'", name,
                           (long long)min, (long long)max, text);
        return -1;
    }
    *ret = value;
    return 0;
}

const char *http_header(const struct http_request *req, const char *name)
{
    const struct http_exchange *x = exchange_of(req);

    for (size_t i = 0; i < x->n_headers; i++)
        if (strcasecmp(x->headers[i].name, name) == 0)
            return x->headers[i].value;
    return NULL;
}

struct http_request *http_request_ref(struct http_request *req)
{
    exchange_ref(exchange_of(req));
    return req;
}

void http_request_unref(struct http_request *req)
{
    if (req)
        exchange_unref(exchange_of(req));
}

void http_on_cancel(struct http_request *req,
                    void (*fn)(struct http_request *req, enum http_cancel why))
{
    struct http_exchange *x = exchange_of(req);

    pthread_mutex_lock(&x->lock);
    x->on_cancel = fn;
    pthread_mutex_unlock(&x->lock);
}

void http_set_deadline(struct http_request *req, int64_t ms)
{
    struct http_exchange *x = exchange_of(req);

    pthread_mutex_lock(&x->lock);
    x->deadline_ms = http_now_ms() + ms;
    if (x->suspended) /* a handler on the pool */
        watcher_set_deadline(x->server->watcher, x->link, x->deadline_ms);
    pthread_mutex_unlock(&x->lock);
}

bool http_is_gone(const struct http_request *req)
{
    return atomic_load(&exchange_of(req)->gone);
}

void http_on_reply(struct http_request *req, http_reply_fn *fn, void *ctx)
{
    struct http_exchange *x = exchange_of(req);
    bool is_late;

    pthread_mutex_lock(&x->lock);
    is_late = x->replied;
    if (!is_late) {
        x->on_reply = fn;
        x->on_reply_ctx = ctx;
    }
    pthread_mutex_unlock(&x->lock);
    if (is_late)
        fn(ctx, req, /* status= */ 0, NULL, NULL);
}

/* ---- work that blocks ---- */

struct blocking {
    struct http_request *req; /* a reference */
    void (*fn)(struct http_request *req);
};

static void run_blocking(void *arg, bool is_stopping)
{
    struct blocking *b = arg;

    if (is_stopping)
        exchange_force(exchange_of(b->req));
    else
        exchange_work(b->fn, b->req);
    http_request_unref(b->req);
    free(b);
}

void http_run_blocking(struct http_request *req, void (*fn)(struct http_request *req))
{
    struct blocking *b = malloc(sizeof(*b));
    struct pt2_err err = {0};

    if (!b) {
        http_reply_problem(req, PT2_ERR_NOMEM, "request queue");
        return;
    }
    *b = (struct blocking){http_request_ref(req), fn};
    if (pool_push(exchange_of(req)->server->pool, run_blocking, b, false, &err) < 0) {
        http_reply_err(req, &err);
        http_request_unref(req);
        free(b);
    }
}
