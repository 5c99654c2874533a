/* families_layernorm.c - layer norms with weight and bias, most of them without gates. */
#include "export/families.h"
#include "export/windows.h"

static const struct decoder_names starcoder2_names = {
    LLAMA_FRAME, LLAMA_QKVO, LLAMA_NORMS, .up = "mlp.c_fc", .down = "mlp.c_proj"};
#define STABLELM_NAMES                                                                   \
    LLAMA_FRAME, LLAMA_QKVO, LLAMA_GATED, .q_norm = "self_attn.q_layernorm",             \
                                          .k_norm = "self_attn.k_layernorm"
static const struct decoder_names stablelm_names = {STABLELM_NAMES, LLAMA_NORMS};
static const struct decoder_names stablelm_parallel_names = {
    STABLELM_NAMES, .attn_norm = "input_layernorm"};
static const struct decoder_names plain_names = {LLAMA_FRAME, LLAMA_QKVO, LLAMA_NORMS,
                                                 LLAMA_PLAIN};
static const struct decoder_names phi_names = {
    .embed = "model.embed_tokens",
    .layers = "model.layers",
    .norm = "model.final_layernorm",
    .head = "lm_head",
    .rotary = "model.rotary_emb",
    .attn_norm = "input_layernorm",
    .q = "self_attn.q_proj",
    .k = "self_attn.k_proj",
    .v = "self_attn.v_proj",
    .o = "self_attn.dense",
    .q_norm = "self_attn.q_layernorm",
    .k_norm = "self_attn.k_layernorm",
    .up = "mlp.fc1",
    .down = "mlp.fc2",
};
static const struct decoder_names persimmon_names = {
    .embed = "model.embed_tokens",
    .layers = "model.layers",
    .norm = "model.final_layernorm",
    .head = "lm_head",
    .rotary = "model.rotary_emb",
    LLAMA_NORMS,
    .qkv = "self_attn.query_key_value",
    .o = "self_attn.dense",
    .q_norm = "self_attn.q_layernorm",
    .k_norm = "self_attn.k_layernorm",
    .up = "mlp.dense_h_to_4h",
    .down = "mlp.dense_4h_to_h",
};
static const struct decoder_names neox_names = {
    .embed = "gpt_neox.embed_in",
    .layers = "gpt_neox.layers",
    .norm = "gpt_neox.final_layer_norm",
    .head = "lm_head",
    .old_head = "embed_out",
    .rotary = "gpt_neox.rotary_emb",
    LLAMA_NORMS,
    .qkv = "attention.query_key_value",
    .o = "attention.dense",
    .up = "mlp.dense_h_to_4h",
    .down = "mlp.dense_4h_to_h",
};

static const struct decoder_names neox_japanese_names = {
    .embed = "gpt_neox_japanese.embed_in",
    .layers = "gpt_neox_japanese.layers",
    .norm = "gpt_neox_japanese.final_layer_norm",
    .head = "embed_out",
    .rotary = "gpt_neox_japanese.rotary_emb",
    LLAMA_NORMS,
    .qkv = "attention.query_key_value",
    .o = "attention.dense",
    .last_o_bias = "attention.dense_bias",
    .up = "mlp.dense_h_to_4h",
    .down = "mlp.dense_4h_to_h",
};

/* use_bias is of every linear of a layer */
static int read_starcoder2(const struct family *family, const struct fields *config,
                           struct decoder_spec *spec, struct pt2_err *err)
{
    if (field_bool(config, "use_bias", true, &spec->qkv_bias, err) < 0)
        return -1;
    spec->o_bias = spec->mlp_bias = spec->qkv_bias;
    return windows_read_all(family, config, spec, err);
}

static int read_stablelm(const struct family *family, const struct fields *config,
                         struct decoder_spec *spec, struct pt2_err *err)
{
    bool has_norms;

    (void)family;
    if (field_bool(config, "use_parallel_residual", false, &spec->is_parallel, err) < 0 ||
        field_bool(config, "qk_layernorm", false, &has_norms, err) < 0)
        return -1;
    spec->qk_norm = has_norms ? QK_NORM_MODULES : QK_NORM_NONE;
    if (spec->is_parallel)
        spec->names = &stablelm_parallel_names;
    return field_bool(config, "use_qkv_bias", false, &spec->qkv_bias, err);
}

