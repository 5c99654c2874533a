#include "native/lift.h"

#include <math.h>

/* ---- queries, scores ---- */

bool lift_heads_match(const struct lift *l, const struct lifted *q, const struct lifted *c,
                      bool may_group, uint32_t *ret_heads)
{
    const struct cache *cache = &l->caches[c->cache];
    unsigned nq = q->n_dims - 2, nc = c->n_dims - 2, n = MAX(nq, nc);
    int64_t heads = 1;
    bool seen_kv = cache->kv_heads == 1;

    for (unsigned d = 0; d < n; d++) {
        static const struct dim one = {.label = DIM_ONE, .size = 1};
        int at_q = (int)d - (int)(n - nq), at_c = (int)d - (int)(n - nc);
        const struct dim *dq = at_q < 0 ? &one : &q->dims[at_q],
                         *dc = at_c < 0 ? &one : &c->dims[at_c];

        if (dq->label == DIM_BATCH || dc->label == DIM_BATCH) {
            if (dq->label != dc->label)
                return false;
            continue;
        }
        if (dq->label != DIM_ROW && dq->label != DIM_ONE)
            return false;
        if (dc->label == DIM_KV || dc->label == DIM_HEAD) {
            if (heads != 1 || (dq->size != dc->size &&
                               !(may_group && dc->label == DIM_KV && d + 1 == n &&
                                 dq->size % dc->size == 0)))
                return false;
            seen_kv = true;
        } else if (dc->label == DIM_REP || dc->label == DIM_ONE) {
            if (!seen_kv && dq->size != 1)
                return false; /* repeated before the key heads */
            if (dc->label == DIM_REP && dq->size != dc->size)
                return false;
        } else {
            return false;
        }
        heads *= dq->size;
    }
    *ret_heads = (uint32_t)heads;
    return seen_kv && heads % cache->kv_heads == 0;
}

/* The stride from one head to the next; false where heads do not follow one another. */
static bool head_stride(const struct lifted *q, int32_t *ret)
{
    int64_t n = 1, stride = 0;

    for (unsigned d = q->n_dims - 2; d-- > 0;) {
        if (q->dims[d].label != DIM_ROW || q->dims[d].size == 1)
            continue;
        if (n == 1)
            stride = q->dims[d].stride;
        else if (q->dims[d].stride != stride * n)
            return false;
        n *= q->dims[d].size;
    }
    *ret = (int32_t)stride;
    return true;
}

/* Queries that were multiplied by a number before: read them from where they were not yet, and
 * answer the number, which goes to the scores.  1 where they were not. */
static double take_factor(const struct lift *l, struct plan_view *q, uint32_t heads,
                          uint32_t head_dim)
{
    int64_t maker = l->makers[q->i];
    const struct plan_step *s = maker < 0 ? NULL : &l->steps[maker].s;
    int64_t width = (int64_t)heads * head_dim;
    bool is_one_line, is_of_heads;

    if (!s || s->op != PLAN_BINARY || s->binary != KERNEL_MUL || s->out != q->i ||
        s->out_offset != 0 || q->offset != 0 || s->b.source != PLAN_NUMBER ||
        s->in.source != PLAN_REGISTER || !(s->b.number > 0) ||
        !isfinite((double)s->b.number) || s->sizes[0] != 1 || s->sizes[1] != 1 || s->in.strides[3] != 1 ||
        (heads > 1 && q->strides[0] != (int32_t)head_dim))
        return 1;
    is_one_line = s->sizes[2] == 1 && s->sizes[3] == width;
    is_of_heads = s->sizes[2] == heads && s->sizes[3] == head_dim;
    if (!is_one_line && !is_of_heads)
        return 1;
    if (is_of_heads && !is_one_line)
        q->strides[0] = s->in.strides[2];
    q->i = s->in.i;
    q->offset = s->in.offset;
    return (double)s->b.number;
}

