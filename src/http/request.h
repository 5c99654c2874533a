/* request.h - one HTTP request, as endpoints see it.
 *
 * The core (server.c) has matched the route, checked token, Accept, Content-Type and
 * length, decoded the path, read and parsed the body; then it calls the route's handler:
 *
 *     void programs_get(struct http_request *req);
 *
 * A handler replies (reply.h) exactly once: before it returns, or later from any thread.
 * Where it returns without a reply the connection is suspended; no thread waits.  A
 * handler runs on one of the few HTTP threads and must not block (no disk, no lock held
 * for long); a route with HTTP_BLOCKING runs on the pool, where it may.
 *
 * Later replies.  A request is freed when its reply has been sent, or its client has
 * gone. Whoever keeps one beyond the handler's return takes a reference
 * (http_request_ref) and drops it after replying.  The first reply wins; a second one is
 * dropped.  So a deadline, a vanished client and the work's end may race freely.
 *
 * Vanishing clients.  While a connection is suspended the core watches its socket; when
 * the client closes or half-closes it, when the deadline passes or the daemon stops, the
 * cancel callback is called, once for each reason at most.
 *
 * Threads: the fields are written before the handler runs and constant afterwards;
 * context is the handler's own.  The functions say which thread. */
#ifndef HTTP_REQUEST_H
#define HTTP_REQUEST_H

#include "base/json.h"
#include "http/app.h"
#include "http/auth.h"

#define HTTP_MAX_PARAMS 4

struct route;
struct http_exchange;

struct http_request {
    struct app *app; /* borrowed */
    const struct route *route;
    char id[65];         /* X-Request-Id */
    bool is_head;        /* replied as GET; the core leaves the body out */
    struct auth_caller caller; /* whose request it is; nobody's on SCOPE_OPEN routes */
    const char *accepts; /* the one of route->produces that the client likes best */
    /* The decoded {…} parts of the path, in order: UTF-8, no NUL, not empty. */
    const char *params[HTTP_MAX_PARAMS];
    json_t *json; /* HTTP_BODY_JSON: the object; an empty one where the body was empty and
                     the route allows that */
    const char *body; /* HTTP_BODY_BYTES */
    size_t body_len;
    /* The handler's own, freed by context_free with the request (any thread). */
    void *context;
    void (*context_free)(void *context);
    struct http_exchange *x; /* the core's */
};

/* Who asks, for what has an owner (base/owner.h): NULL sees everything. */
static inline const char *http_who(const struct http_request *req)
{
    return req->caller.scopes & SCOPE_ADMIN ? NULL : req->caller.owner;
}

/* The decoded query parameter, NULL where absent, borrowed.  Only names in route->query
 * get this far.  http_query_each walks all of them, in order (false: no i-th one). */
const char *http_query(const struct http_request *req, const char *name);
bool http_query_each(const struct http_request *req, size_t i, const char **ret_name,
                     const char **ret_value);
/* ?name= as a number; absent: *ret stays as it is.  Out of range or no number: replies
 * 422 and returns -1. */
MUST_USE int http_query_int(struct http_request *req, const char *name, int64_t min,
                            int64_t max, int64_t *ret);
/* A request header, NULL where absent, borrowed until the request is freed (the core
 * keeps a copy of them all).  Of several with this name, the first.  Any thread that
 * holds the request. */
const char *http_header(const struct http_request *req, const char *name);

/* Any thread. */
struct http_request *http_request_ref(struct http_request *req);
void http_request_unref(struct http_request *req);

enum http_cancel {
    HTTP_CLIENT_GONE, /* closed or half-closed; nobody may read the reply, yet one is due
                       */
    HTTP_DEADLINE,    /* the time of http_set_deadline has passed */
    HTTP_SHUTDOWN,    /* the daemon stops: reply soon */
};

/* Have fn called on the watcher's thread, no lock held, req valid during the call.  fn
 * must not block; it sees to it that a reply follows soon, or replies itself.  To be set
 * by the handler before it returns, before the work that may reply is handed on. */
void http_on_cancel(struct http_request *req,
                    void (*fn)(struct http_request *req, enum http_cancel why));
/* From now, in milliseconds.  Before the handler returns. */
void http_set_deadline(struct http_request *req, int64_t ms);
/* Has the client gone?  Any thread that holds a reference. */
bool http_is_gone(const struct http_request *req);

/* Have fn told what was replied: exactly once, on the thread whose reply came first,
 * before a byte of it is sent; so fn may still record it durably (it may block where that
 * thread may).  status is the reply's; location its Location header or NULL; json its
 * body where it was replied with http_reply_json or as a problem, otherwise NULL.  Where
 * the request ends without a reply (out of memory), status is 0.  ctx is fn's to free.
 * One fn for a request; set it before anything that may reply is handed on. */
typedef void http_reply_fn(void *ctx, struct http_request *req, unsigned status,
                           const char *location, const json_t *json);
void http_on_reply(struct http_request *req, http_reply_fn *fn, void *ctx);

/* It follows something, until it ends: counted among those of its client, and of all.
 * Errors: QUEUE_FULL, TOKEN_LIMIT. */
MUST_USE int http_follow(struct http_request *req, struct pt2_err *err);

/* Memory for its answer, before it is made: n bytes more of its client's share, given back
 * when the request ends, or what the reply does not need of it with the reply.  What nobody
 * reserved is taken with the reply, whose request is answered 429 where there is none.
 * Errors: BUDGET, ANSWER_TOO_LARGE (more than there can be).  Any thread that holds the request. */
MUST_USE int http_reserve_answer(struct http_request *req, uint64_t n, struct pt2_err *err);

/* Run fn(req) on the pool, where it may block; for handlers that decide late.  Takes its
 * own reference.  Replies 429 itself where the pool's queue is full, and 503 while
 * stopping. */
void http_run_blocking(struct http_request *req, void (*fn)(struct http_request *req));

#endif
