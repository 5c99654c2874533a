#include "export/decoder_graph.h"

#include "base/half.h"
#include "base/log.h"
#include "export/decoder_parts.h"

#define SEQ_SYMBOL "s0"
#define RING_ROWS  128 /* of a call with a dynamic length: what a ring is longer for */

/* ---- sizes ---- */

/* The shortest window that a ring may be for; 0: no layer has one. */
static int64_t ring_window(const struct decoder_spec *spec,
                           const struct pt2_export_options *options)
{
    int64_t window = 0;

    for (int64_t i = 0; options->cache == PT2_CACHE_HYBRID && i < spec->n_layers; i++)
        if (spec->layers[i].window > 0 && (window == 0 || spec->layers[i].window < window))
            window = spec->layers[i].window;
    return window < options->max_cache_len ? window : 0;
}

/* Tokens that a call would take were there rings. */
static int64_t ring_rows(int64_t window, const struct pt2_export_options *options)
{
    if (!options->dynamic_shapes)
        return options->seq_len;
    return MAX(options->seq_len, MAX(2, MIN(RING_ROWS, window)));
}

static int64_t ring_len(int64_t window, int64_t rows)
{
    return window > INT64_MAX - rows ? INT64_MAX : window + rows - 1;
}

int64_t decoder_cache_len(const struct decoder_spec *spec,
                          const struct pt2_export_options *options, int64_t layer)
{
    int64_t shortest = ring_window(spec, options), window = spec->layers[layer].window;

    if (shortest == 0 || window == 0)
        return options->max_cache_len;
    return MIN(options->max_cache_len, ring_len(window, ring_rows(shortest, options)));
}

int64_t decoder_max_rows(const struct decoder_spec *spec,
                         const struct pt2_export_options *options)
{
    int64_t window = ring_window(spec, options), rows;

    if (!options->dynamic_shapes)
        return options->seq_len;
    rows = ring_rows(window, options);
    return window > 0 && ring_len(window, rows) < options->max_cache_len
               ? rows
               : options->max_cache_len;
}

/* ---- inputs, in the order of the signature ---- */

/* inv_freq of each rope, and of some a second one. */
static size_t n_tables(const struct decoder_spec *spec,
                       const struct pt2_export_options *options)
{
    size_t n = 0;

    for (int i = 0; i < spec->n_ropes; i++)
        n += rope_is_long(&spec->ropes[i], options->max_cache_len) ? 2 : 1;
    return n;
}

size_t decoder_n_buffers(const struct decoder_spec *spec,
                         const struct pt2_export_options *options)
{
    return n_tables(spec, options) + 2 * (size_t)spec->n_layers;
}

static struct decoder_buffer table_at(const struct decoder_spec *spec,
                                      const struct pt2_export_options *options, size_t i)
{
    struct decoder_buffer b = {.dtype = PT2_FLOAT32, .n_dims = 1};
    const struct rope *rope = spec->ropes;

    while (i > (rope_is_long(rope, options->max_cache_len) ? 1U : 0U)) {
        i -= rope_is_long(rope, options->max_cache_len) ? 2 : 1;
        rope++;
    }
    b.rope = (int)(rope - spec->ropes);
    b.is_long = i == 1;
    snprintf(b.fqn, sizeof(b.fqn), "model.%s.%s%sinv_freq", spec->names->rotary,
             rope->prefix, b.is_long ? "long_" : "");
    b.sizes[0] = rope->dim / 2;
    return b;
}

struct decoder_buffer decoder_buffer_at(const struct decoder_spec *spec,
                                        const struct pt2_export_options *options,
                                        size_t i)
{
    struct decoder_buffer b = {.dtype = options->dtype, .n_dims = 4, .is_cache = true};

    if (i < n_tables(spec, options))
        return table_at(spec, options, i);
    i -= n_tables(spec, options);
    b.layer = (int64_t)(i / 2);
    b.is_value = i % 2;
    snprintf(b.fqn, sizeof(b.fqn), "%s_cache_%lld", b.is_value ? "value" : "key",
             (long long)b.layer);
    b.sizes[0] = options->batch_size;
    b.sizes[1] = spec->n_kv_heads;
    b.sizes[2] = decoder_cache_len(spec, options, b.layer);
    b.sizes[3] = spec->head_dim;
    return b;
}

