/* programs_db.h - the table of programs.  Any thread; waits for the database.
 * Errors of all: IO, NO_SPACE, NOMEM. */
#ifndef STORE_PROGRAMS_DB_H
#define STORE_PROGRAMS_DB_H

#include "base/sha256.h"
#include "store/store.h"

/* What is known of a program's file, and of those made of it. */
enum whole {
    DOUBTED, /* an earlier daemon did not come to its end: to be read before it is used */
    WHOLE,   /* it had its digest when it was written, or read after that */
    DAMAGED, /* it has another digest, or is not there */
};

struct program_row {
    int64_t seq; /* order of arrival, 1 and up */
    char id[SHA256_HEX];
    int64_t bytes;
    int64_t created_ms;
    int origin;            /* enum program_origin */
    enum whole whole;
    int64_t used_ms; /* last; when it came where it was not since */
    bool is_pinned;
    char *model;           /* NULL: not known */
    char *facts;           /* JSON object, program_facts.h */
    char *engines;         /* JSON object of verdicts; NULL: not asked yet */
    char *engines_version; /* that gave them */
};

void program_row_done(struct program_row *row);
#define AUTO_PROGRAM_ROW __attribute__((cleanup(program_row_done))) struct program_row

/* seq, engines, whole, used and pinned are not read: it is whole, and not pinned.  One that is there stays as it is: *ret_is_new
 * false. */
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
MUST_USE int programs_db_set_whole(struct store *store, const char *id, enum whole whole,
                                   struct pt2_err *err);
MUST_USE int programs_db_doubt_all(struct store *store, struct pt2_err *err);
/* The newest that is doubted; *ret_found false: none. */
MUST_USE int programs_db_doubted(struct store *store, char ret_id[SHA256_HEX],
                                 bool *ret_found, struct pt2_err *err);
/* It is used now; written without the sync, and only where the last use was longer ago. */
MUST_USE int programs_db_use(struct store *store, const char *id, int64_t now_ms,
                             int64_t every_ms, struct pt2_err *err);
MUST_USE int programs_db_pin(struct store *store, const char *id, bool is_pinned,
                             bool *ret_found, struct pt2_err *err);
struct program_use {
    char id[SHA256_HEX];
    int64_t used_ms;
    bool is_kept; /* pinned, or named by an alias */
};
/* All of them, the one that was used longest ago first. */
MUST_USE int programs_db_by_use(struct store *store,
                                int (*each)(void *ctx, const struct program_use *use,
                                            struct pt2_err *err),
                                void *ctx, struct pt2_err *err);
/* One that is not damaged, whose verdicts are of neither version; *ret_found false: none. */
MUST_USE int programs_db_unchecked(struct store *store, const char *version,
                                   const char *other_version, char ret_id[SHA256_HEX],
                                   bool *ret_found, struct pt2_err *err);

#endif
