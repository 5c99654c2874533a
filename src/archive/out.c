#include "archive/out.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

#define SLICE_BYTES ((size_t)1 << 20)
#define N_SLICES    4
#define HOLE_BYTES  ((size_t)64 << 10) /* the least that is left out */

struct out {
    int fd;
    uint64_t pos;
    bool failed, is_finished;
    bool has_holes; /* zeros may be left out */
    uint8_t *slices; /* (N_SLICES, SLICE_BYTES) */
    size_t len;      /* bytes in the slice that is being filled: n_given % N_SLICES */

    pthread_t thread;
    bool has_thread, has_sync;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    uint64_t n_given, n_hashed; /* slices */
    size_t lens[N_SLICES];
    bool stop;
    bool no_digest;      /* since before the first slice */
    struct sha256 hash; /* the thread's; ours once it has ended */
};

static uint8_t *slice(const struct out *out, uint64_t n)
{
    return out->slices + n % N_SLICES * SLICE_BYTES;
}

static void *hash_slices(void *arg)
{
    struct out *out = arg;

    pthread_mutex_lock(&out->lock);
    for (;;) {
        while (out->n_hashed == out->n_given && !out->stop)
            pthread_cond_wait(&out->changed, &out->lock);
        if (out->n_hashed == out->n_given)
            break;
        pthread_mutex_unlock(&out->lock);
        if (!out->no_digest)
            sha256_add(&out->hash, slice(out, out->n_hashed),
                       out->lens[out->n_hashed % N_SLICES]);
        pthread_mutex_lock(&out->lock);
        out->n_hashed++;
        pthread_cond_signal(&out->changed);
    }
    pthread_mutex_unlock(&out->lock);
    return NULL;
}

/* At the end of a regular file, what is sought over reads as zeros. */
static bool is_at_end(int fd)
{
    off_t at = lseek(fd, 0, SEEK_CUR);
    int flags = fcntl(fd, F_GETFL);
    struct stat st;

    return at >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= at &&
           flags >= 0 && !(flags & O_APPEND);
}

int out_new_behind(int fd, uint64_t pos, const struct sha256 *hash, struct out **ret_out,
                   struct pt2_err *err)
{
    AUTO(out) out = calloc(1, sizeof(*out));
    int e;

    if (!out)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for a writer");
    out->fd = fd;
    out->pos = pos;
    out->hash = *hash;
    if (fd < 0) {
        *ret_out = TAKE(out);
        return 0;
    }
    out->has_holes = is_at_end(fd);
    out->slices = malloc(N_SLICES * SLICE_BYTES);
    if (!out->slices)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for a writer's slices");
    pthread_mutex_init(&out->lock, NULL);
    pthread_cond_init(&out->changed, NULL);
    out->has_sync = true;
    e = pthread_create(&out->thread, NULL, hash_slices, out);
    if (e != 0) {
        errno = e;
        return pt2_err_errno(err, PT2_ERR_INTERNAL, "no thread for a writer's digest");
    }
    out->has_thread = true;
    *ret_out = TAKE(out);
    return 0;
}

int out_new(int fd, struct out **ret_out, struct pt2_err *err)
{
    struct sha256 nothing;

    sha256_start(&nothing);
    return out_new_behind(fd, 0, &nothing, ret_out, err);
}

static void end_thread(struct out *out)
{
    if (!out->has_thread)
        return;
    pthread_mutex_lock(&out->lock);
    out->stop = true;
    pthread_cond_signal(&out->changed);
    pthread_mutex_unlock(&out->lock);
    pthread_join(out->thread, NULL);
    out->has_thread = false;
}

void out_free(struct out *out)
{
    if (!out)
        return;
    end_thread(out);
    if (out->has_sync) {
        pthread_cond_destroy(&out->changed);
        pthread_mutex_destroy(&out->lock);
    }
    free(out->slices);
    free(out);
}

void out_no_digest(struct out *out)
{
    ASSERT(out->n_given == 0 && out->len == 0);
    out->no_digest = true;
}

