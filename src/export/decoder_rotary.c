#include "export/decoder_parts.h"

/* (s, dim / 2) radians.  Beyond original_max by the long list, position by position. */
static uint32_t angles(struct builder *b, const struct rope *rope,
                       const struct rope_values *values)
{
    struct graph *g = &b->graph;
    uint32_t position = graph_unsqueeze(g, graph_to(g, b->positions, PT2_FLOAT32), 1);
    uint32_t angle =
        graph_outer(g, "mul", position, values->inv_freq, /* is_swapped= */ false);
    uint32_t long_angle, is_long;

    if (!rope_is_long(rope, b->options->max_cache_len))
        return angle;
    long_angle =
        graph_outer(g, "mul", position, values->long_inv_freq, /* is_swapped= */ false);
    is_long = graph_compare_int(g, "ge", graph_unsqueeze(g, b->positions, 1),
                                (int64_t)rope->original_max);
    return graph_where(g, is_long, long_angle, angle);
}

/* scale: GRAPH_NO_BIAS where the whole head rotates */
static uint32_t table(struct builder *b, const struct rope *rope, const char *op,
                      uint32_t angle, uint32_t scale)
{
    struct graph *g = &b->graph;
    uint32_t x = graph_unary(g, op, angle);

    if (rope->attention_scale == 1)
        return x;
    if (scale != GRAPH_NO_BIAS)
        return graph_binary(g, "mul", x, scale);
    return graph_binary_number(g, "mul", x, rope->attention_scale);
}

/* Ministral3: get_llama_4_attn_scale.  It is 1 below original_max. */
static uint32_t query_scale(struct builder *b, const struct rope *rope)
{
    struct graph *g = &b->graph;
    uint32_t x;

    if (rope->query_beta == 0 || (double)b->options->max_cache_len <= rope->original_max)
        return GRAPH_NO_BIAS;
    x = graph_to(g, b->positions, PT2_FLOAT32);
    x = graph_unary(g, "floor", graph_binary_number(g, "div", x, rope->original_max));
    x = graph_unary(g, "log", graph_binary_number(g, "add", x, 1.0));
    x = graph_binary_number(g, "mul", x, rope->query_beta);
    x = graph_binary_number(g, "add", x, 1.0);
    return graph_unsqueeze(g, graph_to(g, x, b->options->dtype), 1);
}

/* Profile edge: of whole heads; rows of tables, where there are such. */
static void edge_tables(struct builder *b, const struct rope *rope, struct rope_values *v)
{
    struct graph *g = &b->graph;
    uint32_t angle;

    if (v->cos != GRAPH_NO_BIAS) {
        v->cos = graph_rows(g, v->cos, b->positions);
        v->sin = graph_rows(g, v->sin, b->positions);
        return;
    }
    angle = angles(b, rope, v);
    v->cos = table(b, rope, "cos", angle, v->scale);
    v->sin = table(b, rope, "sin", angle, v->scale);
}

static void torch_tables(struct builder *b, const struct rope *rope, struct rope_values *v)
{
    struct graph *g = &b->graph;
    uint32_t angle = angles(b, rope, v);

    if (b->spec->pairs == PAIRS_NEIGHBOURS)
        angle = graph_interleave(g, angle, angle);
    else
        angle = graph_cat_last(g, angle, angle);
    v->cos = table(b, rope, "cos", angle, GRAPH_NO_BIAS);
    v->sin = table(b, rope, "sin", angle, GRAPH_NO_BIAS);
    if (b->spec->rope_rounding != ROPE_WIDE) {
        v->cos = graph_to(g, v->cos, b->options->dtype);
        v->sin = graph_to(g, v->sin, b->options->dtype);
    }
}

/* What (s, heads, head_dim) is multiplied by: (s, 1, .), as the rows of tables are. */
static void beside_heads(struct builder *b, struct rope_values *v)
{
    if (v->inv_freq != GRAPH_NO_BIAS) {
        v->cos = graph_unsqueeze(&b->graph, v->cos, 1);
        v->sin = graph_unsqueeze(&b->graph, v->sin, 1);
    }
    if (v->query_scale != GRAPH_NO_BIAS)
        v->query_scale = graph_unsqueeze(&b->graph, v->query_scale, 1);
}

void part_rotary_tables(struct builder *b)
{
    for (int i = 0; i < b->spec->n_ropes; i++) {
        const struct rope *rope = &b->spec->ropes[i];

        if (b->options->profile == PT2_PROFILE_EDGE)
            edge_tables(b, rope, &b->ropes[i]);
        else
            torch_tables(b, rope, &b->ropes[i]);
        b->ropes[i].query_scale = query_scale(b, rope);
        if (b->options->custom_ops)
            beside_heads(b, &b->ropes[i]);
    }
}

/* XGLMSinusoidalPositionalEmbedding: a row of its table, all sines before all cosines */
uint32_t part_sinusoids(struct builder *b)
{
    struct graph *g = &b->graph;
    int64_t offset = b->spec->position_offset;
    uint32_t position = graph_binary_int(g, "add", b->positions, offset), angle;

    position = graph_unsqueeze(g, graph_to(g, position, PT2_FLOAT32), 1);
    angle = graph_outer(g, "mul", position, b->ropes[0].inv_freq,
                        /* is_swapped= */ false);
    angle = graph_cat_last(g, graph_unary(g, "sin", angle), graph_unary(g, "cos", angle));
    return graph_to(g, angle, b->options->dtype);
}

/* rotate_half: the other of each pair, the first one's with the sign changed */
static uint32_t turned(struct builder *b, uint32_t x, int64_t dim)
{
    struct graph *g = &b->graph;
    uint32_t left, right;

    if (b->spec->pairs == PAIRS_NEIGHBOURS) {
        left = graph_every_other(g, x, 0);
        right = graph_every_other(g, x, 1);
        return graph_interleave(g, graph_unary(g, "neg", right), left);
    }
    left = graph_slice_last(g, x, 0, dim / 2);
    right = graph_slice_last(g, x, dim / 2, dim);
    if (b->spec->pairs == PAIRS_HALVES_FLIPPED)
        return graph_cat_last(g, right, graph_unary(g, "neg", left));
    return graph_cat_last(g, graph_unary(g, "neg", right), left);
}

/* apply_rotary_pos_emb: x * cos + rotate_half(x) * sin, the rest of a head as it is */
uint32_t part_rotate(struct builder *b, const struct rope_values *values, uint32_t x)
{
    struct graph *g = &b->graph;
    int64_t dim = b->spec->ropes[values - b->ropes].dim, head_dim = b->spec->head_dim;
    uint32_t rest = x, y, straight;

    if (values->turn != GRAPH_NO_BIAS) {
        straight = graph_binary(g, "mul", x, values->cos);
        y = graph_linear(g, x, values->turn, GRAPH_NO_BIAS);
        return graph_binary(g, "add", straight, graph_binary(g, "mul", y, values->sin));
    }
    if (dim < head_dim)
        x = graph_slice_last(g, x, 0, dim);
    y = b->spec->rope_rounding == ROPE_IN_DTYPE ? x : graph_to(g, x, PT2_FLOAT32);
    straight = graph_binary(g, "mul", y, values->cos);
    y = graph_binary(g, "mul", turned(b, y, dim), values->sin);
    y = graph_to(g, graph_binary(g, "add", straight, y), b->options->dtype);
    if (dim == head_dim)
        return y;
    return graph_cat_last(g, y, graph_slice_last(g, rest, dim, head_dim));
}
