#include "aten/graph.h"

/* What is known of a value, in terms of the run: it works on s tokens at the positions
 * start .. start + s - 1. */
enum meaning {
    UNKNOWN,
    COUNT,     /* s, a number */
    INDEX,     /* 0 .. s - 1 */
    START,     /* start, one element or a number */
    END,       /* start + s */
    POSITIONS, /* start .. start + s - 1, one dimension */
    SLOTS,     /* the same, modulo a number */
};

struct fact {
    enum meaning meaning;
    int64_t modulus; /* of SLOTS */
    uint32_t
        rows_of; /* the state that this is, but for rows at the positions; or NO_CELL */
    int rows_dim;
};

/* What is known of a state cell. */
struct state {
    bool may_count; /* one integer; until a write says otherwise, it counts positions */
    enum meaning meaning; /* now, while walking through the calls */
    int dim;              /* of the rows written; -1: none yet */
    bool is_ring;         /* these rows are SLOTS */
    bool is_read;         /* before it is written */
    bool is_elsewhere;    /* written in another way too */
};

struct walk {
    struct graph *graph;
    const struct pt2_decoder *decoder;
    struct fact *facts;   /* by values */
    struct state *states; /* by cells */
    uint32_t positions;   /* the value of cache_position */
    const char *count;    /* its size's expression; NULL: fixed */
};

static const struct fact nothing = {UNKNOWN, 0, NO_CELL, -1};

static const struct pt2_value *value_of(const struct walk *w, int64_t i)
{
    return pt2_program_value(w->graph->program, (uint32_t)i);
}

/* The state cell that a value is, as a whole and in its own shape; NO_CELL: none. Through
 * identities only: their facts carry it. */
static uint32_t state_cell(const struct walk *w, int64_t value)
{
    uint32_t cell = value < 0 ? NO_CELL : w->graph->origins[value];
    const struct fact *f = value < 0 ? &nothing : &w->facts[value];

    return cell != NO_CELL && w->graph->cells[cell].is_state && f->rows_of == cell &&
                   f->rows_dim < 0
               ? cell
               : NO_CELL;
}

/* What a value means at this place of the walk: that of a counter changes as it is
 * written. */
static enum meaning meaning_of(const struct walk *w, int64_t value)
{
    uint32_t cell = state_cell(w, value);

    if (value < 0)
        return UNKNOWN;
    return cell != NO_CELL && w->states[cell].may_count ? w->states[cell].meaning
                                                        : w->facts[value].meaning;
}

/* The same of an argument, which may be a plain number: s where that is fixed. */
static enum meaning meaning_of_arg(const struct walk *w, const struct call *call,
                                   const char *name)
{
    int i = call->op ? op_arg_find(call->op, name) : -1;
    const struct pt2_arg *arg = i < 0 ? NULL : call->given[i];

    if (!arg)
        return UNKNOWN;
    if (arg->kind == PT2_ARG_INT)
        return w->decoder->seq_len > 0 && arg->i == w->decoder->seq_len ? COUNT : UNKNOWN;
    return meaning_of(w, call_value(call, name));
}

static bool int_arg(const struct call *call, const char *name, int64_t other,
                    int64_t *ret)
{
    int i = op_arg_find(call->op, name);
    const struct pt2_arg *arg = i < 0 ? NULL : call->given[i];

    *ret = arg ? arg->i : other;
    return !arg || arg->kind == PT2_ARG_INT;
}

static bool is_op(const struct call *call, const char *name)
{
    return call->op && streq(strstr(call->op->name, "::") + 2, name);
}

static enum meaning sum_of(enum meaning a, enum meaning b)
{
    if ((a == INDEX && b == START) || (a == START && b == INDEX))
        return POSITIONS;
    if ((a == START && b == COUNT) || (a == COUNT && b == START))
        return END;
    return UNKNOWN;
}

/* ---- writes ---- */

static void write_elsewhere(struct walk *w, uint32_t cell)
{
    w->states[cell].is_elsewhere = true;
    w->states[cell].may_count = false;
}

/* In the dimension dim; of a ring where modulus is not 0. */
static void write_rows(struct walk *w, uint32_t cell, int dim, int64_t modulus)
{
    struct state *s = &w->states[cell];
    bool is_ring = modulus != 0;

    s->may_count = false;
    if ((s->dim >= 0 && (s->dim != dim || s->is_ring != is_ring)) || (is_ring && s->is_read))
        s->is_elsewhere = true;
    s->dim = dim;
    s->is_ring = is_ring;
}

/* A counter gets the value m; a state that is none is written somewhere. */
static void write_counter(struct walk *w, uint32_t cell, enum meaning m)
{
    struct state *s = &w->states[cell];

    if (s->may_count && (m == START || m == END))
        s->meaning = m;
    else
        write_elsewhere(w, cell);
}

