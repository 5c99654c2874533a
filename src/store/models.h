/* models.h - the models directory: which checkpoints there are.
 *
 * A model is a folder `name` or `org/name` beneath the models directory that holds
 * config.json or a checkpoint's files, or a GGUF file `name.gguf` in it.  A link is
 * followed where its target lies beneath the models directory, too; others are not seen.
 * The directory is read anew at each call; what pt2_model_describe said is kept in memory
 * for as long as the files are the same (inode, size, times).  Any thread; waits for the
 * disk, so not on an HTTP thread.
 */
#ifndef STORE_MODELS_H
#define STORE_MODELS_H

#include "base/util.h"

#include <jansson.h>
#include <limits.h>
#include <pt2/err.h>

struct models;

#define MODEL_ID_SIZE 256 /* bytes, '\0' included */

/* A directory that is not there (yet) holds no models.  new: models_free.
 * Errors: NOMEM. */
MUST_USE int models_new(const char *dir, struct models **ret_models, struct pt2_err *err);
void models_free(struct models *models);
DEFINE_AUTO(models)

/* Up to limit of them in the order of their ids, after that id (NULL: from the first).
 * *ret_list is new, an array of what GET shows; *ret_more: there are more behind them.
 * Errors: IO, NOMEM. */
MUST_USE int models_list(struct models *models, size_t limit, const char *after,
                         json_t **ret_list, bool *ret_more, struct pt2_err *err);
/* Errors: NOT_FOUND (the text says what a model is), IO, NOMEM. */
MUST_USE int models_get(struct models *models, const char *id, json_t **ret_json,
                        struct pt2_err *err);
/* The model's folder or file, links resolved.  Errors: NOT_FOUND, IO. */
MUST_USE int models_path(struct models *models, const char *id, char ret_path[PATH_MAX],
                         struct pt2_err *err);

#endif
