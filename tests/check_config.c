/* check_config.c - the table of parameters: defaults, values, files, what is printed. */
#include "cases.h"
#include "suite.h"

#include "http/config.h"
#include "http/params.h"

#include <signal.h>
#include <unistd.h>

static struct config *config;
static struct pt2_err err;

static void setup(void)
{
    pt2_err_clear(&err);
    ck_assert_msg(config_new(&config, &err) == 0, "%s", err.text);
}

static void teardown(void)
{
    config_free(config);
    config = NULL;
}

/* Load text as a file over what is in config. */
static int load(const char *text)
{
    char path[] = "/tmp/check_config-XXXXXX";
    int fd = mkstemp(path), r;

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    pt2_err_clear(&err);
    r = config_load(config, path, &err);
    unlink(path);
    return r;
}

static void check_same(const struct config *a, const struct config *b)
{
    size_t i = 0;
    const char *name = config_next_difference(a, b, &i);

    ck_assert_msg(!name, "%s differs", name);
    for (i = 0; i < N_PARAMS; i++)
        ck_assert_msg(a->values[i].number == b->values[i].number, "%s.%s",
                      params[i].section, params[i].key);
}

/* ---- core ---- */

START_TEST(test_config_defaults_are_the_tables)
{
    ck_assert_str_eq(config_get_text(config, "http.listen"), "127.0.0.1:8250");
    ck_assert_str_eq(config_get_text(config, "http.token_file"), "");
    ck_assert_str_eq(config_get_text(config, "daemon.log_level"), "info");
    ck_assert_int_eq(config_get_int(config, "http.threads"), 2);
    ck_assert_int_eq(config_get_ms(config, "daemon.grace"), 30000);
    ck_assert_int_eq(config_get_ms(config, "exports.keep"), INT64_C(720) * 3600 * 1000);
    ck_assert_uint_eq(config_get_size(config, "http.max_request_bytes"), 8 << 20);
    ck_assert_uint_eq(config_get_size(config, "programs.max_upload_bytes"),
                      UINT64_C(64) << 30);
}
END_TEST

static const struct {
    const char *name, *text;
    int64_t number;
} good[] = {
    {"http.threads", "64", 64},
    {"http.max_header_bytes", "2048", 2048},
    {"http.max_header_bytes", "2048 B", 2048},
    {"http.max_header_bytes", "2K", 2048},
    {"http.max_header_bytes", "2KiB", 2048},
    {"http.max_header_bytes", "2 KiB", 2048},
    {"http.max_request_bytes", "3 M", 3 << 20},
    {"exports.max_memory", "0", 0},
    {"exports.max_memory", "1 TiB", INT64_C(1) << 40},
    {"exports.max_memory", "5 G", INT64_C(5) << 30},
    {"daemon.grace", "0", 0},
    {"daemon.grace", "2", 2000},
    {"daemon.grace", "250 ms", 250},
    {"daemon.grace", "7s", 7000},
    {"daemon.grace", "3 min", 180000},
    {"daemon.grace", "1 h", 3600000},
    {"sessions.max_ttl", "30 d", INT64_C(30) * 86400000},
};

START_TEST(test_config_values_take_units)
{
    ck_assert_msg(config_set(config, good[_i].name, good[_i].text, &err) == 0, "%s",
                  err.text);
    ck_assert_int_eq(config->values[param_find(good[_i].name)].number, good[_i].number);
}
END_TEST

START_TEST(test_config_files_override_each_other)
{
    ck_assert_msg(load("; a comment\r\n[http]\r\nthreads=3 \r\n  \r\n"
                       "token_file = /a b/c\r\n[daemon]\r\nlog_level\t= debug") == 0,
                  "%s", err.text);
    ck_assert_int_eq(config_get_int(config, "http.threads"), 3);
    ck_assert_str_eq(config_get_text(config, "http.token_file"), "/a b/c");
    ck_assert_str_eq(config_get_text(config, "daemon.log_level"), "debug");
    ck_assert_int_eq(config_get_int(config, "http.pool_threads"), 4);
    ck_assert_msg(load("[http]\nthreads = 5\ntoken_file =\n") == 0, "%s", err.text);
    ck_assert_int_eq(config_get_int(config, "http.threads"), 5);
    ck_assert_str_eq(config_get_text(config, "http.token_file"), "");
    ck_assert_str_eq(config_get_text(config, "daemon.log_level"), "debug");
    ck_assert_msg(load("") == 0, "an empty file: %s", err.text);
}
END_TEST

START_TEST(test_config_differences_are_walked)
{
    AUTO(config) other = NULL;
    size_t i = 0;

    ck_assert_int_eq(config_new(&other, &err), 0);
    check_same(config, other);
    ck_assert_int_eq(config_set(other, "engine.idle", "1 s", &err), 0);
    ck_assert_int_eq(config_set(other, "daemon.grace", "1 s", &err), 0);
    ck_assert_str_eq(config_next_difference(config, other, &i), "daemon.grace");
    ck_assert_str_eq(config_next_difference(config, other, &i), "engine.idle");
    ck_assert_ptr_null(config_next_difference(config, other, &i));
}
END_TEST

/* ---- printing ---- */

static char *print(enum config_print how)
{
    struct buf text = BUF_INIT(1 << 20);

    config_print(config, how, &text);
    ck_assert(!buf_failed(&text));
    return text.data;
}

