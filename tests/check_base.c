#include "suite.h"

#include "base/buf.h"
#include "base/cores.h"
#include "base/folder.h"
#include "base/sha256.h"
#include "base/util.h"

#include <errno.h>
#include <sched.h>
#include <unistd.h>
#include <pt2/dtype.h>
#include <pt2/err.h>

START_TEST(test_err_first_one_wins)
{
    struct pt2_err err = {0};

    ck_assert_int_eq(pt2_err_set(&err, PT2_ERR_INVALID, "first %d", 1), -1);
    ck_assert_int_eq(pt2_err_set(&err, PT2_ERR_IO, "second"), -1);
    ck_assert_int_eq(err.code, PT2_ERR_INVALID);
    ck_assert_str_eq(err.text, "first 1");
    pt2_err_prefix(&err, "in '%s'", "x");
    ck_assert_str_eq(err.text, "in 'x': first 1");
    ck_assert_int_eq(pt2_err_set(NULL, PT2_ERR_IO, "nobody listens"), -1);
}
END_TEST

START_TEST(test_err_full_disk_has_its_own_code)
{
    struct pt2_err err = {0};

    errno = ENOSPC;
    pt2_err_errno(&err, PT2_ERR_IO, "write");
    ck_assert_int_eq(err.code, PT2_ERR_NO_SPACE);
}
END_TEST

START_TEST(test_err_names_are_unique)
{
    for (int i = 0; i < PT2_N_ERRORS; i++)
        ck_assert_int_eq(pt2_error_find(pt2_error_name((enum pt2_error)i)), i);
    ck_assert_int_eq(pt2_error_find("no-such-name"), PT2_ERR_INTERNAL);
}
END_TEST

START_TEST(test_buf_stops_at_its_maximum)
{
    AUTO_BUF b = BUF_INIT(8);

    buf_str(&b, "12345678");
    ck_assert(!buf_failed(&b));
    ck_assert_str_eq(b.data, "12345678");
    buf_str(&b, "9");
    ck_assert(buf_failed(&b));
    ck_assert_uint_eq(b.len, 8);
}
END_TEST

START_TEST(test_dtype_tables_agree_with_schema)
{
    /* torch/_export/serde/schema.py, ScalarType (torch 2.13.0) */
    ck_assert_int_eq(pt2_dtype_schema(PT2_FLOAT32), 7);
    ck_assert_int_eq(pt2_dtype_schema(PT2_BFLOAT16), 13);
    ck_assert_int_eq(pt2_dtype_schema(PT2_INT64), 5);
    ck_assert_int_eq(pt2_dtype_from_schema(12), PT2_BOOL);
    ck_assert_int_eq(pt2_dtype_from_schema(99), PT2_DTYPE_NONE);
    ck_assert_int_eq(pt2_dtype_from_name("torch.bfloat16"), PT2_BFLOAT16);
    ck_assert_int_eq(pt2_dtype_from_safetensors("BF16"), PT2_BFLOAT16);
}
END_TEST

START_TEST(test_folder_with_those_above_it)
{
    char path[] = "/tmp/pt2-folder-XXXXXX", deep[64], file[64];
    struct pt2_err err = {0};

    ck_assert_ptr_nonnull(mkdtemp(path));
    snprintf(deep, sizeof(deep), "%s/a/b/", path);
    for (int i = 0; i < 2; i++) /* what is there is no error */
        ck_assert_int_eq(folder_make(deep, 0700, &err), 0);
    ck_assert_int_eq(access(deep, W_OK), 0);
    snprintf(file, sizeof(file), "%s/file", path);
    fclose(fopen(file, "w"));
    snprintf(deep, sizeof(deep), "%s/file/b", path);
    ck_assert_int_eq(folder_make(deep, 0700, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_IO);
    ck_assert_int_eq(folder_remove(path, NULL), 0);
}
END_TEST

START_TEST(test_sha256_known_answers)
{
    /* FIPS 180-2, appendix B.1, and the digest of nothing */
    static const char abc[] =
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    static const char nothing[] =
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    uint8_t digest[SHA256_BYTES], back[SHA256_BYTES];
    char hex[SHA256_HEX];
    struct sha256 h;

    sha256_start(&h);
    sha256_add(&h, "a", 1);
    sha256_add(&h, NULL, 0);
    sha256_add(&h, "bc", 2);
    sha256_finish(&h, digest);
    sha256_to_hex(digest, hex);
    ck_assert_str_eq(hex, abc);
    ck_assert(sha256_from_hex(hex, back));
    ck_assert_mem_eq(back, digest, sizeof(back));
    sha256_finish(&h, digest); /* started anew */
    sha256_to_hex(digest, hex);
    ck_assert_str_eq(hex, nothing);
    hex[63] = 'G';
    ck_assert(!sha256_from_hex(hex, back));
    ck_assert(!sha256_from_hex("abc", back));
}
END_TEST

START_TEST(test_cores_are_those_that_we_may_run_on)
{
    cpu_set_t all, one;
    int first = 0;

    ck_assert_int_eq(sched_getaffinity(0, sizeof(all), &all), 0);
    ck_assert_uint_eq(cores_count(), CPU_COUNT(&all));
    while (!CPU_ISSET(first, &all))
        first++;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    ck_assert_int_eq(sched_setaffinity(0, sizeof(one), &one), 0);
    ck_assert_uint_eq(cores_count(), 1);
    ck_assert_int_eq(sched_setaffinity(0, sizeof(all), &all), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base");
    TCase *core = tcase_create("core"), *limits = tcase_create("limits");

    tcase_add_test(core, test_err_first_one_wins);
    tcase_add_test(core, test_err_full_disk_has_its_own_code);
    tcase_add_test(core, test_err_names_are_unique);
    tcase_add_test(core, test_dtype_tables_agree_with_schema);
    tcase_add_test(core, test_sha256_known_answers);
    tcase_add_test(core, test_folder_with_those_above_it);
    tcase_add_test(core, test_cores_are_those_that_we_may_run_on);
    tcase_add_test(limits, test_buf_stops_at_its_maximum);
    suite_add_tcase(s, core);
    suite_add_tcase(s, limits);
    return suite_run(s);
}
