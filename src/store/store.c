#include "store/store.h"

#include "base/clock.h"
#include "base/log.h"
#include "store/sql.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define STORE_BUSY_MS 10000 /* somebody looks into the file with the sqlite3 command */
#define LOCK_WAIT_MS  2000

struct store {
    char dir[PATH_MAX];
    int lock_fd;
    sqlite3 *db;
    sqlite3_stmt *rollback; /* made beforehand: it is wanted where memory ran out */
    pthread_mutex_t mutex; /* recursive; guards the connection and what follows */
    unsigned depth;        /* of store_begin */
    bool is_doomed;        /* something within the transaction rolled back */
};

/* Each step brings the tables from version i to i + 1; a released one never changes. */
static const char *const migrations[] = {
    /* 0 -> 1 */
    "CREATE TABLE programs ("
    "  seq INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  id TEXT NOT NULL UNIQUE," /* SHA-256 of the file, hex */
    "  bytes INTEGER NOT NULL,"
    "  created INTEGER NOT NULL,"
    "  origin INTEGER NOT NULL," /* enum program_origin */
    "  model TEXT,"
    "  facts TEXT NOT NULL,"          /* JSON: what the archive says of itself */
    "  engines TEXT,"                 /* JSON: the engines' verdicts */
    "  engines_version TEXT) STRICT;" /* that gave them */
    "CREATE TABLE aliases ("
    "  name TEXT PRIMARY KEY,"
    "  program TEXT NOT NULL REFERENCES programs(id),"
    "  changed INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE INDEX aliases_program ON aliases(program);"
    "CREATE TABLE builds (" /* an export found again by its key */
    "  key TEXT PRIMARY KEY,"
    "  program TEXT NOT NULL REFERENCES programs(id) ON DELETE CASCADE,"
    "  deviations TEXT NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE INDEX builds_program ON builds(program);"
    "CREATE TABLE jobs ("
    "  seq INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  id TEXT NOT NULL UNIQUE,"
    "  state INTEGER NOT NULL," /* enum job_state */
    "  model TEXT NOT NULL,"
    "  options TEXT NOT NULL," /* JSON, all resolved */
    "  labels TEXT NOT NULL,"  /* JSON */
    "  attempts INTEGER NOT NULL DEFAULT 0,"
    "  version INTEGER NOT NULL,"
    "  cached INTEGER NOT NULL DEFAULT 0,"
    "  program TEXT,"
    "  deviations TEXT NOT NULL DEFAULT '[]'," /* JSON */
    "  error TEXT,"                            /* JSON, a problem object */
    "  created INTEGER NOT NULL,"
    "  started INTEGER,"
    "  finished INTEGER) STRICT;"
    "CREATE INDEX jobs_state ON jobs(state);"
    "CREATE INDEX jobs_finished ON jobs(finished);"
    "CREATE TABLE sessions ("
    "  id TEXT PRIMARY KEY,"
    "  fate INTEGER NOT NULL," /* enum session_fate */
    "  changed INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE INDEX sessions_changed ON sessions(changed);"
    "CREATE TABLE idempotency ("
    "  owner TEXT NOT NULL,"
    "  path TEXT NOT NULL,"
    "  key TEXT NOT NULL,"
    "  body BLOB NOT NULL," /* SHA-256 of the canonical body */
    "  status INTEGER NOT NULL,"
    "  location TEXT,"
    "  answer TEXT NOT NULL,"
    "  created INTEGER NOT NULL,"
    "  PRIMARY KEY (owner, path, key)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX idempotency_created ON idempotency(created);"
    "CREATE TABLE files (" /* digests of checkpoint files */
    "  dev INTEGER NOT NULL,"
    "  inode INTEGER NOT NULL,"
    "  bytes INTEGER NOT NULL,"
    "  mtime INTEGER NOT NULL,"
    "  ctime INTEGER NOT NULL,"
    "  sha256 BLOB NOT NULL,"
    "  used INTEGER NOT NULL,"
    "  PRIMARY KEY (dev, inode)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX files_used ON files(used);",
    /* 1 -> 2 */
    "ALTER TABLE builds ADD COLUMN verify TEXT;" /* JSON: how it was verified */
    "ALTER TABLE jobs ADD COLUMN verify TEXT;",
    /* 2 -> 3 */
    "ALTER TABLE builds ADD COLUMN pte TEXT;" /* JSON: the ExecuTorch program made of it */
    "ALTER TABLE jobs ADD COLUMN pte TEXT;"
    "CREATE TABLE ptes (" /* ExecuTorch programs that are kept, and of which program */
    "  program TEXT NOT NULL REFERENCES programs(id) ON DELETE CASCADE,"
    "  sha256 TEXT NOT NULL," /* of the file, hex */
    "  PRIMARY KEY (program, sha256)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX ptes_sha256 ON ptes(sha256);",
    /* 3 -> 4 */
    "ALTER TABLE programs ADD COLUMN whole INTEGER NOT NULL DEFAULT 0;" /* enum whole */
    "CREATE TABLE running (since INTEGER NOT NULL) STRICT;", /* a row while a daemon runs */
    /* 4 -> 5 */
    "ALTER TABLE programs ADD COLUMN used INTEGER NOT NULL DEFAULT 0;" /* 0: not since then */
    "ALTER TABLE programs ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0;",
    /* 5 -> 6: whose they are (base/owner.h) */
    "ALTER TABLE jobs ADD COLUMN owner TEXT NOT NULL DEFAULT '';"
    "CREATE INDEX jobs_owner ON jobs(owner);"
    "ALTER TABLE sessions ADD COLUMN owner TEXT NOT NULL DEFAULT '';",
    /* 6 -> 7: how many keys each has, which is asked before each new one */
    "CREATE TABLE idempotency_owners ("
    "  owner TEXT PRIMARY KEY,"
    "  n INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "INSERT INTO idempotency_owners"
    "  SELECT owner, count(*) FROM idempotency GROUP BY owner;"
    "CREATE TRIGGER idempotency_comes AFTER INSERT ON idempotency BEGIN"
    "  INSERT INTO idempotency_owners (owner, n) VALUES (new.owner, 1)"
    "    ON CONFLICT (owner) DO UPDATE SET n = n + 1;"
    "END;"
    "CREATE TRIGGER idempotency_goes AFTER DELETE ON idempotency BEGIN"
    "  UPDATE idempotency_owners SET n = n - 1 WHERE owner = old.owner;"
    "  DELETE FROM idempotency_owners WHERE owner = old.owner AND n <= 0;"
    "END;",
};

