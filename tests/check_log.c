#include "suite.h"

#include "base/log.h"

#include <fcntl.h>
#include <jansson.h>

static int saved = -1, pipes[2];

static void setup(void)
{
    unsetenv("JOURNAL_STREAM");
    ck_assert_int_eq(pipe(pipes), 0);
    ck_assert_int_eq(fcntl(pipes[0], F_SETFL, O_NONBLOCK), 0);
    saved = dup(STDERR_FILENO);
    ck_assert_int_ge(dup2(pipes[1], STDERR_FILENO), 0);
}

static void teardown(void)
{
    log_set_format(LOG_PLAIN);
    log_set_level(LOG_LEVEL_INFO);
    log_set_request(NULL);
    ck_assert_int_ge(dup2(saved, STDERR_FILENO), 0);
    close(saved);
    close(pipes[0]);
    close(pipes[1]);
}

/* What was logged since; one line without its end, "" where there is none. */
static char *logged(void)
{
    static char text[65536];
    ssize_t n = read(pipes[0], text, sizeof(text) - 1);

    text[MAX(n, 0)] = '\0';
    if (n > 0) {
        ck_assert_int_eq(text[n - 1], '\n');
        text[n - 1] = '\0';
    }
    ck_assert_ptr_null(strchr(text, '\n'));
    return text;
}

/* The same without the time, which is checked. */
static char *after_time(void)
{
    char *line = logged();

    ck_assert_uint_gt(strlen(line), 25);
    ck_assert_int_eq(line[10], 'T');
    ck_assert_int_eq(line[23], 'Z');
    return line + 25;
}

static json_t *logged_json(void)
{
    json_error_t error;
    json_t *json = json_loads(logged(), JSON_REJECT_DUPLICATES, &error);

    ck_assert_msg(json != NULL, "%s", error.text);
    ck_assert_uint_eq(json_string_length(json_object_get(json, "time")), 24);
    return json;
}

static const char *member(const json_t *json, const char *name)
{
    return json_string_value(json_object_get(json, name));
}

/* ---- core ---- */

START_TEST(test_log_plain_lines)
{
    log_info("all is %s", "well");
    ck_assert_str_eq(after_time(), "info: all is well");
    log_warning("two\nlines\tand 'ü'");
    ck_assert_str_eq(after_time(), "warning: two lines and 'ü'");
}
END_TEST

START_TEST(test_log_plain_fields_follow)
{
    const struct log_field fields[] = {{"id", "exp_1"},   {"who", "a b"}, {"empty", ""},
                                       {"none", NULL},    {"from", "[::1]:5"},
                                       {"action", "x/y"}, {NULL, NULL}};

    log_with(LOG_LEVEL_INFO, fields, "audit");
    ck_assert_str_eq(after_time(),
                     "info: audit, id exp_1, who 'a b', from '[::1]:5', action x/y");
}
END_TEST

START_TEST(test_log_levels_are_kept)
{
    log_debug("ours");
    ck_assert_str_eq(logged(), "");
    log_set_level(LOG_LEVEL_DEBUG);
    log_debug("ours");
    ck_assert_str_eq(after_time(), "debug: ours");
    log_set_level(LOG_LEVEL_ERROR);
    log_warning("not this");
    ck_assert_str_eq(logged(), "");
    log_error("this");
    ck_assert_str_eq(after_time(), "error: this");
}
END_TEST

START_TEST(test_log_under_systemd_priorities_stand_for_the_time)
{
    setenv("JOURNAL_STREAM", "8:1", 1);
    log_warning("careful");
    ck_assert_str_eq(logged(), "<4>careful");
    unsetenv("JOURNAL_STREAM");
}
END_TEST

START_TEST(test_log_lines_of_a_request_bear_its_id)
{
    log_set_request("r-1");
    log_info("within");
    ck_assert_str_eq(after_time(), "info: within, request r-1");
    log_with(LOG_LEVEL_INFO, LOG_REQUEST("r-2"), "another's");
    ck_assert_str_eq(after_time(), "info: another's, request r-2");
    log_set_request(NULL);
    log_info("without");
    ck_assert_str_eq(after_time(), "info: without");
}
END_TEST

START_TEST(test_log_json_lines)
{
    json_t *json;

    log_set_format(LOG_JSON);
    log_set_request("r-1");
    log_with(LOG_LEVEL_WARNING, (const struct log_field[]){{"id", "a\"b\\c"}, {NULL, NULL}},
             "it's \"quoted\"\n\x7f and ü");
    json = logged_json();
    ck_assert_str_eq(member(json, "level"), "warning");
    ck_assert_str_eq(member(json, "message"), "it's \"quoted\"\n\x7f and ü");
    ck_assert_str_eq(member(json, "id"), "a\"b\\c");
    ck_assert_str_eq(member(json, "request"), "r-1");
    ck_assert_uint_eq(json_object_size(json), 5);
    json_decref(json);
}
END_TEST

/* ---- limits ---- */

START_TEST(test_log_json_of_bytes_that_are_no_utf8)
{
    json_t *json;

    log_set_format(LOG_JSON);
    log_info("a\xff" "b\xc3");
    json = logged_json();
    ck_assert_str_eq(member(json, "message"), "a\xef\xbf\xbd" "b\xef\xbf\xbd");
    json_decref(json);
}
END_TEST

/* Whatever is cut, the line stays one, and JSON. */
START_TEST(test_log_long_lines_are_cut)
{
    static const char fill[] = "x\"\x01\xc3\xbc";
    char *text = malloc(8001);
    json_t *json;

    for (int i = 0; i < 8000; i++)
        text[i] = fill[_i == 4 ? i % 5 : _i];
    if (_i == 3)
        memset(text, '\xf0', 8000);
    text[8000] = '\0';
    for (int format = LOG_PLAIN; format <= LOG_JSON; format++) {
        const struct log_field fields[] = {
            {"a", text}, {"b", text}, {"c", text}, {"d", text}, {NULL, NULL}};

        log_set_format((enum log_format)format);
        log_with(LOG_LEVEL_INFO, fields, "%s", text);
        if (format == LOG_JSON) {
            json = logged_json();
            ck_assert_uint_gt(strlen(member(json, "message")), 500);
            json_decref(json);
        } else {
            ck_assert_uint_gt(strlen(logged()), 2000);
        }
    }
    free(text);
}
END_TEST

START_TEST(test_log_levels_have_names)
{
    ck_assert_int_eq(log_level_from_name("debug"), LOG_LEVEL_DEBUG);
    ck_assert_int_eq(log_level_from_name("loud"), -1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log");
    TCase *core = tcase_create("core"), *limits = tcase_create("limits");

    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_test(core, test_log_plain_lines);
    tcase_add_test(core, test_log_plain_fields_follow);
    tcase_add_test(core, test_log_levels_are_kept);
    tcase_add_test(core, test_log_under_systemd_priorities_stand_for_the_time);
    tcase_add_test(core, test_log_lines_of_a_request_bear_its_id);
    tcase_add_test(core, test_log_json_lines);
    suite_add_tcase(suite, core);
    tcase_add_checked_fixture(limits, setup, teardown);
    tcase_add_test(limits, test_log_json_of_bytes_that_are_no_utf8);
    tcase_add_loop_test(limits, test_log_long_lines_are_cut, 0, 5);
    tcase_add_test(limits, test_log_levels_have_names);
    suite_add_tcase(suite, limits);
    return suite_run(suite);
}
