/* conditions.h - the headers that ask for a part of a file, or for it only if it changed
 * (RFC 9110, 13 and 14).
 *
 * Pure functions; any thread. */
#ifndef HTTP_CONDITIONS_H
#define HTTP_CONDITIONS_H

#include "base/util.h"

/* Is the tag (without its quotes) among those of an If-None-Match?  Weak comparison. */
bool etag_is_listed(const char *list, const char *etag);

/* The same of an If-Match: strong comparison.  etag may be NULL: then "*" alone fits. */
bool etag_matches(const char *list, const char *etag);

/* Does If-Range (NULL: there is none) let the Range count?  A date never does: we have no
 * Last-Modified.  etag may be NULL. */
bool if_range_holds(const char *if_range, const char *etag);

enum range { RANGE_NONE, RANGE_GOOD, RANGE_BAD };

/* "bytes=0-99", "bytes=100-", "bytes=-100" of a file of size bytes.  Several ranges,
 * another unit or what is no range at all count as none: the answer is the whole file.
 * Outputs are written where GOOD: first <= last < size. */
enum range range_parse(const char *text, uint64_t size, uint64_t *ret_first,
                       uint64_t *ret_last);

#endif
