#include "base/metrics.h"

#include "base/log.h"
#include "base/num.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>

enum kind {
    COUNTER,
    GAUGE,
    HISTOGRAM,
    HISTOGRAM_SHORT,
    HISTOGRAM_LONG,
    HISTOGRAM_SIZES,
};

static const struct {
    enum kind kind;
    const char *name, *labels, *help;
} table[] = {
#define METRIC(id, kind, name, labels, help) {kind, name, labels, help},
#include "base/tbl_metrics.h"
#undef METRIC
};

/* Upper bounds; the last bucket is +Inf. */
#define MAX_BOUNDS 17
static const struct bounds {
    size_t n;
    double at[MAX_BOUNDS];
} bounds_of[] = {
    [HISTOGRAM] = {15,
                   {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
                    30, 60}},
    [HISTOGRAM_SHORT] = {17, {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
                              0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60}},
    [HISTOGRAM_LONG] = {13, {0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 1800, 3600}},
    [HISTOGRAM_SIZES] = {11, {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024}},
};

struct series {
    char *values[METRICS_MAX_LABELS]; /* constant once it is in a slot */
    atomic_uint_fast64_t value;       /* the bits of a double; of a histogram the sum */
    atomic_uint_fast64_t buckets[MAX_BOUNDS + 1];
};

/* At most half of the slots are taken, and none is ever freed but by metrics_reset. */
#define N_SLOTS (2 * METRICS_MAX_SERIES)
typedef _Atomic(struct series *) slot;

static struct {
    struct series plain;     /* where there are no labels */
    _Atomic(slot *) slots;   /* N_SLOTS, made with the first series */
    size_t n;                /* under the lock */
} registry[METRICS_COUNT];

/* For who makes a series. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static bool is_histogram(enum metric metric)
{
    return table[metric].kind >= HISTOGRAM;
}

/* ---- labels ---- */

static size_t count_labels(enum metric metric)
{
    const char *names = table[metric].labels;
    size_t n = *names != '\0';

    for (; *names; names++)
        n += *names == ' ';
    return n;
}

/* FNV-1a. */
static size_t hash_of(const char *const *values, size_t n)
{
    uint64_t hash = 0xcbf29ce484222325;

    for (size_t i = 0; i < n; i++) {
        const char *at = values[i];

        do
            hash = (hash ^ (unsigned char)*at) * 0x100000001b3;
        while (*at++);
    }
    return (size_t)(hash ^ hash >> 32);
}

static bool is_of(const struct series *s, const char *const *values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!streq(s->values[i], values[i]))
            return false;
    return true;
}

/* ---- series ---- */

/* Where the series is, or a free slot that it may have. */
static slot *slot_for(slot *slots, const char *const *values, size_t n)
{
    size_t at = hash_of(values, n);
    struct series *s;

    while (true) {
        slot *found = &slots[at % N_SLOTS];

        s = atomic_load_explicit(found, memory_order_acquire);
        if (!s || is_of(s, values, n))
            return found;
        at++;
    }
}

static void series_free(struct series *s)
{
    for (size_t i = 0; i < METRICS_MAX_LABELS; i++)
        free(s->values[i]);
    free(s);
}

static struct series *series_new(const char *const *values, size_t n)
{
    struct series *s = calloc(1, sizeof(*s));

    for (size_t i = 0; s && i < n; i++) {
        s->values[i] = strdup(values[i]);
        if (!s->values[i]) {
            series_free(s);
            s = NULL;
        }
    }
    return s;
}

static struct series *make_locked(enum metric metric, const char *const *values, size_t n)
{
    static const char *const other[METRICS_MAX_LABELS] = {"other", "other", "other"};
    slot *slots = atomic_load(&registry[metric].slots), *at;

    if (!slots) {
        slots = calloc(N_SLOTS, sizeof(*slots));
        if (!slots)
            return NULL;
        atomic_store_explicit(&registry[metric].slots, slots, memory_order_release);
    }
    at = slot_for(slots, values, n);
    /* The last place is kept for "other". */
    if (!atomic_load(at) && registry[metric].n >= METRICS_MAX_SERIES - 1) {
        values = other;
        at = slot_for(slots, values, n);
    }
    if (!atomic_load(at)) {
        struct series *s = series_new(values, n);

        registry[metric].n += s != NULL;
        atomic_store_explicit(at, s, memory_order_release);
    }
    return atomic_load(at);
}

