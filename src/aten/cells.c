#include "aten/graph.h"

#include <errno.h>

/* Do two payloads show the same elements of their record? */
static bool same_place(const struct pt2_payload *a, const struct pt2_payload *b)
{
    if (a->dtype != b->dtype || a->n_dims != b->n_dims ||
        a->storage_offset != b->storage_offset)
        return false;
    for (unsigned i = 0; i < a->n_dims; i++)
        if (a->sizes[i] != b->sizes[i] || a->strides[i] != b->strides[i])
            return false;
    return true;
}

/* A parameter's nature counts before a buffer's, a buffer's name before a constant's. */
static void cell_join(struct cell *cell, const struct pt2_input *input)
{
    if (cell->kind == PT2_INPUT_CONSTANT && input->kind != PT2_INPUT_CONSTANT) {
        cell->kind = input->kind;
        cell->fqn = input->fqn;
    } else if (input->kind == PT2_INPUT_PARAMETER) {
        cell->kind = input->kind;
    }
}

static int cell_init(struct cell *cell, const struct pt2_program *program,
                     const struct pt2_input *input, const struct pt2_payload *payload,
                     struct pt2_err *err)
{
    cell->kind = input->kind;
    cell->payload = payload;
    cell->position_dim = -1;
    cell->fqn = input->fqn;
    if (input->kind == PT2_INPUT_USER) {
        cell->fqn = pt2_program_value(program, input->value)->name;
        return 0;
    }
    if (!payload)
        return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED, "'%.80s' is not in the archive",
                           input->fqn);
    if (!pt2_tensor_bytes(payload->dtype, payload->n_dims, payload->sizes, &cell->bytes))
        return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED, "'%.80s' is too large",
                           input->fqn);
    return 0;
}

/* An input's cell: that of an earlier one which shows the same elements, or a new one.
 * by_record tells the first cell (plus 1) of each record. */
static int cell_of(struct graph *graph, uint32_t i, uint32_t *by_record,
                   struct pt2_err *err)
{
    const struct pt2_input *input = pt2_program_input(graph->program, i);
    const struct pt2_payload *payload = NULL;
    struct cell *cell = &graph->cells[graph->n_cells];
    uint32_t *first = NULL;

    if (input->kind != PT2_INPUT_USER && graph->archive)
        payload = pt2_archive_find_payload(graph->archive, input->fqn);
    if (payload)
        first = &by_record[payload->record - pt2_archive_record(graph->archive, 0)];
    if (first && *first && same_place(graph->cells[*first - 1].payload, payload)) {
        graph->input_cells[i] = *first - 1;
        cell_join(&graph->cells[*first - 1], input);
        return 0;
    }
    if (cell_init(cell, graph->program, input, payload, err) < 0)
        return -1;
    if (first && *first)
        cell->is_overlapped = graph->cells[*first - 1].is_overlapped = true;
    else if (first)
        *first = graph->n_cells + 1;
    graph->input_cells[i] = graph->n_cells++;
    return 0;
}

int cells_open(struct graph *graph, struct pt2_err *err)
{
    uint32_t n = pt2_program_n_inputs(graph->program);
    size_t n_records = graph->archive ? pt2_archive_n_records(graph->archive) : 0;
    AUTO_PTR uint32_t *by_record = calloc(n_records + 1, sizeof(*by_record));

    graph->cells = graph_alloc(graph, n, sizeof(*graph->cells));
    graph->input_cells = graph_alloc(graph, n, sizeof(*graph->input_cells));
    if (!by_record || !graph->cells || !graph->input_cells)
        return pt2_err_set(err, PT2_ERR_NOMEM, "inputs of the program");
    for (uint32_t i = 0; i < n; i++)
        if (cell_of(graph, i, by_record, err) < 0)
            return -1;
    return 0;
}

/* ---- memory ---- */

/* Do all elements that the payload reaches lie within its record?  The archive reader has
 * checked so; a mistake here would read beyond the file. */
static bool payload_fits(const struct pt2_payload *p)
{
    uint64_t last = (uint64_t)p->storage_offset, step, bytes;

    if (p->storage_offset < 0)
        return false;
    for (unsigned i = 0; i < p->n_dims; i++) {
        if (p->sizes[i] == 0)
            return true;
        if (p->sizes[i] < 0 || p->strides[i] < 0 ||
            !size_mul((uint64_t)p->sizes[i] - 1, (uint64_t)p->strides[i], &step) ||
            !size_add(last, step, &last))
            return false;
    }
    return size_add(last, 1, &last) && size_mul(last, pt2_dtype_size(p->dtype), &bytes) &&
           bytes <= p->record->size;
}

/* Count memory of our own, before it is taken. */
static int own(struct graph *graph, struct cell *cell, uint64_t bytes,
               struct pt2_err *err)
{
    if (!size_add(graph->owned_bytes, bytes, &graph->owned_bytes) ||
        graph->owned_bytes > graph->limits.max_run_bytes)
        return pt2_err_set(err, PT2_ERR_LIMIT,
                           "'%.80s' and others need memory beside the file, at most %llu "
                           "bytes are allowed",
                           cell->fqn, (unsigned long long)graph->limits.max_run_bytes);
    return 0;
}

