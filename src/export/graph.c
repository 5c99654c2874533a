#include "export/graph.h"

#include "base/log.h"

#define MAX_ARGS 8

void graph_init(struct graph *g, struct pt2_program *program, struct pt2_err *err)
{
    *g = (struct graph){.program = program, .err = err};
}

static const struct pt2_tensor_meta *meta_of(const struct graph *g, uint32_t value)
{
    return &pt2_program_value(g->program, value)->meta;
}

/* ---- arguments ---- */

/* Positional: kind 1; keyword: kind 2. */
static struct pt2_named_arg named(const char *name, int kind, struct pt2_arg arg)
{
    return (struct pt2_named_arg){name, arg, kind};
}

static struct pt2_named_arg arg_tensor(const char *name, uint32_t value)
{
    return named(name, 1, (struct pt2_arg){.kind = PT2_ARG_TENSOR, .value = value});
}

static struct pt2_named_arg arg_int(const char *name, int64_t i)
{
    return named(name, 1, (struct pt2_arg){.kind = PT2_ARG_INT, .i = i});
}

static struct pt2_named_arg arg_float(const char *name, int kind, double f)
{
    return named(name, kind, (struct pt2_arg){.kind = PT2_ARG_FLOAT, .f = f});
}

static struct pt2_named_arg arg_bool(const char *name, int kind, bool b)
{
    return named(name, kind, (struct pt2_arg){.kind = PT2_ARG_BOOL, .b = b});
}

/* items is borrowed until the node is added. */
static struct pt2_named_arg arg_list(const char *name, enum pt2_arg_kind kind,
                                     const struct pt2_arg *items, uint32_t n)
{
    return named(name, 1, (struct pt2_arg){.kind = kind, .list = {items, n}});
}

/* ---- adding ---- */

/* The node's name is the op's: "mul" of torch.ops.aten.mul.Tensor. */
static uint32_t add_node(struct graph *g, const char *op, const char *overload,
                         const struct pt2_named_arg *args, uint32_t n_args,
                         const struct pt2_tensor_meta *meta)
{
    char target[80];
    uint32_t value = 0;

    if (g->failed)
        return 0;
    snprintf(target, sizeof(target), "torch.ops.aten.%s.%s", op, overload);
    g->failed = pt2_program_add_node(g->program, target, op, args, n_args, meta, &value,
                                     g->err) < 0;
    return value;
}

static struct pt2_tensor_meta contiguous(struct graph *g, enum pt2_dtype dtype,
                                         unsigned n_dims, const struct pt2_dim *sizes)
{
    struct pt2_tensor_meta meta = {0};

    if (!g->failed)
        g->failed = pt2_tensor_meta_contiguous(g->program, dtype, n_dims, sizes, &meta,
                                               g->err) < 0;
    return meta;
}

/* The meta of a result that is shaped like x: an op keeps the order of x's dimensions in
 * memory, without holes and without x's offset. */
static struct pt2_tensor_meta like(struct graph *g, uint32_t x, enum pt2_dtype dtype,
                                   struct pt2_dim last)
{
    struct pt2_tensor_meta from = *meta_of(g, x), meta;
    bool is_heads_first = false;

    /* The only other order here is (b, h, s, d) as a view of (b, s, h, d). */
    if (from.n_dims == 4 && !from.strides[1].expr && !from.sizes[3].expr)
        is_heads_first =
            !from.sizes[1].expr && from.strides[1].value < from.strides[2].value;
    from.sizes[from.n_dims - 1] = last;
    if (is_heads_first) {
        struct pt2_dim sizes[] = {from.sizes[0], from.sizes[2], from.sizes[1], last};
        struct pt2_dim stride;

        meta = contiguous(g, dtype, 4, sizes);
        meta.sizes[1] = from.sizes[1];
        meta.sizes[2] = from.sizes[2];
        stride = meta.strides[1];
        meta.strides[1] = meta.strides[2];
        meta.strides[2] = stride;
        return meta;
    }
    return contiguous(g, dtype, from.n_dims, from.sizes);
}

static struct pt2_dim last_size(const struct graph *g, uint32_t x)
{
    const struct pt2_tensor_meta *meta = meta_of(g, x);

    return meta->sizes[meta->n_dims - 1];
}

/* ---- inputs ---- */

