#include "export/families.h"

const struct decoder_names llama_names = {LLAMA_FRAME, LLAMA_QKVO, LLAMA_NORMS,
                                          LLAMA_GATED};

static const struct family *const tables[] = {llama_families,     window_families,
                                              gemma_families,     gated_families,
                                              layernorm_families, gpt_families,
                                              moe_families,       falcon_families,
                                              fairseq_families};

const struct family *family_at(size_t i)
{
    for (size_t t = 0; t < ARRAY_LEN(tables); t++)
        for (const struct family *f = tables[t]; f->model_type; f++)
            if (i-- == 0)
                return f;
    return NULL;
}

const struct family *family_find(const char *model_type)
{
    const struct family *f;

    for (size_t i = 0; (f = family_at(i)); i++)
        if (streq(f->model_type, model_type))
            return f;
    return NULL;
}

int family_read_attention_bias(const struct fields *config, struct decoder_spec *spec,
                               struct pt2_err *err)
{
    if (field_bool(config, "attention_bias", spec->qkv_bias, &spec->qkv_bias, err) < 0)
        return -1;
    spec->o_bias = spec->qkv_bias;
    return 0;
}

int family_read_biases(const struct fields *config, struct decoder_spec *spec,
                       struct pt2_err *err)
{
    if (family_read_attention_bias(config, spec, err) < 0)
        return -1;
    return field_bool(config, "mlp_bias", spec->mlp_bias, &spec->mlp_bias, err);
}

int family_read_factor(const struct fields *config, const char *name, double preset,
                       double *ret_factor, struct pt2_err *err)
{
    if (field_number(config, name, preset, 1e-12, 1e12, ret_factor, err) < 0)
        return -1;
    if (*ret_factor == 1)
        *ret_factor = 0;
    return 0;
}

int family_read_softcap(const struct fields *config, const char *name, double preset,
                        double *ret_cap, struct pt2_err *err)
{
    *ret_cap = 0;
    if (field_is_null(config, name))
        return 0;
    return field_number(config, name, preset, 1e-6, 1e12, ret_cap, err);
}

int family_read_clip(const struct fields *config, struct decoder_spec *spec,
                     struct pt2_err *err)
{
    if (field_number(config, "clip_qkv", 0, 0, 1e12, &spec->qkv_clip, err) < 0)
        return -1;
    if (field_is_there(config, "clip_qkv") && spec->qkv_clip == 0)
        return field_refuse(config, "clip_qkv", err, "is 0, which leaves nothing");
    return 0;
}

int family_read_factors(const struct fields *config, double attn_scale,
                        struct decoder_spec *spec, struct pt2_err *err)
{
    if (field_number(config, "attention_multiplier", attn_scale, 1e-12, 1e12, &attn_scale,
                     err) < 0 ||
        family_read_factor(config, "embedding_multiplier", 1, &spec->embed_multiplier,
                           err) < 0 ||
        family_read_factor(config, "residual_multiplier", 1, &spec->residual_multiplier,
                           err) < 0)
        return -1;
    family_set_attn_scale(spec, attn_scale);
    return 0;
}

void family_set_attn_scale(struct decoder_spec *spec, double scale)
{
    for (int64_t i = 0; i < spec->n_layers; i++)
        spec->layers[i].attn_scale = scale;
}
