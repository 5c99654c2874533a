/* uploads_impl.h - what uploads.c, uploads_publish.c and unfinished.c share. */
#ifndef STORE_UPLOADS_IMPL_H
#define STORE_UPLOADS_IMPL_H

#include "store/uploads.h"

#include <pt2/checkpoint.h>
#include <pthread.h>
#include <sys/stat.h>

#define UPLOADS_FILE_MODE 0444 /* of a model's file */

struct uploads {
    struct models *models;
    struct store *store;
    int64_t ttl_ms;
    uint64_t max_unfinished_bytes;
    char path[PATH_MAX]; /* DIR/.uploads */
    /* Guards what follows, and the folders of ids: they come, expire and are used up.
     * After the lock of models_change_begin. */
    pthread_mutex_t mutex;
    int lock_fd; /* -1: nothing was uploaded yet */
    struct temp_folder temp;
    atomic_bool is_stopping;
    struct upload *writers; /* the resumed ones that are under way; borrowed */
};

/* DIR/.uploads/files/ID */
void uploads_folder(const struct uploads *uploads, const char *id,
                    char ret_path[PATH_MAX]);
/* DIR/.uploads/files/ID/SHA256-NAME */
void uploads_file(const struct uploads *uploads, const char *id, const char *name,
                  const char *sha256_hex, char ret_path[PATH_MAX]);
/* What files_db.h knows a file by. */
struct pt2_checkpoint_file uploads_file_facts(const struct stat *st);
/* Make .uploads where it is missing, and lock it.  Errors: FORBIDDEN, NO_SPACE, IO. */
MUST_USE int uploads_open(struct uploads *uploads, struct pt2_err *err);
/* Remove what came for ids that nobody cared about for the ttl. */
void uploads_expire(struct uploads *uploads);
/* May a model of that id come, with a file of that name?  Errors: INVALID. */
MUST_USE int uploads_check_names(const char *id, const char *name, struct pt2_err *err);

/* ---- unfinished.c; _locked: the holder of mutex ---- */

/* The file may grow to that size from now on.  Errors: NO_SPACE, IO. */
MUST_USE int unfinished_reserve(struct upload *upload, uint64_t bytes,
                                struct pt2_err *err);
/* A resumed upload is at its end: its file has been renamed, or stays. */
void unfinished_let_go_locked(struct upload *upload);
/* The same, and its file is removed. */
void unfinished_give_up(struct upload *upload);
/* All of that file has come another way. */
void unfinished_replaced_locked(const struct upload *upload);
MUST_USE int unfinished_expire_locked(struct uploads *uploads, struct pt2_err *err);
/* Of any owner.  What a request writes meanwhile is lost. */
bool unfinished_is_any(const struct uploads *uploads, const char *id);
void unfinished_remove_all(struct uploads *uploads, const char *id);
/* All that lies in this folder is on the disk.  Errors: IO, NO_SPACE. */
MUST_USE int unfinished_sync(const char *folder, struct pt2_err *err);

#endif
