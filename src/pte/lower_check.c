/* lower_check.c - the rule of each op. */
#include "pte/lower_check.h"

struct shape {
    enum pt2_dtype dtype;
    unsigned n;
    int64_t sizes[PTE_MAX_DIMS];
};

/* The node that is being checked, with its first result. */
struct checking {
    struct lowering *l;
    const struct pt2_node *node;
    struct shape out;
};

/* ---- operands ---- */

static int shape_of(struct lowering *l, uint32_t value, struct shape *ret_shape)
{
    if (lower_sizes(l, value, ret_shape->sizes, &ret_shape->n) < 0)
        return -1;
    for (unsigned i = 0; i < ret_shape->n; i++)
        if (ret_shape->sizes[i] < 0 || ret_shape->sizes[i] > INT32_MAX)
            return pt2_err_set(l->err, PT2_ERR_LIMIT,
                               "format pte: '%s' is longer than 2^31 - 1 in a dimension",
                               pt2_program_value(l->from, value)->name);
    ret_shape->dtype = lower_meta(l, value)->dtype;
    return 0;
}

/* Rules answer whether they hold, so a shape that no file has is said by the walk over all
 * values that comes before them. */
static bool operand(const struct checking *c, const char *name, struct shape *ret_shape)
{
    uint32_t value = lower_tensor(c->node, name);

    return value != NO_VALUE && shape_of(c->l, value, ret_shape) == 0;
}

/* The argument as a dimension of n; false where it is none. */
static bool dimension(const struct checking *c, const char *name, int64_t otherwise,
                      unsigned n, unsigned *ret_dim)
{
    int64_t dim = lower_int(c->node, name, otherwise);

    dim += dim < 0 ? n : 0;
    if (dim < 0 || dim >= (int64_t)n)
        return false;
    *ret_dim = (unsigned)dim;
    return true;
}

static bool is_same(const struct shape *a, const struct shape *b)
{
    return a->n == b->n && memcmp(a->sizes, b->sizes, a->n * sizeof(*a->sizes)) == 0;
}

static bool makes(const struct checking *c, const struct shape *shape)
{
    return is_same(&c->out, shape) && c->out.dtype == shape->dtype;
}

static bool broadcast(struct shape *to, const struct shape *by)
{
    struct shape wide = {.dtype = to->dtype, .n = MAX(to->n, by->n)};

    for (unsigned i = 0; i < wide.n; i++) {
        int64_t a = i + to->n < wide.n ? 1 : to->sizes[i + to->n - wide.n];
        int64_t b = i + by->n < wide.n ? 1 : by->sizes[i + by->n - wide.n];

        if (a != b && a != 1 && b != 1)
            return false;
        wide.sizes[i] = a == 1 ? b : a;
    }
    *to = wide;
    return true;
}

static bool numel(const struct shape *s, int64_t *ret_n)
{
    int64_t n = 1;

    for (unsigned i = 0; i < s->n; i++)
        if (__builtin_mul_overflow(n, s->sizes[i], &n))
            return false;
    *ret_n = n;
    return true;
}

static void remove_dim(struct shape *s, unsigned dim)
{
    s->n--;
    for (unsigned i = dim; i < s->n; i++)
        s->sizes[i] = s->sizes[i + 1];
}

static bool insert_dim(struct shape *s, unsigned dim, int64_t size)
{
    if (s->n == PTE_MAX_DIMS)
        return false;
    for (unsigned i = s->n; i > dim; i--)
        s->sizes[i] = s->sizes[i - 1];
    s->sizes[dim] = size;
    s->n++;
    return true;
}

/* ---- element by element ---- */

static bool as_self(const struct checking *c)
{
    struct shape self;

    return operand(c, "self", &self) && makes(c, &self);
}

static bool softmax(const struct checking *c)
{
    unsigned dim;

    return as_self(c) && dimension(c, "dim", -1, c->out.n, &dim);
}

static bool as_input(const struct checking *c) /* torchao's: quantised, or back */
{
    struct shape input;

    return operand(c, "input", &input) && is_same(&c->out, &input);
}

static bool other_dtype(const struct checking *c)
{
    struct shape self;

    return operand(c, "self", &self) && is_same(&c->out, &self);
}

static bool compares_number(const struct checking *c)
{
    return other_dtype(c) && c->out.dtype == PT2_BOOL && lower_arg(c->node, "other");
}

