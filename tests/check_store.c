#include "suite.h"

#include "store_fixture.h"

#include "base/clock.h"
#include "store/aliases_db.h"
#include "store/builds_db.h"
#include "store/files_db.h"
#include "store/idempotency_db.h"
#include "store/jobs_db.h"
#include "store/programs_db.h"
#include "store/sessions_db.h"
#include "store/sql.h"

#include <sqlite3.h>

static struct store *store;

static void setup(void)
{
    state_make();
    OK(store_open(state_dir, &store, err));
}

static void teardown(void)
{
    store_free(store);
    state_remove();
}

static void reopen(void)
{
    store_free(store);
    store = NULL;
    OK(store_open(state_dir, &store, err));
}

static void run_sql(const char *text)
{
    struct sql q;

    sql_open(&q, store, text, NULL);
    ck_assert_msg(sql_run(&q) >= 0, "%s", text);
}

static void add_program(const char *id)
{
    char facts[] = "{}";
    struct program_row row = {.bytes = 7, .created_ms = 1000, .facts = facts};
    bool is_new;

    snprintf(row.id, sizeof(row.id), "%s", id);
    OK(programs_db_insert(store, &row, &is_new, err));
    ck_assert(is_new);
}

/* 64 digits that begin with these. */
static const char *hex(const char *digits)
{
    static char ids[8][SHA256_HEX];
    static int next;
    char *id = ids[next++ % 8];

    memset(id, '0', SHA256_HEX - 1);
    memcpy(id, digits, strlen(digits));
    return id;
}

/* ---- core ---- */

START_TEST(test_store_keeps_what_was_written)
{
    bool found = false;

    add_program(hex("ab"));
    reopen();
    OK(programs_db_find(store, hex("ab"), &found, NULL, err));
    ck_assert(found);
}
END_TEST

/* Where memory runs out at a commit, and at the rollback too, nothing of it stays open: else what is
 * answered later would be a part of it, and gone with the process. */
START_TEST(test_store_r_no_transaction_stays_open_without_memory)
{
    struct pt2_err why = {0};
    bool found = false;

    OK(store_begin(store, err));
    add_program(hex("ab"));
    sqlite3_hard_heap_limit64(1);
    ck_assert_int_eq(store_commit(store, &why), -1);
    ck_assert_int_eq(why.code, PT2_ERR_NOMEM);
    ck_assert_int_eq(store_begin(store, NULL), -1);
    sqlite3_hard_heap_limit64(0);
    add_program(hex("cd"));
    OK(store_begin(store, err));
    add_program(hex("ef"));
    OK(store_commit(store, err));
    reopen();
    OK(programs_db_find(store, hex("ab"), &found, NULL, err));
    ck_assert(!found);
    OK(programs_db_find(store, hex("cd"), &found, NULL, err));
    ck_assert(found);
    OK(programs_db_find(store, hex("ef"), &found, NULL, err));
    ck_assert(found);
}
END_TEST

/* Two daemons on one directory would hand out the same temporary names and jobs. */
START_TEST(test_store_is_one_daemons)
{
    struct store *second = NULL;

    FAILS(IO, store_open(state_dir, &second, err));
    ck_assert_ptr_null(second);
    reopen();
}
END_TEST

/* A database of a later version must not be touched. */
START_TEST(test_store_refuses_a_later_version)
{
    run_sql("PRAGMA user_version = 99");
    store_free(store);
    store = NULL;
    FAILS(IO, store_open(state_dir, &store, err));
    ck_assert_ptr_null(store);
}
END_TEST

