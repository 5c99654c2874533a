/* aliases_db.h - names that point to programs and can be moved.  Any thread; waits for
 * the database.  Errors of all: IO, NO_SPACE, NOMEM, and what is said. */
#ifndef STORE_ALIASES_DB_H
#define STORE_ALIASES_DB_H

#include "base/sha256.h"
#include "store/store.h"

#define ALIAS_SIZE 65 /* 64 characters and the '\0' */

struct alias {
    char name[ALIAS_SIZE];
    char program[SHA256_HEX]; /* full id */
    int64_t changed_ms;
};

/* [a-z][a-z0-9._-]{0,63}, and nothing that a program's or an export's id could be: not 8
 * or more hex digits, not exp_…  Errors: INVALID (says which rule). */
MUST_USE int alias_check_name(const char *name, struct pt2_err *err);

MUST_USE int aliases_db_find(struct store *store, const char *name, bool *ret_found,
                             struct alias *ret_alias, struct pt2_err *err);
/* What must hold of the name, so that it is pointed elsewhere. */
enum alias_if { ALIAS_IF_ANY, ALIAS_IF_NEW, ALIAS_IF_THERE };

/* Point it there, at once.  Errors: NOT_FOUND (the program), PRECONDITION (condition),
 * QUEUE_FULL (it would be new, and there are max). */
MUST_USE int aliases_db_put(struct store *store, const char *name, const char *program,
                            int64_t max, enum alias_if condition, bool *ret_is_new,
                            struct pt2_err *err);
MUST_USE int aliases_db_count(struct store *store, int64_t *ret_n, struct pt2_err *err);
MUST_USE int aliases_db_delete(struct store *store, const char *name, bool *ret_found,
                               struct pt2_err *err);
/* Up to limit of them by name, after that one ("": from the first). */
MUST_USE int aliases_db_list(struct store *store, const char *after, int64_t limit,
                             int (*each)(void *ctx, const struct alias *alias,
                                         struct pt2_err *err),
                             void *ctx, struct pt2_err *err);
/* One of the aliases of a program; *ret_found false: it has none. */
MUST_USE int aliases_db_of(struct store *store, const char *program, bool *ret_found,
                           char ret_name[ALIAS_SIZE], struct pt2_err *err);

#endif