/* self by other, which may be a number. */
static bool broadcasts(const struct checking *c)
{
    const struct pt2_arg *other = lower_arg(c->node, "other");
    const struct pt2_arg *alpha = lower_arg(c->node, "alpha");
    struct shape self, by;

    if (!other || !operand(c, "self", &self) ||
        (alpha && (alpha->kind != PT2_ARG_INT || alpha->i != 1)))
        return false;
    if (other->kind != PT2_ARG_TENSOR)
        return (other->kind == PT2_ARG_INT || other->kind == PT2_ARG_FLOAT) &&
               is_same(&c->out, &self);
    return operand(c, "other", &by) && broadcast(&self, &by) && is_same(&c->out, &self);
}

static bool computes(const struct checking *c)
{
    struct shape self;

    return broadcasts(c) && operand(c, "self", &self) && c->out.dtype == self.dtype;
}

static bool compares(const struct checking *c)
{
    return broadcasts(c) && c->out.dtype == PT2_BOOL;
}

static bool masked_fill(const struct checking *c)
{
    struct shape self, mask;

    return operand(c, "self", &self) && operand(c, "mask", &mask) &&
           broadcast(&self, &mask) && makes(c, &self);
}

static bool where(const struct checking *c)
{
    struct shape self, other, condition;

    return operand(c, "self", &self) && operand(c, "other", &other) &&
           operand(c, "condition", &condition) && condition.dtype == PT2_BOOL &&
           broadcast(&self, &other) && broadcast(&self, &condition) && makes(c, &self);
}

/* ---- shapes ---- */

static bool reshape(const struct checking *c)
{
    struct shape self;
    int64_t n, made;

    return operand(c, "self", &self) && numel(&self, &n) && numel(&c->out, &made) &&
           n == made && c->out.dtype == self.dtype;
}

static bool unsqueeze(const struct checking *c)
{
    struct shape self;
    unsigned dim;

    return operand(c, "self", &self) && dimension(c, "dim", 0, self.n + 1, &dim) &&
           insert_dim(&self, dim, 1) && makes(c, &self);
}

static bool squeeze(const struct checking *c)
{
    struct shape self;
    unsigned dim;

    if (!operand(c, "self", &self) || !dimension(c, "dim", 0, self.n, &dim))
        return false;
    if (self.sizes[dim] == 1)
        remove_dim(&self, dim);
    return makes(c, &self);
}

static bool transpose(const struct checking *c)
{
    struct shape self;
    unsigned a, b;
    int64_t size;

    if (!operand(c, "self", &self) || !dimension(c, "dim0", 0, self.n, &a) ||
        !dimension(c, "dim1", 0, self.n, &b))
        return false;
    size = self.sizes[a];
    self.sizes[a] = self.sizes[b];
    self.sizes[b] = size;
    return makes(c, &self);
}

static bool expand(const struct checking *c)
{
    struct shape self, all = c->out;

    return operand(c, "self", &self) && broadcast(&all, &self) && makes(c, &all) &&
           c->out.dtype == self.dtype;
}

static bool select_one(const struct checking *c)
{
    struct shape self;
    unsigned dim;

    if (!operand(c, "self", &self) || !dimension(c, "dim", 0, self.n, &dim))
        return false;
    remove_dim(&self, dim);
    return makes(c, &self);
}

static bool slice(const struct checking *c)
{
    int64_t start = lower_int(c->node, "start", 0), step = lower_int(c->node, "step", 1);
    struct shape self;
    unsigned dim;

    if (!operand(c, "self", &self) || !dimension(c, "dim", 0, self.n, &dim) ||
        c->out.n != self.n || step < 1)
        return false;
    start += start < 0 ? self.sizes[dim] : 0;
    if (start < 0 || start > self.sizes[dim] ||
        c->out.sizes[dim] > (self.sizes[dim] - start - 1) / step + 1)
        return false;
    self.sizes[dim] = c->out.sizes[dim];
    return makes(c, &self);
}

static bool constant_pad(const struct checking *c)
{
    const struct pt2_arg *pad = lower_arg(c->node, "pad");
    struct shape self;

    if (!operand(c, "self", &self) || !pad || pad->kind != PT2_ARG_INTS ||
        pad->list.n % 2 || pad->list.n / 2 > self.n)
        return false;
    for (uint32_t i = 0; i < pad->list.n; i++) { /* the last dimension's come first */
        int64_t *size = &self.sizes[self.n - 1 - i / 2], by = pad->list.items[i].i;

        if (by < -INT32_MAX || by > INT32_MAX)
            return false;
        *size += by;
    }
    return makes(c, &self);
}

