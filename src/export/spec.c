#include "export/spec.h"

#include "export/families.h"
#include "export/quantized_checkpoint.h"
#include "export/refusals.h"
#include "export/text_part.h"
#include "export/windows.h"

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
    {"tanh", ACT_TANH},         {"xielu", ACT_XIELU},
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
    {"n_routed_experts", OFF_ZERO, "this model type has no experts"},
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
    {"do_layer_norm_before", OFF_TRUE, "this model type norms before its parts"},
    {"scale_attn_by_inverse_layer_idx", OFF_FALSE, "this model type has no such scale"},
    {"use_post_norm", OFF_FALSE, "this model type has no such norms"},
    {"rotary_dim", OFF_NULL, "this model type rotates whole heads"},
};

static bool family_understands(const struct family *family, const char *name)
{
    for (size_t i = 0; family->understands && family->understands[i]; i++)
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
static int check_architecture(const char *type, const char *wanted,
                              const struct fields *config, struct pt2_err *err)
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

        if (name && streq(name, wanted))
            return 0;
    }
    if (json_array_size(list) == 0)
        return 0;
    return field_refuse(config, "architectures", err, "%s, but of %s only %s is offered",
                        field_text(list, text), type, wanted);
}

static const char *name_of(const char *own, const char *usual)
{
    return own ? own : usual;
}

static int read_act(const struct family *family, const struct fields *config,
                    enum act *ret_act, struct pt2_err *err)
{
    const char *field = name_of(family->fields.act, "hidden_act"), *name;

    if (field_string(config, field, name_of(family->presets.act, "silu"), &name, err) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(acts); i++) {
        if (streq(acts[i].name, name) &&
            (acts[i].act != ACT_XIELU || family->names->act)) {
            *ret_act = acts[i].act;
            return 0;
        }
    }
    return field_refuse(config, field, err, "'%s' is not offered", name);
}

/* head_dim, which is hidden_size / n_heads where nothing says otherwise. */
static int read_head_dim(const struct family *family, const struct fields *config,
                         struct decoder_spec *spec, struct pt2_err *err)
{
    int64_t of_hidden = MAX(1, spec->hidden_size / spec->n_heads);
    int64_t preset = family->presets.head_dim, said;

    if (preset == 0 || field_is_null(config, "head_dim"))
        preset = of_hidden;
    if (!family->has_head_dim_of_hidden)
        return field_int(config, "head_dim", preset, 1, 1 << 16, &spec->head_dim, err);
    spec->head_dim = of_hidden;
    if (field_int(config, "head_dim", of_hidden, 1, 1 << 16, &said, err) < 0)
        return -1;
    if (said != of_hidden)
        return field_refuse(
            config, "head_dim", err,
            "is %lld, but %s's is hidden_size / num_attention_heads, %lld",
            (long long)said, family->model_type, (long long)of_hidden);
    if (spec->hidden_size % spec->n_heads)
        return field_bad(config, name_of(family->fields.hidden_size, "hidden_size"), err,
                         "is %lld, and must be a multiple of the heads, %lld",
                         (long long)spec->hidden_size, (long long)spec->n_heads);
    return 0;
}

static int read_heads(const struct family *family, const struct fields *config,
                      struct decoder_spec *spec, struct pt2_err *err)
{
    int64_t kv = family->presets.n_kv_heads;

    if (field_int(config, name_of(family->fields.n_heads, "num_attention_heads"),
                  family->presets.n_heads, 1, 1 << 16, &spec->n_heads, err) < 0)
        return -1;
    spec->n_kv_heads = spec->n_heads;
    if (kv == 0 || field_is_null(config, "num_key_value_heads"))
        kv = spec->n_heads;
    if (!family->has_no_kv_heads && field_int(config, "num_key_value_heads", kv, 1,
                                              1 << 16, &spec->n_kv_heads, err) < 0)
        return -1;
    if (spec->n_heads % spec->n_kv_heads)
        return field_bad(config, "num_key_value_heads", err,
                         "is %lld, and must divide num_attention_heads, %lld",
                         (long long)spec->n_kv_heads, (long long)spec->n_heads);
    return read_head_dim(family, config, spec, err);
}

static int read_sizes(const struct family *family, const struct fields *config,
                      struct decoder_spec *spec, struct pt2_err *err)
{
    const struct family_presets *p = &family->presets;
    const struct family_fields *f = &family->fields;
    int64_t inter;

    if (field_int(config, "vocab_size", p->vocab_size, 1, SPEC_MAX_SIZE,
                  &spec->vocab_size, err) < 0 ||
        field_int(config, name_of(f->hidden_size, "hidden_size"), p->hidden_size, 1,
                  SPEC_MAX_SIZE, &spec->hidden_size, err) < 0)
        return -1;
    inter = p->intermediate_size ? p->intermediate_size
                                 : MIN(4 * spec->hidden_size, SPEC_MAX_SIZE);
    if (field_int(config, name_of(f->intermediate_size, "intermediate_size"), inter, 1,
                  SPEC_MAX_SIZE, &spec->intermediate_size, err) < 0 ||
        field_int(config, name_of(f->n_layers, "num_hidden_layers"), p->n_layers, 1,
                  SPEC_MAX_LAYERS, &spec->n_layers, err) < 0 ||
        field_int(config, name_of(f->max_position, "max_position_embeddings"),
                  p->max_position, 1, 1LL << 40, &spec->max_position, err) < 0)
        return -1;
    return 0;
}

