/* check_migrations.c - databases of earlier versions (tests/data/store): nothing is lost. */
#include "suite.h"

#include "store_fixture.h"

#include "base/buf.h"
#include "store/aliases_db.h"
#include "store/builds_db.h"
#include "store/files_db.h"
#include "store/idempotency_db.h"
#include "store/jobs_db.h"
#include "store/programs_db.h"
#include "store/ptes_db.h"
#include "store/sessions_db.h"
#include "store/sql.h"

#include <sqlite3.h>

#define ZEROS_62 "00000000000000000000000000000000000000000000000000000000000000"
#define EXPORTED "a1" ZEROS_62
#define UPLOADED "b2" ZEROS_62
#define PTE      "c3" ZEROS_62
#define KEY      "d4" ZEROS_62
#define N_OLD    6 /* versions that are there */

static struct store *store;

static void setup(void)
{
    state_make();
}

static void teardown(void)
{
    store_free(store);
    store = NULL;
    state_remove();
}

static char *read_text(const char *path)
{
    FILE *f = fopen(path, "r");
    char *text = NULL;
    size_t size = 0;

    ck_assert_msg(f != NULL, "%s", path);
    ck_assert(getdelim(&text, &size, '\0', f) > 0);
    fclose(f);
    return text;
}

/* Make the database that the file describes. */
static void load(int version)
{
    char from[PATH_MAX], to[PATH_MAX], *text, *message = NULL;
    sqlite3 *db;

    snprintf(from, sizeof(from), "%s/store/version-%d.sql", test_data(), version);
    snprintf(to, sizeof(to), "%s/pt2d.db", state_dir);
    text = read_text(from);
    ck_assert_int_eq(sqlite3_open(to, &db), SQLITE_OK);
    ck_assert_msg(sqlite3_exec(db, text, NULL, NULL, &message) == SQLITE_OK, "%s: %s", from,
                  message);
    sqlite3_close(db);
    free(text);
}

static void check_programs(int version)
{
    AUTO_PROGRAM_ROW exported = {0}, uploaded = {0};
    char alias_name[ALIAS_SIZE];
    struct alias alias;
    bool found;

    OK(programs_db_find(store, EXPORTED, &found, &exported, err));
    ck_assert(found);
    ck_assert_int_eq(exported.seq, 1);
    ck_assert_int_eq(exported.bytes, 1000);
    ck_assert_int_eq(exported.created_ms, 1700000000001);
    ck_assert_int_eq(exported.used_ms, version < 5 ? 1700000000001 : 1700000000030);
    ck_assert_int_eq(exported.whole, version < 4 ? DOUBTED /* nobody knows how it ended */ : WHOLE);
    ck_assert(exported.is_pinned == (version >= 5));
    ck_assert_int_eq(exported.origin, 0);
    ck_assert_str_eq(exported.model, "demo");
    ck_assert_str_eq(exported.facts, "{\"vocab_size\":258}");
    ck_assert_str_eq(exported.engines_version, "0.1.0");
    OK(programs_db_find(store, UPLOADED, &found, &uploaded, err));
    ck_assert(found);
    ck_assert_int_eq(uploaded.origin, 1);
    ck_assert_ptr_null(uploaded.model);
    ck_assert_ptr_null(uploaded.engines);
    OK(aliases_db_find(store, "prod", &found, &alias, err));
    ck_assert(found);
    ck_assert_str_eq(alias.program, EXPORTED);
    ck_assert_int_eq(alias.changed_ms, 1700000000003);
    OK(aliases_db_of(store, EXPORTED, &found, alias_name, err));
    ck_assert(found);
}

static void check_builds(int version)
{
    struct build build;
    bool found, has;

    OK(builds_db_find(store, KEY, &found, &build, err));
    ck_assert(found);
    ck_assert_str_eq(build.program, EXPORTED);
    ck_assert_str_eq(build.deviations, "[\"said\"]");
    ck_assert(version < 2 ? !build.verify : streq(build.verify, "{\"tokens\":4}"));
    ck_assert(version < 3 ? !build.pte : streq(build.pte, "{\"sha256\":\"" PTE "\"}"));
    build_done(&build);
    OK(ptes_db_has(store, PTE, &has, err));
    ck_assert(has == (version >= 3));
}

static void check_job(const char *id, enum job_state state, int64_t finished_ms)
{
    AUTO_JOB_ROW row = {0};
    bool found;

    OK(jobs_db_find(store, id, &found, &row, err));
    ck_assert_msg(found, "%s", id);
    ck_assert_int_eq(row.state, state);
    ck_assert_int_eq(row.seq, state + 1);
    ck_assert_int_eq(row.version, state + 1);
    ck_assert_int_eq(row.attempts, state == JOB_QUEUED ? 0 : 1);
    ck_assert_int_eq(row.finished_ms, finished_ms);
    ck_assert_str_eq(row.model, "org/demo");
    ck_assert_str_eq(row.options, "{\"dtype\":\"float32\"}");
    ck_assert_str_eq(row.labels, "{\"build\":\"7\"}");
    ck_assert_str_eq(row.program, state == JOB_SUCCEEDED ? EXPORTED : "");
    ck_assert(state == JOB_FAILED ? streq(row.error, "{\"type\":\"/problems/no-space\"}")
                                  : !row.error);
}

