/* link.h - one connection of a client, as the watcher sees it.
 *
 * Made when the watcher accepts, gone when libmicrohttpd closes.  due_ms may be set by
 * the connection's HTTP thread at any time; the rest is the watcher's, under its lock. */
#ifndef HTTP_LINK_H
#define HTTP_LINK_H

#include "base/clock.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct client;
struct http_exchange;
struct tls_peer;

/* What a client is late with. */
enum link_wait { LINK_IDLE, LINK_HANDSHAKE, LINK_HEADER, LINK_BODY };

struct http_link {
    int fd;
    struct client *client; /* of its address; counted there */
    _Atomic int64_t due_ms; /* monotonic; later than this the connection is cut */
    _Atomic int due_what;   /* enum link_wait */
    struct tls_peer *tls;   /* of the connection's HTTP thread; NULL: not over TLS */
    _Atomic int64_t since_ms; /* when it began to be waited for */
    struct http_exchange
        *x;              /* being served; NULL: none, or its handler is not called yet */
    bool waiting;        /* suspended */
    bool is_displaced;   /* cut to make room */
    bool is_closed;      /* the client sends no more: it has closed or half-closed */
    int64_t deadline_ms; /* of x; INT64_MAX: none, or told */
    struct http_exchange *paced; /* suspended, since its client is ahead of its rate */
    bool is_paced_upload;
    int64_t paced_until_ms;
};

static inline void link_expect(struct http_link *link, enum link_wait what,
                               int64_t due_ms)
{
    atomic_store(&link->due_what, (int)what);
    atomic_store(&link->since_ms, clock_mono_ms());
    atomic_store(&link->due_ms, due_ms);
}
static inline bool link_is_expected(const struct http_link *link)
{
    return atomic_load(&link->due_ms) != INT64_MAX;
}
static inline void link_expect_nothing(struct http_link *link)
{
    atomic_store(&link->due_ms, INT64_MAX);
}

#endif
