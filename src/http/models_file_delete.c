#include "http/endpoints.h"
#include "http/reply.h"
#include "store/unfinished.h"

/* DELETE /v1/models/{id}/files/{name}: an unfinished file is given up. */
void models_file_delete(struct http_request *req)
{
    struct pt2_err err = {0};

    if (unfinished_remove(req->app->uploads, req->caller.owner, req->params[0],
                          req->params[1], &err) == 0) {
        http_reply_empty(req, 204);
        return;
    }
    if (err.code == PT2_ERR_CONFLICT)
        http_reply_header(req, "Retry-After", "1");
    http_reply_err(req, &err);
}
