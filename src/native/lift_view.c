#include "native/lift.h"

/* ---- sizes ---- */

static int size_of(struct lift *l, const struct pt2_arg *arg, int64_t *ret)
{
    int64_t s = l->decoder->seq_len, a, b;

    if (arg->kind == PT2_ARG_INT) {
        *ret = arg->i;
        return 0;
    }
    if (arg->kind != PT2_ARG_SYM_INT || eval_class(l->eval, arg->value) == EVAL_TOKENS)
        return lift_refuse(l, "a size that is no number");
    if (eval_int(l->eval, arg->value, 0, s > 0 ? s : ANY_LENGTH, &a, l->err) < 0 ||
        eval_int(l->eval, arg->value, 1, s > 0 ? s : ANY_LENGTH, &b, l->err) < 0)
        return -1;
    if (a != b)
        return lift_refuse(l, "a size that depends on the position");
    *ret = a;
    return 0;
}

int lift_sizes(struct lift *l, const char *name, int64_t *ret, unsigned *ret_n)
{
    const struct pt2_arg *arg = node_arg(l->node, name);

    if (!arg || (arg->kind != PT2_ARG_INTS && arg->kind != PT2_ARG_SYM_INTS) ||
        arg->list.n > PT2_MAX_DIMS)
        return lift_refuse(l, "no list of sizes '%s'", name);
    for (uint32_t i = 0; i < arg->list.n; i++)
        if (size_of(l, &arg->list.items[i], &ret[i]) < 0)
            return -1;
    *ret_n = arg->list.n;
    return 0;
}

static int plain_int(struct lift *l, const char *name, int64_t other, int64_t *ret)
{
    const struct pt2_arg *arg = node_arg(l->node, name);

    *ret = other;
    return arg ? size_of(l, arg, ret) : 0;
}

static int dim_arg(struct lift *l, const char *name, int64_t other, unsigned n, unsigned *ret)
{
    if (!node_dim(l->node, name, other, n, ret))
        return lift_refuse(l, "'%s' is no dimension", name);
    return 0;
}

/* ---- the ops ---- */

static int view(struct lift *l, const struct lifted *in)
{
    int64_t sizes[PT2_MAX_DIMS];
    unsigned n;

    if (node_arg(l->node, "dtype"))
        return lift_refuse(l, "a view as another dtype");
    if (lift_sizes(l, node_arg(l->node, "size") ? "size" : "shape", sizes, &n) < 0)
        return -1;
    return lift_reshape(l, in, sizes, n, lift_out(l));
}

static int flatten(struct lift *l, const struct lifted *in)
{
    int64_t sizes[PT2_MAX_DIMS];
    unsigned from, to, n = 0;

    if (dim_arg(l, "start_dim", 0, in->n_dims, &from) < 0 ||
        dim_arg(l, "end_dim", -1, in->n_dims, &to) < 0)
        return -1;
    for (unsigned d = 0; d < in->n_dims; d++)
        if (d <= from || d > to)
            sizes[n++] = in->dims[d].size;
        else if (__builtin_mul_overflow(sizes[n - 1], in->dims[d].size, &sizes[n - 1]))
            return lift_refuse(l, "sizes that are too large");
    return lift_reshape(l, in, sizes, n, lift_out(l));
}

static int expand(struct lift *l, const struct lifted *in)
{
    int64_t sizes[PT2_MAX_DIMS];
    struct lifted v = *in;
    unsigned n;

    if (lift_sizes(l, "size", sizes, &n) < 0)
        return -1;
    if (n < in->n_dims)
        return lift_refuse(l, "fewer dimensions");
    v.n_dims = n;
    for (unsigned d = 0; d < n; d++) {
        int from = (int)d - (int)(n - in->n_dims);
        struct dim one = {.label = DIM_ONE, .size = 1};

        v.dims[d] = from < 0 ? one : in->dims[from];
        if (sizes[d] == -1 || sizes[d] == v.dims[d].size)
            continue;
        if (sizes[d] < 1 || sizes[d] > LIFT_MAX_WIDTH)
            return lift_refuse(l, "an expansion to %lld", (long long)sizes[d]);
        if (v.dims[d].label == DIM_ONE && in->kind == KIND_CACHE && from > 0 &&
            in->dims[from - 1].label == DIM_KV)
            v.dims[d] = new_dim(DIM_REP, sizes[d], 0);
        else if (v.dims[d].size == 1 && sizes[d] != ANY_LENGTH && in->kind == KIND_ROWS)
            v.dims[d] = new_dim(DIM_ROW, sizes[d], 0);
        else if (v.dims[d].label == DIM_ONE && in->kind == KIND_CACHE && d > 0 &&
                 v.dims[d - 1].label == DIM_ONE)
            v.dims[d] = new_dim(DIM_REP, sizes[d], 0); /* of one key head */
        else
            return lift_refuse(l, "an expansion to %lld", (long long)sizes[d]);
    }
    *lift_out(l) = v;
    return 0;
}

