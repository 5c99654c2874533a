/* GET /v1/stats: what metrics say, as one object for people and gateways. */
#include "http/endpoints.h"
#include "http/measure.h"
#include "http/reply.h"
#include "http/server.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/metrics.h"
#include "jobs/jobs.h"
#include "serve/serve.h"
#include "store/programs.h"

/* ---- numbers ---- */

static json_t *whole(double value)
{
    return json_integer((json_int_t)value);
}

static json_t *gauge(enum metric metric)
{
    return whole(metrics_get(metric, NULL));
}

static json_t *counter(enum metric metric, const char *label)
{
    return whole(metrics_get(metric, METRICS_LABELS(label)));
}

/* ---- the daemon ---- */

static json_t *time_json(double unix_s)
{
    char text[CLOCK_TEXT_SIZE];

    clock_to_text((int64_t)(unix_s * 1000), text);
    return json_string(text);
}

static json_t *process_json(void)
{
    return json_pack("{s:o, s:o, s:o, s:f, s:o, s:o}", "resident_bytes",
                     gauge(METRIC_PROCESS_MEMORY), "open_fds", gauge(METRIC_PROCESS_FDS),
                     "max_fds", gauge(METRIC_PROCESS_MAX_FDS), "cpu_seconds",
                     metrics_get(METRIC_PROCESS_CPU, NULL), "connections",
                     gauge(METRIC_HTTP_CONNECTIONS), "requests_active",
                     gauge(METRIC_HTTP_ACTIVE));
}

/* ---- exports ---- */

static json_t *queue_json(const struct app *app)
{
    struct jobs_figures f;

    jobs_figures(app->jobs, &f);
    return json_pack("{s:I, s:I, s:f, s:I, s:I}", "queued", (json_int_t)f.n_queued,
                     "limit", (json_int_t)f.max_queued, "oldest_seconds",
                     (double)f.oldest_queued_ms / 1000, "running",
                     (json_int_t)f.n_running, "workers", (json_int_t)f.max_running);
}

static json_t *jobs_json(const struct app *app, struct pt2_err *err)
{
    int64_t n[JOB_N_STATES];
    json_t *json;

    if (jobs_states(app->jobs, n, err) < 0)
        return NULL;
    json = json_object();
    for (int i = 0; i < JOB_N_STATES; i++)
        json_object_set_new(json, job_state_name((enum job_state)i), json_integer(n[i]));
    return json;
}

/* ---- sessions and steps ---- */

static json_t *sessions_json(const struct serve_figures *f)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:o, s:o}", "count", (json_int_t)f->n_sessions,
                     "limit", (json_int_t)f->max_sessions, "cache_bytes",
                     (json_int_t)f->cache_bytes, "cache_limit_bytes",
                     (json_int_t)f->max_cache_bytes, "expired",
                     counter(METRIC_SESSIONS_ENDED, "expired"), "deleted",
                     counter(METRIC_SESSIONS_ENDED, "deleted"));
}

static json_t *quantiles_json(const struct serve_figures *f)
{
    if (f->steps_per_second <= 0)
        return json_null();
    return json_pack("{s:f, s:f, s:f}", "p50", f->step_seconds[0], "p90",
                     f->step_seconds[1], "p99", f->step_seconds[2]);
}

static json_t *steps_json(const struct serve_figures *f)
{
    return json_pack("{s:o, s:o, s:o, s:f, s:o, s:I, s:I}", "ok",
                     counter(METRIC_STEPS, "ok"), "failed",
                     counter(METRIC_STEPS, "failed"), "refused",
                     counter(METRIC_STEPS, "refused"), "per_second", f->steps_per_second,
                     "seconds", quantiles_json(f), "waiting", (json_int_t)f->n_waiting,
                     "running", (json_int_t)f->n_running);
}

