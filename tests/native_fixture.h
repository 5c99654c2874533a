/* native_fixture.h - for suites of the native engine: toys on each instruction set, and their
 * text run. */
#ifndef TESTS_NATIVE_FIXTURE_H
#define TESTS_NATIVE_FIXTURE_H

#include "engine_fixture.h"

#include "native/kernels.h"

#define N_LOGITS (2 * 16 * 11)

/* Case i of a loop over n shapes and all instruction sets: its shape; the set is put in force,
 * and one to three threads. */
static inline const struct toy *native_case(const struct toy *takes, int n, int i)
{
    setenv("PT2_ISA", kernels_at((size_t)(i / n))->name, 1);
    options.n_threads = 1 + (unsigned)i % 3;
    return &takes[i % n];
}

static inline int native_n_cases(int n)
{
    int n_sets = 0;

    while (kernels_at((size_t)n_sets))
        n_sets++;
    return n_sets * n;
}

static inline struct pt2_engine *native_open(const struct toy *toy)
{
    struct pt2_engine *engine;

    options.kind = PT2_ENGINE_NATIVE;
    engine = engine_open(toy);
    ck_assert_int_eq(pt2_engine_kind(engine), PT2_ENGINE_NATIVE);
    return engine;
}

/* Tokens from..to - 1 of the text, n a step; logits: (batch, 16, 11). */
static inline void run_text(struct pt2_engine *engine, struct pt2_cache *cache, int64_t from,
                            int64_t to, int64_t n, float *logits)
{
    ck_assert_int_le(pt2_engine_decoder(engine)->batch_size, 2);
    for (int64_t at = from, s; at < to; at += s) {
        struct pt2_step step = {.cache = cache,
                                .input_ids = text[0] + at,
                                .s = s = MIN(n, to - at),
                                .start = at,
                                .rows = PT2_ROWS_ALL,
                                .logits = logits + at * 11,
                                .ids_stride = 16,
                                .rows_stride = 16};

        pt2_engine_steps(engine, &step, 1);
        ck_assert_msg(step.err.code == PT2_ERR_NONE, "%s", step.err.text);
    }
}

#endif
