#include "base/metrics.h"

#include "base/num.h"

#include <math.h>
#include <pthread.h>

enum kind { COUNTER, GAUGE, HISTOGRAM };

static const struct {
    enum kind kind;
    const char *name, *labels, *help;
} table[] = {
#define METRIC(id, kind, name, labels, help) {kind, name, labels, help},
#include "base/tbl_metrics.h"
#undef METRIC
};

/* Upper bounds in seconds; the last bucket is +Inf. */
static const double bounds[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                0.5,   1,      2.5,   5,    10,    30,   60};
#define N_BUCKETS (ARRAY_LEN(bounds) + 1)

struct series {
    char *labels; /* as printed: route="/x",status="200"; "" for none */
    double value; /* of a histogram the sum */
    uint64_t buckets[N_BUCKETS];
};

/* One lock for all: it is held for a lookup and an addition. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    struct series **series; /* sorted by labels */
    size_t n;
} registry[METRICS_COUNT];

/* ---- labels ---- */

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

/* The labels' text; with other, every value is "other". */
static void put_labels(struct buf *to, enum metric metric, const char *const *values,
                       bool other)
{
    const char *names = table[metric].labels;

    buf_clear(to);
    for (size_t i = 0; *names && i < METRICS_MAX_LABELS; i++) {
        size_t n = strcspn(names, " ");

        if (i)
            buf_str(to, ",");
        buf_add(to, names, n);
        buf_str(to, "=\"");
        add_value(to, other || !values ? "other" : values[i]);
        buf_str(to, "\"");
        names += n + strspn(names + n, " ");
    }
}

/* ---- series ---- */

/* Where labels are, or belong. */
static size_t place_locked(enum metric metric, const char *labels, bool *ret_found)
{
    size_t low = 0, high = registry[metric].n;

    *ret_found = false;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int order = strcmp(labels, registry[metric].series[mid]->labels);

        if (order == 0) {
            *ret_found = true;
            return mid;
        }
        if (order < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

static struct series *insert_locked(enum metric metric, size_t at, const char *labels)
{
    size_t n = registry[metric].n;
    struct series **grown =
        realloc(registry[metric].series, (n + 1) * sizeof(struct series *));
    struct series *s;

    if (!grown)
        return NULL;
    registry[metric].series = grown;
    s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->labels = strdup(labels);
    if (!s->labels) {
        free(s);
        return NULL;
    }
    memmove(grown + at + 1, grown + at, (n - at) * sizeof(*grown));
    grown[at] = s;
    registry[metric].n = n + 1;
    return s;
}

static struct series *find_locked(enum metric metric, const char *const *values,
                                  bool make)
{
    AUTO_BUF labels = BUF_INIT(4096);
    bool found;
    size_t at;

    for (int other = 0; other < 2; other++) {
        put_labels(&labels, metric, values, other);
        if (buf_failed(&labels))
            continue;
        at = place_locked(metric, labels.data ? labels.data : "", &found);
        if (found)
            return registry[metric].series[at];
        if (!make)
            return NULL;
        /* The last place is kept for "other". */
        if (registry[metric].n < METRICS_MAX_SERIES - 1 || other)
            return insert_locked(metric, at, labels.data ? labels.data : "");
    }
    return NULL;
}

void metrics_add(enum metric metric, double delta, const char *const *labels)
{
    struct series *s;

    pthread_mutex_lock(&lock);
    s = find_locked(metric, labels, true);
    if (s)
        s->value += delta;
    pthread_mutex_unlock(&lock);
}

void metrics_set(enum metric metric, double value, const char *const *labels)
{
    struct series *s;

    pthread_mutex_lock(&lock);
    s = find_locked(metric, labels, true);
    if (s)
        s->value = value;
    pthread_mutex_unlock(&lock);
}

void metrics_observe(enum metric metric, double value, const char *const *labels)
{
    struct series *s;
    size_t i = 0;

    while (i < ARRAY_LEN(bounds) && value > bounds[i])
        i++;
    pthread_mutex_lock(&lock);
    s = find_locked(metric, labels, true);
    if (s) {
        s->value += value;
        s->buckets[i]++;
    }
    pthread_mutex_unlock(&lock);
}

double metrics_get(enum metric metric, const char *const *labels)
{
    const struct series *s;
    double value = 0;

    pthread_mutex_lock(&lock);
    s = find_locked(metric, labels, false);
    if (s && table[metric].kind == HISTOGRAM)
        for (size_t i = 0; i < N_BUCKETS; i++)
            value += (double)s->buckets[i];
    else if (s)
        value = s->value;
    pthread_mutex_unlock(&lock);
    return value;
}

/* ---- printing ---- */

static void add_number(struct buf *to, double value)
{
    char text[NUM_DOUBLE_CHARS];

    if (value == floor(value) && fabs(value) < 1e15)
        buf_printf(to, "%.0f", value);
    else
        buf_add(to, text, num_put_double(text, value));
}

static void add_sample(struct buf *to, const char *name, const char *suffix,
                       const char *labels, double value)
{
    buf_printf(to, "%s%s%s%s%s ", name, suffix, *labels ? "{" : "", labels,
               *labels ? "}" : "");
    add_number(to, value);
    buf_str(to, "\n");
}

static void add_histogram(struct buf *to, const char *name, const struct series *s)
{
    uint64_t n = 0;

    for (size_t i = 0; i < N_BUCKETS; i++) {
        n += s->buckets[i];
        buf_printf(to, "%s_bucket{%s%sle=\"", name, s->labels, *s->labels ? "," : "");
        if (i < ARRAY_LEN(bounds))
            add_number(to, bounds[i]);
        else
            buf_str(to, "+Inf");
        buf_printf(to, "\"} %llu\n", (unsigned long long)n);
    }
    add_sample(to, name, "_sum", s->labels, s->value);
    add_sample(to, name, "_count", s->labels, (double)n);
}

void metrics_print(struct buf *to)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram"};

    pthread_mutex_lock(&lock);
    for (size_t m = 0; m < METRICS_COUNT; m++) {
        buf_printf(to, "# HELP %s %s\n# TYPE %s %s\n", table[m].name, table[m].help,
                   table[m].name, kinds[table[m].kind]);
        if (registry[m].n == 0 && !*table[m].labels && table[m].kind != HISTOGRAM)
            add_sample(to, table[m].name, "", "", 0);
        for (size_t i = 0; i < registry[m].n; i++) {
            const struct series *s = registry[m].series[i];

            if (table[m].kind == HISTOGRAM)
                add_histogram(to, table[m].name, s);
            else
                add_sample(to, table[m].name, "", s->labels, s->value);
        }
    }
    pthread_mutex_unlock(&lock);
}

void metrics_reset(void)
{
    pthread_mutex_lock(&lock);
    for (size_t m = 0; m < METRICS_COUNT; m++) {
        for (size_t i = 0; i < registry[m].n; i++) {
            free(registry[m].series[i]->labels);
            free(registry[m].series[i]);
        }
        free(registry[m].series);
        registry[m].series = NULL;
        registry[m].n = 0;
    }
    pthread_mutex_unlock(&lock);
}