/* NULL: not there, and not to be made or no memory. */
static struct series *find(enum metric metric, const char *const *values, bool make)
{
    size_t n = count_labels(metric);
    slot *slots;
    struct series *s = NULL;

    if (n == 0)
        return &registry[metric].plain;
    slots = atomic_load_explicit(&registry[metric].slots, memory_order_acquire);
    if (slots)
        s = atomic_load_explicit(slot_for(slots, values, n), memory_order_acquire);
    if (!s && make) {
        pthread_mutex_lock(&lock);
        s = make_locked(metric, values, n);
        pthread_mutex_unlock(&lock);
    }
    return s;
}

/* ---- numbers ---- */

static double load(const atomic_uint_fast64_t *bits)
{
    uint64_t from = atomic_load_explicit(bits, memory_order_relaxed);
    double value;

    memcpy(&value, &from, sizeof(value));
    return value;
}

static uint64_t bits_of(double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static void add(atomic_uint_fast64_t *bits, double delta)
{
    uint_fast64_t was = atomic_load_explicit(bits, memory_order_relaxed);
    double value;

    do
        memcpy(&value, &was, sizeof(value));
    while (!atomic_compare_exchange_weak_explicit(bits, &was, bits_of(value + delta),
                                                  memory_order_relaxed,
                                                  memory_order_relaxed));
}

void metrics_add(enum metric metric, double delta, const char *const *labels)
{
    struct series *s = find(metric, labels, true);

    if (s)
        add(&s->value, delta);
}

void metrics_set(enum metric metric, double value, const char *const *labels)
{
    struct series *s = find(metric, labels, true);

    if (s)
        atomic_store_explicit(&s->value, bits_of(value), memory_order_relaxed);
}

void metrics_observe(enum metric metric, double value, const char *const *labels)
{
    const struct bounds *bounds = &bounds_of[table[metric].kind];
    struct series *s = find(metric, labels, true);
    size_t i = 0;

    ASSERT(is_histogram(metric));
    while (i < bounds->n && value > bounds->at[i])
        i++;
    if (!s)
        return;
    add(&s->value, value);
    atomic_fetch_add_explicit(&s->buckets[i], 1, memory_order_relaxed);
}

static uint64_t bucket(const struct series *s, size_t i)
{
    return atomic_load_explicit(&s->buckets[i], memory_order_relaxed);
}

static uint64_t observations(enum metric metric, const struct series *s)
{
    uint64_t n = 0;

    for (size_t i = 0; i <= bounds_of[table[metric].kind].n; i++)
        n += bucket(s, i);
    return n;
}

double metrics_get(enum metric metric, const char *const *labels)
{
    const struct series *s = find(metric, labels, false);

    if (!s)
        return 0;
    return is_histogram(metric) ? (double)observations(metric, s) : load(&s->value);
}

double metrics_quantile(enum metric metric, const char *const *labels, double part)
{
    const struct bounds *bounds = &bounds_of[table[metric].kind];
    const struct series *s = find(metric, labels, false);
    double n = s ? (double)observations(metric, s) : 0, below = 0;

    ASSERT(is_histogram(metric));
    for (size_t i = 0; n > 0 && i < bounds->n; i++) {
        double here = (double)bucket(s, i), from = i ? bounds->at[i - 1] : 0;

        if (here > 0 && below + here >= part * n)
            return from + (bounds->at[i] - from) * (part * n - below) / here;
        below += here;
    }
    return n > 0 ? bounds->at[bounds->n - 1] : 0;
}

/* ---- all of them ---- */

void metrics_each(enum metric metric, void (*fn)(void *ctx, const char *const *values),
                  void *ctx)
{
    slot *slots = atomic_load_explicit(&registry[metric].slots, memory_order_acquire);

    for (size_t i = 0; slots && i < N_SLOTS; i++) {
        const struct series *s = atomic_load_explicit(&slots[i], memory_order_acquire);

        if (s)
            fn(ctx, (const char *const *)s->values);
    }
}

static void add_number(struct buf *to, double value)
{
    char text[NUM_DOUBLE_CHARS];

    if (value == floor(value) && fabs(value) < 1e15)
        buf_printf(to, "%.0f", value);
    else
        buf_add(to, text, num_put_double(text, value));
}

static void add_value(struct buf *to, const char *value)
{
    for (; *value; value++) {
        if (*value == '\\' || *value == '"')
            buf_add(to, "\\", 1);
        if (*value == '\n')
            buf_str(to, "\\n");
        else
            buf_add(to, value, 1);
    }
}

/* name="value",…; with le (NULL: none) as the last one. */
static void add_labels(struct buf *to, enum metric metric, const struct series *s,
                       const double *le)
{
    const char *names = table[metric].labels;

    if (!*names && !le)
        return;
    buf_str(to, "{");
    for (size_t i = 0; *names; i++) {
        size_t n = strcspn(names, " ");

        buf_printf(to, "%s%.*s=\"", i ? "," : "", (int)n, names);
        add_value(to, s->values[i]);
        buf_str(to, "\"");
        names += n + strspn(names + n, " ");
    }
    if (le) {
        buf_str(to, *table[metric].labels ? ",le=\"" : "le=\"");
        if (isinf(*le))
            buf_str(to, "+Inf");
        else
            add_number(to, *le);
        buf_str(to, "\"");
    }
    buf_str(to, "}");
}

static void add_sample(struct buf *to, enum metric metric, const char *suffix,
                       const struct series *s, const double *le, double value)
{
    buf_printf(to, "%s%s", table[metric].name, suffix);
    add_labels(to, metric, s, le);
    buf_str(to, " ");
    add_number(to, value);
    buf_str(to, "\n");
}

static void add_histogram(struct buf *to, enum metric metric, const struct series *s)
{
    const struct bounds *bounds = &bounds_of[table[metric].kind];
    uint64_t n = 0;

    for (size_t i = 0; i <= bounds->n; i++) {
        double le = i < bounds->n ? bounds->at[i] : (double)INFINITY;

        n += bucket(s, i);
        add_sample(to, metric, "_bucket", s, &le, (double)n);
    }
    add_sample(to, metric, "_sum", s, NULL, load(&s->value));
    add_sample(to, metric, "_count", s, NULL, (double)n);
}

static void add_series(struct buf *to, enum metric metric, const struct series *s)
{
    if (is_histogram(metric))
        add_histogram(to, metric, s);
    else
        add_sample(to, metric, "", s, NULL, load(&s->value));
}

static int compare(const void *a, const void *b)
{
    const struct series *const *left = a, *const *right = b;
    int order = 0;

    for (size_t i = 0; i < METRICS_MAX_LABELS && order == 0 && (*left)->values[i]; i++)
        order = strcmp((*left)->values[i], (*right)->values[i]);
    return order;
}

static void add_sorted(struct buf *to, enum metric metric)
{
    slot *slots = atomic_load_explicit(&registry[metric].slots, memory_order_acquire);
    const struct series *sorted[METRICS_MAX_SERIES];
    size_t n = 0;

    for (size_t i = 0; slots && i < N_SLOTS && n < METRICS_MAX_SERIES; i++) {
        sorted[n] = atomic_load_explicit(&slots[i], memory_order_acquire);
        n += sorted[n] != NULL;
    }
    qsort(sorted, n, sizeof(*sorted), compare);
    for (size_t i = 0; i < n; i++)
        add_series(to, metric, sorted[i]);
}

void metrics_print(struct buf *to)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram"};

    for (size_t m = 0; m < METRICS_COUNT; m++) {
        buf_printf(to, "# HELP %s %s\n# TYPE %s %s\n", table[m].name, table[m].help,
                   table[m].name, kinds[MIN(table[m].kind, HISTOGRAM)]);
        if (*table[m].labels)
            add_sorted(to, (enum metric)m);
        else
            add_series(to, (enum metric)m, &registry[m].plain);
    }
}

void metrics_reset(void)
{
    for (size_t m = 0; m < METRICS_COUNT; m++) {
        slot *slots = atomic_load(&registry[m].slots);

        for (size_t i = 0; slots && i < N_SLOTS; i++)
            if (atomic_load(&slots[i]))
                series_free(atomic_load(&slots[i]));
        free(slots);
        memset(&registry[m], 0, sizeof(registry[m]));
    }
}
