#include "suite.h"

#include "base/metrics.h"
#include "base/recent.h"

#include <pthread.h>

#define S ((int64_t)1000000000)

static void setup(void)
{
    metrics_reset();
}

static char *printed(void)
{
    static struct buf text;

    buf_done(&text);
    buf_init(&text, 16 << 20);
    metrics_print(&text);
    buf_add(&text, "", 1);
    ck_assert(!buf_failed(&text));
    return text.data;
}

static size_t count(const char *text, const char *what)
{
    size_t n = 0;

    while ((text = strstr(text, what))) {
        n++;
        text++;
    }
    return n;
}

/* ---- core ---- */

START_TEST(test_metrics_without_labels_are_printed_before_they_are_seen)
{
    char *text = printed();

    ck_assert_ptr_nonnull(strstr(text, "\npt2d_sessions 0\n"));
    ck_assert_ptr_nonnull(strstr(text, "\npt2d_step_queue_seconds_count 0\n"));
    ck_assert_ptr_nonnull(strstr(text, "pt2d_step_queue_seconds_bucket{le=\"+Inf\"} 0\n"));
    ck_assert_ptr_null(strstr(text, "\npt2d_steps_total{"));
}
END_TEST

START_TEST(test_metrics_add_and_set)
{
    metrics_add(METRIC_STEPS, 1, METRICS_LABELS("ok"));
    metrics_add(METRIC_STEPS, 2.5, METRICS_LABELS("ok"));
    metrics_add(METRIC_STEPS, 1, METRICS_LABELS("failed"));
    metrics_set(METRIC_SESSIONS, 7, NULL);
    metrics_set(METRIC_SESSIONS, 4, NULL);
    metrics_add(METRIC_SESSIONS, -1, NULL);
    ck_assert_double_eq(metrics_get(METRIC_STEPS, METRICS_LABELS("ok")), 3.5);
    ck_assert_double_eq(metrics_get(METRIC_STEPS, METRICS_LABELS("refused")), 0);
    ck_assert_double_eq(metrics_get(METRIC_SESSIONS, NULL), 3);
    ck_assert_ptr_nonnull(strstr(printed(), "\npt2d_steps_total{result=\"failed\"} 1\n"
                                            "pt2d_steps_total{result=\"ok\"} 3.5\n"));
}
END_TEST

START_TEST(test_metrics_labels_are_told_apart_and_escaped)
{
    metrics_add(METRIC_HTTP_REQUESTS, 1, METRICS_LABELS("a", "bc", "d"));
    metrics_add(METRIC_HTTP_REQUESTS, 2, METRICS_LABELS("ab", "c", "d"));
    metrics_add(METRIC_HTTP_REQUESTS, 3, METRICS_LABELS("\\\"\n", "", "d"));
    ck_assert_double_eq(metrics_get(METRIC_HTTP_REQUESTS, METRICS_LABELS("a", "bc", "d")),
                        1);
    ck_assert_double_eq(metrics_get(METRIC_HTTP_REQUESTS, METRICS_LABELS("ab", "c", "d")),
                        2);
    ck_assert_ptr_nonnull(strstr(
        printed(), "{route=\"\\\\\\\"\\n\",method=\"\",status=\"d\"} 3\n"));
}
END_TEST

START_TEST(test_metrics_histograms_count_what_is_at_most_the_bound)
{
    char *text;

    metrics_observe(METRIC_BATCH_ROWS, 1, NULL);
    metrics_observe(METRIC_BATCH_ROWS, 2, NULL);
    metrics_observe(METRIC_BATCH_ROWS, 3, NULL);
    metrics_observe(METRIC_BATCH_ROWS, 5000, NULL);
    text = printed();
    ck_assert_double_eq(metrics_get(METRIC_BATCH_ROWS, NULL), 4);
    ck_assert_ptr_nonnull(strstr(text, "pt2d_step_batch_rows_bucket{le=\"1\"} 1\n"
                                       "pt2d_step_batch_rows_bucket{le=\"2\"} 2\n"
                                       "pt2d_step_batch_rows_bucket{le=\"4\"} 3\n"));
    ck_assert_ptr_nonnull(strstr(text, "pt2d_step_batch_rows_bucket{le=\"1024\"} 3\n"
                                       "pt2d_step_batch_rows_bucket{le=\"+Inf\"} 4\n"
                                       "pt2d_step_batch_rows_sum 5006\n"
                                       "pt2d_step_batch_rows_count 4\n"));
}
END_TEST

START_TEST(test_metrics_quantiles_lie_within_the_bucket)
{
    ck_assert_double_eq(metrics_quantile(METRIC_BATCH_ROWS, NULL, 0.5), 0);
    for (int i = 0; i < 100; i++)
        metrics_observe(METRIC_BATCH_ROWS, i < 90 ? 3 : 700, NULL);
    ck_assert_double_eq(metrics_quantile(METRIC_BATCH_ROWS, NULL, 0.45), 3);
    ck_assert_double_eq(metrics_quantile(METRIC_BATCH_ROWS, NULL, 0.95), 768);
    for (int i = 0; i < 1000; i++)
        metrics_observe(METRIC_BATCH_ROWS, 4000, NULL);
    ck_assert_double_eq(metrics_quantile(METRIC_BATCH_ROWS, NULL, 0.99), 1024);
}
END_TEST

static void sum_up(void *ctx, const char *const *values)
{
    *(double *)ctx += metrics_get(METRIC_SESSIONS_ENDED, values);
}