static bool repeat(const struct checking *c)
{
    int64_t repeats = lower_int(c->node, "repeats", -1);
    struct shape self;
    unsigned dim;

    if (!operand(c, "self", &self) || !dimension(c, "dim", INT64_MIN, self.n, &dim) ||
        repeats < 0 || repeats > INT32_MAX)
        return false;
    self.sizes[dim] *= repeats;
    return makes(c, &self);
}

static bool cat(const struct checking *c)
{
    const struct pt2_arg *tensors = lower_arg(c->node, "tensors");
    unsigned dim;
    int64_t n = 0;

    if (!tensors || tensors->kind != PT2_ARG_TENSORS ||
        !dimension(c, "dim", 0, c->out.n, &dim))
        return false;
    for (uint32_t i = 0; i < tensors->list.n; i++) {
        struct shape part;

        if (shape_of(c->l, tensors->list.items[i].value, &part) < 0 || part.n != c->out.n)
            return false;
        n += part.sizes[dim];
        part.sizes[dim] = c->out.sizes[dim];
        if (!makes(c, &part))
            return false;
    }
    return n == c->out.sizes[dim];
}

static bool arange(const struct checking *c)
{
    return c->out.n == 1;
}

/* ---- products ---- */

static bool linear(const struct checking *c)
{
    bool has_bias = lower_tensor(c->node, "bias") != NO_VALUE;
    struct shape x, w, bias;

    if (!operand(c, "input", &x) || !operand(c, "weight", &w) || x.n == 0 || w.n != 2 ||
        x.sizes[x.n - 1] != w.sizes[1] ||
        (has_bias &&
         (!operand(c, "bias", &bias) || bias.n != 1 || bias.sizes[0] != w.sizes[0])))
        return false;
    x.sizes[x.n - 1] = w.sizes[0];
    return makes(c, &x);
}

static bool bmm(const struct checking *c)
{
    struct shape a, b;

    if (!operand(c, "self", &a) || !operand(c, "mat2", &b) || a.n != 3 || b.n != 3 ||
        a.sizes[0] != b.sizes[0] || a.sizes[2] != b.sizes[1] || a.dtype != b.dtype)
        return false;
    a.sizes[2] = b.sizes[2];
    return makes(c, &a);
}

/* ---- by indices ---- */

static bool is_index(const struct shape *s)
{
    return s->dtype == PT2_INT64 || s->dtype == PT2_INT32;
}

static bool embedding(const struct checking *c)
{
    struct shape w, ids;

    if (!operand(c, "weight", &w) || !operand(c, "indices", &ids) || w.n != 2 ||
        !is_index(&ids) || !insert_dim(&ids, ids.n, w.sizes[1]))
        return false;
    ids.dtype = w.dtype;
    return makes(c, &ids);
}

static bool index_select(const struct checking *c)
{
    struct shape self, index;
    unsigned dim;

    if (!operand(c, "self", &self) || !operand(c, "index", &index) || index.n != 1 ||
        !is_index(&index) || !dimension(c, "dim", 0, self.n, &dim))
        return false;
    self.sizes[dim] = index.sizes[0];
    return makes(c, &self);
}

/* Indices of neighbouring dimensions: their common shape stands in these dimensions' place. */
static bool index_tensors(const struct checking *c)
{
    const struct pt2_arg *indices = lower_arg(c->node, "indices");
    struct shape self, all = {0}, index, made;
    uint32_t first = 0, end;

    if (!operand(c, "self", &self) || !indices ||
        (indices->kind != PT2_ARG_TENSORS && indices->kind != PT2_ARG_OPTIONAL_TENSORS) ||
        indices->list.n > self.n)
        return false;
    while (first < indices->list.n && indices->list.items[first].kind != PT2_ARG_TENSOR)
        first++;
    for (end = first; end < indices->list.n; end++) {
        if (indices->list.items[end].kind != PT2_ARG_TENSOR ||
            shape_of(c->l, indices->list.items[end].value, &index) < 0 ||
            !is_index(&index) || !broadcast(&all, &index))
            return false;
    }
    made = (struct shape){.dtype = self.dtype};
    for (uint32_t i = 0; i < first; i++)
        if (!insert_dim(&made, made.n, self.sizes[i]))
            return false;
    for (uint32_t i = 0; i < all.n; i++)
        if (!insert_dim(&made, made.n, all.sizes[i]))
            return false;
    for (uint32_t i = end; i < self.n; i++)
        if (!insert_dim(&made, made.n, self.sizes[i]))
            return false;
    return end > first && makes(c, &made);
}

