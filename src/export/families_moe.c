/* families_moe.c - mixtures of experts. */
#include "export/families.h"
#include "export/windows.h"

/* conversion_mapping.py, "mixtral", "qwen2_moe", "granitemoe": what checkpoints say. */
static const struct rename mixtral_saved[] = {{"mlp.", "block_sparse_moe."},
                                              {NULL, NULL}};
static const struct rename granite_saved[] = {
    {"block_sparse_moe.router.", "block_sparse_moe.router.layer."},
    {"block_sparse_moe.experts.gate_up_proj", "block_sparse_moe.input_linear.weight"},
    {"block_sparse_moe.experts.down_proj", "block_sparse_moe.output_linear.weight"},
    {NULL, NULL}};

#define QWEN_EXPERTS                                                                     \
    .router = "mlp.gate", .experts = "mlp.experts", .expert_gate = "gate_proj",          \
    .expert_up = "up_proj", .expert_down = "down_proj"

static const struct decoder_names mixtral_names = {
    LLAMA_FRAME,         LLAMA_QKVO,           LLAMA_NORMS,
    .router = "mlp.gate", .experts = "mlp.experts", .expert_gate = "w1",
    .expert_up = "w3",   .expert_down = "w2",  .saved = mixtral_saved};
static const struct decoder_names qwen2_names = {
    LLAMA_FRAME,
    LLAMA_QKVO,
    LLAMA_NORMS,
    LLAMA_GATED,
    QWEN_EXPERTS,
    .shared_gate = "mlp.shared_expert.gate_proj",
    .shared_up = "mlp.shared_expert.up_proj",
    .shared_down = "mlp.shared_expert.down_proj",
    .shared_router = "mlp.shared_expert_gate"};
static const struct decoder_names qwen3_names = {LLAMA_FRAME, LLAMA_QKVO,  LLAMA_QK_NORMS,
                                                 LLAMA_NORMS, LLAMA_GATED, QWEN_EXPERTS};
static const struct decoder_names glm4_names = {
    LLAMA_FRAME,
    LLAMA_QKVO,
    LLAMA_QK_NORMS,
    LLAMA_NORMS,
    LLAMA_GATED,
    QWEN_EXPERTS,
    .correction = "mlp.gate.e_score_correction_bias",
    .shared_gate = "mlp.shared_experts.gate_proj",
    .shared_up = "mlp.shared_experts.up_proj",
    .shared_down = "mlp.shared_experts.down_proj"};
static const struct decoder_names gpt_oss_names = {
    LLAMA_FRAME,
    LLAMA_QKVO,
    LLAMA_NORMS,
    .sinks = "self_attn.sinks",
    .router = "mlp.router",
    .experts = "mlp.experts"};
static const struct decoder_names granite_names = {
    LLAMA_FRAME,
    LLAMA_QKVO,
    LLAMA_NORMS,
    .router = "block_sparse_moe.router",
    .experts = "block_sparse_moe.experts",
    .shared_gate = "shared_mlp.input_linear",
    .shared_down = "shared_mlp.output_linear",
    .saved = granite_saved};

/* ---- readers ---- */

/* How many experts there are, by one of two names, and how many a token has. */
struct expert_presets {
    const char *field, *other_field;
    int64_t n_experts, top_k;
};

/* Model types of one kind of router; where config.json says another, it is not this one. */
static int check_router(const struct fields *config, const struct decoder_spec *spec,
                        struct pt2_err *err)
{
    bool is_sigmoid = spec->moe.router == ROUTER_SIGMOID;
    const struct {
        const char *field, *value;
    } is[] = {
        {"scoring_func", is_sigmoid ? "sigmoid" : "softmax"},
        {"topk_method", is_sigmoid ? "noaux_tc" : "greedy"},
    };
    const char *said;

