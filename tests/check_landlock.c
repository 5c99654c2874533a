/* Which rights each ABI has, and what a process that has entered a ruleset can still do.
 * A kernel without Landlock leaves all open; one with it must refuse. */
#include "base/landlock.h"

#include "suite.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

static char dir[] = "/tmp/pt2-landlock-XXXXXX";
static char path_in[8][128];

static const char *in(int i, const char *name)
{
    snprintf(path_in[i], sizeof(path_in[i]), "%s/%s", dir, name);
    return path_in[i];
}

static void write_file(const char *path)
{
    FILE *f = fopen(path, "w");

    ck_assert_ptr_nonnull(f);
    fputs("x", f);
    ck_assert_int_eq(fclose(f), 0);
}

static void setup(void)
{
    strcpy(dir + strlen(dir) - 6, "XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(mkdir(in(0, "mine"), 0700), 0);
    ck_assert_int_eq(mkdir(in(0, "other"), 0700), 0);
    write_file(in(0, "mine/a"));
    write_file(in(0, "other/b"));
    ck_assert_int_eq(symlink("../other/b", in(0, "mine/link")), 0);
}

static void teardown(void)
{
    char command[64];

    snprintf(command, sizeof(command), "rm -rf %s", dir);
    ck_assert_int_eq(system(command), 0);
}

/* 0, or the line of the first thing wrong. */
typedef int inside_fn(int abi);

static int run_inside(const char *path, unsigned rights, inside_fn *fn)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        struct landlock rules;

        if (landlock_begin(&rules, NULL) < 0 ||
            (path && landlock_allow(&rules, path, rights, NULL) < 0) ||
            landlock_enter(&rules, NULL) < 0)
            _exit(255);
        landlock_done(&rules);
        _exit(fn(landlock_abi()) & 255);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status), "killed by signal %d", WTERMSIG(status));
    return WEXITSTATUS(status);
}

/* From an ABI on; before it the call goes through as ever. */
#define DENIED_FROM(needed, number, call)                                                \
    do {                                                                                 \
        errno = 0;                                                                       \
        if (abi >= (needed) && ((long)(call) != -1 || errno != (number)))                \
            return __LINE__;                                                             \
    } while (0)
#define ALLOWED(call)                                                                    \
    do {                                                                                 \
        if ((long)(call) < 0)                                                            \
            return __LINE__;                                                             \
    } while (0)

static int files_beside(int abi)
{
    ALLOWED(open(in(0, "mine/a"), O_RDONLY));
    ALLOWED(open(in(0, "mine"), O_RDONLY | O_DIRECTORY));
    DENIED_FROM(1, EACCES, open(in(0, "mine/a"), O_WRONLY));
    DENIED_FROM(1, EACCES, open(in(0, "mine/a"), O_RDWR));
    DENIED_FROM(1, EACCES, open(in(0, "mine/link"), O_RDONLY));
    DENIED_FROM(1, EACCES, open(in(0, "mine/../other/b"), O_RDONLY));
    DENIED_FROM(1, EACCES, open(in(0, "other"), O_RDONLY | O_DIRECTORY));
    DENIED_FROM(1, EACCES, open("/etc/passwd", O_RDONLY));
    DENIED_FROM(1, EACCES, open("/proc/self/maps", O_RDONLY));
    DENIED_FROM(1, EACCES, open(in(0, "mine/new"), O_WRONLY | O_CREAT, 0600));
    DENIED_FROM(1, EACCES, mkdir(in(0, "mine/new"), 0700));
    DENIED_FROM(1, EACCES, symlink("a", in(0, "mine/new")));
    DENIED_FROM(1, EACCES, unlink(in(0, "mine/a")));
    DENIED_FROM(1, EACCES, rmdir(in(0, "other")));
    DENIED_FROM(1, EACCES, execl("/bin/true", "true", (char *)NULL));
    DENIED_FROM(2, EACCES, rename(in(0, "mine/a"), in(1, "other/a")));
    DENIED_FROM(3, EACCES, truncate(in(0, "mine/a"), 0));
    return 0;
}

/* Catches: an ABI whose rights are left out of the ruleset, a rule that reaches a link's
 * target or its neighbours. */
START_TEST(test_landlock_leaves_the_path_that_is_allowed)
{
    int line = run_inside(in(2, "mine"), LANDLOCK_READ | LANDLOCK_LIST, files_beside);

    ck_assert_msg(line == 0, "line %d", line);
}
END_TEST

static int writing(int abi)
{
    ALLOWED(open(in(0, "mine/a"), O_RDWR));
    ALLOWED(truncate(in(0, "mine/a"), 0));
    DENIED_FROM(1, EACCES, open(in(0, "mine"), O_RDONLY | O_DIRECTORY));
    DENIED_FROM(1, EACCES, unlink(in(0, "mine/a")));
    return 0;
}

/* Catches: rights of folders given to a file, which the kernel refuses whole. */
START_TEST(test_landlock_leaves_one_file_to_write)
{
    int line = run_inside(in(2, "mine/a"), LANDLOCK_READ | LANDLOCK_WRITE | LANDLOCK_LIST,
                          writing);

    ck_assert_msg(line == 0, "line %d", line);
}
END_TEST

/* Of an abstract name, bound by us. */
static int connect_abstract(void)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    snprintf(to.sun_path + 1, sizeof(to.sun_path) - 1, "%s", dir);
    return connect(fd, (struct sockaddr *)&to, sizeof(to));
}

