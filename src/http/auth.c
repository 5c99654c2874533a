#include "http/auth.h"

#include "base/clock.h"
#include "http/certificate.h"
#include "http/token_file.h"

#include <nettle/memops.h>
#include <pthread.h>
#include <strings.h>
#include <sys/socket.h>

#define MAX_GROUPS 256 /* that are looked at of a peer; Linux has up to 65536 */

/* A bucket that holds `rate` requests and fills in rate_ms. */
struct entry {
    struct token token;
    double level;
    int64_t filled_ms; /* monotonic */
};

struct auth {
    char *path;
    pthread_mutex_t lock; /* guards what follows */
    struct entry *entries;
    size_t n;
};

/* ---- life ---- */

static struct entry *find_same(struct entry *entries, size_t n, const struct token *token)
{
    for (size_t i = 0; i < n; i++)
        if (token_is_same_proof(&entries[i].token, token))
            return &entries[i];
    return NULL;
}

/* The new ones in place of the old; buckets of lines that stay are as full as before. */
static void replace_locked(struct auth *auth, struct entry *entries, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct token *token = &entries[i].token;
        const struct entry *old = find_same(auth->entries, auth->n, token);

        entries[i].level = token->rate;
        entries[i].filled_ms = clock_mono_ms();
        if (old && old->token.rate) {
            entries[i].level = MIN(old->level, token->rate);
            entries[i].filled_ms = old->filled_ms;
        }
    }
    auth->entries = entries;
    auth->n = n;
}

int auth_reload(struct auth *auth, struct pt2_err *err)
{
    AUTO_PTR struct token *tokens = NULL;
    struct entry *entries, *old;
    size_t n = 0;

    if (!auth_is_needed(auth))
        return 0;
    if (token_file_read(auth->path, &tokens, &n, err) < 0)
        return -1;
    entries = calloc(n, sizeof(*entries));
    if (!entries)
        return pt2_err_set(err, PT2_ERR_NOMEM, "tokens");
    for (size_t i = 0; i < n; i++)
        entries[i].token = tokens[i];
    pthread_mutex_lock(&auth->lock);
    old = auth->entries;
    replace_locked(auth, entries, n);
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
    free(auth->entries);
    free(auth->path);
    free(auth);
}

bool auth_is_needed(const struct auth *auth)
{
    return *auth->path != '\0';
}

/* ---- who it is ---- */

static struct entry *find_secret_locked(struct auth *auth,
                                        const uint8_t digest[SHA256_BYTES])
{
    struct entry *found = NULL;

    for (size_t i = 0; i < auth->n; i++) {
        struct entry *entry = &auth->entries[i];

        if (entry->token.proof == TOKEN_SECRET &&
            memeql_sec(entry->token.digest, digest, SHA256_BYTES))
            found = entry;
    }
    return found;
}

/* A process at the other end of a unix socket, as it was when it connected. */
struct peer {
    struct ucred cred;
    gid_t groups[MAX_GROUPS + 1]; /* its own one too */
    size_t n_groups;
};

/* False: fd is no unix socket. */
static bool read_peer(int fd, struct peer *ret)
{
    socklen_t len = sizeof(ret->cred), domain_len = sizeof(int);
    int domain;

    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &domain_len) < 0 ||
        domain != AF_UNIX ||
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &ret->cred, &len) < 0)
        return false;
    ret->groups[0] = ret->cred.gid;
    ret->n_groups = 1;
    len = MAX_GROUPS * sizeof(gid_t);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, &ret->groups[1], &len) == 0)
        ret->n_groups += len / sizeof(gid_t);
    return true;
}

static bool fits(const struct token *token, const struct peer *peer)
{
    if (token->proof == TOKEN_UID)
        return token->id == peer->cred.uid;
    for (size_t i = 0; token->proof == TOKEN_GID && i < peer->n_groups; i++)
        if (token->id == peer->groups[i])
            return true;
    return false;
}

static struct entry *find_peer_locked(struct auth *auth, const struct peer *peer)
{
    struct entry *found = NULL;

    for (size_t i = 0; i < auth->n; i++) {
        struct entry *entry = &auth->entries[i];

        if (fits(&entry->token, peer) && (!found || (found->token.proof == TOKEN_GID &&
                                                     entry->token.proof == TOKEN_UID)))
            found = entry;
    }
    return found;
}

static bool bears(const struct token *token, const struct certificate *certificate)
{
    if (token->proof == TOKEN_CERT)
        return memcmp(token->digest, certificate->fingerprint, SHA256_BYTES) == 0;
    return token->proof == TOKEN_CERT_NAME &&
           certificate_has_name(certificate, token->cert_name);
}