int lift_queries(struct lift *l, const struct lifted *q_in, const struct lifted *k,
                 bool may_group, struct scores *ret)
{
    struct lifted q = *q_in;
    const struct cache *cache = &l->caches[k->cache];
    const struct dim *seq, *last;
    int32_t stride;

    if (q.n_dims < 3 || k->n_dims < 3 || q.is_last)
        return lift_refuse(l, "queries of %u dimensions", q.n_dims);
    seq = &q.dims[q.n_dims - 2];
    last = &q.dims[q.n_dims - 1];
    if (seq->label != DIM_SEQ && !(seq->label == DIM_ONE && l->decoder->seq_len == 1))
        return lift_refuse(l, "queries without a sequence");
    if (last->size != cache->head_dim || (last->label != DIM_ROW && last->size != 1))
        return lift_refuse(l, "queries that are not as wide as the keys");
    if (!lift_cache_is_ready(l, k))
        return lift_refuse(l, "cache '%s' is read before it is written", cache->fqn);
    memset(ret, 0, sizeof(*ret));
    if (!lift_heads_match(l, &q, k, may_group, &ret->heads))
        return lift_refuse(l, "heads of queries and keys that do not go together");
    if ((last->stride != 1 || !head_stride(&q, &stride)) &&
        (lift_copy(l, q_in, &q) < 0 || !head_stride(&q, &stride)))
        return lift_refuse(l, "queries that are strided");
    ret->cache = k->cache;
    ret->head_dim = cache->head_dim;
    ret->q = (struct plan_view){.source = PLAN_REGISTER, .i = q.reg, .offset = q.offset,
                                .strides = {stride, 1}};
    ret->inner = k->factor * take_factor(l, &ret->q, ret->heads, ret->head_dim);
    ret->outer = 1;
    return 0;
}

/* Where heads that share a key are rows of one matrix, (kv, rep * s, d) beside (kv, ., .):
 * both with the heads apart, (kv, rep, s, d) beside (kv, 1, ., .).  False where not. */
static bool ungroup(const struct lift *l, struct lifted *q, struct lifted *cache)
{
    bool is_one = l->decoder->seq_len == 1;
    struct dim *rows;

    if (q->n_dims < 3 || q->n_dims == PT2_MAX_DIMS || q->n_dims != cache->n_dims)
        return false;
    rows = &q->dims[q->n_dims - 2];
    if (rows->label != DIM_GROUP && !(is_one && rows->label == DIM_ROW))
        return false;
    rows[2] = rows[1];
    rows[1] = new_dim(is_one ? DIM_ONE : DIM_SEQ, is_one ? 1 : ANY_LENGTH, 0);
    if (l->decoder->seq_len > 0)
        rows[1].size = l->decoder->seq_len;
    rows[0].label = DIM_ROW;
    rows[0].size /= rows[1].size;
    q->n_dims++;
    rows = &cache->dims[cache->n_dims - 2];
    rows[2] = rows[1];
    rows[1] = rows[0];
    rows[0] = new_dim(DIM_ONE, 1, 0);
    cache->n_dims++;
    return true;
}

/* As the graph has them again. */
static void group(const struct lift *l, struct lifted *v)
{
    struct dim *rows = &v->dims[v->n_dims - 3];

    rows[0].label = l->decoder->seq_len == 1 ? DIM_ROW : DIM_GROUP;
    rows[0].size *= rows[1].size;
    rows[1] = rows[2];
    v->n_dims--;
}

/* queries · keys^T */
static int make_scores(struct lift *l, const struct lifted *q_in, const struct lifted *k_in)
{
    struct lifted v = {.kind = KIND_SCORES}, q_apart = *q_in, k_apart = *k_in, turned;
    const struct lifted *q = &q_apart, *k = &k_apart;
    bool is_grouped = ungroup(l, &q_apart, &k_apart);
    unsigned n = k->n_dims;

    turned = *k;
    if (n < 3 || k->dims[n - 2].label != DIM_DATA || k->dims[n - 1].label != DIM_POS)
        return lift_refuse(l, "keys that are not transposed");
    turned.dims[n - 2] = k->dims[n - 1];
    turned.dims[n - 1] = k->dims[n - 2];
    if (lift_queries(l, q, &turned, false, &v.scores) < 0)
        return -1;
    if (q->n_dims < n)
        return lift_refuse(l, "fewer dimensions than the keys");
    v.n_dims = q->n_dims;
    memcpy(v.dims, q->dims, sizeof(v.dims));
    for (unsigned d = v.n_dims - 2, heads = 1; d-- > 0;)
        if (v.dims[d].label == DIM_ROW) {
            v.dims[d].stride = (int32_t)heads;
            heads *= (unsigned)v.dims[d].size;
        }
    v.dims[v.n_dims - 1] = k->dims[n - 1];
    if (is_grouped)
        group(l, &v);
    *lift_out(l) = v;
    return 0;
}

