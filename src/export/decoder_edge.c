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
 * - a mean is a product with a constant row: mean.dim is taken in four dimensions alone. */
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
    w = graph_bmm(g, masked(b, w, layer->mask), v);
    return graph_view(g, w, 4, heads, /* is_copy= */ false);
}
