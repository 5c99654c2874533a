#include "native/eval_impl.h"

#include <stdarg.h>

int eval_refuse(struct pt2_err *err, const struct pt2_node *node, const char *fmt, ...)
{
    char text[200];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED, "node '%s' (%s): %s", node->name,
                       node->target, text);
}

/* ---- classes ---- */

/* The enum's order is by name; this one is by what wins. */
static unsigned rank(enum eval_class c)
{
    return c == EVAL_CONSTANT ? 0 : c == EVAL_POSITION ? 1 : 2;
}

static enum eval_class stronger(enum eval_class a, enum eval_class b)
{
    return rank(a) > rank(b) ? a : b;
}

struct classify {
    struct eval *eval;
    enum eval_class found;
};

static void add_class(void *context, uint32_t value)
{
    struct classify *c = context;
    const struct eval *e = c->eval;

    c->found = stronger(c->found, stronger(e->classes[value], e->classes[e->roots[value]]));
}

static bool has_symbol(const struct pt2_value *v)
{
    if (v->kind == PT2_VALUE_SYM_INT)
        return v->sym.expr != NULL;
    for (unsigned d = 0; v->kind == PT2_VALUE_TENSOR && d < v->meta.n_dims; d++)
        if (v->meta.sizes[d].expr)
            return true;
    return false;
}

static enum eval_class node_class(struct eval *e, const struct pt2_node *node)
{
    struct classify c = {e, EVAL_CONSTANT};
    struct node_op op = node_op(node);
    int64_t out = node_out_at(node, 0);

    if (node_is_check(&op))
        return EVAL_CONSTANT;
    if (out >= 0 && has_symbol(pt2_program_value(e->program, (uint32_t)out)))
        c.found = EVAL_POSITION;
    if (streq(op.name, "expand_as") && node_value(node, "self") >= 0)
        add_class(&c, (uint32_t)node_value(node, "self")); /* of other its shape alone */
    else if (!node_reads_shape_only(&op))
        node_each_input(node, add_class, &c);
    return c.found;
}

static bool raise_class(struct eval *e, int64_t value, enum eval_class to)
{
    if (rank(e->classes[value]) >= rank(to))
        return false;
    e->classes[value] = (uint8_t)to;
    return true;
}

/* Until nothing changes: a write changes what its memory is for all who read it. */
static void classify_nodes(struct eval *e)
{
    bool changed = true;

    while (changed) {
        changed = false;
        for (uint32_t i = 0; i < pt2_program_n_nodes(e->program); i++) {
            const struct pt2_node *node = pt2_program_node(e->program, i);
            enum eval_class c = node_class(e, node);
            int64_t written = node_written(node), out;

            for (unsigned k = 0; (out = node_out_at(node, k)) >= 0; k++)
                changed |= raise_class(e, out, stronger(c, e->classes[e->roots[out]]));
            if (written >= 0)
                changed |= raise_class(e, e->roots[written], c);
        }
    }
}

/* A buffer; or a constant, as which exports that are not strict have caches and counters. */
bool eval_may_be_state(const struct pt2_input *in)
{
    return in->kind == PT2_INPUT_BUFFER || in->kind == PT2_INPUT_CONSTANT;
}

static void mark_state(struct eval *e, uint32_t root)
{
    const struct pt2_value *v = pt2_program_value(e->program, root);
    const struct pt2_input *in =
        e->inputs[root] < 0 ? NULL
                            : pt2_program_input(e->program, (uint32_t)e->inputs[root]);
    bool is_one = true;

    if (!in || !eval_may_be_state(in))
        return;
    for (unsigned d = 0; d < v->meta.n_dims; d++)
        is_one = is_one && !v->meta.sizes[d].expr && v->meta.sizes[d].value == 1;
    e->counters[root] =
        is_one && (v->meta.dtype == PT2_INT64 || v->meta.dtype == PT2_INT32);
    raise_class(e, root, e->counters[root] ? EVAL_POSITION : EVAL_TOKENS);
}

