/* tables.c - an ExecuTorch program as FlatBuffers tables. */
#include "pte/tables.h"

#include "base/log.h"
#include "pte/dtype.h"

/* The unions KernelTypes and InstructionArguments. */
enum { TYPE_NULL = 1, TYPE_INT, TYPE_BOOL, TYPE_DOUBLE, TYPE_TENSOR, TYPE_STRING,
       TYPE_INT_LIST, TYPE_DOUBLE_LIST, TYPE_BOOL_LIST, TYPE_TENSOR_LIST,
       TYPE_OPTIONAL_TENSOR_LIST };
enum { TYPE_KERNEL_CALL = 1, TYPE_DELEGATE_CALL = 2, TYPE_JUMP_FALSE_CALL = 4 };

#define ARENA_ID         1 /* 0 is reserved */
#define LOCATION_SEGMENT 1
#define SHAPE_DYNAMIC_BOUND 1
#define INITIAL_ZEROS    1 /* of mutable_data_segments' offsets; 0 is reserved */
#define MAX_OUTPUTS      64

struct tables {
    struct fb *fb;
    const struct pte_program *p;
    const struct pte_layout *layout;
    uint32_t *at; /* room for the longest list */
};

static uint32_t tensor_table(struct tables *t, const struct pte_tensor *x)
{
    struct fb *fb = t->fb;
    uint8_t order[PTE_MAX_DIMS];
    uint32_t sizes, dims, place;
    uint64_t offset = x->offset;
    struct fb_field fields[6];
    size_t n = 0;

    for (unsigned i = 0; i < x->n_dims; i++)
        order[i] = (uint8_t)i;
    sizes = fb_vector(fb, x->sizes, x->n_dims, sizeof(int32_t));
    dims = fb_vector(fb, order, x->n_dims, 1);
    fields[n++] = FB_U8(0, pte_scalar_type(x->dtype));
    fields[n++] = FB_REF(2, sizes);
    fields[n++] = FB_REF(3, dims);
    if (x->place == PTE_CONSTANT)
        fields[n++] = FB_U32(5, t->layout->constants[x->blob]);
    if (x->is_kept)
        fields[n++] = FB_U32(5, INITIAL_ZEROS);
    if (x->place == PTE_ALIAS)
        offset += pte_tensor(t->p, x->base)->offset;
    if (x->place == PTE_ARENA || x->place == PTE_ALIAS) {
        place = FB_TABLE(fb, FB_U32(0, ARENA_ID), FB_U32(1, offset),
                         FB_U32(2, offset >> 32));
        fields[n++] = FB_REF(6, place);
    }
    if (x->is_dynamic)
        fields[n++] = FB_U8(8, SHAPE_DYNAMIC_BOUND);
    return fb_table(fb, fields, n);
}

static uint32_t list_table(struct tables *t, const struct pte_value *v)
{
    int64_t wide[PTE_MAX_DIMS];
    uint32_t at;

    if (v->kind == PTE_INTS) { /* they are numbers of values, and yet 64 bits wide */
        for (uint32_t i = 0; i < v->list.n; i++)
            wide[i] = v->list.items[i];
        at = fb_vector(t->fb, wide, v->list.n, sizeof(int64_t));
    } else {
        at = fb_vector(t->fb, v->list.items, v->list.n, sizeof(int32_t));
    }
    return FB_TABLE(t->fb, FB_REF(0, at));
}

static uint32_t value_table(struct tables *t, const struct pte_value *v)
{
    struct fb *fb = t->fb;
    uint32_t at = 0;
    uint64_t bits;
    int type = TYPE_NULL;

    switch (v->kind) {
    case PTE_NULL:
        at = fb_table(fb, NULL, 0);
        break;
    case PTE_INT:
        type = TYPE_INT;
        at = FB_TABLE(fb, FB_I64(0, v->i));
        break;
    case PTE_BOOL:
        type = TYPE_BOOL;
        at = FB_TABLE(fb, FB_U8(0, v->b));
        break;
    case PTE_DOUBLE:
        type = TYPE_DOUBLE;
        memcpy(&bits, &v->d, sizeof(bits));
        at = FB_TABLE(fb, FB_U64(0, bits));
        break;
    case PTE_STRING:
        type = TYPE_STRING;
        at = fb_string(fb, v->s);
        at = FB_TABLE(fb, FB_REF(0, at));
        break;
    case PTE_TENSOR:
        type = TYPE_TENSOR;
        at = tensor_table(t, &v->tensor);
        break;
    case PTE_INTS:
    case PTE_TENSORS:
    case PTE_OPTIONAL_TENSORS:
        type = v->kind == PTE_INTS      ? TYPE_INT_LIST
               : v->kind == PTE_TENSORS ? TYPE_TENSOR_LIST
                                        : TYPE_OPTIONAL_TENSOR_LIST;
        at = list_table(t, v);
        break;
    }
    return FB_TABLE(fb, FB_U8(0, type), FB_REF(1, at));
}

