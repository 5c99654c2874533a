/* families_gpt.c - GPT-2, Neo, J and their kin, whose fields have names of their own.
 */
#include "export/families.h"

#include <math.h>

#define GPT_FRAME                                                                        \
    .embed = "transformer.wte", .layers = "transformer.h", .norm = "transformer.ln_f",   \
    .head = "lm_head", .attn_norm = "ln_1"
#define GPT_FIELDS                                                                       \
    {.hidden_size = "n_embd",                                                            \
     .intermediate_size = "n_inner",                                                     \
     .n_layers = "n_layer",                                                              \
     .n_heads = "n_head",                                                                \
     .max_position = "n_positions",                                                      \
     .eps = "layer_norm_epsilon",                                                        \
     .act = "activation_function"}

static const struct decoder_names gpt2_names = {
    GPT_FRAME,
    .positions = "transformer.wpe",
    .mlp_norm = "ln_2",
    .qkv = "attn.c_attn",
    .o = "attn.c_proj",
    .up = "mlp.c_fc",
    .down = "mlp.c_proj",
};
/* The reference keeps a table of sines in each layer; one inv_freq does for all. */
static const struct decoder_names gptj_names = {
    GPT_FRAME,          .rotary = "transformer.rotary_emb",
    .q = "attn.q_proj", .k = "attn.k_proj",
    .v = "attn.v_proj", .o = "attn.out_proj",
    .up = "mlp.fc_in",  .down = "mlp.fc_out",
};
static const struct decoder_names codegen_names = {
    GPT_FRAME,
    .rotary = "transformer.rotary_emb",
    .qkv = "attn.qkv_proj",
    .o = "attn.out_proj",
    .up = "mlp.fc_in",
    .down = "mlp.fc_out",
};

static const struct decoder_names gpt_neo_names = {
    GPT_FRAME,
    .positions = "transformer.wpe",
    .mlp_norm = "ln_2",
    .q = "attn.attention.q_proj",
    .k = "attn.attention.k_proj",
    .v = "attn.attention.v_proj",
    .o = "attn.attention.out_proj",
    .up = "mlp.c_fc",
    .down = "mlp.c_proj",
};

static int read_scale(const struct fields *config, struct decoder_spec *spec,
                      struct pt2_err *err)
{
    bool is_scaled;

    if (field_bool(config, "scale_attn_weights", true, &is_scaled, err) < 0)
        return -1;
    if (!is_scaled)
        family_set_attn_scale(spec, 1);
    return 0;
}

static int read_gpt2(const struct family *family, const struct fields *config,
                     struct decoder_spec *spec, struct pt2_err *err)
{
    bool by_layer;

    (void)family;
    if (read_scale(config, spec, err) < 0 ||
        field_bool(config, "scale_attn_by_inverse_layer_idx", false, &by_layer, err) < 0)
        return -1;
    for (int64_t i = 0; i < spec->n_layers && by_layer; i++)
        spec->layers[i].attn_scale /= (double)(i + 1);
    return 0;
}

static int read_gpt_bigcode(const struct family *family, const struct fields *config,
                            struct decoder_spec *spec, struct pt2_err *err)
{
    bool is_multi_query;

    (void)family;
    if (field_bool(config, "multi_query", true, &is_multi_query, err) < 0)
        return -1;
    if (is_multi_query)
        spec->n_kv_heads = 1;
    spec->qkv = is_multi_query ? QKV_FUSED : QKV_PER_HEAD;
    return read_scale(config, spec, err);
}

static int read_gptj(const struct family *family, const struct fields *config,
                     struct decoder_spec *spec, struct pt2_err *err)
{
    struct rope *rope = &spec->ropes[0];

    (void)family;
    *rope = (struct rope){.prefix = "",
                          .theta = 10000,
                          .attention_scale = 1,
                          .max_position = spec->max_position};
    spec->n_ropes = 1;
    if (field_is_null(config, "rotary_dim"))
        return field_refuse(config, "rotary_dim", err, "null is not offered");
    if (field_int(config, "rotary_dim", 64, 2, spec->head_dim, &rope->dim, err) < 0)
        return -1;
    return rope->dim % 2 ? field_bad(config, "rotary_dim", err,
                                     "is %lld, and must be even", (long long)rope->dim)
                         : 0;
}

