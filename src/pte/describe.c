/* describe.c - after ExecuTorch 1.5.1's schema/program.fbs: tables' fields by their slots. */
#include "pte/describe.h"

#include "base/json.h"
#include "pte/dtype.h"
#include "pte/read.h"

#define MAX_ITEMS   ((size_t)1 << 20) /* of all lists together */
#define MAX_METHODS 256
#define NAME_BYTES  256

enum { PROGRAM_PLANS = 1, PROGRAM_INLINE = 3, PROGRAM_SEGMENTS = 4, PROGRAM_CONSTANTS = 5,
       PROGRAM_NAMED = 7 };
enum { PLAN_NAME, PLAN_VALUES = 2, PLAN_INPUTS, PLAN_OUTPUTS, PLAN_CHAINS, PLAN_OPERATORS,
       PLAN_DELEGATES, PLAN_BUFFERS };
enum { VALUE_INT = 2, VALUE_BOOL, VALUE_DOUBLE, VALUE_TENSOR };
enum { CALL_KERNEL = 1, CALL_DELEGATE, CALL_MOVE, CALL_JUMP };

struct description {
    struct fb_reader r;
    uint64_t base, file_bytes; /* segments begin at base */
    struct fb_list segments, inlined;
};

bool pte_is_program(const void *data, size_t len)
{
    const char *id = (const char *)data + 4;

    return len >= 8 && id[0] == 'E' && id[1] == 'T' && id[2] >= '0' && id[2] <= '9' &&
           id[3] >= '0' && id[3] <= '9';
}

static json_t *text_json(struct fb_reader *r, fb_at table, unsigned slot)
{
    char text[NAME_BYTES];

    fb_text(r, table, slot, text, sizeof(text));
    return json_string_lossy(text);
}

/* ---- values ---- */

static const char *dtype_name(uint64_t scalar_type)
{
    for (int d = 1; d < PT2_N_DTYPES; d++)
        if (pte_scalar_type((enum pt2_dtype)d) == (int)(int8_t)scalar_type)
            return pt2_dtype_name((enum pt2_dtype)d);
    return "?";
}

static json_t *tensor_json(struct fb_reader *r, fb_at tensor)
{
    struct fb_list sizes = fb_list_at(r, tensor, 2, 4);
    json_t *shape = json_array();

    for (uint32_t i = 0; i < sizes.n; i++)
        json_array_append_new(shape, json_integer((int32_t)fb_item(r, sizes, i, 4)));
    return json_pack("{s:s, s:o}", "dtype", dtype_name(fb_number(r, tensor, 0, 1, 0)),
                     "shape", shape);
}

/* A number, a tensor's type and shape, or null of any other kind. */
static json_t *value_json(struct fb_reader *r, fb_at value)
{
    fb_at inner = fb_table_at(r, value, 1);
    uint64_t bits = fb_number(r, inner, 0, 8, 0);
    double d;

    switch (fb_number(r, value, 0, 1, 0)) {
    case VALUE_INT:
        return json_integer((json_int_t)bits);
    case VALUE_BOOL:
        return json_boolean(fb_number(r, inner, 0, 1, 0) != 0);
    case VALUE_DOUBLE:
        memcpy(&d, &bits, sizeof(d));
        return json_real(d) ?: json_null(); /* no NaN in JSON */
    case VALUE_TENSOR:
        return tensor_json(r, inner);
    default:
        return json_null();
    }
}

static json_t *values_json(struct fb_reader *r, fb_at plan, unsigned slot)
{
    struct fb_list values = fb_list_at(r, plan, PLAN_VALUES, 4);
    struct fb_list list = fb_list_at(r, plan, slot, 4);
    json_t *json = json_array();

    for (uint32_t i = 0; i < list.n; i++) {
        uint64_t at = fb_item(r, list, i, 4);

        if (at >= values.n)
            r->bad = true;
        else
            json_array_append_new(json,
                                  value_json(r, fb_table_item(r, values, (uint32_t)at)));
    }
    return json;
}

/* ---- instructions ---- */

struct counts {
    json_int_t all, kernels, delegates, jumps;
    uint32_t *calls; /* by operator, n of them */
    uint32_t n;
};

static void count_call(struct fb_reader *r, fb_at call, struct counts *c)
{
    fb_at args = fb_table_at(r, call, 1);
    uint64_t op = fb_number(r, args, 0, 4, 0);

    c->all++;
    switch (fb_number(r, call, 0, 1, 0)) {
    case CALL_KERNEL:
        c->kernels++;
        if (op < c->n)
            c->calls[op]++;
        else
            r->bad = true;
        return;
    case CALL_DELEGATE:
        c->delegates++;
        return;
    case CALL_JUMP:
        c->jumps++;
        return;
    default:
        return;
    }
}

