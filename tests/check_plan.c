#include "native/plan.h"

#include "alloc_fail.h"
#include "cases.h"
#include "suite.h"

#include "plan_run.h"
#include "toy.h"

#include <fcntl.h>
#include <math.h>
#include <pt2/export.h>

/* ---- the demo, as pt2-export writes it ---- */

static void export_demo(const struct pt2_export_options *options)
{
    char folder[400];
    struct pt2_checkpoint *checkpoint = NULL;
    struct pt2_export *exp = NULL;
    struct pt2_err err = {0};
    uint8_t sha[32];
    uint64_t bytes;
    int fd = open(plan_scratch(), O_RDWR | O_CREAT | O_TRUNC, 0600);

    snprintf(folder, sizeof(folder), "%s/../../share/models/demo", test_data());
    ck_assert_msg(pt2_checkpoint_open(folder, &checkpoint, &err) == 0, "%s", err.text);
    ck_assert_msg(pt2_export_new(checkpoint, options, &exp, &err) == 0, "%s", err.text);
    ck_assert_msg(fd >= 0 &&
                      pt2_export_write(exp, fd, NULL, NULL, sha, &bytes, &err) == 0,
                  "%s", err.text);
    close(fd);
    pt2_export_free(exp);
    pt2_checkpoint_free(checkpoint);
}

static const struct pt2_export_options demos[] = {
    {.dtype = PT2_FLOAT32, .max_cache_len = 40},
    {.dtype = PT2_BFLOAT16, .max_cache_len = 40},
    {.dtype = PT2_FLOAT16, .max_cache_len = 40, .batch_size = 3},
    {.dtype = PT2_FLOAT32, .max_cache_len = 40, .seq_len = 4, .attn = PT2_ATTN_SDPA},
    {.dtype = PT2_FLOAT32, .max_cache_len = 40, .seq_len = 4, .batch_size = 4},
    {.dtype = PT2_BFLOAT16, .max_cache_len = 40, .dynamic_shapes = true},
    {.dtype = PT2_FLOAT32, .max_cache_len = 40, .dynamic_shapes = true, .batch_size = 2,
     .attn = PT2_ATTN_SDPA},
};

static const enum plan_op demo_layer[] = {
    PLAN_RMS_NORM, PLAN_LINEAR, PLAN_ROPE, PLAN_ROPE, PLAN_STORE, PLAN_STORE,  PLAN_ATTEND,
    PLAN_LINEAR,   PLAN_BINARY, PLAN_RMS_NORM, PLAN_LINEAR, PLAN_GATE, PLAN_LINEAR, PLAN_BINARY,
};

/* The demo has 4 layers of 4 heads of 24, 2 key heads, 96 and 256 wide, 258 tokens. */
static void check_demo_layer(const struct plan *p, size_t layer)
{
    const struct plan_step *s = &p->steps[1 + layer * ARRAY_LEN(demo_layer)];

    for (size_t i = 0; i < ARRAY_LEN(demo_layer); i++)
        ck_assert_msg(s[i].op == demo_layer[i], "layer %zu, step %zu is %d, not %d", layer, i,
                      (int)s[i].op, (int)demo_layer[i]);
    ck_assert_float_eq(s[0].norm.eps, 1e-5f);
    ck_assert_int_ge(s[0].norm.weight, 0);
    ck_assert_uint_eq(s[1].linear.n_outs, 3);
    ck_assert_uint_eq(s[1].linear.outs[0].n_out, 96);
    ck_assert_uint_eq(s[1].linear.outs[1].n_out, 48);
    ck_assert_uint_eq(s[1].linear.outs[2].n_out, 48);
    ck_assert(strstr(s[1].linear.outs[1].fqn, "self_attn.k_proj.weight") != NULL);
    ck_assert(s[2].rope.n_groups == 4 && s[2].rope.size == 24 && s[2].rope.n_rot == 24);
    ck_assert(s[3].rope.n_groups == 2 && !s[3].rope.interleaved);
    ck_assert(s[2].rope.cos != s[2].rope.sin && s[2].rope.cos == s[3].rope.cos);
    ck_assert(s[4].store.layer == layer && s[5].store.layer == layer);
    ck_assert(s[4].store.is_value != s[5].store.is_value);
    ck_assert(s[6].attend.layer == layer && s[6].attend.heads == 4 &&
              s[6].attend.kv_heads == 2 && s[6].attend.head_dim == 24 &&
              s[6].attend.window == 0 && s[6].attend.soft_cap == 0);
    ck_assert_float_eq(s[6].attend.scale, (float)(1 / sqrt(24)));
    ck_assert(s[8].binary == KERNEL_ADD);
    ck_assert(s[10].linear.n_outs == 2 && s[10].linear.outs[0].n_out == 256);
    ck_assert(s[11].unary == KERNEL_SILU);
    ck_assert(s[12].linear.k == 256);
}

