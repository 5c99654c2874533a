/* meta.c - read the tables of a graph's values: TensorMeta, SymInt, SymBool, SymFloat. */
#include "program/parser.h"

/* ---- expressions ---- */

#define MAX_EXPRS 4096 /* different ones in a program */

static int note_symbol(void *ctx, const char *symbol, size_t len)
{
    struct parser *p = ctx;
    const char *name;

    if (names_find(&p->symbols, symbol, len))
        return 0;
    if (p->symbols.n == PROGRAM_MAX_RANGES)
        return pull_fail(&p->pull, "more than %u symbols", PROGRAM_MAX_RANGES);
    name = arena_string(&p->program->arena, symbol, len);
    if (!name || !names_add(&p->symbols, name, p->symbols.n))
        return parser_no_memory(p);
    return 0;
}

/* Read a text that was not seen before and remember what it says. */
static int read_new_expr(struct parser *p, struct pull_text text, uint32_t *ret)
{
    struct expr_seen seen = {0};
    const char *key = arena_string(&p->program->arena, text.s, text.len);

    if (!key)
        return parser_no_memory(p);
    if (expr_read(key, text.len, note_symbol, p, &p->program->arena, &seen.text,
                  &seen.number, p->err) < 0 ||
        program_grow(&p->seen, p->n_seen, &p->cap_seen, MAX_EXPRS, sizeof(*p->seen),
                     "different expressions", p->err) < 0)
        return -1;
    if (!names_add(&p->exprs, key, p->n_seen))
        return parser_no_memory(p);
    p->seen[p->n_seen] = seen;
    *ret = p->n_seen++;
    return 0;
}

static int read_expr_str(struct pull *s, void *ctx)
{
    struct parser *p = parser_of(s);
    struct pt2_dim *dim = ctx;
    const struct name_slot *slot;
    struct pull_text text;
    uint32_t i = 0;

    if (pull_string(s, &text) < 0)
        return -1;
    slot = names_find(&p->exprs, text.s, text.len);
    if (slot)
        i = slot->number;
    else if (read_new_expr(p, text, &i) < 0)
        return -1;
    dim->expr = p->seen[i].text;
    if (!dim->expr)
        dim->value = p->seen[i].number;
    return 0;
}

/* null, or a union of as_int, as_bool, as_float; of a float no hint is kept. */
static int read_hint(struct pull *s, void *ctx)
{
    struct pt2_dim *dim = ctx;
    struct pull_text key;
    int64_t hint = -1;
    bool b;
    double f;

    if (pull_null(s))
        return 0;
    if (pull_union(s, &key) < 0)
        return -1;
    if (pull_text_is(key, "as_int")) {
        if (pull_int(s, &hint) < 0)
            return -1;
    } else if (pull_text_is(key, "as_bool")) {
        if (pull_bool(s, &b) < 0)
            return -1;
        hint = b;
    } else if (pull_text_is(key, "as_float")) {
        if (pull_double(s, &f) < 0)
            return -1;
    } else {
        return pull_fail(s, "expected as_int, as_bool or as_float");
    }
    if (dim->expr && hint >= 0)
        dim->value = hint;
    return pull_union_end(s);
}

/* {"expr_str": ..., "hint": ...} */
static int read_sym_expr(struct pull *s, struct pt2_dim *ret)
{
    static const struct pull_member members[] = {
        {"expr_str", read_expr_str, true, 0},
        {"hint", read_hint, false, 1},
    };

    *ret = (struct pt2_dim){.value = -1};
    return pull_object(s, members, ARRAY_LEN(members), ret);
}

/* SymInt, SymBool, SymFloat: {"as_expr": ...} or a plain value under `plain`. */
static int read_sym(struct pull *s, const char *plain,
                    int (*read_plain)(struct pull *s, struct pt2_dim *ret),
                    struct pt2_dim *ret)
{
    struct pull_text key;

    if (pull_union(s, &key) < 0)
        return -1;
    if (pull_text_is(key, "as_expr")) {
        if (read_sym_expr(s, ret) < 0)
            return -1;
    } else if (pull_text_is(key, plain)) {
        if (read_plain(s, ret) < 0)
            return -1;
    } else {
        return pull_fail(s, "expected as_expr or %s", plain);
    }
    return pull_union_end(s);
}

static int read_plain_int(struct pull *s, struct pt2_dim *ret)
{
    *ret = (struct pt2_dim){0};
    return pull_int(s, &ret->value);
}

