/* lift_pick.c - products with constant matrices that are no weights: what ExecuTorch's
 * XNNPACK takes in the place of a mean, or of slices (src/export/decoder_edge.c). */
#include "native/lift.h"

/* linear(x, rows of one number) */
static bool is_mean(const struct weights *w)
{
    const float *m = w->data;

    for (uint32_t i = 0; i < w->k; i++)
        if (m[i] != 1 / (float)w->k)
            return false;
    return w->n_out == 1;
}

/* Where the one element of a row lies that is not 0, and which it is; -1: there is none.
 * False where there are more. */
static bool one_of_row(const float *row, uint32_t k, int64_t *ret_at, float *ret_sign)
{
    *ret_at = -1;
    *ret_sign = 0;
    for (uint32_t i = 0; i < k; i++) {
        if (row[i] == 0)
            continue;
        if (*ret_at >= 0 || (row[i] != 1 && row[i] != -1))
            return false;
        *ret_at = i;
        *ret_sign = row[i];
    }
    return true;
}

/* Is it the one of turn's pairs?  Row i has the other of i's pair, with the sign. */
static bool is_turn_of(const struct weights *w, const struct plan_turn *turn)
{
    const float *m = w->data;
    uint32_t half = turn->n_rot / 2;

    for (uint32_t i = 0; i < w->k; i++) {
        bool is_first = turn->interleaved ? i % 2 == 0 : i < half;
        int64_t want = turn->interleaved ? (int64_t)(i ^ 1) : is_first ? i + half : i - half, at;
        float sign;

        if (!one_of_row(m + (size_t)i * w->k, w->k, &at, &sign))
            return false;
        if (i >= turn->n_rot ? at >= 0
                             : at != want || sign != (is_first == turn->flipped ? 1 : -1))
            return false;
    }
    return true;
}

/* A matrix that turns pairs of the first n_rot elements; halves where it could be both. */
static bool read_turn(const struct weights *w, struct plan_turn *ret)
{
    const float *m = w->data;
    uint32_t n_rot = w->k;
    int64_t at;
    float sign;

    if (w->n_out != w->k || w->k < 2)
        return false;
    while (n_rot > 0 && one_of_row(m + (size_t)(n_rot - 1) * w->k, w->k, &at, &sign) && at < 0)
        n_rot--;
    if (n_rot < 2 || n_rot % 2 != 0 || !one_of_row(m, w->k, &at, &sign) || at < 1)
        return false;
    *ret = (struct plan_turn){.n_rot = n_rot, .flipped = sign > 0};
    if (at == n_rot / 2)
        return is_turn_of(w, ret);
    ret->interleaved = true;
    return at == 1 && is_turn_of(w, ret);
}

int lift_pick(struct lift *l, const struct lifted *in, const struct weights *w,
              struct lifted *ret, bool *ret_is)
{
    struct plan_turn turn = {0};
    struct lifted like = *in;
    unsigned last = in->n_dims - 1;
    struct plan_step *step;
    bool is_of_mean;

    *ret_is = false;
    if (w->dtype != PT2_FLOAT32 || in->n_dims == 0 || in->dims[last].label != DIM_ROW ||
        in->dims[last].size != w->k)
        return 0;
    is_of_mean = is_mean(w);
    if (!is_of_mean && !read_turn(w, &turn))
        return 0;
    *ret_is = true;
    if (is_of_mean)
        like.dims[last] = new_dim(DIM_ONE, 1, 0);
    step = lift_step(l, is_of_mean ? PLAN_REDUCE : PLAN_TURN);
    if (!step || lift_new_rows(l, &like, ret) < 0 || lift_lines(l, in, NULL, w->k, step) < 0)
        return -1;
    step->out = ret->reg;
    if (is_of_mean)
        step->reduce = PLAN_MEAN;
    else
        step->turn = turn;
    return 0;
}
