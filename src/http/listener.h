/* listener.h - sockets that listen: made from addresses, or passed by the service
 * manager.
 *
 * One thread at a time. */
#ifndef HTTP_LISTENER_H
#define HTTP_LISTENER_H

#include "base/util.h"

#include <pt2/err.h>

#define LISTENERS_MAX 8

struct listener {
    int fd; /* non-blocking, close-on-exec */
    bool is_unix;
    bool is_tls;
    bool is_loopback; /* or unix: nobody beyond this machine gets here */
    /* the address in use: "127.0.0.1:8250", "unix:/run/pt2d.sock", "https:[::1]:8443" */
    char name[160];
    char path[108]; /* unix: to be removed; "" where it is not ours */
};

/* Listen on each of the addresses (by spaces): HOST:PORT, [IPV6]:PORT, unix:PATH; of
 * the first two with "https:" before them, for TLS.  Port 0 is a free one.
 * A unix socket that nobody listens on any more is replaced; mode is its permissions.
 * Errors: INVALID (no such address), IO. */
MUST_USE int listeners_open(const char *addresses, unsigned mode,
                            struct listener ret[LISTENERS_MAX], size_t *ret_n,
                            struct pt2_err *err);
/* The sockets of the service manager's socket activation; *ret_n is 0 where there are
 * none.  One whose FileDescriptorName= begins with "https" is for TLS.  Errors: IO. */
MUST_USE int listeners_inherit(struct listener ret[LISTENERS_MAX], size_t *ret_n,
                               struct pt2_err *err);
void listeners_close(struct listener *listeners, size_t n);

#endif
