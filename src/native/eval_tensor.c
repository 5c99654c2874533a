#include "native/eval_impl.h"

#include "base/half.h"

int64_t tensor_n(const struct tensor *t)
{
    int64_t n = 1;

    for (unsigned d = 0; d < t->n_dims; d++)
        n *= t->sizes[d];
    return n;
}

bool tensor_is_float(const struct tensor *t)
{
    return pt2_dtype_is_float(t->storage->dtype);
}

bool tensor_is_contiguous(const struct tensor *t)
{
    int64_t stride = 1;

    for (unsigned d = t->n_dims; d-- > 0;) {
        if (t->sizes[d] != 1 && t->strides[d] != stride)
            return false;
        stride *= t->sizes[d];
    }
    return true;
}

float tensor_round(enum pt2_dtype dtype, float f)
{
    if (dtype == PT2_BFLOAT16)
        return bf16_to_float(bf16_of_float(f));
    if (dtype == PT2_FLOAT16)
        return f16_to_float(f16_of_float(f));
    return f;
}

float tensor_f(const struct tensor *t, int64_t at)
{
    const struct storage *s = t->storage;

    if (pt2_dtype_is_float(s->dtype))
        return s->f[at];
    return s->dtype == PT2_BOOL ? (float)s->b[at] : (float)s->i[at];
}

static int64_t whole(float f) /* what does not fit is as torch has it: anything */
{
    return f > -9e18f && f < 9e18f ? (int64_t)f : INT64_MIN;
}

int64_t tensor_i(const struct tensor *t, int64_t at)
{
    const struct storage *s = t->storage;

    if (pt2_dtype_is_float(s->dtype))
        return whole(s->f[at]);
    return s->dtype == PT2_BOOL ? s->b[at] : s->i[at];
}

bool tensor_next(unsigned n_dims, const int64_t *sizes, int64_t *at)
{
    for (unsigned d = n_dims; d-- > 0;) {
        if (++at[d] < sizes[d])
            return true;
        at[d] = 0;
    }
    return false;
}

int64_t tensor_at(const struct tensor *t, const int64_t *at)
{
    int64_t place = t->offset;

    for (unsigned d = 0; d < t->n_dims; d++)
        place += at[d] * t->strides[d];
    return place;
}

/* ---- making ---- */

static void set_contiguous(struct tensor *t)
{
    int64_t stride = 1;

    t->offset = 0;
    for (unsigned d = t->n_dims; d-- > 0;) {
        t->strides[d] = stride;
        stride *= t->sizes[d];
    }
}

static int count_bytes(struct eval *e, uint64_t bytes, struct pt2_err *err)
{
    uint64_t *sum = e->memory == &e->memory_run ? &e->bytes_run : &e->bytes_always;

    if (bytes >= EVAL_MAX_BYTES - *sum)
        return pt2_err_set(err, PT2_ERR_LIMIT,
                           "to evaluate the program takes more than %llu bytes",
                           (unsigned long long)EVAL_MAX_BYTES);
    *sum += bytes;
    e->work += bytes / sizeof(float);
    return 0;
}

/* Products of any of a tensor's sizes fit, also where one of them is 0. */
static int check_sizes(unsigned n_dims, const int64_t *sizes, struct pt2_err *err)
{
    int64_t n = 1;

    for (unsigned d = 0; d < n_dims; d++)
        if (sizes[d] < 0 || __builtin_mul_overflow(n, MAX(sizes[d], 1), &n) ||
            n > EVAL_MAX_ELEMENTS)
            return pt2_err_set(err, PT2_ERR_LIMIT,
                               "a tensor of more than %lld elements is not evaluated",
                               (long long)EVAL_MAX_ELEMENTS);
    return 0;
}

int tensor_new(struct eval *eval, enum pt2_dtype dtype, unsigned n_dims, const int64_t *sizes,
               struct tensor *ret, struct pt2_err *err)
{
    struct tensor t = {.n_dims = n_dims};
    size_t bytes = dtype == PT2_BOOL               ? 1
                   : pt2_dtype_is_float(dtype) ? sizeof(float)
                                               : sizeof(int64_t);
    int64_t n = 1;