const char *store_dir(const struct store *store)
{
    return store->dir;
}

uint64_t store_bytes(const struct store *store)
{
    static const char *const names[] = {"pt2d.db", "pt2d.db-wal", "pt2d.db-shm"};
    char path[PATH_MAX + 16];
    uint64_t bytes = 0;
    struct stat st;

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(path, sizeof(path), "%s/%s", store->dir, names[i]);
        if (stat(path, &st) == 0)
            bytes += (uint64_t)st.st_blocks * 512;
    }
    return bytes;
}

int store_free_bytes(const struct store *store, uint64_t *ret_bytes, struct pt2_err *err)
{
    struct statvfs fs;

    if (statvfs(store->dir, &fs) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", store->dir);
    *ret_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    return 0;
}

static int db_err(struct store *store, struct pt2_err *err, const char *what)
{
    int code = sqlite3_errcode(store->db);

    return pt2_err_set(err,
                       code == SQLITE_FULL    ? PT2_ERR_NO_SPACE
                       : code == SQLITE_NOMEM ? PT2_ERR_NOMEM
                                              : PT2_ERR_IO,
                       "the database: %s: %s", what, sqlite3_errmsg(store->db));
}

static int run(struct store *store, const char *text, struct pt2_err *err)
{
    if (sqlite3_exec(store->db, text, NULL, NULL, NULL) != SQLITE_OK)
        return db_err(store, err, "the statement failed");
    return 0;
}

/* ---- opening ---- */

static int make_dir(const char *state_dir, struct pt2_err *err)
{
    if (mkdir(state_dir, 0700) < 0 && errno != EEXIST)
        return pt2_err_errno(err, PT2_ERR_IO, "state directory '%s'", state_dir);
    return 0;
}

static int find_dir(struct store *store, const char *state_dir, struct pt2_err *err)
{
    if (!realpath(state_dir, store->dir))
        return pt2_err_errno(err, PT2_ERR_IO, "state directory '%s'", state_dir);
    if (strlen(store->dir) > PATH_MAX - 128)
        return pt2_err_set(err, PT2_ERR_IO, "state directory '%.60s…': path too long",
                           store->dir);
    return 0;
}

/* A daemon that was killed may have left a child between fork and exec, which holds the
 * lock a moment longer. */
static bool lock_within(int fd, int64_t ms)
{
    int64_t end = clock_mono_ms() + ms;

    while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK || clock_mono_ms() >= end)
            return false;
        poll(NULL, 0, 20);
    }
    return true;
}

