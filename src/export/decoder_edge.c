/* decoder_edge.c - attention as profile "edge" spells it, and why.
 *
 * ExecuTorch's XNNPACK takes a subgraph as long as every node in it is one that it knows.
 * What is spelled here is known to it, where the plain spelling is not, and leaves a layer
 * one subgraph before and one behind what writes the caches:
 *
 * - heads that share keys are rows of one matrix: bmm over the kv_heads, no key repeated;
 * - caches have three dimensions, so that no view of one is needed: one that stays outside
 *   a subgraph is computed wrongly under run_reinplace_pass (ExecuTorch 1.5.1);
 * - masks are added: scaled_dot_product_attention's mask of bools becomes five nodes;
 * - cos, sin and the mask of a position are rows of tables, taken once for all layers;
 * - the other elements of the pairs come by a product with a constant matrix: slices are
 *   not taken where the sequence length is symbolic;
 * - a sink takes its share of attention as a factor behind it: nothing is put beside the
 *   scores that has to be cut off again;
 * - a mean is a product with a constant row: mean.dim is taken in four dimensions alone. */
#include "base/log.h"
#include "export/decoder_parts.h"

/* (1, heads, s, head_dim) as (kv_heads, heads / kv_heads * s, head_dim) */
static uint32_t grouped(struct builder *b, uint32_t x, int64_t n_heads)
{
    int64_t kv = b->spec->n_kv_heads;
    struct pt2_dim rows = graph_times(&b->graph, b->seq, n_heads / kv);
    struct pt2_dim sizes[] = {dim_of(kv), rows, dim_of(b->spec->head_dim)};

    return graph_view(&b->graph, x, 3, sizes, /* is_copy= */ true);
}

/* w, (kv_heads, heads / kv_heads * s, l), has the mask, (s, l), added. */
static uint32_t masked(struct builder *b, uint32_t w, uint32_t mask)
{
    const struct decoder_spec *s = b->spec;
    struct graph *g = &b->graph;
    int64_t n_repeats = s->n_heads / s->n_kv_heads;
    struct pt2_dim len = dim_of(graph_last_size(g, w));
    struct pt2_dim apart[] = {dim_of(s->n_kv_heads), dim_of(n_repeats), b->seq, len};

    if (!b->seq.expr && b->seq.value == 1)
        return graph_softmax(g, graph_binary(g, "add", w, mask));
    w = graph_view(g, w, 4, apart, /* is_copy= */ false);
    w = graph_softmax(g, graph_binary(g, "add", w, mask));
    apart[1] = graph_times(g, b->seq, n_repeats);
    apart[2] = len;
    return graph_view(g, w, 3, apart, /* is_copy= */ false);
}

/* The buffer of that kind for rows of len, and a sink. */
static uint32_t sink_buffer(struct builder *b, enum decoder_buffer_kind kind, int64_t len)
{
    for (size_t i = 0; i < b->buffers->n; i++) {
        const struct decoder_buffer *buffer = &b->buffers->list[i];

        if (buffer->kind == kind && buffer->sizes[buffer->n_dims - 1] == len + 1)
            return b->buffer_values[i];
    }
    ASSERT(graph_failed(&b->graph)); /* decoder_buffers.c, add_shares */
    return 0;
}

/* What the positions have of a softmax over their scores and a sink: as much less of each is
 * what a softmax over the scores alone gives it.  w as masked() has it, mask added: (kv_heads,
 * heads / kv_heads, s, 1).  Nothing of a row is cut off: a slice ends a subgraph where the
 * sequence length is symbolic. */
