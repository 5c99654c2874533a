#include "export/families.h"

const struct decoder_names llama_names = {LLAMA_FRAME, LLAMA_QKVO, LLAMA_NORMS,
                                          LLAMA_GATED};

static const struct family *const tables[] = {llama_families,     window_families,
                                              gemma_families,     gated_families,
                                              layernorm_families, gpt_families,
                                              falcon_families,    fairseq_families};

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

void family_set_attn_scale(struct decoder_spec *spec, double scale)
{
    for (int64_t i = 0; i < spec->n_layers; i++)
        spec->layers[i].attn_scale = scale;
}
