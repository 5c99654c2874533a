/* What shows the same elements in another shape, or in another dtype. */
#include "native/eval_impl.h"

static int self_of(struct eval *e, const struct pt2_node *node, struct tensor *ret,
                   struct pt2_err *err)
{
    return eval_arg(e, node, node_arg(node, "self") ? "self" : "input", ret, err);
}

static int dim_of(const struct pt2_node *node, const char *name, int64_t other,
                  unsigned n_dims, unsigned *ret, struct pt2_err *err)
{
    if (!node_dim(node, name, other, n_dims, ret))
        return eval_refuse(err, node, "'%s' is no dimension", name);
    return 0;
}

static void drop_dim(struct tensor *t, unsigned dim)
{
    t->n_dims--;
    for (unsigned d = dim; d < t->n_dims; d++) {
        t->sizes[d] = t->sizes[d + 1];
        t->strides[d] = t->strides[d + 1];
    }
}

static int run_same(struct eval *e, const struct pt2_node *node, struct tensor *ret,
                    struct pt2_err *err)
{
    bool trains;
    double p;

    if (node_is(node, "dropout") && node_bool(node, "train", true, &trains) &&
        node_float(node, "p", 0.5, &p) && trains && p != 0)
        return eval_refuse(err, node, "a dropout in training");
    return self_of(e, node, ret, err);
}

static int run_view(struct eval *e, const struct pt2_node *node, struct tensor *ret,
                    struct pt2_err *err)
{
    int64_t sizes[PT2_MAX_DIMS], n = 1;
    unsigned n_dims;
    int open = -1;
    struct tensor in;

    if (node_arg(node, "dtype"))
        return eval_refuse(err, node, "a view as another dtype");
    if (self_of(e, node, &in, err) < 0 ||
        eval_arg_ints(e, node, node_arg(node, "size") ? "size" : "shape", sizes, &n_dims,
                      err) < 0)
        return -1;
    for (unsigned d = 0; d < n_dims; d++)
        if (sizes[d] == -1)
            open = (int)d;
        else if (sizes[d] < 0 || __builtin_mul_overflow(n, sizes[d], &n))
            return eval_refuse(err, node, "a size of %lld", (long long)sizes[d]);
    if (open >= 0) {
        if (n <= 0 || tensor_n(&in) % n)
            return eval_refuse(err, node, "sizes that do not divide");
        sizes[open] = tensor_n(&in) / n;
    }
    return tensor_reshape(e, &in, n_dims, sizes, ret, node, err);
}

static int run_flatten(struct eval *e, const struct pt2_node *node, struct tensor *ret,
                       struct pt2_err *err)
{
    int64_t sizes[PT2_MAX_DIMS];
    unsigned from, to, n = 0;
    struct tensor in;

    if (self_of(e, node, &in, err) < 0 || in.n_dims == 0 ||
        dim_of(node, "start_dim", 0, in.n_dims, &from, err) < 0 ||
        dim_of(node, "end_dim", -1, in.n_dims, &to, err) < 0)
        return eval_refuse(err, node, "dimensions");
    for (unsigned d = 0; d < in.n_dims; d++)
        if (d > from && d <= to)
            sizes[n - 1] *= in.sizes[d];
        else
            sizes[n++] = in.sizes[d];
    return tensor_reshape(e, &in, n, sizes, ret, node, err);
}

static int run_expand(struct eval *e, const struct pt2_node *node, struct tensor *ret,
                      struct pt2_err *err)
{
    int64_t sizes[PT2_MAX_DIMS];
    unsigned n_dims;
    struct tensor in;

    if (self_of(e, node, &in, err) < 0)
        return -1;
    if (node_is(node, "expand_as")) {
        int64_t other = node_value(node, "other");

        if (other < 0 || eval_meta_sizes(e, (uint32_t)other, sizes, err) < 0)
            return eval_refuse(err, node, "no tensor to be shaped like");
        n_dims = pt2_program_value(e->program, (uint32_t)other)->meta.n_dims;
        return tensor_expand(&in, n_dims, sizes, ret, node, err);
    }
    if (eval_arg_ints(e, node, "size", sizes, &n_dims, err) < 0)
        return -1;
    return tensor_expand(&in, n_dims, sizes, ret, node, err);
}

static int run_transpose(struct eval *e, const struct pt2_node *node, struct tensor *ret,
                         struct pt2_err *err)
{
    bool of_two = !node_arg(node, "dim0"); /* t, numpy_T */
    unsigned a = 0, b = 1;
    struct tensor t;

