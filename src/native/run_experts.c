/* Mixtures of experts: choices, and the weights of those that are chosen. */
#include "base/largest.h"
#include "base/log.h"
#include "native/run_impl.h"

/* ---- choices, a row at a time ---- */

static void topk(const struct plan_runner *r, const struct plan_step *s, size_t row)
{
    const float *in = run_view(r, &s->in, row);
    float *y = run_out(r, s, row);
    struct ranked items[PLAN_MAX_CHOICE];
    size_t at[3] = {0};

    do {
        const float *x = in + run_outer_offset(&s->in, at);

        for (uint32_t i = 0; i < s->topk.n; i++)
            items[i] = (struct ranked){x[(ptrdiff_t)i * s->in.strides[3]], i};
        largest_first(items, s->topk.n, s->sizes[3], s->topk.is_sorted);
        for (uint32_t i = 0; i < s->sizes[3]; i++)
            *y++ = (float)items[i].at;
    } while (run_next_outer(s, at));
}

static void gather(const struct plan_runner *r, const struct plan_step *s, size_t row)
{
    const float *in = run_view(r, &s->in, row), *where = run_view(r, &s->b, row);
    float *y = run_out(r, s, row);
    size_t at[3] = {0};

    do {
        const float *x = in + run_outer_offset(&s->in, at);
        const float *w = where + run_outer_offset(&s->b, at);

        for (uint32_t i = 0; i < s->sizes[3]; i++)
            *y++ = x[(ptrdiff_t)w[(ptrdiff_t)i * s->b.strides[3]] * s->in.strides[3]];
    } while (run_next_outer(s, at));
}

static void scatter(const struct plan_runner *r, const struct plan_step *s, size_t row)
{
    const float *in = run_view(r, &s->in, row), *values = run_view(r, &s->b, row);
    float *y = run_out(r, s, row);
    size_t at[3] = {0};

    do {
        const float *where = in + run_outer_offset(&s->in, at);
        const float *v = values + run_outer_offset(&s->b, at);

        for (uint32_t i = 0; i < s->sizes[3]; i++)
            y[i] = s->scatter.fill;
        for (uint32_t i = 0; i < s->scatter.k; i++)
            y[(size_t)where[(ptrdiff_t)i * s->in.strides[3]]] =
                v[(ptrdiff_t)i * s->b.strides[3]];
        y += s->sizes[3];
    } while (run_next_outer(s, at));
}

static void pick(const struct plan_runner *r, const struct plan_step *s, size_t row)
{
    const float *where = run_view(r, &s->in, row), *from = r->plan->constants[s->pick];
    float *y = run_out(r, s, row);
    size_t width = s->sizes[3];

    for (uint32_t c = 0; c < s->sizes[2]; c++)
        memcpy(y + c * width,
               from + (size_t)where[(ptrdiff_t)c * s->in.strides[0]] * width,
               width * sizeof(float));
}

static void mix(const struct plan_runner *r, const struct plan_step *s, size_t row)
{
    const float *x = run_view(r, &s->in, row), *by = run_view(r, &s->b, row);
    float *y = run_out(r, s, row);
    size_t width = s->sizes[3];

    memset(y, 0, width * sizeof(*y));
    r->kernels->mix[PT2_FLOAT32](by, s->mix_n, 1, x, (size_t)s->in.strides[0], s->mix_n, width,
                                 y, width, x);
}

void run_choice(const struct plan_runner *r, const struct plan_step *s, size_t row)
{
    switch (s->op) {
    case PLAN_TOPK:
        topk(r, s, row);
        break;
    case PLAN_GATHER:
        gather(r, s, row);
        break;
    case PLAN_SCATTER:
        scatter(r, s, row);
        break;
    case PLAN_PICK:
        pick(r, s, row);
        break;
    default:
        mix(r, s, row);
        break;
    }
}

/* ---- experts ---- */

/* Of one expert as many rows and outputs at a time; what a part copies rows to and from stays
 * in the second cache. */
#define TURN_ROWS 64
#define TURN_OUTS 256
#define OUT_BLOCK 16  /* as run_linear deals outputs */
#define READ_COST 4   /* of weights, in rows that are multiplied by them */
#define MIX_STEP  16  /* rows of transposed weights at a time: streams that can be fetched */

