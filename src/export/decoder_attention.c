#include "base/log.h"
#include "export/decoder_parts.h"

#include <math.h>

struct qkv {
    uint32_t q, k, v; /* (batch, heads, s, head_dim) */
};

/* (batch, s, n * size) -> (batch, s, n, size) */
static uint32_t split_last(struct builder *b, uint32_t x, int64_t n, int64_t size)
{
    struct pt2_dim sizes[] = {b->batch, b->seq, dim_of(n), dim_of(size)};

    return graph_view(&b->graph, x, 4, sizes, /* is_copy= */ false);
}

/* (batch, s, n, head_dim) -> (batch, n, s, head_dim), but for ops that want them as they
 * are: custom_ops */
static uint32_t heads_first(struct builder *b, uint32_t x)
{
    return b->options->custom_ops ? x : graph_transpose(&b->graph, x, 1, 2);
}

/* (batch, s, n * head_dim) -> (batch, n, s, head_dim) */
static uint32_t split_heads(struct builder *b, uint32_t x, int64_t n)
{
    return heads_first(b, split_last(b, x, n, b->spec->head_dim));
}

/* n heads of their own weight, normed all together by what has norm_role, and clipped. */
static uint32_t project_one(struct builder *b, uint32_t x,
                            const struct layer_values *layer, enum weight_role role,
                            enum weight_role norm_role, int64_t n)
{
    const struct decoder_spec *s = b->spec;

    x = part_linear(b, x, layer, role);
    if (s->qk_norm == QK_NORM_ALL && norm_role != N_WEIGHT_ROLES)
        x = part_norm(b, s->qk_norm_kind, x, layer, norm_role);
    if (s->qkv_clip != 0)
        x = graph_clamp(&b->graph, x, -s->qkv_clip, s->qkv_clip);
    return split_heads(b, x, n);
}

static struct qkv project_separate(struct builder *b, uint32_t x,
                                   const struct layer_values *layer)
{
    const struct decoder_spec *s = b->spec;
    struct qkv y;

    y.q = project_one(b, x, layer, WEIGHT_Q, WEIGHT_Q_NORM, s->n_heads);
    y.k = project_one(b, x, layer, WEIGHT_K, WEIGHT_K_NORM, s->n_kv_heads);
    y.v = project_one(b, x, layer, WEIGHT_V, /* norm_role= */ N_WEIGHT_ROLES,
                      s->n_kv_heads);
    return y;
}

static struct qkv project_fused(struct builder *b, uint32_t x,
                                const struct layer_values *layer)
{
    const struct decoder_spec *s = b->spec;
    struct graph *g = &b->graph;
    int64_t q = s->n_heads * s->head_dim, kv = s->n_kv_heads * s->head_dim;
    struct qkv y;

    x = part_linear(b, x, layer, WEIGHT_QKV);
    y.q = split_heads(b, graph_slice_last(g, x, 0, q), s->n_heads);
    y.k = split_heads(b, graph_slice_last(g, x, q, q + kv), s->n_kv_heads);
    y.v = split_heads(b, graph_slice_last(g, x, q + kv, q + 2 * kv), s->n_kv_heads);
    return y;
}

static struct qkv project_per_head(struct builder *b, uint32_t x,
                                   const struct layer_values *layer)
{
    const struct decoder_spec *s = b->spec;
    struct graph *g = &b->graph;
    int64_t d = s->head_dim, q = s->n_heads / s->n_kv_heads * d;
    struct pt2_dim queries[] = {b->batch, b->seq, dim_of(s->n_heads), dim_of(d)};
    uint32_t kv;
    struct qkv y;

    x = split_last(b, part_linear(b, x, layer, WEIGHT_QKV), s->n_kv_heads, q + 2 * d);
    kv = heads_first(b, x);
    if (s->n_heads == s->n_kv_heads) {
        y.q = graph_slice_last(g, kv, 0, d);
    } else {
        y.q = graph_slice_last(g, x, 0, q);
        y.q = heads_first(b, graph_view(g, y.q, 4, queries, /* is_copy= */ true));
    }
    y.k = graph_slice_last(g, kv, q, q + d);
    y.v = graph_slice_last(g, kv, q + d, q + 2 * d);
    return y;
}

