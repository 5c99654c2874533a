/* aten_step.c - a step: its runs, their tokens and logits, and the way back where one fails.
 */
#include "engine/aten.h"

#include "base/log.h"

#define AREA_TIMEOUT_MS (60 * 1000)
#define AREA_MIN_BYTES  ((uint64_t)64 << 10)
#define AREA_KEEP_BYTES ((uint64_t)16 << 20)

struct step {
    struct aten_engine *engine;
    struct aten_cache *cache;
    const struct pt2_step *asked;
    struct chunk_step at;
};

/* Which of a run's rows have logits that the step wants, and where they go. */
struct wanted {
    int64_t first_row, n_rows; /* of the run */
    int64_t to;                /* of the answer's rows */
};

static struct wanted wanted_of(const struct step *step, const struct chunk_run *run,
                               int64_t len)
{
    struct wanted w = {0};
    bool is_last = step->at.done + run->take == step->at.s;

    if (step->asked->rows == PT2_ROWS_ALL)
        w = (struct wanted){
            .first_row = run->lead, .n_rows = run->take, .to = step->at.done};
    else if (step->asked->rows == PT2_ROWS_LAST && is_last)
        w = (struct wanted){.first_row = run->lead + run->take - 1, .n_rows = 1};
    if (w.n_rows && step->engine->shape.last_row_only)
        w.first_row = len - 1;
    return w;
}

/* An area of at least size bytes, that the worker has. */
static int area_grow(struct aten_engine *engine, uint64_t size, struct pt2_err *err)
{
    struct wire_request request = {.verb = WIRE_AREA};
    struct wire_reply reply;
    struct shared area;

    if (engine->area.data && engine->area.size >= size)
        return 0;
    size = MAX(size, AREA_MIN_BYTES);
    if (shared_init(&area, "pt2-area", size, err) < 0)
        return -1;
    request.size = size;
    if (worker_ask(&engine->worker, &request, area.fd, AREA_TIMEOUT_MS, &reply, err) <
        0) {
        shared_done(&area);
        return -1;
    }
    shared_close_fd(&area);
    shared_done(&engine->area);
    engine->area = area;
    return 0;
}

/* The token of batch row b that stands in row i of the run. */
static int64_t token_at(const struct step *step, const struct chunk_run *run, int64_t b,
                        int64_t i)
{
    const struct chunk_step *at = &step->at;
    int64_t place = run->first + MIN(i, run->lead + run->take - 1) - at->start;

    if (place >= 0)
        return step->asked->input_ids[b * step->asked->ids_stride + place];
    return step->cache
        ->tokens[b * step->engine->base.decoder.max_cache_len + at->start + place];
}

static void area_fill(const struct step *step, const struct chunk_run *run, int64_t len,
                      const struct layout_area *area)
{
    int64_t *ids = step->engine->area.data, n_batch = step->engine->base.decoder.batch_size;
    int64_t *positions = (int64_t *)((char *)step->engine->area.data + area->positions);

    for (int64_t b = 0; b < n_batch; b++)
        for (int64_t i = 0; i < len; i++)
            ids[b * len + i] = token_at(step, run, b, i);
    for (int64_t i = 0; i < len; i++)
        positions[i] = run->first + (run->repeat ? MIN(i, run->lead + run->take - 1) : i);
}

/* Logits of the run, (batch_size, n_rows, vocab_size), to their rows of the answer. */
static void area_read(const struct step *step, const struct wanted *wanted,
                      const struct layout_area *area)
{
    const struct pt2_decoder *d = &step->engine->base.decoder;
    const float *from =
        (const float *)((const char *)step->engine->area.data + area->logits);
    size_t stride = (size_t)step->asked->rows_stride;
    size_t n_vocab = (size_t)d->vocab_size, n_rows = (size_t)wanted->n_rows;

    for (size_t b = 0; n_rows && b < (size_t)d->batch_size; b++)
        memcpy(step->asked->logits + (b * stride + (size_t)wanted->to) * n_vocab,
               from + b * n_rows * n_vocab, n_rows * n_vocab * sizeof(float));
}

