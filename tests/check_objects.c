#include "suite.h"

#include "store_fixture.h"

#include <dirent.h>

static struct objects *objects;

static void setup(void)
{
    state_make();
    OK(objects_open(state_dir, &objects, err));
}

static void teardown(void)
{
    objects_free(objects);
    state_remove();
}

static size_t count_temps(void)
{
    char path[PATH_MAX];
    struct dirent *entry;
    size_t n = 0;
    DIR *dir;

    snprintf(path, sizeof(path), "%s/tmp", state_dir);
    dir = opendir(path);
    ck_assert_ptr_nonnull(dir);
    while ((entry = readdir(dir)))
        n += entry->d_name[0] != '.';
    closedir(dir);
    return n;
}

static const char *keep(const char *text)
{
    static char hex[SHA256_HEX];
    struct temp_file temp = TEMP_NO_FILE;
    uint8_t sha256[SHA256_BYTES];

    OK(temp_file_make(objects_temp(objects), strlen(text), &temp, err));
    OK(temp_file_write(&temp, text, strlen(text), err));
    OK(temp_file_sync(&temp, OBJECT_MODE, err));
    sha256_of(text, strlen(text), sha256);
    sha256_to_hex(sha256, hex);
    OK(objects_keep(objects, &temp, hex, false, err));
    temp_file_drop(&temp);
    return hex;
}

static void expect(const char *hex, const char *text)
{
    char data[100] = "";
    uint64_t bytes = 0;
    int fd;

    OK(objects_open_file(objects, hex, &fd, &bytes, err));
    ck_assert_uint_eq(bytes, strlen(text));
    ck_assert_int_eq(read(fd, data, sizeof(data)), (ssize_t)strlen(text));
    ck_assert_str_eq(data, text);
    close(fd);
}

START_TEST(test_objects_are_kept_under_their_digest)
{
    char path[PATH_MAX];
    const char *hex = keep("hello");
    struct stat st;
    int fd;
    uint64_t bytes;

    /* printf hello | sha256sum */
    ck_assert_str_eq(hex,
                     "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    expect(hex, "hello");
    objects_path(objects, hex, path);
    ck_assert_ptr_nonnull(strstr(path, "/objects/2c/2cf24dba"));
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0400);
    ck_assert_uint_eq(count_temps(), 0);
    OK(objects_remove(objects, hex, err));
    FAILS(NOT_FOUND, objects_open_file(objects, hex, &fd, &bytes, err));
    OK(objects_remove(objects, hex, err));
}
END_TEST

/* A second upload of the same bytes must not replace the file that engines have mapped.
 */
START_TEST(test_objects_that_are_there_stay)
{
    char path[PATH_MAX];
    struct stat before, after;

    objects_path(objects, keep("twice"), path);
    ck_assert_int_eq(stat(path, &before), 0);
    keep("twice");
    ck_assert_int_eq(stat(path, &after), 0);
    ck_assert_uint_eq(before.st_ino, after.st_ino);
    ck_assert_uint_eq(count_temps(), 0);
}
END_TEST

START_TEST(test_objects_temps_go_unless_kept)
{
    struct temp_file temp = TEMP_NO_FILE;

    OK(temp_file_make(objects_temp(objects), 0, &temp, err));
    OK(temp_file_write(&temp, "x", 1, err));
    ck_assert_uint_eq(count_temps(), 1);
    temp_file_drop(&temp);
    ck_assert_uint_eq(count_temps(), 0);
    temp_file_drop(&temp);
}
END_TEST

START_TEST(test_objects_a_start_empties_tmp)
{
    struct temp_file temp = TEMP_NO_FILE;

    OK(temp_file_make(objects_temp(objects), 0, &temp, err));
    close(temp.fd); /* as a killed daemon */
    objects_free(objects);
    objects = NULL;
    ck_assert_uint_eq(count_temps(), 1);
    OK(objects_open(state_dir, &objects, err));
    ck_assert_uint_eq(count_temps(), 0);
}
END_TEST

