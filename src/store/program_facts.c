#include "store/program_facts.h"

#include "base/json.h"

#include <pt2/export.h>

/* ---- inputs and outputs ---- */

static json_t *shape_json(const struct pt2_tensor_meta *meta)
{
    json_t *shape = json_array();

    for (unsigned i = 0; i < meta->n_dims; i++)
        json_array_append_new(shape, meta->sizes[i].expr
                                         ? json_string(meta->sizes[i].expr)
                                         : json_integer(meta->sizes[i].value));
    return shape;
}

static json_t *value_json(const struct pt2_value *value)
{
    if (value->kind != PT2_VALUE_TENSOR)
        return json_pack("{s:s, s:s, s:[]}", "name", value->name, "dtype",
                         value->kind == PT2_VALUE_SYM_INT    ? "int"
                         : value->kind == PT2_VALUE_SYM_BOOL ? "bool"
                                                             : "float",
                         "shape");
    return json_pack("{s:s, s:s, s:o}", "name", value->name, "dtype",
                     pt2_dtype_name(value->meta.dtype), "shape",
                     shape_json(&value->meta));
}

static json_t *inputs_json(const struct pt2_program *program)
{
    json_t *list = json_array();
    const struct pt2_input *in;

    for (uint32_t i = 0; i < pt2_program_n_inputs(program); i++) {
        in = pt2_program_input(program, i);
        if (in->kind == PT2_INPUT_USER)
            json_array_append_new(list,
                                  value_json(pt2_program_value(program, in->value)));
    }
    return list;
}

static bool arg_is_value(const struct pt2_arg *arg)
{
    return arg->kind == PT2_ARG_TENSOR || arg->kind == PT2_ARG_SYM_INT ||
           arg->kind == PT2_ARG_SYM_BOOL || arg->kind == PT2_ARG_SYM_FLOAT;
}

static json_t *outputs_json(const struct pt2_program *program)
{
    json_t *list = json_array();
    const struct pt2_output *out;

    for (uint32_t i = 0; i < pt2_program_n_outputs(program); i++) {
        out = pt2_program_output(program, i);
        if (out->kind == PT2_OUTPUT_USER && arg_is_value(&out->arg))
            json_array_append_new(list,
                                  value_json(pt2_program_value(program, out->arg.value)));
    }
    return list;
}

/* ---- parameters and buffers ---- */

struct totals {
    uint64_t count, elements, bytes;
    uint64_t of_dtype[PT2_N_DTYPES]; /* elements */
};

static int by_record(const void *a, const void *b)
{
    const struct pt2_payload *x = *(const struct pt2_payload *const *)a;
    const struct pt2_payload *y = *(const struct pt2_payload *const *)b;

    return (x->record > y->record) - (x->record < y->record);
}

/* Sizes come from a file that was checked, so sums of them fit; sizes of zeros are made
 * up freely, so the sum saturates. */
static void add(uint64_t *sum, uint64_t n)
{
    if (!size_add(*sum, n, sum))
        *sum = UINT64_MAX;
}

static void add_payload(struct totals *totals, const struct pt2_payload *payload)
{
    uint64_t bytes, item = pt2_dtype_size(payload->dtype);

    if (!pt2_tensor_bytes(payload->dtype, payload->n_dims, payload->sizes, &bytes))
        bytes = UINT64_MAX;
    add(&totals->bytes, bytes);
    add(&totals->elements, item ? bytes / item : 0);
    add(&totals->of_dtype[payload->dtype], item ? bytes / item : 0);
}

/* False: out of memory. */
static bool measure(const struct pt2_archive *archive, const struct pt2_program *program,
                    bool parameters, struct totals *ret_totals)
{
    uint32_t n_inputs = pt2_program_n_inputs(program);
    AUTO_PTR const struct pt2_payload **list =
        calloc(n_inputs ? n_inputs : 1, sizeof(*list));
    struct totals totals = {0};
    const struct pt2_input *in;
    size_t n = 0;

    if (!list)
        return false;
    for (uint32_t i = 0; i < n_inputs; i++) {
        in = pt2_program_input(program, i);
        if (in->kind != (parameters ? PT2_INPUT_PARAMETER : PT2_INPUT_BUFFER))
            continue;
        totals.count++;
        list[n] = pt2_archive_find_payload(archive, in->fqn);
        n += list[n] != NULL;
    }
    qsort(list, n, sizeof(*list), by_record);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || list[i]->is_zeros || list[i]->record != list[i - 1]->record)
            add_payload(&totals, list[i]);
    *ret_totals = totals;
    return true;
}

