/* What a sandboxed process can no longer do, and what it still must be able to. */
#include "base/sandbox.h"

#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

/* In a process of its own that has entered: 0, or the line of the first thing wrong.  It
 * leaves by _exit, since a leak check at exit opens files. */
typedef int inside_fn(void);

static int run_inside(unsigned deny, inside_fn *fn)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        struct pt2_err err = {0};

        if (sandbox_enter(deny, &err) < 0)
            _exit(255);
        _exit(fn() & 255);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status), "killed by signal %d", WTERMSIG(status));
    return WEXITSTATUS(status);
}

#define DENIED(call)                                                                     \
    do {                                                                                 \
        errno = 0;                                                                       \
        if ((long)(call) != -1 || errno != EPERM)                                        \
            return __LINE__;                                                             \
    } while (0)
#define ALLOWED(call)                                                                    \
    do {                                                                                 \
        if ((long)(call) < 0)                                                            \
            return __LINE__;                                                             \
    } while (0)

static int socket_fds[2] = {-1, -1};

static int always_denied(void)
{
    struct iovec io = {.iov_base = &io, .iov_len = 1};

    DENIED(syscall(SYS_process_vm_readv, getppid(), &io, 1, &io, 1, 0));
    DENIED(syscall(SYS_pidfd_open, getppid(), 0));
    DENIED(syscall(SYS_io_uring_setup, 1, NULL));
    DENIED(syscall(SYS_bpf, 0, NULL, 0));
    DENIED(syscall(SYS_unshare, 0));
    DENIED(syscall(SYS_mount, NULL, NULL, NULL, 0, NULL));
    DENIED(kill(getppid(), 0));
    DENIED(kill(-1, 0));
    DENIED(syscall(SYS_tgkill, getppid(), getppid(), 0));
    DENIED(ioctl(2, 0x5412 /* TIOCSTI */, ""));
#if !defined(__SANITIZE_ADDRESS__)
    DENIED(ptrace(PTRACE_TRACEME, 0, 0, 0));
#endif
#if defined(__x86_64__)
    DENIED(syscall(0x40000000 | SYS_getpid)); /* the x32 ABI */
#endif
    return 0;
}

static int self_is_allowed(void)
{
    struct rlimit limit;

    ALLOWED(kill(getpid(), 0));
    ALLOWED(syscall(SYS_tgkill, getpid(), gettid(), 0));
    ALLOWED(getrlimit(RLIMIT_NOFILE, &limit));
    ALLOWED(prlimit(getpid(), RLIMIT_NOFILE, NULL, &limit));
    DENIED(prlimit(getppid(), RLIMIT_NOFILE, NULL, &limit));
    ALLOWED(ioctl(0, 0x5401 /* TCGETS */, &(char[64]){0}) < 0 && errno == EPERM ? -1 : 0);
    ALLOWED(open("/dev/null", O_RDONLY)); /* nothing was said of files */
    ALLOWED(socket(AF_UNIX, SOCK_STREAM, 0));
    return 0;
}

static int network_denied(void)
{
    char byte = 1;

    for (int family = AF_UNIX; family <= AF_INET6; family++)
        DENIED(socket(family, SOCK_STREAM, 0));
    DENIED(socket(AF_NETLINK, SOCK_RAW, 0));
    DENIED(socketpair(AF_UNIX, SOCK_STREAM, 0, (int[2]){0}));
    DENIED(connect(socket_fds[0], NULL, 0));
    DENIED(bind(socket_fds[0], NULL, 0));
    DENIED(listen(socket_fds[0], 1));
    DENIED(accept4(socket_fds[0], NULL, NULL, 0));
    ALLOWED(send(socket_fds[0], &byte, 1, 0)); /* one that was open goes on */
    ALLOWED(recv(socket_fds[1], &byte, 1, 0));
    return 0;
}

static void *nothing(void *arg)
{
    return arg;
}

