#include "aten_case.h"

#include "base/log.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

json_t *aten_case_load(const char *path)
{
    json_error_t error;
    json_t *file = json_load_file(path, 0, &error);

    if (!file)
        fprintf(stderr, "%s:%d: %s\n", path, error.line, error.text);
    ASSERT(file);
    return file;
}

/* ---- elements ---- */

double aten_case_number(const json_t *item)
{
    if (json_is_string(item))
        return strtod(json_string_value(item), NULL); /* Infinity, NaN */
    return json_is_boolean(item) ? json_is_true(item) : json_number_value(item);
}

static uint16_t to_bfloat16(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof(bits));
    if (isnan(x))
        return 0x7fc0;
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16); /* to even */
}

static float from_bfloat16(uint16_t x)
{
    uint32_t bits = (uint32_t)x << 16;
    float f;

    memcpy(&f, &bits, sizeof(f));
    return f;
}

/* The types, each with its C type: element i of data, read as x or set to x. */
#define FOR_DTYPES(DO)                                                                   \
    DO(UINT8, uint8_t)                                                                   \
    DO(INT8, int8_t)                                                                     \
    DO(INT16, int16_t)                                                                   \
    DO(INT32, int32_t)                                                                   \
    DO(INT64, int64_t)                                                                   \
    DO(FLOAT16, _Float16) DO(FLOAT32, float) DO(FLOAT64, double) DO(BOOL, uint8_t)

static void element_set(enum pt2_dtype dtype, void *data, size_t i, double x)
{
    switch (dtype) {
#define SET(name, type)                                                                  \
    case PT2_##name:                                                                     \
        ((type *)data)[i] = (type)x;                                                     \
        break;
        FOR_DTYPES(SET)
#undef SET
    case PT2_BFLOAT16:
        ((uint16_t *)data)[i] = to_bfloat16((float)x);
        break;
    default:
        ASSERT(!"a dtype");
    }
}

double aten_case_read(enum pt2_dtype dtype, const void *element)
{
    switch (dtype) {
#define READ(name, type)                                                                 \
    case PT2_##name:                                                                     \
        return (double)*(const type *)element;
        FOR_DTYPES(READ)
#undef READ
    case PT2_BFLOAT16:
        return from_bfloat16(*(const uint16_t *)element);
    default:
        ASSERT(!"a dtype");
    }
    return 0;
}

double aten_case_round(enum pt2_dtype dtype, double x)
{
    double room;

    element_set(dtype, &room, 0, x);
    return aten_case_read(dtype, &room);
}

void *aten_case_elements(const json_t *data, enum pt2_dtype dtype, size_t *ret_bytes)
{
    size_t n = json_array_size(data), size = pt2_dtype_size(dtype);
    void *elements = calloc(n + 1, size);

    ASSERT(elements);
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(data, i);

        if (dtype == PT2_INT64) /* a double holds not all of them */
            ((int64_t *)elements)[i] = json_integer_value(item);
        else
            element_set(dtype, elements, i, aten_case_number(item));
    }
    if (ret_bytes)
        *ret_bytes = n * size;
    return elements;
}

/* ---- the program ---- */

static enum pt2_dtype dtype_of(const json_t *value, enum pt2_dtype dtype)
{
    const char *name = json_string_value(json_array_get(value, 0));

    return streq(name, "F") ? dtype : pt2_dtype_from_name(name);
}

static unsigned sizes_of(const json_t *value, int64_t sizes[PT2_MAX_DIMS])
{
    const json_t *list = json_array_get(value, 1);

    for (size_t i = 0; i < json_array_size(list) && i < PT2_MAX_DIMS; i++)
        sizes[i] = json_integer_value(json_array_get(list, i));
    return (unsigned)json_array_size(list);
}

static json_t *meta_of(const json_t *value, enum pt2_dtype dtype)
{
    int64_t sizes[PT2_MAX_DIMS], step = 1;
    unsigned n = sizes_of(value, sizes);
    json_t *all = json_array(), *strides = json_array();

    for (unsigned i = 0; i < n; i++)
        json_array_append_new(all, json_pack("{s:I}", "as_int", (json_int_t)sizes[i]));
    for (unsigned i = n; i-- > 0;) {
        json_array_insert_new(strides, 0, json_pack("{s:I}", "as_int", (json_int_t)step));
        step *= MAX(sizes[i], 1);
    }
    return json_pack("{s:i,s:o,s:b,s:{s:s,s:n},s:o,s:{s:i},s:i}", "dtype",
                     pt2_dtype_schema(dtype_of(value, dtype)), "sizes", all,
                     "requires_grad", 0, "device", "type", "cpu", "index", "strides",
                     strides, "storage_offset", "as_int", 0, "layout", 7);
}

