/* build.c - a program made by calls (pt2_program_add_...). */
#include "base/log.h"
#include "program/impl.h"

static int no_memory(struct pt2_err *err)
{
    return pt2_err_set(err, PT2_ERR_NOMEM, "a program's parts");
}

/* Copy what d points to. */
static bool copy_dim(struct pt2_program *p, struct pt2_dim *d)
{
    if (d->expr)
        d->expr = pt2_program_string(p, d->expr);
    return d->expr || d->value >= 0;
}

static int copy_meta(struct pt2_program *p, const struct pt2_tensor_meta *meta,
                     struct pt2_tensor_meta *ret, struct pt2_err *err)
{
    bool ok = true;

    ASSERT(meta->n_dims <= PT2_MAX_DIMS && meta->dtype != PT2_DTYPE_NONE);
    *ret = *meta;
    for (unsigned i = 0; i < meta->n_dims; i++) {
        ok = ok && copy_dim(p, &ret->sizes[i]);
        ok = ok && copy_dim(p, &ret->strides[i]);
    }
    ok = ok && copy_dim(p, &ret->storage_offset);
    ret->device = pt2_program_string(p, meta->device ? meta->device : "cpu");
    return ok && ret->device ? 0 : no_memory(err);
}

static bool arg_is_list(enum pt2_arg_kind kind)
{
    return kind >= PT2_ARG_TENSORS;
}

static int copy_arg(struct pt2_program *p, const struct pt2_arg *arg, struct pt2_arg *ret,
                    struct pt2_err *err)
{
    *ret = *arg;
    if (arg->kind >= PT2_ARG_TENSOR && arg->kind <= PT2_ARG_SYM_FLOAT) {
        ASSERT(arg->value < p->n_values);
    } else if (arg->kind == PT2_ARG_STRING || arg->kind == PT2_ARG_DEVICE) {
        ret->s = pt2_program_string(p, arg->s);
        return ret->s ? 0 : no_memory(err);
    } else if (arg_is_list(arg->kind)) {
        struct pt2_arg *items =
            arena_copy(&p->arena, arg->list.items, arg->list.n, sizeof(*items));

        if (!items)
            return no_memory(err);
        for (uint32_t i = 0; i < arg->list.n; i++) {
            ASSERT(!arg_is_list(items[i].kind));
            if (copy_arg(p, &arg->list.items[i], &items[i], err) < 0)
                return -1;
        }
        ret->list.items = items;
    }
    return 0;
}

int pt2_program_add_input(struct pt2_program *p, enum pt2_input_kind kind,
                          const char *name, const char *fqn, bool persistent,
                          const struct pt2_tensor_meta *meta, uint32_t *ret_value,
                          struct pt2_err *err)
{
    struct pt2_value value = {.kind = PT2_VALUE_TENSOR, .node = -1};
    struct pt2_input input = {.kind = kind, .persistent = persistent};

    ASSERT((kind == PT2_INPUT_USER) == !fqn);
    value.name = pt2_program_string(p, name);
    input.fqn = fqn ? pt2_program_string(p, fqn) : NULL;
    if (!value.name || (fqn && !input.fqn))
        return no_memory(err);
    if (copy_meta(p, meta, &value.meta, err) < 0 ||
        program_push_value(p, &value, &input.value, err) < 0 ||
        program_push_input(p, &input, err) < 0)
        return -1;
    if (ret_value)
        *ret_value = input.value;
    return 0;
}

/* The name, or with the first of "_1", "_2", ... that nobody has. */
static const char *unique_name(struct pt2_program *p, const char *name)
{
    struct name_slot *slot = names_find(&p->names, name, strlen(name));
    char candidate[PROGRAM_MAX_NAME + 16];

    if (!slot)
        return pt2_program_string(p, name);
    do
        snprintf(candidate, sizeof(candidate), "%.*s_%u", PROGRAM_MAX_NAME, name,
                 slot->next_suffix++);
    while (names_find(&p->names, candidate, strlen(candidate)));
    return pt2_program_string(p, candidate);
}

