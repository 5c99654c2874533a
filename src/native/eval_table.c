/* A value for every position, from every run that computes it. */
#include "native/eval_impl.h"

#include <math.h>

#define LONG_RUN 64  /* of a run that checks whether its length matters */
#define LONG_MASK 256 /* the longest for a mask, which is that long times the cache */
#define MANY_RUNS (INT64_C(1) << 26) /* elements of all runs of one: 8192 over 8192 positions */

void eval_tensor_done(struct eval_tensor *t)
{
    free(t->b);
    t->b = NULL;
}

int eval_value(struct eval *e, uint32_t value, int64_t first, int64_t s,
               struct eval_tensor *ret, struct pt2_err *err)
{
    struct eval_tensor out = {0};
    struct tensor t, whole;
    size_t size;

    if (eval_run(e, value, first, s, &t, err) < 0)
        return -1;
    if (tensor_new(e, t.storage->dtype, t.n_dims, t.sizes, &whole, err) < 0 ||
        tensor_copy(&whole, &t, pt2_program_node(e->program, 0), err) < 0)
        return -1;
    out.dtype = t.storage->dtype;
    out.n_dims = t.n_dims;
    memcpy(out.sizes, t.sizes, sizeof(out.sizes));
    out.n = tensor_n(&whole);
    size = out.dtype == PT2_BOOL               ? 1
           : pt2_dtype_is_float(out.dtype) ? sizeof(float)
                                           : sizeof(int64_t);
    out.b = malloc(MAX((size_t)out.n, 1) * size);
    if (!out.b)
        return pt2_err_set(err, PT2_ERR_NOMEM, "%lld elements", (long long)out.n);
    memcpy(out.b, whole.storage->b, (size_t)out.n * size);
    *ret = out;
    return 0;
}

int eval_int(struct eval *e, uint32_t value, int64_t first, int64_t s, int64_t *ret,
             struct pt2_err *err)
{
    struct tensor t;

    if (eval_run(e, value, first, s, &t, err) < 0)
        return -1;
    if (tensor_n(&t) != 1 || tensor_is_float(&t))
        return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED, "'%s' is no whole number",
                           pt2_program_value(e->program, value)->name);
    *ret = tensor_i(&t, t.offset);
    return 0;
}

/* ---- all runs ---- */

typedef int run_fn(void *context, struct eval *e, const struct tensor *t, int64_t first,
                   int64_t s, struct pt2_err *err);

static int one_run(struct eval *e, uint32_t value, int64_t first, int64_t s, run_fn *fn,
                   void *context, struct pt2_err *err)
{
    struct tensor t;

    if (s < 1 || first < 0 || first + s > e->decoder.max_cache_len)
        return 0;
    if (eval_run(e, value, first, s, &t, err) < 0)
        return -1;
    return fn(context, e, &t, first, s, err);
}

/* Runs of the exported length from each position on; where any length goes, of one token
 * from each position on, and some that are longer, up to `longest`.  A value that is `width`
 * wide in each of them (0: it does not matter), where that makes more than MANY_RUNS: at
 * positions evenly apart. */
static int each_run(struct eval *e, uint32_t value, int64_t longest, int64_t width, run_fn *fn,
                    void *context, struct pt2_err *err)
{
    int64_t s = e->decoder.seq_len > 0 ? e->decoder.seq_len : 1, len = e->decoder.max_cache_len;
    int64_t n_runs = width > 0 ? MAX(MANY_RUNS / width, 2) : len;
    int64_t step = MAX(s <= LONG_RUN ? 1 : s / 2, (len + n_runs - 1) / n_runs);
    int64_t longer = MIN(MIN(e->decoder.max_seq_len, LONG_RUN), len);

    for (int64_t first = 0; first + s <= len; first += step)
        if (one_run(e, value, first, s, fn, context, err) < 0)
            return -1;
    if (one_run(e, value, len - s, s, fn, context, err) < 0)
        return -1;
    longer = MIN(longer, longest);
    if (e->decoder.seq_len > 0 || longer < 2)
        return 0;
    if (one_run(e, value, 0, longer, fn, context, err) < 0 ||
        one_run(e, value, len - longer, longer, fn, context, err) < 0 ||
        one_run(e, value, 1, 2, fn, context, err) < 0 ||
        one_run(e, value, 0, MIN(MIN(e->decoder.max_seq_len, len), longest), fn, context, err) < 0)
        return -1;
    return 0;
}

/* ---- tables ---- */

struct table {
    uint32_t value;
    int s_dim;
    float *rows; /* (max_cache_len, width) */
    bool *filled;
    int64_t width;
};

