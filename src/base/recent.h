/* recent.h - how often something happened within the last minute, and how long it took.
 *
 * The durations of the last RECENT_MAX events are kept, so rates up to RECENT_MAX a minute and
 * all quantiles are exact; of faster ones the rate counts by seconds, and the quantiles
 * are those of the last RECENT_MAX.  One thread at a time: the owner's lock. */
#ifndef BASE_RECENT_H
#define BASE_RECENT_H

#include "base/util.h"

#define RECENT_MAX       2048
#define RECENT_SECONDS   60
#define RECENT_QUANTILES 3 /* 0.5, 0.9, 0.99 */

struct recent {
    size_t next; /* the place of the next event */
    int64_t at_ns[RECENT_MAX];
    float took_s[RECENT_MAX];
    int64_t second[RECENT_SECONDS]; /* that the count is of */
    uint32_t count[RECENT_SECONDS];
};

/* now_ns is monotonic and above 0. */
void recent_add(struct recent *recent, int64_t now_ns, double took_s);
/* What lies less than a minute back.  Without an event all are 0. */
void recent_read(const struct recent *recent, int64_t now_ns, double *ret_per_second,
                 double ret_quantiles[RECENT_QUANTILES]);

#endif
