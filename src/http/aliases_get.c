#include "http/alias_json.h"
#include "http/endpoints.h"
#include "http/reply.h"

void aliases_get_one(struct http_request *req)
{
    struct pt2_err err = {0};
    struct alias alias;
    bool found;

    if (aliases_db_find(req->app->store, req->params[0], &found, &alias, &err) < 0)
        http_reply_err(req, &err);
    else if (!found)
        http_reply_problem(req, PT2_ERR_NOT_FOUND, "there is no alias '%.100s'",
                           req->params[0]);
    else
        http_reply_json(req, 200, alias_to_json(&alias));
}
