/* args.c - read an Argument of the schema: a union of some thirty kinds. */
#include "program/parser.h"

/* ---- names of values ---- */

static enum pt2_value_kind value_kind(enum pt2_arg_kind kind)
{
    switch (kind) {
    case PT2_ARG_SYM_INT:
        return PT2_VALUE_SYM_INT;
    case PT2_ARG_SYM_BOOL:
        return PT2_VALUE_SYM_BOOL;
    case PT2_ARG_SYM_FLOAT:
        return PT2_VALUE_SYM_FLOAT;
    default:
        return PT2_VALUE_TENSOR;
    }
}

/* The value that the text names: made now, or made before. */
static int resolve(struct parser *p, struct pull_text name, enum pt2_arg_kind kind,
                   struct pt2_arg *ret)
{
    struct pt2_value value = {.kind = value_kind(kind), .node = p->node};
    const struct name_slot *slot;
    char scoped[PARSER_SCOPED_SIZE];

    if (parser_scoped(p, &name, scoped) < 0)
        return -1;
    ret->kind = kind;
    if (p->makes_names) {
        value.name = arena_string(&p->program->arena, name.s, name.len);
        return value.name ? program_push_value(p->program, &value, &ret->value, p->err)
                          : parser_no_memory(p);
    }
    slot = names_find(&p->program->names, name.s, name.len);
    if (!slot)
        return pull_fail(&p->pull, "'%.*s' is used before it is made",
                         (int)MIN(name.len, (size_t)PROGRAM_MAX_NAME), name.s);
    if (p->program->values[slot->number].kind != value.kind)
        return pull_fail(&p->pull, "'%s' is %s, not %s", slot->name,
                         program_value_kind_name(p->program->values[slot->number].kind),
                         program_value_kind_name(value.kind));
    ret->value = slot->number;
    return 0;
}

static int read_tensor_name(struct pull *s, void *ctx)
{
    struct pull_text name;

    return pull_string(s, &name) < 0 ? -1
                                     : resolve(parser_of(s), name, PT2_ARG_TENSOR, ctx);
}

/* {"name": "x"} */
static int read_tensor(struct pull *s, struct pt2_arg *ret)
{
    static const struct pull_member members[] = {{"name", read_tensor_name, true, 0}};

    return pull_object(s, members, ARRAY_LEN(members), ret);
}

int parser_tensor_name(struct parser *p, uint32_t *ret)
{
    struct pt2_arg arg = {0};

    if (read_tensor(&p->pull, &arg) < 0)
        return -1;
    *ret = arg.value;
    return 0;
}

/* ---- scalars ---- */

static int read_none(struct pull *s, struct pt2_arg *ret)
{
    bool ignored;

    ret->kind = PT2_ARG_NONE;
    return pull_bool(s, &ignored);
}

static int read_int(struct pull *s, struct pt2_arg *ret)
{
    ret->kind = PT2_ARG_INT;
    return pull_int(s, &ret->i);
}

static int read_float(struct pull *s, struct pt2_arg *ret)
{
    ret->kind = PT2_ARG_FLOAT;
    return pull_double(s, &ret->f);
}

static int read_bool(struct pull *s, struct pt2_arg *ret)
{
    ret->kind = PT2_ARG_BOOL;
    return pull_bool(s, &ret->b);
}

static int read_string(struct pull *s, struct pt2_arg *ret)
{
    struct parser *p = parser_of(s);
    struct pull_text text;

    if (pull_string(s, &text) < 0)
        return -1;
    ret->kind = PT2_ARG_STRING;
    ret->s = arena_string(&p->program->arena, text.s, text.len);
    return ret->s ? 0 : parser_no_memory(p);
}

static int read_scalar_type(struct pull *s, struct pt2_arg *ret)
{
    int64_t code;

    if (pull_int(s, &code) < 0)
        return -1;
    ret->kind = PT2_ARG_SCALAR_TYPE;
    ret->dtype =
        code >= 0 && code < 256 ? pt2_dtype_from_schema((long)code) : PT2_DTYPE_NONE;
    if (ret->dtype == PT2_DTYPE_NONE)
        return pull_fail(s, "scalar type %lld is not supported", (long long)code);
    return 0;
}

