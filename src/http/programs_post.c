#include "http/endpoints.h"
#include "http/program_upload.h"

void programs_post(struct http_request *req)
{
    uint8_t sha256[SHA256_BYTES];

    if (program_upload_finish(req, sha256) == 0)
        program_upload_keep(req, sha256);
}
