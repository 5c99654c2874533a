/* tls.h - the daemon's certificate and key, and the CAs that it takes clients' from.
 *
 * Read from the operator's files at the start and by tls_reload.  What one reading gave is
 * a generation, which stays as long as a connection that began with it.
 *
 * Any thread; one at a time reloads. */
#ifndef HTTP_TLS_H
#define HTTP_TLS_H

#include "base/util.h"

#include <gnutls/x509.h>
#include <pt2/err.h>
#include <stdatomic.h>

/* TLS 1.2 at least. */
#define TLS_PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:%SERVER_PRECEDENCE"

struct tls;

struct tls_generation {
    atomic_int refs;
    uint8_t digest[32]; /* of what was read: tells two apart */
    gnutls_certificate_credentials_t credentials;
    gnutls_x509_trust_list_t clients; /* of credentials; NULL: no client is asked */
};

/* Paths and choices, as the configuration has them; borrowed. */
struct tls_settings {
    const char *certificate; /* PEM: the server's, then the CAs' between it and a root */
    const char *key;         /* PEM, without a passphrase, for the owner alone */
    const char *client_ca;   /* PEM: CAs of clients; "": none is asked for a certificate */
    bool client_is_required;
};

/* Logs a warning for a certificate that is expired or not yet good.
 * Errors: NOT_FOUND, IO, INVALID (what is wrong with which file), NOMEM. */
MUST_USE int tls_new(const struct tls_settings *settings, struct tls **ret_tls,
                     struct pt2_err *err);
void tls_free(struct tls *tls);
DEFINE_AUTO(tls)

/* Read the files again; *ret_is_new is false where they hold what they held.  On an error
 * all stays as it is.  Errors: those of tls_new. */
MUST_USE int tls_reload(struct tls *tls, bool *ret_is_new, struct pt2_err *err);

bool tls_asks_clients(const struct tls *tls);
bool tls_needs_clients(const struct tls *tls); /* nobody comes in without a certificate */

/* The one in force, with a reference. */
struct tls_generation *tls_current(struct tls *tls);
void tls_generation_unref(struct tls_generation *generation);

#endif
