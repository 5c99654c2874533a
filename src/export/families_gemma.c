/* families_gemma.c - Gemma: weights of norms count from one, embeddings are scaled. */
#include "export/families.h"
#include "export/windows.h"

#include <math.h>

#define GEMMA_SANDWICH                                                                   \
    .attn_norm = "input_layernorm", .attn_post_norm = "post_attention_layernorm",        \
    .mlp_norm = "pre_feedforward_layernorm",                                             \
    .mlp_post_norm = "post_feedforward_layernorm"

static const struct decoder_names gemma2_names = {LLAMA_FRAME, LLAMA_QKVO, GEMMA_SANDWICH,
                                                  LLAMA_GATED};
static const struct decoder_names gemma3_names = {LLAMA_FRAME, LLAMA_QKVO, GEMMA_SANDWICH,
                                                  LLAMA_GATED, LLAMA_QK_NORMS};
static const struct decoder_names vaultgemma_names = {
    LLAMA_FRAME, LLAMA_QKVO, LLAMA_GATED, .attn_norm = "input_layernorm",
    .mlp_norm = "pre_feedforward_layernorm"};

/* hidden_act gelu is a legacy value there, and means the other one. */
static int read_gemma(const struct family *family, const struct fields *config,
                      struct decoder_spec *spec, struct pt2_err *err)
{
    (void)family;
    spec->embed_multiplier = sqrt((double)spec->hidden_size);
    spec->embed_multiplier_cast = true;
    if (spec->act == ACT_GELU)
        spec->act = ACT_GELU_TANH;
    return family_read_attention_bias(config, spec, err);
}

static int read_scaled(const struct fields *config, double final_cap,
                       struct decoder_spec *spec, struct pt2_err *err)
{
    double scalar;

    spec->embed_multiplier = sqrt((double)spec->hidden_size);
    spec->embed_multiplier_cast = true;
    if (field_number(config, "query_pre_attn_scalar", 256, 1e-6, 1e12, &scalar, err) <
            0 ||
        family_read_softcap(config, "final_logit_softcapping", final_cap,
                            &spec->logits_softcap, err) < 0)
        return -1;
    family_set_attn_scale(spec, pow(scalar, -0.5));
    return family_read_attention_bias(config, spec, err);
}

/* Also vaultgemma's. */
static int read_gemma2(const struct family *family, const struct fields *config,
                       struct decoder_spec *spec, struct pt2_err *err)
{
    struct window_pattern pattern = {.period = 2};

    if (read_scaled(config, 30, spec, err) < 0 ||
        family_read_softcap(config, "attn_logit_softcapping", 50, &spec->attn_softcap,
                            err) < 0)
        return -1;
    return windows_read(family, config, pattern, spec, err);
}

/* Layers that see all turn by rope_theta, those with a window by rope_local_base_freq. */
static int read_gemma3(const struct family *family, const struct fields *config,
                       struct decoder_spec *spec, struct pt2_err *err)
{
    struct window_pattern pattern = {0};

    if (read_scaled(config, 0, spec, err) < 0 ||
        field_int(config, "sliding_window_pattern", 6, 1, INT64_MAX, &pattern.period,
                  err) < 0 ||
        windows_read(family, config, pattern, spec, err) < 0 ||
        rope_read_two(config, &family->rope, "rope_local_base_freq", 10000,
                      spec->head_dim, spec->max_position, spec->ropes, err) < 0)
        return -1;
    spec->n_ropes = 2;
    for (int64_t i = 0; i < spec->n_layers; i++)
        spec->layers[i].rope = spec->layers[i].window > 0;
    return 0;
}

static const char *const understands_softcaps[] = {
    "sliding_window",          "layer_types",
    "query_pre_attn_scalar",   "attn_logit_softcapping",
    "final_logit_softcapping", NULL};
static const char *const understands_gemma3[] = {"sliding_window", "layer_types",
                                                 "query_pre_attn_scalar",
                                                 "final_logit_softcapping", NULL};

const struct family gemma_families[] = {
    {
        .model_type = "gemma",
        .architecture = "GemmaForCausalLM",
        .names = &llama_names,
        .presets = {.vocab_size = 256000,
                    .hidden_size = 3072,
                    .intermediate_size = 24576,
                    .n_layers = 28,
                    .n_heads = 16,
                    .n_kv_heads = 16,
                    .head_dim = 256,
                    .max_position = 8192,
                    .act = "gelu_pytorch_tanh",
                    .tied = true},
        .is = {.norm = NORM_RMS_PLUS_ONE},
        .read = read_gemma,
    },
    {
        .model_type = "gemma2",
        .architecture = "Gemma2ForCausalLM",
        .names = &gemma2_names,
        .presets = {.vocab_size = 256000,
                    .hidden_size = 2304,
                    .intermediate_size = 9216,
                    .n_layers = 26,
                    .n_heads = 8,
                    .n_kv_heads = 4,
                    .head_dim = 256,
                    .max_position = 8192,
                    .window = 4096,
                    .act = "gelu_pytorch_tanh",
                    .tied = true},
        .fields = {.act = "hidden_activation"},
        .is = {.norm = NORM_RMS_PLUS_ONE},
        .understands = understands_softcaps,
        .read = read_gemma2,
    },
    {
        .model_type = "gemma3_text",
        .architecture = "Gemma3ForCausalLM",
        .names = &gemma3_names,
        .presets = {.vocab_size = 262208,
                    .hidden_size = 2304,
                    .intermediate_size = 9216,
                    .n_layers = 26,
                    .n_heads = 8,
                    .n_kv_heads = 4,
                    .head_dim = 256,
                    .max_position = 131072,
                    .window = 4096,
                    .act = "gelu_pytorch_tanh",
                    .tied = true},
        .fields = {.act = "hidden_activation"},
        .rope = {.theta = 1000000},
        .rope_kind = FAMILY_ROPE_OWN,
        .is = {.norm = NORM_RMS_PLUS_ONE,
               .qk_norm = QK_NORM_HEAD,
               .qk_norm_kind = NORM_RMS_PLUS_ONE},
        .understands = understands_gemma3,
        .read = read_gemma3,
    },
    {
        .model_type = "vaultgemma",
        .architecture = "VaultGemmaForCausalLM",
        .names = &vaultgemma_names,
        .presets = {.vocab_size = 256000,
                    .hidden_size = 2304,
                    .intermediate_size = 9216,
                    .n_layers = 26,
                    .n_heads = 8,
                    .n_kv_heads = 4,
                    .head_dim = 256,
                    .max_position = 8192,
                    .window = 4096,
                    .act = "gelu_pytorch_tanh",
                    .tied = true},
        .fields = {.act = "hidden_activation"},
        .is = {.norm = NORM_RMS_PLUS_ONE},
        .understands = understands_softcaps,
        .read = read_gemma2,
    },
    {.model_type = NULL},
};
