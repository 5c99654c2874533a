#include "base/log.h"
#include "base/metrics.h"
#include "http/endpoints.h"
#include "http/reply.h"
#include "store/uploads.h"

void models_delete_one(struct http_request *req)
{
    struct pt2_err err = {0};

    if (uploads_delete(req->app->uploads, req->params[0], &err) < 0) {
        http_reply_err(req, &err);
        return;
    }
    metrics_add(METRIC_MODELS_DELETED, 1, NULL);
    log_info("model '%s' was deleted", req->params[0]);
    http_reply_empty(req, 204);
}