START_TEST(test_plan_demo)
{
    const struct pt2_export_options *o = &demos[_i];
    size_t n_layer = ARRAY_LEN(demo_layer);
    struct pt2_err err = {0};
    struct plan_run r;
    const struct kernels *kernels;
    char *text;

    export_demo(o);
    ck_assert_msg(plan_run_open(&r, plan_scratch(), &err) == 0, "%s", err.text);
    ck_assert_uint_eq(r.plan->n_steps, 1 + 4 * n_layer + 3);
    ck_assert_int_eq(r.plan->steps[0].op, PLAN_EMBED);
    for (size_t layer = 0; layer < 4; layer++)
        check_demo_layer(r.plan, layer);
    ck_assert_int_eq(r.plan->steps[1 + 4 * n_layer].op, PLAN_RMS_NORM);
    ck_assert_int_eq(r.plan->steps[2 + 4 * n_layer].op, PLAN_LINEAR);
    ck_assert_int_eq(r.plan->steps[3 + 4 * n_layer].op, PLAN_LOGITS);
    ck_assert_uint_eq(r.plan->tail, 1 + 3 * n_layer + 7); /* after the last layer's ATTEND */
    ck_assert_uint_eq(r.plan->n_tables, 2);
    ck_assert_uint_eq(r.plan->n_copies, 0);
    ck_assert_int_eq(r.plan->dtype, o->dtype);
    ck_assert_int_eq(r.plan->caches[3].dtype, o->dtype);
    ck_assert_uint_le(r.plan->n_registers, 6); /* one of them for logits */
    ck_assert_int_eq(kernels_choose(&kernels, &err), 0);
    ck_assert_int_eq(plan_print(r.plan, kernels, &text, &err), 0);
    ck_assert_msg(strstr(text, "attend(") && strstr(text, "gate_silu(") &&
                      strstr(text, "for rows whose logits are wanted:") &&
                      strstr(text, "model.model.layers.3.mlp.down_proj.weight"),
                  "%s", text);
    free(text);
    plan_run_close(&r);
    unlink(plan_scratch());
}
END_TEST

/* ---- toys: the same logits as tests/toy.c computes ---- */

static const struct toy toys[] = {
    {.seq_len = 1},
    {.seq_len = 3},
    {.seq_len = 0},
    {.seq_len = 0, .batch = 2},
    {.seq_len = 4, .batch = 4},
    {.seq_len = 1, .batch = 3, .dtype = PT2_BFLOAT16},
    {.seq_len = 1, .dtype = PT2_FLOAT16},
    {.seq_len = 1, .counters = true},
    {.seq_len = 4, .counters = true},
    {.seq_len = 0, .last_row = true},
    {.seq_len = 4, .batch = 2, .last_row = true},
    {.seq_len = 1, .dim = 20, .vocab = 37, .length = 23},
    {.seq_len = 1, .updates = true},
    {.seq_len = 0, .updates = true, .batch = 2},
    {.seq_len = 1, .updates = true, .not_causal = true}, /* one row sees what it may */
};

/* Where the kernels round activations as torch does, logits are as good as bfloat16 is. */
static double tolerance(const struct toy *toy)
{
    const struct kernels *kernels;

    ck_assert_int_eq(kernels_choose(&kernels, NULL), 0);
    return toy->dtype == PT2_BFLOAT16 && streq(kernels->name, "avx512bf16") ? 1e-2 : 1e-4;
}

START_TEST(test_plan_toys)
{
    const struct toy *toy = &toys[_i];
    int64_t batch = toy->batch ? toy->batch : 1, vocab = toy->vocab ? toy->vocab : 11, n = 13;
    struct pt2_err err = {0};
    struct plan_run r;
    int64_t *ids = calloc((size_t)(batch * n), sizeof(*ids));
    float *logits = calloc((size_t)(batch * n * vocab), sizeof(*logits));
    double *want = calloc((size_t)vocab, sizeof(*want));

    toy_write(toy, plan_scratch());
    ck_assert_msg(plan_run_open(&r, plan_scratch(), &err) == 0, "%s", err.text);
    for (int64_t i = 0; i < batch * n; i++)
        ids[i] = (i * 5 + i / n * 3 + 1) % vocab;
    for (int64_t chunk = 1; chunk <= n; chunk += 4) {
        plan_run_tokens(&r, ids, n, chunk, logits);
        for (int64_t b = 0; b < batch; b++)
            for (int64_t i = 0; i < n; i++) {
                toy_logits(toy, ids + b * n, i + 1, want);
                for (int64_t v = 0; v < vocab; v++) {
                    double got = (double)logits[(b * n + i) * vocab + v];

                    ck_assert_msg(fabs(got - want[v]) < tolerance(toy) * (1 + fabs(want[v])),
                                  "row %lld at %lld, token %lld: %g, not %g", (long long)b,
                                  (long long)i, (long long)v, got, want[v]);
                }
            }
    }
    plan_run_close(&r);
    unlink(plan_scratch());
    free(ids);
    free(logits);
    free(want);
}
END_TEST