static void add_program(void *ctx, const char *const *label)
{
    double n = metrics_get(METRIC_STEP_RUN, label);

    json_array_append_new(
        ctx, json_pack("{s:s, s:o, s:o, s:o, s:{s:f, s:f, s:f}}", "program", label[0],
                       "steps", whole(n), "prompt_tokens",
                       whole(metrics_get(METRIC_STEP_TOKENS,
                                         METRICS_LABELS(label[0], "prompt"))),
                       "generated_tokens",
                       whole(metrics_get(METRIC_STEP_TOKENS,
                                         METRICS_LABELS(label[0], "generated"))),
                       "run_seconds", "p50",
                       metrics_quantile(METRIC_STEP_RUN, label, 0.5), "p90",
                       metrics_quantile(METRIC_STEP_RUN, label, 0.9), "p99",
                       metrics_quantile(METRIC_STEP_RUN, label, 0.99)));
}

static json_t *stepped_json(void)
{
    json_t *list = json_array();

    metrics_each(METRIC_STEP_RUN, add_program, list);
    return list;
}

/* ---- programs ---- */

static json_t *programs_json(const struct app *app, const struct serve_figures *f,
                             struct pt2_err *err)
{
    int64_t n;

    if (programs_count(app->programs, &n, err) < 0)
        return NULL;
    return json_pack("{s:I, s:I, s:I}", "count", (json_int_t)n, "open",
                     (json_int_t)f->n_programs, "open_limit",
                     (json_int_t)f->max_programs);
}

static json_t *engines_json(const struct app *app, struct pt2_err *err)
{
    struct serve_program *list;
    json_t *engines;
    size_t n;

    if (serve_programs(app->serve, &list, &n, err) < 0)
        return NULL;
    engines = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(
            engines,
            json_pack("{s:s, s:s, s:I, s:I, s:I}", "program", list[i].program, "engine",
                      list[i].engine == PT2_ENGINE_AUTO
                          ? "opening"
                          : pt2_engine_kind_name(list[i].engine),
                      "sessions", (json_int_t)list[i].n_sessions, "ready",
                      (json_int_t)list[i].n_ready, "cache_bytes",
                      (json_int_t)list[i].cache_bytes));
    free(list);
    return engines;
}

static json_t *disk_json(const struct app *app, struct pt2_err *err)
{
    uint64_t free_bytes;

    if (store_free_bytes(app->store, &free_bytes, err) < 0)
        return NULL;
    return json_pack("{s:o, s:o, s:I}", "objects_bytes",
                     counter(METRIC_STORE_BYTES, "objects"), "database_bytes",
                     counter(METRIC_STORE_BYTES, "database"), "free_bytes",
                     (json_int_t)free_bytes);
}

/* ---- all of it ---- */

static json_t *stats_json(const struct app *app, struct pt2_err *err)
{
    double started = metrics_get(METRIC_PROCESS_START, NULL);
    const size_t shortages = json_shortages();
    struct serve_figures f;
    json_auto_t *json = NULL;

    serve_figures(app->serve, &f);
    json = json_pack(
        "{s:s, s:o, s:f, s:o, s:o, s:o, s:o}", "version", PACKAGE_VERSION, "started",
        time_json(started), "uptime", (double)clock_unix_ms() / 1000 - started, "process",
        process_json(), "queue", queue_json(app), "sessions", sessions_json(&f), "steps",
        steps_json(&f));
    json_object_set_new(json, "stepped_programs", stepped_json());
    if (json_object_set_new(json, "jobs", jobs_json(app, err)) < 0 ||
        json_object_set_new(json, "programs", programs_json(app, &f, err)) < 0 ||
        json_object_set_new(json, "engines", engines_json(app, err)) < 0 ||
        json_object_set_new(json, "disk", disk_json(app, err)) < 0 ||
        json_shortages() != shortages) {
        pt2_err_set(err, PT2_ERR_NOMEM, "no memory for statistics");
        return NULL;
    }
    return TAKE(json);
}

void stats_get(struct http_request *req)
{
    struct pt2_err err = {0};
    json_t *json;

    measure_process();
    measure_store(req->app);
    json = stats_json(req->app, &err);
    if (json)
        http_reply_json(req, 200, json);
    else
        http_reply_err(req, &err);
}
