/* Attention, CHUNK positions at a time.  What a chunk gives a query is computed alone: the
 * largest score, the sum of e^(score - largest), and the values weighed by these.  Chunks are
 * then joined in their order.  As they begin at the same positions for every row, a row's
 * result does not depend on whether one thread does them all (`whole_items`) or each some
 * (`split_pairs`: few rows), nor on the rows beside it.
 *
 * Rows of whole numbers (BLOCKS_INT8) are read as they lie: a key's scale multiplies its
 * scores, and a value's what weighs it. */
#include "native/run_impl.h"

#include <math.h>

#define CHUNK   256 /* positions; a multiple of BLOCK_POSITIONS */
#define BLOCKS_AHEAD 2
#define QUERIES 64  /* at once, where heads * rows make as many */

/* Rows that follow each other in one table, and a key-value head. */
struct item {
    size_t row, n_rows, group;
};

/* A thread's own memory: of so many queries. */
struct room {
    float *queries; /* (n, head_dim) */
    void *packed;   /* the same as linear reads them */
    float *scores;  /* (n, CHUNK) */
    float *scales;  /* (CHUNK), of keys or values of whole numbers */
    float *values;  /* (n, v_head_dim), of a chunk */
    float *max, *sum, *all_max, *all_sum; /* (n), of a chunk and of those joined */
};

/* ---- memory ---- */

static size_t per_group(const struct plan_attend *a)
{
    return a->heads / a->kv_heads;
}

static size_t round_64(size_t n)
{
    return (n + 63) / 64 * 64;
}

/* Lays out `base`; returns the bytes. */
static size_t room_lay_out(const struct plan_attend *a, uint8_t *base, struct room *ret)
{
    size_t n = MAX(QUERIES, per_group(a)), at = 0;
    const struct {
        void *to;
        size_t bytes;
    } all[] = {
        {&ret->queries, n * a->head_dim * sizeof(float)},
        {&ret->packed, n * KERNEL_ROW_BYTES(a->head_dim)},
        {&ret->scores, n * CHUNK * sizeof(float)},
        {&ret->scales, CHUNK * sizeof(float)},
        {&ret->values, n * a->v_head_dim * sizeof(float)},
        {&ret->max, n * sizeof(float)},
        {&ret->sum, n * sizeof(float)},
        {&ret->all_max, n * sizeof(float)},
        {&ret->all_sum, n * sizeof(float)},
    };

    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        void *part = base ? base + at : NULL; /* NULL: sizes alone are asked for */

        memcpy(all[i].to, &part, sizeof(part));
        at += round_64(all[i].bytes);
    }
    return at;
}

/* Pairs of a row and a key-value head, so few that their chunks are dealt to the threads. */
static size_t most_split(unsigned n_parts)
{
    return n_parts > 1 ? 4 * n_parts : 0;
}

static size_t n_chunks(const struct plan *plan)
{
    return (size_t)plan->decoder.max_cache_len / CHUNK + 1;
}

/* Floats that a chunk of a pair leaves: values, max, sum. */
static size_t partial_floats(const struct plan_attend *a)
{
    return per_group(a) * (a->v_head_dim + 2);
}

void run_attend_sizes(const struct plan *plan, unsigned n_parts, size_t *ret_room,
                      size_t *ret_partials)
{
    *ret_room = *ret_partials = 0;
    for (size_t i = 0; i < plan->n_steps; i++) {
        const struct plan_attend *a = &plan->steps[i].attend;
        struct room room;

        if (plan->steps[i].op != PLAN_ATTEND)
            continue;
        *ret_room = MAX(*ret_room, room_lay_out(a, NULL, &room));
        *ret_partials = MAX(*ret_partials, most_split(n_parts) * n_chunks(plan) *
                                               partial_floats(a) * sizeof(float));
    }
}

/* ---- a chunk ---- */

/* Positions first .. last are seen by a row. */
static size_t last_seen(const struct plan_runner *r, size_t row)
{
    return (size_t)r->rows[row].position;
}

static size_t first_seen(const struct plan_runner *r, const struct plan_attend *a, size_t row)
{
    size_t n = last_seen(r, row) + 1;

    return a->window > 0 && n > (size_t)a->window ? n - (size_t)a->window : 0;
}

static const struct block_part *part_of(const struct plan_runner *r,
                                        const struct plan_attend *a, const struct item *item,
                                        bool is_value)
{
    return block_part(r->store, r->rows[item->row].table->form, a->layer, is_value);
}