static uint32_t add_weight(struct builder *b, const struct weight *w)
{
    enum pt2_dtype dtype = weight_dtype(w, b->options->dtype);

    if (w->is_alias)
        return b->top.weights[WEIGHT_EMBED];
    if (w->is_buffer)
        return graph_persistent_buffer(&b->graph, w->fqn, dtype, w->n_dims, w->sizes);
    return graph_parameter(&b->graph, w->fqn, dtype, w->n_dims, w->sizes);
}

static void add_weights(struct builder *b, const struct weights *weights)
{
    for (size_t i = 0; i < weights->n; i++) {
        const struct weight *w = &weights->list[i];
        struct layer_values *of = w->layer < 0 ? &b->top : &b->layers[w->layer];
        uint32_t value;

        value = add_weight(b, w);
        if (w->head == 0)
            of->weights[w->role] = value;
        ASSERT(graph_failed(&b->graph) || value == of->weights[w->role] + w->head);
    }
}

static void add_buffers(struct builder *b)
{
    for (size_t i = 0; i < decoder_n_buffers(b->spec, b->options); i++) {
        struct decoder_buffer buffer = decoder_buffer_at(b->spec, b->options, i);
        uint32_t value = graph_buffer(&b->graph, buffer.fqn, buffer.dtype, buffer.n_dims,
                                      buffer.sizes);

        if (!buffer.is_cache && buffer.is_long)
            b->ropes[buffer.rope].long_inv_freq = value;
        else if (!buffer.is_cache)
            b->ropes[buffer.rope].inv_freq = value;
        else if (buffer.is_value)
            b->layers[buffer.layer].value_cache = value;
        else
            b->layers[buffer.layer].key_cache = value;
    }
}

static void add_user_inputs(struct builder *b)
{
    struct pt2_dim ids[] = {b->batch, b->seq};

    b->input_ids = graph_user_input(&b->graph, "input_ids", 2, ids);
    b->positions = graph_user_input(&b->graph, "cache_position", 1, &b->seq);
}

/* ---- what all layers share ---- */

/* A window as long as the cache hides nothing that causality does not. */
static int64_t effective_window(const struct builder *b, int64_t layer)
{
    int64_t window = b->spec->layers[layer].window;

    return window >= b->options->max_cache_len ? 0 : window;
}

/* kv <= q, of kv (n) and q (s, 1) */
static uint32_t causal_mask(struct graph *g, uint32_t kv, uint32_t q)
{
    return graph_outer(g, "le", q, kv, /* is_swapped= */ true);
}

/* mask, and kv > q - window */
static uint32_t within(struct graph *g, int64_t window, uint32_t kv, uint32_t q,
                       uint32_t mask)
{
    uint32_t first = graph_binary_int(g, "sub", q, window);

    return graph_and(g, graph_outer(g, "gt", first, kv, /* is_swapped= */ true), mask);
}

/* Slots and mask of a layer whose caches are a ring of len.  A row sees the slots whose age, how
 * many positions ago they were written, is within the window, and that were written at all.
 * What later rows of the call have written by then would be of an age beyond the window, since
 * the ring is that much longer.  No dividend is below 0, for which ExecuTorch's remainder is
 * not torch's (1.5.1). */
static void add_ring(struct builder *b, struct layer_values *layer, int64_t len,
                     uint32_t column)
{
    struct graph *g = &b->graph;
    uint32_t age = graph_outer(g, "sub", graph_binary_int(g, "add", column, len),
                               graph_arange(g, len), /* is_swapped= */ false);

    age = graph_remainder(g, age, len);
    layer->slots = graph_remainder(g, b->positions, len);
    layer->mask = graph_and(g, graph_compare_int(g, "lt", age, layer->spec->window),
                            graph_compare(g, "le", age, column));
}

