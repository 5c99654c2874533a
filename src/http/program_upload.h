/* program_upload.h - a .pt2 that a client sends, written to a temporary file and hashed
 * as it comes: the receiving half of POST and PUT /v1/programs.
 *
 * The upload is the request's context; what was not kept goes with it. */
#ifndef HTTP_PROGRAM_UPLOAD_H
#define HTTP_PROGRAM_UPLOAD_H

#include "base/sha256.h"
#include "http/request.h"
#include "store/programs.h"

/* The route's callbacks. */
uint64_t program_upload_max(const struct http_request *req);
MUST_USE int program_upload_prepare(struct http_request *req, struct pt2_err *err);
MUST_USE int program_upload_receive(struct http_request *req, const void *data,
                                    size_t len, struct pt2_err *err);

/* All bytes are there: their digest.  -1 where there were none, or Repr-Digest says
 * another: replied. */
MUST_USE int program_upload_finish(struct http_request *req,
                                   uint8_t ret_sha256[SHA256_BYTES]);
/* Check and keep it, and reply. */
void program_upload_keep(struct http_request *req, const uint8_t sha256[SHA256_BYTES]);

#endif
