#include "export/decoder_buffers.h"

#include "base/log.h"

#include <math.h>

#define RING_ROWS 128 /* of a call with a dynamic length: what a ring is longer for */

int64_t decoder_window(const struct decoder_spec *spec,
                       const struct pt2_export_options *options, int64_t layer)
{
    int64_t window = spec->layers[layer].window;

    return window >= options->max_cache_len ? 0 : window;
}

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

/* ---- which there are ---- */

/* A list under way. */
struct finding {
    const struct decoder_spec *spec;
    const struct pt2_export_options *options;
    struct decoder_buffers *buffers;
    bool failed;
};

static struct decoder_buffer *add(struct finding *f, enum decoder_buffer_kind kind,
                                  enum pt2_dtype dtype, unsigned n_dims,
                                  const int64_t *sizes)
{
    static struct decoder_buffer nowhere;
    struct decoder_buffers *all = f->buffers;
    struct decoder_buffer *grown;

    grown = reallocarray(all->list, all->n + 1, sizeof(*grown));
    if (!grown) {
        f->failed = true;
        return &nowhere;
    }
    all->list = grown;
    grown += all->n++;
    *grown = (struct decoder_buffer){.kind = kind, .dtype = dtype, .n_dims = n_dims};
    memcpy(grown->sizes, sizes, n_dims * sizeof(*sizes));
    return grown;
}

static void add_table(struct finding *f, enum decoder_buffer_kind kind, int i,
                      bool is_long, const char *name, int64_t n_rows, int64_t n)
{
    const struct rope *rope = &f->spec->ropes[i];
    bool is_beside_heads = f->options->custom_ops && kind != BUFFER_TURN; /* (s, heads, n) */
    const int64_t sizes[] = {n_rows, n}, apart[] = {n_rows, 1, n};
    struct decoder_buffer *b = add(f, kind, PT2_FLOAT32,
                                   !n_rows           ? 1
                                   : is_beside_heads ? 3
                                                     : 2,
                                   !n_rows           ? sizes + 1
                                   : is_beside_heads ? apart
                                                     : sizes);

    snprintf(b->fqn, sizeof(b->fqn), "model.%s.%s%s%s", f->spec->names->rotary,
             rope->prefix, is_long ? "long_" : "", name);
    b->rope = i;
    b->is_long = is_long;
}

static bool is_edge(const struct finding *f)
{
    return f->options->profile == PT2_PROFILE_EDGE;
}

static void add_ropes(struct finding *f)
{
    int64_t len = f->options->max_cache_len, dim = f->spec->head_dim;
    bool has_tables = is_edge(f) && !f->spec->is_sinusoidal;

    for (int i = 0; i < f->spec->n_ropes; i++) {
        const struct rope *rope = &f->spec->ropes[i];
        bool has_long = rope_is_long(rope, len);
        enum decoder_buffer_kind kind = has_tables ? BUFFER_HEAD_FREQ : BUFFER_INV_FREQ;
        int64_t n = has_tables ? dim : rope->dim / 2;

        if (has_tables)
            add_table(f, BUFFER_TURN, i, false, "turn", dim, dim);
        if (has_tables && 2 * 4 * len * dim <= EDGE_MAX_ROPE_BYTES) {
            add_table(f, BUFFER_COS, i, false, "cos", len, dim);
            add_table(f, BUFFER_SIN, i, false, "sin", len, dim);
            continue;
        }
        add_table(f, kind, i, false, "inv_freq", 0, n);
        if (has_long)
            add_table(f, kind, i, true, "inv_freq", 0, n);
        if (has_tables && rope->attention_scale != 1)
            add_table(f, BUFFER_HEAD_SCALE, i, false, "scale", 0, n);
    }
}

static bool has_mean(const struct finding *f, int64_t n)
{
    for (size_t i = 0; i < f->buffers->n; i++)
        if (f->buffers->list[i].kind == BUFFER_MEAN && f->buffers->list[i].sizes[1] == n)
            return true;
    return false;
}

static void add_mean(struct finding *f, int64_t n)
{
    const int64_t sizes[] = {1, n};

    if (!has_mean(f, n))
        snprintf(add(f, BUFFER_MEAN, PT2_FLOAT32, 2, sizes)->fqn, 96, "mean_%lld",
                 (long long)n);
}

