#include "store/retention.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "store/programs_db.h"
#include "store/ptes_db.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <time.h>

#define LOOK_AGAIN_S 600

struct retention {
    struct programs *programs;
    struct store *store;
    struct objects *objects;
    uint64_t max_bytes;
    int64_t keep_ms;
    _Atomic uint64_t kept_bytes; /* as retention_look saw it last */
    pthread_t thread;
    bool is_started;
    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t wake;
    bool is_stopping, has_work;
    char newest[PROGRAM_ID_SIZE];
};

/* ---- what there is ---- */

struct seen {
    struct program_use use;
    uint64_t bytes; /* of its file, with what was derived from it and the .pte files of its own */
};

struct sight {
    struct retention *retention;
    struct seen *seen; /* by use, the longest ago first */
    size_t n, n_room;
    uint64_t bytes;      /* of all */
    uint64_t kept_bytes; /* of those that may not go */
};

static uint64_t file_bytes(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

static uint64_t object_bytes(const struct retention *r, const char *sha256)
{
    char path[PATH_MAX], packed[PATH_MAX];

    objects_path(r->objects, sha256, path);
    objects_packed_path(r->objects, sha256, packed);
    return file_bytes(path) + file_bytes(packed);
}

/* A .pte of several programs goes with none of them. */
static int all_bytes(const struct retention *r, const char *id, uint64_t *ret_bytes,
                     struct pt2_err *err)
{
    json_auto_t *ptes = NULL;
    const json_t *pte;
    size_t i;

    if (ptes_db_only_of(r->store, id, &ptes, err) < 0)
        return -1;
    *ret_bytes = object_bytes(r, id);
    json_array_foreach (ptes, i, pte)
        *ret_bytes += object_bytes(r, json_string_value(pte));
    return 0;
}

static int see(void *ctx, const struct program_use *use, struct pt2_err *err)
{
    struct sight *sight = ctx;
    struct seen *seen;

    if (sight->n == sight->n_room) {
        size_t room = sight->n_room ? 2 * sight->n_room : 64;

        seen = reallocarray(sight->seen, room, sizeof(*seen));
        if (!seen)
            return pt2_err_set(err, PT2_ERR_NOMEM, "a list of programs");
        sight->seen = seen;
        sight->n_room = room;
    }
    sight->seen[sight->n++].use = *use;
    return 0;
}

/* Free sight->seen, also where it fails. */
static int look(struct retention *r, struct sight *sight, struct pt2_err *err)
{
    *sight = (struct sight){.retention = r};
    if (programs_db_by_use(r->store, see, sight, err) < 0)
        return -1;
    for (size_t i = 0; i < sight->n; i++) {
        struct seen *seen = &sight->seen[i];

        if (all_bytes(r, seen->use.id, &seen->bytes, err) < 0)
            return -1;
        sight->bytes += seen->bytes;
        if (seen->use.is_kept || programs_is_used(r->programs, seen->use.id))
            sight->kept_bytes += seen->bytes;
    }
    r->kept_bytes = sight->kept_bytes;
    metrics_set(METRIC_PROGRAM_BYTES, (double)sight->bytes, NULL);
    return 0;
}

/* ---- what goes ---- */

/* 1: it is gone; 0: it may not go, or went meanwhile. */
static int remove_one(struct sight *sight, const struct seen *seen, const char *why,
                      struct pt2_err *err)
{
    char used[CLOCK_TEXT_SIZE];
    struct pt2_err refused = {0};

    if (seen->use.is_kept)
        return 0;
    if (programs_delete(sight->retention->programs, seen->use.id, &refused) < 0) {
        if (refused.code == PT2_ERR_IN_USE || refused.code == PT2_ERR_NOT_FOUND)
            return 0;
        return pt2_err_set(err, refused.code, "%s", refused.text);
    }
    clock_to_text(seen->use.used_ms, used);
    log_info("program %s was removed (%s): %llu bytes, last used %s", seen->use.id, why,
             (unsigned long long)seen->bytes, used);
    metrics_add(METRIC_PROGRAMS_REMOVED, 1, METRICS_LABELS(why));
    sight->bytes -= seen->bytes;
    metrics_set(METRIC_PROGRAM_BYTES, (double)sight->bytes, NULL);
    return 1;
}

static bool must_go(const struct sight *sight, const struct seen *seen, const char *newest,
                    const char **ret_why)
{
    const struct retention *r = sight->retention;
    bool is_old = r->keep_ms > 0 && clock_unix_ms() - seen->use.used_ms > r->keep_ms;

    *ret_why = is_old ? "age" : "size";
    return is_old || (r->max_bytes > 0 && sight->bytes > r->max_bytes &&
                      !streq(seen->use.id, newest));
}

static int clean_up(struct retention *r, const char *newest, struct pt2_err *err)
{
    struct sight sight;
    const char *why;
    int ret = look(r, &sight, err);

    for (size_t i = 0; ret >= 0 && i < sight.n; i++)
        if (must_go(&sight, &sight.seen[i], newest, &why))
            ret = remove_one(&sight, &sight.seen[i], why, err);
    if (ret >= 0 && r->max_bytes > 0 && sight.bytes > r->max_bytes)
        log_warning("programs take %llu bytes, programs.max_store_bytes are %llu: what is left "
                    "is in use, pinned, named by an alias or new",
                    (unsigned long long)sight.bytes, (unsigned long long)r->max_bytes);
    free(sight.seen);
    return ret < 0 ? -1 : 0;
}

/* ---- room ---- */

static int check(const struct retention *r, uint64_t kept_bytes, uint64_t bytes,
                 struct pt2_err *err)
{
    if (r->max_bytes == 0 || (kept_bytes <= r->max_bytes && bytes <= r->max_bytes - kept_bytes))
        return 0;
    return pt2_err_set(err, PT2_ERR_NO_SPACE,
                       "a program of %llu bytes has no room: programs.max_store_bytes are %llu, "
                       "of which programs that are in use, pinned or named by an alias take %llu",
                       (unsigned long long)bytes, (unsigned long long)r->max_bytes,
                       (unsigned long long)kept_bytes);
}

int retention_check_room(struct retention *r, uint64_t bytes, struct pt2_err *err)
{
    struct sight sight;
    int ret;

    if (r->max_bytes == 0)
        return 0;
    ret = look(r, &sight, err);
    free(sight.seen);
    return ret < 0 ? -1 : check(r, sight.kept_bytes, bytes, err);
}

int retention_check_room_quick(struct retention *r, uint64_t bytes, struct pt2_err *err)
{
    return check(r, r->kept_bytes, bytes, err);
}

/* ---- the thread ---- */

static void wait_locked(struct retention *r)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    if (r->keep_ms > 0 && r->keep_ms / 1000 < LOOK_AGAIN_S)
        until.tv_sec += r->keep_ms / 1000 + 1;
    else
        until.tv_sec += LOOK_AGAIN_S;
    while (!r->has_work && !r->is_stopping &&
           pthread_cond_timedwait(&r->wake, &r->mutex, &until) == 0)
        ;
}