/* ---- a row's logits, however the work is cut ---- */

/* `want` again, by other numbers of threads and of tokens in a run. */
static void check_cuts(struct plan_run *r, const int64_t *ids, int64_t n, const float *want)
{
    static const struct {
        unsigned n_threads;
        int64_t chunk;
    } cuts[] = {{3, 1}, {1, 7}, {3, 16}, {2, 100}, {3, 128}};
    size_t n_logits =
        (size_t)(r->plan->decoder.batch_size * n * r->plan->decoder.vocab_size);
    float *logits = malloc(n_logits * sizeof(*logits));
    struct pt2_err err = {0};

    for (size_t i = 0; i < ARRAY_LEN(cuts); i++) {
        ck_assert_msg(plan_run_threads(r, cuts[i].n_threads, &err) == 0, "%s", err.text);
        memset(logits, 0, n_logits * sizeof(*logits));
        plan_run_tokens(r, ids, n, cuts[i].chunk, logits);
        ck_assert_msg(memcmp(logits, want, n_logits * sizeof(*logits)) == 0,
                      "%u threads, %lld tokens a run", cuts[i].n_threads,
                      (long long)cuts[i].chunk);
    }
    free(logits);
}

/* A loop of n cases is told by every instruction set: case i of it, and the set is in force. */
static int case_of(int i, int n)
{
    setenv("PT2_ISA", kernels_at((size_t)(i / n))->name, 1);
    return i % n;
}

static int n_cases(int n)
{
    int n_sets = 1;

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* ten times slower */
    while (kernels_at((size_t)n_sets))
        n_sets++;
#endif
    return n_sets * n;
}

START_TEST(test_plan_cuts_of_demo)
{
    struct pt2_export_options o = {.dtype = case_of(_i, 2) ? PT2_BFLOAT16 : PT2_FLOAT32,
                                   .max_cache_len = 300,
                                   .dynamic_shapes = true,
                                   .batch_size = 2};
    int64_t ids[2 * 290];
    float *want = malloc(ARRAY_LEN(ids) * 258 * sizeof(*want));
    struct pt2_err err = {0};
    struct plan_run r;

    export_demo(&o);
    ck_assert_msg(plan_run_open(&r, plan_scratch(), &err) == 0, "%s", err.text);
    for (size_t i = 0; i < ARRAY_LEN(ids); i++)
        ids[i] = (int64_t)(i * 7 + i / 11) % 258;
    plan_run_tokens(&r, ids, 290, 1, want);
    check_cuts(&r, ids, 290, want);
    free(want);
    plan_run_close(&r);
    unlink(plan_scratch());
}
END_TEST

/* The second of the batch in a cache of whole numbers: near what it was, and the same by all
 * cuts; the first, beside it, bit for bit what it was. */
static void check_int8_beside(struct plan_run *r, const int64_t *ids, const float *plain)
{
    size_t n = 600 * 37;
    float *logits = malloc(2 * n * sizeof(*logits)), most = 0;
    struct pt2_err err = {0};

    ck_assert_int_eq(plan_run_form(r, 1, BLOCKS_INT8, &err), 0);
    plan_run_tokens(r, ids, 600, 1, logits);
    ck_assert_mem_eq(logits, plain, n * sizeof(*logits));
    for (size_t i = n; i < 2 * n; i++)
        most = fmaxf(most, fabsf(logits[i] - plain[i]));
    ck_assert_msg(most > 1e-6f && most < 0.05f, "%g", most);
    check_cuts(r, ids, 600, logits);
    free(logits);
}