static int exec_denied(void)
{
    pthread_t thread;

    DENIED(execl("/bin/true", "true", (char *)NULL));
    DENIED(syscall(SYS_execveat, -1, "/bin/true", NULL, NULL, 0));
#if !defined(__SANITIZE_ADDRESS__)
    DENIED(fork());
    DENIED(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
#endif
    if (syscall(SYS_clone3, NULL, 0) != -1 || errno != ENOSYS)
        return __LINE__;
    if (pthread_create(&thread, NULL, nothing, NULL) || pthread_join(thread, NULL))
        return __LINE__;
    return 0;
}

static int open_denied(void)
{
    struct stat st;
    void *p;

    DENIED(open("/dev/null", O_RDONLY));
    DENIED(openat(AT_FDCWD, "/tmp/pt2-sandbox", O_CREAT | O_WRONLY, 0600));
    DENIED(unlink("/tmp/pt2-sandbox"));
    DENIED(mkdir("/tmp/pt2-sandbox", 0700));
    DENIED(rename("/tmp/pt2-sandbox", "/tmp/pt2-sandbox2"));
    DENIED(symlink("/", "/tmp/pt2-sandbox"));
    DENIED(chmod("/tmp", 0777));
    DENIED(fchmod(0, 0777));
    DENIED(truncate("/tmp/pt2-sandbox", 0));
    DENIED(chdir("/"));
    ALLOWED(fstat(0, &st));
    ALLOWED(memfd_create("x", 0));
    p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || mprotect(p, 4096, PROT_READ | PROT_EXEC) < 0)
        return __LINE__; /* libtorch's kernels are compiled at run time */
    return 0;
}

static int work_alone(void)
{
    pthread_t thread;
    struct stat st;
    int fd = open("/dev/null", O_RDONLY);

    ALLOWED(fd);
    ALLOWED(fstat(fd, &st));
    ALLOWED(read(fd, &st, 1));
    if (pthread_create(&thread, NULL, nothing, NULL) || pthread_join(thread, NULL))
        return __LINE__;
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    DENIED(open("/dev/null", O_WRONLY));
    DENIED(open("/dev/null", O_RDWR));
    DENIED(open("/dev/null", O_RDONLY | O_TRUNC));
    DENIED(open("/tmp/pt2-sandbox", O_RDONLY | O_CREAT, 0600));
    DENIED(open("/tmp", O_TMPFILE | O_RDWR, 0600));
    DENIED(syscall(SYS_openat2, AT_FDCWD, "/dev/null", NULL, 0));
    DENIED(unlink("/tmp/pt2-sandbox"));
    DENIED(syscall(SYS_getppid));
    DENIED(syscall(SYS_personality, 0xffffffff));
    DENIED(syscall(SYS_inotify_init1, 0));
    DENIED(syscall(SYS_memfd_create, "x", 0));
    if (syscall(1000) != -1 || errno != ENOSYS) /* one that is yet to come */
        return __LINE__;
#endif
    return 0;
}

static int children_kept(void)
{
    int fds[2];
    pid_t pid;

    ALLOWED(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds));
    ALLOWED(socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
    DENIED(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds));
    DENIED(socket(AF_UNIX, SOCK_STREAM, 0));
    DENIED(connect(fds[0], NULL, 0));
    ALLOWED(pid = fork());
    if (pid == 0)
        for (;;)
            pause();
    ALLOWED(syscall(SYS_pidfd_open, pid, 0));
    ALLOWED(kill(pid, SIGKILL));
    ALLOWED(waitpid(pid, NULL, 0));
    return 0;
}

static int change_denied(void)
{
    ALLOWED(open("/dev/null", O_WRONLY));
    DENIED(chmod("/tmp/pt2-sandbox", 0777));
    DENIED(fchmodat(AT_FDCWD, "/tmp/pt2-sandbox", 0777, 0));
    DENIED(lchown("/tmp/pt2-sandbox", 0, 0));
    DENIED(utimensat(AT_FDCWD, "/tmp/pt2-sandbox", NULL, 0));
    DENIED(truncate("/tmp/pt2-sandbox", 0));
    return 0;
}