/* What is written: by a node, or at the end. */
static void mark_states(struct eval *e)
{
    const struct pt2_program *p = e->program;

    for (uint32_t i = 0; i < pt2_program_n_nodes(p); i++) {
        int64_t written = node_written(pt2_program_node(p, i));

        if (written >= 0) {
            mark_state(e, e->roots[written]);
            e->last_write[e->roots[written]] = (int32_t)i;
        }
    }
    for (uint32_t i = 0; i < pt2_program_n_outputs(p); i++) {
        const struct pt2_output *out = pt2_program_output(p, i);

        for (uint32_t k = 0; out->kind == PT2_OUTPUT_BUFFER_MUTATION &&
                             k < pt2_program_n_inputs(p);
             k++) {
            const struct pt2_input *in = pt2_program_input(p, k);

            if (in->fqn && streq(in->fqn, out->fqn))
                mark_state(e, in->value);
        }
    }
}

static void find_inputs(struct eval *e)
{
    uint32_t user = 0;

    for (uint32_t i = 0; i < pt2_program_n_values(e->program); i++) {
        e->inputs[i] = e->last_write[i] = -1;
        e->classes[i] = EVAL_CONSTANT;
    }
    for (uint32_t i = 0; i < pt2_program_n_inputs(e->program); i++) {
        const struct pt2_input *in = pt2_program_input(e->program, i);

        e->inputs[in->value] = (int32_t)i;
        if (in->kind != PT2_INPUT_USER)
            continue;
        if (user++ == e->decoder.cache_position) {
            e->positions = in->value;
            e->classes[in->value] = EVAL_POSITION;
        } else {
            e->classes[in->value] = EVAL_TOKENS;
        }
    }
}

static void find_fns(struct eval *e)
{
    for (uint32_t i = 0; i < pt2_program_n_nodes(e->program); i++) {
        struct node_op op = node_op(pt2_program_node(e->program, i));

        e->fns[i] = eval_math_find(op.name);
        e->fns[i] = e->fns[i] ? e->fns[i] : eval_shape_find(op.name);
        e->fns[i] = e->fns[i] ? e->fns[i] : eval_make_find(op.name);
        e->fns[i] = e->fns[i] ? e->fns[i] : eval_quant_find(op.name);
    }
}

int eval_new(const struct pt2_archive *archive, const struct pt2_program *program,
             const struct pt2_decoder *decoder, struct eval **ret_eval, struct pt2_err *err)
{
    size_t n = pt2_program_n_values(program) + 1, n_nodes = pt2_program_n_nodes(program) + 1;
    AUTO(eval) e = calloc(1, sizeof(*e));

    if (!e)
        return pt2_err_set(err, PT2_ERR_NOMEM, "an evaluator");
    e->archive = archive;
    e->program = program;
    e->decoder = *decoder;
    e->wanted = -1;
    e->classes = calloc(n, sizeof(*e->classes));
    e->roots = calloc(n, sizeof(*e->roots));
    e->inputs = calloc(n, sizeof(*e->inputs));
    e->last_write = calloc(n, sizeof(*e->last_write));
    e->counters = calloc(n, sizeof(*e->counters));
    e->values = calloc(n, sizeof(*e->values));
    e->kept = calloc(n, sizeof(*e->kept));
    e->fns = calloc(n_nodes, sizeof(*e->fns));
    e->order = calloc(n_nodes, sizeof(*e->order));
    e->of_run = calloc(n, sizeof(*e->of_run));
    if (!e->classes || !e->roots || !e->inputs || !e->last_write || !e->counters ||
        !e->values || !e->kept || !e->fns || !e->order || !e->of_run)
        return pt2_err_set(err, PT2_ERR_NOMEM, "an evaluator of %zu values", n);
    nodes_roots(program, e->roots);
    find_inputs(e);
    mark_states(e);
    classify_nodes(e);
    find_fns(e);
    *ret_eval = TAKE(e);
    return 0;
}

void eval_free(struct eval *e)
{
    if (!e)
        return;
    free(e->classes);
    free(e->roots);
    free(e->inputs);
    free(e->last_write);
    free(e->counters);
    free(e->values);
    free(e->kept);
    free(e->fns);
    free(e->order);
    free(e->of_run);
    arena_done(&e->memory_run);
    arena_done(&e->memory_always);
    free(e);
}

