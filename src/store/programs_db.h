/* programs_db.h - the table of programs.  Any thread; waits for the database.
 * Errors of all: IO, NO_SPACE, NOMEM. */
#ifndef STORE_PROGRAMS_DB_H
#define STORE_PROGRAMS_DB_H

#include "base/sha256.h"
#include "store/store.h"

struct program_row {
    int64_t seq; /* order of arrival, 1 and up */
    char id[SHA256_HEX];
    int64_t bytes;
    int64_t created_ms;
    int origin;            /* enum program_origin */
    char *model;           /* NULL: not known */
    char *facts;           /* JSON object, program_facts.h */
    char *engines;         /* JSON object of verdicts; NULL: not asked yet */
    char *engines_version; /* that gave them */
};

void program_row_done(struct program_row *row);
#define AUTO_PROGRAM_ROW __attribute__((cleanup(program_row_done))) struct program_row

/* seq and engines are not read.  One that is there stays as it is: *ret_is_new false. */
MUST_USE int programs_db_insert(struct store *store, const struct program_row *row,
                                bool *ret_is_new, struct pt2_err *err);
/* *ret_row must be empty; ret_row may be NULL. */
MUST_USE int programs_db_find(struct store *store, const char *id, bool *ret_found,
                              struct program_row *ret_row, struct pt2_err *err);
/* The first rows in order of seq, after that seq: each(ctx, row) takes what it wants. */
MUST_USE int programs_db_list(struct store *store, int64_t after, int64_t limit,
                              int (*each)(void *ctx, const struct program_row *row,
                                          struct pt2_err *err),
                              void *ctx, struct pt2_err *err);
MUST_USE int programs_db_count(struct store *store, int64_t *ret_n, struct pt2_err *err);
/* Up to max ids that begin with those digits, in order; *ret_n of them. */
MUST_USE int programs_db_match(struct store *store, const char *prefix, size_t max,
                               char (*ret_ids)[SHA256_HEX], size_t *ret_n,
                               struct pt2_err *err);
/* Builds go with it; an alias that points there is an error of the caller's. */
MUST_USE int programs_db_delete(struct store *store, const char *id, bool *ret_found,
                                struct pt2_err *err);

MUST_USE int programs_db_set_engines(struct store *store, const char *id,
                                     const char *engines, const char *version,
                                     struct pt2_err *err);
/* One whose verdicts are of neither version; *ret_found false: none. */
MUST_USE int programs_db_unchecked(struct store *store, const char *version,
                                   const char *other_version, char ret_id[SHA256_HEX],
                                   bool *ret_found, struct pt2_err *err);

#endif
