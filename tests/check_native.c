/* check_native.c - the native engine: steps, their bits, and the memory of its caches. */
#include "native_fixture.h"

#include "engine/native.h"

/* The shapes of engine_fixture.h that compile. */
static const struct toy takes[] = {
    {.seq_len = 1},
    {.seq_len = 1, .batch = 2},
    {.seq_len = 1, .last_row = true},
    {.seq_len = 0},
    {.seq_len = 0, .batch = 2, .max_rows = 3},
    {.seq_len = 0, .batch = 2, .last_row = true},
    {.seq_len = 4, .batch = 2},
    {.seq_len = 4, .batch = 2, .last_row = true},
    {.seq_len = 1, .batch = 2, .window = 6},
    {.seq_len = 0, .batch = 2, .window = 6, .max_rows = 3},
    {.seq_len = 4, .window = 5, .last_row = true},
    {.seq_len = 0, .batch = 2, .updates = true},
};

#define N_TAKES ((int)ARRAY_LEN(takes))

static const struct toy *case_of(int i)
{
    return native_case(takes, N_TAKES, i);
}

START_TEST(test_native_any_step_gives_the_same_bits)
{
    const struct toy *toy = case_of(_i);
    struct pt2_engine *engine = native_open(toy);
    int64_t n_batch = pt2_engine_decoder(engine)->batch_size;
    float one[N_LOGITS] = {0}, many[N_LOGITS] = {0};
    struct pt2_cache *cache = cache_new(engine);

    run_text(engine, cache, 0, 16, 1, one);
    pt2_cache_free(cache);
    for (int64_t b = 0; b < n_batch; b++)
        for (int64_t at = 0; at < 16; at++)
            compare(toy, b, at, one + (b * 16 + at) * 11, TOLERANCE);
    for (int64_t n = 2; n <= 16; n++) {
        cache = cache_new(engine);
        run_text(engine, cache, 0, 16, n, many);
        ck_assert_mem_eq(one, many, sizeof(one));
        pt2_cache_free(cache);
    }
    pt2_engine_free(engine);
}
END_TEST

/* Catches: a step that sees another's rows; logits that go astray; rows of many sessions
 * that are cut at the wrong place. */
START_TEST(test_native_steps_together_give_the_same_bits)
{
    enum { N = 40 };
    const struct toy *toy = case_of(_i);
    struct pt2_engine *engine = native_open(toy);
    struct pt2_cache *caches[N];
    struct pt2_step steps[N];
    float want[N_LOGITS], got[N][2 * 11];
    int64_t n_batch = pt2_engine_decoder(engine)->batch_size;

    caches[0] = cache_new(engine);
    run_text(engine, caches[0], 0, 16, 16, want);
    pt2_cache_free(caches[0]);
    memset(steps, 0, sizeof(steps));
    for (int i = 0; i < N; i++) {
        int64_t start = i % 13;

        caches[i] = cache_new(engine);
        if (start > 0)
            STEP(engine, caches[i], 0, start, PT2_ROWS_NONE, NULL);
        steps[i] = (struct pt2_step){.cache = caches[i],
                                     .input_ids = text[0] + start,
                                     .s = 1 + i % 3,
                                     .start = start,
                                     .rows = PT2_ROWS_LAST,
                                     .logits = got[i],
                                     .ids_stride = 16,
                                     .rows_stride = 1};
    }
    pt2_engine_steps(engine, steps, N);
    for (int i = 0; i < N; i++) {
        int64_t last = steps[i].start + steps[i].s - 1;

        ck_assert_msg(steps[i].err.code == PT2_ERR_NONE, "%s", steps[i].err.text);
        for (int64_t b = 0; b < n_batch; b++)
            ck_assert_mem_eq(got[i] + b * 11, want + (b * 16 + last) * 11,
                             11 * sizeof(float));
        pt2_cache_free(caches[i]);
    }
    pt2_engine_free(engine);
}
END_TEST