/* The size of a ring that index_copy writes rows of in dimension dim; 0: they are at the
 * positions themselves; -1: neither. */
static int64_t modulus_of(const struct walk *w, const struct call *call,
                          const struct pt2_payload *payload, int64_t dim)
{
    int64_t index = call_value(call, "index");
    enum meaning m = meaning_of(w, index);

    if (m == POSITIONS)
        return 0;
    return m == SLOTS && dim < payload->n_dims &&
                   w->facts[index].modulus == payload->sizes[dim]
               ? payload->sizes[dim]
               : -1;
}

/* The dimension whose rows at the positions index_copy or index_put write in a tensor like
 * payload, and the size of a ring that it is; -1: they write otherwise. */
static int rows_written(const struct walk *w, const struct call *call,
                        const struct pt2_payload *payload, int64_t *ret_modulus)
{
    int64_t dim, n_dims = payload->n_dims;
    const struct pt2_arg *indices;

    *ret_modulus = 0;

    if (is_op(call, "index_copy_") || is_op(call, "index_copy")) {
        if (!int_arg(call, "dim", 0, &dim))
            return -1;
        dim += dim < 0 ? n_dims : 0;
        *ret_modulus = dim < 0 ? -1 : modulus_of(w, call, payload, dim);
        return *ret_modulus >= 0 && dim < n_dims ? (int)dim : -1;
    }
    if (is_op(call, "update_cache"))
        return n_dims == 4 && meaning_of(w, call_value(call, "start_pos")) == START ? 1 : -1;
    if (!is_op(call, "index_put_") && !is_op(call, "index_put"))
        return -1;
    indices = call->given[op_arg_find(call->op, "indices")];
    for (dim = 0; dim < indices->list.n; dim++)
        if (indices->list.items[dim].kind == PT2_ARG_TENSOR)
            break;
    return dim + 1 == indices->list.n && dim < n_dims &&
                   meaning_of(w, indices->list.items[dim].value) == POSITIONS
               ? (int)dim
               : -1;
}

static void follow_write(struct walk *w, const struct call *call, int64_t self)
{
    uint32_t origin = self < 0 ? NO_CELL : w->graph->origins[self];
    uint32_t cell = state_cell(w, self);
    int64_t modulus;
    int dim;

    if (origin == NO_CELL)
        return;
    if (cell == NO_CELL) { /* through a view that shows it otherwise */
        write_elsewhere(w, origin);
        return;
    }
    dim = rows_written(w, call, w->graph->cells[cell].payload, &modulus);
    if (dim >= 0)
        write_rows(w, cell, dim, modulus);
    else if (is_op(call, "copy_"))
        write_counter(w, cell, meaning_of_arg(w, call, "src"));
    else if (is_op(call, "add_") && !call->given[op_arg_find(call->op, "alpha")])
        write_counter(w, cell,
                      sum_of(meaning_of(w, self), meaning_of_arg(w, call, "other")));
    else
        write_elsewhere(w, cell);
}

/* ---- values ---- */

static enum meaning arange_meaning(const struct walk *w, const struct call *call)
{
    enum meaning start = meaning_of_arg(w, call, "start"),
                 end = meaning_of_arg(w, call, "end");
    int64_t from, step;
    bool is_zero = op_arg_find(call->op, "start") < 0 ||
                   (int_arg(call, "start", 0, &from) && from == 0);

    if (op_arg_find(call->op, "step") >= 0 &&
        !(int_arg(call, "step", 1, &step) && step == 1))
        return UNKNOWN;
    if (is_zero)
        return end == COUNT ? INDEX : UNKNOWN;
    return start == START && end == END ? POSITIONS : UNKNOWN;
}

static enum meaning size_meaning(const struct walk *w, const struct call *call)
{
    int64_t value = call_value(call, "self"), dim;
    const struct pt2_tensor_meta *meta;

    if (value < 0 || !w->count || !int_arg(call, "dim", 0, &dim))
        return UNKNOWN;
    meta = &value_of(w, value)->meta;
    dim += dim < 0 ? meta->n_dims : 0;
    return dim >= 0 && dim < meta->n_dims && meta->sizes[dim].expr &&
                   streq(meta->sizes[dim].expr, w->count)
               ? COUNT
               : UNKNOWN;
}

/* A reshaping keeps one element what it is, and a row of positions where it stays a row.
 */
static enum meaning reshaped_meaning(const struct walk *w, const struct call *call)
{
    enum meaning m = meaning_of_arg(w, call, "self");
    const struct pt2_arg *sizes = call->op->n_args > 1 ? call->given[1] : NULL;

    if (m == START || m == END)
        return m;
    return (m == POSITIONS || m == INDEX) && sizes && sizes->kind >= PT2_ARG_TENSORS &&
                   sizes->list.n == 1
               ? m
               : UNKNOWN;
}

