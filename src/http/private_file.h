/* private_file.h - a file of the operator's that others may not get at: tokens, a key.
 *
 * It must be a regular one that its owner alone may write and that is closed to others, as
 * mode 0600 or 0640.  Any thread. */
#ifndef HTTP_PRIVATE_FILE_H
#define HTTP_PRIVATE_FILE_H

#include "base/util.h"

#include <pt2/err.h>

/* Open it to read; *ret_fd is new.  Errors: NOT_FOUND, IO, INVALID (the mode). */
MUST_USE int private_file_open(const char *path, int *ret_fd, struct pt2_err *err);

#endif
