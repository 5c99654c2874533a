#include "http/endpoints.h"
#include "http/reply.h"
#include "store/aliases_db.h"
#include "store/programs.h"

void aliases_delete(struct http_request *req)
{
    struct pt2_err err = {0};
    bool found;

    if (aliases_db_delete(req->app->store, req->params[0], &found, &err) < 0) {
        http_reply_err(req, &err);
    } else if (!found) {
        http_reply_problem(req, PT2_ERR_NOT_FOUND, "there is no alias '%.100s'",
                           req->params[0]);
    } else {
        programs_look_again(req->app->programs);
        http_reply_empty(req, 204);
    }
}