static int step_run(struct step *step, const struct chunk_run *run, struct pt2_err *err)
{
    struct aten_engine *engine = step->engine;
    int64_t len = run->lead + run->take + run->pad;
    struct wanted wanted = wanted_of(step, run, len);
    struct wire_request request = {.verb = WIRE_RUN, .slot = step->cache->slot};
    struct wire_reply reply;
    struct layout_area area;

    if (!layout_area(engine->base.decoder.batch_size, engine->base.decoder.vocab_size, len,
                     wanted.n_rows, &area))
        return pt2_err_set(err, PT2_ERR_LIMIT, "the logits of %jd rows are too large",
                           (intmax_t)wanted.n_rows);
    if (area_grow(engine, area.size, err) < 0)
        return -1;
    area_fill(step, run, len, &area);
    aten_set_counters(step->cache, run->first);
    request.run.s = len;
    request.run.first_row = wanted.first_row;
    request.run.n_rows = wanted.n_rows;
    request.run.fail_at = engine->fail_at;
    request.run.dies = engine->dies;
    if (worker_ask(&engine->worker, &request, -1, engine->step_timeout_ms, &reply, err) <
        0)
        return -1;
    area_read(step, &wanted, &area);
    return 0;
}

/* All runs of the step, from `done` 0 on. */
static int step_runs(struct step *step, struct pt2_err *err)
{
    for (step->at.done = 0; step->at.done < step->at.s;) {
        struct chunk_run run;

        if (chunk_next(&step->engine->shape, &step->at, &run, err) < 0 ||
            step_run(step, &run, err) < 0)
            return -1;
        step->at.done += run.take;
    }
    return 0;
}

/* Save what may be overwritten, run, and put back: all where it failed, otherwise the
 * rows beside the step's own. */
static int step_try(struct step *step, struct pt2_err *err)
{
    struct aten_engine *engine = step->engine;
    struct undo *undo = &engine->undo;
    void *memory = step->cache->memory.data;
    int64_t low, high, end = step->at.start + step->at.s;
    int r;

    if (chunk_span(&engine->shape, &step->at, &low, &high, err) < 0 ||
        undo_save(undo, &engine->base.layout, memory, low, high, err) < 0)
        return -1;
    r = step_runs(step, err);
    if (r < 0) {
        undo_all(undo, &engine->base.layout, memory);
    } else {
        undo_outside(undo, &engine->base.layout, memory, step->at.start, end);
        aten_set_counters(step->cache, end);
    }
    undo_trim(undo);
    return r;
}

/* Remember which tokens the cache holds now. */
static void tokens_keep(const struct step *step)
{
    const struct pt2_decoder *d = &step->engine->base.decoder;
    int32_t *tokens = step->cache->tokens;

    for (int64_t b = 0; tokens && b < d->batch_size; b++)
        for (int64_t i = 0; i < step->at.s; i++)
            tokens[b * d->max_cache_len + step->at.start + i] =
                (int32_t)step->asked->input_ids[b * step->asked->ids_stride + i];
}

static int step_one(struct aten_engine *engine, struct pt2_step *asked)
{
    struct aten_cache *cache = aten_cache(asked->cache);
    struct step step = {.engine = engine,
                        .cache = cache,
                        .asked = asked,
                        .at = {.start = asked->start,
                               .s = asked->s,
                               .all_rows = asked->rows == PT2_ROWS_ALL,
                               .known = aten_known_from(cache, asked->start)}};
    struct pt2_err why = {0};

    /* Where the runs need more memory than allowed, shorter ones may not: those stay. */
    while (step_try(&step, &why) < 0) {
        if (why.code != PT2_ERR_LIMIT || engine->shape.seq_len != 0 ||
            engine->shape.max_rows == 1 || asked->s == 1)
            return pt2_err_set(&asked->err, why.code, "%s", why.text);
        engine->shape.max_rows = MIN(engine->shape.max_rows, asked->s) / 2;
        pt2_err_clear(&why);
    }
    tokens_keep(&step);
    return 0;
}

void aten_steps(struct pt2_engine *base, struct pt2_step *steps, size_t n)
{
    struct aten_engine *engine = aten_engine(base);

    for (size_t i = 0; i < n; i++)
        if (step_one(engine, &steps[i]) == 0 && engine->area.size > AREA_KEEP_BYTES)
            shared_drop_pages(&engine->area);
}
