#include "store/ptes_db.h"

#include "store/sql.h"

int ptes_db_put(struct store *store, const char *program, const char *sha256,
                struct pt2_err *err)
{
    struct sql q;

    sql_open(&q, store, "INSERT OR IGNORE INTO ptes (program, sha256) VALUES (?, ?)", err);
    sql_put_text(&q, program);
    sql_put_text(&q, sha256);
    return sql_run(&q) < 0 ? -1 : 0;
}

int ptes_db_has(struct store *store, const char *sha256, bool *ret_has,
                struct pt2_err *err)
{
    struct sql q;
    int r;

    sql_open(&q, store, "SELECT 1 FROM ptes WHERE sha256 = ? LIMIT 1", err);
    sql_put_text(&q, sha256);
    r = sql_next(&q);
    *ret_has = r > 0;
    sql_done(&q);
    return r < 0 ? -1 : 0;
}

static int read_list(struct store *store, const char *text, const char *program,
                     json_t **ret_list, struct pt2_err *err)
{
    json_auto_t *list = json_array();
    struct sql q;
    int r = -1;

    sql_open(&q, store, text, err);
    sql_put_text(&q, program);
    while (list && (r = sql_next(&q)) > 0)
        if (json_array_append_new(list, json_string(sql_text(&q, 0))) < 0)
            break;
    sql_done(&q);
    if (!list || r > 0)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a list of files");
    if (r < 0)
        return -1;
    *ret_list = json_incref(list);
    return 0;
}

int ptes_db_of(struct store *store, const char *program, json_t **ret_list,
               struct pt2_err *err)
{
    return read_list(store, "SELECT sha256 FROM ptes WHERE program = ?", program, ret_list,
                     err);
}

int ptes_db_only_of(struct store *store, const char *program, json_t **ret_list,
                    struct pt2_err *err)
{
    return read_list(
        store,
        "SELECT sha256 FROM ptes AS mine WHERE program = ? AND NOT EXISTS"
        " (SELECT 1 FROM ptes WHERE sha256 = mine.sha256 AND program != mine.program)",
        program, ret_list, err);
}

int ptes_db_forget(struct store *store, const char *sha256, struct pt2_err *err)
{
    struct sql q;

    sql_open(&q, store, "DELETE FROM ptes WHERE sha256 = ?", err);
    sql_put_text(&q, sha256);
    return sql_run(&q) < 0 ? -1 : 0;
}
