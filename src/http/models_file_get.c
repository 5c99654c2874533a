#include "http/endpoints.h"
#include "http/models_file_put.h"
#include "http/reply.h"
#include "store/unfinished.h"

/* GET /v1/models/{id}/files/{name}: how much of an unfinished file has come. */
void models_file_get(struct http_request *req)
{
    struct pt2_err err = {0};
    uint64_t offset = 0;

    if (unfinished_find(req->app->uploads, req->caller.owner, req->params[0],
                        req->params[1], &offset, &err) < 0) {
        if (err.code == PT2_ERR_CONFLICT)
            http_reply_header(req, "Retry-After", "1");
        http_reply_err(req, &err);
        return;
    }
    http_reply_header(req, "Upload-Offset", "%llu", (unsigned long long)offset);
    http_reply_header(req, "Upload-Complete", "?0");
    http_reply_header(req, "Upload-Limit", "max-size=%llu",
                      (unsigned long long)models_file_max(req));
    http_reply_json(req, 200,
                    json_pack("{s:s, s:I, s:b}", "name", req->params[1], "bytes",
                              (json_int_t)offset, "complete", false));
}
