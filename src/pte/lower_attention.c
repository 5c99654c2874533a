/* lower_attention.c - attention over as much of a cache as has been written.
 *
 * XNNPACK computes what its graph says, all max_cache_len positions of it.  So there is a
 * delegate for each of a few windows, called for every layer, and jumps choose the smallest
 * that the position is in:
 *
 *     position < 128?  no: on to the next    yes: attend to 128 positions, jump to the end
 *     position < 256?  ...
 *     ...                                    attend to max_cache_len positions
 *
 * A window is a part of the cache's bytes, as its positions are its first dimension, and of
 * the mask's row.  The scheme, its gain and its hazards: doc/pte.md. */
#include "base/log.h"
#include "pte/lower_impl.h"

static const int64_t windows[] = {128, 256, 512, 1024, 2048, 4096, 8192};

/* ---- finding ---- */

static const struct pt2_node *maker(const struct lowering *l, uint32_t value)
{
    int32_t node = pt2_program_value(l->from, value)->node;

    return node < 0 ? NULL : &l->nodes[(uint32_t)node];
}

/* The only node that reads the value; NULL where there are several, or none. */
static const struct pt2_node *reader(const struct lowering *l, uint32_t value)
{
    const struct lowered *x = &l->values[value];

    if (x->n_uses != 1 || x->last_use >= pt2_program_n_nodes(l->from))
        return NULL;
    return &l->nodes[x->last_use];
}

static bool is_op(const struct pt2_node *node, const char *op)
{
    return node && streq(lower_op(node) ?: "", op);
}

static bool read_number(const struct pt2_node *node, double *ret_number)
{
    const struct pt2_arg *other = lower_arg(node, "other");

    if (!other || other->kind != PT2_ARG_FLOAT)
        return false;
    *ret_number = other->f;
    return true;
}

/* The cache whose whole the node has after rows were written to it, which a delegate makes
 * for this alone; NO_VALUE. */
static uint32_t written_cache(const struct lowering *l, const struct pt2_node *node)
{
    uint32_t cache, rows;

    if (!is_op(node, "index_copy_.default") || lower_int(node, "dim", 0) != 1)
        return NO_VALUE;
    cache = lower_tensor(node, "self");
    rows = lower_tensor(node, "source");
    if (lower_meta(l, cache)->n_dims != 3 || l->values[cache].n_uses != 1 ||
        l->values[node->outputs[0].value].n_uses != 1 || l->values[rows].n_uses != 1 ||
        !maker(l, rows) || !lower_is_shape(l, maker(l, rows)))
        return NO_VALUE;
    return cache;
}

/* cap * tanh(x / cap), where that comes next: *x becomes its result. */
static void match_cap(const struct lowering *l, uint32_t *x, double *ret_cap)
{
    const struct pt2_node *div = reader(l, *x), *tanh, *mul;
    double divisor, factor;

    if (!is_op(div, "div.Tensor") || !read_number(div, &divisor))
        return;
    tanh = reader(l, div->outputs[0].value);
    if (!is_op(tanh, "tanh.default"))
        return;
    mul = reader(l, tanh->outputs[0].value);
    if (!is_op(mul, "mul.Tensor") || !read_number(mul, &factor) || factor != divisor)
        return;
    *x = mul->outputs[0].value;
    *ret_cap = divisor;
}

/* (kv_heads, repeats * s, len) as (kv_heads, repeats, s, len), where that comes next. */
static void match_split(const struct lowering *l, uint32_t *x, struct attention *a)
{
    const struct pt2_node *view = reader(l, *x);
    const struct pt2_tensor_meta *meta;

    a->repeats = lower_meta(l, a->q)->sizes[1].value;
    if (!view || !lower_is_shape(l, view))
        return;
    *x = view->outputs[0].value;
    meta = lower_meta(l, *x);
    a->is_split = meta->n_dims == 4;
    a->repeats = a->is_split ? meta->sizes[1].value : 0;
}