START_TEST(test_native_rewinds_and_overwrites)
{
    struct toy toy = {.seq_len = 1};
    struct pt2_engine *engine = native_open(&toy);
    struct pt2_cache *cache = cache_new(engine);
    int64_t other[9] = {0};
    float logits[11];

    ck_assert(pt2_engine_can_rewind(engine) && !pt2_engine_is_dead(engine));
    STEP(engine, cache, 0, 3, PT2_ROWS_NONE, NULL);
    ck_assert_int_eq(
        pt2_engine_step(engine, cache, other, 9, 3, PT2_ROWS_NONE, NULL, &err), 0);
    STEP(engine, cache, 3, 4, PT2_ROWS_LAST, logits);
    compare(&toy, 0, 6, logits, TOLERANCE);
    pt2_cache_free(cache);
    pt2_engine_free(engine);
}
END_TEST

/* An id that a program's embedding lacks fails its own step, no other. */
START_TEST(test_native_a_bad_id_fails_alone)
{
    struct toy toy = {.seq_len = 1};
    struct pt2_engine *engine = native_open(&toy);
    int64_t bad = 11;
    float logits[2][11];
    struct pt2_step steps[2] = {0};

    for (int i = 0; i < 2; i++)
        steps[i] = (struct pt2_step){.cache = cache_new(engine),
                                     .input_ids = i == 0 ? &bad : text[0],
                                     .s = 1,
                                     .rows = PT2_ROWS_LAST,
                                     .logits = logits[i],
                                     .ids_stride = 1,
                                     .rows_stride = 1};
    pt2_engine_steps(engine, steps, 2);
    ck_assert_int_eq(steps[0].err.code, PT2_ERR_PROGRAM_FAILED);
    ck_assert_ptr_nonnull(strstr(steps[0].err.text, "no row for id 11"));
    ck_assert_int_eq(steps[1].err.code, PT2_ERR_NONE);
    compare(&toy, 0, 0, logits[1], TOLERANCE);
    pt2_cache_free(steps[0].cache);
    pt2_cache_free(steps[1].cache);
    pt2_engine_free(engine);
}
END_TEST

/* ---- caches ---- */

/* A cache of 40 positions is three blocks. */
START_TEST(test_native_caches_cost_what_was_written)
{
    struct toy toy = {.seq_len = 0, .batch = 2, .length = 40};
    struct pt2_engine *engine = native_open(&toy);
    struct pt2_cache *a = cache_new(engine), *b = NULL;
    int64_t ids[2 * 16] = {0};
    uint64_t cost = pt2_cache_cost(engine), block;

    /* keys and values: batch, positions, 4 floats */
    ck_assert_uint_eq(pt2_cache_bytes(engine), 2 * 2 * 40 * 16);
    ck_assert_uint_lt(cost, 256);
    ck_assert_uint_eq(pt2_engine_cache_bytes(engine), cost);
    block = pt2_cache_growth(a, 0, 1) / 2;
    ck_assert_uint_ge(block, 2 * 16 * 16);
    ck_assert_uint_lt(block, 2 * 16 * 16 + 128);
    ck_assert_uint_eq(pt2_cache_growth(a, 0, 40), 6 * block);
    ck_assert_uint_eq(pt2_cache_growth(a, 15, 2), 4 * block);
    ck_assert_int_eq(pt2_engine_step(engine, a, ids, 3, 0, PT2_ROWS_NONE, NULL, &err), 0);
    ck_assert_uint_eq(pt2_engine_cache_bytes(engine), cost + 2 * block);
    ck_assert_uint_eq(pt2_cache_growth(a, 3, 13), 0);
    ck_assert_int_eq(pt2_cache_fork(a, &b, &err), 0);
    ck_assert_uint_eq(pt2_engine_cache_bytes(engine), 2 * cost + 2 * block);
    ck_assert_uint_eq(pt2_cache_growth(a, 3, 13), 2 * block); /* shared now */
    ck_assert_int_eq(pt2_engine_step(engine, b, ids, 1, 3, PT2_ROWS_NONE, NULL, &err), 0);
    ck_assert_uint_eq(pt2_engine_cache_bytes(engine), 2 * cost + 4 * block);
    ck_assert_uint_eq(pt2_cache_growth(a, 3, 13), 0);
    pt2_cache_free(a);
    ck_assert_uint_eq(pt2_engine_cache_bytes(engine), cost + 2 * block);
    pt2_cache_free(b);
    ck_assert_uint_eq(pt2_engine_cache_bytes(engine), 0);
    pt2_engine_free(engine);
}
END_TEST

/* A ring of 20 positions: blocks that hold none of the newest 20 go, and positions that would
 * see them can't be gone back to. */
