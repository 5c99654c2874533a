/* program.c - the parts of an ExecuTorch program. */
#include "pte/program.h"

#include "base/log.h"
#include "pte/list.h"
#include "pte/xnn.h"

void pte_init(struct pte_program *p)
{
    *p = (struct pte_program){0};
}

void pte_done(struct pte_program *p)
{
    for (uint32_t i = 0; i < p->n_delegates; i++)
        xnn_graph_free(p->delegates[i]);
    free(p->values);
    free(p->calls);
    free(p->operators);
    free(p->delegates);
    free(p->blobs);
    free(p->inputs);
    free(p->outputs);
    arena_done(&p->memory);
    *p = (struct pte_program){0};
}

static void *keep(struct pte_program *p, const void *items, size_t n, size_t size)
{
    void *copy = arena_copy(&p->memory, items, n, size);

    if (!copy)
        p->failed = true;
    return copy;
}

/* ---- values ---- */

static uint32_t add_value(struct pte_program *p, const struct pte_value *value)
{
    if (!list_grow(&p->failed, &p->values, p->n_values, &p->cap_values, sizeof(*p->values)))
        return 0;
    p->values[p->n_values] = *value;
    return p->n_values++;
}

static bool same(const struct pte_value *a, const struct pte_value *b)
{
    if (a->kind != b->kind)
        return false;
    switch (a->kind) {
    case PTE_NULL:
        return true;
    case PTE_INT:
        return a->i == b->i;
    case PTE_BOOL:
        return a->b == b->b;
    case PTE_DOUBLE:
        return memcmp(&a->d, &b->d, sizeof(a->d)) == 0;
    case PTE_STRING:
        return streq(a->s, b->s);
    case PTE_INTS:
    case PTE_TENSORS:
    case PTE_OPTIONAL_TENSORS:
        return a->list.n == b->list.n &&
               memcmp(a->list.items, b->list.items, a->list.n * sizeof(int32_t)) == 0;
    case PTE_TENSOR:
        return a->tensor.place == PTE_CONSTANT && b->tensor.place == PTE_CONSTANT &&
               a->tensor.blob == b->tensor.blob && a->tensor.dtype == b->tensor.dtype &&
               a->tensor.n_dims == b->tensor.n_dims &&
               memcmp(a->tensor.sizes, b->tensor.sizes,
                      a->tensor.n_dims * sizeof(int32_t)) == 0;
    }
    return false;
}

/* The value, or one that is the same. */
static uint32_t share_value(struct pte_program *p, const struct pte_value *value)
{
    for (uint32_t i = 0; i < p->n_values; i++)
        if (!p->values[i].is_own && same(&p->values[i], value))
            return i;
    return add_value(p, value);
}

uint32_t pte_null(struct pte_program *p)
{
    return share_value(p, &(struct pte_value){.kind = PTE_NULL});
}

uint32_t pte_int(struct pte_program *p, int64_t i)
{
    return share_value(p, &(struct pte_value){.kind = PTE_INT, .i = i});
}

uint32_t pte_bool(struct pte_program *p, bool b)
{
    return share_value(p, &(struct pte_value){.kind = PTE_BOOL, .b = b});
}

uint32_t pte_double(struct pte_program *p, double d)
{
    return share_value(p, &(struct pte_value){.kind = PTE_DOUBLE, .d = d});
}

uint32_t pte_string(struct pte_program *p, const char *s)
{
    return share_value(p, &(struct pte_value){.kind = PTE_STRING, .s = s});
}

static uint32_t add_list(struct pte_program *p, enum pte_value_kind kind,
                         const int32_t *items, uint32_t n)
{
    struct pte_value value = {.kind = kind};

    value.list.items = keep(p, items, n, sizeof(*items));
    value.list.n = n;
    return p->failed ? 0 : share_value(p, &value);
}

uint32_t pte_ints(struct pte_program *p, const int64_t *items, uint32_t n)
{
    int32_t values[PTE_MAX_DIMS];

    ASSERT(n <= PTE_MAX_DIMS);
    for (uint32_t i = 0; i < n; i++)
        values[i] = (int32_t)pte_int(p, items[i]);
    return add_list(p, PTE_INTS, values, n);
}

uint32_t pte_tensors(struct pte_program *p, const int32_t *items, uint32_t n)
{
    return add_list(p, PTE_TENSORS, items, n);
}

uint32_t pte_optional_tensors(struct pte_program *p, const int32_t *items, uint32_t n)
{
    return add_list(p, PTE_OPTIONAL_TENSORS, items, n);
}

uint32_t pte_int_out(struct pte_program *p)
{
    return add_value(p, &(struct pte_value){.kind = PTE_INT, .is_own = true});
}

uint32_t pte_bool_out(struct pte_program *p)
{
    return add_value(p, &(struct pte_value){.kind = PTE_BOOL, .is_own = true});
}

