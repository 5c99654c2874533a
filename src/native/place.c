/* From steps over registers of their own to a plan. */
#include "native/lift.h"

#include "base/log.h"

#define MAX_STEPS (1 << 17)

struct places {
    struct lift *l;
    uint32_t *place;   /* by registers: the plan's; UINT32_MAX: none yet */
    size_t *last_use;  /* by registers: the plan's step */
    bool *is_free;     /* by the plan's registers */
    bool *is_whole;    /* by the plan's: of rows of whole numbers, as wide as those are */
    size_t at;         /* the step */
};

/* ---- cats as copies ---- */

static int add_step(struct lift *l, size_t *room, const struct plan_step *s)
{
    struct plan *p = l->plan;

    if (p->n_steps == MAX_STEPS) /* a cat is a copy for each index before its dimension */
        return pt2_err_set(l->err, PT2_ERR_PROGRAM_REFUSED, "a plan of more than %d steps",
                           MAX_STEPS);
    if (p->n_steps == *room) {
        size_t more = *room ? *room * 2 : 256;
        struct plan_step *steps = realloc(p->steps, more * sizeof(*steps));

        if (!steps)
            return lift_no_memory(l);
        p->steps = steps;
        *room = more;
    }
    p->steps[p->n_steps++] = *s;
    return 0;
}

/* A piece under one index of the dimensions before cat->dim. */
static int add_piece(struct lift *l, size_t *room, const struct cat *cat,
                     const struct strided *piece, const int64_t *at, uint32_t out,
                     uint32_t *offset)
{
    struct plan_step s = {.op = PLAN_COPY, .out = out, .out_offset = *offset};
    struct strided part = {.view = piece->view};

    for (unsigned d = 0; d < piece->n_dims; d++) {
        if (d < cat->dim) {
            part.view.offset += (uint32_t)(at[d] * piece->strides[d]);
            continue;
        }
        part.sizes[part.n_dims] = piece->sizes[d];
        part.strides[part.n_dims++] = piece->strides[d];
    }
    if (lift_dims(l, &part, NULL, &s) < 0)
        return -1;
    *offset += s.sizes[0] * s.sizes[1] * s.sizes[2] * s.sizes[3];
    return add_step(l, room, &s);
}

static int add_cat(struct lift *l, size_t *room, const struct step *step)
{
    const struct cat *cat = &l->cats[step->cat];
    int64_t at[PT2_MAX_DIMS] = {0};
    uint32_t offset = 0;
    int d;

    do {
        for (unsigned i = 0; i < cat->n; i++)
            if (add_piece(l, room, cat, &cat->pieces[i], at, step->s.out, &offset) < 0)
                return -1;
        for (d = (int)cat->dim - 1; d >= 0; d--) {
            if (++at[d] < cat->pieces[0].sizes[d])
                break;
            at[d] = 0;
        }
    } while (d >= 0);
    return 0;
}

/* ---- registers ---- */

static void see_use(struct places *p, const struct plan_view *view)
{
    if (view->source == PLAN_REGISTER)
        p->last_use[view->i] = p->at;
}

static void find_last_uses(struct places *p)
{
    const struct plan *plan = p->l->plan;

    for (p->at = 0; p->at < plan->n_steps; p->at++) {
        const struct plan_step *s = &plan->steps[p->at];

        if (plan_has_first(s))
            see_use(p, &s->in);
        if (plan_has_second(s))
            see_use(p, &s->b);
        if (s->op == PLAN_LINEAR)
            for (uint32_t o = 0; o < s->linear.n_outs; o++)
                p->last_use[s->linear.outs[o].out] = p->at;
        else if (s->op != PLAN_STORE && s->op != PLAN_LOGITS)
            p->last_use[s->out] = p->at;
    }
}

/* The smallest free register that is wide enough; else the widest free one, made wider.  In
 * the tail none of the others is: few rows go through it, and logits are wide. */
static uint32_t choose(const struct places *p, uint32_t width, bool is_whole)
{
    const struct plan *plan = p->l->plan;
    uint32_t best = UINT32_MAX;

    for (uint32_t i = 0; i < plan->n_registers; i++) {
        bool fits = plan->widths[i] >= width,
             best_fits = best != UINT32_MAX && plan->widths[best] >= width;

        if (!p->is_free[i] || p->is_whole[i] != is_whole ||
            (is_whole && plan->widths[i] != width))
            continue;
        if (best == UINT32_MAX || (fits && !best_fits) ||
            (fits && best_fits && plan->widths[i] < plan->widths[best]) ||
            (!fits && !best_fits && plan->widths[i] > plan->widths[best]))
            best = i;
    }
    if (p->at >= plan->tail && best != UINT32_MAX && plan->widths[best] < width)
        return UINT32_MAX;
    return best;
}

