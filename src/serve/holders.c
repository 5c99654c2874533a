#include "base/log.h"
#include "base/metrics.h"
#include "serve/impl.h"

/* An owner who has sessions, or calls that wait; there is none of "", which has no limit. */
struct holder {
    struct holder *next;
    unsigned n_sessions, n_waiting;
    char owner[OWNER_SIZE];
};

/* Where it hangs, or would. */
static struct holder **find_locked(struct serve *serve, const char *owner)
{
    struct holder **at = &serve->holders;

    while (*at && !streq((*at)->owner, owner))
        at = &(*at)->next;
    return at;
}

const char *holders_of(const struct serve_call *call)
{
    return call->holder && *call->holder ? call->holder : call->owner;
}

/* There, or new; NULL: no memory. */
static struct holder *get_locked(struct serve *serve, const char *owner)
{
    struct holder **at = find_locked(serve, owner);

    if (*at)
        return *at;
    *at = calloc(1, sizeof(**at));
    if (*at)
        snprintf((*at)->owner, sizeof((*at)->owner), "%s", owner);
    return *at;
}

static void drop_if_done_locked(struct holder **at)
{
    struct holder *holder = *at;

    if (holder->n_sessions > 0 || holder->n_waiting > 0)
        return;
    *at = holder->next;
    free(holder);
}

int holders_add_locked(struct serve *serve, const char *owner, unsigned max,
                       struct pt2_err *err)
{
    struct holder *holder;

    if (!owner || !*owner)
        return 0;
    holder = get_locked(serve, owner);
    if (!holder)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for a session");
    if (max && holder->n_sessions >= max) {
        metrics_add(METRIC_HTTP_REFUSED, 1, METRICS_LABELS("sessions"));
        return pt2_err_set(err, PT2_ERR_TOKEN_LIMIT,
                           "'%s' has %u sessions, and may have %u", owner,
                           holder->n_sessions, max);
    }
    holder->n_sessions++;
    return 0;
}

void holders_remove_locked(struct serve *serve, const char *owner)
{
    struct holder **at;

    if (!owner || !*owner)
        return;
    at = find_locked(serve, owner);
    ASSERT(*at);
    (*at)->n_sessions--;
    drop_if_done_locked(at);
}

int holders_wait_locked(struct serve *serve, const char *owner, struct pt2_err *err)
{
    unsigned max = serve->options.max_waiting_all, share = max - max / 2;
    struct holder *holder;

    if (!owner || !*owner)
        return 0;
    holder = get_locked(serve, owner);
    if (!holder)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for a call");
    if (holder->n_waiting >= share) {
        metrics_add(METRIC_HTTP_REFUSED, 1, METRICS_LABELS("calls"));
        return pt2_err_set(err, PT2_ERR_TOKEN_LIMIT,
                           "%u calls of '%s' wait, of %u that may", holder->n_waiting,
                           owner, share);
    }
    holder->n_waiting++;
    return 0;
}

void holders_wait_no_more_locked(struct serve *serve, const char *owner)
{
    struct holder **at;

    if (!owner || !*owner)
        return;
    at = find_locked(serve, owner);
    ASSERT(*at);
    (*at)->n_waiting--;
    drop_if_done_locked(at);
}

void holders_done(struct serve *serve)
{
    while (serve->holders) {
        struct holder *next = serve->holders->next;

        free(serve->holders);
        serve->holders = next;
    }
}