    for (size_t i = 0; i < ARRAY_LEN(is); i++) {
        if (field_string(config, is[i].field, is[i].value, &said, err) < 0)
            return -1;
        if (!streq(said, is[i].value))
            return field_refuse(config, is[i].field, err,
                                "'%s' is not offered; %s's is %s", said, spec->model_type,
                                is[i].value);
    }
    return 0;
}

static int read_experts(const struct fields *config, struct expert_presets presets,
                        struct decoder_spec *spec, struct pt2_err *err)
{
    const char *field = presets.other_field && field_is_there(config, presets.other_field)
                            ? presets.other_field
                            : presets.field;
    struct moe_spec *moe = &spec->moe;

    moe->size = spec->intermediate_size;
    moe->n_groups = 1;
    for (int64_t i = 0; i < spec->n_layers; i++)
        spec->layers[i].has_experts = true;
    if (check_router(config, spec, err) < 0 ||
        field_int(config, field, presets.n_experts, 1, SPEC_MAX_EXPERTS, &moe->n_experts,
                  err) < 0)
        return -1;
    return field_int(config, "num_experts_per_tok", presets.top_k, 1, moe->n_experts,
                     &moe->top_k, err);
}

static int read_mixtral(const struct family *family, const struct fields *config,
                        struct decoder_spec *spec, struct pt2_err *err)
{
    struct expert_presets presets = {"num_local_experts", NULL, 8, 2};

    spec->moe.is_normed = spec->moe.weights_wide = true;
    if (read_experts(config, presets, spec, err) < 0)
        return -1;
    return windows_read_all(family, config, spec, err);
}

/* Qwen*MoeDecoderLayer: which layers have experts, not an MLP. */
static int read_sparse_layers(const struct fields *config, struct decoder_spec *spec,
                              struct pt2_err *err)
{
    const json_t *list = field_get(config, "mlp_only_layers"), *layer;
    int64_t step;
    size_t i;

    if (field_int(config, "decoder_sparse_step", 1, 1, INT64_MAX, &step, err) < 0)
        return -1;
    if (field_is_there(config, "mlp_only_layers") && !json_is_array(list))
        return field_bad(config, "mlp_only_layers", err, "must be a list of layers");
    for (int64_t at = 0; at < spec->n_layers; at++)
        spec->layers[at].has_experts = (at + 1) % step == 0;
    json_array_foreach (list, i, layer) {
        int64_t at = json_integer_value(layer);

        if (!json_is_integer(layer))
            return field_bad(config, "mlp_only_layers", err, "element %zu is no integer",
                             i);
        if (at >= 0 && at < spec->n_layers)
            spec->layers[at].has_experts = false;
    }
    return 0;
}

/* What Qwen2-MoE, Qwen3-MoE and OLMoE share. */
static int read_normed(const struct fields *config, struct expert_presets presets,
                       struct decoder_spec *spec, struct pt2_err *err)
{
    if (read_experts(config, presets, spec, err) < 0)
        return -1;
    return field_bool(config, "norm_topk_prob", false, &spec->moe.is_normed, err);
}

/* layer_types where given, otherwise every other one of the first max_window_layers */
static int read_qwen2_windows(const struct family *family, const struct fields *config,
                              struct decoder_spec *spec, struct pt2_err *err)
{
    struct window_pattern pattern = {0};
    bool is_used;
    int64_t n;

    if (field_bool(config, "use_sliding_window", false, &is_used, err) < 0 ||
        field_int(config, "max_window_layers", 28, 0, INT64_MAX, &n, err) < 0)
        return -1;
    if (is_used)
        pattern.period = 2;
    if (windows_read_if_used(family, config, pattern, spec, err) < 0)
        return -1;
    for (int64_t i = n; i < spec->n_layers; i++)
        if (!windows_layer_type(config, i))
            spec->layers[i].window = 0;
    return 0;
}

static int read_qwen2_moe(const struct family *family, const struct fields *config,
                          struct decoder_spec *spec, struct pt2_err *err)
{
    struct expert_presets presets = {"num_experts", "num_local_experts", 60, 4};

