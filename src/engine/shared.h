/* shared.h - memory that the daemon makes and a worker maps: a memfd of sealed size.
 *
 * Neither side can cut it short under the other.  The descriptor is needed only until the
 * worker has it, so that a thousand caches do not hold a thousand descriptors.
 *
 * One thread at a time for each struct. */
#ifndef ENGINE_SHARED_H
#define ENGINE_SHARED_H

#include "base/util.h"

#include <pt2/err.h>

struct shared {
    void *data;    /* NULL: none; zeros at first */
    uint64_t size; /* bytes */
    int fd;        /* -1 once closed */
};
#define SHARED_NONE                                                                      \
    {                                                                                    \
        .fd = -1                                                                         \
    }

/* name shows in /proc/PID/maps.  init: shared_done.
 * Errors: NOMEM (no memory, no address space, no descriptor). */
MUST_USE int shared_init(struct shared *shared, const char *name, uint64_t size,
                         struct pt2_err *err);
/* Map one that another process made; fd is borrowed and not kept.
 * Errors: INVALID (of another size, or its size is not sealed), NOMEM. */
MUST_USE int shared_map(struct shared *shared, int fd, uint64_t size,
                        struct pt2_err *err);
void shared_close_fd(struct shared *shared);
/* Give the pages back; they read as zeros afterwards. */
void shared_drop_pages(struct shared *shared);
void shared_done(struct shared *shared);

#endif
