#include "aten/graph.h"

/* Elements that one tensor may stand for, repeated ones (expand) counted: more can not be
 * worked through, and their product must not overflow. */
#define MAX_ELEMENTS (UINT64_C(1) << 40)

struct run {
    struct graph *graph;
    void *const *states;
    const struct graph_tensor *inputs;
    uint32_t n_inputs;
};

/* ---- inputs ---- */

struct symbol {
    const char *name;
    int64_t value;
};

/* Is it a symbol alone, "s0"?  Then sizes of that name must agree. */
static bool is_symbol(const char *expr)
{
    return *expr && expr[strspn(expr, "abcdefghijklmnopqrstuvwxyz"
                                      "ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789")] == '\0';
}

static int check_range(const struct pt2_program *program, const char *symbol,
                       int64_t size, struct pt2_err *err)
{
    for (uint32_t i = 0; i < pt2_program_n_ranges(program); i++) {
        const struct pt2_range *range = pt2_program_range(program, i);

        if (streq(range->symbol, symbol) && (size < range->min || size > range->max))
            return pt2_err_set(err, PT2_ERR_INVALID, "%lld, %s is in %lld .. %lld",
                               (long long)size, symbol, (long long)range->min,
                               (long long)range->max);
    }
    return 0;
}

/* One size of an input against the program's. */
static int check_size(const struct pt2_program *program, const struct pt2_dim *want,
                      int64_t size, struct symbol *seen, struct pt2_err *err)
{
    if (size < 0 || (!want->expr && size != want->value))
        return pt2_err_set(err, PT2_ERR_INVALID, "%lld, not %lld", (long long)size,
                           (long long)want->value);
    if (!want->expr || !is_symbol(want->expr))
        return 0;
    for (unsigned i = 0; seen[i].name; i++)
        if (streq(seen[i].name, want->expr) && seen[i].value != size)
            return pt2_err_set(err, PT2_ERR_INVALID, "%lld, elsewhere %s is %lld",
                               (long long)size, want->expr, (long long)seen[i].value);
    while (seen->name)
        seen++;
    *seen = (struct symbol){want->expr, size};
    return check_range(program, want->expr, size, err);
}

/* All sizes of all inputs; seen has a place for each, and one more. */
static int check_input(const struct run *run, uint32_t i, const struct pt2_value *value,
                       struct symbol *seen, struct pt2_err *err)
{
    const struct graph_tensor *t = &run->inputs[i];

    if (t->dtype != value->meta.dtype || t->n_dims != value->meta.n_dims)
        return pt2_err_set(err, PT2_ERR_INVALID, "input '%.40s' is %s with %u dimensions",
                           value->name, pt2_dtype_name(value->meta.dtype),
                           value->meta.n_dims);
    for (unsigned d = 0; d < t->n_dims; d++)
        if (check_size(run->graph->program, &value->meta.sizes[d], t->sizes[d], seen,
                       err) < 0)
            return pt2_err_prefix(err, "size %u of input '%.40s'", d, value->name);
    return 0;
}

static int wrap(void *data, enum pt2_dtype dtype, unsigned n_dims, const int64_t *sizes,
                struct bridge_value *ret, struct pt2_err *err)
{
    int64_t strides[PT2_MAX_DIMS], step = 1;

    for (unsigned i = n_dims; i-- > 0;) {
        strides[i] = step;
        step *= sizes[i] > 1 ? sizes[i] : 1;
    }
    if (bridge_tensor_wrap(data, dtype, n_dims, sizes, strides, &ret->t, err) < 0)
        return -1;
    ret->kind = BRIDGE_TENSOR;
    return 0;
}

