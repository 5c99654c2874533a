#include "base/sandbox.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
#define SANDBOX_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define SANDBOX_ARCH AUDIT_ARCH_AARCH64
#elif defined(__riscv) && __riscv_xlen == 64
#define SANDBOX_ARCH AUDIT_ARCH_RISCV64
#elif defined(__powerpc64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define SANDBOX_ARCH AUDIT_ARCH_PPC64LE
#else
#error "sandbox.c: give this machine's AUDIT_ARCH_ here"
#endif
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "sandbox.c: an argument's low half is taken from its first four bytes"
#endif

#define FIRST_X32_CALL 0x40000000u /* x86-64: from here on another ABI's numbers */

/* A leak check at exit traces its own process from a child process. */
#if defined(__SANITIZE_ADDRESS__)
#define HAS_LEAK_CHECK 1
#else
#define HAS_LEAK_CHECK 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CAN_WORK_ONLY 0
#else
#define CAN_WORK_ONLY 1
#endif

/* Landlock leaves these. */
#define NO_CHANGE (SANDBOX_NO_OPEN | SANDBOX_NO_CHANGE)

/* The calls that are denied whole, and from which enum sandbox_deny on; 0: always.  Those
 * in #ifdef are x86-64's older forms, and what later kernels than Debian 12's headers
 * have. */
static const struct {
    int call;
    unsigned deny;
} table[] = {
#if !HAS_LEAK_CHECK
    {__NR_ptrace, 0},
#endif
    {__NR_process_vm_readv, 0},
    {__NR_process_vm_writev, 0},
    {__NR_process_madvise, 0},
    {__NR_kcmp, 0},
    {__NR_tkill, 0},
    {__NR_rt_sigqueueinfo, 0},
    {__NR_rt_tgsigqueueinfo, 0},
    {__NR_pidfd_getfd, 0},
    {__NR_bpf, 0},
    {__NR_perf_event_open, 0},
    {__NR_userfaultfd, 0},
    {__NR_add_key, 0},
    {__NR_request_key, 0},
    {__NR_keyctl, 0},
    {__NR_io_uring_setup, 0},
    {__NR_io_uring_enter, 0},
    {__NR_io_uring_register, 0},
    {__NR_unshare, 0},
    {__NR_setns, 0},
    {__NR_mount, 0},
    {__NR_umount2, 0},
    {__NR_pivot_root, 0},
    {__NR_chroot, 0},
    {__NR_move_mount, 0},
    {__NR_open_tree, 0},
    {__NR_fsopen, 0},
    {__NR_fsconfig, 0},
    {__NR_fsmount, 0},
    {__NR_fspick, 0},
    {__NR_mount_setattr, 0},
    {__NR_swapon, 0},
    {__NR_swapoff, 0},
    {__NR_reboot, 0},
    {__NR_acct, 0},
    {__NR_quotactl, 0},
    {__NR_syslog, 0},
    {__NR_vhangup, 0},
    {__NR_sethostname, 0},
    {__NR_setdomainname, 0},
    {__NR_init_module, 0},
    {__NR_finit_module, 0},
    {__NR_delete_module, 0},
    {__NR_kexec_load, 0},
    {__NR_settimeofday, 0},
    {__NR_clock_settime, 0},
    {__NR_clock_adjtime, 0},
    {__NR_adjtimex, 0},
    {__NR_fanotify_init, 0},
    {__NR_name_to_handle_at, 0},
    {__NR_shmget, 0},
    {__NR_shmat, 0},
    {__NR_shmctl, 0},
    {__NR_msgget, 0},
    {__NR_semget, 0},
    {__NR_mq_open, 0},
    {__NR_mq_unlink, 0},
    {__NR_open_by_handle_at, 0},
#ifdef __NR_kexec_file_load
    {__NR_kexec_file_load, 0},
#endif
#ifdef __NR_iopl
    {__NR_iopl, 0},
    {__NR_ioperm, 0},
    {__NR_modify_ldt, 0},
#endif

    {__NR_socket, SANDBOX_NO_NETWORK},
    {__NR_connect, SANDBOX_NO_NETWORK},
    {__NR_bind, SANDBOX_NO_NETWORK},
    {__NR_listen, SANDBOX_NO_NETWORK},
    {__NR_accept, SANDBOX_NO_NETWORK},
    {__NR_accept4, SANDBOX_NO_NETWORK},
#ifdef __NR_socketcall
    {__NR_socketcall, SANDBOX_NO_NETWORK},
#endif

    {__NR_execve, SANDBOX_NO_EXEC},
    {__NR_execveat, SANDBOX_NO_EXEC},
#ifdef __NR_fork
    {__NR_fork, SANDBOX_NO_EXEC},
    {__NR_vfork, SANDBOX_NO_EXEC},
#endif

    {__NR_openat, SANDBOX_NO_OPEN},
    {__NR_openat2, SANDBOX_NO_OPEN},
    {__NR_mknodat, SANDBOX_NO_OPEN},
    {__NR_mkdirat, SANDBOX_NO_OPEN},
    {__NR_unlinkat, SANDBOX_NO_OPEN},
    {__NR_symlinkat, SANDBOX_NO_OPEN},
    {__NR_linkat, SANDBOX_NO_OPEN},
    {__NR_renameat2, SANDBOX_NO_OPEN},
    {__NR_readlinkat, SANDBOX_NO_OPEN},
    {__NR_fchmod, NO_CHANGE},
    {__NR_fchmodat, NO_CHANGE},
    {__NR_fchown, NO_CHANGE},
    {__NR_fchownat, NO_CHANGE},
    {__NR_truncate, NO_CHANGE},
    {__NR_utimensat, NO_CHANGE},
    {__NR_chdir, SANDBOX_NO_OPEN},
    {__NR_fchdir, SANDBOX_NO_OPEN},
    {__NR_setxattr, NO_CHANGE},
    {__NR_lsetxattr, NO_CHANGE},
    {__NR_fsetxattr, NO_CHANGE},
    {__NR_removexattr, NO_CHANGE},
    {__NR_lremovexattr, NO_CHANGE},
    {__NR_fremovexattr, NO_CHANGE},
    {__NR_inotify_add_watch, SANDBOX_NO_OPEN},
#ifdef __NR_renameat
    {__NR_renameat, SANDBOX_NO_OPEN},
#endif
#ifdef __NR_open
    {__NR_open, SANDBOX_NO_OPEN},
    {__NR_creat, SANDBOX_NO_OPEN},
    {__NR_mknod, SANDBOX_NO_OPEN},
    {__NR_mkdir, SANDBOX_NO_OPEN},
    {__NR_rmdir, SANDBOX_NO_OPEN},
    {__NR_unlink, SANDBOX_NO_OPEN},
    {__NR_symlink, SANDBOX_NO_OPEN},
    {__NR_link, SANDBOX_NO_OPEN},
    {__NR_rename, SANDBOX_NO_OPEN},
    {__NR_readlink, SANDBOX_NO_OPEN},
    {__NR_chmod, NO_CHANGE},
    {__NR_chown, NO_CHANGE},
    {__NR_lchown, NO_CHANGE},
    {__NR_utime, NO_CHANGE},
    {__NR_utimes, NO_CHANGE},
    {__NR_futimesat, NO_CHANGE},
#endif
};

