/* ledger.h - tells the store about sessions: that they exist, so that a restart can say
 * that it lost them, and which programs they hold in place.
 *
 * The hooks of serve.h over sessions_db and programs.  Any thread; they wait for the
 * database. */
#ifndef SERVE_LEDGER_H
#define SERVE_LEDGER_H

#include "serve/serve.h"
#include "store/programs.h"
#include "store/store.h"

struct ledger {
    struct store *store; /* borrowed, until serve_free */
    struct programs *programs;
};

struct serve_hooks ledger_hooks(struct ledger *ledger);

/* Why is there no session of that id for who (base/owner.h)?  Fills err with
 * SESSION_EXPIRED, SESSION_LOST or NOT_FOUND.  Returns -1. */
int ledger_fate(struct store *store, const char *id, const char *who,
                struct pt2_err *err);

#endif
