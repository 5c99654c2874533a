#include "export/quantized_checkpoint.h"

#define FIELD "quantization_config"
#define READ                                                                             \
    "read are fp8, mxfp8, fbgemm_fp8, compressed-tensors of float8, and mxfp4; export "  \
    "the original"

/* Names of transformers/quantizers/auto.py, AUTO_QUANTIZER_MAPPING.  One that is not here
 * is refused as unknown. */
static const struct {
    const char *method, *why; /* NULL: it is read */
} methods[] = {
    {"fp8", NULL},
    {"mxfp8", NULL},
    {"fbgemm_fp8", NULL},
    {"compressed-tensors", NULL},
    {"mxfp4", NULL},
    {"gptq", "packs integers of 2 to 8 bits with zero points"},
    {"awq", "packs integers of 4 bits with zero points"},
    {"auto-round", "packs integers as gptq or awq do"},
    {"bitsandbytes", "packs nf4, fp4 or int8 with statistics in tensors of its own"},
    {"aqlm", "codes weights by additive codebooks"},
    {"vptq", "codes weights by codebooks of vectors"},
    {"spqr", "keeps outliers apart in sparse tensors"},
    {"hqq", "packs integers with zero points"},
    {"higgs", "rotates weights and codes them by a grid"},
    {"eetq", "stores int8 in a kernel's own order"},
    {"quanto", "packs integers in tensors of its own"},
    {"torchao", "stores pickled tensor subclasses"},
    {"bitnet", "packs weights of -1, 0 and 1, or makes them so at each call"},
    {"fp_quant", "rotates weights before it quantises them"},
    {"nvfp4", "packs float4 with two levels of scales"},
    {"quark", "packs in several layouts of its own"},
    {"sinq", "scales along both axes"},
    {"metal", "packs integers in Metal's order"},
    {"fouroversix", "packs float4 with two levels of scales"},
};

static int check_method(const struct fields *config, const char *method,
                        struct pt2_err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        if (!streq(methods[i].method, method))
            continue;
        if (!methods[i].why)
            return 0;
        return field_refuse(config, FIELD, err, "quant_method '%s' %s; " READ, method,
                            methods[i].why);
    }
    return field_refuse(config, FIELD, err, "quant_method '%.60s' is not known; " READ,
                        method);
}

/* compressed-tensors: each group of modules has its own type of weights. */
static int check_groups(const struct fields *quantization, struct pt2_err *err)
{
    const json_t *groups = field_get(quantization, "config_groups"), *group;
    const char *name;

    json_object_foreach((json_t *)(uintptr_t)groups, name, group) {
        const json_t *weights = json_object_get(group, "weights");
        const char *type = json_string_value(json_object_get(weights, "type"));
        json_int_t bits = json_integer_value(json_object_get(weights, "num_bits"));

        if (!json_is_object(weights) || (type && streq(type, "float") && bits == 8))
            continue;
        return field_refuse(quantization, "config_groups", err,
                            "'%.60s' has weights of type %s and %lld bits; of "
                            "compressed-tensors only float of 8 bits is read",
                            name, type ? type : "int", (long long)bits);
    }
    return 0;
}

static int check_compressed(const struct fields *quantization, struct pt2_err *err)
{
    struct fields sparsity =
        fields_of(field_get(quantization, "sparsity_config"), FIELD ".sparsity_config");
    const char *format = NULL;

    if (json_object_size(sparsity.object) > 0 &&
        field_string(&sparsity, "format", "dense", &format, err) < 0)
        return -1;
    if (format && !streq(format, "dense"))
        return field_refuse(&sparsity, "format", err,
                            "'%.60s': sparse weights are not read; export the original",
                            format);
    if (json_object_size(field_get(quantization, "transform_config")) > 0)
        return field_refuse(quantization, "transform_config", err,
                            "weights that were rotated are not read; export the "
                            "original");
    return check_groups(quantization, err);
}

int quantized_checkpoint_check(const struct fields *config, struct pt2_err *err)
{
    const json_t *object = field_get(config, FIELD);
    struct fields f = fields_of(object, FIELD);
    const char *method;
    char text[80];

    if (!object || json_is_null(object))
        return 0;
    if (!json_is_object(object))
        return field_bad(config, FIELD, err, "must be an object, not %s",
                         field_text(object, text));
    if (field_string(&f, "quant_method", NULL, &method, err) < 0)
        return -1;
    if (!method && (json_is_true(field_get(&f, "load_in_8bit")) ||
                    json_is_true(field_get(&f, "load_in_4bit"))))
        method = "bitsandbytes"; /* AutoQuantizationConfig.from_dict */
    if (!method)
        return field_bad(&f, "quant_method", err, "is required");
    if (check_method(config, method, err) < 0)
        return -1;
    return streq(method, "compressed-tensors") ? check_compressed(&f, err) : 0;
}