    if (self_of(e, node, &t, err) < 0)
        return -1;
    if (of_two && t.n_dims > 2)
        return eval_refuse(err, node, "%u dimensions", t.n_dims);
    if (of_two && t.n_dims < 2) {
        *ret = t;
        return 0;
    }
    if (!of_two && (dim_of(node, "dim0", 0, t.n_dims, &a, err) < 0 ||
                    dim_of(node, "dim1", 0, t.n_dims, &b, err) < 0))
        return -1;
    *ret = t;
    ret->sizes[a] = t.sizes[b];
    ret->sizes[b] = t.sizes[a];
    ret->strides[a] = t.strides[b];
    ret->strides[b] = t.strides[a];
    return 0;
}

static int run_permute(struct eval *e, const struct pt2_node *node, struct tensor *ret,
                       struct pt2_err *err)
{
    bool taken[PT2_MAX_DIMS] = {false};
    int64_t dims[PT2_MAX_DIMS];
    unsigned n;
    struct tensor t;

    if (self_of(e, node, &t, err) < 0 || eval_arg_ints(e, node, "dims", dims, &n, err) < 0)
        return -1;
    *ret = t;
    if (n != t.n_dims)
        return eval_refuse(err, node, "dimensions");
    for (unsigned d = 0; d < n; d++) {
        int64_t from = dims[d] + (dims[d] < 0 ? (int64_t)n : 0);

        if (from < 0 || from >= n || taken[from])
            return eval_refuse(err, node, "dimensions");
        taken[from] = true;
        ret->sizes[d] = t.sizes[from];
        ret->strides[d] = t.strides[from];
    }
    return 0;
}

/* The part of *ret that the node's dim, start, end and step name. */
static int slice_of(struct eval *e, const struct pt2_node *node, struct tensor *ret,
                    struct pt2_err *err)
{
    int64_t from, to, step, size;
    unsigned dim;

    if (dim_of(node, "dim", 0, ret->n_dims, &dim, err) < 0 ||
        eval_arg_int(e, node, "start", 0, &from, err) < 0 ||
        eval_arg_int(e, node, "end", INT64_MAX, &to, err) < 0 ||
        eval_arg_int(e, node, "step", 1, &step, err) < 0)
        return -1;
    size = ret->sizes[dim];
    from = MAX(0, MIN(size, from < 0 ? from + size : from));
    to = MAX(from, MIN(size, to < 0 ? to + size : to));
    if (step < 1)
        return eval_refuse(err, node, "a step of %lld", (long long)step);
    ret->offset += from * ret->strides[dim];
    ret->sizes[dim] = (to - from) / step + ((to - from) % step != 0);
    if (ret->sizes[dim] > 1)
        ret->strides[dim] *= step;
    return 0;
}

static int run_slice(struct eval *e, const struct pt2_node *node, struct tensor *ret,
                     struct pt2_err *err)
{
    return self_of(e, node, ret, err) < 0 ? -1 : slice_of(e, node, ret, err);
}

static int run_narrow(struct eval *e, const struct pt2_node *node, struct tensor *ret,
                      struct pt2_err *err)
{
    int64_t from, length, size;
    unsigned dim;

    if (self_of(e, node, ret, err) < 0 || dim_of(node, "dim", 0, ret->n_dims, &dim, err) < 0 ||
        eval_arg_int(e, node, "start", 0, &from, err) < 0 ||
        eval_arg_int(e, node, "length", 0, &length, err) < 0)
        return -1;
    size = ret->sizes[dim];
    from += from < 0 ? size : 0;
    if (from < 0 || from > size || length < 0 || length > size - from)
        return eval_refuse(err, node, "%lld from %lld on of %lld", (long long)length,
                           (long long)from, (long long)size);
    ret->offset += from * ret->strides[dim];
    ret->sizes[dim] = length;
    return 0;
}

static int run_select(struct eval *e, const struct pt2_node *node, struct tensor *ret,
                      struct pt2_err *err)
{
    int64_t index;
    unsigned dim;

    if (self_of(e, node, ret, err) < 0 || dim_of(node, "dim", 0, ret->n_dims, &dim, err) < 0 ||
        eval_arg_int(e, node, "index", 0, &index, err) < 0)
        return -1;
    index += index < 0 ? ret->sizes[dim] : 0;
    if (index < 0 || index >= ret->sizes[dim])
        return eval_refuse(err, node, "index %lld of %lld", (long long)index,
                           (long long)ret->sizes[dim]);
    ret->offset += index * ret->strides[dim];
    drop_dim(ret, dim);
    return 0;
}

static int run_unsqueeze(struct eval *e, const struct pt2_node *node, struct tensor *ret,
                         struct pt2_err *err)
{
    struct tensor t;
    unsigned dim;

