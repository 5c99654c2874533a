/* check_no_memory.c - libpt2 where memory runs out: each allocation of a call fails in its
 * turn; the call then says so, holds nothing, and works the next time.
 *
 * What check_archive, check_checkpoint and check_program let fail is not here again. */
#include "alloc_fail.h"
#include "suite.h"
#include "tiny_model.h"
#include "toy.h"

#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <pt2/checkpoint.h>
#include <pt2/engine.h>
#include <pt2/export.h>

static char archive[] = "/tmp/pt2-no-memory-XXXXXX", worker_path[PATH_MAX];
static struct pt2_engine_options options;
static struct pt2_err err;
static struct tiny_model model;

static void setup(void)
{
    const char *build = getenv("PT2_LIBEXEC");
    static const struct toy toy = {.seq_len = 2, .batch = 2, .filled = true};

    err = (struct pt2_err){0};
    snprintf(worker_path, sizeof(worker_path), "%s/toy-worker", build ? build : ".");
    options = (struct pt2_engine_options){.worker_path = worker_path, .n_threads = 1};
    close(mkstemp(archive));
    toy_write(&toy, archive);
    tiny_begin(&model, "{\"model_type\":\"qwen2\",\"tie_word_embeddings\":true,"
                       "\"eos_token_id\":[2,3],\"use_sliding_window\":true,"
                       "\"sliding_window\":4,\"max_window_layers\":1," TINY_SIZES "}");
    for (int layer = 0; layer < 2; layer++) {
        static const struct {
            const char *name;
            size_t rows;
        } biases[] = {{"q_proj", 8}, {"k_proj", 4}, {"v_proj", 4}};

        for (size_t i = 0; i < ARRAY_LEN(biases); i++) {
            char name[80];

            snprintf(name, sizeof(name), "model.layers.%d.self_attn.%s.bias", layer,
                     biases[i].name);
            tiny_tensor(&model, name, biases[i].rows, 0);
        }
    }
    tiny_put(&model, "generation_config.json", "{\"bos_token_id\":1}", 18);
    tiny_put(&model, "tokenizer.json", "\xff", 1); /* not UTF-8: kept in base64 */
    tiny_end(&model);
}

static void teardown(void)
{
    unlink(archive);
    tiny_remove(&model);
}

/* What a call answered, after alloc_failed() was asked. */
static void ck_answer(int r, bool failed)
{
    ck_assert_msg(r == (failed ? -1 : 0), "allocation %ld: answers %d (%s)", alloc_fail_at,
                  r, err.text);
    ck_assert_msg(err.code == (failed ? PT2_ERR_NOMEM : PT2_ERR_NONE),
                  "allocation %ld: %s: %s", alloc_fail_at, pt2_error_name(err.code),
                  err.text);
    pt2_err_clear(&err);
}

#define OK(call) ck_assert_msg((call) == 0, "%s", err.text)

START_TEST(test_no_memory_for_a_record)
{
    struct pt2_archive *a = NULL;

    OK(pt2_archive_open(archive, &a, &err));
    for (alloc_fail_begin(); alloc_fail_next();) {
        void *data = NULL;
        size_t size;
        int r = pt2_archive_read(a, pt2_archive_find(a, "models/model.json"), 1 << 20, &data,
                                 &size, &err);

        if (r == 0)
            r = pt2_archive_verify(a, &err);
        ck_answer(r, alloc_failed());
        free(data);
    }
    pt2_archive_free(a);
}
END_TEST

START_TEST(test_no_memory_for_an_archives_program)
{
    struct pt2_archive *a = NULL;

    OK(pt2_archive_open(archive, &a, &err));
    for (alloc_fail_begin(); alloc_fail_next();) {
        struct pt2_program *p = NULL;
        int r = pt2_program_read(a, &p, &err);

        ck_answer(r, alloc_failed());
        pt2_program_free(p);
    }
    pt2_archive_free(a);
}
END_TEST

/* One input, one node, one symbol. */
static int build(struct pt2_program **ret)
{
    struct pt2_dim sizes[] = {{.expr = "s0", .value = 3}, {.value = 4}};
    struct pt2_named_arg self = {.name = "self", .arg = {.kind = PT2_ARG_TENSOR}, .kind = 1};
    struct pt2_tensor_meta meta;
    uint32_t value = 0;

    if (pt2_program_new(ret, &err) < 0 ||
        pt2_tensor_meta_contiguous(*ret, PT2_FLOAT32, 2, sizes, &meta, &err) < 0 ||
        pt2_program_add_input(*ret, PT2_INPUT_USER, "x", NULL, false, &meta, &value, &err) <
            0)
        return -1;
    self.arg.value = value;
    if (pt2_program_add_node(*ret, "torch.ops.aten.relu.default", "relu", &self, 1, &meta,
                             &value, &err) < 0 ||
        pt2_program_add_output(*ret, PT2_OUTPUT_USER, value, NULL, &err) < 0)
        return -1;
    return pt2_program_add_range(*ret, "s0", 1, 8, &err);
}

START_TEST(test_no_memory_for_a_program_that_is_built)
{
    for (alloc_fail_begin(); alloc_fail_next();) {
        struct pt2_program *p = NULL;
        int r = build(&p);

        ck_answer(r, alloc_failed());
        pt2_program_free(p);
    }
}
END_TEST

