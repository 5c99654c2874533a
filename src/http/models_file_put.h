/* models_file_put.h - what the row of PUT /v1/models/{id}/files/{name} asks before and
 * while the body comes. */
#ifndef HTTP_MODELS_FILE_PUT_H
#define HTTP_MODELS_FILE_PUT_H

#include "http/request.h"

#include <pt2/err.h>

struct upload;

uint64_t models_file_max(const struct http_request *req);
/* Id, name and Repr-Digest are good, and there is room.  Errors: INVALID, BAD_REQUEST,
 * FORBIDDEN, NO_SPACE, IO, NOMEM. */
MUST_USE int models_file_prepare(struct http_request *req, struct pt2_err *err);
MUST_USE int models_file_receive(struct http_request *req, const void *data, size_t len,
                                 struct pt2_err *err);
/* All of it came: keep it and reply.  digest (NULL: not known) is what is due; is_part:
 * by a PATCH, which is told Upload-Complete. */
void models_file_end(struct http_request *req, struct upload *upload,
                     const uint8_t *digest, bool is_part);

#endif
