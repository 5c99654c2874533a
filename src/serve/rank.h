/* rank.h - the best of a row of logits.  Pure; any thread. */
#ifndef SERVE_RANK_H
#define SERVE_RANK_H

#include "base/util.h"

/* The k largest of n logits (k <= n), best first: their places, and their logarithms of
 * softmax over the whole row, computed in double.  Equal ones: the lower place first; NaN
 * comes after all numbers (and makes every logarithm NaN). */
void rank_top(const float *logits, size_t n, size_t k, int64_t *ret_ids,
              double *ret_logprobs);

#endif