START_TEST(test_metrics_each_series_is_visited)
{
    double sum = 0;

    metrics_each(METRIC_SESSIONS_ENDED, sum_up, &sum);
    ck_assert_double_eq(sum, 0);
    metrics_add(METRIC_SESSIONS_ENDED, 3, METRICS_LABELS("expired"));
    metrics_add(METRIC_SESSIONS_ENDED, 4, METRICS_LABELS("deleted"));
    metrics_each(METRIC_SESSIONS_ENDED, sum_up, &sum);
    ck_assert_double_eq(sum, 7);
}
END_TEST

/* ---- limits ---- */

START_TEST(test_metrics_series_beyond_the_limit_are_others)
{
    char name[16];

    for (int i = 0; i < METRICS_MAX_SERIES + 100; i++) {
        snprintf(name, sizeof(name), "%d", i);
        metrics_add(METRIC_STEPS, 1, METRICS_LABELS(name));
    }
    ck_assert_uint_eq(count(printed(), "\npt2d_steps_total{"), METRICS_MAX_SERIES);
    ck_assert_double_eq(metrics_get(METRIC_STEPS, METRICS_LABELS("other")), 101);
    ck_assert_double_eq(metrics_get(METRIC_STEPS, METRICS_LABELS("510")), 1);
    ck_assert_double_eq(metrics_get(METRIC_STEPS, METRICS_LABELS("511")), 0);
}
END_TEST

#define N_THREADS 4
#define N_ROUNDS  20000

static void *hammer(void *arg)
{
    char name[16];

    for (int i = 0; i < N_ROUNDS; i++) {
        snprintf(name, sizeof(name), "%d", i % 300);
        metrics_add(METRIC_STEPS, 1, METRICS_LABELS(name));
        metrics_add(METRIC_SESSIONS, i % 2 ? 1 : -1, NULL);
        metrics_observe(METRIC_STEP_QUEUE, 0.5, NULL);
    }
    return arg;
}

START_TEST(test_metrics_of_many_threads_lose_nothing)
{
    pthread_t threads[N_THREADS];
    double sum = 0;
    char name[16];

    for (int i = 0; i < N_THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, hammer, NULL), 0);
    for (int i = 0; i < 20; i++)
        printed(); /* meanwhile */
    for (int i = 0; i < N_THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 300; i++) {
        snprintf(name, sizeof(name), "%d", i);
        sum += metrics_get(METRIC_STEPS, METRICS_LABELS(name));
    }
    ck_assert_double_eq(sum, N_THREADS * N_ROUNDS);
    ck_assert_double_eq(metrics_get(METRIC_SESSIONS, NULL), 0);
    ck_assert_double_eq(metrics_get(METRIC_STEP_QUEUE, NULL), N_THREADS * N_ROUNDS);
    ck_assert_ptr_nonnull(strstr(printed(), "pt2d_step_queue_seconds_sum 40000\n"));
}
END_TEST

/* ---- recent ---- */

START_TEST(test_recent_is_the_last_minute)
{
    struct recent *recent = calloc(1, sizeof(*recent));
    double rate, quantiles[RECENT_QUANTILES];

    recent_read(recent, 1000 * S, &rate, quantiles);
    ck_assert_double_eq(rate, 0);
    ck_assert_double_eq(quantiles[1], 0);
    for (int i = 0; i < 120; i++)
        recent_add(recent, (1000 + i) * S, i < 60 ? 100 : i);
    recent_read(recent, 1119 * S, &rate, quantiles);
    ck_assert_double_eq(rate, 1);
    ck_assert_double_eq(quantiles[0], 89);
    ck_assert_double_eq(quantiles[1], 113);
    ck_assert_double_eq(quantiles[2], 118);
    recent_read(recent, 1149 * S, &rate, quantiles);
    ck_assert_double_eq(rate, 0.5);
    ck_assert_double_eq(quantiles[0], 104);
    recent_read(recent, 1300 * S, &rate, quantiles);
    ck_assert_double_eq(rate, 0);
    ck_assert_double_eq(quantiles[2], 0);
    free(recent);
}
END_TEST

START_TEST(test_recent_counts_more_than_it_keeps)
{
    struct recent *recent = calloc(1, sizeof(*recent));
    double rate, quantiles[RECENT_QUANTILES];

    for (int i = 0; i < 60000; i++)
        recent_add(recent, 5000 * S + i * (S / 1000), i < 50000 ? 1 : 2);
    recent_read(recent, 5059 * S + S / 2, &rate, quantiles);
    ck_assert_double_eq(rate, 1000);
    ck_assert_double_eq(quantiles[0], 2);
    free(recent);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("metrics");
    TCase *core = tcase_create("core"), *limits = tcase_create("limits"),
          *recent = tcase_create("recent");

    tcase_add_checked_fixture(core, setup, NULL);
    tcase_add_test(core, test_metrics_without_labels_are_printed_before_they_are_seen);
    tcase_add_test(core, test_metrics_add_and_set);
    tcase_add_test(core, test_metrics_labels_are_told_apart_and_escaped);
    tcase_add_test(core, test_metrics_histograms_count_what_is_at_most_the_bound);
    tcase_add_test(core, test_metrics_quantiles_lie_within_the_bucket);
    tcase_add_test(core, test_metrics_each_series_is_visited);
    suite_add_tcase(suite, core);
    tcase_add_checked_fixture(limits, setup, NULL);
    tcase_set_timeout(limits, 60);
    tcase_add_test(limits, test_metrics_series_beyond_the_limit_are_others);
    tcase_add_test(limits, test_metrics_of_many_threads_lose_nothing);
    suite_add_tcase(suite, limits);
    tcase_add_test(recent, test_recent_is_the_last_minute);
    tcase_add_test(recent, test_recent_counts_more_than_it_keeps);
    suite_add_tcase(suite, recent);
    return suite_run(suite);
}
