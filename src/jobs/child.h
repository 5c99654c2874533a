/* child.h - one `pt2-export` process that works for a job: JSON in, JSON lines out, an end.
 *
 * It may have a memory limit and a sandbox, and dies with us.  Whatever it does (crash,
 * hang, babble) ends as one of four outcomes.  For the thread that runs it. */
#ifndef JOBS_CHILD_H
#define JOBS_CHILD_H

#include "base/util.h"

#include <jansson.h>
#include <pt2/err.h>

struct child_task {
    const char *what;        /* for messages: "the export worker" */
    const char *path;        /* of the program */
    const char *const *argv; /* NULL at the end */
    const char *input;       /* JSON text, for its standard input */
    int64_t begun_ms, timeout_ms; /* clock_mono_ms; it is stopped so long after */
    uint64_t max_address_bytes;   /* 0: no limit */
    unsigned deny;                /* enum sandbox_deny */
    int nice;
    int stop_fd; /* readable: stop the child; an eventfd, borrowed */
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
