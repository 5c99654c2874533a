#include "store/whole.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "store/builds_db.h"
#include "store/ptes_db.h"
#include "store/sql.h"

#include <errno.h>
#include <limits.h>
#include <sys/stat.h>

#define MOST_SHORT 2 /* threads that read or wait, where one that must be short asks */

const char *whole_name(enum whole whole)
{
    static const char *const names[] = {"unchecked", "whole", "damaged"};

    return names[whole];
}

/* ---- start and end ---- */

static int is_running(struct store *store, bool *ret_is, struct pt2_err *err)
{
    struct sql q;
    int r;

    sql_open(&q, store, "SELECT 1 FROM running", err);
    r = sql_next(&q);
    *ret_is = r > 0;
    sql_done(&q);
    return r < 0 ? -1 : 0;
}

static int set_running(struct store *store, struct pt2_err *err)
{
    struct sql q;

    sql_open(&q, store, "INSERT INTO running (since) VALUES (?)", err);
    sql_put_int(&q, clock_unix_ms());
    return sql_run(&q) < 0 ? -1 : 0;
}

/* Both in one transaction: what is doubted stays so however often the daemon dies. */
static int begin_running(struct store *store, struct pt2_err *err)
{
    bool was_running = false;

    if (store_begin(store, err) < 0)
        return -1;
    if (is_running(store, &was_running, err) < 0 ||
        (was_running ? programs_db_doubt_all(store, err) : set_running(store, err)) < 0) {
        store_rollback(store);
        return -1;
    }
    return store_commit(store, err);
}

int whole_start(struct whole_state *state, struct store *store, struct objects *objects,
                struct pt2_err *err)
{
    *state = (struct whole_state){.store = store, .objects = objects};
    pthread_mutex_init(&state->reading, NULL);
    if (begin_running(store, err) < 0)
        return -1;
    state->is_started = true;
    return 0;
}

void whole_stop(struct whole_state *state)
{
    state->is_stopping = true;
}

static void end_running(struct store *store)
{
    struct pt2_err err = {0};
    struct sql q;

    sql_open(&q, store, "DELETE FROM running", &err);
    if (sql_run(&q) < 0)
        log_warning("the next start will read all programs, for this end could not be "
                    "noted: %s",
                    err.text);
}

void whole_done(struct whole_state *state)
{
    if (state->is_started)
        end_running(state->store);
    pthread_mutex_destroy(&state->reading);
}

/* ---- what is damaged ---- */

static int forget_pte_within(struct store *store, const char *sha256, struct pt2_err *err)
{
    return builds_db_forget_pte(store, sha256, err) < 0 ? -1
                                                        : ptes_db_forget(store, sha256, err);
}

static int forget_pte(struct whole_state *state, const char *id, const char *sha256,
                      struct pt2_err *err)
{
    if (store_begin(state->store, err) < 0)
        return -1;
    if (forget_pte_within(state->store, sha256, err) < 0) {
        store_rollback(state->store);
        return -1;
    }
    if (store_commit(state->store, err) < 0)
        return -1;
    log_error("the .pte %s of program %s is damaged: it was moved to " OBJECTS_LOST
              ", an export makes it again",
              sha256, id);
    metrics_add(METRIC_PROGRAMS_DAMAGED, 1, NULL);
    return objects_put_aside(state->objects, sha256, err);
}

static int note_within(struct store *store, const char *id, enum whole whole,
                       struct pt2_err *err)
{
    if (whole == DAMAGED && builds_db_forget(store, id, err) < 0)
        return -1;
    return programs_db_set_whole(store, id, whole, err);
}

static int note(struct whole_state *state, const char *id, enum whole whole,
                struct pt2_err *err)
{
    if (store_begin(state->store, err) < 0)
        return -1;
    if (note_within(state->store, id, whole, err) < 0) {
        store_rollback(state->store);
        return -1;
    }
    return store_commit(state->store, err);
}

/* ---- checking ---- */

/* A file of another length, or none, is doubted, whatever was known of it. */
static bool has_changed(const struct whole_state *state, const struct program_row *row)
{
    char path[PATH_MAX];
    struct stat st;

    objects_path(state->objects, row->id, path);
    return lstat(path, &st) < 0 ? errno == ENOENT : st.st_size != (off_t)row->bytes;
}

