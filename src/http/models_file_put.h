/* models_file_put.h - what the row of PUT /v1/models/{id}/files/{name} asks before and
 * while the body comes. */
#ifndef HTTP_MODELS_FILE_PUT_H
#define HTTP_MODELS_FILE_PUT_H

#include "http/request.h"

#include <pt2/err.h>

uint64_t models_file_max(const struct http_request *req);
/* Id, name and Repr-Digest are good, and there is room.  Errors: INVALID, BAD_REQUEST,
 * FORBIDDEN, NO_SPACE, IO, NOMEM. */
MUST_USE int models_file_prepare(struct http_request *req, struct pt2_err *err);
MUST_USE int models_file_receive(struct http_request *req, const void *data, size_t len,
                                 struct pt2_err *err);

#endif