START_TEST(test_native_rings_forget)
{
    struct toy toy = {.seq_len = 1, .length = 320, .window = 20};
    struct pt2_engine *engine = native_open(&toy);
    struct pt2_cache *cache = cache_new(engine), *fork = NULL, *back = cache_new(engine);
    struct pt2_undo *undo = NULL;
    int64_t ids[300];
    float want[11], got[11], part[20 * 4];
    uint64_t cost = pt2_engine_cache_bytes(engine), block = pt2_cache_growth(cache, 0, 1);

    for (size_t i = 0; i < ARRAY_LEN(ids); i++)
        ids[i] = text[0][i % 16];
    ck_assert_uint_eq(pt2_cache_bytes(engine), 2 * 20 * 16);
    ck_assert_int_eq(
        pt2_engine_step(engine, cache, ids, 299, 0, PT2_ROWS_NONE, NULL, &err), 0);
    /* 279 .. 298 are needed: blocks 17 (from 272 on) and 18 */
    ck_assert_uint_eq(pt2_engine_cache_bytes(engine), cost + 2 * block);
    ck_assert_int_eq(pt2_cache_rewind_floor(cache, 299), 272 + 19);
    ck_assert_int_eq(pt2_cache_fork(cache, &fork, &err), 0);
    ck_assert_int_eq(pt2_undo_new(cache, 291, 8, &undo, &err), 0);
    ck_assert_int_eq(
        pt2_engine_step(engine, cache, ids, 20, 291, PT2_ROWS_NONE, NULL, &err), 0);
    ck_assert_int_eq(pt2_cache_rewind_floor(cache, 311), 288 + 19);
    pt2_undo_apply(undo);
    pt2_undo_free(undo);
    ck_assert_int_eq(pt2_cache_rewind_floor(cache, 299), 272 + 19);
    ck_assert_int_eq(pt2_engine_step(engine, cache, ids + 291, 9, 291, PT2_ROWS_LAST, want,
                                     &err),
                     0);
    ck_assert_int_eq(
        pt2_engine_step(engine, fork, ids + 299, 1, 299, PT2_ROWS_LAST, got, &err), 0);
    ck_assert_mem_eq(want, got, sizeof(want));
    /* saved and restored: 280 .. 299 */
    for (size_t i = 0; i < pt2_cache_n_buffers(fork); i++) {
        pt2_cache_read(fork, i, 0, 300, part);
        ck_assert_int_eq(pt2_cache_write(back, i, 0, 300, part, &err), 0);
    }
    ck_assert_int_eq(pt2_cache_rewind_floor(back, 300), 300);
    ck_assert_int_eq(pt2_engine_step(engine, back, ids, 1, 300, PT2_ROWS_LAST, want, &err), 0);
    ck_assert_int_eq(pt2_engine_step(engine, cache, ids, 1, 300, PT2_ROWS_LAST, got, &err), 0);
    ck_assert_mem_eq(want, got, sizeof(want));
    pt2_cache_free(cache);
    pt2_cache_free(fork);
    pt2_cache_free(back);
    ck_assert_uint_eq(pt2_engine_cache_bytes(engine), 0);
    pt2_engine_free(engine);
}
END_TEST

START_TEST(test_native_forks_are_independent)
{
    struct toy toy = {.seq_len = 0};
    struct pt2_engine *engine = native_open(&toy);
    struct pt2_cache *a = cache_new(engine), *b = NULL;
    int64_t other[] = {0, 0, 0};
    float logits[11];

    STEP(engine, a, 0, 5, PT2_ROWS_NONE, NULL);
    ck_assert_int_eq(pt2_cache_fork(a, &b, &err), 0);
    ck_assert_int_eq(pt2_engine_step(engine, b, other, 3, 2, PT2_ROWS_NONE, NULL, &err),
                     0);
    STEP(engine, a, 5, 2, PT2_ROWS_LAST, logits);
    compare(&toy, 0, 6, logits, TOLERANCE);
    pt2_cache_free(a);
    STEP(engine, b, 2, 3, PT2_ROWS_LAST, logits);
    compare(&toy, 0, 4, logits, TOLERANCE);
    pt2_cache_free(b);
    pt2_engine_free(engine);
}
END_TEST

