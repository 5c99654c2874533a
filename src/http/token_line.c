#include "http/token_line.h"

#include <errno.h>

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

/* "sha256:…", "uid:1000" */
static int read_proof(const char *text, struct token *t, struct pt2_err *err)
{
    const char *hex = after_prefix(text, "sha256:"), *uid = after_prefix(text, "uid:");
    const char *number = uid ? uid : after_prefix(text, "gid:");
    uint64_t id;

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
                       "after the name '%s' must come sha256:HEX, uid:NUMBER or "
                       "gid:NUMBER; pt2ctl token makes such a line",
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
    return pt2_err_set(err, PT2_ERR_INVALID,
                       "there is no '%.40s=': scopes, sessions, exports and rate are",
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

bool token_is_same_proof(const struct token *a, const struct token *b)
{
    if (a->proof != b->proof)
        return false;
    return a->proof == TOKEN_SECRET ? memcmp(a->digest, b->digest, SHA256_BYTES) == 0
                                    : a->id == b->id;
}
