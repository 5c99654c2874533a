#include "store/program_checks.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "store/programs_db.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

#define REASON_SIZE   480
#define RETRY_AFTER_S 5 /* the database did not answer */
#define VERSION_SIZE  128
#define MOST_WAITING  2 /* threads, which others need too */

struct program_checks {
    struct store *store;
    struct objects *objects;
    struct whole_state *whole;
    struct pt2_engine_options engine;
    char version[VERSION_SIZE];
    char passing[VERSION_SIZE + 32]; /* of verdicts that hold until the next start */
    pthread_t thread;
    bool is_started;
    atomic_int n_waiting;
    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t changed;
    bool is_stopping, has_work;
    uint64_t n_done; /* verdicts written */
};

/* ---- one program ---- */

static json_t *verdict_json(bool ok, const char *reason)
{
    if (ok)
        return json_pack("{s:b, s:n}", "ok", 1, "reason");
    return json_pack("{s:b, s:o}", "ok", 0, "reason", json_string_lossy(reason));
}

/* *ret_passing is set where the verdict says more of the machine than of the program. */
static json_t *ask(const struct program_checks *checks, const char *path,
                   const char *packed_path, enum pt2_engine_kind kind, bool *ret_passing)
{
    struct pt2_engine_options options = checks->engine;
    char reason[REASON_SIZE] = "";
    struct pt2_err err = {0};
    bool ok = false;

    options.packed_path = packed_path;
    if (pt2_engine_check(path, kind, &options, &ok, reason, sizeof(reason),
                         &err) == 0)
        return verdict_json(ok, reason);
    if (err.code != PT2_ERR_ENGINE_DIED)
        *ret_passing = true;
    return verdict_json(false, err.text);
}

static int check_program(struct program_checks *checks, const char *id,
                         struct pt2_err *err)
{
    char path[PATH_MAX], packed[PATH_MAX];
    bool is_passing = false;
    json_auto_t *engines = NULL;
    json_t *native, *aten;
    AUTO_PTR char *text = NULL;

    objects_path(checks->objects, id, path);
    objects_packed_path(checks->objects, id, packed);
    native = ask(checks, path, packed, PT2_ENGINE_NATIVE, &is_passing);
    aten = ask(checks, path, packed, PT2_ENGINE_ATEN, &is_passing);
    engines = json_pack("{s:o, s:o}", "native", native, "aten", aten);
    text = engines ? json_to_text(engines, JSON_COMPACT) : NULL;
    if (!text)
        return pt2_err_set(err, PT2_ERR_NOMEM, "engines' verdicts");
    return programs_db_set_engines(checks->store, id, text,
                                   is_passing ? checks->passing : checks->version, err);
}

/* ---- the thread ---- */

static void wait_locked(struct program_checks *checks, int64_t ms)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += ms % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_cond_timedwait(&checks->changed, &checks->mutex, &until);
}

/* False: stop. */
static bool wait_for_work(struct program_checks *checks)
{
    bool go_on;

    pthread_mutex_lock(&checks->mutex);
    while (!checks->has_work && !checks->is_stopping)
        pthread_cond_wait(&checks->changed, &checks->mutex);
    checks->has_work = false;
    go_on = !checks->is_stopping;
    pthread_mutex_unlock(&checks->mutex);
    return go_on;
}

static bool is_stopping(struct program_checks *checks)
{
    bool stop;

    pthread_mutex_lock(&checks->mutex);
    stop = checks->is_stopping;
    pthread_mutex_unlock(&checks->mutex);
    return stop;
}

static void count_done(struct program_checks *checks)
{
    pthread_mutex_lock(&checks->mutex);
    checks->n_done++;
    pthread_cond_broadcast(&checks->changed);
    pthread_mutex_unlock(&checks->mutex);
}

/* *ret_is_whole false: it is damaged, or gone. */
static int check_is_whole(struct program_checks *checks, const char *id, bool *ret_is_whole,
                          struct pt2_err *err)
{
    struct pt2_err why = {0};

    *ret_is_whole = whole_check(checks->whole, id, WHOLE_WAIT, &why) == 0;
    if (*ret_is_whole || why.code == PT2_ERR_PROGRAM_DAMAGED ||
        why.code == PT2_ERR_NOT_FOUND)
        return 0;
    return pt2_err_set(err, why.code, "%s", why.text);
}

/* Verdicts first: somebody may wait for one. */
static int check_next(struct program_checks *checks, bool *ret_found, struct pt2_err *err)
{
    char id[PROGRAM_ID_SIZE];
    bool is_whole = false;

    if (programs_db_unchecked(checks->store, checks->version, checks->passing, id, ret_found,
                              err) < 0)
        return -1;
    if (*ret_found) {
        if (check_is_whole(checks, id, &is_whole, err) < 0 ||
            (is_whole && check_program(checks, id, err) < 0))
            return -1;
        count_done(checks);
        return 0;
    }
    if (programs_db_doubted(checks->store, id, ret_found, err) < 0)
        return -1;
    return *ret_found ? check_is_whole(checks, id, &is_whole, err) : 0;
}