enum eval_class eval_class(const struct eval *e, uint32_t value)
{
    return stronger(e->classes[value], e->classes[e->roots[value]]);
}

bool eval_is_counter(const struct eval *e, uint32_t value)
{
    return e->counters[value];
}

/* ---- the nodes that a value needs ---- */

struct need {
    const struct eval *eval;
    uint8_t *values; /* those needed, and the roots whose memory is */
    bool changed;
};

static void need_value(void *context, uint32_t value)
{
    struct need *need = context;
    uint32_t root = need->eval->roots[value];

    need->changed |= !need->values[value] || !need->values[root];
    need->values[value] = need->values[root] = 1;
}

/* A node is needed where its output is, or where it writes memory that is. */
static bool is_needed(const struct need *need, const struct pt2_node *node)
{
    int64_t written = node_written(node), out;

    struct node_op op = node_op(node);

    if (node_is_check(&op))
        return false;
    if (written >= 0 && need->values[need->eval->roots[written]])
        return true;
    for (unsigned k = 0; (out = node_out_at(node, k)) >= 0; k++)
        if (need->values[out])
            return true;
    return false;
}

static int find_order(struct eval *e, uint32_t wanted, struct pt2_err *err)
{
    uint32_t n_nodes = pt2_program_n_nodes(e->program);
    AUTO_PTR uint8_t *values = calloc(pt2_program_n_values(e->program) + 1, 1);
    struct need need = {e, values, false};

    if (!values)
        return pt2_err_set(err, PT2_ERR_NOMEM, "what a value needs");
    need_value(&need, wanted);
    while (need.changed) {
        need.changed = false;
        for (uint32_t i = n_nodes; i-- > 0;) {
            const struct pt2_node *node = pt2_program_node(e->program, i);
            struct node_op op = node_op(node);

            if (!is_needed(&need, node))
                continue;
            if (streq(op.name, "expand_as") && node_value(node, "self") >= 0)
                need_value(&need, (uint32_t)node_value(node, "self"));
            else if (!node_reads_shape_only(&op))
                node_each_input(node, need_value, &need);
            else
                for (uint32_t k = 1; k < node->n_inputs; k++) {
                    const struct pt2_arg *arg = &node->inputs[k].arg;

                    for (uint32_t m = 0; arg->kind == PT2_ARG_SYM_INTS && m < arg->list.n; m++)
                        if (arg->list.items[m].kind == PT2_ARG_SYM_INT)
                            need_value(&need, arg->list.items[m].value);
                }
        }
    }
    e->n_order = 0;
    for (uint32_t i = 0; i < n_nodes; i++)
        if (is_needed(&need, pt2_program_node(e->program, i)))
            e->order[e->n_order++] = i;
    e->wanted = wanted;
    return 0;
}

/* ---- a run ---- */

static void keep(struct eval *e, uint32_t value, const struct tensor *t)
{
    bool is_kept = e->memory == &e->memory_always;

    if (!is_kept && e->kept[value] != KEPT_RUN)
        e->of_run[e->n_of_run++] = value;
    e->values[value] = *t;
    e->kept[value] = is_kept ? KEPT_ALWAYS : KEPT_RUN;
}

static int positions_tensor(struct eval *e, struct tensor *ret, struct pt2_err *err)
{
    if (tensor_new(e, PT2_INT64, 1, &e->s, ret, err) < 0)
        return -1;
    for (int64_t i = 0; i < e->s; i++)
        ret->storage->i[i] = e->first + i;
    return 0;
}