/* A block's keys or values of a head. */
static const uint8_t *head_rows(const struct plan_runner *r, const struct plan_attend *a,
                                const struct item *item, size_t position, bool is_value)
{
    return block_rows(block_at(r->rows[item->row].table, r->store, a->layer, position),
                      part_of(r, a, item, is_value), item->group);
}

/* Of a chunk's positions from..to - 1 first the keys are read, then the values: what comes
 * BLOCKS_AHEAD blocks after that at `at`. */
static const uint8_t *ahead(const struct plan_runner *r, const struct plan_attend *a,
                            const struct item *item, size_t from, size_t to, size_t at,
                            bool is_value)
{
    size_t first = from / BLOCK_POSITIONS * BLOCK_POSITIONS;
    size_t then = at + BLOCKS_AHEAD * BLOCK_POSITIONS;

    if (then >= to && !is_value) {
        then = first + (then - to) / BLOCK_POSITIONS * BLOCK_POSITIONS;
        is_value = true;
    }
    return head_rows(r, a, item, then < to ? then : at, is_value);
}

/* Columns of the positions from..to - 1 times the scales of these, where their rows are of
 * whole numbers.  Of whole blocks: what nobody sees is no matter. */
static void scale(const struct plan_runner *r, const struct plan_attend *a,
                  const struct item *item, const struct room *room, size_t base, size_t from,
                  size_t to, bool is_value)
{
    const struct block_part *part = part_of(r, a, item, is_value);
    size_t first = from / BLOCK_POSITIONS * BLOCK_POSITIONS, n = item->n_rows * per_group(a);

    if (part->dtype != PT2_INT8)
        return;
    for (size_t at = first; at < to; at += BLOCK_POSITIONS)
        r->kernels->widen[PT2_BFLOAT16](
            block_scales(head_rows(r, a, item, at, is_value), part), BLOCK_POSITIONS,
            room->scales + (at - first));
    for (size_t q = 0; q < n; q++) {
        float *columns = room->scores + q * CHUNK + (first - base);

        r->kernels->binary(KERNEL_MUL, columns, 1, room->scales, 1, to - first, columns);
    }
}

/* Of all queries with the positions from..to - 1, into columns from `base` on. */
static void score(const struct plan_runner *r, const struct plan_attend *a,
                  const struct item *item, const struct room *room, size_t base, size_t from,
                  size_t to)
{
    enum pt2_dtype dtype = part_of(r, a, item, /* is_value= */ false)->dtype;
    size_t n = item->n_rows * per_group(a);
    struct kernel_rows queries = r->kernels->pack[dtype](room->queries, a->head_dim, n,
                                                         a->head_dim, room->packed);

    for (size_t at = from / BLOCK_POSITIONS * BLOCK_POSITIONS; at < to;
         at += BLOCK_POSITIONS)
        r->kernels->linear[dtype](queries, n, head_rows(r, a, item, at, false), a->head_dim,
                                  BLOCK_POSITIONS, room->scores + (at - base), CHUNK,
                                  ahead(r, a, item, from, to, at, false));
    scale(r, a, item, room, base, from, to, /* is_value= */ false);
}

/* n scores become e^(score - max). */
static void soften(const struct plan_runner *r, const struct plan_attend *a, float *scores,
                   size_t n, float *ret_max, float *ret_sum)
{
    float scale = a->scale;

    if (a->soft_cap != 0) {
        scale /= a->soft_cap;
        r->kernels->binary(KERNEL_MUL, scores, 1, &scale, 0, n, scores);
        r->kernels->unary(KERNEL_TANH, scores, n, scores);
        scale = a->soft_cap;
    }
    *ret_sum = r->kernels->soften(scores, n, scale, ret_max);
}

/* The values of the block at `at` by the scores: those that all rows see, or each row its
 * own. */
static void weigh(const struct plan_runner *r, const struct plan_attend *a,
                  const struct item *item, const struct room *room, size_t base, size_t at,
                  const uint8_t *next)
{
    const struct block_part *part = part_of(r, a, item, /* is_value= */ true);
    size_t heads = per_group(a), end = at + BLOCK_POSITIONS;
    const uint8_t *rows = head_rows(r, a, item, at, true);
    size_t step = first_seen(r, a, item->row + item->n_rows - 1) <= at &&
                          last_seen(r, item->row) + 1 >= end
                      ? item->n_rows
                      : 1;

    for (size_t i = 0; i < item->n_rows; i += step) {
        size_t from = MAX(at, first_seen(r, a, item->row + i));
        size_t to = MIN(end, last_seen(r, item->row + i) + 1);

        if (from < to)
            r->kernels->mix[part->dtype](
                room->scores + i * heads * CHUNK + (from - base), CHUNK, step * heads,
                rows + (from - at) * part->row_bytes, a->v_head_dim, to - from,
                a->v_head_dim, room->values + i * heads * a->v_head_dim, a->v_head_dim,
                next);
    }
}

