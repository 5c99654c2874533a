#include "export/windows.h"

const char *windows_layer_type(const struct fields *config, int64_t layer)
{
    return json_string_value(
        json_array_get(field_get(config, "layer_types"), (size_t)layer));
}

int windows_check_types(const struct family *family, const struct fields *config,
                        int64_t n_layers, bool is_offered, struct pt2_err *err)
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

        if (is_full || (is_sliding && is_offered))
            continue;
        return field_refuse(config, "layer_types", err,
                            "layer %zu is %s, which %s is not offered with", i,
                            field_text(item, text), family->model_type);
    }
    return 0;
}

static int read_window(const struct family *family, const struct fields *config,
                       int64_t *ret_window, struct pt2_err *err)
{
    *ret_window = 0;
    if (field_is_null(config, "sliding_window"))
        return 0;
    return field_int(config, "sliding_window", family->presets.window, 1, INT64_MAX,
                     ret_window, err);
}

static int set_windows(const struct fields *config, struct window_pattern p,
                       int64_t window, struct decoder_spec *spec, struct pt2_err *err)
{
    for (int64_t i = 0; i < spec->n_layers; i++) {
        const char *type = windows_layer_type(config, i);
        bool is_sliding =
            i >= p.first && (p.period == 0 || (i + 1) % p.period != p.phase);

        if (type)
            is_sliding = streq(type, "sliding_attention");
        spec->layers[i].window = is_sliding ? window : 0;
        if (is_sliding && window == 0 && (type || p.period != 0))
            return field_refuse(config, "layer_types", err,
                                "layer %lld is sliding_attention, but sliding_window is "
                                "null, or use_sliding_window is false",
                                (long long)i);
    }
    return 0;
}

int windows_read(const struct family *family, const struct fields *config,
                 struct window_pattern pattern, struct decoder_spec *spec,
                 struct pt2_err *err)
{
    int64_t window;

    if (read_window(family, config, &window, err) < 0)
        return -1;
    return set_windows(config, pattern, window, spec, err);
}

int windows_read_all(const struct family *family, const struct fields *config,
                     struct decoder_spec *spec, struct pt2_err *err)
{
    int64_t window;

    if (read_window(family, config, &window, err) < 0)
        return -1;
    for (int64_t i = 0; i < spec->n_layers; i++) {
        const char *type = windows_layer_type(config, i);

        if (type && streq(type, "sliding_attention") != (window > 0))
            return field_refuse(config, "layer_types", err,
                                "layer %lld is %s, but sliding_window is for all of %s's",
                                (long long)i, type, family->model_type);
        spec->layers[i].window = window;
    }
    return 0;
}

int windows_read_if_used(const struct family *family, const struct fields *config,
                         struct window_pattern pattern, struct decoder_spec *spec,
                         struct pt2_err *err)
{
    int64_t window = 0;
    bool is_used;

    if (field_bool(config, "use_sliding_window", false, &is_used, err) < 0 ||
        (is_used && read_window(family, config, &window, err) < 0))
        return -1;
    return set_windows(config, pattern, window, spec, err);
}
