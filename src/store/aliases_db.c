#include "store/aliases_db.h"

#include "base/clock.h"
#include "store/programs.h"
#include "store/programs_db.h"
#include "store/sql.h"

int alias_check_name(const char *name, struct pt2_err *err)
{
    size_t n = strlen(name);

    if (n == 0 || n >= ALIAS_SIZE || name[0] < 'a' || name[0] > 'z' ||
        strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-") != n)
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "an alias is a lower-case letter and up to 63 more of "
                           "a-z 0-9 . _ -, '%.64s' is not",
                           name);
    if (n >= PROGRAM_MIN_PREFIX && strspn(name, "0123456789abcdef") == n)
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "'%s' could be a program's id: an alias of %d or more "
                           "characters needs one that is no hex digit",
                           name, PROGRAM_MIN_PREFIX);
    if (after_prefix(name, "exp_"))
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "'%s' could be an export's id: an alias must not begin with "
                           "exp_",
                           name);
    return 0;
}

static void read_alias(struct sql *q, struct alias *alias)
{
    snprintf(alias->name, sizeof(alias->name), "%s", sql_text(q, 0));
    snprintf(alias->program, sizeof(alias->program), "%s", sql_text(q, 1));
    alias->changed_ms = sql_int(q, 2);
}

int aliases_db_find(struct store *store, const char *name, bool *ret_found,
                    struct alias *ret_alias, struct pt2_err *err)
{
    struct sql q;
    int r;

    sql_open(&q, store, "SELECT name, program, changed FROM aliases WHERE name = ?", err);
    sql_put_text(&q, name);
    r = sql_next(&q);
    *ret_found = r > 0;
    if (r > 0)
        read_alias(&q, ret_alias);
    sql_done(&q);
    return r < 0 ? -1 : 0;
}

int aliases_db_count(struct store *store, int64_t *ret_n, struct pt2_err *err)
{
    struct sql q;

    sql_open(&q, store, "SELECT count(*) FROM aliases", err);
    return sql_count(&q, ret_n);
}

static int check_room(struct store *store, int64_t max, struct pt2_err *err)
{
    int64_t n;

    if (aliases_db_count(store, &n, err) < 0)
        return -1;
    if (n < max)
        return 0;
    return pt2_err_set(err, PT2_ERR_QUEUE_FULL, "there are %lld aliases, and %lld may be",
                       (long long)n, (long long)max);
}

static int put_within(struct store *store, const char *name, const char *program,
                      int64_t max, enum alias_if condition, bool *ret_is_new,
                      struct pt2_err *err)
{
    struct alias old;
    struct sql q;
    bool found;

    if (programs_db_find(store, program, &found, NULL, err) < 0)
        return -1;
    if (!found)
        return pt2_err_set(err, PT2_ERR_NOT_FOUND, "there is no program '%s'", program);
    if (aliases_db_find(store, name, &found, &old, err) < 0)
        return -1;
    if (condition != ALIAS_IF_ANY && found != (condition == ALIAS_IF_THERE))
        return pt2_err_set(err, PT2_ERR_PRECONDITION, "there is %s alias '%s'",
                           found ? "an" : "no", name);
    if (!found && check_room(store, max, err) < 0)
        return -1;
    *ret_is_new = !found;
    sql_open(&q, store,
             "INSERT OR REPLACE INTO aliases (name, program, changed) VALUES (?, ?, ?)",
             err);
    sql_put_text(&q, name);
    sql_put_text(&q, program);
    sql_put_int(&q, clock_unix_ms());
    return sql_run(&q) < 0 ? -1 : 0;
}

int aliases_db_put(struct store *store, const char *name, const char *program,
                   int64_t max, enum alias_if condition, bool *ret_is_new,
                   struct pt2_err *err)
{
    if (store_begin(store, err) < 0)
        return -1;
    if (put_within(store, name, program, max, condition, ret_is_new, err) < 0) {
        store_rollback(store);
        return -1;
    }
    return store_commit(store, err);
}

int aliases_db_delete(struct store *store, const char *name, bool *ret_found,
                      struct pt2_err *err)
{
    struct sql q;
    int n;

    sql_open(&q, store, "DELETE FROM aliases WHERE name = ?", err);
    sql_put_text(&q, name);
    n = sql_run(&q);
    if (n < 0)
        return -1;
    *ret_found = n > 0;
    return 0;
}

int aliases_db_list(struct store *store, const char *after, int64_t limit,
                    int (*each)(void *ctx, const struct alias *alias,
                                struct pt2_err *err),
                    void *ctx, struct pt2_err *err)
{
    struct alias alias;
    struct sql q;
    int r;

    sql_open(&q, store,
             "SELECT name, program, changed FROM aliases WHERE name > ?"
             " ORDER BY name LIMIT ?",
             err);
    sql_put_text(&q, after);
    sql_put_int(&q, limit);
    while ((r = sql_next(&q)) > 0) {
        read_alias(&q, &alias);
        if (each(ctx, &alias, err) < 0) {
            r = -1;
            break;
        }
    }
    sql_done(&q);
    return r;
}

int aliases_db_of(struct store *store, const char *program, bool *ret_found,
                  char ret_name[ALIAS_SIZE], struct pt2_err *err)
{
    struct sql q;
    int r;

    sql_open(&q, store,
             "SELECT name FROM aliases WHERE program = ? ORDER BY name LIMIT 1", err);
    sql_put_text(&q, program);
    r = sql_next(&q);
    *ret_found = r > 0;
    if (r > 0)
        snprintf(ret_name, ALIAS_SIZE, "%s", sql_text(&q, 0));
    sql_done(&q);
    return r < 0 ? -1 : 0;
}
