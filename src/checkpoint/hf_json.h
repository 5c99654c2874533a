/* hf_json.h - JSON as Python's json.dump writes it.
 *
 * Strict but for two things that Python writes: bare NaN, Infinity and -Infinity, which
 * become strings of that name, and integers beyond int64 (tokenizers' "model_max_length"
 * is 10^30), which become reals. */
#ifndef CHECKPOINT_HF_JSON_H
#define CHECKPOINT_HF_JSON_H

#include "base/util.h"

#include <jansson.h>
#include <pt2/err.h>

/* Parse one value that fills text (len bytes).  name is the file's, for messages.
 * new: json_decref.
 * Errors: BAD_CONFIG, NOMEM. */
MUST_USE int hf_json_parse(const char *name, const char *text, size_t len,
                           json_t **ret_json, struct pt2_err *err);

#endif