static int transpose(struct lift *l, const struct lifted *in)
{
    struct lifted v = *in;
    unsigned a = 0, b = 1;

    if (!node_is(l->node, "t") && (dim_arg(l, "dim0", 0, in->n_dims, &a) < 0 ||
                                   dim_arg(l, "dim1", 0, in->n_dims, &b) < 0))
        return -1;
    if (in->n_dims < 2)
        return lift_refuse(l, "dimensions");
    v.dims[a] = in->dims[b];
    v.dims[b] = in->dims[a];
    *lift_out(l) = v;
    return 0;
}

static int permute(struct lift *l, const struct lifted *in)
{
    bool taken[PT2_MAX_DIMS] = {false};
    int64_t dims[PT2_MAX_DIMS];
    struct lifted v = *in;
    unsigned n;

    if (lift_sizes(l, "dims", dims, &n) < 0)
        return -1;
    if (n != in->n_dims)
        return lift_refuse(l, "dimensions");
    for (unsigned d = 0; d < n; d++) {
        int64_t from = dims[d] + (dims[d] < 0 ? (int64_t)n : 0);

        if (from < 0 || from >= n || taken[from])
            return lift_refuse(l, "dimensions");
        taken[from] = true;
        v.dims[d] = in->dims[from];
    }
    *lift_out(l) = v;
    return 0;
}

static void drop_dim(struct lifted *v, unsigned dim)
{
    v->n_dims--;
    memmove(&v->dims[dim], &v->dims[dim + 1], (v->n_dims - dim) * sizeof(*v->dims));
}

static int unsqueeze(struct lift *l, const struct lifted *in)
{
    struct lifted v = *in;
    unsigned dim;

    if (in->n_dims == PT2_MAX_DIMS || dim_arg(l, "dim", 0, in->n_dims + 1, &dim) < 0)
        return lift_refuse(l, "dimensions");
    memmove(&v.dims[dim + 1], &v.dims[dim], (in->n_dims - dim) * sizeof(*v.dims));
    v.dims[dim] = new_dim(DIM_ONE, 1, 0);
    v.n_dims++;
    *lift_out(l) = v;
    return 0;
}

static int squeeze(struct lift *l, const struct lifted *in)
{
    const struct pt2_arg *arg = node_arg(l->node, "dim");
    struct lifted v = *in;
    bool drop[PT2_MAX_DIMS] = {false};

    for (unsigned d = 0; d < in->n_dims; d++)
        drop[d] = !arg;
    if (arg) {
        unsigned n = arg->kind == PT2_ARG_INTS ? arg->list.n : 1;

        for (unsigned i = 0; i < n; i++) {
            const struct pt2_arg *item = arg->kind == PT2_ARG_INTS ? &arg->list.items[i] : arg;
            int64_t d = item->kind == PT2_ARG_INT ? item->i : INT64_MIN;

            d += d < 0 ? in->n_dims : 0;
            if (d < 0 || d >= in->n_dims)
                return lift_refuse(l, "dimensions");
            drop[d] = true;
        }
    }
    for (unsigned d = v.n_dims; d-- > 0;)
        if (drop[d] && v.dims[d].size == 1)
            drop_dim(&v, d);
    *lift_out(l) = v;
    return 0;
}