    spec->moe.shared_gate = true;
    if (read_normed(config, presets, spec, err) < 0 ||
        read_sparse_layers(config, spec, err) < 0 ||
        field_int(config, "moe_intermediate_size", 1408, 1, SPEC_MAX_SIZE,
                  &spec->moe.size, err) < 0 ||
        field_int(config, "shared_expert_intermediate_size", 5632, 1, SPEC_MAX_SIZE,
                  &spec->moe.shared_size, err) < 0 ||
        field_bool(config, "qkv_bias", true, &spec->qkv_bias, err) < 0)
        return -1;
    return read_qwen2_windows(family, config, spec, err);
}

static int read_qwen3_moe(const struct family *family, const struct fields *config,
                          struct decoder_spec *spec, struct pt2_err *err)
{
    struct expert_presets presets = {"num_experts", "num_local_experts", 128, 8};

    if (read_normed(config, presets, spec, err) < 0 ||
        read_sparse_layers(config, spec, err) < 0 ||
        field_int(config, "moe_intermediate_size", 768, 1, SPEC_MAX_SIZE, &spec->moe.size,
                  err) < 0 ||
        family_read_attention_bias(config, spec, err) < 0)
        return -1;
    return windows_read_if_used(family, config, (struct window_pattern){0}, spec, err);
}

static int read_olmoe(const struct family *family, const struct fields *config,
                      struct decoder_spec *spec, struct pt2_err *err)
{
    struct expert_presets presets = {"num_experts", "num_local_experts", 64, 8};

    (void)family;
    if (read_normed(config, presets, spec, err) < 0 ||
        family_read_clip(config, spec, err) < 0)
        return -1;
    return family_read_attention_bias(config, spec, err);
}

/* GraniteMoeShared's presets are GraniteMoe's; it has a shared MLP where there is a size. */
static int read_granitemoe(const struct family *family, const struct fields *config,
                           struct decoder_spec *spec, struct pt2_err *err)
{
    struct expert_presets presets = {"num_local_experts", NULL, 8, 2};

    spec->moe.router = ROUTER_TOP_SOFTMAX;
    spec->moe.shared_fused = true;
    if (read_experts(config, presets, spec, err) < 0 ||
        family_read_factors(config, 1, spec, err) < 0 ||
        family_read_attention_bias(config, spec, err) < 0)
        return -1;
    if (streq(family->model_type, "granitemoeshared") &&
        field_int(config, "shared_intermediate_size", 0, 0, SPEC_MAX_SIZE,
                  &spec->moe.shared_size, err) < 0)
        return -1;
    return family_read_factor(config, "logits_scaling", 1, &spec->logits_divisor, err);
}

/* GptOssExperts has its limit from nowhere: what config.json says of it must be that. */
static int read_gpt_oss(const struct family *family, const struct fields *config,
                        struct decoder_spec *spec, struct pt2_err *err)
{
    struct expert_presets presets = {"num_local_experts", "num_experts", 128, 4};
    struct window_pattern every_other = {.period = 2};
    double limit;

    spec->has_sinks = spec->norms_wide_f16 = true;
    spec->moe.kind = EXPERTS_CLAMPED;
    spec->moe.router = ROUTER_TOP_SOFTMAX;
    spec->moe.router_bias = true;
    if (read_experts(config, presets, spec, err) < 0 ||
        field_number(config, "swiglu_limit", 7, 0, 1e12, &limit, err) < 0 ||
        family_read_attention_bias(config, spec, err) < 0)
        return -1;
    if (limit != 7)
        return field_refuse(config, "swiglu_limit", err, "is %g; only 7 is offered", limit);
    return windows_read(family, config, every_other, spec, err);
}

static int read_groups(const struct fields *config, struct decoder_spec *spec,
                       struct pt2_err *err)
{
    struct moe_spec *moe = &spec->moe;