/* What SANDBOX_WORK_ONLY leaves. */
static const int work_calls[] = {
#define WORK_CALL(name) __NR_##name,
#include "base/tbl_work_calls.h"
#undef WORK_CALL
};

/* Room for the tables (two instructions a call) and for what stands around them. */
#define MAX_INSNS (2 * (ARRAY_LEN(table) + ARRAY_LEN(work_calls)) + 64)

/* Calls from here on came after Debian 12's headers.  A C library that knows them falls
 * back where they are absent, and not where they are forbidden. */
#define FIRST_NEW_CALL 451

struct filter {
    struct sock_filter insns[MAX_INSNS];
    uint16_t n;
};

#define ALLOW         SECCOMP_RET_ALLOW
#define FAIL(number)  (SECCOMP_RET_ERRNO | (number))
#define LOW_HALF(arg) (offsetof(struct seccomp_data, args) + 8 * (arg))

static void put(struct filter *f, uint16_t code, uint8_t jt, uint8_t jf, uint32_t k)
{
    ASSERT(f->n < MAX_INSNS);
    f->insns[f->n++] = (struct sock_filter){code, jt, jf, k};
}

static void load(struct filter *f, size_t offset)
{
    put(f, BPF_LD | BPF_W | BPF_ABS, 0, 0, (uint32_t)offset);
}

static void answer(struct filter *f, uint32_t action)
{
    put(f, BPF_RET | BPF_K, 0, 0, action);
}

/* Where what was loaded equals k: answer action. */
static void answer_if(struct filter *f, uint32_t k, uint32_t action)
{
    put(f, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, k);
    answer(f, action);
}

/* A call whose first argument is a process: this one alone.  With the call's number
 * loaded before and after. */
static void only_on_self(struct filter *f, int call, bool zero_is_self)
{
    put(f, BPF_JMP | BPF_JEQ | BPF_K, 0, zero_is_self ? 5 : 4, (uint32_t)call);
    load(f, LOW_HALF(0));
    if (zero_is_self)
        put(f, BPF_JMP | BPF_JEQ | BPF_K, 2, 0, 0);
    put(f, BPF_JMP | BPF_JEQ | BPF_K, 1, 0, (uint32_t)getpid());
    answer(f, FAIL(EPERM));
    answer(f, ALLOW);
}