START_TEST(test_store_transactions_are_all_or_nothing)
{
    bool found = true;

    OK(store_begin(store, err));
    add_program(hex("aa"));
    store_rollback(store);
    OK(programs_db_find(store, hex("aa"), &found, NULL, err));
    ck_assert(!found);

    /* what is rolled back within takes the outer one with it */
    OK(store_begin(store, err));
    add_program(hex("bb"));
    OK(store_begin(store, err));
    add_program(hex("cc"));
    store_rollback(store);
    FAILS(IO, store_commit(store, err));
    OK(programs_db_find(store, hex("bb"), &found, NULL, err));
    ck_assert(!found);

    OK(store_begin(store, err));
    OK(store_begin(store, err));
    add_program(hex("dd"));
    OK(store_commit(store, err));
    OK(store_commit(store, err));
    OK(programs_db_find(store, hex("dd"), &found, NULL, err));
    ck_assert(found);
}
END_TEST

/* ---- programs and aliases ---- */

START_TEST(test_programs_db_matches_prefixes)
{
    char ids[4][SHA256_HEX];
    size_t n;

    add_program(hex("abcdef01"));
    add_program(hex("abcdef02"));
    add_program(hex("abcdeg"));
    add_program(hex("abcdf"));
    OK(programs_db_match(store, "abcdef0", 4, ids, &n, err));
    ck_assert_uint_eq(n, 2);
    ck_assert_str_eq(ids[0], hex("abcdef01"));
    OK(programs_db_match(store, "abcdef02", 4, ids, &n, err));
    ck_assert_uint_eq(n, 1);
    OK(programs_db_match(store, "abcdef03", 4, ids, &n, err));
    ck_assert_uint_eq(n, 0);
    OK(programs_db_match(store, "ab", 3, ids, &n, err));
    ck_assert_uint_eq(n, 3);
}
END_TEST

START_TEST(test_aliases_db_names_have_rules)
{
    static const char *const good[] = {"a",       "prod",      "a.b-c_9",
                                       "abcdefg", "deadbeefx", "expo"};
    static const char *const bad[] = {"",
                                      "A",
                                      "9a",
                                      "a b",
                                      "ä",
                                      "-a",
                                      "abcdef01",
                                      "deadbeef",
                                      "exp_x",
                                      "a/b",
                                      "facade00facade00"};
    char long_name[66];

    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        OK(alias_check_name(good[i], err));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        FAILS(INVALID, alias_check_name(bad[i], err));
    memset(long_name, 'x', 65);
    long_name[65] = '\0';
    FAILS(INVALID, alias_check_name(long_name, err));
    long_name[64] = '\0';
    OK(alias_check_name(long_name, err));
}
END_TEST

START_TEST(test_aliases_db_move_and_go)
{
    char name[ALIAS_SIZE];
    struct alias alias;
    bool found, is_new;

    FAILS(NOT_FOUND, aliases_db_put(store, "prod", hex("aa"), 100, ALIAS_IF_ANY, &is_new, err));
    add_program(hex("aa"));
    add_program(hex("bb"));
    OK(aliases_db_put(store, "prod", hex("aa"), 100, ALIAS_IF_ANY, &is_new, err));
    ck_assert(is_new);
    FAILS(PRECONDITION,
          aliases_db_put(store, "prod", hex("bb"), 100, ALIAS_IF_NEW, &is_new, err));
    FAILS(PRECONDITION,
          aliases_db_put(store, "other", hex("bb"), 100, ALIAS_IF_THERE, &is_new, err));
    FAILS(QUEUE_FULL, aliases_db_put(store, "other", hex("bb"), 1, ALIAS_IF_ANY, &is_new, err));
    OK(aliases_db_put(store, "prod", hex("bb"), 1, ALIAS_IF_ANY, &is_new, err));
    ck_assert(!is_new);
    OK(aliases_db_find(store, "prod", &found, &alias, err));
    ck_assert(found);
    ck_assert_str_eq(alias.program, hex("bb"));
    OK(aliases_db_of(store, hex("aa"), &found, name, err));
    ck_assert(!found);
    OK(aliases_db_of(store, hex("bb"), &found, name, err));
    ck_assert_str_eq(name, "prod");
    /* the table itself keeps a program that an alias needs */
    FAILS(IO, programs_db_delete(store, hex("bb"), &found, err));
    OK(aliases_db_delete(store, "prod", &found, err));
    ck_assert(found);
    OK(aliases_db_delete(store, "prod", &found, err));
    ck_assert(!found);
    OK(programs_db_delete(store, hex("bb"), &found, err));
    ck_assert(found);
}
END_TEST

