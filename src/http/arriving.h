/* arriving.h - the requests whose header is still coming, by HTTP thread: so that what
 * libmicrohttpd refuses once it has the header is answered by us.
 *
 * libmicrohttpd 0.9.75 parses Content-Length, and cookies, before it calls the access handler.  Where
 * it does not like them it says so in a log line, puts its answer's header into its buffer, and then
 * once more (MHD_connection_handle_idle goes on as if parse_connection_headers had not begun a
 * reply).  The log line comes first, on the connection's thread, when of all the requests that
 * arrive there one alone has a whole header: that one is meant.
 *
 * Each function on the connection's HTTP thread; arriving_end also where that thread has
 * ended. */
#ifndef HTTP_ARRIVING_H
#define HTTP_ARRIVING_H

#include "base/util.h"

struct http_exchange;

/* Its request line is there. */
void arriving_begin(struct http_exchange *x);
/* It is with the access handler now, or gone.  Once more does nothing. */
void arriving_end(struct http_exchange *x);
/* The one whose header is whole, and that is not yet with the access handler; NULL: none. */
struct http_exchange *arriving_whole(void);

/* Is this line of libmicrohttpd's log about an answer that it begins?  Then which status. */
bool arriving_is_refusal(const char *line, unsigned *ret_status);

#endif
