/* record.h - what a verification says of itself, in a job and in the archive
 * (doc/verifying.md).  Any thread. */
#ifndef VERIFY_RECORD_H
#define VERIFY_RECORD_H

#include "base/sha256.h"
#include "verify/verify.h"

#include <jansson.h>
#include <pt2/export.h>

/* A job's `verify`: {"tokens", "batch_size", "seed", "dtype", "reference",
 * "largest_difference", "largest_logit", "runs": {...}, "seconds"}.
 * new; NULL: out of memory. */
json_t *verify_result_json(const struct verify_result *result, double seconds);

/* The text of PT2_VERIFY_RECORD: the same result without what a machine or the time of day
 * changes.  program: digest of the archive without the record. */
void verify_record_text(const struct verify_result *result,
                        const uint8_t program[SHA256_BYTES],
                        char ret_text[PT2_VERIFY_RECORD_BYTES]);

/* The seed that goes with a program: the first four bytes of its digest. */
uint32_t verify_seed(const uint8_t program[SHA256_BYTES]);

#endif
