#include "store/programs_db.h"

#include "store/sql.h"

#define COLUMNS "seq, id, bytes, created, origin, model, facts, engines, engines_version, whole, max(used, created), pinned"

void program_row_done(struct program_row *row)
{
    free(row->model);
    free(row->facts);
    free(row->engines);
    free(row->engines_version);
    *row = (struct program_row){0};
}

static int copy(struct sql *q, int column, char **ret, struct pt2_err *err)
{
    const char *text = sql_text(q, column);

    *ret = text ? strdup(text) : NULL;
    return text && !*ret ? pt2_err_set(err, PT2_ERR_NOMEM, "a program's row") : 0;
}

static int read_row(struct sql *q, struct program_row *row, struct pt2_err *err)
{
    row->seq = sql_int(q, 0);
    snprintf(row->id, sizeof(row->id), "%s", sql_text(q, 1));
    row->bytes = sql_int(q, 2);
    row->created_ms = sql_int(q, 3);
    row->origin = (int)sql_int(q, 4);
    row->whole = (enum whole)sql_int(q, 9);
    row->used_ms = sql_int(q, 10);
    row->is_pinned = sql_int(q, 11) != 0;
    if (copy(q, 5, &row->model, err) < 0 || copy(q, 6, &row->facts, err) < 0 ||
        copy(q, 7, &row->engines, err) < 0 || copy(q, 8, &row->engines_version, err) < 0)
        return -1;
    return 0;
}

int programs_db_insert(struct store *store, const struct program_row *row,
                       bool *ret_is_new, struct pt2_err *err)
{
    struct sql q;
    int n;

    sql_open(&q, store,
             "INSERT INTO programs (id, bytes, created, origin, model, facts, whole)"
             " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
             err);
    sql_put_text(&q, row->id);
    sql_put_int(&q, row->bytes);
    sql_put_int(&q, row->created_ms);
    sql_put_int(&q, row->origin);
    sql_put_text(&q, row->model);
    sql_put_text(&q, row->facts);
    sql_put_int(&q, WHOLE);
    n = sql_run(&q);
    if (n < 0)
        return -1;
    *ret_is_new = n > 0;
    return 0;
}

int programs_db_find(struct store *store, const char *id, bool *ret_found,
                     struct program_row *ret_row, struct pt2_err *err)
{
    struct sql q;
    int r;

    sql_open(&q, store, "SELECT " COLUMNS " FROM programs WHERE id = ?", err);
    sql_put_text(&q, id);
    r = sql_next(&q);
    *ret_found = r > 0;
    if (r > 0 && ret_row)
        r = read_row(&q, ret_row, err);
    sql_done(&q);
    return r < 0 ? -1 : 0;
}

int programs_db_list(struct store *store, int64_t after, int64_t limit,
                     int (*each)(void *ctx, const struct program_row *row,
                                 struct pt2_err *err),
                     void *ctx, struct pt2_err *err)
{
    struct sql q;
    int r;

    sql_open(&q, store,
             "SELECT " COLUMNS " FROM programs WHERE seq > ? ORDER BY seq LIMIT ?", err);
    sql_put_int(&q, after);
    sql_put_int(&q, limit);
    while ((r = sql_next(&q)) > 0) {
        AUTO_PROGRAM_ROW row = {0};

        if (read_row(&q, &row, err) < 0 || each(ctx, &row, err) < 0) {
            r = -1;
            break;
        }
    }
    sql_done(&q);
    return r;
}

int programs_db_count(struct store *store, int64_t *ret_n, struct pt2_err *err)
{
    struct sql q;

    sql_open(&q, store, "SELECT count(*) FROM programs", err);
    return sql_count(&q, ret_n);
}

int programs_db_match(struct store *store, const char *prefix, size_t max,
                      char (*ret_ids)[SHA256_HEX], size_t *ret_n, struct pt2_err *err)
{
    struct sql q;
    char end[SHA256_HEX + 1];
    size_t n = 0;
    int r;

    snprintf(end, sizeof(end), "%.64sg", prefix); /* 'g' sorts behind every hex digit */
    sql_open(&q, store,
             "SELECT id FROM programs WHERE id >= ? AND id < ? ORDER BY id LIMIT ?", err);
    sql_put_text(&q, prefix);
    sql_put_text(&q, end);
    sql_put_int(&q, (int64_t)max);
    while ((r = sql_next(&q)) > 0)
        snprintf(ret_ids[n++], SHA256_HEX, "%s", sql_text(&q, 0));
    sql_done(&q);
    if (r < 0)
        return -1;
    *ret_n = n;
    return 0;
}

int programs_db_delete(struct store *store, const char *id, bool *ret_found,
                       struct pt2_err *err)
{
    struct sql q;
    int n;

