/* lower.c - the walk over the graph. */
#include "pte/lower_impl.h"

#include "base/log.h"
#include "pte/dtype.h"
#include "pte/lower_check.h"
#include "pte/memory.h"

const struct pt2_arg *lower_arg(const struct pt2_node *node, const char *name)
{
    for (uint32_t i = 0; i < node->n_inputs; i++)
        if (streq(node->inputs[i].name, name))
            return &node->inputs[i].arg;
    return NULL;
}

uint32_t lower_tensor(const struct pt2_node *node, const char *name)
{
    const struct pt2_arg *arg = lower_arg(node, name);

    return arg && arg->kind == PT2_ARG_TENSOR ? arg->value : NO_VALUE;
}

int64_t lower_int(const struct pt2_node *node, const char *name, int64_t otherwise)
{
    const struct pt2_arg *arg = lower_arg(node, name);

    return arg && arg->kind == PT2_ARG_INT ? arg->i : otherwise;
}

int lower_refuse(struct lowering *l, const struct pt2_node *node, const char *why)
{
    return pt2_err_set(l->err, PT2_ERR_NOT_EXPORTABLE, "format pte: node '%s' (%s): %s",
                       node->name, node->target, why);
}

const char *lower_op(const struct pt2_node *node)
{
    return after_prefix(node->target, "torch.ops.aten.");
}

const struct pt2_tensor_meta *lower_meta(const struct lowering *l, uint32_t value)
{
    return &pt2_program_value(l->from, value)->meta;
}

bool lower_is_symbol(const struct lowering *l, const char *name)
{
    for (uint32_t i = 0; i < pt2_program_n_ranges(l->from); i++)
        if (streq(pt2_program_range(l->from, i)->symbol, name))
            return true;
    return false;
}

/* "s0" or "4*s0", of the one symbol that sizes have: the sequence length. */
static int largest(struct lowering *l, const char *expr, int64_t *ret_size)
{
    char *end = NULL;
    int64_t factor = strtoll(expr, &end, 10);
    const char *symbol = end == expr ? expr : end + 1;

    if (end == expr)
        factor = 1;
    else if (*end != '*')
        symbol = "";
    if (factor < 1 || !lower_is_symbol(l, symbol) ||
        __builtin_mul_overflow(factor, l->is_row ? 1 : l->decoder.max_seq_len, ret_size))
        return pt2_err_set(l->err, PT2_ERR_NOT_EXPORTABLE, "format pte: the size %s", expr);
    return 0;
}

int lower_sizes(struct lowering *l, uint32_t value, int64_t ret_sizes[PTE_MAX_DIMS],
                unsigned *ret_n)
{
    const struct pt2_tensor_meta *meta = lower_meta(l, value);

    if (meta->n_dims > PTE_MAX_DIMS || pte_scalar_type(meta->dtype) < 0)
        return pt2_err_set(l->err, PT2_ERR_NOT_EXPORTABLE,
                           "format pte: '%s' has %u dimensions of %s",
                           pt2_program_value(l->from, value)->name, meta->n_dims,
                           pt2_dtype_name(meta->dtype));
    for (unsigned i = 0; i < meta->n_dims; i++) {
        ret_sizes[i] = meta->sizes[i].value;
        if (meta->sizes[i].expr && largest(l, meta->sizes[i].expr, &ret_sizes[i]) < 0)
            return -1;
    }
    *ret_n = meta->n_dims;
    return 0;
}

bool lower_is_open(const struct lowering *l, const struct pt2_dim *size)
{
    return size->expr && !l->is_row;
}

bool lower_is_dynamic(const struct lowering *l, uint32_t value)
{
    const struct pt2_tensor_meta *meta = lower_meta(l, value);

    for (unsigned i = 0; i < meta->n_dims; i++)
        if (lower_is_open(l, &meta->sizes[i]))
            return true;
    return false;
}

uint32_t lower_activation(struct lowering *l, uint32_t value)
{
    int64_t sizes[PTE_MAX_DIMS], first;
    uint32_t x;
    unsigned n;

    if (lower_sizes(l, value, sizes, &n) < 0) {
        l->p->failed = true;
        return 0;
    }
    if (l->values[value].is_turned) {
        first = sizes[0];
        sizes[0] = sizes[1];
        sizes[1] = first;
    }
    x = pte_activation(l->p, lower_meta(l, value)->dtype, n, sizes);
    if (!pte_failed(l->p))
        l->p->values[x].tensor.is_dynamic = lower_is_dynamic(l, value);
    return x;
}

/* ---- values ---- */

uint32_t lower_value(struct lowering *l, uint32_t value)
{
    struct lowered *x = &l->values[value];
    int64_t sizes[PTE_MAX_DIMS];
    unsigned n;

    if (x->value != NO_VALUE)
        return x->value;
    if (x->blob == PTE_NONE) { /* it was never made */
        pte_fail_wrong(l->p);
        return 0;
    }
    if (lower_sizes(l, value, sizes, &n) < 0)
        return 0;
    x->value = pte_constant(l->p, x->blob, lower_meta(l, value)->dtype, n, sizes);
    return x->value;
}

