#include "aten/graph.h"

DEFINE_AUTO(aten_program)
DEFINE_AUTO(bridge_tensor)

struct aten_program {
    struct graph *graph;
    struct pt2_decoder decoder;
    struct aten_buffer *buffers; /* in the graph's memory */
};

/* ---- opening ---- */

static void describe_buffer(const struct cell *cell, struct aten_buffer *ret)
{
    const struct pt2_payload *p = cell->payload;

    ret->fqn = cell->fqn;
    ret->dtype = p->dtype;
    ret->n_dims = p->n_dims;
    memcpy(ret->sizes, p->sizes, sizeof(ret->sizes));
    ret->bytes = cell->bytes;
    ret->position_dim = cell->position_dim;
    ret->is_ring = cell->is_ring;
    ret->is_counter = cell->is_counter;
    ret->initial = cell->tensor ? bridge_tensor_data(cell->tensor) : NULL;
}

static int describe_buffers(struct aten_program *program, struct pt2_err *err)
{
    struct graph *graph = program->graph;

    program->buffers = graph_alloc(graph, graph->n_states, sizeof(*program->buffers));
    if (!program->buffers)
        return pt2_err_set(err, PT2_ERR_NOMEM, "session buffers");
    for (uint32_t i = 0; i < graph->n_states; i++)
        describe_buffer(&graph->cells[graph->states[i]], &program->buffers[i]);
    return 0;
}

int aten_program_open(const struct pt2_archive *archive,
                      const struct pt2_program *program, const struct aten_limits *limits,
                      struct aten_program **ret_program, struct pt2_err *err)
{
    AUTO(aten_program) p = calloc(1, sizeof(*p));

    if (!p)
        return pt2_err_set(err, PT2_ERR_NOMEM, "program");
    if (pt2_program_decoder(program, &p->decoder, err) < 0 ||
        graph_open(archive, program, limits, &p->graph, err) < 0 ||
        positions_find(p->graph, &p->decoder, err) < 0 || describe_buffers(p, err) < 0)
        return -1;
    *ret_program = TAKE(p);
    return 0;
}

void aten_program_free(struct aten_program *program)
{
    if (!program)
        return;
    graph_free(program->graph);
    free(program);
}

const struct pt2_decoder *aten_program_decoder(const struct aten_program *program)
{
    return &program->decoder;
}

size_t aten_program_n_buffers(const struct aten_program *program)
{
    return program->graph->n_states;
}

const struct aten_buffer *aten_program_buffer(const struct aten_program *program,
                                              size_t i)
{
    return &program->buffers[i];
}

bool aten_program_can_rewind(const struct aten_program *program)
{
    for (uint32_t i = 0; i < program->graph->n_states; i++)
        if (program->buffers[i].position_dim < 0 && !program->buffers[i].is_counter)
            return false;
    return true;
}

size_t aten_program_n_calls(const struct aten_program *program)
{
    return program->graph->n_calls;
}

void aten_program_fail_at(struct aten_program *program, int64_t call)
{
    program->graph->fail_at = call;
}

/* ---- running ---- */

/* *x = op(*x, ...): the local's new tensor in place of its old one. */
static int replace(struct bridge_tensor **x, const char *op, struct bridge_value *args,
                   struct pt2_err *err)
{
    struct bridge_value ret;

    args[0] = (struct bridge_value){.kind = BRIDGE_TENSOR, .t = *x};
    if (bridge_call(bridge_op_find(op, ""), args, &ret, 1, err) < 0)
        return -1;
    bridge_tensor_free(*x);
    *x = ret.t;
    return 0;
}

static int narrow_rows(struct bridge_tensor **x, int64_t first, int64_t n,
                       struct pt2_err *err)
{
    struct bridge_value args[4] = {[1] = {.kind = BRIDGE_INT, .i = 1},
                                   [2] = {.kind = BRIDGE_INT, .i = first},
                                   [3] = {.kind = BRIDGE_INT, .i = n}};

    return replace(x, "aten::narrow", args, err);
}

