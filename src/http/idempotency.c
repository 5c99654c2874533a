#include "http/idempotency.h"

#include "base/json.h"
#include "base/log.h"
#include "base/metrics.h"
#include "http/config.h"
#include "http/reply.h"
#include "http/routes.h"
#include "store/idempotency_db.h"

#include <pthread.h>

#define MAX_KEY 255 /* bytes */

/* A key whose first request runs. */
struct claim {
    const struct http_request *req;
    struct app *app;
    char *owner, *path, *key;
    uint8_t body[SHA256_BYTES];
    bool is_kept; /* its answer is in the database, or came from there */
    struct claim *next;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct claim *claims; /* guarded by mutex */

static void claim_free(struct claim *claim)
{
    if (!claim)
        return;
    free(claim->owner);
    free(claim->path);
    free(claim->key);
    free(claim);
}
DEFINE_AUTO(claim)

static struct idempotency_name name_of(const struct claim *claim)
{
    return (struct idempotency_name){
        .owner = claim->owner, .path = claim->path, .key = claim->key};
}

/* ---- the running ones ---- */

/* False: another request has the key. */
static bool insert(struct claim *claim)
{
    const struct claim *c;

    pthread_mutex_lock(&mutex);
    for (c = claims; c; c = c->next)
        if (c->app == claim->app && streq(c->owner, claim->owner) &&
            streq(c->path, claim->path) && streq(c->key, claim->key))
            break;
    if (!c) {
        claim->next = claims;
        claims = claim;
    }
    pthread_mutex_unlock(&mutex);
    return !c;
}

static void take_out(const struct claim *claim)
{
    pthread_mutex_lock(&mutex);
    for (struct claim **at = &claims; *at; at = &(*at)->next) {
        if (*at == claim) {
            *at = claim->next;
            break;
        }
    }
    pthread_mutex_unlock(&mutex);
}

static struct claim *find(const struct http_request *req)
{
    struct claim *c;

    pthread_mutex_lock(&mutex);
    for (c = claims; c && c->req != req; c = c->next)
        ;
    pthread_mutex_unlock(&mutex);
    return c;
}

/* ---- keeping an answer ---- */

static int keep(struct claim *claim, unsigned status, const char *location,
                const json_t *body, struct pt2_err *err)
{
    const struct idempotency_name name = name_of(claim);
    AUTO_PTR char *text = json_to_text(body, JSON_COMPACT);
    AUTO_PTR char *place = location ? strdup(location) : NULL;
    struct idempotency_answer answer = {
        .status = status, .location = place, .answer = text};

    if (!text || (location && !place))
        return pt2_err_set(err, PT2_ERR_NOMEM, "an answer to keep");
    memcpy(answer.body, claim->body, sizeof(answer.body));
    if (idempotency_db_put(claim->app->store, &name, &answer, err) < 0)
        return -1;
    claim->is_kept = true;
    return 0;
}

int idempotency_keep(struct http_request *req, unsigned status, const char *location,
                     const json_t *body, struct pt2_err *err)
{
    struct claim *claim = find(req);

    return claim ? keep(claim, status, location, body, err) : 0;
}

static void on_reply(void *ctx, struct http_request *req, unsigned status,
                     const char *location, const json_t *json)
{
    struct claim *claim = ctx;
    struct pt2_err err = {0};

    if (status >= 200 && status <= 299 && json && !claim->is_kept &&
        keep(claim, status, location, json, &err) < 0)
        log_with(LOG_LEVEL_WARNING, LOG_REQUEST(req->id),
                 "an answer is not kept under its idempotency key: %s", err.text);
    take_out(claim);
    claim_free(claim);
}

/* ---- beginning ---- */

static bool is_key(const char *key)
{
    size_t n = strlen(key);

    for (size_t i = 0; i < n; i++)
        if (key[i] < '!' || key[i] > '~')
            return false;
    return n > 0 && n <= MAX_KEY;
}

static struct claim *claim_new(struct http_request *req, const char *key)
{
    AUTO(claim) claim = calloc(1, sizeof(*claim));
    AUTO_PTR char *body = json_canonical(req->json);

