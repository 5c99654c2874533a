#include "base/metrics.h"
#include "serve/impl.h"

int budget_reserve(struct runner *r, struct session *s, uint64_t bytes,
                   struct pt2_err *err)
{
    struct serve *serve = r->serve;
    uint64_t max = serve->options.max_cache_bytes;
    int ret = 0;

    pthread_mutex_lock(&serve->lock);
    while (bytes <= max && bytes > max - MIN(max, serve->cache_bytes) &&
           spill_make_room_locked(r))
        ;
    if (bytes > max - MIN(max, serve->cache_bytes)) {
        metrics_add(METRIC_SESSIONS_REFUSED, 1, METRICS_LABELS("memory"));
        ret =
            pt2_err_set(err, PT2_ERR_BUDGET,
                        "a cache needs %llu bytes more, and %llu of %llu are in use",
                        (unsigned long long)bytes, (unsigned long long)serve->cache_bytes,
                        (unsigned long long)max);
    } else {
        serve->cache_bytes += bytes;
        r->cache_bytes += bytes;
        if (s)
            s->cache_bytes += bytes;
    }
    pthread_mutex_unlock(&serve->lock);
    return ret;
}

void budget_settle_locked(struct runner *r)
{
    uint64_t bytes = runner_cache_bytes(r);

    r->serve->cache_bytes += bytes - r->cache_bytes;
    r->cache_bytes = bytes;
}

/* What it was promised, less what it shares with its forks: the next settling counts. */
void budget_give_back_locked(struct session *s)
{
    uint64_t bytes = MIN(s->cache_bytes, s->runner->cache_bytes);

    s->runner->cache_bytes -= bytes;
    s->runner->serve->cache_bytes -= bytes;
    s->cache_bytes = 0;
}

void budget_freed_locked(struct runner *r, uint64_t before)
{
    uint64_t now = runner_cache_bytes(r), freed = before - MIN(before, now);

    freed = MIN(freed, r->cache_bytes);
    r->cache_bytes -= freed;
    r->serve->cache_bytes -= freed;
}
