/* spec.h - what a decoder computes, whatever family it comes from.
 *
 * A family reads its config.json into one of these (families.c); the graph builder
 * (decoder_graph.c) turns it into nodes and knows no family.  A knob that no family here
 * needs yet is not here yet: doc/exports.md says how to add one.
 *
 * One thread at a time; immutable after decoder_spec_read. */
#ifndef EXPORT_SPEC_H
#define EXPORT_SPEC_H

#include "base/util.h"
#include "export/rope.h"

#include <jansson.h>
#include <pt2/err.h>

/* Bounds on what a config.json may say, so that no product of two of them overflows. */
#define SPEC_MAX_SIZE   (1 << 24) /* of a dimension */
#define SPEC_MAX_LAYERS 1024

enum norm_kind {
    NORM_RMS, /* x * rsqrt(mean(x^2) + eps) in float32, cast back, times the weight */
};

enum norm_place {
    NORM_PRE, /* one before attention, one before the MLP */
};

/* Names in transformers' ACT2FN: see families.c, read_act. */
enum act {
    ACT_SILU,
    ACT_GELU,
    ACT_GELU_TANH, /* gelu_pytorch_tanh */
    ACT_GELU_NEW,  /* the same formula, rounded after each operation */
    ACT_RELU,
    ACT_RELU2, /* relu, squared */
    ACT_SIGMOID,
    ACT_TANH,
};

enum mlp_kind {
    MLP_GATED, /* down(act(gate(x)) * up(x)) */
};

/* Names of the modules in the checkpoint, those of a layer relative to it. */
struct decoder_names {
    const char *embed;  /* "model.embed_tokens" */
    const char *layers; /* "model.layers"; a layer is "<layers>.<i>" */
    const char *norm;   /* the last one */
    const char *head;
    const char *attn_norm, *q, *k, *v, *o;
    const char *mlp_norm, *gate, *up, *down;
    const char *rotary; /* the module whose inv_freq buffer the reference exports */
};

struct decoder_spec {
    const char *model_type; /* static */
    const struct decoder_names *names;
    int64_t vocab_size, hidden_size, intermediate_size;
    int64_t n_layers, n_heads, n_kv_heads, head_dim;
    int64_t max_position; /* max_position_embeddings */
    enum norm_kind norm;
    enum norm_place place;
    double norm_eps;
    struct rope rope;
    double attn_scale; /* of q @ k */
    bool qkv_bias, o_bias;
    int64_t windows[SPEC_MAX_LAYERS]; /* positions that a layer sees, its own included; 0:
                                         all */
    enum mlp_kind mlp;
    enum act act;
    bool mlp_bias;
    bool tied; /* config.json says that the head is the embedding */
};

/* Read it from the object of a config.json.
 * Errors: NOT_EXPORTABLE (a model type, field or value that is not understood; the text
 * names it), BAD_CONFIG (one that can not be meant), NOMEM. */
MUST_USE int decoder_spec_read(const json_t *config, struct decoder_spec *ret_spec,
                               struct pt2_err *err);

/* The model types there are, with commas. */
const char *decoder_spec_types(char to[400]);

#endif
