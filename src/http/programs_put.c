#include "http/programs_put.h"

#include "http/endpoints.h"
#include "http/program_upload.h"
#include "http/reply.h"

int programs_put_prepare(struct http_request *req, struct pt2_err *err)
{
    uint8_t sha256[SHA256_BYTES];

    if (!sha256_from_hex(req->params[0], sha256))
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "'%.100s' is no SHA-256: 64 lower-case hex digits are due",
                           req->params[0]);
    return program_upload_prepare(req, err);
}

void programs_put(struct http_request *req)
{
    uint8_t sha256[SHA256_BYTES];
    char hex[SHA256_HEX];

    if (program_upload_finish(req, sha256) < 0)
        return;
    sha256_to_hex(sha256, hex);
    if (streq(hex, req->params[0]))
        program_upload_keep(req, sha256);
    else
        http_reply_problem(req, PT2_ERR_DIGEST_MISMATCH,
                           "the body's SHA-256 is %s, the path says %s", hex,
                           req->params[0]);
}
