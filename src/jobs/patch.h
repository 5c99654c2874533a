/* patch.h - a change of a job's state: the same to its row in the table and in memory.
 *
 * Written to the table first (any transaction of the caller's), applied to the struct
 * once that is durable.  The holder of `change`. */
#ifndef JOBS_PATCH_H
#define JOBS_PATCH_H

#include "jobs/impl.h"

struct patch {
    enum job_state state;
    int attempts; /* added: 1 for a run begun, -1 for one handed back */
    bool cached;
    const char *program;    /* borrowed, as the texts below; NULL: as it was */
    const char *deviations; /* JSON array */
    const char *error;      /* JSON problem */
    const char *verify;     /* JSON object */
    const char *pte;        /* JSON object */
    int64_t now_ms;         /* patch_begin */
};

void patch_begin(struct patch *patch, enum job_state state);
/* The row in the table as it will be; row itself stays.  Errors: IO, NO_SPACE. */
MUST_USE int patch_write(const struct patch *patch, struct store *store,
                         const struct job_row *row, struct pt2_err *err);
/* The same for each job of a run, as one transaction. */
MUST_USE int patch_write_all(const struct patch *patch, struct store *store,
                             const struct run *run, struct pt2_err *err);
/* The struct; without memory for a text, that text stays as it was.  Both locks. */
void patch_apply(const struct patch *patch, struct job *job);

#endif