static enum meaning select_meaning(const struct walk *w, const struct call *call)
{
    int64_t dim, index;

    if (!int_arg(call, "dim", 0, &dim) || !int_arg(call, "index", 0, &index) ||
        index != 0)
        return UNKNOWN;
    switch (meaning_of_arg(w, call, "self")) {
    case POSITIONS:
        return START;
    case START: /* of a counter with one dimension */
        return START;
    case END:
        return END;
    default:
        return UNKNOWN;
    }
}

static enum meaning call_meaning(const struct walk *w, const struct call *call)
{
    if (!call->op) {
        enum meaning m[2] = {UNKNOWN, UNKNOWN};

        for (unsigned i = 0; i < call->n_args && i < 2; i++)
            if (call->given[i]->kind == PT2_ARG_SYM_INT)
                m[i] = meaning_of(w, call->given[i]->value);
        return streq(call->node->target, "_operator.add") ? sum_of(m[0], m[1]) : UNKNOWN;
    }
    if (is_op(call, "arange"))
        return arange_meaning(w, call);
    if (is_op(call, "sym_size"))
        return size_meaning(w, call);
    if (is_op(call, "select"))
        return select_meaning(w, call);
    if (is_op(call, "view") || is_op(call, "reshape") || is_op(call, "unsqueeze") ||
        is_op(call, "squeeze"))
        return reshaped_meaning(w, call);
    if (is_op(call, "item") || is_op(call, "_local_scalar_dense") ||
        is_op(call, "clone") || is_op(call, "_to_copy"))
        return meaning_of_arg(w, call, "self");
    if (is_op(call, "add") && !call->given[op_arg_find(call->op, "alpha")])
        return sum_of(meaning_of_arg(w, call, "self"), meaning_of_arg(w, call, "other"));
    return UNKNOWN;
}

/* index_copy, index_put: the state's new contents, to be written by a buffer mutation. */
static struct fact updated_state(const struct walk *w, const struct call *call)
{
    int64_t self = call_value(call, "self");
    const struct fact *before = self < 0 ? &nothing : &w->facts[self];
    int64_t modulus;
    int dim;

    if (!is_op(call, "index_copy") && !is_op(call, "index_put"))
        return nothing;
    if (before->rows_of == NO_CELL)
        return nothing;
    dim = rows_written(w, call, w->graph->cells[before->rows_of].payload, &modulus);
    if (dim < 0 || modulus > 0 || (before->rows_dim >= 0 && before->rows_dim != dim))
        return nothing;
    return (struct fact){UNKNOWN, 0, before->rows_of, dim};
}

/* Does every position fit into the value?  In a narrower type they wrap. */
static bool holds_positions(const struct pt2_value *value)
{
    return value->kind != PT2_VALUE_TENSOR || value->meta.dtype == PT2_INT64 ||
           value->meta.dtype == PT2_INT32;
}

static struct fact fact_of(const struct walk *w, const struct call *call, uint32_t out)
{
    unsigned arg;
    struct fact f;

    if (call->op && call_is_identity(call, &arg) && call->given[arg] &&
        call->given[arg]->kind == PT2_ARG_TENSOR) {
        uint32_t in = call->given[arg]->value;

        f = w->facts[in];
        f.meaning = holds_positions(value_of(w, out)) ? meaning_of(w, in) : UNKNOWN;
        if (w->graph->origins[out] == NO_CELL) /* a copy, in another dtype */
            f.rows_of = NO_CELL;
        return f;
    }
    f = call->op ? updated_state(w, call) : nothing;
    f.meaning = holds_positions(value_of(w, out)) ? call_meaning(w, call) : UNKNOWN;
    if (call->op && is_op(call, "remainder") && holds_positions(value_of(w, out)) &&
        meaning_of_arg(w, call, "self") == POSITIONS && int_arg(call, "other", 0, &f.modulus) &&
        f.modulus > 0)
        f.meaning = SLOTS;
    return f;
}

/* ---- the walk ---- */

static void walk_inputs(struct walk *w)
{
    const struct graph *graph = w->graph;
    uint32_t user = 0;

    for (uint32_t i = 0; i < pt2_program_n_values(graph->program); i++)
        w->facts[i] = nothing;
    for (uint32_t i = 0; i < pt2_program_n_inputs(graph->program); i++) {
        const struct pt2_input *input = pt2_program_input(graph->program, i);
        uint32_t cell = graph->input_cells[i];

        if (graph->cells[cell].is_state)
            w->facts[input->value].rows_of = cell;
        if (input->kind == PT2_INPUT_USER && user++ == w->decoder->cache_position) {
            const struct pt2_tensor_meta *meta = &value_of(w, input->value)->meta;

            w->facts[input->value].meaning = meta->n_dims == 1 ? POSITIONS : UNKNOWN;
            w->count = meta->n_dims == 1 ? meta->sizes[0].expr : NULL;
        }
    }
}

