/* inline.c - nodes that hold a graph of their own: read as if it stood in their place.
 *
 * torch.export wraps what was traced under another mode of autocast or of gradients:
 *
 *     mul = wrap_with_autocast("cpu", None, False, None, submod_1: a -> mul, to_1)
 *
 * Autocast that is off and gradients that nobody asks for compute what the graph says, so
 * this is read as
 *
 *     submod_1.a = alias(to_1)
 *     submod_1.mul = ...
 *     mul = alias(submod_1.mul)
 *
 * Transformers 4.51 to 4.57 have one around each rotary embedding. */
#include "program/parser.h"

#define MAX_DEPTH 4
#define ALIAS     "torch.ops.aten.alias.default"

static const struct mode {
    const char *target;
    uint32_t graph, is_on; /* which arguments; the subgraph's own follow the graph */
    bool must_be_off;
} modes[] = {
    {"torch.ops.higher_order.wrap_with_autocast", 4, 2, true},
    {"torch.ops.higher_order.wrap_with_set_grad_enabled", 1, 0, false},
};

static const struct mode *find_mode(const char *target)
{
    for (size_t i = 0; i < ARRAY_LEN(modes); i++)
        if (target && streq(target, modes[i].target))
            return &modes[i];
    return NULL;
}

bool parser_inlines(const struct parser *p)
{
    return find_mode(p->target) != NULL;
}

/* ---- names ---- */

int parser_scoped(struct parser *p, struct pull_text *name, char buffer[PARSER_SCOPED_SIZE])
{
    int len;

    if (!p->scope)
        return 0;
    len = snprintf(buffer, PARSER_SCOPED_SIZE, "%s.%.*s", p->scope, (int)name->len, name->s);
    if (len < 0 || len >= PARSER_SCOPED_SIZE)
        return pull_fail(&p->pull, "a name in subgraph '%.64s' is too long", p->scope);
    *name = (struct pull_text){buffer, (size_t)len};
    return 0;
}

/* ---- the subgraph ---- */

/* A node that only shows another value; which, the caller puts into *ret_input. */
static int push_alias(struct parser *p, uint32_t out, struct pt2_named_arg **ret_input)
{
    struct arena *arena = &p->program->arena;
    struct pt2_named_arg input = {.name = "self", .kind = 1};
    struct pt2_arg output = {.kind = PT2_ARG_TENSOR, .value = out};
    struct pt2_node node = {.target = ALIAS, .name = p->program->values[out].name,
                            .n_inputs = 1, .n_outputs = 1};

    *ret_input = arena_copy(arena, &input, 1, sizeof(input));
    node.inputs = *ret_input;
    node.outputs = arena_copy(arena, &output, 1, sizeof(output));
    if (!node.inputs || !node.outputs)
        return parser_no_memory(p);
    p->program->values[out].node = (int32_t)p->program->n_nodes;
    return program_push_node(p->program, &node, p->err);
}

/* What it shows is among the outer node's arguments, which come behind the subgraph. */
static int read_input(struct pull *s, void *ctx)
{
    struct parser *p = parser_of(s);
    struct subgraph *sub = ctx;
    struct pt2_named_arg *input;
    struct pt2_arg arg;

    if (parser_arg(p, &arg) < 0)
        return -1;
    if (arg.kind != PT2_ARG_TENSOR)
        return pull_fail(s, "subgraph '%s' takes what is no tensor", p->scope);
    if (push_alias(p, arg.value, &input) < 0 ||
        program_grow(&sub->inputs, sub->n_inputs, &sub->cap_inputs, PROGRAM_MAX_INPUTS,
                     sizeof(struct pt2_named_arg *), "inputs of a subgraph", p->err) < 0)
        return -1;
    sub->inputs[sub->n_inputs++] = input;
    return 0;
}

static int read_inputs(struct pull *s, void *ctx)
{
    struct parser *p = parser_of(s);
    int result;

    p->makes_names = true;
    result = pull_list(s, read_input, ctx);
    p->makes_names = false;
    return result;
}

static int read_output(struct pull *s, void *ctx)
{
    struct parser *p = parser_of(s);
    struct subgraph *sub = ctx;
    struct pt2_arg arg;

    if (parser_arg(p, &arg) < 0)
        return -1;
    if (arg.kind != PT2_ARG_TENSOR)
        return pull_fail(s, "subgraph '%s' returns what is no tensor", p->scope);
    if (program_grow(&sub->outputs, sub->n_outputs, &sub->cap_outputs, PROGRAM_MAX_OUTPUTS,
                     sizeof(*sub->outputs), "outputs of a subgraph", p->err) < 0)
        return -1;
    sub->outputs[sub->n_outputs++] = arg.value;
    return 0;
}

static int read_outputs(struct pull *s, void *ctx)
{
    return pull_list(s, read_output, ctx);
}

static int read_nodes(struct pull *s, void *ctx)
{
    return parser_nodes(s, NULL);
}

