/* graph_shape.c - nodes that move, cut and join. */
#include "base/log.h"
#include "export/graph_impl.h"

/* ---- shapes ---- */

struct pt2_dim graph_times(struct graph *g, struct pt2_dim size, int64_t n)
{
    struct pt2_dim sizes[] = {dim_of(1), size, dim_of(n)};

    return graph_contiguous(g, PT2_FLOAT32, 3, sizes).strides[0];
}

uint32_t graph_arange(struct graph *g, int64_t n)
{
    struct pt2_named_arg args[] = {
        arg_int("end", n),
        named("device", 2, (struct pt2_arg){.kind = PT2_ARG_DEVICE, .s = "cpu"}),
        arg_bool("pin_memory", 2, false)};
    struct pt2_dim size = dim_of(n);
    struct pt2_tensor_meta meta = graph_contiguous(g, PT2_INT64, 1, &size);

    return graph_add_node(g, "arange", "default", args, 3, &meta);
}

uint32_t graph_unsqueeze(struct graph *g, uint32_t x, int dim)
{
    struct pt2_named_arg args[] = {arg_tensor("self", x), arg_int("dim", dim)};
    struct pt2_tensor_meta meta;
    struct pt2_dim sizes[PT2_MAX_DIMS];
    unsigned n, at;

    if (g->failed)
        return 0;
    n = meta_of(g, x)->n_dims;
    at = dim < 0 ? n + 1 - (unsigned)-dim : (unsigned)dim;
    memcpy(sizes, meta_of(g, x)->sizes, sizeof(sizes));
    memmove(&sizes[at + 1], &sizes[at], (n - at) * sizeof(sizes[0]));
    sizes[at] = dim_of(1);
    meta = graph_contiguous(g, meta_of(g, x)->dtype, n + 1, sizes);
    return graph_add_node(g, "unsqueeze", "default", args, 2, &meta);
}

uint32_t graph_squeeze(struct graph *g, uint32_t x, int dim)
{
    struct pt2_named_arg args[] = {arg_tensor("self", x), arg_int("dim", dim)};
    struct pt2_tensor_meta meta;
    struct pt2_dim sizes[PT2_MAX_DIMS];
    unsigned n, at;

    if (g->failed)
        return 0;
    n = meta_of(g, x)->n_dims;
    at = dim < 0 ? n - (unsigned)-dim : (unsigned)dim;
    memcpy(sizes, meta_of(g, x)->sizes, sizeof(sizes));
    ASSERT(!sizes[at].expr && sizes[at].value == 1);
    memmove(&sizes[at], &sizes[at + 1], (n - at - 1) * sizeof(sizes[0]));
    meta = graph_contiguous(g, meta_of(g, x)->dtype, n - 1, sizes);
    return graph_add_node(g, "squeeze", "dim", args, 2, &meta);
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
    meta = *meta_of(g, x);
    meta.sizes[meta.n_dims - 1] = dim_of(1);
    meta = graph_contiguous(g, meta.dtype, meta.n_dims, meta.sizes);
    return graph_add_node(g, "mean", "dim", args, 3, &meta);
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
    meta = graph_contiguous(g, meta.dtype, n, sizes);
    return graph_add_node(g, "cat", "default", args, 2, &meta);
}

uint32_t graph_stack(struct graph *g, uint32_t first, int64_t n)
{
    AUTO_PTR struct pt2_arg *parts = calloc((size_t)n, sizeof(*parts));
    struct pt2_named_arg args[] = {
        arg_list("tensors", PT2_ARG_TENSORS, parts, (uint32_t)n)};
    struct pt2_tensor_meta meta;
    struct pt2_dim sizes[2];

    if (g->failed)
        return 0;
    if (!parts) {
        g->failed = pt2_err_set(g->err, PT2_ERR_NOMEM, "%lld values", (long long)n) < 0;
        return 0;
    }
    for (int64_t i = 0; i < n; i++)
        parts[i] = (struct pt2_arg){.kind = PT2_ARG_TENSOR, .value = first + (uint32_t)i};
    sizes[0] = dim_of(n);
    sizes[1] = last_size(g, first);
    meta = graph_contiguous(g, meta_of(g, first)->dtype, 2, sizes);
    return graph_add_node(g, "stack", "default", args, 1, &meta);
}