uint64_t out_pos(const struct out *out)
{
    return out->pos;
}

static int write_all(struct out *out, const uint8_t *data, size_t len,
                     struct pt2_err *err)
{
    while (len > 0) {
        ssize_t n = write(out->fd, data, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            out->failed = true;
            return pt2_err_errno(err, PT2_ERR_IO, "write the archive");
        }
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

/* 64 KiB of zeros, where they may be left out. */
static bool is_hole(const struct out *out, const uint8_t *data, size_t len)
{
    return out->has_holes && len == HOLE_BYTES && data[0] == 0 &&
           memcmp(data, data + 1, len - 1) == 0;
}

/* Write a slice, but seek over what of it is a hole: it is never the file's end, where an
 * archive has a signature. */
static int write_slice(struct out *out, const uint8_t *data, size_t len,
                       struct pt2_err *err)
{
    size_t written = 0, n;

    for (size_t at = 0; at < len; at += n) {
        n = MIN(len - at, HOLE_BYTES);
        if (!is_hole(out, data + at, n))
            continue;
        if (write_all(out, data + written, at - written, err) < 0)
            return -1;
        if (lseek(out->fd, (off_t)n, SEEK_CUR) < 0) {
            out->failed = true;
            return pt2_err_errno(err, PT2_ERR_IO, "write the archive");
        }
        written = at + n;
    }
    return write_all(out, data + written, len - written, err);
}

/* Hand the slice to the thread, write it, and wait until there is a free one. */
static int pass_slice(struct out *out, struct pt2_err *err)
{
    size_t len = out->len;
    const uint8_t *data;

    pthread_mutex_lock(&out->lock);
    data = slice(out, out->n_given);
    out->lens[out->n_given % N_SLICES] = len;
    out->n_given++;
    pthread_cond_signal(&out->changed);
    pthread_mutex_unlock(&out->lock);
    out->len = 0;
    if (write_slice(out, data, len, err) < 0)
        return -1;
    pthread_mutex_lock(&out->lock);
    while (out->n_given - out->n_hashed == N_SLICES)
        pthread_cond_wait(&out->changed, &out->lock);
    pthread_mutex_unlock(&out->lock);
    return 0;
}

/* len bytes from data, or zeros where data is NULL. */
static int add(struct out *out, const uint8_t *data, size_t len, struct pt2_err *err)
{
    ASSERT(!out->is_finished);
    if (out->failed)
        return pt2_err_set(err, PT2_ERR_IO, "writing the archive failed before");
    if (out->fd < 0) {
        out->pos += len;
        return 0;
    }
    while (len > 0) {
        size_t n = MIN(len, SLICE_BYTES - out->len);
        uint8_t *to = slice(out, out->n_given) + out->len; /* only we change n_given */

        if (data) {
            memcpy(to, data, n);
            data += n;
        } else {
            memset(to, 0, n);
        }
        out->len += n;
        out->pos += n;
        len -= n;
        if (out->len == SLICE_BYTES && pass_slice(out, err) < 0)
            return -1;
    }
    return 0;
}

int out_add(struct out *out, const void *data, size_t len, struct pt2_err *err)
{
    static const uint8_t nothing;

    return add(out, data ? data : &nothing, len, err);
}

void out_skip(struct out *out, uint64_t len)
{
    ASSERT(out->fd < 0);
    out->pos += len;
}

int out_add_zeros(struct out *out, size_t len, struct pt2_err *err)
{
    return add(out, NULL, len, err);
}

int out_finish(struct out *out, uint8_t ret_sha256[SHA256_BYTES], struct pt2_err *err)
{
    ASSERT(!out->is_finished);
    if (out->failed)
        return pt2_err_set(err, PT2_ERR_IO, "writing the archive failed before");
    out->is_finished = true;
    if (out->len > 0 && pass_slice(out, err) < 0)
        return -1;
    end_thread(out);
    if (out->fd < 0 || out->no_digest)
        memset(ret_sha256, 0, SHA256_BYTES);
    else
        sha256_finish(&out->hash, ret_sha256);
    return 0;
}
