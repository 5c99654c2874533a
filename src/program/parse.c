/* parse.c - read models/model.json: the graph and what stands around it. */
#include "program/parser.h"

int parser_no_memory(struct parser *p)
{
    return pt2_err_set(p->err, PT2_ERR_NOMEM, "a program's parts");
}

int parser_string(struct parser *p, size_t max, const char *what, const char **ret)
{
    struct pull_text text;

    if (pull_string(&p->pull, &text) < 0)
        return -1;
    if (text.len == 0 || text.len > max)
        return pull_fail(&p->pull, "%s has %zu bytes, must have 1 to %zu", what, text.len,
                         max);
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.s[i] < 0x20 || text.s[i] == 0x7f)
            return pull_fail(&p->pull, "%s holds a control character", what);
    *ret = arena_string(&p->program->arena, text.s, text.len);
    return *ret ? 0 : parser_no_memory(p);
}

/* ---- nodes ---- */

static int read_target(struct pull *s, void *ctx)
{
    struct parser *p = parser_of(s);

    return parser_string(p, PROGRAM_MAX_NAME, "a node's target", &p->target);
}

static int read_input_name(struct pull *s, void *ctx)
{
    struct parser *p = parser_of(s);
    struct pt2_named_arg *named = ctx;
    struct pull_text none;

    if (parser_inlines(p)) /* "": they go by their places */
        return pull_string(s, &none);
    return parser_string(p, PROGRAM_MAX_NAME, "an argument's name", &named->name);
}

static int read_input_arg(struct pull *s, void *ctx)
{
    struct pt2_named_arg *named = ctx;

    return parser_arg(parser_of(s), &named->arg);
}

static int read_input_kind(struct pull *s, void *ctx)
{
    struct pt2_named_arg *named = ctx;
    int64_t kind;

    if (pull_null(s))
        return 0;
    if (pull_int(s, &kind) < 0)
        return -1;
    if (kind < 0 || kind > 2)
        return pull_fail(s, "an argument is of kind %lld, must be 0 to 2",
                         (long long)kind);
    named->kind = (int)kind;
    return 0;
}

static int read_node_input(struct pull *s, void *ctx)
{
    static const struct pull_member members[] = {
        {"name", read_input_name, true, 0},
        {"arg", read_input_arg, true, 0},
        {"kind", read_input_kind, false, 0},
    };
    struct parser *p = parser_of(s);
    struct pt2_named_arg named = {0};

    if (pull_object(s, members, ARRAY_LEN(members), &named) < 0)
        return -1;
    if (program_grow(&p->named, p->n_named, &p->cap_named, PROGRAM_MAX_VALUES,
                     sizeof(*p->named), "arguments of a node", p->err) < 0)
        return -1;
    p->named[p->n_named++] = named;
    return 0;
}

static int read_node_inputs(struct pull *s, void *ctx)
{
    return pull_list(s, read_node_input, ctx);
}

/* A node's outputs under way; its inputs stand in parser.named. */
struct outputs {
    struct pt2_arg *args;
    uint32_t n, cap;
};

static int read_node_output(struct pull *s, void *ctx)
{
    struct parser *p = parser_of(s);
    struct outputs *outputs = ctx;
    struct pt2_arg arg;

    if (parser_arg(p, &arg) < 0)
        return -1;
    if (program_grow(&outputs->args, outputs->n, &outputs->cap, PROGRAM_MAX_VALUES,
                     sizeof(arg), "outputs of a node", p->err) < 0)
        return -1;
    outputs->args[outputs->n++] = arg;
    return 0;
}

static int read_node_name(struct pull *s, void *ctx)
{
    struct parser *p = parser_of(s);

    if (pull_null(s))
        return 0;
    return parser_string(p, PROGRAM_MAX_NAME, "a node's name", &p->node_name);
}

