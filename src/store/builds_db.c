#include "store/builds_db.h"

#include "store/sql.h"

void build_done(struct build *build)
{
    free(build->deviations);
    free(build->verify);
    free(build->pte);
    *build = (struct build){0};
}

static int read_build(struct sql *q, struct build *ret_build, struct pt2_err *err)
{
    const char *verify = sql_text(q, 2), *pte = sql_text(q, 3);
    struct build build = {.deviations = strdup(sql_text(q, 1)),
                          .verify = verify ? strdup(verify) : NULL,
                          .pte = pte ? strdup(pte) : NULL};

    snprintf(build.program, sizeof(build.program), "%s", sql_text(q, 0));
    if (!build.deviations || (verify && !build.verify) || (pte && !build.pte)) {
        build_done(&build);
        return pt2_err_set(err, PT2_ERR_NOMEM, "a build's row");
    }
    *ret_build = build;
    return 0;
}

int builds_db_find(struct store *store, const char key[SHA256_HEX], bool *ret_found,
                   struct build *ret_build, struct pt2_err *err)
{
    struct sql q;
    int r;

    sql_open(&q, store, "SELECT program, deviations, verify, pte FROM builds WHERE key = ?",
             err);
    sql_put_text(&q, key);
    r = sql_next(&q);
    *ret_found = r > 0;
    if (r > 0)
        r = read_build(&q, ret_build, err);
    sql_done(&q);
    return r < 0 ? -1 : 0;
}

int builds_db_put(struct store *store, const char key[SHA256_HEX],
                  const struct build *build, struct pt2_err *err)
{
    struct sql q;

    sql_open(&q, store,
             "INSERT OR REPLACE INTO builds (key, program, deviations, verify, pte)"
             " VALUES (?, ?, ?, ?, ?)",
             err);
    sql_put_text(&q, key);
    sql_put_text(&q, build->program);
    sql_put_text(&q, build->deviations);
    sql_put_text(&q, build->verify);
    sql_put_text(&q, build->pte);
    return sql_run(&q) < 0 ? -1 : 0;
}

int builds_db_forget(struct store *store, const char *program, struct pt2_err *err)
{
    struct sql q;

    sql_open(&q, store, "DELETE FROM builds WHERE program = ?", err);
    sql_put_text(&q, program);
    return sql_run(&q) < 0 ? -1 : 0;
}

int builds_db_forget_pte(struct store *store, const char *sha256, struct pt2_err *err)
{
    struct sql q;

    sql_open(&q, store, "DELETE FROM builds WHERE json_extract(pte, '$.sha256') = ?", err);
    sql_put_text(&q, sha256);
    return sql_run(&q) < 0 ? -1 : 0;
}