/* The cell's place among the states. */
static uint32_t state_of(const struct graph *graph, uint32_t cell)
{
    uint32_t lo = 0, hi = graph->n_states;

    while (hi - lo > 1) {
        uint32_t mid = lo + (hi - lo) / 2;

        if (graph->states[mid] <= cell)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

static int set_input(const struct run *run, uint32_t i, uint32_t *user,
                     struct symbol *seen, struct pt2_err *err)
{
    struct graph *graph = run->graph;
    const struct pt2_input *input = pt2_program_input(graph->program, i);
    const struct cell *cell = &graph->cells[graph->input_cells[i]];
    struct bridge_value *to = &graph->values[input->value];
    const struct graph_tensor *t;

    if (cell->is_state)
        return wrap(run->states[state_of(graph, graph->input_cells[i])],
                    cell->payload->dtype, cell->payload->n_dims, cell->payload->sizes, to,
                    err);
    if (input->kind != PT2_INPUT_USER) {
        *to = (struct bridge_value){.kind = BRIDGE_TENSOR,
                                    .t = bridge_tensor_ref(cell->tensor)};
        return 0;
    }
    t = &run->inputs[*user];
    if (check_input(run, (*user)++, pt2_program_value(graph->program, input->value), seen,
                    err) < 0)
        return -1;
    return wrap(t->data, t->dtype, t->n_dims, t->sizes, to, err);
}

static int set_inputs(const struct run *run, struct pt2_err *err)
{
    const struct pt2_program *program = run->graph->program;
    AUTO_PTR struct symbol *seen =
        calloc((size_t)run->n_inputs * PT2_MAX_DIMS + 1, sizeof(*seen));
    uint32_t n = pt2_program_n_inputs(program), n_user = 0, user = 0;

    if (!seen)
        return pt2_err_set(err, PT2_ERR_NOMEM, "inputs");
    for (uint32_t i = 0; i < n; i++)
        n_user += pt2_program_input(program, i)->kind == PT2_INPUT_USER;
    if (n_user != run->n_inputs)
        return pt2_err_set(err, PT2_ERR_INVALID, "%u inputs, the program takes %u",
                           run->n_inputs, n_user);
    for (uint32_t i = 0; i < n; i++)
        if (set_input(run, i, &user, seen, err) < 0)
            return -1;
    return 0;
}

/* ---- one call ---- */

static int fill_slots(const struct graph *graph, const struct call *call,
                      struct pt2_err *err)
{
    for (uint32_t i = 0; i < call->n_slots; i++) {
        const struct bridge_value *v = &graph->values[call->slots[i].value];

        if (v->kind == BRIDGE_DEFAULT)
            return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED,
                               "takes a value that is not there");
        *call->slots[i].to = *v; /* borrowed for the call */
    }
    return 0;
}

/* The last line behind the write rule: no call gets memory to write that is not to be
 * written, whatever the graph said of dtypes. */
static int check_writes(const struct graph *graph, const struct call *call,
                        struct pt2_err *err)
{
    for (unsigned i = 0; call->writes && i < call->n_args; i++)
        if (call->op->args[i].is_written && call->args[i].kind == BRIDGE_TENSOR &&
            cells_are_fixed(graph, bridge_tensor_storage(call->args[i].t)))
            return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED,
                               "writes a weight or constant");
    return 0;
}

/* Tensors that a LIST op would answer, at most. */
static int check_list(const struct call *call, struct pt2_err *err)
{
    const struct bridge_value *self = &call->args[0];
    int dim_arg = op_arg_find(call->op, "dim");
    int64_t dim = call->args[dim_arg].kind == BRIDGE_INT ? call->args[dim_arg].i : 0,
            n_dims, n;

    if (self->kind != BRIDGE_TENSOR)
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED, "takes a tensor");
    n_dims = bridge_tensor_n_dims(self->t);
    dim += dim < 0 ? n_dims : 0;
    if (dim < 0 || dim >= n_dims)
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED, "dimension out of range");
    n = bridge_tensor_size(self->t, (unsigned)dim);
    if (dim_arg == 2 && call->args[1].kind == BRIDGE_INT) {
        int64_t x = call->args[1].i;
        bool is_size = streq(call->op->name, "aten::split");

        n = !is_size ? x : x > 0 ? n / x : 0;
    } else if (dim_arg == 2) {
        n = 0; /* as many as the graph lists */
    }
    if (n > ATEN_MAX_LIST)
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED,
                           "answers %lld tensors, at most %d", (long long)n,
                           ATEN_MAX_LIST);
    return 0;
}