/* What the child makes beside the file goes too, and nothing else. */
START_TEST(test_objects_childs_file_is_checked)
{
    struct temp_file temp = TEMP_NO_FILE, other = TEMP_NO_FILE;
    char beside[PATH_MAX + 16];

    OK(temp_file_make(objects_temp(objects), 0, &other, err));
    OK(temp_file_for_child(objects_temp(objects), 0, &temp, err));
    FAILS(IO, temp_file_open(&temp, 3, err));
    write_text(temp.path, "abc");
    FAILS(IO, temp_file_open(&temp, 4, err));
    OK(temp_file_open(&temp, 3, err));
    snprintf(beside, sizeof(beside), "%s.tmp-77", temp.path);
    write_text(beside, "");
    ck_assert_uint_eq(count_temps(), 3);
    temp_file_drop(&temp);
    ck_assert_uint_eq(count_temps(), 1);

    OK(temp_file_for_child(objects_temp(objects), 0, &temp, err));
    ck_assert_int_eq(symlink("/etc/passwd", temp.path), 0);
    FAILS(IO, temp_file_open(&temp, 3, err));
    unlink(temp.path);
    ck_assert_int_eq(mkfifo(temp.path, 0600), 0);
    FAILS(IO, temp_file_open(&temp, 0, err));
    temp_file_drop(&temp);
    temp_file_drop(&other);
}
END_TEST

START_TEST(test_objects_no_space_is_said_before_the_first_byte)
{
    struct temp_file temp = TEMP_NO_FILE;

    FAILS(NO_SPACE, temp_file_make(objects_temp(objects), (uint64_t)1 << 60, &temp, err));
    FAILS(NO_SPACE, temp_folder_check_room(objects_temp(objects), UINT64_MAX, err));
    OK(temp_folder_check_room(objects_temp(objects), 1, err));
    ck_assert_uint_eq(count_temps(), 0);
}
END_TEST

static int keep_hello(void *ctx, const char *hex, bool *ret_keep, struct pt2_err *err)
{
    ++*(int *)ctx;
    *ret_keep = strncmp(hex, "2cf24dba", 8) == 0;
    return 0;
}

/* What was derived from an object, or was about to be: a file of that name and suffix. */
static const char *packed_path(const char *hex, const char *suffix)
{
    static char path[PATH_MAX + 16];

    objects_packed_path(objects, hex, path);
    strcat(path, suffix);
    return path;
}

static void write_packed(const char *hex, const char *suffix)
{
    write_text(packed_path(hex, suffix), "packed");
}

static bool has_packed(const char *hex, const char *suffix)
{
    return access(packed_path(hex, suffix), F_OK) == 0;
}

START_TEST(test_objects_sweep_takes_what_is_not_recorded)
{
    char hello[SHA256_HEX], orphan[SHA256_HEX], readme[PATH_MAX];
    uint64_t bytes;
    int fd, n = 0;

    strcpy(hello, keep("hello"));
    strcpy(orphan, keep("orphan"));
    snprintf(readme, sizeof(readme), "%s/objects/2c/README", state_dir);
    write_text(readme, "not ours");
    write_packed(orphan, "");
    write_packed(orphan, ".x1y2z3");
    write_packed(hello, "");
    write_packed(hello, ".x1y2z3");
    OK(objects_sweep(objects, keep_hello, &n, err));
    ck_assert_int_eq(n, 2);
    ck_assert(!has_packed(orphan, "") && !has_packed(orphan, ".x1y2z3"));
    ck_assert(has_packed(hello, "") && !has_packed(hello, ".x1y2z3"));
    FAILS(NOT_FOUND, objects_open_file(objects, orphan, &fd, &bytes, err));
    ck_assert_int_eq(access(readme, F_OK), 0);
    n = 0;
    OK(objects_sweep(objects, keep_hello, &n, err));
    ck_assert_int_eq(n, 1);
    OK(objects_remove(objects, hello, err));
    ck_assert(!has_packed(hello, ""));
    write_packed(hello, ""); /* of an object that is gone */
    OK(objects_sweep(objects, keep_hello, &n, err));
    ck_assert(!has_packed(hello, ""));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("objects");
    TCase *core = tcase_create("core");

    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_test(core, test_objects_are_kept_under_their_digest);
    tcase_add_test(core, test_objects_that_are_there_stay);
    tcase_add_test(core, test_objects_temps_go_unless_kept);
    tcase_add_test(core, test_objects_a_start_empties_tmp);
    tcase_add_test(core, test_objects_childs_file_is_checked);
    tcase_add_test(core, test_objects_no_space_is_said_before_the_first_byte);
    tcase_add_test(core, test_objects_sweep_takes_what_is_not_recorded);
    suite_add_tcase(suite, core);
    return suite_run(suite);
}