/* masking_utils.py: kv <= q, and kv > q - window; one mask for all layers of a window. */
static void add_masks(struct builder *b)
{
    struct graph *g = &b->graph;
    uint32_t places = graph_arange(g, b->options->max_cache_len);
    uint32_t column = graph_unsqueeze(g, b->positions, 1);
    uint32_t causal = GRAPH_NO_BIAS;

    for (int64_t i = 0; i < b->spec->n_layers; i++) {
        struct layer_values *layer = &b->layers[i];
        int64_t window = effective_window(b, i), same = 0;
        int64_t len = decoder_cache_len(b->spec, b->options, i);

        while (effective_window(b, same) != window)
            same++;
        if (same < i) {
            layer->slots = b->layers[same].slots;
            layer->mask = b->layers[same].mask;
            continue;
        }
        if (len < b->options->max_cache_len) {
            add_ring(b, layer, len, column);
            continue;
        }
        if (causal == GRAPH_NO_BIAS)
            causal = causal_mask(g, places, column);
        layer->slots = b->positions;
        layer->mask = window > 0 ? within(g, window, places, column, causal) : causal;
    }
}

/* ---- layers ---- */

/* A norm of the layer, where it has one of that name. */
static uint32_t norm_if(struct builder *b, const char *name, uint32_t x,
                        const struct layer_values *layer, enum weight_role role)
{
    return name ? part_norm(b, b->spec->norm, x, layer, role) : x;
}

/* x and what a part of the layer made of it */
static uint32_t add_to(struct builder *b, uint32_t x, uint32_t y)
{
    struct graph *g = &b->graph;
    double multiplier = b->spec->residual_multiplier;

    if (multiplier != 0)
        y = graph_binary_number(g, "mul", y, multiplier);
    return graph_binary(g, "add", x, y);
}

static uint32_t mlp_or_experts(struct builder *b, uint32_t x,
                               const struct layer_values *layer)
{
    return layer->spec->has_experts ? part_moe(b, x, layer) : part_mlp(b, x, layer);
}

static uint32_t decoder_layer(struct builder *b, uint32_t x,
                              const struct layer_values *layer)
{
    const struct decoder_names *n = b->spec->names;
    uint32_t in, y, z;

    if (b->spec->is_post_norm) {
        x = add_to(b, x, part_attention(b, x, layer));
        x = norm_if(b, n->attn_norm, x, layer, WEIGHT_ATTN_NORM);
        x = add_to(b, x, part_mlp(b, x, layer));
        return norm_if(b, n->mlp_norm, x, layer, WEIGHT_MLP_NORM);
    }
    in = norm_if(b, n->attn_norm, x, layer, WEIGHT_ATTN_NORM);
    y = part_attention(b, in, layer);
    y = norm_if(b, n->attn_post_norm, y, layer, WEIGHT_ATTN_POST_NORM);
    if (b->spec->is_parallel) {
        if (n->mlp_norm)
            in = part_norm(b, b->spec->norm, x, layer, WEIGHT_MLP_NORM);
        z = mlp_or_experts(b, in, layer);
        return add_to(b, add_to(b, x, y), z);
    }
    x = add_to(b, x, y);
    y = mlp_or_experts(b, norm_if(b, n->mlp_norm, x, layer, WEIGHT_MLP_NORM), layer);
    y = norm_if(b, n->mlp_post_norm, y, layer, WEIGHT_MLP_POST_NORM);
    return add_to(b, x, y);
}

/* ---- before and behind them ---- */

/* As a tensor of that dtype holds it. */
static double rounded(double x, enum pt2_dtype dtype)
{
    float f = (float)x;

    return dtype == PT2_BFLOAT16  ? (double)bf16_to_float(bf16_of_float(f))
           : dtype == PT2_FLOAT16 ? (double)f16_to_float(f16_of_float(f))
                                  : (double)f;
}

