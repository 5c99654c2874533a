/* watcher.h - the thread that looks at sockets while nobody else does.
 *
 * It accepts connections and hands them to libmicrohttpd (so that stopping to accept, the
 * limit on connections and several listeners are ours); counts the connections of each client, and cuts
 * idle ones to make room; notices clients that close or
 * half-close while their request waits, which libmicrohttpd 0.9.75 does not, and has it
 * look again where it overlooked a close; keeps the deadlines of waiting requests, the
 * time-outs of slow clients and the pauses of fast ones; and reads on from connections that
 * were closed on a client that still sends, so that the reply arrives.
 *
 * Its one lock guards the links; it comes after an exchange's, and callbacks of endpoints
 * are called without it. */
#ifndef HTTP_WATCHER_H
#define HTTP_WATCHER_H

#include "http/link.h"
#include "http/listener.h"

#include <pt2/err.h>

struct MHD_Daemon;
struct clients;
struct watcher;

/* Listen on the listeners (borrowed) once watcher_start is given the daemons: one
 * for connections as they are, one for those of listeners with TLS (NULL: there are none);
 * clients (borrowed) counts the connections.
 * Errors: NOMEM, IO. */
MUST_USE int watcher_new(const struct listener *listeners, size_t n_listeners,
                         size_t max_links, struct clients *clients,
                         struct watcher **ret_watcher,
                         struct pt2_err *err);
MUST_USE int watcher_start(struct watcher *w, struct MHD_Daemon *daemon,
                           struct MHD_Daemon *tls_daemon, struct pt2_err *err);
/* End the thread and close what lingers.  After libmicrohttpd has stopped. */
void watcher_stop(struct watcher *w);
void watcher_free(struct watcher *w);

/* By libmicrohttpd's callbacks, on the connection's HTTP thread. */
struct http_link *watcher_opened(struct watcher *w, int fd);
void watcher_closed(struct watcher *w, struct http_link *link);

/* x's handler is about to be called; NULL: its reply was sent.  HTTP thread. */
void watcher_serves(struct watcher *w, struct http_link *link, struct http_exchange *x);
/* The connection is about to be suspended: watch it, until deadline_ms.  False: the
 * server has passed the point where anything may wait.  Under x->lock. */
MUST_USE bool watcher_wait(struct watcher *w, struct http_link *link,
                           int64_t deadline_ms);
/* While it waits.  Under x->lock. */
void watcher_set_deadline(struct watcher *w, struct http_link *link, int64_t deadline_ms);
/* The connection is about to be suspended, until at_ms or until nobody is there any more:
 * then pace_over(x) is called.  False: it must not wait, since its client has sent all that
 * it will (of an upload), or the server has passed the point.  Under x->lock. */
MUST_USE bool watcher_pace(struct watcher *w, struct http_link *link,
                           struct http_exchange *x, bool is_upload, int64_t at_ms);
/* It is about to be resumed.  Under x->lock. */
void watcher_unwait(struct watcher *w, struct http_link *link);
/* Have exchange_cancel(x, why) called on the watcher's thread; takes a reference. */
void watcher_tell(struct watcher *w, struct http_exchange *x, unsigned why);
/* Read from the connection until its client closes or some seconds have passed; makes a
 * descriptor of its own. */
void watcher_linger(struct watcher *w, int fd);

void watcher_stop_accepting(struct watcher *w);
/* Tell HTTP_SHUTDOWN to requests: those whose route has HTTP_POLL, or all. */
void watcher_shut_down(struct watcher *w, bool all);
/* From now on watcher_wait answers false; 503 to all that wait.  How many still do, for
 * their own reply is being made this moment. */
size_t watcher_force(struct watcher *w);

size_t watcher_n_links(struct watcher *w);
/* When the thread last came round (monotonic ms). */
int64_t watcher_last_round_ms(const struct watcher *w);

#endif
