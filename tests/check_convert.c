#include "suite.h"

#include "export/convert.h"

#include <math.h>

/* A half's value by its definition (IEEE 754, binary16). */
static float half_value(uint16_t h)
{
    int exponent = h >> 10 & 31, mantissa = h & 1023;
    double v = exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);

    if (exponent == 31)
        v = mantissa ? NAN : INFINITY;
    return (float)(h & 0x8000 ? -v : v);
}

static uint16_t half_of(float f)
{
    uint16_t h;

    convert_elements(PT2_FLOAT32, &f, PT2_FLOAT16, &h, 1);
    return h;
}

static uint16_t bf16_of(float f)
{
    uint16_t b;

    convert_elements(PT2_FLOAT32, &f, PT2_BFLOAT16, &b, 1);
    return b;
}

static float bf16_value(uint16_t b)
{
    uint32_t u = (uint32_t)b << 16;
    float f;

    memcpy(&f, &u, 4);
    return f;
}

/* All of them: a wrong exponent, a lost sign of zero or a subnormal flushed would show.
 */
START_TEST(test_convert_halves_are_exact_in_float32)
{
    for (uint32_t h = 0; h < 65536; h++) {
        uint16_t half = (uint16_t)h;
        float want = half_value(half), got;

        convert_elements(PT2_FLOAT16, &half, PT2_FLOAT32, &got, 1);
        if (isnan(want)) {
            ck_assert(isnan(got));
            ck_assert(isnan(half_value(half_of(got))));
            continue;
        }
        ck_assert_msg(got == want && !signbit(got) == !signbit(want), "%#x: %a, not %a",
                      h, got, want);
        ck_assert_uint_eq(half_of(got), half);
    }
}
END_TEST

/* Between each two neighbours: the middle goes to the even one, a bit beside it to the
 * nearer.  Truncation, or ties away from zero, would show. */
START_TEST(test_convert_rounds_to_nearest_even)
{
    for (uint32_t h = 0; h < 0x7bff; h++) {
        float low = half_value((uint16_t)h), high = half_value((uint16_t)(h + 1));
        float middle = low + (high - low) / 2;

        ck_assert_uint_eq(half_of(middle), h % 2 ? h + 1 : h);
        ck_assert_uint_eq(half_of(nextafterf(middle, 0)), h);
        ck_assert_uint_eq(half_of(nextafterf(middle, INFINITY)), h + 1);
        ck_assert_uint_eq(half_of(-middle), 0x8000 | (h % 2 ? h + 1 : h));
    }
    for (uint32_t b = 0; b < 0x7f7f; b += 3) {
        float low = bf16_value((uint16_t)b), high = bf16_value((uint16_t)(b + 1));
        float middle = low + (high - low) / 2;

        ck_assert_uint_eq(bf16_of(middle), b % 2 ? b + 1 : b);
        ck_assert_uint_eq(bf16_of(nextafterf(middle, 0)), b);
        ck_assert_uint_eq(bf16_of(nextafterf(middle, INFINITY)), b + 1);
    }
}
END_TEST

START_TEST(test_convert_too_big_is_infinite)
{
    ck_assert_uint_eq(half_of(65519.996f), 0x7bff);
    ck_assert_uint_eq(half_of(65520.0f), 0x7c00);
    ck_assert_uint_eq(half_of(-1e30f), 0xfc00);
    ck_assert_uint_eq(half_of(INFINITY), 0x7c00);
    ck_assert_uint_eq(half_of(1e-10f), 0);
    ck_assert_uint_eq(bf16_of(3.4e38f), 0x7f80);
    ck_assert_uint_eq(bf16_of(-INFINITY), 0xff80);
    ck_assert(isnan(bf16_value(bf16_of(NAN))));
    ck_assert(isnan(half_value(half_of(NAN))));
}
END_TEST

/* Every pair of types, on 37 elements, so that a vector's tail is among them. */
START_TEST(test_convert_pairs_agree)
{
    static const enum pt2_dtype from[] = {PT2_FLOAT64, PT2_FLOAT32, PT2_BFLOAT16,
                                          PT2_FLOAT16};
    static const enum pt2_dtype to[] = {PT2_FLOAT32, PT2_BFLOAT16, PT2_FLOAT16};
    enum { N = 37 };
    double src[N];
    float values[N];

    for (int i = 0; i < N; i++)
        values[i] = ldexpf((float)(i - 18), -3); /* exact in every type */
    for (size_t a = 0; a < ARRAY_LEN(from); a++) {
        for (size_t b = 0; b < ARRAY_LEN(to); b++) {
            uint32_t dst[N], want[N];

            memset(dst, 0, sizeof(dst));
            memset(want, 0, sizeof(want));
            if (from[a] == PT2_FLOAT64)
                for (int i = 0; i < N; i++)
                    src[i] = (double)values[i];
            else
                convert_elements(PT2_FLOAT32, values, from[a], src, N);
            convert_elements(from[a], src, to[b], dst, N);
            convert_elements(PT2_FLOAT32, values, to[b], want, N);
            ck_assert_mem_eq(dst, want, sizeof(want));
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("convert");
    TCase *core = tcase_create("core");

    tcase_add_test(core, test_convert_halves_are_exact_in_float32);
    tcase_add_test(core, test_convert_rounds_to_nearest_even);
    tcase_add_test(core, test_convert_too_big_is_infinite);
    tcase_add_test(core, test_convert_pairs_agree);
    suite_add_tcase(suite, core);
    return suite_run(suite);
}
