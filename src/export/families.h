/* families.h - the tables of model types: how each reads its config.json.
 *
 * A new family is an entry in one of the tables (families_*.c, by kin), a reader of its
 * own where the shared one doesn't do, and a case in tests/conformance (doc/exports.md).
 * What is said of a model type is read from its configuration_<type>.py and
 * modeling_<type>.py in transformers 5.18. */
#ifndef EXPORT_FAMILIES_H
#define EXPORT_FAMILIES_H

#include "export/spec.h"

/* What the family's configuration class fills in where a field is left out. */
struct family_presets {
    int64_t vocab_size, hidden_size;
    int64_t intermediate_size; /* 0: four times hidden_size */
    int64_t n_layers, n_heads;
    int64_t n_kv_heads; /* 0: as many as heads.  null: as many as heads. */
    int64_t head_dim;   /* 0: hidden_size / n_heads */
    int64_t max_position;
    int64_t window;  /* of sliding_window; 0: none */
    double eps;      /* 0: 1e-6 */
    const char *act; /* NULL: "silu" */
    bool tied;
};

/* What the family calls the shared fields; NULL: as Llama does. */
struct family_fields {
    const char *hidden_size, *intermediate_size, *n_layers, *n_heads, *max_position;
    const char *eps; /* "rms_norm_eps" */
    const char *act; /* "hidden_act" */
};

struct family {
    const char *model_type;   /* "llama" */
    const char *architecture; /* "LlamaForCausalLM" */
    const struct decoder_names *names;
    struct family_presets presets;
    struct family_fields fields;
    struct rope_rules rope;
    enum {
        FAMILY_ROPE,     /* all layers rotate by one table, unless read says more */
        FAMILY_ROPE_OWN, /* read fills in the tables */
        FAMILY_NO_ROPE,
    } rope_kind;
    bool has_head_dim_of_hidden; /* head_dim is hidden_size / n_heads, said or not */
    bool has_no_kv_heads;        /* as many as heads, unless read says otherwise */
    /* The spec before anything is read: kinds, placements, what is always so. */
    struct {
        enum norm_kind norm, qk_norm_kind;
        enum qk_norm qk_norm;
        enum qkv_layout qkv;
        enum rope_pairs pairs;
        enum rope_rounding rope_rounding;
        enum mlp_kind mlp;
        bool is_parallel, qkv_bias, o_bias, mlp_bias, head_bias, embed_norm;
        bool qk_norm_after_rope, transposed;
    } is;
    /* Fields that other families compute with, and this one too: spec.c refuses the rest.
     * NULL, or ends with NULL. */
    const char *const *understands;
    /* Ends of the names of tensors that older versions saved; NULL, or ends with NULL. */
    const char *const *ignores;
    const char *note; /* where the reference's export is another than ours; NULL */
    /* Fill in what is the family's own.  spec holds the shared fields already.  NULL:
     * there is nothing. */
    int (*read)(const struct family *family, const struct fields *config,
                struct decoder_spec *spec, struct pt2_err *err);
};

/* NULL where there is none of that type, or index. */
const struct family *family_find(const char *model_type);
const struct family *family_at(size_t i);

/* ---- the tables, each ending with a model_type of NULL ---- */

extern const struct family llama_families[];  /* llama and those that add little to it */
extern const struct family window_families[]; /* RMS norms, layers of two kinds */
extern const struct family gemma_families[];
extern const struct family gated_families[]; /* glm, cohere, olmo, ... */
extern const struct family layernorm_families[];
extern const struct family gpt_families[];      /* gpt2 and its kin, gptj, gpt_neo */
extern const struct family falcon_families[];
extern const struct family fairseq_families[]; /* opt, biogpt, xglm */
extern const struct family moe_families[];     /* mixtures of experts */

/* ---- for readers ---- */

/* attention_bias, of q, k, v and o; what `is` said of q, k and v where left out. */
MUST_USE int family_read_attention_bias(const struct fields *config,
                                        struct decoder_spec *spec, struct pt2_err *err);
/* The same, and mlp_bias. */
MUST_USE int family_read_biases(const struct fields *config, struct decoder_spec *spec,
                                struct pt2_err *err);
/* A factor, a positive number; 0 where it is left out or 1, which changes nothing. */
MUST_USE int family_read_factor(const struct fields *config, const char *name,
                                double preset, double *ret_factor, struct pt2_err *err);
/* A soft cap; preset where left out, 0 where null. */
MUST_USE int family_read_softcap(const struct fields *config, const char *name,
                                 double preset, double *ret_cap, struct pt2_err *err);
/* clip_qkv; none where left out. */
MUST_USE int family_read_clip(const struct fields *config, struct decoder_spec *spec,
                              struct pt2_err *err);
/* Granite's: attention_multiplier, attn_scale where left out, and those of the embedding
 * and of what is added. */
MUST_USE int family_read_factors(const struct fields *config, double attn_scale,
                                 struct decoder_spec *spec, struct pt2_err *err);
/* The scale of q @ k, of all layers. */
void family_set_attn_scale(struct decoder_spec *spec, double scale);

/* Names that Llama gave its modules and most others kept. */
#define LLAMA_FRAME                                                                      \
    .embed = "model.embed_tokens", .layers = "model.layers", .norm = "model.norm",       \
    .head = "lm_head", .rotary = "model.rotary_emb"
#define LLAMA_QKVO                                                                       \
    .q = "self_attn.q_proj", .k = "self_attn.k_proj", .v = "self_attn.v_proj",           \
    .o = "self_attn.o_proj"
#define LLAMA_NORMS    .attn_norm = "input_layernorm", .mlp_norm = "post_attention_layernorm"
#define LLAMA_GATED    .gate = "mlp.gate_proj", .up = "mlp.up_proj", .down = "mlp.down_proj"
#define LLAMA_PLAIN    .up = "mlp.up_proj", .down = "mlp.down_proj"
#define LLAMA_QK_NORMS .q_norm = "self_attn.q_norm", .k_norm = "self_attn.k_norm"

extern const struct decoder_names llama_names;

#endif