static void count_calls(struct fb_reader *r, fb_at plan, struct counts *c)
{
    struct fb_list chains = fb_list_at(r, plan, PLAN_CHAINS, 4);

    for (uint32_t i = 0; i < chains.n && !r->bad; i++) {
        struct fb_list calls = fb_list_at(r, fb_table_item(r, chains, i), 2, 4);

        for (uint32_t k = 0; k < calls.n && !r->bad; k++)
            count_call(r, fb_table_item(r, calls, k), c);
    }
}

static json_t *operators_json(struct fb_reader *r, struct fb_list operators,
                              const struct counts *c)
{
    json_t *json = json_array();

    for (uint32_t i = 0; i < operators.n && !r->bad; i++) {
        fb_at op = fb_table_item(r, operators, i);
        char name[NAME_BYTES], overload[NAME_BYTES], both[2 * NAME_BYTES];

        fb_text(r, op, 0, name, sizeof(name));
        fb_text(r, op, 1, overload, sizeof(overload));
        snprintf(both, sizeof(both), "%s%s%s", name, *overload ? "." : "", overload);
        json_array_append_new(json, json_pack("{s:o, s:i}", "name", json_string_lossy(both),
                                              "calls", (int)c->calls[i]));
    }
    return json;
}

/* ---- methods ---- */

/* The bytes of a payload, where they are. */
static uint64_t payload_bytes(struct description *d, fb_at processed)
{
    uint64_t at = fb_number(&d->r, processed, 1, 4, 0);
    bool is_segment = fb_number(&d->r, processed, 0, 1, 0) == 1;
    struct fb_list from = is_segment ? d->segments : d->inlined;

    if (at >= from.n) {
        d->r.bad = d->r.bad || processed;
        return 0;
    }
    if (is_segment)
        return fb_number(&d->r, fb_table_item(&d->r, from, (uint32_t)at), 1, 8, 0);
    return fb_list_at(&d->r, fb_table_item(&d->r, from, (uint32_t)at), 0, 1).n;
}

static json_t *delegates_json(struct description *d, fb_at plan)
{
    struct fb_list list = fb_list_at(&d->r, plan, PLAN_DELEGATES, 4);
    json_t *json = json_array();

    for (uint32_t i = 0; i < list.n && !d->r.bad; i++) {
        fb_at delegate = fb_table_item(&d->r, list, i);

        json_array_append_new(
            json, json_pack("{s:o, s:I}", "backend", text_json(&d->r, delegate, 0), "bytes",
                            (json_int_t)payload_bytes(d, fb_table_at(&d->r, delegate, 1))));
    }
    return json;
}

static json_int_t arena_bytes(struct fb_reader *r, fb_at plan)
{
    struct fb_list sizes = fb_list_at(r, plan, PLAN_BUFFERS, 8);
    uint64_t sum = 0;

    for (uint32_t i = 0; i < sizes.n; i++)
        sum += fb_item(r, sizes, i, 8);
    return (json_int_t)sum;
}

static int add_method(struct description *d, fb_at plan, json_t *methods,
                      struct pt2_err *err)
{
    struct fb_reader *r = &d->r;
    struct fb_list operators = fb_list_at(r, plan, PLAN_OPERATORS, 4);
    AUTO_PTR uint32_t *calls = calloc(operators.n + (size_t)1, sizeof(*calls));
    struct counts c = {.calls = calls, .n = operators.n};
    json_t *method, *inputs = values_json(r, plan, PLAN_INPUTS),
                    *outputs = values_json(r, plan, PLAN_OUTPUTS);
    bool is_constant;

    if (calls)
        count_calls(r, plan, &c);
    is_constant = json_array_size(inputs) == 0 && c.all == 0;
    method = json_pack(
        "{s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:o, s:o, s:I}", "name",
        text_json(r, plan, PLAN_NAME), "inputs", inputs,
        is_constant ? "values" : "outputs", outputs, "instructions", c.all, "kernel_calls",
        c.kernels, "delegate_calls", c.delegates, "jumps", c.jumps, "delegates",
        delegates_json(d, plan), "operators",
        calls ? operators_json(r, operators, &c) : json_null(), "arena_bytes",
        arena_bytes(r, plan));
    if (!calls || !method || json_array_append_new(methods, method) < 0)
        return pt2_err_set(err, PT2_ERR_NOMEM, "an ExecuTorch program");
    return 0;
}

