#include "store/builds_db.h"

#include "store/sql.h"

int builds_db_find(struct store *store, const char key[SHA256_HEX], bool *ret_found,
                   char ret_program[SHA256_HEX], char **ret_deviations,
                   struct pt2_err *err)
{
    char *deviations = NULL;
    struct sql q;
    int r;

    sql_open(&q, store, "SELECT program, deviations FROM builds WHERE key = ?", err);
    sql_put_text(&q, key);
    r = sql_next(&q);
    *ret_found = r > 0;
    if (r > 0) {
        snprintf(ret_program, SHA256_HEX, "%s", sql_text(&q, 0));
        deviations = strdup(sql_text(&q, 1));
        if (deviations)
            *ret_deviations = deviations;
        else
            r = pt2_err_set(err, PT2_ERR_NOMEM, "a build's row");
    }
    sql_done(&q);
    return r < 0 ? -1 : 0;
}

int builds_db_put(struct store *store, const char key[SHA256_HEX], const char *program,
                  const char *deviations, struct pt2_err *err)
{
    struct sql q;

    sql_open(&q, store,
             "INSERT OR REPLACE INTO builds (key, program, deviations) VALUES (?, ?, ?)",
             err);
    sql_put_text(&q, key);
    sql_put_text(&q, program);
    sql_put_text(&q, deviations);
    return sql_run(&q) < 0 ? -1 : 0;
}