    if (self_of(e, node, &t, err) < 0 || t.n_dims == PT2_MAX_DIMS ||
        dim_of(node, "dim", 0, t.n_dims + 1, &dim, err) < 0)
        return eval_refuse(err, node, "dimensions");
    *ret = t;
    ret->n_dims++;
    for (unsigned d = dim + 1; d < ret->n_dims; d++) {
        ret->sizes[d] = t.sizes[d - 1];
        ret->strides[d] = t.strides[d - 1];
    }
    ret->strides[dim] = dim < t.n_dims ? t.sizes[dim] * t.strides[dim] : 1;
    ret->sizes[dim] = 1;
    return 0;
}

static int run_squeeze(struct eval *e, const struct pt2_node *node, struct tensor *ret,
                       struct pt2_err *err)
{
    int64_t dims[PT2_MAX_DIMS];
    bool all = !node_arg(node, "dim"), drop[PT2_MAX_DIMS] = {false};
    unsigned n = 0;

    if (self_of(e, node, ret, err) < 0 ||
        (!all && eval_arg_ints(e, node, "dim", dims, &n, err) < 0))
        return -1;
    for (unsigned i = 0; i < n; i++) {
        dims[i] += dims[i] < 0 ? ret->n_dims : 0;
        if (dims[i] < 0 || dims[i] >= ret->n_dims)
            return eval_refuse(err, node, "dimensions");
        drop[dims[i]] = true;
    }
    for (unsigned d = ret->n_dims; d-- > 0;)
        if (ret->sizes[d] == 1 && (all || drop[d]))
            drop_dim(ret, d);
    return 0;
}

/* split, chunk, unbind: several outputs side by side along a dimension. */
static int run_split(struct eval *e, const struct pt2_node *node, struct tensor *ret,
                     struct pt2_err *err)
{
    int64_t sizes[PT2_MAX_DIMS] = {0}, at = 0;
    bool each = node_is(node, "split_with_sizes"), chunks = node_is(node, "chunk");
    unsigned dim, n = 0, k = 0;
    struct tensor in;

    if (self_of(e, node, &in, err) < 0 || dim_of(node, "dim", 0, in.n_dims, &dim, err) < 0)
        return -1;
    if (eval_arg_ints(e, node, each ? "split_sizes" : chunks ? "chunks" : "split_size", sizes,
                      &n, err) < 0)
        return -1;
    if (chunks && sizes[0] > 0)
        sizes[0] = in.sizes[dim] / sizes[0] + (in.sizes[dim] % sizes[0] != 0);
    for (; node_out_at(node, k) >= 0; k++) {
        int64_t size = each && k < n ? sizes[k] : sizes[0];

        size = MIN(size, in.sizes[dim] - at);
        if (size < 1 || (each && k >= n))
            return eval_refuse(err, node, "parts that do not fit");
        ret[k] = in;
        ret[k].offset += at * in.strides[dim];
        ret[k].sizes[dim] = size;
        at += size;
    }
    return at == in.sizes[dim] ? 0 : eval_refuse(err, node, "parts that do not fit");
}

/* ---- copies ---- */

static int run_to(struct eval *e, const struct pt2_node *node, struct tensor *ret,
                  struct pt2_err *err)
{
    enum pt2_dtype dtype = eval_out_dtype(e, node);
    bool copy;
    struct tensor in;

    if (self_of(e, node, &in, err) < 0)
        return -1;
    if (!node_bool(node, "copy", node_is(node, "_to_copy"), &copy))
        return eval_refuse(err, node, "'copy' is no plain bool");
    if (in.storage->dtype == dtype && !copy) {
        *ret = in;
        return 0;
    }
    if (tensor_new(e, dtype, in.n_dims, in.sizes, ret, err) < 0)
        return -1;
    return tensor_copy(ret, &in, node, err);
}

static int run_clone(struct eval *e, const struct pt2_node *node, struct tensor *ret,
                     struct pt2_err *err)
{
    struct tensor in;

    if (self_of(e, node, &in, err) < 0)
        return -1;
    if (node_is(node, "contiguous") && tensor_is_contiguous(&in)) {
        *ret = in;
        return 0;
    }
    if (tensor_new(e, in.storage->dtype, in.n_dims, in.sizes, ret, err) < 0)
        return -1;
    return tensor_copy(ret, &in, node, err);
}

static int run_copy(struct eval *e, const struct pt2_node *node, struct tensor *ret,
                    struct pt2_err *err)
{
    struct tensor src;

