/* models.h - the models directory: which checkpoints there are.
 *
 * A model is a folder `name` or `org/name` beneath the models directory that holds
 * config.json or a checkpoint's files, or a GGUF file `name.gguf` in it.  A link is
 * followed where its target lies beneath the models directory, too; others are not seen.
 * There may be a second directory of bundled models, which is read only, and only where
 * the first has no model of that id.  The directories are read anew at each call; what
 * pt2_model_describe said is kept in memory for as long as the files are the same (inode,
 * size, times).  Any thread; waits for the disk, so not on an HTTP thread.
 */
#ifndef STORE_MODELS_H
#define STORE_MODELS_H

#include "base/util.h"
#include "store/model_id.h"

#include <jansson.h>
#include <limits.h>
#include <pt2/err.h>

struct models;

/* A directory that is not there (yet) holds no models.  bundled may be NULL.  new:
 * models_free.  Errors: NOMEM. */
MUST_USE int models_new(const char *dir, const char *bundled, struct models **ret_models,
                        struct pt2_err *err);
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
/* The models directory, as configured. */
const char *models_dir(const struct models *models);

/* ---- models that come and go (models_change.c) ---- */

/* models_path for whoever reads the model for long: its folder keeps its name and its
 * files until models_unpin(ret_path).  Errors: those, NOMEM. */
MUST_USE int models_pin(struct models *models, const char *id, char ret_path[PATH_MAX],
                        struct pt2_err *err);
void models_unpin(struct models *models, const char *path);

/* From here to models_change_end the caller alone gives folders in the models directory
 * their names and takes them away; models_pin waits meanwhile.  *ret_is_there: a model of
 * that id lies at ret_path, in the models directory itself, and is not pinned. Errors:
 * IN_USE (pinned), CONFLICT (a link, or what is no model, is in the way; the
 * organisation's name is a model's), IO.  After an error nothing has begun. */
MUST_USE int models_change_begin(struct models *models, const char *id,
                                 char ret_path[PATH_MAX], bool *ret_is_there,
                                 struct pt2_err *err);
void models_change_end(struct models *models);
/* Between the two: the folder gets the name of model id; where a model has it they change
 * places.  On the disk on return.  Errors: CONFLICT, IO, NO_SPACE. */
MUST_USE int models_change_place(struct models *models, const char *id,
                                 const char *folder, bool is_there, struct pt2_err *err);

/* The model (or the link to it) becomes `to`, a path in the models directory's file
 * system.  Errors: NOT_FOUND, FORBIDDEN (a bundled one, a read-only directory), IN_USE,
 * IO. */
MUST_USE int models_take_away(struct models *models, const char *id, const char *to,
                              struct pt2_err *err);

#endif
