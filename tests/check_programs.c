#include "suite.h"

#include "store_fixture.h"

#include "store/aliases_db.h"
#include "store/builds_db.h"
#include "store/jobs_db.h"
#include "store/programs.h"
#include "store/whole.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <stdatomic.h>

static struct store *store;
static struct objects *objects;
static struct programs *programs;
static const char *engine_version = "1";

/* In place of src/engine. */
static atomic_int n_checks;
static atomic_bool fails_for_now;
int pt2_engine_check(const char *path, enum pt2_engine_kind kind,
                     const struct pt2_engine_options *options, bool *ret_ok,
                     char *ret_reason, size_t size, struct pt2_err *err)
{
    n_checks++;
    if (fails_for_now)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory now");
    *ret_ok = kind == PT2_ENGINE_ATEN;
    snprintf(ret_reason, size, "not built");
    return 0;
}

static void start(void)
{
    struct programs_options options = {.engine_version = engine_version};

    OK(store_open(state_dir, &store, err));
    OK(objects_open(state_dir, &objects, err));
    OK(programs_new(store, objects, &options, &programs, err));
}

static void stop(void)
{
    programs_free(programs);
    objects_free(objects);
    store_free(store);
}

static void setup(void)
{
    state_make();
    start();
}

static void teardown(void)
{
    stop();
    state_remove();
}

static const char *add(int64_t max_cache_len, bool *ret_is_new)
{
    static char ids[4][PROGRAM_ID_SIZE];
    static int next;
    char *id = ids[next++ % 4];
    const struct program_source source = {.origin = PROGRAM_EXPORT, .model = "demo"};
    struct temp_file temp;
    uint8_t sha256[SHA256_BYTES];

    make_program(objects, max_cache_len, &temp, sha256);
    OK(programs_add(programs, &temp, sha256, &source, id, ret_is_new, err));
    temp_file_drop(&temp);
    return id;
}

static json_int_t number(const json_t *json, const char *a, const char *b)
{
    return json_integer_value(json_object_get(json_object_get(json, a), b));
}

START_TEST(test_programs_say_what_they_are)
{
    const char *id = add(32, NULL);
    json_t *json, *engines;

    OK(programs_get(programs, id, true, &json, err));
    ck_assert_str_eq(json_string_value(json_object_get(json, "id")), id);
    ck_assert_str_eq(json_string_value(json_object_get(json, "origin")), "export");
    ck_assert_str_eq(json_string_value(json_object_get(json, "model")), "demo");
    ck_assert_int_eq(number(json, "cache", "max_cache_len"), 32);
    ck_assert_int_eq(number(json, "cache", "batch_size"), 1);
    /* share/models/demo/config.json: 4 layers, 258 tokens; 431136 weights, tied head */
    ck_assert_int_eq(number(json, "cache", "layers"), 4);
    ck_assert_int_eq(json_integer_value(json_object_get(json, "vocab_size")), 258);
    ck_assert_int_eq(number(json, "parameters", "elements"), 431136);
    ck_assert_int_eq(number(json, "parameters", "bytes"), 2 * 431136);
    engines = json_object_get(json, "engines");
    ck_assert(json_is_true(json_object_get(json_object_get(engines, "aten"), "ok")));
    ck_assert(json_is_null(json_object_get(json_object_get(engines, "aten"), "reason")));
    ck_assert(json_is_false(json_object_get(json_object_get(engines, "native"), "ok")));
    json_decref(json);
}
END_TEST

START_TEST(test_programs_are_there_once)
{
    bool is_new;
    const char *id = add(32, &is_new);

    ck_assert(is_new);
    ck_assert_str_eq(add(32, &is_new), id);
    ck_assert(!is_new);
    ck_assert_str_ne(add(33, &is_new), id);
    ck_assert(is_new);
}
END_TEST

static json_t *page(int64_t limit, int64_t after, int64_t *ret_next)
{
    json_t *list;

    OK(programs_list(programs, limit, after, &list, ret_next, err));
    return list;
}

START_TEST(test_programs_list_in_pages)
{
    const char *first = add(32, NULL);
    int64_t next;
    json_t *list;

    add(33, NULL);
    add(34, NULL);
    list = page(2, 0, &next);
    ck_assert_uint_eq(json_array_size(list), 2);
    ck_assert_str_eq(json_string_value(json_object_get(json_array_get(list, 0), "id")),
                     first);
    ck_assert_int_ne(next, 0);
    json_decref(list);
    list = page(2, next, &next);
    ck_assert_uint_eq(json_array_size(list), 1);
    ck_assert_int_eq(next, 0);
    json_decref(list);
    list = page(3, 0, &next);
    ck_assert_int_eq(next, 0);
    json_decref(list);
}
END_TEST

/* ---- names ---- */

