/* What the interpreter refuses, and where writes go: to session buffers and nothing else.
 *
 * tests/data/aten-refused/<case> are graphs with the error that each must give, when it is
 * opened or when it is run; here stand the ones that must run, and what a run leaves. */
#include "aten_case.h"
#include "cases.h"
#include "suite.h"

#include "base/log.h"

#include <sys/mman.h>

/* A case opened, and memory for its session buffers as they begin. */
struct opened {
    struct aten_case c;
    struct graph *graph;
    void *states[ATEN_CASE_MAX];
};

static void states_new(struct opened *o)
{
    for (uint32_t i = 0; i < o->graph->n_states; i++) {
        const struct cell *cell = &o->graph->cells[o->graph->states[i]];

        o->states[i] = calloc(1, cell->bytes);
        if (cell->tensor)
            memcpy(o->states[i], bridge_tensor_data(cell->tensor), cell->bytes);
    }
}

static int opened_init(struct opened *o, const json_t *json, struct pt2_err *err)
{
    struct aten_limits limits = {
        .n_threads = 1,
        .max_run_bytes =
            (uint64_t)json_integer_value(json_object_get(json, "max_run_bytes"))};

    *o = (struct opened){0};
    if (aten_case_init(&o->c, json, PT2_FLOAT32, err) < 0 ||
        graph_open(o->c.archive, o->c.program, &limits, &o->graph, err) < 0)
        return -1;
    states_new(o);
    return 0;
}

static void opened_done(struct opened *o)
{
    for (uint32_t i = 0; o->graph && i < o->graph->n_states; i++)
        free(o->states[i]);
    graph_free(o->graph);
    aten_case_done(&o->c);
}

static int opened_run(struct opened *o, struct bridge_tensor **ret_out,
                      struct pt2_err *err)
{
    return graph_run(o->graph, o->states, o->c.inputs, o->c.n_inputs, ret_out, 1, err);
}

/* ---- refusals ---- */

/* The parameter, the buffer's first contents and the inputs: what no run may change. */
static uint32_t fixed_sum(const struct opened *o)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < pt2_archive_n_payloads(o->c.archive); i++) {
        const struct pt2_record *r = pt2_archive_payload(o->c.archive, i)->record;
        const uint8_t *data = pt2_archive_data(o->c.archive, r);

        for (size_t k = 0; k < r->size; k++)
            sum = sum * 31 + data[k];
    }
    for (uint32_t i = 0; i < o->c.n_inputs; i++) {
        const struct graph_tensor *t = &o->c.inputs[i];
        uint64_t bytes = 0;

        ck_assert(pt2_tensor_bytes(t->dtype, t->n_dims, t->sizes, &bytes));
        for (uint64_t k = 0; k < bytes; k++)
            sum = sum * 31 + ((const uint8_t *)t->data)[k];
    }
    return sum;
}

static int refuse(const char *dir, struct pt2_err *err)
{
    char path[700];
    struct bridge_tensor *out = NULL;
    struct opened o;
    json_t *json;
    uint64_t before = bridge_memory();
    int r;

    snprintf(path, sizeof(path), "%s/graph.json", dir);
    json = aten_case_load(path);
    r = opened_init(&o, json, err);
    if (r == 0) {
        uint32_t sum = fixed_sum(&o);
        struct pt2_err again = {0};
        uint64_t held = bridge_memory();

        r = opened_run(&o, &out, err);
        bridge_tensor_free(out);
        /* It fails the same way again: nothing of the first run is left. */
        ck_assert_msg(r == opened_run(&o, &out, &again), "%s: runs in the end", dir);
        ck_assert_str_eq(again.text, err->text);
        ck_assert_uint_eq(fixed_sum(&o), sum);
        ck_assert_msg(bridge_memory() == held, "%s: memory is kept", dir);
    }
    opened_done(&o);
    json_decref(json);
    ck_assert_uint_eq(bridge_memory(), before);
    return r;
}

/* Catches: an op that runs though it is not on the table, an argument that is not looked
 * at, a view through which a weight is written, a size that is believed. */
START_TEST(test_aten_rules_refusals)
{
    cases_run("aten-refused", refuse);
}
END_TEST

/* ---- writes that are right ---- */

#define VALUES                                                                           \
    "\"values\":{\"b\":[\"float32\",[4,3]],\"x\":[\"float32\",[2,3]],"                   \
    "\"i\":[\"int64\",[2]],\"p\":[\"float32\",[2,2,3]],\"q\":[\"float32\",[2,3]],"       \
    "\"y\":[\"float32\",[4,3]],\"z\":[\"float32\",[4,3]]},"                              \
    "\"inputs\":[{\"name\":\"b\",\"kind\":\"buffer\",\"data\":[0,1,2,3,4,5,6,7,8,9,10,"  \
    "11]},{\"name\":\"x\",\"data\":[-1,-2,-3,-4,-5,-6]},{\"name\":\"i\",\"data\":[3,1]}],"
