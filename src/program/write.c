/* write.c - a program as models/model.json (schema 8), compact, always in one order. */
#include "base/buf.h"
#include "base/log.h"
#include "base/num.h"
#include "program/impl.h"

#include <math.h>

#define MAX_JSON   ((size_t)1 << 30)
#define IDENTIFIER "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"

static void put_string(struct buf *b, const char *s)
{
    buf_add(b, "\"", 1);
    for (const char *from = s;; s++) {
        unsigned char c = (unsigned char)*s;

        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        buf_add(b, from, (size_t)(s - from));
        from = s + 1;
        if (!c)
            break;
        if (c < 0x20)
            buf_printf(b, "\\u%04x", c);
        else
            buf_printf(b, "\\%c", c);
    }
    buf_add(b, "\"", 1);
}

/* "key": - with a comma before it, unless an object or list has just begun. */
static void put_key(struct buf *b, const char *key)
{
    if (b->len && b->data[b->len - 1] != '{')
        buf_add(b, ",", 1);
    put_string(b, key);
    buf_add(b, ":", 1);
}

static void put_item(struct buf *b)
{
    if (b->len && b->data[b->len - 1] != '[')
        buf_add(b, ",", 1);
}

static void put_int(struct buf *b, int64_t i)
{
    char text[24];

    buf_add(b, text, (size_t)snprintf(text, sizeof(text), "%lld", (long long)i));
}

static void put_bool(struct buf *b, bool value)
{
    buf_str(b, value ? "true" : "false");
}

static void put_double(struct buf *b, double f)
{
    char text[NUM_DOUBLE_CHARS];

    buf_add(b, text, num_put_double(text, f));
}

/* ---- values ---- */

/* An expression with its symbols as torch writes them: without the assumptions a slice from
 * the end on has no size when ExecuTorch (1.5.1) lowers it. */
static void put_symbols(struct buf *b, const char *text)
{
    buf_str(b, "\"");
    while (*text) {
        size_t n = strspn(text, IDENTIFIER);

        if (n == 0) {
            buf_add(b, text++, 1);
        } else if ((*text >= '0' && *text <= '9') || text[n] == '(') {
            buf_add(b, text, n); /* a number, a function */
            text += n;
        } else {
            buf_printf(b, "Symbol('%.*s', %sinteger=True)", (int)n, text,
                       *text == 'u' ? "" : "positive=True, "); /* 'u0': may be 0 */
            text += n;
        }
    }
    buf_str(b, "\"");
}

static void put_expr(struct buf *b, const struct pt2_dim *dim, bool is_bool)
{
    buf_str(b, "{\"as_expr\":{\"expr_str\":");
    put_symbols(b, dim->expr);
    buf_str(b, ",\"hint\":");
    if (dim->value < 0) {
        buf_str(b, "null");
    } else if (is_bool) {
        buf_str(b, "{\"as_bool\":");
        put_bool(b, dim->value);
        buf_str(b, "}");
    } else {
        buf_str(b, "{\"as_int\":");
        put_int(b, dim->value);
        buf_str(b, "}");
    }
    buf_str(b, "}}");
}

static void put_dim(struct buf *b, const struct pt2_dim *dim)
{
    if (dim->expr) {
        put_expr(b, dim, false);
        return;
    }
    buf_str(b, "{\"as_int\":");
    put_int(b, dim->value);
    buf_str(b, "}");
}

static void put_dims(struct buf *b, const struct pt2_dim *dims, unsigned n)
{
    buf_str(b, "[");
    for (unsigned i = 0; i < n; i++) {
        put_item(b);
        put_dim(b, &dims[i]);
    }
    buf_str(b, "]");
}

/* "cpu" and "cuda:0" as {"type", "index"}. */
static void put_device(struct buf *b, const char *device)
{
    const char *colon = strchr(device, ':');
    char type[64];

    snprintf(type, sizeof(type), "%.*s", colon ? (int)(colon - device) : 63, device);
    buf_str(b, "{\"type\":");
    put_string(b, type);
    buf_str(b, ",\"index\":");
    buf_str(b, colon ? colon + 1 : "null");
    buf_str(b, "}");
}

