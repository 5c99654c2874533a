/* A file that is cut under its mapping reads as zeros from there on, and is known to be; who
 * reads another one is not told so; a bus error that is nobody's still ends the process. */
#include "base/mapping.h"

#include "suite.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define N_PAGES 8

static char dir[] = "/tmp/pt2-mapping-XXXXXX";
static size_t page;
static struct pt2_err err;

static const char *in_dir(const char *name)
{
    static _Thread_local char path[128];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

/* Page i is full of i + 1. */
static void write_file(const char *name, size_t bytes)
{
    FILE *f = fopen(in_dir(name), "w");

    ck_assert_ptr_nonnull(f);
    for (size_t i = 0; i < bytes; i++)
        putc((int)(i / page + 1), f);
    ck_assert_int_eq(fclose(f), 0);
}

static int map_it(const char *name, struct mapping **ret)
{
    AUTO_FD int fd = open(in_dir(name), O_RDONLY);

    ck_assert_int_ge(fd, 0);
    return mapping_new(fd, ret, &err);
}

static struct mapping *mapped(const char *name)
{
    struct mapping *m = NULL;

    write_file(name, N_PAGES * page);
    ck_assert_int_eq(map_it(name, &m), 0);
    ck_assert_uint_eq(mapping_bytes(m), N_PAGES * page);
    ck_assert(!mapping_is_cut(m));
    return m;
}

static int at(const struct mapping *m, size_t i)
{
    return ((const volatile uint8_t *)mapping_data(m))[i];
}

static void setup(void)
{
    page = (size_t)sysconf(_SC_PAGESIZE);
    err = (struct pt2_err){0};
    strcpy(dir + strlen(dir) - 6, "XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    mapping_catch_cuts();
}

static void teardown(void)
{
    char command[64];

    snprintf(command, sizeof(command), "rm -rf %s", dir);
    ck_assert_int_eq(system(command), 0);
}

/* ---- core ---- */

START_TEST(test_mapping_of_a_cut_file_reads_zeros_and_says_so)
{
    struct mapping *m = mapped("a"), *other = mapped("b");

    ck_assert_int_eq(at(m, page), 2);
    ck_assert_int_eq(truncate(in_dir("a"), (off_t)(3 * page)), 0);
    ck_assert_int_eq(at(m, 3 * page - 1), 3);
    ck_assert_int_eq(at(m, 5 * page + 7), 0);
    ck_assert(mapping_is_cut(m));
    ck_assert_int_eq(at(m, 8 * page - 1), 0);
    ck_assert_int_eq(at(m, 3 * page), 0); /* before the first that was touched */
    ck_assert_int_eq(at(m, 3 * page - 1), 3);
    ck_assert_int_eq(at(other, 5 * page), 6);
    ck_assert(!mapping_is_cut(other));
    mapping_free(m);
    mapping_free(other);
}
END_TEST

/* Without asking for the length: written back before anyone asks. */
START_TEST(test_mapping_remembers_a_cut_that_was_read)
{
    struct mapping *m = mapped("a"), *other = mapped("b");

    ck_assert_int_eq(truncate(in_dir("a"), 0), 0);
    ck_assert_int_eq(at(m, 2 * page), 0);
    write_file("a", N_PAGES * page);
    ck_assert(mapping_is_cut(m));
    ck_assert_int_eq(at(m, 2 * page), 0);
    ck_assert(!mapping_is_cut(other));
    mapping_free(m);
    mapping_free(other);
}
END_TEST

/* The rest of the last page is zeros, and nothing faults. */
START_TEST(test_mapping_knows_a_cut_within_the_last_page)
{
    struct mapping *m = mapped("a");

    ck_assert_int_eq(truncate(in_dir("a"), (off_t)(8 * page - 1)), 0);
    ck_assert_int_eq(at(m, 8 * page - 1), 0);
    ck_assert(mapping_is_cut(m));
    mapping_free(m);
}
END_TEST

START_TEST(test_mapping_of_a_deleted_file_is_whole)
{
    struct mapping *m = mapped("a");

    ck_assert_int_eq(unlink(in_dir("a")), 0);
    ck_assert_int_eq(at(m, 7 * page), 8);
    ck_assert(!mapping_is_cut(m));
    mapping_free(m);
}
END_TEST

/* A node that is taken again knows nothing of the file before. */
START_TEST(test_mapping_is_new_each_time)
{
    for (int i = 0; i < 3; i++) {
        struct mapping *m = mapped("a");

        ck_assert_int_eq(truncate(in_dir("a"), (off_t)page), 0);
        ck_assert_int_eq(at(m, 2 * page), 0);
        ck_assert(mapping_is_cut(m));
        mapping_free(m);
    }
    mapping_free(NULL);
}
END_TEST

/* ---- threads ---- */

static atomic_bool is_over;

/* Maps and unmaps others, so that nodes change while a fault looks for its own. */
static void *churn(void *name)
{
    while (!is_over) {
        struct mapping *m = NULL;

        ck_assert_int_eq(map_it(name, &m), 0);
        ck_assert_int_eq(at(m, page), 2);
        ck_assert(!mapping_is_cut(m));
        mapping_free(m);
    }
    return NULL;
}

static void *read_all(void *mapping)
{
    for (size_t i = 0; i < N_PAGES; i++)
        ck_assert_int_eq(at(mapping, i * page), 0);
    return NULL;
}

START_TEST(test_mapping_faults_in_many_threads_while_others_map)
{
    static const char *const names[] = {"b", "c"};
    pthread_t churning[ARRAY_LEN(names)], reading[3];

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        write_file(names[i], N_PAGES * page);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        ck_assert_int_eq(pthread_create(&churning[i], NULL, churn, (void *)names[i]), 0);
    for (int round = 0; round < 100; round++) {
        struct mapping *m = mapped("a");

        ck_assert_int_eq(truncate(in_dir("a"), 0), 0);
        for (size_t i = 0; i < ARRAY_LEN(reading); i++)
            ck_assert_int_eq(pthread_create(&reading[i], NULL, read_all, m), 0);
        for (size_t i = 0; i < ARRAY_LEN(reading); i++)
            pthread_join(reading[i], NULL);
        write_file("a", N_PAGES * page); /* so that the mark alone tells */
        ck_assert(mapping_is_cut(m));
        mapping_free(m);
    }
    is_over = true;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        pthread_join(churning[i], NULL);
}
END_TEST

/* ---- what is not ours ---- */

static void no_core(void)
{
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
}

/* Mapped past us. */
static void fault_elsewhere(void)
{
    int fd = open(in_dir("a"), O_RDWR);
    volatile uint8_t *p = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, 0);

    if (fd < 0 || p == MAP_FAILED || ftruncate(fd, 0) < 0)
        _exit(2);
    (void)p[0];
}

/* In what was a mapping. */
static void fault_after_free(void)
{
    struct mapping *m = NULL;
    const uint8_t *was;
    volatile uint8_t *p;
    int fd = open(in_dir("a"), O_RDWR);

    if (map_it("a", &m) < 0)
        _exit(2);
    was = mapping_data(m);
    mapping_free(m);
    p = mmap((void *)(uintptr_t)was, page, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0);
    if (p != was || ftruncate(fd, 0) < 0)
        _exit(2);
    (void)p[0];
}

static void send_it(void)
{
    kill(getpid(), SIGBUS);
}

static void (*const foreign[])(void) = {fault_elsewhere, fault_after_free, send_it};

static bool with_sanitizer(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return true; /* which reports it, and exits */
#else
    return false;
#endif
}

START_TEST(test_mapping_a_foreign_bus_error_still_kills)
{
    int status;
    pid_t pid;

    write_file("a", page);
    pid = fork();
    if (pid == 0) {
        no_core();
        foreign[_i]();
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    if (with_sanitizer())
        ck_assert(WIFSIGNALED(status) || (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != 2));
    else
        ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
}
END_TEST

/* ---- errors ---- */

START_TEST(test_mapping_of_an_empty_file_is_refused)
{
    struct mapping *m = NULL;

    write_file("a", 0);
    ck_assert_int_eq(map_it("a", &m), -1);
    ck_assert_int_eq(err.code, PT2_ERR_IO);
    ck_assert_ptr_null(m);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("mapping");
    TCase *core = tcase_create("core"), *errors = tcase_create("errors");

    tcase_add_checked_fixture(core, setup, teardown);
    tcase_set_timeout(core, 120);
    tcase_add_test(core, test_mapping_of_a_cut_file_reads_zeros_and_says_so);
    tcase_add_test(core, test_mapping_remembers_a_cut_that_was_read);
    tcase_add_test(core, test_mapping_knows_a_cut_within_the_last_page);
    tcase_add_test(core, test_mapping_of_a_deleted_file_is_whole);
    tcase_add_test(core, test_mapping_is_new_each_time);
    tcase_add_test(core, test_mapping_faults_in_many_threads_while_others_map);
    suite_add_tcase(s, core);
    tcase_add_checked_fixture(errors, setup, teardown);
    tcase_set_timeout(errors, 120);
    tcase_add_loop_test(errors, test_mapping_a_foreign_bus_error_still_kills, 0,
                        ARRAY_LEN(foreign));
    tcase_add_test(errors, test_mapping_of_an_empty_file_is_refused);
    suite_add_tcase(s, errors);
    return suite_run(s);
}