    if (!claim || !body)
        return NULL;
    claim->req = req;
    claim->app = req->app;
    claim->owner = strdup(req->caller.owner);
    claim->path = strdup(req->route->path);
    claim->key = strdup(key);
    sha256_of(body, strlen(body), claim->body);
    return claim->owner && claim->path && claim->key ? TAKE(claim) : NULL;
}

static void replay(struct http_request *req, struct idempotency_answer *answer)
{
    http_reply_header(req, "Idempotency-Replayed", "true");
    if (answer->location)
        http_reply_header(req, "Location", "%s", answer->location);
    http_reply_bytes(req, answer->status, "application/json", answer->answer,
                     strlen(answer->answer));
    answer->answer = NULL; /* taken */
}

/* There is an answer under the key.  True: its resource is gone, so go on. */
static bool use_answer(struct http_request *req, struct claim *claim,
                       struct idempotency_answer *answer,
                       bool (*exists)(struct app *app, const char *location))
{
    const struct idempotency_name name = name_of(claim);
    struct pt2_err err = {0};

    if (exists && answer->location && !exists(req->app, answer->location)) {
        if (idempotency_db_remove(req->app->store, &name, &err) == 0)
            return true;
        http_reply_err(req, &err);
    } else if (memcmp(answer->body, claim->body, SHA256_BYTES) != 0) {
        http_reply_problem(req, PT2_ERR_IDEMPOTENCY_MISMATCH,
                           "Idempotency-Key '%s' was used with another body", claim->key);
    } else {
        claim->is_kept = true;
        replay(req, answer);
    }
    return false;
}

static bool has_room(struct http_request *req, const struct claim *claim)
{
    int64_t max = config_get_int(req->app->config, "http.max_idempotency_keys");
    struct pt2_err err = {0};

    if (idempotency_db_check_room(req->app->store, claim->owner, max, &err) == 0)
        return true;
    if (err.code == PT2_ERR_TOKEN_LIMIT)
        metrics_add(METRIC_HTTP_REFUSED, 1, METRICS_LABELS("idempotency-keys"));
    http_reply_err(req, &err);
    return false;
}

static bool look_up(struct http_request *req, struct claim *claim,
                    bool (*exists)(struct app *app, const char *location))
{
    const struct idempotency_name name = name_of(claim);
    struct idempotency_answer answer = {0};
    struct pt2_err err = {0};
    bool found, go_on = true;

    if (idempotency_db_find(req->app->store, &name, &found, &answer, &err) < 0) {
        http_reply_err(req, &err);
        return false;
    }
    if (found)
        go_on = use_answer(req, claim, &answer, exists);
    idempotency_answer_done(&answer);
    return go_on && (found || has_room(req, claim));
}

bool idempotency_begin(struct http_request *req,
                       bool (*exists)(struct app *app, const char *location))
{
    const char *key = http_header(req, "Idempotency-Key");
    struct claim *claim;

    if (!key)
        return true;
    if (!is_key(key)) {
        http_reply_problem(req, PT2_ERR_BAD_REQUEST,
                           "Idempotency-Key: 1 to %d visible ASCII characters are due",
                           MAX_KEY);
        return false;
    }
    claim = claim_new(req, key);
    if (!claim) {
        http_reply_problem(req, PT2_ERR_NOMEM, "an idempotency key");
        return false;
    }
    if (!insert(claim)) {
        http_reply_header(req, "Retry-After", "1");
        http_reply_problem(req, PT2_ERR_IDEMPOTENCY_BUSY,
                           "the first request with Idempotency-Key '%s' still runs", key);
        claim_free(claim);
        return false;
    }
    http_on_reply(req, on_reply, claim);
    return look_up(req, claim, exists);
}