static void take(struct places *p, uint32_t *out, bool is_whole)
{
    struct plan *plan = p->l->plan;
    uint32_t width = (p->l->widths[*out] + 15) / 16 * 16, place = p->place[*out];

    if (place == UINT32_MAX) {
        place = choose(p, width, is_whole);
        if (place == UINT32_MAX)
            place = (uint32_t)plan->n_registers++;
        p->is_whole[place] = is_whole;
        plan->widths[place] = MAX(plan->widths[place], width);
        p->is_free[place] = false;
        p->place[*out] = place;
    }
    *out = place;
}

/* The register that a view shows; given back after its last use. */
static void use(struct places *p, struct plan_view *view, uint32_t *ret_done)
{
    *ret_done = UINT32_MAX;
    if (view->source != PLAN_REGISTER)
        return;
    ASSERT(p->place[view->i] != UINT32_MAX);
    if (p->last_use[view->i] == p->at)
        *ret_done = p->place[view->i];
    view->i = p->place[view->i];
}

static void give_back(struct places *p, uint32_t place)
{
    if (place != UINT32_MAX)
        p->is_free[place] = true;
}

static void place_step(struct places *p, struct plan_step *s)
{
    uint32_t done[2] = {UINT32_MAX, UINT32_MAX}, unused[PLAN_MAX_OUTS], n_unused = 0;

    if (plan_has_first(s))
        use(p, &s->in, &done[0]);
    if (plan_has_second(s))
        use(p, &s->b, &done[1]);
    if (s->op == PLAN_LINEAR) {
        for (uint32_t o = 0; o < s->linear.n_outs; o++) {
            bool is_unused = p->last_use[s->linear.outs[o].out] == p->at;

            take(p, &s->linear.outs[o].out, false);
            if (is_unused)
                unused[n_unused++] = s->linear.outs[o].out;
        }
        s->out = s->linear.outs[0].out;
    } else if (s->op != PLAN_STORE && s->op != PLAN_LOGITS) {
        take(p, &s->out, s->op == PLAN_QUANTIZE);
    }
    give_back(p, done[0]);
    give_back(p, done[1]);
    for (uint32_t i = 0; i < n_unused; i++)
        give_back(p, unused[i]);
}

static int place_registers(struct lift *l)
{
    size_t n = l->n_registers + 1;
    AUTO_PTR uint32_t *place = malloc(n * sizeof(*place));
    AUTO_PTR size_t *last_use = calloc(n, sizeof(*last_use));
    AUTO_PTR bool *is_free = calloc(n, sizeof(*is_free));
    AUTO_PTR bool *is_whole = calloc(n, sizeof(*is_whole));
    struct places p = {l, place, last_use, is_free, is_whole, 0};

    l->plan->widths = calloc(n, sizeof(*l->plan->widths));
    if (!place || !last_use || !is_free || !is_whole || !l->plan->widths)
        return lift_no_memory(l);
    memset(place, 0xff, n * sizeof(*place));
    find_last_uses(&p);
    for (p.at = 0; p.at < l->plan->n_steps; p.at++)
        place_step(&p, &l->plan->steps[p.at]);
    return 0;
}

/* ---- the plan ---- */

static void find_tail(struct plan *p)
{
    p->tail = 0;
    for (size_t i = 0; i < p->n_steps; i++)
        if (p->steps[i].op == PLAN_STORE || p->steps[i].op == PLAN_ATTEND)
            p->tail = i + 1;
}

static void find_facts(struct plan *p)
{
    p->dtype = PT2_FLOAT32;
    for (size_t i = 0; i < p->n_steps; i++) {
        const struct plan_step *s = &p->steps[i];

        if (s->op == PLAN_LINEAR)
            p->dtype = s->linear.outs[s->linear.n_outs - 1].dtype;
    }
    plan_count_bytes(p);
    p->private_bytes += p->n_steps * sizeof(*p->steps);
}

int place_steps(struct lift *l)
{
    size_t room = 0;

    l->node = NULL;
    for (size_t i = 0; i < l->n_steps; i++) {
        const struct step *step = &l->steps[i];

        if (step->is_dead)
            continue;
        if (step->s.op == STEP_CAT ? add_cat(l, &room, step) < 0
                                   : add_step(l, &room, &step->s) < 0)
            return -1;
    }
    find_tail(l->plan);
    if (place_registers(l) < 0)
        return -1;
    find_facts(l->plan);
    return 0;
}
