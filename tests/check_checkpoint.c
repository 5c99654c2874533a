#include "suite.h"

#include "alloc_fail.h"
#include "base/sha256.h"
#include "base/util.h"
#include "cases.h"

#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <pt2/checkpoint.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define OK(call) ck_assert_msg((call) == 0, "%s", err.text)

/* One tensor "w" of 2 float32, whose bytes are "weights!". */
#define WEIGHTS_JSON  "{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}"
#define WEIGHTS_BYTES (8 + sizeof(WEIGHTS_JSON) - 1 + 8)

static struct pt2_err err;
static char dir[64]; /* a scratch checkpoint */

static const char *in_dir(const char *name)
{
    static char paths[4][400];
    static int turn;

    turn = (turn + 1) % 4;
    snprintf(paths[turn], sizeof(paths[turn]), "%s/%s", dir, name);
    return paths[turn];
}

static void put_bytes(const char *name, const void *data, size_t len)
{
    FILE *f = fopen(in_dir(name), "wb");

    ck_assert(f && fwrite(data, 1, len, f) == len && fclose(f) == 0);
}

static void put(const char *name, const char *text)
{
    put_bytes(name, text, strlen(text));
}

/* A safetensors file. */
static void put_weights(const char *name, const char *header, const char *data)
{
    char bytes[1000];
    size_t n = strlen(header), n_data = strlen(data);

    memset(bytes, 0, 8);
    bytes[0] = (char)n;
    bytes[1] = (char)(n >> 8);
    memcpy(bytes + 8, header, n);
    memcpy(bytes + 8 + n, data, n_data);
    put_bytes(name, bytes, 8 + n + n_data);
}