static void add_means(struct finding *f)
{
    const struct decoder_spec *s = f->spec;

    add_mean(f, s->hidden_size);
    if (s->qk_norm != QK_NORM_NONE && s->qk_norm != QK_NORM_ALL)
        add_mean(f, s->head_dim);
    if (s->names->attn_sub_norm)
        add_mean(f, s->n_heads * s->head_dim);
    if (s->names->mlp_sub_norm)
        add_mean(f, s->intermediate_size);
    if (s->qk_norm == QK_NORM_ALL) {
        add_mean(f, s->n_heads * s->head_dim);
        add_mean(f, s->n_kv_heads * s->head_dim);
    }
}

/* One for each window that there is; those of rings depend on what was written. */
static void add_masks(struct finding *f)
{
    int64_t len = f->options->max_cache_len, sizes[] = {len, len};

    if (4 * len * len > EDGE_MAX_MASK_BYTES)
        return;
    for (int64_t i = 0; i < f->spec->n_layers; i++) {
        int64_t window = decoder_window(f->spec, f->options, i), same = 0;
        struct decoder_buffer *b;

        while (decoder_window(f->spec, f->options, same) != window)
            same++;
        if (same < i || decoder_cache_len(f->spec, f->options, i) < len ||
            (window == 0 && f->options->custom_ops))
            continue;
        b = add(f, BUFFER_MASK, PT2_FLOAT32, 2, sizes);
        b->window = window;
        if (window == 0)
            snprintf(b->fqn, sizeof(b->fqn), "causal_mask");
        else
            snprintf(b->fqn, sizeof(b->fqn), "causal_mask_%lld", (long long)window);
    }
}

/* decoder_edge.c, what of a row is not its sink's: one for each length of caches. */
static void add_shares(struct finding *f)
{
    for (int64_t i = 0; f->spec->has_sinks && i < f->spec->n_layers; i++) {
        int64_t len = decoder_cache_len(f->spec, f->options, i), same = 0;
        const int64_t share[] = {1, len + 1}, column[] = {len + 1};

        while (decoder_cache_len(f->spec, f->options, same) != len)
            same++;
        if (same < i)
            continue;
        snprintf(add(f, BUFFER_SHARE, PT2_FLOAT32, 2, share)->fqn, 96, "share_%lld",
                 (long long)len);
        snprintf(add(f, BUFFER_COLUMN, PT2_FLOAT32, 1, column)->fqn, 96, "column_%lld",
                 (long long)len);
    }
}

/* (batch, kv_heads, decoder_cache_len, head_dim); edge, whose batch is one: without it;
 * custom_ops: (1, decoder_cache_len, kv_heads, head_dim). */
static void add_caches(struct finding *f)
{
    const struct pt2_export_options *o = f->options;
    int64_t sizes[] = {o->batch_size, f->spec->n_kv_heads, o->max_cache_len,
                       f->spec->head_dim};
    unsigned skip = is_edge(f) && !o->custom_ops ? 1 : 0, len = o->custom_ops ? 1 : 2;

    sizes[3 - len] = f->spec->n_kv_heads;
    for (int64_t i = 0; i < f->spec->n_layers; i++) {
        sizes[len] = decoder_cache_len(f->spec, o, i);
        for (int is_value = 0; is_value < 2; is_value++) {
            struct decoder_buffer *b =
                add(f, is_value ? BUFFER_VALUE_CACHE : BUFFER_KEY_CACHE, o->dtype,
                    4 - skip, sizes + skip);

            b->layer = i;
            snprintf(b->fqn, sizeof(b->fqn), "%s_cache_%lld", is_value ? "value" : "key",
                     (long long)i);
        }
    }
}

int decoder_buffers_find(const struct decoder_spec *spec,
                         const struct pt2_export_options *options,
                         struct decoder_buffers *ret_buffers, struct pt2_err *err)
{
    struct decoder_buffers all = {0};
    struct finding f = {.spec = spec, .options = options, .buffers = &all};

    add_ropes(&f);
    if (is_edge(&f)) {
        add_means(&f);
        add_masks(&f);
        add_shares(&f);
    }
    add_caches(&f);
    if (f.failed) {
        decoder_buffers_done(&all);
        return pt2_err_set(err, PT2_ERR_NOMEM, "a decoder's buffers");
    }
    *ret_buffers = all;
    return 0;
}

