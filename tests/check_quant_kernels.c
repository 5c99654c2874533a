/* The kernels of weights of whole numbers: what each instruction set gives, beside sums made
 * plainly, and beside what plain C gives, bit for bit. */
#include "native/kernels.h"
#include "seed.h"
#include "suite.h"

#include <float.h>
#include <math.h>

#define EACH_SET(kernels)                                                                 \
    const struct kernels *kernels = NULL;                                                 \
    for (size_t set_ = 0; (kernels = kernels_at(set_)); set_++)

static const struct {
    uint32_t k, group;
} sizes[] = {{1, 1},     {2, 2},     {3, 3},     {4, 4},      {5, 5},      {7, 7},
             {8, 8},     {9, 9},     {31, 31},   {32, 32},    {33, 33},    {63, 63},
             {64, 32},   {65, 65},   {96, 32},   {128, 64},   {100, 100},  {192, 64},
             {256, 128}, {512, 256}, {576, 32},  {576, 576},  {640, 128},  {1536, 64},
             {320, 160}, {96, 96},   {1001, 1001}};

static uint64_t state;

static uint32_t random_bits(void)
{
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)(state >> 32);
}

static double random_unit(void)
{
    return random_bits() / 2147483648.0 - 1;
}

static void setup(void)
{
    state = test_seed();
}

static const struct kernels *portable(void)
{
    size_t n = 0;

    while (kernels_at(n + 1))
        n++;
    return kernels_at(n);
}

static void *new_bytes(size_t n)
{
    void *p = aligned_alloc(64, (n + 63) / 64 * 64);

    ck_assert_ptr_nonnull(p);
    memset(p, 0x5a, n); /* what is not written shows */
    return p;
}

/* ---- a matrix, as it lies in an archive and packed ---- */

struct matrix {
    struct quant_shape shape;
    int8_t *data;    /* (n_out, k) */
    uint8_t *scales; /* floats, one byte past alignment */
    void *packed;
};

static float scale_of(const struct matrix *m, size_t o, size_t i)
{
    float scale;

    memcpy(&scale, m->scales + 4 * (o * (m->shape.k / m->shape.group) + i / m->shape.group),
           sizeof(scale));
    return scale;
}

static struct matrix matrix_new(uint32_t n_out, uint32_t k, uint32_t group, unsigned bits)
{
    struct matrix m = {.shape = {n_out, k, group, bits}};
    size_t n_scales = (size_t)n_out * (k / group);

    ck_assert(quant_shape_is_valid(&m.shape));
    m.data = malloc((size_t)n_out * k);
    m.scales = (uint8_t *)malloc(n_scales * 4 + 1) + 1;
    m.packed = new_bytes(quant_packed_bytes(&m.shape));
    for (size_t i = 0; i < (size_t)n_out * k; i++)
        m.data[i] = (int8_t)(bits == 8 ? random_bits() : random_bits() % 16 - 8);
    for (size_t i = 0; i < n_scales; i++) {
        float scale = (float)(0.01 + 0.1 * fabs(random_unit()));

        memcpy(m.scales + 4 * i, &scale, sizeof(scale));
    }
    quant_pack(&m.shape, m.data, m.scales, 0, n_out, m.packed);
    return m;
}

static void matrix_done(struct matrix *m)
{
    free(m->data);
    free(m->scales - 1);
    free(m->packed);
}

START_TEST(test_quant_packing_keeps_all_numbers)
{
    for (size_t c = 0; c < ARRAY_LEN(sizes); c++)
    for (unsigned bits = 4; bits <= 8; bits += 4) {
        uint32_t n_out = 1 + random_bits() % 50, k = sizes[c].k;
        struct matrix m = matrix_new(n_out, k, sizes[c].group, bits);
        size_t bytes = quant_packed_bytes(&m.shape), n_groups = k / sizes[c].group;
        uint8_t *parts = new_bytes(bytes);
        int8_t *data = malloc(k);
        float *scales = malloc(n_groups * 4);

        for (uint32_t o = 0; o < n_out; o += QUANT_PANEL) /* from the end */
            quant_pack(&m.shape, m.data, m.scales, (n_out - 1 - o) / QUANT_PANEL * QUANT_PANEL,
                       MIN(QUANT_PANEL, n_out - (n_out - 1 - o) / QUANT_PANEL * QUANT_PANEL),
                       parts);
        ck_assert_mem_eq(parts, m.packed, bytes);
        for (uint32_t o = 0; o < n_out; o++) {
            quant_unpack(&m.shape, m.packed, o, data, scales);
            ck_assert_mem_eq(data, m.data + (size_t)o * k, k);
            ck_assert_mem_eq(scales, m.scales + o * n_groups * 4, n_groups * 4);
        }
        free(parts);
        free(data);
        free(scales);
        matrix_done(&m);
    }
}
END_TEST

