/* fsck.h - is all that the state directory keeps as the daemon left it?
 *
 * The database (its pages, references, version), each object against its digest and row, rows
 * without objects and objects without rows, what was under way in tmp, and files that came for
 * models against their digests.  A state directory that a daemon holds is refused.
 *
 * Two kinds of finding.  A leftover is what every start clears away (store.md, "A start"); it is
 * no problem.  A problem is what a start does not cure.  Repairing removes leftovers, forgets
 * programs whose file is damaged or gone, with their builds, aliases and .pte files, so that an
 * export makes them again, and moves damaged files to lost+found.
 *
 * What other layers keep in there is looked at by parts of theirs (fsck_part.h).
 *
 * One thread. */
#ifndef STORE_FSCK_H
#define STORE_FSCK_H

#include "base/util.h"

#include <pt2/err.h>

/* Errors: IO, NO_SPACE, NOMEM: it can't go on. */
struct fsck;
typedef int fsck_part(struct fsck *f, struct pt2_err *err);

struct fsck_options {
    const char *state_dir;
    const char *models_dir; /* "": models in the state directory */
    bool repair;            /* otherwise nothing is written */
    void (*say)(void *ctx, const char *line); /* what was found, and what was done */
    void *ctx;
    fsck_part *const *parts; /* of other layers, n_parts of them; called last, in order */
    size_t n_parts;
};

struct fsck_result {
    size_t n_files; /* that were read */
    uint64_t bytes;
    size_t n_problems, n_leftovers;
    size_t n_repaired; /* of both */
    size_t n_left;     /* problems */
};

/* Errors: IO (a daemon holds the directory, there is no database, it is of a later version),
 * NO_SPACE, NOMEM. */
MUST_USE int fsck_run(const struct fsck_options *options, struct fsck_result *ret_result,
                      struct pt2_err *err);

#endif
