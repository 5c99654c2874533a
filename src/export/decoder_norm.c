#include "base/log.h"
#include "export/decoder_parts.h"

uint32_t part_mean(struct builder *b, uint32_t x)
{
    struct graph *g = &b->graph;
    int64_t n = graph_last_size(g, x);

    if (b->options->profile != PT2_PROFILE_EDGE)
        return graph_mean_last(g, x);
    for (size_t i = 0; i < b->buffers->n; i++)
        if (b->buffers->list[i].kind == BUFFER_MEAN && b->buffers->list[i].sizes[1] == n)
            return graph_linear(g, x, b->buffer_values[i], GRAPH_NO_BIAS);
    ASSERT(graph_failed(g)); /* decoder_buffers.c, add_means */
    return 0;
}

/* *RMSNorm.forward up to the weight: float32. */
static uint32_t rms(struct builder *b, uint32_t x)
{
    struct graph *g = &b->graph;
    uint32_t wide = graph_to(g, x, PT2_FLOAT32);
    uint32_t scale = part_mean(b, graph_pow(g, wide, 2));

    scale = graph_binary_number(g, "add", scale, b->spec->norm_eps);
    return graph_binary(g, "mul", wide, graph_unary(g, "rsqrt", scale));
}

/* CohereLayerNorm.forward, operation by operation.  weight, bias: GRAPH_NO_BIAS for
 * none. */
static uint32_t layer_norm_wide(struct builder *b, uint32_t x, uint32_t weight,
                                uint32_t bias)
{
    struct graph *g = &b->graph;
    uint32_t wide = graph_to(g, x, PT2_FLOAT32);
    uint32_t centred = graph_binary(g, "sub", wide, part_mean(b, wide));
    uint32_t scale = part_mean(b, graph_pow(g, centred, 2));

    scale = graph_binary_number(g, "add", scale, b->spec->norm_eps);
    wide = graph_binary(g, "mul", centred, graph_unary(g, "rsqrt", scale));
    if (weight != GRAPH_NO_BIAS)
        wide = graph_binary(g, "mul", wide, graph_to(g, weight, PT2_FLOAT32));
    if (bias != GRAPH_NO_BIAS)
        wide = graph_binary(g, "add", wide, graph_to(g, bias, PT2_FLOAT32));
    return graph_to(g, wide, b->options->dtype);
}

/* aten.layer_norm; in its parts for profile edge, as no subgraph of XNNPACK's has it. */
static uint32_t layer_norm(struct builder *b, uint32_t x, uint32_t weight, uint32_t bias)
{
    if (b->options->profile == PT2_PROFILE_EDGE)
        return layer_norm_wide(b, x, weight, bias);
    return graph_layer_norm(&b->graph, x, weight, bias, b->spec->norm_eps);
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
        return layer_norm(b, x, weight, bias);
    case NORM_LAYER_PLUS_ONE:
        weight = graph_binary_number(g, "add", weight, 1.0);
        return layer_norm(b, x, weight, bias);
    case NORM_LAYER_PLAIN:
        x = graph_to(g, x, PT2_FLOAT32);
        x = layer_norm(b, x, GRAPH_NO_BIAS, GRAPH_NO_BIAS);
        return graph_to(g, x, dtype);
    case NORM_LAYER_WIDE:
        return layer_norm_wide(b, x, weight, GRAPH_NO_BIAS);
    }
    ASSERT(!"a norm that has no spelling");
}
