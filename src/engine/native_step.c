/* native_step.c - steps: their rows, of all sessions one behind the other, in runs of as
 * many as the plan's registers hold.
 *
 * Whatever can fail comes first: ids, and the blocks that will be written.  Then nothing
 * is left to go wrong, so there is nothing to undo; but that a file may turn out to be cut,
 * which is the end of the engine. */
#include "engine/native.h"

#include "native/pack.h"

#include <inttypes.h>

static int prepare(const struct native_engine *engine, struct pt2_step *step)
{
    for (int64_t b = 0; b < engine->base.decoder.batch_size; b++)
        for (int64_t i = 0; i < step->s; i++) {
            int64_t id = step->input_ids[b * step->ids_stride + i];

            if (id < 0 || id >= engine->n_ids)
                return pt2_err_set(&step->err, PT2_ERR_PROGRAM_FAILED,
                                   "the program's embedding has no row for id %" PRId64
                                   ", only for 0 to %" PRIu32,
                                   id, engine->n_ids - 1);
        }
    return native_cache_own(native_cache(step->cache), step->start, step->s, &step->err);
}

static void flush(struct native_engine *engine)
{
    if (engine->n_rows > 0)
        plan_runner_run(engine->runner, engine->rows, engine->n_rows);
    engine->n_rows = 0;
}

/* Where the logits of row i of batch element b go; NULL: nowhere. */
static float *logits_of(const struct native_engine *engine, const struct pt2_step *step,
                        int64_t b, int64_t i)
{
    int64_t vocab_size = engine->base.decoder.vocab_size;

    if (step->rows == PT2_ROWS_ALL)
        return step->logits + (b * step->rows_stride + i) * vocab_size;
    if (step->rows == PT2_ROWS_LAST && i + 1 == step->s)
        return step->logits + b * step->rows_stride * vocab_size;
    return NULL;
}

static void add_rows(struct native_engine *engine, const struct pt2_step *step)
{
    struct native_cache *cache = native_cache(step->cache);

    for (int64_t b = 0; b < engine->base.decoder.batch_size; b++) {
        for (int64_t i = 0; i < step->s; i++) {
            if (engine->n_rows == RUN_MAX_ROWS)
                flush(engine);
            engine->rows[engine->n_rows++] =
                (struct run_row){.token = step->input_ids[b * step->ids_stride + i],
                                 .position = step->start + i,
                                 .table = &cache->tables[b],
                                 .logits = logits_of(engine, step, b, i)};
        }
    }
}

static bool is_cut(const struct native_engine *engine)
{
    return pt2_archive_is_cut(engine->archive) || packing_is_cut(engine->plan->packing);
}

/* Some of what was read may have been zeros: no result holds. */
static void fail_all(struct native_engine *engine, struct pt2_step *steps, size_t n)
{
    engine->is_dead = true;
    for (size_t i = 0; i < n; i++)
        if (steps[i].err.code == PT2_ERR_NONE)
            pt2_err_set(&steps[i].err, PT2_ERR_PROGRAM_DAMAGED,
                        "%s was cut short, or can't be read, while a step used it",
                        pt2_archive_is_cut(engine->archive)
                            ? "the program's file"
                            : "the file of the program's packed weights");
}

void native_steps(struct pt2_engine *base, struct pt2_step *steps, size_t n)
{
    struct native_engine *engine = native_engine(base);

    for (size_t i = 0; i < n; i++)
        if (prepare(engine, &steps[i]) == 0)
            add_rows(engine, &steps[i]);
    flush(engine);
    if (engine->is_dead || is_cut(engine)) {
        fail_all(engine, steps, n);
        return;
    }
    for (size_t i = 0; i < n; i++)
        if (steps[i].err.code == PT2_ERR_NONE)
            native_cache_forget(native_cache(steps[i].cache), steps[i].start + steps[i].s);
}
