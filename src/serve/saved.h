/* saved.h - sessions' caches in files: one folder, a file for each session.
 *
 *     ID.spill    the image of its cache (pt2/engine.h), nothing else: good for the process that
 *                 wrote it alone
 *     ID.saved    the same, and behind it what else there is to know of the session; on the
 *                 disk, and true: what comes next may take the session up
 *
 *     | image | JSON | image's bytes u64 | JSON's bytes u64 | image's CRC-32 | CRC-32 of JSON
 *       and what stands before this | "pt2saved" |        numbers as in memory
 *
 * The image's CRC-32 begins with the id, so that no file passes for another's.  Whoever
 * changes the session first takes the name ID.saved away: so there is never a file that
 * tells of an earlier state.
 *
 * Any thread, one at a time for a session; waits for the disk.  The cache is the runner's. */
#ifndef SERVE_SAVED_H
#define SERVE_SAVED_H

#include "base/util.h"
#include "store/temp_file.h"

#include <jansson.h>
#include <pt2/engine.h>
#include <stdatomic.h>

struct saved_folder {
    char path[PATH_MAX]; /* "": there is none */
    struct temp_folder *temp; /* borrowed; on the same file system */
};

/* What is in a file. */
struct saved_image {
    uint64_t bytes;
    uint32_t crc;
};

/* Make the folder where it is missing.  Errors: IO, NO_SPACE. */
MUST_USE int saved_init(struct saved_folder *folder, const char *path,
                        struct temp_folder *temp, struct pt2_err *err);

/* Write ID.spill.  stop (may be NULL): once it is true, the rest is not written.
 * Errors: NO_SPACE (16 MiB stay free for the database), IO, DRAINING (stop). */
MUST_USE int saved_spill(const struct saved_folder *folder, const char *id,
                         const struct pt2_cache *cache, int64_t position,
                         const atomic_bool *stop, struct saved_image *ret_image,
                         struct pt2_err *err);
/* Make ID.saved of ID.spill; with saved_sync it is on the disk.  Where it fails, or is cut
 * short, there is no ID.saved.  Errors: NO_SPACE, IO. */
MUST_USE int saved_keep(const struct saved_folder *folder, const char *id,
                        const struct saved_image *image, const json_t *facts,
                        struct pt2_err *err);
MUST_USE int saved_sync(const struct saved_folder *folder, struct pt2_err *err);
/* Make ID.spill of ID.saved, on the disk when this returns 0; or leave it, by which name it can.  May
 * be tried again.  Errors: IO, NO_SPACE. */
MUST_USE int saved_unkeep(const struct saved_folder *folder, const char *id,
                          struct pt2_err *err);
/* Is there an ID.saved? */
bool saved_is_kept(const struct saved_folder *folder, const char *id);

/* Fill a new cache from the file.  is_kept: it was never unkept.  Errors: SESSION_LOST (the file is gone, or is not what was
 * written; says what is wrong), IO, NOMEM; the cache is then good for nothing. */
MUST_USE int saved_read(const struct saved_folder *folder, const char *id, bool is_kept,
                        const struct saved_image *image, struct pt2_cache *cache,
                        struct pt2_err *err);

/* Remove ID.spill and ID.saved.  The latter is not there any more after a power cut, either,
 * when this returns 0.  Errors: IO, NO_SPACE. */
MUST_USE int saved_remove(const struct saved_folder *folder, const char *id,
                          struct pt2_err *err);

/* At a start: call fn for each ID.saved that is whole, but for its image, which is looked at when
 * it is read; remove it where fn says no.  What else lies there is removed, and damaged for
 * an ID.saved that is not whole, called with the reason.  Errors: IO. */
struct saved_visitor {
    bool (*whole)(void *context, const char *id, const struct saved_image *image,
                  const json_t *facts);
    void (*damaged)(void *context, const char *id, const char *why);
    void *context;
};
MUST_USE int saved_each(const struct saved_folder *folder,
                        const struct saved_visitor *visitor, struct pt2_err *err);

/* Is the file that of the session, all of it?  Reads the image, too, of which *ret_first gets the
 * first bytes; *ret_facts is new.  Errors: INVALID (says what is wrong), IO, NOMEM. */
MUST_USE int saved_check(const char *path, const char *id,
                         uint8_t ret_first[PT2_IMAGE_FIRST_BYTES], uint64_t *ret_bytes,
                         json_t **ret_facts, struct pt2_err *err);
/* The id of a file ID.saved; false: it is none. */
bool saved_id_of(const char *name, char *ret_id, size_t size);

#endif
