/* check_image.c - caches put away as images and taken back, of every shape of program, on both
 * engines: nothing that a step may see is another afterwards. */
#include "native_fixture.h"

/* An image, in memory. */
struct image {
    char bytes[1 << 16];
    size_t size, at;
    long fail_at; /* the piece that is refused; 0: none */
    long n;
};

static int put(void *context, void *data, size_t size, struct pt2_err *ret_err)
{
    struct image *image = context;

    if (++image->n == image->fail_at)
        return pt2_err_set(ret_err, PT2_ERR_NO_SPACE, "told to fail");
    ck_assert_uint_le(size, sizeof(image->bytes) - image->size);
    memcpy(image->bytes + image->size, data, size);
    image->size += size;
    return 0;
}

static int take(void *context, void *data, size_t size, struct pt2_err *ret_err)
{
    struct image *image = context;

    if (size > image->size - image->at)
        return pt2_err_set(ret_err, PT2_ERR_INVALID, "it ends");
    memcpy(data, image->bytes + image->at, size);
    image->at += size;
    return 0;
}

static void put_away(const struct pt2_cache *cache, int64_t position, struct image *ret)
{
    *ret = (struct image){0};
    ck_assert_msg(pt2_cache_put_away(cache, position, put, ret, &err) == 0, "%s", err.text);
    ck_assert_uint_eq(ret->size, pt2_cache_image_bytes(cache, position));
}

static struct pt2_cache *cache_as(struct pt2_engine *engine, enum pt2_dtype dtype)
{
    struct pt2_cache *cache = NULL;

    ck_assert_msg(pt2_cache_new_as(engine, dtype, &cache, &err) == 0, "%s", err.text);
    return cache;
}

static struct pt2_cache *take_back(struct pt2_engine *engine, enum pt2_dtype dtype,
                                   struct image *image)
{
    struct pt2_cache *cache = cache_as(engine, dtype);

    ck_assert_msg(pt2_cache_take_back(cache, take, image, &err) == 0, "%s", err.text);
    ck_assert_uint_eq(image->at, image->size);
    return cache;
}

/* Both go on from `at` and give the same bits, or the same refusal. */
static void go_on_alike(struct pt2_engine *engine, struct pt2_cache *a, struct pt2_cache *b,
                        int64_t at)
{
    for (int64_t s = 1; s <= 2 && at + s <= 16; at += s, s++) {
        float of_a[2 * 11] = {0}, of_b[2 * 11] = {0};
        int r = step_text(engine, a, at, s, PT2_ROWS_LAST, of_a);

        pt2_err_clear(&err);
        ck_assert_int_eq(step_text(engine, b, at, s, PT2_ROWS_LAST, of_b), r);
        pt2_err_clear(&err);
        ck_assert_mem_eq(of_a, of_b, sizeof(of_a));
        if (r < 0)
            return;
    }
    for (int64_t p = 1; p <= 16; p++)
        ck_assert_int_eq(pt2_cache_rewind_floor(a, p), pt2_cache_rewind_floor(b, p));
}

/* A cache of `written` positions, put away at `at`, the newest or one it has gone back to. */
static void away_and_back(struct pt2_engine *engine, enum pt2_dtype dtype, int64_t written,
                          int64_t at)
{
    struct pt2_cache *cache = cache_as(engine, dtype), *back;
    uint64_t before;
    struct image image, again;

    for (int64_t p = 0, s; p < written; p += s) {
        s = MIN(1 + p % 3, written - p);
        STEP(engine, cache, p, s, PT2_ROWS_NONE, NULL);
    }
    if (at < pt2_cache_rewind_floor(cache, written)) {
        pt2_cache_free(cache);
        return;
    }
    put_away(cache, at, &image);
    for (enum pt2_engine_kind kind = PT2_ENGINE_NATIVE; kind <= PT2_ENGINE_ATEN; kind++)
        ck_assert_int_eq(pt2_image_is_known(kind, (const uint8_t *)image.bytes),
                         kind == pt2_engine_kind(engine));
    before = pt2_engine_cache_bytes(engine);
    back = take_back(engine, dtype, &image);
    ck_assert_uint_le(pt2_engine_cache_bytes(engine) - before,
                      pt2_cache_image_cost(engine, image.size));
    put_away(back, at, &again);
    ck_assert_uint_eq(again.size, image.size);
    ck_assert_mem_eq(again.bytes, image.bytes, image.size);
    go_on_alike(engine, cache, back, at);
    pt2_cache_free(cache);
    pt2_cache_free(back);
}

/* NULL: the engine refuses the program. */
static struct pt2_engine *open_as(const struct toy *toy, enum pt2_engine_kind kind)
{
    struct pt2_engine *engine = NULL;