uint32_t lower_result_at(struct lowering *l, const struct pt2_node *node, uint32_t i)
{
    uint32_t value = node->outputs[i].value;

    l->values[value].value = lower_activation(l, value);
    return l->values[value].value;
}

int lower_as_view(struct lowering *l, const struct pt2_node *node, uint32_t x)
{
    uint32_t value = node->outputs[0].value, from = lower_value(l, x);
    int64_t sizes[PTE_MAX_DIMS];
    unsigned n;

    if (lower_sizes(l, value, sizes, &n) < 0)
        return -1;
    if (pte_failed(l->p))
        return 0;
    if (pte_tensor(l->p, from)->place == PTE_INPUT)
        return lower_refuse(l, node, "an input of the caller's seen in another shape");
    l->values[value].value =
        pte_view(l->p, from, lower_meta(l, value)->dtype, n, sizes, 0);
    return 0;
}

uint32_t lower_number(struct lowering *l, double number)
{
    const int64_t one = 1;
    float f = (float)number;
    char key[32];
    uint32_t blob;

    snprintf(key, sizeof(key), "number_%u", l->n_constants);
    blob = pte_blob_of(l->p, key, &f, sizeof(f));
    if (!pte_failed(l->p) && streq(l->p->blobs[blob].key, key))
        l->n_constants++;
    return pte_constant(l->p, blob, PT2_FLOAT32, 1, &one);
}

/* A transpose of which all dimensions but one, from the one that moves to the other, are 1. */
static bool moves_nothing(const struct lowering *l, const struct pt2_node *node)
{
    const struct pt2_tensor_meta *meta = lower_meta(l, lower_tensor(node, "self"));
    int64_t n = meta->n_dims, n_long = 0;
    int64_t a = lower_int(node, "dim0", 0), b = lower_int(node, "dim1", 0);

    a += a < 0 ? n : 0;
    b += b < 0 ? n : 0;
    for (int64_t d = MIN(a, b); d <= MAX(a, b); d++)
        n_long += meta->sizes[d].expr || meta->sizes[d].value != 1;
    return n_long <= 1;
}

bool lower_is_shape(const struct lowering *l, const struct pt2_node *node)
{
    static const char *const shapes[] = {"reshape.default", "view.default",
                                         "unsqueeze.default", "squeeze.dim"};
    const char *op = lower_op(node);

    for (size_t i = 0; i < ARRAY_LEN(shapes); i++)
        if (streq(op, shapes[i]))
            return true;
    return streq(op, "transpose.int") && moves_nothing(l, node);
}

/* ---- inputs and outputs ---- */

/* A cache: nodes write to it in place ("index_copy_", "llama::update_cache"). */
static bool is_written(const struct pt2_program *from, uint32_t value)
{
    for (uint32_t i = 0; i < pt2_program_n_nodes(from); i++) {
        const struct pt2_node *node = pt2_program_node(from, i);
        const char *op = lower_op(node);
        size_t len = op ? strcspn(op, ".") : 0;

        if (len > 0 && op[len - 1] == '_' && lower_tensor(node, "self") == value)
            return true;
        if (lower_is_llama(node) && lower_tensor(node, "cache") == value)
            return true;
    }
    return false;
}

static int lower_input(struct lowering *l, const struct pt2_input *in)
{
    struct lowered *x = &l->values[in->value];
    enum pt2_dtype dtype = lower_meta(l, in->value)->dtype;
    int64_t sizes[PTE_MAX_DIMS];
    uint64_t bytes = pt2_dtype_size(dtype);
    unsigned n;

    if (lower_sizes(l, in->value, sizes, &n) < 0)
        return -1;
    if (in->kind == PT2_INPUT_USER) {
        x->value = pte_input(l->p, dtype, n, sizes, lower_is_dynamic(l, in->value));
        return 0;
    }
    if (in->kind == PT2_INPUT_BUFFER && is_written(l->from, in->value)) {
        const int64_t turned[] = {sizes[1], sizes[0], sizes[2]};

        x->value = pte_cache(l->p, dtype, n, x->rows_first ? turned : sizes);
        return 0;
    }
    for (unsigned i = 0; i < n; i++)
        bytes *= (uint64_t)sizes[i]; /* fits: the exporter has it */
    x->blob = pte_blob(l->p, in->fqn, PTE_PLAIN, bytes);
    return 0;
}

static void use(struct lowering *l, const struct pt2_arg *arg, uint32_t node)
{
    switch (arg->kind) {
    case PT2_ARG_TENSOR:
        l->values[lower_root(l, arg->value)].last_use = node;
        l->values[lower_root(l, arg->value)].n_uses++;
        return;
    case PT2_ARG_TENSORS:
    case PT2_ARG_OPTIONAL_TENSORS:
        for (uint32_t i = 0; i < arg->list.n; i++)
            use(l, &arg->list.items[i], node);
        return;
    default:
        return;
    }
}