void decoder_buffers_done(struct decoder_buffers *buffers)
{
    free(buffers->list);
    *buffers = (struct decoder_buffers){0};
}

/* ---- what is in them ---- */

int64_t decoder_buffer_n_rows(const struct decoder_buffer *b)
{
    return decoder_buffer_is_cache(b) ? 0 : b->n_dims == 1 ? 1 : b->sizes[0];
}

/* Which pair of the rope element i of a head is in; -1: it does not rotate. */
static int64_t pair_of(const struct decoder_spec *spec, const struct rope *rope, int64_t i)
{
    if (i >= rope->dim)
        return -1;
    return spec->pairs == PAIRS_NEIGHBOURS ? i / 2 : i % (rope->dim / 2);
}

static void head_freq(const struct decoder_spec *spec, const struct rope *rope,
                      bool is_long, float *to)
{
    rope_inv_freq(rope, is_long, to);
    for (int64_t i = spec->head_dim; i-- > 0;) { /* a pair is not behind its elements */
        int64_t pair = pair_of(spec, rope, i);

        to[i] = pair < 0 ? 0 : to[pair];
    }
}

/* decoder_rotary.c has the same as nodes: float32 all through. */
static void cos_or_sin(const struct decoder_spec *spec, const struct rope *rope,
                       bool is_cos, int64_t position, float *to)
{
    bool is_long = rope->type == ROPE_LONGROPE && (double)position >= rope->original_max;

    head_freq(spec, rope, is_long, to);
    for (int64_t i = 0; i < spec->head_dim; i++) {
        float angle = (float)position * to[i];

        to[i] = (float)(is_cos ? cos((double)angle) : sin((double)angle));
        if (i < rope->dim)
            to[i] *= (float)rope->attention_scale;
    }
}

/* Row i of the matrix: which element comes to place i, with which sign. */
static void turn_row(const struct decoder_spec *spec, const struct rope *rope, int64_t i,
                     float *to)
{
    int64_t half = rope->dim / 2;
    bool is_first;

    memset(to, 0, (size_t)spec->head_dim * sizeof(*to));
    if (i >= rope->dim)
        return;
    if (spec->pairs == PAIRS_NEIGHBOURS) {
        to[i ^ 1] = i % 2 == 0 ? -1 : 1;
        return;
    }
    is_first = i < half;
    to[is_first ? i + half : i - half] =
        is_first == (spec->pairs == PAIRS_HALVES) ? -1 : 1;
}

void decoder_buffer_row(const struct decoder_spec *spec, const struct decoder_buffer *b,
                        int64_t i, float *to)
{
    const struct rope *rope = &spec->ropes[b->rope];
    int64_t n = b->sizes[b->n_dims - 1];

    switch (b->kind) {
    case BUFFER_KEY_CACHE:
    case BUFFER_VALUE_CACHE:
        ASSERT(!"a cache has no rows");
    case BUFFER_INV_FREQ:
        rope_inv_freq(rope, b->is_long, to);
        return;
    case BUFFER_HEAD_FREQ:
        head_freq(spec, rope, b->is_long, to);
        return;
    case BUFFER_HEAD_SCALE:
        for (int64_t k = 0; k < n; k++)
            to[k] = k < rope->dim ? (float)rope->attention_scale : 1;
        return;
    case BUFFER_COS:
    case BUFFER_SIN:
        cos_or_sin(spec, rope, b->kind == BUFFER_COS, i, to);
        return;
    case BUFFER_TURN:
        turn_row(spec, rope, i, to);
        return;
    case BUFFER_MASK:
        for (int64_t k = 0; k < n; k++)
            to[k] = k <= i && (b->window == 0 || k > i - b->window) ? 0 : EDGE_MASKED;
        return;
    case BUFFER_MEAN:
        for (int64_t k = 0; k < n; k++)
            to[k] = 1 / (float)n;
        return;
    case BUFFER_SHARE:
    case BUFFER_COLUMN:
        for (int64_t k = 0; k < n; k++)
            to[k] = (k == n - 1) == (b->kind == BUFFER_COLUMN);
        return;
    }
}