START_TEST(test_quant_shapes_that_do_not_fit_are_refused)
{
    static const struct quant_shape bad[] = {
        {0, 32, 32, 8},  {1, 0, 0, 8},    {1, 0, 32, 8},     {1, 32, 0, 8},  {1, 64, 16, 8},
        {1, 64, 48, 4},  {1, 96, 64, 4},  {1, 65537, 65537, 8}, {1, 32, 64, 8},
        {1, 32, 32, 2},  {1, 32, 32, 16}, {1, 36, 12, 4},
    };
    static const int8_t numbers[] = {-8, 7, 0, -1, 3, -9, 8};

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ck_assert(!quant_shape_is_valid(&bad[i]));
    ck_assert(quant_fits_4_bits(numbers, 5));
    ck_assert(!quant_fits_4_bits(numbers, 6));
    ck_assert(!quant_fits_4_bits(numbers + 6, 1));
}
END_TEST

/* ---- rows ---- */

/* As torchao writes it down, step by step. */
static void check_row(const char *name, const float *x, size_t k, void *bytes)
{
    struct quant_row *row = quant_row_at(bytes, k);
    const int8_t *numbers = bytes;
    float min = 0, max = 0, scale, zero_point;
    int32_t sum = 0;

    for (size_t i = 0; i < k; i++) {
        min = fminf(min, x[i]);
        max = fmaxf(max, x[i]);
    }
    scale = fmaxf((max - min) / 255.0f, FLT_MIN);
    zero_point = fminf(fmaxf(-128 - nearbyintf(min / scale), -128), 127);
    if (isinf(scale))
        ck_assert(isnan(row->scale));
    else
        ck_assert_mem_eq(&row->scale, &scale, sizeof(scale));
    ck_assert_int_eq(row->zero_point, (int)zero_point);
    for (size_t i = 0; i < QUANT_ROW_END(k); i++) {
        float q = 0;

        if (i % 32 == 0 && i / 32 < QUANT_ROW_SUMS(k))
            ck_assert_int_eq(row->sums[i / 32], sum);
        if (i < k) {
            volatile float product = x[i] * (1.0f / scale);

            q = fminf(fmaxf(nearbyintf(product) + zero_point, -128), 127);
        }
        ck_assert_msg(numbers[i] == (int)q, "%s k %zu number %zu: %d, not %g", name, k, i,
                      numbers[i], q);
        sum += numbers[i];
    }
    ck_assert_int_eq(row->sums[QUANT_ROW_SUMS(k) - 1], sum);
}

/* Kinds of rows, random and nasty. */
static float number_of_kind(size_t kind, size_t i)
{
    double u = random_unit();

    switch (kind) {
    case 0:
        return (float)u;
    case 1:
        return (float)fabs(u * 20);
    case 2:
        return (float)-fabs(u * 1e-3);
    case 3:
        return 0;
    case 4:
        return 1.5f;
    case 5:
        return (float)(u * 3e38);
    case 6:
        return (float)(u * 1e-40);
    case 7: /* ties: the scale is 1 / 2 */
        return i == 0 ? 63.75f : i == 1 ? -63.75f : (float)((int)(u * 254)) / 4;
    case 8:
        return (float)(u * u * u * u * u * 100);
    case 9:
        return i % 2 ? -0.0f : 0.0f;
    default: /* the largest range that there is */
        return i % 2 ? FLT_MAX : i % 3 ? -FLT_MAX / 1000 : 1;
    }
}

START_TEST(test_quant_rows_are_as_torchaos)
{
    for (size_t k = 1; k < 700; k += k < 70 ? 1 : 101)
        for (size_t kind = 0; kind <= 10; kind++) {
            size_t ldx = k + random_bits() % 3, bytes = QUANT_ROW_BYTES(k);
            float *x = malloc(3 * ldx * sizeof(float));
            uint8_t *all = new_bytes(3 * bytes), *one = new_bytes(bytes);

            for (size_t i = 0; i < 3 * ldx; i++)
                x[i] = number_of_kind(kind, i % ldx);
            EACH_SET(kernels)
            {
                kernels->quantize_rows(x, ldx, 3, k, FLT_MIN, all);
                for (size_t r = 0; r < 3; r++) {
                    check_row(kernels->name, x + r * ldx, k, all + r * bytes);
                    kernels->quantize_rows(x + r * ldx, ldx, 1, k, FLT_MIN, one);
                    ck_assert_mem_eq(one, all + r * bytes, QUANT_ROW_END(k));
                }
            }
            free(x);
            free(all);
            free(one);
        }
}
END_TEST

