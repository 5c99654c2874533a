/* families_llama.c - Llama, and those that add a bias, a factor or another activation. */
#include "export/families.h"

#include <math.h>

static const struct decoder_names plain_names = {LLAMA_FRAME, LLAMA_QKVO, LLAMA_NORMS,
                                                 LLAMA_PLAIN};
static const struct decoder_names post_names = {LLAMA_FRAME,
                                                LLAMA_QKVO,
                                                LLAMA_NORMS,
                                                LLAMA_GATED,
                                                .attn_post_norm = "post_norm1",
                                                .mlp_post_norm = "post_norm2"};
static const struct decoder_names hunyuan_names = {LLAMA_FRAME,
                                                   LLAMA_QKVO,
                                                   LLAMA_NORMS,
                                                   LLAMA_GATED,
                                                   .q_norm = "self_attn.query_layernorm",
                                                   .k_norm = "self_attn.key_layernorm"};
static const struct decoder_names apertus_names = {LLAMA_FRAME,
                                                   LLAMA_QKVO,
                                                   LLAMA_QK_NORMS,
                                                   LLAMA_PLAIN,
                                                   .attn_norm = "attention_layernorm",
                                                   .mlp_norm = "feedforward_layernorm",
                                                   .act = "mlp.act_fn"};
static const struct decoder_names nanochat_names = {LLAMA_FRAME,     LLAMA_QKVO,
                                                    LLAMA_QK_NORMS,  LLAMA_NORMS,
                                                    .up = "mlp.fc1", .down = "mlp.fc2"};

static const struct decoder_names bitnet_names = {LLAMA_FRAME,
                                                  LLAMA_QKVO,
                                                  LLAMA_NORMS,
                                                  LLAMA_GATED,
                                                  .attn_sub_norm =
                                                      "self_attn.attn_sub_norm",
                                                  .mlp_sub_norm = "mlp.ffn_sub_norm"};

/* attention_bias is on all four projections */
static int read_llama(const struct family *family, const struct fields *config,
                      struct decoder_spec *spec, struct pt2_err *err)
{
    (void)family;
    if (spec->hidden_size % spec->n_heads)
        return field_bad(config, "hidden_size", err,
                         "is %lld, and must be a multiple of num_attention_heads, %lld",
                         (long long)spec->hidden_size, (long long)spec->n_heads);
    return family_read_biases(config, spec, err);
}

static int read_attention_bias(const struct family *family, const struct fields *config,
                               struct decoder_spec *spec, struct pt2_err *err)
{
    (void)family;
    return family_read_attention_bias(config, spec, err);
}

static int read_seed_oss(const struct family *family, const struct fields *config,
                         struct decoder_spec *spec, struct pt2_err *err)
{
    (void)family;
    if (family_read_biases(config, spec, err) < 0)
        return -1;
    return field_bool(config, "attention_out_bias", false, &spec->o_bias, err);
}

/* use_bias is of every linear of a layer */
static int read_ernie(const struct family *family, const struct fields *config,
                      struct decoder_spec *spec, struct pt2_err *err)
{
    (void)family;
    if (field_bool(config, "use_bias", false, &spec->qkv_bias, err) < 0)
        return -1;
    spec->o_bias = spec->mlp_bias = spec->qkv_bias;
    return 0;
}

static int read_granite(const struct family *family, const struct fields *config,
                        struct decoder_spec *spec, struct pt2_err *err)
{
    (void)family;
    if (family_read_factors(config, 1, spec, err) < 0 ||
        family_read_biases(config, spec, err) < 0)
        return -1;
    return family_read_factor(config, "logits_scaling", 1, &spec->logits_divisor, err);
}

/* Where Granite divides the logits, this multiplies them. */
static int read_hyperclovax(const struct family *family, const struct fields *config,
                            struct decoder_spec *spec, struct pt2_err *err)
{
    bool has_post_norms;

    (void)family;
    if (family_read_factors(config, pow((double)spec->head_dim, -0.5), spec, err) < 0 ||
        family_read_biases(config, spec, err) < 0 ||
        field_bool(config, "use_post_norm", true, &has_post_norms, err) < 0)
        return -1;
    if (!has_post_norms)
        spec->names = &llama_names;
    return family_read_factor(config, "logits_scaling", 1, &spec->logits_multiplier, err);
}

static int read_nanochat(const struct family *family, const struct fields *config,
                         struct decoder_spec *spec, struct pt2_err *err)
{
    (void)family;
    if (family_read_attention_bias(config, spec, err) < 0)
        return -1;
    return family_read_softcap(config, "final_logit_softcapping", 15,
                               &spec->logits_softcap, err);
}

static const char *const understands_factors[] = {
    "attention_multiplier", "embedding_multiplier", "residual_multiplier",
    "logits_scaling",       "use_post_norm",        NULL};
static const char *const understands_softcap[] = {"final_logit_softcapping", NULL};
static const char *const understands_qk_norm[] = {"use_qk_norm", NULL};