static int read_plain_bool(struct pull *s, struct pt2_dim *ret)
{
    bool b;

    if (pull_bool(s, &b) < 0)
        return -1;
    *ret = (struct pt2_dim){.value = b};
    return 0;
}

static int refuse_plain_float(struct pull *s, struct pt2_dim *ret)
{
    return pull_fail(s, "a symbolic float that is a plain number is not supported");
}

/* ---- TensorMeta ---- */

static int read_dtype(struct pull *s, void *ctx)
{
    struct pt2_tensor_meta *meta = ctx;
    int64_t code;

    if (pull_int(s, &code) < 0)
        return -1;
    meta->dtype =
        code >= 0 && code < 256 ? pt2_dtype_from_schema((long)code) : PT2_DTYPE_NONE;
    return meta->dtype ? 0 : pull_fail(s, "dtype %lld is not supported", (long long)code);
}

/* A list of sizes under way. */
struct dims {
    struct pt2_dim *to;
    unsigned n;
};

static int read_dim_item(struct pull *s, void *ctx)
{
    struct dims *dims = ctx;
    struct pt2_dim *dim;

    if (dims->n == PT2_MAX_DIMS)
        return pull_fail(s, "more than %d dimensions", PT2_MAX_DIMS);
    dim = &dims->to[dims->n];
    if (read_sym(s, "as_int", read_plain_int, dim) < 0)
        return -1;
    if (!dim->expr && dim->value < 0)
        return pull_fail(s, "a size or stride is %lld", (long long)dim->value);
    dims->n++;
    return 0;
}

static int read_sizes(struct pull *s, void *ctx)
{
    struct pt2_tensor_meta *meta = ctx;
    struct dims dims = {.to = meta->sizes};

    if (pull_list(s, read_dim_item, &dims) < 0)
        return -1;
    meta->n_dims = dims.n;
    return 0;
}

static int read_strides(struct pull *s, void *ctx)
{
    struct pt2_tensor_meta *meta = ctx;
    struct dims dims = {.to = meta->strides};

    if (pull_list(s, read_dim_item, &dims) < 0)
        return -1;
    return dims.n == meta->n_dims
               ? 0
               : pull_fail(s, "%u sizes and %u strides", meta->n_dims, dims.n);
}

static int read_storage_offset(struct pull *s, void *ctx)
{
    struct pt2_tensor_meta *meta = ctx;

    if (read_sym(s, "as_int", read_plain_int, &meta->storage_offset) < 0)
        return -1;
    if (!meta->storage_offset.expr && meta->storage_offset.value < 0)
        return pull_fail(s, "the storage offset is negative");
    return 0;
}

static int read_requires_grad(struct pull *s, void *ctx)
{
    struct pt2_tensor_meta *meta = ctx;

    return pull_bool(s, &meta->requires_grad);
}

static int read_meta_layout(struct pull *s, void *ctx)
{
    int64_t layout;

    if (pull_int(s, &layout) < 0)
        return -1;
    return layout == 7 ? 0
                       : pull_fail(s, "layout %lld is not supported, only 7 (strided)",
                                   (long long)layout);
}

/* A device under way. */
struct device {
    char type[32];
    int64_t index; /* -1: none */
};

static int read_device_type(struct pull *s, void *ctx)
{
    struct device *device = ctx;
    struct pull_text text;

    if (pull_string(s, &text) < 0)
        return -1;
    if (text.len == 0 || text.len >= sizeof(device->type))
        return pull_fail(s, "a device's type has %zu bytes", text.len);
    for (size_t i = 0; i < text.len; i++)
        if (!((text.s[i] >= 'a' && text.s[i] <= 'z') || text.s[i] == '_'))
            return pull_fail(s, "there is no device of that type");
    memcpy(device->type, text.s, text.len);
    device->type[text.len] = '\0';
    return 0;
}

static int read_device_index(struct pull *s, void *ctx)
{
    struct device *device = ctx;

    if (pull_null(s))
        return 0;
    if (pull_int(s, &device->index) < 0)
        return -1;
    return device->index >= 0 && device->index < 1024
               ? 0
               : pull_fail(s, "there is no device %lld", (long long)device->index);
}

int parser_device(struct parser *p, const char **ret)
{
    static const struct pull_member members[] = {
        {"type", read_device_type, true, 0},
        {"index", read_device_index, false, 0},
    };
    struct device device = {.index = -1};
    char text[48];

    if (pull_object(&p->pull, members, ARRAY_LEN(members), &device) < 0)
        return -1;
    if (device.index < 0 && streq(device.type, "cpu")) {
        *ret = "cpu"; /* nearly all of them */
        return 0;
    }
    snprintf(text, sizeof(text), device.index < 0 ? "%s" : "%s:%d", device.type,
             (int)device.index);
    *ret = pt2_program_string(p->program, text);
    return *ret ? 0 : parser_no_memory(p);
}