/* Is the value zeros, which nothing has written to? */
static bool is_zeros(const struct lift *l, int64_t value)
{
    int32_t maker = value < 0 ? -1 : pt2_program_value(l->program, (uint32_t)value)->node;

    if (maker < 0 || !node_is(pt2_program_node(l->program, (uint32_t)maker), "zeros"))
        return false;
    for (uint32_t i = 0; i < l->node_i; i++) {
        int64_t written = node_written(pt2_program_node(l->program, i));

        if (written >= 0 && l->roots[written] == l->roots[value])
            return false;
    }
    return true;
}

/* baddbmm(zeros, queries, keys^T, alpha): what GPT-NeoX had, and its Japanese kin has */
static int scaled_scores(struct lift *l)
{
    const struct lifted *q = lift_arg(l, "batch1"), *k = lift_arg(l, "batch2");
    double alpha, beta;

    if (!node_float(l->node, "alpha", 1, &alpha) || !node_float(l->node, "beta", 1, &beta) ||
        !(alpha > 0) || !isfinite(alpha) || !lift_is_rows(q))
        return lift_refuse(l, "scores times what is no number");
    if (!isfinite(beta) || !is_zeros(l, node_value(l->node, "self")))
        return lift_refuse(l, "scores that do not start from zeros");
    if (make_scores(l, q, k) < 0)
        return -1;
    lift_out(l)->scores.inner *= alpha;
    return 0;
}

static struct plan_attend attention_of(const struct scores *s, const struct cache *values,
                                       uint32_t layer)
{
    return (struct plan_attend){
        .layer = layer, .heads = s->heads, .kv_heads = values->kv_heads,
        .head_dim = s->head_dim, .v_head_dim = values->head_dim,
        .scale = (float)(s->has_tanh ? s->inner * s->outer : s->inner),
        .soft_cap = s->has_tanh ? (float)s->outer : 0, .window = s->window,
        .sinks = s->has_sinks ? (int32_t)s->sinks : -1};
}

bool lift_attends_by(const struct lift *l, const struct plan_step *step, const struct scores *s)
{
    const struct plan_attend *a = &step->attend, want = attention_of(
        s, &(struct cache){.kv_heads = a->kv_heads, .head_dim = a->v_head_dim}, a->layer);

    return step->op == PLAN_ATTEND && l->caches[s->cache].layer == (int32_t)a->layer &&
           !l->caches[s->cache].is_value && a->heads == want.heads &&
           a->head_dim == want.head_dim && a->scale == want.scale &&
           a->soft_cap == want.soft_cap && a->window == want.window && a->sinks < 0 &&
           step->in.source == s->q.source && step->in.i == s->q.i &&
           step->in.offset == s->q.offset && step->in.strides[0] == s->q.strides[0];
}