static void find_uses(struct lowering *l)
{
    uint32_t n = pt2_program_n_nodes(l->from);

    for (uint32_t i = 0; i < n; i++) {
        const struct pt2_node *node = &l->nodes[i];

        for (uint32_t k = 0; k < node->n_inputs; k++)
            use(l, &node->inputs[k].arg, i);
    }
    for (uint32_t i = 0; i < pt2_program_n_outputs(l->from); i++)
        if (pt2_program_output(l->from, i)->kind == PT2_OUTPUT_USER)
            use(l, &pt2_program_output(l->from, i)->arg, n);
}

static int lower_outputs(struct lowering *l)
{
    for (uint32_t i = 0; i < pt2_program_n_outputs(l->from); i++) {
        const struct pt2_output *out = pt2_program_output(l->from, i);

        if (out->kind == PT2_OUTPUT_USER && out->arg.kind == PT2_ARG_TENSOR)
            pte_output(l->p, lower_value(l, lower_root(l, out->arg.value)));
    }
    return 0;
}

/* ---- nodes ---- */

int lower_node(struct lowering *l, const struct pt2_node *node)
{
    bool is_taken = false;

    if (lower_does_nothing(l, node))
        return 0;
    if (lower_is_llama(node))
        return lower_llama(l, node);
    if (!lower_op(node))
        return lower_quantized(l, node);
    if (lower_takes_quantized(l, node))
        return lower_of_quantized(l, node);
    if (l->backend == PTE_XNNPACK && lower_xnn(l, node, &is_taken) < 0)
        return -1;
    if (is_taken)
        return 0;
    if (lower_xnn_end(l) < 0)
        return -1;
    return lower_portable(l, node);
}

/* The node, or as many as become something together: l->node is then the last of them. */
static int lower_next(struct lowering *l)
{
    const struct attention *a = lower_attention_at(l, l->node);
    uint32_t last;
    int r;

    if (a) {
        r = lower_attention(l, a);
        l->node = a->last;
        return r;
    }
    if (lower_rows_at(l, l->node, &last)) {
        r = lower_rows(l, l->node, last);
        l->node = last;
        return r;
    }
    return lower_node(l, &l->nodes[l->node]);
}

static int lower_all(struct lowering *l)
{
    uint32_t n = pt2_program_n_nodes(l->from);

    find_uses(l);
    if (l->backend == PTE_XNNPACK)
        lower_find_attentions(l);
    for (uint32_t i = 0; i < pt2_program_n_inputs(l->from); i++)
        if (lower_input(l, pt2_program_input(l->from, i)) < 0)
            return -1;
    if (pte_failed(l->p))
        return 0;
    l->position = (uint32_t)l->p->inputs[l->decoder.cache_position];
    for (l->node = 0; l->node < n && !pte_failed(l->p); l->node++)
        if (lower_next(l) < 0)
            return -1;
    if (pte_failed(l->p))
        return 0; /* pte_lower says it */
    if (lower_xnn_end(l) < 0)
        return -1;
    return lower_outputs(l);
}

int pte_lower(const struct pt2_program *from, enum pte_backend backend,
              struct pte_program *p, struct pt2_err *err)
{
    uint32_t n = pt2_program_n_values(from);
    AUTO_PTR struct lowered *values = calloc(MAX(n, 1u), sizeof(*values));
    AUTO_PTR uint32_t *args = calloc(2 * (size_t)n + 1, sizeof(*args));
    AUTO_PTR uint32_t *inner = calloc((size_t)n + 1, sizeof(*inner));
    struct lowering l = {.from = from, .backend = backend, .p = p, .values = values,
                         .args = args, .inner = inner, .err = err};
    AUTO_PTR struct attention *attentions =
        calloc((size_t)pt2_program_n_nodes(from) + 1, sizeof(*attentions));
    int r;

    l.attentions = attentions;
    if (pt2_program_decoder(from, &l.decoder, err) < 0)
        return -1;
    if (!values || !args || !inner || !attentions)
        return pt2_err_set(err, PT2_ERR_NOMEM, "an ExecuTorch program");
    for (uint32_t i = 0; i < n; i++)
        values[i] = (struct lowered){.value = NO_VALUE,
                                     .blob = PTE_NONE,
                                     .inner = NO_VALUE,
                                     .transposed = NO_VALUE,
                                     .rows_of = NO_VALUE,
                                     .same_as = NO_VALUE,
                                     .data = NO_VALUE};
    r = lower_check(&l) < 0 || lower_copy_nodes(&l) < 0 ? -1 : lower_all(&l);
    xnn_graph_free(l.delegate);
    free(l.nodes);
    free(l.node_args);
    if (r < 0)
        return -1;
    if (pte_failed(p) && p->is_too_big)
        return pt2_err_set(err, PT2_ERR_LIMIT,
                           "format pte: a tensor is longer than 2^31 - 1 in a dimension, "
                           "or than 2^63 bytes");
    if (pte_failed(p) && p->is_wrong)
        return pt2_err_set(err, PT2_ERR_BAD_PROGRAM,
                           "format pte: a node reads what no other has made for it");
    if (pte_failed(p))
        return pt2_err_set(err, PT2_ERR_NOMEM, "an ExecuTorch program");
    if (memory_plan(p, err) < 0)
        return -1;
    return memory_check(p, err);
}
