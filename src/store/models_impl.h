/* models_impl.h - what models.c and models_change.c share. */
#ifndef STORE_MODELS_IMPL_H
#define STORE_MODELS_IMPL_H

#include "base/sha256.h"
#include "store/models.h"

#include <pthread.h>
#include <pt2/export.h>

struct description {
    char id[MODEL_ID_SIZE];
    uint8_t identity[SHA256_BYTES]; /* of the folder's files */
    struct pt2_model_info info;
};

struct model_pin {
    char *path; /* the folder, links resolved */
    size_t n;
};

struct models {
    char dirs[2][PATH_MAX]; /* the models directory, as configured; the bundled models */
    size_t n_dirs;
    /* Held while a folder gets or loses its name, and while one is pinned: whoever holds
     * it sees pins go, but none come.  Before mutex. */
    pthread_mutex_t change;
    pthread_mutex_t mutex; /* guards what follows; never held while waiting */
    struct model_pin *pins;
    size_t n_pins;
    struct description *cached;
    size_t n_cached;
};

/* ---- models.c ---- */

/* Is what lies at path (links resolved; beneath root) the model of that id?
 * Errors: NOMEM, IO (it can't be said now). */
MUST_USE int models_is_model(const char *root, const char *path, const char *id,
                             bool *ret_is_model, struct pt2_err *err);
/* Resolve links in folder/name; false where it leads out of root, or nowhere. */
bool models_resolve(const char *root, const char *folder, const char *name,
                    char ret_path[PATH_MAX]);
/* The text says what a model is.  Returns -1. */
int models_not_found(const char *id, struct pt2_err *err);

#endif
