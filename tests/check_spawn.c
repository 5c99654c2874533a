/* Child processes: what they are given, what they are not, how they end. */
#include "base/spawn.h"

#include "base/sandbox.h"
#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>

static struct pt2_err err;

static void setup(void)
{
    err = (struct pt2_err){0};
}

/* Run `sh -c script` with its standard output to us; new text. */
static char *run_script(const char *script, struct spawn what, struct spawn_end *ret_end)
{
    const char *argv[] = {"sh", "-c", script, NULL};
    struct spawn_fd fds[8] = {{.as = STDOUT_FILENO}};
    struct spawn_child child = SPAWN_NO_CHILD;
    char *text = calloc(1, 4096);
    size_t len = 0;
    ssize_t n;
    int ends[2];

    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    fds[0].fd = ends[1];
    for (size_t i = 0; i < what.n_fds; i++)
        fds[i + 1] = what.fds[i];
    what.fds = fds;
    what.n_fds++;
    what.path = "/bin/sh";
    what.argv = argv;
    ck_assert_msg(spawn_start(&what, &child, &err) == 0, "%s", err.text);
    close(ends[1]);
    while ((n = read(ends[0], text + len, 4095 - len)) > 0)
        len += (size_t)n;
    close(ends[0]);
    ck_assert(spawn_wait(&child, 10000, ret_end));
    ck_assert_int_eq(child.pid, 0);
    return text;
}

#define SCRIPT(expected, script, ...)                                                    \
    do {                                                                                 \
        char *text_ = run_script(script, (struct spawn){__VA_ARGS__}, NULL);             \
                                                                                         \
        ck_assert_str_eq(text_, expected);                                               \
        free(text_);                                                                     \
    } while (0)

/* Catches: descriptors of the daemon (databases, sockets) that leak into a child. */
START_TEST(test_spawn_gives_the_files_named_and_no_other)
{
    int leak = open("/dev/null", O_RDONLY); /* no FD_CLOEXEC */
    int high = fcntl(leak, F_DUPFD, 500), ends[2];
    struct spawn_fd fds[] = {{.as = 5}};

    ck_assert_int_eq(pipe(ends), 0);
    fds[0].fd = ends[1];
    /* ls itself holds 3 for the folder that it lists */
    SCRIPT("0 1 2 3 5 ", "for f in $(ls /proc/self/fd); do printf '%s ' $f; done",
           .fds = fds, .n_fds = 1);
    close(high);
    close(leak);
    close(ends[0]);
    close(ends[1]);
}
END_TEST

/* Catches: a worker that the kernel spares, and ends the daemon instead. */
START_TEST(test_spawn_lets_a_child_go_first)
{
    SCRIPT("500\n", "cat /proc/self/oom_score_adj", .goes_first = true);
}
END_TEST

/* Catches: a dup2 that overwrites the source of a later one. */
START_TEST(test_spawn_can_swap_files)
{
    int a[2], b[2];
    struct spawn_fd fds[2];
    char byte;

    ck_assert_int_eq(pipe(a), 0);
    ck_assert_int_eq(pipe(b), 0);
    ck_assert_int_le(a[1], SPAWN_MAX_FD);
    ck_assert_int_le(b[1], SPAWN_MAX_FD);
    fds[0] = (struct spawn_fd){.fd = a[1], .as = b[1]};
    fds[1] = (struct spawn_fd){.fd = b[1], .as = a[1]};
    {
        char script[80];

        snprintf(script, sizeof(script), "printf A >&%d; printf B >&%d", b[1], a[1]);
        SCRIPT("", script, .fds = fds, .n_fds = 2);
    }
    ck_assert(read(a[0], &byte, 1) == 1 && byte == 'A');
    ck_assert(read(b[0], &byte, 1) == 1 && byte == 'B');
}
END_TEST

START_TEST(test_spawn_builds_the_environment)
{
    const char *keep[] = {"PT2_KEPT", "PT2_SET", NULL};
    const char *set[] = {"PT2_SET=new", "PT2_MORE=m", NULL};

    setenv("PT2_KEPT", "k", 1);
    setenv("PT2_KEPT2", "its prefix is another's name", 1);
    setenv("PT2_SET", "old", 1);
    SCRIPT("k--new-m-", "printf %s- $PT2_KEPT \"$PT2_KEPT2\" $PT2_SET $PT2_MORE",
           .keep_env = keep, .set_env = set);
    SCRIPT("k-old-", "printf %s- $PT2_KEPT $PT2_SET");
}
END_TEST

START_TEST(test_spawn_sets_limits)
{
    struct spawn_limit limits[] = {{RLIMIT_CORE, 0}, {RLIMIT_NOFILE, 40}};

    SCRIPT("0 0 40 40\n",
           "echo $(ulimit -S -c) $(ulimit -H -c) $(ulimit -S -n) $(ulimit -H -n)",
           .limits = limits, .n_limits = 2);
}
END_TEST