static uint32_t share(struct builder *b, uint32_t w, const struct layer_values *layer)
{
    const struct decoder_spec *s = b->spec;
    struct graph *g = &b->graph;
    int64_t len = graph_last_size(g, w);
    struct pt2_dim heads[] = {dim_of(s->n_kv_heads), dim_of(s->n_heads / s->n_kv_heads),
                              dim_of(1), dim_of(1)};
    uint32_t sinks = graph_view(g, layer->weights[WEIGHT_SINKS], 4, heads, /* is_copy= */ true);

    sinks = graph_outer_product(g, sinks, sink_buffer(b, BUFFER_COLUMN, len));
    w = graph_binary(g, "add", graph_pad_last(g, w), sinks);
    return graph_linear(g, graph_softmax(g, w), sink_buffer(b, BUFFER_SHARE, len),
                        GRAPH_NO_BIAS);
}

/* Attention with sinks from scores (kv_heads, heads / kv_heads * s, l). */
static uint32_t attend_with_sinks(struct builder *b, uint32_t w, uint32_t v,
                                  const struct layer_values *layer)
{
    const struct decoder_spec *s = b->spec;
    struct graph *g = &b->graph;
    int64_t n_repeats = s->n_heads / s->n_kv_heads, len = graph_last_size(g, w);
    struct pt2_dim rows = graph_times(g, b->seq, n_repeats);
    struct pt2_dim apart[] = {dim_of(s->n_kv_heads), dim_of(n_repeats), b->seq, dim_of(len)};
    struct pt2_dim grouped[] = {dim_of(s->n_kv_heads), rows, dim_of(len)};
    uint32_t x, part;

    w = graph_view(g, w, 4, apart, /* is_copy= */ false);
    w = graph_binary(g, "add", w, layer->mask);
    part = share(b, w, layer);
    x = graph_bmm(g, graph_view(g, graph_softmax(g, w), 3, grouped, /* is_copy= */ false), v);
    apart[3] = dim_of(s->head_dim);
    x = graph_view(g, x, 4, apart, /* is_copy= */ false);
    return graph_binary(g, "mul", x, part);
}

uint32_t part_edge_attention(struct builder *b, uint32_t q, uint32_t k, uint32_t v,
                             const struct layer_values *layer)
{
    const struct decoder_spec *s = b->spec;
    struct graph *g = &b->graph;
    struct pt2_dim heads[] = {dim_of(1), dim_of(s->n_heads), b->seq, dim_of(s->head_dim)};
    uint32_t w;

    q = grouped(b, graph_binary_number(g, "mul", q, layer->spec->attn_scale), s->n_heads);
    k = grouped(b, k, s->n_kv_heads);
    v = grouped(b, v, s->n_kv_heads);
    k = graph_index_copy(g, layer->key_cache, layer->slots, k);
    v = graph_index_copy(g, layer->value_cache, layer->slots, v);
    w = graph_bmm(g, q, graph_transpose(g, k, 1, 2));
    if (s->attn_softcap != 0 && b->options->attn == PT2_ATTN_EAGER) {
        w = graph_unary(g, "tanh", graph_binary_number(g, "div", w, s->attn_softcap));
        w = graph_binary_number(g, "mul", w, s->attn_softcap);
    }
    w = s->has_sinks ? attend_with_sinks(b, w, v, layer)
                     : graph_bmm(g, masked(b, w, layer->mask), v);
    return graph_view(g, w, 4, heads, /* is_copy= */ false);
}

/* With ExecuTorch's ops, which write and read the caches where they lie.  The mask of causality
 * is custom_sdpa's own; a window is given to it. */
uint32_t part_custom_attention(struct builder *b, uint32_t q, uint32_t k, uint32_t v,
                               const struct layer_values *layer)
{
    struct graph *g = &b->graph;

    if (b->first == GRAPH_NO_BIAS)
        b->first = graph_first_item(g, b->positions, FIRST_SYMBOL);
    graph_update_cache(g, k, layer->key_cache, b->first);
    graph_update_cache(g, v, layer->value_cache, b->first);
    return graph_custom_sdpa(g, q, layer->key_cache, layer->value_cache, b->first, layer->mask,
                             layer->spec->attn_scale);
}