/* Move the meta to where the last of dimension dim begins; text is for an expression, which is
 * copied when the node is added. */
static void to_last(struct pt2_tensor_meta *meta, unsigned dim, char text[96])
{
    struct pt2_dim size = meta->sizes[dim], stride = meta->strides[dim];

    ASSERT(dim < meta->n_dims && !stride.expr && !meta->storage_offset.expr);
    meta->storage_offset.value += (size.value - 1) * stride.value;
    if (!size.expr)
        return;
    /* x begins where its storage does */
    if (stride.value == 1)
        snprintf(text, 96, "%s - 1", size.expr);
    else
        snprintf(text, 96, "%lld*%s - %lld", (long long)stride.value, size.expr,
                 (long long)stride.value);
    meta->storage_offset.expr = text;
}

uint32_t graph_take_last(struct graph *g, uint32_t x, unsigned dim)
{
    struct pt2_named_arg args[] = {arg_tensor("self", x), arg_int("dim", dim),
                                   arg_int("start", -1), arg_int("end", INT64_MAX)};
    struct pt2_tensor_meta meta;
    char text[96];

    if (g->failed)
        return 0;
    meta = *meta_of(g, x);
    to_last(&meta, dim, text);
    meta.sizes[dim] = dim_of(1);
    return graph_add_node(g, "slice", "Tensor", args, 4, &meta);
}

uint32_t graph_select_last(struct graph *g, uint32_t x, unsigned dim)
{
    struct pt2_named_arg args[] = {arg_tensor("self", x), arg_int("dim", dim),
                                   arg_int("index", -1)};
    struct pt2_tensor_meta meta;
    char text[96];

    if (g->failed)
        return 0;
    meta = *meta_of(g, x);
    to_last(&meta, dim, text);
    meta.n_dims--;
    memmove(&meta.sizes[dim], &meta.sizes[dim + 1], (meta.n_dims - dim) * sizeof(*meta.sizes));
    memmove(&meta.strides[dim], &meta.strides[dim + 1],
            (meta.n_dims - dim) * sizeof(*meta.strides));
    return graph_add_node(g, "select", "int", args, 3, &meta);
}

static uint32_t slice_last(struct graph *g, uint32_t x, int64_t start, int64_t end,
                           int64_t step)
{
    struct pt2_named_arg args[5];
    struct pt2_tensor_meta meta;
    struct pt2_dim *stride;

    if (g->failed)
        return 0;
    meta = *meta_of(g, x);
    ASSERT(start >= 0 && start < end && end <= last_size(g, x).value);
    args[0] = arg_tensor("self", x);
    args[1] = arg_int("dim", meta.n_dims - 1);
    args[2] = arg_int("start", start);
    args[3] = arg_int("end", end == last_size(g, x).value ? INT64_MAX : end);
    args[4] = arg_int("step", step);
    stride = &meta.strides[meta.n_dims - 1];
    ASSERT(!stride->expr);
    meta.storage_offset.value += start * stride->value;
    stride->value *= step;
    meta.sizes[meta.n_dims - 1] = dim_of((end - start + step - 1) / step);
    return graph_add_node(g, "slice", "Tensor", args, step == 1 ? 4 : 5, &meta);
}

uint32_t graph_slice_last(struct graph *g, uint32_t x, int64_t start, int64_t end)
{
    return slice_last(g, x, start, end, 1);
}

uint32_t graph_every_other(struct graph *g, uint32_t x, int64_t start)
{
    return g->failed ? 0 : slice_last(g, x, start, last_size(g, x).value, 2);
}

