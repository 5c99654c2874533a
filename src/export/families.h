/* families.h - the table of model types: how each reads its config.json.
 *
 * A new family is an entry here, a reader of its own where the shared one doesn't do, and
 * a case in tests/conformance (doc/exports.md). */
#ifndef EXPORT_FAMILIES_H
#define EXPORT_FAMILIES_H

#include "export/spec.h"

/* What the family's configuration class fills in, from its source. */
struct family_presets {
    int64_t vocab_size, hidden_size, intermediate_size;
    int64_t n_layers, n_heads;
    int64_t
        n_kv_heads; /* where left out; 0: as many as heads.  null: as many as heads. */
    int64_t max_position;
    int64_t window; /* of sliding_window where left out; 0: none */
};

struct family {
    const char *model_type;   /* "llama" */
    const char *architecture; /* "LlamaForCausalLM" */
    const struct decoder_names *names;
    struct family_presets presets;
    /* Fields that other families compute with, and this one too: spec.c refuses the rest.
     */
    const char *const *understands; /* ends with NULL */
    /* Fill in what is the family's own.  spec holds the shared fields already. */
    int (*read)(const struct family *family, const struct fields *config,
                struct decoder_spec *spec, struct pt2_err *err);
};

/* NULL where there is none of that type, or index. */
const struct family *family_find(const char *model_type);
const struct family *family_at(size_t i);

#endif
