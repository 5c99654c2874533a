/* certificate.h - what a client's certificate says of its holder.
 *
 * Read only after the chain was verified (tls_peer.c): every name is then the word of a CA
 * that the operator trusts for clients.  Names are the DNS names among the subject's
 * alternative names; where there is none, the subject's common name (RFC 6125, 6.4.4).
 * They are compared as wholes, without regard to case: "*" stands for itself.
 *
 * Constant once made; any thread. */
#ifndef HTTP_CERTIFICATE_H
#define HTTP_CERTIFICATE_H

#include "base/sha256.h"

#define CERTIFICATE_NAMES 64 /* those that are looked at */

struct certificate {
    uint8_t fingerprint[SHA256_BYTES]; /* of its DER form */
    int64_t begins, ends;              /* seconds since 1970 */
    char *names[CERTIFICATE_NAMES];
    size_t n_names;
};

/* Read one in DER.  new: certificate_free.  Errors: INVALID, NOMEM. */
MUST_USE int certificate_read(const void *der, size_t len,
                              struct certificate **ret_certificate, struct pt2_err *err);
void certificate_free(struct certificate *certificate);
DEFINE_AUTO(certificate)

bool certificate_has_name(const struct certificate *certificate, const char *name);

#endif
