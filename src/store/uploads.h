/* uploads.h - checkpoints that come over the network, file by file.
 *
 *     DIR/.uploads/lock              held (flock) by the daemon that takes uploads for DIR
 *     DIR/.uploads/tmp/N.part        a file that comes; a folder that is put together
 *     DIR/.uploads/files/ID/SHA256-NAME
 *                                    a file that has come, its id's slash as %2F
 *     DIR/.uploads/unfinished        files that come by several requests: unfinished.h
 *
 * DIR is the models directory, so that a whole model gets its name by a rename; it is no
 * part of a model's id that begins with '.', so nothing in there is seen as a model.  A
 * file is hashed as it comes and synced before upload_finish returns; contents of one name
 * lie side by side until uploads_publish picks one by its digest.  What nobody adds to or
 * publishes for a while (the ttl) is removed when the next file comes, and at a start.
 *
 * Any thread, a struct upload one at a time; waits for the disk. */
#ifndef STORE_UPLOADS_H
#define STORE_UPLOADS_H

#include "base/owner.h"
#include "base/sha256.h"
#include "checkpoint/file_names.h"
#include "store/models.h"
#include "store/store.h"
#include "store/temp_file.h"

struct uploads;

#define UPLOADS_MAX_FILES 512 /* of one model */

struct uploads_limits {
    int64_t ttl_ms;
    uint64_t max_unfinished_bytes; /* on the disk, of all unfinished files */
};

/* Sweep what an earlier daemon left, where there is something.  Both are borrowed.  new:
 * uploads_free.  Errors: NOMEM. */
MUST_USE int uploads_new(struct models *models, struct store *store,
                         const struct uploads_limits *limits,
                         struct uploads **ret_uploads, struct pt2_err *err);
/* What reads files gives up (CANCELLED), so that the daemon's end does not wait for it. */
void uploads_stop(struct uploads *uploads);
void uploads_free(struct uploads *uploads);

/* ---- a file ---- */

/* Embedded by the caller. */
struct upload {
    struct uploads *uploads;
    char id[MODEL_ID_SIZE], name[FILE_NAME_MAX_LEN + 1], owner[OWNER_SIZE];
    uint64_t expected_bytes; /* of the body; 0: not known */
    uint64_t bytes;          /* of the file so far */
    struct temp_file temp;
    struct sha256 hash; /* where offset is 0 */
    /* unfinished.c's */
    bool is_resumed;         /* by upload_resume, and not at its end */
    uint64_t offset;         /* where the body begins */
    uint64_t reserved_bytes; /* what the file may grow to */
    struct upload *next_writer;
};

/* owner is whose it is, "" nobody's; expected_bytes: 0 where it is not known.
 * upload_drop when done.
 * Errors: INVALID (id, name), FORBIDDEN (the models directory can't be written, or another
 * daemon takes its uploads), NO_SPACE, IO. */
MUST_USE int upload_begin(struct uploads *uploads, const char *owner, const char *id,
                          const char *name, uint64_t expected_bytes,
                          struct upload *ret_upload, struct pt2_err *err);
/* Errors: NO_SPACE, IO. */
MUST_USE int upload_write(struct upload *upload, const void *data, size_t len,
                          struct pt2_err *err);
/* All of it is there: on the disk on return.  expected (NULL: not known) is what its digest
 * has to be; *ret_is_new is false where the same content was there already.  What the
 * owner had of it unfinished is gone, unless another request writes it.  A resumed upload
 * of another digest is gone as well; where something else failed it stays.
 * Errors: DIGEST_MISMATCH, CONFLICT (it was deleted meanwhile), NO_SPACE, IO. */
MUST_USE int upload_finish(struct upload *upload, const uint8_t *expected,
                           uint8_t ret_sha256[SHA256_BYTES], bool *ret_is_new,
                           struct pt2_err *err);
/* What was not finished is gone, but for a resumed one: that is paused. */
void upload_drop(struct upload *upload);

/* ---- a model ---- */

struct upload_file {
    const char *name; /* file_names_is_allowed */
    uint64_t bytes;
    char sha256[SHA256_HEX];
};

enum uploads_published { UPLOADS_MADE, UPLOADS_REPLACED, UPLOADS_UNCHANGED };

/* The model consists of these files (names differ) from now on: of those that came, and of
 * those that the published model has already.  All at once, and on the disk on return.
 * The uploads of that id are used up.
 * Errors: INVALID (id), MISSING_FILES (*ret_missing, new, are their names; otherwise it is
 * NULL), BAD_CHECKPOINT and BAD_CONFIG (together they are none), IN_USE (the model that
 * would be replaced), CONFLICT (models_change_begin), FORBIDDEN, NO_SPACE, IO, NOMEM. */
MUST_USE int uploads_publish(struct uploads *uploads, const char *id,
                             const struct upload_file *files, size_t n,
                             enum uploads_published *ret_published, json_t **ret_missing,
                             struct pt2_err *err);
/* Delete the model, and what came for it.  Errors: NOT_FOUND (neither is there), IN_USE,
 * FORBIDDEN, IO. */
MUST_USE int uploads_delete(struct uploads *uploads, const char *id, struct pt2_err *err);

#endif