static bool gather(const struct checking *c)
{
    struct shape self, index;
    unsigned dim;

    if (!operand(c, "self", &self) || !operand(c, "index", &index) ||
        !dimension(c, "dim", 0, self.n, &dim) || index.n != self.n || !is_index(&index))
        return false;
    index.dtype = self.dtype;
    return makes(c, &index);
}

static bool scatter(const struct checking *c)
{
    struct shape self, index;
    unsigned dim;

    return operand(c, "self", &self) && operand(c, "index", &index) && is_index(&index) &&
           dimension(c, "dim", 0, self.n, &dim) && index.n == self.n && makes(c, &self);
}

static bool index_copy(const struct checking *c)
{
    struct shape self, index, source;
    unsigned dim;

    if (!operand(c, "self", &self) || !operand(c, "index", &index) ||
        !operand(c, "source", &source) || index.n != 1 || !is_index(&index) ||
        !dimension(c, "dim", 0, self.n, &dim) || source.n != self.n ||
        source.sizes[dim] != index.sizes[0] || source.dtype != self.dtype)
        return false;
    source.sizes[dim] = self.sizes[dim];
    return is_same(&source, &self) && makes(c, &self);
}

static bool topk(const struct checking *c)
{
    int64_t k = lower_int(c->node, "k", -1);
    struct shape self, places;
    unsigned dim;

    if (c->node->n_outputs != 2 || c->node->outputs[1].kind != PT2_ARG_TENSOR ||
        !operand(c, "self", &self) || !dimension(c, "dim", -1, self.n, &dim) || k < 0 ||
        k > self.sizes[dim] || shape_of(c->l, c->node->outputs[1].value, &places) < 0)
        return false;
    self.sizes[dim] = k;
    return makes(c, &self) && is_same(&places, &self) && places.dtype == PT2_INT64;
}

static bool sum(const struct checking *c)
{
    const struct pt2_arg *dims = lower_arg(c->node, "dim");
    const struct pt2_arg *keepdim = lower_arg(c->node, "keepdim");
    bool keeps = keepdim && keepdim->kind == PT2_ARG_BOOL && keepdim->b, is_summed[PTE_MAX_DIMS] = {0};
    struct shape self;

    if (!operand(c, "self", &self) || !dims || dims->kind != PT2_ARG_INTS)
        return false;
    for (uint32_t i = 0; i < dims->list.n; i++) {
        int64_t dim = dims->list.items[i].i;

        dim += dim < 0 ? self.n : 0;
        if (dim < 0 || dim >= (int64_t)self.n)
            return false;
        is_summed[dim] = true;
    }
    for (unsigned i = self.n; i-- > 0;) {
        if (is_summed[i] && keeps)
            self.sizes[i] = 1;
        else if (is_summed[i])
            remove_dim(&self, i);
    }
    return makes(c, &self);
}

/* ---- ExecuTorch's own ---- */

/* Rows (1, s, heads, head_dim) of a cache (1, max_cache_len, heads, head_dim). */
static bool update_cache(const struct checking *c)
{
    struct shape value, cache;

    if (!operand(c, "value", &value) || !operand(c, "cache", &cache) || value.n != 4 ||
        cache.n != 4 || value.sizes[1] > cache.sizes[1] || value.dtype != cache.dtype)
        return false;
    value.sizes[1] = cache.sizes[1];
    return is_same(&value, &cache);
}

static bool custom_sdpa(const struct checking *c)
{
    struct shape q, k, v;

    return operand(c, "query", &q) && operand(c, "key", &k) && operand(c, "value", &v) &&
           q.n == 4 && k.n == 4 && is_same(&k, &v) && q.sizes[0] == k.sizes[0] &&
           q.sizes[3] == k.sizes[3] && makes(c, &q);
}

/* ---- all ---- */

