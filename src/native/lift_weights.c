#include "native/lift.h"

#include <math.h>

#define MAX_MADE (UINT64_C(1) << 30) /* bytes, of a matrix that is not as it lies in the file */

/* ---- matrices ---- */

/* What a value is through views and conversions that lose nothing: an input, or not. */
struct source {
    uint32_t value;
    bool is_turned; /* transposed */
};

static bool loses_nothing(enum pt2_dtype from, enum pt2_dtype to)
{
    return from == to || to == PT2_FLOAT32;
}

/* Does the op turn a matrix, or each of several? */
static bool turns_matrices(const struct pt2_node *node, const struct node_op *op, unsigned n)
{
    const struct pt2_arg *dims;
    unsigned a, b;

    if (streq(op->name, "transpose"))
        return n >= 2 && n <= 3 && node_dim(node, "dim0", 0, n, &a) &&
               node_dim(node, "dim1", 0, n, &b) && a != b && a >= n - 2 && b >= n - 2;
    if (!streq(op->name, "permute"))
        return n == 2;
    dims = node_list(node, "dims");
    if (!dims || n < 2 || n > 3 || dims->list.n != n)
        return false;
    for (unsigned d = 0; d < n; d++) {
        int64_t want = d < n - 2 ? d : d == n - 2 ? n - 1 : n - 2;
        const struct pt2_arg *item = &dims->list.items[d];

        if (item->kind != PT2_ARG_INT || (item->i < 0 ? item->i + n : item->i) != want)
            return false;
    }
    return true;
}

static struct source source_of(const struct lift *l, uint32_t value)
{
    struct source s = {value, false};

    for (;;) {
        const struct pt2_value *v = pt2_program_value(l->program, s.value), *from;
        const struct pt2_node *node =
            v->node >= 0 ? pt2_program_node(l->program, (uint32_t)v->node) : NULL;
        static const char *const same[] = {"alias", "detach", "contiguous", "clone", "to",
                                           "_to_copy", "lift_fresh_copy", NULL};
        struct node_op op;
        int64_t self;

        if (!node || (self = node_value(node, "self")) < 0)
            return s;
        op = node_op(node);
        from = pt2_program_value(l->program, (uint32_t)self);
        if (streq(op.name, "t") || streq(op.name, "numpy_T") || streq(op.name, "transpose") ||
            streq(op.name, "permute")) {
            if (!turns_matrices(node, &op, v->meta.n_dims))
                return s;
            s.is_turned = !s.is_turned;
        } else if (!node_is_in(&op, same) || !loses_nothing(from->meta.dtype, v->meta.dtype)) {
            return s;
        }
        s.value = (uint32_t)self;
    }
}

uint32_t lift_source(const struct lift *l, uint32_t value, bool *ret_is_turned)
{
    struct source s = source_of(l, value);

    *ret_is_turned = s.is_turned;
    return s.value;
}

static const struct pt2_payload *payload_of(const struct lift *l, uint32_t value)
{
    for (uint32_t i = 0; i < pt2_program_n_inputs(l->program); i++) {
        const struct pt2_input *in = pt2_program_input(l->program, i);

        if (in->value == value && in->fqn)
            return pt2_archive_find_payload(l->archive, in->fqn);
    }
    return NULL;
}

const struct pt2_payload *lift_payload(const struct lift *l, uint32_t value)
{
    struct source s = source_of(l, value);
    const struct pt2_payload *p = s.is_turned ? NULL : payload_of(l, s.value);

    return p && p->dtype == pt2_program_value(l->program, value)->meta.dtype ? p : NULL;
}

/* Memory that goes with the plan. */
static void *plan_memory(struct lift *l, uint64_t bytes)
{
    struct plan *p = l->plan;
    void **more = realloc(p->copies, (p->n_copies + 1) * sizeof(*more)), *memory;

    if (!more)
        return NULL;
    p->copies = more;
    memory = aligned_alloc(64, (MAX(bytes, 1) + 63) / 64 * 64);
    if (!memory)
        return NULL;
    more[p->n_copies++] = memory;
    p->private_bytes += bytes;
    return memory;
}

/* As it lies in the mapped file, where it lies as it must. */
static bool find_mapped(const struct lift *l, const struct pt2_payload *p, bool is_turned,
                        struct weights *ret)
{
    const uint8_t *data;
    size_t size = pt2_dtype_size(p->dtype);
    unsigned out = is_turned, in = !is_turned;

