#include "http/endpoints.h"
#include "http/list_page.h"
#include "http/reply.h"
#include "store/programs.h"

void programs_list_get(struct http_request *req)
{
    struct pt2_err err = {0};
    struct list_page page;
    json_t *data = NULL;
    int64_t next = 0;

    if (list_page(req, &page) < 0)
        return;
    if (programs_list(req->app->programs, page.limit, page.after, &data, &next, &err) < 0)
        http_reply_err(req, &err);
    else
        list_reply(req, data, next);
}
