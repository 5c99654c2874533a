/* builds_db.h - exports found again: which program a key has made.
 *
 * A key is the digest of all that the bytes of an export depend on (jobs/build_key.h).  A
 * row goes with its program.  Any thread; waits for the database.
 * Errors of all: IO, NO_SPACE, NOMEM. */
#ifndef STORE_BUILDS_DB_H
#define STORE_BUILDS_DB_H

#include "base/sha256.h"
#include "store/store.h"

struct build {
    char program[SHA256_HEX];
    char *deviations; /* JSON array */
    char *verify;     /* JSON object; NULL: not verified */
    char *pte;        /* JSON object; NULL: no ExecuTorch program was made */
};
void build_done(struct build *build);

/* *ret_build is written only where *ret_found: build_done. */
MUST_USE int builds_db_find(struct store *store, const char key[SHA256_HEX],
                            bool *ret_found, struct build *ret_build,
                            struct pt2_err *err);
/* The program's row must be there. */
MUST_USE int builds_db_put(struct store *store, const char key[SHA256_HEX],
                           const struct build *build, struct pt2_err *err);
/* All keys of a program, or of a .pte: an export makes it again. */
MUST_USE int builds_db_forget(struct store *store, const char *program,
                              struct pt2_err *err);
MUST_USE int builds_db_forget_pte(struct store *store, const char *sha256,
                                  struct pt2_err *err);

#endif
