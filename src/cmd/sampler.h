/* sampler.h - choose the next token among the likeliest.
 *
 * The same seed and the same probabilities give the same tokens on any machine.  One
 * thread at a time. */
#ifndef CMD_SAMPLER_H
#define CMD_SAMPLER_H

#include "base/util.h"

struct sampler {
    double temperature; /* 0: always the likeliest */
    uint64_t state;
};

void sampler_init(struct sampler *s, double temperature, uint64_t seed);

/* The place of the choice among n >= 1 log-probabilities (any base line: only differences
 * count), the likeliest first.  Those that are no numbers are never chosen. */
size_t sampler_choose(struct sampler *s, const double *logprobs, size_t n);

#endif
