/* fsck_impl.h - what the files of fsck share. */
#ifndef STORE_FSCK_IMPL_H
#define STORE_FSCK_IMPL_H

#include "store/fsck.h"
#include "store/objects.h"
#include "store/store.h"

#include <jansson.h>

struct fsck {
    const struct fsck_options *options;
    struct fsck_result *result;
    struct store *store;
    struct objects *objects;
    int version; /* of the tables */
    bool is_unreadable; /* the database: nothing is done that goes by its rows */
};

enum fsck_kind { FSCK_LEFTOVER, FSCK_PROBLEM };

/* "<what was found>: <done>".  done NULL: nothing was done. */
void fsck_found(struct fsck *f, enum fsck_kind kind, const char *done, const char *fmt, ...)
    PT2_PRINTF(4, 5);
/* Remove a leftover where repairing, and say so. */
void fsck_leftover(struct fsck *f, const char *folder, const char *name, const char *why);
void fsck_count_file(struct fsck *f, uint64_t bytes);

/* Errors of all: IO, NO_SPACE, NOMEM: it can't go on. */
MUST_USE int fsck_database(struct fsck *f, struct pt2_err *err);
MUST_USE int fsck_references(struct fsck *f, struct pt2_err *err);
MUST_USE int fsck_objects(struct fsck *f, struct pt2_err *err);
MUST_USE int fsck_uploads(struct fsck *f, struct pt2_err *err);

/* Both in fsck_rows.c: what is forgotten is put into ret_text. */
MUST_USE int fsck_forget_program(struct fsck *f, const char *id, char *ret_text, size_t size,
                                 struct pt2_err *err);
MUST_USE int fsck_forget_pte(struct fsck *f, const char *sha256, char *ret_text, size_t size,
                             struct pt2_err *err);
/* Is there a row of that digest?  "program", ".pte" or NULL; *ret_bytes -1 where not known. */
MUST_USE int fsck_find_row(struct fsck *f, const char *sha256, const char **ret_what,
                           int64_t *ret_bytes, struct pt2_err *err);
/* All digests that have rows; *ret_list is new, an array of strings. */
MUST_USE int fsck_list_rows(struct fsck *f, json_t **ret_list, struct pt2_err *err);

#endif
