#include "http/models_file_put.h"

#include "base/metrics.h"
#include "http/config.h"
#include "http/digest_header.h"
#include "http/endpoints.h"
#include "http/reply.h"
#include "store/uploads.h"

struct context {
    struct upload upload;
    bool has_digest; /* Repr-Digest said it */
    uint8_t digest[SHA256_BYTES];
};

uint64_t models_file_max(const struct http_request *req)
{
    return config_get_size(req->app->config, "models.max_upload_bytes");
}

static void context_free(void *context)
{
    struct context *c = context;

    upload_drop(&c->upload);
    free(c);
}

int models_file_prepare(struct http_request *req, struct pt2_err *err)
{
    const char *length = http_header(req, "Content-Length");
    struct context *c = calloc(1, sizeof(*c));

    if (!c)
        return pt2_err_set(err, PT2_ERR_NOMEM, "an upload");
    c->upload.temp = (struct temp_file)TEMP_NO_FILE;
    req->context = c;
    req->context_free = context_free;
    if (http_header(req, "Content-Range"))
        return pt2_err_set(err, PT2_ERR_BAD_REQUEST,
                           "a file comes whole: Content-Range is not taken");
    if (digest_header_parse(http_header(req, "Repr-Digest"), c->digest, &c->has_digest,
                            err) < 0)
        return -1;
    return upload_begin(req->app->uploads, req->caller.owner, req->params[0],
                        req->params[1], length ? strtoull(length, NULL, 10) : 0,
                        &c->upload, err);
}

int models_file_receive(struct http_request *req, const void *data, size_t len,
                        struct pt2_err *err)
{
    struct context *c = req->context;

    return upload_write(&c->upload, data, len, err);
}

void models_file_end(struct http_request *req, struct upload *upload,
                     const uint8_t *digest, bool is_part)
{
    uint8_t sha256[SHA256_BYTES];
    struct pt2_err err = {0};
    char hex[SHA256_HEX];
    bool is_new = false;

    if (upload_finish(upload, digest, sha256, &is_new, &err) < 0) {
        upload_drop(upload); /* before the client may try again */
        http_reply_err(req, &err);
        return;
    }
    metrics_add(METRIC_MODEL_FILES, 1, NULL);
    metrics_add(METRIC_MODEL_FILE_BYTES, (double)upload->bytes, NULL);
    sha256_to_hex(sha256, hex);
    if (is_part)
        http_reply_header(req, "Upload-Complete", "?1");
    http_reply_json(req, is_new ? 201 : 200,
                    json_pack("{s:s, s:I, s:s}", "name", upload->name, "bytes",
                              (json_int_t)upload->bytes, "sha256", hex));
}

/* PUT /v1/models/{id}/files/{name} */
void models_file_put(struct http_request *req)
{
    struct context *c = req->context;

    models_file_end(req, &c->upload, c->has_digest ? c->digest : NULL,
                    /* is_part= */ false);
}
