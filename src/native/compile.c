#include "native/lift.h"
#include "native/pack.h"

void plan_free(struct plan *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->n_tables; i++)
        free(p->tables[i]);
    for (size_t i = 0; i < p->n_constants; i++)
        free(p->constants[i]);
    for (size_t i = 0; i < p->n_copies; i++)
        free(p->copies[i]);
    free(p->steps);
    free(p->widths);
    free(p->tables);
    free(p->table_widths);
    free(p->constants);
    free(p->constant_sizes);
    free(p->copies);
    packing_free(p->packing);
    free(p->quants);
    free(p->caches);
    free(p->buffers);
    free(p);
}

static void lift_done(struct lift *l)
{
    eval_free(l->eval);
    plan_free(l->plan);
    free(l->values);
    free(l->roots);
    free(l->same);
    free(l->steps);
    free(l->widths);
    free(l->makers);
    free(l->cats);
    free(l->caches);
    free(l->orders);
    free(l->constant_of);
    free(l->known);
    free(l->needed);
    free(l->table_keys);
}

static int lift_init(struct lift *l)
{
    size_t n = pt2_program_n_values(l->program) + 1;

    l->plan = calloc(1, sizeof(*l->plan));
    l->values = calloc(n, sizeof(*l->values));
    l->roots = calloc(n, sizeof(*l->roots));
    l->same = calloc(n, sizeof(*l->same));
    l->constant_of = calloc(n, sizeof(*l->constant_of));
    l->known = calloc(n, sizeof(*l->known));
    l->needed = calloc(n, sizeof(*l->needed));
    if (!l->plan || !l->values || !l->roots || !l->same || !l->constant_of || !l->known ||
        !l->needed)
        return lift_no_memory(l);
    l->plan->decoder = *l->decoder;
    nodes_roots(l->program, l->roots);
    if (!nodes_same(l->program, l->roots, l->same))
        return lift_no_memory(l);
    for (size_t i = 0; i < n; i++)
        l->constant_of[i] = -1;
    return eval_new(l->archive, l->program, l->decoder, &l->eval, l->err);
}

/* ---- inputs ---- */

static void lift_inputs(struct lift *l)
{
    int64_t s = l->decoder->seq_len, batch = l->decoder->batch_size;

    for (uint32_t i = 0; i < pt2_program_n_values(l->program); i++)
        if (eval_class(l->eval, i) != EVAL_TOKENS)
            l->values[i].kind = KIND_EVAL;
    for (uint32_t i = 0, user = 0; i < pt2_program_n_inputs(l->program); i++) {
        const struct pt2_input *in = pt2_program_input(l->program, i);
        struct lifted *v = &l->values[in->value];

        if (in->kind != PT2_INPUT_USER || user++ != l->decoder->input_ids)
            continue;
        *v = (struct lifted){.kind = KIND_IDS, .n_dims = 2, .factor = 1};
        v->dims[0] = new_dim(batch == 1 ? DIM_ONE : DIM_BATCH, batch, 0);
        v->dims[1] = new_dim(s == 1 ? DIM_ONE : DIM_SEQ, s > 0 ? s : ANY_LENGTH, 0);
    }
}

/* ---- nodes ---- */

static void mark_needed(void *context, uint32_t value)
{
    bool *needed = context;

    needed[value] = true;
}

/* Which nodes' outputs lead to an output, or to memory that is written? */
static void find_needed(const struct lift *l, bool *needed)
{
    for (uint32_t i = 0; i < pt2_program_n_outputs(l->program); i++) {
        const struct pt2_output *out = pt2_program_output(l->program, i);

        if (out->arg.kind == PT2_ARG_TENSOR)
            needed[out->arg.value] = true;
    }
    for (uint32_t i = pt2_program_n_nodes(l->program); i-- > 0;) {
        const struct pt2_node *node = pt2_program_node(l->program, i);
        bool is_needed = node_written(node) >= 0;
        int64_t out;

        for (unsigned k = 0; (out = node_out_at(node, k)) >= 0; k++)
            is_needed |= needed[out];
        if (!is_needed)
            continue;
        if (node_out_at(node, 0) >= 0)
            needed[node_out_at(node, 0)] = true; /* by which lift_node asks */
        node_each_input(node, mark_needed, needed);
    }
}

