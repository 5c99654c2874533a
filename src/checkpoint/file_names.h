/* file_names.h - what the files of a checkpoint are called.
 *
 * Constant; any thread. */
#ifndef CHECKPOINT_FILE_NAMES_H
#define CHECKPOINT_FILE_NAMES_H

#include "base/util.h"

#define CONFIG_NAME "config.json"
#define SINGLE_NAME "model.safetensors"
#define INDEX_NAME  "model.safetensors.index.json"

#define FILE_NAME_MAX_LEN 128 /* bytes */

/* What an export carries along beside the weights, where it is there: the i-th name, NULL
 * behind the last. */
const char *file_names_extra(size_t i);

/* *.safetensors, *.gguf */
bool file_names_is_weights(const char *name);
/* May a checkpoint that comes over the network hold a file of that name?  Weights, their
 * index, config.json and the extras; of letters, digits, '.', '_' and '-' alone, so that
 * no name leads anywhere, and none is hidden. */
bool file_names_is_allowed(const char *name);

#endif
