/* DELETE /v1/sessions/{id}: forget it; on the pool, as the database is told. */
#include "http/endpoints.h"
#include "http/reply.h"
#include "serve/ledger.h"

void sessions_delete(struct http_request *req)
{
    struct pt2_err err = {0};

    if (serve_delete(req->app->serve, req->params[0], http_who(req), &err) == 0) {
        http_reply_empty(req, 204);
        return;
    }
    pt2_err_clear(&err);
    ledger_fate(req->app->store, req->params[0], http_who(req), &err);
    http_reply_err(req, &err);
}