static int read_codegen(const struct family *family, const struct fields *config,
                        struct decoder_spec *spec, struct pt2_err *err)
{
    if (spec->n_heads % QKV_N_BLOCKS)
        return field_bad(
            config, "n_head", err,
            "is %lld, and must be a multiple of %d, whose blocks qkv_proj has",
            (long long)spec->n_heads, QKV_N_BLOCKS);
    return read_gptj(family, config, spec, err);
}

/* Append n_times the kinds of layers; those that are "local" have the window. */
static int add_kinds(const struct fields *config, const json_t *kinds, json_int_t n_times,
                     int64_t window, int64_t *n, struct decoder_spec *spec,
                     struct pt2_err *err)
{
    const json_t *kind;
    size_t i;

    for (json_int_t t = 0; t < n_times; t++)
        json_array_foreach (kinds, i, kind) {
            const char *name = json_string_value(kind);
            bool is_local = name && streq(name, "local");

            if (!is_local && !(name && streq(name, "global")))
                return field_refuse(config, "attention_types", err,
                                    "layers are global or local");
            if (*n == spec->n_layers)
                return field_bad(config, "attention_types", err,
                                 "is of more layers than num_layers, %lld",
                                 (long long)spec->n_layers);
            spec->layers[(*n)++].window = is_local ? window : 0;
        }
    return 0;
}

/* attention_types: [[["global", "local"], 12]], each list of kinds so many times; or
 * attention_layers, a kind a layer, which counts more. */
static int read_gpt_neo(const struct family *family, const struct fields *config,
                        struct decoder_spec *spec, struct pt2_err *err)
{
    json_auto_t *preset = json_pack("[[[ss]i]]", "global", "local", 12);
    const json_t *types = field_get(config, "attention_types"), *item;
    int64_t window, n = 0;
    size_t i;

    (void)family;
    if (!preset)
        return pt2_err_set(err, PT2_ERR_NOMEM, "attention_types");
    if (field_int(config, "window_size", 256, 1, 1LL << 40, &window, err) < 0)
        return -1;
    if (field_is_there(config, "attention_layers")) {
        if (add_kinds(config, field_get(config, "attention_layers"), 1, window, &n, spec,
                      err) < 0)
            return -1;
        types = NULL;
    } else if (!field_is_there(config, "attention_types")) {
        types = preset;
    }
    json_array_foreach (types, i, item) {
        const json_t *kinds = json_array_get(item, 0), *times = json_array_get(item, 1);

        if (json_array_size(item) != 2 || json_array_size(kinds) == 0 ||
            !json_is_integer(times))
            return field_bad(config, "attention_types", err,
                             "must be lists of kinds of layers and how many times");
        if (add_kinds(config, kinds, json_integer_value(times), window, &n, spec, err) <
            0)
            return -1;
    }
    if (n != spec->n_layers)
        return field_bad(config, "attention_types", err,
                         "is of %lld layers, but num_layers is %lld", (long long)n,
                         (long long)spec->n_layers);
    family_set_attn_scale(spec, 1);
    return 0;
}

static const char *const understands_layer_scale[] = {"scale_attn_by_inverse_layer_idx",
                                                      NULL};
static const char *const understands_rotary_dim[] = {"rotary_dim", NULL};
static const char *const neo_ignores[] = {".attn.attention.bias",
                                          ".attn.attention.masked_bias", NULL};
static const char *const ignores[] = {".attn.bias", ".attn.masked_bias",
                                      ".attn.causal_mask", NULL};

