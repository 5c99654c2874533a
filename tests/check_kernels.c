/* Every instruction set that this processor has, against sums in double precision and libm;
 * and that what one row gives does not depend on what is computed beside it. */
#include "base/half.h"
#include "native/kernels.h"
#include "seed.h"
#include "suite.h"

#include <float.h>
#include <math.h>

static const enum pt2_dtype dtypes[] = {PT2_FLOAT32, PT2_BFLOAT16, PT2_FLOAT16};
/* of what linear and mix read */
static const enum pt2_dtype row_dtypes[] = {PT2_FLOAT32, PT2_BFLOAT16, PT2_FLOAT16, PT2_INT8};
static const size_t inner_sizes[] = {1, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 576};

static uint64_t state;

static double random_unit(void)
{
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (double)(state >> 11) / (double)(1ULL << 53) * 2 - 1;
}

static void setup(void)
{
    state = test_seed();
}

static float *floats(size_t n)
{
    float *f = aligned_alloc(64, (n * 4 + 127) / 64 * 64);

    ck_assert_ptr_nonnull(f);
    for (size_t i = 0; i < n; i++)
        f[i] = (float)random_unit();
    return f;
}

/* n weights in a dtype, from one element past alignment on; *ret_values: what they are. */
static uint8_t *weights(enum pt2_dtype dtype, size_t n, float **ret_values)
{
    size_t size = pt2_dtype_size(dtype);
    uint8_t *w = malloc((n + 1) * size);
    float *values = floats(n);

    ck_assert_ptr_nonnull(w);
    for (size_t i = 0; dtype == PT2_INT8 && i < n; i++)
        w[1 + i] = (uint8_t)(i < 256 ? i : (size_t)(random_unit() * 127.9 + 128));
    if (dtype != PT2_INT8)
        kernels_at(0)->narrow[dtype](values, n, w + size);
    kernels_at(0)->widen[dtype](w + size, n, values);
    *ret_values = values;
    return w;
}

static float rounded(const struct kernels *kernels, enum pt2_dtype dtype, float x)
{
    bool is_dot = dtype == PT2_BFLOAT16 && streq(kernels->name, "avx512bf16");

    return is_dot ? bf16_to_float(bf16_of_float(x)) : x;
}

static void run(const struct kernels *kernels, enum pt2_dtype dtype, const float *x,
                size_t n_rows, const void *w, size_t k, size_t n_out, float *y)
{
    void *packed = aligned_alloc(64, n_rows * KERNEL_ROW_BYTES(k));

    kernels->linear[dtype](kernels->pack[dtype](x, k, n_rows, k, packed), n_rows, w, k, n_out,
                           y, n_out, n_rows % 2 ? w : NULL); /* what is fetched is no matter */
    free(packed);
}

static void check_linear(const struct kernels *kernels, enum pt2_dtype dtype, size_t k,
                         size_t n_rows, size_t n_out)
{
    size_t size = pt2_dtype_size(dtype), cut = n_out / 3;
    float *values, *x = floats(n_rows * k), *y = floats(n_rows * n_out), *one = floats(n_out);
    uint8_t *at = weights(dtype, n_out * k, &values), *w = at + size;

    run(kernels, dtype, x, n_rows, w, k, n_out, y);
    for (size_t r = 0; r < n_rows; r++) {
        for (size_t o = 0; o < n_out; o++) {
            double sum = 0, all = 0;

            for (size_t i = 0; i < k; i++) {
                double part = (double)rounded(kernels, dtype, x[r * k + i]) * values[o * k + i];

                sum += part;
                all += fabs(part);
            }
            ck_assert_msg(fabs(y[r * n_out + o] - sum) <= 1e-6 * all,
                          "%s %s k %zu row %zu of %zu output %zu: %g, not %g",
                          kernels->name, pt2_dtype_name(dtype), k, r, n_rows, o,
                          y[r * n_out + o], sum);
        }
        /* the row alone, in two cuts */
        run(kernels, dtype, x + r * k, 1, w, k, cut, one);
        run(kernels, dtype, x + r * k, 1, w + cut * k * size, k, n_out - cut, one + cut);
        ck_assert_mem_eq(one, y + r * n_out, n_out * sizeof(float));
    }
    free(values);
    free(x);
    free(y);
    free(one);
    free(at);
}

