#include "jobs/build_key.h"

#include "base/clock.h"
#include "store/files_db.h"
#include "store/programs.h"

#include <pt2/export.h>

#define SLICE_BYTES ((size_t)1 << 20)

struct go_on {
    bool (*fn)(void *ctx, uint64_t done, uint64_t total);
    void *ctx;
    uint64_t done, total; /* bytes of the files that have to be read */
};

/* ---- digests ---- */

static int read_file(const struct pt2_checkpoint *checkpoint, size_t i,
                     struct go_on *go_on, uint8_t ret_sha256[SHA256_BYTES],
                     struct pt2_err *err)
{
    uint64_t bytes = pt2_checkpoint_file(checkpoint, i)->bytes;
    AUTO_PTR char *slice = malloc(SLICE_BYTES);
    struct sha256 h;
    size_t n;

    if (!slice)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a digest's buffer");
    sha256_start(&h);
    for (uint64_t at = 0; at < bytes; at += n) {
        n = (size_t)MIN(bytes - at, (uint64_t)SLICE_BYTES);
        if (pt2_checkpoint_read_file(checkpoint, i, at, slice, n, err) < 0)
            return -1;
        sha256_add(&h, slice, n);
        go_on->done += n;
        if (go_on->fn && !go_on->fn(go_on->ctx, go_on->done, go_on->total))
            return pt2_err_set(err, PT2_ERR_CANCELLED, "the run was stopped");
    }
    sha256_finish(&h, ret_sha256);
    return 0;
}

/* Read, make sure that the file was the same all along, remember. */
static int digest_file(struct store *store, const struct pt2_checkpoint *checkpoint,
                       size_t i, struct go_on *go_on, uint8_t ret_sha256[SHA256_BYTES],
                       struct pt2_err *err)
{
    int64_t read_ms = clock_unix_ms();

    if (read_file(checkpoint, i, go_on, ret_sha256, err) < 0 ||
        pt2_checkpoint_check_unchanged(checkpoint, err) < 0)
        return -1;
    return files_db_remember(store, pt2_checkpoint_file(checkpoint, i), ret_sha256,
                             read_ms, err);
}

/* ---- the key ---- */

/* The bytes that are not remembered. */
static int count_unknown(struct store *store, const struct pt2_checkpoint *checkpoint,
                         uint64_t *ret_bytes, struct pt2_err *err)
{
    const struct pt2_checkpoint_file *file;
    uint8_t sha256[SHA256_BYTES];
    uint64_t bytes = 0;
    bool found;

    for (size_t i = 0; i < pt2_checkpoint_n_files(checkpoint); i++) {
        file = pt2_checkpoint_file(checkpoint, i);
        if (files_db_find(store, file, sha256, &found, err) < 0)
            return -1;
        if (!found && !size_add(bytes, file->bytes, &bytes))
            bytes = UINT64_MAX;
    }
    *ret_bytes = bytes;
    return 0;
}

static void add_line(struct sha256 *h, const char *text)
{
    sha256_add(h, text, strlen(text));
    sha256_add(h, "\n", 1);
}

static int make_key(struct store *store, const struct pt2_checkpoint *checkpoint,
                    const char *options, struct go_on *go_on, char ret_key[SHA256_HEX],
                    struct pt2_err *err)
{
    const struct pt2_checkpoint_file *file;
    uint8_t sha256[SHA256_BYTES];
    struct sha256 h;
    bool found;

    sha256_start(&h);
    add_line(&h, "pt2d build 1");
    add_line(&h, pt2_exporter_version());
    add_line(&h, options);
    for (size_t i = 0; i < pt2_checkpoint_n_files(checkpoint); i++) {
        file = pt2_checkpoint_file(checkpoint, i);
        if (files_db_find(store, file, sha256, &found, err) < 0)
            return -1;
        if (!found && digest_file(store, checkpoint, i, go_on, sha256, err) < 0)
            return -1;
        add_line(&h, file->name);
        sha256_add(&h, sha256, sizeof(sha256));
    }
    sha256_finish(&h, sha256);
    sha256_to_hex(sha256, ret_key);
    return 0;
}

int build_key_quick(struct store *store, const struct pt2_checkpoint *checkpoint,
                    const char *options, uint64_t max_bytes, bool *ret_found,
                    char ret_key[SHA256_HEX], struct pt2_err *err)
{
    struct go_on go_on = {0};

    if (count_unknown(store, checkpoint, &go_on.total, err) < 0)
        return -1;
    *ret_found = go_on.total <= max_bytes;
    return *ret_found ? make_key(store, checkpoint, options, &go_on, ret_key, err) : 0;
}

int build_key(struct store *store, const struct pt2_checkpoint *checkpoint,
              const char *options, bool (*fn)(void *ctx, uint64_t done, uint64_t total),
              void *ctx, char ret_key[SHA256_HEX], struct pt2_err *err)
{
    struct go_on go_on = {.fn = fn, .ctx = ctx};

    if (count_unknown(store, checkpoint, &go_on.total, err) < 0)
        return -1;
    return make_key(store, checkpoint, options, &go_on, ret_key, err);
}

void build_identity(const struct pt2_checkpoint *checkpoint,
                    char ret_identity[SHA256_HEX])
{
    const struct pt2_checkpoint_file *file;
    uint8_t digest[SHA256_BYTES];
    struct sha256 h;

    sha256_start(&h);
    for (size_t i = 0; i < pt2_checkpoint_n_files(checkpoint); i++) {
        file = pt2_checkpoint_file(checkpoint, i);
        add_line(&h, file->name);
        sha256_add(&h, &file->dev, sizeof(file->dev));
        sha256_add(&h, &file->inode, sizeof(file->inode));
        sha256_add(&h, &file->bytes, sizeof(file->bytes));
        sha256_add(&h, &file->mtime_ns, sizeof(file->mtime_ns));
        sha256_add(&h, &file->ctime_ns, sizeof(file->ctime_ns));
    }
    sha256_finish(&h, digest);
    sha256_to_hex(digest, ret_identity);
}

int build_find(const struct jobs_parts *parts, const char key[SHA256_HEX],
               enum whole_wait wait, bool *ret_found, struct build *ret_build,
               struct pt2_err *err)
{
    struct build build;
    bool is_damaged = false;

    if (builds_db_find(parts->store, key, ret_found, &build, err) < 0)
        return -1;
    if (!*ret_found)
        return 0;
    if (programs_settle(parts->programs, build.program, wait, &is_damaged, err) < 0) {
        build_done(&build);
        return -1;
    }
    build_done(&build);
    /* Without those that went with a damaged file. */
    return builds_db_find(parts->store, key, ret_found, ret_build, err);
}
