#include "native/plan.h"

#include "base/buf.h"

#define MAX_TEXT ((size_t)64 << 20)

static const char *const unary_names[KERNEL_N_UNARY] = {
    "neg",  "abs",  "square",    "sqrt", "rsqrt", "exp", "silu", "sigmoid",  "tanh",
    "gelu", "gelu_tanh", "relu", "cos",  "sin",   "log", "softplus",
    "expm1", "positive", "to_bf16", "to_f16"};
static const char *const binary_names[KERNEL_N_BINARY] = {"add",  "sub",  "mul", "div",
                                                          "keep", "drop", "max", "min"};
static const char *const reduce_names[] = {"sum", "mean", "max"};

static void put_sizes(struct buf *b, const struct plan_step *s)
{
    int n = s->op == PLAN_REDUCE ? PLAN_MAX_DIMS - 1 : PLAN_MAX_DIMS;
    bool is_first = true;

    buf_str(b, "[");
    for (int d = 0; d < n; d++) {
        if (s->sizes[d] == 1 && d + 1 < n && is_first)
            continue;
        buf_printf(b, "%s%u", is_first ? "" : ", ", s->sizes[d]);
        is_first = false;
    }
    buf_str(b, "]");
}

static void put_view(struct buf *b, const struct plan_view *v)
{
    if (v->source == PLAN_NUMBER) {
        buf_printf(b, "%.9g", (double)v->number);
        return;
    }
    buf_printf(b, "%s%u",
               v->source == PLAN_REGISTER ? "r"
               : v->source == PLAN_TABLE  ? "table"
                                          : "constant",
               v->i);
    if (v->offset)
        buf_printf(b, "+%u", v->offset);
}

/* "8da4w g32", "8w"; per channel there is a group for each row. */
static void put_quant(struct buf *b, const struct plan_quant *q, bool of_whole)
{
    buf_printf(b, "%s %s%uw", q->fqn, of_whole ? "8da" : "", q->shape.bits);
    if (q->shape.group != q->shape.k)
        buf_printf(b, " g%u", q->shape.group);
}

static void put_linear(struct buf *b, const struct plan *plan, const struct plan_step *s)
{
    for (uint32_t o = 0; o < s->linear.n_outs; o++) {
        const struct plan_linear_out *out = &s->linear.outs[o];

        buf_printf(b, "%sr%u [%u]", o ? ", " : "", out->out, out->n_out);
    }
    buf_str(b, " = linear(");
    put_view(b, &s->in);
    buf_printf(b, " [%u]", s->linear.k);
    for (uint32_t o = 0; o < s->linear.n_outs; o++) {
        const struct plan_linear_out *out = &s->linear.outs[o];

        buf_str(b, ", ");
        if (!out->weights)
            put_quant(b, &plan->quants[out->quant], s->linear.of_whole);
        else
            buf_printf(b, "%s %s", out->fqn, pt2_dtype_name(out->dtype));
        if (out->bias >= 0)
            buf_printf(b, " + constant%d", out->bias);
    }
    buf_str(b, ")");
}

static void put_norm(struct buf *b, const struct plan_step *s)
{
    buf_printf(b, "%s(", s->op == PLAN_RMS_NORM ? "rms_norm" : "layer_norm");
    put_view(b, &s->in);
    if (s->norm.weight >= 0)
        buf_printf(b, ", constant%d", s->norm.weight);
    if (s->norm.bias >= 0)
        buf_printf(b, ", constant%d", s->norm.bias);
    buf_printf(b, ", eps %.9g%s)", (double)s->norm.eps,
               s->norm.unit_offset ? ", 1 + weight" : "");
}

static void put_attend(struct buf *b, const struct plan_step *s)
{
    const struct plan_attend *a = &s->attend;

    buf_str(b, "attend(");
    put_view(b, &s->in);
    buf_printf(b, ", layer %u, %u heads of %u, %u key heads, scale %.9g", a->layer, a->heads,
               a->head_dim, a->kv_heads, (double)a->scale);
    if (a->soft_cap != 0)
        buf_printf(b, ", soft cap %.9g", (double)a->soft_cap);
    if (a->window > 0)
        buf_printf(b, ", window %lld", (long long)a->window);
    if (a->sinks >= 0)
        buf_printf(b, ", sinks constant%d", a->sinks);
    buf_str(b, ")");
}

