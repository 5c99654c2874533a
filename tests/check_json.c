#include "alloc_fail.h"
#include "suite.h"

#include "base/buf.h"
#include "base/json.h"

#include <malloc.h>

static json_t *parsed(const char *text)
{
    struct pt2_err err = {0};
    json_t *json = NULL;

    if (json_parse(text, strlen(text), &json, &err) < 0)
        ck_abort_msg("%s: %s", text, err.text);
    return json;
}

static enum pt2_error refused(const char *text, size_t len)
{
    struct pt2_err err = {0};
    json_t *json = NULL;

    if (json_parse(text, len, &json, &err) == 0) {
        json_decref(json);
        return PT2_ERR_NONE;
    }
    ck_assert(err.text[0]);
    return err.code;
}

static const char *pointer_of(const struct json_problems *p, size_t i)
{
    return json_string_value(json_object_get(json_array_get(p->errors, i), "pointer"));
}

static const char *detail_of(const struct json_problems *p, size_t i)
{
    return json_string_value(json_object_get(json_array_get(p->errors, i), "detail"));
}

/* Many times the element between the ends, its '#' being the number of the time. */
static void check_tree(const char *begin, const char *element, const char *end)
{
    const char *number = strchr(element, '#');
    const int before_number = number ? (int)(number - element) : (int)strlen(element);
    AUTO_BUF text = BUF_INIT(8 << 20);
    struct pt2_err err = {0};
    json_t *json = NULL;
    size_t before, held;
    uint64_t said;

    buf_printf(&text, "%s", begin);
    for (int i = 0; i < 20000; i++) {
        buf_printf(&text, "%s%.*s", i ? "," : "", before_number, element);
        if (number)
            buf_printf(&text, "%d%s", i, number + 1);
    }
    buf_printf(&text, "%s", end);
    ck_assert(!buf_failed(&text));
    said = json_tree_bytes(text.data, text.len);
    before = mallinfo2().uordblks;
    if (json_parse(text.data, text.len, &json, &err) < 0)
        ck_abort_msg("%s: %s", element, err.text);
    held = mallinfo2().uordblks - before;
    ck_assert_msg(held <= said, "%s: %zu bytes, %llu were said", element, held,
                  (unsigned long long)said);
    /* and no body that is meant well is refused for it */
    ck_assert_msg(held == 0 || said <= 8 * held, "%s: %zu bytes, %llu were said", element,
                  held, (unsigned long long)said);
    json_decref(json);
}

START_TEST(test_json_tree_bytes_bound_what_parsing_takes)
{
    check_tree("[", "#", "]");
    check_tree("[", "1", "]");
    check_tree("[", "1.5", "]");
    check_tree("[", "null", "]");
    check_tree("[", "[]", "]");
    check_tree("[", "{}", "]");
    check_tree("[", "\"\"", "]");
    check_tree("[", "\"a\\\"b,:[{\\\\\"", "]");
    check_tree("[", "\"some words that are long enough to be a text of their own\"", "]");
    check_tree("[", "[1]", "]");
    check_tree("[", "[[[]]]", "]");
    check_tree("[", "{\"a\":1}", "]");
    check_tree("[", "{\"a\":{},\"b\":[]}", "]");
    check_tree("{", "\"#\":1", "}");
    check_tree("{", "\"#\":{}", "}");
}
END_TEST

START_TEST(test_json_members_are_read_by_type)
{
    json_auto_t *body = parsed("{\"s\": \"x\", \"i\": -3, \"b\": true, \"c\": \"two\", "
                               "\"n\": null, \"o\": {\"k\": 1}, \"a\": [1, 2, 3], "
                               "\"labels\": {\"build\": \"42\"}}");
    static const char *const choices[] = {"one", "two"};
    struct json_problems problems = {0};
    struct json_obj o, sub;
    const char *s = NULL;
    const json_t *labels = NULL;
    int64_t i = 0, k = 0, *ints = NULL;
    size_t c = 0, n = 0;
    bool b = false;

    json_obj_begin(&o, body, "", &problems);
    json_require(&o, "s");
    ck_assert(json_get_string(&o, "s", 10, &s));
    ck_assert(json_get_int(&o, "i", -3, 3, &i));
    ck_assert(json_get_bool(&o, "b", &b));
    ck_assert(json_get_choice(&o, "c", choices, 2, &c));
    ck_assert(json_is_null_member(&o, "n"));
    ck_assert(json_get_obj(&o, "o", &sub));
    ck_assert(json_get_int(&sub, "k", 0, 9, &k));
    json_obj_end(&sub);
    ck_assert(json_get_ints(&o, "a", 0, 3, 1, 3, &ints, &n));
    ck_assert(json_get_labels(&o, "labels", &labels));
    ck_assert(!json_get_int(&o, "absent", 0, 1, &i));
    json_obj_end(&o);
    ck_assert(!json_problems_any(&problems));
    ck_assert_str_eq(s, "x");
    ck_assert_int_eq(i, -3);
    ck_assert(b);
    ck_assert_uint_eq(c, 1);
    ck_assert_int_eq(k, 1);
    ck_assert_uint_eq(n, 3);
    ck_assert_int_eq(ints[2], 3);
    free(ints);
}
END_TEST