static int read_memory_format(struct pull *s, struct pt2_arg *ret)
{
    ret->kind = PT2_ARG_MEMORY_FORMAT;
    if (pull_int(s, &ret->i) < 0)
        return -1;
    return ret->i >= 1 && ret->i <= 4
               ? 0
               : pull_fail(s, "there is no memory format %lld", (long long)ret->i);
}

static int read_layout(struct pull *s, struct pt2_arg *ret)
{
    ret->kind = PT2_ARG_LAYOUT;
    if (pull_int(s, &ret->i) < 0)
        return -1;
    return ret->i == 7 ? 0
                       : pull_fail(s, "layout %lld is not supported, only 7 (strided)",
                                   (long long)ret->i);
}

static int read_device(struct pull *s, struct pt2_arg *ret)
{
    ret->kind = PT2_ARG_DEVICE;
    return parser_device(parser_of(s), &ret->s);
}

/* {"as_name": "x"} or a plain value under `plain`. */
static int read_symbolic(struct pull *s, enum pt2_arg_kind kind, const char *plain,
                         int (*read_plain)(struct pull *s, struct pt2_arg *ret),
                         struct pt2_arg *ret)
{
    struct pull_text key, name;

    if (pull_union(s, &key) < 0)
        return -1;
    if (pull_text_is(key, "as_name")) {
        if (pull_string(s, &name) < 0 || resolve(parser_of(s), name, kind, ret) < 0)
            return -1;
    } else if (pull_text_is(key, plain)) {
        if (read_plain(s, ret) < 0)
            return -1;
    } else {
        return pull_fail(s, "expected as_name or %s", plain);
    }
    return pull_union_end(s);
}

static int read_sym_int(struct pull *s, struct pt2_arg *ret)
{
    return read_symbolic(s, PT2_ARG_SYM_INT, "as_int", read_int, ret);
}

static int read_sym_float(struct pull *s, struct pt2_arg *ret)
{
    return read_symbolic(s, PT2_ARG_SYM_FLOAT, "as_float", read_float, ret);
}

static int read_sym_bool(struct pull *s, struct pt2_arg *ret)
{
    return read_symbolic(s, PT2_ARG_SYM_BOOL, "as_bool", read_bool, ret);
}

/* {"as_tensor": {...}} or {"as_none": true} */
static int read_optional_tensor(struct pull *s, struct pt2_arg *ret)
{
    struct pull_text key;

    if (pull_union(s, &key) < 0)
        return -1;
    if (pull_text_is(key, "as_tensor")) {
        if (read_tensor(s, ret) < 0)
            return -1;
    } else if (pull_text_is(key, "as_none")) {
        if (read_none(s, ret) < 0)
            return -1;
    } else {
        return pull_fail(s, "expected as_tensor or as_none");
    }
    return pull_union_end(s);
}

/* ---- lists ---- */

struct list {
    int (*read_item)(struct pull *s, struct pt2_arg *ret);
    enum pt2_arg_kind item; /* of SYM_BOOL and SYM_FLOAT lists: the plain kind alone */
    bool only_item;
};

static int read_list_item(struct pull *s, void *ctx)
{
    struct parser *p = parser_of(s);
    const struct list *list = ctx;
    struct pt2_arg item = {0};

    if (list->read_item(s, &item) < 0)
        return -1;
    if (list->only_item && item.kind != list->item)
        return pull_fail(s, "a list of symbolic bools or floats is not supported");
    if (program_grow(&p->args, p->n_args, &p->cap_args, PROGRAM_MAX_VALUES,
                     sizeof(*p->args), "items of a list", p->err) < 0)
        return -1;
    p->args[p->n_args++] = item;
    return 0;
}

