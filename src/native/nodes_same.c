/* Values that are computed alike, as each layer of a Python export computes its own again. */
#include "native/nodes.h"

struct same {
    const struct pt2_program *program;
    uint32_t *same;      /* by values */
    const bool *written; /* by roots: some node writes that memory */
    const uint32_t *roots;
    uint32_t *slots;     /* nodes by hash, plus 1; 0: empty */
    uint32_t n_slots;    /* a power of 2 */
};

static uint64_t mix(uint64_t hash, uint64_t x)
{
    return (hash ^ x) * UINT64_C(0x100000001b3);
}

static bool is_list(const struct pt2_arg *arg)
{
    return arg->kind >= PT2_ARG_TENSORS;
}

static bool is_value(const struct pt2_arg *arg)
{
    return arg->kind == PT2_ARG_TENSOR || arg->kind == PT2_ARG_SYM_INT ||
           arg->kind == PT2_ARG_SYM_BOOL || arg->kind == PT2_ARG_SYM_FLOAT;
}

static uint64_t hash_arg(const struct same *s, uint64_t hash, const struct pt2_arg *arg)
{
    hash = mix(hash, arg->kind);
    if (is_value(arg))
        return mix(hash, s->same[arg->value]);
    if (arg->kind == PT2_ARG_INT)
        return mix(hash, (uint64_t)arg->i);
    for (uint32_t i = 0; is_list(arg) && i < arg->list.n; i++)
        hash = hash_arg(s, hash, &arg->list.items[i]);
    return hash; /* all else is compared */
}

static uint64_t hash_node(const struct same *s, const struct pt2_node *node)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (const char *c = node->target; *c; c++)
        hash = mix(hash, (uint8_t)*c);
    for (uint32_t i = 0; i < node->n_inputs; i++)
        hash = hash_arg(s, hash, &node->inputs[i].arg);
    return hash ^ hash >> 32;
}

static bool same_args(const struct same *s, const struct pt2_arg *a, const struct pt2_arg *b)
{
    if (a->kind != b->kind)
        return false;
    if (is_value(a))
        return s->same[a->value] == s->same[b->value];
    if (is_list(a)) {
        bool is = a->list.n == b->list.n;

        for (uint32_t i = 0; is && i < a->list.n; i++)
            is = same_args(s, &a->list.items[i], &b->list.items[i]);
        return is;
    }
    switch (a->kind) {
    case PT2_ARG_NONE:
        return true;
    case PT2_ARG_FLOAT:
        return memcmp(&a->f, &b->f, sizeof(a->f)) == 0;
    case PT2_ARG_BOOL:
        return a->b == b->b;
    case PT2_ARG_STRING:
    case PT2_ARG_DEVICE:
        return streq(a->s, b->s);
    case PT2_ARG_SCALAR_TYPE:
        return a->dtype == b->dtype;
    default: /* INT, LAYOUT, MEMORY_FORMAT */
        return a->i == b->i;
    }
}

static bool same_metas(const struct pt2_value *a, const struct pt2_value *b)
{
    if (a->kind != b->kind)
        return false;
    if (a->kind != PT2_VALUE_TENSOR)
        return true;
    if (a->meta.dtype != b->meta.dtype || a->meta.n_dims != b->meta.n_dims)
        return false;
    for (unsigned d = 0; d < a->meta.n_dims; d++) {
        const struct pt2_dim *x = &a->meta.sizes[d], *y = &b->meta.sizes[d];

        if (!x->expr != !y->expr || (x->expr ? !streq(x->expr, y->expr) : x->value != y->value))
            return false;
    }
    return true;
}

static bool same_nodes(const struct same *s, const struct pt2_node *a,
                       const struct pt2_node *b)
{
    if (!streq(a->target, b->target) || a->n_inputs != b->n_inputs ||
        !same_metas(pt2_program_value(s->program, (uint32_t)node_out(a)),
                    pt2_program_value(s->program, (uint32_t)node_out(b))))
        return false;
    for (uint32_t i = 0; i < a->n_inputs; i++) {
        const char *x = a->inputs[i].name, *y = b->inputs[i].name;

        if (!x != !y || (x && !streq(x, y)) ||
            !same_args(s, &a->inputs[i].arg, &b->inputs[i].arg))
            return false;
    }
    return true;
}

struct reads {
    const struct same *same;
    bool written;
};

static void add_read(void *context, uint32_t value)
{
    struct reads *r = context;

    r->written |= r->same->written[r->same->roots[value]];
}

/* Is its output a function of its arguments, whenever it runs? */
static bool is_pure(const struct same *s, const struct pt2_node *node)
{
    struct reads r = {s, false};

    if (node_out(node) < 0 || node_written(node) >= 0 ||
        s->written[s->roots[node_out(node)]])
        return false;
    node_each_input(node, add_read, &r);
    return !r.written;
}

static void find_same(struct same *s)
{
    for (uint32_t i = 0; i < pt2_program_n_nodes(s->program); i++) {
        const struct pt2_node *node = pt2_program_node(s->program, i), *other;
        uint32_t at;

        if (!is_pure(s, node))
            continue;
        for (at = (uint32_t)hash_node(s, node) & (s->n_slots - 1); s->slots[at];
             at = (at + 1) & (s->n_slots - 1)) {
            other = pt2_program_node(s->program, s->slots[at] - 1);
            if (same_nodes(s, node, other)) {
                s->same[node_out(node)] = s->same[node_out(other)];
                break;
            }
        }
        if (!s->slots[at])
            s->slots[at] = i + 1;
    }
}

bool nodes_same(const struct pt2_program *program, const uint32_t *roots, uint32_t *same)
{
    uint32_t n = pt2_program_n_values(program), n_nodes = pt2_program_n_nodes(program);
    AUTO_PTR bool *written = calloc(n + 1, sizeof(*written));
    AUTO_PTR uint32_t *slots = NULL;
    struct same s = {program, same, written, roots, NULL, 64};

    while (s.n_slots < 2 * n_nodes)
        s.n_slots *= 2;
    s.slots = slots = calloc(s.n_slots, sizeof(*slots));
    if (!written || !slots)
        return false;
    for (uint32_t i = 0; i < n; i++)
        same[i] = i;
    for (uint32_t i = 0; i < n_nodes; i++) {
        int64_t to = node_written(pt2_program_node(program, i));

        if (to >= 0)
            written[roots[to]] = true;
    }
    find_same(&s);
    return true;
}