/* Append the tensors that the next node makes, each by that name made unique. */
static int add_values(struct pt2_program *p, const char *name,
                      const struct pt2_tensor_meta *metas, uint32_t n,
                      struct pt2_arg *ret_outputs, struct pt2_err *err)
{
    for (uint32_t i = 0; i < n; i++) {
        struct pt2_value value = {.kind = PT2_VALUE_TENSOR, .node = (int32_t)p->n_nodes};

        value.name = unique_name(p, name);
        if (!value.name)
            return no_memory(err);
        ret_outputs[i] = (struct pt2_arg){.kind = PT2_ARG_TENSOR};
        if (copy_meta(p, &metas[i], &value.meta, err) < 0 ||
            program_push_value(p, &value, &ret_outputs[i].value, err) < 0)
            return -1;
    }
    return 0;
}

static struct pt2_named_arg *copy_inputs(struct pt2_program *p,
                                         const struct pt2_named_arg *inputs, uint32_t n,
                                         struct pt2_err *err)
{
    struct pt2_named_arg *copies = arena_copy(&p->arena, inputs, n, sizeof(*copies));
    bool ok = copies;

    for (uint32_t i = 0; i < n && ok; i++) {
        copies[i].name = pt2_program_string(p, inputs[i].name);
        ok = copies[i].name;
        if (ok && copy_arg(p, &inputs[i].arg, &copies[i].arg, err) < 0)
            return NULL;
    }
    if (!ok)
        no_memory(err);
    return ok ? copies : NULL;
}

/* Push the node whose outputs, and with them its values, are there. */
static int push_node(struct pt2_program *p, const char *target, const char *name,
                     const struct pt2_named_arg *inputs, uint32_t n_inputs,
                     const struct pt2_arg *outputs, uint32_t n_outputs,
                     struct pt2_err *err)
{
    struct pt2_node node = {.n_inputs = n_inputs,
                            .outputs = outputs,
                            .n_outputs = n_outputs,
                            .target = pt2_program_string(p, target),
                            .name = name};

    if (!node.target || !node.name)
        return no_memory(err);
    node.inputs = copy_inputs(p, inputs, n_inputs, err);
    return node.inputs ? program_push_node(p, &node, err) : -1;
}

int pt2_program_add_node(struct pt2_program *p, const char *target, const char *name,
                         const struct pt2_named_arg *inputs, uint32_t n_inputs,
                         const struct pt2_tensor_meta *meta, uint32_t *ret_value,
                         struct pt2_err *err)
{
    struct pt2_arg *output = arena_alloc(&p->arena, sizeof(*output));

    if (!output)
        return no_memory(err);
    if (add_values(p, name, meta, 1, output, err) < 0 ||
        push_node(p, target, p->values[output->value].name, inputs, n_inputs, output, 1,
                  err) < 0)
        return -1;
    if (ret_value)
        *ret_value = output->value;
    return 0;
}

int pt2_program_add_symbol(struct pt2_program *p, const char *target, const char *name,
                           const struct pt2_named_arg *inputs, uint32_t n_inputs,
                           const char *symbol, uint32_t *ret_value, struct pt2_err *err)
{
    struct pt2_arg *output = arena_alloc(&p->arena, sizeof(*output));
    struct pt2_value value = {.kind = PT2_VALUE_SYM_INT, .node = (int32_t)p->n_nodes};

    value.name = unique_name(p, name);
    value.sym = (struct pt2_dim){pt2_program_string(p, symbol), -1};
    if (!output || !value.name || !value.sym.expr)
        return no_memory(err);
    *output = (struct pt2_arg){.kind = PT2_ARG_SYM_INT};
    if (program_push_value(p, &value, &output->value, err) < 0 ||
        push_node(p, target, value.name, inputs, n_inputs, output, 1, err) < 0)
        return -1;
    *ret_value = output->value;
    return 0;
}

int pt2_program_add_tuple(struct pt2_program *p, const char *target, const char *name,
                          const struct pt2_named_arg *inputs, uint32_t n_inputs,
                          const struct pt2_tensor_meta *metas, uint32_t n_values,
                          uint32_t *ret_values, struct pt2_err *err)
{
    static const char item[] = "getitem";
    struct pt2_arg *outputs = arena_alloc(&p->arena, n_values * sizeof(*outputs));
    char own_name[PROGRAM_MAX_NAME + 16];

    ASSERT(n_values > 0);
    if (!outputs)
        return no_memory(err);
    if (add_values(p, item, metas, n_values, outputs, err) < 0)
        return -1;
    snprintf(own_name, sizeof(own_name), "%s%s", name,
             p->values[outputs[0].value].name + strlen(item));
    if (push_node(p, target, pt2_program_string(p, own_name), inputs, n_inputs, outputs,
                  n_values, err) < 0)
        return -1;
    for (uint32_t i = 0; i < n_values; i++)
        ret_values[i] = outputs[i].value;
    return 0;
}

