#include "http/endpoints.h"
#include "http/reply.h"
#include "store/models.h"

void models_get_one(struct http_request *req)
{
    struct pt2_err err = {0};
    json_t *json = NULL;

    if (models_get(req->app->models, req->params[0], &json, &err) < 0)
        http_reply_err(req, &err);
    else
        http_reply_json(req, 200, json);
}
