#include "random_graph.h"

#include <math.h>

/* ---- positions, tables, masks ---- */

void gen_positions(struct gen *g)
{
    struct val at = gen_shape(PT2_INT64, SIZES(g->s)), counter, range;

    at.v = g->m.positions;
    g->positions = at;
    if (g->s == -1 || gen_chance(g, 80))
        return;
    counter = gen_shape(PT2_INT64, 0, NULL);
    counter.v = mini_input(&g->m, PT2_INPUT_BUFFER, "cumulative_length_0", PT2_INT64,
                           NO_SIZES);
    g->stored[g->n_stored++] = (struct stored){
        .fqn = "cumulative_length_0", .kind = PT2_INPUT_BUFFER, .shape = counter};
    range = OP(g, at, "arange.default", ARG_I("end", g->s));
    g->positions = gen_binary(g, "add", range, counter);
    OP(g, counter, "add_.Tensor", ARG_T("self", counter.v), ARG_I("other", g->s));
}

struct val gen_place(struct gen *g, struct val x)
{
    struct val table, at;

    if (gen_chance(g, 60)) { /* embeddings of positions */
        table = gen_param(g, 0, 1, SIZES(g->len + 2, g->dim));
        at = gen_number(g, "add", g->positions, 2);
        table = OP(g, gen_shape(g->dtype, SIZES(g->s, g->dim)), "embedding.default",
                   ARG_T("weight", table.v), ARG_T("indices", at.v));
        return gen_binary(g, "add", x, table);
    }
    at = gen_number(g, "mul", gen_to(g, g->positions, PT2_FLOAT32), 0.0625);
    at = gen_number(g, "add", at, 1.5);
    at = gen_unary(g, "log", at);
    at = gen_reshape(g, at, SIZES(1, g->s, 1));
    at = gen_to(g, at, g->dtype);
    return gen_chance(g, 50) ? gen_binary(g, "mul", x, at) : gen_binary(g, "mul", at, x);
}

static double angle(int64_t position, int64_t pair, int64_t n_rot)
{
    return (double)position / pow(100, 2 * (double)pair / (double)n_rot);
}

struct rope {
    int64_t n_rot;
    bool by_pairs;      /* x0 with x1, x2 with x3 */
    struct val cos, sin; /* (s, n_rot) */
};

/* Rows of a table of all positions. */
static struct val look_up(struct gen *g, const struct rope *r, bool is_sin)
{
    float *elements = calloc((size_t)(g->len * r->n_rot), sizeof(*elements));
    struct val table, shape = gen_shape(PT2_FLOAT32, SIZES(g->s, r->n_rot));

    ck_assert_ptr_nonnull(elements);
    for (int64_t i = 0; i < g->len * r->n_rot; i++) {
        int64_t k = i % r->n_rot, pair = r->by_pairs ? k / 2 : k % (r->n_rot / 2);
        double a = angle(i / r->n_rot, pair, r->n_rot);

        elements[i] = (float)(is_sin ? sin(a) : cos(a));
    }
    table = gen_table(g, elements, SIZES(g->len, r->n_rot));
    switch (gen_below(g, 3)) {
    case 0:
        return OP(g, shape, "index_select.default", ARG_T("self", table.v), ARG_I("dim", 0),
                  ARG_T("index", g->positions.v));
    case 1:
        return OP(g, shape, "embedding.default", ARG_T("weight", table.v),
                  ARG_T("indices", g->positions.v));
    default:
        return OP(g, shape, "index.Tensor", ARG_T("self", table.v),
                  gen_tensors(g, "indices", 1, &g->positions));
    }
}

static struct val angles(struct gen *g, const struct rope *r)
{
    int64_t half = r->n_rot / 2;
    float *elements = calloc((size_t)half, sizeof(*elements));
    struct val at = gen_to(g, g->positions, PT2_FLOAT32), each, all;
    struct val shape = gen_shape(PT2_FLOAT32, SIZES(g->s, half));