/* Part i of each block: (batch, s, blocks, 3 * size) -> (batch, heads, s, head_dim). */
static uint32_t part_of_blocks(struct builder *b, uint32_t blocks, int64_t i,
                               int64_t size)
{
    struct pt2_dim sizes[] = {b->batch, b->seq, dim_of(b->spec->n_heads),
                              dim_of(b->spec->head_dim)};
    uint32_t x = graph_slice_last(&b->graph, blocks, i * size, (i + 1) * size);

    if (b->spec->n_heads > QKV_N_BLOCKS)
        x = graph_view(&b->graph, x, 4, sizes, /* is_copy= */ true);
    return heads_first(b, x);
}

static struct qkv project_blocks(struct builder *b, uint32_t x,
                                 const struct layer_values *layer)
{
    int64_t size = b->spec->n_heads / QKV_N_BLOCKS * b->spec->head_dim;
    struct qkv y;

    x = split_last(b, part_linear(b, x, layer, WEIGHT_QKV), QKV_N_BLOCKS, 3 * size);
    y.q = part_of_blocks(b, x, 0, size);
    y.v = part_of_blocks(b, x, 1, size);
    y.k = part_of_blocks(b, x, 2, size);
    return y;
}

static struct qkv project(struct builder *b, uint32_t x, const struct layer_values *layer)
{
    switch (b->spec->qkv) {
    case QKV_SEPARATE:
        return project_separate(b, x, layer);
    case QKV_FUSED:
        return project_fused(b, x, layer);
    case QKV_PER_HEAD:
        return project_per_head(b, x, layer);
    case QKV_BLOCKS:
        return project_blocks(b, x, layer);
    }
    ASSERT(!"a layout that has no spelling");
}

/* Norms over a head.  A weight for every head wants the heads next to their elements. */
static uint32_t norm_heads(struct builder *b, uint32_t x,
                           const struct layer_values *layer, enum weight_role role)
{
    enum norm_kind kind = b->spec->qk_norm_kind;
    struct layer_values stacked;

    switch (b->spec->qk_norm) {
    case QK_NORM_NONE:
    case QK_NORM_ALL:
        return x;
    case QK_NORM_HEAD:
        return part_norm(b, kind, x, layer, role);
    case QK_NORM_EVERY_HEAD:
        return heads_first(b, part_norm(b, kind, heads_first(b, x), layer, role));
    case QK_NORM_MODULES:
        stacked = *layer;
        stacked.weights[role] = graph_stack(
            &b->graph, layer->weights[role],
            role == WEIGHT_Q_NORM ? b->spec->n_heads : b->spec->n_kv_heads);
        return heads_first(b, part_norm(b, kind, heads_first(b, x), &stacked, role));
    }
    ASSERT(!"a norm of queries and keys that has no spelling");
}

static uint32_t turn(struct builder *b, uint32_t x, const struct layer_values *layer,
                     enum weight_role norm_role)
{
    bool is_after = b->spec->qk_norm_after_rope;

    if (!is_after)
        x = norm_heads(b, x, layer, norm_role);
    if (layer->spec->rope != NO_ROPE)
        x = part_rotate(b, &b->ropes[layer->spec->rope], x);
    return is_after ? norm_heads(b, x, layer, norm_role) : x;
}

/* GptOss' eager_attention_forward: softmax over a row of w and its head's sink; what the
 * sink has is dropped.  The largest is taken away first, which rounds. */
