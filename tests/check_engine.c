/* Steps by a worker process: their logits and what they leave in the cache. */
#include "engine_fixture.h"

/* ---- logits ---- */

/* The text in steps of n tokens, up to the end of the cache; every row's logits, or the
 * last one's, against the reference. */
static void step_through(const struct toy *toy, struct pt2_engine *engine, int64_t n,
                         enum pt2_rows rows)
{
    int64_t n_batch = pt2_engine_decoder(engine)->batch_size;
    struct pt2_cache *cache = cache_new(engine);
    float logits[2 * 16 * 11];

    for (int64_t at = 0, s; at < 16; at += s) {
        int64_t n_rows = 1;

        s = MIN(n, 16 - at);
        STEP(engine, cache, at, s, rows, rows == PT2_ROWS_NONE ? NULL : logits);
        n_rows = rows == PT2_ROWS_ALL ? s : rows == PT2_ROWS_LAST ? 1 : 0;
        for (int64_t b = 0; b < n_batch; b++)
            for (int64_t i = 0; i < n_rows; i++)
                compare(toy, b, at + s - n_rows + i, logits + (b * n_rows + i) * 11,
                        TOLERANCE);
    }
    pt2_cache_free(cache);
}

/* Catches: runs cut at the wrong place, a row's logits taken from another, a batch row
 * mixed with the next, pad rows that are read later, counters that are not set. */
START_TEST(test_engine_any_step_equals_single_tokens)
{
    const struct toy *toy = &shapes[_i];
    struct pt2_engine *engine = engine_open(toy);

    for (int64_t n = 1; n <= 16; n += n < 6 ? 1 : 5)
        for (int rows = PT2_ROWS_NONE; rows <= PT2_ROWS_ALL; rows++)
            step_through(toy, engine, n, (enum pt2_rows)rows);
    pt2_engine_free(engine);
}
END_TEST

/* What single steps leave in a float32 cache, and what one step of s tokens leaves: equal
 * to rounding, whole buffers, counters exactly. */
START_TEST(test_engine_any_step_leaves_the_same_cache)
{
    const struct toy *toy = &shapes[_i];
    struct pt2_engine *engine = engine_open(toy);

    for (int64_t s = 1; s <= 16; s++) {
        struct pt2_cache *one = cache_new(engine), *many = cache_new(engine);

        for (int64_t at = 0; at < s; at++)
            STEP(engine, one, at, 1, PT2_ROWS_NONE, NULL);
        STEP(engine, many, 0, s, PT2_ROWS_NONE, NULL);
        for (size_t i = 0; i < pt2_cache_n_buffers(one); i++) {
            union {
                int64_t counter;
                float elements[2 * 16 * 4];
            } a = {0}, b = {0};
            struct pt2_cache_buffer buffer;

            pt2_cache_buffer(one, i, &buffer);
            ck_assert_uint_le(pt2_cache_part_bytes(&buffer, 0, 16), sizeof(a));
            pt2_cache_read(one, i, 0, 16, &a);
            pt2_cache_read(many, i, 0, 16, &b);
            if (buffer.dtype == PT2_INT64) {
                ck_assert_int_eq(a.counter, s);
                ck_assert_int_eq(b.counter, s);
                continue;
            }
            for (size_t e = 0; e < ARRAY_LEN(a.elements); e++)
                ck_assert(fabsf(a.elements[e] - b.elements[e]) <= 1e-6f);
        }
        pt2_cache_free(one);
        pt2_cache_free(many);
    }
    pt2_engine_free(engine);
}
END_TEST

/* Catches: a rewind that reads what stood beyond it, a counter that is not set back. */
START_TEST(test_engine_rewinds_and_overwrites)
{
    const struct toy *toy = &shapes[_i];
    struct pt2_engine *engine = engine_open(toy);
    struct pt2_cache *cache = cache_new(engine);
    int64_t other[2 * 9] = {0};
    float logits[2 * 11];

    ck_assert(pt2_engine_can_rewind(engine) == !toy->rolls);
    if (!toy->rolls && toy->window == 0) {
        STEP(engine, cache, 0, 3, PT2_ROWS_NONE, NULL);
        ck_assert_int_eq(
            pt2_engine_step(engine, cache, other, 9, 3, PT2_ROWS_NONE, NULL, &err), 0);
        STEP(engine, cache, 3, 4, PT2_ROWS_LAST, logits);
        for (int64_t b = 0; b < pt2_engine_decoder(engine)->batch_size; b++)
            compare(toy, b, 6, logits + b * 11, TOLERANCE);
    }
    pt2_cache_free(cache);
    pt2_engine_free(engine);
}
END_TEST

