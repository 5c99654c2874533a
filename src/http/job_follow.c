#include "http/job_follow.h"

#include "http/reply.h"

static void job_follow_free(void *context)
{
    struct job_follow *f = context;

    if (!f)
        return;
    pthread_mutex_destroy(&f->mutex);
    free(f->latest);
    free(f);
}

/* True for the one who may end it. */
static bool take_end(struct job_follow *f)
{
    bool is_first;

    pthread_mutex_lock(&f->mutex);
    is_first = !f->is_ended;
    f->is_ended = true;
    pthread_mutex_unlock(&f->mutex);
    return is_first;
}

static void changed(struct jobs_watch *watch, const struct jobs_event *event)
{
    struct job_follow *f =
        (struct job_follow *)(void *)((char *)watch - offsetof(struct job_follow, watch));
    char *text;

    if (event->is_finished && !take_end(f))
        return;
    text = event->job ? strdup(event->job) : NULL;
    if (text) {
        free(f->latest);
        f->latest = text;
    }
    f->on_event(f, event);
    if (event->is_finished)
        http_request_unref(f->req);
}

static void give_up(struct http_request *req)
{
    struct job_follow *f = req->context;

    jobs_unwatch(req->app->jobs, &f->watch);
    if (!take_end(f))
        return;
    f->on_cancel(f);
    http_request_unref(req);
}

/* May come while the handler still runs: then that one gives up. */
static void cancelled(struct http_request *req, enum http_cancel why)
{
    struct job_follow *f = req->context;
    bool is_watching;

    pthread_mutex_lock(&f->mutex);
    f->is_cancelled = true;
    is_watching = f->is_watching;
    pthread_mutex_unlock(&f->mutex);
    if (is_watching)
        give_up(req);
}

bool job_follow_new(struct http_request *req,
                    void (*on_event)(struct job_follow *f,
                                     const struct jobs_event *event),
                    void (*on_cancel)(struct job_follow *f))
{
    struct pt2_err err = {0};
    struct job_follow *f;

    if (http_follow(req, &err) < 0) {
        http_reply_header(req, "Retry-After", "5");
        http_reply_err(req, &err);
        return false;
    }
    f = calloc(1, sizeof(*f));
    if (!f) {
        http_reply_problem(req, PT2_ERR_NOMEM, "a waiting request");
        return false;
    }
    pthread_mutex_init(&f->mutex, NULL);
    f->req = req;
    f->watch.changed = changed;
    f->on_event = on_event;
    f->on_cancel = on_cancel;
    f->last_seen = -1;
    req->context = f;
    req->context_free = job_follow_free;
    http_on_cancel(req, cancelled);
    return true;
}

bool job_follow_start(struct http_request *req, const char *id)
{
    struct job_follow *f = req->context;
    bool is_cancelled;

    http_request_ref(req);
    if (!jobs_watch(req->app->jobs, id, http_who(req), &f->watch)) {
        http_request_unref(req);
        return false;
    }
    pthread_mutex_lock(&f->mutex);
    f->is_watching = true;
    is_cancelled = f->is_cancelled;
    pthread_mutex_unlock(&f->mutex);
    if (is_cancelled)
        give_up(req);
    return true;
}
