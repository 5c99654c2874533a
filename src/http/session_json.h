/* session_json.h - a session as clients see it.  Any thread. */
#ifndef HTTP_SESSION_JSON_H
#define HTTP_SESSION_JSON_H

#include "serve/serve.h"

/* new; NULL: out of memory. */
json_t *session_json(const struct serve_info *info);

#endif
