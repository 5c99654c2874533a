/* mutate_plan.c - mutations of a model.json that mostly still parses: its graph's nodes,
 * arguments and metadata. */
#include "base/util.h"

#include <jansson.h>

#define MAX_FOUND 4096

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

static uint64_t state;

static size_t below(size_t n) /* splitmix64 */
{
    uint64_t z = (state += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return n ? (size_t)((z ^ (z >> 31)) % n) : 0;
}

struct model {
    json_t *graph, *nodes, *tensors, *ranges;
};

static json_t *any_node(const struct model *m)
{
    return json_array_get(m->nodes, below(json_array_size(m->nodes)));
}

/* ---- what is in a piece of JSON ---- */

struct found {
    json_t *at[MAX_FOUND];
    size_t n;
};

static void find(json_t *in, bool (*is)(const json_t *json), struct found *found)
{
    const char *key;
    json_t *item;
    size_t i;

    if (is(in) && found->n < MAX_FOUND)
        found->at[found->n++] = in;
    json_array_foreach(in, i, item)
        find(item, is, found);
    json_object_foreach(in, key, item)
        find(item, is, found);
}

static bool is_reference(const json_t *json) /* {"name": "x"} */
{
    return json_object_size(json) == 1 && json_is_string(json_object_get(json, "name"));
}

static bool is_whole(const json_t *json) /* {"as_int": 1} */
{
    return json_object_size(json) == 1 && json_is_integer(json_object_get(json, "as_int"));
}

static bool is_number(const json_t *json)
{
    return json_is_number(json);
}

static bool is_argument(const json_t *json) /* {"name": "dim", "arg": {..}} */
{
    return json_is_object(json_object_get(json, "arg"));
}

static json_t *any(json_t *in, bool (*is)(const json_t *json))
{
    static struct found found;

    found.n = 0;
    find(in, is, &found);
    return found.n ? found.at[below(found.n)] : NULL;
}

/* The name of any tensor; NULL: there is none. */
static const char *any_tensor(const struct model *m)
{
    size_t at = below(json_object_size(m->tensors));
    void *i = json_object_iter(m->tensors);

    while (at-- > 0 && i)
        i = json_object_iter_next(m->tensors, i);
    return i ? json_object_iter_key(i) : NULL;
}

static void rename_all(json_t *in, const char *from, const char *to)
{
    static struct found found;

    found.n = 0;
    find(in, is_reference, &found);
    for (size_t i = 0; i < found.n; i++)
        if (streq(json_string_value(json_object_get(found.at[i], "name")), from))
            json_object_set_new(found.at[i], "name", json_string(to));
}

/* ---- numbers ---- */

static json_int_t odd_number(json_int_t now)
{
    static const json_int_t numbers[] = {
        0, 1, -1, 2, 3, 4, 5, 7, 8, 16, 31, 64, 255, 1000003, INT32_MAX, -INT32_MAX,
        (json_int_t)1 << 32, INT64_MAX, INT64_MIN, INT64_MAX / 2, 65536, 1 << 20};

    switch (below(4)) {
    case 0:
        return numbers[below(ARRAY_LEN(numbers))];
    case 1:
        return now / 2;
    case 2:
        return now < INT32_MAX && now > INT32_MIN ? now * 2 : now;
    default:
        return now < INT32_MAX && now > INT32_MIN ? now + (json_int_t)below(3) - 1 : now;
    }
}

static void change_number(json_t *in)
{
    static const double reals[] = {0, -1, 1e-30, 1e30, 3.5};
    json_t *number = any(in, is_number);

    if (json_is_integer(number))
        json_integer_set(number, odd_number(json_integer_value(number)));
    else if (number)
        json_real_set(number, reals[below(ARRAY_LEN(reals))]);
}

/* All sizes that are so large, everywhere: what goes together stays together. */
static void change_size(const struct model *m)
{
    static struct found found;
    json_int_t from, to;

    found.n = 0;
    find(m->graph, is_whole, &found);
    if (found.n == 0)
        return;
    from = json_integer_value(json_object_get(found.at[below(found.n)], "as_int"));
    to = odd_number(from);
    for (size_t i = 0; i < found.n; i++)
        if (json_integer_value(json_object_get(found.at[i], "as_int")) == from)
            json_object_set_new(found.at[i], "as_int", json_integer(to));
}

static void make_symbolic(const struct model *m)
{
    static const char *const texts[] = {"s0", "2*s0", "s0 + 1", "u0", "s0*s0", "s0//2"};
    const char *name = any_tensor(m);
    json_t *size = name ? any(json_object_get(m->tensors, name), is_whole) : NULL;

    if (!size)
        return;
    json_object_set_new(size, "as_expr",
                        json_pack("{s:s,s:{s:i}}", "expr_str", texts[below(ARRAY_LEN(texts))],
                                  "hint", "as_int", 3));
    json_object_del(size, "as_int");
    if (json_object_size(m->ranges) == 0)
        json_object_set_new(m->ranges, "s0",
                            json_pack("{s:i,s:i}", "min_val", 1, "max_val", 8));
}

/* ---- metadata ---- */

static void change_meta(const struct model *m)
{
    const char *name = any_tensor(m);
    json_t *meta = name ? json_object_get(m->tensors, name) : NULL;
    json_t *sizes = json_object_get(meta, "sizes"), *strides = json_object_get(meta, "strides");
    size_t at = below(json_array_size(sizes) + 1);

    switch (below(4)) {
    case 0:
        change_number(meta);
        break;
    case 1: /* a dimension more */
        json_array_insert_new(sizes, at, json_pack("{s:i}", "as_int", 1));
        json_array_insert_new(strides, at, json_pack("{s:i}", "as_int", 1));
        break;
    case 2:
        json_array_remove(sizes, at);
        json_array_remove(strides, at);
        break;
    default:
        json_object_set_new(meta, "dtype", json_integer((json_int_t)below(14)));
    }
}

/* ---- arguments ---- */

static void change_argument(const struct model *m)
{
    static const char *const kinds[] = {"as_int",   "as_ints",     "as_float",
                                        "as_bool",  "as_none",     "as_tensor",
                                        "as_string", "as_scalar_type"};
    json_t *node = any_node(m), *named = any(json_object_get(node, "inputs"), is_argument);
    json_t *arg = json_object_get(named, "arg"), *list;
    const char *tensor = any_tensor(m), *kind = kinds[below(ARRAY_LEN(kinds))];

    if (!arg || !tensor)
        return;
    list = json_object_get(arg, "as_ints");
    if (list && below(2)) { /* longer or shorter */
        if (below(2))
            json_array_remove(list, below(json_array_size(list)));
        else
            json_array_insert_new(list, below(json_array_size(list) + 1),
                                  json_integer(odd_number(1)));
        return;
    }
    json_object_clear(arg);
    json_object_set_new(arg, kind,
                        streq(kind, "as_tensor")   ? json_pack("{s:s}", "name", tensor)
                        : streq(kind, "as_string") ? json_string("none")
                        : streq(kind, "as_ints")   ? json_pack("[i,i]", -1, 2)
                        : streq(kind, "as_float")  ? json_real(0.5)
                        : streq(kind, "as_none") || streq(kind, "as_bool")
                            ? json_true()
                            : json_integer(odd_number(2)));
}

static void drop_argument(const struct model *m)
{
    json_t *inputs = json_object_get(any_node(m), "inputs");

    json_array_remove(inputs, below(json_array_size(inputs)));
}

static void name_argument(const struct model *m)
{
    static const char *const names[] = {
        "self", "other", "dim", "dims", "size", "shape", "start", "end", "step", "index",
        "indices", "source", "values", "weight", "bias", "input", "mask", "condition",
        "value", "attn_mask", "scale", "keepdim", "dtype", "length", "repeats", "alpha",
        "split_size", "split_sizes", "chunks", "normalized_shape", "eps", "exponent",
        "tensors", "dim0", "dim1", "start_dim", "end_dim", "enable_gqa", "min", "max"};
    json_t *named = any(json_object_get(any_node(m), "inputs"), is_argument);

    if (named)
        json_object_set_new(named, "name", json_string(names[below(ARRAY_LEN(names))]));
}

/* ---- nodes ---- */

static void change_target(const struct model *m)
{
    static const char *const ops[] = {
        "add", "sub", "mul", "div", "maximum", "neg", "exp", "silu", "gelu", "softplus",
        "pow", "clamp", "sum", "mean", "amax", "softmax", "layer_norm", "rms_norm", "linear",
        "matmul", "mm", "bmm", "addmm", "embedding", "cat", "stack", "view", "reshape",
        "flatten", "expand", "transpose", "t", "permute", "unsqueeze", "squeeze", "slice",
        "narrow", "select", "split", "split_with_sizes", "chunk", "unbind", "to", "alias",
        "clone", "dropout", "index_copy_", "index_put_", "index_copy", "index_put", "copy_",
        "index", "index_select", "gather", "repeat", "repeat_interleave", "where",
        "masked_fill", "masked_fill_", "scaled_dot_product_attention", "arange", "full",
        "zeros_like", "cumsum", "max", "min", "any", "all", "le", "lt", "ge", "gt", "eq",
        "floor_divide", "remainder", "bitwise_and", "bitwise_not", "logical_and", "triu",
        "tril", "item", "sym_size", "add_", "mul_", "fill_", "slice_scatter", "diff",
        "numpy_T", "type_as", "native_layer_norm", "new_full", "cos", "erfinv"};
    char target[64];

    snprintf(target, sizeof(target), "torch.ops.aten.%s.default",
             ops[below(ARRAY_LEN(ops))]);
    json_object_set_new(any_node(m), "target", json_string(target));
}

/* Leave a node out: who read it reads what it read. */
static void drop_node(const struct model *m)
{
    size_t at = below(json_array_size(m->nodes));
    json_t *node = json_array_get(m->nodes, at);
    json_t *in = any(json_object_get(node, "inputs"), is_reference),
           *out = any(json_object_get(node, "outputs"), is_reference);
    const char *from, *to;

    if (!in || !out)
        return;
    from = json_string_value(json_object_get(out, "name"));
    to = json_string_value(json_object_get(in, "name"));
    json_object_del(m->tensors, from);
    json_incref(node);
    json_array_remove(m->nodes, at);
    rename_all(m->graph, from, to);
    json_decref(node);
}

/* The node twice; some later node reads the second one. */
static void double_node(const struct model *m)
{
    size_t at = below(json_array_size(m->nodes));
    json_t *node = json_deep_copy(json_array_get(m->nodes, at)), *later, *read;
    json_t *out = any(json_object_get(node, "outputs"), is_reference);
    char name[80];

    if (!out || json_array_size(json_object_get(node, "outputs")) != 1) {
        json_decref(node);
        return;
    }
    snprintf(name, sizeof(name), "again%zu", below(1000000));
    json_object_set_new(
        m->tensors, name,
        json_deep_copy(json_object_get(
            m->tensors, json_string_value(json_object_get(out, "name")))));
    json_object_set_new(out, "name", json_string(name));
    json_object_set_new(node, "name", json_string(name));
    json_array_insert_new(m->nodes, at + 1, node);
    later = json_array_get(m->nodes, at + 1 + below(json_array_size(m->nodes) - at - 1));
    read = any(json_object_get(later, "inputs"), is_reference);
    if (read && later != node)
        json_object_set_new(read, "name", json_string(name));
}

/* A node, or the answer, reads another value. */
static void change_input(const struct model *m)
{
    json_t *in = below(10) ? json_object_get(any_node(m), "inputs")
                           : json_object_get(m->graph, "outputs");
    json_t *read = any(in, is_reference);
    const char *name = any_tensor(m);

    if (read && name)
        json_object_set_new(read, "name", json_string(name));
}

static void mutate(const struct model *m)
{
    switch (below(14)) {
    case 0:
        change_target(m);
        break;
    case 1:
        drop_node(m);
        break;
    case 2:
        double_node(m);
        break;
    case 3:
    case 4:
        change_input(m);
        break;
    case 5:
        change_meta(m);
        break;
    case 6:
        change_argument(m);
        break;
    case 7:
        drop_argument(m);
        break;
    case 8:
        name_argument(m);
        break;
    case 9:
    case 10:
        change_size(m);
        break;
    case 11:
        make_symbolic(m);
        break;
    default:
        change_number(json_object_get(any_node(m), "inputs"));
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    json_t *file = json_loadb((const char *)data, size, 0, NULL);
    json_t *module = json_object_get(file, "graph_module");
    struct model m = {.graph = json_object_get(module, "graph"),
                      .ranges = json_object_get(file, "range_constraints")};
    char *text;

    state = seed;
    m.nodes = json_object_get(m.graph, "nodes");
    m.tensors = json_object_get(m.graph, "tensor_values");
    for (size_t rounds = 1 + below(below(2) ? 2 : 8); json_array_size(m.nodes) && rounds > 0;
         rounds--)
        mutate(&m);
    text = file ? json_dumps(file, JSON_COMPACT) : NULL;
    json_decref(file);
    if (text && strlen(text) <= max_size) {
        size = strlen(text);
        memcpy(data, text, size);
    }
    free(text);
    return size;
}
