#include "http/endpoints.h"
#include "http/list_page.h"
#include "http/reply.h"
#include "store/models.h"

/* The cursor is the last id. */
void models_list_get(struct http_request *req)
{
    struct pt2_err err = {0};
    json_t *data = NULL, *last;
    bool has_more = false;
    int64_t limit;

    if (list_limit(req, &limit) < 0)
        return;
    if (models_list(req->app->models, (size_t)limit, http_query(req, "after"), &data,
                    &has_more, &err) < 0) {
        http_reply_err(req, &err);
        return;
    }
    last = json_array_get(data, json_array_size(data) - 1);
    list_reply_after(req, data,
                     has_more ? json_string_value(json_object_get(last, "id")) : NULL);
}
