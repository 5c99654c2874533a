/* families_fairseq.c - what came from fairseq: OPT, BioGPT and XGLM, whose positions
 * begin behind two rows for padding. */
#include "export/families.h"

#include <math.h>

#define POSITION_OFFSET 2
#define LAYER_NORM_EPS  1e-5 /* torch's own, whatever config.json says */

#define FAIRSEQ_LAYER                                                                    \
    .attn_norm = "self_attn_layer_norm", .mlp_norm = "final_layer_norm",                 \
    .q = "self_attn.q_proj", .k = "self_attn.k_proj", .v = "self_attn.v_proj",           \
    .o = "self_attn.out_proj", .up = "fc1", .down = "fc2"
#define OPT_FRAME                                                                        \
    .embed = "model.decoder.embed_tokens", .positions = "model.decoder.embed_positions", \
    .layers = "model.decoder.layers", .head = "lm_head"
#define OPT_PROJECTED                                                                    \
    .project_in = "model.decoder.project_in", .project_out = "model.decoder.project_out"
#define OPT_NORM .norm = "model.decoder.final_layer_norm"

static const struct decoder_names biogpt_names = {
    FAIRSEQ_LAYER,
    .embed = "biogpt.embed_tokens",
    .positions = "biogpt.embed_positions",
    .layers = "biogpt.layers",
    .norm = "biogpt.layer_norm",
    .head = "output_projection",
};
/* The reference keeps a table of the sines; inv_freq does for it. */
static const struct decoder_names xglm_names = {
    FAIRSEQ_LAYER,
    .embed = "model.embed_tokens",
    .layers = "model.layers",
    .norm = "model.layer_norm",
    .head = "lm_head",
    .rotary = "model.embed_positions",
};

/* By whether there is a last norm, and whether the embedding is narrower. */
static const struct decoder_names opt_names[2][2] = {
    {{FAIRSEQ_LAYER, OPT_FRAME}, {FAIRSEQ_LAYER, OPT_FRAME, OPT_PROJECTED}},
    {{FAIRSEQ_LAYER, OPT_FRAME, OPT_NORM},
     {FAIRSEQ_LAYER, OPT_FRAME, OPT_NORM, OPT_PROJECTED}},
};

static int read_opt(const struct family *family, const struct fields *config,
                    struct decoder_spec *spec, struct pt2_err *err)
{
    bool is_before, has_no_last, has_weights;

    (void)family;
    if (field_bool(config, "do_layer_norm_before", true, &is_before, err) < 0 ||
        field_bool(config, "_remove_final_layer_norm", false, &has_no_last, err) < 0 ||
        field_bool(config, "layer_norm_elementwise_affine", true, &has_weights, err) <
            0 ||
        field_bool(config, "enable_bias", true, &spec->qkv_bias, err) < 0 ||
        field_int(config, "word_embed_proj_dim", spec->hidden_size, 1, SPEC_MAX_SIZE,
                  &spec->embed_size, err) < 0)
        return -1;
    spec->names = &opt_names[is_before && !has_no_last]
                            [spec->embed_size != spec->hidden_size];
    spec->is_post_norm = !is_before;
    spec->norm = has_weights ? NORM_LAYER : NORM_LAYER_PLAIN;
    spec->norm_eps = LAYER_NORM_EPS;
    spec->position_offset = POSITION_OFFSET;
    spec->o_bias = spec->mlp_bias = spec->qkv_bias;
    return 0;
}

static int read_embed_scale(const struct fields *config, struct decoder_spec *spec,
                            struct pt2_err *err)
{
    bool is_scaled;

    spec->norm_eps = LAYER_NORM_EPS;
    spec->position_offset = POSITION_OFFSET;
    if (field_bool(config, "scale_embedding", true, &is_scaled, err) < 0)
        return -1;
    if (is_scaled)
        spec->embed_multiplier = sqrt((double)spec->hidden_size);
    return 0;
}