/* Also jais2's. */
static int read_nemotron(const struct family *family, const struct fields *config,
                         struct decoder_spec *spec, struct pt2_err *err)
{
    (void)family;
    return family_read_biases(config, spec, err);
}

/* phi and persimmon: the class's own is in `is` */
static int read_qk_layernorm(const struct family *family, const struct fields *config,
                             struct decoder_spec *spec, struct pt2_err *err)
{
    bool has_norms;

    if (field_bool(config, "qk_layernorm", family->is.qk_norm != QK_NORM_NONE, &has_norms,
                   err) < 0)
        return -1;
    spec->qk_norm = has_norms ? QK_NORM_HEAD : QK_NORM_NONE;
    return 0;
}

static int read_gpt_neox(const struct family *family, const struct fields *config,
                         struct decoder_spec *spec, struct pt2_err *err)
{
    (void)family;
    if (field_bool(config, "use_parallel_residual", true, &spec->is_parallel, err) < 0)
        return -1;
    return family_read_attention_bias(config, spec, err);
}

static int read_gpt_neox_japanese(const struct family *family,
                                  const struct fields *config, struct decoder_spec *spec,
                                  struct pt2_err *err)
{
    int64_t n_times;

    (void)family;
    if (field_int(config, "intermediate_multiple_size", 4, 1,
                  SPEC_MAX_SIZE / spec->hidden_size, &n_times, err) < 0)
        return -1;
    spec->intermediate_size = spec->hidden_size * n_times;
    return 0;
}

static const char *const understands_window[] = {"sliding_window", "layer_types", NULL};
static const char *const understands_parallel[] = {"use_parallel_residual", NULL};
static const char *const understands_qk_norm[] = {"qk_layernorm", NULL};
static const char *const understands_stablelm[] = {"use_parallel_residual",
                                                   "qk_layernorm", NULL};
static const char *const neox_ignores[] = {".attention.bias", ".attention.masked_bias",
                                           NULL};

