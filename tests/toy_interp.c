/* toy_interp.c - src/aten/interp.h for the programs of toy.c alone, without libtorch.
 *
 * Linked with the real worker's main it makes a worker that starts in a millisecond and
 * runs under every sanitizer.  Its four calls: write keys, write values, count, answer.
 */
#include "aten/interp.h"
#include "aten/warm_up.h"

#include <math.h>

struct aten_program {
    struct pt2_decoder d;
    const struct pt2_archive *archive;
    struct aten_buffer buffers[3];
    size_t n_buffers;
    int64_t dim;
    bool counters, rolls, is_ring;
    int64_t held; /* rows of the caches */
    uint64_t max_run_bytes;
    int64_t fail_at;
};

void aten_warm_up(unsigned n_threads)
{
}

static void buffer_fill(struct aten_program *a, const struct pt2_program *program,
                        const struct pt2_input *input)
{
    const struct pt2_tensor_meta *m = &pt2_program_value(program, input->value)->meta;
    struct aten_buffer *b = &a->buffers[a->n_buffers++];

    *b = (struct aten_buffer){.fqn = input->fqn,
                              .dtype = m->dtype,
                              .n_dims = m->n_dims,
                              .position_dim = m->n_dims == 4 && !a->rolls ? 2 : -1,
                              .is_ring = m->n_dims == 4 && a->is_ring,
                              .is_counter = m->n_dims == 0};
    for (unsigned d = 0; d < m->n_dims; d++)
        b->sizes[d] = m->sizes[d].value;
    if (!pt2_tensor_bytes(b->dtype, b->n_dims, b->sizes, &b->bytes))
        b->bytes = 0;
    a->counters |= b->is_counter;
    if (m->n_dims == 4) {
        a->held = b->sizes[2];
        a->dim = b->sizes[3];
    }
}

static bool has_op(const struct pt2_program *program, const char *op)
{
    for (uint32_t i = 0; i < pt2_program_n_nodes(program); i++)
        if (strstr(pt2_program_node(program, i)->target, op))
            return true;
    return false;
}

int aten_program_open(const struct pt2_archive *archive,
                      const struct pt2_program *program, const struct aten_limits *limits,
                      struct aten_program **ret_program, struct pt2_err *err)
{
    struct aten_program *a = calloc(1, sizeof(*a));

    if (has_op(program, "from_file")) {
        free(a);
        return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED, "from_file is not on the table");
    }
    if (pt2_program_decoder(program, &a->d, err) < 0) {
        free(a);
        return -1;
    }
    a->archive = archive;
    a->max_run_bytes = limits->max_run_bytes;
    a->fail_at = -1;
    a->rolls = has_op(program, "aten.cat.");
    a->is_ring = has_op(program, "aten.remainder.");
    for (uint32_t i = 0; i < pt2_program_n_inputs(program); i++)
        if (pt2_program_input(program, i)->kind == PT2_INPUT_BUFFER)
            buffer_fill(a, program, pt2_program_input(program, i));
    *ret_program = a;
    return 0;
}

void aten_program_free(struct aten_program *program)
{
    free(program);
}

const struct pt2_decoder *aten_program_decoder(const struct aten_program *program)
{
    return &program->d;
}

size_t aten_program_n_buffers(const struct aten_program *program)
{
    return program->n_buffers;
}

const struct aten_buffer *aten_program_buffer(const struct aten_program *program,
                                              size_t i)
{
    return &program->buffers[i];
}

bool aten_program_can_rewind(const struct aten_program *program)
{
    return !program->rolls;
}

size_t aten_program_n_calls(const struct aten_program *program)
{
    return 4;
}

void aten_program_fail_at(struct aten_program *program, int64_t call)
{
    program->fail_at = call;
}

/* ---- a run ---- */

struct run {
    const struct aten_program *a;
    float *keys, *values; /* (batch, 1, length, dim) */
    int64_t *counter;
    const float *embed, *value;
    const int64_t *ids, *positions;
    int64_t s, counted; /* the counter as the run began */
};

/* The cache row that row i of the run is written to. */
static int64_t place(const struct run *r, int64_t i)
{
    if (r->a->rolls)
        return r->a->held - 1;
    if (r->a->is_ring)
        return r->positions[i] % r->a->held;
    return r->a->counters ? r->counted + i : r->positions[i];
}

static int write_rows(const struct run *r, float *cache, const float *table,
                      struct pt2_err *err)
{
    int64_t length = r->a->held, dim = r->a->dim;