    if (p->is_zeros || (p->dtype != PT2_FLOAT32 && p->dtype != PT2_BFLOAT16 &&
                        p->dtype != PT2_FLOAT16))
        return false;
    data = pt2_archive_data(l->archive, p->record);
    if (!data || (p->sizes[in] != 1 && p->strides[in] != 1) ||
        (p->sizes[out] != 1 && p->strides[out] != p->sizes[in]))
        return false;
    data += (uint64_t)p->storage_offset * size;
    if ((uintptr_t)data % size != 0)
        return false;
    ret->data = data;
    ret->dtype = p->dtype;
    return true;
}

/* The matrix computed, and turned where it must be; float32, or its own half precision. */
static int make_matrix(struct lift *l, uint32_t value, bool is_turned, struct weights *ret)
{
    struct eval_tensor t;
    uint64_t n = (uint64_t)ret->n_out * ret->k;
    float *to;

    if (eval_class(l->eval, value) != EVAL_CONSTANT)
        return lift_refuse(l, "weights that depend on the position");
    if (n * sizeof(float) > MAX_MADE)
        return lift_refuse(l, "a matrix of %llu elements that must be made",
                           (unsigned long long)n);
    if (eval_value(l->eval, value, 0, MAX(l->decoder->seq_len, 1), &t, l->err) < 0)
        return -1;
    if (!pt2_dtype_is_float(t.dtype) || (uint64_t)t.n != n) {
        eval_tensor_done(&t);
        return lift_refuse(l, "weights of another shape or dtype than their metadata's");
    }
    to = plan_memory(l, n * sizeof(float));
    if (!to) {
        eval_tensor_done(&t);
        return lift_no_memory(l);
    }
    for (uint64_t o = 0; o < ret->n_out; o++)
        for (uint64_t i = 0; i < ret->k; i++)
            to[o * ret->k + i] = is_turned ? t.f[i * ret->n_out + o] : t.f[o * ret->k + i];
    eval_tensor_done(&t);
    ret->data = to;
    ret->dtype = PT2_FLOAT32;
    return 0;
}

/* Half-precision matrices stay so: their elements are rounded to it already. */
static int narrow_matrix(struct lift *l, enum pt2_dtype dtype, struct weights *ret)
{
    const struct kernels *kernels;
    uint64_t n = (uint64_t)ret->n_out * ret->k;
    void *to;

    if (dtype != PT2_BFLOAT16 && dtype != PT2_FLOAT16)
        return 0;
    if (kernels_choose(&kernels, l->err) < 0)
        return -1;
    to = plan_memory(l, n * 2);
    if (!to)
        return lift_no_memory(l);
    kernels->narrow[dtype](ret->data, n, to);
    l->plan->n_copies--; /* the float32 one, before this */
    free(l->plan->copies[l->plan->n_copies - 1]);
    l->plan->copies[l->plan->n_copies - 1] = to;
    l->plan->private_bytes -= n * sizeof(float);
    ret->data = to;
    ret->dtype = dtype;
    return 0;
}

int lift_weights(struct lift *l, uint32_t value, bool is_transposed, struct weights *ret)
{
    const struct pt2_value *v = pt2_program_value(l->program, value), *from;
    struct source source = source_of(l, value);
    const struct pt2_payload *p = payload_of(l, source.value);
    struct weights w = {.fqn = p ? p->fqn : v->name};
    bool is_turned = is_transposed;

    if (l->values[value].kind != KIND_EVAL || v->meta.n_dims != 2 || v->meta.sizes[0].expr ||
        v->meta.sizes[1].expr)
        return lift_refuse(l, "'%s' is no constant matrix", v->name);
    if (v->meta.sizes[0].value < 1 || v->meta.sizes[0].value > INT32_MAX ||
        v->meta.sizes[1].value < 1 || v->meta.sizes[1].value > INT32_MAX)
        return lift_refuse(l, "'%s' is too large", v->name);
    w.n_out = (uint32_t)v->meta.sizes[is_transposed].value;
    w.k = (uint32_t)v->meta.sizes[!is_transposed].value;
    is_turned = is_turned != source.is_turned;
    if (!p || p->n_dims != 2 || p->sizes[is_turned] != (int64_t)w.n_out ||
        p->sizes[!is_turned] != (int64_t)w.k || !find_mapped(l, p, is_turned, &w)) {
        from = pt2_program_value(l->program, source.value);
        if (eval_class(l->eval, source.value) != EVAL_CONSTANT ||
            make_matrix(l, source.value, is_turned, &w) < 0 ||
            narrow_matrix(l, from->meta.dtype, &w) < 0)
            return lift_refuse(l, "'%s' is no constant matrix", v->name);
    }
    *ret = w;
    return 0;
}

