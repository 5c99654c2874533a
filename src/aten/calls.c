#include "aten/graph.h"

/* ---- one argument ---- */

struct filler {
    struct graph *graph;
    struct call *call;
    struct slot *slots; /* room for all values that the node mentions */
};

/* serde's numbers (schema.py) in libtorch's: layouts and memory formats. */
static struct bridge_value fixed_value(const struct pt2_arg *arg)
{
    switch (arg->kind) {
    case PT2_ARG_INT:
        return (struct bridge_value){.kind = BRIDGE_INT, .i = arg->i};
    case PT2_ARG_FLOAT:
        return (struct bridge_value){.kind = BRIDGE_FLOAT, .f = arg->f};
    case PT2_ARG_BOOL:
        return (struct bridge_value){.kind = BRIDGE_BOOL, .b = arg->b};
    case PT2_ARG_STRING:
        return (struct bridge_value){.kind = BRIDGE_STRING, .s = arg->s};
    case PT2_ARG_SCALAR_TYPE:
        return (struct bridge_value){.kind = BRIDGE_DTYPE, .dtype = arg->dtype};
    case PT2_ARG_DEVICE:
        return (struct bridge_value){.kind = BRIDGE_CPU};
    case PT2_ARG_LAYOUT: /* strided, op_check_args has seen to it */
        return (struct bridge_value){.kind = BRIDGE_INT, .i = 0};
    case PT2_ARG_MEMORY_FORMAT: /* contiguous 1 -> 0, preserve 4 -> 1 */
        return (struct bridge_value){.kind = BRIDGE_INT, .i = arg->i == 4};
    default:
        return (struct bridge_value){.kind = BRIDGE_NONE};
    }
}

static bool is_value(enum pt2_arg_kind kind)
{
    return kind == PT2_ARG_TENSOR || kind == PT2_ARG_SYM_INT ||
           kind == PT2_ARG_SYM_BOOL || kind == PT2_ARG_SYM_FLOAT;
}

static void fill_item(struct filler *f, const struct pt2_arg *arg,
                      struct bridge_value *to)
{
    if (is_value(arg->kind))
        f->slots[f->call->n_slots++] = (struct slot){to, arg->value};
    else
        *to = fixed_value(arg);
}

static int fill_arg(struct filler *f, const struct pt2_arg *arg, struct bridge_value *to,
                    struct pt2_err *err)
{
    if (arg->kind < PT2_ARG_TENSORS) {
        fill_item(f, arg, to);
        return 0;
    }
    to->kind = BRIDGE_LIST;
    to->list.n = arg->list.n;
    to->list.items = graph_alloc(f->graph, arg->list.n, sizeof(*to->list.items));
    if (!to->list.items)
        return pt2_err_set(err, PT2_ERR_NOMEM, "arguments of a node");
    for (uint32_t i = 0; i < arg->list.n; i++)
        fill_item(f, &arg->list.items[i], &to->list.items[i]);
    return 0;
}

static uint32_t count_values(const struct pt2_node *node)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < node->n_inputs; i++) {
        const struct pt2_arg *arg = &node->inputs[i].arg;

        n += arg->kind >= PT2_ARG_TENSORS ? arg->list.n : 1;
    }
    return n;
}

/* ---- one node ---- */

/* The op by its name in this libtorch, its arguments those of the table, in the same
 * order. */
static int find_target(struct call *call, struct pt2_err *err)
{
    const struct op *op = call->op;

    if (op->lowering == OP_OWN || op_is_spelled(op))
        return 0;
    call->target = bridge_op_find(op->call_name, op->overload);
    if (!call->target && lower_can(op))
        return 0;
    if (!call->target)
        return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED,
                           "libtorch %d.%d has no such op; a later one has",
                           bridge_version() / 100, bridge_version() % 100);
    for (unsigned i = 0; i < op->n_args; i++)
        if (bridge_op_arg(call->target, op->args[i].name) != (int)i)
            return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED,
                               "libtorch %d.%d's op has other arguments",
                               bridge_version() / 100, bridge_version() % 100);
    if (bridge_op_n_args(call->target) != op->n_args)
        return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED,
                           "libtorch %d.%d's op has more arguments",
                           bridge_version() / 100, bridge_version() % 100);
    return 0;
}

