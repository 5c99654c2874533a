#include "export/decoder_graph.h"

#include "base/half.h"
#include "base/log.h"
#include "export/decoder_parts.h"
#include "export/weight_parts.h"

#define SEQ_SYMBOL "s0"

/* ---- inputs, in the order of the signature ---- */

/* Of a quantised one the first of three values, which follow one another. */
static uint32_t add_weight(struct builder *b, const struct weight *w)
{
    uint32_t first = 0;

    if (w->is_alias)
        return b->top.weights[WEIGHT_EMBED];
    for (unsigned part = 0; part < weight_n_parts(w); part++) {
        struct weight_tensor t;
        uint32_t value;

        weight_tensor(w, b->options->dtype, part, &t);
        value = w->is_buffer ? graph_persistent_buffer(&b->graph, t.fqn, t.dtype, t.n_dims,
                                                       t.sizes)
                             : graph_parameter(&b->graph, t.fqn, t.dtype, t.n_dims, t.sizes,
                                               t.requires_grad);
        if (part == 0)
            first = value;
    }
    return first;
}

static void add_weights(struct builder *b, const struct weights *weights)
{
    for (size_t i = 0; i < weights->n; i++) {
        const struct weight *w = &weights->list[i];
        struct layer_values *of = w->layer < 0 ? &b->top : &b->layers[w->layer];
        uint32_t value;

        value = add_weight(b, w);
        if (w->head == 0) {
            of->weights[w->role] = value;
            of->sources[w->role] = w;
        }
        ASSERT(graph_failed(&b->graph) || value == of->weights[w->role] + w->head);
    }
}

static void keep_buffer(struct builder *b, const struct decoder_buffer *buffer,
                        uint32_t value)
{
    struct rope_values *rope = &b->ropes[buffer->rope];

    switch (buffer->kind) {
    case BUFFER_KEY_CACHE:
        b->layers[buffer->layer].key_cache = value;
        return;
    case BUFFER_VALUE_CACHE:
        b->layers[buffer->layer].value_cache = value;
        return;
    case BUFFER_INV_FREQ:
    case BUFFER_HEAD_FREQ:
        *(buffer->is_long ? &rope->long_inv_freq : &rope->inv_freq) = value;
        return;
    case BUFFER_HEAD_SCALE:
        rope->scale = value;
        return;
    case BUFFER_COS:
        rope->cos = value;
        return;
    case BUFFER_SIN:
        rope->sin = value;
        return;
    case BUFFER_TURN:
        rope->turn = value;
        return;
    case BUFFER_MASK:
        for (int64_t i = 0; i < b->spec->n_layers; i++)
            if (decoder_window(b->spec, b->options, i) == buffer->window)
                b->layers[i].mask = value;
        return;
    case BUFFER_MEAN:
    case BUFFER_SHARE:
    case BUFFER_COLUMN:
        return; /* part_mean and decoder_edge.c find them */
    }
}

static void add_buffers(struct builder *b)
{
    for (size_t i = 0; i < b->buffers->n; i++) {
        const struct decoder_buffer *buffer = &b->buffers->list[i];

        b->buffer_values[i] = graph_buffer(&b->graph, buffer->fqn, buffer->dtype,
                                           buffer->n_dims, buffer->sizes);
        keep_buffer(b, buffer, b->buffer_values[i]);
    }
}

static void add_user_inputs(struct builder *b)
{
    struct pt2_dim ids[] = {b->batch, b->seq};

    b->input_ids = graph_user_input(&b->graph, "input_ids", 2, ids);
    b->positions = graph_user_input(&b->graph, "cache_position", 1, &b->seq);
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
    return graph_embedding(g, part_weight(b, &b->top, WEIGHT_POSITIONS), rows);
}

