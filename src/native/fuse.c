/* Several steps as one: norms, gates, weighted sums, linears that share their input. */
#include "native/lift.h"

void fuse_each_view(struct lift *l, struct step *step,
                    void (*fn)(void *context, struct plan_view *view), void *context)
{
    if (step->s.op == STEP_CAT) {
        struct cat *cat = &l->cats[step->cat];

        for (unsigned i = 0; i < cat->n; i++)
            fn(context, &cat->pieces[i].view);
        return;
    }
    if (plan_has_first(&step->s))
        fn(context, &step->s.in);
    if (plan_has_second(&step->s))
        fn(context, &step->s.b);
}

static void count_use(void *context, struct plan_view *view)
{
    uint32_t *uses = context;

    if (view->source == PLAN_REGISTER)
        uses[view->i]++;
}

int fuse_uses(const struct lift *l_in, uint32_t **ret_uses)
{
    struct lift *l = (struct lift *)l_in;
    uint32_t *uses = calloc(l->n_registers + 1, sizeof(*uses));

    if (!uses)
        return lift_no_memory(l);
    for (size_t i = 0; i < l->n_steps; i++)
        if (!l->steps[i].is_dead)
            fuse_each_view(l, &l->steps[i], count_use, uses);
    *ret_uses = uses;
    return 0;
}

struct step *fuse_maker(const struct lift *l, const struct plan_view *view)
{
    return view->source == PLAN_REGISTER && l->makers[view->i] >= 0
               ? &l->steps[l->makers[view->i]]
               : NULL;
}

static uint32_t n_elements(const struct plan_step *s)
{
    return s->sizes[0] * s->sizes[1] * s->sizes[2] * s->sizes[3];
}

/* Does the step read the whole register, n elements, side by side? */
static bool reads_all(const struct plan_step *s, const struct plan_view *v, uint32_t n)
{
    int64_t stride = 1;

    if (v->source != PLAN_REGISTER || v->offset != 0 || n_elements(s) != n)
        return false;
    for (int d = PLAN_MAX_DIMS - 1; d >= 0; d--) {
        if (s->sizes[d] != 1 && v->strides[d] != stride)
            return false;
        stride *= s->sizes[d];
    }
    return true;
}

static const struct plan_step *maker_of(const struct lift *l, const struct plan_view *view,
                                        enum plan_op op)
{
    struct step *step = fuse_maker(l, view);

    return step && !step->is_dead && step->s.op == op ? &step->s : NULL;
}

/* ---- RMS norm: x * rsqrt(mean(x * x) + eps), then * weight ---- */

/* Are the n_groups lines of n elements that a step goes through at `in` those at x? */
static bool same_lines(const struct plan_step *s, const struct plan_view *in,
                       const struct plan_view *x, uint32_t n_groups, uint32_t n)
{
    if (in->source != PLAN_REGISTER || in->i != x->i || in->offset != x->offset ||
        n_elements(s) != n_groups * n || s->sizes[0] != 1 || s->sizes[1] != 1 ||
        (in->strides[3] != 1 && n != 1))
        return false;
    if (s->sizes[3] == n)
        return n_groups == 1 || in->strides[2] == x->strides[2];
    return s->sizes[2] == 1 && x->strides[2] == (int32_t)n; /* the lines joined */
}

static bool is_square_of(const struct lift *l, const struct plan_view *view,
                         const struct plan_view *x, uint32_t n_groups, uint32_t n)
{
    struct step *maker = fuse_maker(l, view);
    const struct plan_step *s = maker ? &maker->s : NULL;

    if (!s || view->offset != 0)
        return false;
    if (s->op == PLAN_UNARY && s->unary == KERNEL_SQUARE)
        return same_lines(s, &s->in, x, n_groups, n);
    return s->op == PLAN_BINARY && s->binary == KERNEL_MUL &&
           same_lines(s, &s->in, x, n_groups, n) && same_lines(s, &s->b, x, n_groups, n);
}

/* rsqrt(mean(x * x) + eps), one number for each line? */
static bool is_inverse_rms(const struct lift *l, const struct plan_view *view,
                           const struct plan_view *x, uint32_t n_groups, uint32_t n,
                           float *ret_eps)
{
    const struct plan_step *root = maker_of(l, view, PLAN_UNARY), *add, *mean;
    const struct plan_view *sum;

    if (!root || root->unary != KERNEL_RSQRT || view->offset != 0 || view->strides[3] != 0 ||
        (n_groups != 1 && view->strides[2] != 1))
        return false;
    add = maker_of(l, &root->in, PLAN_BINARY);
    if (!add || add->binary != KERNEL_ADD || !reads_all(root, &root->in, n_groups))
        return false;
    sum = add->b.source == PLAN_NUMBER ? &add->in : &add->b;
    *ret_eps = add->b.source == PLAN_NUMBER ? add->b.number : add->in.number;
    if ((add->b.source != PLAN_NUMBER && add->in.source != PLAN_NUMBER) ||
        !reads_all(add, sum, n_groups))
        return false;
    mean = maker_of(l, sum, PLAN_REDUCE);
    return mean && mean->reduce == PLAN_MEAN && mean->sizes[3] == n &&
           mean->sizes[0] * mean->sizes[1] * mean->sizes[2] == n_groups &&
           mean->in.strides[3] == 1 && (n_groups == 1 || mean->in.strides[2] == (int32_t)n) &&
           mean->sizes[0] == 1 && mean->sizes[1] == 1 &&
           is_square_of(l, &mean->in, x, n_groups, n);
}

