/* gguf_parts.h - which files a GGUF model is: one, or parts NAME-00001-of-0000N.gguf, the
 * first of which holds the metadata (llama.cpp, gguf-split).
 *
 * One thread at a time. */
#ifndef CHECKPOINT_GGUF_PARTS_H
#define CHECKPOINT_GGUF_PARTS_H

#include "checkpoint/gguf.h"

/* Open the only model in the directory, as files of weights, and read it.  Where there is
 * no *.gguf, nothing is opened.
 * Errors: BAD_CHECKPOINT (more than one model, a part missing or of another count), those
 * of files_open and gguf_read. */
MUST_USE int gguf_open_only(struct gguf *gguf, struct files *files, struct pt2_err *err);
/* The model that file name of the directory is, or is the first part of.  The same
 * errors, and NOT_FOUND. */
MUST_USE int gguf_open_file(struct gguf *gguf, struct files *files, const char *name,
                            struct pt2_err *err);

#endif
