#include "aten/ops.h"

#include <assert.h>
#include <pthread.h>

/* A line of the table, its schema not yet parsed. */
static const struct {
    const char *schema, *call_name;
    enum op_half half;
    enum op_lowering lowering;
    enum op_check check;
} lines[] = {
#define ATEN_OP(schema, call_name, half, lowering, check)                                \
    {schema, call_name, OP_HALF_##half, OP_##lowering, OP_CHECK_##check},
#include "aten/tbl_ops.h"
#undef ATEN_OP
};

static struct op ops[ARRAY_LEN(lines)];
static pthread_once_t ops_once = PTHREAD_ONCE_INIT;

/* ---- schemas: our own text, so a mistake in one is a bug ---- */

/* Copy what is before any of stop into ret, and answer where it stopped. */
static const char *take(const char *s, const char *stop, char *ret, size_t size)
{
    size_t n = strcspn(s, stop);

    assert(n < size);
    memcpy(ret, s, n);
    ret[n] = '\0';
    return s + n;
}

static bool skip(const char **s, const char *word)
{
    const char *rest = after_prefix(*s, word);

    if (rest)
        *s = rest;
    return rest != NULL;
}

static enum op_type parse_type_name(const char *name)
{
    static const struct {
        const char *name;
        enum op_type type;
    } types[] = {
        {"Tensor", OP_TENSOR},
        {"int", OP_INT},
        {"SymInt", OP_INT},
        {"float", OP_FLOAT},
        {"bool", OP_BOOL},
        {"str", OP_STRING},
        {"Scalar", OP_SCALAR},
        {"Layout", OP_LAYOUT},
        {"Device", OP_DEVICE},
        {"ScalarType", OP_DTYPE},
        {"MemoryFormat", OP_MEMORY_FORMAT},
    };

    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (streq(types[i].name, name))
            return types[i].type;
    assert(!"a type of tbl_ops.h that nobody knows");
    return OP_TENSOR;
}

/* "Tensor(a!)?[]", "SymInt[1]?", "Tensor(a -> *)" */
static const char *parse_type(const char *s, struct op_arg *arg)
{
    char name[16];

    s = take(s, "(?[ ,)", name, sizeof(name));
    arg->type = parse_type_name(name);
    if (*s == '(') {
        arg->alias = s[1];
        arg->is_written = s[2] == '!';
        s = strchr(s, ')') + 1;
    }
    if (*s == '?') {
        arg->has_optional_items = arg->is_optional = true;
        s++;
    }
    if (*s == '[') {
        arg->is_list = true;
        arg->is_optional = false;
        s = strchr(s, ']') + 1;
        arg->is_optional = skip(&s, "?");
    } else {
        arg->has_optional_items = false;
    }
    return s;
}

static const char *parse_arg(const char *s, struct op_arg *arg)
{
    s = parse_type(s, arg);
    skip(&s, " ");
    s = take(s, "=,)", arg->name, sizeof(arg->name));
    if (*s == '=') {
        arg->has_default = true;
        s += 1 + (s[1] == '[' ? strcspn(s + 1, "]") + 1 : strcspn(s + 1, ",)"));
    }
    skip(&s, ", ");
    return s;
}

static void parse_schema(const char *s, struct op *op)
{
    s = take(s, ".(", op->name, sizeof(op->name));
    if (*s == '.')
        s = take(s + 1, "(", op->overload, sizeof(op->overload));
    s++;
    while (*s != ')') {
        if (skip(&s, "*, "))
            continue;
        assert(op->n_args < OP_MAX_ARGS);
        s = parse_arg(s, &op->args[op->n_args++]);
    }
    assert(after_prefix(s, ") -> "));
    s += strlen(") -> ");
    if (skip(&s, "()"))
        return;
    skip(&s, "(");
    while (*s && *s != ')') {
        assert(op->n_rets < OP_MAX_RETS);
        s = parse_arg(s, &op->rets[op->n_rets++]);
    }
}

static void parse_table(void)
{
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        struct op *op = &ops[i];

        parse_schema(lines[i].schema, op);
        snprintf(op->call_name, sizeof(op->call_name), "%s",
                 lines[i].call_name ? lines[i].call_name : op->name);
        op->half = lines[i].half;
        op->lowering = lines[i].lowering;
        op->check = lines[i].check;
    }
}

