#include "http/token_line.h"

#include <ctype.h>
#include <errno.h>
#include <strings.h>

#define MAX_LIMIT 1000000 /* of sessions, exports, requests */

static bool is_name(const char *s)
{
    size_t n =
        strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

    return n > 0 && n < OWNER_SIZE && !s[n];
}

/* All of text as a number from min to max. */
static bool read_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
    char *end;

    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    *ret = strtoull(text, &end, 10);
    return !errno && !*end && *ret >= min && *ret <= max;
}

/* 64 digits of either case, or AB:CD:…. */
static bool read_fingerprint(const char *text, uint8_t ret[SHA256_BYTES])
{
    char hex[SHA256_HEX];
    size_t n = 0;

    for (size_t i = 0; text[i] && n < sizeof(hex) - 1; i++)
        if (text[i] != ':' || i % 3 != 2)
            hex[n++] = (char)tolower((unsigned char)text[i]);
    hex[n] = '\0';
    return (strlen(text) == 64 || strlen(text) == 95) && sha256_from_hex(hex, ret);
}

/* What comes after "cert:". */
static int read_certificate(const char *text, struct token *t, struct pt2_err *err)
{
    const char *hex = after_prefix(text, "sha256:");
    size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                            "._-@*");

    t->proof = hex ? TOKEN_CERT : TOKEN_CERT_NAME;
    if (hex ? read_fingerprint(hex, t->digest)
            : n > 0 && n < sizeof(t->cert_name) && !text[n]) {
        snprintf(t->cert_name, sizeof(t->cert_name), "%s", hex ? "" : text);
        return 0;
    }
    return pt2_err_set(err, PT2_ERR_INVALID,
                       hex ? "cert:sha256: of '%s' must be followed by the 64 hexadecimal "
                             "digits of a certificate's fingerprint"
                           : "cert: of '%s' must be followed by sha256:HEX, or by a name of 1 "
                             "to 255 of A-Z a-z 0-9 . _ - @ *",
                       t->name);
}

/* "sha256:…", "uid:1000", "cert:edge.example" */
static int read_proof(const char *text, struct token *t, struct pt2_err *err)
{
    const char *hex = after_prefix(text, "sha256:"), *uid = after_prefix(text, "uid:");
    const char *number = uid ? uid : after_prefix(text, "gid:");
    const char *certificate = after_prefix(text, "cert:");
    uint64_t id;

    if (certificate)
        return read_certificate(certificate, t, err);
    if (hex && sha256_from_hex(hex, t->digest)) {
        t->proof = TOKEN_SECRET;
        return 0;
    }
    if (hex)
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "sha256: of '%s' must be followed by 64 lower-case "
                           "hexadecimal digits",
                           t->name);
    /* the last one stands for "none" */
    if (number && read_number(number, 0, UINT32_MAX - 1, &id)) {
        t->proof = uid ? TOKEN_UID : TOKEN_GID;
        t->id = (uint32_t)id;
        return 0;
    }
    return pt2_err_set(err, PT2_ERR_INVALID,
                       "after the name '%s' must come sha256:HEX, uid:NUMBER, gid:NUMBER, "
                       "cert:sha256:HEX or cert:DNS-NAME; pt2ctl token makes a line of the "
                       "first kind",
                       t->name);
}

/* "10/s", "600/min" */
static int read_rate(char *text, struct token *t, struct pt2_err *err)
{
    char *slash = strchr(text, '/');
    uint64_t n;

    if (slash)
        *slash++ = '\0';
    if (!slash || !(streq(slash, "s") || streq(slash, "min")) ||
        !read_number(text, 1, MAX_LIMIT, &n))
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "rate= takes 1 to %d requests: N/s or N/min", MAX_LIMIT);
    t->rate = (unsigned)n;
    t->rate_ms = streq(slash, "s") ? 1000 : 60000;
    return 0;
}

