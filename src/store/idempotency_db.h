/* idempotency_db.h - answers kept under their Idempotency-Key for 24 hours.  Any thread;
 * waits for the database.  Errors of all: IO, NO_SPACE, NOMEM. */
#ifndef STORE_IDEMPOTENCY_DB_H
#define STORE_IDEMPOTENCY_DB_H

#include "base/sha256.h"
#include "store/store.h"

/* Whose key: the token's name, the path and the key together.  Borrowed. */
struct idempotency_name {
    const char *owner, *path, *key;
};

struct idempotency_answer {
    uint8_t body[SHA256_BYTES]; /* digest of the request's canonical body */
    unsigned status;
    char *location; /* NULL: none */
    char *answer;   /* JSON */
};
void idempotency_answer_done(struct idempotency_answer *answer);

/* *ret_answer must be empty; written only where *ret_found. */
MUST_USE int idempotency_db_find(struct store *store, const struct idempotency_name *name,
                                 bool *ret_found, struct idempotency_answer *ret_answer,
                                 struct pt2_err *err);
/* May that owner have one key more, where there may be max in all, and half of them are
 * one owner's?  Answers that are too old are forgotten first.
 * Errors: TOKEN_LIMIT (he has his half), QUEUE_FULL (there are max). */
MUST_USE int idempotency_db_check_room(struct store *store, const char *owner, int64_t max,
                                       struct pt2_err *err);
/* How many answers are kept, old ones that nobody has removed yet included. */
MUST_USE int idempotency_db_count(struct store *store, int64_t *ret_n,
                                  struct pt2_err *err);
/* Replaces what is there, and forgets answers that are too old. */
MUST_USE int idempotency_db_put(struct store *store, const struct idempotency_name *name,
                                const struct idempotency_answer *answer,
                                struct pt2_err *err);
MUST_USE int idempotency_db_remove(struct store *store,
                                   const struct idempotency_name *name,
                                   struct pt2_err *err);

#endif