/* What the chunk from `base` on gives the item's queries: room->values, max and sum. */
static void attend_chunk(const struct plan_runner *r, const struct plan_attend *a,
                         const struct item *item, const struct room *room, size_t base)
{
    size_t heads = per_group(a), n = item->n_rows * heads;
    size_t from = MAX(base, first_seen(r, a, item->row));
    size_t to = MIN(base + CHUNK, last_seen(r, item->row + item->n_rows - 1) + 1);

    score(r, a, item, room, base, from, to);
    for (size_t q = 0; q < n; q++) {
        size_t row = item->row + q / heads;
        size_t first = MAX(base, first_seen(r, a, row));
        size_t end = MIN(base + CHUNK, last_seen(r, row) + 1);

        room->max[q] = -INFINITY;
        room->sum[q] = 0;
        if (first < end)
            soften(r, a, room->scores + q * CHUNK + (first - base), end - first,
                   &room->max[q], &room->sum[q]);
    }
    scale(r, a, item, room, base, from, to, /* is_value= */ true);
    memset(room->values, 0, n * a->v_head_dim * sizeof(float));
    for (size_t at = from / BLOCK_POSITIONS * BLOCK_POSITIONS; at < to; at += BLOCK_POSITIONS)
        weigh(r, a, item, room, base, at, ahead(r, a, item, from, to, at, true));
}

/* ---- joining chunks ---- */

static void begin(const struct plan_runner *r, const struct plan_attend *a, size_t head,
                  float *max, float *sum, float *out)
{
    *max = a->sinks >= 0 ? r->plan->constants[a->sinks][head] : -INFINITY;
    *sum = a->sinks >= 0;
    memset(out, 0, a->v_head_dim * sizeof(float));
}

static void join(const struct plan_runner *r, const struct plan_attend *a, float *max,
                 float *sum, float *out, float chunk_max, float chunk_sum,
                 const float *values)
{
    float most = chunk_max > *max || chunk_max != chunk_max ? chunk_max : *max;
    float by = expf(*max - most), chunk_by = expf(chunk_max - most);

    if (chunk_max == -INFINITY)
        return; /* nothing is seen of it */
    r->kernels->merge(out, by, values, chunk_by, a->v_head_dim);
    *sum = *sum * by + chunk_sum * chunk_by;
    *max = most;
}

static void finish(const struct plan_runner *r, const struct plan_attend *a, float sum,
                   float *out)
{
    if (sum != 0)
        r->kernels->binary(KERNEL_DIV, out, 1, &sum, 0, a->v_head_dim, out);
}

static float *out_of(const struct plan_runner *r, const struct plan_step *s, size_t row,
                     size_t head)
{
    return run_out(r, s, row) + head * s->attend.v_head_dim;
}

static void gather_queries(const struct plan_runner *r, const struct plan_step *s,
                           const struct item *item, const struct room *room)
{
    size_t heads = per_group(&s->attend), dim = s->attend.head_dim;

    for (size_t q = 0; q < item->n_rows * heads; q++)
        memcpy(room->queries + q * dim,
               run_view(r, &s->in, item->row + q / heads) +
                   (item->group * heads + q % heads) * (size_t)s->in.strides[0],
               dim * sizeof(float));
}

/* ---- one thread has an item's chunks ---- */

static void attend_item(const struct plan_runner *r, const struct plan_step *s,
                        const struct item *item, const struct room *room)
{
    const struct plan_attend *a = &s->attend;
    size_t heads = per_group(a), n = item->n_rows * heads;
    size_t last = last_seen(r, item->row + item->n_rows - 1);

    gather_queries(r, s, item, room);
    for (size_t q = 0; q < n; q++)
        begin(r, a, item->group * heads + q % heads, &room->all_max[q], &room->all_sum[q],
              out_of(r, s, item->row + q / heads, item->group * heads + q % heads));
    for (size_t base = first_seen(r, a, item->row) / CHUNK * CHUNK; base <= last;
         base += CHUNK) {
        attend_chunk(r, a, item, room, base);
        for (size_t q = 0; q < n; q++)
            join(r, a, &room->all_max[q], &room->all_sum[q],
                 out_of(r, s, item->row + q / heads, item->group * heads + q % heads),
                 room->max[q], room->sum[q], room->values + q * a->v_head_dim);
    }
    for (size_t q = 0; q < n; q++)
        finish(r, a, room->all_sum[q],
               out_of(r, s, item->row + q / heads, item->group * heads + q % heads));
}