/* Bytes a second: "500K", "2M", "1G", "4096". */
static int read_bytes(const char *key, char *text, uint64_t *ret, struct pt2_err *err)
{
    size_t n = strlen(text);
    const char *units = "KMG", *unit = n > 1 ? strchr(units, text[n - 1]) : NULL;
    uint64_t value;

    if (unit)
        text[n - 1] = '\0';
    if (!read_number(text, 1, MAX_LIMIT * (uint64_t)1000, &value))
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "%s= takes bytes a second: 4096, 500K, 2M, 1G", key);
    *ret = value << (unit ? 10 * (unit - units + 1) : 0);
    return 0;
}

static int read_limit(const char *key, const char *text, unsigned *ret,
                      struct pt2_err *err)
{
    uint64_t n;

    if (!read_number(text, 1, MAX_LIMIT, &n))
        return pt2_err_set(err, PT2_ERR_INVALID, "%s= takes 1 to %d, not '%.40s'", key,
                           MAX_LIMIT, text);
    *ret = (unsigned)n;
    return 0;
}

static int read_key(const char *key, char *value, struct token *t, struct pt2_err *err)
{
    if (streq(key, "scopes"))
        return scopes_parse(value, &t->scopes, err);
    if (streq(key, "sessions"))
        return read_limit(key, value, &t->max_sessions, err);
    if (streq(key, "exports"))
        return read_limit(key, value, &t->max_exports, err);
    if (streq(key, "rate"))
        return read_rate(value, t, err);
    if (streq(key, "upload"))
        return read_bytes(key, value, &t->upload_rate, err);
    if (streq(key, "download"))
        return read_bytes(key, value, &t->download_rate, err);
    return pt2_err_set(err, PT2_ERR_INVALID,
                       "there is no '%.40s=': scopes, sessions, exports, rate, upload and "
                       "download are",
                       key);
}

/* The "key=value" words, each at most once. */
static int read_keys(char **state, struct token *t, struct pt2_err *err)
{
    char seen[128] = " ";

    for (char *key = strtok_r(NULL, " \t", state); key;
         key = strtok_r(NULL, " \t", state)) {
        char *value = strchr(key, '=');
        char mark[48];

        if (!value)
            return pt2_err_set(err, PT2_ERR_INVALID, "'%.40s' is not KEY=VALUE", key);
        *value++ = '\0';
        snprintf(mark, sizeof(mark), " %.40s ", key);
        if (strstr(seen, mark))
            return pt2_err_set(err, PT2_ERR_INVALID, "'%.40s=' is there twice", key);
        if (read_key(key, value, t, err) < 0)
            return -1;
        strncat(seen, mark + 1, sizeof(seen) - strlen(seen) - 1);
    }
    if (!t->scopes)
        return pt2_err_set(err, PT2_ERR_INVALID, "'%s' has no scopes=", t->name);
    return 0;
}

int token_line_parse(char *line, struct token *ret_token, bool *ret_is_token,
                     struct pt2_err *err)
{
    struct token t = {0};
    char *state = NULL, *name, *proof;

    line[strcspn(line, "#\r\n")] = '\0';
    name = strtok_r(line, " \t", &state);
    *ret_is_token = name != NULL;
    if (!name)
        return 0;
    if (!is_name(name))
        return pt2_err_set(err, PT2_ERR_INVALID, "a name is 1 to %d of A-Z a-z 0-9 . _ -",
                           OWNER_SIZE - 1);
    snprintf(t.name, sizeof(t.name), "%s", name);
    proof = strtok_r(NULL, " \t", &state);
    if (read_proof(proof ? proof : "", &t, err) < 0 || read_keys(&state, &t, err) < 0)
        return -1;
    *ret_token = t;
    return 0;
}

const char *token_proof_name(enum token_proof proof)
{
    static const char *const names[] = {"token", "uid", "gid", "certificate",
                                        "certificate"};

    return names[proof];
}

bool token_is_same_proof(const struct token *a, const struct token *b)
{
    if (a->proof != b->proof)
        return false;
    switch (a->proof) {
    case TOKEN_SECRET:
    case TOKEN_CERT:
        return memcmp(a->digest, b->digest, SHA256_BYTES) == 0;
    case TOKEN_CERT_NAME:
        return strcasecmp(a->cert_name, b->cert_name) == 0;
    case TOKEN_UID:
    case TOKEN_GID:
        break;
    }
    return a->id == b->id;
}