static uint32_t add_input(struct graph *g, enum pt2_input_kind kind, const char *prefix,
                          const char *fqn, enum pt2_dtype dtype, unsigned n_dims,
                          const int64_t *sizes)
{
    struct pt2_dim dims[PT2_MAX_DIMS];
    struct pt2_tensor_meta meta;
    char name[1200];
    uint32_t value = 0;

    for (unsigned i = 0; i < n_dims; i++)
        dims[i] = dim_of(sizes[i]);
    meta = contiguous(g, dtype, n_dims, dims);
    meta.requires_grad = kind == PT2_INPUT_PARAMETER;
    snprintf(name, sizeof(name), "%s%s", prefix, fqn);
    for (char *c = name; *c; c++)
        if (*c == '.')
            *c = '_';
    if (!g->failed)
        g->failed =
            pt2_program_add_input(g->program, kind, name, fqn, /* persistent= */ false,
                                  &meta, &value, g->err) < 0;
    return value;
}

uint32_t graph_parameter(struct graph *g, const char *fqn, enum pt2_dtype dtype,
                         unsigned n_dims, const int64_t *sizes)
{
    return add_input(g, PT2_INPUT_PARAMETER, "p_", fqn, dtype, n_dims, sizes);
}

uint32_t graph_buffer(struct graph *g, const char *fqn, enum pt2_dtype dtype,
                      unsigned n_dims, const int64_t *sizes)
{
    return add_input(g, PT2_INPUT_BUFFER, "b_", fqn, dtype, n_dims, sizes);
}

uint32_t graph_user_input(struct graph *g, const char *name, unsigned n_dims,
                          const struct pt2_dim *sizes)
{
    struct pt2_tensor_meta meta = contiguous(g, PT2_INT64, n_dims, sizes);
    uint32_t value = 0;

    if (!g->failed)
        g->failed = pt2_program_add_input(g->program, PT2_INPUT_USER, name, NULL, false,
                                          &meta, &value, g->err) < 0;
    return value;
}

void graph_output(struct graph *g, uint32_t x)
{
    if (!g->failed)
        g->failed =
            pt2_program_add_output(g->program, PT2_OUTPUT_USER, x, NULL, g->err) < 0;
}

/* ---- element by element ---- */

uint32_t graph_unary(struct graph *g, const char *op, uint32_t x)
{
    struct pt2_named_arg args[] = {arg_tensor("self", x)};
    struct pt2_tensor_meta meta;

    if (g->failed)
        return 0;
    meta = like(g, x, meta_of(g, x)->dtype, last_size(g, x));
    return add_node(g, op, "default", args, 1, &meta);
}

uint32_t graph_gelu(struct graph *g, uint32_t x, bool tanh)
{
    struct pt2_named_arg args[] = {
        arg_tensor("self", x),
        named("approximate", 2, (struct pt2_arg){.kind = PT2_ARG_STRING, .s = "tanh"})};
    struct pt2_tensor_meta meta;

    if (g->failed)
        return 0;
    meta = like(g, x, meta_of(g, x)->dtype, last_size(g, x));
    return add_node(g, "gelu", "default", args, tanh ? 2 : 1, &meta);
}

static uint32_t add_binary(struct graph *g, const char *op, uint32_t x,
                           struct pt2_named_arg y)
{
    struct pt2_named_arg args[] = {arg_tensor("self", x), y};
    struct pt2_tensor_meta meta;

    if (g->failed)
        return 0;
    meta = like(g, x, meta_of(g, x)->dtype, last_size(g, x));
    return add_node(g, op, "Tensor", args, 2, &meta);
}

uint32_t graph_binary(struct graph *g, const char *op, uint32_t x, uint32_t y)
{
    return add_binary(g, op, x, arg_tensor("other", y));
}

uint32_t graph_binary_number(struct graph *g, const char *op, uint32_t x, double y)
{
    return add_binary(g, op, x, arg_float("other", 1, y));
}

uint32_t graph_binary_int(struct graph *g, const char *op, uint32_t x, int64_t y)
{
    return add_binary(g, op, x, arg_int("other", y));
}

uint32_t graph_pow(struct graph *g, uint32_t x, int64_t exponent)
{
    struct pt2_named_arg args[] = {arg_tensor("self", x), arg_int("exponent", exponent)};
    struct pt2_tensor_meta meta;

    if (g->failed)
        return 0;
    meta = like(g, x, meta_of(g, x)->dtype, last_size(g, x));
    return add_node(g, "pow", "Tensor_Scalar", args, 2, &meta);
}

