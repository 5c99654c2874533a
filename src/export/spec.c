#include "export/spec.h"

#include "export/families.h"

#include <math.h>

/* transformers, activations.py, ACT2FN */
static const struct {
    const char *name;
    enum act act;
} acts[] = {
    {"silu", ACT_SILU},         {"swish", ACT_SILU},
    {"gelu", ACT_GELU},         {"gelu_pytorch_tanh", ACT_GELU_TANH},
    {"gelu_new", ACT_GELU_NEW}, {"relu", ACT_RELU},
    {"relu2", ACT_RELU2},       {"sigmoid", ACT_SIGMOID},
    {"tanh", ACT_TANH},
};

/* Fields that change what some model type computes, with the value that changes nothing.
 * One that a family understands is its reader's affair; any other value is refused, so
 * that no model is exported as something that it is not. */
static const struct {
    const char *name;
    enum {
        OFF_NULL,
        OFF_FALSE,
        OFF_TRUE,
        OFF_ZERO,
        OFF_ONE
    } off; /* null is always off */
    const char *why;
} knobs[] = {
    {"quantization_config", OFF_NULL, "the weights are quantized; export the original"},
    {"compression_config", OFF_NULL, "the weights are compressed; export the original"},
    {"per_layer_config", OFF_NULL, "layers of different shapes are not offered"},
    {"is_causal", OFF_TRUE, "only causal attention can be stepped"},
    {"is_encoder_decoder", OFF_FALSE, "encoder-decoders are not offered"},
    {"add_cross_attention", OFF_FALSE, "cross attention is not offered"},
    {"use_bidirectional_attention", OFF_FALSE, "only causal attention can be stepped"},
    {"sliding_window", OFF_NULL, "this model type has no window"},
    {"attention_chunk_size", OFF_NULL, "chunked attention is not offered"},
    {"num_kv_shared_layers", OFF_ZERO, "shared keys and values are not offered"},
    {"num_experts", OFF_ZERO, "this model type has no experts"},
    {"num_local_experts", OFF_ZERO, "this model type has no experts"},
    {"attn_logit_softcapping", OFF_NULL, "this model type has no soft cap"},
    {"final_logit_softcapping", OFF_NULL, "this model type has no soft cap"},
    {"query_pre_attn_scalar", OFF_NULL, "this model type has no attention scale"},
    {"attention_multiplier", OFF_NULL, "this model type has no attention scale"},
    {"embedding_multiplier", OFF_ONE, "this model type has no multipliers"},
    {"residual_multiplier", OFF_ONE, "this model type has no multipliers"},
    {"logits_scaling", OFF_ONE, "this model type has no multipliers"},
    {"logit_scale", OFF_ONE, "this model type has no multipliers"},
    {"clip_qkv", OFF_NULL, "this model type does not clip"},
    {"qk_layernorm", OFF_FALSE, "this model type has no query and key norms"},
    {"use_qk_norm", OFF_FALSE, "this model type has no query and key norms"},
    {"no_rope_layers", OFF_NULL, "this model type rotates in all layers"},
    {"use_parallel_residual", OFF_FALSE, "this model type is not parallel"},
    {"alibi", OFF_FALSE, "ALiBi is not offered"},
};

static bool family_understands(const struct family *family, const char *name)
{
    for (size_t i = 0; family->understands[i]; i++)
        if (streq(family->understands[i], name))
            return true;
    return false;
}

static int check_knobs(const struct family *family, const struct fields *config,
                       struct pt2_err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(knobs); i++) {
        const json_t *v = field_get(config, knobs[i].name);
        double number = json_number_value(v);
        char text[80];
        bool is_off = !v || json_is_null(v) || json_is_false(v);

        /* For most of them false is as good as null; is_causal is the other way round. */
        switch (knobs[i].off) {
        case OFF_TRUE:
            is_off = !v || json_is_null(v) || json_is_true(v);
            break;
        case OFF_ZERO:
            is_off = is_off || (json_is_number(v) && number == 0);
            break;
        case OFF_ONE:
            is_off = is_off || (json_is_number(v) && number == 1);
            break;
        default:
            break;
        }
        if (!is_off && !family_understands(family, knobs[i].name))
            return field_refuse(config, knobs[i].name, err, "%s: %s", field_text(v, text),
                                knobs[i].why);
    }
    return 0;
}

/* The class that was saved; none given is fine. */
static int check_architecture(const struct family *family, const struct fields *config,
                              struct pt2_err *err)
{
    const json_t *list = field_get(config, "architectures");
    char text[80];

    if (!list || json_is_null(list))
        return 0;
    if (!json_is_array(list))
        return field_bad(config, "architectures", err, "must be a list, not %s",
                         field_text(list, text));
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));

        if (name && streq(name, family->architecture))
            return 0;
    }
    if (json_array_size(list) == 0)
        return 0;
    return field_refuse(config, "architectures", err, "%s, but of %s only %s is offered",
                        field_text(list, text), family->model_type, family->architecture);
}

/* layer_types: one a layer, of the kinds that there are; which is a family's affair,
 * where it understands the field at all. */
