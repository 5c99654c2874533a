/* ops.h - the table of allowed ops (tbl_ops.h), read: schemas, and arguments against
 * them.
 *
 * Knows nothing of libtorch.  Any thread: the table is parsed once, then constant. */
#ifndef ATEN_OPS_H
#define ATEN_OPS_H

#include "base/util.h"

#include <pt2/program.h>

#define OP_MAX_ARGS 10
#define OP_MAX_RETS 3
/* Tensors that one call may answer as a list (split, chunk, unbind). */
#define ATEN_MAX_LIST 4096

enum op_type {
    OP_TENSOR,
    OP_INT, /* int, SymInt */
    OP_FLOAT,
    OP_BOOL,
    OP_STRING,
    OP_SCALAR, /* a number of any kind */
    OP_DTYPE,
    OP_LAYOUT,
    OP_DEVICE,
    OP_MEMORY_FORMAT,
};

struct op_arg {
    char name[24]; /* "" for a return that has none */
    enum op_type type;
    bool is_list;
    bool is_optional;        /* None may be given: of the list as a whole */
    bool has_optional_items; /* None may be an item (Tensor?[]) */
    bool has_default;
    char alias;      /* the letter of Tensor(a); '\0': none */
    bool is_written; /* Tensor(a!) */
};

enum op_half { OP_HALF_NATIVE, OP_HALF_F32 };
enum op_lowering {
    OP_CALL,
    OP_OWN,
    OP_SDPA,
    OP_RMS_NORM,
    OP_LINEAR,
    OP_GROUPED,
    OP_UPDATE_CACHE,
    OP_CUSTOM_SDPA,
    OP_TORCHAO,
};
enum op_check {
    OP_CHECK_NOTHING,
    OP_CHECK_LIST,
    OP_CHECK_EVAL,
    OP_CHECK_GROUPS,
    OP_CHECK_BLOCKS,
};

struct op {
    char name[40];     /* "aten::add", "transformers::grouped_mm_fallback" */
    char overload[16]; /* "Tensor", "" for default */
    char call_name[40];
    enum op_half half;
    enum op_lowering lowering;
    enum op_check check;
    struct op_arg args[OP_MAX_ARGS], rets[OP_MAX_RETS];
    unsigned n_args, n_rets;
};

/* The op of a node's target, "torch.ops.aten.add.Tensor"; NULL where the table has none.
 */
const struct op *op_find(const char *target);
/* The lines of the table, for tests. */
size_t op_count(void);
const struct op *op_at(size_t i);
/* An argument's place; -1 where there is none of that name. */
int op_arg_find(const struct op *op, const char *name);

/* Is the op spelled in others whatever libtorch there is? */
static inline bool op_is_spelled(const struct op *op)
{
    return op->lowering >= OP_GROUPED;
}
/* Does the op answer its argument itself, or a copy where the dtype differs? */
bool op_may_copy(const struct op *op);

/* Check a node's arguments against op: each is known, given once, of a kind that its type
 * takes, and allowed here (devices, layouts and the like: tbl_ops.h); none is missing.
 * ret_given[i] is the node's argument for op->args[i], NULL where it is left to its
 * default. Errors: PROGRAM_REFUSED. */
MUST_USE int op_check_args(const struct op *op, const struct pt2_node *node,
                           const struct pt2_arg *ret_given[OP_MAX_ARGS],
                           struct pt2_err *err);

/* ---- ops_torchao.c: the arguments of ops whose check is BLOCKS ---- */

/* Known dtypes and mappings, quant_min and quant_max in order and within the dtype, no
 * block smaller than 1.  Errors: PROGRAM_REFUSED. */
MUST_USE int op_check_torchao(const struct op *op,
                              const struct pt2_arg *const given[OP_MAX_ARGS],
                              struct pt2_err *err);
/* The least and the largest number that quantised values of the dtype are; false where it
 * is none that values are quantised to. */
bool op_torchao_limits(enum pt2_dtype dtype, double *ret_min, double *ret_max);

#endif