static uint32_t call_table(struct tables *t, const struct pte_call *c)
{
    struct fb *fb = t->fb;
    uint32_t args;
    int type = c->kind == PTE_KERNEL ? TYPE_KERNEL_CALL : TYPE_DELEGATE_CALL;

    if (c->kind == PTE_JUMP_FALSE) {
        args = FB_TABLE(fb, FB_I32(0, c->args[0]), FB_I32(1, c->index));
        return FB_TABLE(fb, FB_U8(0, TYPE_JUMP_FALSE_CALL), FB_REF(1, args));
    }
    args = fb_vector(fb, c->args, c->n_args, sizeof(int32_t));
    args = FB_TABLE(fb, FB_I32(0, c->index), FB_REF(1, args));
    return FB_TABLE(fb, FB_U8(0, type), FB_REF(1, args));
}

static uint32_t chains(struct tables *t, const struct pte_call *calls, uint32_t n)
{
    struct fb *fb = t->fb;
    uint32_t none = fb_vector(fb, NULL, 0, sizeof(int32_t)), list, chain;

    for (uint32_t i = 0; i < n; i++)
        t->at[i] = call_table(t, &calls[i]);
    list = fb_refs(fb, t->at, n);
    chain = FB_TABLE(fb, FB_REF(0, none), FB_REF(1, none), FB_REF(2, list));
    return fb_refs(fb, &chain, 1);
}

static uint32_t operators(struct tables *t, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t name = fb_string(t->fb, t->p->operators[i].name);
        uint32_t overload = fb_string(t->fb, t->p->operators[i].overload);

        t->at[i] = FB_TABLE(t->fb, FB_REF(0, name), FB_REF(1, overload));
    }
    return fb_refs(t->fb, t->at, n);
}

static uint32_t delegates(struct tables *t, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t id = fb_string(t->fb, "XnnpackBackend");
        uint32_t none = fb_refs(t->fb, NULL, 0);
        uint32_t data = FB_TABLE(t->fb, FB_U8(0, LOCATION_SEGMENT),
                                 FB_U32(1, t->layout->first_payload + i));

        t->at[i] = FB_TABLE(t->fb, FB_REF(0, id), FB_REF(1, data), FB_REF(2, none));
    }
    return fb_refs(t->fb, t->at, n);
}

/* torch's pytree of the outputs, as text: one tensor, or a list. */
static uint32_t container_table(struct tables *t, uint32_t n_outputs)
{
    static const char leaf[] = "{\"type\": null, \"context\": null, \"children_spec\": []}";
    char text[128 + MAX_OUTPUTS * (sizeof(leaf) + 2)];
    int len = snprintf(text, sizeof(text), "[1, %s]", leaf);
    uint32_t in, out;

    ASSERT(n_outputs <= MAX_OUTPUTS);
    if (n_outputs != 1) {
        len = snprintf(text, sizeof(text),
                       "[1, {\"type\": \"builtins.list\", \"context\": \"null\", "
                       "\"children_spec\": [");
        for (uint32_t i = 0; i < n_outputs; i++)
            len += snprintf(text + len, sizeof(text) - (size_t)len, "%s%s",
                            i ? ", " : "", leaf);
        snprintf(text + len, sizeof(text) - (size_t)len, "]}]");
    }
    in = fb_string(t->fb, "");
    out = fb_string(t->fb, text);
    return FB_TABLE(t->fb, FB_REF(0, in), FB_REF(1, out));
}

static uint32_t values_list(struct tables *t, const struct pte_value *values, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        t->at[i] = value_table(t, &values[i]);
    return fb_refs(t->fb, t->at, n);
}

static uint32_t forward_table(struct tables *t)
{
    const struct pte_program *p = t->p;
    struct fb *fb = t->fb;
    int64_t arenas[] = {0, (int64_t)p->arena_bytes};
    uint32_t container = container_table(t, p->n_outputs), name = fb_string(fb, "forward");
    uint32_t values = values_list(t, p->values, p->n_values);
    uint32_t inputs = fb_vector(fb, p->inputs, p->n_inputs, sizeof(int32_t));
    uint32_t outputs = fb_vector(fb, p->outputs, p->n_outputs, sizeof(int32_t));
    uint32_t chain = chains(t, p->calls, p->n_calls);
    uint32_t ops = operators(t, p->n_operators), backends = delegates(t, p->n_delegates);
    uint32_t sizes = fb_vector(fb, arenas, ARRAY_LEN(arenas), sizeof(int64_t));

    return FB_TABLE(fb, FB_REF(0, name), FB_REF(1, container), FB_REF(2, values),
                    FB_REF(3, inputs), FB_REF(4, outputs), FB_REF(5, chain),
                    FB_REF(6, ops), FB_REF(7, backends), FB_REF(8, sizes));
}

