#include "base/largest.h"

#include <algorithm>

static bool is_larger(const struct ranked &a, const struct ranked &b)
{
    return (a.value != a.value && b.value == b.value) || a.value > b.value;
}

void largest_first(struct ranked *items, size_t n, size_t k, bool is_sorted)
{
    if (k * 64 <= n) {
        std::partial_sort(items, items + k, items + n, is_larger);
        return;
    }
    std::nth_element(items, items + k - 1, items + n, is_larger);
    if (is_sorted)
        std::sort(items, items + k - 1, is_larger);
}
