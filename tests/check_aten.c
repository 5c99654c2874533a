/* Every op of tbl_ops.h, called by the interpreter, against what torch 2.13 answers.
 *
 * tests/data/aten-golden/make.py made the cases with real torch; each is run in the dtypes
 * that torch has it in.  float32 may differ by rounding; bfloat16 and float16 may lie one
 * rounding from float32's answer, or where torch's own kernel (libtorch 2.5 and later) is
 * off by more, as far as that one.  What moves or compares elements is equal. */
#include "aten_case.h"
#include "cases.h"
#include "suite.h"

#include "base/log.h"

#include <float.h>
#include <math.h>

#define F32_TOLERANCE 1e-6 /* of the larger of the element and the tensor's mean square */

static const char *const groups[] = {"arithmetic", "attention", "groups",    "llama",
                                     "logic",      "move",      "quantised", "reduce",
                                     "sizes",      "write"};

static json_t *group_load(const char *group)
{
    char path[600];

    snprintf(path, sizeof(path), "%s/aten-golden/%s.json", test_data(), group);
    return aten_case_load(path);
}

/* ---- one result ---- */

/* The distance between neighbours of x in the dtype. */
static double unit_of(enum pt2_dtype dtype, double x)
{
    int bits = dtype == PT2_BFLOAT16 ? 8 : 11, least = dtype == PT2_BFLOAT16 ? -133 : -24;
    int exponent;

    frexp(x, &exponent);
    return ldexp(1, x == 0 ? least : MAX(exponent - bits, least));
}

struct wanted {
    const char *name; /* of the case */
    const json_t *data;
    double mean; /* root of the mean square of the finite elements */
    bool is_exact;
    json_int_t n_roundings; /* in half precision */
};

static bool is_close(const struct wanted *w, enum pt2_dtype dtype, double want,
                     double got)
{
    if (isnan(want) || isnan(got))
        return isnan(want) && isnan(got);
    if (pt2_dtype_is_float(dtype) && w->is_exact)
        return got == aten_case_round(dtype, want);
    if (want == got || !pt2_dtype_is_float(dtype))
        return want == got;
    if (dtype == PT2_FLOAT32 || dtype == PT2_FLOAT64)
        return fabs(want - got) <= F32_TOLERANCE * fmax(fabs(want), w->mean);
    return fabs(want - got) <= (double)w->n_roundings * unit_of(dtype, want);
}

static double mean_of(const json_t *data)
{
    double sum = 0, n = 0;
    const json_t *item;
    size_t i;

    json_array_foreach(data, i, item)
    {
        double x = aten_case_number(item);

        sum += isfinite(x) ? x * x : 0;
        n += isfinite(x);
    }
    return n ? sqrt(sum / n) : 0;
}

/* Element i of the tensor, in row-major order, whatever its strides. */
static double element_of(struct bridge_tensor *t, int64_t i)
{
    const char *data = bridge_tensor_data(t);
    int64_t at = 0;

    for (unsigned d = bridge_tensor_n_dims(t); d-- > 0;) {
        at += i % bridge_tensor_size(t, d) * bridge_tensor_stride(t, d);
        i /= bridge_tensor_size(t, d);
    }
    return aten_case_read(bridge_tensor_dtype(t),
                          data + at * (int64_t)pt2_dtype_size(bridge_tensor_dtype(t)));
}

static void compare(const struct wanted *w, struct bridge_tensor *t,
                    const struct pt2_tensor_meta *meta)
{
    enum pt2_dtype dtype = bridge_tensor_dtype(t);
    int64_t n = 1;

    ck_assert_msg(dtype == meta->dtype, "%s: answers %s, not %s", w->name,
                  pt2_dtype_name(dtype), pt2_dtype_name(meta->dtype));
    ck_assert_msg(bridge_tensor_n_dims(t) == meta->n_dims, "%s: %u dimensions", w->name,
                  bridge_tensor_n_dims(t));
    for (unsigned d = 0; d < meta->n_dims; d++) {
        ck_assert_msg(bridge_tensor_size(t, d) == meta->sizes[d].value,
                      "%s: size %u is %lld", w->name, d,
                      (long long)bridge_tensor_size(t, d));
        n *= meta->sizes[d].value;
    }
    ck_assert_int_eq(n, (int64_t)json_array_size(w->data));
    for (int64_t i = 0; i < n; i++) {
        double want = aten_case_number(json_array_get(w->data, (size_t)i)),
               got = element_of(t, i);

        ck_assert_msg(is_close(w, dtype, want, got), "%s in %s: element %lld is %.9g, "
                      "torch says %.9g", w->name, pt2_dtype_name(dtype), (long long)i,
                      got, want);
    }
}

/* ---- one case ---- */

static void compare_all(const json_t *c, const struct aten_case *run, size_t nth,
                        struct bridge_tensor **outs)
{
    const json_t *outputs = json_object_get(c, "outputs"), *output;
    struct wanted w = {.name = json_string_value(json_object_get(c, "name")),
                       .is_exact = json_is_true(json_object_get(c, "exact")),
                       .n_roundings = 1};
    size_t i;

