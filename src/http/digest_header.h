/* digest_header.h - Repr-Digest of a request (RFC 9530): "sha-256=:<base64>:".
 *
 * Pure functions; any thread. */
#ifndef HTTP_DIGEST_HEADER_H
#define HTTP_DIGEST_HEADER_H

#include "base/sha256.h"

#include <pt2/err.h>

/* Find sha-256 among the algorithms; others are passed over (*ret_found false where there
 * is none, also where value is NULL).  Errors: BAD_REQUEST (it is no such header). */
MUST_USE int digest_header_parse(const char *value, uint8_t ret_sha256[SHA256_BYTES],
                                 bool *ret_found, struct pt2_err *err);

#endif
