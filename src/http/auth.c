#include "http/auth.h"

#include "base/sha256.h"

#include <errno.h>
#include <pthread.h>
#include <strings.h>

#define MAX_TOKENS 10000
#define MIN_TOKEN  16
#define MAX_TOKEN  512

struct token {
    char name[AUTH_NAME_SIZE];
    uint8_t digest[SHA256_BYTES];
};

struct auth {
    char *path;
    pthread_mutex_t lock; /* guards what follows */
    struct token *tokens;
    size_t n;
};

/* ---- the file ---- */

static bool is_name(const char *s)
{
    size_t n =
        strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

    return n > 0 && n < AUTH_NAME_SIZE && !s[n];
}

/* One line, cut in place.  *ret_is_token is false for an empty one. */
static int read_token(char *line, struct token *ret, bool *ret_is_token,
                      struct pt2_err *err)
{
    char *state = NULL, *name, *token, *more;

    line[strcspn(line, "#\r\n")] = '\0';
    name = strtok_r(line, " \t", &state);
    token = name ? strtok_r(NULL, " \t", &state) : NULL;
    more = token ? strtok_r(NULL, " \t", &state) : NULL;
    *ret_is_token = name != NULL;
    if (!name)
        return 0;
    if (!token || more)
        return pt2_err_set(err, PT2_ERR_INVALID, "a line must be: NAME TOKEN");
    if (!is_name(name))
        return pt2_err_set(err, PT2_ERR_INVALID, "a name is 1 to %d of A-Z a-z 0-9 . _ -",
                           AUTH_NAME_SIZE - 1);
    if (strlen(token) < MIN_TOKEN || strlen(token) > MAX_TOKEN)
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "the token of '%s' must have %d to %d characters, not %zu",
                           name, MIN_TOKEN, MAX_TOKEN, strlen(token));
    snprintf(ret->name, sizeof(ret->name), "%s", name);
    sha256_of(token, strlen(token), ret->digest);
    return 0;
}

static int add_token(struct token **tokens, size_t *n, const struct token *token,
                     struct pt2_err *err)
{
    struct token *grown;

    if (*n == MAX_TOKENS)
        return pt2_err_set(err, PT2_ERR_INVALID, "more than %d tokens", MAX_TOKENS);
    for (size_t i = 0; i < *n; i++)
        if (memcmp((*tokens)[i].digest, token->digest, SHA256_BYTES) == 0)
            return pt2_err_set(err, PT2_ERR_INVALID, "'%s' and '%s' have one token",
                               (*tokens)[i].name, token->name);
    grown = realloc(*tokens, (*n + 1) * sizeof(*grown));
    if (!grown)
        return pt2_err_set(err, PT2_ERR_NOMEM, "tokens");
    grown[*n] = *token;
    *tokens = grown;
    ++*n;
    return 0;
}

static int read_file(const char *path, struct token **ret_tokens, size_t *ret_n,
                     struct pt2_err *err)
{
    AUTO_FILE FILE *file = fopen(path, "re");
    AUTO_PTR struct token *tokens = NULL;
    char line[1024];
    size_t n = 0;

    if (!file)
        return pt2_err_errno(err, errno == ENOENT ? PT2_ERR_NOT_FOUND : PT2_ERR_IO, "%s",
                             path);
    for (int number = 1; fgets(line, sizeof(line), file); number++) {
        struct token token = {0};
        bool is_token;

        if (read_token(line, &token, &is_token, err) < 0 ||
            (is_token && add_token(&tokens, &n, &token, err) < 0))
            return pt2_err_prefix(err, "%s:%d", path, number);
    }
    if (ferror(file))
        return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    if (n == 0)
        return pt2_err_set(err, PT2_ERR_INVALID, "%s: no token in it", path);
    *ret_tokens = TAKE(tokens);
    *ret_n = n;
    return 0;
}

/* ---- life ---- */

int auth_reload(struct auth *auth, struct pt2_err *err)
{
    struct token *tokens = NULL, *old;
    size_t n = 0;

    if (!*auth->path)
        return 0;
    if (read_file(auth->path, &tokens, &n, err) < 0)
        return -1;
    pthread_mutex_lock(&auth->lock);
    old = auth->tokens;
    auth->tokens = tokens;
    auth->n = n;
    pthread_mutex_unlock(&auth->lock);
    free(old);
    return 0;
}

int auth_new(const char *path, struct auth **ret_auth, struct pt2_err *err)
{
    struct auth *auth = calloc(1, sizeof(*auth));

    if (!auth)
        return pt2_err_set(err, PT2_ERR_NOMEM, "tokens");
    pthread_mutex_init(&auth->lock, NULL);
    auth->path = strdup(path);
    if (!auth->path)
        pt2_err_set(err, PT2_ERR_NOMEM, "tokens");
    if (!auth->path || auth_reload(auth, err) < 0) {
        auth_free(auth);
        return -1;
    }
    *ret_auth = auth;
    return 0;
}

void auth_free(struct auth *auth)
{
    if (!auth)
        return;
    pthread_mutex_destroy(&auth->lock);
    free(auth->tokens);
    free(auth->path);
    free(auth);
}

/* ---- checking ---- */

int auth_check(struct auth *auth, const char *authorization,
               char ret_name[AUTH_NAME_SIZE], struct pt2_err *err)
{
    uint8_t digest[SHA256_BYTES];
    bool found = false;

    ret_name[0] = '\0';
    if (!*auth->path)
        return 0;
    if (!authorization)
        return pt2_err_set(err, PT2_ERR_UNAUTHORIZED,
                           "send a token: Authorization: Bearer TOKEN");
    if (strncasecmp(authorization, "Bearer ", 7) != 0)
        return pt2_err_set(err, PT2_ERR_UNAUTHORIZED,
                           "the Authorization header must be: Bearer TOKEN");
    authorization += 7 + strspn(authorization + 7, " ");
    sha256_of(authorization, strlen(authorization), digest);
    pthread_mutex_lock(&auth->lock);
    for (size_t i = 0; i < auth->n && !found; i++) {
        found = memcmp(auth->tokens[i].digest, digest, SHA256_BYTES) == 0;
        if (found)
            memcpy(ret_name, auth->tokens[i].name, AUTH_NAME_SIZE);
    }
    pthread_mutex_unlock(&auth->lock);
    return found ? 0 : pt2_err_set(err, PT2_ERR_UNAUTHORIZED, "the token is not known");
}
