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
#include "store/temp_file.h"

#include <limits.h>
#include <pt2/err.h>

struct objects;

/* In the state directory: what has another digest than its name says. */
#define OBJECTS_LOST "lost+found"

/* Make the folders where they are missing, empty tmp.  new: objects_free.
 * Errors: IO, NO_SPACE, NOMEM. */
MUST_USE int objects_open(const char *state_dir, struct objects **ret_objects,
                          struct pt2_err *err);
/* Only to read what is there: nothing is made and nothing emptied.  Errors: IO, NOMEM. */
MUST_USE int objects_look(const char *state_dir, struct objects **ret_objects,
                          struct pt2_err *err);
void objects_free(struct objects *objects);
DEFINE_AUTO(objects)

/* ---- writing ---- */

#define OBJECT_MODE 0400 /* of an object: temp_file_sync */

/* STATE/tmp, where what becomes an object is written; borrowed. */
struct temp_folder *objects_temp(struct objects *objects);
/* Rename the synced temporary file to its digest.  Where the object is there already that
 * one stays, but where replace.  Errors: IO, NO_SPACE. */
MUST_USE int objects_keep(struct objects *objects, struct temp_file *temp,
                          const char *sha256_hex, bool replace, struct pt2_err *err);

/* ---- reading ---- */

/* The path that the object has or would have. */
void objects_path(const struct objects *objects, const char *sha256_hex,
                  char ret_path[PATH_MAX]);
/* The path of what was derived from the object, beside it: its weights as the native engine packs
 * them (engine.h).  Whoever writes it does so under a name that begins with it.  Goes with the
 * object; is made again where it is missing. */
void objects_packed_path(const struct objects *objects, const char *sha256_hex,
                         char ret_path[PATH_MAX]);
/* Open for reading; *ret_fd is new (close it).  Errors: NOT_FOUND, IO. */
MUST_USE int objects_open_file(const struct objects *objects, const char *sha256_hex,
                               int *ret_fd, uint64_t *ret_bytes, struct pt2_err *err);
/* Read all of it: has it its digest?  One that is not there, or that
 * the disk can't read, has not.  stop: as sha256_of_file.
 * Errors: IO, NOMEM, CANCELLED. */
MUST_USE int objects_check(const struct objects *objects, const char *sha256_hex,
                           const atomic_bool *stop, bool *ret_is_whole, struct pt2_err *err);
/* Move what has another digest to STATE/lost+found, under its name, and remove what was derived
 * from it.  One that is not there is no error.  Errors: IO, NO_SPACE. */
MUST_USE int objects_put_aside(struct objects *objects, const char *sha256_hex,
                               struct pt2_err *err);
/* And what was derived from it.  One that is not there is no error.  Errors: IO. */
MUST_USE int objects_remove(struct objects *objects, const char *sha256_hex,
                            struct pt2_err *err);
/* Remove what was derived from objects that are not there, and each object that keep() says no
 * to (recorded nowhere: the daemon died between
 * the rename and the record).  Errors: IO, and keep's own (-1: stop). */
MUST_USE int objects_sweep(struct objects *objects,
                           int (*keep)(void *ctx, const char *sha256_hex, bool *ret_keep,
                                       struct pt2_err *err),
                           void *ctx, struct pt2_err *err);

/* Bytes of all files there, as the disk counts them; those that come or go meanwhile may be
 * left out.  Errors: IO. */
MUST_USE int objects_usage(const struct objects *objects, uint64_t *ret_bytes,
                           struct pt2_err *err);

#endif
