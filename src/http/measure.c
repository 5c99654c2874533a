#include "http/measure.h"

#include "base/clock.h"
#include "base/metrics.h"
#include "http/config.h"
#include "http/server.h"
#include "jobs/jobs.h"
#include "store/aliases_db.h"
#include "store/idempotency_db.h"
#include "store/unfinished.h"

#include <dirent.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <time.h>

/* ---- the process ---- */

static double count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    double n = -3; /* ".", ".." and the directory's own */

    if (!dir)
        return 0;
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static void measure_memory(void)
{
    AUTO_FILE FILE *file = fopen("/proc/self/statm", "re");
    double page = (double)sysconf(_SC_PAGESIZE);
    unsigned long long total, resident;

    if (!file || fscanf(file, "%llu %llu", &total, &resident) != 2)
        return;
    metrics_set(METRIC_PROCESS_VIRTUAL, (double)total * page, NULL);
    metrics_set(METRIC_PROCESS_MEMORY, (double)resident * page, NULL);
}

/* Field 22 of /proc/self/stat (proc(5)) is in ticks since the machine's start; the second
 * field is the name in brackets, which may hold anything. */
static double start_time(void)
{
    AUTO_FILE FILE *file = fopen("/proc/self/stat", "re");
    char text[1024] = "";
    struct timespec now, up;
    unsigned long long ticks;
    const char *at;

    if (!file || !fgets(text, sizeof(text), file) || !(at = strrchr(text, ')')) ||
        sscanf(at, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d "
                   "%*d %*d %llu", &ticks) != 1)
        return 0;
    clock_gettime(CLOCK_REALTIME, &now);
    clock_gettime(CLOCK_BOOTTIME, &up);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9 - (double)up.tv_sec -
           (double)up.tv_nsec / 1e9 + (double)ticks / (double)sysconf(_SC_CLK_TCK);
}

void measure_process(void)
{
    struct rusage usage;
    struct rlimit files;

    getrusage(RUSAGE_SELF, &usage);
    metrics_set(METRIC_PROCESS_CPU,
                (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                    (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6,
                NULL);
    measure_memory();
    metrics_set(METRIC_PROCESS_FDS, count_fds(), NULL);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0)
        metrics_set(METRIC_PROCESS_MAX_FDS, (double)files.rlim_cur, NULL);
    if (metrics_get(METRIC_PROCESS_START, NULL) <= 0)
        metrics_set(METRIC_PROCESS_START, start_time(), NULL);
    metrics_set(METRIC_BUILD_INFO, 1, METRICS_LABELS(PACKAGE_VERSION));
}

/* ---- the parts ---- */

static void count_store(const struct app *app)
{
    uint64_t bytes;
    int64_t n;

    if (programs_count(app->programs, &n, NULL) == 0)
        metrics_set(METRIC_STORE_PROGRAMS, (double)n, NULL);
    if (objects_usage(app->objects, &bytes, NULL) == 0)
        metrics_set(METRIC_STORE_BYTES, (double)bytes, METRICS_LABELS("objects"));
    metrics_set(METRIC_STORE_BYTES, (double)store_bytes(app->store),
                METRICS_LABELS("database"));
}

static void count_rows(const struct app *app)
{
    int64_t n;

    if (idempotency_db_count(app->store, &n, NULL) == 0)
        metrics_set(METRIC_IDEMPOTENCY_KEYS, (double)n, NULL);
    if (aliases_db_count(app->store, &n, NULL) == 0)
        metrics_set(METRIC_ALIASES, (double)n, NULL);
}

static void count_unfinished(const struct app *app)
{
    struct unfinished_figures unfinished;

    if (unfinished_measure(app->uploads, &unfinished, NULL) < 0)
        return;
    metrics_set(METRIC_UNFINISHED, (double)unfinished.n, NULL);
    metrics_set(METRIC_UNFINISHED_BYTES, (double)unfinished.bytes, NULL);
}

static void set_limits(const struct app *app)
{
    const struct config *config = app->config;

    metrics_set(METRIC_IDEMPOTENCY_LIMIT,
                (double)config_get_int(config, "http.max_idempotency_keys"), NULL);
    metrics_set(METRIC_ALIASES_LIMIT,
                (double)config_get_int(config, "programs.max_aliases"), NULL);
    metrics_set(METRIC_UNFINISHED_LIMIT,
                (double)config_get_size(config, "models.max_unfinished_bytes"), NULL);
}

static atomic_bool is_measuring;
static atomic_int_fast64_t measured_ms; /* monotonic; 0: not yet */

static void measure_aside(void *arg, bool is_stopping)
{
    if (!is_stopping) {
        set_limits(arg);
        count_store(arg);
        count_rows(arg);
        count_unfinished(arg);
    }
    atomic_store(&measured_ms, clock_mono_ms());
    atomic_store(&is_measuring, false);
}

static bool is_due(void)
{
    int64_t last = atomic_load(&measured_ms);

    return last == 0 || clock_mono_ms() - last >= MEASURE_STORE_MS;
}

void measure_store(const struct app *app)
{
    if (is_due() && !atomic_exchange(&is_measuring, true))
        measure_aside((void *)(uintptr_t)app, /* is_stopping= */ false);
}

/* One at a time. */
static void measure_store_soon(const struct app *app)
{
    if (is_due() && !atomic_exchange(&is_measuring, true) &&
        !http_server_run(app->server, measure_aside, (void *)(uintptr_t)app))
        atomic_store(&is_measuring, false);
}

void measure_parts(const struct app *app)
{
    struct jobs_figures jobs;
    uint64_t bytes;

    if (http_server_state(app->server) == HTTP_STARTING)
        return;
    jobs_figures(app->jobs, &jobs);
    metrics_set(METRIC_JOBS_QUEUED, (double)jobs.n_queued, NULL);
    metrics_set(METRIC_JOBS_OLDEST, (double)jobs.oldest_queued_ms / 1000, NULL);
    metrics_set(METRIC_JOB_WORKERS_BUSY, (double)jobs.n_running, NULL);
    if (store_free_bytes(app->store, &bytes, NULL) == 0)
        metrics_set(METRIC_STORE_FREE, (double)bytes, NULL);
    measure_store_soon(app);
}