    ck_assert_ptr_nonnull(elements);
    for (int64_t i = 0; i < half; i++)
        elements[i] = (float)angle(1, i, r->n_rot);
    each = gen_table(g, elements, SIZES(half));
    at = OP(g, gen_shape(PT2_FLOAT32, SIZES(g->s, 1)), "unsqueeze.default",
            ARG_T("self", at.v), ARG_I("dim", 1));
    if (gen_chance(g, 40)) { /* as Transformers: (half, 1) times (1, s), turned */
        each = gen_reshape(g, each, SIZES(1, half, 1));
        at = gen_reshape(g, at, SIZES(1, 1, g->s));
        all = OP(g, gen_shape(PT2_FLOAT32, SIZES(1, half, g->s)), "matmul.default",
                 ARG_T("self", each.v), ARG_T("other", at.v));
        all = gen_turn(g, all, 1, 2);
        all = OP(g, shape, "squeeze.dim", ARG_T("self", all.v), ARG_I("dim", 0));
    } else {
        all = gen_binary(g, "mul", at, each);
    }
    if (r->by_pairs)
        return OP(g, gen_wide(shape, r->n_rot), "repeat_interleave.self_int",
                  ARG_T("self", all.v), ARG_I("repeats", 2), ARG_I("dim", -1));
    return gen_cat(g, 2, (struct val[]){all, all});
}

static struct rope make_rope(struct gen *g, int64_t head_dim)
{
    struct rope r = {.n_rot = gen_chance(g, 30) ? head_dim / 2 : head_dim,
                     .by_pairs = gen_chance(g, 35)};
    struct val all;

    if (gen_chance(g, 50)) {
        r.cos = look_up(g, &r, false);
        r.sin = look_up(g, &r, true);
    } else {
        all = angles(g, &r);
        r.cos = gen_unary(g, "cos", all);
        r.sin = gen_unary(g, "sin", all);
        if (gen_chance(g, 20)) {
            r.cos = gen_number(g, "mul", r.cos, 1.1);
            r.sin = gen_number(g, "mul", r.sin, 1.1);
        }
    }
    if (g->dtype != PT2_FLOAT32) {
        r.cos = gen_to(g, r.cos, g->dtype);
        r.sin = gen_to(g, r.sin, g->dtype);
    }
    return r;
}

/* -x2, x1: of halves, or of pairs. */
static struct val turned(struct gen *g, const struct rope *r, struct val x)
{
    int64_t half = r->n_rot / 2;
    struct val parts[2], stacked;

    if (!r->by_pairs) {
        gen_cut(g, x, 2, (int64_t[]){half, half}, parts);
        return gen_cat(g, 2, (struct val[]){gen_unary(g, "neg", parts[1]), parts[0]});
    }
    for (int64_t i = 0; i < 2; i++)
        parts[i] = OP(g, gen_wide(x, half), "slice.Tensor", ARG_T("self", x.v),
                      ARG_I("dim", x.n - 1), ARG_I("start", i), ARG_I("end", INT64_MAX),
                      ARG_I("step", 2));
    stacked = x;
    stacked.n++;
    stacked.sizes[x.n - 1] = half;
    stacked.sizes[x.n] = 2;
    stacked = OP(g, stacked, "stack.default",
                 gen_tensors(g, "tensors", 2,
                             (struct val[]){gen_unary(g, "neg", parts[1]), parts[0]}),
                 ARG_I("dim", -1));
    return OP(g, x, "flatten.using_ints", ARG_T("self", stacked.v), ARG_I("start_dim", -2),
              ARG_I("end_dim", -1));
}

/* x1 * cos - x2 * sin, x2 * cos + x1 * sin; cos and sin are as wide as both halves. */
static struct val rotate_apart(struct gen *g, const struct rope *r, struct val x,
                               struct val cos, struct val sin)
{
    int64_t half = r->n_rot / 2;
    struct val parts[2], a, b;

    cos = gen_slice(g, cos, 0, half);
    sin = gen_slice(g, sin, half, half);
    gen_cut(g, x, 2, (int64_t[]){half, half}, parts);
    a = gen_binary(g, "sub", gen_binary(g, "mul", parts[0], cos),
                   gen_binary(g, "mul", parts[1], sin));
    b = gen_binary(g, "add", gen_binary(g, "mul", parts[1], cos),
                   gen_binary(g, "mul", parts[0], sin));
    return gen_cat(g, 2, (struct val[]){a, b});
}