static void *run(void *ctx)
{
    struct retention *r = ctx;
    char newest[PROGRAM_ID_SIZE];

    pthread_setname_np(pthread_self(), "pt2-retention");
    pthread_mutex_lock(&r->mutex);
    while (!r->is_stopping) {
        struct pt2_err err = {0};

        r->has_work = false;
        memcpy(newest, r->newest, sizeof(newest));
        pthread_mutex_unlock(&r->mutex);
        if (clean_up(r, newest, &err) < 0)
            log_warning("programs are not cleaned up: %s; trying again later", err.text);
        pthread_mutex_lock(&r->mutex);
        wait_locked(r);
    }
    pthread_mutex_unlock(&r->mutex);
    return NULL;
}

int retention_new(struct programs *programs, struct store *store, struct objects *objects,
                  uint64_t max_bytes, int64_t keep_ms, struct retention **ret_retention,
                  struct pt2_err *err)
{
    struct retention *r = calloc(1, sizeof(*r));
    pthread_condattr_t attr;

    if (!r)
        return pt2_err_set(err, PT2_ERR_NOMEM, "retention");
    r->programs = programs;
    r->store = store;
    r->objects = objects;
    r->max_bytes = max_bytes;
    r->keep_ms = keep_ms;
    pthread_mutex_init(&r->mutex, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&r->wake, &attr);
    pthread_condattr_destroy(&attr);
    if (pthread_create(&r->thread, NULL, run, r) != 0) {
        retention_free(r);
        return pt2_err_set(err, PT2_ERR_INTERNAL, "no thread for retention");
    }
    r->is_started = true;
    *ret_retention = r;
    return 0;
}

void retention_free(struct retention *r)
{
    if (!r)
        return;
    if (r->is_started) {
        pthread_mutex_lock(&r->mutex);
        r->is_stopping = true;
        pthread_cond_broadcast(&r->wake);
        pthread_mutex_unlock(&r->mutex);
        pthread_join(r->thread, NULL);
    }
    pthread_cond_destroy(&r->wake);
    pthread_mutex_destroy(&r->mutex);
    free(r);
}

void retention_wake(struct retention *r, const char *newest)
{
    pthread_mutex_lock(&r->mutex);
    if (newest)
        snprintf(r->newest, sizeof(r->newest), "%s", newest);
    r->has_work = true;
    pthread_cond_broadcast(&r->wake);
    pthread_mutex_unlock(&r->mutex);
}
