/* families_falcon.c - Falcon: one class for three decoders, which its config tells apart.
 */
#include "export/families.h"

#define FALCON_FRAME                                                                     \
    .embed = "transformer.word_embeddings", .layers = "transformer.h",                   \
    .norm = "transformer.ln_f", .head = "lm_head", .rotary = "transformer.rotary_emb",   \
    .qkv = "self_attention.query_key_value", .o = "self_attention.dense",                \
    .up = "mlp.dense_h_to_4h", .down = "mlp.dense_4h_to_h"

/* 7B and 11B: attention and MLP side by side, of one norm */
static const struct decoder_names falcon_names = {FALCON_FRAME,
                                                  .attn_norm = "input_layernorm"};
/* 40B, 180B: a norm each */
static const struct decoder_names two_norms_names = {
    FALCON_FRAME, .attn_norm = "ln_attn", .mlp_norm = "ln_mlp"};
static const struct decoder_names sequential_names = {FALCON_FRAME, LLAMA_NORMS};

static const char multi_query_note[] =
    "falcon: the caches hold one head of keys and values, as the model computes; the "
    "reference export makes them with num_attention_heads and fails.";
static const char grouped_note[] =
    "falcon: the caches hold num_kv_heads heads; the reference export's hold each of "
    "them once for every head of queries.";

/* multi_query and parallel_attn say nothing of it */
static int read_new_decoder(const struct fields *config, struct decoder_spec *spec,
                            struct pt2_err *err)
{
    bool is_parallel;
    int64_t n_norms;

    if (field_int(config, "num_kv_heads", spec->n_heads, 1, 1 << 16, &spec->n_kv_heads,
                  err) < 0 ||
        field_bool(config, "parallel_attn", true, &is_parallel, err) < 0 ||
        field_int(config, "num_ln_in_parallel_attn", 2, 1, 2, &n_norms, err) < 0)
        return -1;
    if (!is_parallel) /* it then makes other norms than it reads */
        return field_refuse(config, "parallel_attn", err,
                            "false, which new_decoder_architecture does not know");
    if (spec->n_heads % spec->n_kv_heads)
        return field_bad(config, "num_kv_heads", err,
                         "is %lld, and must divide num_attention_heads, %lld",
                         (long long)spec->n_kv_heads, (long long)spec->n_heads);
    if (n_norms == 2)
        spec->names = &two_norms_names;
    spec->is_parallel = true;
    spec->qkv = QKV_PER_HEAD;
    if (spec->n_kv_heads < spec->n_heads)
        spec->note = grouped_note;
    return 0;
}

static int read_old_decoder(const struct fields *config, struct decoder_spec *spec,
                            struct pt2_err *err)
{
    bool is_multi_query;
    int64_t n_norms, n_kv;

    if (field_bool(config, "multi_query", true, &is_multi_query, err) < 0 ||
        field_bool(config, "parallel_attn", true, &spec->is_parallel, err) < 0 ||
        field_int(config, "num_ln_in_parallel_attn", 1, 1, 2, &n_norms, err) < 0 ||
        field_int(config, "num_kv_heads", spec->n_heads, 1, 1 << 16, &n_kv, err) < 0)
        return -1;
    if (n_norms == 2 && spec->is_parallel)
        return field_refuse(config, "num_ln_in_parallel_attn", err,
                            "is 2, which takes new_decoder_architecture");
    if (!is_multi_query && n_kv != spec->n_heads)
        return field_refuse(config, "num_kv_heads", err,
                            "is %lld, but other than num_attention_heads, %lld, takes "
                            "new_decoder_architecture or multi_query",
                            (long long)n_kv, (long long)spec->n_heads);
    if (!spec->is_parallel)
        spec->names = &sequential_names;
    if (is_multi_query) {
        spec->n_kv_heads = 1;
        spec->note = multi_query_note;
    }
    spec->qkv = is_multi_query ? QKV_FUSED : QKV_PER_HEAD;
    return 0;
}

static int read_falcon(const struct family *family, const struct fields *config,
                       struct decoder_spec *spec, struct pt2_err *err)
{
    bool is_new;

    (void)family;
    if (field_bool(config, "bias", false, &spec->qkv_bias, err) < 0 ||
        field_bool(config, "new_decoder_architecture", false, &is_new, err) < 0)
        return -1;
    spec->o_bias = spec->mlp_bias = spec->qkv_bias;
    return is_new ? read_new_decoder(config, spec, err)
                  : read_old_decoder(config, spec, err);
}

const struct family falcon_families[] = {
    {
        .model_type = "falcon",
        .architecture = "FalconForCausalLM",
        .names = &falcon_names,
        .presets = {.vocab_size = 65024,
                    .hidden_size = 4544,
                    .n_layers = 32,
                    .n_heads = 71,
                    .max_position = 2048,
                    .eps = 1e-5,
                    .act = "gelu",
                    .tied = true},
        .fields = {.intermediate_size = "ffn_hidden_size",
                   .eps = "layer_norm_epsilon",
                   .act = "activation"},
        .has_head_dim_of_hidden = true,
        .has_no_kv_heads = true,
        .is = {.norm = NORM_LAYER, .mlp = MLP_PLAIN},
        .read = read_falcon,
    },
    {.model_type = NULL},
};