START_TEST(test_json_all_problems_are_collected)
{
    json_auto_t *body =
        parsed("{\"s\": \"\", \"i\": 10, \"b\": 1, \"sl/a~sh\": 0, "
               "\"o\": {\"typo\": 1}, \"a\": [1, \"x\"], \"z\": \"a\\u0000b\"}");
    struct json_problems problems = {0};
    struct pt2_err err = {0};
    struct json_obj o, sub;
    const char *s = NULL;
    int64_t i = 5, *ints = NULL;
    size_t n = 7;
    bool b;

    json_obj_begin(&o, body, "", &problems);
    ck_assert(!json_get_string(&o, "s", 10, &s));
    ck_assert(!json_get_int(&o, "i", 0, 9, &i));
    ck_assert(!json_get_bool(&o, "b", &b));
    ck_assert(!json_get_string(&o, "z", 10, &s));
    json_require(&o, "model");
    ck_assert(json_get_obj(&o, "o", &sub));
    json_obj_end(&sub);
    ck_assert(!json_get_ints(&o, "a", 0, 3, 0, 9, &ints, &n));
    json_obj_end(&o);
    ck_assert_uint_eq(problems.n, 8);
    ck_assert_str_eq(pointer_of(&problems, 0), "/s");
    ck_assert_str_eq(pointer_of(&problems, 1), "/i");
    ck_assert_str_eq(detail_of(&problems, 1), "must be 0 to 9, not 10");
    ck_assert_str_eq(pointer_of(&problems, 4), "/model");
    ck_assert_str_eq(pointer_of(&problems, 5), "/o/typo");
    ck_assert_str_eq(pointer_of(&problems, 6), "/a/1");
    ck_assert_str_eq(pointer_of(&problems, 7), "/sl~1a~0sh");
    ck_assert_int_eq(i, 5); /* outputs are written on success only */
    ck_assert_uint_eq(n, 7);
    json_problems_to_err(&problems, PT2_ERR_INVALID, &err);
    ck_assert_str_eq(err.text, "/s: must not be empty");
    json_problems_done(&problems);
}
END_TEST

START_TEST(test_json_many_problems_are_counted_not_kept)
{
    struct json_problems problems = {0};

    for (int i = 0; i < 1000; i++)
        json_problem(&problems, "/x", "wrong %d", i);
    ck_assert_uint_eq(problems.n, 1000);
    ck_assert_uint_eq(json_array_size(problems.errors), JSON_MAX_PROBLEMS);
    json_problems_done(&problems);
}
END_TEST

START_TEST(test_json_nesting_is_bounded)
{
    char deep[4096],
        text[] = "{\"a\": \"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["
                 "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[\"}";

    memset(deep, '[', JSON_MAX_NESTING);
    memset(deep + JSON_MAX_NESTING, ']', JSON_MAX_NESTING);
    ck_assert_int_eq(refused(deep, 2 * JSON_MAX_NESTING), PT2_ERR_NONE);
    memset(deep, '[', JSON_MAX_NESTING + 1);
    memset(deep + JSON_MAX_NESTING + 1, ']', JSON_MAX_NESTING + 1);
    ck_assert_int_eq(refused(deep, 2 * JSON_MAX_NESTING + 2), PT2_ERR_INVALID);
    ck_assert_int_eq(refused(text, sizeof(text) - 1), PT2_ERR_NONE); /* in a string */
}
END_TEST

