/* families_gated.c - gated MLPs under other norms, rotations and placements. */
#include "export/families.h"
#include "export/windows.h"

#define GLM_MLP .gate = "mlp.gate_up_proj", .down = "mlp.down_proj"
#define OLMO2_POSTS                                                                      \
    .attn_post_norm = "post_attention_layernorm",                                        \
    .mlp_post_norm = "post_feedforward_layernorm"

static const struct decoder_names glm_names = {LLAMA_FRAME, LLAMA_QKVO, LLAMA_NORMS,
                                               GLM_MLP};
static const struct decoder_names glm4_names = {LLAMA_FRAME,
                                                LLAMA_QKVO,
                                                LLAMA_NORMS,
                                                GLM_MLP,
                                                .attn_post_norm =
                                                    "post_self_attn_layernorm",
                                                .mlp_post_norm = "post_mlp_layernorm"};
static const struct decoder_names cohere_names = {
    LLAMA_FRAME, LLAMA_QKVO, LLAMA_GATED, LLAMA_QK_NORMS, .attn_norm = "input_layernorm"};
static const struct decoder_names olmo2_names = {LLAMA_FRAME, LLAMA_QKVO, OLMO2_POSTS,
                                                 LLAMA_GATED, LLAMA_QK_NORMS};

/* attention_bias is not of o_proj */
static int read_glm(const struct family *family, const struct fields *config,
                    struct decoder_spec *spec, struct pt2_err *err)
{
    (void)family;
    return field_bool(config, "attention_bias", spec->qkv_bias, &spec->qkv_bias, err);
}

static int read_helium(const struct family *family, const struct fields *config,
                       struct decoder_spec *spec, struct pt2_err *err)
{
    if (spec->n_heads * spec->head_dim != spec->hidden_size)
        return field_bad(config, "head_dim", err,
                         "is %lld, and must be hidden_size / num_attention_heads, whose "
                         "product o_proj takes",
                         (long long)spec->head_dim);
    if (read_glm(family, config, spec, err) < 0)
        return -1;
    return field_bool(config, "mlp_bias", false, &spec->mlp_bias, err);
}

static int read_cohere(const struct family *family, const struct fields *config,
                       struct decoder_spec *spec, struct pt2_err *err)
{
    bool has_qk_norm;

    (void)family;
    if (family_read_attention_bias(config, spec, err) < 0 ||
        field_bool(config, "use_qk_norm", false, &has_qk_norm, err) < 0)
        return -1;
    if (has_qk_norm)
        spec->qk_norm = QK_NORM_EVERY_HEAD;
    return family_read_factor(config, "logit_scale", 0.0625, &spec->logits_multiplier,
                              err);
}

/* Layers without a window do not rotate. */
static int read_cohere2(const struct family *family, const struct fields *config,
                        struct decoder_spec *spec, struct pt2_err *err)
{
    struct window_pattern pattern = {0};

    if (family_read_attention_bias(config, spec, err) < 0 ||
        family_read_factor(config, "logit_scale", 0.0625, &spec->logits_multiplier, err) <
            0 ||
        field_int(config, "sliding_window_pattern", 4, 1, INT64_MAX, &pattern.period,
                  err) < 0 ||
        windows_read(family, config, pattern, spec, err) < 0)
        return -1;
    for (int64_t i = 0; i < spec->n_layers; i++)
        if (spec->layers[i].window == 0)
            spec->layers[i].rope = NO_ROPE;
    return 0;
}

/* OlmoLayerNorm's eps is no field. */
static int read_olmo(const struct family *family, const struct fields *config,
                     struct decoder_spec *spec, struct pt2_err *err)
{
    (void)family;
    spec->norm_eps = 1e-5;
    if (family_read_clip(config, spec, err) < 0)
        return -1;
    return family_read_attention_bias(config, spec, err);
}

static int read_olmo2(const struct family *family, const struct fields *config,
                      struct decoder_spec *spec, struct pt2_err *err)
{
    (void)family;
    return family_read_attention_bias(config, spec, err);
}

static int read_olmo3(const struct family *family, const struct fields *config,
                      struct decoder_spec *spec, struct pt2_err *err)
{
    struct window_pattern pattern = {.period = 4};

    if (family_read_attention_bias(config, spec, err) < 0 ||
        windows_read(family, config, pattern, spec, err) < 0 ||
        rope_read_two(config, &family->rope, NULL, family->rope.theta, spec->head_dim,
                      spec->max_position, spec->ropes, err) < 0)
        return -1;
    spec->n_ropes = 2;
    for (int64_t i = 0; i < spec->n_layers; i++)
        spec->layers[i].rope = spec->layers[i].window > 0;
    return 0;
}

static const char *const understands_window[] = {"sliding_window", "layer_types", NULL};
static const char *const understands_cohere[] = {"logit_scale", "use_qk_norm", NULL};
static const char *const understands_cohere2[] = {"logit_scale", "sliding_window",
                                                  "layer_types", NULL};
static const char *const understands_clip[] = {"clip_qkv", NULL};

