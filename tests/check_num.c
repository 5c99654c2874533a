#include "seed.h"
#include "suite.h"

#include "base/num.h"

#include <math.h>

static const char *text_of(float value)
{
    static char text[NUM_FLOAT_CHARS + 1];

    text[num_put_float(text, value)] = '\0';
    return text;
}

static const char *text_of_double(double value)
{
    static char text[NUM_DOUBLE_CHARS + 1];

    text[num_put_double(text, value)] = '\0';
    return text;
}

static float from_bits(uint32_t bits)
{
    float value;

    memcpy(&value, &bits, sizeof(value));
    return value;
}

START_TEST(test_num_looks_like_a_float)
{
    ck_assert_str_eq(text_of(0.0f), "0.0");
    ck_assert_str_eq(text_of(-0.0f), "-0.0");
    ck_assert_str_eq(text_of(5.0f), "5.0");
    ck_assert_str_eq(text_of(-16777216.0f), "-16777216.0");
    ck_assert_str_eq(text_of(0.1f), "0.1");
    ck_assert_str_eq(text_of(1e-7f), "1e-07");
    ck_assert_str_eq(text_of_double(0.1), "0.1");
    ck_assert_str_eq(text_of_double(-0.0), "-0.0");
}
END_TEST

START_TEST(test_num_what_json_lacks_is_a_string)
{
    ck_assert_str_eq(text_of(NAN), "\"NaN\"");
    ck_assert_str_eq(text_of(-NAN), "\"NaN\"");
    ck_assert_str_eq(text_of(INFINITY), "\"Infinity\"");
    ck_assert_str_eq(text_of(-INFINITY), "\"-Infinity\"");
    ck_assert_str_eq(text_of_double(-INFINITY), "\"-Infinity\"");
}
END_TEST

/* Random bit patterns: read back as float32, and as float64 and then rounded, as Python's
 * and JavaScript's readers do. */
START_TEST(test_num_reads_back_exactly)
{
    srandom((unsigned)test_seed());
    for (int i = 0; i < 300000; i++) {
        uint32_t bits = (uint32_t)random() << 16 ^ (uint32_t)random();
        float value = from_bits(bits), back;

        if (!isfinite(value))
            continue;
        back = strtof(text_of(value), NULL);
        ck_assert_msg(memcmp(&back, &value, sizeof(back)) == 0, "bits %08x", bits);
        back = (float)strtod(text_of(value), NULL);
        ck_assert_msg(memcmp(&back, &value, sizeof(back)) == 0, "bits %08x", bits);
    }
}
END_TEST

/* The longest texts there are, and the ends of the ranges. */
START_TEST(test_num_fits_its_room)
{
    static const uint32_t bits[] = {0x80800000, 0xff7fffff, 0x80000001, 0x807fffff,
                                    0xcb7fffff, 0x4b800001, 0xb8d1b717, 0x7f7fffff};
    char text[64];

    for (size_t i = 0; i < ARRAY_LEN(bits); i++) {
        memset(text, '#', sizeof(text));
        ck_assert_uint_le(num_put_float(text, from_bits(bits[i])), NUM_FLOAT_CHARS);
        ck_assert_int_eq(text[NUM_FLOAT_CHARS], '#');
    }
    for (int e = -1074; e < 1024; e++) {
        memset(text, '#', sizeof(text));
        num_put_double(text, -ldexp(1.2345678901234567, e));
        ck_assert_int_eq(text[NUM_DOUBLE_CHARS], '#');
    }
}
END_TEST

START_TEST(test_num_arrays_have_commas_between)
{
    float values[100];
    double doubles[] = {1.5, -0.0};
    AUTO_BUF b = BUF_INIT(4096);
    char *end;

    for (size_t i = 0; i < ARRAY_LEN(values); i++)
        values[i] = (float)i / 2;
    num_add_floats(&b, values, ARRAY_LEN(values));
    ck_assert(!buf_failed(&b));
    end = b.data;
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        ck_assert(strtof(end, &end) == values[i]);
        ck_assert_int_eq(*end++, i + 1 < ARRAY_LEN(values) ? ',' : '\0');
    }
    buf_clear(&b);
    num_add_floats(&b, values, 0);
    ck_assert_uint_eq(b.len, 0);
    num_add_doubles(&b, doubles, 2);
    ck_assert_str_eq(b.data, "1.5,-0.0");
}
END_TEST

START_TEST(test_num_stops_at_the_maximum)
{
    float values[1000] = {0};
    AUTO_BUF b = BUF_INIT(2000);

    num_add_floats(&b, values, ARRAY_LEN(values));
    ck_assert(buf_failed(&b));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("num");
    TCase *core = tcase_create("core"), *limits = tcase_create("limits");

    tcase_add_test(core, test_num_looks_like_a_float);
    tcase_add_test(core, test_num_what_json_lacks_is_a_string);
    tcase_add_test(core, test_num_reads_back_exactly);
    tcase_add_test(core, test_num_arrays_have_commas_between);
    tcase_add_test(limits, test_num_fits_its_room);
    tcase_add_test(limits, test_num_stops_at_the_maximum);
    suite_add_tcase(s, core);
    suite_add_tcase(s, limits);
    return suite_run(s);
}