/* Is every output of the node what the evaluator computes? */
static bool is_evaluated(const struct lift *l, const struct pt2_node *node)
{
    int64_t out = node_out_at(node, 0);

    for (unsigned k = 0; out >= 0; out = node_out_at(node, ++k))
        if (eval_class(l->eval, (uint32_t)out) == EVAL_TOKENS)
            return false;
    return true;
}

static int lift_node(struct lift *l, uint32_t i)
{
    const struct pt2_node *node = pt2_program_node(l->program, i);
    struct node_op op = node_op(node);
    bool is;

    l->node = node;
    l->node_i = i;
    if (node_is_check(&op) || is_evaluated(l, node) || !l->needed[node_out_at(node, 0)])
        return 0;
    if (lift_view(l, &op, &is) < 0)
        return -1;
    if (!is && lift_sinks(l, &op, &is) < 0)
        return -1;
    if (!is && lift_attend(l, &op, &is) < 0)
        return -1;
    if (!is && lift_choice(l, &op, &is) < 0)
        return -1;
    if (!is && lift_experts(l, &op, &is) < 0)
        return -1;
    if (!is && lift_quant(l, &op, &is) < 0)
        return -1;
    if (!is && lift_rows(l, &op, &is) < 0)
        return -1;
    return is ? 0 : lift_refuse(l, "the op is not compiled");
}

/* ---- the answer ---- */

static int lift_output(struct lift *l)
{
    const struct lifted *v = NULL;
    struct lifted logits;
    struct plan_step *step;
    unsigned n = 0;

    l->node = NULL;
    for (uint32_t i = 0; i < pt2_program_n_outputs(l->program); i++) {
        const struct pt2_output *out = pt2_program_output(l->program, i);

        if (out->kind != PT2_OUTPUT_USER || out->arg.kind != PT2_ARG_TENSOR)
            continue;
        v = &l->values[out->arg.value];
        n++;
    }
    if (n != 1 || !lift_is_rows(v) || v->n_dims < 2)
        return lift_refuse(l, "%u outputs, or one that is no row of each token", n);
    for (unsigned d = 0; d + 1 < v->n_dims; d++)
        if (dim_in_row(&v->dims[d]) > 0)
            return lift_refuse(l, "logits in more than one dimension");
    if (v->dims[v->n_dims - 1].size != l->decoder->vocab_size ||
        (l->decoder->seq_len != 1 && v->is_last == l->decoder->logits_all_rows))
        return lift_refuse(l, "logits of other rows than the program says");
    if (lift_contiguous(l, v, &logits) < 0)
        return -1;
    step = lift_step(l, PLAN_LOGITS);
    if (!step)
        return -1;
    step->in = (struct plan_view){.source = PLAN_REGISTER, .i = logits.reg,
                                  .offset = logits.offset, .strides = {0, 0, 0, 1}};
    step->sizes[3] = (uint32_t)l->decoder->vocab_size;
    return 0;
}

static int compile(struct lift *l)
{
    if (lift_init(l) < 0 || eval_check_counters(l->eval, l->err) < 0)
        return -1;
    lift_inputs(l);
    find_needed(l, l->needed);
    if (lift_caches(l) < 0)
        return -1;
    for (uint32_t i = 0; i < pt2_program_n_nodes(l->program); i++)
        if (lift_node(l, i) < 0)
            return -1;
    l->node = NULL;
    if (lift_output(l) < 0 || lift_caches_done(l) < 0 || fuse_steps(l) < 0)
        return -1;
    return place_steps(l);
}

int plan_compile(const struct pt2_archive *archive, const struct pt2_program *program,
                 struct plan **ret_plan, struct pt2_err *err)
{
    struct pt2_decoder decoder;
    struct pt2_err own = {0};
    struct lift l = {.archive = archive, .program = program, .decoder = &decoder,
                     .err = err ? err : &own};
    int r;

    if (pt2_program_decoder(program, &decoder, l.err) < 0)
        return -1;
    if (decoder.max_cache_len > PLAN_MAX_POSITIONS)
        return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED,
                           "a cache of %lld positions; a plan has at most %lld",
                           (long long)decoder.max_cache_len, (long long)PLAN_MAX_POSITIONS);
    r = compile(&l);
    if (pt2_archive_is_cut(archive)) { /* what was read of it may be anything */
        pt2_err_clear(l.err);
        r = pt2_err_set(l.err, PT2_ERR_PROGRAM_DAMAGED,
                        "its file was cut short while it was compiled");
    }
    if (r == 0)
        *ret_plan = TAKE(l.plan);
    lift_done(&l);
    return r;
}