static const struct rule {
    const char *target; /* after "torch.ops." */
    bool (*holds)(const struct checking *c);
} rules[] = {
    {"aten.__and__.Tensor", computes},
    {"aten.add.Tensor", computes},
    {"aten.arange.default", arange},
    {"aten.bitwise_not.default", as_self},
    {"aten.bmm.default", bmm},
    {"aten.cat.default", cat},
    {"aten.clamp.default", as_self},
    {"aten.constant_pad_nd.default", constant_pad},
    {"aten.contiguous.default", as_self},
    {"aten.cos.default", as_self},
    {"aten.div.Tensor", computes},
    {"aten.embedding.default", embedding},
    {"aten.exp.default", as_self},
    {"aten.expand.default", expand},
    {"aten.expm1.default", as_self},
    {"aten.floor.default", as_self},
    {"aten.gather.default", gather},
    {"aten.gelu.default", as_self},
    {"aten.gt.Scalar", compares_number},
    {"aten.gt.Tensor", compares},
    {"aten.index.Tensor", index_tensors},
    {"aten.index_copy_.default", index_copy},
    {"aten.index_select.default", index_select},
    {"aten.le.Tensor", compares},
    {"aten.linear.default", linear},
    {"aten.log.default", as_self},
    {"aten.lt.Scalar", compares_number},
    {"aten.masked_fill.Scalar", masked_fill},
    {"aten.min.other", computes},
    {"aten.mul.Tensor", computes},
    {"aten.pow.Tensor_Scalar", as_self},
    {"aten.relu.default", as_self},
    {"aten.remainder.Scalar", as_self},
    {"aten.repeat_interleave.self_int", repeat},
    {"aten.reshape.default", reshape},
    {"aten.rsqrt.default", as_self},
    {"aten.scatter.value", scatter},
    {"aten.select.int", select_one},
    {"aten.sigmoid.default", as_self},
    {"aten.silu.default", as_self},
    {"aten.sin.default", as_self},
    {"aten.slice.Tensor", slice},
    {"aten.softmax.int", softmax},
    {"aten.softplus.default", as_self},
    {"aten.square.default", as_self},
    {"aten.squeeze.dim", squeeze},
    {"aten.sub.Tensor", computes},
    {"aten.sum.dim_IntList", sum},
    {"aten.tanh.default", as_self},
    {"aten.to.dtype", other_dtype},
    {"aten.topk.default", topk},
    {"aten.transpose.int", transpose},
    {"aten.unsqueeze.default", unsqueeze},
    {"aten.view.default", reshape},
    {"aten.where.self", where},
    {"aten.zeros_like.default", as_self},
    {"llama.custom_sdpa.default", custom_sdpa},
    {"llama.update_cache.default", update_cache},
    {"torchao.dequantize_affine.default", as_input},
    {"torchao.quantize_affine.default", as_input},
};

static const struct rule *find_rule(const struct pt2_node *node)
{
    const char *target = after_prefix(node->target, "torch.ops.");

    for (size_t i = 0; target && i < ARRAY_LEN(rules); i++)
        if (streq(rules[i].target, target))
            return &rules[i];
    return NULL;
}

static int check_node(struct lowering *l, const struct pt2_node *node)
{
    const struct rule *rule = find_rule(node);
    struct checking c = {.l = l, .node = node};

    if (!rule)
        return 0;
    if (node->n_outputs == 0 || node->outputs[0].kind != PT2_ARG_TENSOR ||
        (node->n_outputs != 1 && rule->holds != topk))
        return pt2_err_set(l->err, PT2_ERR_BAD_PROGRAM,
                           "format pte: node '%s' (%s) has %u results", node->name,
                           node->target, node->n_outputs);
    if (shape_of(l, node->outputs[0].value, &c.out) < 0)
        return -1;
    if (!rule->holds(&c))
        return pt2_err_set(l->err, PT2_ERR_BAD_PROGRAM,
                           "format pte: node '%s' (%s): its operands don't make what its "
                           "metadata say",
                           node->name, node->target);
    return 0;
}

static int check_all(struct lowering *l)
{
    struct shape shape;

    for (uint32_t i = 0; i < pt2_program_n_values(l->from); i++)
        if (pt2_program_value(l->from, i)->kind == PT2_VALUE_TENSOR &&
            shape_of(l, i, &shape) < 0)
            return -1;
    for (uint32_t i = 0; i < pt2_program_n_nodes(l->from); i++)
        if (check_node(l, pt2_program_node(l->from, i)) < 0)
            return -1;
    return 0;
}

int lower_check(struct lowering *l)
{
    int r = check_all(l);

    if (r == 0 && pt2_program_n_ranges(l->from) > 0) { /* also of one token: lower_rows.c */
        l->is_row = true;
        r = check_all(l);
        l->is_row = false;
    }
    return r;
}