/* An export found by its key must not outlive its program. */
START_TEST(test_builds_db_go_with_their_program)
{
    struct build put = {.deviations = (char *)"[\"d\"]"}, build;
    bool found;

    add_program(hex("aa"));
    snprintf(put.program, sizeof(put.program), "%s", hex("aa"));
    for (int i = 0; i < 2; i++) {
        put.verify = i ? (char *)"{}" : NULL;
        OK(builds_db_put(store, hex("1"), &put, err));
        OK(builds_db_find(store, hex("1"), &found, &build, err));
        ck_assert(found);
        ck_assert_str_eq(build.program, hex("aa"));
        ck_assert_str_eq(build.deviations, "[\"d\"]");
        ck_assert(i ? streq(build.verify, "{}") : !build.verify);
        build_done(&build);
    }
    OK(programs_db_delete(store, hex("aa"), &found, err));
    OK(builds_db_find(store, hex("1"), &found, &build, err));
    ck_assert(!found);
}
END_TEST

/* ---- sessions ---- */

static enum session_fate fate(const char *id)
{
    enum session_fate fate = SESSION_NEVER;

    OK(sessions_db_fate(store, id, NULL, &fate, err));
    return fate;
}

START_TEST(test_sessions_db_a_restart_loses_the_living)
{
    OK(sessions_db_start(store, err));
    OK(sessions_db_add(store, "ses_a", "", err));
    OK(sessions_db_add(store, "ses_b", "", err));
    OK(sessions_db_add(store, "ses_c", "", err));
    OK(sessions_db_expire(store, "ses_b", err));
    OK(sessions_db_remove(store, "ses_c", err));
    ck_assert_int_eq(fate("ses_a"), SESSION_LIVE);
    ck_assert_int_eq(fate("ses_b"), SESSION_EXPIRED);
    reopen();
    OK(sessions_db_start(store, err));
    ck_assert_int_eq(fate("ses_a"), SESSION_LOST);
    ck_assert_int_eq(fate("ses_b"), SESSION_EXPIRED);
    ck_assert_int_eq(fate("ses_c"), SESSION_NEVER);
    ck_assert_int_eq(fate("ses_d"), SESSION_NEVER);
}
END_TEST

#define MAKE_OLD \
    "UPDATE sessions SET changed = changed - 8 * 24 * 3600 * 1000" \
    " WHERE id GLOB 'ses_old*'"

START_TEST(test_sessions_db_forgets_after_a_week)
{
    OK(sessions_db_add(store, "ses_old", "", err));
    OK(sessions_db_add(store, "ses_old_but_lost_now", "", err));
    OK(sessions_db_add(store, "ses_b", "", err));
    OK(sessions_db_expire(store, "ses_old", err));
    run_sql(MAKE_OLD);
    OK(sessions_db_start(store, err));
    ck_assert_int_eq(fate("ses_old"), SESSION_NEVER);
    ck_assert_int_eq(fate("ses_old_but_lost_now"), SESSION_LOST);
    ck_assert_int_eq(fate("ses_b"), SESSION_LOST);
}
END_TEST

/* The table grew for as long as a daemon ran: only its next start forgot. */
START_TEST(test_sessions_db_forgets_while_it_runs)
{
    char id[32];

    OK(sessions_db_add(store, "ses_old", "", err));
    OK(sessions_db_add(store, "ses_old_but_live", "", err));
    OK(sessions_db_expire(store, "ses_old", err));
    run_sql(MAKE_OLD);
    for (int i = 0; i < 256; i++) {
        snprintf(id, sizeof(id), "ses_%d", i);
        OK(sessions_db_add(store, id, "", err));
        OK(i % 2 ? sessions_db_expire(store, id, err) : sessions_db_lose(store, id, err));
    }
    ck_assert_int_eq(fate("ses_old"), SESSION_NEVER);
    ck_assert_int_eq(fate("ses_old_but_live"), SESSION_LIVE);
    ck_assert_int_eq(fate("ses_0"), SESSION_LOST);
    ck_assert_int_eq(fate("ses_255"), SESSION_EXPIRED);
}
END_TEST