    if (field_int(config, "n_group", 1, 1, moe->n_experts, &moe->n_groups, err) < 0 ||
        field_int(config, "topk_group", 1, 1, moe->n_groups, &moe->top_groups, err) < 0)
        return -1;
    if (moe->n_experts % moe->n_groups || moe->n_experts / moe->n_groups < 2)
        return field_bad(config, "n_group", err,
                         "is %lld, and must divide the experts, %lld, in groups of two or "
                         "more",
                         (long long)moe->n_groups, (long long)moe->n_experts);
    if (moe->top_k > moe->top_groups * (moe->n_experts / moe->n_groups))
        return field_bad(config, "topk_group", err,
                         "is %lld, which leaves less than num_experts_per_tok, %lld",
                         (long long)moe->top_groups, (long long)moe->top_k);
    return 0;
}

/* Glm4Moe and its kin: sigmoid, groups, a factor, dense layers first. */
static int read_sigmoid(const struct fields *config, struct expert_presets presets,
                        struct decoder_spec *spec, struct pt2_err *err)
{
    struct moe_spec *moe = &spec->moe;
    int64_t n_shared, n_dense;

    moe->router = ROUTER_SIGMOID;
    moe->weights_wide = true;
    if (read_experts(config, presets, spec, err) < 0 ||
        read_groups(config, spec, err) < 0 ||
        field_bool(config, "norm_topk_prob", true, &moe->is_normed, err) < 0 ||
        family_read_factor(config, "routed_scaling_factor", 1, &moe->weight_factor, err) <
            0 ||
        field_int(config, "moe_intermediate_size", 1408, 1, SPEC_MAX_SIZE, &moe->size,
                  err) < 0 ||
        field_int(config, "n_shared_experts", 1, 1, 1 << 10, &n_shared, err) < 0 ||
        field_int(config, "first_k_dense_replace", 1, 0, INT64_MAX, &n_dense, err) < 0)
        return -1;
    if (n_shared * moe->size > SPEC_MAX_SIZE)
        return field_bad(config, "n_shared_experts", err, "of %lld each are too big",
                         (long long)moe->size);
    moe->shared_size = n_shared * moe->size;
    for (int64_t i = 0; i < MIN(n_dense, spec->n_layers); i++)
        spec->layers[i].has_experts = false;
    return 0;
}

static int read_glm4_moe(const struct family *family, const struct fields *config,
                         struct decoder_spec *spec, struct pt2_err *err)
{
    struct expert_presets presets = {"n_routed_experts", "num_local_experts", 128, 8};
    bool has_norms;

    (void)family;
    if (read_sigmoid(config, presets, spec, err) < 0 ||
        family_read_attention_bias(config, spec, err) < 0 ||
        field_bool(config, "use_qk_norm", false, &has_norms, err) < 0 ||
        field_int(config, "num_nextn_predict_layers", 1, 0, 1 << 10,
                  &spec->n_extra_layers, err) < 0)
        return -1;
    spec->o_bias = false;
    spec->qk_norm = has_norms ? QK_NORM_HEAD : QK_NORM_NONE;
    return 0;
}

/* ---- the table ---- */

static const char *const understands_mixtral[] = {"num_local_experts", "sliding_window",
                                                  "layer_types", NULL};
static const char *const understands_qwen[] = {"num_experts", "num_local_experts",
                                               "sliding_window", "layer_types", NULL};
static const char *const understands_olmoe[] = {"num_experts", "num_local_experts",
                                                "clip_qkv", NULL};
static const char *const understands_gpt_oss[] = {
    "num_local_experts", "num_experts", "sliding_window", "layer_types", NULL};
static const char *const understands_granite[] = {
    "num_local_experts",   "attention_multiplier", "embedding_multiplier",
    "residual_multiplier", "logits_scaling",       NULL};
static const char *const understands_glm4[] = {"n_routed_experts", "num_local_experts",
                                               "use_qk_norm", NULL};

