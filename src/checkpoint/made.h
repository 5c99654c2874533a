/* made.h - any bytes of a tensor whose float32 values are made while it is read.
 *
 * Pure but for what the maker reads; any thread. */
#ifndef CHECKPOINT_MADE_H
#define CHECKPOINT_MADE_H

#include "checkpoint/files.h"

/* Make n values from value i on. */
typedef int made_values(const void *source, const struct files *files, uint64_t i,
                        size_t n, float *to, struct pt2_err *err);

/* len bytes from offset on, by calls of make for whole values.
 * Errors: make's. */
MUST_USE int made_read(made_values *make, const void *source, const struct files *files,
                       uint64_t offset, void *buf, size_t len, struct pt2_err *err);

#endif