/* A node that has no name is called as its first output, or by its number. */
static const char *name_of(struct parser *p, const struct pt2_node *node)
{
    char text[24];

    if (p->node_name)
        return p->node_name;
    if (node->n_outputs > 0 && node->outputs[0].kind == PT2_ARG_TENSOR)
        return p->program->values[node->outputs[0].value].name;
    snprintf(text, sizeof(text), "node_%u", p->program->n_nodes);
    return pt2_program_string(p->program, text);
}

/* What was read, as a node of the program. */
static int add_node(struct parser *p, const struct outputs *outputs)
{
    struct arena *arena = &p->program->arena;
    struct pt2_node node = {
        .target = p->target, .n_inputs = p->n_named, .n_outputs = outputs->n};

    if (parser_inlines(p))
        return parser_inline(p, outputs->args, outputs->n);
    node.inputs = arena_copy(arena, p->named, p->n_named, sizeof(*p->named));
    node.outputs = arena_copy(arena, outputs->args, outputs->n, sizeof(*outputs->args));
    if (!node.inputs || !node.outputs)
        return parser_no_memory(p);
    node.name = name_of(p, &node);
    return node.name ? program_push_node(p->program, &node, p->err) : parser_no_memory(p);
}

static int read_node_outputs(struct pull *s, void *ctx)
{
    struct parser *p = parser_of(s);
    struct outputs *outputs = ctx;
    int result;

    p->node = (int32_t)p->program->n_nodes;
    p->makes_names = true;
    result = pull_list(s, read_node_output, outputs);
    p->makes_names = false;
    return result;
}

static int read_node(struct pull *s, void *ctx)
{
    static const struct pull_member members[] = {
        {"target", read_target, true, 0},
        {"inputs", read_node_inputs, true, 1 << 0},
        {"outputs", read_node_outputs, true, 1 << 1}, /* no node uses what it makes */
        {"metadata", NULL, true, 0},
        {"is_hop_single_tensor_return", NULL, false, 0},
        {"name", read_node_name, false, 0},
    };
    struct parser *p = parser_of(s);
    struct outputs outputs = {0};
    int result;

    p->n_named = 0;
    p->target = p->node_name = NULL;
    result = pull_object(s, members, ARRAY_LEN(members), &outputs);
    if (result == 0)
        result = add_node(p, &outputs);
    parser_subgraph_done(p);
    free(outputs.args);
    if (result < 0)
        return pt2_err_prefix(p->err, "node %u (%s)", p->program->n_nodes,
                              p->target ? p->target : "no target yet");
    p->target = NULL; /* what follows is no node's */
    return 0;
}

/* ---- the graph ---- */

static int read_graph_input(struct pull *s, void *ctx)
{
    struct parser *p = parser_of(s);
    struct pt2_input input = {.kind = PT2_INPUT_USER};
    struct pt2_arg arg;

    if (parser_arg(p, &arg) < 0)
        return pt2_err_prefix(p->err, "graph input %u", p->program->n_inputs);
    if (arg.kind != PT2_ARG_TENSOR && arg.kind != PT2_ARG_SYM_INT)
        return pull_fail(s, "graph input %u is neither a tensor nor a symbolic int",
                         p->program->n_inputs);
    input.value = arg.value;
    return program_push_input(p->program, &input, p->err);
}

static int read_graph_inputs(struct pull *s, void *ctx)
{
    struct parser *p = parser_of(s);
    int result;

    p->makes_names = true;
    result = pull_list(s, read_graph_input, ctx);
    p->makes_names = false;
    return result;
}

static int read_graph_output(struct pull *s, void *ctx)
{
    struct parser *p = parser_of(s);
    struct pt2_output output = {.kind = PT2_OUTPUT_USER};

    if (parser_arg(p, &output.arg) < 0)
        return pt2_err_prefix(p->err, "graph output %u", p->program->n_outputs);
    if (output.arg.kind >= PT2_ARG_TENSORS)
        return pull_fail(s, "graph output %u is a list", p->program->n_outputs);
    return program_push_output(p->program, &output, p->err);
}