#define T(name, value) "{\"name\":\"" name "\",\"arg\":{\"as_tensor\":{\"name\":\"" value "\"}},\"kind\":1}"
#define A(name, arg)   "{\"name\":\"" name "\",\"arg\":{" arg "},\"kind\":1}"
#define NODE(op, out, ...)                                                               \
    "{\"target\":\"torch.ops.aten." op "\",\"inputs\":[" __VA_ARGS__ "],\"outputs\":[{"  \
    "\"as_tensor\":{\"name\":\"" out "\"}}],\"metadata\":{},\"name\":\"" out "\"}"

/* Rows 1 and 3 get x; z is what a later node of the graph sees. */
static const struct {
    const char *json;
    float want[12];
} writes[] = {
    {"{" VALUES "\"nodes\":["
     NODE("view.default", "p", T("self", "b") "," A("size", "\"as_ints\":[2,2,3]")) ","
     NODE("select.int", "q", T("self", "p") "," A("dim", "\"as_int\":1") "," A("index", "\"as_int\":1")) ","
     NODE("copy_.default", "y", T("self", "q") "," T("src", "x")) ","
     NODE("clone.default", "z", T("self", "b"))
     "],\"outputs\":[{\"name\":\"z\"}]}",
     {0, 1, 2, -1, -2, -3, 6, 7, 8, -4, -5, -6}},
    {"{" VALUES "\"nodes\":["
     NODE("index_copy_.default", "y", T("self", "b") "," A("dim", "\"as_int\":0") "," T("index", "i") "," T("source", "x")) ","
     NODE("alias.default", "z", T("self", "y"))
     "],\"outputs\":[{\"name\":\"z\"}]}",
     {0, 1, 2, -4, -5, -6, 6, 7, 8, -1, -2, -3}},
    {"{" VALUES "\"nodes\":["
     NODE("index_copy.default", "z", T("self", "b") "," A("dim", "\"as_int\":0") "," T("index", "i") "," T("source", "x"))
     "],\"outputs\":[{\"name\":\"z\",\"buffer\":\"b\"},{\"name\":\"z\"}]}",
     {0, 1, 2, -4, -5, -6, 6, 7, 8, -1, -2, -3}},
};

static void same_floats(const void *got, const float want[12])
{
    for (int i = 0; i < 12; i++)
        ck_assert_msg(((const float *)got)[i] == want[i], "element %d is %g, not %g", i,
                      ((const float *)got)[i], want[i]);
}

/* Catches: a write that goes to a copy, or to the archive, or is not seen by what comes
 * after it; a buffer that a view's write does not make one. */
START_TEST(test_aten_rules_writes_reach_the_buffer)
{
    json_t *json = json_loads(writes[_i].json, 0, NULL);
    struct bridge_tensor *out = NULL;
    struct pt2_err err = {0};
    struct opened o;
    uint32_t sum;

    ck_assert_ptr_nonnull(json);
    ck_assert_msg(opened_init(&o, json, &err) == 0, "%s", err.text);
    ck_assert_uint_eq(o.graph->n_states, 1);
    sum = fixed_sum(&o);
    for (int64_t call = 0; call < o.graph->n_calls; call++) { /* and after failures */
        o.graph->fail_at = call;
        ck_assert_int_eq(opened_run(&o, &out, &err), -1);
        ck_assert_int_eq(err.code, PT2_ERR_PROGRAM_FAILED);
        pt2_err_clear(&err);
    }
    o.graph->fail_at = -1;
    ck_assert_msg(opened_run(&o, &out, &err) == 0, "%s", err.text);
    same_floats(bridge_tensor_data(out), writes[_i].want);
    same_floats(o.states[0], writes[_i].want);
    ck_assert_uint_eq(fixed_sum(&o), sum);
    bridge_tensor_free(out);
    opened_done(&o);
    json_decref(json);
}
END_TEST

/* The last line behind the rule: memory of the archive is known as such, that of a
 * session is not. */