    sql_open(&q, store, "DELETE FROM programs WHERE id = ?", err);
    sql_put_text(&q, id);
    n = sql_run(&q);
    if (n < 0)
        return -1;
    *ret_found = n > 0;
    return 0;
}

int programs_db_set_engines(struct store *store, const char *id, const char *engines,
                            const char *version, struct pt2_err *err)
{
    struct sql q;

    sql_open(&q, store,
             "UPDATE programs SET engines = ?, engines_version = ? WHERE id = ?", err);
    sql_put_text(&q, engines);
    sql_put_text(&q, version);
    sql_put_text(&q, id);
    return sql_run(&q) < 0 ? -1 : 0;
}

int programs_db_set_whole(struct store *store, const char *id, enum whole whole,
                          struct pt2_err *err)
{
    struct sql q;

    sql_open(&q, store, "UPDATE programs SET whole = ? WHERE id = ?", err);
    sql_put_int(&q, whole);
    sql_put_text(&q, id);
    return sql_run(&q) < 0 ? -1 : 0;
}

int programs_db_doubt_all(struct store *store, struct pt2_err *err)
{
    struct sql q;

    sql_open(&q, store, "UPDATE programs SET whole = ? WHERE whole = ?", err);
    sql_put_int(&q, DOUBTED);
    sql_put_int(&q, WHOLE);
    return sql_run(&q) < 0 ? -1 : 0;
}

int programs_db_doubted(struct store *store, char ret_id[SHA256_HEX], bool *ret_found,
                        struct pt2_err *err)
{
    struct sql q;
    int r;

    sql_open(&q, store, "SELECT id FROM programs WHERE whole = ? ORDER BY seq DESC LIMIT 1",
             err);
    sql_put_int(&q, DOUBTED);
    r = sql_next(&q);
    *ret_found = r > 0;
    if (r > 0)
        snprintf(ret_id, SHA256_HEX, "%s", sql_text(&q, 0));
    sql_done(&q);
    return r < 0 ? -1 : 0;
}

int programs_db_use(struct store *store, const char *id, int64_t now_ms, int64_t every_ms,
                    struct pt2_err *err)
{
    struct sql q;

    sql_open(&q, store, "UPDATE programs SET used = ? WHERE id = ? AND max(used, created) < ?",
             err);
    sql_put_int(&q, now_ms);
    sql_put_text(&q, id);
    sql_put_int(&q, now_ms - every_ms);
    return sql_run_lazily(&q) < 0 ? -1 : 0;
}

int programs_db_pin(struct store *store, const char *id, bool is_pinned, bool *ret_found,
                    struct pt2_err *err)
{
    struct sql q;
    int n;

    sql_open(&q, store, "UPDATE programs SET pinned = ? WHERE id = ?", err);
    sql_put_int(&q, is_pinned);
    sql_put_text(&q, id);
    n = sql_run(&q);
    if (n < 0)
        return -1;
    *ret_found = n > 0;
    return 0;
}

int programs_db_by_use(struct store *store,
                       int (*each)(void *ctx, const struct program_use *use,
                                   struct pt2_err *err),
                       void *ctx, struct pt2_err *err)
{
    struct program_use use;
    struct sql q;
    int r;

    sql_open(&q, store,
             "SELECT id, max(used, created),"
             " pinned OR EXISTS (SELECT 1 FROM aliases WHERE program = id)"
             " FROM programs ORDER BY 2, seq",
             err);
    while ((r = sql_next(&q)) > 0) {
        snprintf(use.id, sizeof(use.id), "%s", sql_text(&q, 0));
        use.used_ms = sql_int(&q, 1);
        use.is_kept = sql_int(&q, 2) != 0;
        if (each(ctx, &use, err) < 0) {
            r = -1;
            break;
        }
    }
    sql_done(&q);
    return r;
}

int programs_db_unchecked(struct store *store, const char *version,
                          const char *other_version, char ret_id[SHA256_HEX],
                          bool *ret_found, struct pt2_err *err)
{
    struct sql q;
    int r;

    sql_open(&q, store,
             "SELECT id FROM programs WHERE whole != ? AND"
             " (engines_version IS NULL OR engines_version NOT IN (?, ?)) ORDER BY seq DESC LIMIT 1",
             err);
    sql_put_int(&q, DAMAGED);
    sql_put_text(&q, version);
    sql_put_text(&q, other_version);
    r = sql_next(&q);
    *ret_found = r > 0;
    if (r > 0)
        snprintf(ret_id, SHA256_HEX, "%s", sql_text(&q, 0));
    sql_done(&q);
    return r < 0 ? -1 : 0;
}