START_TEST(test_no_memory_for_a_checkpoints_files)
{
    json_t *generation = json_pack("{s:i}", "bos_token_id", 1);

    for (alloc_fail_begin(); alloc_fail_next();) {
        struct pt2_checkpoint *c = NULL;
        json_t *json = NULL;
        char *text = NULL;
        uint8_t digest[32];
        size_t len;
        int r = pt2_checkpoint_open(model.dir, &c, &err);

        r = r ? r : pt2_checkpoint_extra(c, "tokenizer.json", 100, &text, &len, &err);
        r = r ? r : pt2_checkpoint_extra_json(c, "generation_config.json", 100, &json, &err);
        r = r ? r : pt2_checkpoint_digest_file(c, 0, digest, &err);
        r = r ? r : pt2_checkpoint_check_unchanged(c, &err);
        ck_answer(r, alloc_failed());
        ck_assert(r < 0 || (text && json_equal(json, generation)));
        json_decref(json);
        free(text);
        pt2_checkpoint_free(c);
    }
    json_decref(generation);
}
END_TEST

/* An export written whole, or an error: never one that lacks something. */
START_TEST(test_no_memory_for_an_export)
{
    struct pt2_export_options asked = {.dynamic_shapes = _i == 1,
                                       .dtype = _i == 1 ? PT2_BFLOAT16 : PT2_DTYPE_NONE,
                                       .max_cache_len = 64};
    struct pt2_checkpoint *c = NULL;
    uint8_t want[32] = {0};
    bool has_want = false;

    OK(pt2_checkpoint_open(model.dir, &c, &err));
    alloc_fail_begin();
    while (!has_want || alloc_fail_next()) {
        struct pt2_export *exp = NULL;
        uint8_t sha256[32];
        uint64_t bytes = 0;
        int fd = open(archive, O_RDWR | O_TRUNC | O_CLOEXEC), r;

        r = pt2_export_new(c, &asked, &exp, &err);
        r = r ? r : pt2_export_write(exp, fd, NULL, NULL, sha256, &bytes, &err);
        if (!has_want) { /* before the first that fails */
            OK(r);
            memcpy(want, sha256, 32);
            has_want = true;
        } else {
            ck_answer(r, alloc_failed());
            ck_assert_msg(r < 0 || memcmp(sha256, want, 32) == 0,
                          "allocation %ld failed: another file", alloc_fail_at);
        }
        pt2_export_free(exp);
        close(fd);
    }
    pt2_checkpoint_free(c);
}
END_TEST

static const enum pt2_engine_kind kinds[] = {PT2_ENGINE_ATEN, PT2_ENGINE_NATIVE};

/* A program for that kind: the caches of a native one begin with zeros. */
static void engine_setup(enum pt2_engine_kind kind)
{
    struct toy toy = {.seq_len = 2, .batch = 2, .filled = kind == PT2_ENGINE_ATEN};

    options.kind = kind;
    toy_write(&toy, archive);
}

START_TEST(test_no_memory_for_an_engine)
{
    engine_setup(kinds[_i]);
    for (alloc_fail_begin(); alloc_fail_next();) {
        struct pt2_engine *engine = NULL;
        int r = pt2_engine_open(archive, &options, &engine, &err);

        ck_answer(r, alloc_failed());
        pt2_engine_free(engine);
    }
}
END_TEST

START_TEST(test_no_memory_for_asking_whether_an_engine_takes_it)
{
    engine_setup(kinds[_i]);
    for (alloc_fail_begin(); alloc_fail_next();) {
        char why[100] = "";
        bool ok = false;
        int r = pt2_engine_check(archive, kinds[_i], &options, &ok, why, sizeof(why),
                                 &err);

        ck_answer(r, alloc_failed());
        ck_assert(r < 0 || ok);
    }
}
END_TEST

START_TEST(test_no_memory_for_caches_and_steps)
{
    static const int64_t ids[] = {1, 2, 3, 4, 5, 6};
    struct pt2_engine *engine = NULL, *other = NULL;

    engine_setup(kinds[_i]);
    OK(pt2_engine_open(archive, &options, &other, &err));
    OK(pt2_engine_open(archive, &options, &engine, &err)); /* with no slots yet */
    for (alloc_fail_begin(); alloc_fail_next();) {
        struct pt2_cache *cache = NULL, *fork = NULL;
        float logits[2 * 11];
        int r;

        r = pt2_cache_new(engine, &cache, &err);
        r = r ? r
              : pt2_engine_step(engine, cache, ids, 3, 0, PT2_ROWS_LAST, logits, &err);
        r = r ? r : pt2_cache_fork(cache, &fork, &err);
        r = r ? r : pt2_engine_step(engine, fork, ids, 2, 2, PT2_ROWS_LAST, logits, &err);
        r = r ? r : pt2_cache_adopt(fork, other, &err);
        ck_answer(r, alloc_failed());
        pt2_cache_free(fork);
        pt2_cache_free(cache);
        pt2_engine_free(engine);
        OK(pt2_engine_open(archive, &options, &engine, &err));
    }
    pt2_engine_free(engine);
    pt2_engine_free(other);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("no memory");
    TCase *errors = tcase_create("errors");

    tcase_add_checked_fixture(errors, setup, teardown);
    tcase_add_test(errors, test_no_memory_for_a_record);
    tcase_add_test(errors, test_no_memory_for_an_archives_program);
    tcase_add_test(errors, test_no_memory_for_a_program_that_is_built);
    tcase_add_test(errors, test_no_memory_for_a_checkpoints_files);
    tcase_add_loop_test(errors, test_no_memory_for_an_export, 0, 2);
    tcase_add_loop_test(errors, test_no_memory_for_an_engine, 0, 2);
    tcase_add_loop_test(errors, test_no_memory_for_asking_whether_an_engine_takes_it, 0, 2);
    tcase_add_loop_test(errors, test_no_memory_for_caches_and_steps, 0, 2);
    tcase_set_timeout(errors, 240);
    suite_add_tcase(suite, errors);
    return suite_run(suite);
}
