#include "http/endpoints.h"
#include "http/reply.h"
#include "jobs/jobs.h"

void exports_delete(struct http_request *req)
{
    struct pt2_err err = {0};

    if (jobs_delete(req->app->jobs, req->params[0], http_who(req), &err) < 0)
        http_reply_err(req, &err);
    else
        http_reply_empty(req, 204);
}