int pt2_program_add_output(struct pt2_program *p, enum pt2_output_kind kind,
                           uint32_t value, const char *fqn, struct pt2_err *err)
{
    struct pt2_output output = {.kind = kind,
                                .arg = {.kind = PT2_ARG_TENSOR, .value = value}};

    ASSERT(value < p->n_values && (kind == PT2_OUTPUT_USER) == !fqn);
    output.fqn = fqn ? pt2_program_string(p, fqn) : NULL;
    if (fqn && !output.fqn)
        return no_memory(err);
    return program_push_output(p, &output, err);
}

int pt2_program_add_range(struct pt2_program *p, const char *symbol, int64_t min,
                          int64_t max, struct pt2_err *err)
{
    struct pt2_range range = {
        .symbol = pt2_program_string(p, symbol), .min = min, .max = max};

    return range.symbol ? program_push_range(p, &range, err) : no_memory(err);
}

/* ---- contiguous strides ---- */

/* A product under way: number * symbols. */
struct product {
    int64_t factor;
    char symbols[512]; /* "s0*s1", "" for none */
    int64_t hint;      /* -1: not known */
};

/* Multiply by a size; torch takes 0 as 1 in strides.  False where it does not fit. */
static bool multiply(struct product *product, const struct pt2_dim *size)
{
    size_t len = strlen(product->symbols);
    const char *rest = size->expr;
    int64_t number = size->expr ? 1 : MAX(size->value, 1);
    bool known = product->hint >= 0 && (!size->expr || size->value >= 0);

    if (rest && rest[strspn(rest, "0123456789")] == '*' && !strpbrk(rest, "+- ")) {
        char *end; /* "4*s0": the number goes to the front */

        number = strtoll(rest, &end, 10);
        rest = end + 1;
    }
    if (__builtin_mul_overflow(product->factor, number, &product->factor))
        return false;
    if (!known)
        product->hint = -1;
    else if (__builtin_mul_overflow(product->hint, MAX(size->value, 1), &product->hint))
        return false;
    if (!rest)
        return true;
    return (size_t)snprintf(product->symbols + len, sizeof(product->symbols) - len,
                            strpbrk(rest, "+- ") ? "%s(%s)" : "%s%s", len ? "*" : "",
                            rest) < sizeof(product->symbols) - len;
}

static bool product_to_dim(struct pt2_program *p, const struct product *product,
                           struct pt2_dim *ret)
{
    char text[sizeof(product->symbols) + 24];

    if (!product->symbols[0]) {
        *ret = (struct pt2_dim){.value = product->factor};
        return true;
    }
    if (product->factor == 1)
        snprintf(text, sizeof(text), "%s", product->symbols);
    else
        snprintf(text, sizeof(text), "%lld*%s", (long long)product->factor,
                 product->symbols);
    *ret = (struct pt2_dim){.expr = pt2_program_string(p, text), .value = product->hint};
    return ret->expr;
}

int pt2_tensor_meta_contiguous(struct pt2_program *p, enum pt2_dtype dtype,
                               unsigned n_dims, const struct pt2_dim *sizes,
                               struct pt2_tensor_meta *ret_meta, struct pt2_err *err)
{
    struct pt2_tensor_meta meta = {.dtype = dtype, .n_dims = n_dims, .device = "cpu"};
    struct product product = {.factor = 1, .hint = 1};

    if (n_dims > PT2_MAX_DIMS)
        return pt2_err_set(err, PT2_ERR_BAD_PROGRAM,
                           "a tensor of %u dimensions, at most %d", n_dims, PT2_MAX_DIMS);
    for (unsigned i = n_dims; i-- > 0;) {
        meta.sizes[i] = sizes[i];
        if (!product_to_dim(p, &product, &meta.strides[i]))
            return no_memory(err);
        if ((!sizes[i].expr && sizes[i].value < 0) || !multiply(&product, &sizes[i]))
            return pt2_err_set(err, PT2_ERR_BAD_PROGRAM,
                               "the sizes of a tensor are negative or too large");
    }
    *ret_meta = meta;
    return 0;
}