static int check_elements(const struct bridge_tensor *t, struct pt2_err *err)
{
    uint64_t n = 1;

    if (bridge_tensor_dtype(t) == PT2_DTYPE_NONE)
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED,
                           "answers a dtype that is not offered");
    for (unsigned i = 0; i < bridge_tensor_n_dims(t); i++)
        if (!size_mul(n, (uint64_t)bridge_tensor_size(t, i), &n) || n > MAX_ELEMENTS)
            return pt2_err_set(err, PT2_ERR_LIMIT,
                               "answers a tensor of more than 2^40 elements");
    return 0;
}

/* Put what the call answered for one output where it belongs. */
static int keep_value(struct graph *graph, const struct pt2_arg *out,
                      struct bridge_value *v, struct pt2_err *err)
{
    enum bridge_kind want = out->kind == PT2_ARG_TENSOR      ? BRIDGE_TENSOR
                            : out->kind == PT2_ARG_SYM_INT   ? BRIDGE_INT
                            : out->kind == PT2_ARG_SYM_BOOL  ? BRIDGE_BOOL
                            : out->kind == PT2_ARG_SYM_FLOAT ? BRIDGE_FLOAT
                                                             : BRIDGE_DEFAULT;

    if (want == BRIDGE_DEFAULT)
        return 0; /* as_none: not wanted */
    if (v->kind != want)
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED, "answers another kind of value");
    if (v->kind == BRIDGE_TENSOR && check_elements(v->t, err) < 0)
        return -1;
    bridge_value_done(&graph->values[out->value]);
    graph->values[out->value] = *v;
    v->kind = BRIDGE_DEFAULT; /* taken */
    return 0;
}

static int keep_values(struct graph *graph, const struct pt2_arg *out,
                       struct bridge_value *v, struct pt2_err *err)
{
    if (out->kind != PT2_ARG_TENSORS)
        return keep_value(graph, out, v, err);
    if (v->kind != BRIDGE_LIST || v->list.n != out->list.n)
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED, "answers %zu tensors, not %u",
                           v->kind == BRIDGE_LIST ? v->list.n : 0, out->list.n);
    for (uint32_t i = 0; i < out->list.n; i++)
        if (keep_value(graph, &out->list.items[i], &v->list.items[i], err) < 0)
            return -1;
    return 0;
}

static int make_call(struct graph *graph, const struct call *call,
                     struct bridge_value *rets, struct pt2_err *err)
{
    if (fill_slots(graph, call, err) < 0 || check_writes(graph, call, err) < 0)
        return -1;
    if (call->op && call->op->check == OP_CHECK_LIST && check_list(call, err) < 0)
        return -1;
    if (!call->op || call->op->lowering == OP_OWN)
        return symbolic_run(call, rets, err);
    return lower_call(call, rets, err);
}

/* to and type_as answer a copy where the dtype changes, a view where it does not: the
 * write rule went by the dtype that the program states, and what is known of positions
 * by that of each conversion. */
static int check_copy(const struct graph *graph, const struct call *call,
                      const struct bridge_value *ret, struct pt2_err *err)
{
    const struct pt2_arg *out = call->node->outputs;
    enum pt2_dtype want, got;

    if (!call->op ||
        (!op_may_copy(call->op) && !streq(call->op->name, "aten::_to_copy")) ||
        call->node->n_outputs == 0 || out->kind != PT2_ARG_TENSOR ||
        ret->kind != BRIDGE_TENSOR)
        return 0;
    want = pt2_program_value(graph->program, out->value)->meta.dtype;
    got = bridge_tensor_dtype(ret->t);
    if (want != got)
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED,
                           "answers %s, the program says %s", pt2_dtype_name(got),
                           pt2_dtype_name(want));
    return 0;
}

