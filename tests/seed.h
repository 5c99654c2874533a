/* seed.h - the seed of a random test: PT2_SEED, printed; 1 where that is not set, so that a
 * gate fails by a change and not by chance.  `make nightly` gives another each time. */
#ifndef TESTS_SEED_H
#define TESTS_SEED_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static inline uint64_t test_seed(void)
{
    const char *text = getenv("PT2_SEED");
    uint64_t seed = text && *text ? strtoull(text, NULL, 0) : 1;

    printf("PT2_SEED=%" PRIu64 "\n", seed);
    fflush(stdout);
    return seed;
}

#endif