/* ---- tensors ---- */

uint64_t pte_tensor_bytes(const struct pte_tensor *t)
{
    uint64_t n = pt2_dtype_size(t->dtype);

    for (unsigned i = 0; i < t->n_dims; i++)
        n *= (uint64_t)t->sizes[i]; /* fits: add_tensor has seen to it */
    return n;
}

/* False where the sizes are none that a file may have. */
static bool set_sizes(struct pte_tensor *t, enum pt2_dtype dtype, unsigned n_dims,
                      const int64_t *sizes)
{
    uint64_t bytes = pt2_dtype_size(dtype);

    if (n_dims > PTE_MAX_DIMS)
        return false;
    t->dtype = dtype;
    t->n_dims = n_dims;
    for (unsigned i = 0; i < n_dims; i++) {
        if (sizes[i] < 0 || sizes[i] > INT32_MAX ||
            !size_mul(bytes, (uint64_t)sizes[i], &bytes))
            return false;
        t->sizes[i] = (int32_t)sizes[i];
    }
    return bytes <= INT64_MAX;
}

static uint32_t add_tensor(struct pte_program *p, const struct pte_tensor *like,
                           enum pt2_dtype dtype, unsigned n_dims, const int64_t *sizes)
{
    struct pte_value value = {.kind = PTE_TENSOR, .tensor = *like};

    if (!set_sizes(&value.tensor, dtype, n_dims, sizes)) {
        p->failed = p->is_too_big = true;
        return 0;
    }
    return like->place == PTE_CONSTANT ? share_value(p, &value) : add_value(p, &value);
}

static void append(struct pte_program *p, int32_t **list, uint32_t *n, uint32_t *cap,
                   uint32_t x)
{
    if (list_grow(&p->failed, list, *n, cap, sizeof(**list)))
        (*list)[(*n)++] = (int32_t)x;
}

uint32_t pte_input(struct pte_program *p, enum pt2_dtype dtype, unsigned n_dims,
                   const int64_t *sizes, bool is_dynamic)
{
    uint32_t x = add_tensor(
        p, &(struct pte_tensor){.place = PTE_INPUT, .is_dynamic = is_dynamic}, dtype,
        n_dims, sizes);

    append(p, &p->inputs, &p->n_inputs, &p->cap_inputs, x);
    return x;
}

void pte_output(struct pte_program *p, uint32_t x)
{
    append(p, &p->outputs, &p->n_outputs, &p->cap_outputs, x);
}

uint32_t pte_activation(struct pte_program *p, enum pt2_dtype dtype, unsigned n_dims,
                        const int64_t *sizes)
{
    return add_tensor(p, &(struct pte_tensor){.place = PTE_ARENA}, dtype, n_dims, sizes);
}

uint32_t pte_cache(struct pte_program *p, enum pt2_dtype dtype, unsigned n_dims,
                   const int64_t *sizes)
{
    return add_tensor(p, &(struct pte_tensor){.place = PTE_ARENA, .is_kept = true}, dtype,
                      n_dims, sizes);
}

uint32_t pte_constant(struct pte_program *p, uint32_t blob, enum pt2_dtype dtype,
                      unsigned n_dims, const int64_t *sizes)
{
    uint32_t x;

    if (p->failed)
        return 0;
    x = add_tensor(p, &(struct pte_tensor){.place = PTE_CONSTANT, .blob = blob}, dtype,
                   n_dims, sizes);
    p->blobs[blob].is_constant = true;
    if (!p->failed && pte_tensor_bytes(pte_tensor(p, x)) != p->blobs[blob].bytes)
        pte_fail_wrong(p);
    return x;
}

uint32_t pte_view(struct pte_program *p, uint32_t x, enum pt2_dtype dtype,
                  unsigned n_dims, const int64_t *sizes, uint64_t offset)
{
    struct pte_tensor like, base;
    uint32_t view;

    if (p->failed)
        return 0;
    base = *pte_tensor(p, x);
    if (base.place == PTE_CONSTANT) {
        ASSERT(offset == 0);
        return pte_constant(p, base.blob, dtype, n_dims, sizes);
    }
    if (base.place == PTE_INPUT) { /* nobody knows where that will be */
        pte_fail_wrong(p);
        return 0;
    }
    like = (struct pte_tensor){.place = PTE_ALIAS, .base = x, .offset = offset};
    if (base.place == PTE_ALIAS) {
        like.base = base.base;
        like.offset += base.offset;
    }
    view = add_tensor(p, &like, dtype, n_dims, sizes);
    if (!p->failed &&
        offset + pte_tensor_bytes(pte_tensor(p, view)) > pte_tensor_bytes(&base))
        pte_fail_wrong(p);
    return view;
}

