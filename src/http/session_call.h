/* session_call.h - a request that is one call on a session (serve.h): what its handlers
 * have in common.
 *
 *     void rewind_post(struct http_request *req)
 *     {
 *         struct session_call *sc = session_call_new(req, SERVE_REWIND, reply);
 *         if (!sc) return;                      replied
 *         ... read the body into sc->call ...
 *         session_call_submit(sc);              reply(sc) comes later, from any thread
 *     }
 *
 * The struct lives as long as its request.  A client that vanishes, or the daemon's stop,
 * gives the call up where it has not begun. */
#ifndef HTTP_SESSION_CALL_H
#define HTTP_SESSION_CALL_H

#include "http/request.h"
#include "serve/serve.h"

#define SESSION_MAX_IF_MATCH 16

struct session_call {
    struct serve_call call;
    struct http_request *req;
    const char *id; /* the session's; NULL for SERVE_OPEN */
    /* Called where the call went well; replies. */
    void (*reply)(struct session_call *sc);
    uint64_t answer_bytes; /* that reply may take, beside the call's logits or file */
    bool is_reserved;      /* with these */
    int64_t if_match[SESSION_MAX_IF_MATCH];
    void *extra; /* the handler's, freed by extra_free with the request */
    void (*extra_free)(void *extra);
};

/* Make one for the request's first path parameter (none for SERVE_OPEN), with its
 * If-Match; becomes the request's context.  NULL: replied. */
struct session_call *session_call_new(struct http_request *req, enum serve_verb verb,
                                      void (*reply)(struct session_call *sc));
void session_call_submit(struct session_call *sc);

/* It waited for too long: give it up, if it has not begun. */
void session_call_late(const struct http_request *req, struct serve_call *call);
/* Fill in who calls; call lives no longer than req. */
void session_call_of(const struct http_request *req, struct serve_call *call);
/* The facts of the session that the first path parameter names.  -1: replied. */
MUST_USE int session_facts(struct http_request *req, struct serve_facts *ret_facts);
/* The problem of a call: says "position" where that is what was wrong, and of a session
 * that is not there what became of it (which is asked on the pool). */
void session_reply_err(struct http_request *req, const struct serve_call *call);
/* The members that a problem has beyond its own: {"position": 3}; new, or NULL. */
json_t *session_problem_extra(const struct serve_call *call);
/* The 200 or 201 with the session's JSON. */
void session_reply_info(struct session_call *sc, unsigned status);
/* Where a step's or call's time went. */
void session_reply_timing(struct http_request *req, const struct serve_call *call);

#endif