static int read_biogpt(const struct family *family, const struct fields *config,
                       struct decoder_spec *spec, struct pt2_err *err)
{
    (void)family;
    return read_embed_scale(config, spec, err);
}

static int read_xglm(const struct family *family, const struct fields *config,
                     struct decoder_spec *spec, struct pt2_err *err)
{
    (void)family;
    if (spec->hidden_size % 2 || spec->hidden_size < 4)
        return field_refuse(config, "d_model", err,
                            "is %lld; an even number, 4 or more, is offered",
                            (long long)spec->hidden_size);
    spec->is_sinusoidal = true;
    spec->n_ropes = 1;
    spec->ropes[0] = (struct rope){.type = ROPE_SINUSOIDAL,
                                   .prefix = "",
                                   .dim = spec->hidden_size,
                                   .theta = 10000,
                                   .attention_scale = 1,
                                   .max_position = spec->max_position};
    return read_embed_scale(config, spec, err);
}

static const char *const understands_norm_place[] = {"do_layer_norm_before", NULL};
static const char *const xglm_ignores[] = {"embed_positions.weights", NULL};

const struct family fairseq_families[] = {
    {
        .model_type = "opt",
        .architecture = "OPTForCausalLM",
        .names = &opt_names[1][0],
        .presets = {.vocab_size = 50272,
                    .hidden_size = 768,
                    .intermediate_size = 3072,
                    .n_layers = 12,
                    .n_heads = 12,
                    .max_position = 2048,
                    .act = "relu",
                    .tied = true},
        .fields = {.intermediate_size = "ffn_dim", .act = "activation_function"},
        .rope_kind = FAMILY_NO_ROPE,
        .has_head_dim_of_hidden = true,
        .has_no_kv_heads = true,
        .is = {.mlp = MLP_PLAIN},
        .understands = understands_norm_place,
        .note = "opt: the reference export fails unless its attention is eager and its "
                "shapes are static, because it counts positions in a mask; here they are "
                "those of cache_position.",
        .read = read_opt,
    },
    {
        .model_type = "biogpt",
        .architecture = "BioGptForCausalLM",
        .names = &biogpt_names,
        .presets = {.vocab_size = 42384,
                    .hidden_size = 1024,
                    .intermediate_size = 4096,
                    .n_layers = 24,
                    .n_heads = 16,
                    .max_position = 1024,
                    .act = "gelu",
                    .tied = true},
        .rope_kind = FAMILY_NO_ROPE,
        .has_head_dim_of_hidden = true,
        .has_no_kv_heads = true,
        .is = {.norm = NORM_LAYER,
               .mlp = MLP_PLAIN,
               .qkv_bias = true,
               .o_bias = true,
               .mlp_bias = true},
        .note = "biogpt: the reference export fails, because it makes a mask as long as "
                "what the cache holds; here each position sees those before it.",
        .read = read_biogpt,
    },
    {
        .model_type = "xglm",
        .architecture = "XGLMForCausalLM",
        .names = &xglm_names,
        .presets = {.vocab_size = 256008,
                    .hidden_size = 1024,
                    .intermediate_size = 4096,
                    .n_layers = 24,
                    .n_heads = 16,
                    .max_position = 2048,
                    .act = "gelu",
                    .tied = true},
        .fields = {.hidden_size = "d_model",
                   .intermediate_size = "ffn_dim",
                   .n_layers = "num_layers",
                   .n_heads = "attention_heads",
                   .act = "activation_function"},
        .rope_kind = FAMILY_NO_ROPE,
        .has_head_dim_of_hidden = true,
        .has_no_kv_heads = true,
        .is = {.norm = NORM_LAYER,
               .mlp = MLP_PLAIN,
               .qkv_bias = true,
               .o_bias = true,
               .mlp_bias = true},
        .ignores = xglm_ignores,
        .note = "xglm: the reference export fails, because it looks how long the cache "
                "is before it takes a position from its table; here the sines and cosines "
                "are computed.",
        .read = read_xglm,
    },
    {.model_type = NULL},
};