static int check_all(struct program_checks *checks, struct pt2_err *err)
{
    bool found = true;

    while (found && !is_stopping(checks))
        if (check_next(checks, &found, err) < 0)
            return is_stopping(checks) ? 0 : -1;
    return 0;
}

static void *run_checks(void *ctx)
{
    struct program_checks *checks = ctx;

    pthread_setname_np(pthread_self(), "pt2-checks");
    while (wait_for_work(checks)) {
        struct pt2_err err = {0};

        if (check_all(checks, &err) == 0)
            continue;
        log_warning("checking programs: %s; asking again in %d s", err.text,
                    RETRY_AFTER_S);
        pthread_mutex_lock(&checks->mutex);
        if (!checks->is_stopping)
            wait_locked(checks, RETRY_AFTER_S * 1000);
        checks->has_work = true;
        pthread_mutex_unlock(&checks->mutex);
    }
    return NULL;
}

int program_checks_new(struct store *store, struct objects *objects,
                       struct whole_state *whole, const struct programs_options *options,
                       struct program_checks **ret_checks, struct pt2_err *err)
{
    struct program_checks *checks = calloc(1, sizeof(*checks));
    pthread_condattr_t attr;

    if (!checks)
        return pt2_err_set(err, PT2_ERR_NOMEM, "engines' verdicts");
    checks->store = store;
    checks->objects = objects;
    checks->whole = whole;
    checks->engine = options->engine;
    checks->has_work = true;
    snprintf(checks->version, sizeof(checks->version), "%s", options->engine_version);
    snprintf(checks->passing, sizeof(checks->passing), "%s/%lld", checks->version,
             (long long)clock_unix_ms());
    pthread_mutex_init(&checks->mutex, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&checks->changed, &attr);
    pthread_condattr_destroy(&attr);
    if (pthread_create(&checks->thread, NULL, run_checks, checks) != 0) {
        program_checks_free(checks);
        return pt2_err_set(err, PT2_ERR_INTERNAL, "no thread for engines' verdicts");
    }
    checks->is_started = true;
    *ret_checks = checks;
    return 0;
}

void program_checks_stop(struct program_checks *checks)
{
    pthread_mutex_lock(&checks->mutex);
    checks->is_stopping = true;
    pthread_cond_broadcast(&checks->changed);
    pthread_mutex_unlock(&checks->mutex);
}

void program_checks_free(struct program_checks *checks)
{
    if (!checks)
        return;
    if (checks->is_started) {
        program_checks_stop(checks);
        pthread_join(checks->thread, NULL);
    }
    pthread_cond_destroy(&checks->changed);
    pthread_mutex_destroy(&checks->mutex);
    free(checks);
}

void program_checks_wake(struct program_checks *checks)
{
    pthread_mutex_lock(&checks->mutex);
    checks->has_work = true;
    pthread_cond_broadcast(&checks->changed);
    pthread_mutex_unlock(&checks->mutex);
}

/* ---- reading ---- */

static bool is_current(const struct program_checks *checks, const struct program_row *row)
{
    return row->engines && row->engines_version &&
           (streq(row->engines_version, checks->version) ||
            streq(row->engines_version, checks->passing));
}

static bool has_verdict(struct program_checks *checks, const char *id)
{
    AUTO_PROGRAM_ROW row = {0};
    bool found = false;

    if (programs_db_find(checks->store, id, &found, &row, NULL) < 0)
        return false;
    return !found || row.whole == DAMAGED || is_current(checks, &row);
}

static void wait_for_verdict(struct program_checks *checks, const char *id, int64_t ms)
{
    int64_t until = clock_mono_ms() + ms, left;
    uint64_t n_done;

    for (;;) {
        pthread_mutex_lock(&checks->mutex);
        n_done = checks->n_done;
        pthread_mutex_unlock(&checks->mutex);
        if (has_verdict(checks, id))
            return;
        pthread_mutex_lock(&checks->mutex);
        while (n_done == checks->n_done && !checks->is_stopping &&
               (left = until - clock_mono_ms()) > 0)
            wait_locked(checks, left);
        left = checks->is_stopping ? 0 : until - clock_mono_ms();
        pthread_mutex_unlock(&checks->mutex);
        if (left <= 0)
            return;
    }
}

void program_checks_wait(struct program_checks *checks, const char *id, int64_t ms)
{
    if (has_verdict(checks, id))
        return;
    if (atomic_fetch_add(&checks->n_waiting, 1) < MOST_WAITING)
        wait_for_verdict(checks, id, ms);
    atomic_fetch_sub(&checks->n_waiting, 1);
}

json_t *program_checks_json(const struct program_checks *checks,
                            const struct program_row *row)
{
    static const char *const unchecked = "not checked yet";
    json_t *json = is_current(checks, row) ? json_of_text(row->engines) : NULL;

    if (json)
        return json;
    return json_pack("{s:{s:n, s:s}, s:{s:n, s:s}}", "native", "ok", "reason", unchecked,
                     "aten", "ok", "reason", unchecked);
}
