/* Rotary embeddings: x * cos + cat(-x2, x1) * sin, for halves and for pairs; then
 * cat(rotated, the rest). */
#include "native/lift.h"

/* Lines of n elements, n_lines of them: where they lie. */
struct lines {
    struct plan_view view; /* strides[0] from one to the next, strides[1] within */
    uint32_t n_lines, n;
};

static bool lines_of_step(const struct plan_step *s, const struct plan_view *view,
                          struct lines *ret)
{
    if (s->sizes[0] != 1 || s->sizes[1] != 1)
        return false;
    *ret = (struct lines){*view, s->sizes[2], s->sizes[3]};
    ret->view.strides[0] = s->sizes[2] == 1 ? 0 : view->strides[2];
    ret->view.strides[1] = view->strides[3];
    return true;
}

/* Lines that follow one another, and so were joined, as n_lines of n again. */
static void part_lines(struct lines *lines, uint32_t n_lines, uint32_t n)
{
    if (lines->n_lines != 1 || lines->n != n_lines * n)
        return;
    lines->n_lines = n_lines;
    lines->n = n;
    lines->view.strides[0] = lines->view.strides[1] * (int32_t)n;
}

/* A piece of a cat, its dimensions but the first as one line; stacked pieces end with a
 * dimension of 1. */
static bool lines_of_piece(const struct strided *p, struct lines *ret)
{
    int64_t sizes[PT2_MAX_DIMS], n_lines = 1;
    int32_t strides[PT2_MAX_DIMS], outer = 0;
    unsigned n = 0;

    for (unsigned d = 0; d < p->n_dims; d++)
        if (p->sizes[d] != 1) {
            sizes[n] = p->sizes[d];
            strides[n++] = p->strides[d];
        }
    if (n == 0)
        return false;
    for (unsigned d = n - 1; d-- > 0;) {
        if (n_lines > 1 && strides[d] != outer * n_lines)
            return false;
        outer = n_lines == 1 ? strides[d] : outer;
        n_lines *= sizes[d];
    }
    *ret = (struct lines){p->view, (uint32_t)n_lines, (uint32_t)sizes[n - 1]};
    ret->view.strides[0] = outer;
    ret->view.strides[1] = strides[n - 1];
    return true;
}

static bool same_place(const struct lines *a, const struct lines *b, uint32_t offset)
{
    return a->view.source == PLAN_REGISTER && b->view.source == PLAN_REGISTER &&
           a->view.i == b->view.i && a->view.offset == b->view.offset + offset &&
           a->n_lines == b->n_lines &&
           (a->n_lines == 1 || a->view.strides[0] == b->view.strides[0]);
}

static struct step *maker_of(const struct lift *l, const struct plan_view *view,
                             enum plan_op op)
{
    struct step *step = fuse_maker(l, view);

    return step && !step->is_dead && step->s.op == op ? step : NULL;
}

/* A table's first n columns, the same for each line. */
static bool is_table(const struct lift *l, const struct plan_step *s,
                     const struct plan_view *v)
{
    return v->source == PLAN_TABLE && v->offset == 0 && v->strides[3] == 1 &&
           (s->sizes[2] == 1 || v->strides[2] == 0) &&
           l->plan->table_widths[v->i] >= s->sizes[3];
}

struct rotation {
    struct lines x;
    uint32_t cos, sin;
    uint32_t n_rot; /* of the x.n elements of a head */
    bool is_interleaved;
};

/* The table's columns from one on: are all of them this number? */
static bool is_all(const struct lift *l, uint32_t table, uint32_t from, float number)
{
    uint32_t width = l->plan->table_widths[table];

    for (int64_t row = 0; row < l->decoder->max_cache_len; row++)
        for (uint32_t i = from; i < width; i++)
            if (l->plan->tables[table][row * width + i] != number)
                return false;
    return true;
}

/* A step TURN of x?  What does not rotate is x * 1 + 0 * 0, then. */
static bool is_turned_at_once(struct lift *l, const struct plan_view *view,
                              struct rotation *r)
{
    struct step *maker = maker_of(l, view, PLAN_TURN);
    struct lines from;

    if (!maker || view->offset != 0 || maker->s.turn.flipped ||
        !lines_of_step(&maker->s, &maker->s.in, &from))
        return false;
    part_lines(&from, r->x.n_lines, r->x.n);
    r->n_rot = maker->s.turn.n_rot;
    r->is_interleaved = maker->s.turn.interleaved;
    return from.n == r->x.n && from.view.strides[1] == 1 && same_place(&from, &r->x, 0) &&
           is_all(l, r->cos, r->n_rot, 1) && is_all(l, r->sin, r->n_rot, 0);
}

/* Is cat(-x2, x1) x's halves, or pairs, turned? */
static bool is_turned(struct lift *l, const struct plan_view *view, struct rotation *r)
{
    struct step *maker = maker_of(l, view, STEP_CAT), *neg;
    const struct cat *cat = maker ? &l->cats[maker->cat] : NULL;
    struct lines left, right;

    if (!cat || cat->n != 2 || view->offset != 0)
        return false;
    neg = maker_of(l, &cat->pieces[0].view, PLAN_UNARY);
    if (!neg || neg->s.unary != KERNEL_NEG || cat->pieces[0].view.offset != 0 ||
        !lines_of_step(&neg->s, &neg->s.in, &left) ||
        !lines_of_piece(&cat->pieces[1], &right) || r->x.n % 2 != 0 ||
        cat->pieces[0].n_dims != cat->pieces[1].n_dims ||
        cat->dim + 1 != cat->pieces[0].n_dims)
        return false;
    part_lines(&left, r->x.n_lines, r->x.n / 2);
    part_lines(&right, r->x.n_lines, r->x.n / 2);
    if (left.n * 2 != r->x.n || right.n * 2 != r->x.n)
        return false;
    r->n_rot = r->x.n;
    r->is_interleaved = cat->pieces[0].sizes[cat->dim] == 1 && r->x.n != 2;
    if (r->is_interleaved)
        return left.view.strides[1] == 2 && right.view.strides[1] == 2 &&
               same_place(&left, &r->x, 1) && same_place(&right, &r->x, 0);
    return left.view.strides[1] == 1 && right.view.strides[1] == 1 &&
           same_place(&left, &r->x, r->x.n / 2) && same_place(&right, &r->x, 0);
}