#define EACH_SET(kernels)                                                                 \
    const struct kernels *kernels = NULL;                                                 \
    for (size_t set_ = 0; (kernels = kernels_at(set_)); set_++)

START_TEST(test_kernels_linear_sums_each_row_alike)
{
    EACH_SET(kernels)
    for (size_t d = 0; d < ARRAY_LEN(row_dtypes); d++)
        for (size_t i = 0; i < ARRAY_LEN(inner_sizes); i++)
            for (size_t rows = 1; rows <= 65; rows += rows < 9 ? 1 : 14)
                check_linear(kernels, row_dtypes[d], inner_sizes[i], rows, 29);
}
END_TEST

START_TEST(test_kernels_linear_of_odd_numbers)
{
    EACH_SET(kernels)
    for (size_t d = 0; d < ARRAY_LEN(dtypes); d++)
    for (size_t bad = 0; bad < 40; bad++) {
        float x[40], values[40], y;
        uint8_t w[40 * 4];

        for (size_t i = 0; i < 40; i++)
            x[i] = values[i] = 1;
        kernels->narrow[dtypes[d]](values, 40, w);
        x[bad] = NAN;
        run(kernels, dtypes[d], x, 1, w, 40, 1, &y);
        ck_assert(isnan(y));
        x[bad] = INFINITY;
        run(kernels, dtypes[d], x, 1, w, 40, 1, &y);
        ck_assert(isinf(y) && y > 0);
        values[bad] = 0;
        kernels->narrow[dtypes[d]](values, 40, w);
        run(kernels, dtypes[d], x, 1, w, 40, 1, &y);
        ck_assert(isnan(y));
    }
}
END_TEST

START_TEST(test_kernels_mix_adds_in_order)
{
    EACH_SET(kernels)
    for (size_t d = 0; d < ARRAY_LEN(row_dtypes); d++)
        for (size_t n_d = 1; n_d < 70; n_d += 11) {
            float *p = floats(3 * 16), *whole = calloc(3 * n_d, 4), *parts, *values;
            uint8_t *at = weights(row_dtypes[d], 16 * n_d, &values);
            uint8_t *v = at + pt2_dtype_size(row_dtypes[d]);

            parts = calloc(3 * n_d, 4);
            kernels->mix[row_dtypes[d]](p, 16, 3, v, n_d, 16, n_d, whole, n_d, v);
            for (size_t j = 0; j < 16; j += 4) /* the same in four cuts, a head at a time */
                for (size_t h = 0; h < 3; h++)
                    kernels->mix[row_dtypes[d]](p + h * 16 + j, 16, 1,
                                            v + j * n_d * pt2_dtype_size(row_dtypes[d]), n_d, 4,
                                            n_d, parts + h * n_d, n_d, at);
            ck_assert_mem_eq(whole, parts, 3 * n_d * 4);
            for (size_t h = 0; h < 3; h++)
                for (size_t i = 0; i < n_d; i++) {
                    double sum = 0, most = 0;

                    for (size_t j = 0; j < 16; j++) {
                        sum += (double)p[h * 16 + j] * values[j * n_d + i];
                        most = fmax(most, fabs(values[j * n_d + i]));
                    }
                    ck_assert_double_eq_tol(whole[h * n_d + i], sum, 1e-5 * (1 + most));
                }
            free(p);
            free(whole);
            free(parts);
            free(values);
            free(at);
        }
}
END_TEST

static uint32_t bits_of(float f)
{
    uint32_t bits;

    memcpy(&bits, &f, sizeof(bits));
    return bits;
}