/* A tensor among a call's arguments that shows a state before it was written as a ring. */
static void follow_read(struct walk *w, const struct pt2_arg *arg)
{
    uint32_t origin = arg->kind == PT2_ARG_TENSOR ? w->graph->origins[arg->value] : NO_CELL;

    if (origin != NO_CELL && w->graph->cells[origin].is_state && !w->states[origin].is_ring)
        w->states[origin].is_read = true;
    for (uint32_t i = 0; arg->kind >= PT2_ARG_TENSORS && i < arg->list.n; i++)
        follow_read(w, &arg->list.items[i]);
}

static void walk_calls(struct walk *w)
{
    for (uint32_t i = 0; i < w->graph->n_calls; i++) {
        const struct call *call = &w->graph->calls[i];

        for (unsigned k = 0; call->op && k < call->op->n_args; k++)
            if (call->given[k] && !call->op->args[k].is_written)
                follow_read(w, call->given[k]);
        for (unsigned k = 0; call->writes && k < call->op->n_args; k++)
            if (call->op->args[k].is_written)
                follow_write(w, call, call->given[k]->value);
        for (uint32_t k = 0; k < call->node->n_outputs; k++) {
            const struct pt2_arg *out = &call->node->outputs[k];

            if (out->kind == PT2_ARG_TENSOR || out->kind == PT2_ARG_SYM_INT)
                w->facts[out->value] = fact_of(w, call, out->value);
        }
    }
}

static void walk_outputs(struct walk *w)
{
    const struct pt2_program *program = w->graph->program;

    for (uint32_t i = 0; i < pt2_program_n_outputs(program); i++) {
        const struct pt2_output *out = pt2_program_output(program, i);
        uint32_t cell = w->graph->output_cells[i];

        if (out->kind == PT2_OUTPUT_USER || state_cell(w, out->arg.value) == cell)
            continue;
        if (w->facts[out->arg.value].rows_of == cell &&
            w->facts[out->arg.value].rows_dim >= 0)
            write_rows(w, cell, w->facts[out->arg.value].rows_dim, /* modulus= */ 0);
        else
            write_counter(w, cell, meaning_of(w, out->arg.value));
    }
}

/* One walk, with the counters that are still believed in.  True where one fell. */
static bool walk_once(struct walk *w)
{
    bool fell = false;
    AUTO_PTR bool *before = calloc(w->graph->n_cells + 1, sizeof(*before));

    for (uint32_t i = 0; i < w->graph->n_cells; i++) {
        if (before)
            before[i] = w->states[i].may_count;
        w->states[i].meaning = START;
        w->states[i].dim = -1;
        w->states[i].is_ring = w->states[i].is_read = w->states[i].is_elsewhere = false;
    }
    walk_inputs(w);
    walk_calls(w);
    walk_outputs(w);
    for (uint32_t i = 0; before && i < w->graph->n_cells; i++)
        fell = fell || before[i] != w->states[i].may_count;
    return fell;
}

static void find(struct walk *w)
{
    struct graph *graph = w->graph;

    for (uint32_t i = 0; i < graph->n_cells; i++) {
        const struct pt2_payload *p = graph->cells[i].payload;

        w->states[i].may_count = graph->cells[i].is_state &&
                                 !pt2_dtype_is_float(p->dtype) && p->dtype != PT2_BOOL &&
                                 graph->cells[i].bytes == pt2_dtype_size(p->dtype);
    }
    /* What a counter was taken for decides what others are; a few rounds settle real
     * graphs. */
    for (int rounds = 0; walk_once(w); rounds++)
        for (uint32_t i = 0; rounds == 8 && i < graph->n_cells; i++)
            w->states[i].may_count = false;
    for (uint32_t i = 0; i < graph->n_cells; i++) {
        const struct state *s = &w->states[i];
        struct cell *cell = &graph->cells[i];

        cell->is_counter = s->may_count;
        cell->position_dim = s->may_count || s->is_elsewhere ? -1 : s->dim;
        cell->is_ring = cell->position_dim >= 0 && s->is_ring;
    }
}

int positions_find(struct graph *graph, const struct pt2_decoder *decoder,
                   struct pt2_err *err)
{
    AUTO_PTR struct fact *facts =
        calloc(pt2_program_n_values(graph->program) + 1, sizeof(*facts));
    AUTO_PTR struct state *states = calloc(graph->n_cells + 1, sizeof(*states));
    struct walk w = {
        .graph = graph, .decoder = decoder, .facts = facts, .states = states};

    if (!facts || !states)
        return pt2_err_set(err, PT2_ERR_NOMEM, "positions");
    find(&w);
    return 0;
}
