/* files_db.h - digests of checkpoint files, remembered by what stat says of them.
 *
 * A file whose device, inode, size, mtime and ctime are the same is taken for the same.
 * So that a file changed within one tick of the file system's clock is never mistaken, a
 * digest is remembered only where the file had been at rest for a while when it was read.
 * Any thread; waits for the database. */
#ifndef STORE_FILES_DB_H
#define STORE_FILES_DB_H

#include "base/sha256.h"
#include "store/store.h"

#include <pt2/checkpoint.h>

/* *ret_found false: not remembered (any more).  Errors: IO. */
MUST_USE int files_db_find(struct store *store, const struct pt2_checkpoint_file *file,
                           uint8_t ret_sha256[SHA256_BYTES], bool *ret_found,
                           struct pt2_err *err);
#define FILES_DB_AT_REST INT64_MAX /* read_ms of a file that nobody can have written */
/* read_ms: when reading it began (clock_unix_ms).  Errors: IO, NO_SPACE. */
MUST_USE int files_db_remember(struct store *store,
                               const struct pt2_checkpoint_file *file,
                               const uint8_t sha256[SHA256_BYTES], int64_t read_ms,
                               struct pt2_err *err);

#endif
