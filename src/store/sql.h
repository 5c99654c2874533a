/* sql.h - statements on the store's connection, for the modules with a table.
 *
 *     struct sql q;
 *
 *     sql_open(&q, store, "SELECT bytes FROM programs WHERE id = ?", err);
 *     sql_put_text(&q, id);
 *     while ((r = sql_next(&q)) > 0)
 *         bytes = sql_int(&q, 0);
 *     sql_done(&q);
 *
 * The connection is held from sql_open to sql_done.  Any thread, each with its own struct
 * sql.  The first failure sticks: later calls do nothing, and sql_next and sql_run answer
 * -1, with err set: NO_SPACE for a full disk, otherwise IO. */
#ifndef STORE_SQL_H
#define STORE_SQL_H

#include "store/store.h"

#include <sqlite3.h>

struct sql {
    struct store *store;
    sqlite3_stmt *stmt; /* NULL: could not be prepared */
    int n_put;
    bool failed;
    struct pt2_err *err;
};

void sql_open(struct sql *q, struct store *store, const char *text, struct pt2_err *err);
/* The next parameter, in their order; NULL text is a NULL.  Text and blob are borrowed
 * until sql_done. */
void sql_put_text(struct sql *q, const char *text);
void sql_put_int(struct sql *q, int64_t value);
void sql_put_blob(struct sql *q, const void *data, size_t len);
/* 1: a row, 0: no more, -1: failed. */
MUST_USE int sql_next(struct sql *q);
/* The columns of the row, from 0; text and blob until the next call on q.  sql_text is
 * NULL for a NULL. */
const char *sql_text(struct sql *q, int column);
int64_t sql_int(struct sql *q, int column);
bool sql_is_null(struct sql *q, int column);
const void *sql_blob(struct sql *q, int column, size_t *ret_len);
void sql_done(struct sql *q);

/* Run a statement that answers no rows, and sql_done.  Returns the number of rows
 * changed, or -1. */
MUST_USE int sql_run(struct sql *q);
/* The same, but not synced: it may be forgotten by a power cut, never by a killed
 * process. Not within a transaction. */
MUST_USE int sql_run_lazily(struct sql *q);
/* Run a statement that answers one row with one integer, a count, and sql_done. */
MUST_USE int sql_count(struct sql *q, int64_t *ret_n);
/* The row id of the last INSERT; within a transaction. */
int64_t sql_last_id(const struct sql *q);

#endif
