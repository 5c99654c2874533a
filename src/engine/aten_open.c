/* aten_open.c - opening and closing: the archive's facts, the worker, its answers. */
#include "engine/aten.h"

#include "base/cores.h"
#include "base/log.h"
#include "engine/initial.h"

#include <limits.h>
#include <stdio.h>

#define DEFAULT_MAX_STEP_BYTES ((uint64_t)4 << 30)
#define DEFAULT_STEP_TIMEOUT_S 600
#define LOAD_TIMEOUT_MS        (600 * 1000)
#define MAX_RUN_ROWS           512 /* of a dynamic program; more tokens take more runs */

/* libtorch itself, its threads' stacks and arenas, what an op takes beside its results.
 */
#define WORKER_BASE_BYTES ((uint64_t)4 << 30)

DEFINE_AUTO(pt2_archive)
DEFINE_AUTO(pt2_program)

uint64_t aten_max_step_bytes(const struct pt2_engine_options *options)
{
    return options && options->max_step_bytes ? options->max_step_bytes
                                              : DEFAULT_MAX_STEP_BYTES;
}

/* What the worker may have to hold of the archive: records that it can not use in place.
 */
static uint64_t unpacked_bytes(const struct pt2_archive *archive)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < pt2_archive_n_records(archive); i++) {
        const struct pt2_record *record = pt2_archive_record(archive, i);

        if (!record->is_stored && !size_add(sum, record->size, &sum))
            return UINT64_MAX;
    }
    return sum;
}

static int worker_start(struct aten_engine *engine,
                        const struct pt2_engine_options *options,
                        const struct pt2_archive *archive, struct pt2_err *err)
{
    char found[PATH_MAX];
    const char *path = options ? options->worker_path : NULL;
    uint64_t bytes = 0;

    if (!path) {
        if (spawn_find("pt2-aten", PT2_LIBEXECDIR, found, sizeof(found), err) < 0)
            return -1;
        path = found;
    }
    if (!size_mul(aten_max_step_bytes(options), 2, &bytes) ||
        !size_add(bytes, unpacked_bytes(archive), &bytes) ||
        !size_add(bytes, WORKER_BASE_BYTES, &bytes))
        bytes = 0;
    if (worker_init(&engine->worker, path, bytes, err) < 0)
        return -1;
    engine->worker.stop_fd = options && options->stop_fd ? options->stop_fd : -1;
    return 0;
}

/* Have the worker load the archive. */
static int worker_load(struct aten_engine *engine,
                       const struct pt2_engine_options *options, int archive_fd,
                       uint64_t *ret_n_buffers, struct pt2_err *err)
{
    struct wire_request request = {.verb = WIRE_OPEN};
    struct wire_reply reply;

    snprintf(request.open.version, sizeof(request.open.version), "%s", WIRE_VERSION);
    request.open.n_threads =
        options && options->n_threads ? options->n_threads : cores_count();
    request.open.max_run_bytes = aten_max_step_bytes(options);
    if (worker_ask(&engine->worker, &request, archive_fd, LOAD_TIMEOUT_MS, &reply, err) <
        0)
        return -1;
    *ret_n_buffers = reply.open.n_buffers;
    engine->n_calls = reply.open.n_calls;
    return 0;
}

/* The buffer that the worker describes, with what the program says of it. */
static int buffer_check(struct aten_engine *engine, const struct pt2_program *program,
                        const struct wire_reply *reply, bool *seen,
                        struct layout_buffer *ret_buffer, struct pt2_err *err)
{
    const struct pt2_input *input;
    const struct pt2_tensor_meta *meta;
    struct layout_buffer b = {.position_dim = reply->buffer.position_dim,
                              .is_counter = reply->buffer.is_counter != 0};
    int64_t n_elements = 1;