/* The piece that is negated must be made in the order in which cat takes it. */
static bool neg_in_order(struct lift *l, const struct plan_view *view)
{
    struct step *maker = maker_of(l, view, STEP_CAT);
    const struct strided *p = &l->cats[maker->cat].pieces[0];
    int64_t stride = 1;

    for (unsigned d = p->n_dims; d-- > 0;) {
        if (p->sizes[d] != 1 && p->strides[d] != stride)
            return false;
        stride *= p->sizes[d];
    }
    return true;
}

/* x * cos, and turned x * sin? */
static bool is_rotation(struct lift *l, const struct plan_step *straight,
                        const struct plan_step *turned, struct rotation *r)
{
    const struct plan_view *cos, *sin, *x, *y;

    cos = straight->b.source == PLAN_TABLE ? &straight->b : &straight->in;
    x = straight->b.source == PLAN_TABLE ? &straight->in : &straight->b;
    sin = turned->b.source == PLAN_TABLE ? &turned->b : &turned->in;
    y = turned->b.source == PLAN_TABLE ? &turned->in : &turned->b;
    if (!is_table(l, straight, cos) || !is_table(l, turned, sin) ||
        x->source != PLAN_REGISTER || y->source != PLAN_REGISTER ||
        memcmp(straight->sizes, turned->sizes, sizeof(turned->sizes)) != 0 ||
        !lines_of_step(straight, x, &r->x) || r->x.view.strides[1] != 1 ||
        y->strides[3] != 1 ||
        (turned->sizes[2] != 1 && y->strides[2] != (int32_t)turned->sizes[3]))
        return false;
    r->cos = cos->i;
    r->sin = sin->i;
    return is_turned_at_once(l, y, r) || (is_turned(l, y, r) && neg_in_order(l, y));
}

static bool is_mul(const struct step *step)
{
    return step && step->s.binary == KERNEL_MUL;
}

static void fuse_rotation(struct lift *l, struct plan_step *s, const uint32_t *uses)
{
    struct step *a = maker_of(l, &s->in, PLAN_BINARY), *b = maker_of(l, &s->b, PLAN_BINARY);
    struct rotation r = {0};

    if (!is_mul(a) || !is_mul(b) || uses[s->in.i] != 1 || uses[s->b.i] != 1 ||
        s->in.offset != 0 || s->b.offset != 0 || s->sizes[0] * s->sizes[1] * s->sizes[2] != 1 ||
        s->in.strides[3] != 1 || s->b.strides[3] != 1)
        return;
    if (!is_rotation(l, &a->s, &b->s, &r) && !is_rotation(l, &b->s, &a->s, &r))
        return;
    if (s->sizes[3] != r.x.n_lines * r.x.n)
        return;
    s->op = PLAN_ROPE;
    s->in = r.x.view;
    s->in.strides[1] = 1;
    s->in.strides[2] = s->in.strides[3] = 0;
    s->b = (struct plan_view){0};
    s->sizes[2] = r.x.n_lines;
    s->sizes[3] = r.x.n;
    memset(&s->rope, 0, sizeof(s->rope));
    s->rope.cos = r.cos;
    s->rope.sin = r.sin;
    s->rope.n_groups = r.x.n_lines;
    s->rope.size = r.x.n;
    s->rope.n_rot = r.n_rot;
    s->rope.interleaved = r.is_interleaved;
}

/* cat(rotated, the rest of x) */
static void fuse_rest(struct lift *l, struct step *step, const uint32_t *uses)
{
    const struct cat *cat = &l->cats[step->cat];
    struct step *maker = cat->n == 2 ? maker_of(l, &cat->pieces[0].view, PLAN_ROPE) : NULL;
    struct lines turned, rest, x;
    struct plan_step s;

    if (!maker || uses[cat->pieces[0].view.i] != 1 || cat->pieces[0].view.offset != 0 ||
        !lines_of_piece(&cat->pieces[0], &turned) || !lines_of_piece(&cat->pieces[1], &rest) ||
        cat->dim + 1 != cat->pieces[0].n_dims)
        return;
    s = maker->s;
    x = (struct lines){s.in, s.rope.n_groups, s.rope.size};
    if (s.rope.size != s.rope.n_rot || turned.n != s.rope.size ||
        turned.n_lines != s.rope.n_groups || turned.view.strides[1] != 1 ||
        (turned.n_lines != 1 && turned.view.strides[0] != (int32_t)turned.n) ||
        rest.view.strides[1] != 1 || !same_place(&rest, &x, s.rope.n_rot))
        return;
    s.out = step->s.out;
    s.rope.size += rest.n;
    s.sizes[3] = s.rope.size;
    maker->is_dead = true;
    step->s = s;
}

void fuse_ropes(struct lift *l, const uint32_t *uses)
{
    for (size_t i = 0; i < l->n_steps; i++) {
        struct step *step = &l->steps[i];

        if (step->is_dead)
            continue;
        if (step->s.op == PLAN_BINARY && step->s.binary == KERNEL_ADD)
            fuse_rotation(l, &step->s, uses);
        else if (step->s.op == STEP_CAT)
            fuse_rest(l, step, uses);
    }
}