/* Pushing characters into the terminal that our standard error may be. */
static void no_terminal_input(struct filter *f)
{
    put(f, BPF_JMP | BPF_JEQ | BPF_K, 0, 6, __NR_ioctl);
    load(f, LOW_HALF(1));
    answer_if(f, TIOCSTI, FAIL(EPERM));
    answer_if(f, TIOCLINUX, FAIL(EPERM));
    answer(f, ALLOW);
}

/* Threads, but no processes: clone3's flags lie in memory that a filter can not read, so
 * it is made to look absent, whereupon libc takes clone. */
static void only_threads(struct filter *f)
{
    answer_if(f, __NR_clone3, FAIL(ENOSYS));
#if !HAS_LEAK_CHECK
    put(f, BPF_JMP | BPF_JEQ | BPF_K, 0, 4, __NR_clone);
    load(f, LOW_HALF(0));
    put(f, BPF_JMP | BPF_JSET | BPF_K, 1, 0, CLONE_THREAD);
    answer(f, FAIL(EPERM));
    answer(f, ALLOW);
#endif
}

/* A datagram socket of a pair could send to any other by its path. */
static void only_stream_pairs(struct filter *f)
{
    put(f, BPF_JMP | BPF_JEQ | BPF_K, 0, 5, __NR_socketpair);
    load(f, LOW_HALF(1));
    put(f, BPF_ALU | BPF_AND | BPF_K, 0, 0, 0xf); /* without SOCK_CLOEXEC and such */
    put(f, BPF_JMP | BPF_JEQ | BPF_K, 1, 0, SOCK_DGRAM);
    answer(f, ALLOW);
    answer(f, FAIL(EPERM));
}

/* Processes other than this one. */
static void no_others(struct filter *f)
{
    only_on_self(f, __NR_kill, false);
    only_on_self(f, __NR_tgkill, false); /* abort and raise */
    answer_if(f, __NR_pidfd_open, FAIL(EPERM));
    answer_if(f, __NR_pidfd_send_signal, FAIL(EPERM));
}

/* By open or openat, whose flags are argument arg. */
static void only_to_read(struct filter *f, int call, int arg)
{
    put(f, BPF_JMP | BPF_JEQ | BPF_K, 0, 4, (uint32_t)call);
    load(f, LOW_HALF(arg));
    put(f, BPF_JMP | BPF_JSET | BPF_K, 0, 1, O_ACCMODE | O_CREAT | O_TRUNC);
    answer(f, FAIL(EPERM));
    answer(f, ALLOW);
}

static void only_work(struct filter *f)
{
    only_to_read(f, __NR_openat, 2);
#ifdef __NR_open
    only_to_read(f, __NR_open, 1);
#endif
    for (size_t i = 0; i < ARRAY_LEN(work_calls); i++)
        answer_if(f, (uint32_t)work_calls[i], ALLOW);
    put(f, BPF_JMP | BPF_JGE | BPF_K, 0, 1, FIRST_NEW_CALL);
    answer(f, FAIL(ENOSYS));
    answer(f, FAIL(EPERM));
}

static void filter_build(struct filter *f, unsigned deny)
{
    load(f, offsetof(struct seccomp_data, arch));
    put(f, BPF_JMP | BPF_JEQ | BPF_K, 1, 0, SANDBOX_ARCH);
    answer(f, FAIL(EPERM));
    load(f, offsetof(struct seccomp_data, nr));
#if defined(__x86_64__)
    put(f, BPF_JMP | BPF_JGE | BPF_K, 0, 1, FIRST_X32_CALL);
    answer(f, FAIL(EPERM));
#endif
    if (!(deny & SANDBOX_HAS_CHILDREN))
        no_others(f);
    if (deny & SANDBOX_NO_NETWORK) {
        if (deny & SANDBOX_HAS_CHILDREN)
            only_stream_pairs(f);
        else
            answer_if(f, __NR_socketpair, FAIL(EPERM));
    }
    only_on_self(f, __NR_prlimit64, true);
    no_terminal_input(f);
    if (deny & SANDBOX_NO_EXEC)
        only_threads(f);
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (!table[i].deny || (deny & table[i].deny))
            answer_if(f, (uint32_t)table[i].call, FAIL(EPERM));
    if (CAN_WORK_ONLY && (deny & SANDBOX_WORK_ONLY))
        only_work(f);
    else
        answer(f, ALLOW);
}

int sandbox_enter(unsigned deny, struct pt2_err *err)
{
    struct filter f = {.n = 0};
    struct sock_fprog program;
    long r;

    filter_build(&f, deny);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return pt2_err_errno(err, PT2_ERR_INTERNAL, "no_new_privs");
    program = (struct sock_fprog){.len = f.n, .filter = f.insns};
    r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC,
                &program);
    if (r > 0)
        return pt2_err_set(err, PT2_ERR_INTERNAL,
                           "seccomp: thread %ld can not take the filter", r);
    if (r < 0)
        return pt2_err_errno(err, PT2_ERR_INTERNAL, "seccomp");
    return 0;
}
