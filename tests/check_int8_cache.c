/* check_int8_cache.c - caches of whole numbers in the native engine: their bits, their error,
 * their memory, and what is saved of them. */
#include "native_fixture.h"

#include "base/half.h"
#include "engine/native.h"

/* The largest logit is about 4. */
#define INT8_TOLERANCE 0.1

static const struct toy takes[] = {
    {.seq_len = 1},
    {.seq_len = 0, .batch = 2},
    {.seq_len = 4, .batch = 2, .last_row = true},
    {.seq_len = 0, .batch = 2, .window = 6, .max_rows = 3},
};
#define N_TAKES ((int)ARRAY_LEN(takes))

static const struct toy *case_of(int i)
{
    return native_case(takes, N_TAKES, i);
}

static struct pt2_cache *int8_new(struct pt2_engine *engine)
{
    struct pt2_cache *cache = NULL;

    ck_assert_msg(pt2_cache_new_as(engine, PT2_INT8, &cache, &err) == 0, "%s", err.text);
    ck_assert_int_eq(pt2_cache_dtype(cache), PT2_INT8);
    return cache;
}

/* Near the reference, not as near as floats are, and the same however steps are cut.
 * Catches: keys read as they were before they were stored; scales of another position. */
START_TEST(test_int8_any_step_gives_the_same_bits)
{
    const struct toy *toy = case_of(_i);
    struct pt2_engine *engine = native_open(toy);
    float plain[N_LOGITS] = {0}, one[N_LOGITS] = {0}, many[N_LOGITS] = {0};
    struct pt2_cache *cache = cache_new(engine);

    run_text(engine, cache, 0, 16, 1, plain);
    pt2_cache_free(cache);
    cache = int8_new(engine);
    run_text(engine, cache, 0, 16, 1, one);
    pt2_cache_free(cache);
    ck_assert_mem_ne(plain, one, sizeof(one));
    for (int64_t b = 0; b < pt2_engine_decoder(engine)->batch_size; b++)
        for (int64_t at = 0; at < 16; at++)
            compare(toy, b, at, one + (b * 16 + at) * 11, INT8_TOLERANCE);
    for (int64_t n = 2; n <= 16; n++) {
        cache = int8_new(engine);
        run_text(engine, cache, 0, 16, n, many);
        ck_assert_mem_eq(one, many, sizeof(one));
        pt2_cache_free(cache);
    }
    pt2_engine_free(engine);
}
END_TEST

/* Sessions of both kinds in one run: each has the bits that it has alone. */
START_TEST(test_int8_beside_others_gives_the_same_bits)
{
    enum { N = 30 };
    const struct toy *toy = case_of(_i);
    struct pt2_engine *engine = native_open(toy);
    float want[2][N_LOGITS], got[N][2 * 11];
    struct pt2_step steps[N] = {0};

    for (int i = 0; i < N; i++) {
        struct pt2_cache *cache = i % 2 ? int8_new(engine) : cache_new(engine);
        int64_t start = i % 13;

        run_text(engine, cache, 0, i < 2 ? 16 : start, 16, want[i % 2]);
        steps[i] = (struct pt2_step){.cache = cache,
                                     .input_ids = text[0] + start,
                                     .s = 1 + i % 3,
                                     .start = start,
                                     .rows = PT2_ROWS_LAST,
                                     .logits = got[i],
                                     .ids_stride = 16,
                                     .rows_stride = 1};
    }
    /* the first two went on to the end, where a ring has forgotten the beginning */
    pt2_engine_steps(engine, steps + 2, N - 2);
    for (int i = 0; i < N; i++) {
        int64_t last = steps[i].start + steps[i].s - 1;

        ck_assert_msg(steps[i].err.code == PT2_ERR_NONE, "%s", steps[i].err.text);
        for (int64_t b = 0; i >= 2 && b < pt2_engine_decoder(engine)->batch_size; b++)
            ck_assert_mem_eq(got[i] + b * 11, want[i % 2] + (b * 16 + last) * 11,
                             11 * sizeof(float));
        pt2_cache_free(steps[i].cache);
    }
    pt2_engine_free(engine);
}
END_TEST

/* ---- what is saved ---- */

/* All of from's buffers of 13 positions into to, as they are. */
static void copy_buffers(const struct pt2_cache *from, struct pt2_cache *to)
{
    for (size_t i = 0; i < pt2_cache_n_buffers(from); i++) {
        char part[2 * 13 * 4 * sizeof(float)];
        struct pt2_cache_buffer b;

        pt2_cache_buffer(from, i, &b);
        ck_assert_uint_le(pt2_cache_part_bytes(&b, 0, 13), sizeof(part));
        pt2_cache_read(from, i, 0, 13, part);
        ck_assert_int_eq(
            pt2_cache_write_as(to, pt2_cache_dtype(from), i, 0, 13, part, &err), 0);
    }
}

