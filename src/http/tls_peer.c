#include "http/tls_peer.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "http/link.h"

#define CHAIN_MAX 16 /* certificates that a client sends */

/* Signatures and keys of at least 112 bits: RSA of 2048, no SHA-1. */
#define VERIFY_FLAGS GNUTLS_PROFILE_TO_VFLAGS(GNUTLS_PROFILE_MEDIUM)

struct tls_peer {
    struct tls *tls;
    gnutls_session_t session;
    struct http_link *link;
    int64_t idle_timeout_ms;
    struct tls_generation *generation; /* that the session uses */
    struct tls_generation *verified;   /* whose CAs the certificate was held against */
    struct certificate *certificate;   /* NULL: none was sent, or asked for */
    bool is_through, is_refused;       /* the handshake; for its certificate */
};

/* ---- the chain ---- */

static int refuse_status(unsigned status, struct pt2_err *err)
{
    gnutls_datum_t text = {0};

    gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0);
    pt2_err_set(err, PT2_ERR_UNAUTHORIZED, "the client certificate is not good: %s",
                text.data ? (const char *)text.data : "unknown");
    gnutls_free(text.data);
    return -1;
}

static int verify_list(gnutls_x509_trust_list_t trust, gnutls_x509_crt_t *chain,
                       unsigned n, struct pt2_err *err)
{
    gnutls_typed_vdata_st purpose = {.type = GNUTLS_DT_KEY_PURPOSE_OID,
                                     .data = (unsigned char *)GNUTLS_KP_TLS_WWW_CLIENT};
    unsigned status = 0;
    int r = gnutls_x509_trust_list_verify_crt2(trust, chain, n, &purpose, 1, VERIFY_FLAGS,
                                               &status, NULL);

    if (r < 0)
        return pt2_err_set(err, PT2_ERR_UNAUTHORIZED,
                           "the client certificate can't be verified: %s",
                           gnutls_strerror(r));
    return status ? refuse_status(status, err) : 0;
}

/* What the client sent (n certificates in DER) against the CAs for clients. */
static int verify(const struct tls_generation *generation, const gnutls_datum_t *ders,
                  unsigned n, struct pt2_err *err)
{
    gnutls_x509_crt_t chain[CHAIN_MAX];
    unsigned n_chain = 0;
    int r = 0;

    if (!generation->clients || n > CHAIN_MAX)
        return pt2_err_set(err, PT2_ERR_UNAUTHORIZED,
                           "the client certificate comes with %u, not with 1 to %d", n,
                           CHAIN_MAX);
    for (; n_chain < n && r == 0; n_chain++) {
        chain[n_chain] = NULL;
        if (gnutls_x509_crt_init(&chain[n_chain]) < 0)
            r = pt2_err_set(err, PT2_ERR_NOMEM, "client certificate");
        else if (gnutls_x509_crt_import(chain[n_chain], &ders[n_chain],
                                        GNUTLS_X509_FMT_DER) < 0)
            r = pt2_err_set(err, PT2_ERR_UNAUTHORIZED,
                            "the client certificate can't be read");
    }
    if (r == 0)
        r = verify_list(generation->clients, chain, n, err);
    for (unsigned i = 0; i < n_chain; i++)
        gnutls_x509_crt_deinit(chain[i]);
    return r;
}

/* ---- the handshake ---- */

static int check_certificate(struct tls_peer *peer, struct pt2_err *err)
{
    unsigned n = 0;
    const gnutls_datum_t *ders = gnutls_certificate_get_peers(peer->session, &n);

    if (!ders || n == 0) {
        if (!tls_needs_clients(peer->tls))
            return 0;
        return pt2_err_set(err, PT2_ERR_UNAUTHORIZED, "the client has no certificate");
    }
    if (verify(peer->generation, ders, n, err) < 0)
        return -1;
    return certificate_read(ders[0].data, ders[0].size, &peer->certificate, err);
}

/* GnuTLS calls it with the client's certificates, or none; what it refuses ends the
 * handshake. */
