#include "base/log.h"
#include "base/metrics.h"
#include "serve/impl.h"

/* An owner who has sessions; there is none of "", which has no limit. */
struct holder {
    struct holder *next;
    unsigned n_sessions;
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

int holders_add_locked(struct serve *serve, const char *owner, unsigned max,
                       struct pt2_err *err)
{
    struct holder **at;

    if (!owner || !*owner)
        return 0;
    at = find_locked(serve, owner);
    if (*at && max && (*at)->n_sessions >= max) {
        metrics_add(METRIC_HTTP_REFUSED, 1, METRICS_LABELS("sessions"));
        return pt2_err_set(err, PT2_ERR_TOKEN_LIMIT,
                           "'%s' has %u sessions, and may have %u", owner,
                           (*at)->n_sessions, max);
    }
    if (!*at) {
        *at = calloc(1, sizeof(**at));
        if (!*at)
            return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for a session");
        snprintf((*at)->owner, sizeof((*at)->owner), "%s", owner);
    }
    (*at)->n_sessions++;
    return 0;
}

void holders_remove_locked(struct serve *serve, const char *owner)
{
    struct holder **at, *holder;

    if (!owner || !*owner)
        return;
    at = find_locked(serve, owner);
    holder = *at;
    ASSERT(holder);
    if (--holder->n_sessions > 0)
        return;
    *at = holder->next;
    free(holder);
}

void holders_done(struct serve *serve)
{
    while (serve->holders) {
        struct holder *next = serve->holders->next;

        free(serve->holders);
        serve->holders = next;
    }
}