/* The buffers hold all of it: who continues from them gives the same bits. */
START_TEST(test_int8_buffers_are_lossless)
{
    const struct toy *toy = &takes[_i];
    struct pt2_engine *engine = native_open(toy);
    struct pt2_cache *from = int8_new(engine), *to = int8_new(engine);
    float want[N_LOGITS] = {0}, got[N_LOGITS] = {0};

    run_text(engine, from, 0, 13, 5, want);
    copy_buffers(from, to);
    run_text(engine, from, 13, 16, 1, want);
    memcpy(got, want, sizeof(got));
    for (int64_t b = 0; b < 2; b++)
        memset(got + (b * 16 + 13) * 11, 0, 3 * 11 * sizeof(float));
    run_text(engine, to, 13, 16, 1, got);
    ck_assert_mem_eq(want, got, sizeof(got));
    pt2_cache_free(from);
    pt2_cache_free(to);
    pt2_engine_free(engine);
}
END_TEST

/* Whole numbers and their scales become the floats that they are; these, read in again, are
 * no further away than half a scale. */
START_TEST(test_int8_buffers_convert)
{
    struct toy toy = {.seq_len = 0, .batch = 2};
    struct pt2_engine *engine = native_open(&toy);
    struct pt2_cache *from = int8_new(engine), *floats = cache_new(engine),
                     *again = int8_new(engine);
    float logits[N_LOGITS], mine[N_LOGITS];

    run_text(engine, from, 0, 13, 13, logits);
    copy_buffers(from, floats);
    copy_buffers(floats, again);
    ck_assert_uint_eq(pt2_cache_n_buffers(from), 2 * pt2_cache_n_buffers(floats));
    for (size_t i = 0; i < pt2_cache_n_buffers(floats); i++) {
        float wide[2 * 13 * 4];
        int8_t whole[2][2 * 13 * 4];
        uint16_t scales[2][2 * 13];
        struct pt2_cache_buffer a, b, c;

        pt2_cache_buffer(floats, i, &a);
        pt2_cache_buffer(from, 2 * i, &b);
        pt2_cache_buffer(from, 2 * i + 1, &c);
        ck_assert_str_eq(a.fqn, b.fqn);
        ck_assert(strlen(c.fqn) == strlen(a.fqn) + 6 && strstr(c.fqn, ".scale"));
        ck_assert(b.dtype == PT2_INT8 && c.dtype == PT2_BFLOAT16);
        ck_assert_mem_eq(a.sizes, b.sizes, sizeof(a.sizes));
        ck_assert_int_eq(c.sizes[c.n_dims - 1], 1);
        pt2_cache_read(floats, i, 0, 13, wide);
        pt2_cache_read(from, 2 * i, 0, 13, whole[0]);
        pt2_cache_read(from, 2 * i + 1, 0, 13, scales[0]);
        pt2_cache_read(again, 2 * i, 0, 13, whole[1]);
        pt2_cache_read(again, 2 * i + 1, 0, 13, scales[1]);
        for (size_t k = 0; k < ARRAY_LEN(wide); k++) {
            float scale = bf16_to_float(scales[1][k / 4]);

            ck_assert_float_eq(wide[k], whole[0][k] * bf16_to_float(scales[0][k / 4]));
            ck_assert_float_le(fabsf(wide[k] - whole[1][k] * scale), scale * 0.500001f);
        }
    }
    /* and floats attend as the whole numbers did */
    run_text(engine, from, 13, 14, 1, logits);
    run_text(engine, floats, 13, 14, 1, mine);
    for (int64_t v = 0; v < 11; v++)
        ck_assert_float_eq_tol(logits[13 * 11 + v], mine[13 * 11 + v], 0.02f);
    pt2_cache_free(from);
    pt2_cache_free(floats);
    pt2_cache_free(again);
    pt2_engine_free(engine);
}
END_TEST

/* ---- what a cache goes through ---- */