    if (dtype == PT2_FLOAT64 || dtype == PT2_DTYPE_NONE)
        return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED, "a %s tensor is not evaluated",
                           pt2_dtype_name(dtype));
    if (check_sizes(n_dims, sizes, err) < 0)
        return -1;
    for (unsigned d = 0; d < n_dims; d++) {
        t.sizes[d] = sizes[d];
        n *= sizes[d];
    }
    if (count_bytes(eval, (uint64_t)n * bytes, err) < 0)
        return -1;
    t.storage = arena_alloc(eval->memory, sizeof(*t.storage));
    if (t.storage)
        t.storage->b = arena_alloc(eval->memory, MAX((size_t)n, 1) * bytes);
    if (!t.storage || !t.storage->b)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a tensor of %lld elements", (long long)n);
    t.storage->dtype = dtype;
    t.storage->n = n;
    set_contiguous(&t);
    *ret = t;
    return 0;
}

int tensor_number(struct eval *eval, enum pt2_dtype dtype, double f, int64_t i,
                  struct tensor *ret, struct pt2_err *err)
{
    if (tensor_new(eval, dtype, 0, NULL, ret, err) < 0)
        return -1;
    if (pt2_dtype_is_float(dtype))
        ret->storage->f[0] = tensor_round(dtype, (float)f);
    else if (dtype == PT2_BOOL)
        ret->storage->b[0] = i != 0;
    else
        ret->storage->i[0] = i;
    return 0;
}

static float load_float(enum pt2_dtype dtype, const uint8_t *from)
{
    uint16_t half;
    float f;

    if (dtype == PT2_FLOAT32) {
        memcpy(&f, from, sizeof(f));
        return f;
    }
    memcpy(&half, from, sizeof(half));
    return dtype == PT2_BFLOAT16 ? bf16_to_float(half) : f16_to_float(half);
}

static int64_t load_int(enum pt2_dtype dtype, const uint8_t *from)
{
    int64_t i64;
    int32_t i32;
    int16_t i16;

    switch (dtype) {
    case PT2_INT64:
        memcpy(&i64, from, sizeof(i64));
        return i64;
    case PT2_INT32:
        memcpy(&i32, from, sizeof(i32));
        return i32;
    case PT2_INT16:
        memcpy(&i16, from, sizeof(i16));
        return i16;
    case PT2_INT8:
        return (int8_t)*from;
    default:
        return *from;
    }
}

static void load_element(struct tensor *t, int64_t to, const uint8_t *from)
{
    enum pt2_dtype dtype = t->storage->dtype;

    if (pt2_dtype_is_float(dtype))
        t->storage->f[to] = load_float(dtype, from);
    else if (dtype == PT2_BOOL)
        t->storage->b[to] = *from != 0;
    else
        t->storage->i[to] = load_int(dtype, from);
}

int tensor_load(struct eval *eval, const struct pt2_payload *p, struct tensor *ret,
                struct pt2_err *err)
{
    int64_t at[PT2_MAX_DIMS] = {0}, to = 0;
    AUTO_PTR void *copy = NULL;
    const uint8_t *data = NULL;
    size_t size, bytes = pt2_dtype_size(p->dtype);

    if (tensor_new(eval, p->dtype, p->n_dims, p->sizes, ret, err) < 0)
        return pt2_err_prefix(err, "'%s'", p->fqn);
    if (tensor_n(ret) == 0)
        return 0;
    if (!p->is_zeros) {
        data = pt2_archive_data(eval->archive, p->record);
        if (!data) {
            if (pt2_archive_read(eval->archive, p->record, SIZE_MAX, &copy, &size, err) < 0)
                return -1;
            data = copy;
        }
    }
    do {
        static const uint8_t zero[8];
        int64_t from = p->storage_offset;

        for (unsigned d = 0; d < p->n_dims; d++)
            from += at[d] * p->strides[d];
        load_element(ret, to++, data ? data + (size_t)from * bytes : zero);
    } while (tensor_next(p->n_dims, p->sizes, at));
    return 0;
}

/* ---- shapes ---- */

int tensor_expand(const struct tensor *in, unsigned n_dims, const int64_t *sizes,
                  struct tensor *ret, const struct pt2_node *node, struct pt2_err *err)
{
    struct tensor t = {.storage = in->storage, .n_dims = n_dims, .offset = in->offset};

