/* server_parts.h - what the core's files share of the server; within the core only. */
#ifndef HTTP_SERVER_PARTS_H
#define HTTP_SERVER_PARTS_H

#include "http/listener.h"
#include "http/server.h"

#include <microhttpd.h>
#include <stdatomic.h>

struct auth;
struct clients;
struct pool;
struct tls;
struct watcher;

/* From the configuration, read once. */
struct http_limits {
    uint64_t max_header_bytes, max_request_bytes, min_body_rate;
    unsigned max_sessions, max_exports; /* of one client; 0: any number */
    int64_t header_timeout_ms, idle_timeout_ms, body_timeout_ms;
};

struct http_server {
    struct app *app;
    const struct route_table *table;
    struct http_limits limits;
    const char *hosts, *origins; /* the configuration's, for guard.h */
    struct MHD_Daemon *daemon, *tls_daemon; /* the second, tls: NULL without TLS */
    struct tls *tls;
    struct clients *clients;
    struct watcher *watcher;
    struct pool *pool, *upload_pool; /* of handlers, of what uploads bring */
    struct auth *auth;
    struct listener listeners[LISTENERS_MAX];
    size_t n_listeners;
    char id_prefix[20]; /* of the request ids made here */
    atomic_uint_fast64_t next_id;
    atomic_int state; /* enum http_server_state */
    atomic_int_fast64_t n_active;
};

#endif
