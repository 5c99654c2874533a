/* exchange.h - the core's half of a request: from its request line to its last byte.
 *
 * Within src/http's core only (server, intake, body, request, reply, stream, watcher).
 *
 * An exchange is made when libmicrohttpd has read a request line, and freed when its last
 * reference goes: the core's own goes when the reply was sent or the connection has
 * ended.
 *
 * Threads.  A connection stays on one HTTP thread; what is marked [HTTP] is used there
 * alone, and while the connection is suspended by nobody.  What is marked [lock] is
 * guarded by x->lock.  The rest is constant once the handler is called.
 *
 * Locks, in the order they may be taken: x->lock, the watcher's, libmicrohttpd's own.  No
 * callback of an endpoint is called under any of them. */
#ifndef HTTP_EXCHANGE_H
#define HTTP_EXCHANGE_H

#include "base/buf.h"
#include "http/audit.h"
#include "http/auth.h"
#include "http/clients.h"
#include "http/reply.h"
#include "http/routes.h"

#include <limits.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

struct http_server;
struct http_link;
struct upload;

#define HTTP_MAX_QUERY 64
#define HTTP_SWALLOW                                                                     \
    (256 << 10) /* a refused body up to this is read, to keep the connection */
#define HTTP_STREAM_MAX (1 << 20) /* bytes of a stream that a client may be behind */

enum phase {                /* of the access handler's calls */
             PHASE_NEW,     /* the header is there */
             PHASE_BODY,    /* the body comes */
             PHASE_DISCARD, /* the body of a refused request comes */
             PHASE_SERVED,  /* the handler was called, or a refusal is ready */
             PHASE_QUEUED,  /* the reply is libmicrohttpd's */
};

struct pair {
    const char *name, *value;
};

/* A header of the coming reply.  Racing repliers (work's end, deadline) each add their
 * own, so each remembers whose it is. */
struct out_header {
    struct out_header *next;
    pthread_t thread;
    char *name, *value;
};
void out_header_free(struct out_header *h);

struct stream {
    struct buf pending; /* written, not yet sent */
    bool begun, ended;  /* by the handler */
    bool closed;        /* nobody reads any more */
};

struct http_exchange {
    struct http_request req;
    atomic_int refs;
    struct http_server *server;
    struct http_link *link;
    int fd; /* of the connection; valid until it has ended */
    bool is_tls;
    struct client *client; /* whose bytes these are; a reference */

    /* the request, read by intake.c */
    char *target; /* raw; cut into path and query */
    const char *target_at; /* where libmicrohttpd has it */
    size_t target_len;
    char method[16];
    char accepts[80];
    char *text; /* headers, params and query, decoded */
    struct pair *headers;
    size_t n_headers;
    struct pair query[HTTP_MAX_QUERY];
    size_t n_query;
    int64_t started_ms;
    uint64_t content_length; /* UINT64_MAX: chunked; 0: no body */
    bool has_body, expects_continue;
    bool must_close; /* its framing was doubtful */

    /* [HTTP] */
    struct MHD_Connection *conn;
    struct http_exchange *arriving_next, **arriving_at; /* arriving.c's */
    pthread_t arriving_thread;
    enum phase phase;
    bool is_handed;      /* to the handler: the body is whole */
    bool counted;        /* among the server's active ones */
    bool lingers;        /* the client may still be sending when we close */
    unsigned raw_status; /* sent by refuse.c itself */
    struct buf body;
    uint64_t body_seen; /* bytes */
    int64_t body_began_ms, body_paused_ms;
    bool body_is_paused;
    struct upload *upload; /* HTTP_BODY_STREAM */

    pthread_mutex_t lock; /* guards what follows */
    bool returned;        /* the handler has */
    unsigned n_working;   /* on the pool: nobody else answers meanwhile */
    bool replied;         /* somebody's reply came first */
    bool ready;           /* and can be sent: status, response */
    bool suspended;       /* libmicrohttpd waits for us to resume */
    bool is_paced;        /* likewise, until its client's rate allows more */
    bool ended;           /* nothing can be sent any more */
    unsigned status;
    char problem[48]; /* the type that was answered; "" where it was none */
    struct audit_facts audit;
    struct MHD_Response *response;
    struct out_header *out_headers;
    unsigned cancel_pending, cancel_told; /* bits by enum http_cancel */
    void (*on_cancel)(struct http_request *req, enum http_cancel why);
    http_reply_fn *on_reply;
    void *on_reply_ctx;
    int64_t deadline_ms; /* monotonic; INT64_MAX: none */
    struct stream stream;
    uint64_t held[N_HOLDINGS]; /* of its client's share */
    uint64_t small_answers;    /* bytes reserved for an answer, too few to be counted */
    atomic_bool gone;
};

static inline struct http_exchange *exchange_of(const struct http_request *req)
{
    return req->x;
}

static inline int64_t http_now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* new, with one reference; NULL: out of memory.  target is copied. */
struct http_exchange *exchange_new(struct http_server *server, struct http_link *link,
                                   int fd, const char *target);
void exchange_ref(struct http_exchange *x);
void exchange_unref(struct http_exchange *x);

/* Offer a reply.  response is taken (NULL, out of memory: the connection will be closed);
 * json, borrowed, is for the reply hook.  False: another one came first.  Any thread. */
bool exchange_reply(struct http_exchange *x, unsigned status,
                    struct MHD_Response *response, const json_t *json);
/* Have libmicrohttpd come back to a suspended connection. */
void exchange_resume_locked(struct http_exchange *x);
/* Queue the reply where one is ready, otherwise suspend until one is. [HTTP], in the
 * access handler. */
