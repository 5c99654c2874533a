#include "seed.h"
#include "suite.h"

#include "alloc_fail.h"
#include "base/util.h"
#include "cases.h"

#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <pt2/program.h>
#include <sys/mman.h>

#define OK(call) ck_assert_msg((call) == 0, "%s", err.text)

/* What torch.export.save wrote: tests/data/model-json/make.py says with which versions.
 * tiny.json is made by hand, as small as a decoder gets; in tiny-modes.json its last node
 * stands within autocast within no_grad. */
static const struct {
    const char *name;
    int64_t batch_size, seq_len, max_seq_len, n_layers;
    uint32_t n_nodes, n_inputs;
} files[] = {
    {"llama", 1, 1, 1, 1, 120, 18},
    {"llama-dynamic", 1, 0, 16, 1, 121, 18},
    {"llama-batch2-seq4", 2, 4, 4, 1, 120, 18},
    {"mistral-window", 1, 1, 1, 1, 129, 18},
    {"qwen2-bfloat16", 1, 1, 1, 2, 220, 36},
    {"tiny", 1, 0, 8, 1, 6, 5},
};

static struct pt2_err err;
static char *json; /* the file read last */
static size_t json_len;
static struct pt2_program *program;

static void setup(void)
{
    err = (struct pt2_err){0};
}

static void teardown(void)
{
    free(json);
    pt2_program_free(program);
    json = NULL;
    program = NULL;
}

static void slurp(const char *path)
{
    FILE *f = fopen(path, "rb");
    long len;

    ck_assert_msg(f && fseek(f, 0, SEEK_END) == 0 && (len = ftell(f)) >= 0, "%s", path);
    rewind(f);
    free(json);
    json = malloc((size_t)len + 1);
    json_len = fread(json, 1, (size_t)len, f);
    ck_assert_uint_eq(json_len, (size_t)len);
    fclose(f);
}

static void load(const char *name)
{
    char path[400];

    snprintf(path, sizeof(path), "%s/model-json/%s.json", test_data(), name);
    slurp(path);
    pt2_program_free(program);
    program = NULL;
    OK(pt2_program_parse(json, json_len, &program, &err));
}

/* The graph's text; free it. */
static char *text_of(const struct pt2_program *p)
{
    char *text = NULL;

    OK(pt2_program_print(p, &text, &err));
    return text;
}

static void ck_has_line(const char *text, const char *line)
{
    const char *at = strstr(text, line);

    ck_assert_msg(at && (at == text || at[-1] == '\n') && at[strlen(line)] == '\n',
                  "no line '%s' in\n%.4000s", line, text);
}

/* ---- reading ---- */

START_TEST(test_program_python_exports_are_read)
{
    load(files[_i].name);
    ck_assert_uint_eq(pt2_program_n_inputs(program), files[_i].n_inputs);
    ck_assert_uint_eq(pt2_program_n_nodes(program), files[_i].n_nodes);
    for (uint32_t i = 0; i < pt2_program_n_values(program); i++) {
        const struct pt2_value *value = pt2_program_value(program, i);

        ck_assert_int_eq(pt2_program_find_value(program, value->name), i);
        ck_assert_int_lt(value->node, (int64_t)files[_i].n_nodes);
        if (value->kind == PT2_VALUE_TENSOR)
            ck_assert(value->meta.dtype && value->meta.device);
    }
    ck_assert_int_eq(pt2_program_find_value(program, "no such value"), -1);
}
END_TEST

START_TEST(test_program_decoder_facts)
{
    struct pt2_decoder d;

    load(files[_i].name);
    OK(pt2_program_decoder(program, &d, &err));
    ck_assert_uint_eq(d.input_ids, 0);
    ck_assert_uint_eq(d.cache_position, 1);
    ck_assert_int_eq(d.batch_size, files[_i].batch_size);
    ck_assert_int_eq(d.seq_len, files[_i].seq_len);
    ck_assert_int_eq(d.max_seq_len, files[_i].max_seq_len);
    ck_assert_int_eq(d.max_cache_len, streq(files[_i].name, "tiny") ? 8 : 16);
    ck_assert_int_eq(d.vocab_size, streq(files[_i].name, "tiny") ? 8 : 32);
    ck_assert_int_eq(d.n_layers, files[_i].n_layers);
    ck_assert(d.logits_all_rows);
}
END_TEST

