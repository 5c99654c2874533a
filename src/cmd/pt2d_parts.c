#include "cmd/pt2d_parts.h"

#include "base/log.h"
#include "base/spawn.h"
#include "http/config.h"
#include "jobs/jobs.h"
#include "native/kernels.h"
#include "serve/ledger.h"
#include "serve/serve.h"
#include "store/models.h"
#include "store/objects.h"
#include "store/programs.h"
#include "store/sessions_db.h"
#include "store/store.h"
#include "store/uploads.h"

#include <errno.h>
#include <limits.h>
#include <sys/stat.h>

/* ---- store ---- */

static int start_store(struct app *app, struct pt2_err *err)
{
    return store_open(config_get_text(app->config, "daemon.state_dir"), &app->store, err);
}

static void done_store(struct app *app)
{
    store_free(app->store);
}

static int start_objects(struct app *app, struct pt2_err *err)
{
    return objects_open(config_get_text(app->config, "daemon.state_dir"), &app->objects,
                        err);
}

static void done_objects(struct app *app)
{
    objects_free(app->objects);
}

/* One that is not there may come later: the first upload makes it. */
static int check_models_dir(const char *dir, struct pt2_err *err)
{
    struct stat st;

    if (stat(dir, &st) == 0)
        return S_ISDIR(st.st_mode)
                   ? 0
                   : pt2_err_set(err, PT2_ERR_INVALID, "'%s' is no directory", dir);
    if (errno != ENOENT)
        return pt2_err_errno(err, PT2_ERR_INVALID, "'%s'", dir);
    log_warning("there is no models directory '%s' yet", dir);
    return 0;
}

/* Without a models directory of its own: the state's, and the bundled models. */
static int start_models(struct app *app, struct pt2_err *err)
{
    const char *dir = config_get_text(app->config, "daemon.models_dir");
    char path[PATH_MAX];

    if (*dir && check_models_dir(dir, err) < 0)
        return -1;
    if (*dir)
        return models_new(dir, NULL, &app->models, err);
    snprintf(path, sizeof(path), "%.*s/models", PATH_MAX - 8, store_dir(app->store));
    return models_new(path, PT2_PKGDATADIR "/models", &app->models, err);
}

static void done_models(struct app *app)
{
    models_free(app->models);
}

static int start_uploads(struct app *app, struct pt2_err *err)
{
    const struct uploads_limits limits = {
        .ttl_ms = config_get_ms(app->config, "models.upload_ttl"),
        .max_unfinished_bytes =
            config_get_size(app->config, "models.max_unfinished_bytes")};

    return uploads_new(app->models, app->store, &limits, &app->uploads, err);
}

static void give_up_uploads(struct app *app)
{
    uploads_stop(app->uploads);
}

static void done_uploads(struct app *app)
{
    uploads_free(app->uploads);
}

/* Those that try a program out are the first to be opened, and the compute threads that the
 * process has are as many as the first one asks for: so all engines have these. */
static struct pt2_engine_options engine_options(const struct config *config)
{
    return (struct pt2_engine_options){
        .n_threads = (unsigned)config_get_int(config, "engine.threads"),
        .max_step_bytes = config_get_size(config, "engine.max_step_bytes"),
        .step_timeout_s =
            (unsigned)((config_get_ms(config, "engine.step_timeout") + 999) / 1000)};
}

static int start_programs(struct app *app, struct pt2_err *err)
{
    const struct programs_options options = {
        .engine = engine_options(app->config),
        .engine_version = PACKAGE_VERSION,
        .max_store_bytes = config_get_size(app->config, "programs.max_store_bytes"),
        .keep_ms = config_get_ms(app->config, "programs.keep"),
    };

    return programs_new(app->store, app->objects, &options, &app->programs, err);
}

static void give_up_programs(struct app *app)
{
    programs_stop(app->programs);
}

static void done_programs(struct app *app)
{
    programs_free(app->programs);
}

/* ---- jobs ---- */

static int start_jobs(struct app *app, struct pt2_err *err)
{
    const struct jobs_parts parts = {.store = app->store,
                                     .objects = app->objects,
                                     .programs = app->programs,
                                     .models = app->models};
    struct jobs_options options = {
        .n_workers = (unsigned)config_get_int(app->config, "exports.workers"),
        .max_queued = (size_t)config_get_int(app->config, "exports.max_queued"),
        .timeout_ms = config_get_ms(app->config, "exports.timeout"),
        .max_memory_bytes = config_get_size(app->config, "exports.max_memory"),
        .engine = engine_options(app->config),
        .keep_ms = config_get_ms(app->config, "exports.keep"),
        .max_kept = config_get_int(app->config, "exports.max_kept"),
    };
    char export_path[PATH_MAX];

    if (spawn_find("pt2-export", PT2_BINDIR, export_path, sizeof(export_path), err) < 0)
        return -1;
    options.export_path = export_path;
    return jobs_new(&parts, &options, &app->jobs, err);
}

