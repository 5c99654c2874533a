/* check_pack.c - weights packed by the team, and the file that they are kept in. */
#include "native/pack.h"

#include "base/util.h"
#include "seed.h"
#include "suite.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pt2/archive.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { N_OUT = 1000, K = 320, N_QUANTS = 3 };

static char dir[] = "/tmp/pt2-pack-XXXXXX", path[64], archive_path[64];
static struct pt2_archive *archive;
static struct team *team;
static struct pt2_err err, warning;
static int8_t data[N_OUT * K];
static float scale[N_OUT * K / 32];
static struct plan_quant quants[N_QUANTS];

static void archive_write(const char *text)
{
    int fd = open(archive_path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    struct pt2_writer *w;
    uint8_t sha[32];
    uint64_t bytes;

    pt2_archive_free(archive);
    archive = NULL;
    ck_assert(fd >= 0 && pt2_writer_new(fd, "model", &w, &err) == 0 &&
              pt2_writer_fixed(w, &err) == 0 &&
              pt2_writer_model(w, text, strlen(text), &err) == 0 &&
              pt2_writer_payloads(w, PT2_TABLE_WEIGHTS, NULL, 0, &err) == 0 &&
              pt2_writer_payloads(w, PT2_TABLE_CONSTANTS, NULL, 0, &err) == 0 &&
              pt2_writer_finish(w, sha, &bytes, &err) == 0);
    pt2_writer_free(w);
    close(fd);
    ck_assert_msg(pt2_archive_open(archive_path, &archive, &err) == 0, "%s", err.text);
}

static void setup(void)
{
    uint64_t state = test_seed();

    err = warning = (struct pt2_err){0};
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/program.packed", dir);
    snprintf(archive_path, sizeof(archive_path), "%s/program", dir);
    archive_write("{}");
    ck_assert_int_eq(team_new(3, &team, &err), 0);
    for (size_t i = 0; i < ARRAY_LEN(data); i++) {
        state = state * UINT64_C(6364136223846793005) + 1;
        data[i] = (int8_t)((state >> 33) % 16 - 8);
    }
    for (size_t i = 0; i < ARRAY_LEN(scale); i++)
        scale[i] = (float)(i % 77 + 1);
    quants[0] = (struct plan_quant){.data = data, .scale = scale, .is_linear = true,
                                    .shape = {N_OUT, K, 32, 4}};
    quants[1] = (struct plan_quant){.data = data, .scale = scale, /* of an embedding alone */
                                    .shape = {N_OUT, K, K, 8}};
    quants[2] = (struct plan_quant){.data = data, .scale = scale, .is_linear = true,
                                    .shape = {N_OUT - 3, K, 64, 8}};
}

static void teardown(void)
{
    char command[80];

    team_free(team);
    pt2_archive_free(archive);
    snprintf(command, sizeof(command), "rm -rf '%s'", dir);
    ck_assert_int_eq(system(command), 0);
}

/* Pack and compare with what one call for the whole matrix makes; mapped from a file? */
static bool pack(const char *to)
{
    struct plan plan = {.n_quants = N_QUANTS};
    bool is_mapped;

    plan.quants = malloc(sizeof(quants));
    memcpy(plan.quants, quants, sizeof(quants));
    ck_assert_msg(plan_pack(&plan, archive, team, to, &warning, &err) == 0, "%s", err.text);
    ck_assert_ptr_null(plan.quants[1].packed);
    for (int i = 0; i < N_QUANTS; i += 2) {
        const struct plan_quant *q = &plan.quants[i];
        size_t bytes = quant_packed_bytes(&q->shape);
        void *want = aligned_alloc(64, bytes);

        quant_pack(&q->shape, q->data, q->scale, 0, q->shape.n_out, want);
        ck_assert_uint_eq((uintptr_t)q->packed % 64, 0);
        ck_assert_mem_eq(q->packed, want, bytes);
        free(want);
    }
    is_mapped = packing_is_mapped(plan.packing);
    ck_assert_int_eq(plan.private_bytes == 0, is_mapped);
    packing_free(plan.packing);
    free(plan.quants);
    return is_mapped;
}

static ino_t inode(void)
{
    struct stat st;

    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_eq(st.st_mode & 07777, 0400);
    return st.st_ino;
}

static size_t n_files(void)
{
    DIR *d = opendir(dir);
    size_t n = 0;

    for (struct dirent *entry; (entry = readdir(d));)
        n += entry->d_name[0] != '.';
    closedir(d);
    return n;
}

START_TEST(test_pack_in_memory)
{
    ck_assert(!pack(NULL));
    ck_assert_uint_eq(n_files(), 1); /* the archive */
}
END_TEST

START_TEST(test_pack_is_written_once_and_mapped)
{
    ino_t first;

    ck_assert(pack(path));
    first = inode();
    ck_assert(pack(path));
    ck_assert_uint_eq(inode(), first);
    ck_assert_uint_eq(n_files(), 2);
    ck_assert_int_eq(warning.code, PT2_ERR_NONE);
}
END_TEST

/* dequantize_affine does not clamp, so 4 bits are 8 where a number is larger. */
START_TEST(test_pack_of_wider_numbers_than_said)
{
    data[(N_OUT - 1) * K + 7] = -9;
    ck_assert(pack(path));
    ck_assert(pack(path));
    ck_assert_int_eq(warning.code, PT2_ERR_NONE);
}
END_TEST

/* One byte after another of what the file begins with, and some of the rest. */
START_TEST(test_pack_damaged_file_is_written_anew)
{
    struct stat st;
    ino_t first;

    ck_assert(pack(path));
    ck_assert_int_eq(stat(path, &st), 0);
    for (off_t at = 0; at < st.st_size; at += at < 128 ? 1 : 40009) {
        uint8_t byte;
        int fd;

        first = inode();
        ck_assert_int_eq(chmod(path, 0600), 0);
        fd = open(path, O_RDWR);
        ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
        byte ^= (uint8_t)(1 << at % 8);
        ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
        close(fd);
        ck_assert(pack(path));
        ck_assert_msg(inode() != first, "a wrong byte at %jd is used", (intmax_t)at);
    }
    ck_assert_uint_eq(n_files(), 2);
}
END_TEST

START_TEST(test_pack_file_of_another_length_is_written_anew)
{
    static const off_t lengths[] = {0, 10, 47, 100, 4096, 100000, 10000000};

    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        ino_t first;

        ck_assert(pack(path));
        first = inode();
        ck_assert_int_eq(chmod(path, 0600), 0);
        ck_assert_int_eq(truncate(path, lengths[i]), 0);
        ck_assert(pack(path));
        ck_assert(inode() != first);
    }
}
END_TEST