    for (int64_t b = 0; b < r->a->d.batch_size; b++)
        for (int64_t i = 0; i < r->s; i++) {
            float *at = cache + b * length * dim;
            int64_t to = place(r, i);

            if (to < 0 || to >= length)
                return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED,
                                   "index_copy_: index %jd is out of range",
                                   (intmax_t)to);
            if (r->a->rolls)
                memmove(at, at + dim, (size_t)((length - 1) * dim) * sizeof(float));
            memcpy(at + to * dim, table + r->ids[b * r->s + i] * dim,
                   (size_t)dim * sizeof(float));
        }
    return 0;
}

/* Which rows of the cache row i of the run sees: low .. high - 1, modulo the cache's length. */
static int64_t first_seen(const struct run *r, int64_t i, int64_t *ret_high)
{
    int64_t position = r->positions[i];

    *ret_high = r->a->is_ring ? position + 1 : place(r, i) + 1;
    if (r->a->is_ring)
        return MAX(position - (r->a->held - r->a->d.max_seq_len), 0);
    return r->a->rolls ? MAX(r->a->held - 1 - position, 0) : 0;
}

/* The logits of row i of batch b. */
static void answer(const struct run *r, int64_t b, int64_t i, float *logits)
{
    int64_t length = r->a->held, dim = r->a->dim, high, low = first_seen(r, i, &high);
    const float *keys = r->keys + b * length * dim,
                *values = r->values + b * length * dim;
    const float *q = r->embed + r->ids[b * r->s + i] * dim;
    float out[64] = {0}, sum = 0, top = -INFINITY, p[256];

    for (int64_t j = low; j < high; j++) {
        p[j] = 0;
        for (int64_t d = 0; d < dim; d++)
            p[j] += q[d] * keys[j % length * dim + d];
        top = fmaxf(top, p[j]);
    }
    for (int64_t j = low; j < high; j++)
        sum += p[j] = expf(p[j] - top);
    for (int64_t j = low; j < high; j++)
        for (int64_t d = 0; d < dim; d++)
            out[d] += p[j] / sum * values[j % length * dim + d];
    for (int64_t v = 0; v < r->a->d.vocab_size; v++) {
        logits[v] = 0;
        for (int64_t d = 0; d < dim; d++)
            logits[v] += out[d] * r->embed[v * dim + d];
    }
}

static const float *weight(const struct aten_program *a, const char *fqn)
{
    return pt2_archive_data(a->archive,
                            pt2_archive_find_payload(a->archive, fqn)->record);
}

static int run_calls(struct aten_program *a, struct run *r, int64_t first_row,
                     int64_t n_rows, float *logits, struct pt2_err *err)
{
    for (int64_t call = 0; call < 4; call++) {
        if (call == a->fail_at)
            return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED, "a fault at call %jd",
                               (intmax_t)call);
        if (call == 0 && write_rows(r, r->keys, r->embed, err) < 0)
            return -1;
        if (call == 1 && write_rows(r, r->values, r->value, err) < 0)
            return -1;
        if (call == 2 && r->counter)
            *r->counter += r->s;
        for (int64_t b = 0; call == 3 && logits && b < a->d.batch_size; b++)
            for (int64_t i = 0; i < n_rows; i++)
                answer(r, b, first_row + i, logits + (b * n_rows + i) * a->d.vocab_size);
    }
    return 0;
}

int aten_program_run(struct aten_program *a, void *const *buffers,
                     const int64_t *input_ids, const int64_t *cache_position, int64_t s,
                     int64_t first_row, int64_t n_rows, float *logits,
                     struct pt2_err *err)
{
    struct run r = {.a = a,
                    .keys = buffers[0],
                    .values = buffers[1],
                    .counter = a->counters ? buffers[2] : NULL,
                    .embed = weight(a, "embed.weight"),
                    .value = weight(a, "value.weight"),
                    .ids = input_ids,
                    .positions = cache_position,
                    .s = s};

    r.counted = r.counter ? *r.counter : 0;
    if (s < 1 || (a->d.seq_len ? s != a->d.seq_len : s > a->d.max_seq_len) ||
        first_row < 0 || first_row + n_rows > s ||
        (n_rows && !a->d.logits_all_rows && first_row != s - 1))
        return pt2_err_set(err, PT2_ERR_INVALID, "rows that are none");
    if ((uint64_t)(s * a->d.max_cache_len) * sizeof(float) > a->max_run_bytes)
        return pt2_err_set(err, PT2_ERR_LIMIT, "the run needs more than its memory");
    return run_calls(a, &r, first_row, n_rows, logits, err);
}
