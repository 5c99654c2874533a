/* What makes tensors of numbers, or puts elements together. */
#include "native/eval_impl.h"

#include <math.h>

static int refuse_dims(struct pt2_err *err, const struct pt2_node *node)
{
    return eval_refuse(err, node, "dimensions that do not fit");
}

/* ---- numbers ---- */

static int run_arange(struct eval *e, const struct pt2_node *node, struct tensor *ret,
                      struct pt2_err *err)
{
    int64_t from, to, step, n;

    if (eval_arg_int(e, node, "start", 0, &from, err) < 0 ||
        eval_arg_int(e, node, "end", 0, &to, err) < 0 ||
        eval_arg_int(e, node, "step", 1, &step, err) < 0)
        return -1;
    if (step < 1 || to < from || __builtin_sub_overflow(to, from, &n) ||
        n > EVAL_MAX_ELEMENTS)
        return eval_refuse(err, node, "from %lld to %lld", (long long)from, (long long)to);
    n = n / step + (n % step != 0);
    if (tensor_new(e, eval_out_dtype(e, node), 1, &n, ret, err) < 0)
        return -1;
    for (int64_t i = 0; i < n; i++)
        if (tensor_is_float(ret))
            ret->storage->f[i] = tensor_round(ret->storage->dtype, (float)(from + i * step));
        else if (ret->storage->dtype == PT2_BOOL)
            return eval_refuse(err, node, "a range of bools");
        else
            ret->storage->i[i] = from + i * step;
    return 0;
}

/* full, zeros, ones, scalar_tensor, and the same as new_ and _like */
static int run_full(struct eval *e, const struct pt2_node *node, struct tensor *ret,
                    struct pt2_err *err)
{
    struct node_op op = node_op(node);
    int64_t sizes[PT2_MAX_DIMS], out = node_out(node);
    unsigned n_dims = 0;
    struct tensor number;
    const char *value = node_arg(node, "fill_value") ? "fill_value"
                        : node_arg(node, "s")        ? "s"
                                                     : NULL;

    if (out < 0)
        return eval_refuse(err, node, "several outputs");
    if (value) {
        if (eval_arg(e, node, value, &number, err) < 0)
            return -1;
    } else if (tensor_number(e, PT2_INT64, 0, strstr(op.name, "ones") != NULL, &number,
                             err) < 0) {
        return -1;
    }
    if (node_arg(node, "size")) {
        if (eval_arg_ints(e, node, "size", sizes, &n_dims, err) < 0)
            return -1;
    } else if (!streq(op.name, "scalar_tensor")) {
        if (eval_meta_sizes(e, (uint32_t)out, sizes, err) < 0)
            return -1;
        n_dims = pt2_program_value(e->program, (uint32_t)out)->meta.n_dims;
    }
    if (tensor_new(e, eval_out_dtype(e, node), n_dims, sizes, ret, err) < 0)
        return -1;
    return tensor_copy(ret, &number, node, err);
}

/* The length of the run, where that is what the size is; or a number. */
static int run_sym_size(struct eval *e, const struct pt2_node *node, struct tensor *ret,
                        struct pt2_err *err)
{
    int64_t self = node_value(node, "self"), sizes[PT2_MAX_DIMS];
    unsigned dim;

    if (self < 0 ||
        !node_dim(node, "dim", 0, pt2_program_value(e->program, (uint32_t)self)->meta.n_dims,
                  &dim))
        return refuse_dims(err, node);
    if (eval_meta_sizes(e, (uint32_t)self, sizes, err) < 0)
        return -1;
    return tensor_number(e, PT2_INT64, 0, sizes[dim], ret, err);
}

/* ---- parts put together ---- */

static int run_cat(struct eval *e, const struct pt2_node *node, struct tensor *ret,
                   struct pt2_err *err)
{
    const struct pt2_arg *list = node_arg(node, "tensors");
    bool stacks = node_is(node, "stack");
    int64_t sizes[PT2_MAX_DIMS], total = 0;
    unsigned dim = 0, n_dims = 0;
    struct tensor part, in;