/* Catches: a call too many in the list, flags of open that are not looked at. */
START_TEST(test_sandbox_leaves_work_alone)
{
    ck_assert_int_eq(run_inside(SANDBOX_NO_EXEC | SANDBOX_WORK_ONLY, work_alone), 0);
}
END_TEST

/* Catches: pairs whose ends can send to any socket, workers that can not be ended. */
START_TEST(test_sandbox_leaves_children)
{
    ck_assert_int_eq(
        run_inside(SANDBOX_NO_NETWORK | SANDBOX_HAS_CHILDREN, children_kept), 0);
}
END_TEST

START_TEST(test_sandbox_denies_changes_by_name)
{
    ck_assert_int_eq(run_inside(SANDBOX_NO_CHANGE, change_denied), 0);
}
END_TEST

/* Catches: a table entry without effect, a wrong jump that lets a call through. */
START_TEST(test_sandbox_denies_tracing_and_signals)
{
    ck_assert_int_eq(run_inside(0, always_denied), 0);
}
END_TEST

/* Catches: a filter that breaks abort(), getrlimit(), or denies what was not asked for.
 */
START_TEST(test_sandbox_leaves_the_process_itself)
{
    ck_assert_int_eq(run_inside(0, self_is_allowed), 0);
}
END_TEST

START_TEST(test_sandbox_denies_the_network)
{
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, socket_fds), 0);
    ck_assert_int_eq(run_inside(SANDBOX_NO_NETWORK, network_denied), 0);
}
END_TEST

START_TEST(test_sandbox_denies_programs_but_not_threads)
{
    ck_assert_int_eq(run_inside(SANDBOX_NO_EXEC, exec_denied), 0);
}
END_TEST

START_TEST(test_sandbox_denies_files)
{
    ck_assert_int_eq(run_inside(SANDBOX_NO_OPEN, open_denied), 0);
}
END_TEST

static int threads_too(void);

static pthread_barrier_t barrier;
static int other_thread_errno;

static void *try_socket(void *arg)
{
    pthread_barrier_wait(&barrier); /* until the filter is there */
    other_thread_errno = socket(AF_INET, SOCK_STREAM, 0) < 0 ? errno : 0;
    return arg;
}

static int threads_too(void)
{
    pthread_t thread;

    pthread_barrier_init(&barrier, NULL, 2);
    if (pthread_create(&thread, NULL, try_socket, NULL))
        return __LINE__;
    if (sandbox_enter(SANDBOX_NO_NETWORK, NULL) < 0)
        return __LINE__;
    pthread_barrier_wait(&barrier);
    pthread_join(thread, NULL);
    return other_thread_errno == EPERM ? 0 : __LINE__;
}

/* Catches: a filter for the calling thread alone. */
START_TEST(test_sandbox_holds_for_threads_that_run_already)
{
    ck_assert_int_eq(run_inside(0, threads_too), 0);
}
END_TEST

static int abort_works(void)
{
    abort();
}

START_TEST(test_sandbox_leaves_abort)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        struct rlimit none = {0, 0};

        setrlimit(RLIMIT_CORE, &none);
        signal(SIGABRT, SIG_DFL);
        if (sandbox_enter(SANDBOX_NO_NETWORK | SANDBOX_NO_EXEC | SANDBOX_NO_OPEN, NULL) ==
            0)
            abort_works();
        _exit(1);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("sandbox");
    TCase *core = tcase_create("core");

    tcase_add_test(core, test_sandbox_denies_tracing_and_signals);
    tcase_add_test(core, test_sandbox_leaves_the_process_itself);
    tcase_add_test(core, test_sandbox_denies_the_network);
    tcase_add_test(core, test_sandbox_denies_programs_but_not_threads);
    tcase_add_test(core, test_sandbox_denies_files);
    tcase_add_test(core, test_sandbox_leaves_work_alone);
    tcase_add_test(core, test_sandbox_leaves_children);
    tcase_add_test(core, test_sandbox_denies_changes_by_name);
    tcase_add_test(core, test_sandbox_holds_for_threads_that_run_already);
    tcase_add_test(core, test_sandbox_leaves_abort);
    suite_add_tcase(s, core);
    return suite_run(s);
}