uint32_t graph_to(struct graph *g, uint32_t x, enum pt2_dtype dtype)
{
    struct pt2_named_arg args[] = {
        arg_tensor("self", x),
        named("dtype", 1, (struct pt2_arg){.kind = PT2_ARG_SCALAR_TYPE, .dtype = dtype})};
    struct pt2_tensor_meta meta;

    if (g->failed || meta_of(g, x)->dtype == dtype)
        return x;
    meta = like(g, x, dtype, last_size(g, x));
    return add_node(g, "to", "dtype", args, 2, &meta);
}

uint32_t graph_outer(struct graph *g, const char *op, uint32_t x, uint32_t y,
                     bool is_swapped)
{
    struct pt2_named_arg args[] = {arg_tensor("self", is_swapped ? y : x),
                                   arg_tensor("other", is_swapped ? x : y)};
    struct pt2_tensor_meta meta;
    struct pt2_dim sizes[2];

    if (g->failed)
        return 0;
    sizes[0] = meta_of(g, x)->sizes[0];
    sizes[1] = meta_of(g, y)->sizes[0];
    meta = contiguous(g, streq(op, "mul") ? meta_of(g, x)->dtype : PT2_BOOL, 2, sizes);
    return add_node(g, op, "Tensor", args, 2, &meta);
}

uint32_t graph_and(struct graph *g, uint32_t x, uint32_t y)
{
    return graph_binary(g, "__and__", x, y);
}

/* ---- shapes ---- */

uint32_t graph_arange(struct graph *g, int64_t n)
{
    struct pt2_named_arg args[] = {
        arg_int("end", n),
        named("device", 2, (struct pt2_arg){.kind = PT2_ARG_DEVICE, .s = "cpu"}),
        arg_bool("pin_memory", 2, false)};
    struct pt2_dim size = dim_of(n);
    struct pt2_tensor_meta meta = contiguous(g, PT2_INT64, 1, &size);

    return add_node(g, "arange", "default", args, 3, &meta);
}

uint32_t graph_column(struct graph *g, uint32_t x)
{
    struct pt2_named_arg args[] = {arg_tensor("self", x), arg_int("dim", 1)};
    struct pt2_tensor_meta meta;
    struct pt2_dim sizes[2];

    if (g->failed)
        return 0;
    sizes[0] = meta_of(g, x)->sizes[0];
    sizes[1] = dim_of(1);
    meta = contiguous(g, meta_of(g, x)->dtype, 2, sizes);
    return add_node(g, "unsqueeze", "default", args, 2, &meta);
}

uint32_t graph_mean_last(struct graph *g, uint32_t x)
{
    struct pt2_arg last = {.kind = PT2_ARG_INT, .i = -1};
    struct pt2_named_arg args[] = {arg_tensor("self", x),
                                   arg_list("dim", PT2_ARG_INTS, &last, 1),
                                   arg_bool("keepdim", 1, true)};
    struct pt2_tensor_meta meta;

    if (g->failed)
        return 0;
    meta = like(g, x, meta_of(g, x)->dtype, dim_of(1));
    return add_node(g, "mean", "dim", args, 3, &meta);
}

uint32_t graph_cat_last(struct graph *g, uint32_t x, uint32_t y)
{
    struct pt2_arg parts[] = {{.kind = PT2_ARG_TENSOR, .value = x},
                              {.kind = PT2_ARG_TENSOR, .value = y}};
    struct pt2_named_arg args[] = {arg_list("tensors", PT2_ARG_TENSORS, parts, 2),
                                   arg_int("dim", -1)};
    struct pt2_tensor_meta meta;
    struct pt2_dim sizes[PT2_MAX_DIMS];
    unsigned n;

    if (g->failed)
        return 0;
    meta = *meta_of(g, x);
    n = meta.n_dims;
    memcpy(sizes, meta.sizes, sizeof(sizes));
    sizes[n - 1].value += last_size(g, y).value;
    meta = contiguous(g, meta.dtype, n, sizes);
    return add_node(g, "cat", "default", args, 2, &meta);
}

uint32_t graph_slice_last(struct graph *g, uint32_t x, int64_t start, int64_t end)
{
    struct pt2_named_arg args[4];
    struct pt2_tensor_meta meta;

    if (g->failed)
        return 0;
    meta = *meta_of(g, x);
    ASSERT(start >= 0 && start < end && end <= last_size(g, x).value);
    args[0] = arg_tensor("self", x);
    args[1] = arg_int("dim", meta.n_dims - 1);
    args[2] = arg_int("start", start);
    args[3] = arg_int("end", end == last_size(g, x).value ? INT64_MAX : end);
    meta.sizes[meta.n_dims - 1] = dim_of(end - start);
    meta.storage_offset.value += start;
    return add_node(g, "slice", "Tensor", args, 4, &meta);
}