    if (n_dims < in->n_dims || n_dims > PT2_MAX_DIMS)
        return eval_refuse(err, node, "%u dimensions become %u", in->n_dims, n_dims);
    for (unsigned d = 0; d < n_dims; d++) {
        int from = (int)d - (int)(n_dims - in->n_dims);

        t.sizes[d] = sizes[d];
        if (from < 0)
            continue;
        if (sizes[d] == -1 || sizes[d] == in->sizes[from]) {
            t.sizes[d] = in->sizes[from];
            t.strides[d] = in->strides[from];
        } else if (in->sizes[from] != 1) {
            return eval_refuse(err, node, "a size of %lld becomes %lld",
                               (long long)in->sizes[from], (long long)sizes[d]);
        }
    }
    if (check_sizes(n_dims, t.sizes, err) < 0)
        return -1;
    *ret = t;
    return 0;
}

int tensor_broadcast(const struct tensor *ins, unsigned n_ins, unsigned *ret_n_dims,
                     int64_t *ret_sizes, const struct pt2_node *node, struct pt2_err *err)
{
    unsigned n_dims = 0;

    for (unsigned i = 0; i < n_ins; i++)
        n_dims = MAX(n_dims, ins[i].n_dims);
    for (unsigned d = 0; d < n_dims; d++) {
        ret_sizes[d] = 1;
        for (unsigned i = 0; i < n_ins; i++) {
            int from = (int)d - (int)(n_dims - ins[i].n_dims);
            int64_t size = from < 0 ? 1 : ins[i].sizes[from];

            if (size != 1 && ret_sizes[d] != 1 && ret_sizes[d] != size)
                return eval_refuse(err, node, "sizes %lld and %lld", (long long)ret_sizes[d],
                                   (long long)size);
            ret_sizes[d] = size != 1 ? size : ret_sizes[d];
        }
    }
    *ret_n_dims = n_dims;
    return 0;
}

/* Strides for new sizes over the same elements, as torch's computeStride finds them: each
 * stretch of dimensions that lie one in the other takes new ones of the same product. */
static bool view_strides(const struct tensor *in, unsigned n_dims, const int64_t *sizes,
                         int64_t *strides)
{
    int d = (int)n_dims - 1;
    int64_t n = 1, view_n = 1, base;

    if (in->n_dims == 0) {
        for (unsigned k = 0; k < n_dims; k++)
            strides[k] = 1;
        return true;
    }
    base = in->strides[in->n_dims - 1];
    for (int k = (int)in->n_dims - 1; k >= 0; k--) {
        n *= in->sizes[k];
        if (k > 0 && (in->sizes[k - 1] == 1 || in->strides[k - 1] == n * base))
            continue;
        while (d >= 0 && (view_n < n || sizes[d] == 1)) {
            strides[d] = view_n * base;
            view_n *= sizes[d--];
        }
        if (view_n != n)
            return false;
        if (k > 0) {
            base = in->strides[k - 1];
            n = view_n = 1;
        }
    }
    return d == -1;
}

int tensor_reshape(struct eval *eval, const struct tensor *in, unsigned n_dims,
                   const int64_t *sizes, struct tensor *ret, const struct pt2_node *node,
                   struct pt2_err *err)
{
    struct tensor t = {.storage = in->storage, .n_dims = n_dims, .offset = in->offset};
    struct tensor whole;

    if (check_sizes(n_dims, sizes, err) < 0)
        return -1;
    memcpy(t.sizes, sizes, n_dims * sizeof(*sizes));
    if (tensor_n(&t) != tensor_n(in))
        return eval_refuse(err, node, "%lld elements become %lld", (long long)tensor_n(in),
                           (long long)tensor_n(&t));
    if (tensor_n(in) > 0 && view_strides(in, n_dims, sizes, t.strides)) {
        *ret = t;
        return 0;
    }
    if (tensor_new(eval, in->storage->dtype, in->n_dims, in->sizes, &whole, err) < 0 ||
        tensor_copy(&whole, in, node, err) < 0)
        return -1;
    t.storage = whole.storage;
    set_contiguous(&t);
    *ret = t;
    return 0;
}

/* ---- elements ---- */

/* n elements of a storage, stride apart, as those of a line. */
#define FILL(to, from)                                                                    \
    for (size_t k = 0; k < n; k++, at += stride)                                          \
        (to)[k] = (__typeof__(*(to)))(from)[at]