START_TEST(test_spawn_sets_privileges_session_and_signals)
{
    sigset_t usr1;
    char *text;
    unsigned long long blocked;
    unsigned long long ignored;
    int no_new_privs;

    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    sigprocmask(SIG_BLOCK, &usr1, NULL);
    text =
        run_script("grep -E 'NoNewPrivs|SigBlk|SigIgn' /proc/self/status | tr -d '\\n'",
                   (struct spawn){0}, NULL);
    ck_assert_int_eq(sscanf(text, "SigBlk: %llx SigIgn: %llx NoNewPrivs: %d", &blocked,
                            &ignored, &no_new_privs),
                     3);
    /* signals 32 and 33 are the C library's own: whoever started us may have left them
     * ignored, and sigaction can't change them */
    ignored &= ~(3ULL << 31);
    ck_assert_msg(blocked == 0 && ignored == 0 && no_new_privs == 1, "%s", text);
    free(text);
    /* field 6 of stat is the session: that of the shell itself */
    SCRIPT("own\n", "read a b c d e f g </proc/$$/stat; [ $f = $$ ] && echo own");
}
END_TEST

START_TEST(test_spawn_denies_the_network)
{
    SCRIPT("denied\n", "grep -q '^Seccomp:.2' /proc/self/status && echo denied",
           .deny = SANDBOX_NO_NETWORK);
}
END_TEST

START_TEST(test_spawn_tells_how_a_child_ended)
{
    struct spawn_end end;
    char text[80];

    free(run_script("exit 7", (struct spawn){0}, &end));
    ck_assert_int_eq(end.status, 7);
    ck_assert_int_eq(end.signal, 0);
    spawn_end_text(&end, text, sizeof(text));
    ck_assert_str_eq(text, "exited with status 7");
    free(run_script("kill -9 $$", (struct spawn){0}, &end));
    ck_assert_int_eq(end.status, -1);
    ck_assert_int_eq(end.signal, 9);
    spawn_end_text(&end, text, sizeof(text));
    ck_assert_str_eq(text, "was killed by signal 9 (Killed)");
}
END_TEST

START_TEST(test_spawn_wait_ends_in_time)
{
    const char *argv[] = {"sleep", "60", NULL};
    struct spawn what = {.path = "/bin/sleep", .argv = argv};
    struct spawn_child child;
    struct pollfd p;
    pid_t pid;

    ck_assert_int_eq(spawn_start(&what, &child, &err), 0);
    ck_assert(!spawn_wait(&child, 0, NULL));
    ck_assert(!spawn_wait(&child, 20, NULL));
    p = (struct pollfd){.fd = child.pidfd, .events = POLLIN};
    ck_assert_int_eq(poll(&p, 1, 0), 0);
    spawn_kill(&child, SIGTERM);
    ck_assert_int_eq(poll(&p, 1, 10000), 1);
    pid = child.pid;
    spawn_child_done(&child);
    ck_assert_int_eq(child.pid, 0);
    ck_assert_int_eq(child.pidfd, -1);
    ck_assert(waitpid(pid, NULL, WNOHANG) == -1 &&
              errno == ECHILD); /* no zombie is left */
    spawn_child_done(&child);
}
END_TEST

static bool is_alive(pid_t pid)
{
    char path[64], state = 'X';
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    if ((f = fopen(path, "r"))) {
        if (fscanf(f, "%*d %*s %c", &state) != 1)
            state = 'X';
        fclose(f);
    }
    return state != 'X' && state != 'Z';
}

static void *start_sleep(void *ret_child)
{
    const char *argv[] = {"sleep", "60", NULL};
    struct spawn what = {.path = "/bin/sleep", .argv = argv};

    ck_assert_int_eq(spawn_start(&what, ret_child, NULL), 0);
    return NULL;
}

static void sleep_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000},
              NULL);
}

/* Catches: the kernel's kill on parent's death taken for the process while it means the
 * thread; a child forked by a pool's thread would die when that ends. */
START_TEST(test_spawn_outlives_the_thread_that_asked)
{
    struct spawn_child child;
    pthread_t thread;

    ck_assert_int_eq(pthread_create(&thread, NULL, start_sleep, &child), 0);
    pthread_join(thread, NULL);
    sleep_ms(50);
    ck_assert(is_alive(child.pid));
    spawn_child_done(&child);
}
END_TEST

/* Catches: children that live on after a daemon that was killed. */
START_TEST(test_spawn_dies_with_us)
{
    struct spawn_child child;
    pid_t grandchild = 0, pid;
    int ends[2], status;

    ck_assert_int_eq(pipe(ends), 0);
    if ((pid = fork()) == 0) {
        start_sleep(&child);
        if (write(ends[1], &child.pid, sizeof(child.pid)) < 0)
            _exit(1);
        pause();
    }
    ck_assert_int_eq(read(ends[0], &grandchild, sizeof(grandchild)), sizeof(grandchild));
    ck_assert(is_alive(grandchild));
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    for (int i = 0; i < 500 && is_alive(grandchild); i++)
        sleep_ms(10);
    ck_assert(!is_alive(grandchild));
}
END_TEST

