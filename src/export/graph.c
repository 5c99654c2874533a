#include "export/graph.h"

#include "export/graph_impl.h"

void graph_init(struct graph *g, struct pt2_program *program, struct pt2_err *err)
{
    *g = (struct graph){.program = program, .err = err};
}

/* ---- adding ---- */

uint32_t graph_add_node_of(struct graph *g, const char *library, const char *op,
                           const char *overload, const struct pt2_named_arg *args,
                           uint32_t n_args, const struct pt2_tensor_meta *meta)
{
    char target[80];
    uint32_t value = 0;

    if (g->failed)
        return 0;
    snprintf(target, sizeof(target), "torch.ops.%s.%s.%s", library, op, overload);
    g->failed = pt2_program_add_node(g->program, target, op, args, n_args, meta, &value,
                                     g->err) < 0;
    return value;
}

uint32_t graph_add_node(struct graph *g, const char *op, const char *overload,
                        const struct pt2_named_arg *args, uint32_t n_args,
                        const struct pt2_tensor_meta *meta)
{
    return graph_add_node_of(g, "aten", op, overload, args, n_args, meta);
}

void graph_add_tuple_of(struct graph *g, const char *library, const char *op,
                        const char *overload, const struct pt2_named_arg *args,
                        uint32_t n_args, const struct pt2_tensor_meta *metas, uint32_t n,
                        uint32_t *ret_values)
{
    char target[80];

    memset(ret_values, 0, n * sizeof(*ret_values));
    if (g->failed)
        return;
    snprintf(target, sizeof(target), "torch.ops.%s.%s.%s", library, op, overload);
    g->failed = pt2_program_add_tuple(g->program, target, op, args, n_args, metas, n,
                                      ret_values, g->err) < 0;
}

void graph_add_tuple(struct graph *g, const char *op, const char *overload,
                     const struct pt2_named_arg *args, uint32_t n_args,
                     const struct pt2_tensor_meta *metas, uint32_t n,
                     uint32_t *ret_values)
{
    graph_add_tuple_of(g, "aten", op, overload, args, n_args, metas, n, ret_values);
}

struct pt2_tensor_meta graph_contiguous(struct graph *g, enum pt2_dtype dtype,
                                        unsigned n_dims, const struct pt2_dim *sizes)
{
    struct pt2_tensor_meta meta = {0};

    if (!g->failed)
        g->failed = pt2_tensor_meta_contiguous(g->program, dtype, n_dims, sizes, &meta,
                                               g->err) < 0;
    return meta;
}

struct pt2_tensor_meta graph_like(struct graph *g, uint32_t x, enum pt2_dtype dtype,
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

        meta = graph_contiguous(g, dtype, 4, sizes);
        meta.sizes[1] = from.sizes[1];
        meta.sizes[2] = from.sizes[2];
        stride = meta.strides[1];
        meta.strides[1] = meta.strides[2];
        meta.strides[2] = stride;
        return meta;
    }
    return graph_contiguous(g, dtype, from.n_dims, from.sizes);
}

/* ---- inputs ---- */

static uint32_t add_input(struct graph *g, enum pt2_input_kind kind, bool is_persistent,
                          bool requires_grad, const char *fqn, enum pt2_dtype dtype, unsigned n_dims,
                          const int64_t *sizes)
{
    struct pt2_dim dims[PT2_MAX_DIMS];
    struct pt2_tensor_meta meta;
    char name[1200];
    uint32_t value = 0;

    for (unsigned i = 0; i < n_dims; i++)
        dims[i] = dim_of(sizes[i]);
    meta = graph_contiguous(g, dtype, n_dims, dims);
    meta.requires_grad = requires_grad;
    snprintf(name, sizeof(name), "%s%s", kind == PT2_INPUT_PARAMETER ? "p_" : "b_", fqn);
    for (char *c = name; *c; c++)
        if (*c == '.')
            *c = '_';
    if (!g->failed)
        g->failed = pt2_program_add_input(g->program, kind, name, fqn, is_persistent,
                                          &meta, &value, g->err) < 0;
    return value;
}

uint32_t graph_parameter(struct graph *g, const char *fqn, enum pt2_dtype dtype,
                         unsigned n_dims, const int64_t *sizes, bool requires_grad)
{
    return add_input(g, PT2_INPUT_PARAMETER, false, requires_grad, fqn, dtype, n_dims, sizes);
}

uint32_t graph_persistent_buffer(struct graph *g, const char *fqn, enum pt2_dtype dtype,
                                 unsigned n_dims, const int64_t *sizes)
{
    return add_input(g, PT2_INPUT_BUFFER, true, false, fqn, dtype, n_dims, sizes);
}

uint32_t graph_buffer(struct graph *g, const char *fqn, enum pt2_dtype dtype,
                      unsigned n_dims, const int64_t *sizes)
{
    return add_input(g, PT2_INPUT_BUFFER, false, false, fqn, dtype, n_dims, sizes);
}

uint32_t graph_user_input(struct graph *g, const char *name, unsigned n_dims,
                          const struct pt2_dim *sizes)
{
    struct pt2_tensor_meta meta = graph_contiguous(g, PT2_INT64, n_dims, sizes);
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
