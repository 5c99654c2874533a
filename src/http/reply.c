#include "http/reply.h"

#include "base/json.h"
#include "base/log.h"
#include "http/exchange.h"
#include "http/server_parts.h"

#include <stdarg.h>
#include <strings.h>

#define PROBLEM "application/problem+json"

/* ---- headers ---- */

static bool is_printable(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < ' ' || *s == 0x7f)
            return false;
    return true;
}

void http_reply_header(struct http_request *req, const char *name, const char *fmt, ...)
{
    struct http_exchange *x = exchange_of(req);
    struct out_header *h = calloc(1, sizeof(*h));
    va_list ap;

    if (!h)
        return;
    va_start(ap, fmt);
    if (vasprintf(&h->value, fmt, ap) < 0)
        h->value = NULL;
    va_end(ap);
    h->name = strdup(name);
    h->thread = pthread_self();
    if (!h->name || !h->value || !is_printable(h->value)) {
        out_header_free(h);
        return;
    }
    pthread_mutex_lock(&x->lock);
    h->next = x->out_headers;
    x->out_headers = h;
    pthread_mutex_unlock(&x->lock);
}

/* Has this thread added such a header? */
static bool has_header(struct http_exchange *x, const char *name)
{
    bool has = false;

    pthread_mutex_lock(&x->lock);
    for (const struct out_header *h = x->out_headers; h && !has; h = h->next)
        has = pthread_equal(h->thread, pthread_self()) && strcasecmp(h->name, name) == 0;
    pthread_mutex_unlock(&x->lock);
    return has;
}

bool response_add_headers(struct http_exchange *x, struct MHD_Response *response,
                          const char *content_type)
{
    bool ok = true;

    if (!has_header(x, "Cache-Control"))
        ok = MHD_add_response_header(response, "Cache-Control", "no-store") == MHD_YES;
    if (content_type && !has_header(x, "Content-Type"))
        ok &= MHD_add_response_header(response, "Content-Type", content_type) == MHD_YES;
    ok &= MHD_add_response_header(response, "X-Request-Id", x->req.id) == MHD_YES;
    /* A stop closes connections as they fall idle. */
    if (http_server_state(x->server) == HTTP_DRAINING)
        ok &= MHD_add_response_header(response, "Connection", "close") == MHD_YES;
    pthread_mutex_lock(&x->lock);
    for (const struct out_header *h = x->out_headers; h; h = h->next)
        if (pthread_equal(h->thread, pthread_self()))
            ok &= MHD_add_response_header(response, h->name, h->value) == MHD_YES;
    pthread_mutex_unlock(&x->lock);
    return ok;
}

/* Those of an answer that is not given after all. */
static void drop_headers(struct http_exchange *x)
{
    pthread_mutex_lock(&x->lock);
    for (struct out_header **at = &x->out_headers; *at;) {
        struct out_header *h = *at;

        if (!pthread_equal(h->thread, pthread_self())) {
            at = &h->next;
            continue;
        }
        *at = h->next;
        out_header_free(h);
    }
    pthread_mutex_unlock(&x->lock);
}

/* Memory for an answer that nobody may read: of so many bytes.  Only what changed nothing is
 * refused, and not what an operator sees the trouble by.  False: replied. */
static bool has_room(struct http_exchange *x, unsigned status, size_t len)
{
    const struct route *route = x->req.route;
    bool may_refuse = status < 400 && route && streq(route->method, "GET") &&
                      !(route->flags & HTTP_QUIET);
    struct pt2_err err = {0};

    if (share_answer(x, len, may_refuse, &err) == 0)
        return true;
    drop_headers(x);
    http_reply_err(&x->req, &err);
    return false;
}

struct MHD_Response *response_of(struct http_exchange *x, const char *content_type,
                                 char *data, size_t len)
{
    struct MHD_Response *response;

    if (len > 0 && pace_is_needed(x)) {
        response = pace_response_of_data(x, data, len);
    } else {
        response = MHD_create_response_from_buffer(len, data, MHD_RESPMEM_MUST_FREE);
        if (!response)
            free(data);
    }
    if (!response)
        return NULL;
    if (!response_add_headers(x, response, content_type)) {
        MHD_destroy_response(response);
        return NULL;
    }
    return response;
}

/* ---- good replies ---- */

void http_reply_bytes(struct http_request *req, unsigned status, const char *content_type,
                      char *data, size_t len)
{
    struct http_exchange *x = exchange_of(req);

    if (has_room(x, status, len))
        exchange_reply(x, status, response_of(x, content_type, data, len), NULL);
    else
        free(data);
}

void http_reply_text(struct http_request *req, unsigned status, const char *content_type,
                     const char *text)
{
    char *copy = strdup(text);

    if (copy)
        http_reply_bytes(req, status, content_type, copy, strlen(copy));
    else
        http_reply_problem(req, PT2_ERR_NOMEM, "reply");
}

void http_reply_empty(struct http_request *req, unsigned status)
{
    http_reply_bytes(req, status, NULL, NULL, 0);
}

