/* share.c - what a request holds of its client's share (clients.h), until it ends. */
#include "http/exchange.h"

#include "base/metrics.h"

#define SMALL_ANSWER (64 << 10) /* bytes; smaller ones are not counted: doc/bounds.md */

/* Who has his share already is told another problem than where all of it is taken. */
static const struct kind {
    enum metric gauge, refused; /* the latter where all is taken, with the label why */
    const char *why;            /* NULL: it has no labels */
    const char *reason;         /* of METRIC_HTTP_REFUSED, for one client's share */
    enum pt2_error all, own;
    const char *text;           /* "'edge' may have 4 …" */
} kinds[N_HOLDINGS] = {
    [HOLD_BODIES] = {METRIC_HTTP_BODY_BYTES, METRIC_HTTP_BODIES_REFUSED, "memory",
                     "body-memory", PT2_ERR_BUDGET, PT2_ERR_BUDGET,
                     "bytes of memory for the bodies of requests"},
    [HOLD_ANSWERS] = {METRIC_HTTP_ANSWER_BYTES, METRIC_HTTP_ANSWERS_REFUSED, NULL,
                      "answer-memory", PT2_ERR_BUDGET, PT2_ERR_BUDGET,
                      "bytes of memory for answers"},
    [HOLD_UPLOADS] = {METRIC_HTTP_UPLOADS, METRIC_HTTP_BODIES_REFUSED, "uploads",
                      "uploads", PT2_ERR_QUEUE_FULL, PT2_ERR_TOKEN_LIMIT, "uploads"},
    [HOLD_FOLLOWERS] = {METRIC_HTTP_FOLLOWERS, METRIC_HTTP_FOLLOWERS_REFUSED, NULL,
                        "followers", PT2_ERR_QUEUE_FULL, PT2_ERR_TOKEN_LIMIT,
                        "requests that wait for exports' news"},
};

static int refuse_share(struct http_exchange *x, enum holding what, bool is_own,
                        struct pt2_err *err)
{
    const struct kind *kind = &kinds[what];
    unsigned long long share = client_share(x->client, what);

    if (is_own) {
        metrics_add(METRIC_HTTP_REFUSED, 1, METRICS_LABELS(kind->reason));
        return pt2_err_set(err, kind->own, "'%s' may have %llu %s at once",
                           client_name(x->client), share, kind->text);
    }
    metrics_add(kind->refused, 1, kind->why ? METRICS_LABELS(kind->why) : NULL);
    return pt2_err_set(err, kind->all, "all clients together have all %s that there may be",
                       kind->text);
}

static enum held hold(struct http_exchange *x, enum holding what, uint64_t n)
{
    enum held held;

    pthread_mutex_lock(&x->lock);
    held = client_hold(x->client, what, n);
    if (held == HELD)
        x->held[what] += n;
    pthread_mutex_unlock(&x->lock);
    if (held == HELD)
        metrics_add(kinds[what].gauge, (double)n, NULL);
    return held;
}

int share_take(struct http_exchange *x, enum holding what, uint64_t n,
               struct pt2_err *err)
{
    enum held held = hold(x, what, n);

    return held == HELD ? 0 : refuse_share(x, what, held == HELD_SHARE, err);
}

/* What x->held has no more. */
static void let_go(struct http_exchange *x, enum holding what, uint64_t n)
{
    if (n == 0)
        return;
    client_let_go(x->client, what, n);
    metrics_add(kinds[what].gauge, -(double)n, NULL);
}

/* ---- answers ---- */

int http_reserve_answer(struct http_request *req, uint64_t n, struct pt2_err *err)
{
    struct http_exchange *x = exchange_of(req);
    uint64_t max = client_share_of_all(x->client, HOLD_ANSWERS);

    pthread_mutex_lock(&x->lock);
    x->small_answers += n;
    n = x->small_answers < SMALL_ANSWER && !x->held[HOLD_ANSWERS] ? 0 : x->small_answers;
    x->small_answers -= n;
    pthread_mutex_unlock(&x->lock);
    if (n > max)
        return pt2_err_set(err, PT2_ERR_ANSWER_TOO_LARGE,
                           "the answer takes %llu bytes of memory, and all answers together "
                           "may have %llu (http.max_answer_memory)",
                           (unsigned long long)n, (unsigned long long)max);
    return n ? share_take(x, HOLD_ANSWERS, n, err) : 0;
}

int share_answer(struct http_exchange *x, uint64_t len, bool may_refuse,
                 struct pt2_err *err)
{
    uint64_t need = len < SMALL_ANSWER ? 0 : len, has, surplus;

    pthread_mutex_lock(&x->lock);
    has = x->held[HOLD_ANSWERS];
    surplus = has - MIN(has, need);
    x->held[HOLD_ANSWERS] -= surplus;
    pthread_mutex_unlock(&x->lock);
    let_go(x, HOLD_ANSWERS, surplus);
    if (need <= has)
        return 0;
    if (may_refuse)
        return http_reserve_answer(&x->req, need - has, err);
    (void)hold(x, HOLD_ANSWERS, need - has);
    return 0;
}

/* ---- the end ---- */

void share_done(struct http_exchange *x)
{
    for (enum holding what = 0; what < N_HOLDINGS; what++)
        let_go(x, what, x->held[what]);
}

int http_follow(struct http_request *req, struct pt2_err *err)
{
    return share_take(exchange_of(req), HOLD_FOLLOWERS, 1, err);
}
