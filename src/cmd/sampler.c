#include "cmd/sampler.h"

#include <math.h>

void sampler_init(struct sampler *s, double temperature, uint64_t seed)
{
    *s = (struct sampler){.temperature = temperature, .state = seed};
}

/* SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
 */
static uint64_t next(struct sampler *s)
{
    uint64_t z = s->state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static double weight(const struct sampler *s, double logprob, double best)
{
    return isfinite(logprob) ? exp((logprob - best) / s->temperature) : 0;
}

size_t sampler_choose(struct sampler *s, const double *logprobs, size_t n)
{
    double sum = 0, point;
    size_t last = 0;

    if (!(s->temperature > 0))
        return 0;
    for (size_t i = 0; i < n; i++)
        sum += weight(s, logprobs[i], logprobs[0]);
    point = (double)(next(s) >> 11) * 0x1p-53 * sum;
    for (size_t i = 0; i < n; i++) {
        double w = weight(s, logprobs[i], logprobs[0]);

        if (w > 0)
            last = i;
        if (point < w)
            return i;
        point -= w;
    }
    return last; /* rounding ate the rest */
}
