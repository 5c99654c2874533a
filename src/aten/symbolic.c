#include "aten/graph.h"

/* ---- arithmetic on sizes, as Python computes it ---- */

static const char *const symbolic_names[] = {
    "_operator.add", "_operator.sub",  "_operator.mul", "_operator.floordiv",
    "_operator.mod", "_operator.neg",  "_operator.pos", "_operator.eq",
    "_operator.ne",  "_operator.lt",   "_operator.le",  "_operator.gt",
    "_operator.ge",  "_operator.and_", "_operator.or_", "torch.sym_max",
    "torch.sym_min", "torch.sym_not",  "torch.sym_int",
};

bool symbolic_is_known(const char *target)
{
    for (size_t i = 0; i < ARRAY_LEN(symbolic_names); i++)
        if (streq(symbolic_names[i], target))
            return true;
    return false;
}

static int64_t floor_div(int64_t a, int64_t b)
{
    int64_t q = a / b;

    return a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
}

/* Of the divisor's sign. */
static int64_t floor_mod(int64_t a, int64_t b)
{
    int64_t r = a % b;

    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

/* False where the result does not fit (or divides by zero). */
static bool integer_op(const char *op, int64_t a, int64_t b, int64_t *ret)
{
    bool divides = streq(op, "floordiv") || streq(op, "mod");

    if (divides && (b == 0 || (a == INT64_MIN && b == -1)))
        return false;
    if (streq(op, "add"))
        return !__builtin_add_overflow(a, b, ret);
    if (streq(op, "sub"))
        return !__builtin_sub_overflow(a, b, ret);
    if (streq(op, "mul"))
        return !__builtin_mul_overflow(a, b, ret);
    if (streq(op, "neg"))
        return !__builtin_sub_overflow(INT64_C(0), a, ret);
    if (streq(op, "floordiv"))
        *ret = floor_div(a, b);
    else if (streq(op, "mod"))
        *ret = floor_mod(a, b);
    else if (streq(op, "sym_max"))
        *ret = MAX(a, b);
    else if (streq(op, "sym_min"))
        *ret = MIN(a, b);
    else /* pos, sym_int */
        *ret = a;
    return true;
}

/* False where op is none of these. */
static bool truth_op(const char *op, int64_t a, int64_t b, bool *ret)
{
    if (streq(op, "eq"))
        *ret = a == b;
    else if (streq(op, "ne"))
        *ret = a != b;
    else if (streq(op, "lt"))
        *ret = a < b;
    else if (streq(op, "le"))
        *ret = a <= b;
    else if (streq(op, "gt"))
        *ret = a > b;
    else if (streq(op, "ge"))
        *ret = a >= b;
    else if (streq(op, "and_"))
        *ret = a && b;
    else if (streq(op, "or_"))
        *ret = a || b;
    else if (streq(op, "sym_not"))
        *ret = !a;
    else
        return false;
    return true;
}

/* A number that is an integer or a truth value. */
static int whole(const struct bridge_value *v, int64_t *ret, struct pt2_err *err)
{
    if (v->kind == BRIDGE_INT)
        *ret = v->i;
    else if (v->kind == BRIDGE_BOOL)
        *ret = v->b;
    else
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED, "takes integers only");
    return 0;
}

static int run_arithmetic(const struct call *call, struct bridge_value *ret,
                          struct pt2_err *err)
{
    const char *op = strchr(call->node->target, '.') + 1;
    int64_t x[2] = {0, 0}, i;
    bool b;

    for (unsigned k = 0; k < call->n_args && k < 2; k++)
        if (whole(&call->args[k], &x[k], err) < 0)
            return -1;
    if (truth_op(op, x[0], x[1], &b))
        *ret = (struct bridge_value){.kind = BRIDGE_BOOL, .b = b};
    else if (integer_op(op, x[0], x[1], &i))
        *ret = (struct bridge_value){.kind = BRIDGE_INT, .i = i};
    else
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED,
                           "%lld and %lld have no such result", (long long)x[0],
                           (long long)x[1]);
    return 0;
}

/* ---- ops on sizes and scalars ---- */

static int run_size(const struct call *call, struct bridge_value *ret,
                    struct pt2_err *err)
{
    const struct bridge_tensor *t = call->args[0].t;
    int64_t n_dims = bridge_tensor_n_dims(t), dim, n = 1;

    if (streq(call->op->name, "aten::sym_numel")) {
        for (unsigned i = 0; i < n_dims; i++)
            n *= bridge_tensor_size(t, i); /* run.c has bounded the product */
        *ret = (struct bridge_value){.kind = BRIDGE_INT, .i = n};
        return 0;
    }
    if (streq(call->op->name, "aten::sym_storage_offset")) {
        n = (const char *)bridge_tensor_data(call->args[0].t) -
            (const char *)bridge_tensor_storage(t);
        n /= (int64_t)pt2_dtype_size(bridge_tensor_dtype(t));
        *ret = (struct bridge_value){.kind = BRIDGE_INT, .i = n};
        return 0;
    }
    dim = call->args[1].kind == BRIDGE_INT ? call->args[1].i : INT64_MAX;
    if (dim < -n_dims || dim >= n_dims)
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED, "dimension %lld of %lld",
                           (long long)dim, (long long)n_dims);
    *ret = (struct bridge_value){
        .kind = BRIDGE_INT,
        .i = bridge_tensor_size(t, (unsigned)(dim < 0 ? dim + n_dims : dim))};
    return 0;
}