    if (reply->buffer.input >= pt2_program_n_inputs(program) || seen[reply->buffer.input])
        return worker_distrust(&engine->worker, "with a buffer that is none", err);
    input = pt2_program_input(program, (uint32_t)reply->buffer.input);
    meta = &pt2_program_value(program, input->value)->meta;
    if (input->kind != PT2_INPUT_BUFFER)
        return worker_distrust(&engine->worker, "with a buffer that is none", err);
    seen[reply->buffer.input] = true;
    b.fqn = (char *)input->fqn; /* copied by layout_add */
    b.dtype = meta->dtype;
    b.n_dims = meta->n_dims;
    for (unsigned d = 0; d < meta->n_dims; d++) {
        b.sizes[d] = meta->sizes[d].expr ? -1 : meta->sizes[d].value;
        n_elements = b.sizes[d] == 1 ? n_elements : 0;
    }
    if (b.position_dim < -1 || b.position_dim >= (int)b.n_dims ||
        (b.is_counter && (n_elements != 1 || b.position_dim >= 0 ||
                          (b.dtype != PT2_INT64 && b.dtype != PT2_INT32))))
        return worker_distrust(&engine->worker, "with a buffer of another shape", err);
    if (b.position_dim >= 0 && b.sizes[b.position_dim] < engine->base.decoder.max_cache_len) {
        b.ring_len = reply->buffer.is_ring ? b.sizes[b.position_dim] : 0;
        b.position_dim = -1; /* shorter than the cache: its rows are not positions */
    }
    *ret_buffer = b;
    return 0;
}

/* Ask for each session buffer, and lay them out. */
static int buffers_ask(struct aten_engine *engine, const struct pt2_program *program,
                       uint64_t n_buffers, struct pt2_err *err)
{
    uint32_t n_inputs = pt2_program_n_inputs(program);
    AUTO_PTR bool *seen = calloc(n_inputs + 1, sizeof(*seen));

    if (!seen)
        return pt2_err_set(err, PT2_ERR_NOMEM, "%u inputs", n_inputs);
    if (n_buffers > n_inputs)
        return worker_distrust(&engine->worker, "with more buffers than there are", err);
    if (layout_init(&engine->base.layout, n_buffers, err) < 0)
        return -1;
    for (uint64_t i = 0; i < n_buffers; i++) {
        struct wire_request request = {.verb = WIRE_BUFFER, .i = i};
        struct wire_reply reply;
        struct layout_buffer buffer;

        if (worker_ask(&engine->worker, &request, -1, LOAD_TIMEOUT_MS, &reply, err) < 0 ||
            buffer_check(engine, program, &reply, seen, &buffer, err) < 0 ||
            layout_add(&engine->base.layout, &buffer, err) < 0)
            return -1;
    }
    return 0;
}

static int shape_fill(struct aten_engine *engine, struct pt2_err *err)
{
    const struct pt2_decoder *d = &engine->base.decoder;
    struct chunk_shape *shape = &engine->shape;

    *shape = (struct chunk_shape){.seq_len = d->seq_len,
                                  .max_rows = MIN(d->max_seq_len, MAX_RUN_ROWS),
                                  .max_cache_len = d->max_cache_len,
                                  .last_row_only = !d->logits_all_rows};
    for (size_t i = 0; i < engine->base.layout.n_buffers; i++) {
        const struct layout_buffer *b = &engine->base.layout.buffers[i];

        shape->has_counters |= b->is_counter;
        shape->rolls |= !b->is_counter && b->position_dim < 0 && b->ring_len == 0;
        if (b->ring_len > 0 && (shape->ring_len == 0 || b->ring_len < shape->ring_len))
            shape->ring_len = b->ring_len;
    }
    /* What Transformers exports rolls by one, however many rows a run has. */
    if (shape->rolls)
        shape->max_rows = 1;
    return chunk_check(shape, err);
}

static int engine_start(struct aten_engine *engine, const char *path,
                        const struct pt2_engine_options *options, struct pt2_err *err)
{
    AUTO(pt2_archive) archive = NULL;
    AUTO(pt2_program) program = NULL;
    AUTO_FD int fd = -1;
    uint64_t n_buffers;

    if (engine_read(path, &fd, &archive, &program, err) < 0 ||
        pt2_program_decoder(program, &engine->base.decoder, err) < 0)
        return -1;
    if (worker_start(engine, options, archive, err) < 0 ||
        worker_load(engine, options, fd, &n_buffers, err) < 0 ||
        buffers_ask(engine, program, n_buffers, err) < 0 || shape_fill(engine, err) < 0)
        return -1;
    return initial_read(archive, &engine->base.layout, &engine->initial, err);
}