/* Several matrices, one behind the other, are one to those who find or make it. */
static bool find_mapped_matrices(const struct lift *l, const struct pt2_payload *p, int64_t n,
                                 int64_t rows, int64_t width, struct weights *ret)
{
    struct pt2_payload flat;

    if (!p || p->n_dims != 3 || p->sizes[0] != n || p->sizes[1] != rows ||
        p->sizes[2] != width || (n != 1 && p->strides[0] != rows * width))
        return false;
    flat = *p;
    flat.n_dims = 2;
    flat.sizes[0] = n * rows;
    flat.sizes[1] = width;
    flat.strides[0] = rows == 1 ? width : p->strides[1];
    flat.strides[1] = p->strides[2];
    return find_mapped(l, &flat, false, ret);
}

int lift_expert_weights(struct lift *l, uint32_t value, bool is_transposed,
                        struct expert_weights *ret)
{
    struct source source = source_of(l, value);
    const struct pt2_value *v = pt2_program_value(l->program, value),
                           *from = pt2_program_value(l->program, source.value);
    const struct pt2_payload *p = payload_of(l, source.value);
    struct weights w = {.fqn = p ? p->fqn : v->name};
    int64_t n, rows, width, all;

    if (l->values[value].kind != KIND_EVAL || from->meta.n_dims != 3 ||
        eval_class(l->eval, source.value) != EVAL_CONSTANT)
        return lift_refuse(l, "'%s' is no constant of three dimensions", v->name);
    n = from->meta.sizes[0].value; /* a constant's sizes are numbers */
    rows = from->meta.sizes[1].value;
    width = from->meta.sizes[2].value;
    if (n < 1 || rows < 1 || width < 1 || __builtin_mul_overflow(n, rows, &all) ||
        all > INT32_MAX || width > INT32_MAX)
        return lift_refuse(l, "'%s' is too large", v->name);
    w.n_out = (uint32_t)all;
    w.k = (uint32_t)width;
    if (!find_mapped_matrices(l, p, n, rows, width, &w) &&
        (make_matrix(l, source.value, false, &w) < 0 ||
         narrow_matrix(l, from->meta.dtype, &w) < 0))
        return -1;
    is_transposed = is_transposed != source.is_turned;
    *ret = (struct expert_weights){
        .data = w.data, .dtype = w.dtype, .n = (uint32_t)n, .is_transposed = is_transposed,
        .n_out = (uint32_t)(is_transposed ? width : rows),
        .k = (uint32_t)(is_transposed ? rows : width), .fqn = w.fqn};
    return 0;
}

/* ---- constants, tables ---- */

static bool grow(void **array, size_t n, size_t size)
{
    void *more = realloc(*array, (n + 1) * size);

    if (more)
        *array = more;
    return more != NULL;
}

/* Room for n numbers as a constant; NULL: no memory. */
static float *add_constant(struct lift *l, int64_t n, uint32_t *ret)
{
    struct plan *p = l->plan;
    float *to;

    if (n < 1 || n > INT32_MAX / 4 ||
        !grow((void **)&p->constants, p->n_constants, sizeof(*p->constants)) ||
        !grow((void **)&p->constant_sizes, p->n_constants, sizeof(*p->constant_sizes)) ||
        !(to = aligned_alloc(64, ((size_t)n * sizeof(float) + 63) / 64 * 64)))
        return NULL;
    p->constants[p->n_constants] = to;
    p->constant_sizes[p->n_constants] = (uint32_t)n;
    p->private_bytes += (uint64_t)n * sizeof(float);
    *ret = (uint32_t)p->n_constants++;
    return to;
}

int lift_numbers(struct lift *l, const float *numbers, uint32_t n, uint32_t *ret)
{
    float *to = add_constant(l, n, ret);

    if (!to)
        return lift_no_memory(l);
    memcpy(to, numbers, n * sizeof(*to));
    return 0;
}

