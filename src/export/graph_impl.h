/* graph_impl.h - what the files of graph.h share: arguments, and the meta of results. */
#ifndef EXPORT_GRAPH_IMPL_H
#define EXPORT_GRAPH_IMPL_H

#include "export/graph.h"

#define MAX_ARGS 8

static inline const struct pt2_tensor_meta *meta_of(const struct graph *g, uint32_t value)
{
    return &pt2_program_value(g->program, value)->meta;
}

static inline struct pt2_dim last_size(const struct graph *g, uint32_t x)
{
    const struct pt2_tensor_meta *meta = meta_of(g, x);

    return meta->sizes[meta->n_dims - 1];
}

/* ---- arguments ---- */

/* Positional: kind 1; keyword: kind 2. */
static inline struct pt2_named_arg named(const char *name, int kind, struct pt2_arg arg)
{
    return (struct pt2_named_arg){name, arg, kind};
}

static inline struct pt2_named_arg arg_tensor(const char *name, uint32_t value)
{
    return named(name, 1, (struct pt2_arg){.kind = PT2_ARG_TENSOR, .value = value});
}

static inline struct pt2_named_arg arg_int(const char *name, int64_t i)
{
    return named(name, 1, (struct pt2_arg){.kind = PT2_ARG_INT, .i = i});
}

static inline struct pt2_named_arg arg_float(const char *name, int kind, double f)
{
    return named(name, kind, (struct pt2_arg){.kind = PT2_ARG_FLOAT, .f = f});
}

static inline struct pt2_named_arg arg_bool(const char *name, int kind, bool b)
{
    return named(name, kind, (struct pt2_arg){.kind = PT2_ARG_BOOL, .b = b});
}

static inline struct pt2_named_arg arg_none(const char *name)
{
    return named(name, 1, (struct pt2_arg){.kind = PT2_ARG_NONE});
}

static inline struct pt2_named_arg arg_dtype(const char *name, int kind,
                                             enum pt2_dtype dtype)
{
    return named(name, kind,
                 (struct pt2_arg){.kind = PT2_ARG_SCALAR_TYPE, .dtype = dtype});
}

/* items is borrowed until the node is added. */
static inline struct pt2_named_arg arg_list(const char *name, enum pt2_arg_kind kind,
                                            const struct pt2_arg *items, uint32_t n)
{
    return named(name, 1, (struct pt2_arg){.kind = kind, .list = {items, n}});
}

/* ---- adding ---- */

/* The node's name is the op's: "mul" of torch.ops.aten.mul.Tensor. */
uint32_t graph_add_node(struct graph *g, const char *op, const char *overload,
                        const struct pt2_named_arg *args, uint32_t n_args,
                        const struct pt2_tensor_meta *meta);

/* The same of another library than aten: "torchao". */
uint32_t graph_add_node_of(struct graph *g, const char *library, const char *op,
                           const char *overload, const struct pt2_named_arg *args,
                           uint32_t n_args, const struct pt2_tensor_meta *meta);

/* The same of a node that makes n tensors. */
void graph_add_tuple(struct graph *g, const char *op, const char *overload,
                     const struct pt2_named_arg *args, uint32_t n_args,
                     const struct pt2_tensor_meta *metas, uint32_t n,
                     uint32_t *ret_values);
void graph_add_tuple_of(struct graph *g, const char *library, const char *op,
                        const char *overload, const struct pt2_named_arg *args,
                        uint32_t n_args, const struct pt2_tensor_meta *metas, uint32_t n,
                        uint32_t *ret_values);

struct pt2_tensor_meta graph_contiguous(struct graph *g, enum pt2_dtype dtype,
                                        unsigned n_dims, const struct pt2_dim *sizes);
/* The meta of a result that is shaped like x but for its last dimension: an op keeps the
 * order of x's dimensions in memory, without holes and without x's offset. */
struct pt2_tensor_meta graph_like(struct graph *g, uint32_t x, enum pt2_dtype dtype,
                                  struct pt2_dim last);

#endif
