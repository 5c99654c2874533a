/* export_sandbox.h - what a worker of the daemon gives up before it looks at a checkpoint
 * or an archive.
 *
 * Each is entered once, by the first thread alone, with the output open already: from
 * then on no file can be made, and the one that is written is written by its descriptor.
 * Only workers (--job and its kin) do: a command of a user's reads what the user may. */
#ifndef CMD_EXPORT_SANDBOX_H
#define CMD_EXPORT_SANDBOX_H

#include "base/util.h"

#include <pt2/err.h>

/* Left: reading the files of the checkpoint at path, a folder or a GGUF file, and those
 * that links in that folder lead to.  Errors: IO, INTERNAL. */
MUST_USE int export_sandbox_checkpoint(const char *path, struct pt2_err *err);
/* Left: no file but those that are open.  Errors: INTERNAL. */
MUST_USE int export_sandbox_open_files(struct pt2_err *err);
/* Left: reading and writing the archive at path, and starting engines' workers with their
 * libraries.  Errors: IO, INTERNAL. */
MUST_USE int export_sandbox_verify(const char *path, struct pt2_err *err);

#endif
