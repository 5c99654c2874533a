/* uploads_impl.h - what uploads.c and uploads_publish.c share. */
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
    char path[PATH_MAX]; /* DIR/.uploads */
    /* Guards what follows, and the folders of ids: they come, expire and are used up.
     * After the lock of models_change_begin. */
    pthread_mutex_t mutex;
    int lock_fd; /* -1: nothing was uploaded yet */
    struct temp_folder temp;
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

#endif
