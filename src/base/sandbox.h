/* sandbox.h - give up what a worker process never needs, by a seccomp filter.
 *
 * System calls that then fail with EPERM, listed without libseccomp.  It can not be taken
 * back and holds for every thread of the process, those to come and programs that it
 * executes too.  Whatever is asked for, these go: tracing and reading other processes,
 * signals to them, namespaces and mounts, kernel modules, bpf, perf, keys, io_uring,
 * System V and message queues, clocks, and pushing input into a terminal.  Calls of another
 * machine's ABI (32 bit) are denied as a whole.
 *
 * Which files a process may open, landlock.h says.  doc/sandbox.md says what is left to
 * whom. */
#ifndef BASE_SANDBOX_H
#define BASE_SANDBOX_H

#include "base/util.h"

#include <pt2/err.h>

enum sandbox_deny {
    SANDBOX_NO_NETWORK =
        1 << 0, /* no sockets made, connected or bound; open ones go on */
    SANDBOX_NO_EXEC =
        1 << 1, /* no programs executed, no processes made; threads may be */
    SANDBOX_NO_OPEN = 1 << 2, /* no file opened, made, removed, renamed or given other
                               * rights; open ones go on */
    SANDBOX_HAS_CHILDREN =
        1 << 3, /* less: pairs of stream sockets are left, and signals, for a process
                 * that starts workers of its own */
    SANDBOX_NO_CHANGE = 1 << 4, /* no file given other rights, owners, times, attributes
                                 * or length by its name; of NO_OPEN a part */
    SANDBOX_WORK_ONLY =
        1 << 5, /* nothing but the calls of tbl_work_calls.h: memory, threads, clocks,
                 * opening files to read, reading and writing.  Built with a sanitizer,
                 * whose own calls are many: no effect */
};

/* Deny what deny (enum sandbox_deny, or-ed) says, from now on.  Sets no_new_privs.  Safe
 * between fork and exec.
 * Errors: INTERNAL (the kernel has no seccomp, or another filter forbids this one). */
MUST_USE int sandbox_enter(unsigned deny, struct pt2_err *err);

#endif