    if (!list || list->kind != PT2_ARG_TENSORS || list->list.n == 0)
        return eval_refuse(err, node, "no tensors");
    for (int pass = 0; pass < 2; pass++) {
        int64_t at = 0;

        for (uint32_t i = 0; i < list->list.n; i++) {
            struct pt2_named_arg self = {"self", list->list.items[i], 1};
            struct pt2_node one = {.inputs = &self, .n_inputs = 1, .name = node->name,
                                   .target = node->target};

            if (eval_arg(e, &one, "self", &in, err) < 0)
                return -1;
            if (i == 0 && pass == 0) {
                n_dims = in.n_dims + stacks;
                if (n_dims > PT2_MAX_DIMS || !node_dim(node, "dim", 0, n_dims, &dim))
                    return refuse_dims(err, node);
            }
            if (in.n_dims + stacks != n_dims)
                return refuse_dims(err, node);
            if (stacks) {
                for (unsigned d = in.n_dims; d > dim; d--) {
                    in.sizes[d] = in.sizes[d - 1];
                    in.strides[d] = in.strides[d - 1];
                }
                in.sizes[dim] = 1;
                in.n_dims++;
            }
            if (pass == 0) {
                memcpy(sizes, in.sizes, sizeof(sizes));
                total += in.sizes[dim];
                continue;
            }
            part = *ret;
            part.offset += at * ret->strides[dim];
            part.sizes[dim] = in.sizes[dim];
            at += in.sizes[dim];
            if (tensor_copy(&part, &in, node, err) < 0)
                return -1;
        }
        sizes[dim] = total;
        if (pass == 0 &&
            tensor_new(e, eval_out_dtype(e, node), n_dims, sizes, ret, err) < 0)
            return -1;
    }
    return 0;
}

/* Between tensors of one dtype. */
static void copy_element(struct tensor *out, int64_t to, const struct tensor *in,
                         int64_t from)
{
    if (tensor_is_float(out))
        out->storage->f[to] = in->storage->f[from];
    else if (out->storage->dtype == PT2_BOOL)
        out->storage->b[to] = in->storage->b[from];
    else
        out->storage->i[to] = in->storage->i[from];
}

/* out = the parts of in along dim that index names; index of any shape takes dim's place. */
static int take(struct eval *e, const struct pt2_node *node, const struct tensor *in,
                unsigned dim, const struct tensor *index, struct tensor *ret,
                struct pt2_err *err)
{
    int64_t sizes[PT2_MAX_DIMS], at[PT2_MAX_DIMS] = {0};
    unsigned n_dims = in->n_dims - 1 + index->n_dims;

    if (tensor_is_float(index) || index->storage->dtype == PT2_BOOL || n_dims > PT2_MAX_DIMS)
        return eval_refuse(err, node, "an index of another kind");
    for (unsigned d = 0; d < n_dims; d++)
        sizes[d] = d < dim                    ? in->sizes[d]
                   : d < dim + index->n_dims ? index->sizes[d - dim]
                                              : in->sizes[d - index->n_dims + 1];
    if (tensor_new(e, in->storage->dtype, n_dims, sizes, ret, err) < 0)
        return -1;
    if (tensor_n(ret) == 0)
        return 0;
    do {
        int64_t from = in->offset, to = tensor_at(ret, at),
                place = tensor_i(index, tensor_at(index, at + dim));

        place += place < 0 ? in->sizes[dim] : 0;
        if (place < 0 || place >= in->sizes[dim])
            return eval_refuse(err, node, "index %lld of %lld", (long long)place,
                               (long long)in->sizes[dim]);
        for (unsigned d = 0; d < in->n_dims; d++)
            from += in->strides[d] * (d < dim    ? at[d]
                                      : d == dim ? place
                                                 : at[d + index->n_dims - 1]);
        copy_element(ret, to, in, from);
    } while (tensor_next(n_dims, sizes, at));
    return 0;
}

static int run_index_select(struct eval *e, const struct pt2_node *node, struct tensor *ret,
                            struct pt2_err *err)
{
    bool embeds = node_is(node, "embedding");
    struct tensor in, index;
    unsigned dim = 0;

    if (eval_arg(e, node, embeds ? "weight" : "self", &in, err) < 0 ||
        eval_arg(e, node, embeds ? "indices" : "index", &index, err) < 0)
        return -1;
    if (in.n_dims == 0 || (!embeds && !node_dim(node, "dim", 0, in.n_dims, &dim)))
        return refuse_dims(err, node);
    return take(e, node, &in, dim, &index, ret, err);
}

/* out[i][j][k] = self[index[i][j][k]][j][k], where dim is 0 */
static int run_gather(struct eval *e, const struct pt2_node *node, struct tensor *ret,
                      struct pt2_err *err)
{
    int64_t at[PT2_MAX_DIMS] = {0}, to = 0;
    struct tensor in, index, out;
    unsigned dim;