static int load_input(struct eval *e, uint32_t value, struct pt2_err *err)
{
    const struct pt2_input *in =
        pt2_program_input(e->program, (uint32_t)e->inputs[value]);
    const struct pt2_payload *payload;
    struct tensor t;

    e->memory = e->last_write[value] >= 0 || value == e->positions ? &e->memory_run
                                                                   : &e->memory_always;
    if (value == e->positions) {
        if (positions_tensor(e, &t, err) < 0)
            return -1;
    } else {
        payload = in->fqn && e->archive ? pt2_archive_find_payload(e->archive, in->fqn) : NULL;
        if (!payload)
            return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED, "'%s' has no payload",
                               in->fqn ? in->fqn : "an input");
        if (tensor_load(e, payload, &t, err) < 0)
            return -1;
        if (e->counters[value])
            t.storage->i[0] = e->first;
    }
    keep(e, value, &t);
    return 0;
}

static int get(struct eval *e, uint32_t value, struct tensor *ret, struct pt2_err *err)
{
    struct arena *memory = e->memory;
    int r = 0;

    if (e->kept[value] == KEPT_NOT) {
        if (e->inputs[value] < 0)
            return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED,
                               "'%s' depends on what is not evaluated",
                               pt2_program_value(e->program, value)->name);
        r = load_input(e, value, err);
    }
    e->memory = memory;
    *ret = e->values[value];
    return r;
}

static int run_node(struct eval *e, uint32_t i, struct pt2_err *err)
{
    const struct pt2_node *node = pt2_program_node(e->program, i);
    struct tensor t[NODE_MAX_OUTS];
    int64_t out = node_out_at(node, 0);

    if (out >= 0 && e->kept[out] != KEPT_NOT)
        return 0; /* a constant, of an earlier run */
    if (out >= 0 && eval_class(e, (uint32_t)out) == EVAL_TOKENS)
        return eval_refuse(err, node, "depends on tokens");
    e->work += EVAL_NODE_WORK;
    if (e->work > EVAL_MAX_WORK)
        return pt2_err_set(err, PT2_ERR_LIMIT, "to evaluate the program takes too long");
    if (!e->fns[i])
        return eval_refuse(err, node, "the op is not evaluated");
    if (node_out_at(node, NODE_MAX_OUTS) >= 0)
        return eval_refuse(err, node, "more than %d outputs", NODE_MAX_OUTS);
    e->memory = out >= 0 && eval_class(e, (uint32_t)out) == EVAL_CONSTANT
                    ? &e->memory_always
                    : &e->memory_run;
    for (unsigned k = 0; k < NODE_MAX_OUTS; k++)
        t[k].storage = NULL;
    if (e->fns[i](e, node, t, err) < 0)
        return pt2_err_prefix(err, "computing '%s'", node->name);
    for (unsigned k = 0; (out = node_out_at(node, k)) >= 0; k++)
        if (!t[k].storage)
            return eval_refuse(err, node, "more outputs than the op has");
    for (unsigned k = 0; (out = node_out_at(node, k)) >= 0; k++)
        keep(e, (uint32_t)out, &t[k]);
    return 0;
}

static void begin_run(struct eval *e, int64_t first, int64_t s)
{
    for (uint32_t i = 0; i < e->n_of_run; i++)
        e->kept[e->of_run[i]] = KEPT_NOT;
    e->n_of_run = 0;
    arena_done(&e->memory_run);
    memset(&e->memory_run, 0, sizeof(e->memory_run));
    e->bytes_run = 0;
    e->first = first;
    e->s = s;
}

int eval_run(struct eval *e, uint32_t value, int64_t first, int64_t s, struct tensor *ret,
             struct pt2_err *err)
{
    const struct pt2_value *v = pt2_program_value(e->program, value);

    if (eval_class(e, value) == EVAL_TOKENS)
        return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED, "'%s' depends on tokens", v->name);
    if (e->last_write[e->roots[value]] > v->node)
        return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED, "'%s' is written after it is made",
                           v->name);
    if (e->wanted != value && find_order(e, value, err) < 0)
        return -1;
    begin_run(e, first, s);
    for (uint32_t i = 0; i < e->n_order; i++)
        if (run_node(e, e->order[i], err) < 0)
            return -1;
    e->memory = &e->memory_run;
    return get(e, value, ret, err);
}

/* ---- arguments ---- */