/* graph.tensor_values and its sisters. */
static void add_values(json_t *graph, const json_t *c, enum pt2_dtype dtype)
{
    json_t *tensors = json_object(), *ints = json_object(), *bools = json_object(),
           *floats = json_object(), *value;
    const char *name;

    json_object_foreach(json_object_get(c, "values"), name, value)
    {
        const char *kind = json_string_value(json_array_get(value, 0));
        json_t *to = streq(kind, "int")               ? ints
                     : streq(kind, "float")           ? floats
                     : json_array_size(value) == 1 ? bools
                                                   : NULL;

        if (to)
            json_object_set_new(to, name,
                                json_pack("{s:{s:s,s:n}}", "as_expr", "expr_str", "u0",
                                          "hint"));
        else
            json_object_set_new(tensors, name, meta_of(value, dtype));
    }
    json_object_set_new(graph, "tensor_values", tensors);
    json_object_set_new(graph, "sym_int_values", ints);
    json_object_set_new(graph, "sym_bool_values", bools);
    json_object_set_new(graph, "sym_float_values", floats);
    json_object_set_new(graph, "custom_obj_values", json_object());
    json_object_set_new(graph, "is_single_tensor_return", json_false());
}

static json_t *tensor_arg(const char *name)
{
    return json_pack("{s:{s:s}}", "as_tensor", "name", name);
}

static json_t *input_spec(const json_t *input)
{
    const char *name = json_string_value(json_object_get(input, "name")),
               *kind = json_string_value(json_object_get(input, "kind"));

    if (!kind)
        return json_pack("{s:{s:o}}", "user_input", "arg", tensor_arg(name));
    if (streq(kind, "parameter"))
        return json_pack("{s:{s:{s:s},s:s}}", kind, "arg", "name", name, "parameter_name",
                         name);
    if (streq(kind, "buffer"))
        return json_pack("{s:{s:{s:s},s:s,s:b}}", kind, "arg", "name", name,
                         "buffer_name", name, "persistent", 0);
    return json_pack("{s:{s:{s:s},s:s}}", "tensor_constant", "arg", "name", name,
                     "tensor_constant_name", name);
}

static json_t *output_spec(const json_t *output)
{
    const char *name = json_string_value(json_object_get(output, "name")),
               *buffer = json_string_value(json_object_get(output, "buffer"));

    if (!buffer)
        return json_pack("{s:{s:o}}", "user_output", "arg", tensor_arg(name));
    return json_pack("{s:{s:{s:s},s:s}}", "buffer_mutation", "arg", "name", name,
                     "buffer_name", buffer);
}

/* In all arguments, "as_scalar_type": "F". */
static void set_dtype(json_t *json, enum pt2_dtype dtype)
{
    json_t *item;
    const char *key;
    size_t i;

    json_array_foreach(json, i, item)
    {
        set_dtype(item, dtype);
    }
    json_object_foreach(json, key, item)
    {
        if (streq(key, "as_scalar_type") && json_is_string(item))
            json_object_set_new(json, key, json_integer(pt2_dtype_schema(dtype)));
        else
            set_dtype(item, dtype);
    }
}

static char *model_of(const json_t *c, enum pt2_dtype dtype)
{
    json_t *graph = json_object(), *nodes = json_deep_copy(json_object_get(c, "nodes")),
           *inputs = json_array(), *outputs = json_array(), *in = json_array(),
           *out = json_array(), *item, *model;
    char *text;
    size_t i;

    json_array_foreach(json_object_get(c, "inputs"), i, item)
    {
        json_array_append_new(
            inputs, tensor_arg(json_string_value(json_object_get(item, "name"))));
        json_array_append_new(in, input_spec(item));
    }
    json_array_foreach(json_object_get(c, "outputs"), i, item)
    {
        json_array_append_new(
            outputs, tensor_arg(json_string_value(json_object_get(item, "name"))));
        json_array_append_new(out, output_spec(item));
    }
    set_dtype(nodes, dtype);
    json_object_set_new(graph, "inputs", inputs);
    json_object_set_new(graph, "outputs", outputs);
    json_object_set_new(graph, "nodes", nodes);
    add_values(graph, c, dtype);
    model = json_pack("{s:{s:o,s:{s:o,s:o},s:[],s:{},s:{}},s:{s:i},s:{s:{s:i,s:i}},s:{s:i,"
                      "s:i},s:[s],s:s}",
                      "graph_module", "graph", graph, "signature", "input_specs", in,
                      "output_specs", out, "module_call_graph", "metadata",
                      "treespec_namedtuple_fields", "opset_version", "aten", 10,
                      "range_constraints", "u0", "min_val", 0, "max_val", 1000,
                      "schema_version", "major", 8, "minor", 20,
                      "verifiers", "TRAINING", "torch_version", "2.13.0");
    ASSERT(model);
    text = json_dumps(model, JSON_COMPACT);
    json_decref(model);
    return text;
}