START_TEST(test_program_arguments_are_read)
{
    const struct pt2_node *node = NULL;
    int64_t value;

    load("llama");
    value = pt2_program_find_value(program, "scaled_dot_product_attention");
    ck_assert_int_ge(value, 0);
    node = pt2_program_node(program, (uint32_t)pt2_program_value(program, value)->node);
    ck_assert_str_eq(node->target, "torch.ops.aten.scaled_dot_product_attention.default");
    ck_assert_str_eq(node->inputs[0].name, "query");
    ck_assert_int_eq(node->inputs[0].kind, 1);
    ck_assert_str_eq(node->inputs[node->n_inputs - 1].name, "scale");
    ck_assert_int_eq(node->inputs[node->n_inputs - 1].kind, 2);
    ck_assert_int_eq(node->inputs[node->n_inputs - 1].arg.kind, PT2_ARG_FLOAT);
    ck_assert(node->inputs[node->n_inputs - 1].arg.f == 0.5); /* 4^-0.5 */
}
END_TEST

/* srepr comes out as plain text: what API.md answers as a shape. */
START_TEST(test_program_symbolic_sizes_are_plain_text)
{
    const struct pt2_value *logits;
    const struct pt2_range *range;

    load("llama-dynamic");
    logits = pt2_program_value(program, pt2_program_output(program, 0)->arg.value);
    ck_assert_uint_eq(pt2_program_n_ranges(program), 1);
    range = pt2_program_range(program, 0);
    ck_assert_int_eq(range->min, 1);
    ck_assert_int_eq(range->max, 16);
    ck_assert_str_eq(logits->meta.sizes[1].expr, range->symbol);
    ck_assert_int_eq(logits->meta.sizes[1].value, 3); /* the hint */
    ck_assert(strncmp(logits->meta.strides[0].expr, "32*", 3) == 0);
    ck_assert_str_eq(logits->meta.strides[0].expr + 3, range->symbol);
    ck_assert_int_eq(logits->meta.strides[0].value, 96);
}
END_TEST

/* The same members in any order: a reader that needs Python's fails here. */
START_TEST(test_program_members_come_in_any_order)
{
    AUTO_PTR char *expected = NULL, *got = NULL, *turned = NULL;
    json_t *root, *module, *graph, *signature;

    load("tiny");
    expected = text_of(program);
    root = json_loadb(json, json_len, 0, NULL);
    module = json_object_get(root, "graph_module");
    graph = json_incref(json_object_get(module, "graph"));
    json_object_del(module, "graph"); /* now behind the signature */
    json_object_set_new(module, "graph", graph);
    for (int i = 0; i < 2; i++) { /* nodes behind the tables, inputs last */
        const char *name = i ? "inputs" : "nodes";
        json_t *member = json_incref(json_object_get(graph, name));

        json_object_del(graph, name);
        json_object_set_new(graph, name, member);
    }
    signature = json_object_get(module, "signature");
    json_object_set_new(signature, "unknown", json_pack("{s:[i,{s:n}]}", "x", 1, "y"));
    graph = json_incref(json_object_get(signature, "input_specs"));
    json_object_del(signature, "input_specs");
    json_object_set_new(signature, "input_specs", graph);
    turned = json_dumps(root, JSON_INDENT(3));
    json_decref(root);
    pt2_program_free(program);
    program = NULL;
    OK(pt2_program_parse(turned, strlen(turned), &program, &err));
    got = text_of(program);
    ck_assert_str_eq(got, expected);
}
END_TEST

/* ---- writing ---- */

START_TEST(test_program_write_and_read_again)
{
    AUTO_PTR char *first = NULL, *second = NULL, *before = NULL, *after = NULL;
    size_t n_first, n_second;

    load(files[_i].name);
    before = text_of(program);
    OK(pt2_program_to_json(program, &first, &n_first, &err));
    pt2_program_free(program);
    program = NULL;
    OK(pt2_program_parse(first, n_first, &program, &err));
    after = text_of(program);
    ck_assert_str_eq(before, after);
    OK(pt2_program_to_json(program, &second, &n_second, &err));
    ck_assert_uint_eq(n_first, n_second);
    ck_assert_mem_eq(first, second, n_first);
}
END_TEST

/* What torch.export.load needs beside the graph (doc/pt2-format.md), as Python wrote it.
 */
