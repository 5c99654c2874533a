#include "http/program_upload.h"

#include "http/config.h"
#include "http/digest_header.h"
#include "http/program_reply.h"
#include "http/reply.h"

#include <errno.h>

struct upload {
    struct temp_file temp;
    struct sha256 hash;
    bool has_digest; /* Repr-Digest said it */
    uint8_t digest[SHA256_BYTES];
    uint64_t expected_bytes; /* Content-Length; 0: not said */
};

uint64_t program_upload_max(const struct http_request *req)
{
    return config_get_size(req->app->config, "programs.max_upload_bytes");
}

static void upload_free(void *context)
{
    struct upload *upload = context;

    temp_file_drop(&upload->temp);
    free(upload);
}

int program_upload_prepare(struct http_request *req, struct pt2_err *err)
{
    const char *length = http_header(req, "Content-Length");
    struct upload *upload = calloc(1, sizeof(*upload));

    if (!upload)
        return pt2_err_set(err, PT2_ERR_NOMEM, "an upload");
    upload->temp = (struct temp_file)TEMP_NO_FILE;
    upload->expected_bytes = length ? strtoull(length, NULL, 10) : 0;
    sha256_start(&upload->hash);
    req->context = upload;
    req->context_free = upload_free;
    if (http_header(req, "Content-Range"))
        return pt2_err_set(err, PT2_ERR_BAD_REQUEST,
                           "a program comes whole: Content-Range is not taken");
    if (digest_header_parse(http_header(req, "Repr-Digest"), upload->digest,
                            &upload->has_digest, err) < 0)
        return -1;
    return programs_check_room_quick(req->app->programs, upload->expected_bytes, err);
}

int program_upload_receive(struct http_request *req, const void *data, size_t len,
                           struct pt2_err *err)
{
    struct upload *upload = req->context;

    if (upload->temp.fd < 0 &&
        temp_file_make(objects_temp(req->app->objects), upload->expected_bytes, &upload->temp, err) < 0)
        return -1;
    sha256_add(&upload->hash, data, len);
    return temp_file_write(&upload->temp, data, len, err);
}

int program_upload_finish(struct http_request *req, uint8_t ret_sha256[SHA256_BYTES])
{
    char hex[SHA256_HEX], expected_hex[SHA256_HEX];
    struct upload *upload = req->context;

    if (upload->temp.fd < 0) {
        http_reply_problem(req, PT2_ERR_BAD_ARCHIVE,
                           "the body is empty, a .pt2 archive is due");
        return -1;
    }
    sha256_finish(&upload->hash, ret_sha256);
    if (upload->has_digest && memcmp(upload->digest, ret_sha256, SHA256_BYTES) != 0) {
        sha256_to_hex(ret_sha256, hex);
        sha256_to_hex(upload->digest, expected_hex);
        http_reply_problem(req, PT2_ERR_DIGEST_MISMATCH,
                           "the body's SHA-256 is %s, Repr-Digest says %s", hex,
                           expected_hex);
        return -1;
    }
    return 0;
}

void program_upload_keep(struct http_request *req, const uint8_t sha256[SHA256_BYTES])
{
    const struct program_source source = {.origin = PROGRAM_UPLOAD};
    struct upload *upload = req->context;
    char id[PROGRAM_ID_SIZE];
    struct pt2_err err = {0};
    bool is_new = false;

    if (programs_add(req->app->programs, &upload->temp, sha256, &source, id, &is_new,
                     &err) < 0)
        http_reply_err(req, &err);
    else
        program_reply_added(req, id, is_new);
}