static int read_list(struct pull *s, enum pt2_arg_kind kind, const struct list *list,
                     struct pt2_arg *ret)
{
    struct parser *p = parser_of(s);
    struct pt2_arg *items;

    p->n_args = 0;
    if (pull_list(s, read_list_item, (void *)(uintptr_t)list) < 0)
        return -1;
    items = arena_copy(&p->program->arena, p->args, p->n_args, sizeof(*items));
    if (!items)
        return parser_no_memory(p);
    ret->kind = kind;
    ret->list.items = items;
    ret->list.n = p->n_args;
    return 0;
}

/* ---- the union ---- */

/* A kind: how it is read; or, where there are items, what a list of them is called. */
static const struct kind {
    const char *key;
    int (*read)(struct pull *s, struct pt2_arg *ret);
    struct list list;
    enum pt2_arg_kind list_kind;
} kinds[] = {
    {"as_tensor", read_tensor, {0}, 0},
    {"as_int", read_int, {0}, 0},
    {"as_ints", NULL, {read_int, 0, false}, PT2_ARG_INTS},
    {"as_float", read_float, {0}, 0},
    {"as_bool", read_bool, {0}, 0},
    {"as_none", read_none, {0}, 0},
    {"as_scalar_type", read_scalar_type, {0}, 0},
    {"as_device", read_device, {0}, 0},
    {"as_layout", read_layout, {0}, 0},
    {"as_memory_format", read_memory_format, {0}, 0},
    {"as_string", read_string, {0}, 0},
    {"as_sym_int", read_sym_int, {0}, 0},
    {"as_sym_ints", NULL, {read_sym_int, 0, false}, PT2_ARG_SYM_INTS},
    {"as_tensors", NULL, {read_tensor, 0, false}, PT2_ARG_TENSORS},
    {"as_optional_tensors",
     NULL,
     {read_optional_tensor, 0, false},
     PT2_ARG_OPTIONAL_TENSORS},
    {"as_optional_tensor", read_optional_tensor, {0}, 0},
    {"as_floats", NULL, {read_float, 0, false}, PT2_ARG_FLOATS},
    {"as_bools", NULL, {read_bool, 0, false}, PT2_ARG_BOOLS},
    {"as_strings", NULL, {read_string, 0, false}, PT2_ARG_STRINGS},
    {"as_sym_bool", read_sym_bool, {0}, 0},
    {"as_sym_float", read_sym_float, {0}, 0},
    {"as_sym_bools", NULL, {read_sym_bool, PT2_ARG_BOOL, true}, PT2_ARG_BOOLS},
    {"as_graph", parser_subgraph, {0}, 0},
    {"as_sym_floats", NULL, {read_sym_float, PT2_ARG_FLOAT, true}, PT2_ARG_FLOATS},
};

/* Kinds that the schema has and no decoder uses. */
static const char *const refused[] = {
    "as_custom_obj", "as_operator",    "as_complex",            "as_nested_tensors",
    "as_int_lists",  "as_float_lists", "as_string_to_argument",
};

static const struct kind *find_kind(struct pull *s, struct pull_text key)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (pull_text_is(key, kinds[i].key))
            return &kinds[i];
    for (size_t i = 0; i < ARRAY_LEN(refused); i++)
        if (pull_text_is(key, refused[i])) {
            pull_fail(s, "arguments of kind '%s' are not supported", refused[i]);
            return NULL;
        }
    pull_fail(s, "there is no argument of kind '%.*s'", (int)MIN(key.len, (size_t)64),
              key.s);
    return NULL;
}

int parser_arg(struct parser *p, struct pt2_arg *ret)
{
    struct pull *s = &p->pull;
    const struct kind *kind;
    struct pt2_arg arg = {0};
    struct pull_text key;

    if (pull_union(s, &key) < 0)
        return -1;
    kind = find_kind(s, key);
    if (!kind)
        return -1;
    if ((kind->read ? kind->read(s, &arg)
                    : read_list(s, kind->list_kind, &kind->list, &arg)) < 0)
        return -1;
    *ret = arg;
    return pull_union_end(s);
}
