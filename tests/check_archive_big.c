/* check_archive_big - an archive of more than 4 GiB, which needs zip64 everywhere.
 *
 * It is written through a pipe whose other end skips zeros, so that the file is sparse
 * and takes no disk.  A few seconds; skipped (77) where the file system has no holes or
 * where PT2_TEST_FAST is set. */
#include "base/log.h"
#include "base/sha256.h"

#include <fcntl.h>
#include <pt2/archive.h>
#include <pthread.h>
#include <sys/stat.h>

#define BIG   ((UINT64_C(4) << 30) + 4096) /* bytes of the first tensor */
#define PIECE ((size_t)1 << 20)

static struct pt2_err err;

static void must(int r)
{
    if (r < 0)
        log_error("%s", err.text);
    ASSERT(r == 0);
}

struct sink {
    int from, to;
    bool failed;
};

/* Copy the pipe to the file, blocks of zeros as holes. */
static void *run_sink(void *arg)
{
    static const char zeros[1 << 16];
    static char block[1 << 16];
    struct sink *s = arg;
    off_t at = 0;
    ssize_t n;

    while ((n = read(s->from, block, sizeof(block))) > 0) {
        if (memcmp(block, zeros, (size_t)n) != 0 &&
            pwrite(s->to, block, (size_t)n, at) != n)
            s->failed = true;
        at += n;
    }
    s->failed |= n < 0 || ftruncate(s->to, at) < 0;
    return NULL;
}

static void write_big(struct pt2_writer *w)
{
    const struct pt2_payload_entry entries[] = {
        {.fqn = "big", .dtype = PT2_INT8, .n_dims = 1, .sizes = {BIG}},
        {.fqn = "behind", .record = 1, .dtype = PT2_INT8, .n_dims = 1, .sizes = {6}}};
    static char zeros[PIECE];

    must(pt2_writer_fixed(w, &err));
    must(pt2_writer_model(w, "{}", 2, &err));
    must(pt2_writer_begin_tensor(w, PT2_TABLE_WEIGHTS, 0, BIG, &err));
    for (uint64_t left = BIG; left > 0; left -= MIN(left, PIECE))
        must(pt2_writer_add(w, zeros, MIN(left, PIECE), &err));
    must(pt2_writer_end(w, &err));
    must(pt2_writer_begin_tensor(w, PT2_TABLE_WEIGHTS, 1, 6, &err));
    must(pt2_writer_add(w, "behind", 6, &err));
    must(pt2_writer_end(w, &err));
    must(pt2_writer_payloads(w, PT2_TABLE_WEIGHTS, entries, ARRAY_LEN(entries), &err));
    must(pt2_writer_payloads(w, PT2_TABLE_CONSTANTS, NULL, 0, &err));
}

static void read_big(int fd, uint64_t bytes)
{
    const struct pt2_payload *p;
    struct pt2_archive *a;
    void *data;
    size_t len;

    must(pt2_archive_open_fd(fd, "big", &a, &err));
    p = pt2_archive_find_payload(a, "big");
    ASSERT(p->record->size == BIG && p->record->offset % PT2_TENSOR_ALIGN == 0);
    p = pt2_archive_find_payload(a, "behind");
    ASSERT(p->record->offset > BIG && p->record->offset < bytes);
    must(pt2_archive_read(a, p->record, 6, &data, &len, &err));
    ASSERT(len == 6 && memcmp(data, "behind", 6) == 0);
    free(data);
    pt2_archive_free(a);
}

/* Python's zipfile, where there is one, sees the same records. */
static void ask_python(int fd)
{
    char command[500];

    snprintf(command, sizeof(command),
             "command -v python3 >/dev/null || exit 0; python3 -c 'import sys, zipfile\n"
             "z = zipfile.ZipFile(sys.argv[1])\n"
             "sys.exit(z.getinfo(\"m/data/weights/weight_0\").file_size != %llu or "
             "z.read(\"m/data/weights/weight_1\") != b\"behind\")' /proc/%d/fd/%d",
             (unsigned long long)BIG, (int)getpid(), fd);
    ASSERT(system(command) == 0);
}

int main(void)
{
    char path[] = "/tmp/check_archive_big.XXXXXX";
    uint8_t digest[SHA256_BYTES];
    struct pt2_writer *w;
    struct sink sink = {0};
    struct stat st;
    pthread_t thread;
    uint64_t bytes;
    int fds[2];

    if (getenv("PT2_TEST_FAST"))
        return 77;
    sink.to = mkstemp(path);
    if (sink.to < 0 || ftruncate(sink.to, (off_t)BIG * 2) < 0 ||
        fstat(sink.to, &st) < 0 || st.st_blocks > 1024) {
        unlink(path);
        return 77;
    }
    ASSERT(ftruncate(sink.to, 0) == 0 && pipe(fds) == 0);
    fcntl(fds[1], F_SETPIPE_SZ, 1 << 20); /* faster; may fail */
    sink.from = fds[0];
    ASSERT(pthread_create(&thread, NULL, run_sink, &sink) == 0);
    must(pt2_writer_new(fds[1], "m", &w, &err));
    write_big(w);
    must(pt2_writer_finish(w, digest, &bytes, &err));
    pt2_writer_free(w);
    close(fds[1]);
    pthread_join(thread, NULL);
    ASSERT(!sink.failed);
    read_big(sink.to, bytes);
    ask_python(sink.to);
    return 0;
}