START_TEST(test_sessions_db_keeps_so_many)
{
    OK(sessions_db_add(store, "ses_new", "", err));
    OK(sessions_db_expire(store, "ses_new", err));
    run_sql("WITH RECURSIVE n(i) AS"
            " (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100100)"
            " INSERT INTO sessions (id, fate, changed, owner) SELECT 'ses_old_' || i, 2, "
            "unixepoch() * 1000 - 1000000 + i, '' FROM n");
    OK(sessions_db_start(store, err));
    ck_assert_int_eq(fate("ses_new"), SESSION_EXPIRED);
    ck_assert_int_eq(fate("ses_old_1"), SESSION_NEVER);
    ck_assert_int_eq(fate("ses_old_101"), SESSION_NEVER);
    ck_assert_int_eq(fate("ses_old_102"), SESSION_EXPIRED);
}
END_TEST

START_TEST(test_sessions_db_tells_a_fate_to_the_owner)
{
    enum session_fate fate;

    OK(sessions_db_add(store, "ses_a", "alice", err));
    OK(sessions_db_expire(store, "ses_a", err)); /* keeps it */
    reopen();
    OK(sessions_db_fate(store, "ses_a", "alice", &fate, err));
    ck_assert_int_eq(fate, SESSION_EXPIRED);
    OK(sessions_db_fate(store, "ses_a", NULL, &fate, err));
    ck_assert_int_eq(fate, SESSION_EXPIRED);
    OK(sessions_db_fate(store, "ses_a", "bob", &fate, err));
    ck_assert_int_eq(fate, SESSION_NEVER);
    OK(sessions_db_fate(store, "ses_a", "", &fate, err));
    ck_assert_int_eq(fate, SESSION_NEVER);
}
END_TEST

/* ---- jobs ---- */

static void add_job(const char *id, const char *model, const char *labels,
                    enum job_state state)
{
    AUTO_JOB_ROW row = {.state = state, .version = 1, .created_ms = 5};
    int64_t seq;

    snprintf(row.id, sizeof(row.id), "%s", id);
    row.model = strdup(model);
    row.options = strdup("{}");
    row.labels = strdup(labels);
    row.deviations = strdup("[]");
    if (job_is_finished(state))
        row.finished_ms = 6;
    OK(jobs_db_insert(store, &row, &seq, err));
}

static char listed[200];

static int list_one(void *ctx, const struct job_row *row, struct pt2_err *err)
{
    strcat(strcat(listed, row->id), " ");
    return 0;
}

static const char *list(struct jobs_filter filter, int64_t before, int64_t limit)
{
    listed[0] = '\0';
    OK(jobs_db_list(store, &filter, before, limit, list_one, NULL, err));
    return listed;
}

START_TEST(test_jobs_db_lists_by_state_model_and_label)
{
    struct jobs_filter all = {.state = -1}, f = all;

    add_job("a", "demo", "{\"build\":\"1\",\"a\\\"b\":\"x\"}", JOB_QUEUED);
    add_job("b", "org/m", "{\"build\":\"2\"}", JOB_FAILED);
    add_job("c", "demo", "{\"build\":\"2\"}", JOB_SUCCEEDED);
    ck_assert_str_eq(list(all, 0, 10), "c b a ");
    ck_assert_str_eq(list(all, 0, 2), "c b ");
    ck_assert_str_eq(list(all, 2, 10), "a ");
    f.model = "demo";
    ck_assert_str_eq(list(f, 0, 10), "c a ");
    f.n_labels = 1;
    f.labels[0].name = "build";
    f.labels[0].value = "2";
    ck_assert_str_eq(list(f, 0, 10), "c ");
    f.labels[0].name = "a\"b";
    f.labels[0].value = "x";
    ck_assert_str_eq(list(f, 0, 10), "a ");
    f = all;
    f.state = JOB_FAILED;
    ck_assert_str_eq(list(f, 0, 10), "b ");
    f.state = JOB_CANCELLED;
    ck_assert_str_eq(list(f, 0, 10), "");
    listed[0] = '\0';
    OK(jobs_db_unfinished(store, list_one, NULL, err));
    ck_assert_str_eq(listed, "a ");
}
END_TEST

