/* gguf_config.h - the metadata of a GGUF file as the object of a config.json.
 *
 * What Transformers' gguf_file= makes of it, and what the file says besides: rotary
 * scaling (which Transformers leaves out), soft caps, windows.  Pure; any thread. */
#ifndef CHECKPOINT_GGUF_CONFIG_H
#define CHECKPOINT_GGUF_CONFIG_H

#include "checkpoint/gguf.h"
#include "checkpoint/gguf_arch.h"

#include <jansson.h>

/* *ret_config is new.
 * Errors: NOT_EXPORTABLE (an array where all layers must be alike, rotary factors that no
 * rope_type stands for), BAD_CHECKPOINT (a value of another type), CHECKPOINT_CHANGED,
 * IO, NOMEM. */
MUST_USE int gguf_config(const struct gguf *gguf, const struct gguf_arch *arch,
                         json_t **ret_config, struct pt2_err *err);

#endif