size_t op_count(void)
{
    return ARRAY_LEN(ops);
}

const struct op *op_at(size_t i)
{
    pthread_once(&ops_once, parse_table);
    return &ops[i];
}

/* "space::name" of "space.name.overload"? */
static bool is_named(const struct op *op, const char *target, const char *overload)
{
    const char *colons = strstr(op->name, "::");
    size_t space = (size_t)(colons - op->name), name = strlen(colons + 2);

    return (size_t)(overload - target) == space + name + 2 &&
           strncmp(target, op->name, space) == 0 && target[space] == '.' &&
           strncmp(target + space + 1, colons + 2, name) == 0;
}

const struct op *op_find(const char *target)
{
    const char *name = after_prefix(target, "torch.ops."), *overload;

    pthread_once(&ops_once, parse_table);
    if (!name || !(overload = strrchr(name, '.')))
        return NULL;
    overload++;
    for (size_t i = 0; i < ARRAY_LEN(ops); i++)
        if (is_named(&ops[i], name, overload) &&
            streq(ops[i].overload[0] ? ops[i].overload : "default", overload))
            return &ops[i];
    return NULL;
}

int op_arg_find(const struct op *op, const char *name)
{
    for (unsigned i = 0; i < op->n_args; i++)
        if (streq(op->args[i].name, name))
            return (int)i;
    return -1;
}

bool op_may_copy(const struct op *op)
{
    return streq(op->name, "aten::to") || streq(op->name, "aten::type_as");
}

/* ---- arguments of nodes ---- */

/* Is one item (or an argument that is no list) of a kind that the type takes?  A number
 * where a tensor is wanted is one, as in Python (x + 1 is add.Tensor). */
static bool item_fits(enum op_type type, enum pt2_arg_kind kind)
{
    bool is_int = kind == PT2_ARG_INT || kind == PT2_ARG_SYM_INT;
    bool is_bool = kind == PT2_ARG_BOOL || kind == PT2_ARG_SYM_BOOL;
    bool is_float = kind == PT2_ARG_FLOAT || kind == PT2_ARG_SYM_FLOAT;

    switch (type) {
    case OP_TENSOR:
        return kind == PT2_ARG_TENSOR || is_int || is_bool || is_float;
    case OP_INT:
        return is_int;
    case OP_FLOAT:
        return is_int || is_float;
    case OP_BOOL:
        return is_bool;
    case OP_SCALAR:
        return is_int || is_bool || is_float;
    case OP_STRING:
        return kind == PT2_ARG_STRING;
    case OP_DTYPE:
        return kind == PT2_ARG_SCALAR_TYPE;
    case OP_LAYOUT:
        return kind == PT2_ARG_LAYOUT;
    case OP_DEVICE:
        return kind == PT2_ARG_DEVICE;
    case OP_MEMORY_FORMAT:
        return kind == PT2_ARG_MEMORY_FORMAT;
    }
    return false;
}

static bool is_list_kind(enum pt2_arg_kind kind)
{
    return kind >= PT2_ARG_TENSORS;
}

static bool list_fits(const struct op_arg *formal, const struct pt2_arg *arg)
{
    for (uint32_t i = 0; i < arg->list.n; i++) {
        enum pt2_arg_kind kind = arg->list.items[i].kind;
        bool is_absent = kind == PT2_ARG_NONE && formal->has_optional_items;

        if (formal->type == OP_TENSOR ? kind != PT2_ARG_TENSOR && !is_absent
                                      : !item_fits(formal->type, kind))
            return false;
    }
    return true;
}

static bool arg_fits(const struct op_arg *formal, const struct pt2_arg *arg)
{
    if (arg->kind == PT2_ARG_NONE)
        return formal->is_optional;
    if (is_list_kind(arg->kind))
        return formal->is_list && list_fits(formal, arg);
    /* dim=1 stands for dim=[1] */
    if (formal->is_list)
        return formal->type == OP_INT && item_fits(OP_INT, arg->kind);
    return item_fits(formal->type, arg->kind);
}

