/* initial.h - the first contents of session buffers, read from the archive.
 *
 * One thread at a time. */
#ifndef ENGINE_INITIAL_H
#define ENGINE_INITIAL_H

#include "engine/layout.h"

/* For each buffer of the layout its bytes, contiguous, or NULL for zeros; new: free with
 * initial_free.  Errors: BAD_ARCHIVE (no payload of that name, dtype and shape), LIMIT,
 * NOMEM. */
MUST_USE int initial_read(const struct pt2_archive *archive, const struct layout *layout,
                          void ***ret_initial, struct pt2_err *err);
void initial_free(void **initial, const struct layout *layout);

#endif
