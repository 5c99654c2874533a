/* check_verify.c - what a verification runs, finds and says, over engines that are none
 * (fake_engine.h). */
#include "fake_engine.h"
#include "suite.h"

#include "base/log.h"
#include "verify/record.h"

#include <inttypes.h>
#include <math.h>

static struct verify_task task;
static struct verify_result result;
static struct pt2_err err;
static int64_t told_done, told_total;

static void progress(void *ctx, int64_t done, int64_t total)
{
    ck_assert_int_gt(done, told_done);
    told_done = done;
    told_total = total;
}

static void setup(void)
{
    fake_reset();
    fake.has_native = fake.logits_all_rows = true;
    fake.seq_len = 0;
    fake.batch_size = 2;
    task = (struct verify_task){.path = "program",
                                .dtype = PT2_FLOAT32,
                                .n_tokens = 12,
                                .seed = 7,
                                .progress = progress};
    result = (struct verify_result){0};
    pt2_err_clear(&err);
    told_done = told_total = 0;
}

static void teardown(void)
{
    ck_assert_int_eq(fake.n_engines, 0);
    ck_assert_int_eq(fake.n_caches, 0);
}

static void verify_ok(void)
{
    ck_assert_msg(verify_program(&task, &result, &err) == 0, "%s", err.text);
}

static void verify_fails(enum pt2_error code, const char *part)
{
    pt2_err_clear(&err);
    ck_assert_int_eq(verify_program(&task, &result, &err), -1);
    ck_assert_int_eq(err.code, code);
    ck_assert_msg(strstr(err.text, part) != NULL, "'%s' is not in '%s'", part, err.text);
    ck_assert_int_eq(fake.n_engines, 0);
    ck_assert_int_eq(fake.n_caches, 0);
}

static void spoil(enum pt2_engine_kind kind, bool at_once, int64_t position, float by)
{
    fake.wrong.kind = kind;
    fake.wrong.at_once = at_once;
    fake.wrong.position = position;
    fake.wrong.by = by;
}

/* ---- core ---- */

START_TEST(test_verify_runs_four_ways)
{
    verify_ok();
    ck_assert_int_eq(result.reference, VERIFY_NATIVE);
    ck_assert_int_eq(result.batch_size, 2);
    for (int i = 0; i < VERIFY_N_RUNS; i++) {
        ck_assert(result.runs[i].is_made);
        ck_assert_int_eq(result.runs[i].comparison.n_rows, i == VERIFY_NATIVE ? 0 : 24);
        ck_assert(comparison_ratio(&result.runs[i].comparison) == 0);
    }
    ck_assert_int_eq(told_done, 4 * 12);
    ck_assert_int_eq(told_total, 4 * 12);
}
END_TEST

/* Each run, each position: none is left out. */
START_TEST(test_verify_finds_a_wrong_logit_anywhere)
{
    static const struct {
        enum pt2_engine_kind kind;
        bool at_once;
        const char *text;
    } ways[] = {{PT2_ENGINE_NATIVE, true, "and native, all at once, differ"},
                {PT2_ENGINE_ATEN, false, "and aten, a token at a time, differ"},
                {PT2_ENGINE_ATEN, true, "and aten, all at once, differ"},
                {PT2_ENGINE_NATIVE, false, "differ"}};
    char where[60];

    for (size_t i = 0; i < ARRAY_LEN(ways); i++)
        for (int64_t at = 0; at < task.n_tokens; at++) {
            told_done = 0;
            spoil(ways[i].kind, ways[i].at_once, at, 0.1f);
            verify_fails(PT2_ERR_VERIFY_FAILED, ways[i].text);
            snprintf(where, sizeof(where), "at position %" PRId64 " of batch", at);
            ck_assert_msg(strstr(err.text, where) != NULL, "%s", err.text);
        }
}
END_TEST

/* The largest of ten logits is 10: what is within the limit passes and is told. */
START_TEST(test_verify_allows_rounding_and_no_more)
{
    double ratio;

    task.dtype = PT2_BFLOAT16;
    spoil(PT2_ENGINE_ATEN, false, 5, 0.5f);
    verify_ok();
    ratio = comparison_ratio(&result.runs[VERIFY_ATEN].comparison);
    ck_assert(ratio > 0.04 && ratio < verify_limits(PT2_BFLOAT16, 0).largest);
    ck_assert_int_eq(result.runs[VERIFY_ATEN].comparison.position, 5);

    task.dtype = PT2_FLOAT16;
    told_done = 0;
    verify_fails(PT2_ERR_VERIFY_FAILED, "Rounding in float16");
    /* native promises the same bits, whatever the dtype */
    task.dtype = PT2_BFLOAT16;
    told_done = 0;
    spoil(PT2_ENGINE_NATIVE, true, 5, 1e-4f);
    verify_fails(PT2_ERR_VERIFY_FAILED, "native, all at once");
}
END_TEST