uint32_t graph_transpose(struct graph *g, uint32_t x, unsigned a, unsigned b)
{
    struct pt2_named_arg args[] = {arg_tensor("self", x), arg_int("dim0", a),
                                   arg_int("dim1", b)};
    struct pt2_tensor_meta meta;
    struct pt2_dim dim;

    if (g->failed)
        return 0;
    meta = *meta_of(g, x);
    dim = meta.sizes[a];
    meta.sizes[a] = meta.sizes[b];
    meta.sizes[b] = dim;
    dim = meta.strides[a];
    meta.strides[a] = meta.strides[b];
    meta.strides[b] = dim;
    return add_node(g, "transpose", "int", args, 3, &meta);
}

uint32_t graph_view(struct graph *g, uint32_t x, unsigned n_dims,
                    const struct pt2_dim *sizes, bool is_copy)
{
    struct pt2_arg items[PT2_MAX_DIMS];
    struct pt2_named_arg args[2];
    struct pt2_tensor_meta meta;

    if (g->failed)
        return 0;
    for (unsigned i = 0; i < n_dims; i++)
        items[i] = (struct pt2_arg){.kind = PT2_ARG_INT,
                                    .i = sizes[i].expr ? -1 : sizes[i].value};
    args[0] = arg_tensor("self", x);
    args[1] = arg_list(is_copy ? "shape" : "size", PT2_ARG_INTS, items, n_dims);
    meta = contiguous(g, meta_of(g, x)->dtype, n_dims, sizes);
    return add_node(g, is_copy ? "reshape" : "view", "default", args, 2, &meta);
}

/* ---- the rest ---- */

uint32_t graph_embedding(struct graph *g, uint32_t weight, uint32_t ids)
{
    struct pt2_named_arg args[] = {arg_tensor("weight", weight),
                                   arg_tensor("indices", ids)};
    struct pt2_tensor_meta meta;
    struct pt2_dim sizes[3];

    if (g->failed)
        return 0;
    sizes[0] = meta_of(g, ids)->sizes[0];
    sizes[1] = meta_of(g, ids)->sizes[1];
    sizes[2] = last_size(g, weight);
    meta = contiguous(g, meta_of(g, weight)->dtype, 3, sizes);
    return add_node(g, "embedding", "default", args, 2, &meta);
}

uint32_t graph_linear(struct graph *g, uint32_t x, uint32_t weight, uint32_t bias)
{
    struct pt2_named_arg args[] = {arg_tensor("input", x), arg_tensor("weight", weight),
                                   arg_tensor("bias", bias)};
    struct pt2_tensor_meta meta;

    if (g->failed)
        return 0;
    meta = like(g, x, meta_of(g, x)->dtype, meta_of(g, weight)->sizes[0]);
    return add_node(g, "linear", "default", args, bias == GRAPH_NO_BIAS ? 2 : 3, &meta);
}

uint32_t graph_index_copy(struct graph *g, uint32_t buffer, uint32_t positions,
                          uint32_t source)
{
    struct pt2_named_arg args[] = {arg_tensor("self", buffer), arg_int("dim", 2),
                                   arg_tensor("index", positions),
                                   arg_tensor("source", source)};
    struct pt2_tensor_meta meta;

    if (g->failed)
        return 0;
    meta = *meta_of(g, buffer);
    return add_node(g, "index_copy_", "default", args, 4, &meta);
}

uint32_t graph_attention(struct graph *g, uint32_t q, uint32_t k, uint32_t v,
                         uint32_t mask, double scale)
{
    struct pt2_named_arg args[MAX_ARGS] = {
        arg_tensor("query", q), arg_tensor("key", k), arg_tensor("value", v),
        arg_tensor("attn_mask", mask), arg_float("scale", 2, scale)};
    struct pt2_tensor_meta meta;
    uint32_t n = 5;

    if (g->failed)
        return 0;
    if (meta_of(g, q)->sizes[1].value != meta_of(g, k)->sizes[1].value)
        args[n++] = arg_bool("enable_gqa", 2, true);
    meta = like(g, q, meta_of(g, q)->dtype, last_size(g, v));
    return add_node(g, "scaled_dot_product_attention", "default", args, n, &meta);
}