/* What a session saves in one engine, the other takes: the same buffers, byte for byte. */
START_TEST(test_native_and_aten_have_the_same_buffers)
{
    const struct toy *toy = &takes[_i];
    struct pt2_engine *native, *aten;
    struct pt2_cache *from, *to, *back;
    float logits[2 * 11];

    if (toy->updates) /* toy-worker has not these ops; test_edge.py does it with pt2-aten */
        return;
    native = native_open(toy);
    from = cache_new(native);
    back = cache_new(native);
    options.kind = PT2_ENGINE_ATEN;
    aten = engine_open(toy);
    to = cache_new(aten);
    STEP(native, from, 0, 13, PT2_ROWS_NONE, NULL);
    ck_assert_uint_eq(pt2_cache_n_buffers(from), pt2_cache_n_buffers(to));
    for (size_t i = 0; i < pt2_cache_n_buffers(from); i++) {
        char part[2 * 13 * 4 * sizeof(float)], again[sizeof(part)];
        struct pt2_cache_buffer a, b;

        pt2_cache_buffer(from, i, &a);
        pt2_cache_buffer(to, i, &b);
        ck_assert_str_eq(a.fqn, b.fqn);
        ck_assert_int_eq(a.dtype, b.dtype);
        ck_assert_int_eq(a.n_dims, b.n_dims);
        ck_assert_int_eq(a.position_dim, b.position_dim);
        ck_assert_mem_eq(a.sizes, b.sizes, sizeof(a.sizes));
        ck_assert_uint_le(pt2_cache_part_bytes(&a, 0, 13), sizeof(part));
        memset(part, 0, sizeof(part));
        memset(again, 0, sizeof(again));
        pt2_cache_read(from, i, 0, 13, part);
        ck_assert_int_eq(pt2_cache_write(to, i, 0, 13, part, &err), 0);
        ck_assert_int_eq(pt2_cache_write(back, i, 0, 13, part, &err), 0);
        pt2_cache_read(back, i, 0, 13, again);
        ck_assert_mem_eq(part, again, sizeof(part));
        if (a.position_dim < 0)
            continue; /* a ring, whole */
        pt2_cache_read(back, i, 13, 1, again);
        for (size_t k = 0; k < pt2_cache_part_bytes(&a, 13, 1); k++)
            ck_assert_int_eq(again[k], 0); /* never written */
    }
    STEP(aten, to, 13, 3, PT2_ROWS_LAST, logits);
    for (int64_t b = 0; b < pt2_engine_decoder(aten)->batch_size; b++)
        compare(toy, b, 15, logits + b * 11, TOLERANCE);
    STEP(native, back, 13, 3, PT2_ROWS_LAST, logits);
    for (int64_t b = 0; b < pt2_engine_decoder(aten)->batch_size; b++)
        compare(toy, b, 15, logits + b * 11, TOLERANCE);
    pt2_cache_free(from);
    pt2_cache_free(back);
    pt2_cache_free(to);
    pt2_engine_free(native);
    pt2_engine_free(aten);
}
END_TEST

/* The same of both kinds of engine. */
START_TEST(test_native_undo_puts_everything_back)
{
    struct toy toy = {.seq_len = _i == 0 ? 1 : 4, .batch = 2};
    struct pt2_engine *engine;
    struct pt2_cache *cache;
    struct pt2_undo *undo = NULL;
    int64_t other[2 * 9] = {0};
    float logits[2 * 11];

    options.kind = _i == 0 ? PT2_ENGINE_NATIVE : PT2_ENGINE_ATEN;
    engine = engine_open(&toy);
    cache = cache_new(engine);
    STEP(engine, cache, 0, 10, PT2_ROWS_NONE, NULL);
    ck_assert_int_eq(pt2_undo_new(cache, 4, 6, &undo, &err), 0);
    ck_assert_int_eq(
        pt2_engine_step(engine, cache, other, 9, 4, PT2_ROWS_NONE, NULL, &err), 0);
    pt2_undo_apply(undo);
    pt2_undo_free(undo);
    STEP(engine, cache, 10, 6, PT2_ROWS_LAST, logits);
    for (int64_t b = 0; b < 2; b++)
        compare(&toy, b, 15, logits + b * 11, TOLERANCE);
    pt2_cache_free(cache);
    pt2_engine_free(engine);
}
END_TEST

