/* fsck_rows.c - the database: pages, versions, references; and rows that go. */
#include "store/fsck_impl.h"

#include "store/builds_db.h"
#include "store/ptes_db.h"
#include "store/sql.h"

/* Tables whose column program names a program, and since when. */
static const struct {
    const char *name;
    int version;
} tables[] = {{"aliases", 1}, {"builds", 1}, {"ptes", STORE_VERSION_PTES}};

/* ---- one number, one change ---- */

static int count(struct fsck *f, const char *text, const char *value, int64_t *ret_n,
                 struct pt2_err *err)
{
    struct sql q;
    int r;

    sql_open(&q, f->store, text, err);
    if (value)
        sql_put_text(&q, value);
    r = sql_next(&q);
    if (r > 0)
        *ret_n = sql_int(&q, 0);
    sql_done(&q);
    return r < 0 ? -1 : 0;
}

static int change(struct fsck *f, const char *text, const char *value, struct pt2_err *err)
{
    struct sql q;

    sql_open(&q, f->store, text, err);
    if (value)
        sql_put_text(&q, value);
    return sql_run(&q) < 0 ? -1 : 0;
}

/* ---- pages and versions ---- */

/* Whatever SQLite complains of.  *ret_n: of how much. */
static int look_at_pages(struct fsck *f, bool say, size_t *ret_n, struct pt2_err *err)
{
    struct sql q;
    int r;

    *ret_n = 0;
    sql_open(&q, f->store, "PRAGMA integrity_check(100)", err);
    while ((r = sql_next(&q)) > 0) {
        const char *text = sql_text(&q, 0);

        if (streq(text, "ok"))
            continue;
        ++*ret_n;
        if (say)
            fsck_found(f, FSCK_PROBLEM, NULL, "pt2d.db: %s", text);
    }
    sql_done(&q);
    return r;
}

/* Indexes are made anew; what lies in the tables themselves can't be. */
static bool make_indexes(struct fsck *f)
{
    size_t n = 0;

    if (change(f, "REINDEX", NULL, NULL) < 0 || look_at_pages(f, false, &n, NULL) < 0 || n > 0)
        return false;
    fsck_found(f, FSCK_PROBLEM, "made anew", "pt2d.db: its indexes don't fit its tables");
    return true;
}

static bool pages_are_well(struct fsck *f)
{
    struct pt2_err why = {0};
    size_t n = 0;

    if (look_at_pages(f, !f->options->repair, &n, &why) == 0 && n == 0)
        return true;
    if (f->options->repair && make_indexes(f))
        return true;
    if (f->options->repair && !why.code)
        (void)!look_at_pages(f, true, &n, &why);
    if (why.code)
        fsck_found(f, FSCK_PROBLEM, NULL, "pt2d.db: %s", why.text);
    return false;
}

int fsck_database(struct fsck *f, struct pt2_err *err)
{
    int newest = store_newest_version();

    f->is_unreadable = !pages_are_well(f);
    if (f->is_unreadable) {
        f->options->say(f->options->ctx,
                        "pt2d.db can't be repaired here: put a copy of the state directory in "
                        "its place, or recover its rows with sqlite3's .recover; files are "
                        "left as they are");
        return 0;
    }
    if (store_version(f->store, &f->version, err) < 0)
        return -1;
    if (f->version < newest && f->options->repair) {
        if (store_update(f->store, err) < 0)
            return -1;
        fsck_found(f, FSCK_LEFTOVER, "brought up to date", "pt2d.db: of version %d",
                   f->version);
        f->version = newest;
    } else if (f->version < newest) {
        fsck_found(f, FSCK_LEFTOVER, NULL, "pt2d.db: of version %d, a start brings it to %d",
                   f->version, newest);
    } else if (f->version > newest) {
        return store_update(f->store, err); /* which says why not */
    }
    return 0;
}

/* ---- references ---- */

static int check_table(struct fsck *f, const char *table, struct pt2_err *err)
{
    char text[160];
    int64_t n = 0;

    snprintf(text, sizeof(text),
             "SELECT count(*) FROM %s WHERE program NOT IN (SELECT id FROM programs)", table);
    if (count(f, text, NULL, &n, err) < 0)
        return -1;
    if (n == 0)
        return 0;
    if (f->options->repair) {
        snprintf(text, sizeof(text),
                 "DELETE FROM %s WHERE program NOT IN (SELECT id FROM programs)", table);
        if (change(f, text, NULL, err) < 0)
            return -1;
    }
    fsck_found(f, FSCK_PROBLEM, f->options->repair ? "removed" : NULL,
               "pt2d.db: %s: %lld rows name programs that are not there", table,
               (long long)n);
    return 0;
}

static bool is_known(const char *table)
{
    for (size_t i = 0; i < ARRAY_LEN(tables); i++)
        if (streq(tables[i].name, table))
            return true;
    return false;
}

