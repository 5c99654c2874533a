/* sessions_db.h - the ids of sessions that existed, so that a client learns what became
 * of its session: expired, or lost with the process that held it.
 *
 * Sessions themselves live in src/serve, which adds again those that it saved.  These rows are written lazily:
 * they survive a killed daemon, and the last few may miss after a power cut.  Ids are
 * kept for a week after their end, about 100000 of them at most.  Any thread; waits for
 * the database, so not on an HTTP thread. */
#ifndef STORE_SESSIONS_DB_H
#define STORE_SESSIONS_DB_H

#include "store/store.h"

enum session_fate {
    SESSION_NEVER,   /* no such id, or deleted by its client, or long ago: NOT_FOUND */
    SESSION_LIVE,    /* added by this process and not yet expired */
    SESSION_EXPIRED, /* SESSION_EXPIRED */
    SESSION_LOST,    /* a restart took it, or a damaged file: SESSION_LOST */
};

/* Once at the daemon's start: what is live in the table is lost.
 * Errors (of all): IO, NO_SPACE. */
MUST_USE int sessions_db_start(struct store *store, struct pt2_err *err);
/* owner: whose it is (base/owner.h). */
MUST_USE int sessions_db_add(struct store *store, const char *id, const char *owner,
                             struct pt2_err *err);
MUST_USE int sessions_db_expire(struct store *store, const char *id, struct pt2_err *err);
MUST_USE int sessions_db_lose(struct store *store, const char *id, struct pt2_err *err);
/* Deleted by its client: forgotten. */
MUST_USE int sessions_db_remove(struct store *store, const char *id, struct pt2_err *err);
/* Of a session that who does not see: NEVER. */
MUST_USE int sessions_db_fate(struct store *store, const char *id, const char *who,
                              enum session_fate *ret_fate, struct pt2_err *err);

#endif
