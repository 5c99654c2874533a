#include "http/certificate.h"

#include <gnutls/x509.h>
#include <strings.h>

#define NAME_SIZE 256

/* Keep a name of n bytes; one with a NUL within is none. */
static int add_name(struct certificate *c, const char *text, size_t n,
                    struct pt2_err *err)
{
    if (n == 0 || memchr(text, '\0', n) || c->n_names == CERTIFICATE_NAMES)
        return 0;
    c->names[c->n_names] = strndup(text, n);
    if (!c->names[c->n_names])
        return pt2_err_set(err, PT2_ERR_NOMEM, "certificate");
    c->n_names++;
    return 0;
}

static int add_dns_names(struct certificate *c, gnutls_x509_crt_t crt,
                         bool *ret_has_some, struct pt2_err *err)
{
    *ret_has_some = false;
    for (unsigned i = 0;; i++) {
        char text[NAME_SIZE];
        size_t n = sizeof(text);
        int kind = gnutls_x509_crt_get_subject_alt_name(crt, i, text, &n, NULL);

        if (kind == GNUTLS_E_SHORT_MEMORY_BUFFER) /* longer than any that a line holds */
            continue;
        /* One that can't be read, with a NUL within say, is still a reason to leave the common
         * name alone. */
        *ret_has_some |= kind < 0 && kind != GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE;
        if (kind < 0)
            return 0;
        if (kind != GNUTLS_SAN_DNSNAME)
            continue;
        *ret_has_some = true;
        if (add_name(c, text, n, err) < 0)
            return -1;
    }
}

static int add_common_name(struct certificate *c, gnutls_x509_crt_t crt,
                           struct pt2_err *err)
{
    char text[NAME_SIZE];
    size_t n = sizeof(text);

    if (gnutls_x509_crt_get_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, 0, text, &n) <
        0)
        return 0;
    return add_name(c, text, n, err);
}

static int read_facts(struct certificate *c, gnutls_x509_crt_t crt, struct pt2_err *err)
{
    bool has_dns_names;

    c->begins = gnutls_x509_crt_get_activation_time(crt);
    c->ends = gnutls_x509_crt_get_expiration_time(crt);
    if (add_dns_names(c, crt, &has_dns_names, err) < 0)
        return -1;
    return has_dns_names ? 0 : add_common_name(c, crt, err);
}

int certificate_read(const void *der, size_t len, struct certificate **ret_certificate,
                     struct pt2_err *err)
{
    AUTO(certificate) c = calloc(1, sizeof(*c));
    gnutls_datum_t data = {(unsigned char *)der, (unsigned)len};
    gnutls_x509_crt_t crt;
    int r;

    if (!c || gnutls_x509_crt_init(&crt) < 0)
        return pt2_err_set(err, PT2_ERR_NOMEM, "certificate");
    r = gnutls_x509_crt_import(crt, &data, GNUTLS_X509_FMT_DER);
    if (r < 0)
        r = pt2_err_set(err, PT2_ERR_INVALID, "this is no certificate: %s",
                        gnutls_strerror(r));
    else
        r = read_facts(c, crt, err);
    gnutls_x509_crt_deinit(crt);
    if (r < 0)
        return -1;
    sha256_of(der, len, c->fingerprint);
    *ret_certificate = TAKE(c);
    return 0;
}

void certificate_free(struct certificate *certificate)
{
    if (!certificate)
        return;
    for (size_t i = 0; i < certificate->n_names; i++)
        free(certificate->names[i]);
    free(certificate);
}

bool certificate_has_name(const struct certificate *certificate, const char *name)
{
    for (size_t i = 0; i < certificate->n_names; i++)
        if (strcasecmp(certificate->names[i], name) == 0)
            return true;
    return false;
}
