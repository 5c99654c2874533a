#include "http/list_page.h"

#include "http/reply.h"

#define DEFAULT_LIMIT 100 /* API.md, conventions */
#define MAX_LIMIT     1000

int list_limit(struct http_request *req, int64_t *ret_limit)
{
    *ret_limit = DEFAULT_LIMIT;
    return http_query_int(req, "limit", 1, MAX_LIMIT, ret_limit);
}

int list_page(struct http_request *req, struct list_page *ret_page)
{
    ret_page->after = 0;
    if (list_limit(req, &ret_page->limit) < 0)
        return -1;
    return http_query_int(req, "after", 1, INT64_MAX, &ret_page->after);
}

void list_reply_after(struct http_request *req, json_t *data, const char *next)
{
    http_reply_json(req, 200, json_pack("{s:o, s:s?}", "data", data, "next", next));
}

void list_reply(struct http_request *req, json_t *data, int64_t next)
{
    char text[24];

    snprintf(text, sizeof(text), "%lld", (long long)next);
    list_reply_after(req, data, next ? text : NULL);
}
