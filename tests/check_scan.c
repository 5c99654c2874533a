#include "suite.h"

#include "base/scan.h"
#include "base/utf8.h"
#include "base/util.h"

static struct pt2_err err;

/* Take the whole text as one value. */
static int skip_all(const char *json)
{
    AUTO_PTR char *text = strdup(json);
    struct scan s;

    pt2_err_clear(&err);
    scan_begin(&s, text, strlen(text), "text", PT2_ERR_INVALID, &err);
    return scan_skip(&s) < 0 ? -1 : scan_end(&s);
}

/* Catches a grammar that is too wide or too narrow (RFC 8259). */
START_TEST(test_scan_grammar)
{
    static const char *const good[] = {
        "0",
        "-0",
        "1.5e+3",
        "10E-2",
        "true",
        "null",
        " [ ] ",
        "{}",
        "[1,2]",
        "\"\"",
        "[[],{},[{}]]",
        "{\"a\":[{\"b\":null}],\"c\":-1}",
        "\"\\u0001\\ud83d\\ude00\\/\"",
        "\"\xf0\x9f\x98\x80\"",
    };
    static const char *const bad[] = {
        "",
        "01",
        "-",
        "1.",
        ".5",
        "1e",
        "+1",
        "tru",
        "truex",
        "NaN",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1",
        "{\"a\"}",
        "{a:1}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{\"a\":1]",
        "[1}",
        "1 2",
        "\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\u0000\"",
        "\"\n\"",
        "\"\xc0\x80\"",
        "\"\xed\xa0\x80\"",
        "\"\xff\"",
        "\"\\",
    };
    char deep[200];

    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        ck_assert_msg(skip_all(good[i]) == 0, "%s: %s", good[i], err.text);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        ck_assert_msg(skip_all(bad[i]) < 0, "%s", bad[i]);
        ck_assert_int_eq(err.code, PT2_ERR_INVALID);
    }
    for (int n = SCAN_MAX_NESTING; n < SCAN_MAX_NESTING + 2; n++) {
        snprintf(
            deep, sizeof(deep), "%.*s%.*s", n,
            "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", n,
            "]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]");
        ck_assert_int_eq(skip_all(deep), n > SCAN_MAX_NESTING ? -1 : 0);
    }
}
END_TEST

START_TEST(test_scan_values)
{
    char text[] =
        "{\"a\\n\\u00e9\": \"x\\ty\", \"n\": [9223372036854775807, -1, 0],\"t\":true}";
    const char *name, *string;
    struct scan s;
    int64_t i;
    uint64_t u;
    bool b;

    scan_begin(&s, text, strlen(text), "text", PT2_ERR_INVALID, &err);
    ck_assert_int_eq(scan_enter(&s, '{'), 0);
    ck_assert_int_eq(scan_member(&s, &name), 1);
    ck_assert_int_eq(scan_string(&s, &string), 0);
    ck_assert_int_eq(scan_member(&s, &name), 1);
    ck_assert_int_eq(scan_enter(&s, '['), 0);
    ck_assert(scan_item(&s) == 1 && scan_uint(&s, &u) == 0 && u == INT64_MAX);
    ck_assert(scan_item(&s) == 1 && scan_int(&s, &i) == 0 && i == -1);
    ck_assert(scan_item(&s) == 1 && scan_int(&s, &i) == 0 && i == 0);
    ck_assert_int_eq(scan_item(&s), 0);
    ck_assert(scan_member(&s, &name) == 1 && scan_peek(&s) == 't');
    ck_assert(scan_bool(&s, &b) == 0 && b);
    ck_assert_int_eq(scan_member(&s, &name), 0);
    ck_assert_int_eq(scan_end(&s), 0);
    ck_assert_str_eq(string, "x\ty"); /* still there */
}
END_TEST

START_TEST(test_scan_says_where)
{
    char text[] = "[-5]";
    struct scan s;
    uint64_t u;

    pt2_err_clear(&err);
    scan_begin(&s, text, strlen(text), "the table", PT2_ERR_BAD_ARCHIVE, &err);
    ck_assert(scan_enter(&s, '[') == 0 && scan_item(&s) == 1);
    ck_assert_int_eq(scan_uint(&s, &u), -1);
    ck_assert_int_eq(err.code, PT2_ERR_BAD_ARCHIVE);
    ck_assert_str_eq(err.text,
                     "the table, byte 1: expected an integer of at least 0, not -5");
}
END_TEST

/* Every character there is, and what lies between them. */
START_TEST(test_utf8_all_characters)
{
    char utf8[4];

    for (uint32_t c = 0; c <= 0x10ffff; c++) {
        bool is_surrogate = c >= 0xd800 && c <= 0xdfff;
        size_t n = utf8_put(utf8, c);

        ck_assert_uint_eq(utf8_char_len(utf8, n), is_surrogate ? 0 : n);
        ck_assert_uint_eq(utf8_char_len(utf8, n - 1), 0);
    }
    ck_assert(utf8_is_valid("a\xc3\xa9", 3) && !utf8_is_valid("a\xc3", 2));
    ck_assert(!utf8_is_valid("\xc1\xbf", 2) && !utf8_is_valid("\xe0\x9f\xbf", 3));
    ck_assert(!utf8_is_valid("\xf4\x90\x80\x80", 4) && !utf8_is_valid("\x80", 1));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("scan");
    TCase *core = tcase_create("core");

    tcase_add_test(core, test_scan_grammar);
    tcase_add_test(core, test_scan_values);
    tcase_add_test(core, test_scan_says_where);
    tcase_add_test(core, test_utf8_all_characters);
    tcase_set_timeout(core, 120);
    suite_add_tcase(suite, core);
    return suite_run(suite);
}