START_TEST(test_jobs_db_owners_stay)
{
    AUTO_JOB_ROW row = {.state = JOB_QUEUED, .version = 1, .owner = "alice"};
    AUTO_JOB_ROW read = {0};
    struct jobs_filter f = {.state = -1};
    int64_t seq;
    bool found;

    add_job("a", "demo", "{}", JOB_QUEUED); /* nobody's */
    snprintf(row.id, sizeof(row.id), "b");
    row.model = strdup("demo");
    row.options = strdup("{}");
    row.labels = strdup("{}");
    row.deviations = strdup("[]");
    OK(jobs_db_insert(store, &row, &seq, err));
    row.state = JOB_RUNNING;
    OK(jobs_db_update(store, &row, err));
    reopen();
    OK(jobs_db_find(store, "b", &found, &read, err));
    ck_assert(found);
    ck_assert_str_eq(read.owner, "alice");
    ck_assert_str_eq(list(f, 0, 10), "b a ");
    f.who = "alice";
    ck_assert_str_eq(list(f, 0, 10), "b ");
    f.state = JOB_QUEUED;
    ck_assert_str_eq(list(f, 0, 10), "");
    f.who = "";
    ck_assert_str_eq(list(f, 0, 10), "a ");
    f.who = "bob";
    ck_assert_str_eq(list(f, 0, 10), "");
}
END_TEST

START_TEST(test_jobs_db_prune_takes_finished_ones_alone)
{
    add_job("a", "demo", "{}", JOB_QUEUED);
    add_job("b", "demo", "{}", JOB_SUCCEEDED);
    OK(jobs_db_prune(store, 6, 100, err));
    ck_assert_str_eq(list((struct jobs_filter){.state = -1}, 0, 10), "b a ");
    OK(jobs_db_prune(store, 7, 100, err));
    ck_assert_str_eq(list((struct jobs_filter){.state = -1}, 0, 10), "a ");
}
END_TEST

START_TEST(test_jobs_db_prune_keeps_the_newest)
{
    add_job("a", "demo", "{}", JOB_SUCCEEDED);
    add_job("b", "demo", "{}", JOB_QUEUED);
    add_job("c", "demo", "{}", JOB_SUCCEEDED);
    add_job("d", "demo", "{}", JOB_SUCCEEDED);
    add_job("e", "demo", "{}", JOB_RUNNING);
    OK(jobs_db_prune(store, 0, 5, err));
    ck_assert_str_eq(list((struct jobs_filter){.state = -1}, 0, 10), "e d c b a ");
    OK(jobs_db_prune(store, 0, 2, err));
    ck_assert_str_eq(list((struct jobs_filter){.state = -1}, 0, 10), "e d b ");
}
END_TEST

/* ---- idempotency ---- */

