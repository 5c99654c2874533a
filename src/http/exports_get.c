#include "http/endpoints.h"
#include "http/job_follow.h"
#include "http/reply.h"

#define MAX_WAIT_S 60 /* API.md */

/* text NULL: memory ran out where it was made. */
static void reply_text(struct http_request *req, const char *text, size_t len)
{
    char *copy = text ? strndup(text, len) : NULL;

    if (copy)
        http_reply_bytes(req, 200, "application/json", copy, len);
    else
        http_reply_problem(req, PT2_ERR_NOMEM, "an export");
}

static void reply_now(struct http_request *req)
{
    struct pt2_err err = {0};
    json_t *job = NULL;

    if (jobs_get(req->app->jobs, req->params[0], http_who(req), NULL, NULL, &job, &err) <
        0)
        http_reply_err(req, &err);
    else
        http_reply_json(req, 200, job);
}

static void on_event(struct job_follow *f, const struct jobs_event *event)
{
    if (event->is_finished)
        reply_text(f->req, event->job, event->len);
}

/* Time is up, or nobody listens: as it is now. */
static void on_cancel(struct job_follow *f)
{
    reply_text(f->req, f->latest, f->latest ? strlen(f->latest) : 0);
}

void exports_get(struct http_request *req)
{
    int64_t wait_s = 0;

    if (http_query_int(req, "wait", 0, MAX_WAIT_S, &wait_s) < 0)
        return;
    if (wait_s > 0) {
        if (!job_follow_new(req, on_event, on_cancel))
            return;
        http_set_deadline(req, wait_s * 1000);
        if (job_follow_start(req, req->params[0]))
            return;
    }
    reply_now(req);
}
