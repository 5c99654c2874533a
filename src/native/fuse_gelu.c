/* gelu by tanh, spelled out: (x * 0.5) * (tanh((x + x^3 * 0.044715) * sqrt(2 / pi)) + 1) */
#include "native/lift.h"

#include <math.h>

/* What makes a view, where the step that reads it and that which makes it go through the
 * same elements in the same order. */
static const struct plan_step *maker_of(const struct lift *l, const struct plan_step *s,
                                        const struct plan_view *view, enum plan_op op)
{
    struct step *step = fuse_maker(l, view);

    return step && !step->is_dead && step->s.op == op && view->offset == 0 &&
                   view->strides[3] == 1 && s->sizes[3] == step->s.sizes[3] &&
                   s->sizes[0] * s->sizes[1] * s->sizes[2] == 1 &&
                   step->s.sizes[0] * step->s.sizes[1] * step->s.sizes[2] == 1
               ? &step->s
               : NULL;
}

static bool is_near(float a, double b)
{
    return fabs((double)a - b) <= 1e-5 * fabs(b);
}

/* view f number: the view; NULL where it is not. */
static const struct plan_view *with_number(const struct plan_step *s, enum kernel_binary f,
                                           double number)
{
    if (!s || s->binary != f)
        return NULL;
    if (s->b.source == PLAN_NUMBER && is_near(s->b.number, number))
        return &s->in;
    return s->in.source == PLAN_NUMBER && is_near(s->in.number, number) ? &s->b : NULL;
}

static bool is_same(const struct plan_view *a, const struct plan_view *b)
{
    return a->source == PLAN_REGISTER && b->source == PLAN_REGISTER && a->i == b->i &&
           a->offset == b->offset && a->strides[3] == 1 && b->strides[3] == 1;
}

/* x^3 * 0.044715 */
static bool is_cube(const struct lift *l, const struct plan_step *s,
                    const struct plan_view *view, const struct plan_view *x)
{
    const struct plan_step *scaled = maker_of(l, s, view, PLAN_BINARY), *cube, *square;
    const struct plan_view *v = with_number(scaled, KERNEL_MUL, 0.044715);

    cube = v ? maker_of(l, scaled, v, PLAN_BINARY) : NULL;
    if (!cube || cube->binary != KERNEL_MUL)
        return false;
    v = is_same(&cube->b, x) ? &cube->in : &cube->b;
    if (!is_same(&cube->b, x) && !is_same(&cube->in, x))
        return false;
    square = maker_of(l, cube, v, PLAN_UNARY);
    return square && square->unary == KERNEL_SQUARE && is_same(&square->in, x);
}

/* tanh(..) + 1 */
static bool is_tanh(const struct lift *l, const struct plan_step *s,
                    const struct plan_view *view, const struct plan_view *x)
{
    const struct plan_step *plus = maker_of(l, s, view, PLAN_BINARY), *tanh, *scaled, *sum;
    const struct plan_view *v = with_number(plus, KERNEL_ADD, 1);

    tanh = v ? maker_of(l, plus, v, PLAN_UNARY) : NULL;
    if (!tanh || tanh->unary != KERNEL_TANH)
        return false;
    scaled = maker_of(l, tanh, &tanh->in, PLAN_BINARY);
    v = with_number(scaled, KERNEL_MUL, sqrt(2 / M_PI));
    sum = v ? maker_of(l, scaled, v, PLAN_BINARY) : NULL;
    if (!sum || sum->binary != KERNEL_ADD)
        return false;
    return (is_same(&sum->in, x) && is_cube(l, sum, &sum->b, x)) ||
           (is_same(&sum->b, x) && is_cube(l, sum, &sum->in, x));
}

void fuse_gelu(struct lift *l, struct plan_step *s)
{
    for (int turn = 0; turn < 2; turn++) {
        const struct plan_view *half = turn ? &s->b : &s->in, *rest = turn ? &s->in : &s->b;
        const struct plan_step *halved = maker_of(l, s, half, PLAN_BINARY);
        const struct plan_view *x = with_number(halved, KERNEL_MUL, 0.5);

        if (!x || x->source != PLAN_REGISTER || x->strides[3] != 1 ||
            !is_tanh(l, s, rest, x))
            continue;
        s->op = PLAN_UNARY;
        s->in = *x;
        s->b = (struct plan_view){0};
        s->unary = KERNEL_GELU_TANH;
        return;
    }
}