const struct family llama_families[] = {
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
        .read = read_llama,
    },
    {
        .model_type = "arcee",
        .architecture = "ArceeForCausalLM",
        .names = &plain_names,
        .presets = {.vocab_size = 32000,
                    .hidden_size = 2560,
                    .intermediate_size = 18432,
                    .n_layers = 32,
                    .n_heads = 32,
                    .max_position = 4096,
                    .eps = 1e-5,
                    .act = "relu2"},
        .is = {.mlp = MLP_PLAIN},
        .read = read_llama,
    },
    {
        .model_type = "seed_oss",
        .architecture = "SeedOssForCausalLM",
        .names = &llama_names,
        .presets = {.vocab_size = 155136,
                    .hidden_size = 4096,
                    .intermediate_size = 27648,
                    .n_layers = 64,
                    .n_heads = 80,
                    .n_kv_heads = 8,
                    .head_dim = 128,
                    .max_position = 524288},
        .is = {.qkv_bias = true},
        .read = read_seed_oss,
    },
    {
        .model_type = "ernie4_5",
        .architecture = "Ernie4_5ForCausalLM",
        .names = &llama_names,
        .presets = {.vocab_size = 103424,
                    .hidden_size = 1024,
                    .intermediate_size = 3072,
                    .n_layers = 18,
                    .n_heads = 16,
                    .n_kv_heads = 2,
                    .head_dim = 128,
                    .max_position = 131072,
                    .eps = 1e-5,
                    .tied = true},
        .rope = {.theta = 500000},
        .is = {.pairs = PAIRS_NEIGHBOURS, .rope_rounding = ROPE_TABLES_DTYPE},
        .read = read_ernie,
    },
    {
        .model_type = "granite",
        .architecture = "GraniteForCausalLM",
        .names = &llama_names,
        .presets = {.vocab_size = 32000,
                    .hidden_size = 4096,
                    .intermediate_size = 11008,
                    .n_layers = 32,
                    .n_heads = 32,
                    .max_position = 2048},
        .understands = understands_factors,
        .read = read_granite,
    },
    {
        .model_type = "hyperclovax",
        .architecture = "HyperCLOVAXForCausalLM",
        .names = &post_names,
        .presets = {.vocab_size = 32000,
                    .hidden_size = 4096,
                    .intermediate_size = 11008,
                    .n_layers = 32,
                    .n_heads = 32,
                    .max_position = 2048},
        .understands = understands_factors,
        .read = read_hyperclovax,
    },
    {
        .model_type = "hunyuan_v1_dense",
        .architecture = "HunYuanDenseV1ForCausalLM",
        .names = &hunyuan_names,
        .presets = {.vocab_size = 290943,
                    .hidden_size = 4096,
                    .intermediate_size = 11008,
                    .n_layers = 32,
                    .n_heads = 32,
                    .max_position = 2048,
                    .eps = 1e-5},
        .rope = {.reads_alpha = true},
        .is = {.qk_norm = QK_NORM_HEAD, .qk_norm_after_rope = true},
        .understands = understands_qk_norm,
        .read = read_attention_bias,
    },
    {
        .model_type = "apertus",
        .architecture = "ApertusForCausalLM",
        .names = &apertus_names,
        .presets = {.vocab_size = 131072,
                    .hidden_size = 4096,
                    .intermediate_size = 14336,
                    .n_layers = 32,
                    .n_heads = 32,
                    .max_position = 65536,
                    .eps = 1e-5,
                    .act = "xielu"},
        .rope = {.theta = 12000000, .is_required = true},
        .is = {.qk_norm = QK_NORM_HEAD, .mlp = MLP_PLAIN},
        .understands = understands_qk_norm,
        .read = read_attention_bias,
    },
    {
        .model_type = "nanochat",
        .architecture = "NanoChatForCausalLM",
        .names = &nanochat_names,
        .presets = {.vocab_size = 50304,
                    .hidden_size = 768,
                    .intermediate_size = 8192,
                    .n_layers = 12,
                    .n_heads = 6,
                    .max_position = 2048,
                    .act = "relu2"},
        .is = {.norm = NORM_RMS_PLAIN,
               .qk_norm = QK_NORM_HEAD,
               .qk_norm_kind = NORM_RMS_PLAIN,
               .qk_norm_after_rope = true,
               .pairs = PAIRS_HALVES_FLIPPED,
               .mlp = MLP_PLAIN,
               .embed_norm = true},
        .understands = understands_softcap,
        .read = read_nanochat,
    },
    {
        .model_type = "bitnet",
        .architecture = "BitNetForCausalLM",
        .names = &bitnet_names,
        .presets = {.vocab_size = 128256,
                    .hidden_size = 2560,
                    .intermediate_size = 6912,
                    .n_layers = 30,
                    .n_heads = 20,
                    .n_kv_heads = 5,
                    .max_position = 2048,
                    .eps = 1e-5,
                    .act = "relu2"},
        .rope = {.theta = 500000},
        .has_head_dim_of_hidden = true,
        .read = read_attention_bias,
    },
    {.model_type = NULL},
};