START_TEST(test_program_writes_what_python_writes)
{
    AUTO_PTR char *text = NULL;
    json_t *ours, *theirs, *a, *b;
    size_t len;

    load(files[_i].name);
    OK(pt2_program_to_json(program, &text, &len, &err));
    ours = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
    theirs = json_loadb(json, json_len, 0, NULL);
    ck_assert(ours && theirs);
    ck_assert(json_equal(json_object_get(ours, "verifiers"),
                         json_object_get(theirs, "verifiers")));
    ck_assert(json_equal(json_object_get(ours, "range_constraints"),
                         json_object_get(theirs, "range_constraints")));
    a = json_object_get(ours, "graph_module");
    b = json_object_get(theirs, "graph_module");
    ck_assert(
        json_equal(json_object_get(a, "signature"), json_object_get(b, "signature")));
    if (!streq(files[_i].name, "tiny"))
        ck_assert(json_equal(json_array_get(json_object_get(a, "module_call_graph"), 0),
                             json_array_get(json_object_get(b, "module_call_graph"), 0)));
    a = json_object_get(a, "graph");
    b = json_object_get(b, "graph");
    ck_assert(json_equal(json_object_get(a, "inputs"), json_object_get(b, "inputs")));
    ck_assert(json_equal(json_object_get(a, "outputs"), json_object_get(b, "outputs")));
    if (pt2_program_n_ranges(program) == 0) /* expressions are spelled otherwise */
        ck_assert(json_equal(json_object_get(a, "tensor_values"),
                             json_object_get(b, "tensor_values")));
    for (size_t i = 0; i < json_array_size(json_object_get(b, "nodes")); i++) {
        json_t *x = json_array_get(json_object_get(a, "nodes"), i),
               *y = json_array_get(json_object_get(b, "nodes"), i);

        json_object_set_new(y, "metadata", json_object());
        json_object_del(y, "is_hop_single_tensor_return");
        ck_assert_msg(json_equal(x, y), "node %zu", i);
    }
    json_decref(ours);
    json_decref(theirs);
}
END_TEST

/* A graph within a node takes the node's place, what it takes and returns by aliases. */
START_TEST(test_program_graphs_within_nodes)
{
    AUTO_PTR char *text = NULL;

    load("tiny-modes");
    ck_assert_uint_eq(pt2_program_n_nodes(program), 12);
    text = text_of(program);
    ck_assert_msg(
        strstr(text,
               "%submod_1.embedding : float32[1, s0, 4] = aten.alias.default(%embedding)\n"
               "%submod_1.p_w : float32[8, 4] = aten.alias.default(%p_w)\n"
               "%submod_1.submod_1.x : float32[1, s0, 4] = "
               "aten.alias.default(%submod_1.embedding)\n"
               "%submod_1.submod_1.w : float32[8, 4] = aten.alias.default(%submod_1.p_w)\n"
               "%submod_1.submod_1.linear : float32[1, s0, 8] = "
               "aten.linear.default(%submod_1.submod_1.x, %submod_1.submod_1.w)\n"
               "%submod_1.linear : float32[1, s0, 8] = "
               "aten.alias.default(%submod_1.submod_1.linear)\n"
               "%linear : float32[1, s0, 8] = aten.alias.default(%submod_1.linear)\n"
               "return %linear\n") != NULL,
        "%s", text);
}
END_TEST

START_TEST(test_program_lines_of_python_exports)
{
    AUTO_PTR char *text = NULL;

    load("llama");
    text = text_of(program);
    ck_has_line(text, "%p_model_lm_head_weight : float32[32, 16] = parameter "
                      "model.lm_head.weight");
    ck_has_line(text, "%b_static_cache_layers_0_keys : float32[1, 2, 16, 4] = buffer "
                      "key_cache_0 (not persistent)");
    ck_has_line(text, "%input_ids : int64[1, 1] = input");
    ck_has_line(text, "%select : int64[] = aten.select.int(%cache_position, 0, 0)");
    ck_has_line(text, "%arange : int64[1] = aten.arange.default(1, device=\"cpu\", "
                      "pin_memory=False)");
    ck_has_line(text, "aten._assert_tensor_metadata.default(%copy_, dtype=int64, "
                      "device=\"cpu\", layout=strided)");
    ck_has_line(text,
                "%cat : float32[1, 1, 4] = aten.cat.default([%transpose, %transpose], "
                "-1)");
    ck_has_line(text, "return %linear_7");
    free(TAKE(text));
    load("llama-dynamic");
    text = text_of(program);
    ck_assert_msg(strstr(text, " : 1..16\n") != NULL, "%.100s", text);
}
END_TEST

/* ---- building ---- */

static uint32_t add_input(enum pt2_input_kind kind, const char *name, const char *fqn,
                          enum pt2_dtype dtype, unsigned n, const struct pt2_dim *sizes)
{
    struct pt2_tensor_meta meta;
    uint32_t value = 0;