/* ---- blobs ---- */

static uint32_t add_blob(struct pte_program *p, const struct pte_blob *blob)
{
    if (!list_grow(&p->failed, &p->blobs, p->n_blobs, &p->cap_blobs, sizeof(*p->blobs)))
        return 0;
    p->blobs[p->n_blobs] = *blob;
    p->blobs[p->n_blobs].key = keep(p, blob->key, strlen(blob->key) + 1, 1);
    if (blob->source)
        p->blobs[p->n_blobs].source = keep(p, blob->source, strlen(blob->source) + 1, 1);
    return p->n_blobs++;
}

uint32_t pte_blob(struct pte_program *p, const char *source, enum pte_form form,
                  uint64_t bytes)
{
    static const char *const ends[] = {"", ".int4", ".int4_high", ".bfloat16"};
    char key[PTE_KEY_SIZE];

    for (uint32_t i = 0; i < p->n_blobs; i++)
        if (p->blobs[i].source && p->blobs[i].form == form &&
            streq(p->blobs[i].source, source))
            return i;
    snprintf(key, sizeof(key), "%s%s", source, ends[form]);
    return add_blob(p, &(struct pte_blob){.key = key,
                                          .source = source,
                                          .form = form,
                                          .bytes = form == PTE_PLAIN ? bytes : bytes / 2});
}

uint32_t pte_blob_of(struct pte_program *p, const char *key, const void *data,
                     size_t bytes)
{
    const void *copy;

    for (uint32_t i = 0; i < p->n_blobs; i++)
        if (p->blobs[i].data && p->blobs[i].bytes == bytes &&
            memcmp(p->blobs[i].data, data, bytes) == 0)
            return i;
    copy = keep(p, data, bytes, 1);
    return add_blob(p, &(struct pte_blob){.key = key, .bytes = bytes, .data = copy});
}

const char *pte_blob_key(struct pte_program *p, uint32_t blob)
{
    if (p->failed)
        return "";
    p->blobs[blob].is_named = true;
    return p->blobs[blob].key;
}

/* ---- instructions ---- */

static uint32_t find_operator(struct pte_program *p, const char *name, const char *overload)
{
    for (uint32_t i = 0; i < p->n_operators; i++)
        if (streq(p->operators[i].name, name) &&
            streq(p->operators[i].overload, overload))
            return i;
    if (!list_grow(&p->failed, &p->operators, p->n_operators, &p->cap_operators,
                   sizeof(*p->operators)))
        return 0;
    p->operators[p->n_operators] = (struct pte_operator){name, overload};
    return p->n_operators++;
}

static uint32_t add_call(struct pte_program *p, enum pte_call_kind kind, uint32_t index,
                         const uint32_t *args, uint32_t n_args, uint32_t n_outs)
{
    if (!list_grow(&p->failed, &p->calls, p->n_calls, &p->cap_calls, sizeof(*p->calls)))
        return 0;
    p->calls[p->n_calls] = (struct pte_call){
        .kind = kind,
        .index = index,
        .args = keep(p, args, n_args, sizeof(*args)),
        .n_args = n_args,
        .n_outs = n_outs,
    };
    return p->n_calls++;
}

void pte_call(struct pte_program *p, const char *name, const char *overload,
              const uint32_t *args, uint32_t n_args)
{
    bool is_twice = n_args > 1 && args[n_args - 2] == args[n_args - 1];

    pte_call_outs(p, name, overload, args, n_args, is_twice ? 2 : 1);
}

void pte_call_outs(struct pte_program *p, const char *name, const char *overload,
                   const uint32_t *args, uint32_t n_args, uint32_t n_outs)
{
    add_call(p, PTE_KERNEL, find_operator(p, name, overload), args, n_args, n_outs);
}

uint32_t pte_add_delegate(struct pte_program *p, struct xnn_graph *graph)
{
    if (!list_grow(&p->failed, &p->delegates, p->n_delegates, &p->cap_delegates,
                   sizeof(*p->delegates))) {
        xnn_graph_free(graph);
        return 0;
    }
    p->delegates[p->n_delegates] = graph;
    return p->n_delegates++;
}

void pte_call_delegate(struct pte_program *p, uint32_t delegate, const uint32_t *args,
                       uint32_t n_args, uint32_t n_outs)
{
    add_call(p, PTE_DELEGATE, delegate, args, n_args, n_outs);
}

uint32_t pte_jump_false(struct pte_program *p, uint32_t condition)
{
    return add_call(p, PTE_JUMP_FALSE, 0, &condition, 1, 0);
}

void pte_land(struct pte_program *p, uint32_t jump)
{
    if (p->failed)
        return;
    ASSERT(p->calls[jump].kind == PTE_JUMP_FALSE);
    p->calls[jump].index = p->n_calls;
}