static int not_of_position(const struct table *table, const struct eval *e, int64_t p,
                           struct pt2_err *err)
{
    return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED,
                       "'%s' at position %lld depends on the run that computes it",
                       pt2_program_value(e->program, table->value)->name, (long long)p);
}

static int start_table(struct table *table, const struct eval *e, int64_t width,
                       struct pt2_err *err)
{
    size_t len = (size_t)e->decoder.max_cache_len;
    uint64_t bytes;

    if (width < 1 || width > UINT32_MAX ||
        !size_mul((uint64_t)width * sizeof(float), len, &bytes) || bytes > UINT64_C(1) << 31)
        return pt2_err_set(err, PT2_ERR_LIMIT, "a table %lld wide", (long long)width);
    table->width = width;
    table->rows = aligned_alloc(64, (bytes + 63) / 64 * 64);
    table->filled = calloc(len, sizeof(bool));
    if (!table->rows || !table->filled)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a table of positions");
    return 0;
}

/* A row's elements, in row-major order; those of a run that has no such dimension, all. */
static void read_row(const struct tensor *t, int s_dim, int64_t row, float *to)
{
    int64_t at[PT2_MAX_DIMS] = {0}, sizes[PT2_MAX_DIMS];

    memcpy(sizes, t->sizes, sizeof(sizes));
    if (s_dim >= 0)
        sizes[s_dim] = 1;
    do {
        int64_t place = tensor_at(t, at);

        *to++ = tensor_f(t, place + (s_dim >= 0 ? row * t->strides[s_dim] : 0));
    } while (tensor_next(t->n_dims, sizes, at));
}

static int table_run(void *context, struct eval *e, const struct tensor *t, int64_t first,
                     int64_t s, struct pt2_err *err)
{
    struct table *table = context;
    bool has_dim = table->s_dim < (int)t->n_dims;
    int s_dim = has_dim && table->s_dim >= 0 && t->sizes[table->s_dim] == s ? table->s_dim : -1;
    int64_t width = tensor_n(t) / (s_dim >= 0 ? s : 1);
    AUTO_PTR float *row = NULL;

    if (!has_dim || (table->s_dim >= 0 && s_dim < 0 && t->sizes[table->s_dim] != 1))
        return not_of_position(table, e, first, err);
    if (!table->rows && start_table(table, e, width, err) < 0)
        return -1;
    row = calloc((size_t)table->width, sizeof(*row));
    if (!row)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a row of a table");
    if (width != table->width)
        return not_of_position(table, e, first, err);
    for (int64_t i = 0; i < s; i++) {
        float *to = table->rows + (first + i) * width;

        read_row(t, s_dim, i, row);
        if (table->filled[first + i]) {
            if (memcmp(row, to, (size_t)width * sizeof(*row)) != 0)
                return not_of_position(table, e, first + i, err);
        } else {
            memcpy(to, row, (size_t)width * sizeof(*row));
            table->filled[first + i] = true;
        }
    }
    return 0;
}

int eval_table(struct eval *e, uint32_t value, int s_dim, float **ret_table,
               uint32_t *ret_width, struct pt2_err *err)
{
    struct table table = {.value = value, .s_dim = s_dim};
    int r = each_run(e, value, INT64_MAX, 0, table_run, &table, err);

    if (r == 0 && !table.rows)
        r = pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED, "no run fits into the cache");
    free(table.filled);
    if (r < 0) {
        free(table.rows);
        return -1;
    }
    *ret_table = table.rows;
    *ret_width = (uint32_t)table.width;
    return 0;
}

/* ---- masks ---- */

struct mask {
    uint32_t value;
    struct eval_cache cache;
    int64_t window;   /* 0: not known yet */
    int64_t full_to;  /* the last row that is known to see everything before it */
};

/* The run of elements from `from` on that a row lets through (or hides): its end. */
static int64_t end_of(const struct tensor *t, int64_t at, int64_t stride, int64_t n,
                      int64_t from, bool is_seen)
{
    enum pt2_dtype dtype = t->storage->dtype;
    float lowest = dtype == PT2_FLOAT16 ? -65504.0f : -1e9f;

    if (dtype == PT2_BOOL) {
        const uint8_t *b = t->storage->b;

        while (from < n && (b[at + from * stride] != 0) == is_seen)
            from++;
    } else if (pt2_dtype_is_float(dtype)) {
        const float *f = t->storage->f;

        while (from < n &&
               (is_seen ? f[at + from * stride] == 0 : f[at + from * stride] <= lowest))
            from++;
    }
    return from;
}

/* Does the mask let position q of a ring of n through?  (Or hide it.) */
static bool ring_shows(const struct tensor *t, int64_t at, int64_t stride, int64_t n, int64_t q,
                       bool is_seen)
{
    int64_t slot = (q % n + n) % n;

    return end_of(t, at, stride, slot + 1, slot, is_seen) == slot + 1;
}

