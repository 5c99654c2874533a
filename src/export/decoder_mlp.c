#include "base/log.h"
#include "export/decoder_parts.h"

/* activations.py, NewGELUActivation, operation by operation */
static uint32_t gelu_new(struct graph *g, uint32_t x)
{
    uint32_t inner = graph_binary_number(g, "mul", graph_pow(g, x, 3), 0.044715);

    inner = graph_binary(g, "add", x, inner);
    inner = graph_binary_number(g, "mul", inner, 0.7978845608028654); /* sqrt(2 / pi) */
    inner = graph_binary_number(g, "add", graph_unary(g, "tanh", inner), 1.0);
    return graph_binary(g, "mul", graph_binary_number(g, "mul", x, 0.5), inner);
}

/* activations.py, XIELUActivation._xielu_python */
static uint32_t xielu(struct builder *b, uint32_t x, const struct layer_values *layer)
{
    struct graph *g = &b->graph;
    const uint32_t *w = layer->weights;
    uint32_t beta = w[WEIGHT_ACT_BETA], straight = graph_binary(g, "mul", x, beta);
    uint32_t alpha = graph_unary(g, "softplus", w[WEIGHT_ALPHA_P]), above, below;

    above = graph_binary(g, "mul", graph_binary(g, "mul", x, alpha), x);
    above = graph_binary(g, "add", above, straight);
    alpha = graph_binary(g, "add", graph_unary(g, "softplus", w[WEIGHT_ALPHA_N]), beta);
    below = graph_unary(g, "expm1", graph_min(g, x, w[WEIGHT_ACT_EPS]));
    below = graph_binary(g, "mul", graph_binary(g, "sub", below, x), alpha);
    below = graph_binary(g, "add", below, straight);
    return graph_where(g, graph_compare_int(g, "gt", x, 0), above, below);
}

uint32_t part_activate(struct builder *b, uint32_t x, const struct layer_values *layer)
{
    struct graph *g = &b->graph;

    switch (b->spec->act) {
    case ACT_SILU:
        return graph_unary(g, "silu", x);
    case ACT_GELU:
        return graph_gelu(g, x, /* tanh= */ false);
    case ACT_GELU_TANH:
        return graph_gelu(g, x, /* tanh= */ true);
    case ACT_GELU_NEW:
        return gelu_new(g, x);
    case ACT_RELU:
        return graph_unary(g, "relu", x);
    case ACT_RELU2:
        return graph_unary(g, "square", graph_unary(g, "relu", x));
    case ACT_SIGMOID:
        return graph_unary(g, "sigmoid", x);
    case ACT_TANH:
        return graph_unary(g, "tanh", x);
    case ACT_XIELU:
        return xielu(b, x, layer);
    }
    ASSERT(!"an activation that has no spelling");
}

/* The weights of an MLP and the size of what they gate. */
struct mlp {
    enum weight_role gate, up, down;
    int64_t size;
};

static uint32_t mlp(struct builder *b, uint32_t x, const struct layer_values *layer,
                    enum mlp_kind kind, struct mlp of)
{
    struct graph *g = &b->graph;
    uint32_t gate, up;

    switch (kind) {
    case MLP_GATED:
        gate = part_activate(b, part_linear(b, x, layer, of.gate), layer);
        up = part_linear(b, x, layer, of.up);
        x = graph_binary(g, "mul", gate, up);
        break;
    case MLP_GATED_FUSED:
        x = part_linear(b, x, layer, of.gate);
        gate = part_activate(b, graph_slice_last(g, x, 0, of.size), layer);
        up = graph_slice_last(g, x, of.size, 2 * of.size);
        x = graph_binary(g, "mul", gate, up);
        break;
    case MLP_PLAIN:
        x = part_activate(b, part_linear(b, x, layer, of.up), layer);
        break;
    }
    if (b->spec->names->mlp_sub_norm)
        x = part_norm(b, NORM_RMS, x, layer, WEIGHT_MLP_SUB_NORM);
    return part_linear(b, x, layer, of.down);
}

uint32_t part_mlp(struct builder *b, uint32_t x, const struct layer_values *layer)
{
    struct mlp of = {WEIGHT_GATE, WEIGHT_UP, WEIGHT_DOWN, b->spec->intermediate_size};

    return mlp(b, x, layer, b->spec->mlp, of);
}

uint32_t part_shared_mlp(struct builder *b, uint32_t x, const struct layer_values *layer)
{
    struct mlp of = {WEIGHT_SHARED_GATE, WEIGHT_SHARED_UP, WEIGHT_SHARED_DOWN,
                     b->spec->moe.shared_size};

    return mlp(b, x, layer, b->spec->moe.shared_fused ? MLP_GATED_FUSED : MLP_GATED, of);
}