static struct entry *find_bearer_locked(struct auth *auth,
                                        const struct certificate *certificate)
{
    struct entry *found = NULL;

    for (size_t i = 0; i < auth->n; i++) {
        struct entry *entry = &auth->entries[i];

        if (bears(&entry->token, certificate) &&
            (!found || (found->token.proof == TOKEN_CERT_NAME &&
                        entry->token.proof == TOKEN_CERT)))
            found = entry;
    }
    return found;
}

/* ---- checking ---- */

/* False: the bucket is empty; *ret_retry_s says for how long. */
static bool take_one(struct entry *entry, unsigned *ret_retry_s)
{
    double per_ms = (double)entry->token.rate / (double)MAX(1, entry->token.rate_ms);
    int64_t now = clock_mono_ms();

    if (!entry->token.rate)
        return true;
    entry->level = MIN((double)entry->token.rate,
                       entry->level + (double)(now - entry->filled_ms) * per_ms);
    entry->filled_ms = now;
    if (entry->level >= 1) {
        entry->level -= 1;
        return true;
    }
    *ret_retry_s = (unsigned)((1 - entry->level) / per_ms / 1000) + 1;
    return false;
}

static int use_locked(struct entry *entry, struct auth_caller *ret_caller,
                      struct pt2_err *err)
{
    const struct token *token = &entry->token;

    *ret_caller = (struct auth_caller){.scopes = token->scopes,
                                       .max_sessions = token->max_sessions,
                                       .max_exports = token->max_exports,
                                       .upload_rate = token->upload_rate,
                                       .download_rate = token->download_rate};
    memcpy(ret_caller->owner, token->name, OWNER_SIZE);
    if (take_one(entry, &ret_caller->retry_s))
        return 0;
    return pt2_err_set(err, PT2_ERR_RATE_LIMITED, "'%s' may send %u requests a %s",
                       token->name, token->rate,
                       token->rate_ms == 1000 ? "second" : "minute");
}

static int check_secret(struct auth *auth, const char *authorization,
                        struct auth_caller *ret_caller, struct pt2_err *err)
{
    uint8_t digest[SHA256_BYTES];
    struct entry *entry;
    int r;

    if (strncasecmp(authorization, "Bearer ", 7) != 0)
        return pt2_err_set(err, PT2_ERR_UNAUTHORIZED,
                           "the Authorization header must be: Bearer TOKEN");
    authorization += 7 + strspn(authorization + 7, " ");
    sha256_of(authorization, strlen(authorization), digest);
    pthread_mutex_lock(&auth->lock);
    entry = find_secret_locked(auth, digest);
    r = entry ? use_locked(entry, ret_caller, err)
              : pt2_err_set(err, PT2_ERR_UNAUTHORIZED, "the token is not known");
    pthread_mutex_unlock(&auth->lock);
    return r;
}

static int check_peer(struct auth *auth, int fd, struct auth_caller *ret_caller,
                      struct pt2_err *err)
{
    struct entry *entry;
    struct peer peer;
    int r;

    if (!read_peer(fd, &peer))
        return pt2_err_set(err, PT2_ERR_UNAUTHORIZED,
                           "send a token: Authorization: Bearer TOKEN");
    pthread_mutex_lock(&auth->lock);
    entry = find_peer_locked(auth, &peer);
    r = entry ? use_locked(entry, ret_caller, err)
              : pt2_err_set(err, PT2_ERR_UNAUTHORIZED,
                            "neither the user %u nor a group of it is known; send a "
                            "token: Authorization: Bearer TOKEN",
                            (unsigned)peer.cred.uid);
    pthread_mutex_unlock(&auth->lock);
    return r;
}

static int check_certificate(struct auth *auth, const struct certificate *certificate,
                             struct auth_caller *ret_caller, struct pt2_err *err)
{
    struct entry *entry;
    int r;

    pthread_mutex_lock(&auth->lock);
    entry = find_bearer_locked(auth, certificate);
    r = entry ? use_locked(entry, ret_caller, err)
              : pt2_err_set(err, PT2_ERR_UNAUTHORIZED,
                            "neither the client certificate nor a name in it is known; "
                            "send a token: Authorization: Bearer TOKEN");
    pthread_mutex_unlock(&auth->lock);
    return r;
}

int auth_check(struct auth *auth, const char *authorization, int fd,
               const struct certificate *certificate, struct auth_caller *ret_caller,
               struct pt2_err *err)
{
    *ret_caller = (struct auth_caller){.scopes = SCOPE_ALL};
    if (!auth_is_needed(auth))
        return 0;
    *ret_caller = (struct auth_caller){0};
    if (authorization)
        return check_secret(auth, authorization, ret_caller, err);
    return certificate ? check_certificate(auth, certificate, ret_caller, err)
                       : check_peer(auth, fd, ret_caller, err);
}