/* The toy has no positions, so that a window of the last tokens is the toy on these alone. */
START_TEST(test_plan_cuts_of_long_contexts)
{
    static const int64_t windows[] = {0, 300, 256, 5};
    static const struct toy toy = {.length = 700, .vocab = 37, .dim = 20, .batch = 2};
    int64_t ids[2 * 600], window = windows[case_of(_i, 4)];
    float *logits = malloc(ARRAY_LEN(ids) * 37 * sizeof(*logits));
    double want[37];
    struct pt2_err err = {0};
    struct plan_run r;

    toy_write(&toy, plan_scratch());
    ck_assert_msg(plan_run_open(&r, plan_scratch(), &err) == 0, "%s", err.text);
    for (size_t i = 0; i < r.plan->n_steps; i++)
        if (r.plan->steps[i].op == PLAN_ATTEND)
            r.plan->steps[i].attend.window = window;
    for (size_t i = 0; i < ARRAY_LEN(ids); i++)
        ids[i] = (int64_t)(i * 5 + i / 13 * 3 + 1) % 37;
    plan_run_tokens(&r, ids, 600, 1, logits);
    for (int64_t i = 0; i < 600; i += i < 250 || i > 265 ? 9 : 1) {
        int64_t n = window ? MIN(window, i + 1) : i + 1;

        toy_logits(&toy, ids + 600 + i + 1 - n, n, want);
        for (int64_t v = 0; v < 37; v++)
            ck_assert_double_eq_tol(logits[(600 + i) * 37 + v], want[v],
                                    1e-4 * (1 + fabs(want[v])));
    }
    check_cuts(&r, ids, 600, logits);
    check_int8_beside(&r, ids, logits);
    free(logits);
    plan_run_close(&r);
    unlink(plan_scratch());
}
END_TEST

START_TEST(test_plan_toys_refused)
{
    static const struct {
        struct toy toy;
        const char *text;
    } refused[] = {
        {{.seq_len = 1, .rolls = true}, "copy_"},
        {{.seq_len = 1, .filled = true}, "does not begin with zeros"},
        {{.seq_len = 0, .updates = true, .start = -1}, "is not the run's first position"},
        {{.seq_len = 3, .updates = true, .start = 1}, "is not the run's first position"},
        {{.seq_len = 0, .updates = true, .not_causal = true}, "or neither"},
    };
    struct pt2_err err = {0};
    struct plan_run r;
    int result;

    toy_write(&refused[_i].toy, plan_scratch());
    result = plan_run_open(&r, plan_scratch(), &err);
    if (_i == 0 && result < 0) /* some op of the rolling cache, whichever comes first */
        ck_assert_msg(err.code == PT2_ERR_PROGRAM_REFUSED && strstr(err.text, "node '"), "%s",
                      err.text);
    else
        ck_refused(result, &err, refused[_i].text);
    plan_run_close(&r);
    unlink(plan_scratch());
}
END_TEST

START_TEST(test_plan_of_too_many_positions)
{
    const struct pt2_export_options options = {.dtype = PT2_BFLOAT16,
                                               .max_cache_len = PLAN_MAX_POSITIONS + 1};
    struct pt2_err err = {0};
    struct plan_run r;
    int result;

    export_demo(&options);
    result = plan_run_open(&r, plan_scratch(), &err);
    ck_refused(result, &err, "a plan has at most 1048576");
    plan_run_close(&r);
    unlink(plan_scratch());
}
END_TEST

/* Each allocation fails in turn. */
START_TEST(test_plan_no_memory)
{
    struct toy toy = {.seq_len = 0, .length = 3, .batch = 2};
    struct pt2_archive *archive;
    struct pt2_program *program;
    struct pt2_err err = {0};

    toy_write(&toy, plan_scratch());
    ck_assert(pt2_archive_open(plan_scratch(), &archive, &err) == 0 &&
              pt2_program_read(archive, &program, &err) == 0);
    for (alloc_fail_begin(); alloc_fail_next();) {
        struct plan *plan = NULL;
        int r;

        pt2_err_clear(&err);
        r = plan_compile(archive, program, &plan, &err);
        if (alloc_failed()) {
            ck_assert_int_eq(r, -1);
            ck_assert_msg(err.code == PT2_ERR_NOMEM, "%s: %s", pt2_error_name(err.code),
                          err.text);
        }
        plan_free(plan);
    }
    ck_assert_int_gt(alloc_fail_count, 40);
    pt2_program_free(program);
    pt2_archive_free(archive);
    unlink(plan_scratch());
}
END_TEST

int main(void)
{
    Suite *s = suite_create("plan");
    TCase *core = tcase_create("core"), *errors = tcase_create("errors");

    tcase_set_timeout(core, 60);
    tcase_add_loop_test(core, test_plan_demo, 0, ARRAY_LEN(demos));
    tcase_add_loop_test(core, test_plan_toys, 0, ARRAY_LEN(toys));
    tcase_add_loop_test(core, test_plan_cuts_of_demo, 0, n_cases(2));
    tcase_add_loop_test(core, test_plan_cuts_of_long_contexts, 0, n_cases(4));
    tcase_set_timeout(errors, 60);
    tcase_add_test(errors, test_plan_no_memory);
    tcase_add_test(errors, test_plan_of_too_many_positions);
    tcase_add_loop_test(errors, test_plan_toys_refused, 0, 5);
    suite_add_tcase(s, core);
    suite_add_tcase(s, errors);
    return suite_run(s);
}
