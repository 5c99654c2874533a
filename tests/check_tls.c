/* check_tls.c - the daemon's certificates as files, and what a client's says. */
#include "suite.h"

#include "http/certificate.h"
#include "http/tls.h"

#include <sys/stat.h>
#include <time.h>

static char folder[64], cert_path[100], key_path[100], ca_path[100];
static struct pt2_err err;

static void setup(void)
{
    strcpy(folder, "/tmp/check_tls-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(cert_path, sizeof(cert_path), "%s/cert.pem", folder);
    snprintf(key_path, sizeof(key_path), "%s/key.pem", folder);
    snprintf(ca_path, sizeof(ca_path), "%s/ca.pem", folder);
    pt2_err_clear(&err);
}

static void teardown(void)
{
    unlink(cert_path);
    unlink(key_path);
    unlink(ca_path);
    rmdir(folder);
}

/* ---- certificates to try with, which sign themselves ---- */

static gnutls_x509_privkey_t make_key(void)
{
    gnutls_x509_privkey_t key;

    ck_assert_int_eq(gnutls_x509_privkey_init(&key), 0);
    ck_assert_int_eq(gnutls_x509_privkey_generate(
                         key, GNUTLS_PK_ECDSA,
                         GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0),
                     0);
    return key;
}

static gnutls_x509_crt_t make_crt(gnutls_x509_privkey_t key, const char *cn, size_t n_cn)
{
    gnutls_x509_crt_t crt;

    ck_assert_int_eq(gnutls_x509_crt_init(&crt), 0);
    ck_assert_int_eq(gnutls_x509_crt_set_version(crt, 3), 0);
    ck_assert_int_eq(gnutls_x509_crt_set_serial(crt, "\1", 1), 0);
    ck_assert_int_eq(gnutls_x509_crt_set_activation_time(crt, 1000), 0);
    ck_assert_int_eq(gnutls_x509_crt_set_expiration_time(crt, 4000000000), 0);
    ck_assert_int_eq(gnutls_x509_crt_set_key(crt, key), 0);
    if (n_cn)
        ck_assert_int_eq(gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0,
                                                       cn, (unsigned)n_cn),
                         0);
    return crt;
}

static void add_dns(gnutls_x509_crt_t crt, const char *name, size_t n)
{
    ck_assert_int_eq(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, name,
                                                          (unsigned)n,
                                                          GNUTLS_FSAN_APPEND),
                     0);
}

static gnutls_datum_t sign(gnutls_x509_crt_t crt, gnutls_x509_privkey_t key,
                           gnutls_x509_crt_fmt_t format)
{
    gnutls_datum_t out;

    ck_assert_int_eq(gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0), 0);
    ck_assert_int_eq(gnutls_x509_crt_export2(crt, format, &out), 0);
    return out;
}

/* GnuTLS writes no name with a NUL within: it is put there afterwards. */
#define NUL "nul-here"

static void put_nul(gnutls_datum_t der)
{
    char *at = memmem(der.data, der.size, NUL, sizeof(NUL) - 1);

    if (at)
        *at = '\0';
}

static struct certificate *read_back(gnutls_x509_crt_t crt, gnutls_x509_privkey_t key)
{
    gnutls_datum_t der = sign(crt, key, GNUTLS_X509_FMT_DER);
    struct certificate *c = NULL;
    uint8_t digest[SHA256_BYTES];

    put_nul(der);
    ck_assert_msg(certificate_read(der.data, der.size, &c, &err) == 0, "%s", err.text);
    sha256_of(der.data, der.size, digest);
    ck_assert_mem_eq(c->fingerprint, digest, SHA256_BYTES);
    ck_assert_int_eq(c->begins, 1000);
    ck_assert_int_eq(c->ends, 4000000000);
    gnutls_free(der.data);
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
    return c;
}