/* All 65536 values of both types come back as they were, in each set alike. */
START_TEST(test_kernels_half_precision_converts_exactly)
{
    uint16_t *all = malloc(65536 * 2), *back = malloc(65536 * 2);
    float *wide = malloc(65536 * 4);

    for (size_t i = 0; i < 65536; i++)
        all[i] = (uint16_t)i;
    EACH_SET(kernels)
    for (size_t d = 1; d < ARRAY_LEN(dtypes); d++) {
        kernels->widen[dtypes[d]](all, 65536, wide);
        kernels->narrow[dtypes[d]](wide, 65536, back);
        for (size_t i = 0; i < 65536; i++) {
            float by_hand = dtypes[d] == PT2_FLOAT16 ? f16_to_float((uint16_t)i)
                                                     : bf16_to_float((uint16_t)i);

            if (isnan(by_hand)) {
                ck_assert(isnan(wide[i]));
                continue;
            }
            ck_assert_uint_eq(bits_of(wide[i]), bits_of(by_hand));
            ck_assert_uint_eq(back[i], all[i]);
        }
    }
    free(all);
    free(back);
    free(wide);
}
END_TEST

/* Between two neighbours the nearer one, in the middle the even one. */
START_TEST(test_kernels_half_precision_rounds_to_nearest_even)
{
    for (uint32_t i = 0; i < 0x7bff; i++) {
        float low = f16_to_float((uint16_t)i), high = f16_to_float((uint16_t)(i + 1));
        float middle = low + (high - low) / 2;

        ck_assert_uint_eq(f16_of_float(middle), i & 1 ? i + 1 : i);
        ck_assert_uint_eq(f16_of_float(nextafterf(middle, low)), i);
        ck_assert_uint_eq(f16_of_float(nextafterf(middle, high)), i + 1);
        ck_assert_uint_eq(f16_of_float(-middle), (i & 1 ? i + 1 : i) | 0x8000);
    }
    ck_assert_uint_eq(f16_of_float(65519.0f), 0x7bff);
    ck_assert_uint_eq(f16_of_float(65520.0f), 0x7c00);
    ck_assert_uint_eq(bf16_of_float(1.00390625f), 0x3f80);  /* 1 + 2^-8: a tie */
    ck_assert_uint_eq(bf16_of_float(1.01171875f), 0x3f82);  /* 1 + 3 * 2^-8: the other way */
    ck_assert(isnan(bf16_to_float(bf16_of_float(NAN))));
    ck_assert(isnan(f16_to_float(f16_of_float(NAN))));
}
END_TEST

/* Any bits: vectors and what is left over alike, as base/half.h has it. */
START_TEST(test_kernels_narrow_rounds_as_base_does)
{
    enum { N = 20003 };
    float *x = malloc(N * 4);
    uint16_t *half = malloc(N * 2);

    for (size_t i = 0; i < N; i++) {
        uint32_t bits = (uint32_t)(int32_t)(random_unit() * 0x7fffffff) << 1;

        bits = i % 3 == 0 ? (bits & 0x807fffff) | (100 + (uint32_t)i % 50) << 23 : bits;
        bits = i % 2 == 0 ? bits & ~0xfffu : bits; /* ties */
        memcpy(&x[i], &bits, sizeof(bits));
    }
    EACH_SET(kernels)
    {
        kernels->narrow[PT2_BFLOAT16](x, N, half);
        for (size_t i = 0; i < N; i++)
            ck_assert_uint_eq(half[i], bf16_of_float(x[i]));
        kernels->narrow[PT2_FLOAT16](x, N, half);
        for (size_t i = 0; i < N; i++)
            ck_assert_uint_eq(half[i], f16_of_float(x[i]));
    }
    free(x);
    free(half);
}
END_TEST

/* The scale is the smallest bfloat16 that leaves none beyond 127; no element is further from
 * what it becomes than half of one; all sets have the same bits. */
