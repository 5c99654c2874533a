/* decoder_linear.c - weights, and products with them, as floats or quantised.
 *
 * What torchao's programs have (IntxUnpackedToInt8Tensor, torchao 0.18): each use makes the
 * weight floats again, and of a dynamic scheme the tokens' numbers of 8 bits and back.  What
 * runs such a program finds the pattern and computes with the whole numbers. */
#include "export/decoder_parts.h"
#include "export/weight_parts.h"

static const struct weight_scheme *scheme_of(const struct layer_values *layer,
                                             enum weight_role role)
{
    static const struct weight_scheme floats;

    return layer->sources[role] ? &layer->sources[role]->scheme : &floats;
}

uint32_t part_weight(struct builder *b, const struct layer_values *layer,
                     enum weight_role role)
{
    const struct weight_scheme *scheme = scheme_of(layer, role);
    uint32_t first = layer->weights[role];

    if (scheme->bits == 0)
        return first;
    return graph_dequantize(&b->graph, first + WEIGHT_VALUES, first + WEIGHT_SCALE,
                            first + WEIGHT_ZERO_POINT, scheme->group, scheme->bits);
}

uint32_t part_linear(struct builder *b, uint32_t x, const struct layer_values *layer,
                     enum weight_role role)
{
    struct graph *g = &b->graph;
    uint32_t weight;

    if (scheme_of(layer, role)->is_dynamic)
        x = graph_round_rows(g, x);
    weight = part_weight(b, layer, role);
    if (layer->spec && b->spec->transposed)
        weight = graph_transpose(g, weight, 0, 1);
    return graph_linear(g, x, weight, layer->weights[role + 1]);
}