START_TEST(test_json_r_no_memory_is_no_bad_json)
{
    const char *text = "{\"name\":\"value\",\"other\":[1,\"two\",{\"three\":3.5}]}";
    enum pt2_error code;

    for (alloc_fail_begin(); alloc_fail_next();) {
        code = refused(text, strlen(text));
        ck_assert_int_eq(code, alloc_failed() ? PT2_ERR_NOMEM : PT2_ERR_NONE);
    }
    ck_assert_int_gt(alloc_fail_at, 10);
}
END_TEST

/* One allocation after the other fails while that text is parsed; where lasts all after it. */
static void parse_without_memory(const struct buf *text, bool lasts)
{
    alloc_fail_lasts = lasts;
    for (alloc_fail_begin(); alloc_fail_next();) {
        json_auto_t *json = NULL;
        struct pt2_err err = {0};

        (void)!json_parse(text->data, text->len, &json, &err);
        ck_assert_int_eq(alloc_failed() ? PT2_ERR_NOMEM : PT2_ERR_NONE, err.code);
        ck_assert((json != NULL) == (err.code == PT2_ERR_NONE));
    }
    ck_assert_int_gt(alloc_fail_at, 20);
}

/* jansson asserts that what it kept of a string or a number is well-formed: no byte of it may
 * be lost, wherever the memory for it ends. */
START_TEST(test_json_r_no_memory_within_escapes_and_numbers)
{
    AUTO_BUF text = BUF_INIT(1 << 16);

    buf_printf(&text, "[\"%.*s", _i, "abcdefghijkl");
    for (int i = 0; i < 100; i++)
        buf_str(&text, "\\n\\\\\\u00e9\\ud83d\\ude00");
    buf_printf(&text, "\",%.*s1.", _i % 2, "-");
    for (int i = 0; i < 2000; i++)
        buf_str(&text, "0");
    buf_str(&text, "1e-5,{\"a\":{},\"b\":[]}]");
    ck_assert(!buf_failed(&text));
    parse_without_memory(&text, /* lasts= */ false);
    parse_without_memory(&text, /* lasts= */ true);
}
END_TEST

/* Whole, both ways, or not at all: no member's name is left out or cut short. */
START_TEST(test_json_r_no_memory_cuts_nothing_short)
{
    static const char text[] = "{\"a_name_that_is_longer_than_any_first_buffer\":"
                               "\"a value that is longer than that\",\"b\":[1,2]}";
    json_auto_t *whole = parsed(text);

    for (alloc_fail_begin(); alloc_fail_next();) {
        AUTO_PTR char *again = json_to_text(whole, JSON_COMPACT);
        json_auto_t *json = json_of_text(text);

        ck_assert((again && json) != alloc_failed());
        ck_assert_msg(!again || streq(again, text), "allocation %ld: %s", alloc_fail_at, again);
        ck_assert_msg(!json || json_equal(json, whole), "allocation %ld", alloc_fail_at);
    }
}
END_TEST

START_TEST(test_json_r_no_memory_for_integers_is_nobodys_mistake)
{
    json_auto_t *body = parsed("{\"ids\": [1, 2, 3]}");

    for (alloc_fail_begin(); alloc_fail_next();) {
        struct json_problems problems = {0};
        struct pt2_err err = {0};
        struct json_obj o;
        AUTO_PTR int64_t *ids = NULL;
        size_t n = 0;

        json_obj_begin(&o, body, "", &problems);
        if (json_get_ints(&o, "ids", 1, 3, 0, 9, &ids, &n)) {
            ck_assert(n == 3 && ids[2] == 3 && !alloc_failed());
        } else {
            json_problems_to_err(&problems, PT2_ERR_INVALID, &err);
            ck_assert_int_eq(err.code, PT2_ERR_NOMEM);
        }
        json_problems_done(&problems);
    }
}
END_TEST