/* A ring: anywhere until it has come round; then the newest position may be stepped again,
 * and what is below is said to be gone. */
START_TEST(test_engine_rings_go_back_to_the_newest)
{
    const struct toy *toy = &shapes[N_SHAPES - 1 - _i];
    int64_t rows = toy->seq_len ? toy->seq_len : toy->max_rows;
    int64_t held = toy->window + rows - 1, other[2 * 16] = {0};
    struct pt2_engine *engine = engine_open(toy);
    struct pt2_cache *cache = cache_new(engine);
    int64_t n_batch = pt2_engine_decoder(engine)->batch_size;
    float logits[2 * 11];

    ck_assert_int_eq(pt2_engine_decoder(engine)->max_cache_len, 16);
    ck_assert_int_gt(toy->window, 0);
    STEP(engine, cache, 0, held - 2, PT2_ROWS_NONE, NULL);
    ck_assert_int_eq(
        pt2_engine_step(engine, cache, other, 2, held - 2, PT2_ROWS_NONE, NULL, &err), 0);
    ck_assert_int_eq(pt2_cache_rewind_floor(cache, held), 0);
    STEP(engine, cache, 1, 12, PT2_ROWS_LAST, logits);
    for (int64_t b = 0; b < n_batch; b++)
        compare(toy, b, 12, logits + b * 11, TOLERANCE);
    ck_assert_int_eq(pt2_cache_rewind_floor(cache, 13), 12);
    ck_assert_int_eq(pt2_engine_step(engine, cache, other, 1, 12, PT2_ROWS_NONE, NULL, &err),
                     0);
    STEP(engine, cache, 12, 3, PT2_ROWS_LAST, logits);
    for (int64_t b = 0; b < n_batch; b++)
        compare(toy, b, 14, logits + b * 11, TOLERANCE);
    pt2_cache_free(cache);
    pt2_engine_free(engine);
}
END_TEST

/* A restored ring does not know what its file's session had beyond: from there on alone. */
START_TEST(test_engine_restored_rings_go_on)
{
    const struct toy *toy = &shapes[N_SHAPES - 1 - _i];
    struct pt2_engine *engine = engine_open(toy);
    struct pt2_cache *from = cache_new(engine), *to = cache_new(engine);
    int64_t n_batch = pt2_engine_decoder(engine)->batch_size;
    float logits[2 * 11];
    char part[2 * 16 * 4 * sizeof(float)];

    STEP(engine, from, 0, 13, PT2_ROWS_NONE, NULL);
    for (size_t i = 0; i < pt2_cache_n_buffers(from); i++) {
        pt2_cache_read(from, i, 0, 13, part);
        ck_assert_int_eq(pt2_cache_write(to, i, 0, 13, part, &err), 0);
    }
    ck_assert_int_eq(pt2_cache_rewind_floor(to, 13), 13);
    STEP(engine, to, 13, 2, PT2_ROWS_LAST, logits);
    for (int64_t b = 0; b < n_batch; b++)
        compare(toy, b, 14, logits + b * 11, TOLERANCE);
    ck_assert_int_eq(pt2_cache_rewind_floor(to, 15), 14);
    pt2_cache_free(from);
    pt2_cache_free(to);
    pt2_engine_free(engine);
}
END_TEST

START_TEST(test_engine_half_precisions_are_widened)
{
    static const enum pt2_dtype dtypes[] = {PT2_BFLOAT16, PT2_FLOAT16};

    for (size_t i = 0; i < ARRAY_LEN(dtypes); i++) {
        struct toy toy = {.seq_len = 1, .dtype = dtypes[i]};
        struct pt2_engine *engine = engine_open(&toy);
        struct pt2_cache *cache = cache_new(engine);
        float logits[4 * 11];

        STEP(engine, cache, 0, 4, PT2_ROWS_ALL, logits);
        for (int64_t at = 0; at < 4; at++)
            compare(&toy, 0, at, logits + at * 11,
                    dtypes[i] == PT2_BFLOAT16 ? 5e-2 : 8e-3);
        pt2_cache_free(cache);
        pt2_engine_free(engine);
    }
}
END_TEST