static void put_call(struct buf *b, const char *name, const struct plan_step *s, bool two)
{
    buf_printf(b, "%s(", name);
    put_view(b, &s->in);
    if (two) {
        buf_str(b, ", ");
        put_view(b, &s->b);
    }
    buf_str(b, ")");
}

static void put_experts(struct buf *b, const struct plan_step *s)
{
    const struct plan_experts *e = &s->experts;

    buf_str(b, "experts(");
    put_view(b, &s->in);
    buf_printf(b, " [%u], ", e->k);
    put_view(b, &s->b);
    buf_printf(b, ": %u of %u, %s %s%s)", e->n_chosen, e->n_experts, e->fqn,
               pt2_dtype_name(e->dtype), e->is_transposed ? ", transposed" : "");
}

static void put_topk(struct buf *b, const struct plan_step *s)
{
    buf_str(b, "topk(");
    put_view(b, &s->in);
    buf_printf(b, ", %u of %u%s)", s->sizes[3], s->topk.n,
               s->topk.is_sorted ? "" : ", in any order");
}

static void put_embed(struct buf *b, const struct plan *plan, const struct plan_step *s)
{
    buf_str(b, "embed(");
    if (!s->embed.weights)
        put_quant(b, &plan->quants[s->embed.quant], false);
    else
        buf_printf(b, "%s %s", s->embed.fqn, pt2_dtype_name(s->embed.dtype));
    if (s->embed.scale != 1)
        buf_printf(b, ", scale %.9g", (double)s->embed.scale);
    buf_str(b, ")");
}

static void put_step(struct buf *b, const struct plan *plan, const struct plan_step *s)
{
    char name[32];

    if (s->op == PLAN_LINEAR) {
        put_linear(b, plan, s);
        return;
    }
    if (s->op == PLAN_STORE) {
        buf_printf(b, "store(layer %u %s, ", s->store.layer,
                   s->store.is_value ? "values" : "keys");
        put_view(b, &s->in);
        buf_str(b, ") ");
        put_sizes(b, s);
        return;
    }
    if (s->op == PLAN_LOGITS) {
        put_call(b, "logits", s, false);
        buf_str(b, " ");
        put_sizes(b, s);
        return;
    }
    buf_printf(b, "r%u", s->out);
    if (s->out_offset)
        buf_printf(b, "+%u", s->out_offset);
    buf_str(b, " ");
    put_sizes(b, s);
    buf_str(b, " = ");
    switch (s->op) {
    case PLAN_EMBED:
        put_embed(b, plan, s);
        break;
    case PLAN_QUANTIZE:
        put_call(b, "quantize", s, false);
        break;
    case PLAN_DEQUANTIZE:
        put_call(b, "dequantize", s, false);
        break;
    case PLAN_RMS_NORM:
    case PLAN_LAYER_NORM:
        put_norm(b, s);
        break;
    case PLAN_ROPE:
        buf_str(b, "rope(");
        put_view(b, &s->in);
        buf_printf(b, ", table%u, table%u, %u of %u%s)", s->rope.cos, s->rope.sin,
                   s->rope.n_rot, s->rope.size, s->rope.interleaved ? ", pairs" : "");
        break;
    case PLAN_ATTEND:
        put_attend(b, s);
        break;
    case PLAN_UNARY:
        put_call(b, unary_names[s->unary], s, false);
        break;
    case PLAN_BINARY:
        put_call(b, binary_names[s->binary], s, true);
        break;
    case PLAN_GATE:
        snprintf(name, sizeof(name), "gate_%s", unary_names[s->unary]);
        put_call(b, name, s, true);
        break;
    case PLAN_REDUCE:
        put_call(b, reduce_names[s->reduce], s, false);
        break;
    case PLAN_SOFTMAX:
        put_call(b, "softmax", s, false);
        break;
    case PLAN_TOPK:
        put_topk(b, s);
        break;
    case PLAN_GATHER:
        put_call(b, "gather", s, true);
        break;
    case PLAN_SCATTER:
        put_call(b, "scatter", s, true);
        break;
    case PLAN_PICK:
        buf_printf(b, "pick(constant%u, ", s->pick);
        put_view(b, &s->in);
        buf_str(b, ")");
        break;
    case PLAN_EXPERTS:
        put_experts(b, s);
        break;
    case PLAN_MIX:
        buf_str(b, "mix(");
        put_view(b, &s->b);
        buf_printf(b, " [%u], ", s->mix_n);
        put_view(b, &s->in);
        buf_str(b, ")");
        break;
    case PLAN_TURN:
        snprintf(name, sizeof(name), "turn%s%s_%u", s->turn.interleaved ? "_pairs" : "",
                 s->turn.flipped ? "_flipped" : "", s->turn.n_rot);
        put_call(b, name, s, false);
        break;
    default:
        put_call(b, "copy", s, false);
        break;
    }
}