    /* Before 2.5 all of it is computed in float32 and rounded once. */
    if (nth > 0 && bridge_version() >= 205)
        w.n_roundings = json_integer_value(
            json_array_get(json_object_get(c, "roundings"), nth - 1));
    json_array_foreach(outputs, i, output)
    {
        const char *name = json_string_value(json_object_get(output, "name"));
        int64_t value = pt2_program_find_value(run->program, name);

        w.data = json_object_get(output, "data");
        w.mean = mean_of(w.data);
        ck_assert_ptr_nonnull(outs[i]);
        compare(&w, outs[i], &pt2_program_value(run->program, (uint32_t)value)->meta);
    }
}

static void run_in(const json_t *c, enum pt2_dtype dtype, size_t nth)
{
    const char *name = json_string_value(json_object_get(c, "name"));
    size_t n_outputs = json_array_size(json_object_get(c, "outputs"));
    struct bridge_tensor *outs[ATEN_CASE_MAX] = {NULL};
    struct aten_limits limits = {.n_threads = 1};
    struct aten_case run, again;
    struct pt2_err err = {0};
    struct graph *graph = NULL;
    uint64_t before = bridge_memory();

    ck_assert_msg(aten_case_init(&run, c, dtype, &err) == 0, "%s: %s", name, err.text);
    ck_assert(aten_case_init(&again, c, dtype, &err) == 0);
    ck_assert_msg(graph_open(NULL, run.program, &limits, &graph, &err) == 0, "%s in %s: %s",
                  name, pt2_dtype_name(dtype), err.text);
    for (int round = 0; round < 2; round++) { /* nothing stays of the first run */
        ck_assert_msg(graph_run(graph, NULL, run.inputs, run.n_inputs, outs,
                                (uint32_t)n_outputs, &err) == 0,
                      "%s in %s: %s", name, pt2_dtype_name(dtype), err.text);
        compare_all(c, &run, nth, outs);
        for (size_t i = 0; i < n_outputs; i++)
            bridge_tensor_free(outs[i]);
    }
    for (uint32_t i = 0; i < run.n_inputs; i++) { /* they were only read */
        size_t n = pt2_dtype_size(run.inputs[i].dtype);

        for (unsigned d = 0; d < run.inputs[i].n_dims; d++)
            n *= (size_t)run.inputs[i].sizes[d];
        ck_assert_msg(memcmp(run.inputs[i].data, again.inputs[i].data, n) == 0,
                      "%s: input %u was written", name, i);
    }
    graph_free(graph);
    ck_assert_msg(bridge_memory() == before, "%s: memory is kept", name);
    aten_case_done(&again);
    aten_case_done(&run);
}

/* Catches: an argument in another's place, a default of ours that is not torch's, a
 * promotion or a decomposition that differs, a tensor that is not freed. */
START_TEST(test_aten_answers_as_torch)
{
    json_t *file = group_load(groups[_i]), *c, *dtype;
    size_t i, k;

    ck_assert_uint_gt(json_array_size(json_object_get(file, "cases")), 5);
    json_array_foreach(json_object_get(file, "cases"), i, c)
    {
        json_array_foreach(json_object_get(c, "dtypes"), k, dtype)
        {
            run_in(c, pt2_dtype_from_name(json_string_value(dtype)), k);
        }
    }
    json_decref(file);
}
END_TEST

/* ---- the table ---- */

static void mark_called(const json_t *file, bool *called)
{
    const json_t *c, *node;
    size_t i, k;

    json_array_foreach(json_object_get(file, "cases"), i, c)
    {
        json_array_foreach(json_object_get(c, "nodes"), k, node)
        {
            const struct op *op =
                op_find(json_string_value(json_object_get(node, "target")));

            if (op)
                called[op - op_at(0)] = true;
        }
    }
}

/* Catches: an op that was added to the table and never tried. */
START_TEST(test_aten_every_op_has_a_case)
{
    AUTO_PTR bool *called = calloc(op_count(), sizeof(*called));

    for (size_t i = 0; i < ARRAY_LEN(groups); i++) {
        json_t *file = group_load(groups[i]);

        mark_called(file, called);
        json_decref(file);
    }
    for (size_t i = 0; i < op_count(); i++)
        ck_assert_msg(called[i], "%s.%s has no case in tests/data/aten-golden",
                      op_at(i)->name, op_at(i)->overload);
}
END_TEST

/* Catches: an op that is looked up anew, and kept, at each call of a step. */
START_TEST(test_aten_op_is_found_once)
{
    const struct bridge_op *op = bridge_op_find("aten::add", "Tensor");

    ck_assert_ptr_nonnull(op);
    ck_assert_ptr_eq(bridge_op_find("aten::add", "Tensor"), op);
    ck_assert_ptr_ne(bridge_op_find("aten::add", "Scalar"), op);
    ck_assert_ptr_null(bridge_op_find("aten::add", "Nonsense"));
    ck_assert_ptr_null(bridge_op_find("aten::nonsense", ""));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("aten");
    TCase *core = tcase_create("core");

    tcase_set_timeout(core, 300);
    tcase_add_loop_test(core, test_aten_answers_as_torch, 0, ARRAY_LEN(groups));
    tcase_add_test(core, test_aten_every_op_has_a_case);
    tcase_add_test(core, test_aten_op_is_found_once);
    suite_add_tcase(s, core);
    return suite_run(s);
}
