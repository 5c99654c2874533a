#include "http/tls.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/sha256.h"
#include "http/private_file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>

#define FILE_MAX  (4 << 20) /* bytes; a system's bundle of all CAs has 200 KiB */
#define CHAIN_MAX 16

struct tls {
    char *certificate, *key, *client_ca;
    bool client_is_required;
    pthread_mutex_t lock; /* guards current */
    struct tls_generation *current;
};

/* ---- the files ---- */

struct tls_files {
    struct buf certificate, key, client_ca;
};

static void files_done(struct tls_files *files)
{
    if (files->key.data)
        explicit_bzero(files->key.data, files->key.cap);
    buf_done(&files->certificate);
    buf_done(&files->key);
    buf_done(&files->client_ca);
}

static int read_file(const char *path, bool is_private, struct buf *to,
                     struct pt2_err *err)
{
    AUTO_FD int fd = -1;
    ssize_t n;

    if (is_private) {
        if (private_file_open(path, &fd, err) < 0)
            return -1;
    } else {
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0)
            return pt2_err_errno(err, errno == ENOENT ? PT2_ERR_NOT_FOUND : PT2_ERR_IO,
                                 "%s", path);
    }
    buf_init(to, FILE_MAX);
    /* All at once, so that no half of a key is left where the memory was too small. */
    if (!buf_room(to, FILE_MAX))
        return pt2_err_set(err, PT2_ERR_NOMEM, "%s", path);
    while ((n = read(fd, to->data + to->len, FILE_MAX - to->len)) > 0)
        to->len += (size_t)n;
    if (n < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    if (to->len == FILE_MAX)
        return pt2_err_set(err, PT2_ERR_INVALID, "%s has more than %d bytes", path,
                           FILE_MAX - 1);
    to->data[to->len] = '\0';
    return 0;
}

static int read_files(const struct tls *tls, struct tls_files *files, struct pt2_err *err)
{
    if (read_file(tls->certificate, false, &files->certificate, err) < 0)
        return pt2_err_prefix(err, "http.tls_certificate");
    if (read_file(tls->key, true, &files->key, err) < 0)
        return pt2_err_prefix(err, "http.tls_key");
    if (*tls->client_ca && read_file(tls->client_ca, false, &files->client_ca, err) < 0)
        return pt2_err_prefix(err, "http.tls_client_ca");
    return 0;
}

static void digest_files(const struct tls_files *files, uint8_t ret[SHA256_BYTES])
{
    const struct buf *all[] = {&files->certificate, &files->key, &files->client_ca};
    struct sha256 h;

    sha256_start(&h);
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        sha256_add(&h, &all[i]->len, sizeof(all[i]->len));
        sha256_add(&h, all[i]->data ? all[i]->data : "", all[i]->len);
    }
    sha256_finish(&h, ret);
}

static gnutls_datum_t datum_of(const struct buf *b)
{
    return (gnutls_datum_t){(unsigned char *)b->data, (unsigned)b->len};
}

/* ---- a generation ---- */

/* The server's certificate, its CAs and its key. */
struct identity {
    gnutls_x509_crt_t chain[CHAIN_MAX];
    unsigned n_chain;
    gnutls_x509_privkey_t key;
};

static void identity_done(struct identity *id)
{
    for (unsigned i = 0; i < id->n_chain; i++)
        gnutls_x509_crt_deinit(id->chain[i]);
    if (id->key)
        gnutls_x509_privkey_deinit(id->key);
}

static int read_identity(const struct tls *tls, const struct tls_files *files,
                         struct identity *id, struct pt2_err *err)
{
    gnutls_datum_t pem = datum_of(&files->certificate), key = datum_of(&files->key);
    unsigned n = CHAIN_MAX;
    int r = gnutls_x509_crt_list_import(id->chain, &n, &pem, GNUTLS_X509_FMT_PEM,
                                        GNUTLS_X509_CRT_LIST_IMPORT_FAIL_IF_EXCEED);

    if (r == GNUTLS_E_SHORT_MEMORY_BUFFER)
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "http.tls_certificate: %s holds more than %d certificates",
                           tls->certificate, CHAIN_MAX);
    if (r < 0)
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "http.tls_certificate: %s holds no certificate in PEM: %s",
                           tls->certificate, gnutls_strerror(r));
    id->n_chain = (unsigned)r;
    if (gnutls_x509_privkey_init(&id->key) < 0)
        return pt2_err_set(err, PT2_ERR_NOMEM, "http.tls_key");
    r = gnutls_x509_privkey_import2(id->key, &key, GNUTLS_X509_FMT_PEM, NULL,
                                    /* flags= */ 0);
    if (r == GNUTLS_E_DECRYPTION_FAILED)
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "http.tls_key: %s is encrypted, and nobody is there to give "
                           "its passphrase",
                           tls->key);
    if (r < 0)
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "http.tls_key: %s holds no private key in PEM: %s", tls->key,
                           gnutls_strerror(r));
    return 0;
}

static int set_identity(const struct tls *tls, const struct tls_files *files,
                        gnutls_certificate_credentials_t credentials, int64_t *ret_ends,
                        int64_t *ret_begins, struct pt2_err *err)
{
    struct identity id = {0};
    int r = read_identity(tls, files, &id, err);

    if (r == 0) {
        *ret_begins = gnutls_x509_crt_get_activation_time(id.chain[0]);
        *ret_ends = gnutls_x509_crt_get_expiration_time(id.chain[0]);
        r = gnutls_certificate_set_x509_key(credentials, id.chain, (int)id.n_chain,
                                            id.key);
        if (r == GNUTLS_E_CERTIFICATE_KEY_MISMATCH)
            r = pt2_err_set(err, PT2_ERR_INVALID,
                            "http.tls_key: %s is not the key of the certificate in %s",
                            tls->key, tls->certificate);
        else if (r < 0)
            r = pt2_err_set(err, PT2_ERR_INVALID, "http.tls_certificate: %s: %s",
                            tls->certificate, gnutls_strerror(r));
    }
    identity_done(&id);
    return r < 0 ? -1 : 0;
}

