/* child.h - one `pt2-export --job` process: options in, JSON lines out, an end.
 *
 * The child gets the model's folder and the file to write as arguments and the options on
 * standard input; it has no network, a memory limit, and dies with us.  Whatever it does
 * (crash, hang, babble) ends as one of four outcomes.  For the thread that runs it. */
#ifndef JOBS_CHILD_H
#define JOBS_CHILD_H

#include "base/util.h"

#include <jansson.h>
#include <pt2/err.h>

struct child_task {
    const char *export_path; /* pt2-export */
    const char *model_dir, *output;
    const char *options; /* JSON text */
    int64_t timeout_ms;
    uint64_t max_memory_bytes; /* 0: no limit */
    int stop_fd;               /* readable: stop the child; an eventfd, borrowed */
    /* A {"progress": …} line; stage is a short plain word. */
    void (*progress)(void *ctx, const char *stage, int64_t done, int64_t total);
    void *ctx;
};

enum child_outcome {
    CHILD_DONE,    /* result: the {"result": …} object, exit 0 */
    CHILD_REFUSED, /* result: the {"error": …} problem object, exit 1 */
    CHILD_DIED,    /* text: how, with the end of what it wrote to standard error */
    CHILD_STOPPED, /* because stop_fd said so */
};

struct child_end {
    enum child_outcome outcome;
    json_t *result; /* child_end_done */
    char text[400];
};

/* Run the child to its end.  It is gone when this returns, -1 included.
 * Errors: IO (it can't be started), NOMEM, INTERNAL. */
MUST_USE int child_run(const struct child_task *task, struct child_end *ret_end,
                       struct pt2_err *err);
void child_end_done(struct child_end *end);

#endif
