/* files.h - the open files of a checkpoint.
 *
 * Each is opened once, by its name in the directory, and stays open; what was seen then
 * is what check_unchanged compares with.  Immutable between opens: any thread. */
#ifndef CHECKPOINT_FILES_H
#define CHECKPOINT_FILES_H

#include "base/util.h"

#include <pt2/checkpoint.h>

/* config, index, extras and shards: as many descriptors as an export may need.  The
 * largest checkpoints of 2025 have 200 shards. */
#define FILES_MAX 600

struct open_file {
    struct pt2_checkpoint_file info; /* info.name is owned */
    int fd;
};

struct files {
    int dir_fd; /* -1: not open */
    struct open_file *files;
    size_t n_files;
};

#define FILES_INIT {.dir_fd = -1}

/* Errors: NOT_FOUND (no such directory), IO, NOMEM. */
MUST_USE int files_open_dir(struct files *files, const char *dir, struct pt2_err *err);
void files_done(struct files *files);

/* Open one more; its index is n_files - 1 afterwards.  *ret_found is false where there is
 * none of that name (nothing was added).
 * Errors: BAD_CHECKPOINT (not a regular file, too many), IO, NOMEM. */
MUST_USE int files_open(struct files *files, const char *name,
                        enum pt2_checkpoint_file_kind kind, bool *ret_found,
                        struct pt2_err *err);

/* Read len bytes at offset.  Errors: CHECKPOINT_CHANGED (too short), IO. */
MUST_USE int files_read(const struct files *files, size_t i, uint64_t offset, void *buf,
                        size_t len, struct pt2_err *err);
/* The whole file, new (caller frees), '\0' behind it.  Errors: those, LIMIT, NOMEM. */
MUST_USE int files_read_all(const struct files *files, size_t i, size_t max,
                            char **ret_text, size_t *ret_len, struct pt2_err *err);
MUST_USE int files_check_unchanged(const struct files *files, struct pt2_err *err);
MUST_USE int files_digest(const struct files *files, size_t i, uint8_t ret_sha256[32],
                          struct pt2_err *err);

/* The names in the directory that end in suffix, sorted; new: files_free_names.
 * Errors: IO, NOMEM. */
MUST_USE int files_list(const struct files *files, const char *suffix, char ***ret_names,
                        size_t *ret_n, struct pt2_err *err);
void files_free_names(char **names, size_t n);

#endif