START_TEST(test_verify_refuses_what_is_not_finite)
{
    spoil(PT2_ENGINE_NATIVE, false, 3, NAN);
    verify_fails(PT2_ERR_VERIFY_FAILED,
                 "native, a token at a time, gives id 1 the logit nan at position 3");
    told_done = 0;
    spoil(PT2_ENGINE_ATEN, true, 11, -INFINITY);
    verify_fails(PT2_ERR_VERIFY_FAILED, "aten, all at once, gives id 1 the logit -inf");
}
END_TEST

START_TEST(test_verify_goes_on_with_one_engine)
{
    fake.refusal[PT2_ENGINE_NATIVE] = "no plan";
    verify_ok();
    ck_assert_int_eq(result.reference, VERIFY_ATEN);
    ck_assert_str_eq(result.runs[VERIFY_NATIVE].reason, "no plan");
    ck_assert(!result.runs[VERIFY_NATIVE_AT_ONCE].is_made);
    ck_assert_int_eq(result.runs[VERIFY_ATEN_AT_ONCE].comparison.n_rows, 24);
    told_done = 0;
    spoil(PT2_ENGINE_ATEN, true, 4, 1);
    verify_fails(PT2_ERR_VERIFY_FAILED, "aten, all at once");

    setup();
    fake.refusal[PT2_ENGINE_ATEN] = "an op";
    verify_ok();
    ck_assert_int_eq(result.reference, VERIFY_NATIVE);
    ck_assert_str_eq(result.runs[VERIFY_ATEN].reason, "an op");
    ck_assert_str_eq(result.runs[VERIFY_ATEN_AT_ONCE].reason, "an op");

    fake.refusal[PT2_ENGINE_NATIVE] = "no plan";
    verify_fails(PT2_ERR_PROGRAM_REFUSED, "native: no plan; aten: an op");
}
END_TEST

/* One token a call: libtorch has no other way to run it; native has. */
START_TEST(test_verify_of_static_programs)
{
    fake.seq_len = 1;
    verify_ok();
    ck_assert(result.runs[VERIFY_NATIVE_AT_ONCE].is_made);
    ck_assert(!result.runs[VERIFY_ATEN_AT_ONCE].is_made);
    ck_assert_str_eq(result.runs[VERIFY_ATEN_AT_ONCE].reason,
                     "the program takes one token a call");
    told_done = 0;
    fake.seq_len = 4;
    verify_ok();
    ck_assert(result.runs[VERIFY_ATEN_AT_ONCE].is_made);
    told_done = 0;
    task.n_tokens = 1;
    verify_ok();
    ck_assert(!result.runs[VERIFY_NATIVE_AT_ONCE].is_made);
    ck_assert_int_eq(result.runs[VERIFY_ATEN].comparison.n_rows, 2);
}
END_TEST

/* A program that answers its last row is asked for that row alone. */
START_TEST(test_verify_of_programs_of_one_row)
{
    fake.logits_all_rows = false;
    verify_ok();
    ck_assert_int_eq(result.runs[VERIFY_ATEN].comparison.n_rows, 24);
    ck_assert_int_eq(result.runs[VERIFY_ATEN_AT_ONCE].comparison.n_rows, 2);
    told_done = 0;
    spoil(PT2_ENGINE_ATEN, true, 11, 1);
    verify_fails(PT2_ERR_VERIFY_FAILED, "at position 11");
}
END_TEST

/* Logits that fill the buffers: the caches go on from slice to slice. */
START_TEST(test_verify_in_slices)
{
    fake.vocab_size = 1 << 20; /* 2 rows of 4 MiB a token: 4 tokens a slice */
    task.n_tokens = 10;
    verify_ok();
    ck_assert_int_eq(result.runs[VERIFY_ATEN_AT_ONCE].comparison.n_rows, 20);
    ck_assert_int_eq(told_done, 40);
    told_done = 0;
    spoil(PT2_ENGINE_ATEN, true, 9, 1);
    verify_fails(PT2_ERR_VERIFY_FAILED, "at position 9 of batch element 0");
}
END_TEST

/* ---- limits and errors ---- */

START_TEST(test_verify_checks_the_number_of_tokens)
{
    fake.max_cache_len = 11;
    verify_fails(PT2_ERR_INVALID, "12 tokens to verify with, the cache has 11");
    fake.max_cache_len = 12;
    verify_ok();
}
END_TEST