static int read_rope(const struct family *family, const struct fields *config,
                     struct decoder_spec *spec, struct pt2_err *err)
{
    for (int64_t i = 0; i < spec->n_layers; i++)
        spec->layers[i].rope = family->rope_kind == FAMILY_NO_ROPE ? NO_ROPE : 0;
    if (family->rope_kind != FAMILY_ROPE)
        return 0;
    spec->n_ropes = 1;
    return rope_read(config, &family->rope, spec->head_dim, spec->max_position,
                     &spec->ropes[0], err);
}

/* The fields that every model type of the shared skeleton has. */
static int read_shared(const struct family *family, const struct fields *config,
                       struct decoder_spec *spec, struct pt2_err *err)
{
    double eps = family->presets.eps == 0 ? 1e-6 : family->presets.eps;

    if (read_sizes(family, config, spec, err) < 0 ||
        field_number(config, name_of(family->fields.eps, "rms_norm_eps"), eps, 0, 1,
                     &spec->norm_eps, err) < 0 ||
        field_bool(config, "tie_word_embeddings", family->presets.tied, &spec->tied,
                   err) < 0 ||
        read_heads(family, config, spec, err) < 0 ||
        read_act(family, config, &spec->act, err) < 0)
        return -1;
    for (int64_t i = 0; i < spec->n_layers; i++)
        spec->layers[i].attn_scale = pow((double)spec->head_dim, -0.5);
    return read_rope(family, config, spec, err);
}

static void set_kinds(const struct family *family, struct decoder_spec *spec)
{
    spec->model_type = family->model_type;
    spec->names = family->names;
    spec->ignores = family->ignores;
    spec->note = family->note;
    spec->norm = family->is.norm;
    spec->qk_norm = family->is.qk_norm;
    spec->qk_norm_kind = family->is.qk_norm_kind;
    spec->qk_norm_after_rope = family->is.qk_norm_after_rope;
    spec->qkv = family->is.qkv;
    spec->pairs = family->is.pairs;
    spec->rope_rounding = family->is.rope_rounding;
    spec->mlp = family->is.mlp;
    spec->is_parallel = family->is.is_parallel;
    spec->qkv_bias = family->is.qkv_bias;
    spec->o_bias = family->is.o_bias;
    spec->mlp_bias = family->is.mlp_bias;
    spec->head_bias = family->is.head_bias;
    spec->embed_norm = family->is.embed_norm;
    spec->transposed = family->is.transposed;
}

/* A model type that there is no family of. */
static int refuse_type(const struct fields *config, const char *type, struct pt2_err *err)
{
    const char *why = refusal_find(type);
    size_t n = 0;

    if (why)
        return field_refuse(config, "model_type", err, "'%s': %s", type, why);
    while (family_at(n))
        n++;
    return field_refuse(config, "model_type", err,
                        "'%s' is not among the %zu that are offered (doc/families.md)",
                        type, n);
}

static int read_family(const struct family *family, const struct fields *config,
                       struct decoder_spec *spec, struct pt2_err *err)
{
    set_kinds(family, spec);
    if (check_architecture(family->model_type, family->architecture, config, err) < 0 ||
        check_knobs(family, config, err) < 0 || quantized_checkpoint_check(config, err) < 0 ||
        read_shared(family, config, spec, err) < 0 ||
        windows_check_types(family, config, spec->n_layers,
                            family_understands(family, "layer_types"), err) < 0)
        return -1;
    return family->read ? family->read(family, config, spec, err) : 0;
}

static int read_text_part(const struct text_part *part, const struct fields *whole,
                          struct decoder_spec *spec, struct pt2_err *err)
{
    const struct family *family;
    struct fields text;
    const char *type;

    if (check_architecture(part->model_type, part->architecture, whole, err) < 0 ||
        text_part_fields(part, whole, &text, err) < 0 ||
        field_string(&text, "model_type", part->text_type, &type, err) < 0)
        return -1;
    if (part->has_own_type)
        type = part->text_type;
    family = family_find(type);
    if (!family)
        return refuse_type(&text, type, err);
    if (check_knobs(family, whole, err) < 0 || quantized_checkpoint_check(whole, err) < 0 ||
        read_family(family, &text, spec, err) < 0)
        return -1;
    spec->part_of = part->model_type;
    return text_part_is_tied(part, whole, &text, &spec->tied, err);
}

int decoder_spec_read(const json_t *config, struct decoder_spec *ret_spec,
                      struct pt2_err *err)
{
    struct fields f = fields_of(config, "");
    const struct family *family;
    const struct text_part *part;
    const char *type;

    *ret_spec = (struct decoder_spec){0};
    if (field_string(&f, "model_type", NULL, &type, err) < 0)
        return -1;
    if (!type)
        return field_bad(&f, "model_type", err, "is required");
    if ((part = text_part_find(type)))
        return read_text_part(part, &f, ret_spec, err);
    family = family_find(type);
    return family ? read_family(family, &f, ret_spec, err) : refuse_type(&f, type, err);
}
