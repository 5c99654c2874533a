/* token_file.h - all lines of a token file, read and checked.
 *
 * The file must be one of private_file.h: digests tell no token, but names and scopes are
 * nobody's business, and who may write there may do everything.  Any thread. */
#ifndef HTTP_TOKEN_FILE_H
#define HTTP_TOKEN_FILE_H

#include "http/token_line.h"

/* *ret_tokens is new (free), in the file's order; no two have the same proof.
 * Errors: IO, NOT_FOUND, INVALID (the mode; "tokens:3: …"), NOMEM. */
MUST_USE int token_file_read(const char *path, struct token **ret_tokens, size_t *ret_n,
                             struct pt2_err *err);

#endif
