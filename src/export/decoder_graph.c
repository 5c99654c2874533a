#include "export/decoder_graph.h"

#include "base/log.h"
#include "export/graph.h"

#define SEQ_SYMBOL "s0"

/* The values of one layer, or of none: weights by role, and what else the layer needs. */
struct layer_values {
    uint32_t weights[N_WEIGHT_ROLES]; /* GRAPH_NO_BIAS where there is none */
    uint32_t key_cache, value_cache;
    uint32_t mask; /* bool (s, max_cache_len) */
};

struct builder {
    struct graph graph;
    const struct decoder_spec *spec;
    const struct pt2_export_options *options;
    struct layer_values *layers, top; /* (n_layers), and what is of no layer */
    struct pt2_dim batch, seq;
    uint32_t inv_freq, input_ids, positions;
    uint32_t cos, sin; /* (s, head_dim) */
};

/* ---- inputs, in the order of the signature ---- */

struct decoder_buffer decoder_buffer_at(const struct decoder_spec *spec,
                                        const struct pt2_export_options *options,
                                        size_t i)
{
    struct decoder_buffer b = {.dtype = PT2_FLOAT32, .n_dims = 1};

    if (i == 0) {
        snprintf(b.fqn, sizeof(b.fqn), "model.%s.inv_freq", spec->names->rotary);
        b.sizes[0] = spec->rope.dim / 2;
        return b;
    }
    snprintf(b.fqn, sizeof(b.fqn), "%s_cache_%zu", i % 2 ? "key" : "value", (i - 1) / 2);
    b.dtype = options->dtype;
    b.n_dims = 4;
    b.sizes[0] = options->batch_size;
    b.sizes[1] = spec->n_kv_heads;
    b.sizes[2] = options->max_cache_len;
    b.sizes[3] = spec->head_dim;
    b.is_cache = true;
    return b;
}

static void add_parameters(struct builder *b, const struct weights *weights)
{
    for (size_t i = 0; i < weights->n; i++) {
        const struct weight *w = &weights->list[i];
        struct layer_values *of = w->layer < 0 ? &b->top : &b->layers[w->layer];

        of->weights[w->role] = w->is_alias
                                   ? b->top.weights[WEIGHT_EMBED]
                                   : graph_parameter(&b->graph, w->fqn, b->options->dtype,
                                                     w->n_dims, w->sizes);
    }
}

static void add_buffers(struct builder *b)
{
    for (size_t i = 0; i < decoder_n_buffers(b->spec); i++) {
        struct decoder_buffer buffer = decoder_buffer_at(b->spec, b->options, i);
        uint32_t value = graph_buffer(&b->graph, buffer.fqn, buffer.dtype, buffer.n_dims,
                                      buffer.sizes);

        if (i == 0)
            b->inv_freq = value;
        else if (i % 2)
            b->layers[(i - 1) / 2].key_cache = value;
        else
            b->layers[(i - 1) / 2].value_cache = value;
    }
}

static void add_user_inputs(struct builder *b)
{
    struct pt2_dim ids[] = {b->batch, b->seq};

    b->input_ids = graph_user_input(&b->graph, "input_ids", 2, ids);
    b->positions = graph_user_input(&b->graph, "cache_position", 1, &b->seq);
}

/* ---- what all layers share ---- */

/* LlamaRotaryEmbedding.forward: float32 throughout, rounded to the dtype at its end. */
static void add_rotary(struct builder *b)
{
    struct graph *g = &b->graph;
    double scale = b->spec->rope.attention_scale;
    uint32_t position = graph_column(g, graph_to(g, b->positions, PT2_FLOAT32));
    uint32_t freqs =
        graph_outer(g, "mul", position, b->inv_freq, /* is_swapped= */ false);
    uint32_t angles = graph_cat_last(g, freqs, freqs);

    b->cos = graph_unary(g, "cos", angles);
    if (scale != 1)
        b->cos = graph_binary_number(g, "mul", b->cos, scale);
    b->sin = graph_unary(g, "sin", angles);
    if (scale != 1)
        b->sin = graph_binary_number(g, "mul", b->sin, scale);
    b->cos = graph_to(g, b->cos, b->options->dtype);
    b->sin = graph_to(g, b->sin, b->options->dtype);
}