START_TEST(test_kernels_narrow_to_whole_numbers)
{
    enum { N = 300 };
    float *x = floats(N), by;
    int8_t got[N], want[N];

    for (int power = -160; power <= 120; power += 7)
        for (size_t n = 1; n <= N; n += n < 40 ? 1 : 37) {
            float from[N], most = 0;
            uint16_t scale = 0, first = 0;
            const struct kernels *kernels;

            for (size_t i = 0; i < n; i++) {
                from[i] = ldexpf(x[i], power);
                most = fmaxf(most, fabsf(from[i]));
            }
            for (size_t set = 0; (kernels = kernels_at(set)); set++) {
                scale = kernels->narrow_i8(from, n, got);
                first = set == 0 ? scale : first;
                memcpy(want, set == 0 ? got : want, sizeof(want));
                ck_assert_uint_eq(scale, first);
                ck_assert_mem_eq(got, want, n);
            }
            by = bf16_to_float(scale);
            if (scale > 0)
                ck_assert(127.0 * bf16_to_float((uint16_t)(scale - 1)) < most * (1 + 1e-6));
            ck_assert(127.0 * by >= most * (1 - 1e-6) || most < 0x1p-140f);
            for (size_t i = 0; i < n; i++) {
                ck_assert(got[i] >= -127);
                ck_assert(fabs((double)got[i] * by - from[i]) <= 0.5000001 * by + 0x1p-140);
            }
        }
    free(x);
}
END_TEST

/* Zeros are zeros; what is not finite makes a row that is not, wherever it stands. */
START_TEST(test_kernels_narrow_to_whole_numbers_of_odd_ones)
{
    EACH_SET(kernels)
    for (size_t bad = 0; bad < 40; bad++) {
        float x[40] = {0};
        int8_t to[40];

        memset(to, 1, sizeof(to));
        ck_assert_uint_eq(kernels->narrow_i8(x, 40, to), 0);
        for (size_t i = 0; i < 40; i++)
            ck_assert_int_eq(to[i], 0);
        x[bad] = NAN;
        ck_assert(isnan(bf16_to_float(kernels->narrow_i8(x, 40, to))));
        x[bad] = -INFINITY;
        ck_assert(isnan(bf16_to_float(kernels->narrow_i8(x, 40, to))));
        x[bad] = -FLT_MAX;
        ck_assert(kernels->narrow_i8(x, 40, to) < 0x7f80);
        ck_assert(to[bad] <= -126);
        ck_assert_int_eq(to[(bad + 1) % 40], 0);
    }
}
END_TEST

static void check_unary(const struct kernels *kernels, enum kernel_unary f, float x,
                        double want, double tolerance)
{
    float in[19], out[19];

    for (size_t i = 0; i < 19; i++)
        in[i] = x;
    kernels->unary(f, in, 19, out);
    for (size_t i = 0; i < 19; i++)
        ck_assert_msg(isnan(want)   ? isnan(out[i])
                      : isinf(want) ? out[i] == (float)want
                                    : fabs(out[i] - want) <= tolerance * fabs(want) + 2e-45,
                      "%s function %d of %.9g: %.9g, not %.17g", kernels->name, (int)f, x,
                      out[i], want);
}

/* Both kinds; where 1 + erf or 1 + tanh cancel, to the last bits of x. */
static void check_gelu(const struct kernels *kernels, float x)
{
    double erf_ = 0.5 * x * (1 + erf(x / sqrt(2)));
    double u = 0.7978845608028654 * (x + 0.044715 * pow(x, 3));
    float in[19], out[19];

    if (!isfinite(x))
        return;
    for (size_t i = 0; i < 19; i++)
        in[i] = x;
    kernels->unary(KERNEL_GELU, in, 19, out);
    ck_assert_msg(fabs(out[0] - erf_) <= 2e-7 * fabs(x) && out[18] == out[0],
                  "%s gelu %g: %.9g, not %.17g", kernels->name, x, out[0], erf_);
    kernels->unary(KERNEL_GELU_TANH, in, 19, out);
    ck_assert_msg(fabs(out[0] - x / (1 + exp(-2 * u))) <= 3e-7 * fabs(x) && out[18] == out[0],
                  "%s gelu_tanh %g: %.9g, not %.17g", kernels->name, x, out[0],
                  x / (1 + exp(-2 * u)));
}

