#include "suite.h"

#include "base/half.h"
#include "export/quantize.h"
#include "seed.h"

#include <math.h>
#include <stdio.h>

#define N 16 /* numbers in a group of tests/data/quantize-torchao/make.py */

static uint32_t read_bits(FILE *f)
{
    uint32_t bits = 0;

    ck_assert_int_eq(fscanf(f, " %x", &bits), 1);
    return bits;
}

static void check_group(FILE *f, enum pt2_dtype dtype, unsigned bits)
{
    uint32_t scale = 0, want_scale;
    int8_t values[N];
    float x[N];

    for (int i = 0; i < N; i++)
        x[i] = float_of_bits(read_bits(f));
    want_scale = read_bits(f);
    quantize_scales(dtype, bits, x, 1, N, &scale);
    ck_assert_msg(scale == want_scale, "%s, %u bits, %a ...: scale %#x, torchao's %#x",
                  pt2_dtype_name(dtype), bits, x[0], scale, want_scale);
    quantize_values(dtype, bits, x, 1, N, values);
    for (int i = 0; i < N; i++) {
        int want = 0;

        ck_assert_int_eq(fscanf(f, " %d", &want), 1);
        ck_assert_msg(values[i] == want, "%s, %u bits, scale %#x: %a becomes %d, not %d",
                      pt2_dtype_name(dtype), bits, scale, x[i], values[i], want);
    }
}

/* Zeros, ties, numbers below the smallest normal one, infinities, NaN. */
START_TEST(test_quantize_is_torchaos)
{
    char path[500], name[20];
    unsigned bits, n = 0;
    FILE *f;

    snprintf(path, sizeof(path), "%s/quantize-torchao/torchao.txt",
             getenv("PT2_TEST_DATA"));
    f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    for (; fscanf(f, "%19s %u", name, &bits) == 2; n++)
        check_group(f, pt2_dtype_from_name(name), bits);
    ck_assert_uint_eq(n, 126);
    fclose(f);
}
END_TEST

/* Groups know nothing of each other, and lie one behind another. */
START_TEST(test_quantize_groups_are_apart)
{
    float x[4 * 32], scales[4], alone;
    int8_t values[4 * 32], of_one[32];

    srand((unsigned)test_seed());
    for (int i = 0; i < 4 * 32; i++)
        x[i] = ldexpf((float)(rand() % 2001 - 1000), i / 32);
    quantize_scales(PT2_FLOAT32, 4, x, 4, 32, scales);
    quantize_values(PT2_FLOAT32, 4, x, 4, 32, values);
    for (int g = 0; g < 4; g++) {
        quantize_scales(PT2_FLOAT32, 4, x + 32 * g, 1, 32, &alone);
        quantize_values(PT2_FLOAT32, 4, x + 32 * g, 1, 32, of_one);
        ck_assert_float_eq(scales[g], alone);
        ck_assert_mem_eq(values + 32 * g, of_one, 32);
    }
}
END_TEST

/* Half a step away at most, but for what is clamped: the largest, by half a number. */
START_TEST(test_quantize_is_near)
{
    static const unsigned bits[] = {4, 8};
    float x[256], scale;
    int8_t values[256];

    srand((unsigned)test_seed());
    for (int round = 0; round < 200; round++) {
        unsigned b = bits[round % 2];

        for (int i = 0; i < 256; i++)
            x[i] = (float)rand() / (float)RAND_MAX - 0.5f;
        quantize_scales(PT2_FLOAT32, b, x, 1, 256, &scale);
        quantize_values(PT2_FLOAT32, b, x, 1, 256, values);
        for (int i = 0; i < 256; i++) {
            ck_assert_float_le(fabsf((float)values[i] * scale - x[i]), 0.50001f * scale);
            ck_assert(values[i] >= (b == 4 ? -8 : -128) && (b == 8 || values[i] <= 7));
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("quantize");
    TCase *core = tcase_create("core");

    tcase_add_test(core, test_quantize_is_torchaos);
    tcase_add_test(core, test_quantize_groups_are_apart);
    tcase_add_test(core, test_quantize_is_near);
    suite_add_tcase(suite, core);
    return suite_run(suite);
}
