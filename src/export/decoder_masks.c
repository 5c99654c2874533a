#include "export/decoder_parts.h"

static uint32_t column(struct builder *b)
{
    if (b->column == GRAPH_NO_BIAS)
        b->column = graph_unsqueeze(&b->graph, b->positions, 1);
    return b->column;
}

/* Slots and mask of a layer whose caches are a ring of len.  A row sees the slots whose age, how
 * many positions ago they were written, is within the window, and that were written at all.
 * What later rows of the call have written by then would be of an age beyond the window, since
 * the ring is that much longer.  No dividend is below 0, for which ExecuTorch's remainder is
 * not torch's (1.5.1). */
static void ring(struct builder *b, struct layer_values *layer, int64_t len)
{
    struct graph *g = &b->graph;
    uint32_t q = column(b);
    uint32_t age = graph_outer(g, "sub", graph_binary_int(g, "add", q, len),
                               graph_arange(g, len), /* is_swapped= */ false);

    age = graph_remainder(g, age, len);
    layer->slots = graph_remainder(g, b->positions, len);
    layer->mask = graph_and(g, graph_compare_int(g, "lt", age, layer->spec->window),
                            graph_compare(g, "le", age, q));
}

/* masking_utils.py: kv <= q, and kv > q - window */
static uint32_t visible(struct builder *b, int64_t window)
{
    struct graph *g = &b->graph;
    uint32_t first;

    if (b->causal == GRAPH_NO_BIAS) {
        b->places = graph_arange(g, b->options->max_cache_len);
        b->causal = graph_outer(g, "le", column(b), b->places, /* is_swapped= */ true);
    }
    if (window == 0)
        return b->causal;
    first = graph_binary_int(g, "sub", column(b), window);
    return graph_and(g, graph_outer(g, "gt", first, b->places, /* is_swapped= */ true),
                     b->causal);
}

/* A mask of bools as what is added to the scores: 0 or EDGE_MASKED. */
static uint32_t added(struct graph *g, uint32_t mask)
{
    uint32_t x = graph_binary_number(g, "sub", graph_to(g, mask, PT2_FLOAT32), 1.0);

    return graph_binary_number(g, "mul", x, -(double)EDGE_MASKED);
}

/* One for all layers of a window.  table: its buffer; GRAPH_NO_BIAS: none */
static void make_mask(struct builder *b, struct layer_values *layer, int64_t window,
                      int64_t len, uint32_t table)
{
    layer->slots = b->positions;
    if (window == 0 && b->options->custom_ops)
        return; /* llama::custom_sdpa knows it */
    if (table != GRAPH_NO_BIAS) { /* a ring has none */
        layer->mask = graph_rows(&b->graph, table, b->positions);
        return;
    }
    if (len < b->options->max_cache_len)
        ring(b, layer, len);
    else
        layer->mask = visible(b, window);
    if (b->options->profile == PT2_PROFILE_EDGE)
        layer->mask = added(&b->graph, layer->mask);
}

void part_masks(struct builder *b)
{
    for (int64_t i = 0; i < b->spec->n_layers; i++) {
        struct layer_values *layer = &b->layers[i];
        int64_t window = decoder_window(b->spec, b->options, i), same = 0;

        while (decoder_window(b->spec, b->options, same) != window)
            same++;
        if (same == i) {
            make_mask(b, layer, window, decoder_cache_len(b->spec, b->options, i),
                      layer->mask);
            continue;
        }
        layer->slots = b->layers[same].slots;
        layer->mask = b->layers[same].mask;
    }
}