static void contiguous_strides(const struct pt2_payload *p, int64_t strides[PT2_MAX_DIMS])
{
    int64_t step = 1;

    for (unsigned i = p->n_dims; i-- > 0;) {
        strides[i] = step;
        step *= p->sizes[i] > 1 ? p->sizes[i] : 1;
    }
}

/* The record's bytes: where they lie in the file, or a copy where they are packed or
 * begin at an odd place. */
static int record_bytes(struct graph *graph, struct cell *cell, char **ret_data,
                        struct pt2_err *err)
{
    const struct pt2_payload *p = cell->payload;
    const void *data = pt2_archive_data(graph->archive, p->record);
    size_t size;

    if (!payload_fits(p))
        return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED,
                           "'%.80s' reaches beyond its record of %llu bytes", cell->fqn,
                           (unsigned long long)p->record->size);
    if (!data || (uintptr_t)data % pt2_dtype_size(p->dtype) != 0) {
        if (own(graph, cell, p->record->size, err) < 0 ||
            pt2_archive_read(graph->archive, p->record, p->record->size, &cell->owned,
                             &size, err) < 0)
            return -1;
        data = cell->owned;
    }
    /* libtorch takes it as writable; the write rule sees to it that nothing writes. */
    *ret_data = (char *)(uintptr_t)data;
    return 0;
}

/* Zeros that the archive has no bytes of; a state that begins as zeros needs none. */
static int zero_bytes(struct graph *graph, struct cell *cell, char **ret_data,
                      struct pt2_err *err)
{
    if (own(graph, cell, cell->bytes, err) < 0)
        return -1;
    cell->owned = calloc(1, cell->bytes ? cell->bytes : 1);
    if (!cell->owned)
        return pt2_err_set(err, PT2_ERR_NOMEM, "'%.80s'", cell->fqn);
    *ret_data = cell->owned;
    return 0;
}

/* A state's first value, contiguous whatever its strides in the file. */
static int make_contiguous(struct cell *cell, struct pt2_err *err)
{
    const struct bridge_op *clone = bridge_op_find("aten::clone", "");
    struct bridge_value args[2] = {{.kind = BRIDGE_TENSOR, .t = cell->tensor},
                                   {.kind = BRIDGE_INT, .i = 0 /* contiguous */}},
                        ret;

    if (bridge_call(clone, args, &ret, 1, err) < 0)
        return -1;
    bridge_tensor_free(cell->tensor);
    cell->tensor = ret.t;
    return 0;
}

static int cell_load(struct graph *graph, struct cell *cell, struct pt2_err *err)
{
    const struct pt2_payload *p = cell->payload;
    int64_t strides[PT2_MAX_DIMS];
    char *data = NULL;

    contiguous_strides(p, strides);
    if (p->is_zeros ? zero_bytes(graph, cell, &data, err) < 0
                    : record_bytes(graph, cell, &data, err) < 0)
        return -1;
    if (!p->is_zeros)
        data += (size_t)p->storage_offset * pt2_dtype_size(p->dtype);
    if (bridge_tensor_wrap(data, p->dtype, p->n_dims, p->sizes,
                           p->is_zeros ? strides : p->strides, &cell->tensor, err) < 0)
        return -1;
    if (cell->is_state && memcmp(strides, p->strides, p->n_dims * sizeof(*strides)) != 0)
        return make_contiguous(cell, err);
    return 0;
}

/* Widen the range of what no call may write by a cell that lies in the mapped file. */
static void note_fixed(struct graph *graph, const struct cell *cell)
{
    uintptr_t begin = (uintptr_t)pt2_archive_data(graph->archive, cell->payload->record);
    uintptr_t end = begin + cell->payload->record->size;

    if (!graph->fixed_end || begin < graph->fixed_begin)
        graph->fixed_begin = begin;
    if (end > graph->fixed_end)
        graph->fixed_end = end;
}

int cells_load(struct graph *graph, struct pt2_err *err)
{
    for (uint32_t i = 0; i < graph->n_cells; i++) {
        struct cell *cell = &graph->cells[i];

        if (cell->kind == PT2_INPUT_USER || (cell->is_state && cell->payload->is_zeros))
            continue;
        if (cell_load(graph, cell, err) < 0)
            return -1;
        if (!cell->is_state && !cell->owned)
            note_fixed(graph, cell);
    }
    return 0;
}

bool cells_are_fixed(const struct graph *graph, const void *storage)
{
    if ((uintptr_t)storage >= graph->fixed_begin && (uintptr_t)storage < graph->fixed_end)
        return true;
    for (uint32_t i = 0; i < graph->n_cells; i++) {
        const struct cell *cell = &graph->cells[i];

        if (cell->owned && !cell->is_state && storage >= cell->owned &&
            (const char *)storage <=
                (const char *)cell->owned + cell->payload->record->size)
            return true;
    }
    return false;
}

void cells_done(struct graph *graph)
{
    for (uint32_t i = 0; i < graph->n_cells; i++) {
        bridge_tensor_free(graph->cells[i].tensor);
        free(graph->cells[i].owned);
    }
}
