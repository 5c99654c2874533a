#include "http/endpoints.h"
#include "http/reply.h"
#include "store/programs.h"

void programs_delete_one(struct http_request *req)
{
    struct pt2_err err = {0};

    if (programs_delete(req->app->programs, req->params[0], &err) < 0)
        http_reply_err(req, &err);
    else
        http_reply_empty(req, 204);
}