    OK(pt2_tensor_meta_contiguous(program, dtype, n, sizes, &meta, &err));
    OK(pt2_program_add_input(program, kind, name, fqn, false, &meta, &value, &err));
    return value;
}

#define DIM(n)                                                                           \
    {                                                                                    \
        .value = (n)                                                                     \
    }
#define SYM(e, hint)                                                                     \
    {                                                                                    \
        .expr = (e), .value = (hint)                                                     \
    }
#define TENSOR(v)                                                                        \
    {                                                                                    \
        .kind = PT2_ARG_TENSOR, .value = (v)                                             \
    }

/* A program with an argument of every kind, in the arena of nobody else. */
static void build(void)
{
    const struct pt2_dim rows[] = {DIM(4), DIM(3)}, ids[] = {DIM(1), SYM("s0", 2)},
                         made[] = {DIM(1), SYM("s0", 2), DIM(3)};
    const struct pt2_arg ints[] = {{.kind = PT2_ARG_INT, .i = -1},
                                   {.kind = PT2_ARG_INT, .i = INT64_MAX}},
                         floats[] = {{.kind = PT2_ARG_FLOAT, .f = 0.1},
                                     {.kind = PT2_ARG_FLOAT, .f = -INFINITY}},
                         strings[] = {{.kind = PT2_ARG_STRING, .s = "a\"b\\\n"}},
                         bools[] = {{.kind = PT2_ARG_BOOL, .b = true}};
    struct pt2_tensor_meta meta;
    uint32_t w, x, y, z;

    OK(pt2_program_new(&program, &err));
    OK(pt2_program_add_range(program, "s0", 1, 16, &err));
    w = add_input(PT2_INPUT_PARAMETER, "p_w", "w", PT2_FLOAT32, 2, rows);
    add_input(PT2_INPUT_BUFFER, "b_key_cache_0", "key_cache_0", PT2_FLOAT32, 2, rows);
    x = add_input(PT2_INPUT_USER, "input_ids", NULL, PT2_INT64, 2, ids);
    OK(pt2_tensor_meta_contiguous(program, PT2_FLOAT32, 3, made, &meta, &err));
    struct pt2_named_arg embedding[] = {{"weight", TENSOR(w), 1},
                                        {"indices", TENSOR(x), 1}};
    OK(pt2_program_add_node(program, "torch.ops.aten.embedding.default", "embedding",
                            embedding, 2, &meta, &y, &err));
    OK(pt2_program_add_node(program, "torch.ops.aten.embedding.default", "embedding",
                            embedding, 2, &meta, &z, &err));
    const struct pt2_arg pair[] = {TENSOR(y), TENSOR(z)},
                         maybe[] = {TENSOR(y), {.kind = PT2_ARG_NONE}};
    struct pt2_named_arg all[] = {
        {"tensors", {.kind = PT2_ARG_TENSORS, .list = {pair, 2}}, 1},
        {"maybe", {.kind = PT2_ARG_OPTIONAL_TENSORS, .list = {maybe, 2}}, 1},
        {"none", {.kind = PT2_ARG_NONE}, 1},
        {"i", {.kind = PT2_ARG_INT, .i = INT64_MIN}, 1},
        {"ints", {.kind = PT2_ARG_INTS, .list = {ints, 2}}, 1},
        {"sym_ints", {.kind = PT2_ARG_SYM_INTS, .list = {ints, 2}}, 1},
        {"f", {.kind = PT2_ARG_FLOAT, .f = 1e-6}, 1},
        {"floats", {.kind = PT2_ARG_FLOATS, .list = {floats, 2}}, 1},
        {"b", {.kind = PT2_ARG_BOOL, .b = false}, 2},
        {"bools", {.kind = PT2_ARG_BOOLS, .list = {bools, 1}}, 2},
        {"s", {.kind = PT2_ARG_STRING, .s = "na\xc3\xafve"}, 2},
        {"strings", {.kind = PT2_ARG_STRINGS, .list = {strings, 1}}, 2},
        {"dtype", {.kind = PT2_ARG_SCALAR_TYPE, .dtype = PT2_BFLOAT16}, 2},
        {"format", {.kind = PT2_ARG_MEMORY_FORMAT, .i = 4}, 2},
        {"layout", {.kind = PT2_ARG_LAYOUT, .i = 7}, 2},
        {"device", {.kind = PT2_ARG_DEVICE, .s = "cuda:1"}, 2},
        {"empty", {.kind = PT2_ARG_INTS, .list = {ints, 0}}, 0},
    };
    OK(pt2_program_add_node(program, "torch.ops.test.all.default", "all", all,
                            ARRAY_LEN(all), &meta, &z, &err));
    OK(pt2_program_add_output(program, PT2_OUTPUT_BUFFER_MUTATION, y, "key_cache_0",
                              &err));
    OK(pt2_program_add_output(program, PT2_OUTPUT_USER, z, NULL, &err));
}

