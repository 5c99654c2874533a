/* families_window.c - RMS norms, and layers that see a window or all. */
#include "export/families.h"
#include "export/windows.h"

static const struct decoder_names qk_norm_names = {LLAMA_FRAME, LLAMA_QKVO, LLAMA_NORMS,
                                                   LLAMA_GATED, LLAMA_QK_NORMS};
static const struct decoder_names fused_names = {LLAMA_FRAME,
                                                 LLAMA_NORMS,
                                                 .qkv = "self_attn.qkv_proj",
                                                 .o = "self_attn.o_proj",
                                                 .gate = "mlp.gate_up_proj",
                                                 .down = "mlp.down_proj"};
static const struct decoder_names exaone_names = {
    LLAMA_FRAME,
    LLAMA_QKVO,
    LLAMA_GATED,
    LLAMA_QK_NORMS,
    .attn_post_norm = "post_attention_layernorm",
    .mlp_post_norm = "post_feedforward_layernorm"};

static int read_ministral(const struct family *family, const struct fields *config,
                          struct decoder_spec *spec, struct pt2_err *err)
{
    return windows_read(family, config, (struct window_pattern){0}, spec, err);
}

/* layer_types where given, otherwise the layers from max_window_layers on */
static int read_windows_from(const struct family *family, const struct fields *config,
                             int64_t first, struct decoder_spec *spec,
                             struct pt2_err *err)
{
    struct window_pattern pattern = {0};

    if (field_int(config, "max_window_layers", first, 0, INT64_MAX, &pattern.first, err) <
        0)
        return -1;
    return windows_read_if_used(family, config, pattern, spec, err);
}

static int read_qwen2(const struct family *family, const struct fields *config,
                      struct decoder_spec *spec, struct pt2_err *err)
{
    return read_windows_from(family, config, 28, spec, err);
}

static int read_qwen2_vl(const struct family *family, const struct fields *config,
                         struct decoder_spec *spec, struct pt2_err *err)
{
    return read_windows_from(family, config, 80, spec, err);
}

static int read_qwen3(const struct family *family, const struct fields *config,
                      struct decoder_spec *spec, struct pt2_err *err)
{
    if (family_read_attention_bias(config, spec, err) < 0)
        return -1;
    return read_qwen2(family, config, spec, err);
}

/* no_rope_layers: 1 for a layer that rotates (sic); otherwise each
 * no_rope_layer_interval-th does not. */
static int read_rotation(const struct fields *config, struct decoder_spec *spec,
                         struct pt2_err *err)
{
    const json_t *list = field_get(config, "no_rope_layers");
    int64_t interval;

    if (field_int(config, "no_rope_layer_interval", 4, 1, INT64_MAX, &interval, err) < 0)
        return -1;
    if (field_is_there(config, "no_rope_layers") &&
        (!json_is_array(list) || json_array_size(list) < (size_t)spec->n_layers))
        return field_bad(config, "no_rope_layers", err,
                         "must be a list of %lld, one a layer",
                         (long long)spec->n_layers);
    for (int64_t i = 0; i < spec->n_layers; i++) {
        const json_t *v = json_array_get(list, (size_t)i);
        bool rotates = (i + 1) % interval != 0;

        if (v && !json_is_integer(v) && !json_is_boolean(v))
            return field_bad(config, "no_rope_layers", err, "element %lld must be 0 or 1",
                             (long long)i);
        if (v)
            rotates = json_is_true(v) || json_integer_value(v) != 0;
        spec->layers[i].rope = rotates ? 0 : NO_ROPE;
    }
    return 0;
}

/* Where layer_types says nothing, what does not rotate slides. */
static int read_smollm3(const struct family *family, const struct fields *config,
                        struct decoder_spec *spec, struct pt2_err *err)
{
    if (family_read_biases(config, spec, err) < 0 ||
        read_rotation(config, spec, err) < 0 ||
        windows_read_if_used(family, config, (struct window_pattern){0}, spec, err) < 0)
        return -1;
    for (int64_t i = 0; i < spec->n_layers; i++)
        if (!windows_layer_type(config, i) && spec->layers[i].rope != NO_ROPE)
            spec->layers[i].window = 0;
    return 0;
}

static int read_cwm(const struct family *family, const struct fields *config,
                    struct decoder_spec *spec, struct pt2_err *err)
{
    struct window_pattern pattern = {.period = 4, .phase = 1};

    return windows_read(family, config, pattern, spec, err);
}

/* Where there is a window, the layers without one do not rotate. */
static int read_exaone4(const struct family *family, const struct fields *config,
                        struct decoder_spec *spec, struct pt2_err *err)
{
    bool has_window = !field_is_null(config, "sliding_window");
    struct window_pattern pattern = {0};

    if (has_window && field_int(config, "sliding_window_pattern", 4, 1, INT64_MAX,
                                &pattern.period, err) < 0)
        return -1;
    if (windows_read(family, config, pattern, spec, err) < 0)
        return -1;
    for (int64_t i = 0; i < spec->n_layers; i++)
        if (has_window && spec->layers[i].window == 0)
            spec->layers[i].rope = NO_ROPE;
    return 0;
}

static const char *const understands_window[] = {"sliding_window", "layer_types", NULL};
static const char *const understands_smollm3[] = {"sliding_window", "layer_types",
                                                  "no_rope_layers", NULL};

