/* routes.h - the table of everything that the daemon answers (routes.c).
 *
 * A row is a method and a path template; it names the handler, which lives in the file of
 * the same name.  The OpenAPI document, 405's Allow and the metrics' labels come from
 * this table.  Constant; any thread. */
#ifndef HTTP_ROUTES_H
#define HTTP_ROUTES_H

#include "http/request.h"
#include "http/scope.h"

enum http_body {
    HTTP_BODY_NONE,   /* a body is 415 */
    HTTP_BODY_JSON,   /* application/json, one object, parsed into req->json */
    HTTP_BODY_BYTES,  /* application/octet-stream, collected in req->body */
    HTTP_BODY_STREAM, /* the same, or of media_type, given to receive() as it comes */
};

enum {
    HTTP_BLOCKING = 1,       /* the handler runs on the pool */
    HTTP_WHILE_DRAINING = 4, /* answered while the daemon stops */
    HTTP_OPTIONAL_BODY = 8,  /* HTTP_BODY_JSON: no body is an empty object */
    HTTP_QUIET = 16,         /* logged at debug level only */
    HTTP_POLL = 32,  /* waits for news, not for work: gets HTTP_SHUTDOWN as soon as the
                        daemon begins to stop, others only after the grace time */
    HTTP_ROUTINE = 128, /* no GET, but changes where a session stands at most: no audit line */
    HTTP_EARLY = 64, /* needs none of the daemon's parts: answered while it starts */
};

struct route {
    const char *method; /* "GET" serves HEAD too */
    const char *path;   /* "/v1/sessions/{id}/step": a {name} is one segment */
    void (*handler)(struct http_request *req);
    enum scope scope; /* that the caller needs, or SCOPE_OPEN */
    enum http_body body;
    unsigned flags;
    const char *media_type; /* of HTTP_BODY_STREAM; NULL: application/octet-stream */
    const char *query; /* names taken, by spaces: "limit after label."; a name that ends
                          in a dot is a prefix; NULL: none.  Others are 422 */
    const char *produces; /* media types of a good reply, by spaces, the default first;
                             NULL: "application/json" */
    /* The largest body, params and headers at hand; asked for again as it comes.  NULL:
     * the configured max_request_bytes. */
    uint64_t (*max_body)(const struct http_request *req);
    /* Before the body is read (and before 100 Continue), on the HTTP thread, params and
     * headers at hand: refuse what can be refused.  -1 with err: replied.  NULL: nothing
     * to check. */
    int (*prepare)(struct http_request *req, struct pt2_err *err);
    /* HTTP_BODY_STREAM: the next bytes, on a pool thread, one call at a time.  -1 with
     * err: the rest is thrown away and err replied; the handler is not called. */
    int (*receive)(struct http_request *req, const void *data, size_t len,
                   struct pt2_err *err);
    /* HTTP_BODY_STREAM: the request ends within its body, whose connection broke or which
     * receive() refused; receive() has had all that came until then.  On a pool thread,
     * or another where there are none left.  NULL: nothing to do. */
    void (*cut)(struct http_request *req);
    /* For the OpenAPI document: see doc/http.md. */
    const char *summary;
    const char *takes;    /* schema of the JSON body, "ExportRequest"; NULL: none */
    const char *gives;    /* schema of the good JSON reply; NULL: none */
    const char *statuses; /* "202 404 422"; 2xx first; those of the
                             token are added to them */
    const char *headers;  /* request headers that it reads: "Idempotency-Key"; or NULL */
};

enum route_match { ROUTE_FOUND, ROUTE_NO_PATH, ROUTE_NO_METHOD, ROUTE_BAD_PATH };

#define ROUTE_ALLOW_SIZE 64

/* A table other than routes.c's, for tests. */
struct route_table {
    const struct route *rows;
    size_t n;
};
const struct route_table *routes_table(void); /* routes.c's */

/* Find the row for a method and a raw path (as on the request line, without the query).
 * ROUTE_FOUND: *ret_route, and params decoded into buf (room for strlen(path) + 1 bytes).
 * ROUTE_NO_METHOD: ret_allow lists what the path has, "GET, HEAD, PUT".
 * ROUTE_BAD_PATH: an escape that is none, %00, a '.' or '..' segment, not UTF-8.
 * A literal segment wins over a {name}; an empty one matches nothing but "/". */
enum route_match routes_find(const struct route_table *table, const char *method,
                             const char *path, char *buf, const struct route **ret_route,
                             const char *ret_params[HTTP_MAX_PARAMS],
                             char ret_allow[ROUTE_ALLOW_SIZE]);

#endif
