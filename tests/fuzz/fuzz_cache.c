/* fuzz_cache.c - the body of PUT /v1/sessions/{id}/cache.  What is refused leaves the cache
 * as it was; what is taken is written out the same. */
#include "fuzz.h"

#include "fake_engine.h"
#include "serve/cache_file.h"

const char fuzz_name[] = "cache";
const char *const fuzz_corpus[] = {NULL};

static const char program[] = "ab";

static struct pt2_cache *new_cache(struct pt2_engine **engine)
{
    struct pt2_engine_options options = {0};
    struct pt2_cache *cache = NULL;
    float logits[16];

    fake_reset();
    fake.max_cache_len = 8;
    FUZZ_CHECK(pt2_engine_open("p", &options, engine, NULL) == 0);
    FUZZ_CHECK(pt2_cache_new(*engine, &cache, NULL) == 0);
    FUZZ_CHECK(pt2_engine_step(*engine, cache, (int64_t[]){3, 1, 4}, 3, 0, PT2_ROWS_LAST,
                               logits, NULL) == 0);
    return cache;
}

/* Everything the cache holds, (8 positions, 2) and the counter. */
static void take_all(struct pt2_cache *cache, char ret[72])
{
    pt2_cache_read(cache, 0, 0, 8, ret);
    pt2_cache_read(cache, 1, 0, 8, ret + 64);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pt2_engine *engine = NULL;
    struct pt2_cache *cache = new_cache(&engine), *other = NULL;
    char before[72], after[72], *file = NULL;
    struct pt2_err err = {0};
    int64_t position = -1, again = -1;
    size_t n = 0;

    take_all(cache, before);
    if (cache_file_read((const char *)data, size, cache, program, 8, NULL, NULL, &position,
                        &err) < 0) {
        take_all(cache, after);
        FUZZ_CHECK(err.code && *err.text && memcmp(before, after, 72) == 0);
    } else {
        FUZZ_CHECK(position >= 0 && position <= 8);
        FUZZ_CHECK(cache_file_write(cache, program, position, NULL, NULL, &file, &n,
                                    NULL) == 0);
        FUZZ_CHECK(pt2_cache_fork(cache, &other, NULL) == 0);
        FUZZ_CHECK(cache_file_read(file, n, other, program, 8, NULL, NULL, &again,
                                   NULL) == 0);
        take_all(cache, before);
        take_all(other, after);
        FUZZ_CHECK(again == position && memcmp(before, after, 72) == 0);
    }
    free(file);
    pt2_cache_free(other);
    pt2_cache_free(cache);
    pt2_engine_free(engine);
    return 0;
}