/* Catches: a cache that begins as zeros whatever the archive says. */
START_TEST(test_engine_cache_begins_as_in_the_archive)
{
    static const int64_t ids[] = {1, 2, 3, 6};
    struct toy toys[] = {{.seq_len = 1, .filled = true},
                         {.seq_len = 1, .filled = true, .rolls = true},
                         {.seq_len = 1, .filled = true, .counters = true}};

    for (size_t i = 0; i < ARRAY_LEN(toys); i++) {
        struct pt2_engine *engine = engine_open(&toys[i]);
        struct pt2_cache *cache = cache_new(engine);
        float logits[11];
        double want[11];

        ck_assert_int_eq(
            pt2_engine_step(engine, cache, &ids[3], 1, 3, PT2_ROWS_LAST, logits, &err),
            0);
        toy_logits(&toys[i], ids, 4, want);
        for (int v = 0; v < 11; v++)
            ck_assert(fabs(logits[v] - want[v]) <= TOLERANCE);
        pt2_cache_free(cache);
        pt2_engine_free(engine);
    }
}
END_TEST

/* ---- caches ---- */

START_TEST(test_engine_forks_are_independent)
{
    struct toy toy = {.seq_len = 0};
    struct pt2_engine *engine = engine_open(&toy);
    struct pt2_cache *a = cache_new(engine), *b = NULL;
    int64_t other[] = {0, 0, 0};
    float logits[11];
    char *before;

    STEP(engine, a, 0, 5, PT2_ROWS_NONE, NULL);
    ck_assert_int_eq(pt2_cache_fork(a, &b, &err), 0);
    before = bytes_of(a);
    ck_assert(!bytes_differ(b, before));
    ck_assert_int_eq(pt2_engine_step(engine, b, other, 3, 2, PT2_ROWS_NONE, NULL, &err),
                     0);
    ck_assert(!bytes_differ(a, before));
    STEP(engine, a, 5, 2, PT2_ROWS_LAST, logits);
    compare(&toy, 0, 6, logits, TOLERANCE);
    pt2_cache_free(a); /* the slot is used again */
    a = cache_new(engine);
    STEP(engine, a, 0, 1, PT2_ROWS_LAST, logits);
    compare(&toy, 0, 0, logits, TOLERANCE);
    free(before);
    pt2_cache_free(a);
    pt2_cache_free(b);
    pt2_engine_free(engine);
}
END_TEST

START_TEST(test_engine_describes_its_buffers)
{
    struct toy toy = {.seq_len = 1, .batch = 2, .counters = true};
    struct pt2_engine *engine = engine_open(&toy);
    struct pt2_cache *cache = cache_new(engine);
    struct pt2_cache_buffer b;

    ck_assert_int_eq(pt2_engine_kind(engine), PT2_ENGINE_ATEN);
    ck_assert_str_eq(pt2_engine_kind_name(PT2_ENGINE_ATEN), "aten");
    ck_assert_int_eq(pt2_engine_decoder(engine)->max_cache_len, 16);
    ck_assert_int_eq(pt2_cache_n_buffers(cache), 3);
    /* 2 x 16 x 4 floats twice, and 64 bytes for the counter */
    ck_assert_uint_eq(pt2_cache_bytes(engine), 2 * 512 + 64);
    for (size_t i = 0; i < 3; i++) {
        pt2_cache_buffer(cache, i, &b);
        ck_assert_int_eq(b.position_dim, b.n_dims == 4 ? 2 : -1);
        ck_assert_int_eq(b.dtype, b.n_dims == 4 ? PT2_FLOAT32 : PT2_INT64);
    }
    pt2_cache_free(cache);
    pt2_engine_free(engine);
}
END_TEST

