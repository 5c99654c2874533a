#include "http/program_reply.h"

#include "http/reply.h"

bool program_from_path(struct http_request *req, char ret_id[PROGRAM_ID_SIZE])
{
    struct pt2_err err = {0};

    if (programs_resolve(req->app->programs, req->params[0], http_who(req), ret_id, NULL,
                         &err) < 0) {
        http_reply_err(req, &err);
        return false;
    }
    if (!streq(req->params[0], ret_id))
        http_reply_header(req, "Cache-Control", "no-cache");
    return true;
}

/* What a full id names never changes; the other names are asked for anew. */
static void add_cache_control(struct http_request *req, const char *id)
{
    http_reply_header(req, "Cache-Control", "%s",
                      streq(req->params[0], id) ? "private, max-age=31536000, immutable"
                                                : "no-cache");
}

static void reply_object(struct http_request *req, const char *id, const char *suffix)
{
    struct http_file file = {.content_type = "application/octet-stream", .etag = id};
    char filename[PROGRAM_ID_SIZE + 8];
    uint8_t sha256[SHA256_BYTES];
    struct pt2_err err = {0};

    if (!sha256_from_hex(id, sha256) ||
        objects_open_file(req->app->objects, id, &file.fd, &file.bytes, &err) < 0) {
        http_reply_err(req, &err);
        return;
    }
    snprintf(filename, sizeof(filename), "%s.%s", id, suffix);
    add_cache_control(req, id);
    file.filename = filename;
    file.sha256 = sha256;
    http_reply_file(req, &file);
}

void program_reply_file(struct http_request *req, const char *id)
{
    reply_object(req, id, "pt2");
}

void program_reply_pte(struct http_request *req, const char *sha256)
{
    reply_object(req, sha256, "pte");
}

void program_reply_added(struct http_request *req, const char *id, bool is_new)
{
    struct pt2_err err = {0};
    json_t *json = NULL;

    if (programs_get(req->app->programs, id, /* wait_engines= */ true, &json, &err) < 0) {
        http_reply_err(req, &err);
        return;
    }
    http_reply_header(req, "Location", "/v1/programs/%s", id);
    http_reply_json(req, is_new ? 201 : 200, json);
}
