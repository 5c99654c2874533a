/* check_python_exports.c - programs that several versions of Transformers exported, run by
 * their plans: the logits that torch's own run of each had (tests/data/python-exports). */
#include "cases.h"
#include "suite.h"

#include "plan_run.h"

#include <jansson.h>
#include <math.h>

#define MAX_CASES 64

static char names[MAX_CASES][64]; /* of the archives, without a suffix */
static int n_cases;

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void find_cases(void)
{
    char folder[300];
    struct dirent *d;
    DIR *all;

    snprintf(folder, sizeof(folder), "%s/python-exports", test_data());
    all = opendir(folder);
    while (all && (d = readdir(all)) != NULL) {
        size_t n = strlen(d->d_name);

        if (n_cases < MAX_CASES && n > 4 && n < sizeof(names[0]) &&
            strcmp(d->d_name + n - 4, ".pt2") == 0)
            snprintf(names[n_cases++], sizeof(names[0]), "%.*s", (int)n - 4, d->d_name);
    }
    if (all)
        closedir(all);
    qsort(names, (size_t)n_cases, sizeof(names[0]), by_name);
}

/* What stands beside an archive: see make_python_exports.py. */
struct facts {
    json_t *json;
    const json_t *ids, *logits; /* (batch, n), (batch, n, every fifth of the vocabulary) */
    int64_t batch, n;
    double tolerance; /* of the largest logit */
};

static void facts_read(struct facts *f, const char *name)
{
    const char *dtype;
    char path[400];

    snprintf(path, sizeof(path), "%s/python-exports/%s.json", test_data(), name);
    f->json = json_load_file(path, 0, NULL);
    ck_assert_msg(f->json != NULL, "%s: no JSON", path);
    f->ids = json_object_get(f->json, "input_ids");
    f->logits = json_object_get(f->json, "logits");
    f->batch = (int64_t)json_array_size(f->ids);
    f->n = (int64_t)json_array_size(json_array_get(f->ids, 0));
    ck_assert_msg(f->batch > 0 && f->n > 0, "%s: no ids", path);
    /* In half precision torch rounds each activation, a plan none. */
    dtype = json_string_value(json_object_get(f->json, "dtype"));
    f->tolerance = !dtype                         ? 2e-5
                   : strcmp(dtype, "float16") == 0 ? 5e-3
                                                   : 5e-2;
}

static void compare(const struct facts *f, const struct plan_run *r, const float *logits,
                    const char *name, int64_t chunk)
{
    int64_t vocab = r->plan->decoder.vocab_size;
    double largest = 0, worst = 0;

    for (int64_t row = 0; row < f->batch * f->n; row++) {
        const json_t *want = json_array_get(
            json_array_get(f->logits, (size_t)(row / f->n)), (size_t)(row % f->n));

        ck_assert_uint_eq(json_array_size(want), (size_t)((vocab + 4) / 5));
        for (size_t i = 0; i < json_array_size(want); i++) {
            double x = json_number_value(json_array_get(want, i)),
                   difference = fabs((double)logits[row * vocab + (int64_t)i * 5] - x);

            ck_assert_msg(difference < INFINITY, "%s: a logit is no number", name);
            worst = fmax(worst, difference);
            largest = fmax(largest, fabs(x));
        }
    }
    ck_assert_msg(worst <= f->tolerance * largest,
                  "%s by runs of %lld: off by %g, the largest logit is %g", name,
                  (long long)chunk, worst, largest);
}

/* Rows one by one, some at once, all at once. */
static void run(const struct facts *f, struct plan_run *r, const char *name)
{
    const struct pt2_decoder *d = &r->plan->decoder;
    const int64_t chunks[] = {1, 5, f->n};
    int64_t *ids = calloc((size_t)(f->batch * f->n), sizeof(*ids));
    float *logits = calloc((size_t)(f->batch * f->n * d->vocab_size), sizeof(*logits));

    ck_assert_int_eq(d->batch_size, f->batch);
    ck_assert_int_le(f->n, d->max_cache_len);
    for (int64_t i = 0; i < f->batch * f->n; i++)
        ids[i] = json_integer_value(json_array_get(
            json_array_get(f->ids, (size_t)(i / f->n)), (size_t)(i % f->n)));
    for (size_t i = 0; i < ARRAY_LEN(chunks); i++) {
        plan_run_tokens(r, ids, f->n, chunks[i], logits);
        compare(f, r, logits, name, chunks[i]);
    }
    free(ids);
    free(logits);
}

START_TEST(test_python_exports_logits)
{
    const char *name = names[_i], *refused;
    struct pt2_err err = {0};
    struct facts f;
    struct plan_run r;
    char path[400];
    int result;

    facts_read(&f, name);
    refused = json_string_value(json_object_get(f.json, "refused"));
    snprintf(path, sizeof(path), "%s/python-exports/%s.pt2", test_data(), name);
    result = plan_run_open(&r, path, &err);
    if (refused) {
        ck_assert_msg(result < 0, "%s must be refused: %s", name, refused);
        ck_assert_int_eq(err.code, PT2_ERR_PROGRAM_REFUSED);
        ck_assert_msg(strstr(err.text, refused) != NULL, "%s: %s", name, err.text);
    } else {
        ck_assert_msg(result == 0, "%s: %s", name, err.text);
        run(&f, &r, name);
    }
    plan_run_close(&r);
    json_decref(f.json);
}
END_TEST