static int set_clients(const struct tls *tls, const struct tls_files *files,
                       struct tls_generation *g, struct pt2_err *err)
{
    gnutls_datum_t pem = datum_of(&files->client_ca);
    int n;

    if (!*tls->client_ca)
        return 0;
    n = gnutls_certificate_set_x509_trust_mem(g->credentials, &pem, GNUTLS_X509_FMT_PEM);
    if (n <= 0)
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "http.tls_client_ca: %s holds no certificate in PEM%s%s",
                           tls->client_ca, n < 0 ? ": " : "",
                           n < 0 ? gnutls_strerror(n) : "");
    gnutls_certificate_get_trust_list(g->credentials, &g->clients);
    return 0;
}

static void warn_of_time(const struct tls *tls, int64_t begins, int64_t ends)
{
    int64_t now = clock_unix_ms() / 1000;
    char text[CLOCK_TEXT_SIZE];

    metrics_set(METRIC_TLS_EXPIRY, (double)ends, NULL);
    clock_to_text((now > ends ? ends : begins) * 1000, text);
    if (now > ends)
        log_warning("http.tls_certificate: %s has expired at %s, serving it all the same",
                    tls->certificate, text);
    else if (now < begins)
        log_warning("http.tls_certificate: %s is good from %s on, serving it all the same",
                    tls->certificate, text);
}

static int make_generation(const struct tls *tls, const struct tls_files *files,
                           struct tls_generation **ret, struct pt2_err *err)
{
    struct tls_generation *g = calloc(1, sizeof(*g));
    int64_t begins = 0, ends = 0;

    if (!g || gnutls_certificate_allocate_credentials(&g->credentials) < 0) {
        free(g);
        return pt2_err_set(err, PT2_ERR_NOMEM, "certificate");
    }
    atomic_init(&g->refs, 1);
    digest_files(files, g->digest);
    if (set_identity(tls, files, g->credentials, &ends, &begins, err) < 0 ||
        set_clients(tls, files, g, err) < 0) {
        tls_generation_unref(g);
        return -1;
    }
    warn_of_time(tls, begins, ends);
    *ret = g;
    return 0;
}

void tls_generation_unref(struct tls_generation *generation)
{
    if (!generation || atomic_fetch_sub(&generation->refs, 1) != 1)
        return;
    gnutls_certificate_free_credentials(generation->credentials);
    free(generation);
}

struct tls_generation *tls_current(struct tls *tls)
{
    struct tls_generation *g;

    pthread_mutex_lock(&tls->lock);
    g = tls->current;
    atomic_fetch_add(&g->refs, 1);
    pthread_mutex_unlock(&tls->lock);
    return g;
}

/* ---- all of it ---- */

static int replace(struct tls *tls, const struct tls_files *files, struct pt2_err *err)
{
    struct tls_generation *fresh = NULL, *old;

    if (make_generation(tls, files, &fresh, err) < 0)
        return -1;
    pthread_mutex_lock(&tls->lock);
    old = tls->current;
    tls->current = fresh;
    pthread_mutex_unlock(&tls->lock);
    tls_generation_unref(old);
    return 0;
}

int tls_reload(struct tls *tls, bool *ret_is_new, struct pt2_err *err)
{
    struct tls_files files = {0};
    uint8_t digest[SHA256_BYTES];
    int r = read_files(tls, &files, err);

    if (r == 0) {
        digest_files(&files, digest);
        *ret_is_new = !tls->current ||
                      memcmp(digest, tls->current->digest, sizeof(digest)) != 0;
        if (*ret_is_new)
            r = replace(tls, &files, err);
    }
    files_done(&files);
    return r;
}

int tls_new(const struct tls_settings *settings, struct tls **ret_tls, struct pt2_err *err)
{
    static const char *const results[] = {"ok", "failed", "refused"};
    AUTO(tls) tls = calloc(1, sizeof(*tls));
    bool is_new;

    if (!tls)
        return pt2_err_set(err, PT2_ERR_NOMEM, "TLS");
    pthread_mutex_init(&tls->lock, NULL);
    tls->client_is_required = settings->client_is_required;
    tls->certificate = strdup(settings->certificate);
    tls->key = strdup(settings->key);
    tls->client_ca = strdup(settings->client_ca);
    if (!tls->certificate || !tls->key || !tls->client_ca)
        return pt2_err_set(err, PT2_ERR_NOMEM, "TLS");
    if (tls_reload(tls, &is_new, err) < 0)
        return -1;
    /* At 0, so that the first one is an increase. */
    for (size_t i = 0; i < ARRAY_LEN(results); i++)
        metrics_add(METRIC_TLS_HANDSHAKES, 0, METRICS_LABELS(results[i]));
    *ret_tls = TAKE(tls);
    return 0;
}

void tls_free(struct tls *tls)
{
    if (!tls)
        return;
    tls_generation_unref(tls->current);
    pthread_mutex_destroy(&tls->lock);
    free(tls->certificate);
    free(tls->key);
    free(tls->client_ca);
    free(tls);
}

bool tls_asks_clients(const struct tls *tls)
{
    return *tls->client_ca != '\0';
}

bool tls_needs_clients(const struct tls *tls)
{
    return tls_asks_clients(tls) && tls->client_is_required;
}
