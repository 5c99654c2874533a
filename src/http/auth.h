/* auth.h - who sends this request, and what may he do?
 *
 * By the token file (token_line.h): a token in "Authorization: Bearer TOKEN", or the user
 * or group of the process at the other end of a unix socket, or the client's certificate,
 * where no token is sent.  Of the lines that fit, uid goes before gid, a certificate's
 * fingerprint before its name, and then the earlier line.  Digests
 * are compared in a time that does not depend on them, with every line.
 *
 * Any thread. */
#ifndef HTTP_AUTH_H
#define HTTP_AUTH_H

#include "base/owner.h"
#include "http/scope.h"

struct auth;
struct certificate;

struct auth_caller {
    char owner[OWNER_SIZE];             /* the line's name; "" where there is no file */
    char holder[OWNER_SIZE]; /* as whose sessions and exports count: that name, or an
                                address; "": nobody's; by admit.c */
    unsigned scopes;                    /* enum scope; all where there is no file */
    unsigned max_sessions, max_exports; /* token_line.h */
    uint64_t upload_rate, download_rate; /* likewise; 0: none of its own */
    unsigned retry_s;                   /* with RATE_LIMITED: when to try again */
};

/* path "": no tokens are needed.  Errors: those of token_file_read. */
MUST_USE int auth_new(const char *path, struct auth **ret_auth, struct pt2_err *err);
void auth_free(struct auth *auth);
/* Read the file again; on an error the tokens stay as they are.  Of a line that stays,
 * the requests go on being counted. */
MUST_USE int auth_reload(struct auth *auth, struct pt2_err *err);
bool auth_is_needed(const struct auth *auth);

/* Who sends this Authorization header (NULL: none) over the connection fd, with that
 * verified certificate (NULL: none)?  Counts one request.
 * Errors: UNAUTHORIZED, RATE_LIMITED (*ret_caller is then filled in). */
MUST_USE int auth_check(struct auth *auth, const char *authorization, int fd,
                        const struct certificate *certificate,
                        struct auth_caller *ret_caller, struct pt2_err *err);

#endif
