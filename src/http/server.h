/* server.h - the HTTP server: sockets in, requests to the routes' handlers, replies out.
 *
 * Used by main (pt2d.c) and tests.  One thread makes, drains and frees it; the other
 * functions are for any thread.
 *
 * Threads of its own: the watcher (accepts, looks after waiting requests and time-outs),
 * libmicrohttpd's (http.threads of them: sockets and handlers that do not block), and the
 * pool (http.pool_threads: handlers that do).
 *
 *     http_server_new        listens; answers 503 but for /healthz and /version
 *     http_server_ready      the parts in struct app stand: answers everything
 *     http_server_drain      stops to accept; 503 to new requests on open connections
 *     http_server_is_idle    has everything under way been answered?
 *     http_server_stop       cancels what still waits, joins all threads
 *     http_server_free       after every part that may hold a request has gone */
#ifndef HTTP_SERVER_H
#define HTTP_SERVER_H

#include "http/routes.h"

#include <pt2/err.h>

struct http_server;

/* Listen where the configuration says (app->config), or on the sockets passed by the
 * service manager, and serve table (NULL: routes.c's; borrowed, as app is).
 * Errors: INVALID (an address), IO (bind), NOMEM. */
MUST_USE int http_server_new(struct app *app, const struct route_table *table,
                             struct http_server **ret_server, struct pt2_err *err);

/* Everything that main wrote into *app before this call is visible to handlers. */
void http_server_ready(struct http_server *server);
void http_server_drain(struct http_server *server);
bool http_server_is_idle(const struct http_server *server);
/* Waiting requests get HTTP_SHUTDOWN; those that have not replied after grace_ms are
 * answered 503 by the server itself.  Then the threads end.  Handlers on the pool are
 * waited for.  Later replies are dropped. */
void http_server_stop(struct http_server *server, int64_t grace_ms);
void http_server_free(struct http_server *server);
DEFINE_AUTO(http_server)

/* Have fn(arg) called on a thread of the pool, however many requests wait for one: for work
 * whose amount is bounded elsewhere.  is_stopping: do no more than let go.  False: the
 * server stops, and fn is not called. */
bool http_server_run(struct http_server *server, void (*fn)(void *arg, bool is_stopping),
                     void *arg);

/* Read the token file and those of TLS again.  What can't be read stays as it was, and a
 * warning says so; false then. */
bool http_server_reload(struct http_server *server);

enum http_server_state { HTTP_STARTING, HTTP_READY, HTTP_DRAINING };
enum http_server_state http_server_state(const struct http_server *server);
/* Has the watcher come round within the last ten seconds?  For the service manager's
 * watchdog. */
bool http_server_is_alive(const struct http_server *server);
/* The address of the i-th listener: "127.0.0.1:8250", "[::1]:8250", "unix:/run/x"; NULL
 * beyond the last. */
const char *http_server_address(const struct http_server *server, size_t i);

#endif