START_TEST(test_idempotency_db_keys_belong_to_owner_and_path)
{
    const struct idempotency_name name = {"ann", "/v1/exports", "k"};
    const struct idempotency_name others[] = {{"bob", "/v1/exports", "k"},
                                              {"ann", "/v1/sessions", "k"},
                                              {"ann", "/v1/exports", "l"}};
    char location[] = "/v1/exports/x", text[] = "{\"id\":\"x\"}";
    struct idempotency_answer put = {
        .body = {1, 2, 3}, .status = 202, .location = location, .answer = text};
    struct idempotency_answer got = {0};
    bool found;

    OK(idempotency_db_put(store, &name, &put, err));
    reopen();
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        OK(idempotency_db_find(store, &others[i], &found, &got, err));
        ck_assert(!found);
    }
    OK(idempotency_db_find(store, &name, &found, &got, err));
    ck_assert(found);
    ck_assert_uint_eq(got.status, 202);
    ck_assert_str_eq(got.location, location);
    ck_assert_str_eq(got.answer, text);
    ck_assert_mem_eq(got.body, put.body, SHA256_BYTES);
    idempotency_answer_done(&got);

    run_sql("UPDATE idempotency SET created = created - 24 * 3600 * 1000 - 1");
    OK(idempotency_db_find(store, &name, &found, &got, err));
    ck_assert(!found);
}
END_TEST

static void keep_key(const char *key_owner, const char *key)
{
    const struct idempotency_name name = {key_owner, "/v1/exports", key};
    char text[] = "{}";
    const struct idempotency_answer answer = {.status = 202, .answer = text};

    OK(idempotency_db_put(store, &name, &answer, err));
}

static int64_t n_keys(void)
{
    int64_t n;

    OK(idempotency_db_count(store, &n, err));
    return n;
}

START_TEST(test_idempotency_db_nobody_has_more_than_half_of_the_keys)
{
    const struct idempotency_name name = {"bob", "/v1/exports", "a"};

    keep_key("ann", "a");
    OK(idempotency_db_check_room(store, "ann", 4, err));
    keep_key("ann", "a"); /* the same: none more */
    keep_key("ann", "b");
    ck_assert_int_eq(n_keys(), 2);
    FAILS(TOKEN_LIMIT, idempotency_db_check_room(store, "ann", 4, err));
    OK(idempotency_db_check_room(store, "bob", 4, err));
    keep_key("bob", "a");
    keep_key("", "a");
    reopen();
    FAILS(QUEUE_FULL, idempotency_db_check_room(store, "bob", 4, err));
    OK(idempotency_db_remove(store, &name, err));
    OK(idempotency_db_check_room(store, "bob", 4, err));
    FAILS(TOKEN_LIMIT, idempotency_db_check_room(store, "ann", 4, err));
    /* old ones make room */
    run_sql("UPDATE idempotency SET created = created - 24 * 3600 * 1000 - 1"
            " WHERE owner = 'ann' AND key = 'a'");
    OK(idempotency_db_check_room(store, "ann", 4, err));
    ck_assert_int_eq(n_keys(), 2);
}
END_TEST

START_TEST(test_idempotency_db_keys_of_an_older_store_are_counted)
{
    keep_key("ann", "a");
    keep_key("ann", "b");
    keep_key("bob", "a");
    run_sql("DROP TRIGGER idempotency_comes");
    run_sql("DROP TRIGGER idempotency_goes");
    run_sql("DROP TABLE idempotency_owners");
    run_sql("PRAGMA user_version = 6");
    reopen();
    ck_assert_int_eq(n_keys(), 3);
    FAILS(TOKEN_LIMIT, idempotency_db_check_room(store, "ann", 4, err));
    OK(idempotency_db_check_room(store, "bob", 4, err));
}
END_TEST

/* ---- files ---- */

START_TEST(test_files_db_any_other_stat_is_another_file)
{
    struct pt2_checkpoint_file file = {.bytes = 10,
                                       .dev = 1,
                                       .inode = UINT64_MAX,
                                       .mtime_ns = 1000000007,
                                       .ctime_ns = 1000000008};
    const uint8_t sha256[SHA256_BYTES] = {9};
    uint8_t got[SHA256_BYTES];
    struct pt2_checkpoint_file other;
    bool found;

    OK(files_db_remember(store, &file, sha256, clock_unix_ms(), err));
    OK(files_db_find(store, &file, got, &found, err));
    ck_assert(found);
    ck_assert_mem_eq(got, sha256, SHA256_BYTES);
    for (int i = 0; i < 5; i++) {
        other = file;
        other.bytes += i == 0;
        other.dev += i == 1;
        other.inode -= i == 2;
        other.mtime_ns += i == 3;
        other.ctime_ns += i == 4;
        OK(files_db_find(store, &other, got, &found, err));
        ck_assert(!found);
    }
}
END_TEST