START_TEST(test_kernels_functions_are_libms)
{
    static const float special[] = {0, -0.0f, 1e-40f, 88.7f, 89, 1000, -103, -104, -1000,
                                    INFINITY, -INFINITY, NAN};

    EACH_SET(kernels)
    for (size_t i = 0; i < 2000 + ARRAY_LEN(special); i++) {
        float x = i < ARRAY_LEN(special) ? special[i] : (float)(random_unit() * 100);
        double sigmoid = 1 / (1 + exp(-(double)x));

        check_unary(kernels, KERNEL_EXP, x, isinf((float)exp(x)) ? INFINITY : exp(x), 2e-7);
        if (fabsf(x) < 80) {
            check_unary(kernels, KERNEL_SIGMOID, x, sigmoid, 4e-7);
            check_unary(kernels, KERNEL_SILU, x, x * sigmoid, 5e-7);
        }
        check_unary(kernels, KERNEL_TANH, x, tanh(x), 3e-7);
        check_unary(kernels, KERNEL_TANH, x / 50, tanh(x / 50), 3e-7);
        check_unary(kernels, KERNEL_RELU, x, isnan(x) ? NAN : fmax(x, 0), 0);
        check_gelu(kernels, x / 20);
        check_unary(kernels, KERNEL_NEG, x, -(double)x, 0);
        check_unary(kernels, KERNEL_EXPM1, x, isinf(expm1f(x)) ? INFINITY : expm1(x), 2e-7);
        check_unary(kernels, KERNEL_POSITIVE, x, x > 0, 0);
    }
}
END_TEST

START_TEST(test_kernels_softmax)
{
    EACH_SET(kernels)
    for (size_t n = 1; n < 50; n++) {
        float *x = floats(n + 1), *in = malloc(n * 4);
        double sum = 0;

        for (size_t i = 0; i < n; i++)
            in[i] = x[i] = i % 5 == 4 ? -INFINITY : x[i] * 30;
        for (size_t i = 0; i < n; i++)
            sum += exp(in[i]);
        kernels->softmax(x, n);
        for (size_t i = 0; i < n; i++)
            ck_assert_double_eq_tol(x[i], exp(in[i]) / sum, 3e-7);
        for (size_t i = 0; i < n; i++)
            x[i] = -INFINITY;
        kernels->softmax(x, n);
        for (size_t i = 0; i < n; i++)
            ck_assert(x[i] == 0);
        x[n - 1] = NAN;
        kernels->softmax(x, n);
        ck_assert(isnan(x[0]));
        free(x);
        free(in);
    }
}
END_TEST

START_TEST(test_kernels_norms)
{
    EACH_SET(kernels)
    for (size_t n = 1; n < 80; n += 13) {
        float *x = floats(n), *w = floats(n), *b = floats(n), *y = floats(n);
        double squares = 0, sum = 0, variance = 0;

        for (size_t i = 0; i < n; i++) {
            squares += (double)x[i] * x[i];
            sum += x[i];
        }
        for (size_t i = 0; i < n; i++)
            variance += pow(x[i] - sum / (double)n, 2) / (double)n;
        kernels->rms_norm(x, n, 1e-5f, w, false, y);
        for (size_t i = 0; i < n; i++)
            ck_assert_double_eq_tol(y[i], x[i] / sqrt(squares / (double)n + 1e-5) * w[i], 1e-6);
        kernels->rms_norm(x, n, 1e-5f, w, true, y);
        for (size_t i = 0; i < n; i++)
            ck_assert_double_eq_tol(
                y[i], x[i] / sqrt(squares / (double)n + 1e-5) * (1.0 + w[i]), 2e-6);
        kernels->layer_norm(x, n, 1e-5f, w, b, y);
        for (size_t i = 0; i < n; i++)
            ck_assert_double_eq_tol(
                y[i], (x[i] - sum / (double)n) / sqrt(variance + 1e-5) * w[i] + b[i], 1e-4);
        free(x);
        free(w);
        free(b);
        free(y);
    }
}
END_TEST

