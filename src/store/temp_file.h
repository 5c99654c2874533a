/* temp_file.h - files under a temporary name, until they are whole.
 *
 * A temp_folder names them, N.part, and clears them away at a start; a temp_file is one
 * of them.  Whoever renames it empties its path, and temp_file_drop leaves it alone.  A
 * temp_folder is safe for any thread, a temp_file belongs to one at a time.  Waits for
 * the disk. */
#ifndef STORE_TEMP_FILE_H
#define STORE_TEMP_FILE_H

#include "base/util.h"

#include <limits.h>
#include <pt2/err.h>
#include <stdatomic.h>
#include <sys/types.h>

struct temp_folder {
    char path[PATH_MAX];
    const char *what; /* where it lies, for messages: "the state directory" */
    atomic_ullong next;
};

/* Make the folder where it is missing and remove the files that were left in it; what is
 * a folder stays.  what is borrowed.  Errors: IO, NO_SPACE. */
MUST_USE int temp_folder_init(struct temp_folder *folder, const char *path,
                              const char *what, struct pt2_err *err);
/* Would a file of that size fit?  16 MiB stay free for the database.
 * Errors: NO_SPACE (says how much is left), IO. */
MUST_USE int temp_folder_check_room(const struct temp_folder *folder, uint64_t bytes,
                                    struct pt2_err *err);

/* Embedded by the caller; TEMP_NO_FILE is none. */
struct temp_file {
    const struct temp_folder *folder;
    int fd; /* open for reading and writing; -1: not (yet) open */
    char path[PATH_MAX];
};
#define TEMP_NO_FILE                                                                     \
    {                                                                                    \
        .fd = -1                                                                         \
    }

/* Make one.  expected_bytes (0: not known) are refused at once where the disk has no room
 * for them.  Give it to temp_file_drop, also once it was renamed.  Errors: IO, NO_SPACE. */
MUST_USE int temp_file_make(struct temp_folder *folder, uint64_t expected_bytes,
                            struct temp_file *ret_file, struct pt2_err *err);
/* The same, but a child process will make the file of that path, perhaps by way of files
 * whose names begin with it: all of them go with temp_file_drop.  When the child has ended
 * temp_file_open takes what it wrote.
 * Errors: IO (also where it is no regular file of that size), NO_SPACE. */
MUST_USE int temp_file_for_child(struct temp_folder *folder, uint64_t expected_bytes,
                                 struct temp_file *ret_file, struct pt2_err *err);
MUST_USE int temp_file_open(struct temp_file *file, uint64_t bytes, struct pt2_err *err);
/* Close it, and remove the file where it was not renamed. */
void temp_file_drop(struct temp_file *file);
/* Write all of it at the file's place.  Errors: IO, NO_SPACE. */
MUST_USE int temp_file_write(struct temp_file *file, const void *data, size_t len,
                             struct pt2_err *err);
/* On the disk, and of that mode from now on; the slow half of keeping it.
 * Errors: IO, NO_SPACE. */
MUST_USE int temp_file_sync(struct temp_file *file, mode_t mode, struct pt2_err *err);

#endif
