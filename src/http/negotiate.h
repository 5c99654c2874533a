/* negotiate.h - media types: what a body is, and what a client takes (RFC
 * 9110, 8.3, 12.5).
 *
 * Pure functions; any thread. */
#ifndef HTTP_NEGOTIATE_H
#define HTTP_NEGOTIATE_H

#include "base/util.h"

/* Is this Content-Type the media type wanted?  Parameters are allowed, but of charset
 * only utf-8. */
bool media_type_is(const char *content_type, const char *wanted);

/* The one of produces (media types by spaces, the default first) that the Accept header
 * likes best; of equals the earlier.  accept NULL: the default.  *ret_len is its length.
 * NULL where it takes none of them. */
const char *negotiate(const char *accept, const char *produces, size_t *ret_len);

#endif
