/* stream.c - replies whose body comes bit by bit. */
#include "http/exchange.h"

#include "base/metrics.h"
#include "http/server_parts.h"
#include "http/watcher.h"

/* libmicrohttpd wants bytes: on the HTTP thread. */
static ssize_t read_stream(void *context, uint64_t pos, char *to, size_t max)
{
    struct http_exchange *x = context;
    struct buf *pending = &x->stream.pending;
    ssize_t n = 0;

    (void)pos;
    pthread_mutex_lock(&x->lock);
    if (pending->len > 0 && pace_pause_locked(x, /* is_upload= */ false)) {
        n = 0;
    } else if (pending->len > 0) {
        n = (ssize_t)MIN(max, pending->len);
        memcpy(to, pending->data, (size_t)n);
        memmove(pending->data, pending->data + n, pending->len - (size_t)n);
        pending->len -= (size_t)n;
        pace_pass(x, /* is_upload= */ false, (uint64_t)n);
    } else if (x->stream.ended ||
               !watcher_wait(x->server->watcher, x->link, x->deadline_ms)) {
        n = MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        MHD_suspend_connection(x->conn);
        metrics_add(METRIC_HTTP_SUSPENDED, 1, NULL);
        x->suspended = true;
    }
    pthread_mutex_unlock(&x->lock);
    return n;
}

/* The response goes, sent or not. */
static void close_stream(void *context)
{
    struct http_exchange *x = context;

    pthread_mutex_lock(&x->lock);
    x->stream.closed = true;
    pthread_mutex_unlock(&x->lock);
    exchange_unref(x);
}

void http_reply_stream(struct http_request *req, const char *content_type)
{
    struct http_exchange *x = exchange_of(req);
    struct MHD_Response *response;

    exchange_ref(x);
    response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 16 << 10, read_stream,
                                                 x, close_stream);
    if (!response)
        exchange_unref(x);
    if (response && !response_add_headers(x, response, content_type)) {
        MHD_destroy_response(response);
        response = NULL;
    }
    pthread_mutex_lock(&x->lock);
    if (!x->replied) {
        x->stream.begun = true;
        x->stream.closed = !response;
    }
    pthread_mutex_unlock(&x->lock);
    exchange_reply(x, 200, response, NULL);
}

bool http_stream_write(struct http_request *req, const char *data, size_t len)
{
    struct http_exchange *x = exchange_of(req);
    bool is_open;

    pthread_mutex_lock(&x->lock);
    is_open = x->stream.begun && !x->stream.ended && !x->stream.closed &&
              !atomic_load(&x->gone);
    if (is_open) {
        buf_add(&x->stream.pending, data, len);
        if (buf_failed(&x->stream.pending)) {
            /* Too far behind: what it has not read by now, it never will. */
            x->stream.ended = true;
            x->stream.pending.failed = false;
            is_open = false;
        }
        exchange_resume_locked(x);
    }
    pthread_mutex_unlock(&x->lock);
    return is_open;
}

void http_stream_end(struct http_request *req)
{
    struct http_exchange *x = exchange_of(req);

    pthread_mutex_lock(&x->lock);
    x->stream.ended = true;
    exchange_resume_locked(x);
    pthread_mutex_unlock(&x->lock);
}
