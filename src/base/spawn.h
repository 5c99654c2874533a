/* spawn.h - child processes that hold exactly what they are given.
 *
 * A child has the fds, environment and limits of its struct spawn and nothing else of
 * ours; it leads a session of its own (Ctrl-C reaches us alone), has default signal
 * handling and no_new_privs, and is killed when we die, however we die.
 *
 * Any thread.  The kernel ties that kill to the life of the thread that forked, so all
 * forks are made by one thread of this module's own, started by the first call. */
#ifndef BASE_SPAWN_H
#define BASE_SPAWN_H

#include "base/util.h"

#include <pt2/err.h>

#include <sys/resource.h>
#include <sys/types.h>

struct spawn_fd {
    int fd; /* ours, borrowed; may have FD_CLOEXEC */
    int as; /* its number in the child, at most SPAWN_MAX_FD */
};

#define SPAWN_MAX_FD 31

struct spawn_limit {
    int resource;   /* RLIMIT_CORE, ... */
    uint64_t value; /* soft and hard; cut to the hard limit that we have */
};

struct spawn {
    const char *path;        /* of the executable; not searched for */
    const char *const *argv; /* argv[0] too; NULL at the end */
    /* 0 and 1 are /dev/null and 2 is ours where they are not given; all else is closed.
     */
    const struct spawn_fd *fds;
    size_t n_fds;
    const char *const
        *keep_env; /* names of our variables to pass on, NULL at the end; NULL: all */
    const char *const *set_env; /* "NAME=value", NULL at the end; may be NULL */
    const struct spawn_limit *limits;
    size_t n_limits;
    int nice;      /* added to our niceness; 0: the same */
    bool goes_first; /* where memory runs out, before us */
    unsigned deny; /* enum sandbox_deny, or-ed, in force before the program begins: so not
                    * SANDBOX_NO_EXEC or SANDBOX_NO_OPEN; 0: no filter */
};

struct spawn_child {
    pid_t pid; /* 0: none, or waited for */
    int pidfd; /* readable once the child has ended (poll); -1: none */
};
#define SPAWN_NO_CHILD                                                                   \
    {                                                                                    \
        .pid = 0, .pidfd = -1                                                            \
    }

/* How a child ended: by exit(status), or by a signal. */
struct spawn_end {
    int status; /* 0..255; -1 where a signal ended it */
    int signal; /* 0 where it exited */
};

/* Start a child.  It runs its program when this returns.  Wait for it in the end with
 * spawn_wait, or give it to spawn_child_done.
 * Errors: IO (the program can not be executed, a bad fd), NOMEM, INTERNAL. */
MUST_USE int spawn_start(const struct spawn *what, struct spawn_child *ret_child,
                         struct pt2_err *err);

/* Wait at most timeout_ms (-1: for ever) for the end of child.  True: it has ended,
 * *ret_end (may be NULL) says how, and *child is none from then on; false: it still runs.
 */
bool spawn_wait(struct spawn_child *child, int timeout_ms, struct spawn_end *ret_end);

/* Send a signal; nothing where there is no child. */
void spawn_kill(const struct spawn_child *child, int signal);

/* Kill child where it still runs, and wait for it.  Nothing where there is none. */
void spawn_child_done(struct spawn_child *child);

/* "exited with status 1", "was killed by signal 9 (Killed)". */
void spawn_end_text(const struct spawn_end *end, char *ret_text, size_t size);

/* Where a program of ours lies: $PT2_LIBEXEC/name where that variable is set (the tests);
 * otherwise beside this process's own program (a build tree), otherwise in installed_dir.  Errors: IO (it is not there, or not
 * executable; the text names the path). */
MUST_USE int spawn_find(const char *name, const char *installed_dir, char *ret_path,
                        size_t size, struct pt2_err *err);

#endif