static void read_line(const struct tensor *t, int64_t at, int64_t stride, size_t n,
                      struct line *line)
{
    const struct storage *s = t->storage;
    bool is_float = pt2_dtype_is_float(s->dtype);

    if (stride == 1 && s->dtype != PT2_BOOL && is_float != line->is_int) {
        if (is_float)
            memcpy(line->f, s->f + at, n * sizeof(*s->f));
        else
            memcpy(line->i, s->i + at, n * sizeof(*s->i));
    } else if (is_float) {
        if (line->is_int)
            for (size_t k = 0; k < n; k++, at += stride)
                line->i[k] = tensor_i(t, at);
        else
            FILL(line->f, s->f);
    } else if (s->dtype == PT2_BOOL) {
        if (line->is_int)
            FILL(line->i, s->b);
        else
            FILL(line->f, s->b);
    } else {
        if (line->is_int)
            FILL(line->i, s->i);
        else
            FILL(line->f, s->i);
    }
}

static void write_line(const struct tensor *t, int64_t at, int64_t stride, size_t n,
                       const struct line *line)
{
    struct storage *s = t->storage;

    if (s->dtype == PT2_FLOAT32 && !line->is_int && stride == 1) {
        memcpy(s->f + at, line->f, n * sizeof(*s->f));
    } else if (s->dtype == PT2_INT64 && line->is_int && stride == 1) {
        memcpy(s->i + at, line->i, n * sizeof(*s->i));
    } else if (pt2_dtype_is_float(s->dtype)) {
        for (size_t k = 0; k < n; k++, at += stride)
            s->f[at] = tensor_round(s->dtype, line->is_int ? (float)line->i[k] : line->f[k]);
    } else if (s->dtype == PT2_BOOL) {
        for (size_t k = 0; k < n; k++, at += stride)
            s->b[at] = line->is_int ? line->i[k] != 0 : line->f[k] != 0;
    } else {
        for (size_t k = 0; k < n; k++, at += stride)
            s->i[at] = line->is_int ? line->i[k] : whole(line->f[k]);
    }
}

int tensor_map(struct tensor *out, bool out_is_int, const struct tensor *ins,
               const bool *as_int, unsigned n_ins, line_fn *fn, const void *context,
               const struct pt2_node *node, struct pt2_err *err)
{
    struct tensor wide[LINE_MAX_INS];
    struct line in[LINE_MAX_INS], result = {.is_int = out_is_int};
    int64_t at[PT2_MAX_DIMS] = {0}, n = out->n_dims ? out->sizes[out->n_dims - 1] : 1;
    unsigned outer = out->n_dims ? out->n_dims - 1 : 0;

    for (unsigned i = 0; i < n_ins; i++) {
        if (tensor_expand(&ins[i], out->n_dims, out->sizes, &wide[i], node, err) < 0)
            return -1;
        in[i].is_int = as_int[i];
    }
    if (tensor_n(out) == 0)
        return 0;
    do {
        for (int64_t from = 0; from < n; from += LINE_MAX) {
            size_t count = (size_t)MIN(n - from, LINE_MAX);
            int64_t stride = out->n_dims ? out->strides[outer] : 0;

            for (unsigned i = 0; i < n_ins; i++) {
                int64_t step = out->n_dims ? wide[i].strides[outer] : 0;

                read_line(&wide[i], tensor_at(&wide[i], at) + from * step, step, count,
                          &in[i]);
            }
            fn(context, in, count, &result);
            write_line(out, tensor_at(out, at) + from * stride, stride, count, &result);
        }
    } while (tensor_next(outer, out->sizes, at));
    return 0;
}

static void same_line(const void *context, struct line *in, size_t n, struct line *out)
{
    (void)context;
    if (in->is_int)
        memcpy(out->i, in->i, n * sizeof(*in->i));
    else
        memcpy(out->f, in->f, n * sizeof(*in->f));
}

int tensor_copy(struct tensor *out, const struct tensor *in, const struct pt2_node *node,
                struct pt2_err *err)
{
    bool is_int = !tensor_is_float(in);

    return tensor_map(out, is_int, in, &is_int, 1, same_line, NULL, node, err);
}
