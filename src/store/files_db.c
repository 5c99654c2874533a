#include "store/files_db.h"

#include "base/clock.h"
#include "store/sql.h"

#define KEEP_ROWS 100000
/* A clock that counts nanoseconds ticks at least every 10 ms on Linux; file systems that
 * keep whole seconds only may round to two of them. */
#define REST_FINE_MS   100
#define REST_COARSE_MS 3000

int files_db_find(struct store *store, const struct pt2_checkpoint_file *file,
                  uint8_t ret_sha256[SHA256_BYTES], bool *ret_found, struct pt2_err *err)
{
    struct sql q;
    const void *digest;
    size_t len;
    int r;

    sql_open(&q, store,
             "SELECT sha256 FROM files WHERE dev = ? AND inode = ? AND bytes = ?"
             " AND mtime = ? AND ctime = ?",
             err);
    sql_put_int(&q, (int64_t)file->dev);
    sql_put_int(&q, (int64_t)file->inode);
    sql_put_int(&q, (int64_t)file->bytes);
    sql_put_int(&q, file->mtime_ns);
    sql_put_int(&q, file->ctime_ns);
    *ret_found = false;
    r = sql_next(&q);
    if (r > 0) {
        digest = sql_blob(&q, 0, &len);
        if (len == SHA256_BYTES) {
            memcpy(ret_sha256, digest, len);
            *ret_found = true;
        }
    }
    sql_done(&q);
    return r < 0 ? -1 : 0;
}

static bool was_at_rest(const struct pt2_checkpoint_file *file, int64_t read_ms)
{
    int64_t last_ms = MAX(file->mtime_ns, file->ctime_ns) / 1000000;
    bool is_fine = file->mtime_ns % 1000000000 != 0 || file->ctime_ns % 1000000000 != 0;

    return last_ms < read_ms - (is_fine ? REST_FINE_MS : REST_COARSE_MS);
}

static int forget_oldest(struct store *store, struct pt2_err *err)
{
    struct sql q;

    sql_open(&q, store,
             "DELETE FROM files WHERE used < ("
             "  SELECT used FROM files ORDER BY used DESC LIMIT 1 OFFSET ?)",
             err);
    sql_put_int(&q, KEEP_ROWS - 1);
    return sql_run_lazily(&q) < 0 ? -1 : 0;
}

int files_db_remember(struct store *store, const struct pt2_checkpoint_file *file,
                      const uint8_t sha256[SHA256_BYTES], int64_t read_ms,
                      struct pt2_err *err)
{
    struct sql q;

    if (!was_at_rest(file, read_ms))
        return 0;
    sql_open(
        &q, store,
        "INSERT OR REPLACE INTO files (dev, inode, bytes, mtime, ctime, sha256, used)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        err);
    sql_put_int(&q, (int64_t)file->dev);
    sql_put_int(&q, (int64_t)file->inode);
    sql_put_int(&q, (int64_t)file->bytes);
    sql_put_int(&q, file->mtime_ns);
    sql_put_int(&q, file->ctime_ns);
    sql_put_blob(&q, sha256, SHA256_BYTES);
    sql_put_int(&q, clock_unix_ms());
    if (sql_run_lazily(&q) < 0)
        return -1;
    return forget_oldest(store, err);
}