/* Each output of the node is one of the op's returns, of its kind. */
static int check_outputs(const struct call *call, struct pt2_err *err)
{
    const struct pt2_node *node = call->node;

    if (node->n_outputs > call->op->n_rets)
        return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED, "answers %u values, not %u",
                           call->op->n_rets, node->n_outputs);
    for (uint32_t i = 0; i < node->n_outputs; i++) {
        const struct op_arg *formal = &call->op->rets[i];
        enum pt2_arg_kind kind = node->outputs[i].kind;
        bool is_number = kind == PT2_ARG_SYM_INT || kind == PT2_ARG_SYM_BOOL ||
                         kind == PT2_ARG_SYM_FLOAT;

        if (kind != PT2_ARG_NONE && (formal->is_list             ? kind != PT2_ARG_TENSORS
                                     : formal->type == OP_TENSOR ? kind != PT2_ARG_TENSOR
                                                                 : !is_number))
            return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED,
                               "its output %u is of another kind", i);
    }
    return 0;
}

static int open_op(struct filler *f, struct pt2_err *err)
{
    struct call *call = f->call;

    call->n_args = call->op->n_args;
    if (op_check_args(call->op, call->node, call->given, err) < 0 ||
        check_outputs(call, err) < 0 || find_target(call, err) < 0)
        return -1;
    for (unsigned i = 0; i < call->n_args; i++) {
        call->writes = call->writes || call->op->args[i].is_written;
        if (call->given[i] && fill_arg(f, call->given[i], &call->args[i], err) < 0)
            return -1;
    }
    return 0;
}

/* Arithmetic on sizes: numbers in, one number out. */
static int open_symbolic(struct filler *f, struct pt2_err *err)
{
    struct call *call = f->call;
    const struct pt2_node *node = call->node;

    if (node->n_inputs > OP_MAX_ARGS || node->n_outputs != 1 ||
        (node->outputs[0].kind != PT2_ARG_SYM_INT &&
         node->outputs[0].kind != PT2_ARG_SYM_BOOL))
        return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED,
                           "has other arguments or outputs");
    call->n_args = node->n_inputs;
    for (unsigned i = 0; i < call->n_args; i++) {
        const struct pt2_arg *arg = &node->inputs[i].arg;

        if (arg->kind >= PT2_ARG_TENSORS || arg->kind == PT2_ARG_TENSOR)
            return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED, "takes numbers only");
        call->given[i] = arg;
        fill_item(f, arg, &call->args[i]);
    }
    return 0;
}

static int open_call(struct graph *graph, uint32_t i, struct pt2_err *err)
{
    struct call *call = &graph->calls[i];
    struct filler f = {.graph = graph, .call = call};
    bool is_symbolic;

    call->node = pt2_program_node(graph->program, i);
    call->op = op_find(call->node->target);
    is_symbolic = !call->op && symbolic_is_known(call->node->target);
    if (!call->op && !is_symbolic)
        return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED,
                           "op '%.120s' is not on the list of ops that run here",
                           call->node->target);
    f.slots = graph_alloc(graph, count_values(call->node), sizeof(*f.slots));
    call->slots = f.slots;
    if (!f.slots)
        return pt2_err_set(err, PT2_ERR_NOMEM, "arguments of a node");
    if (is_symbolic ? open_symbolic(&f, err) < 0 : open_op(&f, err) < 0)
        return pt2_err_prefix(err, "node '%.80s' (%.80s)", call->node->name,
                              call->node->target);
    return 0;
}

/* ---- lifetimes ---- */