int lift_constant(struct lift *l, uint32_t value, uint32_t *ret)
{
    struct eval_tensor t;
    float *to;

    if (l->constant_of[value] >= 0) {
        *ret = (uint32_t)l->constant_of[value];
        return 0;
    }
    if (eval_class(l->eval, value) != EVAL_CONSTANT)
        return lift_refuse(l, "a constant that depends on the position");
    if (eval_value(l->eval, value, 0, MAX(l->decoder->seq_len, 1), &t, l->err) < 0)
        return -1;
    to = add_constant(l, t.n, ret);
    for (int64_t i = 0; to && i < t.n; i++)
        to[i] = pt2_dtype_is_float(t.dtype) ? t.f[i]
                : t.dtype == PT2_BOOL       ? (float)t.b[i]
                                            : (float)t.i[i];
    eval_tensor_done(&t);
    if (!to)
        return lift_no_memory(l);
    l->constant_of[value] = (int32_t)*ret;
    return 0;
}

int lift_number(struct lift *l, uint32_t value, bool *ret_is, double *ret)
{
    const struct pt2_value *v = pt2_program_value(l->program, value);
    struct eval_tensor t;

    *ret_is = false;
    for (unsigned d = 0; d < v->meta.n_dims; d++)
        if (v->meta.sizes[d].expr || v->meta.sizes[d].value != 1)
            return 0;
    if (eval_class(l->eval, value) != EVAL_CONSTANT)
        return 0;
    if (eval_value(l->eval, value, 0, MAX(l->decoder->seq_len, 1), &t, l->err) < 0)
        return -1;
    *ret_is = t.n == 1;
    *ret = t.n != 1                        ? 0
           : pt2_dtype_is_float(t.dtype) ? (double)t.f[0]
           : t.dtype == PT2_BOOL           ? (double)t.b[0]
                                           : (double)t.i[0];
    eval_tensor_done(&t);
    return 0;
}

/* The value behind dimensions of 1 that were put in: its table is the same one. */
static void table_source(const struct lift *l, uint32_t *value, int *s_dim)
{
    for (;;) {
        const struct pt2_value *v = pt2_program_value(l->program, *value);
        const struct pt2_node *node =
            v->node >= 0 ? pt2_program_node(l->program, (uint32_t)v->node) : NULL;
        int64_t self = node ? node_value(node, "self") : -1;
        unsigned dim;

        if (self < 0 || !node_is(node, "unsqueeze") ||
            !node_dim(node, "dim", 0, v->meta.n_dims, &dim))
            return;
        if (*s_dim == (int)dim)
            return;
        *s_dim -= *s_dim > (int)dim;
        *value = (uint32_t)self;
    }
}

int lift_table(struct lift *l, uint32_t value, int s_dim, uint32_t *ret)
{
    struct plan *p = l->plan;
    float *rows;
    uint32_t width;

    table_source(l, &value, &s_dim);
    value = l->same[value];
    for (size_t i = 0; i < p->n_tables; i++)
        if (l->table_keys[i].value == value && l->table_keys[i].s_dim == s_dim) {
            *ret = (uint32_t)i;
            return 0;
        }
    if (!grow((void **)&p->tables, p->n_tables, sizeof(*p->tables)) ||
        !grow((void **)&p->table_widths, p->n_tables, sizeof(*p->table_widths)) ||
        !grow((void **)&l->table_keys, p->n_tables, sizeof(*l->table_keys)))
        return lift_no_memory(l);
    if (eval_table(l->eval, value, s_dim, &rows, &width, l->err) < 0)
        return -1;
    for (size_t i = 0; i < p->n_tables; i++)
        if (p->table_widths[i] == width &&
            memcmp(p->tables[i], rows,
                   (size_t)width * (size_t)l->decoder->max_cache_len * sizeof(*rows)) == 0) {
            free(rows); /* computed again for each layer */
            *ret = (uint32_t)i;
            return 0;
        }
    p->tables[p->n_tables] = rows;
    p->table_widths[p->n_tables] = width;
    l->table_keys[p->n_tables] = (struct table_key){value, s_dim};
    p->private_bytes += (uint64_t)width * (uint64_t)l->decoder->max_cache_len * sizeof(float);
    *ret = (uint32_t)p->n_tables++;
    return 0;
}