int lift_put_attend(struct lift *l, const struct scores *s, const struct lifted *values,
                    const struct lifted *like, struct lifted *ret)
{
    const struct cache *cache = &l->caches[values->cache];
    struct lifted out = *like;
    struct plan_step *step;
    uint32_t layer = 0;

    if (!lift_cache_is_ready(l, values))
        return lift_refuse(l, "cache '%s' is read before it is written", cache->fqn);
    if (!s->is_masked)
        return lift_refuse(l, "attention without a mask sees what is not written yet");
    if (lift_layer(l, s->cache, values->cache, &layer) < 0)
        return -1;
    out.kind = KIND_ROWS;
    out.dims[out.n_dims - 1] = new_dim(DIM_ROW, cache->head_dim, 1);
    step = lift_step(l, PLAN_ATTEND);
    if (!step || lift_new_rows(l, &out, ret) < 0)
        return -1;
    step->in = s->q;
    step->out = ret->reg;
    step->sizes[2] = s->heads;
    step->sizes[3] = cache->head_dim;
    step->attend = attention_of(s, cache, layer);
    if (values->factor != 1) {
        struct lifted scaled;

        if (lift_binary_number(l, KERNEL_MUL, ret, values->factor, &scaled) < 0)
            return -1;
        *ret = scaled;
    }
    return 0;
}

/* probabilities · values */
static int mix(struct lift *l, const struct lifted *p_in, const struct lifted *v_in)
{
    struct lifted out, p_apart = *p_in, v_apart = *v_in;
    const struct lifted *p = &p_apart, *v = &v_apart;
    bool is_grouped = ungroup(l, &p_apart, &v_apart);
    uint32_t heads;

    if (p->dims[p->n_dims - 1].label != DIM_POS)
        return lift_refuse(l, "the sinks' probabilities times values");
    if (!p->scores.is_probability || v->n_dims < 3 ||
        v->dims[v->n_dims - 2].label != DIM_POS || v->dims[v->n_dims - 1].label != DIM_DATA)
        return lift_refuse(l, "no softmax times values");
    if (p->n_dims < v->n_dims || !lift_heads_match(l, p, v, false, &heads) ||
        heads != p->scores.heads)
        return lift_refuse(l, "heads of scores and values that do not go together");
    for (unsigned d = p->n_dims - 2, want = 1; d-- > 0;)
        if (p->dims[d].label == DIM_ROW) {
            if (p->dims[d].stride != (int32_t)want)
                return lift_refuse(l, "heads in another order");
            want *= (unsigned)p->dims[d].size;
        }
    if (lift_put_attend(l, &p->scores, v, p, &out) < 0)
        return -1;
    if (is_grouped)
        group(l, &out);
    *lift_out(l) = out;
    return 0;
}

/* ---- masks ---- */

int lift_mask_of(struct lift *l, uint32_t value, struct scores *s)
{
    struct of_length *known = &l->known[l->same[value]];
    const struct cache *cache = &l->caches[s->cache];
    struct eval_cache of = {cache->length, cache->is_ring};
    int64_t length = of.is_ring ? -of.length : of.length;

    if (l->values[value].kind != KIND_EVAL)
        return lift_refuse(l, "a mask that depends on tokens");
    if (s->is_masked)
        return lift_refuse(l, "scores that are masked twice");
    if (known->mask != length) {
        if (eval_mask(l->eval, value, of, &known->window, l->err) < 0)
            return -1;
        known->mask = length;
    }
    s->window = known->window;
    s->is_masked = true;
    return 0;
}

/* May a number stand for -inf? */
static bool is_lowest(const struct lift *l, const struct pt2_arg *arg, const struct eval *e)
{
    double f = 0;
    int64_t dummy;
    struct eval_tensor t;

    (void)dummy;
    if (arg && arg->kind == PT2_ARG_FLOAT)
        f = arg->f;
    else if (arg && arg->kind == PT2_ARG_INT)
        f = (double)arg->i;
    else if (arg && arg->kind == PT2_ARG_TENSOR && l->values[arg->value].kind == KIND_EVAL &&
             eval_class(e, arg->value) == EVAL_CONSTANT &&
             eval_value(l->eval, arg->value, 0, MAX(l->decoder->seq_len, 1), &t, NULL) == 0) {
        f = t.n == 1 && pt2_dtype_is_float(t.dtype) ? (double)t.f[0] : 0;
        eval_tensor_done(&t);
    }
    return f <= -1e9;
}

/* ---- ops on scores ---- */