/* ---- the archive ---- */

#define OK(call) ASSERT((call) == 0)

/* The records and the lines of one table: parameters, or buffers and constants. */
static void write_table(struct pt2_writer *w, const json_t *c, enum pt2_table table,
                        enum pt2_dtype dtype)
{
    struct pt2_payload_entry entries[ATEN_CASE_MAX] = {0};
    uint32_t n = 0;
    json_t *input;
    size_t i;

    json_array_foreach(json_object_get(c, "inputs"), i, input)
    {
        const char *name = json_string_value(json_object_get(input, "name")),
                   *kind = json_string_value(json_object_get(input, "kind"));
        const json_t *value = json_object_get(json_object_get(c, "values"), name);
        struct pt2_payload_entry *e = &entries[n];
        AUTO_PTR void *data = NULL;
        size_t size;

        if (!kind || streq(kind, "parameter") != (table == PT2_TABLE_WEIGHTS))
            continue;
        *e = (struct pt2_payload_entry){.fqn = name,
                                        .record = n,
                                        .dtype = dtype_of(value, dtype),
                                        .is_param = table == PT2_TABLE_WEIGHTS};
        e->n_dims = sizes_of(value, e->sizes);
        data = aten_case_elements(json_object_get(input, "data"), e->dtype, &size);
        OK(pt2_writer_begin_tensor(w, table, n++, size, NULL));
        OK(pt2_writer_add(w, data, size, NULL));
        OK(pt2_writer_end(w, NULL));
    }
    OK(pt2_writer_payloads(w, table, entries, n, NULL));
}

static int write_archive(struct aten_case *ret, const json_t *c, const char *model,
                         enum pt2_dtype dtype, struct pt2_err *err)
{
    char path[] = "/tmp/pt2-aten-case-XXXXXX";
    int fd = mkstemp(path);
    struct pt2_writer *w;
    uint8_t sha256[32];
    uint64_t bytes;
    int r;

    ASSERT(fd >= 0);
    OK(pt2_writer_new(fd, "case", &w, NULL));
    OK(pt2_writer_fixed(w, NULL));
    OK(pt2_writer_model(w, model, strlen(model), NULL));
    write_table(w, c, PT2_TABLE_WEIGHTS, dtype);
    write_table(w, c, PT2_TABLE_CONSTANTS, dtype);
    OK(pt2_writer_finish(w, sha256, &bytes, NULL));
    pt2_writer_free(w);
    r = pt2_archive_open(path, &ret->archive, err);
    close(fd);
    unlink(path);
    return r < 0 ? -1 : pt2_program_read(ret->archive, &ret->program, err);
}

/* ---- all of it ---- */

static bool has_archive(const json_t *c)
{
    const json_t *input;
    size_t i;

    json_array_foreach(json_object_get(c, "inputs"), i, input)
    {
        if (json_object_get(input, "kind"))
            return true;
    }
    return false;
}

int aten_case_init(struct aten_case *ret, const json_t *c, enum pt2_dtype dtype,
                   struct pt2_err *err)
{
    AUTO_PTR char *model = model_of(c, dtype);
    const json_t *input;
    size_t i;

    *ret = (struct aten_case){0};
    json_array_foreach(json_object_get(c, "inputs"), i, input)
    {
        struct graph_tensor *t = &ret->inputs[ret->n_inputs];
        const json_t *value =
            json_object_get(json_object_get(c, "values"),
                            json_string_value(json_object_get(input, "name")));

        if (json_object_get(input, "kind"))
            continue;
        ASSERT(ret->n_inputs++ < ATEN_CASE_MAX);
        t->dtype = dtype_of(value, dtype);
        t->n_dims = sizes_of(value, t->sizes);
        t->data = aten_case_elements(json_object_get(input, "data"), t->dtype, NULL);
    }
    if (has_archive(c))
        return write_archive(ret, c, model, dtype, err);
    return pt2_program_parse(model, strlen(model), &ret->program, err);
}

void aten_case_done(struct aten_case *c)
{
    for (uint32_t i = 0; i < c->n_inputs; i++)
        free(c->inputs[i].data);
    pt2_program_free(c->program);
    pt2_archive_free(c->archive);
    *c = (struct aten_case){0};
}