/* Its first buffer, read and written: the cache can not know that it is the same. */
static void write_back(struct pt2_cache *cache)
{
    char part[2 * 16 * 4 * sizeof(float)];

    pt2_cache_read(cache, 0, 0, 16, part);
    ck_assert_int_eq(pt2_cache_write(cache, 0, 0, 16, part, &err), 0);
}

/* Catches: rows of tokens made up where the cache came from elsewhere. */
START_TEST(test_engine_end_of_a_restored_cache)
{
    struct toy toy = {.seq_len = 4, .counters = true};
    struct pt2_engine *engine = engine_open(&toy);
    struct pt2_cache *cache = cache_new(engine), *fork = NULL;
    float logits[11];
    char *before;

    STEP(engine, cache, 0, 14, PT2_ROWS_NONE, NULL);
    ck_assert_int_eq(pt2_cache_fork(cache, &fork, &err), 0);
    STEP(engine, fork, 14, 1, PT2_ROWS_LAST, logits); /* knows what the first one knew */
    compare(&toy, 0, 14, logits, TOLERANCE);
    pt2_cache_free(fork);
    write_back(cache);
    before = bytes_of(cache);
    ck_assert_int_eq(step_text(engine, cache, 14, 1, PT2_ROWS_LAST, logits), -1);
    ck_assert_int_eq(err.code, PT2_ERR_UNSUPPORTED);
    ck_assert(!bytes_differ(cache, before));
    pt2_err_clear(&err);
    STEP(engine, cache, 12, 3, PT2_ROWS_LAST, logits); /* as the text says */
    compare(&toy, 0, 14, logits, TOLERANCE);
    STEP(engine, cache, 15, 1, PT2_ROWS_LAST, logits); /* known again */
    compare(&toy, 0, 15, logits, TOLERANCE);
    free(before);
    pt2_cache_free(cache);
    pt2_engine_free(engine);
}
END_TEST

/* The same where the program writes at cache_position: nothing need be known. */
START_TEST(test_engine_end_of_a_restored_cache_by_position)
{
    struct toy toy = {.seq_len = 4};
    struct pt2_engine *engine = engine_open(&toy);
    struct pt2_cache *cache = cache_new(engine);
    float logits[11];

    STEP(engine, cache, 0, 14, PT2_ROWS_NONE, NULL);
    write_back(cache);
    STEP(engine, cache, 14, 1, PT2_ROWS_LAST, logits);
    compare(&toy, 0, 14, logits, TOLERANCE);
    write_back(cache);
    STEP(engine, cache, 15, 1, PT2_ROWS_LAST, logits);
    compare(&toy, 0, 15, logits, TOLERANCE);
    pt2_cache_free(cache);
    pt2_engine_free(engine);
}
END_TEST

/* ---- opening ---- */

