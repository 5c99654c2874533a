/* models_file_patch.h - what the row of PATCH /v1/models/{id}/files/{name} asks before
 * and while the body comes.
 *
 * PATCH appends to a file that comes by several requests, as
 * draft-ietf-httpbis-resumable-upload has it: Upload-Offset says where the body begins,
 * Upload-Complete whether it is the last one. */
#ifndef HTTP_MODELS_FILE_PATCH_H
#define HTTP_MODELS_FILE_PATCH_H

#include "http/request.h"

#include <pt2/err.h>

#define PARTIAL_UPLOAD "application/partial-upload"

/* What models.max_upload_bytes leaves from the offset on. */
uint64_t models_file_patch_max(const struct http_request *req);
/* As models_file_prepare, and the offset is where the file ends.  Errors: likewise, and
 * CONFLICT, QUEUE_FULL. */
MUST_USE int models_file_patch_prepare(struct http_request *req, struct pt2_err *err);
MUST_USE int models_file_patch_receive(struct http_request *req, const void *data,
                                       size_t len, struct pt2_err *err);
/* What came is on the disk, and another request may go on. */
void models_file_patch_cut(struct http_request *req);

#endif