/* The last row of the sequence, for its logits: on rows, that is no op. */
static bool takes_last(const struct lift *l, const struct lifted *in, unsigned dim,
                       int64_t from, int64_t to)
{
    int64_t size = in->dims[dim].size;

    (void)l;
    return in->dims[dim].label == DIM_SEQ && in->kind == KIND_ROWS &&
           (from == -1 || from == size - 1) && to >= size;
}

/* slice, narrow */
static int slice(struct lift *l, const struct lifted *in)
{
    int64_t from, to, step, size, length;
    struct lifted v = *in;
    unsigned dim;

    if (dim_arg(l, "dim", 0, in->n_dims, &dim) < 0 || plain_int(l, "start", 0, &from) < 0 ||
        plain_int(l, "end", INT64_MAX, &to) < 0 || plain_int(l, "step", 1, &step) < 0 ||
        plain_int(l, "length", 0, &length) < 0)
        return -1;
    size = in->dims[dim].size;
    if (node_arg(l->node, "length")) {
        from += from < 0 ? size : 0;
        if (from < 0 || from > size || length < 1 || length > size - from)
            return lift_refuse(l, "%lld from %lld on of %lld", (long long)length,
                               (long long)from, (long long)size);
        to = from + length;
    }
    if (takes_last(l, in, dim, from, to)) {
        v.dims[dim] = new_dim(DIM_ONE, 1, 0);
        v.is_last = true;
        *lift_out(l) = v;
        return 0;
    }
    from = MAX(0, MIN(size, from < 0 ? from + size : from));
    to = MAX(from, MIN(size, to < 0 ? to + size : to));
    if (in->kind == KIND_SCORES && step == 1 && to < size)
        return lift_drop_sinks(l, in, dim, from, to);
    if (from == 0 && to == size && step == 1) {
        *lift_out(l) = v;
        return 0;
    }
    if (in->kind != KIND_ROWS || in->dims[dim].label != DIM_ROW || step < 1)
        return lift_refuse(l, "a part, %lld to %lld, of a dimension that is no row's",
                           (long long)from, (long long)to);
    v.offset += (uint32_t)(from * in->dims[dim].stride);
    v.dims[dim].size = (to - from) / step + ((to - from) % step != 0);
    if (v.dims[dim].size == 1)
        v.dims[dim] = new_dim(DIM_ONE, 1, 0);
    else if (v.dims[dim].size > 1)
        v.dims[dim].stride *= (int32_t)step;
    *lift_out(l) = v;
    return 0;
}

static int take_one(struct lift *l, const struct lifted *in)
{
    struct lifted v = *in;
    int64_t index, size;
    unsigned dim;

    if (dim_arg(l, "dim", 0, in->n_dims, &dim) < 0 || plain_int(l, "index", 0, &index) < 0)
        return -1;
    size = in->dims[dim].size;
    if (takes_last(l, in, dim, index, INT64_MAX)) {
        v.is_last = true;
    } else {
        index += index < 0 ? size : 0;
        if (index < 0 || index >= size ||
            (size != 1 && (in->kind != KIND_ROWS || in->dims[dim].label != DIM_ROW)))
            return lift_refuse(l, "one of a dimension that is no row's");
        if (in->dims[dim].label == DIM_ROW)
            v.offset += (uint32_t)(index * in->dims[dim].stride);
    }
    drop_dim(&v, dim);
    *lift_out(l) = v;
    return 0;
}

/* split, chunk, unbind */
static int split(struct lift *l, const struct lifted *in)
{
    bool each = node_is(l->node, "split_with_sizes"), unbinds = node_is(l->node, "unbind"),
         chunks = node_is(l->node, "chunk");
    int64_t sizes[PT2_MAX_DIMS] = {1}, at = 0, out;
    unsigned dim, n = 1;

    if (dim_arg(l, "dim", 0, in->n_dims, &dim) < 0)
        return -1;
    if (in->kind != KIND_ROWS || in->dims[dim].label != DIM_ROW)
        return lift_refuse(l, "parts of a dimension that is no row's");
    if (each && lift_sizes(l, "split_sizes", sizes, &n) < 0)
        return -1;
    if (!each && !unbinds && plain_int(l, chunks ? "chunks" : "split_size", 0, sizes) < 0)
        return -1;
    if (chunks && sizes[0] > 0)
        sizes[0] = in->dims[dim].size / sizes[0] + (in->dims[dim].size % sizes[0] != 0);
    for (unsigned k = 0; (out = node_out_at(l->node, k)) >= 0; k++) {
        struct lifted *v = &l->values[out];
        int64_t size = MIN(each && k < n ? sizes[k] : sizes[0], in->dims[dim].size - at);

        if (size < 1 || (each && k >= n))
            return lift_refuse(l, "parts that do not fit");
        *v = *in;
        v->offset += (uint32_t)(at * in->dims[dim].stride);
        v->dims[dim].size = size;
        if (size == 1)
            v->dims[dim] = new_dim(DIM_ONE, 1, 0);
        if (unbinds)
            drop_dim(v, dim);
        at += size;
    }
    return at == in->dims[dim].size ? 0 : lift_refuse(l, "parts that do not fit");
}

