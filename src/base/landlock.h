/* landlock.h - leave a process the paths that it is given, and nothing else, by Landlock.
 *
 * A ruleset is begun, allowed paths one by one, and entered.  It can not be taken back
 * and holds for threads and processes that are started afterwards, so enter it before
 * there is a second thread.  Files that are open stay open.  Beside files, there go
 * tracing of others, TCP (from ABI 4 on), and signals and abstract sockets to processes outside
 * (from ABI 6 on).
 *
 * A kernel without Landlock, or a filter that forbids it, is no error: all of this then
 * does nothing, and landlock_abi tells. */
#ifndef BASE_LANDLOCK_H
#define BASE_LANDLOCK_H

#include "base/util.h"

#include <pt2/err.h>

enum landlock_right {
    LANDLOCK_READ = 1 << 0,  /* files */
    LANDLOCK_LIST = 1 << 1,  /* what is in folders */
    LANDLOCK_WRITE = 1 << 2, /* into files that are there */
    LANDLOCK_RUN = 1 << 3,   /* programs */
};

struct landlock {
    int fd; /* -1: the kernel has none */
    uint64_t handled; /* what is denied where no rule allows it */
};

/* What the kernel offers: 0 none, then 1, 2, ... (landlock(7)). */
int landlock_abi(void);

/* What an ABI lets a ruleset take; 0 for ABI 0. */
uint64_t landlock_files_of(int abi);
uint64_t landlock_network_of(int abi);
uint64_t landlock_scopes_of(int abi);

/* A ruleset that allows nothing.  landlock_done ends it, also without having entered.
 * Errors: INTERNAL. */
MUST_USE int landlock_begin(struct landlock *ret_rules, struct pt2_err *err);
void landlock_done(struct landlock *rules);

/* Allow rights (enum landlock_right, or-ed) on what path leads to, links followed, and on
 * all beneath it.  What is not there is no error.  Errors: IO, INTERNAL. */
MUST_USE int landlock_allow(struct landlock *rules, const char *path, unsigned rights,
                            struct pt2_err *err);

/* Allow what it takes to load libraries and start programs: to read and run what lies in
 * the system's folders of them, in libtorch's and in those of the environment
 * (LD_LIBRARY_PATH, PT2_LIBEXEC), and beside this program; to read what the kernel tells
 * of the processors; to write to /dev/null.  Errors: as landlock_allow. */
MUST_USE int landlock_allow_libraries(struct landlock *rules, struct pt2_err *err);

/* From now on.  Sets no_new_privs.  Errors: INTERNAL. */
MUST_USE int landlock_enter(const struct landlock *rules, struct pt2_err *err);

#endif
