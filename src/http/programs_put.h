/* programs_put.h - what the row of PUT /v1/programs/{id} asks before the body comes.
 */
#ifndef HTTP_PROGRAMS_PUT_H
#define HTTP_PROGRAMS_PUT_H

#include "http/request.h"

#include <pt2/err.h>

/* The path is a digest, and there is room.  Errors: INVALID, NO_SPACE, IO, NOMEM. */
MUST_USE int programs_put_prepare(struct http_request *req, struct pt2_err *err);

#endif
