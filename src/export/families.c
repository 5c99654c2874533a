#include "export/families.h"

/* Names that Llama gave its modules and most others kept. */
static const struct decoder_names llama_names = {
    .embed = "model.embed_tokens",
    .layers = "model.layers",
    .norm = "model.norm",
    .head = "lm_head",
    .attn_norm = "input_layernorm",
    .q = "self_attn.q_proj",
    .k = "self_attn.k_proj",
    .v = "self_attn.v_proj",
    .o = "self_attn.o_proj",
    .mlp_norm = "post_attention_layernorm",
    .gate = "mlp.gate_proj",
    .up = "mlp.up_proj",
    .down = "mlp.down_proj",
    .rotary = "model.rotary_emb",
};

/* What layer_types says of a layer, which spec.c has checked; NULL where it says nothing.
 */
static const char *layer_type(const struct fields *config, int64_t layer)
{
    return json_string_value(
        json_array_get(field_get(config, "layer_types"), (size_t)layer));
}

/* models/llama/modeling_llama.py: attention_bias is on all four projections */
static int read_llama(const struct family *family, const struct fields *config,
                      struct decoder_spec *spec, struct pt2_err *err)
{
    if (spec->hidden_size % spec->n_heads)
        return field_bad(config, "hidden_size", err,
                         "is %lld, and must be a multiple of num_attention_heads, %lld",
                         (long long)spec->hidden_size, (long long)spec->n_heads);
    if (field_bool(config, "attention_bias", false, &spec->qkv_bias, err) < 0 ||
        field_bool(config, "mlp_bias", false, &spec->mlp_bias, err) < 0)
        return -1;
    spec->o_bias = spec->qkv_bias;
    return 0;
}

/* models/mistral/modeling_mistral.py: one window for all layers, whatever layer_types
 * says; null is none, and left out is 4096 */
static int read_mistral(const struct family *family, const struct fields *config,
                        struct decoder_spec *spec, struct pt2_err *err)
{
    int64_t window = family->presets.window;

    if (field_is_null(config, "sliding_window"))
        window = 0;
    else if (field_int(config, "sliding_window", window, 1, INT64_MAX, &window, err) < 0)
        return -1;
    for (int64_t i = 0; i < spec->n_layers; i++) {
        const char *type = layer_type(config, i);

        if (type && streq(type, "sliding_attention") != (window > 0))
            return field_refuse(
                config, "layer_types", err,
                "layer %lld is %s, but sliding_window is for all of mistral's",
                (long long)i, type);
        spec->windows[i] = window;
    }
    return 0;
}

/* models/qwen2/configuration_qwen2.py: layer_types where given, otherwise the layers from
 * max_window_layers on; no window at all unless use_sliding_window */
static int read_qwen2(const struct family *family, const struct fields *config,
                      struct decoder_spec *spec, struct pt2_err *err)
{
    int64_t window = family->presets.window, first;
    bool use_window;

    spec->qkv_bias = true;
    if (field_bool(config, "use_sliding_window", false, &use_window, err) < 0 ||
        field_int(config, "max_window_layers", 28, 0, INT64_MAX, &first, err) < 0)
        return -1;
    if (!use_window || field_is_null(config, "sliding_window"))
        window = 0;
    else if (field_int(config, "sliding_window", window, 1, INT64_MAX, &window, err) < 0)
        return -1;
    for (int64_t i = 0; i < spec->n_layers; i++) {
        const char *type = layer_type(config, i);
        bool is_sliding = type ? streq(type, "sliding_attention") : i >= first;

        spec->windows[i] = is_sliding ? window : 0;
        if (type && is_sliding && window == 0)
            return field_refuse(
                config, "layer_types", err,
                "layer %lld is sliding_attention, but use_sliding_window is "
                "false or sliding_window null",
                (long long)i);
    }
    return 0;
}

static const char *const understands_none[] = {NULL};
static const char *const understands_window[] = {"sliding_window", "layer_types", NULL};

/* presets: models/<type>/configuration_<type>.py of transformers 5.18 */
static const struct family families[] = {
    {
        .model_type = "llama",
        .architecture = "LlamaForCausalLM",
        .names = &llama_names,
        .presets = {.vocab_size = 32000,
                    .hidden_size = 4096,
                    .intermediate_size = 11008,
                    .n_layers = 32,
                    .n_heads = 32,
                    .max_position = 2048},
        .understands = understands_none,
        .read = read_llama,
    },
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
        .read = read_mistral,
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
        .understands = understands_window,
        .read = read_qwen2,
    },
};

const struct family *family_find(const char *model_type)
{
    for (size_t i = 0; i < ARRAY_LEN(families); i++)
        if (streq(families[i].model_type, model_type))
            return &families[i];
    return NULL;
}

const struct family *family_at(size_t i)
{
    return i < ARRAY_LEN(families) ? &families[i] : NULL;
}