static int read_meta_device(struct pull *s, void *ctx)
{
    struct pt2_tensor_meta *meta = ctx;

    return parser_device(parser_of(s), &meta->device);
}

/* Do the concrete sizes multiply to something that a tensor can be? */
static bool sizes_fit(const struct pt2_tensor_meta *meta)
{
    int64_t sizes[PT2_MAX_DIMS];
    uint64_t bytes;

    for (unsigned i = 0; i < meta->n_dims; i++)
        sizes[i] = meta->sizes[i].expr ? 1 : meta->sizes[i].value;
    return pt2_tensor_bytes(meta->dtype, meta->n_dims, sizes, &bytes) &&
           bytes <= INT64_MAX;
}

static int read_meta(struct pull *s, struct pt2_tensor_meta *ret)
{
    static const struct pull_member members[] = {
        {"dtype", read_dtype, true, 0},
        {"sizes", read_sizes, true, 0},
        {"requires_grad", read_requires_grad, true, 0},
        {"device", read_meta_device, true, 0},
        {"strides", read_strides, true, 1 << 1},
        {"storage_offset", read_storage_offset, true, 0},
        {"layout", read_meta_layout, true, 0},
    };

    *ret = (struct pt2_tensor_meta){0};
    if (pull_object(s, members, ARRAY_LEN(members), ret) < 0)
        return -1;
    return sizes_fit(ret) ? 0 : pull_fail(s, "the tensor is too large");
}

/* ---- the tables ---- */

/* An entry of a table.  One whose name no value of that kind has is read and dropped:
 * torch lists a few outputs that nobody uses. */
struct entry {
    const char *table;
    enum pt2_value_kind kind;
    int (*read)(struct pull *s, struct pt2_value *value);
};

static int read_entry(struct pull *s, void *ctx, struct pull_text name)
{
    struct parser *p = parser_of(s);
    const struct entry *entry = ctx;
    const struct name_slot *slot;
    struct pt2_value unused = {0}, *value = &unused;
    char scoped[PARSER_SCOPED_SIZE];
    uint32_t i;

    if (parser_scoped(p, &name, scoped) < 0)
        return -1;
    slot = names_find(&p->program->names, name.s, name.len);
    i = slot ? slot->number : 0;
    if (slot && p->program->values[i].kind == entry->kind) {
        value = &p->program->values[i];
        if (p->has_meta[i])
            return pull_fail(s, "%s has '%s' twice", entry->table, value->name);
        p->has_meta[i] = 1;
    }
    if (entry->read(s, value) < 0)
        return pt2_err_prefix(p->err, "%s of '%s'", entry->table,
                              value->name ? value->name : "a value that nobody uses");
    return 0;
}

static int read_tensor_entry(struct pull *s, struct pt2_value *value)
{
    return read_meta(s, &value->meta);
}

int parser_tensor_values(struct pull *s, void *ctx)
{
    struct entry entry = {"tensor_values", PT2_VALUE_TENSOR, read_tensor_entry};

    return pull_map(s, read_entry, &entry);
}

static int read_sym_int_entry(struct pull *s, struct pt2_value *value)
{
    return read_sym(s, "as_int", read_plain_int, &value->sym);
}

int parser_sym_int_values(struct pull *s, void *ctx)
{
    struct entry entry = {"sym_int_values", PT2_VALUE_SYM_INT, read_sym_int_entry};

    return pull_map(s, read_entry, &entry);
}

static int read_sym_bool_entry(struct pull *s, struct pt2_value *value)
{
    return read_sym(s, "as_bool", read_plain_bool, &value->sym);
}

int parser_sym_bool_values(struct pull *s, void *ctx)
{
    struct entry entry = {"sym_bool_values", PT2_VALUE_SYM_BOOL, read_sym_bool_entry};

    return pull_map(s, read_entry, &entry);
}

static int read_sym_float_entry(struct pull *s, struct pt2_value *value)
{
    return read_sym(s, "as_float", refuse_plain_float, &value->sym);
}

int parser_sym_float_values(struct pull *s, void *ctx)
{
    struct entry entry = {"sym_float_values", PT2_VALUE_SYM_FLOAT, read_sym_float_entry};

    return pull_map(s, read_entry, &entry);
}
