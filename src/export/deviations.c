#include "export/deviations.h"

#include "export/decoder_graph.h"

#include <stdarg.h>

int deviations_add(struct deviations *deviations, struct pt2_err *err, const char *fmt,
                   ...)
{
    char **grown =
        reallocarray(deviations->list, deviations->n + 1, sizeof(*deviations->list));
    va_list ap;
    int n;

    if (!grown)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a deviation");
    deviations->list = grown;
    va_start(ap, fmt);
    n = vasprintf(&grown[deviations->n], fmt, ap);
    va_end(ap);
    if (n < 0)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a deviation");
    deviations->n++;
    return 0;
}

static int find_of_rope(const struct rope *rope, const struct pt2_export_options *options,
                        struct deviations *deviations, struct pt2_err *err)
{
    long long len = options->max_cache_len, max = rope->max_position;

    if (rope->type == ROPE_DYNAMIC)
        return deviations_add(
            deviations, err,
            "rope_type dynamic: the frequencies are those up to "
            "max_position_embeddings, %lld, which max_cache_len, %lld, does not "
            "exceed; the reference export fails on this rope_type.",
            max, len);
    if (rope_is_long(rope, options->max_cache_len))
        return deviations_add(
            deviations, err,
            "rope_type longrope: each position turns by the short factors below "
            "original_max_position_embeddings, %.0f, by the long ones from there on; "
            "Transformers takes one list for all positions of a call, and the reference "
            "export fails.",
            rope->original_max);
    if (rope->type == ROPE_LONGROPE)
        return deviations_add(
            deviations, err,
            "rope_type longrope: the short factors, which are those up to "
            "original_max_position_embeddings, %.0f, which max_cache_len, %lld, does not "
            "exceed; the reference export fails on this rope_type.",
            rope->original_max, len);
    return 0;
}

static int note_part(const struct decoder_spec *spec, const struct weights *weights,
                     struct deviations *deviations, struct pt2_err *err)
{
    char modules[300] = "";
    size_t n = 0;

    for (size_t i = 0; i < weights->n_left_out_modules; i++)
        n += (size_t)snprintf(modules + n, sizeof(modules) - n, "%s%s", i ? ", " : "",
                              weights->left_out[i]);
    if (weights->n_left_out == 0)
        return deviations_add(deviations, err,
                              "%s: only the text model, %s, is exported.", spec->part_of,
                              spec->model_type);
    return deviations_add(deviations, err,
                          "%s: only the text model, %s, is exported; %zu tensors are "
                          "left out, of %s.",
                          spec->part_of, spec->model_type, weights->n_left_out, modules);
}

/* Transformers leaves them out too, and warns. */
static int find_unused(const struct decoder_spec *spec, const struct weights *weights,
                       struct deviations *deviations, struct pt2_err *err)
{
    size_t n = weights->n_unused, named = MIN(n, (size_t)WEIGHTS_MAX_NAMED), at = 0;
    char names[400] = "";

    if (n == 0)
        return 0;
    for (size_t i = 0; i < named; i++)
        at += (size_t)snprintf(names + at, sizeof(names) - at, "%s'%.100s'",
                               i ? ", " : "", weights->unused[i]->name);
    if (n > named)
        snprintf(names + at, sizeof(names) - at, " and %zu more", n - named);
    return deviations_add(
        deviations, err,
        "%zu tensor%s of the checkpoint %s no part of the %s model that config.json "
        "describes, and %s left out, as Transformers does: %s.",
        n, n == 1 ? "" : "s", n == 1 ? "is" : "are", spec->model_type,
        n == 1 ? "is" : "are", names);
}

/* What a hybrid cache is, which the reference's export has as long as all others. */
static int find_of_cache(const struct decoder_spec *spec,
                         const struct pt2_export_options *options,
                         struct deviations *deviations, struct pt2_err *err)
{
    long long rows = decoder_max_rows(spec, options), n = 0, len = 0;

    for (int64_t i = 0; i < spec->n_layers; i++) {
        long long of_layer = decoder_cache_len(spec, options, i);

        n += of_layer < options->max_cache_len;
        if (of_layer < options->max_cache_len)
            len = MAX(len, of_layer);
    }
    if (n == 0)
        return deviations_add(deviations, err,
                              "cache.implementation hybrid: no layer has a window that "
                              "max_cache_len, %lld, reaches beyond, so all caches are as "
                              "static ones are.",
                              (long long)options->max_cache_len);
    return deviations_add(
        deviations, err,
        "cache.implementation hybrid: %lld of %lld layers have rings of at most %lld "
        "positions, of a window and a call's %lld tokens, and a call takes no more; the "
        "reference export gives them max_cache_len, too.",
        n, (long long)spec->n_layers, len, rows);
}

int deviations_find(const struct decoder_spec *spec, const struct weights *weights,
                    const struct pt2_export_options *options,
                    struct deviations *deviations, struct pt2_err *err)
{
    long long len = options->max_cache_len, max = spec->max_position;

    if (len > max &&
        deviations_add(
            deviations, err,
            "max_cache_len, %lld, is beyond max_position_embeddings, %lld: the "
            "positions from there on are computed by the same formula, but the model "
            "does not claim to know them.",
            len, max) < 0)
        return -1;
    if (spec->part_of && note_part(spec, weights, deviations, err) < 0)
        return -1;
    if (spec->note && deviations_add(deviations, err, "%s", spec->note) < 0)
        return -1;
    for (int i = 0; i < spec->n_ropes; i++)
        if (find_of_rope(&spec->ropes[i], options, deviations, err) < 0)
            return -1;
    if (spec->attn_softcap != 0 && options->attn == PT2_ATTN_EAGER &&
        deviations_add(deviations, err,
                       "attn_logit_softcapping, %g, is applied; the reference export, by "
                       "default sdpa, leaves it out, and so does attn_implementation "
                       "sdpa here.",
                       spec->attn_softcap) < 0)
        return -1;
    if (options->custom_ops &&
        deviations_add(deviations, err,
                       "custom_ops: the program calls llama::update_cache and "
                       "llama::custom_sdpa, which Python has after importing "
                       "executorch.extension.llm.custom_ops.custom_ops; without them "
                       "torch.export.load fails.") < 0)
        return -1;
    if (options->cache == PT2_CACHE_HYBRID &&
        find_of_cache(spec, options, deviations, err) < 0)
        return -1;
    if (weights->is_untied_by_data &&
        deviations_add(
            deviations, err,
            "tie_word_embeddings is true, but the checkpoint's embedding and head "
            "differ: both are exported, as Transformers loads them.") < 0)
        return -1;
    return find_unused(spec, weights, deviations, err);
}

void deviations_done(struct deviations *deviations)
{
    for (size_t i = 0; i < deviations->n; i++)
        free(deviations->list[i]);
    free(deviations->list);
    *deviations = (struct deviations){0};
}
