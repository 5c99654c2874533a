/* folder.h - folders as wholes: make, walk, sync and remove them.
 *
 * Links are never followed.  Any thread; waits for the disk. */
#ifndef BASE_FOLDER_H
#define BASE_FOLDER_H

#include "base/util.h"

#include <pt2/err.h>

/* Make a folder and those above it; what is there already is no error.  Errors: IO. */
MUST_USE int folder_make(const char *path, mode_t mode, struct pt2_err *err);

/* Called for an entry; -1 with err stops the walk. */
typedef int folder_fn(void *ctx, const char *folder, const char *name,
                      struct pt2_err *err);

/* Call each for what lies in a folder, in no order, "." and ".." left out.
 * Errors: IO (it can't be read), and each's own. */
MUST_USE int folder_each(const char *folder, folder_fn *each, void *ctx,
                         struct pt2_err *err);
/* The names in it are on the disk when this returns.  Errors: IO, NO_SPACE. */
MUST_USE int folder_sync(const char *folder, struct pt2_err *err);
/* Remove a file, a link, or a folder with all that is in it, down to 32 levels.  What is
 * not there is no error.  Errors: IO. */
MUST_USE int folder_remove(const char *path, struct pt2_err *err);

#endif
