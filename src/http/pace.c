/* pace.c - connections that wait because their client is ahead of its rate.
 *
 * What passes is taken from the client's bucket (clients.h) after it has passed; where that
 * leaves a debt the connection is suspended until it is paid, by the watcher's clock.  No
 * thread waits.  A reply that is paced, and any file over TLS, comes by read_paced, in place
 * of libmicrohttpd's own sending. */
#include "http/clients.h"
#include "http/exchange.h"
#include "http/server_parts.h"
#include "http/watcher.h"

#include "base/metrics.h"

#define LEAST_MS 10        /* a shorter wait goes with the next one */
#define CHUNK    (32 << 10) /* of a reply, at once */

/* ---- pauses ---- */

static uint64_t own_rate(const struct http_exchange *x, enum direction direction)
{
    return direction == CLIENT_UPLOAD ? x->req.caller.upload_rate
                                      : x->req.caller.download_rate;
}

bool pace_pause_locked(struct http_exchange *x, bool is_upload)
{
    enum direction direction = is_upload ? CLIENT_UPLOAD : CLIENT_DOWNLOAD;
    int64_t ms = client_wait_ms(x->client, direction, own_rate(x, direction));

    if (ms < LEAST_MS || !watcher_pace(x->server->watcher, x->link, x, is_upload,
                                       http_now_ms() + ms))
        return false;
    MHD_suspend_connection(x->conn);
    x->is_paced = true;
    metrics_add(METRIC_HTTP_PACED, 1, NULL);
    metrics_add(METRIC_HTTP_PACES, 1, METRICS_LABELS(is_upload ? "upload" : "download"));
    return true;
}

bool pace_pause_upload(struct http_exchange *x)
{
    bool is_paused;

    pthread_mutex_lock(&x->lock);
    is_paused = pace_pause_locked(x, /* is_upload= */ true);
    pthread_mutex_unlock(&x->lock);
    return is_paused;
}

void pace_over(struct http_exchange *x)
{
    pthread_mutex_lock(&x->lock);
    if (x->is_paced) {
        x->is_paced = false;
        metrics_add(METRIC_HTTP_PACED, -1, NULL);
        MHD_resume_connection(x->conn);
    }
    pthread_mutex_unlock(&x->lock);
}

void pace_pass(struct http_exchange *x, bool is_upload, uint64_t n)
{
    enum direction direction = is_upload ? CLIENT_UPLOAD : CLIENT_DOWNLOAD;

    client_pass(x->client, direction, own_rate(x, direction), n);
}

bool pace_is_needed(const struct http_exchange *x)
{
    return client_is_paced(x->client, CLIENT_DOWNLOAD, own_rate(x, CLIENT_DOWNLOAD));
}

/* ---- replies ---- */

struct source {
    struct http_exchange *x; /* a reference */
    char *data;              /* NULL: of the file */
    int fd;                  /* -1: of memory */
    uint64_t first;
};

/* libmicrohttpd wants bytes: on the HTTP thread. */
static ssize_t read_paced(void *context, uint64_t pos, char *to, size_t max)
{
    struct source *s = context;
    ssize_t n = (ssize_t)MIN(max, (size_t)CHUNK);
    bool is_paused;

    pthread_mutex_lock(&s->x->lock);
    is_paused = pace_pause_locked(s->x, /* is_upload= */ false);
    pthread_mutex_unlock(&s->x->lock);
    if (is_paused)
        return 0;
    if (s->data)
        memcpy(to, s->data + pos, (size_t)n);
    else
        n = pread(s->fd, to, (size_t)n, (off_t)(s->first + pos));
    if (n <= 0) /* the file was cut */
        return MHD_CONTENT_READER_END_WITH_ERROR;
    pace_pass(s->x, /* is_upload= */ false, (uint64_t)n);
    return n;
}

static void close_source(void *context)
{
    struct source *s = context;

    if (s->fd >= 0)
        close(s->fd);
    free(s->data);
    exchange_unref(s->x);
    free(s);
}

static struct MHD_Response *response_from(struct http_exchange *x, char *data, int fd,
                                          uint64_t first, uint64_t len)
{
    struct source *s = malloc(sizeof(*s));
    struct MHD_Response *response = NULL;

    if (s) {
        exchange_ref(x);
        *s = (struct source){.x = x, .data = data, .fd = fd, .first = first};
        response = MHD_create_response_from_callback(len, CHUNK, read_paced, s,
                                                     close_source);
        if (!response)
            close_source(s);
        return response;
    }
    if (fd >= 0)
        close(fd);
    free(data);
    return NULL;
}

struct MHD_Response *pace_response_of_data(struct http_exchange *x, char *data,
                                           size_t len)
{
    return response_from(x, data, -1, 0, len);
}

struct MHD_Response *pace_response_of_file(struct http_exchange *x, int fd,
                                           uint64_t first, uint64_t len)
{
    return response_from(x, NULL, fd, first, len);
}