const struct family window_families[] = {
    {
        .model_type = "mistral",
        .architecture = "MistralForCausalLM",
        .names = &llama_names,
        .presets = {.vocab_size = 32000,
                    .hidden_size = 4096,
                    .intermediate_size = 14336,
                    .n_layers = 32,
                    .n_heads = 32,
                    .n_kv_heads = 8,
                    .max_position = 131072,
                    .window = 4096},
        .understands = understands_window,
        .read = windows_read_all,
    },
    {
        .model_type = "ministral",
        .architecture = "MinistralForCausalLM",
        .names = &llama_names,
        .presets = {.vocab_size = 32000,
                    .hidden_size = 4096,
                    .intermediate_size = 14336,
                    .n_layers = 32,
                    .n_heads = 32,
                    .n_kv_heads = 8,
                    .max_position = 131072,
                    .window = 4096},
        .understands = understands_window,
        .read = read_ministral,
    },
    {
        .model_type = "ministral3",
        .architecture = "Ministral3ForCausalLM",
        .names = &llama_names,
        .presets = {.vocab_size = 131072,
                    .hidden_size = 4096,
                    .intermediate_size = 14336,
                    .n_layers = 34,
                    .n_heads = 32,
                    .n_kv_heads = 8,
                    .head_dim = 128,
                    .max_position = 262144,
                    .eps = 1e-5},
        .rope = {.is_required = true, .reads_query_beta = true},
        .understands = understands_window,
        .read = windows_read_all,
    },
    {
        .model_type = "qwen2",
        .architecture = "Qwen2ForCausalLM",
        .names = &llama_names,
        .presets = {.vocab_size = 151936,
                    .hidden_size = 4096,
                    .intermediate_size = 22016,
                    .n_layers = 32,
                    .n_heads = 32,
                    .n_kv_heads = 32,
                    .max_position = 32768,
                    .window = 4096},
        .is = {.qkv_bias = true},
        .understands = understands_window,
        .read = read_qwen2,
    },
    {
        .model_type = "qwen2_vl_text",
        .architecture = "Qwen2VLForConditionalGeneration",
        .names = &llama_names,
        .presets = {.vocab_size = 152064,
                    .hidden_size = 8192,
                    .intermediate_size = 29568,
                    .n_layers = 80,
                    .n_heads = 64,
                    .n_kv_heads = 8,
                    .max_position = 32768,
                    .window = 4096,
                    .eps = 1e-5},
        .rope = {.theta = 1000000, .reads_sections = true},
        .has_head_dim_of_hidden = true,
        .is = {.qkv_bias = true},
        .understands = understands_window,
        .read = read_qwen2_vl,
    },
    {
        .model_type = "qwen2_5_vl_text",
        .architecture = "Qwen2_5_VLForConditionalGeneration",
        .names = &llama_names,
        .presets = {.vocab_size = 152064,
                    .hidden_size = 8192,
                    .intermediate_size = 29568,
                    .n_layers = 80,
                    .n_heads = 64,
                    .n_kv_heads = 8,
                    .max_position = 32768,
                    .window = 4096,
                    .eps = 1e-5},
        .rope = {.theta = 1000000, .reads_sections = true},
        .has_head_dim_of_hidden = true,
        .is = {.qkv_bias = true},
        .understands = understands_window,
        .read = read_qwen2_vl,
    },
    {
        .model_type = "qwen3",
        .architecture = "Qwen3ForCausalLM",
        .names = &qk_norm_names,
        .presets = {.vocab_size = 151936,
                    .hidden_size = 4096,
                    .intermediate_size = 22016,
                    .n_layers = 32,
                    .n_heads = 32,
                    .n_kv_heads = 32,
                    .head_dim = 128,
                    .max_position = 32768,
                    .window = 4096},
        .is = {.qk_norm = QK_NORM_HEAD},
        .understands = understands_window,
        .read = read_qwen3,
    },
    {
        .model_type = "smollm3",
        .architecture = "SmolLM3ForCausalLM",
        .names = &llama_names,
        .presets = {.vocab_size = 128256,
                    .hidden_size = 2048,
                    .intermediate_size = 11008,
                    .n_layers = 36,
                    .n_heads = 16,
                    .n_kv_heads = 4,
                    .max_position = 32768,
                    .tied = true},
        .rope = {.theta = 2000000},
        .understands = understands_smollm3,
        .read = read_smollm3,
    },
    {
        .model_type = "phi3",
        .architecture = "Phi3ForCausalLM",
        .names = &fused_names,
        .presets = {.vocab_size = 32064,
                    .hidden_size = 3072,
                    .intermediate_size = 8192,
                    .n_layers = 32,
                    .n_heads = 32,
                    .max_position = 4096,
                    .eps = 1e-5},
        .rope = {.partial = 1, .original_max = 4096, .is_longrope_only = true},
        .is = {.qkv = QKV_FUSED, .mlp = MLP_GATED_FUSED},
        .understands = understands_window,
        .read = windows_read_all,
    },
    {
        .model_type = "cwm",
        .architecture = "CwmForCausalLM",
        .names = &llama_names,
        .presets = {.vocab_size = 128256,
                    .hidden_size = 6144,
                    .intermediate_size = 21504,
                    .n_layers = 64,
                    .n_heads = 48,
                    .n_kv_heads = 8,
                    .head_dim = 128,
                    .max_position = 131072,
                    .window = 8192,
                    .eps = 1e-5},
        .rope = {.theta = 1000000, .is_required = true},
        .understands = understands_window,
        .read = read_cwm,
    },
    {
        .model_type = "exaone4",
        .architecture = "Exaone4ForCausalLM",
        .names = &exaone_names,
        .presets = {.vocab_size = 102400,
                    .hidden_size = 4096,
                    .intermediate_size = 16384,
                    .n_layers = 32,
                    .n_heads = 32,
                    .n_kv_heads = 32,
                    .max_position = 2048,
                    .window = 4096,
                    .eps = 1e-5},
        .is = {.qk_norm = QK_NORM_HEAD},
        .understands = understands_window,
        .read = read_exaone4,
    },
    {.model_type = NULL},
};
