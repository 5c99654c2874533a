#include "base/log.h"
#include "export/decoder_parts.h"

/* *RMSNorm.forward up to the weight: float32. */
static uint32_t rms(struct builder *b, uint32_t x)
{
    struct graph *g = &b->graph;
    uint32_t wide = graph_to(g, x, PT2_FLOAT32);
    uint32_t scale = graph_mean_last(g, graph_pow(g, wide, 2));

    scale = graph_binary_number(g, "add", scale, b->spec->norm_eps);
    return graph_binary(g, "mul", wide, graph_unary(g, "rsqrt", scale));
}

/* CohereLayerNorm.forward, operation by operation */
static uint32_t layer_norm_wide(struct builder *b, uint32_t x, uint32_t weight)
{
    struct graph *g = &b->graph;
    uint32_t wide = graph_to(g, x, PT2_FLOAT32);
    uint32_t centred = graph_binary(g, "sub", wide, graph_mean_last(g, wide));
    uint32_t scale = graph_mean_last(g, graph_pow(g, centred, 2));

    scale = graph_binary_number(g, "add", scale, b->spec->norm_eps);
    wide = graph_binary(g, "mul", centred, graph_unary(g, "rsqrt", scale));
    wide = graph_binary(g, "mul", wide, graph_to(g, weight, PT2_FLOAT32));
    return graph_to(g, wide, b->options->dtype);
}

uint32_t part_norm(struct builder *b, enum norm_kind kind, uint32_t x,
                   const struct layer_values *layer, enum weight_role role)
{
    struct graph *g = &b->graph;
    enum pt2_dtype dtype = b->options->dtype;
    uint32_t weight = layer->weights[role], bias = layer->weights[role + 1];

    switch (kind) {
    case NORM_RMS:
        return graph_binary(g, "mul", graph_to(g, rms(b, x), dtype), weight);
    case NORM_RMS_WIDE:
        return graph_to(g, graph_binary(g, "mul", rms(b, x), weight), dtype);
    case NORM_RMS_PLUS_ONE:
        weight = graph_binary_number(g, "add", graph_to(g, weight, PT2_FLOAT32), 1.0);
        return graph_to(g, graph_binary(g, "mul", rms(b, x), weight), dtype);
    case NORM_RMS_PLAIN:
        return graph_to(g, rms(b, x), dtype);
    case NORM_LAYER:
        return graph_layer_norm(g, x, weight, bias, b->spec->norm_eps);
    case NORM_LAYER_PLUS_ONE:
        weight = graph_binary_number(g, "add", weight, 1.0);
        return graph_layer_norm(g, x, weight, bias, b->spec->norm_eps);
    case NORM_LAYER_PLAIN:
        x = graph_to(g, x, PT2_FLOAT32);
        x = graph_layer_norm(g, x, GRAPH_NO_BIAS, GRAPH_NO_BIAS, b->spec->norm_eps);
        return graph_to(g, x, dtype);
    case NORM_LAYER_WIDE:
        return layer_norm_wide(b, x, weight);
    }
    ASSERT(!"a norm that has no spelling");
}
