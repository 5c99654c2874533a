/* session_body.h - what clients say of a session that they open, fork or rewind: read into
 * the call that is made of it.  What is wrong is in problems.  Any thread. */
#ifndef HTTP_SESSION_BODY_H
#define HTTP_SESSION_BODY_H

#include "base/json.h"
#include "serve/serve.h"

/* All but the program's path; *ret_program and the labels are borrowed from body.  ttl_s is
 * sessions.ttl where the body has none, and at most max_ttl_s. */
void session_body_open(const json_t *body, int64_t ttl_s, int64_t max_ttl_s,
                       struct serve_call *call, const char **ret_program,
                       struct json_problems *problems);
void session_body_fork(const json_t *body, int64_t max_cache_len, int64_t max_ttl_s,
                       struct serve_call *call, struct json_problems *problems);
void session_body_rewind(const json_t *body, int64_t max_cache_len, struct serve_call *call,
                         struct json_problems *problems);

#endif
