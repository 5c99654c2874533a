/* ctl_push_files.h - files on their way to become a model of the daemon: what push and
 * pull share.
 *
 * The daemon is asked to publish first: it names what it lacks, so that nothing is sent
 * that is there already. */
#ifndef CMD_CTL_PUSH_FILES_H
#define CMD_CTL_PUSH_FILES_H

#include "base/sha256.h"
#include "cmd/ctl.h"

struct push_file {
    char *name;
    char *path; /* NULL: not here (yet) */
    uint64_t bytes;
    char sha256[SHA256_HEX]; /* "": not known yet */
    bool is_missing;         /* the daemon lacks it */
};

struct push_files {
    struct push_file *files;
    size_t n;
    size_t n_sent;
    uint64_t bytes, bytes_sent;
};

/* The model of that name may be had; -1 where it is no name of a checkpoint's file. name
 * and path are copied; path may be NULL.  *ret_file (may be NULL) until the next one. */
MUST_USE int push_files_add(struct ctl *ctl, struct push_files *files, const char *name,
                            const char *path, uint64_t bytes,
                            struct push_file **ret_file);
void push_files_done(struct push_files *files);

/* All files that make a checkpoint of the directory. */
MUST_USE int push_files_of_checkpoint(struct ctl *ctl, const char *dir,
                                      struct push_files *files);
/* The digest of one that is here, where it is not known yet. */
MUST_USE int push_file_digest(struct ctl *ctl, struct push_file *file);

/* Ask the daemon to publish: *ret_model is new; NULL where files are missing, which are
 * marked then.  All digests are known. */
MUST_USE int push_files_publish(struct ctl *ctl, const char *id, struct push_files *files,
                                json_t **ret_model);
/* Send one; a few times, where the connection breaks or the daemon is busy. */
MUST_USE int push_file_send(struct ctl *ctl, const char *id, struct push_files *files,
                            struct push_file *file);
/* The model, and what it took. */
MUST_USE int push_files_show(struct ctl *ctl, const struct push_files *files,
                             const json_t *model);

/* Wait; -1 where the user gave up meanwhile.  seconds: text of a Retry-After, "" for
 * none; otherwise longer each try. */
MUST_USE int ctl_pause(struct ctl *ctl, const char *seconds, unsigned try);

#endif