static int check_layer_types(const struct family *family, const struct fields *config,
                             int64_t n_layers, struct pt2_err *err)
{
    const json_t *list = field_get(config, "layer_types"), *item;
    char text[80];
    size_t i;

    if (!list || json_is_null(list))
        return 0;
    if (!json_is_array(list) || json_array_size(list) != (size_t)n_layers)
        return field_bad(config, "layer_types", err,
                         "must be a list of %lld, one a layer", (long long)n_layers);
    json_array_foreach (list, i, item) {
        const char *type = json_string_value(item);
        bool is_full =
            type && (streq(type, "full_attention") || streq(type, "attention"));
        bool is_sliding = type && streq(type, "sliding_attention");

        if (is_full || (is_sliding && family_understands(family, "layer_types")))
            continue;
        return field_refuse(config, "layer_types", err,
                            "layer %zu is %s, which %s is not offered with", i,
                            field_text(item, text), family->model_type);
    }
    return 0;
}

static int read_act(const struct fields *config, enum act *ret_act, struct pt2_err *err)
{
    const char *name;

    if (field_string(config, "hidden_act", "silu", &name, err) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(acts); i++) {
        if (streq(acts[i].name, name)) {
            *ret_act = acts[i].act;
            return 0;
        }
    }
    return field_refuse(config, "hidden_act", err, "'%s' is not offered", name);
}

static int read_heads(const struct family *family, const struct fields *config,
                      struct decoder_spec *spec, struct pt2_err *err)
{
    int64_t kv = family->presets.n_kv_heads;

    if (field_int(config, "num_attention_heads", family->presets.n_heads, 1, 1 << 16,
                  &spec->n_heads, err) < 0)
        return -1;
    if (kv == 0 || field_is_null(config, "num_key_value_heads"))
        kv = spec->n_heads;
    if (field_int(config, "num_key_value_heads", kv, 1, 1 << 16, &spec->n_kv_heads, err) <
        0)
        return -1;
    if (spec->n_heads % spec->n_kv_heads)
        return field_bad(config, "num_key_value_heads", err,
                         "is %lld, and must divide num_attention_heads, %lld",
                         (long long)spec->n_kv_heads, (long long)spec->n_heads);
    return field_int(config, "head_dim", MAX(1, spec->hidden_size / spec->n_heads), 1,
                     1 << 16, &spec->head_dim, err);
}

/* The fields that every model type of the shared skeleton has. */
static int read_shared(const struct family *family, const struct fields *config,
                       struct decoder_spec *spec, struct pt2_err *err)
{
    const struct family_presets *p = &family->presets;

    if (field_int(config, "vocab_size", p->vocab_size, 1, SPEC_MAX_SIZE,
                  &spec->vocab_size, err) < 0 ||
        field_int(config, "hidden_size", p->hidden_size, 1, SPEC_MAX_SIZE,
                  &spec->hidden_size, err) < 0 ||
        field_int(config, "intermediate_size", p->intermediate_size, 1, SPEC_MAX_SIZE,
                  &spec->intermediate_size, err) < 0 ||
        field_int(config, "num_hidden_layers", p->n_layers, 1, SPEC_MAX_LAYERS,
                  &spec->n_layers, err) < 0 ||
        field_int(config, "max_position_embeddings", p->max_position, 1, 1LL << 40,
                  &spec->max_position, err) < 0 ||
        field_number(config, "rms_norm_eps", 1e-6, 0, 1, &spec->norm_eps, err) < 0 ||
        field_bool(config, "tie_word_embeddings", false, &spec->tied, err) < 0 ||
        read_heads(family, config, spec, err) < 0 ||
        read_act(config, &spec->act, err) < 0)
        return -1;
    spec->attn_scale = pow((double)spec->head_dim, -0.5);
    return rope_read(config, spec->head_dim, spec->max_position, &spec->rope, err);
}

int decoder_spec_read(const json_t *config, struct decoder_spec *ret_spec,
                      struct pt2_err *err)
{
    struct fields f = fields_of(config, "");
    const struct family *family;
    const char *type;
    char types[400];

    *ret_spec = (struct decoder_spec){0};
    if (field_string(&f, "model_type", NULL, &type, err) < 0)
        return -1;
    if (!type)
        return field_bad(&f, "model_type", err, "is required");
    family = family_find(type);
    if (!family)
        return field_refuse(&f, "model_type", err, "'%s' is not among those offered: %s",
                            type, decoder_spec_types(types));
    ret_spec->model_type = family->model_type;
    ret_spec->names = family->names;
    if (check_architecture(family, &f, err) < 0 || check_knobs(family, &f, err) < 0 ||
        read_shared(family, &f, ret_spec, err) < 0 ||
        check_layer_types(family, &f, ret_spec->n_layers, err) < 0)
        return -1;
    return family->read(family, &f, ret_spec, err);
}

const char *decoder_spec_types(char to[400])
{
    size_t n = 0;

    to[0] = '\0';
    for (size_t i = 0; family_at(i) && n < 400; i++)
        n += (size_t)snprintf(to + n, 400 - n, "%s%s", i ? ", " : "",
                              family_at(i)->model_type);
    return to;
}
