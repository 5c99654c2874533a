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

/* Takes file->fd. */
static void reply_object(struct http_request *req, struct http_file *file, const char *hex,
                         const char *suffix)
{
    char filename[PROGRAM_ID_SIZE + 8];
    uint8_t sha256[SHA256_BYTES];

    (void)!sha256_from_hex(hex, sha256); /* a row's */
    snprintf(filename, sizeof(filename), "%s.%s", hex, suffix);
    add_cache_control(req, hex);
    file->content_type = "application/octet-stream";
    file->etag = hex;
    file->filename = filename;
    file->sha256 = sha256;
    http_reply_file(req, file);
}

void program_reply_file(struct http_request *req, const char *id)
{
    struct http_file file = {0};
    struct pt2_err err = {0};

    if (programs_open_file(req->app->programs, id, &file.fd, &file.bytes, &err) < 0)
        http_reply_err(req, &err);
    else
        reply_object(req, &file, id, "pt2");
}

void program_reply_pte(struct http_request *req, const char *id, const char *sha256)
{
    struct http_file file = {0};
    struct pt2_err err = {0};

    if (programs_open_pte(req->app->programs, id, sha256, &file.fd, &file.bytes, &err) < 0)
        http_reply_err(req, &err);
    else
        reply_object(req, &file, sha256, "pte");
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
