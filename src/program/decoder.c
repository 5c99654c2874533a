/* decoder.c - is the program a decoder with a static cache, and how large is everything?
 */
#include "program/expr.h"
#include "program/impl.h"

/* ---- the two inputs ---- */

static int refuse(struct pt2_err *err, const char *fmt, ...) PT2_PRINTF(2, 3);
static int refuse(struct pt2_err *err, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    pt2_err_vset(err, PT2_ERR_PROGRAM_REFUSED, fmt, ap);
    va_end(ap);
    return -1;
}

struct inputs {
    const struct pt2_value *values[2];
};

static int find_inputs(const struct pt2_program *p, struct inputs *ret,
                       struct pt2_err *err)
{
    unsigned n = 0;

    for (uint32_t i = 0; i < p->n_inputs; i++) {
        if (p->inputs[i].kind != PT2_INPUT_USER)
            continue;
        if (n < 2)
            ret->values[n] = &p->values[p->inputs[i].value];
        n++;
    }
    if (n != 2)
        return refuse(err,
                      "the program takes %u inputs; a decoder takes two, input_ids and "
                      "cache_position",
                      n);
    for (unsigned i = 0; i < 2; i++) {
        const struct pt2_value *value = ret->values[i];

        if (value->kind != PT2_VALUE_TENSOR || value->meta.dtype != PT2_INT64)
            return refuse(err, "input '%s' is %s, a decoder's inputs are int64 tensors",
                          value->name,
                          value->kind == PT2_VALUE_TENSOR
                              ? pt2_dtype_name(value->meta.dtype)
                              : program_value_kind_name(value->kind));
    }
    return 0;
}

static int place_of(const struct inputs *inputs, const char *name)
{
    for (int i = 0; i < 2; i++)
        if (streq(inputs->values[i]->name, name))
            return i;
    return -1;
}

/* Which of the two is input_ids?  By name, else the first, which must have the shape. */
static int place_inputs(const struct inputs *inputs, struct pt2_decoder *d,
                        struct pt2_err *err)
{
    int ids = place_of(inputs, "input_ids"),
        position = place_of(inputs, "cache_position");

    if (ids < 0)
        ids = position < 0 ? 0 : 1 - position;
    d->input_ids = (uint32_t)ids;
    d->cache_position = (uint32_t)(1 - ids);
    for (unsigned i = 0; i < 2; i++) {
        unsigned want = i == d->input_ids ? 2 : 1;
        const struct pt2_value *value = inputs->values[i];

        if (value->meta.n_dims != want)
            return refuse(err, "input '%s' has %u dimensions, %s has %u", value->name,
                          value->meta.n_dims,
                          want == 2 ? "input_ids [batch, s]" : "cache_position [s]",
                          want);
    }
    return 0;
}

static bool same_dim(const struct pt2_dim *a, const struct pt2_dim *b)
{
    if (a->expr || b->expr)
        return a->expr && b->expr && streq(a->expr, b->expr);
    return a->value == b->value;
}

/* batch_size, seq_len, max_seq_len (INT64_MAX where the range is open) */
static int read_lengths(const struct pt2_program *p, const struct inputs *inputs,
                        struct pt2_decoder *d, struct pt2_err *err)
{
    const struct pt2_dim *ids = inputs->values[d->input_ids]->meta.sizes,
                         *s = &inputs->values[d->cache_position]->meta.sizes[0];
    const struct pt2_range *range;

    if (ids[0].expr || ids[0].value < 1)
        return refuse(err, "the batch size must be a number from 1 on");
    d->batch_size = ids[0].value;
    if (!same_dim(&ids[1], s))
        return refuse(err, "input_ids and cache_position have different lengths");
    if (!s->expr) {
        if (s->value < 1)
            return refuse(err, "the sequence length is 0");
        d->seq_len = d->max_seq_len = s->value;
        return 0;
    }
    range = expr_is_symbol(s->expr) ? program_find_range(p, s->expr) : NULL;
    if (!range)
        return refuse(err, "the sequence length '%s' is no plain symbol with a range",
                      s->expr);
    if (range->max < 1)
        return refuse(err, "the sequence length is at most %lld", (long long)range->max);
    d->seq_len = 0;
    d->max_seq_len = range->max;
    return 0;
}

/* ---- the logits ---- */

static int read_logits(const struct pt2_program *p, const struct pt2_dim *s,
                       struct pt2_decoder *d, struct pt2_err *err)
{
    const struct pt2_value *logits = NULL;
    const struct pt2_dim *sizes;
    unsigned n = 0, n_dims;

