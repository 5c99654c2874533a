#include "http/models_file_patch.h"

#include "base/log.h"
#include "http/digest_header.h"
#include "http/endpoints.h"
#include "http/models_file_put.h"
#include "http/reply.h"
#include "store/unfinished.h"

#define MAX_DIGITS 15 /* of an integer: RFC 9651, section 3.3.1 */

struct context {
    struct upload upload;
    uint64_t offset;
    bool is_last;    /* Upload-Complete: ?1 */
    bool has_digest; /* Repr-Digest said it */
    uint8_t digest[SHA256_BYTES];
};

/* ---- the header ---- */

static bool read_offset(const struct http_request *req, uint64_t *ret_offset)
{
    const char *text = http_header(req, "Upload-Offset");
    size_t n = text ? strspn(text, "0123456789") : 0;

    if (n == 0 || n > MAX_DIGITS || text[n])
        return false;
    *ret_offset = strtoull(text, NULL, 10);
    return true;
}

static bool read_complete(const struct http_request *req, bool *ret_is_last)
{
    const char *text = http_header(req, "Upload-Complete");

    if (!text || (!streq(text, "?0") && !streq(text, "?1")))
        return false;
    *ret_is_last = text[1] == '1';
    return true;
}

static int read_header(const struct http_request *req, struct context *c,
                       struct pt2_err *err)
{
    if (!read_offset(req, &c->offset))
        return pt2_err_set(err, PT2_ERR_BAD_REQUEST,
                           "Upload-Offset has to say where the body begins, in bytes");
    if (!read_complete(req, &c->is_last))
        return pt2_err_set(err, PT2_ERR_BAD_REQUEST,
                           "Upload-Complete has to be ?1, where the file ends with this "
                           "body, or ?0");
    return digest_header_parse(http_header(req, "Repr-Digest"), c->digest,
                               &c->has_digest, err);
}

uint64_t models_file_patch_max(const struct http_request *req)
{
    uint64_t max = models_file_max(req), offset = 0;

    return read_offset(req, &offset) && offset < max ? max - offset
           : offset                                  ? 0
                                                     : max;
}

/* ---- before the body ---- */

static void context_free(void *context)
{
    struct context *c = context;

    upload_drop(&c->upload);
    free(c);
}

static void add_offset(struct http_request *req, uint64_t offset)
{
    http_reply_header(req, "Upload-Offset", "%llu", (unsigned long long)offset);
    http_reply_header(req, "Upload-Complete", "?0");
}

/* The client may go on there; or it has to wait for another request's end. */
static void explain_conflict(struct http_request *req, int64_t offset)
{
    if (offset >= 0)
        add_offset(req, (uint64_t)offset);
    else
        http_reply_header(req, "Retry-After", "1");
}

int models_file_patch_prepare(struct http_request *req, struct pt2_err *err)
{
    const char *length = http_header(req, "Content-Length");
    struct context *c = calloc(1, sizeof(*c));
    struct pt2_err why = {0};
    int64_t there;

    if (!c)
        return pt2_err_set(err, PT2_ERR_NOMEM, "an upload");
    c->upload.temp = (struct temp_file)TEMP_NO_FILE;
    req->context = c;
    req->context_free = context_free;
    if (read_header(req, c, err) < 0)
        return -1;
    if (upload_resume(req->app->uploads, req->caller.owner, req->params[0],
                      req->params[1], c->offset, length ? strtoull(length, NULL, 10) : 0,
                      &c->upload, &there, &why) == 0)
        return 0;
    if (why.code == PT2_ERR_CONFLICT)
        explain_conflict(req, there);
    return pt2_err_set(err, why.code, "%s", why.text);
}

/* ---- the body ---- */

int models_file_patch_receive(struct http_request *req, const void *data, size_t len,
                              struct pt2_err *err)
{
    struct context *c = req->context;

    return upload_write(&c->upload, data, len, err);
}

void models_file_patch_cut(struct http_request *req)
{
    struct context *c = req->context;
    struct pt2_err err = {0};
    uint64_t offset;

    if (upload_pause(&c->upload, &offset, &err) < 0)
        log_with(LOG_LEVEL_WARNING, LOG_REQUEST(req->id),
                 "what came of '%s' is lost: %s", c->upload.name, err.text);
}

/* PATCH /v1/models/{id}/files/{name} */
void models_file_patch(struct http_request *req)
{
    struct context *c = req->context;
    struct pt2_err err = {0};
    uint64_t offset = 0;

    if (c->is_last) {
        models_file_end(req, &c->upload, c->has_digest ? c->digest : NULL,
                        /* is_part= */ true);
    } else if (upload_pause(&c->upload, &offset, &err) < 0) {
        http_reply_err(req, &err);
    } else {
        add_offset(req, offset);
        http_reply_empty(req, 204);
    }
}