static int scale(struct lift *l, const char *op, struct lifted *v)
{
    const struct pt2_arg *arg = node_arg(l->node, "other");
    double f = 0;
    bool is_number = false;

    if (arg && arg->kind == PT2_ARG_TENSOR && l->values[arg->value].kind == KIND_EVAL) {
        if (eval_class(l->eval, arg->value) == EVAL_CONSTANT &&
            lift_number(l, arg->value, &is_number, &f) < 0)
            return -1;
    } else {
        is_number = arg && node_float(l->node, "other", 0, &f);
    }
    if (!is_number || f <= 0 || !isfinite(f))
        return lift_refuse(l, "scores times what is no number");
    f = streq(op, "div") ? 1 / f : f;
    if (v->kind == KIND_CACHE) {
        v->factor *= f;
        return 0;
    }
    if (v->scores.is_masked)
        return lift_refuse(l, "scores that are scaled after their mask");
    if (v->scores.has_tanh)
        v->scores.outer *= f;
    else
        v->scores.inner *= f;
    return 0;
}

static int on_scores(struct lift *l, const char *op, const struct lifted *in, bool is_self)
{
    struct lifted v = *in;
    const struct pt2_arg *dim = node_arg(l->node, "dim");
    int64_t other = node_value(l->node, is_self ? "other" : "self");
    int r = 0;

    if (v.scores.is_probability)
        return lift_refuse(l, "attention's probabilities changed");
    if (streq(op, "mul") || (streq(op, "div") && is_self)) {
        if (!is_self)
            return lift_refuse(l, "scores on the right");
        r = scale(l, op, &v);
    } else if (streq(op, "tanh")) {
        r = v.scores.has_tanh || v.scores.is_masked ? lift_refuse(l, "a second tanh") : 0;
        v.scores.has_tanh = true;
    } else if (streq(op, "add") && other >= 0 && !node_arg(l->node, "alpha")) {
        r = lift_mask_of(l, (uint32_t)other, &v.scores);
        if (r == 0 && !pt2_dtype_is_float(
                          pt2_program_value(l->program, (uint32_t)other)->meta.dtype))
            r = lift_refuse(l, "a mask of booleans added");
    } else if (streq(op, "sub") && is_self && other >= 0 &&
               l->values[other].kind == KIND_LARGEST && !node_arg(l->node, "alpha") &&
               (int64_t)l->values[other].value == node_value(l->node, "self")) {
        r = 0; /* the same probabilities */
    } else if (streq(op, "softmax") || streq(op, "_softmax")) {
        if (!dim || dim->kind != PT2_ARG_INT ||
            (dim->i != -1 && dim->i != (int64_t)v.n_dims - 1))
            return lift_refuse(l, "not over the positions");
        v.scores.is_probability = true;
    } else {
        return lift_refuse(l, "scores of attention, in an op that is not known");
    }
    if (r == 0)
        *lift_out(l) = v;
    return r;
}

/* where(mask, scores, lowest) */
static int where(struct lift *l, const struct lifted *scores)
{
    int64_t mask = node_value(l->node, "condition");
    struct lifted v = *scores;

    if (mask < 0 || v.scores.is_probability ||
        !is_lowest(l, node_arg(l->node, "other"), l->eval) ||
        pt2_program_value(l->program, (uint32_t)mask)->meta.dtype != PT2_BOOL)
        return lift_refuse(l, "not a mask's");
    if (lift_mask_of(l, (uint32_t)mask, &v.scores) < 0)
        return -1;
    *lift_out(l) = v;
    return 0;
}

/* masked_fill(scores, ~mask, lowest): the mask is that which is negated */
static int masked_fill(struct lift *l, const struct lifted *scores)
{
    int64_t hidden = node_value(l->node, "mask"), mask = -1;
    const struct pt2_value *v =
        hidden < 0 ? NULL : pt2_program_value(l->program, (uint32_t)hidden);
    const struct pt2_node *maker =
        v && v->node >= 0 ? pt2_program_node(l->program, (uint32_t)v->node) : NULL;
    struct lifted out = *scores;

    if (maker && (node_is(maker, "logical_not") || node_is(maker, "bitwise_not")))
        mask = node_value(maker, "self");
    if (mask < 0 || out.scores.is_probability ||
        !is_lowest(l, node_arg(l->node, "value"), l->eval) ||
        pt2_program_value(l->program, (uint32_t)mask)->meta.dtype != PT2_BOOL)
        return lift_refuse(l, "not a mask's");
    if (lift_mask_of(l, (uint32_t)mask, &out.scores) < 0)
        return -1;
    *lift_out(l) = out;
    return 0;
}