/* A file written a moment ago may be written again within the same tick. */
START_TEST(test_files_db_remembers_files_at_rest_alone)
{
    int64_t now = clock_unix_ms();
    struct pt2_checkpoint_file file = {.inode = 5};
    const uint8_t sha256[SHA256_BYTES] = {9};
    uint8_t got[SHA256_BYTES];
    bool found;

    file.mtime_ns = file.ctime_ns = now * 1000000 + 1;
    OK(files_db_remember(store, &file, sha256, now + 50, err));
    OK(files_db_find(store, &file, got, &found, err));
    ck_assert(!found);
    OK(files_db_remember(store, &file, sha256, now + 500, err));
    OK(files_db_find(store, &file, got, &found, err));
    ck_assert(found);

    file.inode = 6;
    file.mtime_ns = file.ctime_ns = now / 1000 * 1000000000; /* whole seconds only */
    OK(files_db_remember(store, &file, sha256, now + 1000, err));
    OK(files_db_find(store, &file, got, &found, err));
    ck_assert(!found);
}
END_TEST

/* ---- the clock ---- */

START_TEST(test_clock_text_is_rfc_3339)
{
    char text[CLOCK_TEXT_SIZE];

    /* date -u -d @1767225599 */
    clock_to_text(1767225599042, text);
    ck_assert_str_eq(text, "2025-12-31T23:59:59.042Z");
    clock_to_text(-1, text);
    ck_assert_str_eq(text, "1969-12-31T23:59:59.999Z");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store");
    TCase *core = tcase_create("core"), *tables = tcase_create("tables");

    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_test(core, test_store_keeps_what_was_written);
    tcase_add_test(core, test_store_r_no_transaction_stays_open_without_memory);
    tcase_add_test(core, test_store_is_one_daemons);
    tcase_add_test(core, test_store_refuses_a_later_version);
    tcase_add_test(core, test_store_transactions_are_all_or_nothing);
    suite_add_tcase(suite, core);
    tcase_add_checked_fixture(tables, setup, teardown);
    tcase_add_test(tables, test_programs_db_matches_prefixes);
    tcase_add_test(tables, test_aliases_db_names_have_rules);
    tcase_add_test(tables, test_aliases_db_move_and_go);
    tcase_add_test(tables, test_builds_db_go_with_their_program);
    tcase_add_test(tables, test_sessions_db_a_restart_loses_the_living);
    tcase_add_test(tables, test_sessions_db_forgets_after_a_week);
    tcase_add_test(tables, test_sessions_db_forgets_while_it_runs);
    tcase_add_test(tables, test_sessions_db_keeps_so_many);
    tcase_add_test(tables, test_sessions_db_tells_a_fate_to_the_owner);
    tcase_add_test(tables, test_jobs_db_lists_by_state_model_and_label);
    tcase_add_test(tables, test_jobs_db_owners_stay);
    tcase_add_test(tables, test_jobs_db_prune_takes_finished_ones_alone);
    tcase_add_test(tables, test_jobs_db_prune_keeps_the_newest);
    tcase_add_test(tables, test_idempotency_db_keys_belong_to_owner_and_path);
    tcase_add_test(tables, test_idempotency_db_nobody_has_more_than_half_of_the_keys);
    tcase_add_test(tables, test_idempotency_db_keys_of_an_older_store_are_counted);
    tcase_add_test(tables, test_files_db_any_other_stat_is_another_file);
    tcase_add_test(tables, test_files_db_remembers_files_at_rest_alone);
    tcase_add_test(tables, test_clock_text_is_rfc_3339);
    suite_add_tcase(suite, tables);
    return suite_run(suite);
}
