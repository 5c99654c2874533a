/* cache_file.h - a session's cache as a safetensors file: written, and read back.
 *
 * The format is that of github.com/huggingface/safetensors: eight bytes of header length,
 * a JSON header, the tensors' bytes.  Each buffer stands there under its name in the
 * program, cut to the positions written so far along the dimension that holds them; the
 * metadata are {"program": <id>, "position": "<n>"}.  Reading takes exactly the buffers
 * that the program has, or those of a cache of PT2_INT8 (pt2/engine.h), whatever the session's
 * is.  The runner's thread only. */
#ifndef SERVE_CACHE_FILE_H
#define SERVE_CACHE_FILE_H

#include "base/util.h"

#include <pt2/engine.h>

#define CACHE_FILE_MAX_HEADER (1 << 20) /* bytes */

/* *ret_file is new, *ret_size bytes, which reserve is asked for before they are taken; NULL:
 * they are there.  Errors: NOMEM, those of reserve. */
MUST_USE int cache_file_write(struct pt2_cache *cache, const char *program,
                              int64_t position,
                              int (*reserve)(void *context, uint64_t bytes,
                                             struct pt2_err *err),
                              void *context, char **ret_file, size_t *ret_size,
                              struct pt2_err *err);

/* Check the whole file, then fill the buffers; positions beyond the file's stay as they
 * are.  In between, reserve is asked for the memory of so many positions (pt2_cache_growth);
 * NULL: it is there.
 * Errors: INVALID (the text names the part), OTHER_PROGRAM, NOMEM, those of reserve; the
 * cache is then untouched. */
MUST_USE int cache_file_read(const char *file, size_t size, struct pt2_cache *cache,
                             const char *program, int64_t max_cache_len,
                             int (*reserve)(void *context, int64_t position,
                                            struct pt2_err *err),
                             void *context, int64_t *ret_position, struct pt2_err *err);

#endif