    for (uint32_t i = 0; i < p->n_outputs; i++) {
        if (p->outputs[i].kind != PT2_OUTPUT_USER)
            continue;
        n++;
        if (p->outputs[i].arg.kind == PT2_ARG_TENSOR)
            logits = &p->values[p->outputs[i].arg.value];
    }
    if (n != 1 || !logits)
        return refuse(err, "the program returns %u values; a decoder returns the logits",
                      n);
    sizes = logits->meta.sizes;
    n_dims = logits->meta.n_dims;
    if (!pt2_dtype_is_float(logits->meta.dtype) || n_dims < 2 || n_dims > 3)
        return refuse(err,
                      "'%s' is %s with %u dimensions, logits are [batch, s, vocab] or "
                      "[batch, vocab]",
                      logits->name, pt2_dtype_name(logits->meta.dtype), n_dims);
    if (sizes[0].expr || sizes[0].value != d->batch_size)
        return refuse(err, "the logits' batch size is not that of input_ids");
    if (sizes[n_dims - 1].expr || sizes[n_dims - 1].value < 1)
        return refuse(err, "the vocabulary's size must be a number from 1 on");
    d->vocab_size = sizes[n_dims - 1].value;
    d->logits_all_rows = n_dims == 3 && same_dim(&sizes[1], s);
    if (n_dims == 3 && !d->logits_all_rows && (sizes[1].expr || sizes[1].value != 1))
        return refuse(err, "the logits have neither one row nor one for each token");
    return 0;
}

/* ---- the cache ---- */

static const struct pt2_arg *find_arg(const struct pt2_node *node, const char *name)
{
    for (uint32_t i = 0; i < node->n_inputs; i++)
        if (streq(node->inputs[i].name, name))
            return &node->inputs[i].arg;
    return NULL;
}

/* "index_copy_" of "torch.ops.aten.index_copy_.default"; false for other namespaces. */
static bool op_is(const struct pt2_node *node, const char *op)
{
    const char *rest = after_prefix(node->target, "torch.ops.aten.");

    rest = rest ? after_prefix(rest, op) : NULL;
    return rest && (*rest == '.' || *rest == '\0');
}

/* Ops whose result is their first argument, whole. */
static bool op_is_identity(const struct pt2_node *node)
{
    static const char *const ops[] = {"alias",   "to",    "detach",
                                      "detach_", "copy_", "add_"};

    for (size_t i = 0; i < ARRAY_LEN(ops); i++)
        if (op_is(node, ops[i]))
            return true;
    return false;
}

/* The dimension that an index_copy or index_put writes rows of, in its own self; -1: the
 * node is neither. */
static int written_dim(const struct pt2_node *node, unsigned n_dims)
{
    const struct pt2_arg *arg;

    if (op_is(node, "index_copy_") || op_is(node, "index_copy")) {
        arg = find_arg(node, "dim");
        if (!arg || arg->kind != PT2_ARG_INT)
            return -1;
        return (int)(arg->i < 0 ? arg->i + n_dims : arg->i);
    }
    if (op_is(node, "index_put_") || op_is(node, "index_put")) {
        arg = find_arg(node, "indices");
        if (!arg ||
            (arg->kind != PT2_ARG_OPTIONAL_TENSORS && arg->kind != PT2_ARG_TENSORS))
            return -1;
        for (uint32_t i = 0; i < arg->list.n; i++)
            if (arg->list.items[i].kind == PT2_ARG_TENSOR)
                return (int)i;
    }
    return -1;
}

/* ExecuTorch's llama::update_cache(value, cache, start_pos): rows from start_pos on, in
 * dimension 1 of a cache (batch, positions, heads, head_dim). */
static bool is_update(const struct pt2_node *node)
{
    return streq(node->target, "torch.ops.llama.update_cache.default");
}

/* What is known of the buffers, while the graph is walked. */
struct caches {
    int32_t *buffer_of; /* per value: the input it is all of; -1: of none */
    int64_t *length_of; /* per input: positions; 0: no cache */
    uint32_t positions; /* the value cache_position */
    uint32_t n_rings;   /* written modulo their length */
    int64_t shortest;   /* of those written at cache_position itself: it goes no further */
};

/* What a node that writes n rows of a buffer writes them by. */
static void note_index(const struct pt2_program *p, const struct pt2_node *node, int64_t n,
                       struct caches *caches)
{
    const struct pt2_arg *index = find_arg(node, "index"), *by;
    const struct pt2_node *maker;

    if (!index || index->kind != PT2_ARG_TENSOR)
        return;
    if (index->value == caches->positions)
        caches->shortest = MIN(caches->shortest, n);
    if (p->values[index->value].node < 0)
        return;
    maker = &p->nodes[p->values[index->value].node];
    by = op_is(maker, "remainder") ? find_arg(maker, "other") : NULL;
    caches->n_rings += by && by->kind == PT2_ARG_INT && by->i == n;
}

/* Where the node writes rows of a buffer, note how many it has. */
static void note_node(const struct pt2_program *p, const struct pt2_node *node,
                      struct caches *caches)
{
    const struct pt2_value *self;
    int32_t buffer;
    int dim;

