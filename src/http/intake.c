/* intake.c - everything that can be said about a request before its body. */
#include "http/exchange.h"
#include "http/header_lines.h"
#include "http/negotiate.h"
#include "http/server_parts.h"
#include "http/url.h"
#include "http/watcher.h"

#include <ctype.h>
#include <strings.h>
#include <sys/socket.h>

/* ---- a copy of the header ---- */

static size_t count_headers(const struct http_exchange *x, const char *name)
{
    size_t n = 0;

    for (size_t i = 0; i < x->n_headers; i++)
        n += strcasecmp(x->headers[i].name, name) == 0;
    return n;
}

/* The client's id where it is a sane one, otherwise one of ours. */
static void choose_id(struct http_exchange *x)
{
    const char *theirs = http_header(&x->req, "X-Request-Id");
    size_t n = theirs ? strlen(theirs) : 0;

    if (n > 0 && n < sizeof(x->req.id) &&
        n == strspn(theirs, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                            "0123456789._-:+/=@")) {
        memcpy(x->req.id, theirs, n + 1);
        return;
    }
    snprintf(x->req.id, sizeof(x->req.id), "%s%llx", x->server->id_prefix,
             (unsigned long long)atomic_fetch_add(&x->server->next_id, 1));
}

struct copying {
    struct http_exchange *x;
    char *to; /* NULL: only count */
    const char **fields; /* names and values where libmicrohttpd has them */
    size_t n, bytes;
};

static enum MHD_Result copy_header(void *context, enum MHD_ValueKind kind,
                                   const char *name, const char *value)
{
    struct copying *c = context;
    size_t n = strlen(name) + 1, m = value ? strlen(value) + 1 : 1;

    if (c->to) {
        char *at = c->to + c->bytes;

        c->fields[2 * c->n] = name;
        c->fields[2 * c->n + 1] = value ? value : "";
        memcpy(at, name, n);
        memcpy(at + n, value ? value : "", m);
        /* RFC 9110, section 5.5: white space around a value is no part of it. */
        for (size_t i = m - 1; i-- > 0 && (at[n + i] == ' ' || at[n + i] == '\t');)
            at[n + i] = '\0';
        c->x->headers[c->n] = (struct pair){at, at + n};
    }
    c->n++;
    c->bytes += n + m;
    return MHD_YES;
}

/* Headers that are lists: several lines are one (RFC 9110, section 5.3).  The first has all
 * then. */
static char *join_lists(struct http_exchange *x, char *room)
{
    static const char *const lists[] = {"Accept", "If-Match", "If-None-Match",
                                        "Repr-Digest"};

    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        struct pair *first = NULL;

        if (count_headers(x, lists[i]) < 2)
            continue;
        for (struct pair *p = x->headers; p < x->headers + x->n_headers; p++) {
            if (strcasecmp(p->name, lists[i]) != 0)
                continue;
            room += sprintf(room, first ? ", %s" : "%s", p->value);
            if (!first) {
                first = p;
                first->value = room - strlen(p->value);
            }
        }
        room++;
    }
    return room;
}

/* As they came: see header_lines.h. */
static int check_lines(struct http_exchange *x, const char *method, const char *version,
                       const struct copying *c, struct pt2_err *err)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(x->conn, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    const struct header_lines lines = {.method = method,
                                       .target = x->target_at,
                                       .version = version,
                                       .target_len = x->target_len,
                                       .end = method + (info ? info->header_size : 0),
                                       .fields = c->fields,
                                       .n_fields = c->n};

    x->must_close = true;
    if (!info || !x->target_at)
        return pt2_err_set(err, PT2_ERR_BAD_REQUEST, "the request has no target");
    if (header_lines_check(&lines, err) < 0)
        return -1;
    x->must_close = false;
    return 0;
}

/* Copies of all headers, with room for the decoded path and query behind them: endpoints
 * may look at them from any thread. */