static void check_jobs(int version)
{
    AUTO_JOB_ROW queued = {0}, row = {0};
    bool found;

    OK(jobs_db_find(store, "exp_queued", &found, &queued, err));
    ck_assert_str_eq(queued.owner, version < 6 ? "" : "ann");
    check_job("exp_queued", JOB_QUEUED, 0);
    check_job("exp_running", JOB_RUNNING, 0);
    check_job("exp_succeeded", JOB_SUCCEEDED, 1700000000012);
    check_job("exp_failed", JOB_FAILED, 1700000000013);
    check_job("exp_cancelled", JOB_CANCELLED, 1700000000014);
    OK(jobs_db_find(store, "exp_succeeded", &found, &row, err));
    ck_assert(version < 2 ? !row.verify : streq(row.verify, "{\"tokens\":4}"));
    ck_assert(version < 3 ? !row.pte : streq(row.pte, "{\"sha256\":\"" PTE "\"}"));
}

static void check_the_rest(int version)
{
    const struct idempotency_name name = {"ann", "/v1/exports", "k"};
    const struct pt2_checkpoint_file file = {
        .dev = 1, .inode = 2, .bytes = 3, .mtime_ns = 4, .ctime_ns = 5};
    struct idempotency_answer answer = {0};
    uint8_t sha256[SHA256_BYTES];
    enum session_fate fate;
    int64_t n_keys;
    bool found;

    OK(idempotency_db_count(store, &n_keys, err));
    ck_assert_int_eq(n_keys, 1);
    OK(idempotency_db_find(store, &name, &found, &answer, err));
    ck_assert(found);
    ck_assert_uint_eq(answer.status, 202);
    ck_assert_str_eq(answer.answer, "{\"id\":\"exp_queued\"}");
    ck_assert_uint_eq(answer.body[31], 31);
    idempotency_answer_done(&answer);
    OK(files_db_find(store, &file, sha256, &found, err));
    ck_assert(found);
    ck_assert_uint_eq(sha256[0], 32);
    OK(sessions_db_fate(store, "ses_live", NULL, &fate, err));
    ck_assert_int_eq(fate, SESSION_LIVE);
    OK(sessions_db_fate(store, "ses_expired", NULL, &fate, err));
    ck_assert_int_eq(fate, SESSION_EXPIRED);
    OK(sessions_db_fate(store, "ses_live", "ann", &fate, err));
    ck_assert_int_eq(fate, version < 6 ? SESSION_NEVER : SESSION_LIVE);
}

START_TEST(test_migrations_keep_everything)
{
    int version = 0;

    load(_i);
    OK(store_open(state_dir, &store, err));
    OK(store_version(store, &version, err));
    ck_assert_int_eq(version, store_newest_version());
    check_programs(_i);
    check_builds(_i);
    check_jobs(_i);
    check_the_rest(_i);
}
END_TEST

/* Every column of every table, every index and trigger, a line each; new (free). */
static char *layout(void)
{
    struct buf text = BUF_INIT(1 << 16);
    struct sql q;

    sql_open(&q, store,
             "SELECT t.name || ' ' || c.name || ' ' || c.type || ' ' || c.\"notnull\" || ' ' ||"
             " ifnull(c.dflt_value, '') || ' ' || c.pk FROM sqlite_schema AS t,"
             " pragma_table_info(t.name) AS c ORDER BY t.name, c.cid",
             NULL);
    while (sql_next(&q) > 0)
        buf_printf(&text, "%s\n", sql_text(&q, 0));
    sql_done(&q);
    sql_open(&q, store,
             "SELECT sql FROM sqlite_schema WHERE type IN ('index', 'trigger') AND sql IS NOT NULL"
             " ORDER BY name",
             NULL);
    while (sql_next(&q) > 0)
        buf_printf(&text, "%s\n", sql_text(&q, 0));
    sql_done(&q);
    ck_assert(!buf_failed(&text) && text.len > 0);
    return text.data;
}

START_TEST(test_migrations_end_where_a_new_database_begins)
{
    char *fresh, *migrated;

    OK(store_open(state_dir, &store, err));
    fresh = layout();
    teardown();
    setup();
    load(_i);
    OK(store_open(state_dir, &store, err));
    migrated = layout();
    ck_assert_str_eq(fresh, migrated);
    free(fresh);
    free(migrated);
}
END_TEST

START_TEST(test_migrations_know_no_later_version)
{
    struct pt2_err e = {0}, *err = &e;
    char path[PATH_MAX];
    sqlite3 *db;

    load(N_OLD);
    snprintf(path, sizeof(path), "%s/pt2d.db", state_dir);
    ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(db, "PRAGMA user_version = 77", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    ck_assert_int_eq(store_open(state_dir, &store, err), -1);
    ck_assert_ptr_nonnull(strstr(err->text, "is of version 77, this pt2d knows up to"));
    ck_assert_ptr_null(store);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("migrations");
    TCase *core = tcase_create("core");

    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_loop_test(core, test_migrations_keep_everything, 1, N_OLD + 1);
    tcase_add_loop_test(core, test_migrations_end_where_a_new_database_begins, 1, N_OLD + 1);
    tcase_add_test(core, test_migrations_know_no_later_version);
    suite_add_tcase(suite, core);
    return suite_run(suite);
}
