/* export_file.h - the file that pt2-export writes: under a temporary name beside its own,
 * renamed when it is whole, removed when it does not become so, also by a signal.  A
 * worker, which can neither rename nor remove once it is sandboxed, writes in place: its
 * file has a temporary name already, and the daemon removes it.
 *
 * One at a time in a process. */
#ifndef CMD_EXPORT_FILE_H
#define CMD_EXPORT_FILE_H

#include "base/util.h"

#include <pt2/err.h>

/* *ret_fd is borrowed; export_file_finish or export_file_drop closes it.
 * Errors: INVALID (path is there, and is no regular file), IO, NO_SPACE, NOMEM. */
MUST_USE int export_file_begin(const char *path, int *ret_fd, struct pt2_err *err);
/* The same in place, anew; after export_file_drop it is empty.  Errors: those. */
MUST_USE int export_file_begin_in_place(const char *path, int *ret_fd,
                                        struct pt2_err *err);
/* A file for what is needed on the way, beside that path, which goes when *ret_fd is closed
 * (new) or the process ends.  Errors: IO, NO_SPACE, NOMEM. */
MUST_USE int export_file_unnamed(const char *path, int *ret_fd, struct pt2_err *err);
/* Where it lies until then, not in place; borrowed. */
const char *export_file_path(void);
/* Give it its name; sync: file and, where it got a name, folder are on the disk
 * afterwards. */
MUST_USE int export_file_finish(bool sync, struct pt2_err *err);
/* Remove it; nothing where none was begun. */
void export_file_drop(void);

#endif