/* x: (batch, heads, s, head_dim), or (batch, s, heads, head_dim) */
static struct val rotate(struct gen *g, const struct rope *r, struct val x, bool heads_last)
{
    int64_t size = x.sizes[3];
    struct val rest = {0}, cos = r->cos, sin = r->sin, a, b;

    if (heads_last || gen_chance(g, 50)) {
        struct val shape = heads_last
                               ? gen_shape(cos.dtype, SIZES(g->s, 1, r->n_rot))
                               : gen_shape(cos.dtype, SIZES(1, g->s, r->n_rot));

        cos = OP(g, shape, "unsqueeze.default", ARG_T("self", cos.v),
                 ARG_I("dim", heads_last));
        sin = OP(g, shape, "unsqueeze.default", ARG_T("self", sin.v),
                 ARG_I("dim", heads_last));
    }
    if (r->n_rot != size) {
        rest = gen_slice(g, x, r->n_rot, size - r->n_rot);
        x = gen_slice(g, x, 0, r->n_rot);
    }
    if (!r->by_pairs && gen_chance(g, 20)) {
        x = rotate_apart(g, r, x, cos, sin);
    } else {
        a = gen_chance(g, 70) ? gen_binary(g, "mul", x, cos) : gen_binary(g, "mul", cos, x);
        b = gen_binary(g, "mul", turned(g, r, x), sin);
        x = gen_chance(g, 80) ? gen_binary(g, "add", a, b) : gen_binary(g, "add", b, a);
    }
    return r->n_rot == size ? x : gen_cat(g, 2, (struct val[]){x, rest});
}

/* (s, len), or (1 or batch, 1, s, len) where it need not be flat: true where row s may see a
 * position. */
static struct val seen(struct gen *g, int64_t window, bool flat)
{
    struct val shape = gen_shape(PT2_BOOL, SIZES(g->s, g->len)), kv, q, mask, far;

    if (!flat && window == g->window && gen_chance(g, 60))
        return g->mask;
    kv = OP(g, gen_shape(PT2_INT64, SIZES(g->len)), "arange.default", ARG_I("end", g->len));
    if (gen_chance(g, 30))
        q = gen_reshape(g, g->positions, SIZES(g->s, 1));
    else
        q = OP(g, gen_shape(PT2_INT64, SIZES(g->s, 1)), "unsqueeze.default",
               ARG_T("self", g->positions.v), ARG_I("dim", -1));
    switch (gen_below(g, 3)) {
    case 0:
        mask = OP(g, shape, "le.Tensor", ARG_T("self", kv.v), ARG_T("other", q.v));
        break;
    case 1:
        mask = OP(g, shape, "ge.Tensor", ARG_T("self", q.v), ARG_T("other", kv.v));
        break;
    default:
        mask = OP(g, shape, "gt.Tensor", ARG_T("self", kv.v), ARG_T("other", q.v));
        mask = gen_unary(g, gen_chance(g, 50) ? "bitwise_not" : "logical_not", mask);
    }
    if (window) {
        far = gen_number(g, "sub", q, (double)window);
        far = OP(g, shape, "gt.Tensor", ARG_T("self", kv.v), ARG_T("other", far.v));
        mask = OP(g, shape, gen_chance(g, 50) ? "logical_and.default" : "bitwise_and.Tensor",
                  ARG_T("self", mask.v), ARG_T("other", far.v));
    }
    if (!flat && gen_chance(g, 50)) {
        mask = OP(g, gen_shape(PT2_BOOL, SIZES(1, g->s, g->len)), "unsqueeze.default",
                  ARG_T("self", mask.v), ARG_I("dim", 0));
        mask = OP(g, gen_shape(PT2_BOOL, SIZES(1, 1, g->s, g->len)), "unsqueeze.default",
                  ARG_T("self", mask.v), ARG_I("dim", 1));
        if (gen_chance(g, 40))
            mask = OP(g, gen_shape(PT2_BOOL, SIZES(g->batch, 1, g->s, g->len)),
                      "expand.default", ARG_T("self", mask.v),
                      gen_ints(g, "size", SIZES(g->batch, -1, -1, -1)));
    }
    g->mask = mask;
    g->window = window;
    return mask;
}

