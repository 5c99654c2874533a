/* job_follow.h - a request that follows an export job without a thread: the long poll of
 * exports_get and the event stream of exports_events.
 *
 * The request's context; it ends once, by the job's last event, or because the client
 * went, the deadline passed or the daemon stops. */
#ifndef HTTP_JOB_FOLLOW_H
#define HTTP_JOB_FOLLOW_H

#include "http/request.h"
#include "jobs/jobs.h"

#include <pthread.h>

struct job_follow {
    struct http_request *req; /* a reference of its own, until the end */
    struct jobs_watch watch;
    /* An event of the job, the first one (its present state) included.  Under the lock of
     * jobs: must not wait.  After the one that is_finished there are no more. */
    void (*on_event)(struct job_follow *f, const struct jobs_event *event);
    /* The end without a last event.  No lock; no event comes any more. */
    void (*on_cancel)(struct job_follow *f);
    int64_t last_seen;     /* events up to this version are known to the client */
    char *latest;          /* the job as of the last event */
    pthread_mutex_t mutex; /* guards what follows */
    bool is_watching, is_cancelled, is_ended;
};

/* Make it the context of req.  False: replied (out of memory). */
MUST_USE bool job_follow_new(struct http_request *req,
                             void (*on_event)(struct job_follow *f,
                                              const struct jobs_event *event),
                             void (*on_cancel)(struct job_follow *f));
/* Begin; the last thing that a handler does.  False: the job is not unfinished (any
 * more), no event came, none will. */
MUST_USE bool job_follow_start(struct http_request *req, const char *id);

#endif
