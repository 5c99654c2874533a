/* token_line.h - a line of the token file: who somebody is, and what he may do.
 *
 *     NAME sha256:HEX scopes=read,step [sessions=N] [exports=N] [rate=N/s]
 *          [upload=2M] [download=10M]
 *     NAME uid:NUMBER scopes=…
 *     NAME gid:NUMBER scopes=…
 *     NAME cert:sha256:HEX scopes=…
 *     NAME cert:DNS-NAME scopes=…
 *
 * # begins a comment.  A name is 1 to 64 of A-Z a-z 0-9 . _ -; HEX is the SHA-256 of a
 * token, 64 lower-case digits.  A plain digest is enough, since tokens are made at random
 * (256 bits by pt2ctl token): nobody finds one by trying, which slow hashes are against.
 * uid and gid are those of a process at the other end of a unix socket.  cert: is a client's
 * certificate: by the SHA-256 of its DER form, also as AB:CD:… (openssl x509 -fingerprint
 * -sha256), or by a name that it bears (certificate.h).
 *
 * For the daemon, and pt2ctl, which makes lines.  Any thread. */
#ifndef HTTP_TOKEN_LINE_H
#define HTTP_TOKEN_LINE_H

#include "base/owner.h"
#include "base/sha256.h"
#include "http/scope.h"

enum token_proof { TOKEN_SECRET, TOKEN_UID, TOKEN_GID, TOKEN_CERT, TOKEN_CERT_NAME };

#define TOKEN_CERT_NAME_SIZE 256 /* DNS names have up to 253 characters */

struct token {
    char name[OWNER_SIZE];
    enum token_proof proof;
    uint8_t digest[SHA256_BYTES]; /* SECRET, CERT */
    uint32_t id;                  /* UID, GID */
    char cert_name[TOKEN_CERT_NAME_SIZE];
    unsigned scopes;              /* enum scope */
    unsigned max_sessions;        /* at once, of the name; 0: any number */
    unsigned max_exports;         /* unfinished at once, of the name; 0: any number */
    unsigned rate;                /* requests in rate_ms; 0: any number */
    int64_t rate_ms;
    uint64_t upload_rate, download_rate; /* bytes a second, of the name; 0: as
                                            http.upload_rate, http.download_rate */
};

/* Read a line, which is cut in place.  *ret_is_token is false for an empty one.
 * Errors: INVALID. */
MUST_USE int token_line_parse(char *line, struct token *ret_token, bool *ret_is_token,
                              struct pt2_err *err);

/* "token", "uid", "gid", "certificate" */
const char *token_proof_name(enum token_proof proof);
/* Do both prove the same: the same secret, user, group, or certificate? */
bool token_is_same_proof(const struct token *a, const struct token *b);

#endif
