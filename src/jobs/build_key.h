/* build_key.h - the key under which an export is found again: SHA-256 over the exporter's
 * version, the resolved options, and name and digest of each of the checkpoint's files.
 *
 * Digests are remembered in the files' table, so a key seldom needs more than stat.
 * Any thread; reads files. */
#ifndef JOBS_BUILD_KEY_H
#define JOBS_BUILD_KEY_H

#include "base/sha256.h"
#include "jobs/jobs.h"
#include "store/builds_db.h"
#include "store/store.h"

#include <pt2/checkpoint.h>

/* The key where it takes little reading: all digests are remembered, or the files that
 * are not hold at most max_bytes together.  *ret_found false: it takes more. Errors:
 * CHECKPOINT_CHANGED, IO, NOMEM. */
MUST_USE int build_key_quick(struct store *store, const struct pt2_checkpoint *checkpoint,
                             const char *options, uint64_t max_bytes, bool *ret_found,
                             char ret_key[SHA256_HEX], struct pt2_err *err);

/* The key in any case.  go_on is told how far the reading is, now and then, and answers
 * false to stop it.
 * Errors: CANCELLED (by go_on), CHECKPOINT_CHANGED, IO, NOMEM. */
MUST_USE int build_key(struct store *store, const struct pt2_checkpoint *checkpoint,
                       const char *options,
                       bool (*go_on)(void *ctx, uint64_t done, uint64_t total), void *ctx,
                       char ret_key[SHA256_HEX], struct pt2_err *err);

/* What stat says of the files, as one digest: the same checkpoint, not changed since. */
void build_identity(const struct pt2_checkpoint *checkpoint,
                    char ret_identity[SHA256_HEX]);

/* The build of that key, of a program that is whole: one that is doubted is read first.
 * *ret_build is written only where *ret_found: build_done.  Errors: those of whole_check, but
 * for NOT_FOUND and PROGRAM_DAMAGED. */
MUST_USE int build_find(const struct jobs_parts *parts, const char key[SHA256_HEX],
                        enum whole_wait wait, bool *ret_found, struct build *ret_build,
                        struct pt2_err *err);

#endif
