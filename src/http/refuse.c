/* refuse.c - answering a request whose body nobody will read. */
#include "http/exchange.h"

#include "base/json.h"
#include "base/log.h"
#include "http/audit.h"
#include "http/link.h"
#include "http/server_parts.h"
#include "http/tls_peer.h"

#include <errno.h>
#include <strings.h>
#include <sys/socket.h>

static bool send_now(struct http_exchange *x, const char *data, size_t len)
{
    if (x->link->tls)
        return tls_peer_send(x->link->tls, data, len);
    return send(x->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)len;
}

/* Send the whole answer by ourselves and have the connection closed.  libmicrohttpd can
 * not queue a reply in the middle of a body; nothing else has been sent for this request
 * but perhaps a 100 Continue, and replies before it are through.  An answer of a few
 * hundred bytes fits into the socket's buffer. */
enum MHD_Result refuse_now(struct http_exchange *x, const struct pt2_err *err)
{
    AUTO_BUF answer = BUF_INIT(16 << 10);
    json_t *json = problem_json(err, NULL);
    AUTO_PTR char *text = json ? json_to_text(json, JSON_COMPACT) : NULL;
    int status = pt2_error_status(err->code);
    char date[40];
    time_t now = time(NULL);
    struct tm tm;

    json_decref(json);
    strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &tm));
    buf_printf(&answer,
               "HTTP/1.1 %d %s\r\nConnection: close\r\nDate: %s\r\n"
               "X-Request-Id: %s\r\nCache-Control: no-store\r\n"
               "Content-Type: application/problem+json\r\nContent-Length: %zu\r\n",
               status, pt2_error_title(err->code), date, x->req.id,
               text ? strlen(text) + 1 : 0);
    problem_add_headers(&x->req, err->code);
    for (const struct out_header *h = x->out_headers; h; h = h->next)
        buf_printf(&answer, "%s: %s\r\n", h->name, h->value);
    buf_str(&answer, "\r\n");
    if (text && !x->req.is_head)
        buf_printf(&answer, "%s\n", text);
    x->phase = PHASE_QUEUED;
    x->raw_status = (unsigned)status;
    snprintf(x->problem, sizeof(x->problem), "%s", pt2_error_name(err->code));
    audit_note(x, NULL, NULL);
    x->lingers = true;
    if (!text || buf_failed(&answer) ||
        !send_now(x, answer.data, answer.len))
        log_with(LOG_LEVEL_DEBUG, LOG_REQUEST(x->req.id), "the refusal could not be sent");
    return MHD_NO;
}

enum MHD_Result refuse(struct http_exchange *x, const struct pt2_err *err)
{
    bool is_short = x->content_length != UINT64_MAX &&
                    x->content_length - x->body_seen <= HTTP_SWALLOW &&
                    !x->expects_continue && !x->must_close;

    if (x->must_close || (x->has_body && !is_short))
        return refuse_now(x, err);
    http_reply_err(&x->req, err);
    x->phase = x->has_body ? PHASE_DISCARD : PHASE_SERVED;
    if (x->has_body) /* it may never come */
        link_expect(x->link, LINK_BODY,
                    http_now_ms() + x->server->limits.body_timeout_ms);
    return MHD_YES;
}
