/* header_lines.h - a request's header as it came, against what libmicrohttpd made of it.
 *
 * libmicrohttpd 0.9.75 takes a line apart where it lies, with functions for strings: a NUL
 * ends a value, a request target, or the header, without a word; what follows a folded
 * line's white space is added to the name of the line before; a name may end in a space.
 * Others who read the request see another one.  Here is whether each piece begins where
 * the one before it ends:
 *
 *     METHOD \0 TARGET \0 HTTP/1.1 \0 \0 NAME \0 VALUE \0 \0 NAME \0 VALUE \0 \0 \0 \0
 *
 * with one '\0' for the colon, two for a CR LF, one for a LF alone.
 *
 * Pure functions; any thread. */
#ifndef HTTP_HEADER_LINES_H
#define HTTP_HEADER_LINES_H

#include "base/util.h"

#include <pt2/err.h>

/* Pieces of one buffer, strings all. */
struct header_lines {
    const char *method, *target, *version;
    size_t target_len; /* before libmicrohttpd cut the query off */
    const char *end;   /* of the empty line behind the last header */
    const char *const *fields; /* name, value, name, value, ... in order */
    size_t n_fields;           /* names */
};

/* Errors: BAD_REQUEST (a NUL, a folded line, a control character in a value, a name that
 * is no token). */
MUST_USE int header_lines_check(const struct header_lines *lines, struct pt2_err *err);

#endif