    if (eval_arg(e, node, "self", &in, err) < 0 || eval_arg(e, node, "index", &index, err) < 0)
        return -1;
    if (in.n_dims == 0 || in.n_dims != index.n_dims ||
        !node_dim(node, "dim", 0, in.n_dims, &dim))
        return refuse_dims(err, node);
    if (tensor_is_float(&index) || index.storage->dtype == PT2_BOOL)
        return eval_refuse(err, node, "an index of another kind");
    for (unsigned d = 0; d < in.n_dims; d++)
        if (d != dim && index.sizes[d] > in.sizes[d])
            return refuse_dims(err, node);
    if (tensor_new(e, in.storage->dtype, index.n_dims, index.sizes, &out, err) < 0)
        return -1;
    do {
        int64_t from, place;

        if (tensor_n(&out) == 0)
            break;
        place = tensor_i(&index, tensor_at(&index, at));
        if (place < 0 || place >= in.sizes[dim])
            return eval_refuse(err, node, "index %lld of %lld", (long long)place,
                               (long long)in.sizes[dim]);
        from = tensor_at(&in, at) + (place - at[dim]) * in.strides[dim];
        copy_element(&out, to++, &in, from);
    } while (tensor_next(index.n_dims, index.sizes, at));
    *ret = out;
    return 0;
}

/* index.Tensor: one index alone, or several that broadcast, of the first dimensions */
static int run_index(struct eval *e, const struct pt2_node *node, struct tensor *ret,
                     struct pt2_err *err)
{
    const struct pt2_arg *list = node_list(node, "indices");
    struct tensor in, index[PT2_MAX_DIMS], flat, places;
    int64_t sizes[PT2_MAX_DIMS], at[PT2_MAX_DIMS] = {0}, inner[PT2_MAX_DIMS], outer = 1;
    unsigned n = 0, first = 0, n_dims, n_inner = 1;

    if (!list || list->list.n > PT2_MAX_DIMS || eval_arg(e, node, "self", &in, err) < 0 ||
        list->list.n > in.n_dims)
        return refuse_dims(err, node);
    for (uint32_t i = 0; i < list->list.n; i++) {
        struct pt2_named_arg self = {"self", list->list.items[i], 1};
        struct pt2_node one = {.inputs = &self, .n_inputs = 1, .name = node->name,
                               .target = node->target};

        if (self.arg.kind != PT2_ARG_TENSOR)
            continue;
        first = n ? first : i;
        if (n && first + n != i)
            return eval_refuse(err, node, "indices that are apart");
        if (eval_arg(e, &one, "self", &index[n], err) < 0)
            return -1;
        if (tensor_is_float(&index[n]) || index[n].storage->dtype == PT2_BOOL)
            return eval_refuse(err, node, "an index of another kind");
        n++;
    }
    if (n == 0)
        return refuse_dims(err, node);
    if (n == 1)
        return take(e, node, &in, first, &index[0], ret, err);
    if (first != 0)
        return eval_refuse(err, node, "several indices behind a whole dimension");
    /* The indexed dimensions as one, and one index into it. */
    if (tensor_broadcast(index, n, &n_dims, sizes, node, err) < 0 ||
        tensor_new(e, PT2_INT64, n_dims, sizes, &places, err) < 0)
        return -1;
    for (unsigned i = 0; i < n; i++) {
        if (tensor_expand(&index[i], n_dims, sizes, &index[i], node, err) < 0)
            return -1;
        outer *= in.sizes[i];
    }
    do {
        int64_t place = 0;

        for (unsigned i = 0; i < n; i++) {
            int64_t k = tensor_i(&index[i], tensor_at(&index[i], at));

            k += k < 0 ? in.sizes[i] : 0;
            if (k < 0 || k >= in.sizes[i])
                return eval_refuse(err, node, "an index beyond its dimension");
            place = place * in.sizes[i] + k;
        }
        places.storage->i[tensor_at(&places, at)] = place;
    } while (tensor_n(&places) && tensor_next(n_dims, sizes, at));
    inner[0] = outer;
    for (unsigned d = n; d < in.n_dims; d++)
        inner[n_inner++] = in.sizes[d];
    if (tensor_reshape(e, &in, n_inner, inner, &flat, node, err) < 0)
        return -1;
    return take(e, node, &flat, 0, &places, ret, err);
}

static int run_repeat(struct eval *e, const struct pt2_node *node, struct tensor *ret,
                      struct pt2_err *err)
{
    int64_t times[PT2_MAX_DIMS], sizes[PT2_MAX_DIMS], at[PT2_MAX_DIMS] = {0};
    struct tensor in, part;
    unsigned n;