static void put_meta(struct buf *b, const struct pt2_tensor_meta *meta)
{
    buf_printf(b, "{\"dtype\":%d,\"sizes\":", pt2_dtype_schema(meta->dtype));
    put_dims(b, meta->sizes, meta->n_dims);
    buf_str(b, ",\"requires_grad\":");
    put_bool(b, meta->requires_grad);
    buf_str(b, ",\"device\":");
    put_device(b, meta->device);
    buf_str(b, ",\"strides\":");
    put_dims(b, meta->strides, meta->n_dims);
    buf_str(b, ",\"storage_offset\":");
    put_dim(b, &meta->storage_offset);
    buf_str(b, ",\"layout\":7}"); /* strided */
}

static void put_values(struct buf *b, const struct pt2_program *p,
                       enum pt2_value_kind kind)
{
    buf_str(b, "{");
    for (uint32_t i = 0; i < p->n_values; i++) {
        const struct pt2_value *value = &p->values[i];

        if (value->kind != kind)
            continue;
        put_key(b, value->name);
        if (kind == PT2_VALUE_TENSOR) {
            put_meta(b, &value->meta);
        } else if (kind == PT2_VALUE_SYM_BOOL && !value->sym.expr) {
            buf_str(b, "{\"as_bool\":");
            put_bool(b, value->sym.value);
            buf_str(b, "}");
        } else if (kind == PT2_VALUE_SYM_INT) {
            put_dim(b, &value->sym);
        } else {
            put_expr(b, &value->sym, kind == PT2_VALUE_SYM_BOOL);
        }
    }
    buf_str(b, "}");
}

/* ---- arguments ---- */

/* The member of the schema's unions that a kind is; a list's items are spelled apart. */
static const char *arg_key(enum pt2_arg_kind kind)
{
    static const char *const keys[] = {
        [PT2_ARG_NONE] = "as_none",
        [PT2_ARG_TENSOR] = "as_tensor",
        [PT2_ARG_SYM_INT] = "as_sym_int",
        [PT2_ARG_SYM_BOOL] = "as_sym_bool",
        [PT2_ARG_SYM_FLOAT] = "as_sym_float",
        [PT2_ARG_INT] = "as_int",
        [PT2_ARG_FLOAT] = "as_float",
        [PT2_ARG_BOOL] = "as_bool",
        [PT2_ARG_STRING] = "as_string",
        [PT2_ARG_SCALAR_TYPE] = "as_scalar_type",
        [PT2_ARG_MEMORY_FORMAT] = "as_memory_format",
        [PT2_ARG_LAYOUT] = "as_layout",
        [PT2_ARG_DEVICE] = "as_device",
        [PT2_ARG_TENSORS] = "as_tensors",
        [PT2_ARG_OPTIONAL_TENSORS] = "as_optional_tensors",
        [PT2_ARG_INTS] = "as_ints",
        [PT2_ARG_SYM_INTS] = "as_sym_ints",
        [PT2_ARG_FLOATS] = "as_floats",
        [PT2_ARG_BOOLS] = "as_bools",
        [PT2_ARG_STRINGS] = "as_strings",
    };

    return keys[kind];
}

static void put_name(struct buf *b, const struct pt2_program *p, const char *key,
                     uint32_t value)
{
    buf_str(b, "{");
    put_key(b, key);
    put_string(b, p->values[value].name);
    buf_str(b, "}");
}

/* What stands behind the key. */
static void put_scalar(struct buf *b, const struct pt2_program *p,
                       const struct pt2_arg *arg)
{
    switch (arg->kind) {
    case PT2_ARG_NONE:
        buf_str(b, "true");
        return;
    case PT2_ARG_TENSOR:
        put_name(b, p, "name", arg->value);
        return;
    case PT2_ARG_SYM_INT:
    case PT2_ARG_SYM_BOOL:
    case PT2_ARG_SYM_FLOAT:
        put_name(b, p, "as_name", arg->value);
        return;
    case PT2_ARG_INT:
    case PT2_ARG_MEMORY_FORMAT:
    case PT2_ARG_LAYOUT:
        put_int(b, arg->i);
        return;
    case PT2_ARG_FLOAT:
        put_double(b, arg->f);
        return;
    case PT2_ARG_BOOL:
        put_bool(b, arg->b);
        return;
    case PT2_ARG_STRING:
        put_string(b, arg->s);
        return;
    case PT2_ARG_SCALAR_TYPE:
        put_int(b, pt2_dtype_schema(arg->dtype));
        return;
    case PT2_ARG_DEVICE:
        put_device(b, arg->s);
        return;
    default:
        ASSERT(!"a list within a list");
    }
}