static int copy_headers(struct http_exchange *x, const char *method, const char *version,
                        char **ret_room, struct pt2_err *err)
{
    AUTO_PTR const char **fields = NULL;
    struct copying c = {.x = x};
    /* libmicrohttpd splits the query too, but decodes its parts alike, so it is done
     * again below from the target as it came. */
    size_t room = strlen(x->target) * 2 + 16;

    MHD_get_connection_values(x->conn, MHD_HEADER_KIND, copy_header, &c);
    x->headers = calloc(c.n + 1, sizeof(*x->headers));
    x->text = malloc(2 * c.bytes + room); /* lists are joined there */
    fields = calloc(2 * c.n + 1, sizeof(*fields));
    if (!x->headers || !x->text || !fields)
        return pt2_err_set(err, PT2_ERR_NOMEM, "request header");
    c = (struct copying){.x = x, .to = x->text, .fields = fields};
    MHD_get_connection_values(x->conn, MHD_HEADER_KIND, copy_header, &c);
    x->n_headers = c.n;
    *ret_room = join_lists(x, x->text + c.bytes);
    choose_id(x);
    if (version && check_lines(x, method, version, &c, err) < 0)
        return -1;
    /* Names, values and the ": " and line ends between them; the request line. */
    if (c.bytes + 2 * c.n + strlen(x->target) + strlen(x->method) + 12 >
        x->server->limits.max_header_bytes)
        return pt2_err_set(err, PT2_ERR_HEADERS_TOO_LARGE,
                           "the request line and headers have more than %llu bytes",
                           (unsigned long long)x->server->limits.max_header_bytes);
    return 0;
}

/* ---- framing ---- */

/* What libmicrohttpd takes although readers of HTTP may disagree about it is refused, so
 * that no proxy in front of us sees other requests than we do. */
static int check_framing(struct http_exchange *x, const char *version,
                         struct pt2_err *err)
{
    const char *encoding = http_header(&x->req, "Transfer-Encoding");
    const char *length = http_header(&x->req, "Content-Length");
    const char *expect = http_header(&x->req, "Expect");
    static const char *const single[] = {"Content-Length", "Origin", "Authorization",
                                         "Content-Type"};

    x->content_length = 0;
    if (length)
        x->content_length = strtoull(length, NULL, 10);
    if (encoding)
        x->content_length = UINT64_MAX;
    x->has_body = x->content_length > 0;
    x->expects_continue = expect && strcasecmp(expect, "100-continue") == 0;
    x->must_close = true;
    if (encoding && length)
        return pt2_err_set(err, PT2_ERR_BAD_REQUEST,
                           "Content-Length and Transfer-Encoding exclude each other");
    /* libmicrohttpd compares it with what stands behind it, too. */
    if (encoding && (strcasecmp(encoding, "chunked") != 0 ||
                     strcasecmp(encoding, MHD_lookup_connection_value(
                                              x->conn, MHD_HEADER_KIND,
                                              "Transfer-Encoding")) != 0 ||
                     count_headers(x, "Transfer-Encoding") > 1))
        return pt2_err_set(err, PT2_ERR_BAD_REQUEST,
                           "the one Transfer-Encoding taken is chunked, not '%s'",
                           encoding);
    for (size_t i = 0; i < ARRAY_LEN(single); i++)
        if (count_headers(x, single[i]) > 1)
            return pt2_err_set(err, PT2_ERR_BAD_REQUEST, "there are two %s", single[i]);
    x->must_close = false;
    if (streq(version, "HTTP/1.1") && count_headers(x, "Host") != 1)
        return pt2_err_set(err, PT2_ERR_BAD_REQUEST,
                           "an HTTP/1.1 request has one Host header, not %zu",
                           count_headers(x, "Host"));
    return 0;
}

/* ---- path and query ---- */

static int find_route(struct http_exchange *x, const char *path, char **room,
                      struct pt2_err *err)
{
    char allow[ROUTE_ALLOW_SIZE];
    enum route_match match = routes_find(x->server->table, x->method, path, *room,
                                         &x->req.route, x->req.params, allow);

