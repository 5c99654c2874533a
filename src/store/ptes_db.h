/* ptes_db.h - the table of ExecuTorch programs: objects that belong to a program.
 *
 * The same file may be made of several programs.  A row goes with its program; the object
 * goes with its last row (programs.h).  Any thread; waits for the database.
 * Errors of all: IO, NO_SPACE, NOMEM. */
#ifndef STORE_PTES_DB_H
#define STORE_PTES_DB_H

#include "base/sha256.h"
#include "store/store.h"

#include <jansson.h>

/* The program's row must be there; one that is there stays. */
MUST_USE int ptes_db_put(struct store *store, const char *program, const char *sha256,
                         struct pt2_err *err);
MUST_USE int ptes_db_has(struct store *store, const char *sha256, bool *ret_has,
                         struct pt2_err *err);
/* The digests of all that the program has; *ret_list is new, an array of strings. */
MUST_USE int ptes_db_of(struct store *store, const char *program, json_t **ret_list,
                        struct pt2_err *err);
/* No program has it any more. */
MUST_USE int ptes_db_forget(struct store *store, const char *sha256, struct pt2_err *err);
/* The digests of those that no other program has; *ret_list is new, an array of strings. */
MUST_USE int ptes_db_only_of(struct store *store, const char *program, json_t **ret_list,
                             struct pt2_err *err);

#endif
