/* Dimensions as other sizes of the same product: split, merged, or both. */
#include "native/lift.h"

struct group { /* old dimensions and new ones of the same product, ones left out */
    struct dim old[PT2_MAX_DIMS];
    unsigned n_old;
    int64_t sizes[PT2_MAX_DIMS];
    unsigned n_new;
};

static int64_t batch_of(const struct lift *l)
{
    return l->decoder->batch_size;
}

static int64_t length_of(const struct lift *l)
{
    return l->decoder->seq_len > 0 ? l->decoder->seq_len : ANY_LENGTH;
}

/* One old dimension becomes several. */
static bool split_dim(const struct lift *l, const struct dim *old, const struct group *g,
                      struct dim *ret)
{
    int64_t stride = old->stride;

    if (old->label == DIM_ROW) {
        for (unsigned i = g->n_new; i-- > 0;) {
            ret[i] = new_dim(DIM_ROW, g->sizes[i], (int32_t)stride);
            stride *= g->sizes[i];
        }
        return true;
    }
    if (g->n_new != 2)
        return false;
    ret[0] = (struct dim){.size = g->sizes[0]};
    ret[1] = (struct dim){.size = g->sizes[1]};
    if (old->label == DIM_PAIRS) {
        ret[0].label = old->of;
        ret[1] = new_dim(DIM_ROW, g->sizes[1], old->stride);
        return old->order == 0 && g->sizes[1] == old->n;
    }
    ret[1].label = DIM_SEQ;
    if (old->label == DIM_MERGED) {
        ret[0].label = DIM_BATCH;
        return g->sizes[0] == batch_of(l) && g->sizes[1] == length_of(l);
    }
    ret[0] = new_dim(DIM_ROW, g->sizes[0], old->stride);
    return old->label == DIM_GROUP && g->sizes[1] == length_of(l);
}

/* (heads, s) as (key heads, heads that share one * s), or back. */
static bool regroup_heads(const struct lift *l, const struct group *g, struct dim *ret)
{
    const struct dim *heads = &g->old[0], *last = &g->old[1];
    int64_t length = length_of(l), per_key;

    if (g->n_old != 2 || g->n_new > 2 || heads->label != DIM_ROW)
        return false;
    if (last->label == DIM_SEQ && g->sizes[g->n_new - 1] % length == 0) {
        per_key = g->sizes[g->n_new - 1] / length;
        ret[0] = new_dim(DIM_ROW, heads->size / per_key, (int32_t)(heads->stride * per_key));
        ret[g->n_new - 1] = new_dim(DIM_GROUP, g->sizes[g->n_new - 1], heads->stride);
        return true;
    }
    if (last->label != DIM_GROUP || g->n_new != 2 || g->sizes[1] != length ||
        heads->stride != last->stride * (last->size / length))
        return false;
    ret[0] = new_dim(DIM_ROW, g->sizes[0], last->stride);
    ret[1] = new_dim(DIM_SEQ, length, 0);
    return true;
}

/* Are all but the last the rows' own? */
static bool is_rows_own(const struct group *g, enum label *ret)
{
    unsigned n = g->n_old - 1;

    *ret = n == 2 ? DIM_MERGED : g->old[0].label;
    return n == 1   ? *ret == DIM_BATCH || *ret == DIM_SEQ || *ret == DIM_MERGED
           : n == 2 ? g->old[0].label == DIM_BATCH && g->old[1].label == DIM_SEQ
                    : false;
}

/* Several old dimensions become one. */
static bool merge_dims(const struct group *g, struct dim *ret)
{
    struct dim last = g->old[g->n_old - 1];
    int64_t size = 1;

    for (unsigned i = g->n_old; i-- > 0;) {
        if (g->old[i].label == DIM_ROW && last.label == DIM_ROW &&
            g->old[i].stride != last.stride * size)
            return false;
        size *= g->old[i].size;
    }
    *ret = new_dim(last.label, size, last.stride);
    if (last.label == DIM_ROW && is_rows_own(g, &ret->of)) {
        ret->label = DIM_PAIRS;
        ret->n = (int32_t)last.size;
    } else if (g->n_old == 2 && g->old[0].label == DIM_BATCH && last.label == DIM_SEQ)
        ret->label = DIM_MERGED;
    else if (g->n_old == 2 && g->old[0].label == DIM_KV && last.label == DIM_REP)
        ret->label = DIM_HEAD;
    else
        for (unsigned i = 0; i < g->n_old; i++)
            if (g->old[i].label != DIM_ROW)
                return false;
    return true;
}