const struct family gpt_families[] = {
    {
        .model_type = "gpt2",
        .architecture = "GPT2LMHeadModel",
        .names = &gpt2_names,
        .presets = {.vocab_size = 50257,
                    .hidden_size = 768,
                    .n_layers = 12,
                    .n_heads = 12,
                    .max_position = 1024,
                    .eps = 1e-5,
                    .act = "gelu_new",
                    .tied = true},
        .fields = GPT_FIELDS,
        .rope_kind = FAMILY_NO_ROPE,
        .has_head_dim_of_hidden = true,
        .has_no_kv_heads = true,
        .is = {.norm = NORM_LAYER,
               .qkv = QKV_FUSED,
               .mlp = MLP_PLAIN,
               .qkv_bias = true,
               .o_bias = true,
               .mlp_bias = true,
               .transposed = true},
        .understands = understands_layer_scale,
        .ignores = ignores,
        .read = read_gpt2,
    },
    {
        .model_type = "gpt_bigcode",
        .architecture = "GPTBigCodeForCausalLM",
        .names = &gpt2_names,
        .presets = {.vocab_size = 50257,
                    .hidden_size = 768,
                    .n_layers = 12,
                    .n_heads = 12,
                    .max_position = 1024,
                    .eps = 1e-5,
                    .act = "gelu_pytorch_tanh",
                    .tied = true},
        .fields = GPT_FIELDS,
        .rope_kind = FAMILY_NO_ROPE,
        .has_head_dim_of_hidden = true,
        .has_no_kv_heads = true,
        .is = {.norm = NORM_LAYER,
               .qkv = QKV_FUSED,
               .mlp = MLP_PLAIN,
               .qkv_bias = true,
               .o_bias = true,
               .mlp_bias = true},
        .ignores = ignores,
        .read = read_gpt_bigcode,
    },
    {
        .model_type = "gpt_neo",
        .architecture = "GPTNeoForCausalLM",
        .names = &gpt_neo_names,
        .presets = {.vocab_size = 50257,
                    .hidden_size = 2048,
                    .n_layers = 24,
                    .n_heads = 16,
                    .max_position = 2048,
                    .eps = 1e-5,
                    .act = "gelu_new",
                    .tied = true},
        .fields = {.n_layers = "num_layers",
                   .n_heads = "num_heads",
                   .eps = "layer_norm_epsilon",
                   .act = "activation_function"},
        .rope_kind = FAMILY_NO_ROPE,
        .has_head_dim_of_hidden = true,
        .has_no_kv_heads = true,
        .is = {.norm = NORM_LAYER, .mlp = MLP_PLAIN, .o_bias = true, .mlp_bias = true},
        .ignores = neo_ignores,
        .note = "gpt_neo: the reference export's logits are wrong, because it takes the "
                "rows of its mask as if the cache ended at the last position; here each "
                "position sees itself and those before it, of a local layer's window.",
        .read = read_gpt_neo,
    },
    {
        .model_type = "gptj",
        .architecture = "GPTJForCausalLM",
        .names = &gptj_names,
        .presets = {.vocab_size = 50400,
                    .hidden_size = 4096,
                    .n_layers = 28,
                    .n_heads = 16,
                    .max_position = 2048,
                    .eps = 1e-5,
                    .act = "gelu_new"},
        .fields = GPT_FIELDS,
        .rope_kind = FAMILY_ROPE_OWN,
        .has_head_dim_of_hidden = true,
        .has_no_kv_heads = true,
        .is = {.norm = NORM_LAYER,
               .pairs = PAIRS_NEIGHBOURS,
               .mlp = MLP_PLAIN,
               .is_parallel = true,
               .mlp_bias = true,
               .head_bias = true},
        .understands = understands_rotary_dim,
        .ignores = ignores,
        .read = read_gptj,
    },
    {
        .model_type = "codegen",
        .architecture = "CodeGenForCausalLM",
        .names = &codegen_names,
        .presets = {.vocab_size = 50400,
                    .hidden_size = 4096,
                    .n_layers = 28,
                    .n_heads = 16,
                    .max_position = 2048,
                    .eps = 1e-5,
                    .act = "gelu_new"},
        .fields = GPT_FIELDS,
        .rope_kind = FAMILY_ROPE_OWN,
        .has_head_dim_of_hidden = true,
        .has_no_kv_heads = true,
        .is = {.norm = NORM_LAYER,
               .pairs = PAIRS_NEIGHBOURS,
               .mlp = MLP_PLAIN,
               .is_parallel = true,
               .mlp_bias = true,
               .head_bias = true,
               .qkv = QKV_BLOCKS},
        .understands = understands_rotary_dim,
        .ignores = ignores,
        .read = read_codegen,
    },
    {.model_type = NULL},
};