/* {"as_tensor": {"name": "x"}} */
static void put_union(struct buf *b, const struct pt2_program *p,
                      const struct pt2_arg *arg)
{
    buf_str(b, "{");
    put_key(b, arg_key(arg->kind));
    put_scalar(b, p, arg);
    buf_str(b, "}");
}

static void put_list(struct buf *b, const struct pt2_program *p,
                     const struct pt2_arg *list)
{
    buf_str(b, "[");
    for (uint32_t i = 0; i < list->list.n; i++) {
        const struct pt2_arg *item = &list->list.items[i];

        put_item(b);
        if (list->kind == PT2_ARG_OPTIONAL_TENSORS) {
            put_union(b, p, item);
        } else if (list->kind == PT2_ARG_SYM_INTS && item->kind == PT2_ARG_INT) {
            buf_str(b, "{\"as_int\":");
            put_int(b, item->i);
            buf_str(b, "}");
        } else {
            put_scalar(b, p, item);
        }
    }
    buf_str(b, "]");
}

static void put_arg(struct buf *b, const struct pt2_program *p, const struct pt2_arg *arg)
{
    if (arg->kind < PT2_ARG_TENSORS) {
        put_union(b, p, arg);
        return;
    }
    buf_str(b, "{");
    put_key(b, arg_key(arg->kind));
    put_list(b, p, arg);
    buf_str(b, "}");
}

/* ---- the graph ---- */

static void put_node(struct buf *b, const struct pt2_program *p,
                     const struct pt2_node *node)
{
    buf_str(b, "{\"target\":");
    put_string(b, node->target);
    buf_str(b, ",\"inputs\":[");
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        const struct pt2_named_arg *input = &node->inputs[i];

        put_item(b);
        buf_str(b, "{\"name\":");
        put_string(b, input->name);
        buf_str(b, ",\"arg\":");
        put_arg(b, p, &input->arg);
        if (input->kind)
            buf_printf(b, ",\"kind\":%d", input->kind);
        buf_str(b, "}");
    }
    buf_str(b, "],\"outputs\":[");
    for (uint32_t i = 0; i < node->n_outputs; i++) {
        put_item(b);
        put_arg(b, p, &node->outputs[i]);
    }
    buf_str(b, "],\"metadata\":{}");
    if (node->name) {
        buf_str(b, ",\"name\":");
        put_string(b, node->name);
    }
    buf_str(b, "}");
}

static struct pt2_arg input_arg(const struct pt2_program *p,
                                const struct pt2_input *input)
{
    bool is_tensor = p->values[input->value].kind == PT2_VALUE_TENSOR;

    return (struct pt2_arg){.kind = is_tensor ? PT2_ARG_TENSOR : PT2_ARG_SYM_INT,
                            .value = input->value};
}

static void put_graph(struct buf *b, const struct pt2_program *p)
{
    buf_str(b, "{\"inputs\":[");
    for (uint32_t i = 0; i < p->n_inputs; i++) {
        struct pt2_arg arg = input_arg(p, &p->inputs[i]);

        put_item(b);
        put_arg(b, p, &arg);
    }
    buf_str(b, "],\"outputs\":[");
    for (uint32_t i = 0; i < p->n_outputs; i++) {
        put_item(b);
        put_arg(b, p, &p->outputs[i].arg);
    }
    buf_str(b, "],\"nodes\":[");
    for (uint32_t i = 0; i < p->n_nodes; i++) {
        put_item(b);
        put_node(b, p, &p->nodes[i]);
    }
    buf_str(b, "],\"tensor_values\":");
    put_values(b, p, PT2_VALUE_TENSOR);
    buf_str(b, ",\"sym_int_values\":");
    put_values(b, p, PT2_VALUE_SYM_INT);
    buf_str(b, ",\"sym_bool_values\":");
    put_values(b, p, PT2_VALUE_SYM_BOOL);
    buf_str(b, ",\"is_single_tensor_return\":false,\"custom_obj_values\":{}"
               ",\"sym_float_values\":");
    put_values(b, p, PT2_VALUE_SYM_FLOAT);
    buf_str(b, "}");
}