    /* Without a token nobody learns which paths there are. */
    if (admit_caller(x, match == ROUTE_FOUND ? x->req.route : NULL, err) < 0)
        return -1;
    *room += strlen(path) + 1;
    switch (match) {
    case ROUTE_BAD_PATH:
        return pt2_err_set(err, PT2_ERR_BAD_REQUEST,
                           "the path holds a bad escape, %%00, a '.' or '..' segment, or "
                           "what is not UTF-8");
    case ROUTE_NO_PATH:
        return pt2_err_set(err, PT2_ERR_NOT_FOUND, "there is nothing at this path");
    case ROUTE_NO_METHOD:
        http_reply_header(&x->req, "Allow", "%s", allow);
        return pt2_err_set(err, PT2_ERR_METHOD, "this path takes %s, not '%s'", allow,
                           x->method);
    case ROUTE_FOUND:
        break;
    }
    return 0;
}

static bool is_known_name(const char *known, const char *name, bool *ret_is_prefix)
{
    while (known && *known) {
        size_t n = strcspn(known, " ");

        *ret_is_prefix = known[n - 1] == '.';
        if (strncmp(known, name, n) == 0 && (*ret_is_prefix ? name[n] : !name[n]))
            return true;
        known += n + strspn(known + n, " ");
    }
    return false;
}

/* One "name=value", decoded into room. */
static int take_pair(struct http_exchange *x, const char *text, size_t len, char **room,
                     struct pt2_err *err)
{
    const char *known = x->req.route->query, *why = NULL;
    const char *equals = memchr(text, '=', len);
    size_t n = equals ? (size_t)(equals - text) : len;
    char *name = *room, *value;
    bool is_prefix;

    if (!url_decode(text, n, true, name, &why))
        return pt2_err_set(err, PT2_ERR_BAD_REQUEST, "the query: %s", why);
    value = name + strlen(name) + 1;
    if (!url_decode(equals ? equals + 1 : "", equals ? len - n - 1 : 0, true, value,
                    &why))
        return pt2_err_set(err, PT2_ERR_BAD_REQUEST, "the query: %s", why);
    *room = value + strlen(value) + 1;
    if (!is_known_name(known, name, &is_prefix))
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "there is no query parameter '%s' here%s%s", name,
                           known ? "; there are: " : "", known ? known : "");
    if (http_query(&x->req, name))
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "the query parameter '%s' is there twice", name);
    if (x->n_query == HTTP_MAX_QUERY)
        return pt2_err_set(err, PT2_ERR_INVALID, "more than %d query parameters",
                           HTTP_MAX_QUERY);
    x->query[x->n_query++] = (struct pair){name, value};
    return 0;
}

static int take_query(struct http_exchange *x, const char *query, char **room,
                      struct pt2_err *err)
{
    while (query && *query) {
        size_t n = strcspn(query, "&");

        if (n > 0 && take_pair(x, query, n, room, err) < 0)
            return -1;
        query += n + (query[n] == '&');
    }
    return 0;
}

/* ---- what the route takes and gives ---- */

static int check_state(const struct http_exchange *x, struct pt2_err *err)
{
    unsigned flags = x->req.route->flags;

    switch (http_server_state(x->server)) {
    case HTTP_STARTING:
        if (!(flags & HTTP_EARLY))
            return pt2_err_set(err, PT2_ERR_STARTING, "the daemon is starting");
        break;
    case HTTP_DRAINING:
        if (!(flags & (HTTP_EARLY | HTTP_WHILE_DRAINING)))
            return pt2_err_set(err, PT2_ERR_DRAINING, "the daemon is stopping");
        break;
    case HTTP_READY:
        break;
    }
    return 0;
}

static int check_accept(struct http_exchange *x, struct pt2_err *err)
{
    const char *produces = x->req.route->produces;
    const char *accept = http_header(&x->req, "Accept");
    const char *best;
    size_t n;

    if (!produces)
        produces = "application/json";
    best = negotiate(accept, produces, &n);
    if (!best)
        return pt2_err_set(err, PT2_ERR_NOT_ACCEPTABLE,
                           "the answer is %s, which Accept: %s leaves out", produces,
                           accept);
    snprintf(x->accepts, sizeof(x->accepts), "%.*s", (int)n, best);
    x->req.accepts = x->accepts;
    return 0;
}