START_TEST(test_verify_passes_on_what_fails)
{
    fake.fail_step = 30; /* 24 tokens one by one, then two at once of 12 */
    verify_ok();
    told_done = 0;
    fake.fail_step = 5;
    verify_fails(PT2_ERR_PROGRAM_FAILED, "native, a token at a time, position 4: told");
    told_done = 0;
    fake.fail_step = 26;
    verify_fails(PT2_ERR_PROGRAM_FAILED, "aten, all at once, position 0: told");
    told_done = 0;
    fake.die_step = 13;
    verify_fails(PT2_ERR_ENGINE_DIED, "aten, a token at a time, position 0: told");
    told_done = 0;
    fake.fail_new = 4;
    verify_fails(PT2_ERR_NOMEM, "told to fail");
}
END_TEST

/* ---- comparing ---- */

START_TEST(test_comparison_takes_the_row_that_is_furthest_off)
{
    const float a[] = {1, -10, 0}, b[] = {1.5f, -10, 0}, c[] = {2, 0, 0}, d[] = {2, 0.2f, 0};
    const float zeros[3] = {0};
    struct comparison cmp = {0};

    comparison_add(&cmp, a, b, 3, 4, 0);
    ck_assert(cmp.difference == 0.5 && cmp.logit == 10 && cmp.position == 4);
    comparison_add(&cmp, c, d, 3, 5, 1); /* less by itself, more beside its logits */
    ck_assert(cmp.logit == 2 && cmp.position == 5 && cmp.element == 1 && cmp.n_rows == 2);
    ck_assert(fabs(comparison_ratio(&cmp) - 0.1) < 1e-6);
    ck_assert(fabs(comparison_rms(&cmp) - sqrt((0.25 + 0.04) / (101 + 4))) < 1e-6);
    comparison_add(&cmp, zeros, zeros, 3, 6, 0);
    ck_assert(cmp.position == 5);
    comparison_add(&cmp, zeros, d, 3, 7, 0);
    ck_assert(isinf(comparison_ratio(&cmp)) && cmp.position == 7);
}
END_TEST

START_TEST(test_comparison_finds_what_is_not_finite)
{
    const float good[] = {1, -3e38f, 1e-45f}, bad[] = {0, INFINITY, NAN};

    ck_assert_uint_eq(logits_find_bad(good, 3), 3);
    ck_assert_uint_eq(logits_find_bad(bad, 3), 1);
    ck_assert_uint_eq(logits_find_bad(bad + 2, 1), 0);
}
END_TEST

START_TEST(test_ratios_round_up_to_powers_of_ten)
{
    ck_assert(ratio_round_up(0) == 0);
    ck_assert(fabs(ratio_round_up(3e-6) / 1e-5 - 1) < 1e-9);
    ck_assert(fabs(ratio_round_up(1.1e-5) / 1e-4 - 1) < 1e-9);
    ck_assert(ratio_round_up(0.1) <= 0.1 + 1e-12 && ratio_round_up(0.5) == 1);
    ck_assert(ratio_round_up(30) == 100);
}
END_TEST

/* Deeper models round more often; a limit that were too wide would find nothing. */
START_TEST(test_limits_grow_with_the_layers)
{
    ck_assert(verify_limits(PT2_FLOAT32, 2).rms == verify_limits(PT2_FLOAT32, 90).rms);
    ck_assert(fabs(verify_limits(PT2_BFLOAT16, 2).rms - 0.0221) < 1e-4);
    ck_assert(fabs(verify_limits(PT2_BFLOAT16, 32).rms - 0.0442) < 1e-4);
    ck_assert(fabs(verify_limits(PT2_FLOAT16, 32).rms - 0.0055) < 1e-4);
    ck_assert(verify_limits(PT2_FLOAT16, 32).largest < 0.02);
}
END_TEST

/* ---- records ---- */

static const json_t *at(const json_t *json, const char *a, const char *b)
{
    json = json_object_get(json, a);
    return b ? json_object_get(json, b) : json;
}