    options.kind = kind;
    toy_write(toy, archive);
    if (pt2_engine_open(archive, &options, &engine, &err) < 0)
        ck_assert_int_eq(err.code, PT2_ERR_PROGRAM_REFUSED);
    pt2_err_clear(&err);
    return engine;
}

static const enum pt2_engine_kind kinds[] = {PT2_ENGINE_ATEN, PT2_ENGINE_NATIVE,
                                             PT2_ENGINE_NATIVE};
static const enum pt2_dtype dtypes[] = {PT2_DTYPE_NONE, PT2_DTYPE_NONE, PT2_INT8};

/* Case i: a shape; aten, native, native with whole numbers. */
static struct pt2_engine *case_of(int i, enum pt2_dtype *ret_dtype)
{
    *ret_dtype = dtypes[i % 3];
    return open_as(&shapes[i / 3], kinds[i % 3]);
}

/* Catches: a floor, tokens or counters that are forgotten; blocks of another position; a
 * buffer cut where it has no positions. */
START_TEST(test_image_steps_see_no_difference)
{
    enum pt2_dtype dtype;
    struct pt2_engine *engine = case_of(_i, &dtype);

    if (!engine)
        return;
    for (int64_t written = 0; written <= 15; written += 1 + written / 4)
        for (int64_t at = written; at >= 0; at -= 3)
            away_and_back(engine, dtype, written, at);
    ck_assert_uint_eq(pt2_engine_cache_bytes(engine), 0);
    pt2_engine_free(engine);
}
END_TEST

/* A ring that has let go of blocks: as many bytes as it holds, and the same floor. */
START_TEST(test_image_rings_take_what_they_hold)
{
    struct toy toy = {.seq_len = 1, .length = 320, .window = 20};
    struct pt2_engine *engine = native_open(&toy);
    struct pt2_cache *cache = cache_new(engine), *back;
    int64_t ids[301];
    float want[11], got[11];
    uint64_t held;
    struct image image;

    for (size_t i = 0; i < ARRAY_LEN(ids); i++)
        ids[i] = text[0][i % 16];
    ck_assert_int_eq(
        pt2_engine_step(engine, cache, ids, 299, 0, PT2_ROWS_NONE, NULL, &err), 0);
    held = pt2_engine_cache_bytes(engine);
    put_away(cache, 299, &image);
    back = take_back(engine, PT2_DTYPE_NONE, &image);
    ck_assert_uint_eq(pt2_engine_cache_bytes(engine), 2 * held);
    ck_assert_uint_le(held, pt2_cache_image_cost(engine, image.size));
    ck_assert_int_eq(pt2_cache_rewind_floor(back, 299), 272 + 19);
    ck_assert_int_eq(
        pt2_engine_step(engine, cache, ids + 291, 9, 291, PT2_ROWS_LAST, want, &err), 0);
    ck_assert_int_eq(
        pt2_engine_step(engine, back, ids + 291, 9, 291, PT2_ROWS_LAST, got, &err), 0);
    ck_assert_mem_eq(want, got, sizeof(want));
    pt2_cache_free(cache);
    pt2_cache_free(back);
    pt2_engine_free(engine);
}
END_TEST

/* Forks share their blocks; images do not. */
START_TEST(test_image_of_a_fork_is_its_own)
{
    struct toy toy = {.seq_len = 0};
    struct pt2_engine *engine = native_open(&toy);
    struct pt2_cache *cache = cache_new(engine), *fork = NULL, *back;
    struct image image;

    STEP(engine, cache, 0, 9, PT2_ROWS_NONE, NULL);
    ck_assert_int_eq(pt2_cache_fork(cache, &fork, &err), 0);
    put_away(fork, 9, &image);
    pt2_cache_free(fork);
    back = take_back(engine, PT2_DTYPE_NONE, &image);
    STEP(engine, back, 2, 5, PT2_ROWS_NONE, NULL); /* writes nothing of the other's */
    pt2_cache_free(back);
    image.at = 0;
    back = take_back(engine, PT2_DTYPE_NONE, &image);
    go_on_alike(engine, cache, back, 9);
    pt2_cache_free(cache);
    pt2_cache_free(back);
    pt2_engine_free(engine);
}
END_TEST

/* ---- what is none ---- */

START_TEST(test_image_cut_short_is_refused)
{
    enum pt2_dtype dtype;
    struct pt2_engine *engine = case_of(_i, &dtype);
    struct pt2_cache *cache;
    struct image image;
    size_t size;

    if (!engine)
        return;
    cache = cache_as(engine, dtype);
    STEP(engine, cache, 0, 7, PT2_ROWS_NONE, NULL);
    put_away(cache, 7, &image);
    pt2_cache_free(cache);
    size = image.size;
    for (image.size = 0; image.size < size; image.size += 1 + image.size / 8) {
        cache = cache_as(engine, dtype);
        image.at = 0;
        ck_assert_int_eq(pt2_cache_take_back(cache, take, &image, &err), -1);
        ck_assert_int_eq(err.code, PT2_ERR_INVALID);
        pt2_err_clear(&err);
        pt2_cache_free(cache);
    }
    pt2_engine_free(engine);
}
END_TEST