int fsck_references(struct fsck *f, struct pt2_err *err)
{
    struct sql q;
    int r;

    if (f->is_unreadable)
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(tables); i++)
        if (f->version >= tables[i].version && check_table(f, tables[i].name, err) < 0)
            return -1;
    sql_open(&q, f->store, "PRAGMA foreign_key_check", err);
    while ((r = sql_next(&q)) > 0)
        if (!is_known(sql_text(&q, 0)))
            fsck_found(f, FSCK_PROBLEM, NULL, "pt2d.db: %s: a row names none of %s",
                       sql_text(&q, 0), sql_text(&q, 2));
    sql_done(&q);
    return r;
}

/* ---- rows of objects ---- */

int fsck_find_row(struct fsck *f, const char *sha256, const char **ret_what,
                  int64_t *ret_bytes, struct pt2_err *err)
{
    int64_t bytes = -1, n = 0;

    *ret_what = NULL;
    *ret_bytes = -1;
    if (count(f, "SELECT bytes FROM programs WHERE id = ?", sha256, &bytes, err) < 0)
        return -1;
    if (bytes >= 0) {
        *ret_what = "program";
        *ret_bytes = bytes;
        return 0;
    }
    if (f->version >= STORE_VERSION_PTES &&
        count(f, "SELECT count(*) FROM ptes WHERE sha256 = ?", sha256, &n, err) < 0)
        return -1;
    if (n > 0)
        *ret_what = ".pte";
    return 0;
}

int fsck_has_program(struct fsck *f, const char *id, bool *ret_is_there, struct pt2_err *err)
{
    int64_t n = 0;

    *ret_is_there = true;
    if (f->is_unreadable)
        return 0;
    if (count(f, "SELECT count(*) FROM programs WHERE id = ?", id, &n, err) < 0)
        return -1;
    *ret_is_there = n > 0 && !json_object_get(f->damaged, id);
    return 0;
}

int fsck_list_rows(struct fsck *f, json_t **ret_list, struct pt2_err *err)
{
    json_auto_t *list = json_array();
    struct sql q;
    int r = -1;

    sql_open(&q, f->store,
             f->version >= STORE_VERSION_PTES
                 ? "SELECT id FROM programs UNION SELECT sha256 FROM ptes"
                 : "SELECT id FROM programs",
             err);
    while (list && (r = sql_next(&q)) > 0)
        if (json_array_append_new(list, json_string(sql_text(&q, 0))) < 0)
            break;
    sql_done(&q);
    if (!list || r > 0)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a list of files");
    *ret_list = json_incref(list);
    return r;
}

/* ---- rows that go ---- */

static int forget_program_within(struct fsck *f, const char *id, struct pt2_err *err)
{
    return change(f, "DELETE FROM aliases WHERE program = ?", id, err) < 0
               ? -1
               : change(f, "DELETE FROM programs WHERE id = ?", id, err);
}

int fsck_forget_program(struct fsck *f, const char *id, char *ret_text, size_t size,
                        struct pt2_err *err)
{
    int64_t n_aliases = 0, n_builds = 0, n_ptes = 0;
    json_auto_t *ptes = NULL;
    const json_t *pte;
    size_t i;

    if (count(f, "SELECT count(*) FROM aliases WHERE program = ?", id, &n_aliases, err) < 0 ||
        count(f, "SELECT count(*) FROM builds WHERE program = ?", id, &n_builds, err) < 0 ||
        count(f, "SELECT count(*) FROM ptes WHERE program = ?", id, &n_ptes, err) < 0 ||
        ptes_db_only_of(f->store, id, &ptes, err) < 0 || store_begin(f->store, err) < 0)
        return -1;
    if (forget_program_within(f, id, err) < 0) {
        store_rollback(f->store);
        return -1;
    }
    if (store_commit(f->store, err) < 0)
        return -1;
    json_array_foreach (ptes, i, pte)
        if (objects_remove(f->objects, json_string_value(pte), err) < 0)
            return -1;
    snprintf(ret_text, size, "forgotten, with %lld aliases, %lld builds and %lld .pte files",
             (long long)n_aliases, (long long)n_builds, (long long)n_ptes);
    return 0;
}

static int forget_pte_within(struct fsck *f, const char *sha256, struct pt2_err *err)
{
    return builds_db_forget_pte(f->store, sha256, err) < 0
               ? -1
               : ptes_db_forget(f->store, sha256, err);
}

int fsck_forget_pte(struct fsck *f, const char *sha256, char *ret_text, size_t size,
                    struct pt2_err *err)
{
    if (store_begin(f->store, err) < 0)
        return -1;
    if (forget_pte_within(f, sha256, err) < 0) {
        store_rollback(f->store);
        return -1;
    }
    snprintf(ret_text, size, "forgotten, with its builds");
    return store_commit(f->store, err);
}