START_TEST(test_engine_check_says_why)
{
    struct toy good = {.seq_len = 1},
               bad = {.seq_len = 1, .extra_op = "from_file.default"};
    struct toy uncut = {.seq_len = 4, .counters = true, .last_row = true};
    char reason[200];
    bool ok = false;
    FILE *f;

#define CHECK(kind)                                                                      \
    ck_assert_msg(pt2_engine_check(archive, kind, &options, &ok, reason, sizeof(reason), \
                                   &err) == 0,                                           \
                  "%s", err.text)
    toy_write(&good, archive);
    CHECK(PT2_ENGINE_AUTO);
    ck_assert(ok);
    CHECK(PT2_ENGINE_ATEN);
    ck_assert(ok);
    CHECK(PT2_ENGINE_NATIVE);
    ck_assert(ok);
    toy_write(&bad, archive);
    CHECK(PT2_ENGINE_ATEN);
    ck_assert(!ok);
    ck_assert_ptr_nonnull(strstr(reason, "from_file"));
    ck_assert_int_eq(
        pt2_engine_check(archive, PT2_ENGINE_ATEN, &options, &ok, NULL, 0, &err), 0);
    toy_write(&uncut, archive);
    CHECK(PT2_ENGINE_ATEN);
    ck_assert(!ok);
    ck_assert_ptr_nonnull(strstr(reason, "the last one's logits alone"));
    f = fopen(archive, "w");
    fputs("no archive", f);
    fclose(f);
    CHECK(PT2_ENGINE_ATEN);
    ck_assert(!ok);
    unlink(archive);
    ck_assert_int_eq(
        pt2_engine_check(archive, PT2_ENGINE_ATEN, &options, &ok, NULL, 0, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_IO);
}
END_TEST

START_TEST(test_engine_worker_that_is_none)
{
    struct toy toy = {.seq_len = 1};
    struct pt2_engine *engine;

    toy_write(&toy, archive);
    options.worker_path = "/bin/false"; /* exits at load */
    ck_assert_int_eq(pt2_engine_open(archive, &options, &engine, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_ENGINE_DIED);
    ck_assert_str_eq(err.text, "the engine's worker exited with status 1");
    pt2_err_clear(&err);
    options.worker_path = "/nonexistent/pt2-aten";
    ck_assert_int_eq(pt2_engine_open(archive, &options, &engine, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_IO);
    pt2_err_clear(&err);
    options.worker_path = NULL;
    setenv("PT2_LIBEXEC", "/nonexistent", 1);
    ck_assert_int_eq(pt2_engine_open(archive, &options, &engine, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_IO);
    ck_assert_ptr_nonnull(strstr(err.text, "/nonexistent/pt2-aten"));
}
END_TEST

START_TEST(test_engine_adopts_its_own_program_only)
{
    struct toy toy = {.seq_len = 1}, other = {.seq_len = 1, .length = 8};
    struct pt2_engine *engine = engine_open(&toy), *second = engine_open(&other);
    struct pt2_cache *cache = cache_new(engine);
    float logits[11];

    ck_assert_int_eq(pt2_cache_adopt(cache, second, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_OTHER_PROGRAM);
    pt2_err_clear(&err);
    STEP(engine, cache, 0, 1, PT2_ROWS_LAST, logits); /* it stayed where it was */
    pt2_cache_free(cache);
    pt2_engine_free(second);
    pt2_engine_free(engine);
}
END_TEST

/* A worker with libtorch takes a second to start: there, four shapes stand for all of them
 * where the shapes matter to the daemon's side alone. */
static bool is_toy(void)
{
    return streq(WORKER, "toy-worker");
}

static void add_cases(Suite *s)
{
    int first = is_toy() ? 0 : 5, end = is_toy() ? (int)ARRAY_LEN(shapes) : 9;
    TCase *core = tcase_create("core"),
          *errors = tcase_create("errors");

    tcase_add_checked_fixture(core, setup, teardown);
    tcase_set_timeout(core, 120);
    tcase_add_loop_test(core, test_engine_any_step_equals_single_tokens, 0,
                        ARRAY_LEN(shapes));
    tcase_add_loop_test(core, test_engine_any_step_leaves_the_same_cache, first, end);
    tcase_add_loop_test(core, test_engine_rewinds_and_overwrites, first, end);
    tcase_add_loop_test(core, test_engine_rings_go_back_to_the_newest, 0, N_RINGS);
    tcase_add_loop_test(core, test_engine_restored_rings_go_on, 0, N_RINGS);
    tcase_add_test(core, test_engine_cache_begins_as_in_the_archive);
    tcase_add_test(core, test_engine_forks_are_independent);
    tcase_add_test(core, test_engine_describes_its_buffers);
    tcase_add_test(core, test_engine_end_of_a_restored_cache);
    tcase_add_test(core, test_engine_end_of_a_restored_cache_by_position);
    if (!is_toy())
        tcase_add_test(core, test_engine_half_precisions_are_widened);
    suite_add_tcase(s, core);
    tcase_add_checked_fixture(errors, setup, teardown);
    tcase_set_timeout(errors, 120);
    tcase_add_test(errors, test_engine_check_says_why);
    tcase_add_test(errors, test_engine_worker_that_is_none);
    tcase_add_test(errors, test_engine_adopts_its_own_program_only);
    suite_add_tcase(s, errors);
}

int main(void)
{
    Suite *s;
    int r;

    if (!mkdtemp(dir))
        return EXIT_FAILURE;
    s = suite_create("engine by " WORKER);
    add_cases(s);
    r = suite_run(s);
    rmdir(dir);
    return r;
}