static int find(struct whole_state *state, const char *id, enum whole *ret_whole,
                struct pt2_err *err)
{
    AUTO_PROGRAM_ROW row = {0};
    bool found = false;

    if (programs_db_find(state->store, id, &found, &row, err) < 0)
        return -1;
    if (!found)
        return pt2_err_set(err, PT2_ERR_NOT_FOUND, "there is no program '%s'", id);
    *ret_whole = row.whole == WHOLE && has_changed(state, &row) ? DOUBTED : row.whole;
    return 0;
}

static int damaged(const char *id, struct pt2_err *err)
{
    return pt2_err_set(err, PT2_ERR_PROGRAM_DAMAGED,
                       "the file of program '%s' has another digest, or is gone: export or "
                       "upload it again",
                       id);
}

static int read_ptes(struct whole_state *state, const char *id, struct pt2_err *err)
{
    json_auto_t *ptes = NULL;
    const json_t *pte;
    size_t i;

    if (ptes_db_of(state->store, id, &ptes, err) < 0)
        return -1;
    json_array_foreach (ptes, i, pte) {
        const char *sha256 = json_string_value(pte);
        bool is_whole = false;

        if (objects_check(state->objects, sha256, &state->is_stopping, &is_whole, err) < 0 ||
            (!is_whole && forget_pte(state, id, sha256, err) < 0))
            return -1;
    }
    return 0;
}

/* The holder of reading. */
static int read_doubted(struct whole_state *state, const char *id, enum whole *ret_whole,
                        struct pt2_err *err)
{
    bool is_whole = false;

    if (read_ptes(state, id, err) < 0 ||
        objects_check(state->objects, id, &state->is_stopping, &is_whole, err) < 0)
        return -1;
    if (find(state, id, ret_whole, err) < 0) /* deleted meanwhile */
        return -1;
    *ret_whole = is_whole ? WHOLE : DAMAGED;
    if (note(state, id, *ret_whole, err) < 0)
        return -1;
    if (is_whole)
        return 0;
    log_error("program %s is damaged: its file has another digest, or is gone; it is not "
              "served until it is exported or uploaded again",
              id);
    metrics_add(METRIC_PROGRAMS_DAMAGED, 1, NULL);
    return 0;
}

static int doubt(struct whole_state *state, const char *id, struct pt2_err *err)
{
    enum whole whole = DOUBTED;
    int r;

    pthread_mutex_lock(&state->reading); /* or it might be taken for what is found */
    r = find(state, id, &whole, err);
    if (r == 0 && whole == WHOLE)
        r = note(state, id, DOUBTED, err);
    pthread_mutex_unlock(&state->reading);
    return r;
}

int whole_suspect(struct whole_state *state, const char *id, struct pt2_err *err)
{
    return doubt(state, id, err) < 0 ? -1 : whole_check(state, id, WHOLE_WAIT, err);
}

/* *whole is DOUBTED. */
static int wait_and_read(struct whole_state *state, const char *id, enum whole_wait wait,
                         enum whole *whole, struct pt2_err *err)
{
    int r;

    if (atomic_fetch_add(&state->n_reading, 1) >= MOST_SHORT && wait == WHOLE_BE_SHORT) {
        atomic_fetch_sub(&state->n_reading, 1);
        return pt2_err_set(err, PT2_ERR_NOT_IN_TIME,
                           "the file of program '%s' is to be read first, and others are "
                           "before it",
                           id);
    }
    pthread_mutex_lock(&state->reading);
    r = find(state, id, whole, err); /* another one may have read it */
    if (r == 0 && *whole == DOUBTED)
        r = read_doubted(state, id, whole, err);
    pthread_mutex_unlock(&state->reading);
    atomic_fetch_sub(&state->n_reading, 1);
    return r;
}

int whole_check(struct whole_state *state, const char *id, enum whole_wait wait,
                struct pt2_err *err)
{
    enum whole whole = DOUBTED;

    if (find(state, id, &whole, err) < 0)
        return -1;
    if (whole == DOUBTED && wait_and_read(state, id, wait, &whole, err) < 0)
        return -1;
    return whole == DAMAGED ? damaged(id, err) : 0;
}
