/* list.h - lists of src/pte that grow by one.  One thread at a time. */
#ifndef PTE_LIST_H
#define PTE_LIST_H

#include "base/util.h"

/* Room for one more in *list, a pointer to items of size bytes, which has n of *cap.  False
 * where there is none, or *failed says that something failed before; it says so from then on. */
static inline bool list_grow(bool *failed, void *list, uint32_t n, uint32_t *cap, size_t size)
{
    void **at = list, *bigger;

    if (*failed)
        return false;
    if (n < *cap)
        return true;
    if (*cap > INT32_MAX / 2 || !(bigger = realloc(*at, MAX(*cap * 2, 16u) * size))) {
        *failed = true;
        return false;
    }
    *at = bigger;
    *cap = MAX(*cap * 2, 16u);
    return true;
}

#endif
