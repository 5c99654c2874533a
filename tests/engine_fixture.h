/* engine_fixture.h - an engine on a toy program, for check_engine and its sisters.
 *
 * Built twice: with toy-worker (tests/toy_interp.c, no libtorch), and with pt2-aten
 * (WORKER).  Expected logits are computed by tests/toy.c in double precision, from tokens
 * alone. */
#ifndef TESTS_ENGINE_FIXTURE_H
#define TESTS_ENGINE_FIXTURE_H

#include "engine/aten.h"

#include "suite.h"
#include "toy.h"

#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#ifndef WORKER
#define WORKER "toy-worker"
#define IS_TOY_WORKER /* it has not ExecuTorch's ops */
#endif
#ifndef TOLERANCE
#define TOLERANCE 2e-5 /* float32; the largest logit is about 4 */
#endif

static char dir[] = "/tmp/pt2-engine-XXXXXX", worker_path[PATH_MAX], archive[64];
static struct pt2_engine_options options;
static struct pt2_err err;

/* Tokens of two batch rows, below 11. */
static const int64_t text[2][16] = {{3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 10},
                                    {2, 7, 1, 8, 2, 8, 1, 8, 2, 8, 4, 5, 9, 0, 4, 5}};

static inline void setup(void)
{
    const char *build = getenv("PT2_LIBEXEC");

    err = (struct pt2_err){0};
    snprintf(worker_path, sizeof(worker_path), "%s/%s", build ? build : ".", WORKER);
    snprintf(archive, sizeof(archive), "%s/toy-%d.pt2", dir, (int)getpid());
    options = (struct pt2_engine_options){
        .kind = PT2_ENGINE_ATEN, .worker_path = worker_path, .n_threads = 1};
}

static inline void teardown(void)
{
    unlink(archive);
}

static inline struct pt2_engine *engine_open(const struct toy *toy)
{
    struct pt2_engine *engine = NULL;

    toy_write(toy, archive);
    ck_assert_msg(pt2_engine_open(archive, &options, &engine, &err) == 0, "%s", err.text);
    return engine;
}

static inline struct pt2_cache *cache_new(struct pt2_engine *engine)
{
    struct pt2_cache *cache = NULL;

    ck_assert_msg(pt2_cache_new(engine, &cache, &err) == 0, "%s", err.text);
    return cache;
}

/* Step text[.][start .. start + s - 1]; ids as (batch, s). */
static inline int step_text(struct pt2_engine *engine, struct pt2_cache *cache, int64_t start,
                     int64_t s, enum pt2_rows rows, float *logits)
{
    int64_t ids[32], n_batch = pt2_engine_decoder(engine)->batch_size;

    for (int64_t b = 0; b < n_batch; b++)
        memcpy(ids + b * s, text[b] + start, (size_t)s * sizeof(*ids));
    return pt2_engine_step(engine, cache, ids, s, start, rows, logits, &err);
}

/* A step that must go well. */
#define STEP(engine, cache, start, s, rows, logits)                                      \
    ck_assert_msg(step_text(engine, cache, start, s, rows, logits) == 0, "%s", err.text)

/* Compare logits after text[b][first .. at] with the reference. */
static inline void compare(const struct toy *toy, int64_t b, int64_t at, const float *logits,
                    double tolerance)
{
    double want[64];

    toy_logits(toy, text[b], at + 1, want);
    for (int64_t v = 0; v < (toy->vocab ? toy->vocab : 11); v++)
        ck_assert_msg(fabs(logits[v] - want[v]) <= tolerance,
                      "batch %jd, position %jd, id %jd: %g, expected %g", (intmax_t)b,
                      (intmax_t)at, (intmax_t)v, logits[v], want[v]);
}

/* A copy of all the cache's bytes; new. */
static inline char *bytes_of(const struct pt2_cache *cache)
{
    const struct shared *memory = &aten_cache(cache)->memory;
    char *bytes = malloc(memory->size);

    memcpy(bytes, memory->data, memory->size);
    return bytes;
}

static inline bool bytes_differ(const struct pt2_cache *cache, const char *bytes)
{
    const struct shared *memory = &aten_cache(cache)->memory;

    return memcmp(memory->data, bytes, memory->size) != 0;
}

/* Every way of taking tokens that a program can have. */
static const struct toy shapes[] = {
    {.seq_len = 1},
    {.seq_len = 1, .batch = 2},
    {.seq_len = 1, .counters = true, .batch = 2},
    {.seq_len = 1, .rolls = true},
    {.seq_len = 1, .last_row = true},
    {.seq_len = 0},
    {.seq_len = 0, .batch = 2, .max_rows = 3},
    {.seq_len = 0, .batch = 2, .last_row = true},
    {.seq_len = 4, .batch = 2},
    {.seq_len = 4, .batch = 2, .counters = true},
    {.seq_len = 5, .counters = true},
    {.seq_len = 4, .batch = 2, .last_row = true},
    {.seq_len = 16, .counters = true},
#ifndef IS_TOY_WORKER
    {.seq_len = 0, .updates = true},
    {.seq_len = 1, .batch = 2, .updates = true},
#endif
    {.seq_len = 1, .batch = 2, .window = 6},
    {.seq_len = 1, .window = 6, .last_row = true},
    {.seq_len = 0, .batch = 2, .window = 6, .max_rows = 3},
    {.seq_len = 4, .batch = 2, .window = 5},
    {.seq_len = 4, .window = 6, .last_row = true},
};
#define N_SHAPES ((int)ARRAY_LEN(shapes))
#define N_RINGS  5 /* the last of them */

#endif