/* The same of a ring, in a run whose last position is `end`. */
static bool read_ring_row(const struct tensor *t, int64_t at, int64_t stride, int64_t n,
                          int64_t p, int64_t end, int64_t *ret_from)
{
    int64_t from = p + 1;

    while (from > 0 && from > end - n + 1 && ring_shows(t, at, stride, n, from - 1, true))
        from--;
    for (int64_t q = end - n + 1; q <= end; q++)
        if ((q < from || q > p) && !ring_shows(t, at, stride, n, q, false))
            return false;
    *ret_from = from;
    return from <= p;
}

/* Row p at `at`, its elements `stride` apart: from which position on does it see? */
static bool read_mask_row(const struct tensor *t, int64_t at, int64_t stride, int64_t n,
                          int64_t p, int64_t *ret_from)
{
    int64_t from = end_of(t, at, stride, n, 0, false), last = MIN(p, n - 1);

    *ret_from = from + p - last;
    return from <= last && end_of(t, at, stride, n, from, true) == last + 1 &&
           end_of(t, at, stride, n, last + 1, false) == n;
}

static bool agrees(struct mask *mask, int64_t p, int64_t from)
{
    if (from > 0) {
        if (mask->window == 0)
            mask->window = p - from + 1;
        return mask->window == p - from + 1 && mask->full_to < mask->window;
    }
    mask->full_to = MAX(mask->full_to, p);
    return mask->window == 0 || p < mask->window;
}

static int mask_run(void *context, struct eval *e, const struct tensor *in, int64_t first,
                    int64_t s, struct pt2_err *err)
{
    struct mask *mask = context;
    const char *name = pt2_program_value(e->program, mask->value)->name;
    int64_t len = mask->cache.length, at[PT2_MAX_DIMS] = {0}, from;
    unsigned outer = in->n_dims < 2 ? 0 : in->n_dims - 2;

    if (in->n_dims < 2 || in->sizes[outer + 1] != len || tensor_n(in) == 0)
        return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED,
                           "mask '%s' is not over the cache's %lld positions", name,
                           (long long)len);
    if (in->sizes[outer] != s && in->sizes[outer] != 1)
        return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED, "mask '%s' is not for %lld rows",
                           name, (long long)s);
    do {
        for (int64_t i = 0; i < s; i++) {
            int64_t row = tensor_at(in, at) + (in->sizes[outer] == 1 ? 0 : i) *
                                                  in->strides[outer];
            int64_t stride = in->strides[outer + 1], p = first + i;
            bool is_read = mask->cache.is_ring
                               ? read_ring_row(in, row, stride, len, p, first + s - 1, &from)
                               : read_mask_row(in, row, stride, len, p, &from);

            if (!is_read || !agrees(mask, p, from))
                return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED,
                                   "mask '%s' is neither causal nor a window of it: at "
                                   "position %lld",
                                   name, (long long)p);
        }
    } while (tensor_next(outer, in->sizes, at));
    return 0;
}

/* The longest run that a cache of a length below max_cache_len is for. */
static int64_t longest_run(const struct eval *e, struct eval_cache cache, int64_t longest)
{
    return cache.is_ring || cache.length >= e->decoder.max_cache_len ? longest : 1;
}

int eval_mask(struct eval *e, uint32_t value, struct eval_cache cache, int64_t *ret_window,
              struct pt2_err *err)
{
    struct mask mask = {.value = value, .cache = cache, .full_to = -1};

    if (each_run(e, value, longest_run(e, cache, LONG_MASK), cache.length, mask_run, &mask,
                 err) < 0)
        return -1;
    *ret_window = mask.window;
    return 0;
}

/* ---- positions ---- */

struct slots {
    struct eval_cache cache;
    bool is; /* so far */
};

/* The i-th element that is wanted in a run, of n. */
typedef int64_t slot_fn(const struct slots *slots, int64_t i, int64_t first, int64_t s);

static void compare_slots(struct slots *slots, const struct tensor *t, slot_fn *want, int64_t n,
                          int64_t first, int64_t s)
{
    int64_t at[PT2_MAX_DIMS] = {0}, i = 0;

    if (tensor_n(t) != n || tensor_is_float(t) || t->storage->dtype == PT2_BOOL) {
        slots->is = false;
        return;
    }
    do {
        if (tensor_i(t, tensor_at(t, at)) != want(slots, i++, first, s))
            slots->is = false;
    } while (tensor_next(t->n_dims, t->sizes, at));
}