static int read_graph_outputs(struct pull *s, void *ctx)
{
    return pull_list(s, read_graph_output, ctx);
}

int parser_nodes(struct pull *s, void *ctx)
{
    struct parser *p = parser_of(s);
    uint32_t n;
    uint8_t *more;

    if (pull_list(s, read_node, ctx) < 0)
        return -1;
    /* From here on all values are known, and the tables say what they are. */
    n = p->n_has_meta;
    more = realloc(p->has_meta, p->program->n_values + 1);
    if (!more)
        return parser_no_memory(p);
    memset(more + n, 0, p->program->n_values + 1 - n);
    p->has_meta = more;
    p->n_has_meta = p->program->n_values;
    return 0;
}

static int refuse_custom_obj(struct pull *s, void *ctx, struct pull_text name)
{
    return pull_fail(s, "custom objects are not supported");
}

int parser_custom_obj_values(struct pull *s, void *ctx)
{
    return pull_map(s, refuse_custom_obj, ctx);
}

static int check_metas(struct parser *p)
{
    for (uint32_t i = 0; i < p->program->n_values; i++)
        if (!p->has_meta[i])
            return pull_fail(&p->pull, "'%s', %s, has no entry in its table of values",
                             p->program->values[i].name,
                             program_value_kind_name(p->program->values[i].kind));
    return 0;
}

static int read_graph(struct pull *s, void *ctx)
{
    enum { INPUTS, NODES };
    static const struct pull_member members[] = {
        [INPUTS] = {"inputs", read_graph_inputs, true, 0},
        [NODES] = {"nodes", parser_nodes, true, 1 << INPUTS},
        {"outputs", read_graph_outputs, true, 1 << NODES},
        {"tensor_values", parser_tensor_values, true, 1 << NODES},
        {"sym_int_values", parser_sym_int_values, true, 1 << NODES},
        {"sym_bool_values", parser_sym_bool_values, true, 1 << NODES},
        {"sym_float_values", parser_sym_float_values, false, 1 << NODES},
        {"custom_obj_values", parser_custom_obj_values, false, 0},
        {"is_single_tensor_return", NULL, false, 0},
    };

    if (pull_object(s, members, ARRAY_LEN(members), ctx) < 0)
        return -1;
    return check_metas(parser_of(s));
}

static int read_graph_module(struct pull *s, void *ctx)
{
    static const struct pull_member members[] = {
        {"graph", read_graph, true, 0},
        {"signature", parser_signature, true, 1},
        {"module_call_graph", NULL, true, 0},
        {"metadata", NULL, false, 0},
        {"treespec_namedtuple_fields", NULL, false, 0},
    };

    return pull_object(s, members, ARRAY_LEN(members), ctx);
}

/* ---- around the graph ---- */

static int read_bound(struct pull *s, int64_t *ret)
{
    return pull_null(s) ? 0 : pull_int(s, ret);
}

static int read_min(struct pull *s, void *ctx)
{
    struct pt2_range *range = ctx;

    return read_bound(s, &range->min);
}

static int read_max(struct pull *s, void *ctx)
{
    struct pt2_range *range = ctx;

    return read_bound(s, &range->max);
}

static int read_range(struct pull *s, void *ctx, struct pull_text name)
{
    static const struct pull_member members[] = {
        {"min_val", read_min, true, 0},
        {"max_val", read_max, true, 0},
    };
    struct parser *p = parser_of(s);
    struct pt2_range range = {.min = INT64_MIN, .max = INT64_MAX};

    range.symbol = arena_string(&p->program->arena, name.s, name.len);
    if (!range.symbol)
        return parser_no_memory(p);
    if (name.len > EXPR_MAX_SYMBOL || !expr_is_symbol(range.symbol))
        return pull_fail(s, "range_constraints: '%.64s' is no symbol", range.symbol);
    if (pull_object(s, members, ARRAY_LEN(members), &range) < 0)
        return pt2_err_prefix(p->err, "the range of '%s'", range.symbol);
    return program_push_range(p->program, &range, p->err);
}

