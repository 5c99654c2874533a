#include "http/endpoints.h"
#include "http/program_reply.h"
#include "http/reply.h"

void programs_get_one(struct http_request *req)
{
    char id[PROGRAM_ID_SIZE];
    struct pt2_err err = {0};
    json_t *json = NULL;

    if (!program_from_path(req, id))
        return;
    if (programs_get(req->app->programs, id, /* wait_engines= */ true, &json, &err) < 0)
        http_reply_err(req, &err);
    else
        http_reply_json(req, 200, json);
}