/* Elements from one copied row to the next: no multiple of 4096 bytes. */
static size_t copy_stride(uint32_t k)
{
    return (k + 15) / 16 * 16 + 16;
}

/* One part's memory; each part sorts for itself, which is less than a meeting. */
struct room {
    uint32_t *begins; /* (n_experts + 1), in pairs */
    uint32_t *pairs;  /* row * n_chosen + choice, by experts, in the order of rows */
    float *x;         /* (TURN_ROWS, copy_stride) */
    float *y;         /* (TURN_ROWS, TURN_OUTS) */
};

static size_t rounded(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static size_t lay_out(const struct plan_experts *e, uint8_t *base, struct room *ret)
{
    size_t at = 0;

    ret->x = (float *)(base + at);
    at += rounded(TURN_ROWS * copy_stride(e->k) * sizeof(float));
    ret->y = (float *)(base + at);
    at += rounded((size_t)TURN_ROWS * TURN_OUTS * sizeof(float));
    ret->begins = (uint32_t *)(base + at);
    at += rounded((e->n_experts + 1) * sizeof(uint32_t));
    ret->pairs = (uint32_t *)(base + at);
    return at + rounded((size_t)RUN_MAX_ROWS * e->n_chosen * sizeof(uint32_t));
}

size_t run_experts_room(const struct plan *plan)
{
    size_t most = 0;
    struct room room;

    for (size_t i = 0; i < plan->n_steps; i++)
        if (plan->steps[i].op == PLAN_EXPERTS)
            most = MAX(most, lay_out(&plan->steps[i].experts, NULL, &room));
    return most;
}

static uint32_t chosen(const struct plan_runner *r, const struct plan_step *s, size_t row,
                       uint32_t c)
{
    return (uint32_t)run_view(r, &s->b, row)[(ptrdiff_t)c * s->b.strides[0]];
}

static void sort_pairs(const struct plan_runner *r, const struct plan_step *s,
                       const struct room *room)
{
    const struct plan_experts *e = &s->experts;
    uint32_t *begins = room->begins;

    memset(begins, 0, (e->n_experts + 1) * sizeof(*begins));
    for (size_t row = 0; row < r->n_rows; row++)
        for (uint32_t c = 0; c < e->n_chosen; c++) {
            uint32_t expert = chosen(r, s, row, c);

            ASSERT(expert < e->n_experts);
            begins[expert + 1]++;
        }
    for (uint32_t i = 0; i < e->n_experts; i++)
        begins[i + 1] += begins[i];
    for (size_t row = 0; row < r->n_rows; row++)
        for (uint32_t c = 0; c < e->n_chosen; c++)
            room->pairs[begins[chosen(r, s, row, c)]++] =
                (uint32_t)row * e->n_chosen + c;
    for (uint32_t i = e->n_experts; i > 0; i--) /* each now stands where it ends */
        begins[i] = begins[i - 1];
    begins[0] = 0;
}

/* What one part does of one expert. */
struct turn {
    const struct plan_step *s;
    const struct room *room;
    const uint8_t *weights; /* of the expert */
    const uint32_t *pairs;
    size_t n_pairs, first, last; /* outputs */
    unsigned part;
};

static const float *pair_in(const struct plan_runner *r, const struct turn *t, size_t i)
{
    uint32_t n = t->s->experts.n_chosen;

    return run_view(r, &t->s->in, t->pairs[i] / n) +
           (ptrdiff_t)(t->pairs[i] % n) * t->s->in.strides[0];
}

static float *pair_out(const struct plan_runner *r, const struct turn *t, size_t i)
{
    const struct plan_experts *e = &t->s->experts;

    return run_out(r, t->s, t->pairs[i] / e->n_chosen) +
           (size_t)(t->pairs[i] % e->n_chosen) * e->n_out;
}

/* y (n_rows, ldy): x's rows by outputs first .. first + n - 1. */
static void multiply(const struct plan_runner *r, const struct turn *t, const float *x,
                     size_t ldx, struct kernel_rows packed, size_t n_rows, size_t first,
                     size_t n, float *y, size_t ldy)
{
    const struct plan_experts *e = &t->s->experts;
    size_t size = pt2_dtype_size(e->dtype), k = e->k;

    if (!e->is_transposed) {
        r->kernels->linear[e->dtype](packed, n_rows, t->weights + first * k * size, k, n, y,
                                     ldy, NULL);
        return;
    }
    for (size_t row = 0; row < n_rows; row++)
        memset(y + row * ldy, 0, n * sizeof(*y));
    for (size_t i = 0; i < k; i += MIX_STEP) {
        const uint8_t *w = t->weights + (i * e->n_out + first) * size;

        r->kernels->mix[e->dtype](x + i, ldx, n_rows, w, e->n_out, MIN(MIX_STEP, k - i), n, y,
                                  ldy, w + MIX_STEP * e->n_out * size);
    }
}

static struct kernel_rows pack(const struct plan_runner *r, const struct turn *t,
                               const float *x, size_t ldx, size_t n_rows)
{
    const struct plan_experts *e = &t->s->experts;

    return e->is_transposed ? (struct kernel_rows){0}
                            : r->kernels->pack[e->dtype](x, ldx, n_rows, e->k,
                                                         r->packed[t->part]);
}

/* One row: to where it belongs at once. */
static void run_one(const struct plan_runner *r, const struct turn *t)
{
    const float *x = pair_in(r, t, 0);

    multiply(r, t, x, t->s->experts.k, pack(r, t, x, t->s->experts.k, 1), 1, t->first,
             t->last - t->first, pair_out(r, t, 0) + t->first, t->s->experts.n_out);
}

static void run_some(const struct plan_runner *r, const struct turn *t)
{
    uint32_t k = t->s->experts.k;
    size_t ldx = copy_stride(k);
    float *x = t->room->x, *y = t->room->y;
    struct kernel_rows packed;

    for (size_t i = 0; i < t->n_pairs; i++)
        memcpy(x + i * ldx, pair_in(r, t, i), k * sizeof(*x));
    packed = pack(r, t, x, ldx, t->n_pairs);
    for (size_t first = t->first; first < t->last; first += TURN_OUTS) {
        size_t n = MIN(TURN_OUTS, t->last - first);

        multiply(r, t, x, ldx, packed, t->n_pairs, first, n, y, TURN_OUTS);
        for (size_t i = 0; i < t->n_pairs; i++)
            memcpy(pair_out(r, t, i) + first, y + i * TURN_OUTS, n * sizeof(*y));
    }
}

static void run_expert(const struct plan_runner *r, const struct turn *whole)
{
    struct turn t = *whole;

    for (size_t i = 0; i < whole->n_pairs; i += TURN_ROWS) {
        t.pairs = whole->pairs + i;
        t.n_pairs = MIN(TURN_ROWS, whole->n_pairs - i);
        if (t.n_pairs == 1)
            run_one(r, &t);
        else
            run_some(r, &t);
    }
}

/* The output with which a part's share begins: whole blocks, by what they cost. */
static size_t output_at(size_t share, size_t before, size_t cost, size_t n_out)
{
    size_t block = share <= before ? 0 : (share - before + cost - 1) / cost;

    return MIN(n_out, block * OUT_BLOCK);
}

void run_experts(struct plan_runner *r, const struct plan_step *s, unsigned part)
{
    const struct plan_experts *e = &s->experts;
    size_t n_blocks = (e->n_out + OUT_BLOCK - 1) / OUT_BLOCK, total = 0, before = 0, from, to;
    size_t bytes = (size_t)e->n_out * e->k * pt2_dtype_size(e->dtype);
    struct room room;

    lay_out(e, r->expert_rooms[part], &room);
    sort_pairs(r, s, &room);
    for (uint32_t i = 0; i < e->n_experts; i++)
        if (room.begins[i + 1] > room.begins[i])
            total += n_blocks * (room.begins[i + 1] - room.begins[i] + READ_COST);
    from = total * part / r->n_parts;
    to = total * (part + 1) / r->n_parts;
    for (uint32_t i = 0; i < e->n_experts; i++) {
        size_t n = room.begins[i + 1] - room.begins[i], cost = n + READ_COST;
        struct turn t = {s, &room, (const uint8_t *)e->weights + i * bytes,
                         room.pairs + room.begins[i], n, 0, 0, part};

        if (n == 0)
            continue;
        t.first = output_at(from, before, cost, e->n_out);
        t.last = output_at(to, before, cost, e->n_out);
        before += n_blocks * cost;
        if (t.first < t.last)
            run_expert(r, &t);
    }
}