START_TEST(test_aten_rules_know_fixed_memory)
{
    static const char text[] =
        "{\"values\":{\"w\":[\"float32\",[4,3]],\"n\":[\"float32\",[4,3]],"
        "\"x\":[\"float32\",[4,3]]},\"inputs\":[{\"name\":\"w\",\"kind\":\"parameter\","
        "\"data\":[0,1,2,3,4,5,6,7,8,9,10,11]},{\"name\":\"n\",\"kind\":\"buffer\"},"
        "{\"name\":\"x\",\"data\":[0,0,0,0,0,0,0,0,0,0,0,0]}],"
        "\"nodes\":[],\"outputs\":[{\"name\":\"x\"}]}";
    json_t *json = json_loads(text, 0, NULL);
    struct pt2_err err = {0};
    struct opened o;

    ck_assert_msg(opened_init(&o, json, &err) == 0, "%s", err.text);
    for (uint32_t i = 0; i < 2; i++) /* w in the file, n zeros of our own */
        ck_assert(cells_are_fixed(o.graph,
                                  bridge_tensor_storage(o.graph->cells[i].tensor)));
    ck_assert(!cells_are_fixed(o.graph, o.c.inputs[0].data));
    ck_assert(!cells_are_fixed(o.graph, &err));
    opened_done(&o);
    json_decref(json);
}
END_TEST

/* Positions that went through a narrow type may have wrapped: then the rows that are
 * written are not those at cache_position. */
START_TEST(test_aten_rules_positions_in_a_narrow_type)
{
    static const int dtypes[] = {2 /* int8 */, 4 /* int32 */};
    static const char *const names[] = {"int8", "int32"};
    static const int want[] = {-1, 0};
    char text[2000];
    struct pt2_decoder decoder = {.cache_position = 1, .seq_len = 2};
    struct pt2_err err = {0};

    for (size_t i = 0; i < ARRAY_LEN(dtypes); i++) {
        struct opened o;
        json_t *json;

        snprintf(text, sizeof(text),
                 "{" VALUES "\"nodes\":["
                 NODE("_to_copy.default", "n", T("self", "i") "," A("dtype", "\"as_scalar_type\":%d")) ","
                 NODE("_to_copy.default", "m", T("self", "n") "," A("dtype", "\"as_scalar_type\":5")) ","
                 NODE("index_copy_.default", "y", T("self", "b") "," A("dim", "\"as_int\":0") "," T("index", "m") "," T("source", "x"))
                 "],\"outputs\":[{\"name\":\"y\"}]}", dtypes[i]);
        json = json_loads(text, 0, NULL);
        ck_assert_ptr_nonnull(json);
        json_object_set_new(json_object_get(json, "values"), "n",
                            json_pack("[s,[i]]", names[i], 2));
        json_object_set_new(json_object_get(json, "values"), "m",
                            json_pack("[s,[i]]", "int64", 2));
        ck_assert_msg(opened_init(&o, json, &err) == 0, "%s", err.text);
        ck_assert_int_eq(positions_find(o.graph, &decoder, &err), 0);
        ck_assert_int_eq(o.graph->cells[o.graph->states[0]].position_dim, want[i]);
        opened_done(&o);
        json_decref(json);
    }
}
END_TEST

/* Inputs of another shape or type are the caller's mistake, found before anything runs. */
START_TEST(test_aten_rules_inputs)
{
    json_t *json = json_loads(writes[0].json, 0, NULL);
    struct bridge_tensor *out = NULL;
    struct pt2_err err = {0};
    struct opened o;

    ck_assert_int_eq(opened_init(&o, json, &err), 0);
    o.c.inputs[0].sizes[0] = 3;
    ck_assert_int_eq(opened_run(&o, &out, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_INVALID);
    ck_assert_str_eq(err.text, "size 0 of input 'x': 3, not 2");
    pt2_err_clear(&err);
    o.c.inputs[0].sizes[0] = 2;
    o.c.inputs[0].dtype = PT2_INT32;
    ck_assert_int_eq(opened_run(&o, &out, &err), -1);
    ck_assert_str_eq(err.text, "input 'x' is float32 with 2 dimensions");
    pt2_err_clear(&err);
    o.c.inputs[0].dtype = PT2_FLOAT32;
    ck_assert_int_eq(
        graph_run(o.graph, o.states, o.c.inputs, 1, &out, 1, &err), -1);
    ck_assert_str_eq(err.text, "1 inputs, the program takes 2");
    opened_done(&o);
    json_decref(json);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("aten rules");
    TCase *core = tcase_create("core"), *errors = tcase_create("errors");

    tcase_set_timeout(core, 120);
    tcase_add_loop_test(core, test_aten_rules_writes_reach_the_buffer, 0,
                        ARRAY_LEN(writes));
    tcase_add_test(core, test_aten_rules_know_fixed_memory);
    tcase_add_test(core, test_aten_rules_positions_in_a_narrow_type);
    suite_add_tcase(s, core);
    tcase_set_timeout(errors, 300);
    tcase_add_test(errors, test_aten_rules_refusals);
    tcase_add_test(errors, test_aten_rules_inputs);
    suite_add_tcase(s, errors);
    return suite_run(s);
}
