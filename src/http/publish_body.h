/* publish_body.h - the files that a model shall consist of, as a client lists them.  Any
 * thread. */
#ifndef HTTP_PUBLISH_BODY_H
#define HTTP_PUBLISH_BODY_H

#include "base/json.h"
#include "store/uploads.h"

struct publish_body {
    struct upload_file files[UPLOADS_MAX_FILES]; /* names, borrowed from the JSON, differ */
    size_t n;                                    /* at least 1 */
    uint64_t bytes;                              /* of all of them */
};

/* body is zeroed.  What is wrong is in problems. */
void publish_body_read(struct publish_body *body, const json_t *json,
                       struct json_problems *problems);

#endif