static void fuse_norm(struct lift *l, struct plan_step *s)
{
    uint32_t n_groups = s->sizes[2], n = s->sizes[3];
    float eps = 0;

    if (s->sizes[0] != 1 || s->sizes[1] != 1)
        return;
    for (int turn = 0; turn < 2; turn++) {
        struct plan_view x = turn ? s->b : s->in, r = turn ? s->in : s->b;

        if (x.source != PLAN_REGISTER || x.strides[3] != 1 ||
            !is_inverse_rms(l, &r, &x, n_groups, n, &eps))
            continue;
        s->op = PLAN_RMS_NORM;
        s->in = x;
        s->in.strides[0] = x.strides[2];
        s->b = (struct plan_view){0};
        memset(&s->norm, 0, sizeof(s->norm));
        s->norm.weight = s->norm.bias = -1;
        s->norm.eps = eps;
        s->norm.n_groups = n_groups;
        s->norm.size = n;
        return;
    }
}

/* weight * norm(x) */
static void fuse_weight(struct lift *l, struct plan_step *s, const uint32_t *uses)
{
    for (int turn = 0; turn < 2; turn++) {
        const struct plan_view *w = turn ? &s->in : &s->b, *y = turn ? &s->b : &s->in;
        const struct plan_step *norm = maker_of(l, y, PLAN_RMS_NORM);
        struct plan_step fused;

        if (!norm || norm->norm.weight >= 0 || uses[y->i] != 1 || w->source != PLAN_CONSTANT ||
            w->offset != 0 || w->strides[3] != 1 || s->sizes[3] != norm->norm.size ||
            !reads_all(s, y, norm->norm.size * norm->norm.n_groups) ||
            (s->sizes[2] != 1 && w->strides[2] != 0) || s->sizes[0] != 1 ||
            s->sizes[1] != 1 || l->plan->constant_sizes[w->i] != norm->norm.size)
            continue;
        fused = *norm;
        fused.out = s->out;
        fused.norm.weight = (int32_t)w->i;
        fuse_maker(l, y)->is_dead = true;
        *s = fused;
        return;
    }
}

/* ---- gates, embeddings ---- */

static bool is_gate(enum kernel_unary f)
{
    return f == KERNEL_SILU || f == KERNEL_GELU || f == KERNEL_GELU_TANH;
}

static void fuse_gate(struct lift *l, struct plan_step *s, const uint32_t *uses)
{
    for (int turn = 0; turn < 2; turn++) {
        struct plan_view a = turn ? s->b : s->in, b = turn ? s->in : s->b;
        const struct plan_step *f = maker_of(l, &a, PLAN_UNARY);

        if (!f || !is_gate(f->unary) || uses[a.i] != 1 || b.source != PLAN_REGISTER ||
            b.strides[3] != 1 || f->in.strides[3] != 1 || f->in.source != PLAN_REGISTER ||
            !reads_all(s, &a, n_elements(f)) ||
            memcmp(s->sizes, f->sizes, sizeof(s->sizes)) != 0)
            continue;
        s->op = PLAN_GATE;
        s->in = f->in;
        s->b = b;
        s->unary = f->unary;
        fuse_maker(l, &a)->is_dead = true;
        return;
    }
}

static void fuse_embed(struct lift *l, struct step *step, const uint32_t *uses)
{
    struct plan_step *s = &step->s;
    const struct plan_view *number = s->b.source == PLAN_NUMBER ? &s->b : &s->in,
                           *x = s->b.source == PLAN_NUMBER ? &s->in : &s->b;
    const struct plan_step *embed = maker_of(l, x, PLAN_EMBED);
    struct plan_step fused;

    if (!embed || number->source != PLAN_NUMBER || uses[x->i] != 1 ||
        embed->embed.scale != 1 || !reads_all(s, x, embed->embed.width))
        return;
    fused = *embed;
    fused.out = s->out;
    fused.embed.scale = number->number;
    fuse_maker(l, x)->is_dead = true;
    *s = fused;
}

/* ---- a sum of rows, each times a number ---- */