static bool regroup(const struct lift *l, struct group *g, struct dim *ret)
{
    struct dim whole;

    if (g->n_old == 1 && g->n_new == 1) {
        ret[0] = g->old[0];
        return true;
    }
    if (regroup_heads(l, g, ret))
        return true;
    if (g->n_old == 1)
        return split_dim(l, &g->old[0], g, ret);
    if (g->n_new == 1)
        return merge_dims(g, ret);
    return merge_dims(g, &whole) && split_dim(l, &whole, g, ret);
}

/* Is it a dimension that no group may leave out? */
static bool counts(const struct dim *d)
{
    return d->label != DIM_ONE;
}

static int fill_open(struct lift *l, const struct lifted *in, int64_t *sizes, unsigned n)
{
    int64_t old = 1, known = 1;
    int open = -1;

    for (unsigned d = 0; d < in->n_dims; d++)
        if (__builtin_mul_overflow(old, in->dims[d].size, &old))
            return lift_refuse(l, "sizes that are too large");
    for (unsigned d = 0; d < n; d++)
        if (sizes[d] == -1)
            open = (int)d;
        else if (sizes[d] < 1 || __builtin_mul_overflow(known, sizes[d], &known))
            return lift_refuse(l, "a size of %lld", (long long)sizes[d]);
    if (open >= 0)
        sizes[open] = old / known;
    if (open >= 0 ? sizes[open] * known != old : known != old)
        return lift_refuse(l, "sizes of another product");
    return 0;
}

static bool relabel(const struct lift *l, const struct lifted *in, const int64_t *sizes,
                    unsigned n, struct lifted *ret)
{
    unsigned i = 0, j = 0;

    ret->n_dims = n;
    for (;;) {
        struct group g = {.n_old = 0};
        struct dim dims[PT2_MAX_DIMS];
        unsigned at[PT2_MAX_DIMS];
        int64_t old = 1, new = 1;

        while (i < in->n_dims && !counts(&in->dims[i]))
            i++;
        while (j < n && sizes[j] == 1)
            ret->dims[j++] = new_dim(DIM_ONE, 1, 0);
        if (i == in->n_dims || j == n)
            break;
        do {
            if (old <= new && i < in->n_dims) {
                if (counts(&in->dims[i])) {
                    g.old[g.n_old++] = in->dims[i];
                    old *= in->dims[i].size;
                }
                i++;
            } else if (j < n) {
                if (sizes[j] != 1) {
                    at[g.n_new] = j;
                    g.sizes[g.n_new++] = sizes[j];
                    new *= sizes[j];
                } else {
                    ret->dims[j] = new_dim(DIM_ONE, 1, 0);
                }
                j++;
            } else {
                return false;
            }
        } while (old != new || g.n_new == 0);
        if (!regroup(l, &g, dims))
            return false;
        for (unsigned k = 0; k < g.n_new; k++)
            ret->dims[at[k]] = dims[k];
    }
    while (i < in->n_dims && !counts(&in->dims[i]))
        i++;
    while (j < n && sizes[j] == 1)
        ret->dims[j++] = new_dim(DIM_ONE, 1, 0);
    return i == in->n_dims && j == n;
}

int lift_reshape(struct lift *l, const struct lifted *in, const int64_t *wanted, unsigned n,
                 struct lifted *ret)
{
    int64_t sizes[PT2_MAX_DIMS];
    struct lifted v = *in, copy;

    memcpy(sizes, wanted, n * sizeof(*sizes));
    if (fill_open(l, in, sizes, n) < 0)
        return -1;
    if (relabel(l, in, sizes, n, &v)) {
        *ret = v;
        return 0;
    }
    if (in->kind != KIND_ROWS || lift_is_contiguous(in))
        return lift_refuse(l, "a shape that mixes batch or sequence with the rest");
    if (lift_copy(l, in, &copy) < 0)
        return -1;
    v = copy;
    if (!relabel(l, &copy, sizes, n, &v))
        return lift_refuse(l, "a shape that mixes batch or sequence with the rest");
    *ret = v;
    return 0;
}