const struct family moe_families[] = {
    {
        .model_type = "mixtral",
        .architecture = "MixtralForCausalLM",
        .names = &mixtral_names,
        .presets = {.vocab_size = 32000,
                    .hidden_size = 4096,
                    .intermediate_size = 14336,
                    .n_layers = 32,
                    .n_heads = 32,
                    .n_kv_heads = 8,
                    .max_position = 131072,
                    .eps = 1e-5},
        .rope = {.theta = 1000000},
        .understands = understands_mixtral,
        .read = read_mixtral,
    },
    {
        .model_type = "qwen2_moe",
        .architecture = "Qwen2MoeForCausalLM",
        .names = &qwen2_names,
        .presets = {.vocab_size = 151936,
                    .hidden_size = 2048,
                    .intermediate_size = 5632,
                    .n_layers = 24,
                    .n_heads = 16,
                    .n_kv_heads = 16,
                    .max_position = 32768,
                    .window = 4096},
        .understands = understands_qwen,
        .read = read_qwen2_moe,
    },
    {
        .model_type = "qwen3_moe",
        .architecture = "Qwen3MoeForCausalLM",
        .names = &qwen3_names,
        .presets = {.vocab_size = 151936,
                    .hidden_size = 2048,
                    .intermediate_size = 6144,
                    .n_layers = 24,
                    .n_heads = 32,
                    .n_kv_heads = 4,
                    .max_position = 32768,
                    .window = 4096},
        .is = {.qk_norm = QK_NORM_HEAD},
        .understands = understands_qwen,
        .read = read_qwen3_moe,
    },
    {
        .model_type = "olmoe",
        .architecture = "OlmoeForCausalLM",
        .names = &qwen3_names,
        .presets = {.vocab_size = 50304,
                    .hidden_size = 2048,
                    .intermediate_size = 2048,
                    .n_layers = 16,
                    .n_heads = 16,
                    .max_position = 4096,
                    .eps = 1e-5},
        .has_head_dim_of_hidden = true,
        .is = {.qk_norm = QK_NORM_ALL},
        .understands = understands_olmoe,
        .read = read_olmoe,
    },
    {
        .model_type = "granitemoe",
        .architecture = "GraniteMoeForCausalLM",
        .names = &granite_names,
        .presets = {.vocab_size = 32000,
                    .hidden_size = 4096,
                    .intermediate_size = 11008,
                    .n_layers = 32,
                    .n_heads = 32,
                    .max_position = 2048},
        .understands = understands_granite,
        .read = read_granitemoe,
    },
    {
        .model_type = "granitemoeshared",
        .architecture = "GraniteMoeSharedForCausalLM",
        .names = &granite_names,
        .presets = {.vocab_size = 32000,
                    .hidden_size = 4096,
                    .intermediate_size = 11008,
                    .n_layers = 32,
                    .n_heads = 32,
                    .max_position = 2048},
        .understands = understands_granite,
        .read = read_granitemoe,
    },
    {
        .model_type = "gpt_oss",
        .architecture = "GptOssForCausalLM",
        .names = &gpt_oss_names,
        .presets = {.vocab_size = 201088,
                    .hidden_size = 2880,
                    .intermediate_size = 2880,
                    .n_layers = 36,
                    .n_heads = 64,
                    .n_kv_heads = 8,
                    .head_dim = 64,
                    .max_position = 131072,
                    .window = 128,
                    .eps = 1e-5},
        .rope = {.theta = 150000, .is_required = true},
        .is = {.norm = NORM_RMS_WIDE, .qkv_bias = true},
        .understands = understands_gpt_oss,
        .read = read_gpt_oss,
    },
    {
        .model_type = "glm4_moe",
        .architecture = "Glm4MoeForCausalLM",
        .names = &glm4_names,
        .presets = {.vocab_size = 151552,
                    .hidden_size = 4096,
                    .intermediate_size = 10944,
                    .n_layers = 46,
                    .n_heads = 96,
                    .n_kv_heads = 8,
                    .max_position = 131072,
                    .eps = 1e-5},
        .rope = {.partial = 0.5},
        .understands = understands_glm4,
        .read = read_glm4_moe,
    },
    {.model_type = NULL},
};
