/* tls_peer.h - the other end of a connection over TLS.
 *
 * Made when libmicrohttpd has begun the connection, before its handshake; used by the
 * connection's HTTP thread alone. */
#ifndef HTTP_TLS_PEER_H
#define HTTP_TLS_PEER_H

#include "http/certificate.h"
#include "http/tls.h"

struct http_link;
struct tls_peer;

/* Have the session (libmicrohttpd's) use the credentials in force, and ask for the
 * client's certificate where one is wanted.  link (borrowed) is given idle_timeout_ms for
 * its first request once the handshake is through.  NULL: out of memory; the handshake
 * will then fail. */
struct tls_peer *tls_peer_new(struct tls *tls, gnutls_session_t session,
                              struct http_link *link, int64_t idle_timeout_ms);
/* Counts how the handshake ended.  After the connection. */
void tls_peer_free(struct tls_peer *peer);

/* The client's certificate, borrowed; NULL where it sent none.  The handshake has verified
 * it; that it is still good, by the clock and by the CAs in force, is looked at each time.
 * Errors: UNAUTHORIZED, NOMEM. */
MUST_USE int tls_peer_certificate(struct tls_peer *peer,
                                  const struct certificate **ret_certificate,
                                  struct pt2_err *err);

/* Send at once, beside libmicrohttpd, what fits into one record (16 KiB).  False: it could
 * not be. */
bool tls_peer_send(struct tls_peer *peer, const char *data, size_t len);

#endif