START_TEST(test_quant_rows_that_are_not_finite_give_nan)
{
    static const float odd[] = {NAN, INFINITY, -INFINITY};
    struct matrix m = matrix_new(19, 40, 40, 8);

    EACH_SET(kernels)
    for (size_t bad = 0; bad < 40; bad++)
        for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
            void *rows = new_bytes(QUANT_ROW_BYTES(40));
            float x[40] = {1, 2, 3}, y[19];

            x[bad] = odd[i];
            kernels->quantize_rows(x, 40, 1, 40, FLT_MIN, rows);
            kernels->linear_q8(rows, 1, &m.shape, m.packed, 0, 19, y, 19);
            for (size_t o = 0; o < 19; o++)
                ck_assert(isnan(y[o]));
            x[bad] = FLT_MAX; /* a range that is beyond */
            x[(bad + 1) % 40] = -FLT_MAX;
            kernels->quantize_rows(x, 40, 1, 40, FLT_MIN, rows);
            kernels->linear_q8(rows, 1, &m.shape, m.packed, 0, 19, y, 19);
            for (size_t o = 0; o < 19; o++)
                ck_assert(isnan(y[o]));
            free(rows);
        }
    matrix_done(&m);
}
END_TEST

/* ---- linears ---- */

static float *random_rows(size_t n)
{
    float *x = malloc(n * sizeof(float));
    double offset = random_unit();

    for (size_t i = 0; i < n; i++)
        x[i] = (float)(random_unit() + offset);
    return x;
}

/* Groups' sums exactly, as whole numbers; then in double precision. */
static void check_q8(const char *name, const struct matrix *m, const uint8_t *rows, size_t r,
                     const float *y)
{
    size_t k = m->shape.k;
    const int8_t *x = (const int8_t *)(rows + r * QUANT_ROW_BYTES(k));
    const struct quant_row *end = quant_row_at((void *)(rows + r * QUANT_ROW_BYTES(k)), k);

    for (size_t o = 0; o < m->shape.n_out; o++) {
        double sum = 0, all = 0;

        for (size_t i = 0; i < k; i++) {
            double product = (double)end->scale * scale_of(m, o, i) * m->data[o * k + i];

            sum += product * (x[i] - end->zero_point);
            all += fabs(product) * (abs(x[i]) + abs(end->zero_point));
        }
        ck_assert_msg(fabs(y[o] - sum) <= 2e-6 * all + 1e-30,
                      "%s %u bits k %zu group %u row %zu output %zu: %.9g, not %.9g", name,
                      m->shape.bits, k, m->shape.group, r, o, y[o], sum);
    }
}

static void check_linear_q8(const struct matrix *m, size_t n_rows)
{
    size_t k = m->shape.k, n_out = m->shape.n_out, ldy = n_out + 3, bytes = QUANT_ROW_BYTES(k);
    float *x = random_rows(n_rows * k), *want = new_bytes(n_rows * ldy * 4);
    float *y = new_bytes(n_rows * ldy * 4);
    uint8_t *rows = new_bytes(n_rows * bytes);
    uint32_t cut = (uint32_t)(n_out / 2 / QUANT_PANEL * QUANT_PANEL);

    portable()->quantize_rows(x, k, n_rows, k, FLT_MIN, rows);
    portable()->linear_q8(rows, n_rows, &m->shape, m->packed, 0, (uint32_t)n_out, want, ldy);
    for (size_t r = 0; r < n_rows; r++)
        check_q8("portable", m, rows, r, want + r * ldy);
    EACH_SET(kernels)
    {
        memset(y, 0x5a, n_rows * ldy * 4);
        kernels->linear_q8(rows, n_rows, &m->shape, m->packed, 0, (uint32_t)n_out, y, ldy);
        ck_assert_msg(memcmp(y, want, n_rows * ldy * 4) == 0,
                      "%s %u bits k %zu group %u, %zu rows x %zu", kernels->name, m->shape.bits,
                      k, m->shape.group, n_rows, n_out);
        for (size_t r = 0; r < n_rows; r++) { /* the row alone, in two cuts */
            float *one = y + r * ldy;

            memset(one, 0x5a, n_out * 4);
            kernels->linear_q8(rows + r * bytes, 1, &m->shape, m->packed, 0, cut, one, ldy);
            kernels->linear_q8(rows + r * bytes, 1, &m->shape, m->packed, cut,
                               (uint32_t)n_out - cut, one + cut, ldy);
        }
        ck_assert_mem_eq(y, want, n_rows * ldy * 4);
    }
    free(x);
    free(y);
    free(want);
    free(rows);
}