static double lowest(struct gen *g)
{
    double least = g->dtype == PT2_FLOAT32 ? -3.4028234663852886e+38 : -3.3895313892515355e+38;

    return gen_chance(g, 50) ? -INFINITY : least;
}

/* To be added: 0 where it is true, and the lowest number elsewhere. */
static struct val as_numbers(struct gen *g, struct val mask)
{
    struct val shape = mask, zeros, hidden;

    shape.dtype = PT2_FLOAT32;
    if (gen_chance(g, 20)) { /* (1 - mask) * lowest */
        shape = gen_to(g, mask, PT2_FLOAT32);
        shape = OP(g, shape, "rsub.Scalar", ARG_T("self", shape.v), ARG_F("other", 1));
        shape = gen_number(g, "mul", shape, -3e38);
    } else if (gen_chance(g, 50)) {
        shape = OP(g, shape, "where.Scalar", ARG_T("condition", mask.v), ARG_F("self", 0),
                   ARG_F("other", lowest(g)));
    } else {
        zeros = OP(g, shape, "zeros_like.default", ARG_T("self", mask.v),
                   ARG_DTYPE("dtype", PT2_FLOAT32));
        hidden = gen_unary(g, "bitwise_not", mask);
        shape = OP(g, shape, "masked_fill.Scalar", ARG_T("self", zeros.v),
                   ARG_T("mask", hidden.v), ARG_F("value", lowest(g)));
    }
    return g->dtype == PT2_FLOAT32 ? shape : gen_to(g, shape, g->dtype);
}

/* ---- caches ---- */

/* Write rows (batch, kv_heads, s, size); what is attended to. */
static struct val write_cache(struct gen *g, const char *kind, struct val rows)
{
    struct val shape = rows, cache, out;
    struct pt2_arg places[3] = {{.kind = PT2_ARG_NONE},
                                {.kind = PT2_ARG_NONE},
                                {PT2_ARG_TENSOR, {.value = g->positions.v}}};
    unsigned how = gen_below(g, 3); /* in place, with a mutation, with a copy_ */
    bool puts = gen_chance(g, 50);
    char fqn[24], op[32];

    snprintf(fqn, sizeof(fqn), "%s_cache_%u", kind, g->n_caches);
    shape.sizes[2] = g->len;
    cache = gen_cache(g, fqn, shape.n, shape.sizes);
    shape.dtype = g->dtype;
    snprintf(op, sizeof(op), "%s%s.default", puts ? "index_put" : "index_copy",
             how ? "" : "_");
    if (puts)
        out = OP(g, shape, op, ARG_T("self", cache.v),
                 ARG_LIST("indices", PT2_ARG_OPTIONAL_TENSORS, places),
                 ARG_T("values", rows.v));
    else
        out = OP(g, shape, op, ARG_T("self", cache.v), ARG_I("dim", 2),
                 ARG_T("index", g->positions.v), ARG_T("source", rows.v));
    if (how == 0)
        return gen_chance(g, 50) ? out : cache;
    if (how == 1)
        gen_mutation(g, fqn, out);
    else
        OP(g, shape, "copy_.default", ARG_T("self", cache.v), ARG_T("src", out.v));
    return out;
}

/* ---- attention ---- */

struct heads {
    int64_t n, kv, size, v_size; /* n of queries, kv of keys and values */
    int64_t window;
    double scale;
};

/* (batch, kv, len, size) as (batch, n, len, size) */
static struct val repeat_heads(struct gen *g, const struct heads *h, struct val x)
{
    int64_t times = h->n / h->kv, size = x.sizes[3];
    struct val wide = gen_shape(x.dtype, SIZES(g->batch, h->n, g->len, size)), y;