/* The rows as floats, contiguous. */
static int widen_rows(struct bridge_tensor **x, struct pt2_err *err)
{
    struct bridge_value args[7] = {[1] = {.kind = BRIDGE_DTYPE, .dtype = PT2_FLOAT32},
                                   [6] = {.kind = BRIDGE_INT, .i = 0 /* contiguous */}};

    return replace(x, "aten::_to_copy", args, err);
}

/* The shape that the decoder's facts promise: (batch, rows, vocab), or (batch, vocab). */
static int check_logits(const struct aten_program *program, const struct bridge_tensor *t,
                        int64_t rows, struct pt2_err *err)
{
    unsigned n_dims = bridge_tensor_n_dims(t);
    bool is_good = pt2_dtype_is_float(bridge_tensor_dtype(t)) &&
                   (n_dims == 2 || n_dims == 3) &&
                   bridge_tensor_size(t, 0) == program->decoder.batch_size &&
                   bridge_tensor_size(t, n_dims - 1) == program->decoder.vocab_size;

    if (!is_good || (n_dims == 3 ? bridge_tensor_size(t, 1) != rows : rows != 1))
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED,
                           "the logits are not (%lld, %lld, %lld) numbers",
                           (long long)program->decoder.batch_size, (long long)rows,
                           (long long)program->decoder.vocab_size);
    return 0;
}

static int read_logits(const struct aten_program *program, struct bridge_tensor **x,
                       int64_t s, int64_t first_row, int64_t n_rows, float *logits,
                       struct pt2_err *err)
{
    int64_t rows = program->decoder.logits_all_rows ? s : 1;

    if (check_logits(program, *x, rows, err) < 0)
        return -1;
    if (rows != n_rows && narrow_rows(x, first_row - (s - rows), n_rows, err) < 0)
        return -1;
    if (widen_rows(x, err) < 0)
        return -1;
    memcpy(logits, bridge_tensor_data(*x),
           (size_t)(program->decoder.batch_size * n_rows * program->decoder.vocab_size) *
               sizeof(*logits));
    return 0;
}

static int check_run(const struct aten_program *program, int64_t s, int64_t first_row,
                     int64_t n_rows, struct pt2_err *err)
{
    const struct pt2_decoder *d = &program->decoder;
    int64_t from = d->logits_all_rows ? 0 : s - 1;

    if (s < 1 || (d->seq_len ? s != d->seq_len : s > d->max_seq_len))
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "%lld tokens at a time, the program takes %lld", (long long)s,
                           (long long)d->max_seq_len);
    if (n_rows < 1 || first_row < from || first_row >= s || n_rows > s - first_row)
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "rows %lld and %lld more, of %lld .. %lld",
                           (long long)first_row, (long long)n_rows - 1, (long long)from,
                           (long long)s - 1);
    return 0;
}

int aten_program_run(struct aten_program *program, void *const *buffers,
                     const int64_t *input_ids, const int64_t *cache_position, int64_t s,
                     int64_t first_row, int64_t n_rows, float *logits,
                     struct pt2_err *err)
{
    const struct pt2_decoder *d = &program->decoder;
    struct graph_tensor inputs[2];
    AUTO(bridge_tensor) out = NULL;

    if (check_run(program, s, logits ? first_row : s - 1, logits ? n_rows : 1, err) < 0)
        return -1;
    /* libtorch takes them as writable; the write rule sees to it that nothing writes. */
    inputs[d->input_ids] = (struct graph_tensor){
        (void *)(uintptr_t)input_ids, PT2_INT64, 2, {d->batch_size, s}};
    inputs[d->cache_position] =
        (struct graph_tensor){(void *)(uintptr_t)cache_position, PT2_INT64, 1, {s}};
    if (graph_run(program->graph, buffers, inputs, 2, &out, 1, err) < 0)
        return -1;
    if (!out)
        return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED, "the first output is no tensor");
    return logits ? read_logits(program, &out, s, first_row, n_rows, logits, err) : 0;
}