/* ---- the signature ---- */

static void put_input_spec(struct buf *b, const struct pt2_program *p,
                           const struct pt2_input *input)
{
    static const struct {
        const char *key, *name;
    } kinds[] = {
        [PT2_INPUT_PARAMETER] = {"parameter", "parameter_name"},
        [PT2_INPUT_BUFFER] = {"buffer", "buffer_name"},
        [PT2_INPUT_CONSTANT] = {"tensor_constant", "tensor_constant_name"},
        [PT2_INPUT_USER] = {"user_input", NULL},
    };

    buf_str(b, "{");
    put_key(b, kinds[input->kind].key);
    buf_str(b, "{\"arg\":");
    if (input->kind == PT2_INPUT_USER) {
        struct pt2_arg arg = input_arg(p, input);

        put_arg(b, p, &arg);
    } else {
        put_name(b, p, "name", input->value);
        put_key(b, kinds[input->kind].name);
        put_string(b, input->fqn);
    }
    if (input->kind == PT2_INPUT_BUFFER) {
        buf_str(b, ",\"persistent\":");
        put_bool(b, input->persistent);
    }
    buf_str(b, "}}");
}

static void put_output_spec(struct buf *b, const struct pt2_program *p,
                            const struct pt2_output *output)
{
    bool is_buffer = output->kind == PT2_OUTPUT_BUFFER_MUTATION;

    if (output->kind == PT2_OUTPUT_USER) {
        buf_str(b, "{\"user_output\":{\"arg\":");
        put_arg(b, p, &output->arg);
    } else {
        buf_str(b, is_buffer ? "{\"buffer_mutation\":{\"arg\":"
                             : "{\"user_input_mutation\":{\"arg\":");
        put_name(b, p, "name", output->arg.value);
        put_key(b, is_buffer ? "buffer_name" : "user_input_name");
        put_string(b, output->fqn);
    }
    buf_str(b, "}}");
}

static void put_signature(struct buf *b, const struct pt2_program *p)
{
    buf_str(b, "{\"input_specs\":[");
    for (uint32_t i = 0; i < p->n_inputs; i++) {
        put_item(b);
        put_input_spec(b, p, &p->inputs[i]);
    }
    buf_str(b, "],\"output_specs\":[");
    for (uint32_t i = 0; i < p->n_outputs; i++) {
        put_item(b);
        put_output_spec(b, p, &p->outputs[i]);
    }
    buf_str(b, "]}");
}

/* ---- how the module is called: tree specs, JSON within JSON strings ---- */

#define LEAF "{\"type\": null, \"context\": null, \"children_spec\": []}"

static void put_leaves(struct buf *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        put_item(b);
        buf_str(b, i ? " " LEAF : LEAF);
    }
}

/* No positional arguments; the user inputs by keyword, as Transformers calls forward. */
static void put_in_spec(struct buf *b, const struct pt2_program *p)
{
    AUTO_BUF names = BUF_INIT(MAX_JSON), quoted = BUF_INIT(MAX_JSON),
             spec = BUF_INIT(MAX_JSON);
    size_t n = 0;

    for (uint32_t i = 0; i < p->n_inputs; i++) {
        if (p->inputs[i].kind != PT2_INPUT_USER)
            continue;
        buf_str(&names, n++ ? ", " : "");
        put_string(&names, p->values[p->inputs[i].value].name);
    }
    buf_str(&names, "]");
    buf_str(&spec, "[1, {\"type\": \"builtins.tuple\", \"context\": \"null\", "
                   "\"children_spec\": [{\"type\": \"builtins.tuple\", \"context\": "
                   "\"null\", \"children_spec\": []}, {\"type\": \"builtins.dict\", "
                   "\"context\": \"[");
    if (!buf_failed(&names)) /* the context is JSON in a string of its own */
        put_string(&quoted, names.data);
    if (!buf_failed(&quoted) && quoted.len > 0)
        buf_add(&spec, quoted.data + 1, quoted.len - 1);
    buf_str(&spec, ", \"children_spec\": [");
    put_leaves(&spec, n);
    buf_str(&spec, "]}]}]");
    b->failed =
        b->failed || buf_failed(&names) || buf_failed(&quoted) || buf_failed(&spec);
    if (!buf_failed(b))
        put_string(b, spec.data);
}