START_TEST(test_record_is_json_of_its_size)
{
    uint8_t program[SHA256_BYTES] = {0xde, 0xad, 0xbe, 0xef};
    char text[PT2_VERIFY_RECORD_BYTES + 1] = "";
    json_auto_t *json = NULL;
    struct verify_result largest = {.n_tokens = INT64_MAX,
                                    .batch_size = INT64_MAX,
                                    .seed = UINT32_MAX,
                                    .reference = VERIFY_NATIVE};

    fake.seq_len = 1;
    spoil(PT2_ENGINE_ATEN, false, 2, 5e-5f);
    verify_ok();
    verify_record_text(&result, program, text);
    ck_assert_uint_eq(strlen(text), PT2_VERIFY_RECORD_BYTES);
    ck_assert_int_eq(text[PT2_VERIFY_RECORD_BYTES - 1], '\n');
    json = json_loads(text, 0, NULL);
    ck_assert_ptr_nonnull(json);
    ck_assert_int_eq(json_integer_value(at(json, "tokens", NULL)), 12);
    ck_assert_str_eq(json_string_value(at(json, "reference", NULL)), "native");
    ck_assert_int_eq(strncmp(json_string_value(at(json, "program", NULL)), "deadbeef00", 10),
                     0);
    ck_assert_int_eq(json_object_size(at(json, "runs", NULL)), 3);
    ck_assert(json_is_null(at(json, "runs", "aten_at_once")));
    ck_assert(fabs(json_number_value(at(at(json, "runs", "aten"), "largest_within", NULL)) -
                   1e-5) < 1e-9);
    ck_assert_uint_eq(verify_seed(program), 0xdeadbeef);

    for (int i = 0; i < VERIFY_N_RUNS; i++) {
        largest.runs[i].is_made = true;
        largest.runs[i].comparison =
            (struct comparison){.n_rows = INT64_MAX, .difference = 9e-300, .logit = 1};
    }
    verify_record_text(&largest, program, text); /* asserts that it fits */
}
END_TEST

START_TEST(test_result_says_what_was_run)
{
    json_auto_t *json = NULL;

    fake.refusal[PT2_ENGINE_ATEN] = "an op \xff";
    spoil(PT2_ENGINE_NATIVE, true, 2, 0);
    verify_ok();
    json = verify_result_json(&result, 1.5);
    ck_assert_ptr_nonnull(json);
    ck_assert_int_eq(json_integer_value(at(json, "seed", NULL)), 7);
    ck_assert(json_real_value(at(json, "seconds", NULL)) == 1.5);
    ck_assert_int_eq(
        json_integer_value(at(at(json, "runs", "native_at_once"), "rows", NULL)), 24);
    ck_assert(json_is_null(at(at(json, "runs", "aten"), "largest_difference", NULL)));
    ck_assert_int_eq(
        strncmp(json_string_value(at(at(json, "runs", "aten"), "reason", NULL)), "an op", 5),
        0);
    ck_assert_ptr_null(at(json, "runs", "native"));
}
END_TEST

/* Fewer tokens are the beginning of more, and another seed gives others. */
START_TEST(test_verify_draws_tokens_from_the_seed)
{
    int64_t first[8];

    task.n_tokens = 8;
    verify_ok();
    memcpy(first, fake.log_id, sizeof(first));
    task.n_tokens = 12;
    told_done = 0;
    fake.n_log = 0;
    verify_ok();
    ck_assert_mem_eq(first, fake.log_id, sizeof(first));
    task.seed = 8;
    told_done = 0;
    fake.n_log = 0;
    verify_ok();
    ck_assert_mem_ne(first, fake.log_id, sizeof(first));
    for (int i = 0; i < fake.n_log; i++)
        ck_assert(fake.log_id[i] >= 0 && fake.log_id[i] < fake.vocab_size);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("verify");
    TCase *core = tcase_create("core"), *errors = tcase_create("errors");
    TCase *parts = tcase_create("parts");

    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_test(core, test_verify_runs_four_ways);
    tcase_add_test(core, test_verify_finds_a_wrong_logit_anywhere);
    tcase_add_test(core, test_verify_allows_rounding_and_no_more);
    tcase_add_test(core, test_verify_refuses_what_is_not_finite);
    tcase_add_test(core, test_verify_goes_on_with_one_engine);
    tcase_add_test(core, test_verify_of_static_programs);
    tcase_add_test(core, test_verify_of_programs_of_one_row);
    tcase_add_test(core, test_verify_in_slices);
    tcase_add_test(core, test_verify_draws_tokens_from_the_seed);
    suite_add_tcase(suite, core);
    tcase_add_checked_fixture(errors, setup, teardown);
    tcase_add_test(errors, test_verify_checks_the_number_of_tokens);
    tcase_add_test(errors, test_verify_passes_on_what_fails);
    suite_add_tcase(suite, errors);
    tcase_add_checked_fixture(parts, setup, teardown);
    tcase_add_test(parts, test_comparison_takes_the_row_that_is_furthest_off);
    tcase_add_test(parts, test_comparison_finds_what_is_not_finite);
    tcase_add_test(parts, test_ratios_round_up_to_powers_of_ten);
    tcase_add_test(parts, test_limits_grow_with_the_layers);
    tcase_add_test(parts, test_record_is_json_of_its_size);
    tcase_add_test(parts, test_result_says_what_was_run);
    suite_add_tcase(suite, parts);
    return suite_run(suite);
}