START_TEST(test_pack_file_of_another_archive_or_plan_is_written_anew)
{
    ino_t first;

    ck_assert(pack(path));
    first = inode();
    archive_write("{ }");
    ck_assert(pack(path));
    ck_assert(inode() != first);
    first = inode();
    quants[2].shape.group = 160;
    ck_assert(pack(path));
    ck_assert(inode() != first);
}
END_TEST

/* What can't be written stays in memory, and no part of it is left. */
START_TEST(test_pack_without_room_warns)
{
    struct rlimit limit = {10000, RLIM_INFINITY};

    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert(!pack(path));
    ck_assert_msg(strstr(warning.text, "weights stay packed in memory: ") == warning.text, "%s",
                  warning.text);
    ck_assert_uint_eq(n_files(), 1);
}
END_TEST

START_TEST(test_pack_where_no_file_can_be)
{
    char link[80];

    snprintf(link, sizeof(link), "%s/none/x", dir);
    ck_assert(!pack(link));
    ck_assert_int_eq(warning.code, PT2_ERR_IO);
    warning = (struct pt2_err){0};
    ck_assert_int_eq(mkdir(path, 0700), 0); /* in its place */
    ck_assert(!pack(path));
    ck_assert_int_eq(warning.code, PT2_ERR_IO);
    ck_assert_uint_eq(n_files(), 2);
    ck_assert_int_eq(rmdir(path), 0);
    warning = (struct pt2_err){0};
    ck_assert_int_eq(symlink(archive_path, path), 0); /* not followed: replaced */
    ck_assert(pack(path));
    ck_assert_int_eq(warning.code, PT2_ERR_NONE);
    inode();
    ck_assert_int_eq(access(archive_path, F_OK), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("pack");
    TCase *core = tcase_create("core"), *errors = tcase_create("errors");

    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_checked_fixture(errors, setup, teardown);
    tcase_add_test(core, test_pack_in_memory);
    tcase_add_test(core, test_pack_is_written_once_and_mapped);
    tcase_add_test(core, test_pack_of_wider_numbers_than_said);
    tcase_add_test(errors, test_pack_damaged_file_is_written_anew);
    tcase_add_test(errors, test_pack_file_of_another_length_is_written_anew);
    tcase_add_test(errors, test_pack_file_of_another_archive_or_plan_is_written_anew);
    tcase_add_test(errors, test_pack_without_room_warns);
    tcase_add_test(errors, test_pack_where_no_file_can_be);
    suite_add_tcase(s, core);
    suite_add_tcase(s, errors);
    return suite_run(s);
}
