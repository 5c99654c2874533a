/* auth.h - bearer tokens from a file: who sends this request?
 *
 * A line of the file is "NAME TOKEN"; # begins a comment.  A name is 1 to 64 of
 * A-Z a-z 0-9 . _ -, a token 16 to 512 visible characters without spaces.  Requests carry
 * "Authorization: Bearer TOKEN".  Tokens are kept and compared as SHA-256 digests, so
 * neither times nor dumps of memory tell them.
 *
 * Any thread. */
#ifndef HTTP_AUTH_H
#define HTTP_AUTH_H

#include "base/util.h"

#include <pt2/err.h>

#define AUTH_NAME_SIZE 65

struct auth;

/* path "": no tokens are needed.  Errors: IO, NOT_FOUND, INVALID ("tokens:3: …"), NOMEM.
 */
MUST_USE int auth_new(const char *path, struct auth **ret_auth, struct pt2_err *err);
void auth_free(struct auth *auth);
/* Read the file again; on an error the tokens stay as they are. */
MUST_USE int auth_reload(struct auth *auth, struct pt2_err *err);

/* Does this Authorization header (NULL: none) let the request in?  *ret_name is the
 * token's name; "" where no tokens are needed.  Errors: UNAUTHORIZED. */
MUST_USE int auth_check(struct auth *auth, const char *authorization,
                        char ret_name[AUTH_NAME_SIZE], struct pt2_err *err);

#endif
