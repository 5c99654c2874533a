#include "http/endpoints.h"
#include "http/program_reply.h"
#include "http/reply.h"

void programs_file_get(struct http_request *req)
{
    char id[PROGRAM_ID_SIZE];
    struct pt2_err err = {0};

    if (programs_resolve(req->app->programs, req->params[0], http_who(req), id, NULL,
                         &err) < 0)
        http_reply_err(req, &err);
    else
        program_reply_file(req, id);
}
