/* gguf_arch.h - the table of llama.cpp's architectures: which model type of Transformers
 * each is, what its metadata and its tensors are called there, and what llama.cpp's
 * converter did to the weights, to be undone.
 *
 * Facts: transformers 5.18, modeling_gguf_pytorch_utils.py and integrations/ggml.py; for
 * what those leave out, gguf-py 0.19, constants.py and tensor_mapping.py.  Static tables;
 * any thread. */
#ifndef CHECKPOINT_GGUF_ARCH_H
#define CHECKPOINT_GGUF_ARCH_H

#include "base/util.h"

enum gguf_op {
    GGUF_KEEP,
    GGUF_UNPERMUTE_Q, /* rows of a head: pairs lie side by side, and go half by half */
    GGUF_UNPERMUTE_K, /* the same, of as many heads as there are keys */
    GGUF_MINUS_ONE,   /* of a weight: it was stored with 1 added */
    GGUF_TRANSPOSE,   /* of a weight: Conv1D has it the other way round */
    GGUF_ROW,         /* a vector that is a matrix of one row */
    GGUF_EXPERTS,     /* one tensor for each expert; "%d" in the name */
};

/* Without ".weight" and ".bias"; those of a layer begin with a dot. */
struct gguf_name {
    const char *gguf, *hf;
    enum gguf_op op;
};

/* A number of the metadata, "<architecture>." left out, and the config.json's field. */
struct gguf_field {
    const char *gguf, *hf;
};

/* A field that says whether layer 0 has a tensor. */
struct gguf_flag {
    const char *hf, *tensor;
    bool if_there;
};

struct gguf_arch {
    const char *arch, *model_type, *architecture;
    const char *layers;              /* "model.layers" */
    const struct gguf_name *names;   /* its own, before the shared ones; end with NULL */
    const struct gguf_field *fields; /* shared ones */
    const struct gguf_field *more;   /* its own */
    const struct gguf_flag *flags;
    const char *presets; /* what the file doesn't say, as a JSON object */
    bool
        head_is_rotary; /* without attention.key_length, rope.dimension_count is a head */
    int64_t scaled_by_heads; /* with that many layers queries are scaled by the hidden
                                size a head, not by head_dim; 0: never */
};

/* NULL where there is none of that name. */
const struct gguf_arch *gguf_arch_find(const char *arch);
/* The names there are, with commas. */
const char *gguf_arch_names(char to[200]);
/* What a tensor is called there: name without suffix, with the dot before a layer's.
 * NULL where the table has none. */
const struct gguf_name *gguf_arch_name(const struct gguf_arch *arch, const char *name,
                                       size_t len);

#endif
