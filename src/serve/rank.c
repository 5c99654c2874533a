#include "serve/rank.h"

#include <math.h>

static bool is_better(const float *logits, int64_t a, int64_t b)
{
    float x = logits[a], y = logits[b];

    if (isnan(x) || isnan(y))
        return isnan(x) && isnan(y) ? a < b : isnan(y);
    return x != y ? x > y : a < b;
}

/* Restore the heap below place i: the worst of the kept is at its root. */
static void sift_down(const float *logits, int64_t *heap, size_t n, size_t i)
{
    while (2 * i + 1 < n) {
        size_t child = 2 * i + 1;
        int64_t swap;

        if (child + 1 < n && is_better(logits, heap[child], heap[child + 1]))
            child++;
        if (!is_better(logits, heap[i], heap[child]))
            return;
        swap = heap[i];
        heap[i] = heap[child];
        heap[child] = swap;
        i = child;
    }
}

/* log(sum(exp(x))), without overflow. */
static double log_sum_exp(const float *logits, size_t n)
{
    double sum = 0, max = -INFINITY;

    for (size_t i = 0; i < n; i++)
        if (logits[i] > max)
            max = logits[i];
    for (size_t i = 0; i < n; i++)
        sum += exp((double)logits[i] - max);
    return max + log(sum);
}

void rank_top(const float *logits, size_t n, size_t k, int64_t *ret_ids,
              double *ret_logprobs)
{
    double all = k > 0 ? log_sum_exp(logits, n) : 0;

    for (size_t i = 0; i < k; i++)
        ret_ids[i] = (int64_t)i;
    for (size_t i = k / 2; i-- > 0;)
        sift_down(logits, ret_ids, k, i);
    for (size_t i = k; i < n && k > 0; i++) {
        if (!is_better(logits, (int64_t)i, ret_ids[0]))
            continue;
        ret_ids[0] = (int64_t)i;
        sift_down(logits, ret_ids, k, 0);
    }
    /* The worst goes last, again and again. */
    for (size_t left = k; left > 1; left--) {
        int64_t worst = ret_ids[0];

        ret_ids[0] = ret_ids[left - 1];
        ret_ids[left - 1] = worst;
        sift_down(logits, ret_ids, left - 1, 0);
    }
    for (size_t i = 0; i < k; i++)
        ret_logprobs[i] = (double)logits[ret_ids[i]] - all;
}