static int add_methods(struct description *d, fb_at root, json_t *methods,
                       struct pt2_err *err)
{
    struct fb_list plans = fb_list_at(&d->r, root, PROGRAM_PLANS, 4);

    if (plans.n > MAX_METHODS)
        return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE, "%u methods, %d at most", plans.n,
                           MAX_METHODS);
    for (uint32_t i = 0; i < plans.n && !d->r.bad; i++)
        if (add_method(d, fb_table_item(&d->r, plans, i), methods, err) < 0)
            return -1;
    return 0;
}

/* ---- the file ---- */

/* The extended header: where the FlatBuffer ends, where segments begin. */
static int read_header(const uint8_t *data, size_t len, struct description *d,
                       struct pt2_err *err)
{
    struct fb_reader r = {data, len, 0, false};
    uint64_t bytes;

    d->r = (struct fb_reader){data, len, MAX_ITEMS, false};
    d->file_bytes = len;
    if (len < 32 || memcmp(data + 8, "eh00", 4) != 0)
        return 0;
    bytes = fb_item(&r, (struct fb_list){16, 1}, 0, 8);
    d->base = fb_item(&r, (struct fb_list){24, 1}, 0, 8);
    if (bytes > len || d->base > len)
        return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE,
                           "the file has %zu bytes, its header tells of a program of %llu and "
                           "of segments from %llu on",
                           len, (unsigned long long)bytes, (unsigned long long)d->base);
    d->r.len = (size_t)bytes;
    return 0;
}

static int add_segments(struct description *d, json_t *segments, struct pt2_err *err)
{
    for (uint32_t i = 0; i < d->segments.n && !d->r.bad; i++) {
        fb_at segment = fb_table_item(&d->r, d->segments, i);
        uint64_t offset = fb_number(&d->r, segment, 0, 8, 0);
        uint64_t bytes = fb_number(&d->r, segment, 1, 8, 0), room = d->file_bytes - d->base;

        if (offset > room || bytes > room - offset)
            return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE,
                               "segment %u of %llu bytes lies beyond the file's end", i,
                               (unsigned long long)bytes);
        json_array_append_new(segments, json_pack("{s:I, s:I}", "offset",
                                                  (json_int_t)(d->base + offset), "bytes",
                                                  (json_int_t)bytes));
    }
    return 0;
}

/* How many tensors lie in the segment of constants. */
static json_int_t count_constants(struct description *d, fb_at root)
{
    struct fb_list offsets =
        fb_list_at(&d->r, fb_table_at(&d->r, root, PROGRAM_CONSTANTS), 1, 8);

    return offsets.n > 0 ? (json_int_t)offsets.n - 1 : 0; /* the first is reserved */
}

static json_t *named_json(struct description *d, fb_at root)
{
    struct fb_list list = fb_list_at(&d->r, root, PROGRAM_NAMED, 4);
    json_t *json = json_array();

    for (uint32_t i = 0; i < list.n && !d->r.bad; i++)
        json_array_append_new(json, text_json(&d->r, fb_table_item(&d->r, list, i), 0));
    return json;
}

static int describe(struct description *d, json_t *json, struct pt2_err *err)
{
    fb_at root = fb_root(&d->r);
    json_t *methods = json_array(), *segments = json_array();

    d->segments = fb_list_at(&d->r, root, PROGRAM_SEGMENTS, 4);
    d->inlined = fb_list_at(&d->r, root, PROGRAM_INLINE, 4);
    if (json_object_set_new(json, "methods", methods) < 0 ||
        json_object_set_new(json, "segments", segments) < 0)
        return pt2_err_set(err, PT2_ERR_NOMEM, "an ExecuTorch program");
    if (add_segments(d, segments, err) < 0 || add_methods(d, root, methods, err) < 0)
        return -1;
    if (json_object_set_new(json, "constants", json_integer(count_constants(d, root))) < 0 ||
        json_object_set_new(json, "named_data", named_json(d, root)) < 0)
        return pt2_err_set(err, PT2_ERR_NOMEM, "an ExecuTorch program");
    if (d->r.bad)
        return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE,
                           "its tables lead out of the file, or have more than %zu items",
                           MAX_ITEMS);
    return 0;
}

int pte_describe(const void *data, size_t len, json_t **ret_json, struct pt2_err *err)
{
    json_auto_t *json = json_object();
    struct description d = {0};

    if (!json)
        return pt2_err_set(err, PT2_ERR_NOMEM, "an ExecuTorch program");
    if (!pte_is_program(data, len))
        return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE, "no ExecuTorch program");
    if (read_header(data, len, &d, err) < 0 || describe(&d, json, err) < 0)
        return -1;
    *ret_json = json_incref(json);
    return 0;
}