static uint16_t port;

static int connect_tcp(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = port,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    return connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&to, sizeof(to));
}

static int bind_tcp(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    return bind(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&at, sizeof(at));
}

static int beyond_files(int abi)
{
    char mem[64];

    snprintf(mem, sizeof(mem), "/proc/%d/mem", getppid());
    DENIED_FROM(1, EPERM, ptrace(PTRACE_ATTACH, getppid(), 0, 0));
    DENIED_FROM(1, EACCES, open(mem, O_RDONLY));
    DENIED_FROM(4, EACCES, connect_tcp());
    DENIED_FROM(4, EACCES, bind_tcp());
    DENIED_FROM(6, EPERM, connect_abstract());
    DENIED_FROM(6, EPERM, kill(getppid(), 0));
    ALLOWED(kill(getpid(), 0));
    return 0;
}

/* Catches: a ruleset without network or scopes where the kernel has them. */
START_TEST(test_landlock_takes_network_and_other_processes)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    int abstract = socket(AF_UNIX, SOCK_STREAM, 0), tcp = socket(AF_INET, SOCK_STREAM, 0);
    int line;

    snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "%s", dir);
    ck_assert_int_eq(bind(abstract, (struct sockaddr *)&name, sizeof(name)), 0);
    ck_assert_int_eq(listen(abstract, 1), 0);
    ck_assert_int_eq(bind(tcp, (struct sockaddr *)&at, sizeof(at)), 0);
    ck_assert_int_eq(listen(tcp, 1), 0);
    ck_assert_int_eq(getsockname(tcp, (struct sockaddr *)&at, &len), 0);
    port = at.sin_port;
    ck_assert_int_eq(connect_abstract(), 0); /* outside all of it works */
    ck_assert_int_eq(connect_tcp(), 0);
    ck_assert_int_eq(bind_tcp(), 0);
    line = run_inside(NULL, 0, beyond_files);
    ck_assert_msg(line == 0, "line %d", line);
    close(abstract);
    close(tcp);
}
END_TEST

static int libraries_alone(int abi)
{
    ALLOWED(open("/proc/cpuinfo", O_RDONLY));
    ALLOWED(open("/dev/null", O_WRONLY));
    ALLOWED(open("/bin/true", O_RDONLY));
    DENIED_FROM(1, EACCES, open("/bin/true", O_WRONLY));
    DENIED_FROM(1, EACCES, open("/etc/passwd", O_RDONLY));
    DENIED_FROM(1, EACCES, open(in(0, "mine/a"), O_RDONLY));
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    DENIED_FROM(1, EACCES, open("/proc/1/status", O_RDONLY));
#endif
    ALLOWED(execl("/bin/true", "true", (char *)NULL));
    return __LINE__;
}

/* Catches: a list that is too short to start a program, or leads to data. */
START_TEST(test_landlock_leaves_libraries)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        struct landlock rules;

        if (landlock_begin(&rules, NULL) < 0 ||
            landlock_allow_libraries(&rules, NULL) < 0 ||
            landlock_enter(&rules, NULL) < 0)
            _exit(255);
        _exit(libraries_alone(landlock_abi()) & 255);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "line %d",
                  WEXITSTATUS(status));
}
END_TEST

START_TEST(test_landlock_does_without_paths_that_are_not)
{
    struct landlock rules;

    ck_assert_int_eq(landlock_begin(&rules, NULL), 0);
    ck_assert_int_eq(landlock_allow(&rules, in(0, "nothing"), LANDLOCK_READ, NULL), 0);
    ck_assert_int_eq(landlock_allow(&rules, "", LANDLOCK_READ, NULL), 0);
    landlock_done(&rules);
    ck_assert_int_eq(rules.fd, -1);
}
END_TEST

/* The kernel refuses bits that it does not know, so that these are exactly an ABI's:
 * Documentation/userspace-api/landlock.rst, "Previous limitations". */
START_TEST(test_landlock_asks_for_what_an_abi_has)
{
    static const struct {
        uint64_t files, network, scopes;
    } of[] = {{0, 0, 0},
              {0x1fff, 0, 0},
              {0x3fff, 0, 0},
              {0x7fff, 0, 0},
              {0x7fff, 3, 0},
              {0xffff, 3, 0},
              {0xffff, 3, 3},
              {0xffff, 3, 3},
              {0xffff, 3, 3}};

    for (int abi = 0; abi < (int)ARRAY_LEN(of); abi++) {
        ck_assert_uint_eq(landlock_files_of(abi), of[abi].files);
        ck_assert_uint_eq(landlock_network_of(abi), of[abi].network);
        ck_assert_uint_eq(landlock_scopes_of(abi), of[abi].scopes);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("landlock");
    TCase *core = tcase_create("core");

    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_test(core, test_landlock_leaves_the_path_that_is_allowed);
    tcase_add_test(core, test_landlock_leaves_one_file_to_write);
    tcase_add_test(core, test_landlock_takes_network_and_other_processes);
    tcase_add_test(core, test_landlock_leaves_libraries);
    tcase_add_test(core, test_landlock_does_without_paths_that_are_not);
    tcase_add_test(core, test_landlock_asks_for_what_an_abi_has);
    suite_add_tcase(s, core);
    return suite_run(s);
}
