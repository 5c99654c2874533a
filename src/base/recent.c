#include "base/recent.h"

#define NS ((int64_t)1000000000)

void recent_add(struct recent *recent, int64_t now_ns, double took_s)
{
    int64_t second = now_ns / NS;
    size_t slot = (size_t)(second % RECENT_SECONDS);

    recent->at_ns[recent->next] = now_ns;
    recent->took_s[recent->next] = (float)took_s;
    recent->next = (recent->next + 1) % RECENT_MAX;
    if (recent->second[slot] != second)
        recent->count[slot] = 0;
    recent->second[slot] = second;
    recent->count[slot]++;
}

static int compare(const void *a, const void *b)
{
    float left = *(const float *)a, right = *(const float *)b;

    return (left > right) - (left < right);
}

void recent_read(const struct recent *recent, int64_t now_ns, double *ret_per_second,
                 double ret_quantiles[RECENT_QUANTILES])
{
    static const double parts[RECENT_QUANTILES] = {0.5, 0.9, 0.99};
    float took[RECENT_MAX];
    double count = 0;
    size_t n = 0;

    for (size_t i = 0; i < RECENT_SECONDS; i++)
        if (recent->count[i] > 0 && recent->second[i] > now_ns / NS - RECENT_SECONDS)
            count += recent->count[i];
    for (size_t i = 0; i < RECENT_MAX; i++)
        if (recent->at_ns[i] > 0 && recent->at_ns[i] > now_ns - RECENT_SECONDS * NS)
            took[n++] = recent->took_s[i];
    qsort(took, n, sizeof(*took), compare);
    *ret_per_second = count / RECENT_SECONDS;
    for (size_t i = 0; i < RECENT_QUANTILES; i++)
        ret_quantiles[i] = n ? (double)took[(size_t)((double)(n - 1) * parts[i])] : 0;
}