/* Any byte of it another: refused, or taken for other contents, and no memory is touched that
 * is not the cache's.  Whoever keeps images has checksums. */
START_TEST(test_image_damaged_does_no_harm)
{
    enum pt2_dtype dtype;
    struct pt2_engine *engine = case_of(_i, &dtype);
    struct pt2_cache *cache;
    struct image image;

    if (!engine)
        return;
    cache = cache_as(engine, dtype);
    STEP(engine, cache, 0, 7, PT2_ROWS_NONE, NULL);
    put_away(cache, 7, &image);
    pt2_cache_free(cache);
    for (size_t i = 0; i < MIN(image.size, 512); i++) {
        char was = image.bytes[i];

        for (int bit = 0; bit < 8; bit += 7) {
            image.bytes[i] = (char)(was ^ (1 << bit));
            image.at = 0;
            cache = cache_as(engine, dtype);
            if (pt2_cache_take_back(cache, take, &image, &err) < 0)
                ck_assert_int_eq(err.code, PT2_ERR_INVALID);
            pt2_err_clear(&err);
            pt2_cache_free(cache);
        }
        image.bytes[i] = was;
    }
    ck_assert_uint_eq(pt2_engine_cache_bytes(engine), 0);
    pt2_engine_free(engine);
}
END_TEST

START_TEST(test_image_of_another_program_is_refused)
{
    struct toy one = {.seq_len = 0}, other = {.seq_len = 0, .batch = 2};

    for (int kind = PT2_ENGINE_NATIVE; kind <= PT2_ENGINE_ATEN; kind++) {
        struct pt2_engine *engine = open_as(&one, (enum pt2_engine_kind)kind),
                          *second = open_as(&other, (enum pt2_engine_kind)kind);
        struct pt2_cache *cache = cache_new(engine), *of_other = cache_new(second);
        struct image image;

        STEP(engine, cache, 0, 3, PT2_ROWS_NONE, NULL);
        put_away(cache, 3, &image);
        ck_assert_int_eq(pt2_cache_take_back(of_other, take, &image, &err), -1);
        ck_assert_int_eq(err.code, PT2_ERR_INVALID);
        pt2_err_clear(&err);
        pt2_cache_free(cache);
        pt2_cache_free(of_other);
        pt2_engine_free(engine);
        pt2_engine_free(second);
    }
}
END_TEST

START_TEST(test_image_that_finds_no_place)
{
    struct toy toy = {.seq_len = 4, .batch = 2};

    for (int kind = PT2_ENGINE_NATIVE; kind <= PT2_ENGINE_ATEN; kind++) {
        struct pt2_engine *engine = open_as(&toy, (enum pt2_engine_kind)kind);
        struct pt2_cache *cache = cache_new(engine);
        struct image image = {.fail_at = 1};

        STEP(engine, cache, 0, 5, PT2_ROWS_NONE, NULL);
        while (pt2_cache_put_away(cache, 5, put, &image, &err) < 0) {
            ck_assert_int_eq(err.code, PT2_ERR_NO_SPACE);
            pt2_err_clear(&err);
            image = (struct image){.fail_at = image.fail_at + 1};
        }
        ck_assert_int_gt(image.fail_at, 3);
        STEP(engine, cache, 5, 1, PT2_ROWS_NONE, NULL);
        pt2_cache_free(cache);
        pt2_engine_free(engine);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("images of caches");
    TCase *core = tcase_create("core"), *errors = tcase_create("errors");
    int r;

    if (!mkdtemp(dir))
        return EXIT_FAILURE;
    tcase_add_checked_fixture(core, setup, teardown);
    tcase_set_timeout(core, 120);
    tcase_add_loop_test(core, test_image_steps_see_no_difference, 0, 3 * N_SHAPES);
    tcase_add_test(core, test_image_rings_take_what_they_hold);
    tcase_add_test(core, test_image_of_a_fork_is_its_own);
    tcase_add_checked_fixture(errors, setup, teardown);
    tcase_set_timeout(errors, 120);
    tcase_add_loop_test(errors, test_image_cut_short_is_refused, 0, 3 * N_SHAPES);
    tcase_add_loop_test(errors, test_image_damaged_does_no_harm, 0, 3 * N_SHAPES);
    tcase_add_test(errors, test_image_of_another_program_is_refused);
    tcase_add_test(errors, test_image_that_finds_no_place);
    suite_add_tcase(suite, core);
    suite_add_tcase(suite, errors);
    r = suite_run(suite);
    rmdir(dir);
    return r;
}