    if (self_of(e, node, ret, err) < 0 ||
        eval_arg(e, node, node_arg(node, "src") ? "src" : "value", &src, err) < 0)
        return -1;
    e->work += (uint64_t)tensor_n(ret);
    return tensor_copy(ret, &src, node, err);
}

/* copy, slice_scatter: what copy_ and a slice of self would leave in it, and self as it was */
static int run_copy_apart(struct eval *e, const struct pt2_node *node, struct tensor *ret,
                          struct pt2_err *err)
{
    struct tensor self, src, part;

    if (self_of(e, node, &self, err) < 0 || eval_arg(e, node, "src", &src, err) < 0 ||
        tensor_new(e, self.storage->dtype, self.n_dims, self.sizes, ret, err) < 0 ||
        tensor_copy(ret, &self, node, err) < 0)
        return -1;
    part = *ret;
    if (node_is(node, "slice_scatter") && slice_of(e, node, &part, err) < 0)
        return -1;
    return tensor_copy(&part, &src, node, err);
}

/* triu, tril: zeros below or above a diagonal of the last two dimensions */
static int run_triangle(struct eval *e, const struct pt2_node *node, struct tensor *ret,
                        struct pt2_err *err)
{
    bool is_upper = node_is(node, "triu");
    struct tensor in, zero, part;
    int64_t diagonal, columns;
    unsigned n;

    if (self_of(e, node, &in, err) < 0 ||
        eval_arg_int(e, node, "diagonal", 0, &diagonal, err) < 0 ||
        tensor_new(e, in.storage->dtype, in.n_dims, in.sizes, ret, err) < 0 ||
        tensor_copy(ret, &in, node, err) < 0 ||
        tensor_number(e, PT2_INT64, 0, 0, &zero, err) < 0)
        return -1;
    n = in.n_dims;
    if (n < 2)
        return eval_refuse(err, node, "%u dimensions", n);
    columns = in.sizes[n - 1];
    if (diagonal < -EVAL_MAX_ELEMENTS || diagonal > EVAL_MAX_ELEMENTS)
        return eval_refuse(err, node, "diagonal %lld", (long long)diagonal);
    for (int64_t i = 0; i < in.sizes[n - 2]; i++) { /* a row of each matrix */
        int64_t first = MAX(0, MIN(columns, i + diagonal + !is_upper));

        part = *ret;
        part.offset += i * part.strides[n - 2] + (is_upper ? 0 : first * part.strides[n - 1]);
        part.sizes[n - 2] = 1;
        part.sizes[n - 1] = is_upper ? first : columns - first;
        if (tensor_copy(&part, &zero, node, err) < 0)
            return -1;
    }
    return 0;
}

static int run_item(struct eval *e, const struct pt2_node *node, struct tensor *ret,
                    struct pt2_err *err)
{
    struct tensor in;

    if (self_of(e, node, &in, err) < 0)
        return -1;
    if (tensor_n(&in) != 1)
        return eval_refuse(err, node, "%lld elements", (long long)tensor_n(&in));
    return tensor_number(e, in.storage->dtype, tensor_f(&in, in.offset),
                         tensor_i(&in, in.offset), ret, err);
}

eval_fn *eval_shape_find(const char *op)
{
    static const struct {
        const char *op;
        eval_fn *fn;
    } fns[] = {
        {"alias", run_same}, {"detach", run_same}, {"detach_", run_same},
        {"dropout", run_same}, {"lift", run_same}, {"view", run_view}, {"reshape", run_view},
        {"_unsafe_view", run_view}, {"flatten", run_flatten}, {"expand", run_expand},
        {"expand_as", run_expand}, {"broadcast_to", run_expand},
        {"transpose", run_transpose}, {"t", run_transpose},
        {"numpy_T", run_transpose},
        {"permute", run_permute}, {"slice", run_slice}, {"select", run_select},
        {"narrow", run_narrow},
        {"unsqueeze", run_unsqueeze}, {"squeeze", run_squeeze}, {"split", run_split},
        {"split_with_sizes", run_split}, {"chunk", run_split}, {"to", run_to},
        {"_to_copy", run_to}, {"type_as", run_to}, {"clone", run_clone},
        {"contiguous", run_clone}, {"lift_fresh_copy", run_clone}, {"copy_", run_copy},
        {"fill_", run_copy}, {"copy", run_copy_apart}, {"slice_scatter", run_copy_apart},
        {"triu", run_triangle}, {"tril", run_triangle},
        {"item", run_item}, {"_local_scalar_dense", run_item},
    };

    for (size_t i = 0; i < ARRAY_LEN(fns); i++)
        if (streq(fns[i].op, op))
            return fns[i].fn;
    return NULL;
}
