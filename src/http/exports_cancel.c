#include "http/endpoints.h"
#include "http/reply.h"
#include "jobs/jobs.h"

void exports_cancel_post(struct http_request *req)
{
    struct pt2_err err = {0};
    json_t *job = NULL;

    if (jobs_cancel(req->app->jobs, req->params[0], http_who(req), &job, &err) < 0)
        http_reply_err(req, &err);
    else
        http_reply_json(req, 202, job);
}