/* Does attention begin at this node? */
static bool match(const struct lowering *l, uint32_t i, struct attention *ret)
{
    const struct pt2_node *bmm = &l->nodes[i], *turned, *add, *softmax, *end;
    struct attention a = {.first = i};
    uint32_t x;

    if (!is_op(bmm, "bmm.default"))
        return false;
    turned = maker(l, lower_tensor(bmm, "mat2"));
    if (!is_op(turned, "transpose.int") ||
        lower_int(turned, "dim0", 0) + lower_int(turned, "dim1", 0) != 3)
        return false;
    a.keys = written_cache(l, maker(l, lower_tensor(turned, "self")));
    x = bmm->outputs[0].value;
    a.q = lower_tensor(bmm, "self");
    match_cap(l, &x, &a.cap);
    match_split(l, &x, &a);
    add = reader(l, x);
    if (a.keys == NO_VALUE || !is_op(add, "add.Tensor") || lower_tensor(add, "self") != x)
        return false;
    a.mask = lower_tensor(add, "other");
    softmax = reader(l, add->outputs[0].value);
    if (a.mask == NO_VALUE || !is_op(softmax, "softmax.int"))
        return false;
    x = softmax->outputs[0].value;
    if (a.is_split && (!reader(l, x) || !lower_is_shape(l, reader(l, x))))
        return false;
    if (a.is_split)
        x = reader(l, x)->outputs[0].value;
    end = reader(l, x);
    if (!is_op(end, "bmm.default") || lower_tensor(end, "self") != x || a.repeats < 1)
        return false;
    a.last = l->values[x].last_use;
    a.values = written_cache(l, maker(l, lower_tensor(end, "mat2")));
    a.out = end->outputs[0].value;
    if (a.values == NO_VALUE)
        return false;
    *ret = a;
    return true;
}

/* Rows (s, max_cache_len) that a kernel or a delegate has made. */
static bool is_mask(const struct lowering *l, uint32_t mask, int64_t len)
{
    const struct pt2_tensor_meta *meta = lower_meta(l, mask);

    return maker(l, mask) && meta->n_dims == 2 && meta->sizes[1].value == len;
}

/* A cache's positions come first, and so do those of the rows that are written to it. */
static void turn(struct lowering *l, uint32_t cache)
{
    const struct pt2_node *write = &l->nodes[l->values[cache].last_use];

    l->values[cache].rows_first = true;
    l->values[lower_tensor(write, "source")].is_turned = true;
}

void lower_find_attentions(struct lowering *l)
{
    for (uint32_t i = 0; i < pt2_program_n_nodes(l->from); i++) {
        struct attention a;
        int64_t len;

        if (!match(l, i, &a))
            continue;
        len = lower_meta(l, a.keys)->sizes[1].value;
        /* a ring's positions are not those of its rows */
        if (len != l->decoder.max_cache_len || len <= windows[0] || !is_mask(l, a.mask, len))
            continue;
        l->attentions[l->n_attentions++] = a;
        turn(l, a.keys);
        turn(l, a.values);
    }
}

const struct attention *lower_attention_at(const struct lowering *l, uint32_t node)
{
    for (uint32_t i = 0; i < l->n_attentions; i++)
        if (l->attentions[i].first == node)
            return &l->attentions[i];
    return NULL;
}

/* ---- making ---- */

/* Once for the program: is the last of the positions below each window? */
static void put_conditions(struct lowering *l, uint32_t n_windows)
{
    uint32_t position, number;

    if (l->n_windows)
        return;
    position = pte_activation(l->p, PT2_INT64, 0, NULL);
    PTE_CALL(l->p, "aten::select_copy", "int_out", l->position, pte_int(l->p, 0),
             pte_int(l->p, -1), position, position);
    number = pte_int_out(l->p);
    PTE_CALL(l->p, "aten::_local_scalar_dense", "", position, number);
    for (uint32_t i = 0; i < n_windows; i++) {
        l->is_below[i] = pte_bool_out(l->p);
        PTE_CALL(l->p, "executorch_prim::lt", "Scalar", number,
                 pte_int(l->p, windows[i]), l->is_below[i]);
    }
    l->never = pte_bool_out(l->p); /* of its own: nothing may set it */
    l->n_windows = n_windows;
}

