/* whole.h - is a program's file what it was when it was acknowledged?
 *
 * While a daemon runs the table `running` has a row, which goes at its end.  Where it is found at
 * a start the last daemon was killed, or the machine went down: then every program is doubted,
 * until its file, and the .pte files made of it, have been read and have their digests.  That is
 * done in the background (program_checks.h), or by whoever wants the program first.  One program
 * is doubted where its file was cut under an engine, no longer opens, or has another length.
 *
 * A program whose file has another digest, or none, is damaged: it stays listed, nothing opens
 * it, its builds are forgotten so that an export makes it again, and the same content puts it
 * right.  A damaged .pte is moved to lost+found and forgotten with its builds.
 *
 * Any thread; reading takes as long as the files are, one program at a time. */
#ifndef STORE_WHOLE_H
#define STORE_WHOLE_H

#include "store/objects.h"
#include "store/programs_db.h"
#include "store/store.h"

#include <pthread.h>

struct whole_state {
    struct store *store;     /* borrowed, as objects */
    struct objects *objects;
    pthread_mutex_t reading; /* held while files are read */
    atomic_int n_reading;    /* who has it, and who waits for it */
    atomic_bool is_stopping;
    bool is_started;
};

/* The daemon runs from now on.  Errors: IO, NO_SPACE. */
MUST_USE int whole_start(struct whole_state *state, struct store *store,
                         struct objects *objects, struct pt2_err *err);
/* Calls that read give up: CANCELLED.  Any thread, as soon as the daemon has to end. */
void whole_stop(struct whole_state *state);
/* The daemon has come to its end. */
void whole_done(struct whole_state *state);

/* For how long may a thread wait?  Those that answer requests are few. */
enum whole_wait {
    WHOLE_WAIT,    /* until all have been read that others want */
    WHOLE_BE_SHORT /* NOT_IN_TIME where two threads are at it already */
};

/* Is the program of that full id whole?  Reads it where it is doubted, or its file has another
 * length than it had, or is gone.
 * Errors: NOT_FOUND, PROGRAM_DAMAGED, CANCELLED (whole_stop), NOT_IN_TIME, IO, NO_SPACE, NOMEM. */
MUST_USE int whole_check(struct whole_state *state, const char *id, enum whole_wait wait,
                         struct pt2_err *err);

/* The same of one that somebody has a reason to doubt: it is read even if it was whole. */
MUST_USE int whole_suspect(struct whole_state *state, const char *id, struct pt2_err *err);

/* "whole", "unchecked" or "damaged". */
const char *whole_name(enum whole whole);

#endif
