/* fsck_impl.h - what the files of fsck share. */
#ifndef STORE_FSCK_IMPL_H
#define STORE_FSCK_IMPL_H

#include "store/fsck_part.h"
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
    json_t *damaged; /* ids of programs, as keys: said to be damaged or gone */
};

/* Errors of all: IO, NO_SPACE, NOMEM: it can't go on. */
MUST_USE int fsck_database(struct fsck *f, struct pt2_err *err);
MUST_USE int fsck_references(struct fsck *f, struct pt2_err *err);
MUST_USE int fsck_objects(struct fsck *f, struct pt2_err *err);
MUST_USE int fsck_uploads(struct fsck *f, struct pt2_err *err);
/* The models of that directory that came over the network. */
MUST_USE int fsck_models(struct fsck *f, const char *dir, struct pt2_err *err);

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