static const char *resolve(const char *name, bool *ret_by_alias)
{
    static char id[PROGRAM_ID_SIZE];

    OK(programs_resolve(programs, name, NULL, id, ret_by_alias, err));
    return id;
}

static void add_job(const char *id, enum job_state state, const char *program)
{
    AUTO_JOB_ROW row = {.state = state, .version = 1, .created_ms = 5};
    int64_t seq;

    snprintf(row.id, sizeof(row.id), "%s", id);
    snprintf(row.program, sizeof(row.program), "%s", program);
    row.model = strdup("demo");
    row.options = strdup("{}");
    row.labels = strdup("{}");
    row.deviations = strdup("[]");
    OK(jobs_db_insert(store, &row, &seq, err));
}

START_TEST(test_programs_resolve_names_in_order)
{
    const char *id = add(32, NULL), *other = add(33, NULL);
    char prefix[16], out[PROGRAM_ID_SIZE];
    bool by_alias, is_new;

    ck_assert_str_eq(resolve(id, &by_alias), id);
    ck_assert(!by_alias);
    snprintf(prefix, sizeof(prefix), "%.8s", id);
    ck_assert_str_eq(resolve(prefix, &by_alias), id);
    prefix[7] = '\0';
    FAILS(NOT_FOUND, programs_resolve(programs, prefix, NULL, out, NULL, err));
    OK(aliases_db_put(store, "prod", other, 100, ALIAS_IF_ANY, &is_new, err));
    ck_assert_str_eq(resolve("prod", &by_alias), other);
    ck_assert(by_alias);
    add_job("exp_1", JOB_SUCCEEDED, id);
    add_job("exp_2", JOB_RUNNING, "");
    ck_assert_str_eq(resolve("exp_1", &by_alias), id);
    FAILS(CONFLICT, programs_resolve(programs, "exp_2", NULL, out, NULL, err));
    FAILS(NOT_FOUND, programs_resolve(programs, "exp_1", "alice", out, NULL, err));
    FAILS(NOT_FOUND, programs_resolve(programs, "exp_2", "alice", out, NULL, err));
    OK(programs_resolve(programs, id, "alice", out, NULL, err)); /* everybody's */
    FAILS(NOT_FOUND, programs_resolve(programs, "exp_3", NULL, out, NULL, err));
    FAILS(NOT_FOUND, programs_resolve(programs, "dev", NULL, out, NULL, err));
    FAILS(NOT_FOUND, programs_resolve(programs, "", NULL, out, NULL, err));
}
END_TEST

/* ---- deleting ---- */

START_TEST(test_programs_in_use_stay)
{
    const char *id = add(32, NULL);
    bool is_new, found;
    char path[PATH_MAX];

    OK(programs_pin(programs, id, WHOLE_WAIT, err));
    OK(programs_pin(programs, id, WHOLE_WAIT, err));
    FAILS(IN_USE, programs_delete(programs, id, err));
    programs_unpin(programs, id);
    FAILS(IN_USE, programs_delete(programs, id, err));
    programs_unpin(programs, id);
    OK(aliases_db_put(store, "prod", id, 100, ALIAS_IF_ANY, &is_new, err));
    FAILS(IN_USE, programs_delete(programs, id, err));
    OK(aliases_db_delete(store, "prod", &found, err));
    FAILS(NOT_FOUND, programs_delete(programs, "abcd", err));
    programs_path(programs, id, path);
    ck_assert_int_eq(access(path, F_OK), 0);
    OK(programs_delete(programs, id, err));
    ck_assert_int_ne(access(path, F_OK), 0);
    FAILS(NOT_FOUND, programs_delete(programs, id, err));
    FAILS(NOT_FOUND, programs_pin(programs, id, WHOLE_WAIT, err));
    FAILS(NOT_FOUND, programs_get(programs, id, false, &(json_t *){NULL}, err));
    add(32, &is_new);
    ck_assert(is_new);
}
END_TEST

/* ---- bad ones ---- */

static int refuse(void *ctx, const char *id, struct pt2_err *err)
{
    return pt2_err_set(err, PT2_ERR_INVALID, "no");
}

static size_t n_objects(void)
{
    json_t *list;
    int64_t next;
    size_t n;

    OK(programs_list(programs, 100, 0, &list, &next, err));
    n = json_array_size(list);
    json_decref(list);
    return n;
}