static uint32_t softmax_with_sinks(struct builder *b, uint32_t w,
                                   const struct layer_values *layer)
{
    struct graph *g = &b->graph;
    struct pt2_dim one = dim_of(1), heads[] = {one, dim_of(b->spec->n_heads), one, one};
    uint32_t sinks = graph_view(g, layer->weights[WEIGHT_SINKS], 4, heads,
                                /* is_copy= */ true);

    sinks = graph_expand_as(g, sinks, graph_slice_last(g, w, 0, 1));
    w = graph_cat_last(g, w, sinks);
    w = graph_binary(g, "sub", w, graph_max_last(g, w));
    w = graph_to(g, graph_softmax(g, w), b->options->dtype);
    return graph_slice_last(g, w, 0, b->options->max_cache_len);
}

/* eager_attention_forward with a soft cap or sinks, which no kernel has.  A position sees
 * itself, so that no row is masked whole: -inf does for the lowest number there. */
static uint32_t eager_attention(struct builder *b, struct qkv x,
                                const struct layer_values *layer)
{
    const struct decoder_spec *s = b->spec;
    struct graph *g = &b->graph;
    int64_t n_repeats = s->n_heads / s->n_kv_heads;
    uint32_t k = graph_repeat_heads(g, x.k, n_repeats);
    uint32_t v = graph_repeat_heads(g, x.v, n_repeats);
    uint32_t w = graph_matmul(g, x.q, graph_transpose(g, k, 2, 3));

    w = graph_binary_number(g, "mul", w, layer->spec->attn_scale);
    if (s->attn_softcap != 0) {
        w = graph_unary(g, "tanh", graph_binary_number(g, "div", w, s->attn_softcap));
        w = graph_binary_number(g, "mul", w, s->attn_softcap);
    }
    w = graph_where_number(g, layer->mask, w, -INFINITY);
    w = s->has_sinks ? softmax_with_sinks(b, w, layer)
                     : graph_to(g, graph_softmax(g, w), b->options->dtype);
    return graph_matmul(g, w, v);
}

static uint32_t cached_attention(struct builder *b, struct qkv x,
                                 const struct layer_values *layer)
{
    const struct decoder_spec *s = b->spec;
    struct graph *g = &b->graph;

    x.k = graph_index_copy(g, layer->key_cache, layer->slots, x.k);
    x.v = graph_index_copy(g, layer->value_cache, layer->slots, x.v);
    if (s->has_sinks || (s->attn_softcap != 0 && b->options->attn == PT2_ATTN_EAGER))
        return eager_attention(b, x, layer);
    return graph_attention(g, x.q, x.k, x.v, layer->mask, layer->spec->attn_scale);
}

uint32_t part_attention(struct builder *b, uint32_t x, const struct layer_values *layer)
{
    const struct decoder_spec *s = b->spec;
    struct graph *g = &b->graph;
    struct pt2_dim merged[] = {b->batch, b->seq, dim_of(s->n_heads * s->head_dim)};
    struct qkv y = project(b, x, layer);

    y.q = turn(b, y.q, layer, WEIGHT_Q_NORM);
    y.k = turn(b, y.k, layer, WEIGHT_K_NORM);
    if (layer->spec->rope != NO_ROPE &&
        b->ropes[layer->spec->rope].query_scale != GRAPH_NO_BIAS)
        y.q = graph_binary(g, "mul", y.q, b->ropes[layer->spec->rope].query_scale);
    if (b->options->custom_ops)
        x = part_custom_attention(b, y.q, y.k, y.v, layer);
    else if (b->options->profile == PT2_PROFILE_EDGE)
        x = part_edge_attention(b, y.q, y.k, y.v, layer);
    else
        x = cached_attention(b, y, layer);
    x = graph_view(g, heads_first(b, x), 3, merged, /* is_copy= */ true);
    if (s->names->attn_sub_norm)
        x = part_norm(b, NORM_RMS, x, layer, WEIGHT_ATTN_SUB_NORM);
    return part_linear(b, x, layer, WEIGHT_O);
}