static int read_graph(struct pull *s, void *ctx)
{
    enum { INPUTS, NODES };
    static const struct pull_member members[] = {
        [INPUTS] = {"inputs", read_inputs, true, 0},
        [NODES] = {"nodes", read_nodes, true, 1 << INPUTS},
        {"outputs", read_outputs, true, 1 << NODES},
        {"tensor_values", parser_tensor_values, true, 1 << NODES},
        {"sym_int_values", parser_sym_int_values, true, 1 << NODES},
        {"sym_bool_values", parser_sym_bool_values, true, 1 << NODES},
        {"sym_float_values", parser_sym_float_values, false, 1 << NODES},
        {"custom_obj_values", parser_custom_obj_values, false, 0},
        {"is_single_tensor_return", NULL, false, 0},
    };

    return pull_object(s, members, ARRAY_LEN(members), ctx);
}

static int read_name(struct pull *s, void *ctx)
{
    struct parser *p = parser_of(s);
    const char *outer = p->scope, *name;
    char *scope;
    size_t size;

    if (parser_string(p, PROGRAM_MAX_NAME, "a subgraph's name", &name) < 0)
        return -1;
    size = strlen(name) + (outer ? strlen(outer) + 1 : 0) + 1;
    scope = pt2_program_alloc(p->program, size);
    if (!scope)
        return parser_no_memory(p);
    snprintf(scope, size, "%s%s%s", outer ? outer : "", outer ? "." : "", name);
    p->scope = scope;
    return 0;
}

/* {"name": "submod_1", "graph": {...}} */
static int read_named_graph(struct pull *s, struct subgraph *sub)
{
    static const struct pull_member members[] = {
        {"name", read_name, true, 0},
        {"graph", read_graph, true, 1 << 0},
    };

    return pull_object(s, members, ARRAY_LEN(members), sub);
}

int parser_subgraph(struct pull *s, struct pt2_arg *ret)
{
    struct parser *p = parser_of(s);
    struct pt2_named_arg *named = p->named;
    uint32_t n_named = p->n_named, cap_named = p->cap_named;
    const char *target = p->target, *node_name = p->node_name, *scope = p->scope;
    struct subgraph *sub;
    int result;

    if (!parser_inlines(p))
        return pull_fail(s, "a graph as an argument is not supported");
    if (p->sub || p->depth == MAX_DEPTH)
        return pull_fail(s, "more than %s", p->sub ? "one graph" : "4 graphs in each other");
    sub = calloc(1, sizeof(*sub));
    if (!sub)
        return parser_no_memory(p);
    /* The node that holds it is half read: what stands for a node begins anew. */
    p->named = NULL;
    p->n_named = p->cap_named = 0;
    p->target = p->node_name = NULL;
    p->depth++;
    result = read_named_graph(s, sub);
    free(p->named);
    p->named = named;
    p->n_named = n_named;
    p->cap_named = cap_named;
    p->target = target;
    p->node_name = node_name;
    p->scope = scope;
    p->depth--;
    p->sub = sub;
    ret->kind = PT2_ARG_NONE; /* nobody sees it: parser_inline takes the node apart */
    return result;
}

void parser_subgraph_done(struct parser *p)
{
    if (!p->sub)
        return;
    free(p->sub->inputs);
    free(p->sub->outputs);
    free(p->sub);
    p->sub = NULL;
}

/* ---- the node around it ---- */

static int check_mode(struct parser *p, const struct mode *mode)
{
    const struct pt2_arg *is_on;

    if (!p->sub || p->n_named <= mode->graph || p->named[mode->graph].arg.kind != PT2_ARG_NONE)
        return pull_fail(&p->pull, "argument %u is no graph", mode->graph);
    is_on = &p->named[mode->is_on].arg;
    if (is_on->kind != PT2_ARG_BOOL)
        return pull_fail(&p->pull, "argument %u is no bool", mode->is_on);
    if (mode->must_be_off && is_on->b)
        return pull_fail(&p->pull, "autocast that is on is not supported");
    return 0;
}

static int bind_inputs(struct parser *p, const struct pt2_named_arg *args, uint32_t n)
{
    if (n != p->sub->n_inputs)
        return pull_fail(&p->pull, "%u arguments for a graph that takes %u", n,
                         p->sub->n_inputs);
    for (uint32_t i = 0; i < n; i++) {
        if (args[i].arg.kind != PT2_ARG_TENSOR)
            return pull_fail(&p->pull, "a graph's argument is no tensor");
        p->sub->inputs[i]->arg = args[i].arg;
    }
    return 0;
}

int parser_inline(struct parser *p, const struct pt2_arg *outputs, uint32_t n_outputs)
{
    const struct mode *mode = find_mode(p->target);
    struct pt2_named_arg *input;
    bool is_list = n_outputs == 1 && outputs[0].kind == PT2_ARG_TENSORS;
    uint32_t n = is_list ? outputs[0].list.n : n_outputs;
    const struct pt2_arg *outs = is_list ? outputs[0].list.items : outputs;

    if (check_mode(p, mode) < 0 ||
        bind_inputs(p, p->named + mode->graph + 1, p->n_named - mode->graph - 1) < 0)
        return -1;
    if (n != p->sub->n_outputs)
        return pull_fail(&p->pull, "%u outputs of a graph that returns %u", n,
                         p->sub->n_outputs);
    for (uint32_t i = 0; i < n; i++) {
        if (outs[i].kind != PT2_ARG_TENSOR)
            return pull_fail(&p->pull, "a graph's output is no tensor");
        if (push_alias(p, outs[i].value, &input) < 0)
            return -1;
        input->arg = (struct pt2_arg){.kind = PT2_ARG_TENSOR, .value = p->sub->outputs[i]};
    }
    return 0;
}
