/* fsck_part.h - what a part of fsck may ask, and how it says what it found (fsck.h).
 *
 * For the files of fsck and for the parts of layers above the store, which run while the state
 * directory is held and after the store has looked at what is its own.  One thread. */
#ifndef STORE_FSCK_PART_H
#define STORE_FSCK_PART_H

#include "store/fsck.h"

enum fsck_kind { FSCK_LEFTOVER, FSCK_PROBLEM };

/* "<what was found>: <done>".  done NULL: nothing was done. */
void fsck_found(struct fsck *f, enum fsck_kind kind, const char *done, const char *fmt, ...)
    PT2_PRINTF(4, 5);
/* Remove a leftover where repairing, and say so. */
void fsck_leftover(struct fsck *f, const char *folder, const char *name, const char *why);
/* A problem: what is wrong with a file, which goes to STATE/lost+found where repairing.
 * Errors: IO, NO_SPACE. */
MUST_USE int fsck_put_aside(struct fsck *f, const char *folder, const char *name,
                            const char *why, struct pt2_err *err);
void fsck_count_file(struct fsck *f, uint64_t bytes);

/* The state directory. */
const char *fsck_state_dir(const struct fsck *f);
/* *ret_is_there: the store has a program of that id, and found nothing wrong with it; also where
 * its rows can't be read.  Errors: IO. */
MUST_USE int fsck_has_program(struct fsck *f, const char *id, bool *ret_is_there,
                              struct pt2_err *err);

#endif
