/* largest.h - the k largest of n numbers, in torch's order.
 *
 * Which of equal numbers are taken, and in what order, torch's topk leaves to the standard
 * library's algorithms (aten/src/ATen/native/TopKImpl.h, 2.13); so these are called here too,
 * in the same way.  Pure; any thread. */
#ifndef BASE_LARGEST_H
#define BASE_LARGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ranked {
    float value;
    uint32_t at; /* its place among the numbers */
};

/* Bring the k largest of items to the front, 1 <= k <= n; the largest first where is_sorted.
 * items are as the numbers stand.  A NaN is larger than any number. */
void largest_first(struct ranked *items, size_t n, size_t k, bool is_sorted);

#ifdef __cplusplus
}
#endif

#endif