#if !defined(__SANITIZE_THREAD__)
/* Catches: a forking thread taken to be there in a process that was forked from ours. */
START_TEST(test_spawn_works_after_a_fork)
{
    int status;
    pid_t pid;

    SCRIPT("first", "printf first");
    if ((pid = fork()) == 0) {
        struct spawn_child child;

        start_sleep(&child);
        spawn_child_done(&child);
        _exit(42);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 42);
}
END_TEST
#endif

static void *many(void *unused)
{
    for (int i = 0; i < 10; i++) {
        const char *argv[] = {"true", NULL};
        struct spawn what = {.path = "/bin/true", .argv = argv};
        struct spawn_child child;
        struct spawn_end end;

        ck_assert_int_eq(spawn_start(&what, &child, NULL), 0);
        ck_assert(spawn_wait(&child, -1, &end));
        ck_assert_int_eq(end.status, 0);
    }
    return unused;
}

/* Catches: two callers that get each other's child (a wait that never ends, ECHILD). */
START_TEST(test_spawn_from_many_threads)
{
    pthread_t threads[4];

    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, many, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
}
END_TEST

START_TEST(test_spawn_says_why_it_could_not)
{
    const char *argv[] = {"x", NULL};
    struct spawn what = {.path = "/nonexistent/x", .argv = argv};
    struct spawn_fd bad = {.fd = 999, .as = 3};
    struct spawn_child child;

    ck_assert_int_eq(spawn_start(&what, &child, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_IO);
    ck_assert_str_eq(err.text, "can not run '/nonexistent/x': No such file or directory");
    pt2_err_clear(&err);
    what.path = "/dev/null";
    ck_assert_int_eq(spawn_start(&what, &child, &err), -1);
    ck_assert_str_eq(err.text, "can not run '/dev/null': Permission denied");
    pt2_err_clear(&err);
    what.path = "/bin/true";
    what.fds = &bad;
    what.n_fds = 1;
    ck_assert_int_eq(spawn_start(&what, &child, &err), -1);
    ck_assert_str_eq(err.text, "starting '/bin/true': its files: Bad file descriptor");
    ck_assert(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD); /* none left behind */
}
END_TEST

START_TEST(test_spawn_find_looks_in_the_build_tree_first)
{
    char path[256];

    setenv("PT2_LIBEXEC", "/bin", 1);
    ck_assert_int_eq(spawn_find("sh", "/nonexistent", path, sizeof(path), &err), 0);
    ck_assert_str_eq(path, "/bin/sh");
    ck_assert_int_eq(spawn_find("sh", "/nonexistent", path, 4, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_IO);
    unsetenv("PT2_LIBEXEC");
    pt2_err_clear(&err);
    ck_assert_int_eq(spawn_find("sh", "/nonexistent", path, sizeof(path), &err), -1);
    ck_assert_str_eq(err.text,
                     "'/nonexistent/sh' can not be executed: No such file or directory");
    ck_assert_int_eq(spawn_find("sh", "/bin", path, sizeof(path), NULL), 0);
}
END_TEST

START_TEST(test_spawn_find_looks_beside_the_program)
{
    char own[256], path[256];
    ssize_t n = readlink("/proc/self/exe", own, sizeof(own) - 1);

    ck_assert_int_gt(n, 0);
    own[n] = '\0';
    unsetenv("PT2_LIBEXEC");
    ck_assert_int_eq(spawn_find(strrchr(own, '/') + 1, "/bin", path, sizeof(path), &err), 0);
    ck_assert_str_eq(path, own);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("spawn");
    TCase *core = tcase_create("core"), *errors = tcase_create("errors");

    tcase_add_checked_fixture(core, setup, NULL);
    tcase_set_timeout(core, 120);
    tcase_add_test(core, test_spawn_gives_the_files_named_and_no_other);
    tcase_add_test(core, test_spawn_lets_a_child_go_first);
    tcase_add_test(core, test_spawn_can_swap_files);
    tcase_add_test(core, test_spawn_builds_the_environment);
    tcase_add_test(core, test_spawn_sets_limits);
    tcase_add_test(core, test_spawn_sets_privileges_session_and_signals);
    tcase_add_test(core, test_spawn_denies_the_network);
    tcase_add_test(core, test_spawn_tells_how_a_child_ended);
    tcase_add_test(core, test_spawn_wait_ends_in_time);
    tcase_add_test(core, test_spawn_outlives_the_thread_that_asked);
    tcase_add_test(core, test_spawn_dies_with_us);
#if !defined(__SANITIZE_THREAD__) /* it allows no threads after such a fork */
    tcase_add_test(core, test_spawn_works_after_a_fork);
#endif
    tcase_add_test(core, test_spawn_from_many_threads);
    suite_add_tcase(s, core);
    tcase_add_checked_fixture(errors, setup, NULL);
    tcase_add_test(errors, test_spawn_says_why_it_could_not);
    tcase_add_test(errors, test_spawn_find_looks_in_the_build_tree_first);
    tcase_add_test(errors, test_spawn_find_looks_beside_the_program);
    suite_add_tcase(s, errors);
    return suite_run(s);
}
