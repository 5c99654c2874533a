#include "store/sessions_db.h"

#include "base/clock.h"
#include "base/owner.h"
#include "store/sql.h"

#include <stdatomic.h>

#define KEEP_MS      ((int64_t)7 * 24 * 3600 * 1000)
#define KEEP_ROWS    100000
#define FORGET_EVERY 256 /* sessions that end; a look at KEEP_ROWS takes milliseconds */

/* Those of sessions that exist stay, however long they live. */
static int forget_old(struct store *store, struct pt2_err *err)
{
    struct sql q;

    sql_open(&q, store,
             "DELETE FROM sessions WHERE fate <> ?1 AND (changed < ?2 OR changed < ("
             "  SELECT changed FROM sessions ORDER BY changed DESC LIMIT 1 OFFSET ?3))",
             err);
    sql_put_int(&q, SESSION_LIVE);
    sql_put_int(&q, clock_unix_ms() - KEEP_MS);
    sql_put_int(&q, KEEP_ROWS - 1);
    return sql_run_lazily(&q) < 0 ? -1 : 0;
}

int sessions_db_start(struct store *store, struct pt2_err *err)
{
    struct sql q;

    sql_open(&q, store, "UPDATE sessions SET fate = ?1, changed = ?2 WHERE fate = ?3",
             err);
    sql_put_int(&q, SESSION_LOST);
    sql_put_int(&q, clock_unix_ms());
    sql_put_int(&q, SESSION_LIVE);
    if (sql_run(&q) < 0)
        return -1;
    return forget_old(store, err);
}

/* A row that is there keeps its owner. */
static int set_fate(struct store *store, const char *id, const char *owner,
                    enum session_fate fate, struct pt2_err *err)
{
    struct sql q;

    sql_open(&q, store,
             "INSERT INTO sessions (id, fate, changed, owner) VALUES (?1, ?2, ?3, ?4)"
             " ON CONFLICT (id) DO UPDATE SET fate = ?2, changed = ?3",
             err);
    sql_put_text(&q, id);
    sql_put_int(&q, fate);
    sql_put_int(&q, clock_unix_ms());
    sql_put_text(&q, owner);
    return sql_run_lazily(&q) < 0 ? -1 : 0;
}

int sessions_db_add(struct store *store, const char *id, const char *owner,
                    struct pt2_err *err)
{
    return set_fate(store, id, owner, SESSION_LIVE, err);
}

/* A session is no more, but its id is kept.  A daemon may run for months, so that the old
 * ones can't wait for its next start; the table is looked through now and then. */
static int end(struct store *store, const char *id, enum session_fate fate,
               struct pt2_err *err)
{
    static atomic_uint n_ended;

    if (set_fate(store, id, "", fate, err) < 0)
        return -1;
    if ((atomic_fetch_add(&n_ended, 1) + 1) % FORGET_EVERY != 0)
        return 0;
    return forget_old(store, err);
}

int sessions_db_expire(struct store *store, const char *id, struct pt2_err *err)
{
    return end(store, id, SESSION_EXPIRED, err);
}

int sessions_db_lose(struct store *store, const char *id, struct pt2_err *err)
{
    return end(store, id, SESSION_LOST, err);
}

int sessions_db_remove(struct store *store, const char *id, struct pt2_err *err)
{
    struct sql q;

    sql_open(&q, store, "DELETE FROM sessions WHERE id = ?", err);
    sql_put_text(&q, id);
    return sql_run_lazily(&q) < 0 ? -1 : 0;
}

int sessions_db_fate(struct store *store, const char *id, const char *who,
                     enum session_fate *ret_fate, struct pt2_err *err)
{
    enum session_fate fate = SESSION_NEVER;
    struct sql q;
    int r;

    sql_open(&q, store, "SELECT fate, owner FROM sessions WHERE id = ?", err);
    sql_put_text(&q, id);
    r = sql_next(&q);
    if (r > 0 && owner_is_seen_by(sql_text(&q, 1), who))
        fate = (enum session_fate)sql_int(&q, 0);
    sql_done(&q);
    if (r < 0)
        return -1;
    *ret_fate = fate;
    return 0;
}