static void aten_free(struct pt2_engine *base)
{
    struct aten_engine *engine = aten_engine(base);

    ASSERT(engine->n_caches == 0); /* its caches go first */
    worker_done(&engine->worker);
    shared_done(&engine->area);
    undo_done(&engine->undo);
    initial_free(engine->initial, &base->layout);
    layout_done(&base->layout);
    free(engine->slots);
    free(engine);
}

static bool aten_is_dead(struct pt2_engine *engine)
{
    return !worker_is_alive(&aten_engine(engine)->worker);
}

static bool aten_can_rewind(const struct pt2_engine *engine)
{
    return !aten_engine(engine)->shape.rolls;
}

/* A ring that has come round holds what a step from its newest position sees, since that
 * position's own row is written before any is read. */
static int64_t aten_rewind_floor(const struct pt2_cache *cache, int64_t position)
{
    const struct chunk_shape *shape = &aten_engine(cache->engine)->shape;

    if (shape->rolls)
        return position;
    if (shape->ring_len == 0 || position <= shape->ring_len)
        return 0;
    return MIN(MAX(position - 1, aten_cache(cache)->floor), position);
}

/* Where the exported length is fixed, as many runs of the graph as take about 8 tokens. */
static int64_t aten_slice(const struct pt2_engine *engine)
{
    int64_t seq_len = engine->decoder.seq_len;

    return seq_len > 0 ? (7 + seq_len) / seq_len * seq_len : 64;
}

static int64_t aten_max_rows(const struct pt2_engine *engine)
{
    (void)engine;
    return 0;
}

static uint64_t aten_cache_cost(const struct pt2_engine *engine)
{
    return engine->layout.size;
}

static uint64_t aten_cache_growth(const struct pt2_cache *cache, int64_t start, int64_t s)
{
    (void)cache;
    (void)start;
    (void)s;
    return 0;
}

static uint64_t aten_cache_bytes(const struct pt2_engine *engine)
{
    return aten_engine(engine)->n_caches * engine->layout.size;
}

static const struct engine_ops aten_ops = {
    .kind = PT2_ENGINE_ATEN,
    .free = aten_free,
    .is_dead = aten_is_dead,
    .can_rewind = aten_can_rewind,
    .rewind_floor = aten_rewind_floor,
    .slice = aten_slice,
    .max_rows = aten_max_rows,
    .steps = aten_steps,
    .cache_new = aten_cache_new,
    .cache_fork = aten_cache_fork,
    .cache_adopt = aten_cache_adopt,
    .cache_free = aten_cache_free,
    .cache_cost = aten_cache_cost,
    .cache_growth = aten_cache_growth,
    .cache_bytes = aten_cache_bytes,
    .cache_read = aten_cache_read,
    .cache_write = aten_cache_write,
    .put_away = aten_put_away,
    .take_back = aten_take_back,
    .image_cost = aten_image_cost,
    .undo_new = aten_undo_new,
    .undo_apply = aten_undo_apply,
    .undo_free = aten_undo_free,
};

int aten_engine_open(const char *path, const struct pt2_engine_options *options,
                     struct pt2_engine **ret_engine, struct pt2_err *err)
{
    struct aten_engine *engine = calloc(1, sizeof(*engine));
    unsigned timeout_s = options ? options->step_timeout_s : 0;

    if (!engine)
        return pt2_err_set(err, PT2_ERR_NOMEM, "engine");
    engine->base.magic = ENGINE_MAGIC;
    engine->base.ops = &aten_ops;
    engine->worker = (struct worker)WORKER_NONE;
    engine->area = (struct shared)SHARED_NONE;
    engine->fail_at = -1;
    engine->step_timeout_ms =
        (int64_t)(timeout_s ? timeout_s : DEFAULT_STEP_TIMEOUT_S) * 1000;
    if (engine_start(engine, path, options, err) < 0) {
        pt2_engine_free(&engine->base);
        return -1;
    }
    *ret_engine = &engine->base;
    return 0;
}

void aten_test_fail_at(struct pt2_engine *engine, int64_t call, bool dies)
{
    aten_engine(engine)->fail_at = call;
    aten_engine(engine)->dies = dies;
}