    if (node->n_inputs == 0 || node->inputs[0].arg.kind != PT2_ARG_TENSOR)
        return;
    buffer = caches->buffer_of[node->inputs[0].arg.value];
    if (buffer < 0)
        return;
    self = &p->values[p->inputs[buffer].value];
    dim = written_dim(node, self->meta.n_dims);
    if (self->meta.n_dims >= 3 && dim >= 0 && dim < (int)self->meta.n_dims &&
        !self->meta.sizes[dim].expr) {
        if (caches->length_of[buffer] == 0)
            note_index(p, node, self->meta.sizes[dim].value, caches);
        caches->length_of[buffer] = self->meta.sizes[dim].value;
    }
    if (op_is_identity(node) && node->n_outputs == 1 &&
        node->outputs[0].kind == PT2_ARG_TENSOR)
        caches->buffer_of[node->outputs[0].value] = buffer;
}

static void note_update(const struct pt2_program *p, const struct pt2_node *node,
                        struct caches *caches)
{
    const struct pt2_arg *cache = find_arg(node, "cache");
    const struct pt2_tensor_meta *meta;
    int32_t buffer;

    if (!cache || cache->kind != PT2_ARG_TENSOR || caches->buffer_of[cache->value] < 0)
        return;
    buffer = caches->buffer_of[cache->value];
    meta = &p->values[p->inputs[buffer].value].meta;
    if (meta->n_dims != 4 || meta->sizes[1].expr)
        return;
    caches->length_of[buffer] = meta->sizes[1].value;
    caches->shortest = MIN(caches->shortest, meta->sizes[1].value);
}

/* A cache that is not written row by row (a window that rolls) is known by its name, as
 * Transformers gives it: key_cache_0 is [batch, heads, positions, head_dim]. */
static void note_name(const struct pt2_program *p, uint32_t i, struct caches *caches)
{
    const struct pt2_tensor_meta *meta = &p->values[p->inputs[i].value].meta;
    const char *fqn = p->inputs[i].fqn;

    if (caches->length_of[i] == 0 && meta->n_dims >= 3 &&
        (strstr(fqn, "key_cache") || strstr(fqn, "value_cache")) &&
        !meta->sizes[meta->n_dims - 2].expr)
        caches->length_of[i] = meta->sizes[meta->n_dims - 2].value;
}

static int sum_up(const struct pt2_program *p, const struct caches *caches,
                  struct pt2_decoder *d, struct pt2_err *err)
{
    int64_t n = 0;

    d->max_cache_len = 0;
    for (uint32_t i = 0; i < p->n_inputs; i++) {
        n += caches->length_of[i] > 0;
        d->max_cache_len = MAX(d->max_cache_len, caches->length_of[i]);
    }
    if (n == 0)
        return refuse(err,
                      "the program has no static cache: no buffer of three dimensions "
                      "or more that index_copy, index_put or llama.update_cache writes");
    if (n == caches->n_rings) /* then no buffer says how far positions go */
        d->max_cache_len = MAX(d->max_cache_len, p->max_context_len);
    d->max_cache_len = MIN(d->max_cache_len, caches->shortest);
    if (d->max_cache_len < 1)
        return refuse(err, "one of the caches has room for no position");
    d->n_layers = (n + 1) / 2;
    if (d->seq_len > d->max_cache_len)
        return refuse(err,
                      "the sequence length %lld is beyond the cache's %lld positions",
                      (long long)d->seq_len, (long long)d->max_cache_len);
    d->max_seq_len = MIN(d->max_seq_len, d->max_cache_len);
    return 0;
}

static int read_caches(const struct pt2_program *p, uint32_t positions,
                       struct pt2_decoder *d, struct pt2_err *err)
{
    AUTO_PTR int32_t *buffer_of = malloc((p->n_values + 1) * sizeof(*buffer_of));
    AUTO_PTR int64_t *length_of = calloc(p->n_inputs + 1, sizeof(*length_of));
    struct caches caches = {buffer_of, length_of, positions, 0, INT64_MAX};

    if (!buffer_of || !length_of)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a decoder's caches");
    memset(buffer_of, -1, p->n_values * sizeof(*buffer_of));
    for (uint32_t i = 0; i < p->n_inputs; i++)
        if (p->inputs[i].kind == PT2_INPUT_BUFFER)
            buffer_of[p->inputs[i].value] = (int32_t)i;
    for (uint32_t i = 0; i < p->n_nodes; i++)
        if (is_update(&p->nodes[i]))
            note_update(p, &p->nodes[i], &caches);
        else
            note_node(p, &p->nodes[i], &caches);
    for (uint32_t i = 0; i < p->n_inputs; i++)
        if (p->inputs[i].kind == PT2_INPUT_BUFFER)
            note_name(p, i, &caches);
    return sum_up(p, &caches, d, err);
}

int pt2_program_decoder(const struct pt2_program *p, struct pt2_decoder *ret_decoder,
                        struct pt2_err *err)
{
    struct inputs inputs = {{NULL, NULL}};
    struct pt2_decoder d = {0};

    if (find_inputs(p, &inputs, err) < 0 || place_inputs(&inputs, &d, err) < 0 ||
        read_lengths(p, &inputs, &d, err) < 0 ||
        read_logits(p, &inputs.values[d.cache_position]->meta.sizes[0], &d, err) < 0 ||
        read_caches(p, (uint32_t)(inputs.values[d.cache_position] - p->values), &d, err) < 0)
        return -1;
    *ret_decoder = d;
    return 0;
}
