/* export_verify.h - pt2-export's verification of a file that it wrote: run it, and add the
 * record of that to the archive (doc/verifying.md).  One thread. */
#ifndef CMD_EXPORT_VERIFY_H
#define CMD_EXPORT_VERIFY_H

#include "base/json.h"
#include "base/sha256.h"

#include <pt2/engine.h>

struct export_verify {
    const char *path;
    uint8_t program[SHA256_BYTES]; /* digest of the file as it is */
    enum pt2_dtype dtype;
    int64_t n_tokens;
    struct pt2_engine_options engine;
    void (*progress)(void *ctx, const char *stage, uint64_t done, uint64_t total);
    void *ctx;
};

struct export_verified {
    uint8_t sha256[SHA256_BYTES]; /* of the file with its record */
    uint64_t bytes;
    json_t *result; /* verify_result_json; new */
};

/* What the daemon writes to `pt2-export --verify-job FILE`: {"program", "dtype", "verify",
 * "threads", "max_step_bytes", "step_timeout_s"}.  Errors: INVALID. */
MUST_USE int export_verify_parse(const json_t *body, struct json_problems *problems,
                                 struct export_verify *ret_verify, struct pt2_err *err);

/* Verify, then add the record.  After an error the file is worth nothing.
 * Errors: those of verify_program and pt2_writer_reopen; BAD_ARCHIVE (it is not the file of
 * that digest), NO_SPACE. */
MUST_USE int export_verify(const struct export_verify *verify,
                           struct export_verified *ret_verified, struct pt2_err *err);

#endif