/* ---- the ops ---- */

/* repeat_interleave of the key heads */
static int repeat(struct lift *l, const struct lifted *in)
{
    struct lifted v = *in;
    int64_t times;
    unsigned dim;

    if (!node_dim(l->node, "dim", 0, in->n_dims, &dim) || !node_arg(l->node, "dim") ||
        !node_int(l->node, "repeats", 0, &times) || times < 1 || times > LIFT_MAX_WIDTH ||
        !lift_cache_is_ready(l, in) || dim + 3 != in->n_dims ||
        (in->dims[dim].label != DIM_KV && in->dims[dim].label != DIM_ONE))
        return lift_refuse(l, "a repetition that is not of key heads");
    v.dims[dim].label = in->dims[dim].label == DIM_KV ? DIM_HEAD : DIM_REP;
    v.dims[dim].size *= times;
    *lift_out(l) = v;
    return 0;
}

static bool is_kind(const struct lifted *v, enum kind kind)
{
    return v && v->kind == kind;
}

int lift_attend(struct lift *l, const struct node_op *op, bool *ret_is)
{
    const struct lifted *self = lift_arg(l, "self"), *other = lift_arg(l, "other");
    const char *name = op->name;
    bool products = streq(name, "matmul") || streq(name, "bmm");

    *ret_is = true;
    if (streq(name, "scaled_dot_product_attention") ||
        streq(name, "_scaled_dot_product_flash_attention_for_cpu"))
        return lift_sdpa(l);
    if (streq(name, "llama.custom_sdpa"))
        return lift_custom_sdpa(l);
    if (streq(name, "llama.update_cache"))
        return lift_update(l);
    if (streq(name, "baddbmm") && is_kind(lift_arg(l, "batch2"), KIND_CACHE))
        return scaled_scores(l);
    if (streq(name, "bmm"))
        other = lift_arg(l, "mat2");
    if (products && lift_is_rows(self) && is_kind(other, KIND_CACHE))
        return make_scores(l, self, other);
    if (products && is_kind(self, KIND_SCORES) && is_kind(other, KIND_CACHE))
        return mix(l, self, other);
    if (is_kind(self, KIND_CACHE)) {
        if (streq(name, "index_copy_") || streq(name, "index_put_"))
            return lift_write(l, self, true);
        if (streq(name, "index_copy") || streq(name, "index_put"))
            return lift_write(l, self, false);
        if (streq(name, "index"))
            return lift_roll(l, self);
        if (streq(name, "copy_"))
            return lift_write_back(l, self);
        if (streq(name, "repeat_interleave"))
            return repeat(l, self);
        if ((streq(name, "mul") || streq(name, "div")) && lift_cache_is_ready(l, self)) {
            struct lifted v = *self;

            if (scale(l, name, &v) < 0)
                return -1;
            *lift_out(l) = v;
            return 0;
        }
        return lift_refuse(l, "a cache in an op that is not known");
    }
    if (streq(name, "where") && is_kind(self, KIND_SCORES))
        return where(l, self);
    if (streq(name, "masked_fill") && is_kind(self, KIND_SCORES))
        return masked_fill(l, self);
    if (is_kind(self, KIND_SCORES) || is_kind(other, KIND_SCORES)) {
        struct node_op in_new = *op;

        if (node_written(l->node) >= 0)
            in_new.name[strlen(in_new.name) - 1] = '\0';
        if (lift_check_write(l) < 0)
            return -1;
        return on_scores(l, in_new.name, is_kind(self, KIND_SCORES) ? self : other,
                         is_kind(self, KIND_SCORES));
    }
    *ret_is = false;
    return 0;
}
