#include "base/log.h"
#include "program/impl.h"

int program_grow(void *items, uint32_t n, uint32_t *cap, uint32_t max, size_t size,
                 const char *what, struct pt2_err *err)
{
    void *old, *grown;
    uint32_t room;

    if (n < *cap)
        return 0;
    if (n >= max)
        return pt2_err_set(err, PT2_ERR_BAD_PROGRAM, "more than %u %s", max, what);
    room = MIN(*cap ? *cap * 2 : 64u, max);
    memcpy(&old, items, sizeof(old));
    grown = realloc(old, room * size);
    if (!grown)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a program's %s", what);
    memcpy(items, &grown, sizeof(grown));
    *cap = room;
    return 0;
}

int pt2_program_new(struct pt2_program **ret_program, struct pt2_err *err)
{
    struct pt2_program *p = calloc(1, sizeof(*p));

    if (!p)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a program");
    names_init(&p->names);
    p->torch_version = PROGRAM_TORCH_VERSION;
    p->schema_major = PROGRAM_SCHEMA_MAJOR;
    p->schema_minor = PROGRAM_SCHEMA_MINOR;
    *ret_program = p;
    return 0;
}

void pt2_program_free(struct pt2_program *p)
{
    if (!p)
        return;
    free(p->values);
    free(p->nodes);
    free(p->inputs);
    free(p->outputs);
    free(p->ranges);
    names_done(&p->names);
    arena_done(&p->arena);
    free(p);
}

void *pt2_program_alloc(struct pt2_program *p, size_t size)
{
    return arena_alloc(&p->arena, size);
}

const char *pt2_program_string(struct pt2_program *p, const char *s)
{
    return arena_string(&p->arena, s, strlen(s));
}

bool program_name_is_good(const char *name, size_t len)
{
    if (len == 0 || len > PROGRAM_MAX_NAME)
        return false;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)name[i];

        if (c <= 0x20 || c == 0x7f || strchr("%,()[]{}\"'\\", c))
            return false;
    }
    return true;
}

const char *program_value_kind_name(enum pt2_value_kind kind)
{
    switch (kind) {
    case PT2_VALUE_TENSOR:
        return "a tensor";
    case PT2_VALUE_SYM_INT:
        return "a symbolic int";
    case PT2_VALUE_SYM_BOOL:
        return "a symbolic bool";
    case PT2_VALUE_SYM_FLOAT:
        return "a symbolic float";
    }
    return "?";
}

/* ---- appending ---- */

int program_push_value(struct pt2_program *p, const struct pt2_value *value,
                       uint32_t *ret_index, struct pt2_err *err)
{
    size_t len = strlen(value->name);

    if (!program_name_is_good(value->name, len))
        return pt2_err_set(
            err, PT2_ERR_BAD_PROGRAM,
            "'%.64s' can't be a value's name: 1 to %d printable characters, "
            "no spaces, quotes or brackets",
            value->name, PROGRAM_MAX_NAME);
    if (names_find(&p->names, value->name, len))
        return pt2_err_set(err, PT2_ERR_BAD_PROGRAM, "value '%s' is made twice",
                           value->name);
    if (PROGRAM_GROW(p, values, PROGRAM_MAX_VALUES, err) < 0)
        return -1;
    if (!names_add(&p->names, value->name, p->n_values))
        return pt2_err_set(err, PT2_ERR_NOMEM, "a program's names");
    p->values[p->n_values] = *value;
    if (ret_index)
        *ret_index = p->n_values;
    p->n_values++;
    return 0;
}

int program_push_node(struct pt2_program *p, const struct pt2_node *node,
                      struct pt2_err *err)
{
    if (PROGRAM_GROW(p, nodes, PROGRAM_MAX_NODES, err) < 0)
        return -1;
    p->nodes[p->n_nodes++] = *node;
    return 0;
}

int program_push_input(struct pt2_program *p, const struct pt2_input *input,
                       struct pt2_err *err)
{
    if (PROGRAM_GROW(p, inputs, PROGRAM_MAX_INPUTS, err) < 0)
        return -1;
    p->inputs[p->n_inputs++] = *input;
    return 0;
}

int program_push_output(struct pt2_program *p, const struct pt2_output *output,
                        struct pt2_err *err)
{
    if (PROGRAM_GROW(p, outputs, PROGRAM_MAX_OUTPUTS, err) < 0)
        return -1;
    p->outputs[p->n_outputs++] = *output;
    return 0;
}

int program_push_range(struct pt2_program *p, const struct pt2_range *range,
                       struct pt2_err *err)
{
    if (program_find_range(p, range->symbol))
        return pt2_err_set(err, PT2_ERR_BAD_PROGRAM, "symbol '%s' has two ranges",
                           range->symbol);
    if (range->min > range->max)
        return pt2_err_set(err, PT2_ERR_BAD_PROGRAM,
                           "the range of symbol '%s' is empty: %lld to %lld",
                           range->symbol, (long long)range->min, (long long)range->max);
    if (PROGRAM_GROW(p, ranges, PROGRAM_MAX_RANGES, err) < 0)
        return -1;
    p->ranges[p->n_ranges++] = *range;
    return 0;
}

const struct pt2_range *program_find_range(const struct pt2_program *p,
                                           const char *symbol)
{
    for (uint32_t i = 0; i < p->n_ranges; i++)
        if (streq(p->ranges[i].symbol, symbol))
            return &p->ranges[i];
    return NULL;
}

/* ---- reading ---- */

uint32_t pt2_program_n_values(const struct pt2_program *p)
{
    return p->n_values;
}

const struct pt2_value *pt2_program_value(const struct pt2_program *p, uint32_t i)
{
    ASSERT(i < p->n_values);
    return &p->values[i];
}

int64_t pt2_program_find_value(const struct pt2_program *p, const char *name)
{
    const struct name_slot *slot = names_find(&p->names, name, strlen(name));

    return slot ? (int64_t)slot->number : -1;
}

uint32_t pt2_program_n_nodes(const struct pt2_program *p)
{
    return p->n_nodes;
}

const struct pt2_node *pt2_program_node(const struct pt2_program *p, uint32_t i)
{
    ASSERT(i < p->n_nodes);
    return &p->nodes[i];
}

uint32_t pt2_program_n_inputs(const struct pt2_program *p)
{
    return p->n_inputs;
}

const struct pt2_input *pt2_program_input(const struct pt2_program *p, uint32_t i)
{
    ASSERT(i < p->n_inputs);
    return &p->inputs[i];
}

uint32_t pt2_program_n_outputs(const struct pt2_program *p)
{
    return p->n_outputs;
}

const struct pt2_output *pt2_program_output(const struct pt2_program *p, uint32_t i)
{
    ASSERT(i < p->n_outputs);
    return &p->outputs[i];
}

uint32_t pt2_program_n_ranges(const struct pt2_program *p)
{
    return p->n_ranges;
}

const struct pt2_range *pt2_program_range(const struct pt2_program *p, uint32_t i)
{
    ASSERT(i < p->n_ranges);
    return &p->ranges[i];
}

const char *pt2_program_torch_version(const struct pt2_program *p)
{
    return p->torch_version;
}

void pt2_program_schema_version(const struct pt2_program *p, int *ret_major,
                                int *ret_minor)
{
    *ret_major = p->schema_major;
    *ret_minor = p->schema_minor;
}