static uint32_t method_table(struct tables *t, const struct pte_method *m)
{
    struct fb *fb = t->fb;
    int64_t none = 0;
    int32_t outs[MAX_OUTPUTS];
    uint32_t container = container_table(t, m->n_values), name = fb_string(fb, m->name);
    uint32_t values = values_list(t, m->values, m->n_values), inputs, outputs, chain, ops,
             backends, sizes;

    for (uint32_t i = 0; i < m->n_values; i++)
        outs[i] = (int32_t)i;
    inputs = fb_vector(fb, NULL, 0, sizeof(int32_t));
    outputs = fb_vector(fb, outs, m->n_values, sizeof(int32_t));
    chain = chains(t, NULL, 0);
    ops = operators(t, 0);
    backends = delegates(t, 0);
    sizes = fb_vector(fb, &none, 1, sizeof(none));
    return FB_TABLE(fb, FB_REF(0, name), FB_REF(1, container), FB_REF(2, values),
                    FB_REF(3, inputs), FB_REF(4, outputs), FB_REF(5, chain),
                    FB_REF(6, ops), FB_REF(7, backends), FB_REF(8, sizes));
}

static uint32_t segments_list(struct tables *t)
{
    for (uint32_t i = 0; i < t->layout->n_segments; i++)
        t->at[i] = FB_TABLE(t->fb, FB_U64(0, t->layout->segments[i].offset),
                            FB_U64(1, t->layout->segments[i].bytes));
    return fb_refs(t->fb, t->at, t->layout->n_segments);
}

static uint32_t constants_table(struct tables *t)
{
    AUTO_PTR uint64_t *offsets = calloc(t->layout->n_constants + 1u, sizeof(*offsets));
    uint32_t at;

    if (!offsets) {
        t->fb->failed = true;
        return 0;
    }
    for (uint32_t i = 0; i < t->p->n_blobs; i++)
        if (t->layout->constants[i])
            offsets[t->layout->constants[i]] = t->p->blobs[i].offset;
    at = fb_vector(t->fb, offsets, t->layout->n_constants + 1u, sizeof(*offsets));
    return FB_TABLE(t->fb, FB_U32(0, 0), FB_REF(1, at));
}

static uint32_t named_list(struct tables *t)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < t->p->n_blobs; i++)
        if (t->layout->named[i]) {
            uint32_t key = fb_string(t->fb, t->p->blobs[i].key);

            t->at[n++] =
                FB_TABLE(t->fb, FB_REF(0, key), FB_U32(1, t->layout->named[i] - 1));
        }
    return fb_refs(t->fb, t->at, n);
}

/* What tensors of the arena are filled with when a method is loaded: zeros, the one offset
 * of the one segment. */
static uint32_t initial_list(struct tables *t)
{
    const uint64_t offsets[] = {0, 0};
    uint32_t at;

    if (!t->layout->zeros)
        return fb_refs(t->fb, NULL, 0);
    at = fb_vector(t->fb, offsets, ARRAY_LEN(offsets), sizeof(*offsets));
    at = FB_TABLE(t->fb, FB_U32(0, t->layout->zeros - 1), FB_REF(1, at));
    return fb_refs(t->fb, &at, 1);
}

static uint32_t root_table(struct tables *t, const struct pte_method *methods, uint32_t n)
{
    uint32_t plans[1 + PTE_MAX_METHODS], list, inlined, segments, constants, initial, named;

    plans[0] = forward_table(t);
    for (uint32_t i = 0; i < n; i++)
        plans[1 + i] = method_table(t, &methods[i]);
    list = fb_refs(t->fb, plans, n + 1);
    inlined = fb_refs(t->fb, NULL, 0); /* ExecuTorch's reader in Python wants it, if empty */
    segments = segments_list(t);
    constants = constants_table(t);
    initial = initial_list(t);
    named = named_list(t);
    return FB_TABLE(t->fb, FB_U32(0, 0), FB_REF(1, list), FB_REF(3, inlined),
                    FB_REF(4, segments), FB_REF(5, constants), FB_REF(6, initial),
                    FB_REF(7, named));
}

static size_t longest_list(const struct pte_program *p, const struct pte_layout *layout)
{
    size_t n = MAX(MAX(p->n_values, p->n_calls), MAX(p->n_operators, p->n_delegates));

    return MAX(MAX(n, (size_t)p->n_blobs),
               MAX((size_t)layout->n_segments, (size_t)MAX_OUTPUTS));
}

uint32_t pte_program_table(struct fb *fb, const struct pte_program *p,
                           const struct pte_layout *layout,
                           const struct pte_method *methods, uint32_t n_methods)
{
    AUTO_PTR uint32_t *at = calloc(longest_list(p, layout), sizeof(*at));
    struct tables t = {.fb = fb, .p = p, .layout = layout, .at = at};

    ASSERT(n_methods <= PTE_MAX_METHODS);
    if (!at) {
        fb->failed = true;
        return 0;
    }
    return root_table(&t, methods, n_methods);
}