/* Devices, layouts, memory formats and pinned memory: what there is here. */
static int check_place(const struct op_arg *formal, const struct pt2_arg *arg,
                       struct pt2_err *err)
{
    if (arg->kind == PT2_ARG_DEVICE && !streq(arg->s, "cpu") && !streq(arg->s, "cpu:0"))
        return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED,
                           "device '%.40s', only the CPU is here", arg->s);
    if (arg->kind == PT2_ARG_LAYOUT && arg->i != 7) /* Layout.Strided of schema.py */
        return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED, "layout %lld is not strided",
                           (long long)arg->i);
    if (arg->kind == PT2_ARG_MEMORY_FORMAT && arg->i != 1 && arg->i != 4)
        return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED,
                           "memory format %lld is neither contiguous nor preserve",
                           (long long)arg->i);
    if (streq(formal->name, "pin_memory") && !(arg->kind == PT2_ARG_BOOL && !arg->b) &&
        arg->kind != PT2_ARG_NONE)
        return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED, "pinned memory");
    if (arg->kind == PT2_ARG_SCALAR_TYPE && arg->dtype == PT2_DTYPE_NONE)
        return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED, "a dtype that is not offered");
    return 0;
}

static int check_arg(const struct op *op, const struct pt2_named_arg *input,
                     const struct pt2_arg *ret_given[OP_MAX_ARGS], struct pt2_err *err)
{
    int i = op_arg_find(op, input->name);

    if (i < 0)
        return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED, "has no argument '%.40s'",
                           input->name);
    if (ret_given[i])
        return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED, "argument '%s' is given twice",
                           input->name);
    if (!arg_fits(&op->args[i], &input->arg))
        return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED,
                           "argument '%s' is of another type", input->name);
    ret_given[i] = &input->arg;
    return check_place(&op->args[i], &input->arg, err);
}

/* Does this argument ask for dropout? */
static bool is_random(const struct op_arg *formal, const struct pt2_arg *arg)
{
    if (!arg)
        return false;
    if (streq(formal->name, "train"))
        return arg->kind != PT2_ARG_BOOL || arg->b;
    if (streq(formal->name, "dropout_p") || streq(formal->name, "drpout_p"))
        return arg->kind == PT2_ARG_FLOAT ? arg->f != 0.0
                                          : arg->kind != PT2_ARG_INT || arg->i;
    return false;
}

/* aten::_grouped_mm: `offs` is given, what comes after it is not. */
static bool is_of_groups(const struct op_arg *formal, const struct pt2_arg *arg)
{
    bool is_given = arg && arg->kind != PT2_ARG_NONE;

    return streq(formal->name, "offs")   ? is_given
           : formal->has_default ? !is_given
                                 : true;
}

int op_check_args(const struct op *op, const struct pt2_node *node,
                  const struct pt2_arg *ret_given[OP_MAX_ARGS], struct pt2_err *err)
{
    memset(ret_given, 0, OP_MAX_ARGS * sizeof(*ret_given));
    for (uint32_t i = 0; i < node->n_inputs; i++)
        if (check_arg(op, &node->inputs[i], ret_given, err) < 0)
            return -1;
    for (unsigned i = 0; i < op->n_args; i++) {
        if (!ret_given[i] && !op->args[i].has_default)
            return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED, "argument '%s' is missing",
                               op->args[i].name);
        if (op->check == OP_CHECK_GROUPS && !is_of_groups(&op->args[i], ret_given[i]))
            return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED,
                               "argument '%s': only groups of rows, with neither bias nor "
                               "another dtype, are known",
                               op->args[i].name);
        if (op->check == OP_CHECK_EVAL && is_random(&op->args[i], ret_given[i]))
            return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED,
                               "drops elements at random; export the model in eval mode");
    }
    if (op->check == OP_CHECK_BLOCKS)
        return op_check_torchao(op, ret_given, err);
    return 0;
}