/* Conversions: activations stay float32, so those between float dtypes are nothing. */
static int same(struct lift *l, const struct lifted *in)
{
    const struct pt2_value *out =
        pt2_program_value(l->program, (uint32_t)node_out_at(l->node, 0));
    bool trains;
    double p;

    if (in->kind == KIND_ROWS && out->meta.dtype == PT2_BOOL)
        return lift_number_where(l, KERNEL_KEEP, 1, in, lift_out(l));
    if (in->kind == KIND_CHOICE) { /* small whole numbers in any dtype; in half precision not */
        if (out->meta.dtype != PT2_INT64 && out->meta.dtype != PT2_INT32 &&
            out->meta.dtype != PT2_FLOAT32)
            return lift_refuse(l, "choices as %s", pt2_dtype_name(out->meta.dtype));
        *lift_out(l) = *in;
        return 0;
    }
    if (in->kind != KIND_IDS && !pt2_dtype_is_float(out->meta.dtype))
        return lift_refuse(l, "tokens' values as %s", pt2_dtype_name(out->meta.dtype));
    if (in->kind == KIND_IDS && out->meta.dtype != PT2_INT64 && out->meta.dtype != PT2_INT32)
        return lift_refuse(l, "token ids as %s", pt2_dtype_name(out->meta.dtype));
    if (node_is(l->node, "dropout") &&
        (!node_float(l->node, "p", 0.5, &p) || !node_bool(l->node, "train", true, &trains) ||
         (trains && p != 0)))
        return lift_refuse(l, "a dropout in training");
    *lift_out(l) = *in;
    return 0;
}

int lift_view(struct lift *l, const struct node_op *op, bool *ret_is)
{
    static const struct {
        const char *op;
        int (*fn)(struct lift *l, const struct lifted *in);
    } fns[] = {
        {"view", view}, {"reshape", view}, {"_unsafe_view", view}, {"flatten", flatten},
        {"expand", expand}, {"broadcast_to", expand}, {"transpose", transpose}, {"t", transpose}, {"permute", permute},
        {"unsqueeze", unsqueeze}, {"squeeze", squeeze}, {"slice", slice}, {"narrow", slice},
        {"select", take_one}, {"split", split}, {"split_with_sizes", split},
        {"chunk", split}, {"unbind", split}, {"to", same}, {"_to_copy", same},
        {"type_as", same}, {"alias", same}, {"detach", same}, {"detach_", same},
        {"clone", same}, {"contiguous", same}, {"dropout", same}, {"lift_fresh_copy", same},
    };
    const struct lifted *in = lift_arg(l, node_arg(l->node, "self") ? "self" : "input");

    *ret_is = false;
    if (streq(op->name, "index") && lift_is_rows(in))
        return lift_index(l, in, ret_is);
    for (size_t i = 0; i < ARRAY_LEN(fns); i++) {
        if (!streq(fns[i].op, op->name))
            continue;
        *ret_is = true;
        if (!in || in->kind == KIND_NONE || in->kind == KIND_EVAL)
            return lift_refuse(l, "no tokens' value to show otherwise");
        if (in->kind == KIND_CACHE && !lift_cache_is_ready(l, in))
            return lift_refuse(l, "a cache that is shown before it is written");
        return fns[i].fn(l, in);
    }
    return 0;
}
