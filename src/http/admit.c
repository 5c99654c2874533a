/* admit.c - may this request come in: by where it comes from, and by who sends it. */
#include "base/metrics.h"
#include "http/clients.h"
#include "http/exchange.h"
#include "http/guard.h"
#include "http/link.h"
#include "http/server_parts.h"
#include "http/tls_peer.h"

/* ---- whence it comes ---- */

int admit_origin(struct http_exchange *x, const char *authority, struct pt2_err *err)
{
    const char *reason;

    if (guard_check(authority ? authority : http_header(&x->req, "Host"),
                    http_header(&x->req, "Origin"),
                    x->server->hosts, x->server->origins, x->fd,
                    x->is_tls, &reason, err) == 0)
        return 0;
    metrics_add(METRIC_HTTP_REFUSED, 1, METRICS_LABELS(reason));
    return -1;
}

/* ---- who sends it ---- */

/* Say it, count it. */
static int refuse_caller(struct http_exchange *x, const char *reason)
{
    metrics_add(METRIC_HTTP_REFUSED, 1, METRICS_LABELS(reason));
    if (x->req.caller.retry_s)
        http_reply_header(&x->req, "Retry-After", "%u", x->req.caller.retry_s);
    return -1;
}

/* The certificate of a client that has one, or NULL. */
static int take_certificate(struct http_exchange *x,
                            const struct certificate **ret_certificate,
                            struct pt2_err *err)
{
    *ret_certificate = NULL;
    return x->link->tls ? tls_peer_certificate(x->link->tls, ret_certificate, err) : 0;
}

/* RFC 6750, section 3.1. */
static int refuse_scope(struct http_exchange *x, enum scope scope, struct pt2_err *err)
{
    const struct auth_caller *caller = &x->req.caller;
    char has[SCOPES_TEXT_SIZE];

    scopes_print(caller->scopes, has);
    http_reply_header(&x->req, "WWW-Authenticate",
                      "Bearer realm=\"pt2d\", error=\"insufficient_scope\", scope=\"%s\"",
                      scope_name(scope));
    pt2_err_set(err, PT2_ERR_SCOPE, "this needs the scope %s, and '%s' has %s",
                scope_name(scope), caller->owner, has);
    return refuse_caller(x, "scope");
}

/* As whose sessions and exports count, and how many there may be where the line says
 * nothing. */
static void limit_holder(struct http_exchange *x)
{
    const struct http_limits *limits = &x->server->limits;
    struct auth_caller *caller = &x->req.caller;

    if (*caller->owner)
        snprintf(caller->holder, sizeof(caller->holder), "%s", caller->owner);
    else if (client_is_limited(x->client))
        snprintf(caller->holder, sizeof(caller->holder), "%.*s", OWNER_SIZE - 1,
                 client_name(x->client));
    if (!*caller->holder)
        return;
    if (!caller->max_sessions)
        caller->max_sessions = limits->max_sessions;
    if (!caller->max_exports)
        caller->max_exports = limits->max_exports;
}

/* Its bytes are the name's from now on. */
static void count_as_named(struct http_exchange *x)
{
    struct client *client = *x->req.caller.owner
                                ? client_of_name(x->server->clients, x->req.caller.owner)
                                : NULL;

    if (!client)
        return;
    client_unref(x->client);
    x->client = client;
}

int admit_caller(struct http_exchange *x, const struct route *route,
                 struct pt2_err *err)
{
    const char *authorization = http_header(&x->req, "Authorization");
    const struct certificate *certificate;

    if (route && route->scope == SCOPE_OPEN)
        return 0;
    if (take_certificate(x, &certificate, err) < 0)
        return refuse_caller(x, "certificate");
    if (auth_check(x->server->auth, authorization, x->fd, certificate, &x->req.caller,
                   err) < 0) {
        if (authorization && err->code == PT2_ERR_UNAUTHORIZED)
            http_reply_header(&x->req, "WWW-Authenticate",
                              "Bearer realm=\"pt2d\", error=\"invalid_token\"");
        return refuse_caller(x, err->code == PT2_ERR_UNAUTHORIZED ? "token" : "rate");
    }
    if (route && !(x->req.caller.scopes & route->scope))
        return refuse_scope(x, route->scope, err);
    limit_holder(x);
    count_as_named(x);
    return 0;
}