/* ---- mixtures of experts ---- */

static void open_by_name(struct plan_run *r, const char *name)
{
    struct pt2_err err = {0};
    char path[400];

    snprintf(path, sizeof(path), "%s/python-exports/%s.pt2", test_data(), name);
    ck_assert_msg(plan_run_open(r, path, &err) == 0, "%s: %s", name, err.text);
}

/* 2 of 5 experts of 16 by 16 in each of 2 layers, by sorted groups and by a batch of matrices:
 * the same plan. */
START_TEST(test_python_exports_spell_experts_in_two_ways)
{
    struct plan_run grouped, batched;
    /* the token's row; q, k, v, o; the router; gate and up, down; the head */
    uint64_t n = 16 + 2 * (16 * (16 + 8 + 8 + 16) + 5 * 16 + 2 * (32 * 16 + 16 * 16)) + 40 * 16;

    open_by_name(&grouped, "5-mixtral-dynamic");
    open_by_name(&batched, "5-mixtral-batched");
    ck_assert_uint_eq(grouped.plan->weight_bytes, n * sizeof(float));
    ck_assert_uint_eq(batched.plan->weight_bytes, n * sizeof(float));
    ck_assert_uint_eq(grouped.plan->n_copies, 0);
    ck_assert_uint_eq(grouped.plan->n_steps, batched.plan->n_steps);
    for (size_t i = 0; i < grouped.plan->n_steps; i++) {
        const struct plan_step *a = &grouped.plan->steps[i], *b = &batched.plan->steps[i];

        ck_assert_int_eq(a->op, b->op);
        ck_assert_int_eq(memcmp(a->sizes, b->sizes, sizeof(a->sizes)), 0);
        if (a->op != PLAN_EXPERTS)
            continue;
        ck_assert(a->experts.n_experts == 5 && a->experts.n_chosen == 2);
        ck_assert(!a->experts.is_transposed && !b->experts.is_transposed);
        ck_assert_uint_eq(a->experts.n_out, b->experts.n_out);
        ck_assert_uint_eq(a->experts.k, b->experts.k);
    }
    plan_run_close(&grouped);
    plan_run_close(&batched);
}
END_TEST

static const char *const mixtures[] = {
    "5-mixtral-dynamic", "5-qwen2_moe-batched-dynamic", "5-gpt_oss-eager-dynamic",
    "5-glm4_moe-batched-dynamic", "5-qwen3_moe-bf16-fours"};

/* The same bits, by other numbers of threads and of tokens in a run. */
START_TEST(test_python_exports_experts_bits)
{
    static const struct {
        unsigned n_threads;
        int64_t chunk;
    } cuts[] = {{2, 1}, {1, 5}, {3, 12}};
    struct pt2_err err = {0};
    struct plan_run r;
    int64_t ids[24];
    float *alone, *again;
    size_t n;

    open_by_name(&r, mixtures[_i]);
    for (int64_t i = 0; i < 12 * r.plan->decoder.batch_size; i++)
        ids[i] = 3 + i * 7 % 37;
    n = (size_t)(12 * r.plan->decoder.batch_size * r.plan->decoder.vocab_size);
    alone = calloc(n, sizeof(*alone));
    again = calloc(n, sizeof(*again));
    plan_run_tokens(&r, ids, 12, 1, alone);
    for (size_t i = 0; i < ARRAY_LEN(cuts); i++) {
        ck_assert_msg(plan_run_threads(&r, cuts[i].n_threads, &err) == 0, "%s", err.text);
        memset(again, 0xff, n * sizeof(*again));
        plan_run_tokens(&r, ids, 12, cuts[i].chunk, again);
        ck_assert_msg(memcmp(alone, again, n * sizeof(*alone)) == 0,
                      "%s: %u threads, %lld tokens a run", mixtures[_i], cuts[i].n_threads,
                      (long long)cuts[i].chunk);
    }
    free(alone);
    free(again);
    plan_run_close(&r);
}
END_TEST

START_TEST(test_python_exports_are_there)
{
    ck_assert_int_ge(n_cases, 40);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("python_exports");
    TCase *core = tcase_create("core");

    find_cases();
    tcase_add_test(core, test_python_exports_are_there);
    tcase_add_loop_test(core, test_python_exports_logits, 0, n_cases);
    tcase_add_test(core, test_python_exports_spell_experts_in_two_ways);
    tcase_add_loop_test(core, test_python_exports_experts_bits, 0, (int)ARRAY_LEN(mixtures));
    suite_add_tcase(s, core);
    return suite_run(s);
}
