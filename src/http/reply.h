/* reply.h - answers to a request: JSON, bytes, files, problems, streams.
 *
 * Each http_reply_... ends the request; any thread that holds the request (request.h).
 * The first one wins, later ones only release what they took.  Headers that are to go
 * with the reply are added before it, by the thread that replies.  Where memory runs out
 * the connection is closed; nothing here fails visibly. */
#ifndef HTTP_REPLY_H
#define HTTP_REPLY_H

#include "http/request.h"

#include <pt2/err.h>

/* Add a header to the coming reply; values with control characters are left out.  The
 * core adds X-Request-Id, Date, Content-Type, and Cache-Control: no-store where the
 * handler gave no Cache-Control. */
void http_reply_header(struct http_request *req, const char *name, const char *fmt, ...)
    PT2_PRINTF(3, 4);

/* json is taken; NULL (out of memory) becomes a 503. */
void http_reply_json(struct http_request *req, unsigned status, json_t *json);
/* data (malloc) is taken. */
void http_reply_bytes(struct http_request *req, unsigned status, const char *content_type,
                      char *data, size_t len);
void http_reply_text(struct http_request *req, unsigned status, const char *content_type,
                     const char *text);                           /* copied */
void http_reply_empty(struct http_request *req, unsigned status); /* 204 */

/* The problem of err's code: application/problem+json, logged where it is ours (5xx). 429
 * and 503 carry Retry-After unless the handler added one. */
void http_reply_err(struct http_request *req, const struct pt2_err *err);
void http_reply_problem(struct http_request *req, enum pt2_error code, const char *fmt,
                        ...) PT2_PRINTF(3, 4);
/* The same with more members: extra (taken; NULL for none) is merged in, as
 * {"position": 3} or {"errors": […]}. */
void http_reply_err_with(struct http_request *req, const struct pt2_err *err,
                         json_t *extra);
/* 422 with the problems' errors; the caller still calls json_problems_done. */
void http_reply_problems(struct http_request *req, const struct json_problems *problems);
/* The problem object as such, for a step within POST /v1/steps or a failed job: new. */
json_t *http_problem_json(const struct pt2_err *err);
/* The same for problems' errors. */
json_t *http_problems_json(const struct json_problems *problems);

/* A file's bytes, by sendfile: ETag, Accept-Ranges, Range, If-Range, If-None-Match. */
struct http_file {
    int fd; /* taken */
    uint64_t bytes;
    const char *content_type; /* "application/octet-stream" */
    const char *etag;         /* without quotes; NULL: none */
    const char *filename;     /* for Content-Disposition: attachment; NULL: none */
    const uint8_t *sha256;    /* 32 bytes, for Repr-Digest; NULL: none */
};
void http_reply_file(struct http_request *req, const struct http_file *file);

/* A reply whose body comes bit by bit (text/event-stream).  Begins the reply; afterwards
 * write and end from any thread that holds a reference.  What the client does not take
 * fast enough is kept up to 1 MiB; beyond that the stream ends.  http_stream_write
 * answers false where the client has gone.  The cancel callback is called as for a
 * waiting handler; for HTTP_DEADLINE and HTTP_SHUTDOWN it has to end the stream. */
void http_reply_stream(struct http_request *req, const char *content_type);
bool http_stream_write(struct http_request *req, const char *data, size_t len);
void http_stream_end(struct http_request *req);

#endif