static int make_delegate(struct lowering *l, struct attention_delegate *d)
{
    struct xnn_graph *g = xnn_graph_new();
    uint32_t W = (uint32_t)d->window, kv = (uint32_t)d->kv_heads, n = (uint32_t)d->repeats,
             dim = (uint32_t)d->head_dim, s = (uint32_t)l->decoder.max_seq_len,
             all = (uint32_t)l->decoder.max_cache_len, none[] = {0, 0};
    uint32_t open = l->decoder.seq_len ? s : 0; /* as XNNPACK is told of it */
    struct xnn_shape queries = {3, {kv, n * s, dim}}, part = {3, {W, kv, dim}},
                     row = {2, {s, d->is_split ? all : W}}, one = {1, {1}};
    struct xnn_shape rows = {2, {s, W}}, scores = {3, {kv, n * s, W}},
                     split = {4, {kv, n, s, W}};
    static const uint32_t for_keys[] = {1, 2, 0}, for_values[] = {1, 0, 2};
    uint32_t q, k, v, mask, x;

    if (!g)
        return pt2_err_set(l->err, PT2_ERR_NOMEM, "a delegate");
    q = xnn_input(g, &queries);
    k = xnn_input(g, &part);
    v = xnn_input(g, &part);
    mask = xnn_input(g, &row);
    x = xnn_batch_matrix_multiply(g, q, xnn_transpose(g, k, for_keys), false);
    if (d->cap != 0) {
        uint32_t cap = xnn_input(g, &one);

        d->cap_value = lower_number(l, d->cap);
        x = xnn_unary(g, XNN_TANH, xnn_binary(g, XNN_DIVIDE, x, cap));
        x = xnn_binary(g, XNN_MULTIPLY, x, cap);
    }
    if (d->is_split) {
        mask = xnn_slice(g, mask, none, &(struct xnn_shape){2, {open, W}}, &rows);
        x = xnn_reshape(g, x, &(struct xnn_shape){4, {kv, n, open, W}}, &split);
    }
    x = xnn_unary(g, XNN_SOFTMAX, xnn_binary(g, XNN_ADD, x, mask));
    if (d->is_split)
        x = xnn_reshape(g, x, &(struct xnn_shape){3, {kv, n * open, W}}, &scores);
    x = xnn_batch_matrix_multiply(g, x, xnn_transpose(g, v, for_values), false);
    xnn_output(g, x);
    if (xnn_graph_failed(g))
        l->p->failed = true;
    d->delegate = pte_add_delegate(l->p, g);
    return 0;
}

/* The one that is so, made where there is none; NULL on failure. */
static const struct attention_delegate *
find_delegate(struct lowering *l, const struct attention_delegate *want)
{
    struct attention_delegate *d;

    for (uint32_t i = 0; i < l->n_attend; i++) {
        d = &l->attend[i];
        if (d->window == want->window && d->kv_heads == want->kv_heads &&
            d->repeats == want->repeats && d->head_dim == want->head_dim &&
            d->cap == want->cap && d->is_split == want->is_split)
            return d;
    }
    if (l->n_attend == MAX_ATTENTION_DELEGATES) {
        pt2_err_set(l->err, PT2_ERR_LIMIT, "format pte: layers of more than %d kinds",
                    MAX_ATTENTION_DELEGATES / (int)ARRAY_LEN(windows));
        return NULL;
    }
    d = &l->attend[l->n_attend];
    *d = *want;
    if (make_delegate(l, d) < 0)
        return NULL;
    l->n_attend++;
    return d;
}

static int attend(struct lowering *l, const struct attention *a, int64_t window,
                  uint32_t out)
{
    const struct pt2_tensor_meta *q = lower_meta(l, a->q);
    struct attention_delegate want = {
        .window = window,
        .kv_heads = q->sizes[0].value,
        .repeats = a->repeats,
        .head_dim = q->sizes[2].value,
        .cap = a->cap,
        .is_split = a->is_split,
    };
    const int64_t part[] = {window, want.kv_heads, want.head_dim}, row[] = {1, window};
    const struct attention_delegate *d = find_delegate(l, &want);
    uint32_t args[6], n = 0;

    if (!d)
        return -1;
    args[n++] = lower_value(l, a->q);
    args[n++] = pte_view(l->p, lower_value(l, a->keys), PT2_FLOAT32, 3, part, 0);
    args[n++] = pte_view(l->p, lower_value(l, a->values), PT2_FLOAT32, 3, part, 0);
    args[n] = lower_value(l, a->mask);
    if (!a->is_split) /* one row: the part of it that the window has */
        args[n] = pte_view(l->p, args[n], PT2_FLOAT32, 2, row, 0);
    n++;
    if (a->cap != 0)
        args[n++] = d->cap_value;
    args[n++] = out;
    pte_call_delegate(l->p, d->delegate, args, n, 1);
    return 0;
}

int lower_attention(struct lowering *l, const struct attention *a)
{
    uint32_t ends[ARRAY_LEN(windows)], n_windows = 0, out;

    if (lower_xnn_end(l) < 0)
        return -1;
    while (n_windows < ARRAY_LEN(windows) && windows[n_windows] < l->decoder.max_cache_len)
        n_windows++;
    put_conditions(l, n_windows);
    out = lower_result(l, &l->nodes[a->last]);
    for (uint32_t i = 0; i < n_windows; i++) {
        uint32_t next = pte_jump_false(l->p, l->is_below[i]);

        if (attend(l, a, windows[i], out) < 0)
            return -1;
        ends[i] = pte_jump_false(l->p, l->never);
        pte_land(l->p, next);
    }
    if (attend(l, a, l->decoder.max_cache_len, out) < 0)
        return -1;
    for (uint32_t i = 0; i < n_windows; i++)
        pte_land(l->p, ends[i]);
    return 0;
}
