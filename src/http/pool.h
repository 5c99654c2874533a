/* pool.h - a few threads for work that may block, behind a bounded queue.  The metric of
 * their length counts what waits in all of them.
 *
 * Any thread may push. */
#ifndef HTTP_POOL_H
#define HTTP_POOL_H

#include "base/util.h"

#include <pt2/err.h>

struct pool;

/* A piece of work; is_stopping: do no more than answer.  Called once for each push that
 * succeeded. */
typedef void pool_fn(void *arg, bool is_stopping);

struct pool_options {
    const char *name; /* of its threads, up to 15 bytes */
    unsigned n_threads;
    int nice; /* added to the niceness of its threads */
    size_t max_queue;
};

/* Errors: NOMEM, IO (threads). */
MUST_USE int pool_new(const struct pool_options *options, struct pool **ret_pool,
                      struct pt2_err *err);
/* Call what is queued with is_stopping, wait for what runs, end the threads.  Later
 * pushes fail with DRAINING. */
void pool_stop(struct pool *pool);
void pool_free(struct pool *pool);

/* Have fn(arg) called on a thread of the pool.  must_fit: also beyond the queue's length,
 * for work whose amount is bounded elsewhere.  Errors: QUEUE_FULL, DRAINING, NOMEM. */
MUST_USE int pool_push(struct pool *pool, pool_fn *fn, void *arg, bool must_fit,
                       struct pt2_err *err);

#endif
