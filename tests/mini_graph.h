/* mini_graph.h - small graphs, a node a line:
 *
 *     struct mini m;
 *     mini_init(&m, 4);                         input_ids (1, 4) and cache_position (4)
 *     v = mini(&m, "le.Tensor", PT2_BOOL, SIZES(4, 8), 2, ARG_T("self", a), ARG_T("other", b));
 *
 * Sizes of -1 stand for a length that is not fixed. */
#ifndef TESTS_MINI_GRAPH_H
#define TESTS_MINI_GRAPH_H

#include <check.h>
#include <pt2/program.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct mini {
    struct pt2_program *program;
    uint32_t ids, positions;
};

#define SIZES(...)                                                                        \
    (unsigned)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[])           \
    {                                                                                     \
        __VA_ARGS__                                                                       \
    }
#define NO_SIZES 0, (int64_t *)NULL
#define ARG(n, ...) ((struct pt2_named_arg){.name = (n), .arg = {__VA_ARGS__}, .kind = 1})
#define ARG_T(n, v)      ARG(n, .kind = PT2_ARG_TENSOR, .value = (v))
#define ARG_S(n, v)      ARG(n, .kind = PT2_ARG_SYM_INT, .value = (v))
#define ARG_I(n, x)      ARG(n, .kind = PT2_ARG_INT, .i = (x))
#define ARG_F(n, x)      ARG(n, .kind = PT2_ARG_FLOAT, .f = (x))
#define ARG_B(n, x)      ARG(n, .kind = PT2_ARG_BOOL, .b = (x))
#define ARG_STR(n, x)    ARG(n, .kind = PT2_ARG_STRING, .s = (x))
#define ARG_DTYPE(n, x)  ARG(n, .kind = PT2_ARG_SCALAR_TYPE, .dtype = (x))
#define ARG_LIST(n, k, array)                                                             \
    ARG(n, .kind = (k), .list = {(array), (uint32_t)(sizeof(array) / sizeof((array)[0]))})

static inline struct pt2_tensor_meta mini_meta(struct mini *m, enum pt2_dtype dtype,
                                               unsigned n_dims, const int64_t *sizes)
{
    struct pt2_dim dims[PT2_MAX_DIMS];
    struct pt2_tensor_meta meta;
    struct pt2_err err = {0};

    for (unsigned d = 0; d < n_dims; d++)
        dims[d] = sizes[d] == -1 ? (struct pt2_dim){"s0", 2} : (struct pt2_dim){NULL, sizes[d]};
    ck_assert_msg(pt2_tensor_meta_contiguous(m->program, dtype, n_dims, dims, &meta, &err) ==
                      0,
                  "%s", err.text);
    return meta;
}

static inline uint32_t mini_input(struct mini *m, enum pt2_input_kind kind, const char *name,
                                  enum pt2_dtype dtype, unsigned n_dims,
                                  const int64_t *sizes)
{
    struct pt2_tensor_meta meta = mini_meta(m, dtype, n_dims, sizes);
    struct pt2_err err = {0};
    uint32_t value;

    ck_assert_msg(pt2_program_add_input(m->program, kind, name,
                                        kind == PT2_INPUT_USER ? NULL : name, false, &meta,
                                        &value, &err) == 0,
                  "%s", err.text);
    return value;
}

/* The inputs that are no user's come first. */
static inline void mini_new(struct mini *m)
{
    struct pt2_err err = {0};

    ck_assert_msg(pt2_program_new(&m->program, &err) == 0, "%s", err.text);
}

static inline void mini_user(struct mini *m, int64_t batch, int64_t s)
{
    struct pt2_err err = {0};

    m->ids = mini_input(m, PT2_INPUT_USER, "input_ids", PT2_INT64, SIZES(batch, s));
    m->positions = mini_input(m, PT2_INPUT_USER, "cache_position", PT2_INT64, SIZES(s));
    if (s == -1)
        ck_assert_int_eq(pt2_program_add_range(m->program, "s0", 1, 16, &err), 0);
}

static inline void mini_init(struct mini *m, int64_t s)
{
    mini_new(m);
    mini_user(m, 1, s);
}

static inline uint32_t mini(struct mini *m, const char *op, enum pt2_dtype dtype,
                            unsigned n_dims, const int64_t *sizes, unsigned n_args, ...)
{
    struct pt2_named_arg args[8];
    struct pt2_tensor_meta meta = mini_meta(m, dtype, n_dims, sizes);
    struct pt2_err err = {0};
    char target[80], name[80];
    uint32_t value;
    va_list ap;

    va_start(ap, n_args);
    for (unsigned i = 0; i < n_args; i++)
        args[i] = va_arg(ap, struct pt2_named_arg);
    va_end(ap);
    snprintf(target, sizeof(target), "torch.ops.aten.%s", op);
    snprintf(name, sizeof(name), "%.*s", (int)strcspn(op, "."), op);
    ck_assert_msg(pt2_program_add_node(m->program, target, name, args, n_args, &meta, &value,
                                       &err) == 0,
                  "%s", err.text);
    return value;
}

static inline void mini_done(struct mini *m)
{
    pt2_program_free(m->program);
}

#endif