static void fuse_mix(struct lift *l, struct plan_step *s, const uint32_t *uses)
{
    const struct plan_step *mul = maker_of(l, &s->in, PLAN_BINARY);
    uint32_t n = s->sizes[3], width = s->sizes[2];

    if (s->reduce != PLAN_SUM || !mul || mul->binary != KERNEL_MUL || uses[s->in.i] != 1 ||
        s->sizes[0] != 1 || s->sizes[1] != 1 || s->in.offset != 0 || s->in.strides[2] != 1 ||
        s->in.strides[3] != (int32_t)width || mul->sizes[0] != 1 || mul->sizes[1] != 1 ||
        mul->sizes[2] != n || mul->sizes[3] != width)
        return;
    for (int turn = 0; turn < 2; turn++) {
        struct plan_view x = turn ? mul->b : mul->in, by = turn ? mul->in : mul->b;

        if (x.source != PLAN_REGISTER || x.strides[3] != 1 || by.source != PLAN_REGISTER ||
            by.strides[3] != 0 || by.strides[2] != 1)
            continue;
        fuse_maker(l, &s->in)->is_dead = true;
        s->op = PLAN_MIX;
        s->in = x;
        s->b = by;
        s->in.strides[0] = x.strides[2];
        s->sizes[2] = 1;
        s->sizes[3] = width;
        s->mix_n = n;
        return;
    }
}

/* ---- linears of one input ---- */

static bool same_input(const struct plan_step *a, const struct plan_step *b)
{
    return a->linear.of_whole == b->linear.of_whole && a->linear.k == b->linear.k && a->in.i == b->in.i && a->in.offset == b->in.offset;
}

static void merge_linears(struct lift *l)
{
    for (size_t i = 0; i < l->n_steps; i++) {
        struct plan_step *to = &l->steps[i].s;

        if (l->steps[i].is_dead || to->op != PLAN_LINEAR)
            continue;
        for (size_t j = i + 1; j < l->n_steps; j++) {
            struct plan_step *from = &l->steps[j].s;

            if (l->steps[j].is_dead || from->op != PLAN_LINEAR || !same_input(to, from) ||
                to->linear.n_outs == PLAN_MAX_OUTS)
                continue;
            to->linear.outs[to->linear.n_outs++] = from->linear.outs[0];
            l->makers[from->linear.outs[0].out] = (int64_t)i;
            l->steps[j].is_dead = true;
        }
    }
}

/* ---- steps that nobody needs ---- */

static bool is_wanted(const struct step *step, const uint32_t *uses)
{
    const struct plan_step *s = &step->s;

    if (s->op == PLAN_STORE || s->op == PLAN_LOGITS)
        return true;
    if (s->op != PLAN_LINEAR)
        return uses[s->out] > 0;
    for (uint32_t o = 0; o < s->linear.n_outs; o++)
        if (uses[s->linear.outs[o].out] > 0)
            return true;
    return false;
}

static void drop_use(void *context, struct plan_view *view)
{
    uint32_t *uses = context;

    if (view->source == PLAN_REGISTER)
        uses[view->i]--;
}

static void drop_dead(struct lift *l, uint32_t *uses)
{
    for (size_t i = l->n_steps; i-- > 0;) {
        if (l->steps[i].is_dead || is_wanted(&l->steps[i], uses))
            continue;
        l->steps[i].is_dead = true;
        fuse_each_view(l, &l->steps[i], drop_use, uses);
    }
}

int fuse_steps(struct lift *l)
{
    uint32_t *uses;

    for (int pass = 0; pass < 5; pass++) {
        if (fuse_uses(l, &uses) < 0)
            return -1;
        drop_dead(l, uses);
        for (size_t i = 0; i < l->n_steps; i++) {
            struct step *step = &l->steps[i];
            bool is_mul = step->s.op == PLAN_BINARY && step->s.binary == KERNEL_MUL;

            if (pass == 3 && !step->is_dead && step->s.op == PLAN_REDUCE)
                fuse_mix(l, &step->s, uses);
            if (step->is_dead || !is_mul)
                continue;
            if (pass == 0)
                fuse_norm(l, &step->s);
            else if (pass == 1)
                fuse_weight(l, &step->s, uses);
            else if (pass == 2)
                fuse_gelu(l, &step->s);
            if (pass == 3 && step->s.op == PLAN_BINARY)
                fuse_gate(l, &step->s, uses);
            if (pass == 3 && step->s.op == PLAN_BINARY)
                fuse_embed(l, step, uses);
        }
        if (pass == 4)
            fuse_ropes(l, uses);
        free(uses);
    }
    if (fuse_uses(l, &uses) < 0)
        return -1;
    drop_dead(l, uses);
    free(uses);
    merge_linears(l);
    return 0;
}