static int number(struct eval *e, const struct pt2_arg *arg, struct tensor *ret,
                  struct pt2_err *err)
{
    switch (arg->kind) {
    case PT2_ARG_TENSOR:
    case PT2_ARG_SYM_INT:
    case PT2_ARG_SYM_BOOL:
    case PT2_ARG_SYM_FLOAT:
        return get(e, arg->value, ret, err);
    case PT2_ARG_INT:
        return tensor_number(e, PT2_INT64, 0, arg->i, ret, err);
    case PT2_ARG_BOOL:
        return tensor_number(e, PT2_BOOL, 0, arg->b, ret, err);
    case PT2_ARG_FLOAT:
        return tensor_number(e, PT2_FLOAT32, arg->f, 0, ret, err);
    default:
        return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED, "an argument that is no number");
    }
}

int eval_arg(struct eval *e, const struct pt2_node *node, const char *name,
             struct tensor *ret, struct pt2_err *err)
{
    const struct pt2_arg *arg = node_arg(node, name);

    if (!arg)
        return eval_refuse(err, node, "no argument '%s'", name);
    return number(e, arg, ret, err);
}

static int int_of(struct eval *e, const struct pt2_node *node, const struct pt2_arg *arg,
                  int64_t *ret, struct pt2_err *err)
{
    struct tensor t;

    if (arg->kind == PT2_ARG_INT) {
        *ret = arg->i;
        return 0;
    }
    if (number(e, arg, &t, err) < 0)
        return -1;
    if (tensor_n(&t) != 1 || tensor_is_float(&t))
        return eval_refuse(err, node, "an argument that is no whole number");
    *ret = tensor_i(&t, t.offset);
    return 0;
}

int eval_arg_int(struct eval *e, const struct pt2_node *node, const char *name,
                 int64_t other, int64_t *ret, struct pt2_err *err)
{
    const struct pt2_arg *arg = node_arg(node, name);

    *ret = other;
    return arg ? int_of(e, node, arg, ret, err) : 0;
}

int eval_arg_ints(struct eval *e, const struct pt2_node *node, const char *name, int64_t *ret,
                  unsigned *ret_n, struct pt2_err *err)
{
    const struct pt2_arg *arg = node_arg(node, name);

    if (!arg)
        return eval_refuse(err, node, "no argument '%s'", name);
    if (arg->kind != PT2_ARG_INTS && arg->kind != PT2_ARG_SYM_INTS) {
        *ret_n = 1;
        return int_of(e, node, arg, ret, err);
    }
    if (arg->list.n > PT2_MAX_DIMS)
        return eval_refuse(err, node, "%u dimensions", arg->list.n);
    for (uint32_t i = 0; i < arg->list.n; i++)
        if (int_of(e, node, &arg->list.items[i], &ret[i], err) < 0)
            return -1;
    *ret_n = arg->list.n;
    return 0;
}

int eval_meta_sizes(struct eval *e, uint32_t value, int64_t *ret_sizes, struct pt2_err *err)
{
    const struct pt2_value *v = pt2_program_value(e->program, value);
    const char *symbol =
        pt2_program_value(e->program, e->positions)->meta.sizes[0].expr;

    for (unsigned d = 0; d < v->meta.n_dims; d++) {
        const struct pt2_dim *dim = &v->meta.sizes[d];

        if (dim->expr && (!symbol || !streq(dim->expr, symbol)))
            return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED, "'%s' has a size of %s", v->name,
                               dim->expr);
        ret_sizes[d] = dim->expr ? e->s : dim->value;
    }
    return 0;
}

enum pt2_dtype eval_out_dtype(const struct eval *e, const struct pt2_node *node)
{
    int64_t out = node_out_at(node, 0);
    const struct pt2_value *v = out < 0 ? NULL : pt2_program_value(e->program, (uint32_t)out);

    if (!v)
        return PT2_DTYPE_NONE;
    return v->kind == PT2_VALUE_TENSOR     ? v->meta.dtype
           : v->kind == PT2_VALUE_SYM_BOOL ? PT2_BOOL
           : v->kind == PT2_VALUE_SYM_INT  ? PT2_INT64
                                           : PT2_FLOAT32;
}