static void check_printed(const char *file, enum config_print how)
{
    AUTO_PTR char *printed = print(how);
    AUTO_PTR char *read = calloc(1, 1 << 20);
    char path[600];
    FILE *f;
    size_t n;

    snprintf(path, sizeof(path), "%s/../../%s", test_data(), file);
    f = fopen(path, "r");
    ck_assert_msg(f != NULL, "%s: unreadable", path);
    n = fread(read, 1, (1 << 20) - 1, f);
    fclose(f);
    ck_assert_uint_gt(n, 0);
    ck_assert_msg(streq(printed, read),
                  "%s is not what tbl_params.h says: run make params", file);
}

START_TEST(test_config_manual_and_sample_are_the_tables)
{
    check_printed("etc/pt2d.conf", CONFIG_PRINT_CONF);
    check_printed("man/pt2d.conf.5", CONFIG_PRINT_MAN);
}
END_TEST

/* The sample with every key put in is the defaults. */
START_TEST(test_config_sample_loads_as_the_defaults)
{
    AUTO_PTR char *text = print(CONFIG_PRINT_CONF);
    AUTO(config) defaults = NULL;
    size_t n_keys = 0;

    ck_assert_int_eq(config_new(&defaults, &err), 0);
    for (char *s = strstr(text, "\n#"); s; s = strstr(s + 1, "\n#")) {
        if (s[2] < 'a' || s[2] > 'z')
            continue;
        s[1] = ' '; /* "#key = value": a comment has a space there */
        n_keys++;
    }
    ck_assert_uint_eq(n_keys, N_PARAMS);
    for (size_t i = 0; i < N_PARAMS; i++) /* so that a key that is not read shows */
        config->values[i].number = -1;
    for (char *s = text; (s = strstr(s, "\n ")) != NULL;)
        memmove(s + 1, s + 2, strlen(s + 2) + 1);
    ck_assert_msg(load(text) == 0, "%s", err.text);
    check_same(config, defaults);
}
END_TEST

START_TEST(test_config_values_in_force_load_again)
{
    AUTO(config) again = NULL;
    AUTO_PTR char *text = NULL;
    char hosts[4097];

    ck_assert_int_eq(config_set(config, "http.listen", "[::1]:0 unix:/run/x", &err), 0);
    ck_assert_int_eq(config_set(config, "daemon.grace", "1500 ms", &err), 0);
    ck_assert_int_eq(config_set(config, "sessions.node", "edge7", &err), 0);
    memset(hosts, 'h', sizeof(hosts) - 1); /* as long as a text may be */
    hosts[sizeof(hosts) - 1] = '\0';
    ck_assert_int_eq(config_set(config, "http.hosts", hosts, &err), 0);
    text = print(CONFIG_PRINT_VALUES);
    again = TAKE(config);
    setup();
    ck_assert_msg(load(text) == 0, "%s", err.text);
    check_same(config, again);
}
END_TEST

/* ---- errors ---- */

static int load_case(const char *dir, struct pt2_err *ret_err)
{
    char path[600];
    AUTO(config) fresh = NULL;

    snprintf(path, sizeof(path), "%s/pt2d.conf", dir);
    ck_assert_int_eq(config_new(&fresh, ret_err), 0);
    return config_load(fresh, path, ret_err);
}

START_TEST(test_config_bad_files_name_the_line)
{
    cases_run("conf-invalid", load_case);
}
END_TEST

START_TEST(test_config_bad_settings_change_nothing)
{
    AUTO(config) defaults = NULL;

    ck_assert_int_eq(config_new(&defaults, &err), 0);
    ck_assert_int_eq(config_set(config, "http.thread", "3", &err), -1);
    ck_assert_str_eq(err.text, "there is no parameter 'http.thread'");
    pt2_err_clear(&err);
    ck_assert_int_eq(config_set(config, "threads", "3", &err), -1);
    ck_assert_int_eq(config_set(config, "http.threads", "many", NULL), -1);
    ck_assert_int_eq(config_set(config, "http.threads", " 3", NULL), -1);
    ck_assert_int_eq(config_set(config, "http.threads", "+3", NULL), -1);
    ck_assert_int_eq(config_set(config, "daemon.grace", "", NULL), -1);
    check_same(config, defaults);
}
END_TEST

START_TEST(test_config_getter_of_another_type_aborts)
{
    (void)config_get_int(config, "daemon.grace");
}
END_TEST

START_TEST(test_config_getter_of_no_parameter_aborts)
{
    (void)config_get_text(config, "daemon.graze");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config");
    TCase *core = tcase_create("core"), *printing = tcase_create("printing"),
          *errors = tcase_create("errors");

    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_test(core, test_config_defaults_are_the_tables);
    tcase_add_loop_test(core, test_config_values_take_units, 0, (int)ARRAY_LEN(good));
    tcase_add_test(core, test_config_files_override_each_other);
    tcase_add_test(core, test_config_differences_are_walked);
    suite_add_tcase(suite, core);
    tcase_add_checked_fixture(printing, setup, teardown);
    tcase_add_test(printing, test_config_manual_and_sample_are_the_tables);
    tcase_add_test(printing, test_config_sample_loads_as_the_defaults);
    tcase_add_test(printing, test_config_values_in_force_load_again);
    suite_add_tcase(suite, printing);
    tcase_add_checked_fixture(errors, setup, teardown);
    tcase_add_test(errors, test_config_bad_files_name_the_line);
    tcase_add_test(errors, test_config_bad_settings_change_nothing);
    tcase_add_test_raise_signal(errors, test_config_getter_of_another_type_aborts,
                                SIGABRT);
    tcase_add_test_raise_signal(errors, test_config_getter_of_no_parameter_aborts,
                                SIGABRT);
    suite_add_tcase(suite, errors);
    return suite_run(suite);
}