static const char built_text[] =
    "s0 : 1..16\n"
    "%p_w : float32[4, 3] = parameter w\n"
    "%b_key_cache_0 : float32[4, 3] = buffer key_cache_0 (not persistent)\n"
    "%input_ids : int64[1, s0] = input\n"
    "%embedding : float32[1, s0, 3] = aten.embedding.default(%p_w, %input_ids)\n"
    "%embedding_1 : float32[1, s0, 3] = aten.embedding.default(%p_w, %input_ids)\n"
    "%all : float32[1, s0, 3] = test.all.default([%embedding, %embedding_1], "
    "[%embedding, None], None, -9223372036854775808, [-1, 9223372036854775807], "
    "[-1, 9223372036854775807], 1e-06, [0.1, -Infinity], b=False, bools=[True], "
    "s=\"na\xc3\xafve\", strings=[\"a\\\"b\\\\\\x0a\"], dtype=bfloat16, "
    "format=preserve_format, layout=strided, device=\"cuda:1\", [])\n"
    "buffer key_cache_0 = %embedding\n"
    "return %all\n";

START_TEST(test_program_built_ones_print_and_come_back)
{
    AUTO_PTR char *text = NULL, *back = NULL, *made = NULL, *again = NULL;
    size_t len, n;

    build();
    text = text_of(program);
    ck_assert_str_eq(text, built_text);
    OK(pt2_program_to_json(program, &made, &len, &err));
    pt2_program_free(program);
    program = NULL;
    OK(pt2_program_parse(made, len, &program, &err));
    back = text_of(program);
    ck_assert_str_eq(back, built_text);
    OK(pt2_program_to_json(program, &again, &n, &err));
    ck_assert_str_eq(made, again);
}
END_TEST

START_TEST(test_program_strides_of_symbolic_sizes)
{
    static const struct {
        struct pt2_dim sizes[3];
        const char *expr; /* of strides[0]; NULL: a number */
        int64_t value;
    } cases[] = {
        {{DIM(2), DIM(3), DIM(4)}, NULL, 12},
        {{DIM(2), DIM(0), DIM(4)}, NULL, 4}, /* torch takes an empty dimension as 1 */
        {{DIM(1), SYM("s0", 3), DIM(64)}, "64*s0", 192},
        {{DIM(1), DIM(64), SYM("s0", -1)}, "64*s0", -1},
        {{DIM(1), SYM("4*s0", 12), DIM(8)}, "32*s0", 96},
        {{DIM(1), SYM("s0", 3), SYM("s1", 5)}, "s1*s0", 15},
        {{DIM(1), SYM("s0 + 1", 4), DIM(8)}, "8*(s0 + 1)", 32},
        {{DIM(1), SYM("s0", 3), DIM(1)}, "s0", 3},
    };

    OK(pt2_program_new(&program, &err));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct pt2_tensor_meta meta;

        OK(pt2_tensor_meta_contiguous(program, PT2_FLOAT32, 3, cases[i].sizes, &meta,
                                      &err));
        ck_assert_int_eq(meta.strides[2].value, 1);
        ck_assert_int_eq(meta.strides[0].value, cases[i].value);
        if (cases[i].expr)
            ck_assert_str_eq(meta.strides[0].expr, cases[i].expr);
        else
            ck_assert_ptr_null(meta.strides[0].expr);
    }
}
END_TEST

START_TEST(test_program_built_names_are_unique)
{
    const struct pt2_dim sizes[] = {DIM(1)};
    struct pt2_tensor_meta meta;
    uint32_t v;

    OK(pt2_program_new(&program, &err));
    add_input(PT2_INPUT_USER, "add_1", NULL, PT2_INT64, 1, sizes);
    OK(pt2_tensor_meta_contiguous(program, PT2_INT64, 1, sizes, &meta, &err));
    for (int i = 0; i < 3; i++)
        OK(pt2_program_add_node(program, "torch.ops.aten.f.default", "add", NULL, 0,
                                &meta, &v, &err));
    /* FX: add, add_2 (add_1 is an input), add_3 */
    ck_assert_str_eq(pt2_program_value(program, 1)->name, "add");
    ck_assert_str_eq(pt2_program_value(program, 2)->name, "add_2");
    ck_assert_str_eq(pt2_program_value(program, 3)->name, "add_3");
    ck_assert_int_eq(pt2_program_add_input(program, PT2_INPUT_USER, "add", NULL, false,
                                           &meta, NULL, &err),
                     -1);
    ck_assert_int_eq(err.code, PT2_ERR_BAD_PROGRAM);
}
END_TEST

