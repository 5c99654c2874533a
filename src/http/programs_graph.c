#include "http/endpoints.h"
#include "http/program_reply.h"
#include "http/reply.h"

void programs_graph_get(struct http_request *req)
{
    char id[PROGRAM_ID_SIZE];
    struct pt2_err err = {0};
    char *text = NULL;

    if (!program_from_path(req, id))
        return;
    if (programs_graph(req->app->programs, id, &text, &err) < 0)
        http_reply_err(req, &err);
    else
        http_reply_bytes(req, 200, "text/plain; charset=utf-8", text, strlen(text));
}
