#include "http/endpoints.h"
#include "http/program_reply.h"
#include "http/reply.h"

static void set(struct http_request *req, bool is_pinned)
{
    char id[PROGRAM_ID_SIZE];
    struct pt2_err err = {0};

    if (!program_from_path(req, id))
        return;
    if (programs_set_pinned(req->app->programs, id, is_pinned, &err) < 0)
        http_reply_err(req, &err);
    else
        http_reply_empty(req, 204);
}

void programs_pin_put(struct http_request *req)
{
    set(req, true);
}

void programs_pin_delete(struct http_request *req)
{
    set(req, false);
}