static void check_linear_w(const struct matrix *m, size_t n_rows)
{
    size_t k = m->shape.k, n_out = m->shape.n_out, ldx = k + 1, ldy = n_out + 3;
    float *x = random_rows(n_rows * ldx), *y = new_bytes(n_rows * ldy * 4);
    float *one = new_bytes(ldy * 4);
    uint32_t cut = (uint32_t)(n_out / 2 / QUANT_PANEL * QUANT_PANEL);

    EACH_SET(kernels)
    {
        memset(y, 0x5a, n_rows * ldy * 4);
        kernels->linear_w(x, ldx, n_rows, &m->shape, m->packed, 0, (uint32_t)n_out, y, ldy);
        for (size_t r = 0; r < n_rows; r++) {
            for (size_t o = 0; o < n_out; o++) {
                double sum = 0, all = 0;

                for (size_t i = 0; i < k; i++) {
                    double product = (double)x[r * ldx + i] * scale_of(m, o, i) *
                                     m->data[o * k + i];

                    sum += product;
                    all += fabs(product);
                }
                ck_assert_msg(fabs(y[r * ldy + o] - sum) <= 2e-6 * all,
                              "%s %u bits k %zu group %u row %zu output %zu: %.9g, not %.9g",
                              kernels->name, m->shape.bits, k, m->shape.group, r, o,
                              y[r * ldy + o], sum);
            }
            memset(one, 0x5a, ldy * 4);
            kernels->linear_w(x + r * ldx, ldx, 1, &m->shape, m->packed, 0, cut, one, ldy);
            kernels->linear_w(x + r * ldx, ldx, 1, &m->shape, m->packed, cut,
                              (uint32_t)n_out - cut, one + cut, ldy);
            ck_assert_mem_eq(y + r * ldy, one, (r + 1 < n_rows ? ldy : n_out) * 4);
        }
    }
    free(x);
    free(y);
    free(one);
}

static void check_sizes(void (*check)(const struct matrix *m, size_t n_rows))
{
    for (size_t c = 0; c < ARRAY_LEN(sizes); c++)
        for (unsigned bits = 4; bits <= 8; bits += 4)
            for (size_t i = 0; i < 3; i++) {
                struct matrix m = matrix_new(1 + random_bits() % 70, sizes[c].k,
                                             sizes[c].group, bits);

                check(&m, i == 0 ? 1 : 1 + random_bits() % (i == 1 ? 13 : 40));
                matrix_done(&m);
            }
}

START_TEST(test_quant_linear_q8)
{
    check_sizes(check_linear_q8);
}
END_TEST

START_TEST(test_quant_linear_w)
{
    check_sizes(check_linear_w);
}
END_TEST

/* The numbers farthest from 0, where a sum of 16 or of 32 bits would overflow first. */
START_TEST(test_quant_linear_q8_of_extremes)
{
    for (unsigned bits = 4; bits <= 8; bits += 4)
        for (int sign = 0; sign < 4; sign++) {
            uint32_t k = QUANT_MAX_K;
            struct matrix m = matrix_new(16, k, k, bits);
            float *x = malloc(k * 4), y[16];
            uint8_t *rows = new_bytes(QUANT_ROW_BYTES(k));
            int low = bits == 8 ? -128 : -8, w = sign & 1 ? low : -1 - low;

            memset(m.data, w, 16 * (size_t)k);
            quant_pack(&m.shape, m.data, m.scales, 0, 16, m.packed);
            for (size_t i = 0; i < k; i++) /* numbers -128 or 127, zero point at the other */
                x[i] = sign & 2 ? -255 : 255;
            EACH_SET(kernels)
            {
                kernels->quantize_rows(x, k, 1, k, FLT_MIN, rows);
                kernels->linear_q8(rows, 1, &m.shape, m.packed, 0, 16, y, 16);
                for (size_t o = 0; o < 16; o++) {
                    double want = (double)x[0] * w * k * scale_of(&m, o, 0);

                    ck_assert_msg(fabs(y[o] - want) <= 1e-6 * fabs(want), "%s %u: %g, not %g",
                                  kernels->name, bits, y[o], want);
                }
            }
            free(x);
            free(rows);
            matrix_done(&m);
        }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("quant_kernels");
    TCase *core = tcase_create("core"), *errors = tcase_create("errors");

    tcase_set_timeout(core, 300);
    tcase_add_checked_fixture(core, setup, NULL);
    tcase_add_test(core, test_quant_packing_keeps_all_numbers);
    tcase_add_test(core, test_quant_rows_are_as_torchaos);
    tcase_add_test(core, test_quant_rows_that_are_not_finite_give_nan);
    tcase_add_test(core, test_quant_linear_q8);
    tcase_add_test(core, test_quant_linear_q8_of_extremes);
    tcase_add_test(core, test_quant_linear_w);
    tcase_add_test(errors, test_quant_shapes_that_do_not_fit_are_refused);
    suite_add_tcase(s, core);
    suite_add_tcase(s, errors);
    return suite_run(s);
}