static uint32_t embed(struct builder *b)
{
    const struct decoder_spec *s = b->spec;
    struct graph *g = &b->graph;
    uint32_t x = graph_embedding(g, part_weight(b, &b->top, WEIGHT_EMBED), b->input_ids);
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

/* What the head reads: all tokens, or the last; edge: (batch, hidden), which XNNPACK takes. */
static uint32_t keep(struct builder *b, uint32_t x)
{
    if (b->options->logits == PT2_LOGITS_ALL)
        return x;
    if (b->options->profile == PT2_PROFILE_EDGE)
        return graph_select_last(&b->graph, x, 1);
    return b->seq.expr || b->seq.value > 1 ? graph_take_last(&b->graph, x, 1) : x;
}

static void add_nodes(struct builder *b)
{
    uint32_t x = embed(b);

    if (!b->spec->is_sinusoidal)
        part_rotary_tables(b);
    part_masks(b);
    for (int64_t i = 0; i < b->spec->n_layers; i++)
        x = decoder_layer(b, x, &b->layers[i]);
    x = norm_if(b, b->spec->names->norm, x, &b->top, WEIGHT_NORM);
    x = keep(b, x);
    if (b->spec->names->project_out)
        x = part_linear(b, x, &b->top, WEIGHT_PROJECT_OUT);
    graph_output(&b->graph, head(b, x));
}

/* Nothing of what there may not be. */
static void set_none(struct builder *b)
{
    memset(b->top.weights, 0xff, sizeof(b->top.weights)); /* GRAPH_NO_BIAS */
    memset(b->ropes, 0xff, sizeof(b->ropes));
    b->places = b->column = b->causal = b->first = GRAPH_NO_BIAS;
    for (int64_t i = 0; i < b->spec->n_layers; i++) {
        b->layers[i].spec = &b->spec->layers[i];
        b->layers[i].mask = GRAPH_NO_BIAS;
        memset(b->layers[i].weights, 0xff, sizeof(b->layers[i].weights));
    }
}

int decoder_graph_build(const struct decoder_spec *spec, const struct weights *weights,
                        const struct decoder_buffers *buffers,
                        const struct pt2_export_options *options,
                        struct pt2_program **ret_program, struct pt2_err *err)
{
    AUTO_PTR struct layer_values *layers =
        calloc((size_t)spec->n_layers, sizeof(*layers));
    AUTO_PTR uint32_t *buffer_values = calloc(buffers->n, sizeof(*buffer_values));
    struct builder b = {.spec = spec,
                        .options = options,
                        .layers = layers,
                        .buffers = buffers,
                        .buffer_values = buffer_values};
    struct pt2_program *program;

    if (!layers || !buffer_values)
        return pt2_err_set(err, PT2_ERR_NOMEM, "%lld layers", (long long)spec->n_layers);
    if (pt2_program_new(&program, err) < 0)
        return -1;
    set_none(&b);
    b.batch = dim_of(options->batch_size);
    b.seq = dim_of(options->seq_len);
    if (options->dynamic_shapes) {
        b.seq.expr = SEQ_SYMBOL;
        /* The number is then a hint.  At 1 ExecuTorch's lowering takes the size for a
         * constant (1.5.1: "maximum capacity of 1 elements" when run with more). */
        b.seq.value = MAX(b.seq.value, 2);
    }
    graph_init(&b.graph, program, err);
    b.graph.no_reshape = options->profile == PT2_PROFILE_EDGE;
    add_weights(&b, weights);
    add_buffers(&b);
    add_user_inputs(&b);
    add_nodes(&b);
    if (graph_failed(&b.graph) ||
        (options->custom_ops &&
         pt2_program_add_range(program, FIRST_SYMBOL, 0, options->max_cache_len - 1,
                               err) < 0) ||
        (options->dynamic_shapes &&
         pt2_program_add_range(program, SEQ_SYMBOL, 1, decoder_max_rows(spec, options),
                               err) < 0)) {
        pt2_program_free(program);
        return -1;
    }
    *ret_program = program;
    return 0;
}
