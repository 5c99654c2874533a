/* output.h - where a command may write a file that somebody named.
 *
 * A regular file is written under a temporary name and renamed when it is whole; what is
 * no regular file is never renamed over.  A device or a pipe (/dev/null, /dev/stdout, a
 * FIFO) is a stream: opened and written through, whole or not.  A link is followed: its
 * target is replaced and the link stays.  Folders, sockets, block devices and links to
 * nothing are refused.
 *
 * Any thread, but for output_claim_stdout: main, before anything is printed. */
#ifndef BASE_OUTPUT_H
#define BASE_OUTPUT_H

#include "base/util.h"

#include <pt2/err.h>

struct output {
    char *path;     /* owned; the file itself, links followed */
    bool is_stream; /* write through; otherwise a temporary file and output_rename */
    bool is_stdout; /* a stream that standard output writes to as well */
};

/* Look at path.  Errors: IO (what can not be written, why), NOMEM. */
MUST_USE int output_find(const char *path, struct output *ret_output,
                         struct pt2_err *err);
void output_done(struct output *output);

/* Open a stream; *ret_fd is new.  With wait false a FIFO that nobody reads is an error,
 * otherwise the call waits for a reader.  Errors: IO. */
MUST_USE int output_open_stream(const struct output *output, bool wait, int *ret_fd,
                                struct pt2_err *err);

/* Rename the whole temporary file to output->path, where nothing or a regular file is.
 * Errors: IO. */
MUST_USE int output_rename(const struct output *output, const char *temporary,
                           struct pt2_err *err);

/* The stream is standard output: keep that for the bytes and let what is printed go to
 * standard error. Then output_open_stream gives it.  Nothing where it is another. */
MUST_USE int output_claim_stdout(const struct output *output, struct pt2_err *err);

#endif
