/* text_part.h - multimodal checkpoints, of which the text model alone is exported.
 *
 * Their config.json holds the text model's as text_config, their tensors are the text
 * model's under a prefix, beside those of the towers that make tokens of images.  Fed
 * with text alone they compute what the text model does.  What is said of a model type is
 * read from transformers 5.18: configuration_<type>.py, modeling_<type>.py, and for the
 * names conversion_mapping.py.
 *
 * Pure functions over a borrowed config; any thread. */
#ifndef EXPORT_TEXT_PART_H
#define EXPORT_TEXT_PART_H

#include "export/fields.h"

struct text_part {
    const char *model_type;   /* of the whole: "gemma3" */
    const char *architecture; /* "Gemma3ForConditionalGeneration" */
    const char *text_type;    /* where text_config has no model_type, or is not heard */
    bool has_own_type;        /* text_type, whatever text_config says */
    bool is_flat_too;         /* without text_config the fields lie in the whole config */
    bool tied;                /* tie_word_embeddings where the whole has none */
    bool ties_by_text;        /* that of text_config ties too */
};

/* NULL where there is none of that type, or index. */
const struct text_part *text_part_find(const char *model_type);
const struct text_part *text_part_at(size_t i);

/* The object that holds the text model's fields.
 * Errors: BAD_CONFIG (text_config is not there). */
MUST_USE int text_part_fields(const struct text_part *part, const struct fields *whole,
                              struct fields *ret_text, struct pt2_err *err);

/* Is the head the embedding?  Errors: BAD_CONFIG. */
MUST_USE int text_part_is_tied(const struct text_part *part, const struct fields *whole,
                               const struct fields *text, bool *ret_tied,
                               struct pt2_err *err);

/* The name that a tensor of the text model may have in the whole checkpoint: the i-th
 * spelling.  False where there is none. */
bool text_part_name(size_t i, const char *name, char *to, size_t size);

/* The module that a tensor of the whole belongs to where it is none of the text model's:
 * "model.vision_tower", a static string; NULL where it may be the text model's. */
const char *text_part_other_module(const char *tensor);

#endif