START_TEST(test_certificate_dns_names_take_the_common_names_place)
{
    gnutls_x509_privkey_t key = make_key();
    gnutls_x509_crt_t crt = make_crt(key, "admin.example", 13);
    struct certificate *c;

    add_dns(crt, "Edge.example", 12);
    add_dns(crt, "*.x.example", 11);
    add_dns(crt, "admin.example" NUL ".evil", 18 + sizeof(NUL) - 1);
    ck_assert_int_eq(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_RFC822NAME,
                                                          "a@b.example", 11,
                                                          GNUTLS_FSAN_APPEND),
                     0);
    c = read_back(crt, key);
    ck_assert(certificate_has_name(c, "edge.EXAMPLE"));
    ck_assert(certificate_has_name(c, "*.x.example"));
    ck_assert(!certificate_has_name(c, "admin.example" NUL ".evil"));
    ck_assert(!certificate_has_name(c, "a.x.example"));
    ck_assert(!certificate_has_name(c, "admin.example")); /* before the NUL, and the CN */
    ck_assert(!certificate_has_name(c, "a@b.example"));
    ck_assert(!certificate_has_name(c, ""));
    certificate_free(c);
}
END_TEST

START_TEST(test_certificate_common_name)
{
    gnutls_x509_privkey_t key = make_key();
    struct certificate *c = read_back(make_crt(key, "edge 1", 6), key);

    ck_assert(certificate_has_name(c, "edge 1"));
    ck_assert(!certificate_has_name(c, "edge"));
    certificate_free(c);
    key = make_key();
    c = read_back(make_crt(key, "", 0), key);
    ck_assert_uint_eq(c->n_names, 0);
    certificate_free(c);
}
END_TEST

START_TEST(test_certificate_many_and_long_names)
{
    gnutls_x509_privkey_t key = make_key();
    gnutls_x509_crt_t crt = make_crt(key, "cn", 2);
    struct certificate *c;
    char name[400];

    memset(name, 'a', sizeof(name));
    add_dns(crt, name, sizeof(name));
    for (int i = 0; i < CERTIFICATE_NAMES + 5; i++)
        add_dns(crt, name, (size_t)snprintf(name, sizeof(name), "n%d", i));
    c = read_back(crt, key);
    ck_assert_uint_eq(c->n_names, CERTIFICATE_NAMES);
    ck_assert(certificate_has_name(c, "n0"));
    ck_assert(!certificate_has_name(c, "cn"));
    certificate_free(c);
}
END_TEST

START_TEST(test_certificate_is_refused)
{
    struct certificate *c = NULL;

    ck_assert_int_eq(certificate_read("\x30\x03\x02\x01\x01", 5, &c, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_INVALID);
    ck_assert_ptr_null(c);
}
END_TEST

/* ---- the daemon's files ---- */

static void write_to(const char *path, const void *data, size_t n)
{
    FILE *file = fopen(path, "w");

    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(data, 1, n, file), n);
    ck_assert_int_eq(fclose(file), 0);
    ck_assert_int_eq(chmod(path, 0600), 0);
}

/* A certificate at path, and its key where there is a place for it. */
static void write_pair(const char *path, const char *to_key)
{
    gnutls_x509_privkey_t key = make_key();
    gnutls_x509_crt_t crt = make_crt(key, "pt2d", 4);
    gnutls_datum_t pem = sign(crt, key, GNUTLS_X509_FMT_PEM), text;

    write_to(path, pem.data, pem.size);
    ck_assert_int_eq(gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &text), 0);
    if (to_key)
        write_to(to_key, text.data, text.size);
    gnutls_free(pem.data);
    gnutls_free(text.data);
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
}

static struct tls *open_tls(bool with_ca)
{
    struct tls_settings settings = {cert_path, key_path, with_ca ? ca_path : "", true};
    struct tls *tls = NULL;

    write_pair(cert_path, key_path);
    write_pair(ca_path, NULL);
    ck_assert_msg(tls_new(&settings, &tls, &err) == 0, "%s", err.text);
    return tls;
}