    if (eval_arg(e, node, "self", &in, err) < 0 ||
        eval_arg_ints(e, node, "repeats", times, &n, err) < 0)
        return -1;
    if (n < in.n_dims)
        return refuse_dims(err, node);
    for (unsigned d = 0; d < n; d++) {
        unsigned from = d - (n - in.n_dims);

        if (times[d] < 1 || times[d] > EVAL_MAX_ELEMENTS)
            return eval_refuse(err, node, "repeated %lld times", (long long)times[d]);
        sizes[d] = times[d] * (d < n - in.n_dims ? 1 : in.sizes[from]);
    }
    if (tensor_new(e, in.storage->dtype, n, sizes, ret, err) < 0)
        return -1;
    do { /* a copy of the whole at each place */
        part = *ret;
        for (unsigned d = 0; d < n; d++) {
            part.sizes[d] = d < n - in.n_dims ? 1 : in.sizes[d - (n - in.n_dims)];
            part.offset += at[d] * part.sizes[d] * ret->strides[d];
        }
        if (tensor_copy(&part, &in, node, err) < 0)
            return -1;
    } while (tensor_next(n, times, at));
    return 0;
}

static int run_repeat_interleave(struct eval *e, const struct pt2_node *node,
                                 struct tensor *ret, struct pt2_err *err)
{
    int64_t times, sizes[PT2_MAX_DIMS];
    struct tensor in;
    unsigned dim;

    if (eval_arg(e, node, "self", &in, err) < 0 ||
        eval_arg_int(e, node, "repeats", 0, &times, err) < 0)
        return -1;
    if (times < 1 || times > EVAL_MAX_ELEMENTS || in.n_dims == PT2_MAX_DIMS || !node_arg(node, "dim") ||
        !node_dim(node, "dim", 0, in.n_dims, &dim))
        return refuse_dims(err, node);
    for (unsigned d = in.n_dims; d > dim + 1; d--) {
        in.sizes[d] = in.sizes[d - 1];
        in.strides[d] = in.strides[d - 1];
    }
    in.n_dims++;
    in.sizes[dim + 1] = times;
    in.strides[dim + 1] = 0;
    for (unsigned d = 0, k = 0; d < in.n_dims; d++)
        if (d == dim + 1)
            sizes[k - 1] *= times;
        else
            sizes[k++] = in.sizes[d];
    return tensor_reshape(e, &in, in.n_dims - 1, sizes, ret, node, err);
}

/* ---- sums ---- */

static int run_cumsum(struct eval *e, const struct pt2_node *node, struct tensor *ret,
                      struct pt2_err *err)
{
    int64_t at[PT2_MAX_DIMS] = {0}, outer[PT2_MAX_DIMS];
    struct tensor in;
    unsigned dim;

    if (eval_arg(e, node, "self", &in, err) < 0)
        return -1;
    if (in.n_dims == 0 || !node_dim(node, "dim", 0, in.n_dims, &dim) || tensor_n(&in) == 0)
        return refuse_dims(err, node);
    if (eval_out_dtype(e, node) != PT2_INT64)
        return eval_refuse(err, node, "a sum that is not of whole numbers");
    if (tensor_new(e, PT2_INT64, in.n_dims, in.sizes, ret, err) < 0)
        return -1;
    memcpy(outer, in.sizes, sizeof(outer));
    outer[dim] = 1;
    do {
        int64_t from = tensor_at(&in, at), to = tensor_at(ret, at);
        uint64_t sum = 0;

        for (int64_t k = 0; k < in.sizes[dim]; k++) {
            sum += (uint64_t)tensor_i(&in, from + k * in.strides[dim]);
            ret->storage->i[to + k * ret->strides[dim]] = (int64_t)sum;
        }
    } while (tensor_next(in.n_dims, outer, at));
    return 0;
}

/* max, min, sum, any, all over everything, of whole numbers */
static int run_reduce(struct eval *e, const struct pt2_node *node, struct tensor *ret,
                      struct pt2_err *err)
{
    struct node_op op = node_op(node);
    int64_t at[PT2_MAX_DIMS] = {0}, result;
    struct tensor in;