static int run_call(struct graph *graph, uint32_t i, struct pt2_err *err)
{
    struct call *call = &graph->calls[i];
    struct bridge_value rets[OP_MAX_RETS] = {0};
    int r;

    if (graph->fail_at == (int64_t)i)
        r = pt2_err_set(err, PT2_ERR_PROGRAM_FAILED, "made to fail, for a test");
    else
        r = make_call(graph, call, rets, err);
    if (r == 0)
        r = check_copy(graph, call, rets, err);
    for (uint32_t k = 0; r == 0 && k < call->node->n_outputs; k++)
        r = keep_values(graph, &call->node->outputs[k], &rets[k], err);
    for (unsigned k = 0; k < OP_MAX_RETS; k++)
        bridge_value_done(&rets[k]);
    for (uint32_t k = 0; k < call->n_dead; k++)
        bridge_value_done(&graph->values[call->dead[k]]);
    if (r < 0)
        return pt2_err_prefix(err, "node '%.60s' (%.60s)", call->node->name,
                              call->node->target);
    return 0;
}

/* ---- outputs ---- */

/* Functional programs answer the buffers' new contents; in-place ones the buffer itself.
 */
static int write_state(const struct run *run, uint32_t i, struct pt2_err *err)
{
    struct graph *graph = run->graph;
    const struct pt2_output *out = pt2_program_output(graph->program, i);
    const struct cell *cell = &graph->cells[graph->output_cells[i]];
    struct bridge_value args[3] = {{0}, graph->values[out->arg.value], {0}}, ret = {0};
    int r;

    if (args[1].kind != BRIDGE_TENSOR)
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED, "output %u is no tensor", i);
    if (wrap(run->states[state_of(graph, graph->output_cells[i])], cell->payload->dtype,
             cell->payload->n_dims, cell->payload->sizes, &args[0], err) < 0)
        return -1;
    r = bridge_call(bridge_op_find("aten::copy_", ""), args, &ret, 1, err);
    bridge_value_done(&ret);
    bridge_value_done(&args[0]);
    return r < 0 ? pt2_err_prefix(err, "buffer '%.80s'", cell->fqn) : 0;
}

static int take_outputs(const struct run *run, struct bridge_tensor **ret_outputs,
                        uint32_t n_outputs, struct pt2_err *err)
{
    const struct pt2_program *program = run->graph->program;
    uint32_t n = pt2_program_n_outputs(program), k = 0;

    for (uint32_t i = 0; i < n; i++)
        if (pt2_program_output(program, i)->kind != PT2_OUTPUT_USER &&
            write_state(run, i, err) < 0)
            return -1;
    for (uint32_t i = 0; i < n; i++) {
        const struct pt2_output *out = pt2_program_output(program, i);
        const struct bridge_value *v;

        if (out->kind != PT2_OUTPUT_USER || k == n_outputs)
            continue;
        v = out->arg.kind == PT2_ARG_TENSOR ? &run->graph->values[out->arg.value] : NULL;
        ret_outputs[k++] = v && v->kind == BRIDGE_TENSOR ? bridge_tensor_ref(v->t) : NULL;
    }
    while (k < n_outputs)
        ret_outputs[k++] = NULL;
    return 0;
}

static int run_all(const struct run *run, struct bridge_tensor **ret_outputs,
                   uint32_t n_outputs, struct pt2_err *err)
{
    if (set_inputs(run, err) < 0)
        return -1;
    for (uint32_t i = 0; i < run->graph->n_calls; i++)
        if (run_call(run->graph, i, err) < 0)
            return -1;
    return take_outputs(run, ret_outputs, n_outputs, err);
}

int graph_run(struct graph *graph, void *const *states, const struct graph_tensor *inputs,
              uint32_t n_inputs, struct bridge_tensor **ret_outputs, uint32_t n_outputs,
              struct pt2_err *err)
{
    struct run run = {graph, states, inputs, n_inputs};
    int r;

    bridge_limit_memory(graph->limits.max_run_bytes);
    r = run_all(&run, ret_outputs, n_outputs, err);
    for (uint32_t i = 0; i < pt2_program_n_values(graph->program); i++)
        bridge_value_done(&graph->values[i]);
    return r;
}
