/* guard.h - is this request meant for us?  Against pages in a browser that reach a daemon
 * which their author can't reach: by a name that was made to point here (DNS rebinding),
 * or by sending requests whose answers they don't see.
 *
 * Host must be a name of this machine's own (localhost, what ends in .localhost, a
 * loopback address), the address that the connection came to, or one of http.hosts; over
 * a unix socket it may be anything.  Origin, which browsers send, must be the Host's own or
 * one of http.origins; over TLS with https, since anybody between a browser and us could make
 * a page of http at our name.  Constant once made; any thread. */
#ifndef HTTP_GUARD_H
#define HTTP_GUARD_H

#include "base/util.h"

#include <pt2/err.h>

/* Does host (a Host header) name this machine, or the local address of the connection fd,
 * or one of hosts (by spaces, without ports)? */
bool guard_host_is_ours(const char *host, const char *hosts, int fd);
/* Is origin one of origins (by spaces), or of host, to which the request came over TLS or
 * not? */
bool guard_origin_is_ours(const char *origin, const char *origins, const char *host,
                          bool is_tls);

/* Both; each header may be NULL.  *ret_reason becomes "host" or "origin" with an error.
 * Errors: FORBIDDEN. */
MUST_USE int guard_check(const char *host, const char *origin, const char *hosts,
                         const char *origins, int fd, bool is_tls,
                         const char **ret_reason, struct pt2_err *err);

/* Can http.hosts and http.origins be what they say?  Errors: INVALID. */
MUST_USE int guard_check_config(const char *hosts, const char *origins, struct pt2_err *err);

#endif
