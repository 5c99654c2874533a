#include "store/sessions_db.h"

#include "base/clock.h"
#include "base/owner.h"
#include "store/sql.h"

#define KEEP_MS   ((int64_t)7 * 24 * 3600 * 1000)
#define KEEP_ROWS 100000

int sessions_db_start(struct store *store, struct pt2_err *err)
{
    struct sql q;

    sql_open(&q, store,
             "DELETE FROM sessions WHERE changed < ?1 OR changed < ("
             "  SELECT changed FROM sessions ORDER BY changed DESC LIMIT 1 OFFSET ?2)",
             err);
    sql_put_int(&q, clock_unix_ms() - KEEP_MS);
    sql_put_int(&q, KEEP_ROWS - 1);
    if (sql_run(&q) < 0)
        return -1;
    sql_open(&q, store, "UPDATE sessions SET fate = ? WHERE fate = ?", err);
    sql_put_int(&q, SESSION_LOST);
    sql_put_int(&q, SESSION_LIVE);
    return sql_run(&q) < 0 ? -1 : 0;
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

int sessions_db_expire(struct store *store, const char *id, struct pt2_err *err)
{
    return set_fate(store, id, "", SESSION_EXPIRED, err);
}

int sessions_db_lose(struct store *store, const char *id, struct pt2_err *err)
{
    return set_fate(store, id, "", SESSION_LOST, err);
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
