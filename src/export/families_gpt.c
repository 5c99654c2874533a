/* families_gpt.c - GPT-2 and GPT-J and their kin, whose fields have names of their own.
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

static const char *const understands_layer_scale[] = {"scale_attn_by_inverse_layer_idx",
                                                      NULL};
static const char *const understands_rotary_dim[] = {"rotary_dim", NULL};
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