const struct family gated_families[] = {
    {
        .model_type = "glm",
        .architecture = "GlmForCausalLM",
        .names = &glm_names,
        .presets = {.vocab_size = 151552,
                    .hidden_size = 4096,
                    .intermediate_size = 13696,
                    .n_layers = 40,
                    .n_heads = 32,
                    .n_kv_heads = 2,
                    .head_dim = 128,
                    .max_position = 131072,
                    .eps = 1.5625e-7},
        .rope = {.partial = 0.5},
        .is = {.pairs = PAIRS_NEIGHBOURS, .mlp = MLP_GATED_FUSED, .qkv_bias = true},
        .read = read_glm,
    },
    {
        .model_type = "glm4",
        .architecture = "Glm4ForCausalLM",
        .names = &glm4_names,
        .presets = {.vocab_size = 151552,
                    .hidden_size = 4096,
                    .intermediate_size = 13696,
                    .n_layers = 40,
                    .n_heads = 32,
                    .n_kv_heads = 2,
                    .head_dim = 128,
                    .max_position = 131072,
                    .eps = 1.5625e-7},
        .rope = {.partial = 0.5},
        .is = {.pairs = PAIRS_NEIGHBOURS, .mlp = MLP_GATED_FUSED, .qkv_bias = true},
        .read = read_glm,
    },
    {
        .model_type = "helium",
        .architecture = "HeliumForCausalLM",
        .names = &llama_names,
        .presets = {.vocab_size = 48000,
                    .hidden_size = 2560,
                    .intermediate_size = 7040,
                    .n_layers = 24,
                    .n_heads = 20,
                    .n_kv_heads = 20,
                    .head_dim = 128,
                    .max_position = 4096,
                    .eps = 1e-8},
        .rope = {.theta = 100000},
        .is = {.norm = NORM_RMS_WIDE, .pairs = PAIRS_NEIGHBOURS},
        .read = read_helium,
    },
    {
        .model_type = "cohere",
        .architecture = "CohereForCausalLM",
        .names = &cohere_names,
        .presets = {.vocab_size = 256000,
                    .hidden_size = 8192,
                    .intermediate_size = 22528,
                    .n_layers = 40,
                    .n_heads = 64,
                    .max_position = 8192,
                    .eps = 1e-5,
                    .tied = true},
        .fields = {.eps = "layer_norm_eps"},
        .rope = {.theta = 500000},
        .is = {.norm = NORM_LAYER_WIDE,
               .qk_norm_kind = NORM_LAYER_WIDE,
               .pairs = PAIRS_NEIGHBOURS,
               .rope_rounding = ROPE_TABLES_DTYPE,
               .is_parallel = true},
        .understands = understands_cohere,
        .read = read_cohere,
    },
    {
        .model_type = "cohere2",
        .architecture = "Cohere2ForCausalLM",
        .names = &cohere_names,
        .presets = {.vocab_size = 256000,
                    .hidden_size = 8192,
                    .intermediate_size = 22528,
                    .n_layers = 40,
                    .n_heads = 64,
                    .max_position = 8192,
                    .window = 4096,
                    .eps = 1e-5,
                    .tied = true},
        .fields = {.eps = "layer_norm_eps"},
        .has_head_dim_of_hidden = true,
        .is = {.norm = NORM_LAYER_WIDE,
               .qk_norm_kind = NORM_LAYER_WIDE,
               .pairs = PAIRS_NEIGHBOURS,
               .rope_rounding = ROPE_TABLES_DTYPE,
               .is_parallel = true},
        .understands = understands_cohere2,
        .read = read_cohere2,
    },
    {
        .model_type = "olmo",
        .architecture = "OlmoForCausalLM",
        .names = &llama_names,
        .presets = {.vocab_size = 50304,
                    .hidden_size = 4096,
                    .intermediate_size = 11008,
                    .n_layers = 32,
                    .n_heads = 32,
                    .max_position = 2048},
        .is = {.norm = NORM_LAYER_PLAIN, .rope_rounding = ROPE_WIDE},
        .understands = understands_clip,
        .read = read_olmo,
    },
    {
        .model_type = "olmo2",
        .architecture = "Olmo2ForCausalLM",
        .names = &olmo2_names,
        .presets = {.vocab_size = 50304,
                    .hidden_size = 4096,
                    .intermediate_size = 11008,
                    .n_layers = 32,
                    .n_heads = 32,
                    .max_position = 2048,
                    .eps = 1e-5},
        .is = {.norm = NORM_RMS_WIDE,
               .qk_norm = QK_NORM_ALL,
               .qk_norm_kind = NORM_RMS_WIDE,
               .rope_rounding = ROPE_WIDE},
        .read = read_olmo2,
    },
    {
        .model_type = "olmo3",
        .architecture = "Olmo3ForCausalLM",
        .names = &olmo2_names,
        .presets = {.vocab_size = 50304,
                    .hidden_size = 4096,
                    .intermediate_size = 11008,
                    .n_layers = 32,
                    .n_heads = 32,
                    .max_position = 2048,
                    .window = 4096,
                    .eps = 1e-5},
        .rope = {.theta = 500000},
        .rope_kind = FAMILY_ROPE_OWN,
        .is = {.norm = NORM_RMS_WIDE,
               .qk_norm = QK_NORM_ALL,
               .qk_norm_kind = NORM_RMS_WIDE,
               .rope_rounding = ROPE_WIDE},
        .understands = understands_window,
        .read = read_olmo3,
    },
    {.model_type = NULL},
};