static int on_verify(gnutls_session_t session)
{
    struct tls_peer *peer = gnutls_db_get_ptr(session);
    struct pt2_err err = {0};

    if (check_certificate(peer, &err) == 0)
        return 0;
    peer->is_refused = true;
    log_info("TLS: a client is refused: %s", err.text);
    return GNUTLS_E_CERTIFICATE_ERROR;
}

static int on_finished(gnutls_session_t session, unsigned type, unsigned when,
                       unsigned is_incoming, const gnutls_datum_t *message)
{
    struct tls_peer *peer = gnutls_db_get_ptr(session);

    (void)type;
    (void)when;
    (void)message;
    if (is_incoming && !peer->is_through) {
        peer->is_through = true;
        link_expect(peer->link, LINK_IDLE, clock_mono_ms() + peer->idle_timeout_ms);
    }
    return 0;
}

/* ---- life ---- */

struct tls_peer *tls_peer_new(struct tls *tls, gnutls_session_t session,
                              struct http_link *link, int64_t idle_timeout_ms)
{
    struct tls_peer *peer = calloc(1, sizeof(*peer));

    if (!peer)
        return NULL;
    *peer = (struct tls_peer){.tls = tls,
                              .session = session,
                              .link = link,
                              .idle_timeout_ms = idle_timeout_ms,
                              .generation = tls_current(tls)};
    if (gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE,
                               peer->generation->credentials) < 0) {
        tls_generation_unref(peer->generation);
        free(peer);
        return NULL;
    }
    /* No sessions are kept to be resumed, so this place is free; the session's own pointer
     * is libmicrohttpd's. */
    gnutls_db_set_ptr(session, peer);
    gnutls_handshake_set_hook_function(session, GNUTLS_HANDSHAKE_FINISHED,
                                       GNUTLS_HOOK_POST, on_finished);
    if (tls_asks_clients(tls)) {
        gnutls_certificate_server_set_request(session, tls_needs_clients(tls)
                                                           ? GNUTLS_CERT_REQUIRE
                                                           : GNUTLS_CERT_REQUEST);
        gnutls_session_set_verify_function(session, on_verify);
    }
    return peer;
}

void tls_peer_free(struct tls_peer *peer)
{
    if (!peer)
        return;
    metrics_add(METRIC_TLS_HANDSHAKES, 1,
                METRICS_LABELS(peer->is_refused   ? "refused"
                               : peer->is_through ? "ok"
                                                  : "failed"));
    certificate_free(peer->certificate);
    tls_generation_unref(peer->verified);
    tls_generation_unref(peer->generation);
    free(peer);
}

/* ---- while it is open ---- */

/* The CAs may be others by now. */
static int verify_again(struct tls_peer *peer, struct pt2_err *err)
{
    struct tls_generation *current = tls_current(peer->tls);
    const gnutls_datum_t *ders;
    unsigned n = 0;
    int r = 0;

    if (current != peer->generation && current != peer->verified) {
        ders = gnutls_certificate_get_peers(peer->session, &n);
        r = verify(current, ders, n, err);
    }
    if (r == 0 && current != peer->verified) {
        tls_generation_unref(peer->verified);
        peer->verified = TAKE(current);
    }
    tls_generation_unref(current);
    return r;
}

int tls_peer_certificate(struct tls_peer *peer,
                         const struct certificate **ret_certificate, struct pt2_err *err)
{
    *ret_certificate = NULL;
    if (!peer->certificate)
        return 0;
    if (clock_unix_ms() / 1000 > peer->certificate->ends)
        return pt2_err_set(err, PT2_ERR_UNAUTHORIZED,
                           "the client certificate has expired");
    if (verify_again(peer, err) < 0)
        return -1;
    *ret_certificate = peer->certificate;
    return 0;
}

bool tls_peer_send(struct tls_peer *peer, const char *data, size_t len)
{
    return gnutls_record_send(peer->session, data, len) == (ssize_t)len;
}