START_TEST(test_programs_that_fail_leave_nothing)
{
    struct program_source source = {.origin = PROGRAM_UPLOAD, .also = refuse};
    char id[PROGRAM_ID_SIZE], path[PATH_MAX];
    uint8_t sha256[SHA256_BYTES];
    struct temp_file temp;

    make_program(objects, 32, &temp, sha256);
    FAILS(INVALID, programs_add(programs, &temp, sha256, &source, id, NULL, err));
    temp_file_drop(&temp);
    ck_assert_uint_eq(n_objects(), 0);
    sha256_to_hex(sha256, id);
    programs_path(programs, id, path);
    ck_assert_int_ne(access(path, F_OK), 0);

    source.also = NULL;
    make_program(objects, 32, &temp, sha256);
    ck_assert_int_eq(ftruncate(temp.fd, 5000), 0);
    FAILS(BAD_ARCHIVE, programs_add(programs, &temp, sha256, &source, id, NULL, err));
    temp_file_drop(&temp);
    ck_assert_uint_eq(n_objects(), 0);
}
END_TEST

/* ---- engines ---- */

static bool is_checked(const char *id)
{
    json_t *json;
    bool is;

    OK(programs_get(programs, id, true, &json, err));
    is = json_is_true(
        json_object_get(json_object_get(json_object_get(json, "engines"), "aten"), "ok"));
    json_decref(json);
    return is;
}

/* A verdict costs a process and libtorch's start: asked for once a version. */
START_TEST(test_programs_engines_are_asked_once_a_version)
{
    char id[PROGRAM_ID_SIZE];

    strcpy(id, add(32, NULL));
    ck_assert(is_checked(id));
    ck_assert_int_eq(n_checks, 2);
    stop();
    start();
    ck_assert(is_checked(id));
    ck_assert_int_eq(n_checks, 2);
    stop();
    engine_version = "2";
    start();
    ck_assert(is_checked(id));
    ck_assert_int_eq(n_checks, 4);
}
END_TEST

START_TEST(test_programs_passing_verdicts_are_asked_again)
{
    char id[PROGRAM_ID_SIZE];

    fails_for_now = true;
    strcpy(id, add(32, NULL));
    ck_assert(!is_checked(id));
    ck_assert(!is_checked(id));
    ck_assert_int_eq(n_checks, 2);
    fails_for_now = false;
    stop();
    start();
    ck_assert(is_checked(id));
}
END_TEST

/* A daemon killed between the rename and the record leaves a file that nobody knows. */
START_TEST(test_programs_start_sweeps_unrecorded_files)
{
    char id[PROGRAM_ID_SIZE], path[PATH_MAX], kept[PATH_MAX];
    uint8_t sha256[SHA256_BYTES];
    struct temp_file temp;

    programs_path(programs, add(33, NULL), kept);
    make_program(objects, 32, &temp, sha256);
    sha256_to_hex(sha256, id);
    OK(objects_keep(objects, &temp, id, false, err));
    temp_file_drop(&temp);
    programs_path(programs, id, path);
    ck_assert_int_eq(access(path, F_OK), 0);
    stop();
    start();
    ck_assert_int_ne(access(path, F_OK), 0);
    ck_assert_int_eq(access(kept, F_OK), 0);
}
END_TEST

/* ---- damage ---- */

static const char *integrity(const char *id)
{
    static char text[16];
    json_t *json;

    OK(programs_get(programs, id, false, &json, err));
    snprintf(text, sizeof(text), "%s", json_string_value(json_object_get(json, "integrity")));
    json_decref(json);
    return text;
}

/* Turn one bit in the middle of the file; its times and size stay. */
static void damage(const char *id)
{
    char path[PATH_MAX];
    struct stat st;
    uint8_t byte;
    int fd;

    programs_path(programs, id, path);
    ck_assert_int_eq(chmod(path, 0600), 0);
    fd = open(path, O_RDWR);
    ck_assert_int_eq(fstat(fd, &st), 0);
    ck_assert_int_eq(pread(fd, &byte, 1, st.st_size / 2), 1);
    byte ^= 1;
    ck_assert_int_eq(pwrite(fd, &byte, 1, st.st_size / 2), 1);
    close(fd);
}