/* A window as long as the cache hides nothing that causality does not. */
static int64_t effective_window(const struct builder *b, int64_t layer)
{
    int64_t window = b->spec->windows[layer];

    return window >= b->options->max_cache_len ? 0 : window;
}

/* masking_utils.py: kv <= q, and kv > q - window; one mask for all layers of a window. */
static void add_masks(struct builder *b)
{
    struct graph *g = &b->graph;
    uint32_t places = graph_arange(g, b->options->max_cache_len);
    uint32_t column = graph_column(g, b->positions);
    uint32_t causal = graph_outer(g, "le", column, places, /* is_swapped= */ true);

    for (int64_t i = 0; i < b->spec->n_layers; i++) {
        int64_t window = effective_window(b, i), same = 0;
        uint32_t first;

        while (effective_window(b, same) != window)
            same++;
        if (window == 0) {
            b->layers[i].mask = causal;
        } else if (same < i) {
            b->layers[i].mask = b->layers[same].mask;
        } else {
            first = graph_binary_int(g, "sub", column, window);
            b->layers[i].mask = graph_and(
                g, graph_outer(g, "gt", first, places, /* is_swapped= */ true), causal);
        }
    }
}

/* ---- a layer ---- */

/* LlamaRMSNorm.forward */
static uint32_t norm(struct builder *b, uint32_t x, uint32_t weight)
{
    struct graph *g = &b->graph;
    uint32_t wide = graph_to(g, x, PT2_FLOAT32), scale;

    ASSERT(b->spec->norm == NORM_RMS);
    scale = graph_mean_last(g, graph_pow(g, wide, 2));
    scale = graph_binary_number(g, "add", scale, b->spec->norm_eps);
    scale = graph_unary(g, "rsqrt", scale);
    wide = graph_binary(g, "mul", wide, scale);
    return graph_binary(g, "mul", graph_to(g, wide, b->options->dtype), weight);
}

static uint32_t linear(struct builder *b, uint32_t x, const struct layer_values *layer,
                       enum weight_role role)
{
    return graph_linear(&b->graph, x, layer->weights[role], layer->weights[role + 1]);
}

/* (batch, s, n * head_dim) -> (batch, n, s, head_dim) */
static uint32_t split_heads(struct builder *b, uint32_t x, int64_t n)
{
    struct pt2_dim sizes[] = {b->batch, b->seq, dim_of(n), dim_of(b->spec->head_dim)};

    return graph_transpose(&b->graph, graph_view(&b->graph, x, 4, sizes, false), 1, 2);
}

/* apply_rotary_pos_emb: x * cos + rotate_half(x) * sin */
static uint32_t rotate(struct builder *b, uint32_t x)
{
    struct graph *g = &b->graph;
    int64_t dim = b->spec->head_dim;
    uint32_t straight = graph_binary(g, "mul", x, b->cos);
    uint32_t left = graph_slice_last(g, x, 0, dim / 2);
    uint32_t right = graph_slice_last(g, x, dim / 2, dim);
    uint32_t turned = graph_cat_last(g, graph_unary(g, "neg", right), left);

    return graph_binary(g, "add", straight, graph_binary(g, "mul", turned, b->sin));
}

static uint32_t attention(struct builder *b, uint32_t x, const struct layer_values *layer)
{
    const struct decoder_spec *s = b->spec;
    struct graph *g = &b->graph;
    struct pt2_dim merged[] = {b->batch, b->seq, dim_of(s->n_heads * s->head_dim)};
    uint32_t q = split_heads(b, linear(b, x, layer, WEIGHT_Q), s->n_heads);
    uint32_t k = split_heads(b, linear(b, x, layer, WEIGHT_K), s->n_kv_heads);
    uint32_t v = split_heads(b, linear(b, x, layer, WEIGHT_V), s->n_kv_heads);

    q = rotate(b, q);
    k = rotate(b, k);
    k = graph_index_copy(g, layer->key_cache, b->positions, k);
    v = graph_index_copy(g, layer->value_cache, b->positions, v);
    x = graph_attention(g, q, k, v, layer->mask, s->attn_scale);
    x = graph_view(g, graph_transpose(g, x, 1, 2), 3, merged, /* is_copy= */ true);
    return linear(b, x, layer, WEIGHT_O);
}

