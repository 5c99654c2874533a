/* decoder_moe.c - a mixture of experts, as transformers computes it where its
 * experts_implementation is batched_mm (integrations/moe.py): the weights of each token's
 * experts are gathered and multiplied in a batch.  Ops of aten alone, of fixed shapes. */
#include "base/log.h"
#include "export/decoder_parts.h"

#include <math.h>

/* gpt_oss: GptOssExperts */
#define CLAMPED_ALPHA 1.702
#define CLAMPED_LIMIT 7.0

/* The tokens' experts and their weights, (tokens, top_k) each. */
struct routes {
    uint32_t weights, experts;
};

static struct pt2_dim tokens_times(struct builder *b, int64_t n)
{
    return graph_times(&b->graph, b->seq, n * b->batch.value);
}

/* ---- routing ---- */

static struct routes softmax_first(struct builder *b, uint32_t logits)
{
    struct graph *g = &b->graph;
    struct routes r;

    r.weights = graph_topk(g, graph_softmax(g, logits), b->spec->moe.top_k,
                           /* is_sorted= */ true, &r.experts);
    if (b->spec->moe.is_normed)
        r.weights = graph_binary(g, "div", r.weights,
                                 graph_sum(g, r.weights, -1, /* keeps= */ true));
    return r;
}

static struct routes top_first(struct builder *b, uint32_t logits)
{
    struct graph *g = &b->graph;
    struct routes r;

    r.weights =
        graph_topk(g, logits, b->spec->moe.top_k, /* is_sorted= */ true, &r.experts);
    r.weights = graph_softmax(g, r.weights);
    return r;
}

/* What is chosen by, but for the experts of groups that are not. */
static uint32_t mask_groups(struct builder *b, uint32_t choice)
{
    const struct moe_spec *moe = &b->spec->moe;
    struct graph *g = &b->graph;
    struct pt2_dim tokens = tokens_times(b, 1);
    int64_t size = moe->n_experts / moe->n_groups;
    struct pt2_dim grouped[] = {tokens, dim_of(moe->n_groups), dim_of(size)};
    struct pt2_dim flat[] = {tokens, dim_of(moe->n_experts)};
    uint32_t groups, best, mask;

    groups = graph_view(g, choice, 3, grouped, /* is_copy= */ false);
    groups = graph_sum(g, graph_topk(g, groups, 2, /* is_sorted= */ true, &best), -1,
                       /* keeps= */ false);
    graph_topk(g, groups, moe->top_groups, /* is_sorted= */ false, &best);
    mask = graph_unsqueeze(g, graph_ones_at(g, groups, best), -1);
    mask = graph_expand_last(g, mask, size);
    mask = graph_to(g, graph_view(g, mask, 2, flat, /* is_copy= */ true), PT2_BOOL);
    return graph_masked_fill(g, choice, graph_unary(g, "bitwise_not", mask), -INFINITY);
}

/* Glm4MoeTopkRouter.forward and its kin */
static struct routes sigmoid(struct builder *b, uint32_t logits,
                             const struct layer_values *layer)
{
    const struct moe_spec *moe = &b->spec->moe;
    struct graph *g = &b->graph;
    uint32_t scores = graph_unary(g, "sigmoid", logits), choice, sum;
    struct routes r;

    choice = graph_binary(g, "add", scores, layer->weights[WEIGHT_CORRECTION]);
    if (moe->n_groups > 1)
        choice = mask_groups(b, choice);
    graph_topk(g, choice, moe->top_k, /* is_sorted= */ false, &r.experts);
    r.weights = graph_gather_last(g, scores, r.experts);
    if (moe->is_normed) {
        sum = graph_sum(g, r.weights, -1, /* keeps= */ true);
        r.weights =
            graph_binary(g, "div", r.weights, graph_binary_number(g, "add", sum, 1e-20));
    }
    return r;
}

static struct routes route(struct builder *b, uint32_t x, const struct layer_values *layer)
{
    const struct moe_spec *moe = &b->spec->moe;
    struct graph *g = &b->graph;
    uint32_t weight = layer->weights[WEIGHT_ROUTER];
    struct routes r = {0};

    switch (moe->router) {
    case ROUTER_SOFTMAX:
        r = softmax_first(b, part_linear(b, x, layer, WEIGHT_ROUTER));
        break;
    case ROUTER_TOP_SOFTMAX:
        r = top_first(b, part_linear(b, x, layer, WEIGHT_ROUTER));
        break;
    case ROUTER_SIGMOID:
        x = graph_linear(g, graph_to(g, x, PT2_FLOAT32), graph_to(g, weight, PT2_FLOAT32),
                         layer->weights[WEIGHT_ROUTER_BIAS]);
        r = sigmoid(b, x, layer);
        break;
    }
    if (moe->weight_factor != 0)
        r.weights = graph_binary_number(g, "mul", r.weights, moe->weight_factor);
    if (!moe->weights_wide)
        r.weights = graph_to(g, r.weights, b->options->dtype);
    return r;
}