/* As if the last daemon had been killed. */
static void restart_after_a_crash(void)
{
    char path[PATH_MAX];
    sqlite3 *db;

    stop();
    snprintf(path, sizeof(path), "%s/pt2d.db", state_dir);
    ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(db, "INSERT INTO running VALUES (1)", NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(db);
    start();
}

static void wait_for_integrity(const char *id, const char *wanted)
{
    for (int i = 0; !streq(integrity(id), wanted); i++) {
        ck_assert_msg(i < 1000, "%s is %s, not %s", id, integrity(id), wanted);
        usleep(10000);
    }
}

/* The files are read after a crash, and only then. */
START_TEST(test_programs_are_read_after_a_crash)
{
    char good[PROGRAM_ID_SIZE], bad[PROGRAM_ID_SIZE], none[] = "[]";
    struct build build = {.deviations = none};
    char *text;
    uint64_t bytes;
    bool found;
    int fd;

    strcpy(good, add(32, NULL));
    strcpy(bad, add(33, NULL));
    ck_assert_str_eq(integrity(bad), "whole");
    snprintf(build.program, sizeof(build.program), "%s", bad);
    OK(builds_db_put(store, bad, &build, err));
    damage(bad);
    stop();
    start();
    ck_assert_str_eq(integrity(bad), "whole"); /* an end that was one */
    restart_after_a_crash();
    FAILS(PROGRAM_DAMAGED, programs_pin(programs, bad, WHOLE_WAIT, err)); /* it may not have been read yet */
    FAILS(PROGRAM_DAMAGED, programs_open_file(programs, bad, &fd, &bytes, err));
    FAILS(PROGRAM_DAMAGED, programs_graph(programs, bad, &text, err));
    ck_assert_str_eq(integrity(bad), "damaged");
    OK(builds_db_find(store, bad, &found, &(struct build){0}, err));
    ck_assert(!found);
    wait_for_integrity(good, "whole"); /* with nobody asking for it */
    OK(programs_pin(programs, good, WHOLE_WAIT, err));
    programs_unpin(programs, good);
    stop();
    start();
    ck_assert_str_eq(integrity(bad), "damaged");
}
END_TEST

START_TEST(test_programs_that_are_damaged_are_put_right)
{
    char path[PATH_MAX], id[PROGRAM_ID_SIZE];
    uint8_t due[SHA256_BYTES], digest[SHA256_BYTES];
    bool is_new;
    int fd;

    strcpy(id, add(32, NULL));
    damage(id);
    restart_after_a_crash();
    ck_assert_str_eq(add(32, &is_new), id); /* doubted, or found to be damaged already */
    ck_assert(!is_new);
    ck_assert_str_eq(integrity(id), "whole");
    programs_path(programs, id, path);
    fd = open(path, O_RDONLY);
    OK(sha256_of_file(fd, path, NULL, digest, err));
    close(fd);
    ck_assert(sha256_from_hex(id, due));
    ck_assert_mem_eq(due, digest, sizeof(due));

    ck_assert_int_eq(unlink(path), 0); /* or gone */
    restart_after_a_crash();
    wait_for_integrity(id, "damaged");
    add(32, &is_new);
    ck_assert_str_eq(integrity(id), "whole");
    ck_assert_int_eq(access(path, F_OK), 0);
}
END_TEST

/* A daemon that dies again while it reads has not read all. */
START_TEST(test_programs_stay_doubted_until_they_are_read)
{
    struct whole_state whole;
    bool found;
    char id[PROGRAM_ID_SIZE], doubted[PROGRAM_ID_SIZE];

    strcpy(id, add(32, NULL));
    programs_free(programs);
    OK(whole_start(&whole, store, objects, err));
    OK(programs_db_doubted(store, doubted, &found, err));
    ck_assert(!found);
    OK(whole_start(&whole, store, objects, err)); /* the one before had no end */
    whole_stop(&whole);
    FAILS(CANCELLED, whole_check(&whole, id, WHOLE_WAIT, err));
    OK(programs_db_doubted(store, doubted, &found, err));
    ck_assert(found);
    whole_done(&whole); /* stopped well, with that program not read */
    OK(whole_start(&whole, store, objects, err));
    OK(programs_db_doubted(store, doubted, &found, err));
    ck_assert(found);
    ck_assert_str_eq(doubted, id);
    OK(whole_check(&whole, id, WHOLE_WAIT, err));
    OK(programs_db_doubted(store, doubted, &found, err));
    ck_assert(!found);
    whole_done(&whole);
    OK(programs_new(store, objects, &(struct programs_options){.engine_version = "1"},
                    &programs, err));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("programs");
    TCase *core = tcase_create("core");

    tcase_add_checked_fixture(core, setup, teardown);
    tcase_set_timeout(core, 120);
    tcase_add_test(core, test_programs_say_what_they_are);
    tcase_add_test(core, test_programs_are_there_once);
    tcase_add_test(core, test_programs_list_in_pages);
    tcase_add_test(core, test_programs_resolve_names_in_order);
    tcase_add_test(core, test_programs_in_use_stay);
    tcase_add_test(core, test_programs_that_fail_leave_nothing);
    tcase_add_test(core, test_programs_engines_are_asked_once_a_version);
    tcase_add_test(core, test_programs_passing_verdicts_are_asked_again);
    tcase_add_test(core, test_programs_start_sweeps_unrecorded_files);
    tcase_add_test(core, test_programs_are_read_after_a_crash);
    tcase_add_test(core, test_programs_that_are_damaged_are_put_right);
    tcase_add_test(core, test_programs_stay_doubted_until_they_are_read);
    suite_add_tcase(suite, core);
    return suite_run(suite);
}
