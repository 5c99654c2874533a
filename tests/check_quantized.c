#include "suite.h"

#include "base/util.h"

#include <math.h>
#include <pt2/checkpoint.h>

#define OK(call) ck_assert_msg((call) == 0, "%s", err.text)

static struct pt2_err err;
static char dir[64]; /* a scratch checkpoint */

static void setup(void)
{
    err = (struct pt2_err){0};
    snprintf(dir, sizeof(dir), "/tmp/check_quantized.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void teardown(void)
{
    char command[100];

    snprintf(command, sizeof(command), "rm -r '%s'", dir);
    ck_assert_int_eq(system(command), 0);
}

static struct pt2_checkpoint *open_case(const char *name)
{
    struct pt2_checkpoint *c;
    char path[500];

    snprintf(path, sizeof(path), "%s/quantized/%s", getenv("PT2_TEST_DATA"), name);
    OK(pt2_checkpoint_open(path, &c, &err));
    return c;
}

static void put(const char *name, const void *data, size_t len)
{
    char path[100];
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    f = fopen(path, "wb");
    ck_assert(f && fwrite(data, 1, len, f) == len && fclose(f) == 0);
}

/* A checkpoint whose header and config are these, and whose data are zeros. */
static int open_made(const char *config, const char *header, size_t n_data,
                     struct pt2_checkpoint **ret_checkpoint)
{
    size_t n = strlen(header);
    char bytes[2000] = {(char)n, (char)(n >> 8)};

    ck_assert_uint_le(8 + n + n_data, sizeof(bytes));
    memcpy(bytes + 8, header, n);
    put("config.json", config, strlen(config));
    put("model.safetensors", bytes, 8 + n + n_data);
    pt2_err_clear(&err);
    return pt2_checkpoint_open(dir, ret_checkpoint, &err);
}

static void must_refuse(const char *config, const char *header, size_t n_data,
                        enum pt2_error code, const char *text)
{
    struct pt2_checkpoint *c;

    ck_assert_int_eq(open_made(config, header, n_data, &c), -1);
    ck_assert_msg(err.code == code && strstr(err.text, text), "%s", err.text);
}

static bool is_same(float a, float b)
{
    return (isnan(a) && isnan(b)) || memcmp(&a, &b, sizeof(a)) == 0;
}

/* The values of one tensor, float32; the caller frees. */
static float *read_all(const struct pt2_checkpoint *c,
                       const struct pt2_checkpoint_tensor *t)
{
    float *values = malloc(t->bytes + 1);

    ck_assert_ptr_nonnull(values);
    ck_assert_int_eq(t->dtype, PT2_FLOAT32);
    OK(pt2_checkpoint_read(c, t, 0, values, t->bytes, &err));
    return values;
}

static void check_tensor(const struct pt2_checkpoint *c,
                         const struct pt2_checkpoint_tensor *t,
                         const struct pt2_checkpoint *expected,
                         const struct pt2_checkpoint_tensor *e)
{
    AUTO_PTR float *is = read_all(c, t), *wants = read_all(expected, e);
    size_t n = t->bytes / sizeof(float);
    char piece[100];

    for (size_t i = 0; i < n; i++)
        ck_assert_msg(is_same(is[i], wants[i]), "%s, %zu: %a, not %a", t->name, i,
                      (double)is[i], (double)wants[i]);
    /* Any bytes of them, whole values or not. */
    for (size_t at = 0, len = 1; at < t->bytes; at += len, len = (len * 7 + 3) % 97 + 1) {
        len = MIN(len, (size_t)t->bytes - at);
        OK(pt2_checkpoint_read(c, t, at, piece, len, &err));
        ck_assert_mem_eq(piece, (const char *)is + at, len);
    }
}

static void check_case(const char *name)
{
    char path[100];
    struct pt2_checkpoint *c = open_case(name), *expected;

    snprintf(path, sizeof(path), "%s/expected", name);
    expected = open_case(path);
    /* Scales and what is for activations are no tensors. */
    ck_assert_uint_eq(pt2_checkpoint_n_tensors(c), pt2_checkpoint_n_tensors(expected));
    for (size_t i = 0; i < pt2_checkpoint_n_tensors(c); i++) {
        const struct pt2_checkpoint_tensor *t = pt2_checkpoint_tensor(c, i);
        const struct pt2_checkpoint_tensor *e = pt2_checkpoint_tensor(expected, i);

        ck_assert_str_eq(t->name, e->name);
        ck_assert_uint_eq(t->n_dims, e->n_dims);
        ck_assert_mem_eq(t->sizes, e->sizes, t->n_dims * sizeof(*t->sizes));
        check_tensor(c, t, expected, e);
    }
    pt2_checkpoint_free(expected);
    pt2_checkpoint_free(c);
}

START_TEST(test_quantized_float8_is_transformers)
{
    check_case("float8");
}
END_TEST

START_TEST(test_quantized_mxfp4_is_transformers)
{
    struct pt2_checkpoint *c = open_case("mxfp4");
    const struct pt2_checkpoint_tensor *t =
        pt2_checkpoint_find_tensor(c, "model.layers.0.mlp.experts.gate_up_proj");

    ck_assert_ptr_nonnull(t);
    ck_assert_str_eq(t->dtype_name, "MXFP4");
    ck_assert(t->n_dims == 3 && t->sizes[0] == 2 && t->sizes[1] == 64 && t->sizes[2] == 6);
    pt2_checkpoint_free(c);
    check_case("mxfp4");
}
END_TEST

/* Rows and matrices that take more than one read of what is stored. */
START_TEST(test_quantized_reads_go_on_where_they_end)
{
    enum { ROWS = 40, COLS = 2000 };
    struct pt2_checkpoint *c;
    const struct pt2_checkpoint_tensor *t;
    AUTO_PTR uint8_t *bytes = malloc(100000);
    AUTO_PTR float *values = NULL;
    char header[400], config[] = "{}";
    int n = snprintf(header, sizeof(header),
                     "{\"w\":{\"dtype\":\"F8_E5M2\",\"shape\":[%d,%d],\"data_offsets\":"
                     "[0,%d]},\"w_scale\":{\"dtype\":\"F32\",\"shape\":[%d,1],"
                     "\"data_offsets\":[%d,%d]}}",
                     ROWS, COLS, ROWS * COLS, ROWS, ROWS * COLS,
                     ROWS * COLS + 4 * ROWS);

    memset(bytes, 0, 8);
    bytes[0] = (uint8_t)n;
    bytes[1] = (uint8_t)(n >> 8);
    memcpy(bytes + 8, header, (size_t)n);
    memset(bytes + 8 + n, 0x3c, ROWS * COLS); /* 1 */
    for (int i = 0; i < ROWS; i++) {
        float scale = (float)i + 1;

        memcpy(bytes + 8 + n + ROWS * COLS + 4 * i, &scale, 4);
    }
    put("config.json", config, strlen(config));
    put("model.safetensors", bytes, (size_t)(8 + n + ROWS * COLS + 4 * ROWS));
    OK(pt2_checkpoint_open(dir, &c, &err));
    t = pt2_checkpoint_find_tensor(c, "w");
    values = read_all(c, t);
    for (int i = 0; i < ROWS * COLS; i++)
        ck_assert_float_eq(values[i], (float)(i / COLS) + 1);
    pt2_checkpoint_free(c);
}
END_TEST

#define FP8 "{\"quantization_config\":{\"quant_method\":\"fp8\"}}"
#define W   "\"w.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[4,6],\"data_offsets\":[0,24]}"
#define SCALE(name, dtype, shape, end)                                                   \
    ",\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[24," end  \
    "]}"

/* No scales, and a config that speaks of none. */
START_TEST(test_quantized_float8_may_be_plain)
{
    struct pt2_checkpoint *c;
    const struct pt2_checkpoint_tensor *t;

    OK(open_made("{}", "{" W "}", 24, &c));
    t = pt2_checkpoint_find_tensor(c, "w.weight");
    ck_assert(t->dtype == PT2_FLOAT32 && t->bytes == 96);
    ck_assert_str_eq(t->dtype_name, "F8_E4M3");
    pt2_checkpoint_free(c);
}
END_TEST

START_TEST(test_quantized_missing_scales_are_named)
{
    must_refuse(FP8, "{" W "}", 24, PT2_ERR_BAD_CHECKPOINT,
                "tensor 'w.weight' is F8_E4M3, but its scales, 'w.weight_scale_inv' or "
                "'w.weight_scale', are missing");
    must_refuse("{\"quantization_config\":{\"quant_method\":\"mxfp4\"}}",
                "{\"e.down_proj_blocks\":{\"dtype\":\"U8\",\"shape\":[1,2,1,16],"
                "\"data_offsets\":[0,32]}}",
                32, PT2_ERR_BAD_CHECKPOINT, "'e.down_proj_scales', are missing");
}
END_TEST

START_TEST(test_quantized_scales_of_another_shape_are_refused)
{
    static const struct {
        const char *shape;
        size_t end;
    } scales[] = {{"[3,1]", 36}, {"[4,4]", 88}, {"[3]", 36}, {"[2,2,1]", 40}, {"[0,1]", 24}};
    char header[400];

    for (size_t i = 0; i < ARRAY_LEN(scales); i++) {
        snprintf(header, sizeof(header),
                 "{" W ",\"w.weight_scale\":{\"dtype\":\"F32\",\"shape\":%s,"
                 "\"data_offsets\":[24,%zu]}}",
                 scales[i].shape, scales[i].end);
        must_refuse(FP8, header, scales[i].end, PT2_ERR_BAD_CHECKPOINT,
                    "are no grid over tensor 'w.weight'");
    }
    must_refuse("{\"quantization_config\":{\"quant_method\":\"mxfp4\"}}",
                "{\"e_blocks\":{\"dtype\":\"U8\",\"shape\":[1,2,1,16],\"data_offsets\":"
                "[0,32]},\"e_scales\":{\"dtype\":\"U8\",\"shape\":[1,1,2],"
                "\"data_offsets\":[32,34]}}",
                34, PT2_ERR_BAD_CHECKPOINT, "must be (n, rows, groups, 16)");
}
END_TEST

START_TEST(test_quantized_other_scales_are_refused)
{
    must_refuse(FP8, "{" W SCALE("w.weight_scale", "I32", "[1]", "28") "}", 28,
                PT2_ERR_NOT_EXPORTABLE, "are of dtype I32, which is not read");
    must_refuse(FP8,
                "{" W SCALE("w.weight_zero_point", "F32", "[1]",
                            "28") ",\"w.weight_scale\":{\"dtype\":\"F32\",\"shape\":[1],"
                                  "\"data_offsets\":[28,32]}}",
                32, PT2_ERR_NOT_EXPORTABLE, "with zero points, which are not read");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("quantized");
    TCase *core = tcase_create("core"), *errors = tcase_create("errors");

    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_test(core, test_quantized_float8_is_transformers);
    tcase_add_test(core, test_quantized_mxfp4_is_transformers);
    tcase_add_test(core, test_quantized_reads_go_on_where_they_end);
    tcase_add_test(core, test_quantized_float8_may_be_plain);
    suite_add_tcase(s, core);
    tcase_add_checked_fixture(errors, setup, teardown);
    tcase_add_test(errors, test_quantized_missing_scales_are_named);
    tcase_add_test(errors, test_quantized_scales_of_another_shape_are_refused);
    tcase_add_test(errors, test_quantized_other_scales_are_refused);
    suite_add_tcase(s, errors);
    return suite_run(s);
}