static int read_ranges(struct pull *s, void *ctx)
{
    return pull_map(s, read_range, ctx);
}

static int read_small_int(struct pull *s, int *ret)
{
    int64_t n;

    if (pull_int(s, &n) < 0)
        return -1;
    if (n < 0 || n > 1000000)
        return pull_fail(s, "a version of %lld", (long long)n);
    *ret = (int)n;
    return 0;
}

static int read_major(struct pull *s, void *ctx)
{
    struct parser *p = parser_of(s);

    if (read_small_int(s, &p->program->schema_major) < 0)
        return -1;
    return p->program->schema_major == PROGRAM_SCHEMA_MAJOR
               ? 0
               : pull_fail(s, "schema version %d, only %d is understood",
                           p->program->schema_major, PROGRAM_SCHEMA_MAJOR);
}

static int read_minor(struct pull *s, void *ctx)
{
    return read_small_int(s, &parser_of(s)->program->schema_minor);
}

static int read_schema_version(struct pull *s, void *ctx)
{
    static const struct pull_member members[] = {
        {"major", read_major, true, 0},
        {"minor", read_minor, true, 0},
    };

    return pull_object(s, members, ARRAY_LEN(members), ctx);
}

static int read_torch_version(struct pull *s, void *ctx)
{
    struct parser *p = parser_of(s);

    return parser_string(p, PROGRAM_MAX_NAME, "torch_version",
                         &p->program->torch_version);
}

/* torch gives each symbol a range, and does not load a program that lacks one. */
static int check_symbols(struct parser *p)
{
    for (uint32_t i = 0; i < p->symbols.cap; i++) {
        const char *symbol = p->symbols.slots[i].name;

        if (symbol && !program_find_range(p->program, symbol))
            return pull_fail(&p->pull, "symbol '%s' has no range in range_constraints",
                             symbol);
    }
    return 0;
}

static int read_exported_program(struct parser *p)
{
    static const struct pull_member members[] = {
        {"schema_version", read_schema_version, true, 0},
        {"graph_module", read_graph_module, true, 0},
        {"opset_version", NULL, true, 0},
        {"range_constraints", read_ranges, true, 0},
        {"verifiers", NULL, false, 0},
        {"torch_version", read_torch_version, false, 0},
        {"guards_code", NULL, false, 0},
    };

    p->program->torch_version = "<=2.4"; /* what schema.py says where none is given */
    if (pull_object(&p->pull, members, ARRAY_LEN(members), p) < 0 ||
        pull_end(&p->pull) < 0)
        return -1;
    return check_symbols(p);
}

static void parser_done(struct parser *p)
{
    names_done(&p->exprs);
    names_done(&p->symbols);
    free(p->seen);
    free(p->args);
    free(p->named);
    free(p->has_meta);
    free(p);
}

int pt2_program_parse(const char *json, size_t len, struct pt2_program **ret_program,
                      struct pt2_err *err)
{
    AUTO_PROGRAM *program = NULL;
    struct pt2_err own = {0};
    struct parser *p;
    int result;

    if (len > PROGRAM_MAX_JSON)
        return pt2_err_set(err, PT2_ERR_BAD_PROGRAM,
                           "model.json has %zu bytes, at most %zu", len,
                           PROGRAM_MAX_JSON);
    if (pt2_program_new(&program, err) < 0)
        return -1;
    p = calloc(1, sizeof(*p));
    if (!p)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a parser");
    names_init(&p->exprs);
    names_init(&p->symbols);
    p->program = program;
    p->node = -1;
    p->err = &own;
    result = pull_init(&p->pull, json, len, &own) < 0 ? -1 : read_exported_program(p);
    parser_done(p);
    if (result < 0)
        return pt2_err_set(err, own.code, "%s", own.text);
    *ret_program = TAKE(program);
    return 0;
}