static int read_scalar(struct bridge_tensor *t, struct bridge_value *ret,
                       struct pt2_err *err)
{
    static const struct bridge_op *item;
    struct bridge_value arg = {.kind = BRIDGE_TENSOR, .t = t};

    if (!item)
        item = bridge_op_find("aten::item", "");
    return bridge_call(item, &arg, ret, 1, err);
}

/* A kind that the output asks for: item of an int tensor is an int, of a bool one a bool.
 */
static int run_item(const struct call *call, struct bridge_value *ret,
                    struct pt2_err *err)
{
    enum pt2_arg_kind want =
        call->node->n_outputs ? call->node->outputs[0].kind : PT2_ARG_NONE;
    struct bridge_value v = {.kind = BRIDGE_NONE};

    if (read_scalar(call->args[0].t, &v, err) < 0)
        return -1;
    if (want == PT2_ARG_SYM_INT && v.kind == BRIDGE_BOOL)
        v = (struct bridge_value){.kind = BRIDGE_INT, .i = v.b};
    if (want != PT2_ARG_NONE && (want == PT2_ARG_SYM_INT     ? v.kind != BRIDGE_INT
                                 : want == PT2_ARG_SYM_FLOAT ? v.kind != BRIDGE_FLOAT
                                                             : v.kind != BRIDGE_BOOL))
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED, "the element is of another kind");
    *ret = v;
    return 0;
}

/* ---- assertions ---- */

static bool same_ints(const struct bridge_value *want, const struct bridge_tensor *t,
                      int64_t (*get)(const struct bridge_tensor *, unsigned))
{
    if (want->kind != BRIDGE_LIST)
        return true;
    if (want->list.n != bridge_tensor_n_dims(t))
        return false;
    for (unsigned i = 0; i < want->list.n; i++)
        if (want->list.items[i].kind != BRIDGE_INT || want->list.items[i].i != get(t, i))
            return false;
    return true;
}

static int run_assert_metadata(const struct call *call, struct pt2_err *err)
{
    const struct bridge_tensor *t = call->args[0].t;
    const struct bridge_value *dtype = &call->args[3];

    if (!same_ints(&call->args[1], t, bridge_tensor_size))
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED, "the tensor has other sizes");
    if (!same_ints(&call->args[2], t, bridge_tensor_stride))
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED, "the tensor has other strides");
    if (dtype->kind == BRIDGE_DTYPE && dtype->dtype != bridge_tensor_dtype(t))
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED, "the tensor is of %s, not %s",
                           pt2_dtype_name(bridge_tensor_dtype(t)),
                           pt2_dtype_name(dtype->dtype));
    return 0;
}

static int run_assert_true(const struct call *call, struct pt2_err *err)
{
    struct bridge_value v = call->args[0];
    bool holds;

    if (v.kind == BRIDGE_TENSOR && read_scalar(call->args[0].t, &v, err) < 0)
        return -1;
    holds = v.kind == BRIDGE_FLOAT ? v.f != 0.0 : v.kind == BRIDGE_BOOL ? v.b : v.i != 0;
    if (!holds)
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED, "assertion failed: %.200s",
                           call->args[1].s);
    return 0;
}

static int run_range(const struct call *call, struct pt2_err *err)
{
    const struct bridge_value *min = &call->args[1], *max = &call->args[2];
    int64_t x = 0;

    if (whole(&call->args[0], &x, err) < 0)
        return -1;
    if ((min->kind == BRIDGE_INT && x < min->i) ||
        (max->kind == BRIDGE_INT && x > max->i))
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED, "%lld is out of its range",
                           (long long)x);
    return 0;
}

int symbolic_run(const struct call *call, struct bridge_value *rets, struct pt2_err *err)
{
    const char *name;

    if (!call->op)
        return run_arithmetic(call, rets, err);
    name = call->op->name + strlen("aten::");
    if (after_prefix(name, "sym_constrain_range"))
        return run_range(call, err);
    if (streq(name, "_assert_scalar"))
        return run_assert_true(call, err);
    /* the rest look at a tensor; a number in its place is no error of ours to make */
    if (call->args[0].kind != BRIDGE_TENSOR)
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED, "takes a tensor");
    if (streq(name, "_assert_async"))
        return run_assert_true(call, err);
    if (streq(name, "_assert_tensor_metadata"))
        return run_assert_metadata(call, err);
    if (after_prefix(name, "sym_"))
        return run_size(call, rets, err);
    return run_item(call, rets, err);
}
