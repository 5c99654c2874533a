#include "http/alias_json.h"
#include "http/endpoints.h"
#include "http/list_page.h"
#include "http/reply.h"

struct listing {
    json_t *data;
    int64_t limit;
    char last[ALIAS_SIZE];
    bool has_more;
};

static int list_alias(void *ctx, const struct alias *alias, struct pt2_err *err)
{
    struct listing *listing = ctx;

    if ((int64_t)json_array_size(listing->data) == listing->limit) {
        listing->has_more = true;
        return 0;
    }
    memcpy(listing->last, alias->name, sizeof(listing->last));
    if (json_array_append_new(listing->data, alias_to_json(alias)) < 0)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a list of aliases");
    return 0;
}

/* The cursor is the last name. */
void aliases_list_get(struct http_request *req)
{
    struct listing listing = {.data = json_array()};
    const char *after = http_query(req, "after");
    struct pt2_err err = {0};

    if (list_limit(req, &listing.limit) < 0) {
        json_decref(listing.data);
    } else if (aliases_db_list(req->app->store, after ? after : "", listing.limit + 1,
                               list_alias, &listing, &err) < 0) {
        json_decref(listing.data);
        http_reply_err(req, &err);
    } else {
        list_reply_after(req, listing.data, listing.has_more ? listing.last : NULL);
    }
}