uint32_t graph_interleave(struct graph *g, uint32_t x, uint32_t y)
{
    struct pt2_arg parts[] = {{.kind = PT2_ARG_TENSOR, .value = x},
                              {.kind = PT2_ARG_TENSOR, .value = y}};
    struct pt2_named_arg stack[] = {arg_list("tensors", PT2_ARG_TENSORS, parts, 2),
                                    arg_int("dim", -1)};
    struct pt2_named_arg flatten[] = {arg_tensor("self", 0), arg_int("start_dim", -2)};
    struct pt2_tensor_meta meta;
    struct pt2_dim sizes[PT2_MAX_DIMS];
    unsigned n;

    if (g->failed)
        return 0;
    n = meta_of(g, x)->n_dims;
    memcpy(sizes, meta_of(g, x)->sizes, sizeof(sizes));
    sizes[n] = dim_of(2);
    meta = graph_contiguous(g, meta_of(g, x)->dtype, n + 1, sizes);
    flatten[0].arg.value = graph_add_node(g, "stack", "default", stack, 2, &meta);
    sizes[n - 1].value *= 2;
    meta = graph_contiguous(g, meta.dtype, n, sizes);
    return graph_add_node(g, "flatten", "using_ints", flatten, 2, &meta);
}

uint32_t graph_repeat_heads(struct graph *g, uint32_t x, int64_t n_repeats)
{
    struct pt2_named_arg unsqueeze[] = {arg_tensor("self", x), arg_int("dim", 2)};
    struct pt2_arg items[5];
    struct pt2_named_arg expand[] = {arg_tensor("self", 0),
                                     arg_list("size", PT2_ARG_INTS, items, 5)};
    struct pt2_tensor_meta meta;
    struct pt2_dim sizes[4];

    if (g->failed || n_repeats == 1)
        return x;
    meta = *meta_of(g, x);
    ASSERT(meta.n_dims == 4);
    memcpy(sizes, meta.sizes, sizeof(sizes));
    sizes[1].value *= n_repeats;
    memmove(&meta.sizes[3], &meta.sizes[2], 2 * sizeof(meta.sizes[0]));
    memmove(&meta.strides[3], &meta.strides[2], 2 * sizeof(meta.strides[0]));
    meta.n_dims = 5;
    meta.sizes[2] = dim_of(1);
    meta.strides[2] = dim_of(meta.sizes[3].value * meta.strides[3].value);
    expand[0].arg.value = graph_add_node(g, "unsqueeze", "default", unsqueeze, 2, &meta);
    meta.sizes[2] = dim_of(n_repeats);
    meta.strides[2] = dim_of(0);
    for (size_t i = 0; i < 5; i++)
        items[i] = (struct pt2_arg){.kind = PT2_ARG_INT, .i = meta.sizes[i].value};
    x = graph_add_node(g, "expand", "default", expand, 2, &meta);
    return graph_view(g, x, 4, sizes, /* is_copy= */ true);
}

uint32_t graph_expand_as(struct graph *g, uint32_t x, uint32_t like)
{
    struct pt2_named_arg args[] = {arg_tensor("self", x), arg_tensor("other", like)};
    struct pt2_tensor_meta meta;

    if (g->failed)
        return 0;
    meta = *meta_of(g, x);
    ASSERT(meta.n_dims == 4 && meta_of(g, like)->n_dims == 4);
    for (unsigned i = 0; i < 4; i++) {
        const struct pt2_dim *to = &meta_of(g, like)->sizes[i];

        if (meta.sizes[i].value == 1 && (to->expr || to->value != 1))
            meta.strides[i] = dim_of(0);
        meta.sizes[i] = *to;
    }
    return graph_add_node(g, "expand_as", "default", args, 2, &meta);
}

