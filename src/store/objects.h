/* objects.h - files named by their content: STATE/objects/ab/abcdef….
 *
 * A file is written under a temporary name in STATE/tmp, synced, made read-only (0400),
 * renamed to its digest and the directory synced; then it may be recorded.  So an object
 * is whole or not there, whenever the daemon died.  Both folders lie on one file system.
 * Temporary files are removed at start.  Any thread; waits for the disk. */
#ifndef STORE_OBJECTS_H
#define STORE_OBJECTS_H

#include "base/sha256.h"
#include "base/util.h"

#include <limits.h>
#include <pt2/err.h>

struct objects;

/* Make the folders where they are missing, empty tmp.  new: objects_free.
 * Errors: IO, NO_SPACE, NOMEM. */
MUST_USE int objects_open(const char *state_dir, struct objects **ret_objects,
                          struct pt2_err *err);
void objects_free(struct objects *objects);
DEFINE_AUTO(objects)

/* ---- writing ---- */

/* Would a file of that size fit?  Errors: NO_SPACE (says how much is left), IO. */
MUST_USE int objects_check_room(const struct objects *objects, uint64_t bytes,
                                struct pt2_err *err);

/* A temporary file, embedded by the caller; {.fd = -1} holds none. */
struct object_temp {
    struct objects *objects;
    int fd; /* open for reading and writing; -1: not (yet) open */
    char path[PATH_MAX];
};
#define OBJECT_NO_TEMP                                                                   \
    {                                                                                    \
        .fd = -1                                                                         \
    }

/* Make one.  expected_bytes (0: not known) are refused at once where the disk has no room
 * for them.  Give it to object_temp_drop, also after objects_keep.
 * Errors: IO, NO_SPACE. */
MUST_USE int objects_temp(struct objects *objects, uint64_t expected_bytes,
                          struct object_temp *ret_temp, struct pt2_err *err);
/* The same, but a child process will make the file of that path, perhaps by way of files
 * whose names begin with it: all of them go with object_temp_drop.  When the child has
 * ended object_temp_open takes what it wrote.
 * Errors: IO (also where it is no regular file of that size), NO_SPACE. */
MUST_USE int objects_temp_for_child(struct objects *objects, uint64_t expected_bytes,
                                    struct object_temp *ret_temp, struct pt2_err *err);
MUST_USE int object_temp_open(struct object_temp *temp, uint64_t bytes,
                              struct pt2_err *err);
/* Close it, and remove the file where it was not kept. */
void object_temp_drop(struct object_temp *temp);
/* Write all of it at the file's place.  Errors: IO, NO_SPACE. */
MUST_USE int object_temp_write(struct object_temp *temp, const void *data, size_t len,
                               struct pt2_err *err);
/* On the disk, and read-only from now on; the slow half of keeping it. */
MUST_USE int object_temp_sync(struct object_temp *temp, struct pt2_err *err);
/* Rename the synced temporary file to its digest.  Where the object is there already that
 * one stays.  Errors: IO, NO_SPACE. */
MUST_USE int objects_keep(struct objects *objects, struct object_temp *temp,
                          const char *sha256_hex, struct pt2_err *err);

/* ---- reading ---- */

/* The path that the object has or would have. */
void objects_path(const struct objects *objects, const char *sha256_hex,
                  char ret_path[PATH_MAX]);
/* Open for reading; *ret_fd is new (close it).  Errors: NOT_FOUND, IO. */
MUST_USE int objects_open_file(const struct objects *objects, const char *sha256_hex,
                               int *ret_fd, uint64_t *ret_bytes, struct pt2_err *err);
/* One that is not there is no error.  Errors: IO. */
MUST_USE int objects_remove(struct objects *objects, const char *sha256_hex,
                            struct pt2_err *err);
/* Remove each object that keep() says no to (recorded nowhere: the daemon died between
 * the rename and the record).  Errors: IO, and keep's own (-1: stop). */
MUST_USE int objects_sweep(struct objects *objects,
                           int (*keep)(void *ctx, const char *sha256_hex, bool *ret_keep,
                                       struct pt2_err *err),
                           void *ctx, struct pt2_err *err);

#endif
