/* metrics.h - numbers for the operator: counters, gauges and histograms, in one registry.
 *
 * Every metric is a line of tbl_metrics.h.  A metric with labels has a series for each
 * combination of their values that was seen, at most METRICS_MAX_SERIES; what comes after
 * is counted with the value "other" in every label, so that clients cannot make the
 * registry grow.  Printed by GET /metrics.
 *
 *     metrics_add(METRIC_HTTP_REQUESTS, 1, METRICS_LABELS(route, "200"));
 *     metrics_set(METRIC_SESSIONS, n, NULL);
 *
 * Any thread, also where it must not wait: a series that is there is found by a hash and
 * changed by atomic operations; a lock is taken when one is made, and only then.  Nothing
 * here fails: out of memory loses a series. */
#ifndef BASE_METRICS_H
#define BASE_METRICS_H

#include "base/buf.h"

enum metric {
#define METRIC(id, kind, name, labels, help) METRIC_##id,
#include "base/tbl_metrics.h"
#undef METRIC
    METRICS_COUNT
};

#define METRICS_MAX_SERIES 512 /* of one metric */
#define METRICS_MAX_LABELS 3

/* The values of the metric's labels in their order; NULL for a metric without. */
#define METRICS_LABELS(...) ((const char *const[]){__VA_ARGS__})

void metrics_add(enum metric metric, double delta,
                 const char *const *labels); /* counter, gauge */
void metrics_set(enum metric metric, double value, const char *const *labels); /* gauge */
void metrics_observe(enum metric metric, double value,
                     const char *const *labels); /* histogram */
/* The value now; of a histogram the number of observations.  0 where none was seen. */
double metrics_get(enum metric metric, const char *const *labels);

/* Where that part (0 to 1) of a histogram's observations lies below, as far as its buckets
 * tell: within one evenly spread; beyond the last bound that bound.  0 where none was seen. */
double metrics_quantile(enum metric metric, const char *const *labels, double part);
/* fn for each series of a metric with labels, in no order; values are the labels', borrowed
 * for good.  fn may call all of the above. */
void metrics_each(enum metric metric, void (*fn)(void *ctx, const char *const *values),
                  void *ctx);

/* Prometheus' text format, version 0.0.4: metrics in the table's order, series sorted. */
void metrics_print(struct buf *to);
/* Forget every series (tests, with one thread). */
void metrics_reset(void);

#endif