/* ---- experts; x is (pairs, hidden), a token and an expert each ---- */

static uint32_t gated_expert(struct builder *b, uint32_t x, uint32_t experts,
                             const struct layer_values *layer)
{
    struct graph *g = &b->graph;
    int64_t size = b->spec->moe.size;
    uint32_t w = graph_index_rows(g, layer->weights[WEIGHT_EXPERTS_GATE_UP], experts), gate;

    x = graph_squeeze(g, graph_bmm(g, w, graph_unsqueeze(g, x, -1)), -1);
    gate = part_activate(b, graph_slice_last(g, x, 0, size), layer);
    x = graph_binary(g, "mul", gate, graph_slice_last(g, x, size, 2 * size));
    w = graph_index_rows(g, layer->weights[WEIGHT_EXPERTS_DOWN], experts);
    return graph_squeeze(g, graph_bmm(g, w, graph_unsqueeze(g, x, -1)), -1);
}

/* x times the weight of that role, (experts, in, out), plus the bias that follows it */
static uint32_t times_experts(struct builder *b, uint32_t x, uint32_t experts,
                              const struct layer_values *layer, enum weight_role role)
{
    struct graph *g = &b->graph;
    uint32_t w = graph_index_rows(g, layer->weights[role], experts);
    uint32_t bias = graph_index_rows(g, layer->weights[role + 1], experts);

    x = graph_squeeze(g, graph_bmm(g, graph_unsqueeze(g, x, 1), w), 1);
    return graph_binary(g, "add", x, bias);
}

static uint32_t clamped_expert(struct builder *b, uint32_t x, uint32_t experts,
                               const struct layer_values *layer)
{
    struct graph *g = &b->graph;
    uint32_t gate, up, glu;

    x = times_experts(b, x, experts, layer, WEIGHT_EXPERTS_GATE_UP);
    gate = graph_clamp(g, graph_every_other(g, x, 0), -INFINITY, CLAMPED_LIMIT);
    up = graph_clamp(g, graph_every_other(g, x, 1), -CLAMPED_LIMIT, CLAMPED_LIMIT);
    glu = graph_unary(g, "sigmoid", graph_binary_number(g, "mul", gate, CLAMPED_ALPHA));
    glu = graph_binary(g, "mul", gate, glu);
    x = graph_binary(g, "mul", graph_binary_int(g, "add", up, 1), glu);
    return times_experts(b, x, experts, layer, WEIGHT_EXPERTS_DOWN);
}

/* batched_mm_experts_forward: (tokens, hidden) to the same */
static uint32_t experts(struct builder *b, uint32_t x, struct routes r,
                        const struct layer_values *layer)
{
    const struct moe_spec *moe = &b->spec->moe;
    struct graph *g = &b->graph;
    struct pt2_dim pairs = tokens_times(b, moe->top_k);
    struct pt2_dim by_token[] = {tokens_times(b, 1), dim_of(moe->top_k),
                                 dim_of(b->spec->hidden_size)};
    uint32_t weights, chosen;

    x = graph_repeat_rows(g, x, moe->top_k, pairs);
    weights = graph_view(g, r.weights, 1, &pairs, /* is_copy= */ true);
    chosen = graph_view(g, r.experts, 1, &pairs, /* is_copy= */ true);
    switch (moe->kind) {
    case EXPERTS_GATED:
        x = gated_expert(b, x, chosen, layer);
        break;
    case EXPERTS_CLAMPED:
        x = clamped_expert(b, x, chosen, layer);
        break;
    }
    x = graph_binary(g, "mul", x, graph_unsqueeze(g, weights, -1));
    x = graph_sum(g, graph_view(g, x, 3, by_token, /* is_copy= */ false), 1,
                  /* keeps= */ false);
    return graph_to(g, x, b->options->dtype);
}

static uint32_t shared(struct builder *b, uint32_t x, const struct layer_values *layer)
{
    struct graph *g = &b->graph;
    uint32_t y = part_shared_mlp(b, x, layer), gate;

    if (!b->spec->moe.shared_gate)
        return y;
    gate = graph_unary(g, "sigmoid", part_linear(b, x, layer, WEIGHT_SHARED_ROUTER));
    return graph_binary(g, "mul", y, gate);
}

uint32_t part_moe(struct builder *b, uint32_t x, const struct layer_values *layer)
{
    struct graph *g = &b->graph;
    struct pt2_dim hidden = dim_of(b->spec->hidden_size);
    struct pt2_dim flat[] = {tokens_times(b, 1), hidden};
    struct pt2_dim whole[] = {b->batch, b->seq, hidden};
    uint32_t rows = graph_view(g, x, 2, flat, /* is_copy= */ false), y;

    y = experts(b, rows, route(b, rows, layer), layer);
    if (b->spec->moe.shared_size > 0)
        y = graph_binary(g, "add", y, shared(b, rows, layer));
    return graph_view(g, y, 3, whole, /* is_copy= */ true);
}
