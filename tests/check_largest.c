/* check_largest.c - which of equal numbers are taken, and in what order: as torch has it. */
#include "base/largest.h"

#include "cases.h"
#include "suite.h"

#include <jansson.h>
#include <math.h>

static void check_case(const json_t *c, size_t number)
{
    const json_t *numbers = json_array_get(c, 2), *places = json_array_get(c, 3);
    size_t k = (size_t)json_integer_value(json_array_get(c, 0)),
           n = json_array_size(numbers);
    struct ranked *items = calloc(n, sizeof(*items));

    ck_assert(k >= 1 && k <= n && json_array_size(places) == k);
    for (size_t i = 0; i < n; i++) {
        const json_t *x = json_array_get(numbers, i);

        items[i].value = json_is_string(x) ? NAN : (float)json_number_value(x);
        items[i].at = (uint32_t)i;
    }
    largest_first(items, n, k, json_is_true(json_array_get(c, 1)));
    for (size_t i = 0; i < k; i++)
        ck_assert_msg(items[i].at ==
                          (uint32_t)json_integer_value(json_array_get(places, i)),
                      "case %zu, %zu of %zu: place %zu is %u, not %d", number, k, n, i,
                      items[i].at, (int)json_integer_value(json_array_get(places, i)));
    free(items);
}

START_TEST(test_largest_in_torchs_order)
{
    char path[400];
    json_t *cases;

    snprintf(path, sizeof(path), "%s/topk/cases.json", test_data());
    cases = json_load_file(path, 0, NULL);
    ck_assert_uint_ge(json_array_size(cases), 100);
    for (size_t i = 0; i < json_array_size(cases); i++)
        check_case(json_array_get(cases, i), i);
    json_decref(cases);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("largest");
    TCase *core = tcase_create("core");

    tcase_add_test(core, test_largest_in_torchs_order);
    suite_add_tcase(s, core);
    return suite_run(s);
}