/* ---- with an archive ---- */

struct tensor {
    const char *fqn;
    enum pt2_dtype dtype;
    unsigned n_dims;
    int64_t sizes[2];
    bool is_param;
};

static void read_with(const struct tensor *tensors, size_t n)
{
    AUTO_FD int fd = memfd_create("program", MFD_CLOEXEC);
    AUTO_PTR char *text = NULL;
    struct pt2_archive *archive = NULL;
    struct pt2_writer *writer = NULL;
    uint8_t sha256[32];
    uint64_t bytes;
    size_t len;

    build();
    OK(pt2_program_to_json(program, &text, &len, &err));
    OK(pt2_writer_new(fd, "model", &writer, &err));
    OK(pt2_writer_fixed(writer, &err));
    OK(pt2_writer_model(writer, text, len, &err));
    for (int constants = 0; constants < 2; constants++) {
        enum pt2_table table = constants ? PT2_TABLE_CONSTANTS : PT2_TABLE_WEIGHTS;
        struct pt2_payload_entry entries[4];
        size_t n_entries = 0;

        for (size_t i = 0; i < n; i++) {
            struct pt2_payload_entry *e = &entries[n_entries];

            if (!constants != tensors[i].is_param)
                continue;
            *e = (struct pt2_payload_entry){.fqn = tensors[i].fqn,
                                            .record = (uint32_t)n_entries,
                                            .dtype = tensors[i].dtype,
                                            .n_dims = tensors[i].n_dims,
                                            .is_param = tensors[i].is_param};
            memcpy(e->sizes, tensors[i].sizes, sizeof(tensors[i].sizes));
            OK(pt2_writer_begin_tensor(writer, table, e->record, 0, &err));
            OK(pt2_writer_end(writer, &err));
            n_entries++;
        }
        OK(pt2_writer_payloads(writer, table, entries, n_entries, &err));
    }
    OK(pt2_writer_finish(writer, sha256, &bytes, &err));
    pt2_writer_free(writer);
    pt2_program_free(program);
    program = NULL;
    OK(pt2_archive_open_fd(fd, "test", &archive, &err));
    if (pt2_program_read(archive, &program, &err) < 0)
        ck_assert_ptr_null(program);
    pt2_archive_free(archive);
}

START_TEST(test_program_read_from_an_archive)
{
    static const struct tensor tensors[] = {
        {"w", PT2_FLOAT32, 2, {4, 3}, true},
        {"key_cache_0", PT2_FLOAT32, 2, {4, 3}, false}};
    AUTO_PTR char *text = NULL;

    read_with(tensors, 2);
    ck_assert_msg(program != NULL, "%s", err.text);
    text = text_of(program);
    ck_assert_str_eq(text, built_text);
}
END_TEST

START_TEST(test_program_other_tensors_than_the_graph_says)
{
    static const struct {
        struct tensor w;
        const char *says;
    } cases[] = {
        {{"v", PT2_FLOAT32, 2, {4, 3}, true},
         "the archive has no tensor for parameter 'w'"},
        {{"w", PT2_FLOAT16, 2, {4, 3}, true},
         "parameter 'w' is float32, the archive has "
         "float16"},
        {{"w", PT2_FLOAT32, 2, {3, 4}, true},
         "parameter 'w' is (4, 3) in the graph, (3, 4) "
         "in the archive"},
        {{"w", PT2_FLOAT32, 1, {12}, true},
         "parameter 'w' is (4, 3) in the graph, (12) in "
         "the archive"},
        {{"w", PT2_FLOAT32, 2, {4, 3}, false}, "parameter 'w' is not marked as one"},
    };
    struct tensor tensors[2] = {cases[_i].w,
                                {"key_cache_0", PT2_FLOAT32, 2, {4, 3}, false}};

    read_with(tensors, 2);
    ck_assert_int_eq(err.code, PT2_ERR_BAD_PROGRAM);
    ck_assert_msg(strstr(err.text, cases[_i].says) != NULL, "%s", err.text);
}
END_TEST

/* ---- expressions ---- */

