/* out.h - bytes that leave for a file, hashed on a thread of their own meanwhile.
 *
 * What is added is gathered in slices of 1 MiB.  A full slice is written by the caller's
 * thread and hashed by the other one, so the cost is the longer of the two, not their
 * sum; there are four slices, then the caller waits.  At the end of a regular file, whole
 * 64 KiB of zeros become holes.  One thread at a time. */
#ifndef ARCHIVE_OUT_H
#define ARCHIVE_OUT_H

#include "base/sha256.h"
#include "base/util.h"

#include <pt2/err.h>

struct out;

/* new: out_free.  fd is borrowed; -1: bytes are counted, and go nowhere.
 * Errors: NOMEM, INTERNAL (no thread). */
MUST_USE int out_new(int fd, struct out **ret_out, struct pt2_err *err);
/* The same where pos bytes are in the file already; hash holds them, fd stands behind
 * them. */
MUST_USE int out_new_behind(int fd, uint64_t pos, const struct sha256 *hash,
                            struct out **ret_out, struct pt2_err *err);
void out_free(struct out *out);
DEFINE_AUTO(out)

/* Bytes there so far. */
uint64_t out_pos(const struct out *out);

/* Errors: IO, NO_SPACE.  The first one sticks. */
MUST_USE int out_add(struct out *out, const void *data, size_t len, struct pt2_err *err);
/* Count len bytes that nobody has; where fd is -1. */
void out_skip(struct out *out, uint64_t len);
MUST_USE int out_add_zeros(struct out *out, size_t len, struct pt2_err *err);
/* Nobody asks for the digest: none is taken.  Before anything is added. */
void out_no_digest(struct out *out);
/* Write what is left, wait for the digest (zeros where fd is -1 or there is none).  Nothing
 * can be added afterwards. */
MUST_USE int out_finish(struct out *out, uint8_t ret_sha256[SHA256_BYTES],
                        struct pt2_err *err);

#endif
