#include "hostile.h"

#include "base/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>

static char secret[256], beside[256];
static pid_t parent;
static int landlock; /* the ABI */

/* Before main, so before any sandbox. */
__attribute__((constructor)) static void look_around(void)
{
    const char *folder = getenv("PT2_HOSTILE");

    landlock = landlock_abi();
    parent = getppid();
    snprintf(secret, sizeof(secret), "%s/secret", folder ? folder : "/tmp");
    snprintf(beside, sizeof(beside), "%s/beside", folder ? folder : "/tmp");
}

/* An attack answers what the call did: -1 is a refusal.  One line each, so that the list
 * can be read. */
/* clang-format off */
static long open_of(const char *what)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/%s", parent, what);
    return open(path, O_RDONLY);
}

static long try_passwd(void) { return open("/etc/passwd", O_RDONLY); }
static long try_secret(void) { return open(secret, O_RDONLY); }
static long try_secret_rw(void) { return open(secret, O_RDWR); }
static long try_root(void) { return open("/", O_RDONLY | O_DIRECTORY); }
static long try_make(void) { return open(beside, O_WRONLY | O_CREAT, 0600); }
static long try_tmpfile(void) { return open("/tmp", O_TMPFILE | O_RDWR, 0600); }
static long try_mkdir(void) { return mkdir(beside, 0700); }
static long try_mknod(void) { return mknod(beside, S_IFIFO | 0600, 0); }
static long try_symlink(void) { return symlink("/", beside); }
static long try_link(void) { return link(secret, beside); }
static long try_rename(void) { return rename(secret, beside); }
static long try_unlink(void) { return unlink(secret); }
static long try_truncate(void) { return truncate(secret, 0); }
static long try_chmod(void) { return chmod(secret, 0777); }
static long try_chown(void) { return chown(secret, getuid(), getgid()); }
static long try_utimes(void) { return utimensat(AT_FDCWD, secret, NULL, 0); }
static long try_libraries(void) { return open("/usr", O_RDONLY | O_DIRECTORY); }

static long try_mem(void) { return open_of("mem"); }
static long try_environ(void) { return open_of("environ"); }
static long try_cmdline(void) { return open_of("cmdline"); }
static long try_parent_fds(void) { return open_of("fd"); }
static long try_own_maps(void) { return open("/proc/self/maps", O_RDONLY); }
static long try_signal(void) { return kill(parent, 0); }
static long try_tgkill(void) { return syscall(SYS_tgkill, parent, parent, 0); }
static long try_tkill(void) { return syscall(SYS_tkill, parent, 0); }
static long try_ptrace(void) { return ptrace(PTRACE_ATTACH, parent, 0, 0); }
static long try_limits(void)
{
    struct rlimit limit;

    return prlimit(parent, RLIMIT_NOFILE, NULL, &limit);
}

static long try_readv(void)
{
    char byte;
    struct iovec here = {&byte, 1}, there = {&parent, 1};

    return process_vm_readv(parent, &here, 1, &there, 1, 0);
}

static long try_getfd(void)
{
    int fd = (int)syscall(SYS_pidfd_open, parent, 0);

    return fd < 0 ? -1 : syscall(SYS_pidfd_getfd, fd, 0, 0);
}

static long try_pidfd_signal(void)
{
    int fd = (int)syscall(SYS_pidfd_open, parent, 0);

    return fd < 0 ? -1 : syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0);
}

static long try_inet(void) { return socket(AF_INET, SOCK_STREAM, 0); }
static long try_inet6(void) { return socket(AF_INET6, SOCK_DGRAM, 0); }
static long try_unix(void) { return socket(AF_UNIX, SOCK_STREAM, 0); }
static long try_netlink(void) { return socket(AF_NETLINK, SOCK_RAW, 0); }
static long try_packet(void) { return socket(AF_PACKET, SOCK_RAW, 0); }
static long try_pair(void)
{
    int fds[2];

    return socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds);
}

#if !defined(__SANITIZE_ADDRESS__)
static long try_fork(void)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    return pid < 0 ? -1 : waitpid(pid, NULL, 0);
}
#endif

static long try_clone3(void)
{
    return syscall(SYS_clone3, NULL, 0) < 0 && errno == ENOSYS ? -1 : 0;
}

static long try_exec(void) { return execl("/bin/true", "true", (char *)NULL); }
static long try_execveat(void)
{
    return syscall(SYS_execveat, -1, "/bin/true", NULL, NULL, 0);
}


static long try_mount(void) { return mount("none", "/tmp", "tmpfs", 0, NULL); }
static long try_unshare(void) { return unshare(CLONE_NEWUSER); }
static long try_chroot(void) { return chroot("/tmp"); }
static long try_keyctl(void)
{
    return syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 1);
}

static long try_add_key(void)
{
    return syscall(SYS_add_key, "user", "pt2", "x", 1, KEY_SPEC_PROCESS_KEYRING);
}

static long try_io_uring(void) { return syscall(SYS_io_uring_setup, 1, (char[256]){0}); }
static long try_bpf(void) { return syscall(SYS_bpf, 0, (char[128]){0}, 128); }
static long try_perf(void)
{
    return syscall(SYS_perf_event_open, (char[128]){0}, 0, -1, -1, 0);
}