    if (eval_arg(e, node, "self", &in, err) < 0)
        return -1;
    if (node_arg(node, "dim") || node_arg(node, "other") || tensor_n(&in) == 0 ||
        tensor_is_float(&in))
        return eval_refuse(err, node, "over a dimension, or of floats");
    e->work += (uint64_t)tensor_n(&in);
    result = streq(op.name, "sum") || streq(op.name, "any")
                 ? 0
                 : tensor_i(&in, in.offset);
    do {
        int64_t x = tensor_i(&in, tensor_at(&in, at));

        result = streq(op.name, "max")   ? MAX(result, x)
                 : streq(op.name, "min") ? MIN(result, x)
                 : streq(op.name, "sum") ? (int64_t)((uint64_t)result + (uint64_t)x)
                 : streq(op.name, "any") ? result || x
                                         : result && x;
    } while (tensor_next(in.n_dims, in.sizes, at));
    return tensor_number(e, eval_out_dtype(e, node), 0, result, ret, err);
}

static int run_matmul(struct eval *e, const struct pt2_node *node, struct tensor *ret,
                      struct pt2_err *err)
{
    struct tensor ins[2], batch[2];
    int64_t sizes[PT2_MAX_DIMS], at[PT2_MAX_DIMS] = {0}, k;
    unsigned n;

    for (unsigned i = 0; i < 2; i++) {
        const char *second = node_arg(node, "mat2") ? "mat2" : "other";

        if (eval_arg(e, node, i ? second : "self", &ins[i], err) < 0)
            return -1;
        if (ins[i].n_dims < 2 || !tensor_is_float(&ins[i]))
            return refuse_dims(err, node);
        batch[i] = ins[i];
        batch[i].n_dims -= 2;
    }
    k = ins[0].sizes[ins[0].n_dims - 1];
    if (k != ins[1].sizes[ins[1].n_dims - 2] ||
        tensor_broadcast(batch, 2, &n, sizes, node, err) < 0)
        return refuse_dims(err, node);
    for (unsigned i = 0; i < 2; i++) {
        unsigned last = ins[i].n_dims - 2;
        struct tensor wide;

        if (tensor_expand(&batch[i], n, sizes, &wide, node, err) < 0)
            return -1;
        memcpy(&wide.sizes[n], &ins[i].sizes[last], 2 * sizeof(*sizes));
        memcpy(&wide.strides[n], &ins[i].strides[last], 2 * sizeof(*sizes));
        wide.n_dims = n + 2;
        ins[i] = wide;
    }
    sizes[n] = ins[0].sizes[n];
    sizes[n + 1] = ins[1].sizes[n + 1];
    if (tensor_new(e, eval_out_dtype(e, node), n + 2, sizes, ret, err) < 0)
        return -1;
    if (!tensor_is_float(ret))
        return eval_refuse(err, node, "a product that is no float");
    if (tensor_n(ret) == 0)
        return 0;
    e->work += (uint64_t)tensor_n(ret) * (uint64_t)k;
    if (e->work > EVAL_MAX_WORK)
        return eval_refuse(err, node, "takes too long");
    do {
        int64_t column = at[n + 1], row = at[n], a, b, to = tensor_at(ret, at);
        float sum = 0;

        at[n + 1] = 0;
        a = tensor_at(&ins[0], at);
        at[n] = 0;
        at[n + 1] = column;
        b = tensor_at(&ins[1], at);
        at[n] = row;
        for (int64_t i = 0; i < k; i++)
            sum = fmaf(tensor_f(&ins[0], a + i * ins[0].strides[n + 1]),
                       tensor_f(&ins[1], b + i * ins[1].strides[n]), sum);
        ret->storage->f[to] = tensor_round(ret->storage->dtype, sum);
    } while (tensor_next(n + 2, sizes, at));
    return 0;
}

eval_fn *eval_make_find(const char *op)
{
    static const struct {
        const char *op;
        eval_fn *fn;
    } fns[] = {
        {"arange", run_arange}, {"full", run_full}, {"zeros", run_full}, {"ones", run_full},
        {"full_like", run_full}, {"zeros_like", run_full}, {"ones_like", run_full},
        {"new_full", run_full}, {"new_zeros", run_full}, {"new_ones", run_full},
        {"scalar_tensor", run_full}, {"sym_size", run_sym_size}, {"cat", run_cat},
        {"stack", run_cat}, {"index_select", run_index_select},
        {"embedding", run_index_select}, {"gather", run_gather}, {"index", run_index},
        {"repeat", run_repeat},
        {"repeat_interleave", run_repeat_interleave}, {"cumsum", run_cumsum},
        {"max", run_reduce}, {"min", run_reduce}, {"sum", run_reduce}, {"any", run_reduce},
        {"all", run_reduce}, {"matmul", run_matmul}, {"bmm", run_matmul}, {"mm", run_matmul},
    };

    for (size_t i = 0; i < ARRAY_LEN(fns); i++)
        if (streq(fns[i].op, op))
            return fns[i].fn;
    return NULL;
}
