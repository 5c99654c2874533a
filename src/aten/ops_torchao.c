/* What the arguments of torchao's ops must be, seen without a tensor. */
#include "aten/ops.h"

/* _DTYPE_TO_QVALUE_BOUNDS of torchao's quant_primitives.py */
static const struct {
    enum pt2_dtype dtype;
    double min, max;
} bounds[] = {
    {PT2_UINT8, 0, UINT8_MAX},
    {PT2_INT8, INT8_MIN, INT8_MAX},
    {PT2_INT16, INT16_MIN, INT16_MAX},
    {PT2_INT32, INT32_MIN, INT32_MAX},
};

bool op_torchao_limits(enum pt2_dtype dtype, double *ret_min, double *ret_max)
{
    for (size_t i = 0; i < ARRAY_LEN(bounds); i++)
        if (bounds[i].dtype == dtype) {
            *ret_min = bounds[i].min;
            *ret_max = bounds[i].max;
            return true;
        }
    return false;
}

static const struct pt2_arg *given_of(const struct op *op,
                                      const struct pt2_arg *const given[OP_MAX_ARGS],
                                      const char *name)
{
    int i = op_arg_find(op, name);

    return i < 0 || !given[i] || given[i]->kind == PT2_ARG_NONE ? NULL : given[i];
}

/* A dtype that values are quantised to; ret_min, ret_max: what it holds. */
static int check_values_dtype(const struct op *op,
                              const struct pt2_arg *const given[OP_MAX_ARGS],
                              double *ret_min, double *ret_max, struct pt2_err *err)
{
    static const char *const names[] = {"target_dtype", "input_dtype", "output_dtype"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (op_arg_find(op, names[i]) < 0)
            continue;
        const struct pt2_arg *arg = given_of(op, given, names[i]);

        if (arg && op_torchao_limits(arg->dtype, ret_min, ret_max))
            return 0;
        return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED, "argument '%s': values of %s",
                           names[i], arg ? pt2_dtype_name(arg->dtype) : "no dtype");
    }
    return 0;
}

static int check_real_dtype(const struct op *op,
                            const struct pt2_arg *const given[OP_MAX_ARGS],
                            const char *name, struct pt2_err *err)
{
    const struct pt2_arg *arg = given_of(op, given, name);

    if (!arg || arg->dtype == PT2_FLOAT32 || arg->dtype == PT2_FLOAT16 ||
        arg->dtype == PT2_BFLOAT16)
        return 0;
    return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED,
                       "argument '%s' is %s, not float32, float16 or bfloat16", name,
                       pt2_dtype_name(arg->dtype));
}

/* *value is what is given, or stays. */
static int check_number(const struct op *op,
                        const struct pt2_arg *const given[OP_MAX_ARGS], const char *name,
                        double *value, struct pt2_err *err)
{
    const struct pt2_arg *arg = given_of(op, given, name);

    if (!arg)
        return 0;
    if (arg->kind != PT2_ARG_INT && arg->kind != PT2_ARG_FLOAT)
        return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED, "argument '%s' is no number",
                           name);
    *value = arg->kind == PT2_ARG_INT ? (double)arg->i : arg->f;
    return 0;
}

static int check_limits(const struct op *op,
                        const struct pt2_arg *const given[OP_MAX_ARGS],
                        struct pt2_err *err)
{
    double least = 0, most = 0, min, max;

    if (check_values_dtype(op, given, &least, &most, err) < 0)
        return -1;
    min = least;
    max = most;
    if (check_number(op, given, "quant_min", &min, err) < 0 ||
        check_number(op, given, "quant_max", &max, err) < 0)
        return -1;
    if (!(min >= least && min <= max && max <= most)) /* no NaN either */
        return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED,
                           "arguments 'quant_min' and 'quant_max' are %g and %g, the "
                           "dtype holds %g to %g",
                           min, max, least, most);
    return 0;
}

static int check_blocks(const struct pt2_arg *arg, struct pt2_err *err)
{
    for (uint32_t i = 0; arg && arg->kind >= PT2_ARG_TENSORS && i < arg->list.n; i++)
        if (arg->list.items[i].kind == PT2_ARG_INT && arg->list.items[i].i < 1)
            return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED,
                               "argument 'block_size': size %u is %lld", i,
                               (long long)arg->list.items[i].i);
    return 0;
}

static int check_mapping(const struct pt2_arg *arg, struct pt2_err *err)
{
    if (!arg || streq(arg->s, "ASYMMETRIC") || streq(arg->s, "SYMMETRIC") ||
        streq(arg->s, "SYMMETRIC_NO_CLIPPING_ERR"))
        return 0;
    return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED, "argument 'mapping_type' is '%.40s'",
                       arg->s);
}

int op_check_torchao(const struct op *op, const struct pt2_arg *const given[OP_MAX_ARGS],
                     struct pt2_err *err)
{
    bool dequantizes = op_arg_find(op, "input_dtype") >= 0;

    if (check_limits(op, given, err) < 0 ||
        check_blocks(given_of(op, given, "block_size"), err) < 0 ||
        check_mapping(given_of(op, given, "mapping_type"), err) < 0 ||
        check_real_dtype(op, given, "scale_dtype", err) < 0)
        return -1;
    return dequantizes ? check_real_dtype(op, given, "output_dtype", err) : 0;
}