/* What a size's expression reads as, in the tiny program; "" where it is refused. */
static const char *size_text(const char *expr)
{
    AUTO_PTR char *text = NULL;
    json_t *root, *size;
    int r;

    load("tiny");
    root = json_loadb(json, json_len, 0, NULL);
    size = json_object_get(json_object_get(root, "graph_module"), "graph");
    size = json_object_get(json_object_get(size, "tensor_values"), "view");
    size = json_object_get(size, "sizes");
    json_array_set_new(size, 2,
                       json_pack("{s:{s:s,s:n}}", "as_expr", "expr_str", expr, "hint"));
    text = json_dumps(root, 0);
    json_decref(root);
    pt2_program_free(program);
    program = NULL;
    r = pt2_program_parse(text, strlen(text), &program, &err);
    if (r < 0)
        return "";
    r = (int)pt2_program_find_value(program, "view");
    if (!pt2_program_value(program, (uint32_t)r)->meta.sizes[2].expr)
        return "a number";
    return pt2_program_value(program, (uint32_t)r)->meta.sizes[2].expr;
}

START_TEST(test_program_expressions_in_one_spelling)
{
    static const struct {
        const char *expr, *text;
    } cases[] = {
        {"s0", "s0"},
        {" s0 ", "s0"},
        {"7", "a number"},
        {"Integer(7)", "a number"},
        {"Symbol('s0', positive=True, integer=True)", "s0"},
        {"Symbol(\"s0\")", "s0"},
        {"Mul(Integer(16), Symbol('s0', positive=True, integer=True))", "16*s0"},
        {"16*s0", "16*s0"},
        {"Add(Symbol('s0'), Integer(-1))", "s0 + -1"},
        {"s0-1", "s0 - 1"},
        {"Mul(Integer(2), Add(Symbol('s0'), Integer(1)))", "2*(s0 + 1)"},
        {"2 * (s0 + 1)", "2*(s0 + 1)"},
        {"Pow(Symbol('s0'), Integer(2))", "s0**2"},
        {"-s0", "-s0"},
        {"-s0*3", "-s0*3"},
        {"s0 - (s0 - 1)", "s0 - (s0 - 1)"},
        {"s0//2 + s0%3", "s0//2 + s0%3"},
        {"FloorDiv(Symbol('s0'), Integer(2))", "FloorDiv(s0, 2)"},
        {"Max(1, s0, 2*s0)", "Max(1, s0, 2*s0)"},
        {"Mul(Rational(1, 2), Symbol('s0'))", "1/2*s0"},
        {"Mul(Symbol('s0'), Rational(1, 2))", "s0*(1/2)"},
        {"(s0)", "s0"},
        {"StrictLessThan(Symbol('s0'), Integer(5))", "s0 < 5"},
        {"s0 >= 2", "s0 >= 2"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *text = size_text(cases[i].expr);

        ck_assert_msg(streq(text, cases[i].text), "'%s' reads as '%s', not '%s' (%s)",
                      cases[i].expr, text, cases[i].text, err.text);
    }
}
END_TEST

/* ---- bad input ---- */

static int parse_case(const char *dir, struct pt2_err *case_err)
{
    struct pt2_program *p = NULL;
    char path[600];
    int r;

    snprintf(path, sizeof(path), "%s/input.json", dir);
    slurp(path);
    r = pt2_program_parse(json, json_len, &p, case_err);
    pt2_program_free(p);
    return r;
}

START_TEST(test_program_invalid_ones_are_refused)
{
    cases_run("program-invalid", parse_case);
}
END_TEST

static int decoder_case(const char *dir, struct pt2_err *case_err)
{
    struct pt2_program *p = NULL;
    struct pt2_decoder d;
    char path[600];
    int r;

    snprintf(path, sizeof(path), "%s/input.json", dir);
    slurp(path);
    OK(pt2_program_parse(json, json_len, &p, &err));
    r = pt2_program_decoder(p, &d, case_err);
    pt2_program_free(p);
    return r;
}

START_TEST(test_program_what_is_no_decoder_is_refused)
{
    cases_run("program-refused", decoder_case);
}
END_TEST

/* Cut at any byte, it is an error and never a read beyond the end (sanitizers). */
static const char *const tiny[] = {"tiny", "tiny-modes"};

START_TEST(test_program_cut_files)
{
    load(tiny[_i]);
    for (size_t len = 0; len + 1 < json_len; len++) {
        AUTO_PTR char *cut = malloc(len ? len : 1);
        struct pt2_program *p = NULL;

        memcpy(cut, json, len);
        err = (struct pt2_err){0};
        ck_assert_int_eq(pt2_program_parse(cut, len, &p, &err), -1);
        ck_assert_int_eq(err.code, PT2_ERR_BAD_PROGRAM);
    }
}
END_TEST

/* Bytes changed by chance: accepted or refused, but no crash; what is accepted can be
 * written, printed and asked. */
START_TEST(test_program_changed_bytes)
{
    static const char likely[] = "{}[]\",:0189-truefalsn_";
    srand((unsigned)test_seed());
    load(tiny[_i]);
    for (int round = 0; round < 4000; round++) {
        AUTO_PTR char *changed = malloc(json_len), *text = NULL, *out = NULL;
        struct pt2_program *p = NULL;
        struct pt2_decoder d;
        size_t len;

        memcpy(changed, json, json_len);
        for (int n = 1 + rand() % 3; n > 0; n--)
            changed[(size_t)rand() % json_len] =
                rand() % 4 ? likely[(size_t)rand() % (sizeof(likely) - 1)]
                           : (char)(rand() % 256);
        err = (struct pt2_err){0};
        if (pt2_program_parse(changed, json_len, &p, &err) < 0) {
            ck_assert_int_eq(err.code, PT2_ERR_BAD_PROGRAM);
            continue;
        }
        OK(pt2_program_print(p, &text, &err));
        OK(pt2_program_to_json(p, &out, &len, &err));
        if (pt2_program_decoder(p, &d, &err) < 0)
            ck_assert_int_eq(err.code, PT2_ERR_PROGRAM_REFUSED);
        pt2_program_free(p);
    }
}
END_TEST

START_TEST(test_program_memory_runs_out)
{
    load(tiny[_i]);
    for (alloc_fail_begin(); alloc_fail_next();) {
        struct pt2_program *p = NULL;
        struct pt2_decoder d;
        char *text = NULL, *out = NULL;
        size_t len;
        int r;

        err = (struct pt2_err){0};
        r = pt2_program_parse(json, json_len, &p, &err);
        if (r == 0)
            r = pt2_program_decoder(p, &d, &err);
        if (r == 0)
            r = pt2_program_print(p, &text, &err);
        if (r == 0)
            r = pt2_program_to_json(p, &out, &len, &err);
        ck_assert_int_eq(r, alloc_failed() ? -1 : 0);
        ck_assert_int_eq(err.code, alloc_failed() ? PT2_ERR_NOMEM : PT2_ERR_NONE);
        free(text);
        free(out);
        pt2_program_free(p);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("program");
    TCase *core = tcase_create("core"), *limits = tcase_create("limits"),
          *errors = tcase_create("errors");
    int n = (int)ARRAY_LEN(files);

    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_loop_test(core, test_program_python_exports_are_read, 0, n);
    tcase_add_loop_test(core, test_program_decoder_facts, 0, n);
    tcase_add_test(core, test_program_arguments_are_read);
    tcase_add_test(core, test_program_symbolic_sizes_are_plain_text);
    tcase_add_test(core, test_program_members_come_in_any_order);
    tcase_add_loop_test(core, test_program_write_and_read_again, 0, n);
    tcase_add_loop_test(core, test_program_writes_what_python_writes, 0, n);
    tcase_add_test(core, test_program_graphs_within_nodes);
    tcase_add_test(core, test_program_lines_of_python_exports);
    tcase_add_test(core, test_program_built_ones_print_and_come_back);
    tcase_add_test(core, test_program_strides_of_symbolic_sizes);
    tcase_add_test(core, test_program_built_names_are_unique);
    tcase_add_test(core, test_program_read_from_an_archive);
    tcase_add_test(core, test_program_expressions_in_one_spelling);
    suite_add_tcase(s, core);
    tcase_add_checked_fixture(limits, setup, teardown);
    tcase_set_timeout(limits, 120);
    tcase_add_loop_test(limits, test_program_cut_files, 0, 2);
    tcase_add_loop_test(limits, test_program_changed_bytes, 0, 2);
    tcase_add_loop_test(limits, test_program_memory_runs_out, 0, 2);
    suite_add_tcase(s, limits);
    tcase_add_checked_fixture(errors, setup, teardown);
    tcase_add_loop_test(errors, test_program_other_tensors_than_the_graph_says, 0, 5);
    tcase_add_test(errors, test_program_invalid_ones_are_refused);
    tcase_add_test(errors, test_program_what_is_no_decoder_is_refused);
    suite_add_tcase(s, errors);
    return suite_run(s);
}
