#include "base/metrics.h"
#include "serve/impl.h"

void figures_init(const struct serve *serve)
{
    static const char *const results[] = {"ok", "failed", "refused"};

    metrics_set(METRIC_SESSIONS_LIMIT, serve->options.max_sessions, NULL);
    metrics_set(METRIC_SESSION_CACHE_LIMIT, (double)serve->options.max_cache_bytes, NULL);
    metrics_set(METRIC_PROGRAMS_OPEN_LIMIT, serve->options.max_programs, NULL);
    metrics_set(METRIC_CALLS_LIMIT, serve->options.max_waiting_all, NULL);
    metrics_add(METRIC_CALLS_REFUSED, 0, METRICS_LABELS("session"));
    metrics_add(METRIC_CALLS_REFUSED, 0, METRICS_LABELS("all"));
    metrics_add(METRIC_SESSIONS_REFUSED, 0, METRICS_LABELS("sessions"));
    metrics_add(METRIC_SESSIONS_REFUSED, 0, METRICS_LABELS("memory"));
    metrics_add(METRIC_SESSIONS_REFUSED, 0, METRICS_LABELS("programs"));
    /* So that the first one of a kind is an increase. */
    for (size_t i = 0; i < ARRAY_LEN(results); i++)
        metrics_add(METRIC_STEPS, 0, METRICS_LABELS(results[i]));
}

void figures_publish_locked(const struct serve *serve)
{
    metrics_set(METRIC_SESSIONS, serve->n_sessions, NULL);
    metrics_set(METRIC_SESSION_CACHE_BYTES, (double)serve->cache_bytes, NULL);
    metrics_set(METRIC_SESSIONS_SPILLED, serve->n_away, NULL);
    metrics_set(METRIC_SESSION_SPILLED_BYTES, (double)serve->spill_bytes, NULL);
}

void figures_label_locked(struct serve *serve, const char *program,
                          char ret_label[SERVE_LABEL_SIZE])
{
    unsigned i = 0;

    snprintf(ret_label, SERVE_LABEL_SIZE, "%.12s", program);
    while (i < serve->n_labels && !streq(serve->labels[i], ret_label))
        i++;
    if (i < serve->n_labels)
        return;
    if (i < SERVE_MAX_LABELS)
        memcpy(serve->labels[serve->n_labels++], ret_label, SERVE_LABEL_SIZE);
    else
        snprintf(ret_label, SERVE_LABEL_SIZE, "other");
}

/* ---- steps ---- */

/* The session is there: the call ran, and the thread of its program is this one. */
static void count_good(struct serve *serve, const struct serve_call *call)
{
    const struct session *s = call->session;
    const char *label = s->runner->label;
    bool is_generated = call->step.s == 1 && call->start > 0;
    double run_s = (double)call->run_ns / 1e9, queue_s = (double)call->queue_ns / 1e9;

    metrics_add(METRIC_STEP_TOKENS, (double)(call->step.s * s->facts.batch_size),
                METRICS_LABELS(label, is_generated ? "generated" : "prompt"));
    metrics_observe(METRIC_STEP_QUEUE, queue_s, NULL);
    metrics_observe(METRIC_STEP_RUN, run_s, METRICS_LABELS(label));
    pthread_mutex_lock(&serve->lock);
    recent_add(&serve->recent, clock_mono_ns(), queue_s + run_s);
    pthread_mutex_unlock(&serve->lock);
}

void figures_step(struct serve *serve, const struct serve_call *call)
{
    const char *result = call->err.code == PT2_ERR_NONE ? "ok"
                         : call->begun_ns == 0          ? "refused"
                                                        : "failed";

    metrics_add(METRIC_STEPS, 1, METRICS_LABELS(result));
    if (call->err.code == PT2_ERR_NONE)
        count_good(serve, call);
}

void figures_batch(const struct batch *batch)
{
    metrics_observe(METRIC_BATCH_STEPS, (double)batch->n, NULL);
    metrics_observe(METRIC_BATCH_ROWS, (double)batch->n_rows, NULL);
}

/* ---- statistics ---- */

void serve_figures(struct serve *serve, struct serve_figures *ret_figures)
{
    struct serve_figures f = {
        .max_sessions = serve->options.max_sessions,
        .max_cache_bytes = serve->options.max_cache_bytes,
        .n_waiting = (unsigned)metrics_get(METRIC_CALLS_WAITING, NULL),
        .n_running = (unsigned)metrics_get(METRIC_CALLS_RUNNING, NULL),
        .max_programs = serve->options.max_programs,
    };
    struct recent recent;

    pthread_mutex_lock(&serve->lock);
    f.n_sessions = serve->n_sessions;
    f.cache_bytes = serve->cache_bytes;
    for (const struct runner *r = serve->runners; r; r = r->next)
        f.n_programs++;
    recent = serve->recent; /* sorted without the lock */
    pthread_mutex_unlock(&serve->lock);
    recent_read(&recent, clock_mono_ns(), &f.steps_per_second, f.step_seconds);
    *ret_figures = f;
}

static void describe_locked(const struct runner *r, struct serve_program *ret)
{
    memcpy(ret->program, r->program, sizeof(ret->program));
    memcpy(ret->label, r->label, sizeof(ret->label));
    ret->engine = r->kind;
    ret->n_sessions = r->n_sessions;
    ret->cache_bytes = r->cache_bytes;
    for (const struct session *s = r->ready; s; s = s->next_ready)
        ret->n_ready++;
}

int serve_programs(struct serve *serve, struct serve_program **ret, size_t *ret_n,
                   struct pt2_err *err)
{
    size_t n = 0, max = (size_t)serve->options.max_programs + 1;
    struct serve_program *list = calloc(max, sizeof(*list));

    if (!list)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory to list open programs");
    pthread_mutex_lock(&serve->lock);
    for (const struct runner *r = serve->runners; r && n < max; r = r->next)
        describe_locked(r, &list[n++]);
    pthread_mutex_unlock(&serve->lock);
    *ret = list;
    *ret_n = n;
    return 0;
}