/* How many rows from this one on go through one table, position by position? */
static size_t n_together(const struct plan_runner *r, size_t row, size_t most)
{
    size_t n = 1;

    while (n < most && row + n < r->n_rows &&
           r->rows[row + n].table == r->rows[row].table)
        n++;
    return n;
}

static void whole_items(const struct plan_runner *r, const struct plan_step *s, unsigned part,
                        const struct room *room)
{
    const struct plan_attend *a = &s->attend;
    /* some items for each thread, so that all end at about the same time */
    size_t most = MIN(QUERIES / per_group(a), r->n_rows * a->kv_heads / (4 * r->n_parts));
    struct item item = {0};

    for (size_t i = 0; item.row < r->n_rows; item.row += item.n_rows) {
        item.n_rows = n_together(r, item.row, most);
        for (item.group = 0; item.group < a->kv_heads; item.group++)
            if (i++ % r->n_parts == part)
                attend_item(r, s, &item, room);
    }
}

/* ---- a pair's chunks are dealt to the threads ---- */

static float *partial_of(const struct plan_runner *r, const struct plan_attend *a,
                         const struct item *item, size_t base)
{
    size_t pair = item->row * a->kv_heads + item->group;

    return r->partials + (pair * n_chunks(r->plan) + base / CHUNK) * partial_floats(a);
}

static void split_chunks(const struct plan_runner *r, const struct plan_step *s,
                         const struct item *item, size_t *i, unsigned part,
                         const struct room *room)
{
    const struct plan_attend *a = &s->attend;
    size_t heads = per_group(a);

    gather_queries(r, s, item, room);
    for (size_t base = first_seen(r, a, item->row) / CHUNK * CHUNK;
         base <= last_seen(r, item->row); base += CHUNK) {
        float *partial = partial_of(r, a, item, base);

        if ((*i)++ % r->n_parts != part)
            continue;
        attend_chunk(r, a, item, room, base);
        memcpy(partial, room->max, heads * sizeof(float));
        memcpy(partial + heads, room->sum, heads * sizeof(float));
        memcpy(partial + 2 * heads, room->values, heads * a->v_head_dim * sizeof(float));
    }
}

static void join_chunks(const struct plan_runner *r, const struct plan_step *s,
                        const struct item *item)
{
    const struct plan_attend *a = &s->attend;
    size_t heads = per_group(a);

    for (size_t h = 0; h < heads; h++) {
        float *out = out_of(r, s, item->row, item->group * heads + h), max, sum;

        begin(r, a, item->group * heads + h, &max, &sum, out);
        for (size_t base = first_seen(r, a, item->row) / CHUNK * CHUNK;
             base <= last_seen(r, item->row); base += CHUNK) {
            const float *partial = partial_of(r, a, item, base);

            join(r, a, &max, &sum, out, partial[h], partial[heads + h],
                 partial + 2 * heads + h * a->v_head_dim);
        }
        finish(r, a, sum, out);
    }
}

static void split_pairs(const struct plan_runner *r, const struct plan_step *s, unsigned part,
                        const struct room *room)
{
    size_t n_pairs = r->n_rows * s->attend.kv_heads, n = 0;

    for (size_t pair = 0; pair < n_pairs; pair++) {
        struct item item = {pair / s->attend.kv_heads, 1, pair % s->attend.kv_heads};

        split_chunks(r, s, &item, &n, part, room);
    }
    team_meet(r->team);
    for (size_t pair = part; pair < n_pairs; pair += r->n_parts) {
        struct item item = {pair / s->attend.kv_heads, 1, pair % s->attend.kv_heads};

        join_chunks(r, s, &item);
    }
}

void run_attend(struct plan_runner *r, const struct plan_step *s, unsigned part)
{
    struct room room;

    room_lay_out(&s->attend, r->rooms[part], &room);
    if (r->n_rows * s->attend.kv_heads <= most_split(r->n_parts))
        split_pairs(r, s, part, &room);
    else
        whole_items(r, s, part, &room);
}