static json_t *count_json(uint64_t n)
{
    return json_integer((json_int_t)MIN(n, (uint64_t)INT64_MAX));
}

/* {"float32": elements, "int8": elements}, what there is: of a quantised program's the
 * scales, and the values. */
static json_t *dtypes_json(const struct totals *totals)
{
    json_t *dtypes = json_object();

    for (size_t i = 0; i < ARRAY_LEN(totals->of_dtype); i++)
        if (totals->of_dtype[i] > 0)
            json_object_set_new(dtypes, pt2_dtype_name((enum pt2_dtype)i),
                                count_json(totals->of_dtype[i]));
    return dtypes;
}

/* ---- the record of a verification ---- */

/* What the archive says; null where it says nothing, or what can not be. */
static json_t *verified_json(const struct pt2_archive *archive)
{
    const struct pt2_record *record = pt2_archive_find(archive, PT2_VERIFY_RECORD);
    AUTO_PTR void *text = NULL;
    json_t *json = NULL;
    size_t len;

    if (record &&
        pt2_archive_read(archive, record, PT2_VERIFY_RECORD_BYTES, &text, &len, NULL) == 0 &&
        json_parse(text, len, &json, NULL) == 0 && json_is_object(json))
        return json;
    json_decref(json);
    return json_null();
}

/* ---- all of it ---- */

static json_t *cache_json(const struct pt2_program *program, json_t **ret_vocab_size)
{
    struct pt2_decoder decoder;

    if (pt2_program_decoder(program, &decoder, NULL) < 0) {
        *ret_vocab_size = json_null();
        return json_null();
    }
    *ret_vocab_size = json_integer(decoder.vocab_size);
    return json_pack("{s:I, s:I, s:I}", "batch_size", (json_int_t)decoder.batch_size,
                     "max_cache_len", (json_int_t)decoder.max_cache_len, "layers",
                     (json_int_t)decoder.n_layers);
}

json_t *program_facts_json(const struct pt2_archive *archive,
                           const struct pt2_program *program)
{
    const size_t shortages = json_shortages();
    struct totals parameters, buffers;
    json_t *cache, *vocab_size, *facts;
    int major, minor;
    char schema[32];

    if (!measure(archive, program, true, &parameters) ||
        !measure(archive, program, false, &buffers))
        return NULL;
    pt2_program_schema_version(program, &major, &minor);
    snprintf(schema, sizeof(schema), "%d.%d", major, minor);
    cache = cache_json(program, &vocab_size);
    facts = json_pack(
        "{s:s?, s:s, s:o, s:o, s:{s:o, s:o, s:o, s:o}, s:{s:o, s:o}, s:o, s:o, s:o}",
        "torch_version", pt2_program_torch_version(program), "schema_version", schema,
        "inputs", inputs_json(program), "outputs", outputs_json(program), "parameters",
        "count", count_json(parameters.count), "elements",
        count_json(parameters.elements), "bytes", count_json(parameters.bytes), "dtypes",
        dtypes_json(&parameters), "buffers", "count", count_json(buffers.count), "bytes",
        count_json(buffers.bytes), "cache", cache, "vocab_size", vocab_size, "verified",
        verified_json(archive));
    return json_if_whole(facts, shortages); /* they are kept, so none may be left out */
}

static int read_facts(const struct pt2_archive *archive, json_t **ret_facts,
                      struct pt2_err *err)
{
    struct pt2_program *program = NULL;

    if (pt2_program_read(archive, &program, err) < 0)
        return -1;
    *ret_facts = program_facts_json(archive, program);
    pt2_program_free(program);
    return *ret_facts ? 0 : pt2_err_set(err, PT2_ERR_NOMEM, "a program's facts");
}

int program_facts_read(int fd, bool verify_records, json_t **ret_facts,
                       struct pt2_err *err)
{
    struct pt2_archive *archive = NULL;
    json_auto_t *facts = NULL;
    int r;

    if (pt2_archive_open_fd(fd, "program.pt2", &archive, err) < 0)
        return -1;
    r = read_facts(archive, &facts, err);
    if (r == 0 && verify_records)
        r = pt2_archive_verify(archive, err);
    if (r == 0)
        *ret_facts = json_incref(facts);
    pt2_archive_free(archive);
    return r;
}
