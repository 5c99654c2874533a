/* describe.c - what a list of models says of one. */
#include <pt2/export.h>

#include "export/exporter.h"
#include "export/fields.h"

/* Copy a string of the config, cut where too long; "" where it is none. */
static void copy_string(char *to, size_t size, const json_t *value)
{
    const char *s = json_string_value(value);

    snprintf(to, size, "%s", s ? s : "");
}

static int64_t count_of(const json_t *config, const char *name)
{
    const json_t *v = json_object_get(config, name);

    return json_is_integer(v) && json_integer_value(v) >= 0 ? json_integer_value(v) : -1;
}

static void describe_files(const struct pt2_checkpoint *c, struct pt2_model_info *info)
{
    for (size_t i = 0; i < pt2_checkpoint_n_files(c); i++)
        if (pt2_checkpoint_file(c, i)->kind == PT2_FILE_WEIGHTS)
            info->bytes += pt2_checkpoint_file(c, i)->bytes;
    for (size_t i = 0; i < pt2_checkpoint_n_tensors(c); i++) {
        const struct pt2_checkpoint_tensor *t = pt2_checkpoint_tensor(c, i);
        uint64_t elements = 1;

        for (unsigned d = 0; d < t->n_dims; d++)
            elements *= (uint64_t)t->sizes[d]; /* fits: the checkpoint was checked */
        info->parameters += elements;
    }
}

int pt2_model_describe(const struct pt2_checkpoint *checkpoint,
                       struct pt2_model_info *ret_info, struct pt2_err *err)
{
    const json_t *config = pt2_checkpoint_config(checkpoint);
    struct pt2_export_options asked = {0}, resolved;
    struct pt2_model_info info = {0};
    struct pt2_err why = {0};
    struct decoder_spec *spec = malloc(sizeof(*spec));
    struct weights weights = {0};

    if (!spec)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a model's description");
    copy_string(info.model_type, sizeof(info.model_type),
                json_object_get(config, "model_type"));
    copy_string(info.architecture, sizeof(info.architecture),
                json_array_get(json_object_get(config, "architectures"), 0));
    info.max_position_embeddings = count_of(config, "max_position_embeddings");
    info.vocab_size = count_of(config, "vocab_size");
    describe_files(checkpoint, &info);
    if (export_default_dtype(checkpoint, &info.dtype, NULL) < 0)
        info.dtype = PT2_DTYPE_NONE;
    info.exportable =
        export_check_model(checkpoint, &asked, spec, &weights, &resolved, &why) == 0;
    if (info.exportable) { /* left out, or under another name */
        info.max_position_embeddings = spec->max_position;
        info.vocab_size = spec->vocab_size;
    }
    weights_done(&weights);
    free(spec);
    if (why.code == PT2_ERR_NOMEM)
        return pt2_err_set(err, PT2_ERR_NOMEM, "%s", why.text);
    snprintf(info.reason, sizeof(info.reason), "%s", info.exportable ? "" : why.text);
    *ret_info = info;
    return 0;
}
