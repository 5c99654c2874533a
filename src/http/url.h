/* url.h - percent-encoding: decode pieces of a request target after they were split.
 *
 * Pure functions; any thread. */
#ifndef HTTP_URL_H
#define HTTP_URL_H

#include "base/util.h"

/* Decode len bytes of text to `to` (room for len + 1), '\0' behind them.  plus: a '+' is
 * a space, as in queries.  False, with *ret_why saying what, for an escape that is none,
 * a NUL, a control character or a space as it is, or what is no UTF-8. */
MUST_USE bool url_decode(const char *text, size_t len, bool plus, char *to,
                         const char **ret_why);

/* Split a request target ("/a/b?c=d", "http://host/a", "https://host") at its end of path:
 * *ret_path (where there is none: "/") and *ret_query (NULL: none) point into target, which
 * is cut; ret_authority (room for strlen(target) + 1) gets "host", or "".  False where it is
 * neither. */
MUST_USE bool url_split(char *target, char *ret_authority, const char **ret_path,
                        char **ret_query);

#endif