/* The outputs as forward returns them: one alone, or a tuple. */
static void put_out_spec(struct buf *b, const struct pt2_program *p)
{
    AUTO_BUF spec = BUF_INIT(MAX_JSON);
    size_t n = 0;

    for (uint32_t i = 0; i < p->n_outputs; i++)
        n += p->outputs[i].kind == PT2_OUTPUT_USER;
    if (n == 1) {
        buf_str(&spec, "[1, " LEAF "]");
    } else {
        buf_str(&spec, "[1, {\"type\": \"builtins.tuple\", \"context\": \"null\", "
                       "\"children_spec\": [");
        put_leaves(&spec, n);
        buf_str(&spec, "]}]");
    }
    b->failed = b->failed || buf_failed(&spec);
    if (!buf_failed(b))
        put_string(b, spec.data);
}

static void put_module_call_graph(struct buf *b, const struct pt2_program *p)
{
    buf_str(b, "[{\"fqn\":\"\",\"signature\":{\"inputs\":[],\"outputs\":[],\"in_spec\":");
    put_in_spec(b, p);
    buf_str(b, ",\"out_spec\":");
    put_out_spec(b, p);
    buf_str(b, ",\"forward_arg_names\":[");
    for (uint32_t i = 0; i < p->n_inputs; i++) {
        if (p->inputs[i].kind != PT2_INPUT_USER)
            continue;
        put_item(b);
        put_string(b, p->values[p->inputs[i].value].name);
    }
    buf_str(b, "]}}]");
}

/* ---- the whole ---- */

static void put_bound(struct buf *b, int64_t bound, int64_t open)
{
    if (bound == open)
        buf_str(b, "null");
    else
        put_int(b, bound);
}

static void put_ranges(struct buf *b, const struct pt2_program *p)
{
    buf_str(b, "{");
    for (uint32_t i = 0; i < p->n_ranges; i++) {
        put_key(b, p->ranges[i].symbol);
        buf_str(b, "{\"min_val\":");
        put_bound(b, p->ranges[i].min, INT64_MIN);
        buf_str(b, ",\"max_val\":");
        put_bound(b, p->ranges[i].max, INT64_MAX);
        buf_str(b, "}");
    }
    buf_str(b, "}");
}

int pt2_program_to_json(const struct pt2_program *p, char **ret_json, size_t *ret_len,
                        struct pt2_err *err)
{
    AUTO_BUF b = BUF_INIT(MAX_JSON);
    size_t len;
    char *json;

    buf_str(&b, "{\"graph_module\":{\"graph\":");
    put_graph(&b, p);
    buf_str(&b, ",\"signature\":");
    put_signature(&b, p);
    buf_str(&b, ",\"module_call_graph\":");
    put_module_call_graph(&b, p);
    buf_str(&b, ",\"metadata\":{},\"treespec_namedtuple_fields\":{}}"
                ",\"opset_version\":{\"aten\":10},\"range_constraints\":");
    put_ranges(&b, p);
    buf_printf(&b, ",\"schema_version\":{\"major\":%d,\"minor\":%d}", p->schema_major,
               p->schema_minor);
    buf_str(&b, ",\"verifiers\":[\"TRAINING\"],\"torch_version\":");
    put_string(&b, p->torch_version);
    buf_str(&b, ",\"guards_code\":[]}");
    len = b.len;
    json = buf_take(&b);
    if (!json)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a program's JSON");
    *ret_json = json;
    *ret_len = len;
    return 0;
}