uint32_t graph_expand_last(struct graph *g, uint32_t x, int64_t size)
{
    struct pt2_arg items[PT2_MAX_DIMS];
    struct pt2_named_arg args[] = {arg_tensor("self", x),
                                   arg_list("size", PT2_ARG_INTS, items, 0)};
    struct pt2_tensor_meta meta;

    if (g->failed)
        return 0;
    meta = *meta_of(g, x);
    ASSERT(last_size(g, x).value == 1);
    for (unsigned i = 0; i < meta.n_dims; i++)
        items[i] = (struct pt2_arg){.kind = PT2_ARG_INT, .i = -1}; /* as it is */
    items[meta.n_dims - 1].i = size;
    args[1].arg.list.n = meta.n_dims;
    meta.sizes[meta.n_dims - 1] = dim_of(size);
    meta.strides[meta.n_dims - 1] = dim_of(0);
    return graph_add_node(g, "expand", "default", args, 2, &meta);
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
    return graph_add_node(g, "transpose", "int", args, 3, &meta);
}

static bool is_symbolic(unsigned n_dims, const struct pt2_dim *sizes)
{
    for (unsigned i = 0; i < n_dims; i++)
        if (sizes[i].expr)
            return true;
    return false;
}

static uint32_t contiguous(struct graph *g, uint32_t x)
{
    struct pt2_named_arg arg = arg_tensor("self", x);
    struct pt2_tensor_meta meta = *meta_of(g, x);

    meta = graph_contiguous(g, meta.dtype, meta.n_dims, meta.sizes);
    return graph_add_node(g, "contiguous", "default", &arg, 1, &meta);
}

uint32_t graph_view(struct graph *g, uint32_t x, unsigned n_dims,
                    const struct pt2_dim *sizes, bool is_copy)
{
    struct pt2_arg items[PT2_MAX_DIMS];
    struct pt2_named_arg args[2];
    struct pt2_tensor_meta meta;
    bool is_reshape = is_copy;

    if (g->failed)
        return 0;
    if (is_copy && g->no_reshape && is_symbolic(n_dims, sizes)) {
        x = contiguous(g, x);
        is_reshape = false;
    }
    for (unsigned i = 0; i < n_dims; i++)
        items[i] = (struct pt2_arg){.kind = PT2_ARG_INT,
                                    .i = sizes[i].expr ? -1 : sizes[i].value};
    args[0] = arg_tensor("self", x);
    args[1] = arg_list(is_reshape ? "shape" : "size", PT2_ARG_INTS, items, n_dims);
    meta = *meta_of(g, x);
    if (is_copy || n_dims != meta.n_dims + 1 ||
        meta.sizes[0].value != sizes[0].value) {
        meta = graph_contiguous(g, meta.dtype, n_dims, sizes);
    } else { /* the last dimension as two; x need not be contiguous */
        struct pt2_dim last = meta.strides[n_dims - 2];

        ASSERT(!last.expr);
        meta.strides[n_dims - 1] = last;
        meta.strides[n_dims - 2] = dim_of(last.value * sizes[n_dims - 1].value);
        memcpy(meta.sizes, sizes, n_dims * sizeof(sizes[0]));
        meta.n_dims = n_dims;
    }
    return graph_add_node(g, is_reshape ? "reshape" : "view", "default", args, 2, &meta);
}

uint32_t graph_pad_last(struct graph *g, uint32_t x)
{
    const struct pt2_arg pad[] = {{.kind = PT2_ARG_INT, .i = 0}, {.kind = PT2_ARG_INT, .i = 1}};
    struct pt2_named_arg args[] = {arg_tensor("self", x), arg_list("pad", PT2_ARG_INTS, pad, 2)};
    struct pt2_tensor_meta meta;

    if (g->failed)
        return 0;
    meta = graph_like(g, x, meta_of(g, x)->dtype, dim_of(last_size(g, x).value + 1));
    return graph_add_node(g, "constant_pad_nd", "default", args, 2, &meta);
}