    if (times == 1)
        return x;
    if (gen_chance(g, 30))
        return OP(g, wide, "repeat_interleave.self_int", ARG_T("self", x.v),
                  ARG_I("repeats", times), ARG_I("dim", 1));
    y = OP(g, gen_shape(x.dtype, SIZES(g->batch, h->kv, 1, g->len, size)),
           "unsqueeze.default", ARG_T("self", x.v), ARG_I("dim", 2));
    y = OP(g, gen_shape(x.dtype, SIZES(g->batch, h->kv, times, g->len, size)),
           "expand.default", ARG_T("self", y.v),
           gen_ints(g, "size", SIZES(g->batch, h->kv, times, g->len, size)));
    return gen_reshape(g, y, wide.n, wide.sizes);
}

static struct val by_sdpa(struct gen *g, const struct heads *h, struct val q, struct val k,
                          struct val v)
{
    bool groups = h->n != h->kv && gen_chance(g, 50);
    struct val mask = seen(g, h->window, false);
    struct pt2_named_arg args[8];
    unsigned n = 4;

    if (!groups) {
        k = repeat_heads(g, h, k);
        v = repeat_heads(g, h, v);
    }
    if (gen_chance(g, 40))
        mask = as_numbers(g, mask);
    args[0] = ARG_T("query", q.v);
    args[1] = ARG_T("key", k.v);
    args[2] = ARG_T("value", v.v);
    args[3] = ARG_T("attn_mask", mask.v);
    if (gen_chance(g, 50)) {
        args[n++] = ARG_F("dropout_p", 0);
        args[n++] = ARG_B("is_causal", false);
    }
    if (h->scale != 0 || gen_chance(g, 30))
        args[n++] =
            ARG_F("scale", h->scale != 0 ? h->scale : 1 / sqrt((double)h->size));
    if (groups)
        args[n++] = ARG_B("enable_gqa", true);
    return gen_op(g, gen_wide(q, h->v_size), "scaled_dot_product_attention.default", n,
                  args);
}

static struct val masked(struct gen *g, const struct heads *h, struct val scores)
{
    struct val mask = seen(g, h->window, scores.n != 4), hidden;

    switch (gen_below(g, 3)) {
    case 0:
        return gen_binary(g, "add", scores, as_numbers(g, mask));
    case 1:
        return OP(g, scores, "where.ScalarOther", ARG_T("condition", mask.v),
                  ARG_T("self", scores.v), ARG_F("other", lowest(g)));
    default:
        hidden = gen_unary(g, "bitwise_not", mask);
        return OP(g, scores, "masked_fill.Scalar", ARG_T("self", scores.v),
                  ARG_T("mask", hidden.v), ARG_F("value", lowest(g)));
    }
}

static struct val by_products(struct gen *g, const struct heads *h, struct val q,
                              struct val k, struct val v)
{
    double scale = h->scale != 0 ? h->scale : 1 / sqrt((double)h->size);
    unsigned where = gen_below(g, 3);
    bool groups = false;
    struct val scores, shape = gen_wide(q, g->len);

