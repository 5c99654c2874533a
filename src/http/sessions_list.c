/* GET /v1/sessions: the sessions, newest first; ?label.K=V picks some. */
#include "base/json.h"
#include "http/endpoints.h"
#include "http/reply.h"
#include "http/session_json.h"

#include <inttypes.h>

/* Has the session every label that the query names? */
static bool has_labels(void *context, const struct serve_info *info)
{
    const struct http_request *req = context;
    const char *name, *value;

    for (size_t i = 0; http_query_each(req, i, &name, &value); i++) {
        const char *label = after_prefix(name, "label.");
        const char *has =
            label ? json_string_value(json_object_get(info->labels, label)) : NULL;

        if (label && !(has && streq(has, value)))
            return false;
    }
    return true;
}

static json_t *to_json(const struct serve_info *list, size_t n, bool has_more)
{
    const size_t shortages = json_shortages();
    json_t *data = json_array(),
           *next = has_more ? json_sprintf("%" PRIu64, list[n - 1].number) : json_null();

    for (size_t i = 0; i < n; i++)
        json_array_append_new(data, session_json(&list[i]));
    return json_if_whole(json_pack("{s:o, s:o}", "data", data, "next", next), shortages);
}

void sessions_list(struct http_request *req)
{
    struct serve_info *list = NULL;
    int64_t limit = 100, after = 0;
    struct pt2_err err = {0};
    size_t n = 0;

    if (http_query_int(req, "limit", 1, 1000, &limit) < 0 ||
        http_query_int(req, "after", 1, INT64_MAX, &after) < 0)
        return;
    if (serve_list(req->app->serve, http_who(req), (uint64_t)after, (size_t)limit + 1,
                   has_labels, req, &list, &n, &err) < 0) {
        http_reply_err(req, &err);
        return;
    }
    http_reply_json(req, 200, to_json(list, MIN(n, (size_t)limit), n > (size_t)limit));
    for (size_t i = 0; i < n; i++)
        serve_info_done(&list[i]);
    free(list);
}
