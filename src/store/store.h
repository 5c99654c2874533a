/* store.h - the daemon's database: one SQLite file under the state directory.
 *
 * STATE/pt2d.db, write-ahead log, one connection guarded by a mutex.  Each table has a
 * module of its own (programs_db, aliases_db, jobs_db, sessions_db, idempotency_db,
 * files_db, builds_db, ptes_db), which speaks to the connection through store/sql.h.  A change is on the disk
 * when its call returns (synchronous = FULL), but for what sessions_db.h says.
 *
 * STATE/lock is held while the store is open, so that two daemons never share a state
 * directory.  Any thread; calls wait for the disk, so not on an HTTP thread. */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "base/util.h"

#include <pt2/err.h>

struct store;

/* Open (or make, mode 0700) the state directory and its database, and bring the tables up
 * to date.  new: free with store_free, after everything that borrows it.
 * Errors: IO (also where another daemon holds the directory, or where the database is of
 * a later version), NO_SPACE, NOMEM. */
MUST_USE int store_open(const char *state_dir, struct store **ret_store,
                        struct pt2_err *err);
/* The same for a check (fsck.h): nothing is made, and the tables stay as they are until
 * store_update; read_only: of the database nothing is written at all.
 * Errors: as store_open; IO where there is no database. */
MUST_USE int store_open_to_check(const char *state_dir, bool read_only,
                                 struct store **ret_store, struct pt2_err *err);
void store_free(struct store *store);
DEFINE_AUTO(store)

#define STORE_VERSION_PTES 3 /* the table ptes came */

/* Of the tables: of the file, and the one that this program brings it to. */
MUST_USE int store_version(struct store *store, int *ret_version, struct pt2_err *err);
int store_newest_version(void);
/* Bring the tables up to date.  Errors: IO, NO_SPACE. */
MUST_USE int store_update(struct store *store, struct pt2_err *err);

const char *store_dir(const struct store *store); /* the state directory, absolute */
/* Bytes of the database on the disk, its log included.  Needs no turn at it. */
uint64_t store_bytes(const struct store *store);
/* Bytes that its file system has left for the daemon.  Errors: IO. */
MUST_USE int store_free_bytes(const struct store *store, uint64_t *ret_bytes,
                              struct pt2_err *err);

/* Several changes as one: all of them are kept, or none.  The calling thread holds the
 * connection from store_begin to store_commit or store_rollback, and may call any module
 * in between; transactions within one another join the outer one.  Keep it short.
 * store_commit rolls back where it fails, or where something within has rolled back.
 * Errors: IO, NO_SPACE. */
MUST_USE int store_begin(struct store *store, struct pt2_err *err);
MUST_USE int store_commit(struct store *store, struct pt2_err *err);
void store_rollback(struct store *store);

#endif