    if (h->n != h->kv && gen_chance(g, 30)) {
        groups = true;
        q = gen_reshape(g, q, SIZES(g->batch, h->kv, h->n / h->kv, g->s, h->size));
        k = OP(g, gen_shape(k.dtype, SIZES(g->batch, h->kv, 1, g->len, h->size)),
               "unsqueeze.default", ARG_T("self", k.v), ARG_I("dim", 2));
        v = OP(g, gen_shape(k.dtype, SIZES(g->batch, h->kv, 1, g->len, h->v_size)),
               "unsqueeze.default", ARG_T("self", v.v), ARG_I("dim", 2));
        shape = gen_wide(q, g->len);
    } else {
        k = repeat_heads(g, h, k);
        v = repeat_heads(g, h, v);
    }
    if (where == 0)
        q = gen_number(g, "mul", q, scale);
    k = gen_turn(g, k, k.n - 2, k.n - 1);
    if (where == 1 && gen_chance(g, 40)) {
        k = gen_number(g, "mul", k, scale);
        where = 0;
    }
    scores = OP(g, shape, "matmul.default", ARG_T("self", q.v), ARG_T("other", k.v));
    if (where == 1)
        scores = gen_number(g, "mul", scores, scale);
    else if (where == 2)
        scores = gen_number(g, "div", scores, 1 / scale);
    if (gen_chance(g, 30)) {
        scores = gen_number(g, "div", scores, 4);
        scores = gen_number(g, "mul", gen_unary(g, "tanh", scores), 4);
    }
    scores = masked(g, h, scores);
    if (g->dtype != PT2_FLOAT32 && gen_chance(g, 50)) {
        shape.dtype = PT2_FLOAT32;
        scores = OP(g, shape, "softmax.int", ARG_T("self", scores.v), ARG_I("dim", -1),
                    ARG_DTYPE("dtype", PT2_FLOAT32));
        scores = gen_to(g, scores, g->dtype);
    } else {
        scores = OP(g, shape, "softmax.int", ARG_T("self", scores.v),
                    ARG_I("dim", gen_chance(g, 50) ? -1 : (int64_t)q.n - 1));
    }
    if (gen_chance(g, 30))
        scores = OP(g, shape, "dropout.default", ARG_T("input", scores.v), ARG_F("p", 0),
                    ARG_B("train", false));
    q = OP(g, gen_wide(q, h->v_size), "matmul.default", ARG_T("self", scores.v),
           ARG_T("other", v.v));
    return groups ? gen_reshape(g, q, SIZES(g->batch, h->n, g->s, h->v_size)) : q;
}

/* (batch, s, n * size) as (batch, n, s, size), normed or turned where that is wanted */
static struct val as_heads(struct gen *g, struct val x, int64_t n, int64_t size,
                           const struct rope *rope, bool norms)
{
    bool early = gen_chance(g, 30);

    x = gen_reshape(g, x, SIZES(g->batch, g->s, n, size));
    if (norms)
        x = gen_norm(g, x);
    if (rope && early)
        x = rotate(g, rope, x, true);
    x = gen_turn(g, x, 1, 2);
    if (rope && !early)
        x = rotate(g, rope, x, false);
    return x;
}

static struct heads choose_heads(struct gen *g)
{
    static const int64_t numbers[][2] = {{2, 2}, {4, 2}, {4, 1}, {3, 1}, {4, 4}, {6, 2},
                                         {1, 1}};
    const int64_t *n = numbers[gen_below(g, ARRAY_LEN(numbers))];
    struct heads h = {.n = n[0], .kv = n[1], .size = gen_chance(g, 50) ? 8 : 12};

    h.v_size = gen_chance(g, 15) ? h.size + 4 : h.size;
    h.window = gen_chance(g, 30) ? 3 + gen_below(g, 8) : 0;
    h.scale = gen_chance(g, 20) ? 0.25 : 0;
    return h;
}

struct val gen_attention(struct gen *g, struct val x)
{
    struct heads h = choose_heads(g);
    int64_t sizes[3] = {h.n * h.size, h.kv * h.size, h.kv * h.v_size};
    struct val parts[3];
    struct rope rope;
    bool turns = gen_chance(g, 75), norms = gen_chance(g, 25);

    if (turns)
        rope = make_rope(g, h.size);
    if (gen_chance(g, 35))
        gen_cut(g, gen_linear(g, x, sizes[0] + sizes[1] + sizes[2]), 3, sizes, parts);
    else
        for (int i = 0; i < 3; i++)
            parts[i] = gen_linear(g, x, sizes[i]);
    parts[0] = as_heads(g, parts[0], h.n, h.size, turns ? &rope : NULL, norms);
    parts[1] = as_heads(g, parts[1], h.kv, h.size, turns ? &rope : NULL, norms);
    parts[2] = as_heads(g, parts[2], h.kv, h.v_size, NULL, false);
    parts[1] = write_cache(g, "key", parts[1]);
    parts[2] = write_cache(g, "value", parts[2]);
    g->n_caches++;
    x = gen_chance(g, 50) ? by_sdpa(g, &h, parts[0], parts[1], parts[2])
                          : by_products(g, &h, parts[0], parts[1], parts[2]);
    x = gen_turn(g, x, 1, 2);
    x = gen_reshape(g, x, SIZES(g->batch, g->s, h.n * h.v_size));
    return gen_linear(g, x, g->dim);
}
