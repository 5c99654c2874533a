/* unfinished.h - files of models that come by several requests, each from where the one
 * before it ended.
 *
 *     DIR/.uploads/unfinished/ID/OWNER-NAME
 *                        what has come so far; OWNER is the SHA-256 of the owner's name
 *
 * The file's size is the offset.  A file that no request writes is on the disk, so an
 * offset that was told holds: upload_pause syncs before it lets go, and a start syncs
 * what a killed daemon left.  One request at a time writes a file.  Nobody but its owner
 * finds it.  What nobody adds to for the ttl is removed when the next one begins or a file
 * comes, and at a start.
 *
 * upload_write, upload_finish and upload_drop (uploads.h) take such an upload too.  Any
 * thread, a struct upload one at a time; waits for the disk. */
#ifndef STORE_UNFINISHED_H
#define STORE_UNFINISHED_H

#include "store/uploads.h"

#define UNFINISHED_MAX 100 /* of all owners and models; half of them of one owner's */

/* Go on with a file at offset; 0 begins one where there is none.  expected_bytes follow
 * (0: it is not known).  *ret_upload, which has no file yet, may not be moved, and is to
 * be dropped also on failure.
 * *ret_offset: -1, or with CONFLICT the offset that would be right (-1: another request
 * writes the file now).
 * Errors: as upload_begin; CONFLICT, QUEUE_FULL (UNFINISHED_MAX), TOKEN_LIMIT (half of that,
 * of owner; not of ""), NO_SPACE (also beyond models.max_unfinished_bytes). */
MUST_USE int upload_resume(struct uploads *uploads, const char *owner, const char *id,
                           const char *name, uint64_t offset, uint64_t expected_bytes,
                           struct upload *ret_upload, int64_t *ret_offset,
                           struct pt2_err *err);
/* The request ends and the file does not: what came is on the disk, and others may go on
 * from *ret_offset.  Of an upload that is at its end already: nothing.
 * Errors: CONFLICT (it was deleted meanwhile), IO and NO_SPACE (it is lost). */
MUST_USE int upload_pause(struct upload *upload, uint64_t *ret_offset,
                          struct pt2_err *err);

/* How much of it is there?  Errors: INVALID (id, name), NOT_FOUND, CONFLICT (a request
 * writes it now), IO. */
MUST_USE int unfinished_find(struct uploads *uploads, const char *owner, const char *id,
                             const char *name, uint64_t *ret_offset, struct pt2_err *err);
/* Remove it.  Errors: the same. */
MUST_USE int unfinished_remove(struct uploads *uploads, const char *owner, const char *id,
                               const char *name, struct pt2_err *err);

struct unfinished_figures {
    size_t n;       /* files, of all owners */
    uint64_t bytes; /* what they have, and what requests that write them may still bring */
};
/* Errors: IO. */
MUST_USE int unfinished_measure(struct uploads *uploads,
                                struct unfinished_figures *ret_figures,
                                struct pt2_err *err);

#endif