const struct family layernorm_families[] = {
    {
        .model_type = "starcoder2",
        .architecture = "Starcoder2ForCausalLM",
        .names = &starcoder2_names,
        .presets = {.vocab_size = 49152,
                    .hidden_size = 3072,
                    .intermediate_size = 12288,
                    .n_layers = 30,
                    .n_heads = 24,
                    .n_kv_heads = 2,
                    .max_position = 4096,
                    .eps = 1e-5,
                    .act = "gelu_pytorch_tanh",
                    .tied = true},
        .fields = {.eps = "norm_epsilon"},
        .is = {.norm = NORM_LAYER, .mlp = MLP_PLAIN},
        .understands = understands_window,
        .read = read_starcoder2,
    },
    {
        .model_type = "stablelm",
        .architecture = "StableLmForCausalLM",
        .names = &stablelm_names,
        .presets = {.vocab_size = 50304,
                    .hidden_size = 2560,
                    .intermediate_size = 6912,
                    .n_layers = 32,
                    .n_heads = 32,
                    .n_kv_heads = 32,
                    .max_position = 4096,
                    .eps = 1e-5},
        .fields = {.eps = "layer_norm_eps"},
        .rope = {.partial = 0.25},
        .has_head_dim_of_hidden = true,
        .is = {.norm = NORM_LAYER, .qk_norm_kind = NORM_LAYER_WIDE},
        .understands = understands_stablelm,
        .read = read_stablelm,
    },
    {
        .model_type = "nemotron",
        .architecture = "NemotronForCausalLM",
        .names = &plain_names,
        .presets = {.vocab_size = 256000,
                    .hidden_size = 6144,
                    .intermediate_size = 24576,
                    .n_layers = 32,
                    .n_heads = 48,
                    .max_position = 4096,
                    .eps = 1e-5,
                    .act = "relu2"},
        .fields = {.eps = "norm_eps"},
        .rope = {.partial = 0.5},
        .is = {.norm = NORM_LAYER_PLUS_ONE, .mlp = MLP_PLAIN},
        .read = read_nemotron,
    },
    {
        .model_type = "jais2",
        .architecture = "Jais2ForCausalLM",
        .names = &plain_names,
        .presets = {.vocab_size = 150272,
                    .hidden_size = 3328,
                    .intermediate_size = 26624,
                    .n_layers = 32,
                    .n_heads = 26,
                    .max_position = 8192,
                    .eps = 1e-5,
                    .act = "relu2"},
        .fields = {.eps = "layer_norm_eps"},
        .is = {.norm = NORM_LAYER, .mlp = MLP_PLAIN, .qkv_bias = true, .mlp_bias = true},
        .read = read_nemotron,
    },
    {
        .model_type = "phi",
        .architecture = "PhiForCausalLM",
        .names = &phi_names,
        .presets = {.vocab_size = 51200,
                    .hidden_size = 2048,
                    .intermediate_size = 8192,
                    .n_layers = 24,
                    .n_heads = 32,
                    .max_position = 2048,
                    .eps = 1e-5,
                    .act = "gelu_new"},
        .fields = {.eps = "layer_norm_eps"},
        .rope = {.partial = 0.5},
        .has_head_dim_of_hidden = true,
        .is = {.norm = NORM_LAYER,
               .qk_norm_kind = NORM_LAYER,
               .mlp = MLP_PLAIN,
               .is_parallel = true,
               .qkv_bias = true,
               .o_bias = true,
               .mlp_bias = true,
               .head_bias = true},
        .understands = understands_qk_norm,
        .read = read_qk_layernorm,
    },
    {
        .model_type = "persimmon",
        .architecture = "PersimmonForCausalLM",
        .names = &persimmon_names,
        .presets = {.vocab_size = 262144,
                    .hidden_size = 4096,
                    .intermediate_size = 16384,
                    .n_layers = 36,
                    .n_heads = 64,
                    .max_position = 16384,
                    .eps = 1e-5,
                    .act = "relu2"},
        .fields = {.eps = "layer_norm_eps"},
        .rope = {.partial = 0.5},
        .has_head_dim_of_hidden = true,
        .has_no_kv_heads = true,
        .is = {.norm = NORM_LAYER,
               .qk_norm = QK_NORM_HEAD,
               .qk_norm_kind = NORM_LAYER,
               .qkv = QKV_PER_HEAD,
               .mlp = MLP_PLAIN,
               .qkv_bias = true,
               .o_bias = true,
               .mlp_bias = true},
        .understands = understands_qk_norm,
        .read = read_qk_layernorm,
    },
    {
        .model_type = "gpt_neox",
        .architecture = "GPTNeoXForCausalLM",
        .names = &neox_names,
        .presets = {.vocab_size = 50432,
                    .hidden_size = 6144,
                    .intermediate_size = 24576,
                    .n_layers = 44,
                    .n_heads = 64,
                    .max_position = 2048,
                    .eps = 1e-5,
                    .act = "gelu"},
        .fields = {.eps = "layer_norm_eps"},
        .rope = {.theta_field = "rotary_emb_base",
                 .partial_field = "rotary_pct",
                 .partial = 0.25},
        .has_head_dim_of_hidden = true,
        .has_no_kv_heads = true,
        .is = {.norm = NORM_LAYER,
               .qkv = QKV_PER_HEAD,
               .mlp = MLP_PLAIN,
               .qkv_bias = true,
               .mlp_bias = true},
        .understands = understands_parallel,
        .ignores = neox_ignores,
        .read = read_gpt_neox,
    },
    {
        .model_type = "gpt_neox_japanese",
        .architecture = "GPTNeoXJapaneseForCausalLM",
        .names = &neox_japanese_names,
        .presets = {.vocab_size = 32000,
                    .hidden_size = 2560,
                    .n_layers = 32,
                    .n_heads = 32,
                    .max_position = 2048,
                    .eps = 1e-5,
                    .act = "gelu",
                    .tied = true},
        .fields = {.eps = "layer_norm_eps"},
        .rope = {.theta_field = "rotary_emb_base",
                 .partial_field = "rotary_pct",
                 .partial = 1},
        .has_head_dim_of_hidden = true,
        .has_no_kv_heads = true,
        .is = {.norm = NORM_LAYER, .qkv = QKV_PER_HEAD, .mlp = MLP_PLAIN},
        .ignores = neox_ignores,
        .read = read_gpt_neox_japanese,
    },
    {.model_type = NULL},
};
