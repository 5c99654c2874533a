#include "store/idempotency_db.h"

#include "base/clock.h"
#include "store/sql.h"

#define KEEP_MS ((int64_t)24 * 3600 * 1000) /* API.md: 24 h */

void idempotency_answer_done(struct idempotency_answer *answer)
{
    free(answer->location);
    free(answer->answer);
    *answer = (struct idempotency_answer){0};
}

static void put_name(struct sql *q, const struct idempotency_name *name)
{
    sql_put_text(q, name->owner);
    sql_put_text(q, name->path);
    sql_put_text(q, name->key);
}

static int read_answer(struct sql *q, struct idempotency_answer *answer,
                       struct pt2_err *err)
{
    const char *location = sql_text(q, 2);
    const void *body;
    size_t len;

    body = sql_blob(q, 0, &len);
    if (len != SHA256_BYTES)
        return pt2_err_set(err, PT2_ERR_IO, "the database: a kept answer is damaged");
    memcpy(answer->body, body, len);
    answer->status = (unsigned)sql_int(q, 1);
    answer->answer = strdup(sql_text(q, 3));
    answer->location = location ? strdup(location) : NULL;
    if (!answer->answer || (location && !answer->location)) {
        idempotency_answer_done(answer);
        return pt2_err_set(err, PT2_ERR_NOMEM, "a kept answer");
    }
    return 0;
}

int idempotency_db_find(struct store *store, const struct idempotency_name *name,
                        bool *ret_found, struct idempotency_answer *ret_answer,
                        struct pt2_err *err)
{
    struct sql q;
    int r;

    sql_open(&q, store,
             "SELECT body, status, location, answer FROM idempotency"
             " WHERE owner = ? AND path = ? AND key = ? AND created >= ?",
             err);
    put_name(&q, name);
    sql_put_int(&q, clock_unix_ms() - KEEP_MS);
    r = sql_next(&q);
    *ret_found = r > 0;
    if (r > 0)
        r = read_answer(&q, ret_answer, err);
    sql_done(&q);
    return r < 0 ? -1 : 0;
}

static int forget_old(struct store *store, struct pt2_err *err)
{
    struct sql q;

    sql_open(&q, store, "DELETE FROM idempotency WHERE created < ?", err);
    sql_put_int(&q, clock_unix_ms() - KEEP_MS);
    return sql_run(&q) < 0 ? -1 : 0;
}

/* owner NULL: of all. */
static int count(struct store *store, const char *owner, int64_t *ret_n,
                 struct pt2_err *err)
{
    struct sql q;

    sql_open(&q, store,
             "SELECT coalesce(sum(n), 0) FROM idempotency_owners"
             " WHERE ?1 IS NULL OR owner = ?1",
             err);
    sql_put_text(&q, owner);
    return sql_count(&q, ret_n);
}

int idempotency_db_count(struct store *store, int64_t *ret_n, struct pt2_err *err)
{
    return count(store, NULL, ret_n, err);
}

int idempotency_db_check_room(struct store *store, const char *owner, int64_t max,
                              struct pt2_err *err)
{
    const int64_t max_own = (max + 1) / 2;
    int64_t own, all;

    for (int round = 0;; round++) {
        if (count(store, owner, &own, err) < 0 || count(store, NULL, &all, err) < 0)
            return -1;
        if (own < max_own && all < max)
            return 0;
        if (round == 1)
            break;
        if (forget_old(store, err) < 0)
            return -1;
    }
    if (own >= max_own)
        return pt2_err_set(err, PT2_ERR_TOKEN_LIMIT,
                           "%lld idempotency keys are kept for this client, and %lld may be",
                           (long long)own, (long long)max_own);
    return pt2_err_set(err, PT2_ERR_QUEUE_FULL,
                       "%lld idempotency keys are kept, and %lld may be", (long long)all,
                       (long long)max);
}

int idempotency_db_put(struct store *store, const struct idempotency_name *name,
                       const struct idempotency_answer *answer, struct pt2_err *err)
{
    struct sql q;

    if (forget_old(store, err) < 0)
        return -1;
    sql_open(&q, store,
             "INSERT INTO idempotency"
             " (owner, path, key, body, status, location, answer, created)"
             " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
             " ON CONFLICT (owner, path, key) DO UPDATE SET body = excluded.body,"
             " status = excluded.status, location = excluded.location,"
             " answer = excluded.answer, created = excluded.created",
             err);
    put_name(&q, name);
    sql_put_blob(&q, answer->body, SHA256_BYTES);
    sql_put_int(&q, answer->status);
    sql_put_text(&q, answer->location);
    sql_put_text(&q, answer->answer);
    sql_put_int(&q, clock_unix_ms());
    return sql_run(&q) < 0 ? -1 : 0;
}

int idempotency_db_remove(struct store *store, const struct idempotency_name *name,
                          struct pt2_err *err)
{
    struct sql q;

    sql_open(&q, store,
             "DELETE FROM idempotency WHERE owner = ? AND path = ? AND key = ?", err);
    put_name(&q, name);
    return sql_run(&q) < 0 ? -1 : 0;
}
