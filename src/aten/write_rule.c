#include "aten/graph.h"

static const struct pt2_value *value_of(const struct graph *graph, uint32_t i)
{
    return pt2_program_value(graph->program, i);
}

/* The cell that arg of the call may be a view of; NO_CELL: none. */
static uint32_t origin_of(const struct graph *graph, const struct pt2_arg *arg)
{
    return arg && arg->kind == PT2_ARG_TENSOR ? graph->origins[arg->value] : NO_CELL;
}

/* May the call's return i be a view of one of its arguments?  The schema says of which;
 * to and type_as copy where the dtype changes.  (Where the dtype that the graph states is
 * a lie, the run fails: run.c looks at what was answered.) */
static uint32_t return_origin(const struct graph *graph, const struct call *call,
                              unsigned i, uint32_t value)
{
    const struct op *op = call->op;

    for (unsigned j = 0; op->rets[i].alias && j < op->n_args; j++) {
        const struct pt2_arg *arg = call->given[j];

        if (op->args[j].alias != op->rets[i].alias || origin_of(graph, arg) == NO_CELL)
            continue;
        if (op_may_copy(op) &&
            value_of(graph, arg->value)->meta.dtype != value_of(graph, value)->meta.dtype)
            return NO_CELL;
        return graph->origins[arg->value];
    }
    return NO_CELL;
}

static void follow_views(struct graph *graph, const struct call *call)
{
    for (uint32_t i = 0; i < call->node->n_outputs; i++) {
        const struct pt2_arg *out = &call->node->outputs[i];

        if (out->kind == PT2_ARG_TENSOR)
            graph->origins[out->value] = return_origin(graph, call, i, out->value);
        for (uint32_t j = 0; out->kind == PT2_ARG_TENSORS && j < out->list.n; j++)
            graph->origins[out->list.items[j].value] =
                return_origin(graph, call, i, out->list.items[j].value);
    }
}

/* A write to the cell: a session buffer from now on, if it may be one. */
static int write_cell(struct graph *graph, uint32_t i, struct pt2_err *err)
{
    struct cell *cell = &graph->cells[i];

    if (cell->kind == PT2_INPUT_PARAMETER)
        return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED, "writes the parameter '%.80s'",
                           cell->fqn);
    if (cell->kind == PT2_INPUT_USER)
        return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED, "writes the input '%.80s'",
                           cell->fqn);
    if (cell->is_overlapped)
        return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED,
                           "writes '%.80s', whose record others show in another shape",
                           cell->fqn);
    cell->is_state = true;
    return 0;
}

static int check_call(struct graph *graph, const struct call *call, struct pt2_err *err)
{
    for (unsigned i = 0; i < call->op->n_args; i++) {
        uint32_t origin = origin_of(graph, call->given[i]);

        if (!call->op->args[i].is_written)
            continue;
        if (call->given[i]->kind != PT2_ARG_TENSOR)
            return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED,
                               "node '%.80s' (%.80s) writes a number", call->node->name,
                               call->node->target);
        if (origin != NO_CELL && write_cell(graph, origin, err) < 0)
            return pt2_err_prefix(err, "node '%.80s' (%.80s)", call->node->name,
                                  call->node->target);
    }
    follow_views(graph, call);
    return 0;
}

/* The cell of the buffer (or constant) of that name. */
static uint32_t find_cell(const struct graph *graph, const char *fqn)
{
    for (uint32_t i = 0; fqn && i < pt2_program_n_inputs(graph->program); i++) {
        const struct pt2_input *input = pt2_program_input(graph->program, i);

        if (input->fqn && streq(input->fqn, fqn))
            return graph->input_cells[i];
    }
    return NO_CELL;
}

static int check_outputs(struct graph *graph, struct pt2_err *err)
{
    for (uint32_t i = 0; i < pt2_program_n_outputs(graph->program); i++) {
        const struct pt2_output *out = pt2_program_output(graph->program, i);
        uint32_t cell;

        if (out->kind == PT2_OUTPUT_USER)
            continue;
        cell = out->kind == PT2_OUTPUT_BUFFER_MUTATION ? find_cell(graph, out->fqn)
                                                       : NO_CELL;
        if (cell == NO_CELL || out->arg.kind != PT2_ARG_TENSOR)
            return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED,
                               "output %u writes '%.80s', which is no buffer", i,
                               out->fqn ? out->fqn : "");
        if (write_cell(graph, cell, err) < 0)
            return pt2_err_prefix(err, "output %u", i);
        graph->output_cells[i] = cell;
    }
    return 0;
}

static int list_states(struct graph *graph, struct pt2_err *err)
{
    graph->states = graph_alloc(graph, graph->n_cells, sizeof(*graph->states));
    if (!graph->states)
        return pt2_err_set(err, PT2_ERR_NOMEM, "session buffers");
    for (uint32_t i = 0; i < graph->n_cells; i++)
        if (graph->cells[i].is_state)
            graph->states[graph->n_states++] = i;
    return 0;
}

int write_rule_check(struct graph *graph, struct pt2_err *err)
{
    uint32_t n = pt2_program_n_values(graph->program);

    graph->origins = graph_alloc(graph, n, sizeof(*graph->origins));
    graph->output_cells = graph_alloc(graph, pt2_program_n_outputs(graph->program),
                                      sizeof(*graph->output_cells));
    if (!graph->origins || !graph->output_cells)
        return pt2_err_set(err, PT2_ERR_NOMEM, "values of the program");
    memset(graph->origins, 0xff, n * sizeof(*graph->origins)); /* NO_CELL */
    for (uint32_t i = 0; i < pt2_program_n_inputs(graph->program); i++)
        graph->origins[pt2_program_input(graph->program, i)->value] =
            graph->input_cells[i];
    for (uint32_t i = 0; i < graph->n_calls; i++)
        if (graph->calls[i].op && check_call(graph, &graph->calls[i], err) < 0)
            return -1;
    if (check_outputs(graph, err) < 0)
        return -1;
    return list_states(graph, err);
}
