/* check_archive_big - an archive of more than 4 GiB, which needs zip64 everywhere.
 *
 * The writer leaves its zeros out, so that the file takes no disk.  A few seconds; skipped
 * (77) where the file system has no holes or where PT2_TEST_FAST is set. */
#include "base/log.h"
#include "base/sha256.h"

#include <pt2/archive.h>
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

/* What is read back, holes and all. */
static void hash_file(int fd, uint64_t bytes, uint8_t ret_digest[SHA256_BYTES])
{
    static uint8_t piece[PIECE];
    struct sha256 h;
    ssize_t n;

    sha256_start(&h);
    for (uint64_t at = 0; at < bytes; at += (uint64_t)n) {
        n = pread(fd, piece, PIECE, (off_t)at);
        ASSERT(n > 0);
        sha256_add(&h, piece, (size_t)n);
    }
    sha256_finish(&h, ret_digest);
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

/* Blocks of the file on the disk, of 512 bytes. */
static long blocks_of(int fd)
{
    struct stat st;

    ASSERT(fstat(fd, &st) == 0);
    return (long)st.st_blocks;
}

int main(void)
{
    char path[] = "/tmp/check_archive_big.XXXXXX";
    uint8_t digest[SHA256_BYTES], is[SHA256_BYTES];
    struct pt2_writer *w;
    uint64_t bytes;
    int fd;

    if (getenv("PT2_TEST_FAST"))
        return 77;
    fd = mkstemp(path);
    if (fd >= 0)
        unlink(path);
    if (fd < 0 || ftruncate(fd, (off_t)BIG) < 0 || blocks_of(fd) > 1024)
        return 77;
    ASSERT(ftruncate(fd, 0) == 0);
    must(pt2_writer_new(fd, "m", &w, &err));
    write_big(w);
    must(pt2_writer_finish(w, digest, &bytes, &err));
    pt2_writer_free(w);
    ASSERT(lseek(fd, 0, SEEK_END) == (off_t)bytes && blocks_of(fd) <= 1024);
    hash_file(fd, bytes, is);
    ASSERT(memcmp(is, digest, sizeof(is)) == 0);
    read_big(fd, bytes);
    ask_python(fd);
    close(fd);
    return 0;
}
