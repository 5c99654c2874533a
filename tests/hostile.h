/* hostile.h - what a worker would try that a file has taken over.
 *
 * Linked into stand-ins of the workers (hostile_export.c, hostile_aten.c), which attack
 * from within the real ones, after they have entered their sandboxes. */
#ifndef TESTS_HOSTILE_H
#define TESTS_HOSTILE_H

#include "base/util.h"

enum hostile_may {
    HOSTILE_MAY_RUN = 1 << 0,       /* programs, and have processes of its own */
    HOSTILE_MAY_LIBRARIES = 1 << 1, /* read them */
};

/* Try everything but what it may (enum hostile_may, or-ed), and write a report: what
 * succeeded, or "hostile: 50 refused".  The secret to find is the file "secret" in the
 * folder $PT2_HOSTILE, or /tmp.  True: all was refused. */
bool hostile_attack(unsigned may, char *ret_report, size_t size);

#endif
