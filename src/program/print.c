/* print.c - a program for people, a node a line. */
#include "base/buf.h"
#include "base/num.h"
#include "program/impl.h"

#define MAX_TEXT ((size_t)1 << 30)

static void print_dim(struct buf *b, const struct pt2_dim *dim)
{
    if (dim->expr)
        buf_str(b, dim->expr);
    else
        buf_printf(b, "%lld", (long long)dim->value);
}

/* "%linear_3 : float32[1, 4, 64]" */
static void print_value(struct buf *b, const struct pt2_value *value)
{
    buf_printf(b, "%%%s : ", value->name);
    switch (value->kind) {
    case PT2_VALUE_TENSOR:
        buf_printf(b, "%s[", pt2_dtype_name(value->meta.dtype));
        for (unsigned i = 0; i < value->meta.n_dims; i++) {
            buf_str(b, i ? ", " : "");
            print_dim(b, &value->meta.sizes[i]);
        }
        buf_str(b, "]");
        return;
    case PT2_VALUE_SYM_INT:
        buf_str(b, "int(");
        break;
    case PT2_VALUE_SYM_BOOL:
        buf_str(b, "bool(");
        break;
    case PT2_VALUE_SYM_FLOAT:
        buf_str(b, "float(");
        break;
    }
    print_dim(b, &value->sym);
    buf_str(b, ")");
}

static void print_string(struct buf *b, const char *s)
{
    buf_str(b, "\"");
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;

        if (c < 0x20 || c == 0x7f)
            buf_printf(b, "\\x%02x", c);
        else if (c == '"' || c == '\\')
            buf_printf(b, "\\%c", c);
        else
            buf_add(b, s, 1);
    }
    buf_str(b, "\"");
}

static void print_float(struct buf *b, double f)
{
    char text[NUM_DOUBLE_CHARS];
    size_t len = num_put_double(text, f);

    if (text[0] == '"') /* "Infinity", "NaN" */
        buf_add(b, text + 1, len - 2);
    else
        buf_add(b, text, len);
}

static const char *memory_format_name(int64_t i)
{
    static const char *const names[] = {"unknown_format", "contiguous_format",
                                        "channels_last", "channels_last_3d",
                                        "preserve_format"};

    return i >= 0 && i < (int64_t)ARRAY_LEN(names) ? names[i] : "unknown_format";
}

static void print_scalar(struct buf *b, const struct pt2_program *p,
                         const struct pt2_arg *arg)
{
    switch (arg->kind) {
    case PT2_ARG_TENSOR:
    case PT2_ARG_SYM_INT:
    case PT2_ARG_SYM_BOOL:
    case PT2_ARG_SYM_FLOAT:
        buf_printf(b, "%%%s", p->values[arg->value].name);
        return;
    case PT2_ARG_INT:
        buf_printf(b, "%lld", (long long)arg->i);
        return;
    case PT2_ARG_FLOAT:
        print_float(b, arg->f);
        return;
    case PT2_ARG_BOOL:
        buf_str(b, arg->b ? "True" : "False");
        return;
    case PT2_ARG_STRING:
    case PT2_ARG_DEVICE:
        print_string(b, arg->s);
        return;
    case PT2_ARG_SCALAR_TYPE:
        buf_str(b, pt2_dtype_name(arg->dtype));
        return;
    case PT2_ARG_MEMORY_FORMAT:
        buf_str(b, memory_format_name(arg->i));
        return;
    case PT2_ARG_LAYOUT:
        buf_str(b, "strided");
        return;
    default:
        buf_str(b, "None");
    }
}

static void print_arg(struct buf *b, const struct pt2_program *p,
                      const struct pt2_arg *arg)
{
    if (arg->kind < PT2_ARG_TENSORS) {
        print_scalar(b, p, arg);
        return;
    }
    buf_str(b, "[");
    for (uint32_t i = 0; i < arg->list.n; i++) {
        buf_str(b, i ? ", " : "");
        print_scalar(b, p, &arg->list.items[i]);
    }
    buf_str(b, "]");
}