START_TEST(test_int8_caches_fork_undo_and_move)
{
    struct toy toy = {.seq_len = 0, .batch = 2};
    struct pt2_engine *engine = native_open(&toy), *second = native_open(&toy);
    struct pt2_cache *a = int8_new(engine), *b = NULL;
    int64_t other[2 * 9] = {0};
    float want[N_LOGITS], got[N_LOGITS];
    struct pt2_undo *undo = NULL;

    run_text(engine, a, 0, 16, 16, want);
    pt2_cache_free(a);
    a = int8_new(engine);
    run_text(engine, a, 0, 10, 10, got);
    ck_assert_int_eq(pt2_cache_fork(a, &b, &err), 0);
    ck_assert_int_eq(pt2_cache_dtype(b), PT2_INT8);
    ck_assert_int_eq(pt2_undo_new(a, 4, 6, &undo, &err), 0);
    ck_assert_int_eq(pt2_engine_step(engine, a, other, 9, 4, PT2_ROWS_NONE, NULL, &err), 0);
    run_text(engine, b, 10, 16, 3, got);
    ck_assert_mem_eq(want, got, sizeof(got));
    pt2_undo_apply(undo);
    pt2_undo_free(undo);
    memset(got + 10 * 11, 0, 6 * 11 * sizeof(float));
    ck_assert_int_eq(pt2_cache_adopt(a, second, &err), 0);
    run_text(second, a, 10, 16, 6, got);
    ck_assert_mem_eq(want, got, sizeof(got));
    pt2_cache_free(a);
    pt2_cache_free(b);
    pt2_engine_free(engine);
    pt2_engine_free(second);
}
END_TEST

/* A head of 32: 32 bytes and a scale of 2 for each position, where floats take 128. */
START_TEST(test_int8_caches_take_their_memory)
{
    struct toy toy = {.seq_len = 0, .batch = 2, .length = 40, .dim = 32};
    struct pt2_engine *engine = native_open(&toy);
    struct pt2_cache *plain = cache_new(engine), *cache = int8_new(engine);
    int64_t ids[2 * 3] = {0};
    uint64_t tables = 2 * pt2_cache_cost(engine), block;

    ck_assert_uint_eq(pt2_cache_bytes(engine), 2 * 2 * 40 * 32 * 4);
    ck_assert_uint_eq(pt2_cache_bytes_as(engine, PT2_DTYPE_NONE), pt2_cache_bytes(engine));
    /* each buffer at a multiple of 64: values 2 * 40 * 32, scales 2 * 40 * 2 */
    ck_assert_uint_eq(pt2_cache_bytes_as(engine, PT2_INT8), 2 * (2560 + 192));
    ck_assert_uint_eq(pt2_engine_cache_bytes(engine), tables);
    block = pt2_cache_growth(cache, 0, 1) / 2;
    ck_assert_uint_ge(block, 2 * 16 * 34);
    ck_assert_uint_lt(block, 2 * 16 * 34 + 192);
    ck_assert_uint_gt(pt2_cache_growth(plain, 0, 1), 2 * 2 * 16 * 128);
    ck_assert_int_eq(pt2_engine_step(engine, cache, ids, 3, 0, PT2_ROWS_NONE, NULL, &err), 0);
    ck_assert_uint_eq(pt2_engine_cache_bytes(engine), tables + 2 * block);
    pt2_cache_free(cache);
    pt2_cache_free(plain);
    ck_assert_uint_eq(pt2_engine_cache_bytes(engine), 0);
    pt2_engine_free(engine);
}
END_TEST

/* ---- what is refused ---- */

START_TEST(test_int8_is_refused)
{
    struct toy toy = {.seq_len = 1};
    struct pt2_engine *engine = native_open(&toy);
    struct pt2_cache *cache = NULL;

    ck_assert_int_eq(pt2_cache_new_as(engine, PT2_BFLOAT16, &cache, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_UNSUPPORTED);
    pt2_err_clear(&err);
    pt2_engine_free(engine);
    options.kind = PT2_ENGINE_ATEN;
    engine = engine_open(&toy);
    ck_assert_int_eq(pt2_cache_new_as(engine, PT2_INT8, &cache, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_UNSUPPORTED);
    ck_assert_msg(strstr(err.text, "aten") && strstr(err.text, "int8"), "%s", err.text);
    cache = cache_new(engine);
    ck_assert_uint_eq(pt2_cache_n_buffers_as(cache, PT2_INT8), 0);
    pt2_cache_free(cache);
    pt2_engine_free(engine);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("int8_cache");
    TCase *core = tcase_create("core"), *errors = tcase_create("errors");
    int r;

    if (!mkdtemp(dir))
        return EXIT_FAILURE;
    tcase_set_timeout(core, 120);
    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_checked_fixture(errors, setup, teardown);
    tcase_add_loop_test(core, test_int8_any_step_gives_the_same_bits, 0, native_n_cases(N_TAKES));
    tcase_add_loop_test(core, test_int8_beside_others_gives_the_same_bits, 0, native_n_cases(N_TAKES));
    tcase_add_loop_test(core, test_int8_buffers_are_lossless, 0, N_TAKES);
    tcase_add_test(core, test_int8_buffers_convert);
    tcase_add_test(core, test_int8_caches_fork_undo_and_move);
    tcase_add_test(core, test_int8_caches_take_their_memory);
    tcase_add_test(errors, test_int8_is_refused);
    suite_add_tcase(s, core);
    suite_add_tcase(s, errors);
    r = suite_run(s);
    rmdir(dir);
    return r;
}