START_TEST(test_kernels_rope_and_gates)
{
    EACH_SET(kernels)
    for (size_t half = 1; half < 40; half += 6) {
        size_t n = 2 * half;
        float *x = floats(n), *cos_ = floats(n), *sin_ = floats(n), *y = floats(n);

        kernels->rope(x, n, cos_, sin_, false, y);
        for (size_t i = 0; i < half; i++) {
            ck_assert_double_eq_tol(y[i], (double)x[i] * cos_[i] - (double)x[i + half] * sin_[i],
                                    1e-6);
            ck_assert_double_eq_tol(
                y[i + half],
                (double)x[i + half] * cos_[i + half] + (double)x[i] * sin_[i + half], 1e-6);
        }
        kernels->rope(x, n, cos_, sin_, true, y);
        for (size_t i = 0; i < n; i += 2) {
            ck_assert_double_eq_tol(y[i], (double)x[i] * cos_[i] - (double)x[i + 1] * sin_[i],
                                    1e-6);
            ck_assert_double_eq_tol(
                y[i + 1], (double)x[i + 1] * cos_[i + 1] + (double)x[i] * sin_[i + 1], 1e-6);
        }
        kernels->gate(KERNEL_SILU, x, cos_, n, y);
        for (size_t i = 0; i < n; i++)
            ck_assert_double_eq_tol(y[i], x[i] / (1 + exp(-x[i])) * cos_[i], 1e-6);
        kernels->gate(KERNEL_GELU, x, cos_, n, y);
        for (size_t i = 0; i < n; i++)
            ck_assert_double_eq_tol(y[i], 0.5 * x[i] * (1 + erf(x[i] / sqrt(2))) * cos_[i], 1e-6);
        free(x);
        free(cos_);
        free(sin_);
        free(y);
    }
}
END_TEST

START_TEST(test_kernels_are_chosen_by_name)
{
    const struct kernels *kernels;
    struct pt2_err err = {0};

    setenv("PT2_ISA", "portable", 1);
    ck_assert_int_eq(kernels_choose(&kernels, &err), 0);
    ck_assert_str_eq(kernels->name, "portable");
    setenv("PT2_ISA", "abacus", 1);
    ck_assert_int_eq(kernels_choose(&kernels, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.text, "portable"));
    unsetenv("PT2_ISA");
    pt2_err_clear(&err);
    ck_assert_int_eq(kernels_choose(&kernels, &err), 0);
    ck_assert_ptr_eq(kernels, kernels_at(0));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("kernels");
    TCase *core = tcase_create("core"), *errors = tcase_create("errors");

    tcase_set_timeout(core, 300);
    tcase_add_checked_fixture(core, setup, NULL);
    tcase_add_test(core, test_kernels_linear_sums_each_row_alike);
    tcase_add_test(core, test_kernels_linear_of_odd_numbers);
    tcase_add_test(core, test_kernels_mix_adds_in_order);
    tcase_add_test(core, test_kernels_half_precision_converts_exactly);
    tcase_add_test(core, test_kernels_half_precision_rounds_to_nearest_even);
    tcase_add_test(core, test_kernels_narrow_rounds_as_base_does);
    tcase_add_test(core, test_kernels_narrow_to_whole_numbers);
    tcase_add_test(core, test_kernels_narrow_to_whole_numbers_of_odd_ones);
    tcase_add_test(core, test_kernels_functions_are_libms);
    tcase_add_test(core, test_kernels_softmax);
    tcase_add_test(core, test_kernels_norms);
    tcase_add_test(core, test_kernels_rope_and_gates);
    tcase_add_test(errors, test_kernels_are_chosen_by_name);
    suite_add_tcase(s, core);
    suite_add_tcase(s, errors);
    return suite_run(s);
}