static void drain_jobs(struct app *app)
{
    jobs_drain(app->jobs);
}

static bool jobs_are_idle(const struct app *app)
{
    struct jobs_figures figures;

    jobs_figures(app->jobs, &figures);
    return figures.n_running == 0;
}

static void stop_jobs(struct app *app)
{
    jobs_stop(app->jobs, 0);
}

static void done_jobs(struct app *app)
{
    jobs_free(app->jobs);
}

/* ---- sessions ---- */

static int start_serve(struct app *app, struct pt2_err *err)
{
    static struct ledger ledger; /* the hooks' */
    const struct config *config = app->config;
    char saved_path[PATH_MAX];
    struct serve_options options = {
        .node = config_get_text(config, "sessions.node"),
        .max_cache_bytes = config_get_size(config, "sessions.max_cache_bytes"),
        .saved_path = saved_path,
        .temp = objects_temp(app->objects),
        .spill_bytes = config_get_size(config, "sessions.spill_bytes"),
        .persist = config_get_bool(config, "sessions.persist"),
        .max_sessions = (unsigned)config_get_int(config, "sessions.max_sessions"),
        .max_programs = (unsigned)config_get_int(config, "engine.max_programs"),
        .max_waiting = (unsigned)config_get_int(config, "sessions.max_waiting"),
        .max_waiting_all = (unsigned)config_get_int(config, "sessions.max_waiting_all"),
        .program_idle_ms = config_get_ms(config, "engine.idle"),
        .engine = engine_options(config),
        .hooks = ledger_hooks(&ledger),
    };

    snprintf(saved_path, sizeof(saved_path), "%.*s/sessions", PATH_MAX - 16,
             store_dir(app->store));
    ledger = (struct ledger){.store = app->store, .programs = app->programs};
    if (sessions_db_start(app->store, err) < 0)
        return -1;
    return serve_new(&options, &app->serve, err);
}

static void drain_serve(struct app *app)
{
    serve_drain(app->serve);
}

static bool serve_part_is_idle(const struct app *app)
{
    return serve_is_idle(app->serve);
}

static void stop_serve(struct app *app)
{
    serve_stop(app->serve, 0);
}

static void done_serve(struct app *app)
{
    serve_free(app->serve);
}

/* ---- native kernels: nothing to start, but $PT2_ISA may name none ---- */

static int start_kernels(struct app *app, struct pt2_err *err)
{
    const struct kernels *kernels;

    (void)app;
    if (kernels_choose(&kernels, err) < 0)
        return -1;
    log_info("native steps use the kernels '%s'", kernels->name);
    return 0;
}

/* ---- all of them ---- */

static const struct part parts[] = {
    {.name = "kernels", .start = start_kernels},
    {.name = "store", .start = start_store, .done = done_store},
    {.name = "objects", .start = start_objects, .done = done_objects},
    {.name = "models", .start = start_models, .done = done_models},
    {.name = "uploads",
     .start = start_uploads,
     .give_up = give_up_uploads,
     .done = done_uploads},
    {.name = "programs",
     .start = start_programs,
     .give_up = give_up_programs,
     .done = done_programs},
    {.name = "jobs",
     .start = start_jobs,
     .drain = drain_jobs,
     .is_idle = jobs_are_idle,
     .stop = stop_jobs,
     .done = done_jobs},
    {.name = "sessions",
     .start = start_serve,
     .drain = drain_serve,
     .is_idle = serve_part_is_idle,
     .stop = stop_serve,
     .done = done_serve},
};

static size_t n_started;

int parts_start(struct app *app, struct pt2_err *err)
{
    for (n_started = 0; n_started < ARRAY_LEN(parts); n_started++) {
        if (parts[n_started].start(app, err) < 0) {
            pt2_err_prefix(err, "%s", parts[n_started].name);
            parts_stop(app);
            parts_done(app);
            return -1;
        }
    }
    return 0;
}

void parts_drain(struct app *app)
{
    for (size_t i = n_started; i-- > 0;)
        if (parts[i].drain)
            parts[i].drain(app);
}

bool parts_are_idle(const struct app *app)
{
    for (size_t i = 0; i < n_started; i++)
        if (parts[i].is_idle && !parts[i].is_idle(app))
            return false;
    return true;
}

void parts_touch(const struct app *app)
{
    for (size_t i = 0; i < n_started; i++)
        if (parts[i].is_idle)
            (void)parts[i].is_idle(app);
}

void parts_stop(struct app *app)
{
    for (size_t i = 0; i < n_started; i++)
        if (parts[i].give_up)
            parts[i].give_up(app);
    for (size_t i = n_started; i-- > 0;)
        if (parts[i].stop)
            parts[i].stop(app);
}

void parts_done(struct app *app)
{
    while (n_started-- > 0)
        if (parts[n_started].done)
            parts[n_started].done(app);
    n_started = 0;
}
