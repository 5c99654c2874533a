/* worker.h - the daemon's end of one pt2-aten process.
 *
 * Requests go over one at a time, each with a deadline.  A worker that dies, answers
 * nonsense or does not answer in time is killed and waited for before the call returns,
 * so that it can not write to shared memory any more; then it stays dead and each call is
 * ENGINE_DIED.
 *
 * One thread at a time. */
#ifndef ENGINE_WORKER_H
#define ENGINE_WORKER_H

#include "base/spawn.h"
#include "engine/wire.h"

struct worker {
    struct spawn_child child;
    int fd;         /* -1: dead */
    int stop_fd;    /* readable: do not wait any longer; -1: none */
    char died[160]; /* how */
};
#define WORKER_NONE                                                                      \
    {                                                                                    \
        .child = SPAWN_NO_CHILD, .fd = -1, .stop_fd = -1                                 \
    }

/* Start the program at path, sandboxed; max_data_bytes bounds its private memory (0: no
 * bound).  init: worker_done.  Errors: IO, NOMEM, INTERNAL. */
MUST_USE int worker_init(struct worker *worker, const char *path, uint64_t max_data_bytes,
                         struct pt2_err *err);
/* Close the socket, upon which it ends by itself; kill it where it does not. */
void worker_done(struct worker *worker);

/* Send request, with fd where that is not -1, and wait for the reply at most timeout_ms,
 * or until stop_fd is readable.
 * A reply whose code is an error that the worker may give becomes err (-1; the worker
 * lives on).  Errors besides: ENGINE_DIED. */
MUST_USE int worker_ask(struct worker *worker, const struct wire_request *request, int fd,
                        int64_t timeout_ms, struct wire_reply *ret_reply,
                        struct pt2_err *err);
/* What it answered can not be: kill it.  Returns -1, err ENGINE_DIED. */
int worker_distrust(struct worker *worker, const char *why, struct pt2_err *err);

/* False where it ended, or closed its socket, though nothing was asked: it is dead then. */
bool worker_is_alive(struct worker *worker);

static inline bool worker_is_dead(const struct worker *worker)
{
    return worker->fd < 0;
}

#endif