static uint32_t learned_positions(struct builder *b)
{
    struct graph *g = &b->graph;
    uint32_t rows = b->positions;

    if (b->spec->position_offset != 0)
        rows = graph_binary_int(g, "add", rows, b->spec->position_offset);
    return graph_embedding(g, b->top.weights[WEIGHT_POSITIONS], rows);
}

static uint32_t embed(struct builder *b)
{
    const struct decoder_spec *s = b->spec;
    struct graph *g = &b->graph;
    uint32_t x = graph_embedding(g, b->top.weights[WEIGHT_EMBED], b->input_ids);
    double multiplier = s->embed_multiplier;

    if (s->embed_multiplier_cast)
        multiplier = rounded(multiplier, b->options->dtype);
    if (multiplier != 0)
        x = graph_binary_number(g, "mul", x, multiplier);
    if (s->names->project_in)
        x = part_linear(b, x, &b->top, WEIGHT_PROJECT_IN);
    if (s->names->positions)
        x = graph_binary(g, "add", x, learned_positions(b));
    if (s->is_sinusoidal)
        x = graph_binary(g, "add", x, part_sinusoids(b));
    if (s->embed_norm)
        x = part_norm(b, NORM_RMS_PLAIN, x, &b->top, WEIGHT_NORM);
    return x;
}

static uint32_t head(struct builder *b, uint32_t x)
{
    const struct decoder_spec *s = b->spec;
    struct graph *g = &b->graph;

    x = part_linear(b, x, &b->top, WEIGHT_HEAD);
    if (s->logits_multiplier != 0)
        x = graph_binary_number(g, "mul", x, s->logits_multiplier);
    if (s->logits_divisor != 0)
        x = graph_binary_number(g, "div", x, s->logits_divisor);
    if (s->logits_softcap != 0) {
        x = graph_unary(g, "tanh", graph_binary_number(g, "div", x, s->logits_softcap));
        x = graph_binary_number(g, "mul", x, s->logits_softcap);
    }
    return x;
}

static void add_nodes(struct builder *b)
{
    uint32_t x = embed(b);

    if (!b->spec->is_sinusoidal)
        part_rotary_tables(b);
    add_masks(b);
    for (int64_t i = 0; i < b->spec->n_layers; i++)
        x = decoder_layer(b, x, &b->layers[i]);
    x = norm_if(b, b->spec->names->norm, x, &b->top, WEIGHT_NORM);
    if (b->options->logits == PT2_LOGITS_LAST && (b->seq.expr || b->seq.value > 1))
        x = graph_take_last(&b->graph, x, 1);
    if (b->spec->names->project_out)
        x = part_linear(b, x, &b->top, WEIGHT_PROJECT_OUT);
    graph_output(&b->graph, head(b, x));
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
    memset(b.top.weights, 0xff, sizeof(b.top.weights)); /* GRAPH_NO_BIAS */
    for (int64_t i = 0; i < spec->n_layers; i++) {
        layers[i].spec = &spec->layers[i];
        memset(layers[i].weights, 0xff, sizeof(layers[i].weights));
    }
    b.batch = dim_of(options->batch_size);
    b.seq = dim_of(options->seq_len);
    if (options->dynamic_shapes) {
        b.seq.expr = SEQ_SYMBOL;
        /* The number is then a hint.  At 1 ExecuTorch's lowering takes the size for a
         * constant (1.5.1: "maximum capacity of 1 elements" when run with more). */
        b.seq.value = MAX(b.seq.value, 2);
    }
    graph_init(&b.graph, program, err);
    add_weights(&b, weights);
    add_buffers(&b);
    add_user_inputs(&b);
    add_nodes(&b);
    if (graph_failed(&b.graph) ||
        (options->dynamic_shapes &&
         pt2_program_add_range(program, SEQ_SYMBOL, 1, decoder_max_rows(spec, options),
                               err) < 0)) {
        pt2_program_free(program);
        return -1;
    }
    *ret_program = program;
    return 0;
}