enum MHD_Result exchange_answer(struct http_exchange *x);
/* fn(req); what it logs bears the request's id. */
void exchange_call(void (*fn)(struct http_request *req), struct http_request *req);
/* The same on the pool, unless there is a reply already.  What the handler does, it answers:
 * exchange_force leaves it alone. */
void exchange_work(void (*fn)(struct http_request *req), struct http_request *req);
/* Call the route's handler, here or on the pool, and see to the answer.  [HTTP] */
enum MHD_Result exchange_serve(struct http_exchange *x);
/* The end: by libmicrohttpd's callback.  [HTTP]  The caller drops the core's reference.
 */
void exchange_ended(struct http_exchange *x);

/* Tell the handler, as request.h says: now, or once it has returned.  The watcher's
 * thread. */
void exchange_cancel(struct http_exchange *x, enum http_cancel why);
/* 503 where nobody has replied yet; a stream ends.  Any thread. */
void exchange_force(struct http_exchange *x);

/* ---- refuse.c ---- */

/* Answer before the body was read: read it away where it is short, otherwise send the
 * problem at once and close, reading on for a while so that the answer is not lost.
 * What to return from the access handler.  [HTTP] */
enum MHD_Result refuse(struct http_exchange *x, const struct pt2_err *err);
/* The second way, whatever the body. */
enum MHD_Result refuse_now(struct http_exchange *x, const struct pt2_err *err);

/* ---- admit.c ---- */

/* Host, or the target's authority where it has one (RFC 9112, section 3.2.2), and Origin.
 * Errors: FORBIDDEN.  [HTTP] */
MUST_USE int admit_origin(struct http_exchange *x, const char *authority,
                          struct pt2_err *err);
/* The token or peer, into x->req.caller, its rate, and the scope of route (NULL: there is
 * none at this path); adds the headers of a refusal.  Errors: UNAUTHORIZED, SCOPE,
 * RATE_LIMITED.  [HTTP] */
MUST_USE int admit_caller(struct http_exchange *x, const struct route *route,
                          struct pt2_err *err);

/* ---- intake.c ---- */

/* The header is there: match, check, prepare.  Replies, or makes ready for the body.
 * [HTTP] */
enum MHD_Result intake(struct http_exchange *x, const char *method, const char *version);
/* libmicrohttpd is about to refuse the request with that status, in its own words and twice
 * (arriving.h): answer in its place.  [HTTP] */
void intake_refuse(struct http_exchange *x, unsigned status);

/* ---- share.c ---- */

/* Hold n more of its client's share, until the request ends.  Errors: BUDGET, QUEUE_FULL,
 * TOKEN_LIMIT.  Any thread. */
MUST_USE int share_take(struct http_exchange *x, enum holding what, uint64_t n,
                        struct pt2_err *err);
/* Its answer has len bytes: what was reserved for it beyond that is given back, and what was
 * not, taken; where may_refuse is false and there is none left, it is not counted.
 * Errors: those of http_reserve_answer. */
MUST_USE int share_answer(struct http_exchange *x, uint64_t len, bool may_refuse,
                          struct pt2_err *err);
void share_done(struct http_exchange *x); /* the request ends */

/* ---- body.c ---- */

/* Before the body: limits and budgets.  Errors: TOO_LARGE, BUDGET, NOMEM.  [HTTP] */
MUST_USE int body_begin(struct http_exchange *x, struct pt2_err *err);
/* The next bytes; *len becomes what was left because the connection is suspended.
 * [HTTP] */
enum MHD_Result body_take(struct http_exchange *x, const char *data, size_t *len);
/* It is complete: parse it and serve the request.  [HTTP] */
enum MHD_Result body_end(struct http_exchange *x);
/* It will not be: the connection has ended, or the rest was refused.  [HTTP] */
void body_cut(struct http_exchange *x);
void body_done(struct http_exchange *x);

/* ---- pace.c ---- */

/* Suspend the connection where its client is ahead of its rate.  True: nothing may be taken
 * now; libmicrohttpd comes back.  [HTTP], in the access handler (with bytes left to be
 * taken) or the content reader.  _locked: under x->lock. */
MUST_USE bool pace_pause_upload(struct http_exchange *x);
MUST_USE bool pace_pause_locked(struct http_exchange *x, bool is_upload);
/* The pause is over: the watcher. */
void pace_over(struct http_exchange *x);
/* n bytes have passed. */
void pace_pass(struct http_exchange *x, bool is_upload, uint64_t n);
/* Is there a rate for what is sent to this client? */
bool pace_is_needed(const struct http_exchange *x);
/* A response that is sent at that rate; data (malloc) and fd are taken.  NULL: no memory. */
struct MHD_Response *pace_response_of_data(struct http_exchange *x, char *data,
                                           size_t len);
struct MHD_Response *pace_response_of_file(struct http_exchange *x, int fd,
                                           uint64_t first, uint64_t len);

/* ---- reply.c ---- */

/* The problem's JSON with extra's members (taken; may be NULL), new; NULL: out of memory.
 */
json_t *problem_json(const struct pt2_err *err, json_t *extra);
/* A response of these bytes (taken), with the exchange's own headers; NULL: no memory. */
struct MHD_Response *response_of(struct http_exchange *x, const char *content_type,
                                 char *data, size_t len);
/* What every response carries, and what this thread added with http_reply_header. */
/* Retry-After, WWW-Authenticate: what the code asks for and the handler gave not. */
void problem_add_headers(struct http_request *req, enum pt2_error code);
bool response_add_headers(struct http_exchange *x, struct MHD_Response *response,
                          const char *content_type);

#endif