static int check_media_type(const struct http_exchange *x, struct pt2_err *err)
{
    const char *type = http_header(&x->req, "Content-Type");
    const char *coding = http_header(&x->req, "Content-Encoding");
    enum http_body body = x->req.route->body;
    const char *due = x->req.route->media_type;

    if (!due)
        due = "application/octet-stream";
    if (!x->has_body) {
        /* An empty body needs no type. */
        if (body == HTTP_BODY_JSON && !(x->req.route->flags & HTTP_OPTIONAL_BODY))
            return pt2_err_set(err, PT2_ERR_BAD_JSON,
                               "a JSON body is needed; with curl: --json '{…}'");
        return 0;
    }
    if (coding && strcasecmp(coding, "identity") != 0)
        return pt2_err_set(err, PT2_ERR_MEDIA_TYPE,
                           "no Content-Encoding is taken, this is '%s'", coding);
    if (body == HTTP_BODY_NONE)
        return pt2_err_set(err, PT2_ERR_MEDIA_TYPE, "this request takes no body");
    if (body == HTTP_BODY_JSON && (!type || !media_type_is(type, "application/json")))
        return pt2_err_set(err, PT2_ERR_MEDIA_TYPE,
                           "the body must be application/json in UTF-8, not '%s'; with "
                           "curl use --json",
                           type ? type : "of no type");
    if (body != HTTP_BODY_JSON && type &&
        !media_type_is(type, due))
        return pt2_err_set(err, PT2_ERR_MEDIA_TYPE, "the body must be %s, not '%s'", due,
                           type);
    return 0;
}

/* ---- all of it ---- */

static int examine(struct http_exchange *x, const char *method, const char *version,
                   struct pt2_err *err)
{
    char *room = NULL, *authority, *query;
    const char *path;

    if (copy_headers(x, method, version, &room, err) < 0)
        return -1;
    if (check_framing(x, version, err) < 0)
        return -1;
    authority = room;
    if (!url_split(x->target, authority, &path, &query))
        return pt2_err_set(err, PT2_ERR_BAD_REQUEST, "the request target is no path");
    room += strlen(authority) + 1;
    if (admit_origin(x, *authority ? authority : NULL, err) < 0 ||
        find_route(x, path, &room, err) < 0 ||
        check_state(x, err) < 0 || take_query(x, query, &room, err) < 0 ||
        check_accept(x, err) < 0 || check_media_type(x, err) < 0)
        return -1;
    if (x->has_body && body_begin(x, err) < 0)
        return -1;
    return x->req.route->prepare ? x->req.route->prepare(&x->req, err) : 0;
}

enum MHD_Result intake(struct http_exchange *x, const char *method, const char *version)
{
    struct pt2_err err = {0};

    snprintf(x->method, sizeof(x->method), "%s", method);
    x->req.is_head = streq(method, "HEAD");
    link_expect_nothing(x->link);
    if (examine(x, method, version, &err) < 0) {
        if (!x->req.id[0])
            choose_id(x);
        return refuse(x, &err);
    }
    x->phase = PHASE_BODY;
    if (x->has_body) {
        x->body_began_ms = http_now_ms();
        link_expect(x->link, LINK_BODY,
                    x->body_began_ms + x->server->limits.body_timeout_ms);
    }
    return MHD_YES;
}

void intake_refuse(struct http_exchange *x, unsigned status)
{
    struct pt2_err err = {0};
    char *room;

    snprintf(x->method, sizeof(x->method), "%s", "-");
    link_expect_nothing(x->link);
    x->must_close = true;
    if (copy_headers(x, /* method= */ NULL, /* version= */ NULL, &room, &err) == 0) {
        const char *length = http_header(&x->req, "Content-Length");

        if (status == 400 && length)
            pt2_err_set(&err, PT2_ERR_BAD_REQUEST,
                        "Content-Length must be digits alone, not '%.100s'", length);
        else if (status == 413 && length)
            pt2_err_set(&err, PT2_ERR_TOO_LARGE,
                        "Content-Length is %.100s, more than any body may have", length);
        else
            pt2_err_set(&err, PT2_ERR_HEADERS_TOO_LARGE, "the headers are too large");
    }
    if (!x->req.id[0])
        choose_id(x);
    refuse_now(x, &err);
    /* So that its own answer does not get there. */
    shutdown(x->fd, SHUT_WR);
}