START_TEST(test_native_caches_move)
{
    struct toy toy = {.seq_len = 1, .batch = 2};
    struct pt2_engine *engine = native_open(&toy), *second = native_open(&toy);
    struct pt2_cache *cache = cache_new(engine), *fork = NULL;
    float logits[2 * 11];

    STEP(engine, cache, 0, 5, PT2_ROWS_NONE, NULL);
    ck_assert_int_eq(pt2_cache_fork(cache, &fork, &err), 0);
    ck_assert_int_eq(pt2_cache_adopt(cache, second, &err), 0);
    STEP(second, cache, 5, 2, PT2_ROWS_LAST, logits);
    compare(&toy, 1, 6, logits + 11, TOLERANCE);
    STEP(engine, fork, 5, 2, PT2_ROWS_LAST, logits);
    compare(&toy, 1, 6, logits + 11, TOLERANCE);
    pt2_cache_free(fork);
    pt2_cache_free(cache);
    pt2_engine_free(engine);
    pt2_engine_free(second);
}
END_TEST

/* ---- opening ---- */

START_TEST(test_native_auto_falls_back)
{
    struct toy taken = {.seq_len = 1}, rolls = {.seq_len = 1, .rolls = true};
    struct pt2_engine *engine;
    char reason[200] = "";
    bool ok = true;

    options.kind = PT2_ENGINE_AUTO;
    engine = engine_open(&taken);
    ck_assert_int_eq(pt2_engine_kind(engine), PT2_ENGINE_NATIVE);
    ck_assert_int_ge(pt2_engine_max_rows(engine), 64);
    ck_assert_int_ge(pt2_engine_slice(engine), 64);
    pt2_engine_free(engine);
    engine = engine_open(&rolls);
    ck_assert_int_eq(pt2_engine_kind(engine), PT2_ENGINE_ATEN);
    ck_assert_int_eq(pt2_engine_max_rows(engine), 0);
    pt2_engine_free(engine);
    ck_assert_int_eq(pt2_engine_check(archive, PT2_ENGINE_NATIVE, &options, &ok, reason,
                                      sizeof(reason), &err),
                     0);
    ck_assert(!ok);
    ck_assert_ptr_nonnull(strstr(reason, "cache")); /* names what it can't take */
    options.kind = PT2_ENGINE_NATIVE;
    ck_assert_int_eq(pt2_engine_open(archive, &options, &engine, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_PROGRAM_REFUSED);
}
END_TEST

START_TEST(test_native_an_unknown_isa_is_refused)
{
    struct toy toy = {.seq_len = 1};
    struct pt2_engine *engine;

    toy_write(&toy, archive);
    setenv("PT2_ISA", "mmx", 1);
    for (int kind = PT2_ENGINE_AUTO; kind <= PT2_ENGINE_NATIVE; kind++) {
        options.kind = (enum pt2_engine_kind)kind;
        ck_assert_int_eq(pt2_engine_open(archive, &options, &engine, &err), -1);
        ck_assert_int_eq(err.code, PT2_ERR_UNSUPPORTED);
        pt2_err_clear(&err);
    }
    unsetenv("PT2_ISA");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("native engine");
    TCase *core = tcase_create("core");
    int r;

    if (!mkdtemp(dir))
        return EXIT_FAILURE;
    tcase_add_checked_fixture(core, setup, teardown);
    tcase_set_timeout(core, 120);
    tcase_add_loop_test(core, test_native_any_step_gives_the_same_bits, 0, native_n_cases(N_TAKES));
    tcase_add_loop_test(core, test_native_steps_together_give_the_same_bits, 0, native_n_cases(N_TAKES));
    tcase_add_test(core, test_native_rewinds_and_overwrites);
    tcase_add_test(core, test_native_a_bad_id_fails_alone);
    tcase_add_test(core, test_native_caches_cost_what_was_written);
    tcase_add_test(core, test_native_rings_forget);
    tcase_add_test(core, test_native_forks_are_independent);
    tcase_add_loop_test(core, test_native_and_aten_have_the_same_buffers, 0, N_TAKES);
    tcase_add_loop_test(core, test_native_undo_puts_everything_back, 0, 2);
    tcase_add_test(core, test_native_caches_move);
    tcase_add_test(core, test_native_auto_falls_back);
    tcase_add_test(core, test_native_an_unknown_isa_is_refused);
    suite_add_tcase(suite, core);
    r = suite_run(suite);
    rmdir(dir);
    return r;
}