/* What a node makes: its values with their types. */
static void print_made(struct buf *b, const struct pt2_program *p,
                       const struct pt2_arg *arg)
{
    if (arg->kind >= PT2_ARG_TENSOR && arg->kind <= PT2_ARG_SYM_FLOAT) {
        print_value(b, &p->values[arg->value]);
    } else if (arg->kind == PT2_ARG_TENSORS) {
        buf_str(b, "[");
        for (uint32_t i = 0; i < arg->list.n; i++) {
            buf_str(b, i ? ", " : "");
            print_value(b, &p->values[arg->list.items[i].value]);
        }
        buf_str(b, "]");
    } else {
        print_arg(b, p, arg);
    }
}

static void print_node(struct buf *b, const struct pt2_program *p,
                       const struct pt2_node *node)
{
    const char *target = after_prefix(node->target, "torch.ops.");

    for (uint32_t i = 0; i < node->n_outputs; i++) {
        buf_str(b, i ? ", " : "");
        print_made(b, p, &node->outputs[i]);
    }
    buf_printf(b, "%s%s(", node->n_outputs ? " = " : "", target ? target : node->target);
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        buf_str(b, i ? ", " : "");
        if (node->inputs[i].kind == 2)
            buf_printf(b, "%s=", node->inputs[i].name);
        print_arg(b, p, &node->inputs[i].arg);
    }
    buf_str(b, ")\n");
}

static void print_input(struct buf *b, const struct pt2_program *p,
                        const struct pt2_input *input)
{
    print_value(b, &p->values[input->value]);
    switch (input->kind) {
    case PT2_INPUT_PARAMETER:
        buf_printf(b, " = parameter %s\n", input->fqn);
        return;
    case PT2_INPUT_BUFFER:
        buf_printf(b, " = buffer %s%s\n", input->fqn,
                   input->persistent ? "" : " (not persistent)");
        return;
    case PT2_INPUT_CONSTANT:
        buf_printf(b, " = constant %s\n", input->fqn);
        return;
    case PT2_INPUT_USER:
        buf_str(b, " = input\n");
        return;
    }
}

static void print_ranges(struct buf *b, const struct pt2_program *p)
{
    for (uint32_t i = 0; i < p->n_ranges; i++) {
        const struct pt2_range *range = &p->ranges[i];

        buf_printf(b, "%s : ", range->symbol);
        if (range->min != INT64_MIN)
            buf_printf(b, "%lld", (long long)range->min);
        buf_str(b, "..");
        if (range->max != INT64_MAX)
            buf_printf(b, "%lld", (long long)range->max);
        buf_str(b, "\n");
    }
}

static void print_outputs(struct buf *b, const struct pt2_program *p)
{
    for (uint32_t i = 0; i < p->n_outputs; i++) {
        if (p->outputs[i].kind == PT2_OUTPUT_USER)
            continue;
        buf_printf(b, "%s %s = ",
                   p->outputs[i].kind == PT2_OUTPUT_BUFFER_MUTATION ? "buffer" : "input",
                   p->outputs[i].fqn);
        print_arg(b, p, &p->outputs[i].arg);
        buf_str(b, "\n");
    }
    buf_str(b, "return");
    for (uint32_t i = 0, n = 0; i < p->n_outputs; i++) {
        if (p->outputs[i].kind != PT2_OUTPUT_USER)
            continue;
        buf_str(b, n++ ? ", " : " ");
        print_arg(b, p, &p->outputs[i].arg);
    }
    buf_str(b, "\n");
}

int pt2_program_print(const struct pt2_program *p, char **ret_text, struct pt2_err *err)
{
    AUTO_BUF b = BUF_INIT(MAX_TEXT);
    char *text;

    print_ranges(&b, p);
    for (uint32_t i = 0; i < p->n_inputs; i++)
        print_input(&b, p, &p->inputs[i]);
    for (uint32_t i = 0; i < p->n_nodes; i++)
        print_node(&b, p, &p->nodes[i]);
    print_outputs(&b, p);
    text = buf_take(&b);
    if (!text)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a program's text");
    *ret_text = text;
    return 0;
}