static int take_lock(struct store *store, int flags, struct pt2_err *err)
{
    char path[PATH_MAX + 8];

    snprintf(path, sizeof(path), "%s/lock", store->dir);
    store->lock_fd = open(path, flags | O_CLOEXEC, 0600);
    if (store->lock_fd < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    if (!lock_within(store->lock_fd, LOCK_WAIT_MS)) {
        if (errno == EWOULDBLOCK)
            return pt2_err_set(err, PT2_ERR_IO,
                               "state directory '%s' is in use by another daemon",
                               store->dir);
        return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    }
    return 0;
}

int store_newest_version(void)
{
    return (int)ARRAY_LEN(migrations);
}

int store_version(struct store *store, int *ret_version, struct pt2_err *err)
{
    sqlite3_stmt *stmt = NULL;
    int r = -1;

    if (sqlite3_prepare_v2(store->db, "PRAGMA user_version", -1, &stmt, NULL) ==
            SQLITE_OK &&
        sqlite3_step(stmt) == SQLITE_ROW) {
        *ret_version = sqlite3_column_int(stmt, 0);
        r = 0;
    }
    sqlite3_finalize(stmt);
    return r < 0 ? db_err(store, err, "its version can't be read") : 0;
}

int store_update(struct store *store, struct pt2_err *err)
{
    int version = 0;
    char set_version[48];

    if (store_version(store, &version, err) < 0)
        return -1;
    if (version > (int)ARRAY_LEN(migrations))
        return pt2_err_set(err, PT2_ERR_IO,
                           "%s/pt2d.db is of version %d, this pt2d knows up to %zu",
                           store->dir, version, ARRAY_LEN(migrations));
    for (; version < (int)ARRAY_LEN(migrations); version++) {
        snprintf(set_version, sizeof(set_version), "PRAGMA user_version = %d",
                 version + 1);
        if (store_begin(store, err) < 0)
            return -1;
        if (run(store, migrations[version], err) < 0 ||
            run(store, set_version, err) < 0) {
            store_rollback(store);
            return -1;
        }
        if (store_commit(store, err) < 0)
            return -1;
    }
    return 0;
}

static int open_db(struct store *store, int flags, struct pt2_err *err)
{
    char path[PATH_MAX + 8];
    int r;

    snprintf(path, sizeof(path), "%s/pt2d.db", store->dir);
    r = sqlite3_open_v2(path, &store->db, flags | SQLITE_OPEN_NOMUTEX, NULL);
    if (!store->db)
        return pt2_err_set(err, PT2_ERR_NOMEM, "the database");
    if (r != SQLITE_OK)
        return pt2_err_set(err, PT2_ERR_IO, "%s: %s", path, sqlite3_errmsg(store->db));
    sqlite3_busy_timeout(store->db, STORE_BUSY_MS);
    if (!(flags & SQLITE_OPEN_READONLY) &&
        run(store, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL", err) < 0)
        return -1;
    if (sqlite3_prepare_v2(store->db, "ROLLBACK", -1, &store->rollback, NULL) != SQLITE_OK)
        return db_err(store, err, "a statement");
    return run(store,
               "PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;"
               "PRAGMA cell_size_check = ON",
               err);
}

static struct store *make(void)
{
    struct store *store = calloc(1, sizeof(*store));
    pthread_mutexattr_t attr;

    if (!store)
        return NULL;
    store->lock_fd = -1;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&store->mutex, &attr);
    pthread_mutexattr_destroy(&attr);
    return store;
}

int store_open(const char *state_dir, struct store **ret_store, struct pt2_err *err)
{
    AUTO(store) store = make();

    if (!store)
        return pt2_err_set(err, PT2_ERR_NOMEM, "store");
    if (make_dir(state_dir, err) < 0 || find_dir(store, state_dir, err) < 0 ||
        take_lock(store, O_RDWR | O_CREAT, err) < 0 ||
        open_db(store, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, err) < 0 ||
        store_update(store, err) < 0)
        return -1;
    *ret_store = TAKE(store);
    return 0;
}

int store_open_to_check(const char *state_dir, bool read_only, struct store **ret_store,
                        struct pt2_err *err)
{
    AUTO(store) store = make();

    if (!store)
        return pt2_err_set(err, PT2_ERR_NOMEM, "store");
    if (find_dir(store, state_dir, err) < 0 || take_lock(store, O_RDONLY, err) < 0 ||
        open_db(store, read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE, err) < 0)
        return -1;
    *ret_store = TAKE(store);
    return 0;
}

void store_free(struct store *store)
{
    if (!store)
        return;
    ASSERT(store->depth == 0);
    sqlite3_finalize(store->rollback);
    if (store->db)
        sqlite3_close(store->db);
    if (store->lock_fd >= 0)
        close(store->lock_fd);
    pthread_mutex_destroy(&store->mutex);
    free(store);
}

/* ---- transactions ---- */

/* Outside of store_begin and _end none is open; where one could not be rolled back it is now, or
 * what comes next would be answered and never be committed. */
static int leave_transaction(struct store *store, struct pt2_err *err)
{
    if (sqlite3_get_autocommit(store->db))
        return 0;
    sqlite3_step(store->rollback);
    sqlite3_reset(store->rollback);
    if (sqlite3_get_autocommit(store->db))
        return 0;
    return db_err(store, err, "what failed before can't be rolled back");
}

int store_begin(struct store *store, struct pt2_err *err)
{
    pthread_mutex_lock(&store->mutex);
    if (store->depth == 0) {
        store->is_doomed = false;
        if (leave_transaction(store, err) < 0 || run(store, "BEGIN IMMEDIATE", err) < 0) {
            pthread_mutex_unlock(&store->mutex);
            return -1;
        }
    }
    store->depth++;
    return 0;
}

int store_commit(struct store *store, struct pt2_err *err)
{
    int r = 0;

    ASSERT(store->depth > 0);
    if (--store->depth == 0) {
        if (store->is_doomed)
            r = pt2_err_set(err, PT2_ERR_IO, "the database: a change within failed");
        else
            r = run(store, "COMMIT", err);
        (void)!leave_transaction(store, NULL);
    }
    pthread_mutex_unlock(&store->mutex);
    return r;
}

void store_rollback(struct store *store)
{
    ASSERT(store->depth > 0);
    store->is_doomed = true;
    if (--store->depth == 0)
        (void)!leave_transaction(store, NULL);
    pthread_mutex_unlock(&store->mutex);
}

/* ---- statements ---- */

void sql_open(struct sql *q, struct store *store, const char *text, struct pt2_err *err)
{
    *q = (struct sql){.store = store, .err = err};
    pthread_mutex_lock(&store->mutex);
    if (store->depth == 0 && leave_transaction(store, err) < 0) {
        q->failed = true;
    } else if (sqlite3_prepare_v2(store->db, text, -1, &q->stmt, NULL) != SQLITE_OK) {
        q->failed = true;
        db_err(store, err, text);
    }
}

static void put(struct sql *q, int r)
{
    if (r != SQLITE_OK) {
        q->failed = true;
        db_err(q->store, q->err, "a parameter");
    }
}

void sql_put_text(struct sql *q, const char *text)
{
    if (!q->failed)
        put(q, sqlite3_bind_text(q->stmt, ++q->n_put, text, -1, SQLITE_STATIC));
}

void sql_put_int(struct sql *q, int64_t value)
{
    if (!q->failed)
        put(q, sqlite3_bind_int64(q->stmt, ++q->n_put, value));
}

void sql_put_blob(struct sql *q, const void *data, size_t len)
{
    if (!q->failed)
        put(q, sqlite3_bind_blob64(q->stmt, ++q->n_put, data, len, SQLITE_STATIC));
}

int sql_next(struct sql *q)
{
    int r;

    if (q->failed)
        return -1;
    r = sqlite3_step(q->stmt);
    if (r == SQLITE_ROW)
        return 1;
    if (r == SQLITE_DONE)
        return 0;
    q->failed = true;
    return db_err(q->store, q->err, "a step");
}

const char *sql_text(struct sql *q, int column)
{
    return (const char *)sqlite3_column_text(q->stmt, column);
}

int64_t sql_int(struct sql *q, int column)
{
    return sqlite3_column_int64(q->stmt, column);
}

bool sql_is_null(struct sql *q, int column)
{
    return sqlite3_column_type(q->stmt, column) == SQLITE_NULL;
}

const void *sql_blob(struct sql *q, int column, size_t *ret_len)
{
    const void *data = sqlite3_column_blob(q->stmt, column);

    *ret_len = (size_t)sqlite3_column_bytes(q->stmt, column);
    return data;
}

void sql_done(struct sql *q)
{
    sqlite3_finalize(q->stmt);
    q->stmt = NULL;
    pthread_mutex_unlock(&q->store->mutex);
}

int sql_run(struct sql *q)
{
    int r = sql_next(q);

    ASSERT(r <= 0);
    if (r == 0)
        r = sqlite3_changes(q->store->db);
    sql_done(q);
    return r;
}

int sql_count(struct sql *q, int64_t *ret_n)
{
    int r = sql_next(q);

    *ret_n = r > 0 ? sql_int(q, 0) : 0;
    sql_done(q);
    return r < 0 ? -1 : 0;
}

int sql_run_lazily(struct sql *q)
{
    struct store *store = q->store;
    bool is_alone = store->depth == 0;
    int r;

    pthread_mutex_lock(&store->mutex);
    if (is_alone)
        sqlite3_exec(store->db, "PRAGMA synchronous = NORMAL", NULL, NULL, NULL);
    r = sql_run(q);
    if (is_alone)
        sqlite3_exec(store->db, "PRAGMA synchronous = FULL", NULL, NULL, NULL);
    pthread_mutex_unlock(&store->mutex);
    return r;
}

int64_t sql_last_id(const struct sql *q)
{
    return sqlite3_last_insert_rowid(q->store->db);
}