static int64_t position_slot(const struct slots *slots, int64_t i, int64_t first, int64_t s)
{
    (void)s;
    return slots->cache.is_ring ? (first + i) % slots->cache.length
                                : MIN(first + i, slots->cache.length - 1);
}

static int positions_run(void *context, struct eval *e, const struct tensor *t, int64_t first,
                         int64_t s, struct pt2_err *err)
{
    (void)e;
    (void)err;
    compare_slots(context, t, position_slot, s, first, s);
    return 0;
}

int eval_is_positions(struct eval *e, uint32_t value, struct eval_cache cache, bool *ret_is,
                      struct pt2_err *err)
{
    struct slots slots = {cache, true};

    if ((value != e->positions || cache.length < e->decoder.max_cache_len) &&
        each_run(e, value, longest_run(e, cache, INT64_MAX), 0, positions_run, &slots, err) < 0)
        return -1;
    *ret_is = slots.is;
    return 0;
}

static int first_run(void *context, struct eval *e, const struct tensor *t, int64_t first,
                     int64_t s, struct pt2_err *err)
{
    (void)e;
    (void)err;
    compare_slots(context, t, position_slot, 1, first, s);
    return 0;
}

int eval_is_first(struct eval *e, uint32_t value, int64_t length, bool *ret_is,
                  struct pt2_err *err)
{
    struct slots slots = {{length, false}, true};

    if (each_run(e, value, INT64_MAX, 0, first_run, &slots, err) < 0)
        return -1;
    *ret_is = slots.is;
    return 0;
}

static int64_t rolled_slot(const struct slots *slots, int64_t i, int64_t first, int64_t s)
{
    return first + s > slots->cache.length ? (i + s) % slots->cache.length : i;
}

static int rolling_run(void *context, struct eval *e, const struct tensor *t, int64_t first,
                       int64_t s, struct pt2_err *err)
{
    struct slots *slots = context;

    (void)e;
    (void)err;
    compare_slots(slots, t, rolled_slot, slots->cache.length, first, s);
    return 0;
}

int eval_is_rolling(struct eval *e, uint32_t value, int64_t length, bool *ret_is,
                    struct pt2_err *err)
{
    struct slots slots = {{length, false}, true};

    if (each_run(e, value, 1, length, rolling_run, &slots, err) < 0)
        return -1;
    *ret_is = slots.is;
    return 0;
}

/* ---- counters ---- */

struct end {
    const char *name;
};

static int end_run(void *context, struct eval *e, const struct tensor *t, int64_t first,
                   int64_t s, struct pt2_err *err)
{
    const struct end *end = context;

    (void)e;
    if (tensor_n(t) == 1 && !tensor_is_float(t) && tensor_i(t, t->offset) == first + s)
        return 0;
    return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED,
                       "counter '%s' does not count positions: a run of %lld from %lld on "
                       "leaves another number",
                       end->name, (long long)s, (long long)first);
}

/* The value that a counter has at the end: of a buffer mutation, else of the last write. */
static int64_t last_value(const struct eval *e, uint32_t counter)
{
    const char *fqn = pt2_program_input(e->program, (uint32_t)e->inputs[counter])->fqn;

    for (uint32_t i = 0; i < pt2_program_n_outputs(e->program); i++) {
        const struct pt2_output *out = pt2_program_output(e->program, i);

        if (out->kind == PT2_OUTPUT_BUFFER_MUTATION && streq(out->fqn, fqn) &&
            out->arg.kind == PT2_ARG_TENSOR)
            return out->arg.value;
    }
    return e->last_write[counter] < 0
               ? -1
               : node_out(pt2_program_node(e->program, (uint32_t)e->last_write[counter]));
}

int eval_check_counters(struct eval *e, struct pt2_err *err)
{
    int64_t s = e->decoder.seq_len > 0 ? e->decoder.seq_len : 1,
            len = e->decoder.max_cache_len;

    for (uint32_t i = 0; i < pt2_program_n_values(e->program); i++) {
        struct end end = {pt2_program_value(e->program, i)->name};
        int64_t value;

        if (!e->counters[i])
            continue;
        value = last_value(e, i);
        if (value < 0 || eval_class(e, (uint32_t)value) == EVAL_TOKENS)
            return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED, "counter '%s' is not evaluated",
                               end.name);
        if (one_run(e, (uint32_t)value, 0, s, end_run, &end, err) < 0 ||
            one_run(e, (uint32_t)value, len - s, s, end_run, &end, err) < 0 ||
            one_run(e, (uint32_t)value, len / 2, s, end_run, &end, err) < 0)
            return -1;
        if (e->decoder.seq_len == 0 && e->decoder.max_seq_len > 2 &&
            one_run(e, (uint32_t)value, 1, 3, end_run, &end, err) < 0)
            return -1;
    }
    return 0;
}