static void mark_kept(struct graph *graph)
{
    for (uint32_t i = 0; i < pt2_program_n_inputs(graph->program); i++)
        graph->keeps[pt2_program_input(graph->program, i)->value] = true;
    for (uint32_t i = 0; i < pt2_program_n_outputs(graph->program); i++) {
        const struct pt2_arg *arg = &pt2_program_output(graph->program, i)->arg;

        if (is_value(arg->kind))
            graph->keeps[arg->value] = true;
    }
}

/* Note value as dead after the call being looked at, where no later one wants it. */
static void note_dead(bool *wanted, uint32_t value, uint32_t *dead, uint32_t *n)
{
    if (!wanted[value])
        dead[(*n)++] = value;
    wanted[value] = true;
}

static uint32_t count_outputs(const struct pt2_node *node)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < node->n_outputs; i++)
        n += node->outputs[i].kind >= PT2_ARG_TENSORS ? node->outputs[i].list.n : 1;
    return n;
}

/* From the last call to the first: what a call takes or makes, and no later one takes,
 * dies with it. */
static int find_dead(struct graph *graph, struct pt2_err *err)
{
    AUTO_PTR bool *wanted =
        calloc(pt2_program_n_values(graph->program) + 1, sizeof(*wanted));

    if (!wanted)
        return pt2_err_set(err, PT2_ERR_NOMEM, "values of the program");
    memcpy(wanted, graph->keeps, pt2_program_n_values(graph->program) * sizeof(*wanted));
    for (uint32_t i = graph->n_calls; i-- > 0;) {
        struct call *call = &graph->calls[i];
        const struct pt2_node *node = call->node;
        uint32_t *dead =
            graph_alloc(graph, call->n_slots + count_outputs(node), sizeof(*dead));

        if (!dead)
            return pt2_err_set(err, PT2_ERR_NOMEM, "values of the program");
        call->dead = dead;
        for (uint32_t j = 0; j < node->n_outputs; j++) {
            const struct pt2_arg *out = &node->outputs[j];

            if (is_value(out->kind))
                note_dead(wanted, out->value, dead, &call->n_dead);
            for (uint32_t k = 0; out->kind == PT2_ARG_TENSORS && k < out->list.n; k++)
                note_dead(wanted, out->list.items[k].value, dead, &call->n_dead);
        }
        for (uint32_t j = 0; j < call->n_slots; j++)
            note_dead(wanted, call->slots[j].value, dead, &call->n_dead);
    }
    return 0;
}

int calls_open(struct graph *graph, struct pt2_err *err)
{
    graph->n_calls = pt2_program_n_nodes(graph->program);
    graph->calls = graph_alloc(graph, graph->n_calls, sizeof(*graph->calls));
    graph->keeps = graph_alloc(graph, pt2_program_n_values(graph->program), sizeof(bool));
    if (!graph->calls || !graph->keeps)
        return pt2_err_set(err, PT2_ERR_NOMEM, "calls of the program");
    for (uint32_t i = 0; i < graph->n_calls; i++)
        if (open_call(graph, i, err) < 0)
            return -1;
    mark_kept(graph);
    return find_dead(graph, err);
}

/* ---- questions about a call ---- */

int64_t call_value(const struct call *call, const char *arg)
{
    int i = call->op ? op_arg_find(call->op, arg) : -1;

    if (i < 0 || !call->given[i] || !is_value(call->given[i]->kind))
        return -1;
    return call->given[i]->value;
}

bool call_is_identity(const struct call *call, unsigned *ret_arg)
{
    static const char *const names[] = {
        "aten::alias",      "aten::detach", "aten::detach_",    "aten::dropout",
        "aten::lift_fresh", "aten::to",     "aten::contiguous", "aten::type_as",
    };

    if (!call->op)
        return false;
    for (unsigned i = 0; i < call->op->n_args; i++)
        if (call->op->args[i].is_written &&
            call->op->args[i].alias == call->op->rets[0].alias) {
            *ret_arg = i;
            return true;
        }
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (streq(names[i], call->op->name)) {
            *ret_arg = 0;
            return true;
        }
    return false;
}