START_TEST(test_json_bad_texts_are_refused)
{
    static const struct {
        const char *text;
        enum pt2_error code;
    } bad[] = {
        {"", PT2_ERR_BAD_JSON},
        {"{", PT2_ERR_BAD_JSON},
        {"{\"a\": 1,}", PT2_ERR_BAD_JSON},
        {"{'a': 1}", PT2_ERR_BAD_JSON},
        {"{\"a\": NaN}", PT2_ERR_BAD_JSON},
        {"{\"a\": 01}", PT2_ERR_BAD_JSON},
        {"{} {}", PT2_ERR_BAD_JSON},
        {"\xef\xbb\xbf{}", PT2_ERR_BAD_JSON},
        {"{\"a\": \"\xff\"}", PT2_ERR_BAD_JSON},
        {"{\"a\": \"\\ud800\"}", PT2_ERR_BAD_JSON},
        {"{\"a\\u0000\": 1}", PT2_ERR_BAD_JSON},
        {"{\"a\": 1, \"a\": 1}", PT2_ERR_INVALID},
        {"{\"o\": {\"a\": 1, \"\\u0061\": 2}}", PT2_ERR_INVALID},
        {"{\"a\": 9223372036854775808}", PT2_ERR_INVALID},
        {"{\"a\": 1e999}", PT2_ERR_INVALID},
    };

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ck_assert_msg(refused(bad[i].text, strlen(bad[i].text)) == bad[i].code, "'%s'",
                      bad[i].text);
    ck_assert_int_eq(refused("{\0}", 3), PT2_ERR_BAD_JSON);
}
END_TEST

START_TEST(test_json_labels_are_short_strings)
{
    static const char *const bad[] = {
        "{\"l\": {\"\": \"x\"}}", "{\"l\": {\"a b\": \"x\"}}",
        "{\"l\": {\"a\": 1}}",    "{\"l\": []}",
        "{\"l\": null}",          "{\"l\": {\"a\": \"\\u0000\"}}"};

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        json_auto_t *body = parsed(bad[i]);
        struct json_problems problems = {0};
        struct json_obj o;
        const json_t *labels;

        json_obj_begin(&o, body, "", &problems);
        ck_assert_msg(!json_get_labels(&o, "l", &labels), "%s", bad[i]);
        ck_assert(json_problems_any(&problems));
        json_problems_done(&problems);
    }
}
END_TEST

START_TEST(test_json_canonical_text_forgets_order)
{
    json_auto_t *a = parsed("{\"x\": {\"p\": 1, \"q\": [2, 3]}, \"y\": 2}");
    json_auto_t *b = parsed("{ \"y\":2, \"x\": {\"q\": [2,3], \"p\": 1} }");
    json_auto_t *c = parsed("{\"y\": 2, \"x\": {\"q\": [3,2], \"p\": 1}}");
    AUTO_PTR char *ta = json_canonical(a), *tb = json_canonical(b),
                  *tc = json_canonical(c);

    ck_assert_str_eq(ta, tb);
    ck_assert_str_ne(ta, tc);
}
END_TEST

START_TEST(test_json_lossy_strings)
{
    json_auto_t *good = json_string_lossy("na\xc3\xafve"),
                *bad = json_string_lossy("a\xff\xfe"
                                         "b");

    ck_assert_str_eq(json_string_value(good), "na\xc3\xafve");
    ck_assert_str_eq(json_string_value(bad), "a\xef\xbf\xbd"
                                             "b");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("json");
    TCase *core = tcase_create("core"), *limits = tcase_create("limits"),
          *errors = tcase_create("errors");

    tcase_add_test(core, test_json_members_are_read_by_type);
    tcase_add_test(core, test_json_canonical_text_forgets_order);
    tcase_add_test(core, test_json_lossy_strings);
    tcase_add_test(limits, test_json_nesting_is_bounded);
    tcase_add_test(limits, test_json_tree_bytes_bound_what_parsing_takes);
    tcase_add_test(limits, test_json_many_problems_are_counted_not_kept);
    tcase_add_test(errors, test_json_all_problems_are_collected);
    tcase_add_test(errors, test_json_bad_texts_are_refused);
    tcase_add_test(errors, test_json_r_no_memory_is_no_bad_json);
    tcase_add_loop_test(errors, test_json_r_no_memory_within_escapes_and_numbers, 0, 12);
    tcase_add_test(errors, test_json_r_no_memory_cuts_nothing_short);
    tcase_add_test(errors, test_json_r_no_memory_for_integers_is_nobodys_mistake);
    tcase_add_test(errors, test_json_labels_are_short_strings);
    suite_add_tcase(s, core);
    suite_add_tcase(s, limits);
    suite_add_tcase(s, errors);
    return suite_run(s);
}