static void setup(void)
{
    err = (struct pt2_err){0};
    snprintf(dir, sizeof(dir), "/tmp/check_checkpoint.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    put("config.json", "{\"model_type\": \"llama\"}");
    put_weights("model.safetensors", WEIGHTS_JSON, "weights!");
}

static void teardown(void)
{
    char command[100];

    snprintf(command, sizeof(command), "rm -r '%s'", dir);
    ck_assert_int_eq(system(command), 0);
}

static struct pt2_checkpoint *open_dir(void)
{
    struct pt2_checkpoint *c;

    OK(pt2_checkpoint_open(dir, &c, &err));
    return c;
}

/* Opening must fail, with this code and text. */
static void must_refuse(enum pt2_error code, const char *text)
{
    struct pt2_checkpoint *c;

    pt2_err_clear(&err);
    ck_assert_int_eq(pt2_checkpoint_open(dir, &c, &err), -1);
    ck_assert_msg(err.code == code && strstr(err.text, text), "%s", err.text);
}

START_TEST(test_checkpoint_single_file)
{
    struct pt2_checkpoint *c = open_dir();
    const struct pt2_checkpoint_tensor *w = pt2_checkpoint_find_tensor(c, "w");
    char data[8];

    ck_assert_uint_eq(pt2_checkpoint_n_tensors(c), 1);
    ck_assert_ptr_eq(pt2_checkpoint_tensor(c, 0), w);
    ck_assert_ptr_null(pt2_checkpoint_find_tensor(c, "v"));
    ck_assert(w->dtype == PT2_FLOAT32 && w->n_dims == 1 && w->sizes[0] == 2 &&
              w->bytes == 8);
    ck_assert_str_eq(w->dtype_name, "F32");
    ck_assert_str_eq(pt2_checkpoint_file(c, w->file)->name, "model.safetensors");
    ck_assert_uint_eq(pt2_checkpoint_file(c, w->file)->bytes, WEIGHTS_BYTES);
    OK(pt2_checkpoint_read(c, w, 0, data, 8, &err));
    ck_assert_mem_eq(data, "weights!", 8);
    OK(pt2_checkpoint_read(c, w, 5, data, 3, &err));
    ck_assert_mem_eq(data, "ts!", 3);
    OK(pt2_checkpoint_read(c, w, 8, data, 0, &err));
    ck_assert_int_eq(pt2_checkpoint_read(c, w, 5, data, 4, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_INVALID);
    pt2_checkpoint_free(c);
}
END_TEST

/* The shards, not what lies beside them; names sorted; extra tensors in a shard are fine.
 */
START_TEST(test_checkpoint_sharded)
{
    struct pt2_checkpoint *c;
    const struct pt2_checkpoint_tensor *t;
    char data[8];

    ck_assert_int_eq(unlink(in_dir("model.safetensors")), 0);
    put("model.safetensors.index.json",
        "{\"metadata\": {\"total_size\": 1.6e1}, \"weight_map\": {\"w\": "
        "\"model-00002-of-00002.safetensors\", \"a\": "
        "\"model-00001-of-00002.safetensors\"}}");
    put_weights("model-00001-of-00002.safetensors",
                "{\"b\":{\"dtype\":\"I8\",\"shape\":[0,9],\"data_offsets\":[0,0]},"
                "\"__metadata__\":{\"format\":\"pt\"},"
                "\"a\":{\"data_offsets\":[0,8],\"dtype\":\"BF16\",\"shape\":[2,2]}}   ",
                "first..!");
    put_weights("model-00002-of-00002.safetensors", WEIGHTS_JSON, "weights!");
    put_weights("consolidated.safetensors", "not looked at", "");
    c = open_dir();
    ck_assert_uint_eq(pt2_checkpoint_n_tensors(c), 3);
    ck_assert_str_eq(pt2_checkpoint_tensor(c, 0)->name, "a");
    ck_assert_str_eq(pt2_checkpoint_tensor(c, 1)->name, "b");
    ck_assert_str_eq(pt2_checkpoint_tensor(c, 2)->name, "w");
    ck_assert_uint_eq(pt2_checkpoint_tensor(c, 1)->bytes, 0);
    t = pt2_checkpoint_find_tensor(c, "a");
    ck_assert(t->dtype == PT2_BFLOAT16 && t->n_dims == 2);
    OK(pt2_checkpoint_read(c, t, 0, data, 8, &err));
    ck_assert_mem_eq(data, "first..!", 8);
    t = pt2_checkpoint_find_tensor(c, "w");
    OK(pt2_checkpoint_read(c, t, 0, data, 8, &err));
    ck_assert_mem_eq(data, "weights!", 8);
    ck_assert_uint_eq(pt2_checkpoint_n_files(c), 4);
    ck_assert_int_eq(pt2_checkpoint_file(c, 0)->kind, PT2_FILE_CONFIG);
    ck_assert_int_eq(pt2_checkpoint_file(c, 1)->kind, PT2_FILE_INDEX);
    ck_assert_int_eq(pt2_checkpoint_file(c, 3)->kind, PT2_FILE_WEIGHTS);
    pt2_checkpoint_free(c);
}
END_TEST

START_TEST(test_checkpoint_any_one_file_will_do)
{
    struct pt2_checkpoint *c;

    ck_assert_int_eq(rename(in_dir("model.safetensors"), in_dir("other.safetensors")), 0);
    c = open_dir();
    ck_assert_int_eq(pt2_checkpoint_find_file(c, "other.safetensors"), 1);
    pt2_checkpoint_free(c);
}
END_TEST

/* Types that programs lack are listed, so that the refusal can name them. */
START_TEST(test_checkpoint_foreign_dtypes)
{
    struct pt2_checkpoint *c;
    const struct pt2_checkpoint_tensor *t;

    put_weights("model.safetensors",
                "{\"w\":{\"dtype\":\"F8_E4M3FNUZ\",\"shape\":[2,3],\"data_offsets\":[0,6]},"
                "\"v\":{\"dtype\":\"F4\",\"shape\":[4],\"data_offsets\":[6,8]}}",
                "weights!");
    c = open_dir();
    t = pt2_checkpoint_find_tensor(c, "w");
    ck_assert(t->dtype == PT2_DTYPE_NONE && t->bytes == 6);
    ck_assert_str_eq(t->dtype_name, "F8_E4M3FNUZ");
    ck_assert_uint_eq(pt2_checkpoint_find_tensor(c, "v")->bytes, 2);
    pt2_checkpoint_free(c);
}
END_TEST

/* What json.dump of Python writes, and jansson would not take. */
START_TEST(test_checkpoint_config_as_python_writes_it)
{
    struct pt2_checkpoint *c;
    const json_t *config;

    put("config.json",
        "{\"eps\": 1e-05, \"limits\": [0.0, Infinity, -Infinity, NaN],\n"
        " \"text\": \"NaN, \\\"Infinity\\\"\", \"big\": 1000000000000000019884624838656,"
        " \"small\": -9223372036854775808, \"theta\": 1000000}");
    c = open_dir();
    config = pt2_checkpoint_config(c);
    ck_assert(json_real_value(json_object_get(config, "eps")) == 1e-05);
    ck_assert_str_eq(
        json_string_value(json_array_get(json_object_get(config, "limits"), 1)),
        "Infinity");
    ck_assert_str_eq(
        json_string_value(json_array_get(json_object_get(config, "limits"), 2)),
        "-Infinity");
    ck_assert_str_eq(
        json_string_value(json_array_get(json_object_get(config, "limits"), 3)), "NaN");
    ck_assert_str_eq(json_string_value(json_object_get(config, "text")),
                     "NaN, \"Infinity\"");
    ck_assert(json_real_value(json_object_get(config, "big")) == 1e30);
    ck_assert(json_integer_value(json_object_get(config, "small")) == INT64_MIN);
    ck_assert(json_integer_value(json_object_get(config, "theta")) == 1000000);
    pt2_checkpoint_free(c);
}
END_TEST

START_TEST(test_checkpoint_extras)
{
    struct pt2_checkpoint *c;
    json_t *json;
    char *text;
    size_t len;

    put("generation_config.json", "{\"eos_token_id\": [1, 2]}");
    put("chat_template.jinja", "{{ messages }}");
    put("README.md", "not carried along");
    c = open_dir();
    ck_assert_uint_eq(pt2_checkpoint_n_files(c), 4);
    OK(pt2_checkpoint_extra(c, "chat_template.jinja", 14, &text, &len, &err));
    ck_assert_uint_eq(len, 14);
    ck_assert_str_eq(text, "{{ messages }}");
    free(text);
    ck_assert_int_eq(
        pt2_checkpoint_extra(c, "chat_template.jinja", 13, &text, &len, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_LIMIT);
    pt2_err_clear(&err);
    OK(pt2_checkpoint_extra(c, "README.md", 100, &text, &len, &err));
    ck_assert_ptr_null(text);
    OK(pt2_checkpoint_extra_json(c, "generation_config.json", 100, &json, &err));
    ck_assert_uint_eq(json_array_size(json_object_get(json, "eos_token_id")), 2);
    json_decref(json);
    OK(pt2_checkpoint_extra_json(c, "tokenizer_config.json", 100, &json, &err));
    ck_assert_ptr_null(json);
    ck_assert_int_eq(
        pt2_checkpoint_extra_json(c, "chat_template.jinja", 100, &json, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_BAD_CONFIG);
    pt2_checkpoint_free(c);
}
END_TEST

START_TEST(test_checkpoint_digest)
{
    uint8_t digest[SHA256_BYTES], expected[SHA256_BYTES];
    AUTO_PTR char *data = malloc(3 << 20);
    struct pt2_checkpoint *c;

    memset(data, ' ', 3 << 20);
    put_bytes("tokenizer.json", data, (3 << 20) - 7);
    sha256_of(data, (3 << 20) - 7, expected);
    c = open_dir();
    OK(pt2_checkpoint_digest_file(c, 2, digest, &err));
    ck_assert_mem_eq(digest, expected, SHA256_BYTES);
    pt2_checkpoint_free(c);
}
END_TEST

/* 64 GiB of weights (a hole) must not be touched, let alone mapped. */
START_TEST(test_checkpoint_opens_without_reading_weights)
{
    static const char header[] = "{\"w\":{\"dtype\":\"F32\",\"shape\":[4294967296,4],"
                                 "\"data_offsets\":[0,68719476736]}}";
    struct rusage before, after;
    struct pt2_checkpoint *c;
    const struct pt2_checkpoint_tensor *w;
    char data[4] = "full";

    put_weights("model.safetensors", header, "");
    if (truncate(in_dir("model.safetensors"), 8 + (off_t)strlen(header) + 68719476736) <
        0)
        return; /* no such files here */
    getrusage(RUSAGE_SELF, &before);
    c = open_dir();
    w = pt2_checkpoint_find_tensor(c, "w");
    OK(pt2_checkpoint_read(c, w, w->bytes - 4, data, 4, &err));
    ck_assert_mem_eq(data, "\0\0\0\0", 4);
    getrusage(RUSAGE_SELF, &after);
    ck_assert_int_lt(after.ru_maxrss, before.ru_maxrss + 2048); /* KiB */
    pt2_checkpoint_free(c);
}
END_TEST

static int open_case(const char *case_dir, struct pt2_err *e)
{
    struct pt2_checkpoint *c;

    if (pt2_checkpoint_open(case_dir, &c, e) < 0)
        return -1;
    pt2_checkpoint_free(c);
    return 0;
}

START_TEST(test_checkpoint_invalid_weights)
{
    cases_run("safetensors-invalid", open_case);
}
END_TEST

START_TEST(test_checkpoint_invalid_configs)
{
    cases_run("config-invalid", open_case);
}
END_TEST

START_TEST(test_checkpoint_limits)
{
    AUTO_PTR char *text = malloc(17 << 20);

    memset(text, ' ', 17 << 20);
    memcpy(text, "{}", 2);
    put_bytes("config.json", text, (1 << 20) + 1);
    must_refuse(PT2_ERR_BAD_CONFIG, "at most 1048576 are read");
    put("config.json", "{}");
    memset(text, 0, 8);
    text[3] = 1; /* a header of 16 MiB, and the byte too many */
    text[0] = 1;
    put_bytes("model.safetensors", text, 17 << 20);
    must_refuse(PT2_ERR_BAD_CHECKPOINT, "at most 16777216 are read");
}
END_TEST

START_TEST(test_checkpoint_what_is_no_file)
{
    ck_assert_int_eq(unlink(in_dir("model.safetensors")), 0);
    ck_assert_int_eq(mkdir(in_dir("model.safetensors"), 0700), 0);
    must_refuse(PT2_ERR_BAD_CHECKPOINT, "'model.safetensors' is not a regular file");
    ck_assert_int_eq(rmdir(in_dir("model.safetensors")), 0);
    ck_assert_int_eq(mkfifo(in_dir("model.safetensors"), 0600), 0);
    must_refuse(PT2_ERR_BAD_CHECKPOINT, "not a regular file"); /* and does not wait */
    ck_assert_int_eq(unlink(in_dir("model.safetensors")), 0);
    ck_assert_int_eq(symlink("nowhere", in_dir("model.safetensors")), 0);
    must_refuse(PT2_ERR_BAD_CHECKPOINT, "no *.safetensors");
}
END_TEST

/* Written to, cut, replaced: each is noticed, in the file itself or by its name. */
START_TEST(test_checkpoint_changes_are_noticed)
{
    char data[8];

    for (int i = 0; i < 4; i++) {
        struct pt2_checkpoint *c;

        put_weights("model.safetensors", WEIGHTS_JSON, "weights!");
        c = open_dir();
        OK(pt2_checkpoint_check_unchanged(c, &err));
        usleep(20000); /* more than the clock of file times */
        if (i == 0)
            put_weights("model.safetensors", WEIGHTS_JSON, "WEIGHTS!");
        else if (i == 1)
            ck_assert_int_eq(truncate(in_dir("model.safetensors"), WEIGHTS_BYTES - 1), 0);
        else if (i == 2)
            ck_assert_int_eq(unlink(in_dir("model.safetensors")), 0);
        else
            put("config.json", "{\"model_type\": \"LLAMA\"}");
        ck_assert_int_eq(pt2_checkpoint_check_unchanged(c, &err), -1);
        ck_assert_int_eq(err.code, PT2_ERR_CHECKPOINT_CHANGED);
        ck_assert_ptr_nonnull(
            strstr(err.text, i < 3 ? "'model.safetensors'" : "'config.json'"));
        pt2_err_clear(&err);
        if (i == 1) {
            ck_assert_int_eq(
                pt2_checkpoint_read(c, pt2_checkpoint_tensor(c, 0), 0, data, 8, &err),
                -1);
            ck_assert_int_eq(err.code, PT2_ERR_CHECKPOINT_CHANGED);
            pt2_err_clear(&err);
        }
        pt2_checkpoint_free(c);
    }
}
END_TEST

/* A header may be anything: never a crash (run it with asan), never a tensor outside of
 * the file. */
START_TEST(test_checkpoint_header_changed_anywhere)
{
    static const uint8_t changes[] = {0x01, 0x04, 0x10, 0x80};
    char header[] = WEIGHTS_JSON;

    for (size_t i = 0; i < sizeof(header) - 1; i++) {
        for (size_t k = 0; k < ARRAY_LEN(changes); k++) {
            struct pt2_checkpoint *c;

            header[i] = (char)((uint8_t)header[i] ^ changes[k]);
            put_weights("model.safetensors", header, "weights!");
            pt2_err_clear(&err);
            if (pt2_checkpoint_open(dir, &c, &err) == 0) {
                const struct pt2_checkpoint_tensor *t = pt2_checkpoint_tensor(c, 0);

                ck_assert_uint_eq(t->offset + t->bytes, WEIGHTS_BYTES);
                pt2_checkpoint_free(c);
            } else {
                ck_assert_int_eq(err.code, PT2_ERR_BAD_CHECKPOINT);
            }
            header[i] = (char)((uint8_t)header[i] ^ changes[k]);
        }
    }
}
END_TEST

START_TEST(test_checkpoint_no_memory)
{
    ck_assert_int_eq(rename(in_dir("model.safetensors"), in_dir("s.safetensors")), 0);
    put("model.safetensors.index.json", "{\"weight_map\": {\"w\": \"s.safetensors\"}}");
    for (alloc_fail_begin(); alloc_fail_next();) {
        struct pt2_checkpoint *c = NULL;
        int r;

        pt2_err_clear(&err);
        r = pt2_checkpoint_open(dir, &c, &err);
        if (alloc_failed()) {
            ck_assert_int_eq(r, -1);
            ck_assert_int_eq(err.code, PT2_ERR_NOMEM);
        } else {
            OK(r);
            pt2_checkpoint_free(c);
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("checkpoint");
    TCase *core = tcase_create("core"), *limits = tcase_create("limits"),
          *errors = tcase_create("errors");

    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_test(core, test_checkpoint_single_file);
    tcase_add_test(core, test_checkpoint_sharded);
    tcase_add_test(core, test_checkpoint_any_one_file_will_do);
    tcase_add_test(core, test_checkpoint_foreign_dtypes);
    tcase_add_test(core, test_checkpoint_config_as_python_writes_it);
    tcase_add_test(core, test_checkpoint_extras);
    tcase_add_test(core, test_checkpoint_digest);
    suite_add_tcase(suite, core);
    tcase_add_checked_fixture(limits, setup, teardown);
    tcase_add_test(limits, test_checkpoint_opens_without_reading_weights);
    tcase_add_test(limits, test_checkpoint_limits);
    suite_add_tcase(suite, limits);
    tcase_add_checked_fixture(errors, setup, teardown);
    tcase_add_test(errors, test_checkpoint_invalid_weights);
    tcase_add_test(errors, test_checkpoint_invalid_configs);
    tcase_add_test(errors, test_checkpoint_what_is_no_file);
    tcase_add_test(errors, test_checkpoint_changes_are_noticed);
    tcase_add_test(errors, test_checkpoint_header_changed_anywhere);
    tcase_add_test(errors, test_checkpoint_no_memory);
    tcase_set_timeout(errors, 120);
    suite_add_tcase(suite, errors);
    return suite_run(suite);
}