START_TEST(test_tls_asks_clients_where_there_is_a_ca)
{
    struct tls *tls = open_tls(false);

    ck_assert(!tls_asks_clients(tls));
    ck_assert(!tls_needs_clients(tls));
    tls_free(tls);
    tls = open_tls(true);
    ck_assert(tls_asks_clients(tls));
    ck_assert(tls_needs_clients(tls));
    tls_free(tls);
}
END_TEST

START_TEST(test_tls_reload_makes_a_generation_of_what_is_new)
{
    struct tls *tls = open_tls(true);
    struct tls_generation *first = tls_current(tls), *second;
    bool is_new = true;

    ck_assert_int_eq(tls_reload(tls, &is_new, &err), 0);
    ck_assert(!is_new);
    second = tls_current(tls);
    ck_assert_ptr_eq(first, second);
    tls_generation_unref(second);
    write_pair(ca_path, NULL); /* of the three files any one */
    ck_assert_int_eq(tls_reload(tls, &is_new, &err), 0);
    ck_assert(is_new);
    second = tls_current(tls);
    ck_assert_ptr_ne(first, second);
    tls_free(tls); /* those who hold one go on */
    ck_assert_ptr_nonnull(first->credentials);
    ck_assert_ptr_nonnull(second->clients);
    tls_generation_unref(first);
    tls_generation_unref(second);
}
END_TEST

START_TEST(test_tls_reload_keeps_the_old_where_the_new_is_bad)
{
    struct tls *tls = open_tls(true);
    struct tls_generation *first = tls_current(tls), *now;
    bool is_new;

    write_pair(cert_path, NULL);
    ck_assert_int_eq(tls_reload(tls, &is_new, &err), -1);
    ck_assert_msg(strstr(err.text, "is not the key of"), "%s", err.text);
    pt2_err_clear(&err);
    write_pair(cert_path, key_path);
    write_to(ca_path, "none", 4);
    ck_assert_int_eq(tls_reload(tls, &is_new, &err), -1);
    ck_assert_msg(strstr(err.text, "http.tls_client_ca"), "%s", err.text);
    pt2_err_clear(&err);
    unlink(key_path);
    ck_assert_int_eq(tls_reload(tls, &is_new, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_NOT_FOUND);
    now = tls_current(tls);
    ck_assert_ptr_eq(now, first);
    tls_generation_unref(now);
    tls_generation_unref(first);
    tls_free(tls);
}
END_TEST

START_TEST(test_tls_files_have_an_end)
{
    struct tls_settings settings = {cert_path, key_path, "", true};
    struct tls *tls = NULL;
    char *much = calloc(1, 5 << 20);

    ck_assert_ptr_nonnull(much);
    write_pair(cert_path, key_path);
    write_to(cert_path, much, 5 << 20);
    free(much);
    ck_assert_int_eq(tls_new(&settings, &tls, &err), -1);
    ck_assert_msg(strstr(err.text, "has more than"), "%s", err.text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tls");
    TCase *core = tcase_create("core"), *limits = tcase_create("limits"),
          *errors = tcase_create("errors");

    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_test(core, test_certificate_dns_names_take_the_common_names_place);
    tcase_add_test(core, test_certificate_common_name);
    tcase_add_test(core, test_tls_asks_clients_where_there_is_a_ca);
    tcase_add_test(core, test_tls_reload_makes_a_generation_of_what_is_new);
    tcase_add_checked_fixture(limits, setup, teardown);
    tcase_add_test(limits, test_certificate_many_and_long_names);
    tcase_add_test(limits, test_tls_files_have_an_end);
    tcase_add_checked_fixture(errors, setup, teardown);
    tcase_add_test(errors, test_certificate_is_refused);
    tcase_add_test(errors, test_tls_reload_keeps_the_old_where_the_new_is_bad);
    suite_add_tcase(suite, core);
    suite_add_tcase(suite, limits);
    suite_add_tcase(suite, errors);
    return suite_run(suite);
}