/* The text with a line end, as people with curl like it.  NULL: out of memory. */
static char *print_json(const json_t *json, size_t *ret_len)
{
    char *text = json_to_text(json, JSON_COMPACT), *grown;
    size_t n = text ? strlen(text) : 0;

    if (!text)
        return NULL;
    grown = realloc(text, n + 2);
    if (!grown) {
        free(text);
        return NULL;
    }
    memcpy(grown + n, "\n", 2);
    *ret_len = n + 1;
    return grown;
}

static void reply_json(struct http_request *req, unsigned status,
                       const char *content_type, const json_t *json)
{
    struct http_exchange *x = exchange_of(req);
    struct MHD_Response *response = NULL;
    size_t len;
    char *text = print_json(json, &len);

    if (text && !has_room(x, status, len)) {
        free(text);
        return;
    }
    if (text)
        response = response_of(x, content_type, text, len);
    exchange_reply(x, status, response, json);
}

void http_reply_json(struct http_request *req, unsigned status, json_t *json)
{
    if (json)
        reply_json(req, status, "application/json", json);
    else
        http_reply_problem(req, PT2_ERR_NOMEM, "no memory for the answer");
    json_decref(json);
}

/* ---- problems ---- */

json_t *problem_json(const struct pt2_err *err, json_t *extra)
{
    json_t *json = NULL;
    json_t *detail = json_string_lossy(err->text);
    char type[80];

    snprintf(type, sizeof(type), "/problems/%s", pt2_error_name(err->code));
    json = json_pack("{s:s, s:s, s:i, s:o}", "type", type, "title",
                     pt2_error_title(err->code), "status", pt2_error_status(err->code),
                     "detail", detail);
    if (json && extra)
        json_object_update(json, extra);
    json_decref(extra);
    return json;
}

json_t *http_problem_json(const struct pt2_err *err)
{
    return problem_json(err, NULL);
}

json_t *http_problems_json(const struct json_problems *problems)
{
    struct pt2_err err = {0};
    json_t *extra = json_object();

    json_problems_to_err(problems, PT2_ERR_INVALID, &err);
    if (problems->errors && !problems->ran_out)
        json_object_set(extra, "errors", problems->errors);
    return problem_json(&err, extra);
}

/* Seconds until it may be otherwise, at a guess: a queue moves on, memory and places come
 * back as sessions end, a daemon that stops may be started again. */
static unsigned retry_after_s(enum pt2_error code)
{
    switch (code) {
    case PT2_ERR_BUDGET:
    case PT2_ERR_TOKEN_LIMIT:
    case PT2_ERR_NOT_IN_TIME:
    case PT2_ERR_DRAINING:
        return 5;
    case PT2_ERR_NOMEM:
        return 2;
    default:
        return 1;
    }
}

void problem_add_headers(struct http_request *req, enum pt2_error code)
{
    struct http_exchange *x = exchange_of(req);
    int status = pt2_error_status(code);

    if ((status == 429 || status == 503) && !has_header(x, "Retry-After"))
        http_reply_header(req, "Retry-After", "%u", retry_after_s(code));
    if (status == 401 && !has_header(x, "WWW-Authenticate"))
        http_reply_header(req, "WWW-Authenticate", "Bearer realm=\"pt2d\"");
}

static void reply_problem(struct http_request *req, enum pt2_error code, json_t *json)
{
    struct http_exchange *x = exchange_of(req);

    problem_add_headers(req, code);
    if (json)
        reply_json(req, (unsigned)pt2_error_status(code), PROBLEM, json);
    else
        exchange_reply(x, 503, NULL, NULL); /* closes the connection */
    json_decref(json);
}

void http_reply_err_with(struct http_request *req, const struct pt2_err *err,
                         json_t *extra)
{
    struct pt2_err none = {0};

    if (err->code == PT2_ERR_NONE) {
        pt2_err_set(&none, PT2_ERR_INTERNAL, "failed without saying why");
        err = &none;
    } else if (err->code == PT2_ERR_CANCELLED &&
               http_server_state(exchange_of(req)->server) == HTTP_DRAINING) {
        /* What reads files gives up for the daemon's end. */
        pt2_err_set(&none, PT2_ERR_DRAINING, "the daemon is stopping");
        err = &none;
    }
    if (pt2_error_status(err->code) == 500 || pt2_error_status(err->code) == 507)
        log_with(LOG_LEVEL_ERROR, LOG_REQUEST(req->id), "%s '%s': %s",
                 exchange_of(req)->method, exchange_of(req)->target, err->text);
    reply_problem(req, err->code, problem_json(err, extra));
}

void http_reply_err(struct http_request *req, const struct pt2_err *err)
{
    http_reply_err_with(req, err, NULL);
}

void http_reply_problem(struct http_request *req, enum pt2_error code, const char *fmt,
                        ...)
{
    struct pt2_err err = {0};
    va_list ap;

    va_start(ap, fmt);
    pt2_err_vset(&err, code, fmt, ap);
    va_end(ap);
    http_reply_err(req, &err);
}

void http_reply_problems(struct http_request *req, const struct json_problems *problems)
{
    reply_problem(req, PT2_ERR_INVALID, http_problems_json(problems));
}