/* activations.py, NewGELUActivation, operation by operation */
static uint32_t gelu_new(struct graph *g, uint32_t x)
{
    uint32_t inner = graph_binary_number(g, "mul", graph_pow(g, x, 3), 0.044715);

    inner = graph_binary(g, "add", x, inner);
    inner = graph_binary_number(g, "mul", inner, 0.7978845608028654); /* sqrt(2 / pi) */
    inner = graph_binary_number(g, "add", graph_unary(g, "tanh", inner), 1.0);
    return graph_binary(g, "mul", graph_binary_number(g, "mul", x, 0.5), inner);
}

static uint32_t activate(struct builder *b, uint32_t x)
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
    }
    ASSERT(!"an activation that has no spelling");
}

static uint32_t mlp(struct builder *b, uint32_t x, const struct layer_values *layer)
{
    uint32_t gate, up;

    ASSERT(b->spec->mlp == MLP_GATED);
    gate = activate(b, linear(b, x, layer, WEIGHT_GATE));
    up = linear(b, x, layer, WEIGHT_UP);
    return linear(b, graph_binary(&b->graph, "mul", gate, up), layer, WEIGHT_DOWN);
}

static uint32_t decoder_layer(struct builder *b, uint32_t x,
                              const struct layer_values *layer)
{
    uint32_t y;

    ASSERT(b->spec->place == NORM_PRE);
    y = attention(b, norm(b, x, layer->weights[WEIGHT_ATTN_NORM]), layer);
    x = graph_binary(&b->graph, "add", x, y);
    y = mlp(b, norm(b, x, layer->weights[WEIGHT_MLP_NORM]), layer);
    return graph_binary(&b->graph, "add", x, y);
}

static void add_nodes(struct builder *b)
{
    struct graph *g = &b->graph;
    uint32_t x = graph_embedding(g, b->top.weights[WEIGHT_EMBED], b->input_ids);

    add_rotary(b);
    add_masks(b);
    for (int64_t i = 0; i < b->spec->n_layers; i++)
        x = decoder_layer(b, x, &b->layers[i]);
    x = norm(b, x, b->top.weights[WEIGHT_NORM]);
    graph_output(g, graph_linear(g, x, b->top.weights[WEIGHT_HEAD], GRAPH_NO_BIAS));
}

int decoder_graph_build(const struct decoder_spec *spec, const struct weights *weights,
                        const struct pt2_export_options *options,
                        struct pt2_program **ret_program, struct pt2_err *err)
{
    AUTO_PTR struct layer_values *layers =
        calloc((size_t)spec->n_layers, sizeof(*layers));
    struct builder b = {.spec = spec, .options = options, .layers = layers};
    struct pt2_program *program;

    if (!layers)
        return pt2_err_set(err, PT2_ERR_NOMEM, "%lld layers", (long long)spec->n_layers);
    if (pt2_program_new(&program, err) < 0)
        return -1;
    for (int64_t i = 0; i < spec->n_layers; i++)
        memset(layers[i].weights, 0xff, sizeof(layers[i].weights)); /* GRAPH_NO_BIAS */
    b.batch = dim_of(options->batch_size);
    b.seq = dim_of(options->seq_len);
    if (options->dynamic_shapes) {
        b.seq.expr = SEQ_SYMBOL;
        /* The number is then a hint.  At 1 ExecuTorch's lowering takes the size for a
         * constant (1.5.1: "maximum capacity of 1 elements" when run with more). */
        b.seq.value = MAX(b.seq.value, MIN(2, options->max_cache_len));
    }
    graph_init(&b.graph, program, err);
    add_parameters(&b, weights);
    add_buffers(&b);
    add_user_inputs(&b);
    add_nodes(&b);
    if (graph_failed(&b.graph) ||
        (options->dynamic_shapes &&
         pt2_program_add_range(program, SEQ_SYMBOL, 1, options->max_cache_len, err) <
             0)) {
        pt2_program_free(program);
        return -1;
    }
    *ret_program = program;
    return 0;
}
