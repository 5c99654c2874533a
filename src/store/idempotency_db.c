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

int idempotency_db_put(struct store *store, const struct idempotency_name *name,
                       const struct idempotency_answer *answer, struct pt2_err *err)
{
    struct sql q;

    sql_open(&q, store, "DELETE FROM idempotency WHERE created < ?", err);
    sql_put_int(&q, clock_unix_ms() - KEEP_MS);
    if (sql_run(&q) < 0)
        return -1;
    sql_open(&q, store,
             "INSERT OR REPLACE INTO idempotency"
             " (owner, path, key, body, status, location, answer, created)"
             " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
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