static long try_userfaultfd(void) { return syscall(SYS_userfaultfd, 0); }
static long try_shm(void) { return shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600); }
static long try_mq(void)
{
    return syscall(SYS_mq_open, "pt2", O_CREAT | O_RDWR, 0600, NULL);
}

static long try_swap(void) { return syscall(SYS_swapoff, "/"); }
static long try_hostname(void) { return sethostname("pt2", 3); }
static long try_terminal(void) { return ioctl(STDERR_FILENO, TIOCSTI, "x"); }
static long try_handle(void)
{
    return syscall(SYS_open_by_handle_at, AT_FDCWD, (char[128]){0}, O_RDONLY);
}

/* clang-format on */

/* Sanitizers read their maps where a program starts (landlock.c). */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MAY_PROC HOSTILE_MAY_LIBRARIES
#else
#define MAY_PROC 0
#endif

static const struct {
    const char *name;
    long (*call)(void);
    int abi;      /* of Landlock, which in some worker alone refuses it; 0: the filter
                   * does in all */
    unsigned may; /* left out where all of this is allowed */
} attacks[] = {
#define ATTACK(name, abi, may) {#name, try_##name, abi, may}
    ATTACK(passwd, 1, 0),
    ATTACK(secret, 1, 0),
    ATTACK(secret_rw, 1, 0),
    ATTACK(root, 1, 0),
    ATTACK(make, 1, 0),
    ATTACK(tmpfile, 1, 0),
    ATTACK(mkdir, 1, 0),
    ATTACK(mknod, 1, 0),
    ATTACK(symlink, 1, 0),
    ATTACK(link, 1, 0),
    ATTACK(rename, 1, 0),
    ATTACK(unlink, 1, 0),
    ATTACK(truncate, 0, 0),
    ATTACK(chmod, 0, 0),
    ATTACK(chown, 0, 0),
    ATTACK(utimes, 0, 0),
    ATTACK(libraries, 1, HOSTILE_MAY_LIBRARIES),
    ATTACK(mem, 1, 0),
    ATTACK(environ, 1, MAY_PROC),
    ATTACK(cmdline, 1, MAY_PROC),
    ATTACK(parent_fds, 1, MAY_PROC),
    ATTACK(own_maps, 1, MAY_PROC),
    ATTACK(signal, 6, 0),
    ATTACK(tgkill, 6, 0),
    ATTACK(tkill, 0, 0),
    ATTACK(ptrace, 1, 0),
    ATTACK(limits, 0, 0),
    ATTACK(readv, 0, 0),
    ATTACK(getfd, 0, 0),
    ATTACK(pidfd_signal, 6, 0),
    ATTACK(inet, 0, 0),
    ATTACK(inet6, 0, 0),
    ATTACK(unix, 0, 0),
    ATTACK(netlink, 0, 0),
    ATTACK(packet, 0, 0),
    ATTACK(pair, 0, 0),
#if !defined(__SANITIZE_ADDRESS__)
    ATTACK(fork, 0, HOSTILE_MAY_RUN),
#endif
    ATTACK(clone3, 0, HOSTILE_MAY_RUN),
    ATTACK(exec, 0, HOSTILE_MAY_RUN),
    ATTACK(execveat, 0, HOSTILE_MAY_RUN),
    ATTACK(mount, 0, 0),
    ATTACK(unshare, 0, 0),
    ATTACK(chroot, 0, 0),
    ATTACK(keyctl, 0, 0),
    ATTACK(add_key, 0, 0),
    ATTACK(io_uring, 0, 0),
    ATTACK(bpf, 0, 0),
    ATTACK(perf, 0, 0),
    ATTACK(userfaultfd, 0, 0),
    ATTACK(shm, 0, 0),
    ATTACK(mq, 0, 0),
    ATTACK(swap, 0, 0),
    ATTACK(hostname, 0, 0),
    ATTACK(terminal, 0, 0),
    ATTACK(handle, 0, 0),
};

/* EPERM is the filter's, EACCES Landlock's; a call that fails for another reason went
 * through to where it might have succeeded. */
static bool is_refused(long (*call)(void))
{
    errno = 0;
    return call() == -1 && (errno == EPERM || errno == EACCES || errno == ENOSYS);
}

bool hostile_attack(unsigned may, char *ret_report, size_t size)
{
    struct rlimit core, files;
    size_t n = 0;

    for (size_t i = 0; i < ARRAY_LEN(attacks); i++) {
        if (attacks[i].abi > landlock || (attacks[i].may & may))
            continue;
        if (!is_refused(attacks[i].call)) {
            snprintf(ret_report, size, "hostile: %s: %s", attacks[i].name,
                     errno ? strerror(errno) : "succeeded");
            return false;
        }
        n++;
    }
    if (getrlimit(RLIMIT_CORE, &core) < 0 || getrlimit(RLIMIT_NOFILE, &files) < 0 ||
        core.rlim_max > 0 || files.rlim_max > 1024) {
        snprintf(ret_report, size, "hostile: has no limits");
        return false;
    }
    snprintf(ret_report, size, "hostile: %zu refused", n);
    return true;
}