/* A row of an embedding, or all that a linear's outputs are packed in. */
static uint64_t quant_bytes(const struct plan *plan, int32_t quant, bool is_row)
{
    const struct quant_shape *shape = &plan->quants[quant].shape;

    return is_row ? shape->k + shape->k / shape->group * sizeof(float)
                  : quant_packed_bytes(shape);
}

uint64_t plan_step_bytes(const struct plan *plan, const struct plan_step *s)
{
    uint64_t bytes = 0;

    if (s->op == PLAN_EXPERTS)
        return (uint64_t)s->experts.n_chosen * s->experts.n_out * s->experts.k *
               pt2_dtype_size(s->experts.dtype);
    if (s->op == PLAN_EMBED && !s->embed.weights)
        return quant_bytes(plan, s->embed.quant, true);
    if (s->op == PLAN_EMBED)
        return (uint64_t)s->embed.width * pt2_dtype_size(s->embed.dtype);
    for (uint32_t o = 0; s->op == PLAN_LINEAR && o < s->linear.n_outs; o++)
        bytes += !s->linear.outs[o].weights
                     ? quant_bytes(plan, s->linear.outs[o].quant, false)
                     : (uint64_t)s->linear.outs[o].n_out * s->linear.k *
                           pt2_dtype_size(s->linear.outs[o].dtype);
    return bytes;
}

void plan_count_bytes(struct plan *plan)
{
    plan->weight_bytes = 0;
    for (size_t i = 0; i < plan->n_steps; i++)
        plan->weight_bytes += plan_step_bytes(plan, &plan->steps[i]);
}

int plan_print(const struct plan *plan, const struct kernels *kernels, char **ret_text,
               struct pt2_err *err)
{
    AUTO_BUF b = BUF_INIT(MAX_TEXT);
    uint64_t row = 0;

    for (size_t i = 0; i < plan->n_registers; i++)
        row += plan->widths[i] * sizeof(float);
    buf_printf(&b, "%zu steps, kernels %s, %zu registers (%llu bytes a row), %zu tables, "
                   "%zu constants, %llu bytes of weights read\n",
               plan->n_steps, kernels->name, plan->n_registers, (unsigned long long)row,
               plan->n_tables, plan->n_constants, (unsigned long long)plan->weight_bytes);
    for (size_t i = 0; i < plan->n_caches; i++) {
        const struct plan_cache *c = &plan->caches[i];

        buf_printf(&b, "layer %zu: %s, %s, %s, %u heads of %u and %u", i, c->key_fqn,
                   c->value_fqn, pt2_dtype_name(c->dtype), c->kv_heads, c->head_dim,
                   c->v_head_dim);
        if (c->length < plan->decoder.max_cache_len)
            buf_printf(&b, ", the newest %lld positions", (long long)c->length);
        buf_str(&b, "\n");
    }
    for (size_t i = 0; i < plan->n_steps; i++) {
        uint64_t bytes = plan_step_bytes(plan, &plan->steps[i]);

        if (i == plan->tail)
            buf_str(&b, "for rows whose logits are wanted:\n");
        put_step(&b, plan, &plan->steps[i]);
        if (bytes)
            buf_printf(&b, "  %llu bytes", (unsigned long long)bytes);
        buf_str(&b, "\n");
    }
    if (buf_failed(&b))
        return pt2_err_set(err, PT2_ERR_NOMEM, "a plan's text");
    *ret_text = buf_take(&b);
    return 0;
}

int plan_describe(const struct pt2_archive *archive, const struct pt2_program *program,
                  char **ret_text, struct pt2_err *err)
{
    const struct kernels *kernels;
    AUTO(plan) plan = NULL;

    if (kernels_choose(&kernels, err) < 0 || plan_compile(archive, program, &plan, err) < 0)
        return -1;
    return plan_print(plan, kernels, ret_text, err);
}
