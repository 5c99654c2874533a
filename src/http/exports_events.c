#include "base/buf.h"
#include "base/json.h"
#include "http/endpoints.h"
#include "http/job_follow.h"
#include "http/reply.h"

#include <errno.h>

#define MAX_EVENT_BYTES ((size_t)64 << 20)

/* One event of text/event-stream (the HTML standard, 9.2): JSON has no line breaks. */
static void write_event(struct http_request *req, const char *name, int64_t version,
                        const char *job, size_t len)
{
    AUTO_BUF event = BUF_INIT(MAX_EVENT_BYTES);

    buf_printf(&event, "id: %lld\nevent: %s\ndata: ", (long long)version, name);
    buf_add(&event, job, len);
    buf_str(&event, "\n\n");
    /* A client that has gone is noticed by the core. */
    if (!buf_failed(&event))
        (void)http_stream_write(req, event.data, event.len);
}

static void on_event(struct job_follow *f, const struct jobs_event *event)
{
    /* Without memory for it there is none: where it was the last, the stream ends, and its client
     * asks again. */
    if (event->job && event->version > f->last_seen)
        write_event(f->req, event->is_finished ? "finished" : "progress", event->version,
                    event->job, event->len);
    if (event->is_finished)
        http_stream_end(f->req);
}

static void on_cancel(struct job_follow *f)
{
    http_stream_end(f->req);
}

/* The id of the last event that a client has, which connects again; -1: none. */
static int64_t last_event_id(const struct http_request *req)
{
    const char *text = http_header(req, "Last-Event-ID");
    char *end;
    long long id;

    if (!text || !*text)
        return -1;
    errno = 0;
    id = strtoll(text, &end, 10);
    return *end || errno || id < 0 ? -1 : id;
}

static void begin_stream(struct http_request *req)
{
    http_reply_header(req, "Cache-Control", "no-cache");
    http_reply_stream(req, "text/event-stream");
}

/* A job that is finished has one event.  Who has it already is told to stop asking: 204
 * ends an EventSource. */
static void reply_finished(struct http_request *req, const json_t *job, int64_t version)
{
    AUTO_PTR char *text = json_to_text(job, JSON_COMPACT);

    if (!text) {
        http_reply_problem(req, PT2_ERR_NOMEM, "an export's event");
    } else if (last_event_id(req) >= version) {
        http_reply_empty(req, 204);
    } else {
        begin_stream(req);
        write_event(req, "finished", version, text, strlen(text));
        http_stream_end(req);
    }
}

void exports_events_get(struct http_request *req)
{
    enum job_state state = JOB_QUEUED;
    struct pt2_err err = {0};
    json_auto_t *job = NULL;
    int64_t version = 0;

    if (jobs_get(req->app->jobs, req->params[0], http_who(req), &state, &version, &job,
                 &err) < 0) {
        http_reply_err(req, &err);
    } else if (job_is_finished(state)) {
        reply_finished(req, job, version);
    } else if (job_follow_new(req, on_event, on_cancel)) {
        ((struct job_follow *)req->context)->last_seen = last_event_id(req);
        begin_stream(req);
        if (!job_follow_start(req, req->params[0])) /* finished meanwhile: ask again */
            http_stream_end(req);
    }
}
