#include "suite.h"

#include "alloc_fail.h"
#include "base/sha256.h"
#include "base/util.h"
#include "cases.h"

#include <fcntl.h>
#include <pt2/archive.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define OK(call) ck_assert_msg((call) == 0, "%s", err.text)

static struct pt2_err err;
static char path[64]; /* a scratch file */

static void setup(void)
{
    int fd;

    err = (struct pt2_err){0};
    snprintf(path, sizeof(path), "/tmp/check_archive.XXXXXX");
    fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    close(fd);
}

static void teardown(void)
{
    unlink(path);
}

/* The bytes of a file of tests/data. */
static char *slurp(const char *name, size_t *ret_len)
{
    char full[400], *data;
    struct stat st;
    FILE *f;

    snprintf(full, sizeof(full), "%s%s%s", *name == '/' ? "" : test_data(),
             *name == '/' ? "" : "/", name);
    f = fopen(full, "rb");
    ck_assert_msg(f && fstat(fileno(f), &st) == 0, "%s", full);
    data = malloc((size_t)st.st_size + 1);
    ck_assert_uint_eq(fread(data, 1, (size_t)st.st_size, f), (size_t)st.st_size);
    fclose(f);
    *ret_len = (size_t)st.st_size;
    return data;
}

/* Open the archive that these bytes are, from memory: /tmp may be slow. */
static int open_bytes(const char *data, size_t len, struct pt2_archive **ret_archive)
{
    AUTO_FD int fd = memfd_create("archive", MFD_CLOEXEC);

    ck_assert(fd >= 0 && write(fd, data, len) == (ssize_t)len);
    return pt2_archive_open_fd(fd, "bytes", ret_archive, &err);
}

static struct pt2_archive *open_data(const char *name)
{
    struct pt2_archive *archive;
    char full[400];

    snprintf(full, sizeof(full), "%s/%s", test_data(), name);
    OK(pt2_archive_open(full, &archive, &err));
    return archive;
}

/* Catches a reader that is stricter than the formats that others write: deflated records,
 * descriptors with and without a signature, zip64 fields where none is needed. */
START_TEST(test_archive_unusual_but_good_ones_open)
{
    static const char *const names[] = {
        "plain",         "deflated",   "comment",         "folders",
        "root-unusual",  "line-ends",  "zip64-end",       "zip64-end-needless",
        "zip64-sizes",   "descriptor", "descriptor-bare", "descriptor-wide",
        "extra-padding",
    };
    const float expected[] = {1, 2};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const struct pt2_payload *w;
        struct pt2_archive *a;
        void *data;
        char name[64];
        size_t len;

        snprintf(name, sizeof(name), "archive-valid/%s.pt2", names[i]);
        a = open_data(name);
        ck_assert_uint_eq(pt2_archive_n_records(a), 8);
        w = pt2_archive_find_payload(a, "w");
        ck_assert_ptr_nonnull(w);
        OK(pt2_archive_read(a, w->record, 100, &data, &len, &err));
        ck_assert_mem_eq(data, expected, sizeof(expected));
        ck_assert(!pt2_archive_data(a, w->record) == streq(names[i], "deflated"));
        free(data);
        OK(pt2_archive_verify(a, &err));
        pt2_archive_free(a);
    }
}
END_TEST

/* What torch 2.13.0 wrote: archive-valid/make_torch.py. */
START_TEST(test_archive_pythons_archive_opens)
{
    struct pt2_archive *a = open_data("archive-valid/torch.pt2");
    const struct pt2_payload *p = pt2_archive_find_payload(a, "l.weight");
    const float *data = pt2_archive_data(a, p->record);
    void *extra;
    size_t len;

    ck_assert_str_eq(pt2_archive_root(a), "torch");
    ck_assert_uint_eq(pt2_archive_n_payloads(a), 4);
    ck_assert(p->is_param && !p->is_constant && p->dtype == PT2_FLOAT32 &&
              p->n_dims == 2);
    ck_assert(p->record->offset % PT2_TENSOR_ALIGN == 0 && data[15] == 15);
    p = pt2_archive_find_payload(a, "d");
    ck_assert(!p->is_param && p->sizes[0] == 3 && p->sizes[1] == 2);
    ck_assert(p->strides[0] == 1 && p->strides[1] == 3);
    p = pt2_archive_find_payload(a, "c");
    ck_assert(p->is_constant && !p->is_zeros && p->record->size == 24);
    ck_assert_ptr_null(pt2_archive_find_payload(a, "e"));
    OK(pt2_archive_read(a, pt2_archive_find(a, "extra/foo.txt"), 5, &extra, &len, &err));
    ck_assert_str_eq(extra, "hello");
    free(extra);
    OK(pt2_archive_verify(a, &err));
    pt2_archive_free(a);
}
END_TEST

START_TEST(test_archive_payloads_of_every_kind)
{
    struct pt2_archive *a = open_data("archive-valid/payloads.pt2");
    const struct pt2_payload *p = pt2_archive_find_payload(a, "zeros");

    ck_assert(p->is_zeros && p->is_constant && p->dtype == PT2_BFLOAT16 &&
              p->n_dims == 4);
    ck_assert_ptr_eq(pt2_archive_find_payload(a, "w")->record,
                     pt2_archive_find_payload(a, "tied")->record);
    p = pt2_archive_find_payload(a, "scalar");
    ck_assert(p->n_dims == 0 && p->storage_offset == 5 && !p->is_zeros);
    p = pt2_archive_payload(a, pt2_archive_n_payloads(a) - 1);
    ck_assert_msg(p->is_constant, "constants come last");
    pt2_archive_free(a);
}
END_TEST

/* ---- writing ---- */

/* A tensor's bytes, so that no two places look alike. */
static uint8_t *pattern(size_t len)
{
    uint8_t *data = malloc(len + 1);

    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)(i * 7 + i / 251);
    return data;
}

static bool has_more; /* the two records of add_more are there too */

static int add_more(struct pt2_writer *w, int i)
{
    return i == 0 ? pt2_writer_record(w, "extra/y", "text\n", 5, 1, &err)
                  : pt2_writer_record(w, "extra/z", "", 0, 64, &err);
}

static const uint64_t written_sizes[] = {64, 0, 4, 3 << 20, 1 << 20, 8, 12};

static bool no_digest; /* of write_archive */

/* Write an archive of tensors to path, their bytes in pieces of `piece`; 0: count what it
 * would be. */
static int write_archive(size_t piece, uint8_t digest[SHA256_BYTES], uint64_t *bytes)
{
    struct pt2_payload_entry entries[ARRAY_LEN(written_sizes)];
    AUTO_PTR uint8_t *data = pattern(3 << 20);
    AUTO_FD int fd = piece ? open(path, O_WRONLY | O_TRUNC) : -1;
    struct pt2_writer *w;
    char names[ARRAY_LEN(written_sizes)][32];
    int r;

    if (pt2_writer_new(fd, "model", &w, &err) < 0)
        return -1;
    if (no_digest)
        pt2_writer_no_digest(w);
    r = pt2_writer_fixed(w, &err);
    r = r ? r : pt2_writer_model(w, "{}", 2, &err);
    for (uint32_t i = 0; i < ARRAY_LEN(entries) && !r; i++) {
        snprintf(names[i], sizeof(names[i]), "layers.%u.\"q\"\n\xc3\xa9", i);
        entries[i] =
            (struct pt2_payload_entry){.fqn = names[i],
                                       .record = i,
                                       .dtype = PT2_FLOAT32,
                                       .n_dims = 2,
                                       .sizes = {1, (int64_t)written_sizes[i] / 4},
                                       .is_param = true};
        r = pt2_writer_begin_tensor(w, PT2_TABLE_WEIGHTS, i, written_sizes[i], &err);
        if (piece == 0)
            r = r ? r : pt2_writer_skip(w, written_sizes[i], &err);
        for (uint64_t at = 0; piece && at < written_sizes[i] && !r; at += piece)
            r = pt2_writer_add(w, data + at, MIN(piece, written_sizes[i] - at), &err);
        r = r ? r : pt2_writer_end(w, &err);
    }
    r = r ? r
          : pt2_writer_payloads(w, PT2_TABLE_WEIGHTS, entries, ARRAY_LEN(entries), &err);
    r = r ? r : pt2_writer_payloads(w, PT2_TABLE_CONSTANTS, NULL, 0, &err);
    r = r ? r : pt2_writer_record(w, "extra/\xc3\xa9.txt", "text", 4, 1, &err);
    for (int i = 0; has_more && i < 2; i++)
        r = r ? r : add_more(w, i);
    r = r ? r : pt2_writer_finish(w, digest, bytes, &err);
    pt2_writer_free(w);
    return r;
}

/* What slices were given, one behind the other. */
struct taken {
    uint8_t *data; /* room for 3 MiB */
    size_t len, n_slices;
    size_t fail_at; /* this slice; 0: none */
};

static int take(void *ctx, const void *bytes, size_t len, struct pt2_err *e)
{
    struct taken *taken = ctx;

    ck_assert_uint_le(len, PT2_ARCHIVE_SLICE);
    if (++taken->n_slices == taken->fail_at)
        return pt2_err_set(e, PT2_ERR_CANCELLED, "enough");
    ck_assert_uint_eq(taken->len, (taken->n_slices - 1) * PT2_ARCHIVE_SLICE);
    memcpy(taken->data + taken->len, bytes, len);
    taken->len += len;
    return 0;
}

/* Full slices and a rest, of the file and of what is inflated; a file that was cut short
 * meanwhile is an error, not a fault. */
START_TEST(test_archive_slices)
{
    AUTO_PTR uint8_t *data = pattern(3 << 20), *room = malloc(3 << 20);
    struct taken taken = {.data = room};
    uint8_t digest[SHA256_BYTES];
    const struct pt2_record *big;
    struct pt2_archive *a;
    uint64_t bytes;

    OK(write_archive(70000, digest, &bytes));
    OK(pt2_archive_open(path, &a, &err));
    big = pt2_archive_find(a, "data/weights/weight_3");
    ck_assert_uint_eq(big->size, 3 << 20);
    OK(pt2_archive_slices(a, big, take, &taken, &err));
    ck_assert_uint_eq(taken.n_slices, (3 << 20) / PT2_ARCHIVE_SLICE);
    ck_assert_mem_eq(room, data, 3 << 20);

    taken = (struct taken){.data = room, .fail_at = 2};
    ck_assert_int_eq(pt2_archive_slices(a, big, take, &taken, &err), -1);
    ck_assert(err.code == PT2_ERR_CANCELLED && taken.n_slices == 2);
    pt2_err_clear(&err);

    ck_assert_int_eq(truncate(path, (off_t)big->offset + 300000), 0);
    taken = (struct taken){.data = room};
    ck_assert_int_eq(pt2_archive_slices(a, big, take, &taken, &err), -1);
    ck_assert_msg(strstr(err.text, "'data/weights/weight_3': the file has become shorter"),
                  "%s", err.text);
    pt2_err_clear(&err);
    pt2_archive_free(a);

    a = open_data("archive-valid/deflated.pt2");
    taken = (struct taken){.data = room};
    OK(pt2_archive_slices(a, pt2_archive_find_payload(a, "w")->record, take, &taken, &err));
    ck_assert_uint_eq(taken.len, 8);
    ck_assert_mem_eq(room, ((const float[]){1, 2}), 8);
    pt2_archive_free(a);
}
END_TEST

/* Catches wrong padding, wrong CRCs and sizes, bytes lost between slices. */
START_TEST(test_archive_what_is_written_reads_back)
{
    AUTO_PTR uint8_t *data = pattern(3 << 20);
    uint8_t digest[SHA256_BYTES], same[SHA256_BYTES];
    struct pt2_archive *a;
    AUTO_PTR char *file = NULL;
    uint64_t bytes;
    size_t len;

    OK(write_archive(70000, digest, &bytes));
    OK(pt2_archive_open(path, &a, &err));
    OK(pt2_archive_verify(a, &err));
    ck_assert_str_eq(pt2_archive_root(a), "model");
    ck_assert_uint_eq(pt2_archive_n_payloads(a), ARRAY_LEN(written_sizes));
    for (size_t i = 0; i < ARRAY_LEN(written_sizes); i++) {
        const struct pt2_payload *p = pt2_archive_payload(a, i);

        ck_assert_uint_eq(p->record->offset % PT2_TENSOR_ALIGN, 0);
        ck_assert_uint_eq(p->record->size, written_sizes[i]);
        ck_assert(p->is_zeros == (written_sizes[i] == 0) && p->is_param);
        ck_assert_mem_eq(pt2_archive_data(a, p->record), data, written_sizes[i]);
        ck_assert_int_eq(p->fqn[7], (int)('0' + i));
        ck_assert_str_eq(p->fqn + 8, ".\"q\"\n\xc3\xa9");
    }
    ck_assert_ptr_nonnull(pt2_archive_find(a, "extra/\xc3\xa9.txt"));
    pt2_archive_free(a);
    file = slurp(path, &len);
    ck_assert_uint_eq(len, bytes);
    sha256_of(file, len, same);
    ck_assert_mem_eq(same, digest, SHA256_BYTES);
}
END_TEST

START_TEST(test_archive_same_records_same_bytes)
{
    uint8_t one[SHA256_BYTES], two[SHA256_BYTES];
    uint64_t bytes;

    OK(write_archive(1, one, &bytes));
    OK(write_archive(1 << 22, two, &bytes));
    ck_assert_mem_eq(one, two, SHA256_BYTES);
}
END_TEST

START_TEST(test_archive_without_a_digest)
{
    static const uint8_t zeros[SHA256_BYTES];
    uint8_t digest[SHA256_BYTES], same[SHA256_BYTES];
    AUTO_PTR char *file = NULL;
    uint64_t bytes;
    size_t len;

    no_digest = true;
    OK(write_archive(70000, same, &bytes));
    no_digest = false;
    ck_assert_mem_eq(same, zeros, SHA256_BYTES);
    file = slurp(path, &len);
    sha256_of(file, len, same);
    OK(write_archive(70000, digest, &bytes));
    ck_assert_mem_eq(same, digest, SHA256_BYTES);
}
END_TEST

/* Holes where nothing was before; over what is there, zeros are written. */
START_TEST(test_archive_zeros_are_zeros)
{
    enum { N = 3 << 20 };
    AUTO_PTR uint8_t *data = calloc(1, N), *old = malloc(2 * N);
    uint8_t digests[2][SHA256_BYTES], same[SHA256_BYTES];
    struct pt2_writer *w;
    uint64_t bytes;
    size_t len;

    memset(data, 1, 1 << 16);
    memset(data + (1 << 20) + 5, 2, 100);
    memset(old, 'x', 2 * N);
    for (int is_over = 0; is_over < 2; is_over++) {
        AUTO_FD int fd = open(path, O_RDWR | O_TRUNC | O_CLOEXEC);
        AUTO_PTR char *file = NULL;

        if (is_over)
            ck_assert(write(fd, old, 2 * N) == 2 * N && lseek(fd, 0, SEEK_SET) == 0);
        OK(pt2_writer_new(fd, "model", &w, &err));
        OK(pt2_writer_record(w, "a", data, N, 64, &err));
        OK(pt2_writer_finish(w, digests[is_over], &bytes, &err));
        pt2_writer_free(w);
        ck_assert_int_eq(ftruncate(fd, (off_t)bytes), 0);
        file = slurp(path, &len);
        sha256_of(file, len, same);
        ck_assert_mem_eq(same, digests[is_over], SHA256_BYTES);
    }
    ck_assert_mem_eq(digests[0], digests[1], SHA256_BYTES);
}
END_TEST

/* A dry run says the size to the byte. */
START_TEST(test_archive_counting_is_exact)
{
    static const uint8_t zeros[SHA256_BYTES];
    uint8_t digest[SHA256_BYTES];
    uint64_t bytes, counted;

    OK(write_archive(1 << 20, digest, &bytes));
    OK(write_archive(0, digest, &counted));
    ck_assert_uint_eq(counted, bytes);
    ck_assert_mem_eq(digest, zeros, SHA256_BYTES);
}
END_TEST

/* Records added later: the same bytes as if one writer had written all. */
START_TEST(test_archive_goes_on_where_it_ended)
{
    uint8_t at_once[SHA256_BYTES], was[SHA256_BYTES], later[SHA256_BYTES];
    uint64_t bytes, bytes_later;
    struct pt2_archive *a;
    struct pt2_writer *w;
    int fd = open(path, O_RDWR);

    has_more = true;
    OK(write_archive(1 << 20, at_once, &bytes));
    has_more = false;
    OK(write_archive(1 << 20, later, &bytes_later));
    for (int i = 0; i < 2; i++) {
        OK(pt2_writer_reopen(fd, &w, was, &err));
        ck_assert_mem_eq(was, later, SHA256_BYTES);
        OK(add_more(w, i));
        OK(pt2_writer_finish(w, later, &bytes_later, &err));
        pt2_writer_free(w);
    }
    ck_assert_mem_eq(later, at_once, SHA256_BYTES);
    ck_assert_uint_eq(bytes_later, bytes);

    OK(pt2_archive_open(path, &a, &err));
    OK(pt2_archive_verify(a, &err));
    ck_assert_ptr_nonnull(pt2_archive_find(a, "extra/y"));
    pt2_archive_free(a);
    OK(pt2_writer_reopen(fd, &w, was, &err));
    ck_assert_int_eq(pt2_writer_record(w, "extra/y", "", 0, 1, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_INVALID);
    pt2_err_clear(&err);
    pt2_writer_free(w);
    close(fd);
}
END_TEST

/* What is no archive, or has what our writer does not write, stays as it is. */
START_TEST(test_archive_goes_on_with_its_own_alone)
{
    char full[400];
    uint8_t was[SHA256_BYTES];
    struct pt2_writer *w;
    struct stat before, after;
    AUTO_FD int fd = -1;

    snprintf(full, sizeof(full), "cp '%s/archive-valid/deflated.pt2' '%s'", test_data(),
             path);
    ck_assert_int_eq(system(full), 0);
    for (int i = 0; i < 2; i++) {
        fd = open(path, O_RDWR);
        ck_assert_int_eq(fstat(fd, &before), 0);
        pt2_err_clear(&err);
        ck_assert_int_eq(pt2_writer_reopen(fd, &w, was, &err), -1);
        ck_assert_int_eq(err.code, PT2_ERR_BAD_ARCHIVE);
        ck_assert_int_eq(fstat(fd, &after), 0);
        ck_assert_int_eq(before.st_size, after.st_size);
        ck_assert_int_eq(ftruncate(fd, before.st_size - 1), 0);
        close(TAKE_FD(fd));
    }
}
END_TEST

/* The judgement of others, where they are installed. */
START_TEST(test_archive_other_tools_take_it)
{
    uint8_t digest[SHA256_BYTES];
    uint64_t bytes;
    char command[500];

    OK(write_archive(1 << 20, digest, &bytes));
    snprintf(command, sizeof(command),
             "command -v unzip >/dev/null || exit 0; unzip -tq %s >/dev/null", path);
    ck_assert_msg(system(command) == 0, "%s", command);
    snprintf(command, sizeof(command),
             "command -v python3 >/dev/null || exit 0; python3 -c 'import sys, zipfile\n"
             "z = zipfile.ZipFile(sys.argv[1])\n"
             "sys.exit(z.testzip() is not None or len(z.namelist()) != 16 or "
             "z.read(\"model/extra/\\u00e9.txt\") != b\"text\")' %s",
             path);
    ck_assert_msg(system(command) == 0, "%s", command);
}
END_TEST

/* More than 65535 records need a zip64 end record. */
START_TEST(test_archive_many_records)
{
    const uint32_t n = 66000;
    uint8_t digest[SHA256_BYTES];
    struct pt2_archive *a;
    struct pt2_writer *w;
    uint64_t bytes;
    char name[32];
    int fd = open(path, O_WRONLY);

    OK(pt2_writer_new(fd, "m", &w, &err));
    OK(pt2_writer_fixed(w, &err));
    OK(pt2_writer_model(w, "{}", 2, &err));
    OK(pt2_writer_payloads(w, PT2_TABLE_WEIGHTS, NULL, 0, &err));
    OK(pt2_writer_payloads(w, PT2_TABLE_CONSTANTS, NULL, 0, &err));
    for (uint32_t i = 0; i < n; i++) {
        snprintf(name, sizeof(name), "extra/%u", i);
        OK(pt2_writer_record(w, name, name, 1, 1, &err));
    }
    OK(pt2_writer_finish(w, digest, &bytes, &err));
    pt2_writer_free(w);
    close(fd);
    OK(pt2_archive_open(path, &a, &err));
    ck_assert_uint_eq(pt2_archive_n_records(a), n + 8);
    ck_assert_ptr_nonnull(pt2_archive_find(a, "extra/65999"));
    pt2_archive_free(a);
}
END_TEST

/* ---- limits ---- */

START_TEST(test_archive_read_keeps_to_its_limit)
{
    struct pt2_archive *a = open_data("archive-valid/deflated.pt2");
    const struct pt2_record *r = pt2_archive_find(a, "archive_format");
    void *data;
    size_t len;

    OK(pt2_archive_read(a, r, 3, &data, &len, &err));
    free(data);
    ck_assert_int_eq(pt2_archive_read(a, r, 2, &data, &len, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_LIMIT);
    pt2_archive_free(a);
}
END_TEST

START_TEST(test_archive_tensor_bytes)
{
    static const struct {
        int64_t sizes[3];
        bool ok;
        uint64_t bytes;
    } cases[] = {
        {{2, 3, 4}, true, 96},
        {{2, 0, 4}, true, 0},
        {{2, -1, 4}, false, 0},
        {{INT64_C(1) << 31, INT64_C(1) << 31, 1}, false, 0},
        {{INT64_C(1) << 31, INT64_C(1) << 31, 0}, false, 0},
        {{INT64_C(1) << 60, 1, 1}, true, UINT64_C(1) << 62},
        {{INT64_MAX, INT64_MAX, INT64_MAX}, false, 0},
    };
    uint64_t bytes;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        ck_assert(pt2_tensor_bytes(PT2_FLOAT32, 3, cases[i].sizes, &bytes) ==
                  cases[i].ok);
        if (cases[i].ok)
            ck_assert_uint_eq(bytes, cases[i].bytes);
    }
    ck_assert(pt2_tensor_bytes(PT2_INT64, 0, NULL, &bytes) && bytes == 8);
}
END_TEST

/* ---- errors ---- */

static int open_case(const char *dir, struct pt2_err *e)
{
    struct pt2_archive *archive;
    char input[600];

    snprintf(input, sizeof(input), "%s/input", dir);
    if (pt2_archive_open(input, &archive, e) < 0)
        return -1;
    pt2_archive_free(archive);
    return 0;
}

START_TEST(test_archive_invalid_cases)
{
    cases_run("archive-invalid", open_case);
}
END_TEST

START_TEST(test_archive_what_is_no_file)
{
    struct pt2_archive *archive;

    ck_assert_int_eq(pt2_archive_open("/nonexistent", &archive, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_IO);
    pt2_err_clear(&err);
    ck_assert_int_eq(pt2_archive_open("/tmp", &archive, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_BAD_ARCHIVE);
    pt2_err_clear(&err);
    unlink(path);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_assert_int_eq(pt2_archive_open(path, &archive, &err), -1); /* and does not wait */
    ck_assert_int_eq(err.code, PT2_ERR_BAD_ARCHIVE);
}
END_TEST

/* Every prefix of an archive is no archive. */
START_TEST(test_archive_cut_anywhere)
{
    AUTO_PTR char *data = NULL;
    struct pt2_archive *archive;
    size_t len;

    data = slurp("archive-valid/payloads.pt2", &len);
    for (size_t n = 0; n < len; n++) {
        pt2_err_clear(&err);
        ck_assert_msg(open_bytes(data, n, &archive) < 0, "cut at %zu", n);
        ck_assert_int_eq(err.code, PT2_ERR_BAD_ARCHIVE);
    }
}
END_TEST

/* Look at everything that an archive says of itself. */
static void use_everything(const struct pt2_archive *a)
{
    struct pt2_err e = {0};
    void *data;
    size_t len;

    for (size_t i = 0; i < pt2_archive_n_records(a); i++)
        if (pt2_archive_read(a, pt2_archive_record(a, i), 1 << 20, &data, &len, &e) == 0)
            free(data);
    for (size_t i = 0; i < pt2_archive_n_payloads(a); i++) {
        const struct pt2_payload *p = pt2_archive_payload(a, i);

        ck_assert_ptr_eq(pt2_archive_find_payload(a, p->fqn), p);
        ck_assert_uint_le(p->record->offset + p->record->packed, 1 << 20);
    }
}

/* No byte can be changed so that the reader leaves the file (run it with asan), and none
 * of a record's bytes so that nobody notices. */
START_TEST(test_archive_changed_anywhere)
{
    static const char *const names[] = {"payloads", "deflated", "zip64-end",
                                        "zip64-sizes", "descriptor-wide"};
    static const uint8_t changes[] = {0x01, 0x80, 0xff};

    for (size_t i = 0; i < ARRAY_LEN(names) * ARRAY_LEN(changes); i++) {
        AUTO_PTR char *data = NULL;
        struct pt2_archive *a;
        char name[64];
        size_t len;

        snprintf(name, sizeof(name), "archive-valid/%s.pt2",
                 names[i / ARRAY_LEN(changes)]);
        data = slurp(name, &len);
        for (size_t at = 0; at < len; at++) {
            data[at] = (char)((uint8_t)data[at] ^ changes[i % ARRAY_LEN(changes)]);
            pt2_err_clear(&err);
            if (open_bytes(data, len, &a) == 0) {
                use_everything(a);
                pt2_archive_free(a);
            }
            data[at] = (char)((uint8_t)data[at] ^ changes[i % ARRAY_LEN(changes)]);
        }
    }
}
END_TEST

START_TEST(test_archive_verify_names_the_damaged_record)
{
    AUTO_PTR char *data = NULL;
    struct pt2_archive *a = open_data("archive-valid/plain.pt2");
    uint64_t at = pt2_archive_find(a, "data/weights/weight_0")->offset;
    size_t len;

    pt2_archive_free(a);
    data = slurp("archive-valid/plain.pt2", &len);
    data[at] ^= 1;
    OK(open_bytes(data, len, &a));
    ck_assert_int_eq(pt2_archive_verify(a, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_BAD_ARCHIVE);
    ck_assert_ptr_nonnull(strstr(err.text, "'data/weights/weight_0'"));
    pt2_archive_free(a);
}
END_TEST

/* A record's size is a promise; after a broken one nothing more is written. */
START_TEST(test_archive_writer_refuses_misuse)
{
    uint8_t digest[SHA256_BYTES];
    struct pt2_writer *w;
    uint64_t bytes;
    int fd = open("/dev/null", O_WRONLY);

    for (int i = 0; i < 6; i++) {
        OK(pt2_writer_new(fd, "m", &w, &err));
        OK(pt2_writer_record(w, "a", "b", 1, 1, &err));
        OK(pt2_writer_begin(w, "c", 4, 64, &err));
        if (i == 0) /* too many */
            ck_assert_int_eq(pt2_writer_add(w, "12345", 5, &err), -1);
        else if (i == 1) /* too few */
            ck_assert_int_eq(pt2_writer_end(w, &err), -1);
        else if (i == 2) /* within a record */
            ck_assert_int_eq(pt2_writer_finish(w, digest, &bytes, &err), -1);
        else if (i == 3)
            ck_assert_int_eq(pt2_writer_begin(w, "d", 1, 1, &err), -1);
        OK(i < 4 ? 0 : pt2_writer_add(w, "1234", 4, &err));
        OK(i < 4 ? 0 : pt2_writer_end(w, &err));
        if (i == 4) /* a name twice */
            ck_assert_int_eq(pt2_writer_begin(w, "a", 1, 1, &err), -1);
        else if (i == 5) /* not open */
            ck_assert_int_eq(pt2_writer_add(w, "", 0, &err), -1);
        ck_assert_int_eq(err.code, PT2_ERR_INVALID);
        if (i < 2)
            ck_assert_int_eq(pt2_writer_begin(w, "e", 1, 1, NULL), -1);
        pt2_err_clear(&err);
        pt2_writer_free(w);
    }
    close(fd);
}
END_TEST

START_TEST(test_archive_writer_refuses_bad_tables)
{
    const struct pt2_payload_entry twice[] = {{.fqn = "a", .dtype = PT2_FLOAT32},
                                              {.fqn = "a", .dtype = PT2_FLOAT32}};
    const struct pt2_payload_entry others[] = {
        {.fqn = "", .dtype = PT2_FLOAT32},
        {.fqn = "\xff", .dtype = PT2_FLOAT32},
        {.fqn = "a"},
        {.fqn = "a", .dtype = PT2_FLOAT32, .n_dims = 1, .sizes = {-1}},
        {.fqn = "a", .dtype = PT2_INT8, .requires_grad = true},
    };
    struct pt2_writer *w;
    int fd = open("/dev/null", O_WRONLY);

    OK(pt2_writer_new(fd, "m", &w, &err));
    ck_assert_int_eq(pt2_writer_payloads(w, PT2_TABLE_WEIGHTS, twice, 2, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_INVALID);
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        pt2_err_clear(&err);
        ck_assert_int_eq(pt2_writer_payloads(w, PT2_TABLE_WEIGHTS, &others[i], 1, &err),
                         -1);
        ck_assert_int_eq(err.code, PT2_ERR_INVALID);
    }
    pt2_writer_free(w);
    close(fd);
}
END_TEST

/* Also where the digest's thread has slices to hash: it must end. */
START_TEST(test_archive_full_disk)
{
    AUTO_PTR uint8_t *data = pattern(3 << 20);
    struct pt2_writer *w;
    int fd = open("/dev/full", O_WRONLY), r = 0;

    ck_assert_int_ge(fd, 0);
    OK(pt2_writer_new(fd, "m", &w, &err));
    for (int i = 0; i < 10 && r == 0; i++) {
        char name[2] = {(char)('a' + i), '\0'};

        r = pt2_writer_record(w, name, data, 3 << 20, 64, &err);
    }
    ck_assert_int_eq(err.code, PT2_ERR_NO_SPACE);
    ck_assert_int_eq(pt2_writer_record(w, "z", "", 0, 1, NULL), -1);
    pt2_writer_free(w);
    close(fd);
}
END_TEST

START_TEST(test_archive_no_memory_for_reading)
{
    static const char *const names[] = {"archive-valid/payloads.pt2",
                                        "archive-valid/deflated.pt2"};
    char full[400];

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(full, sizeof(full), "%s/%s", test_data(), names[i]);
        for (alloc_fail_begin(); alloc_fail_next();) {
            struct pt2_archive *a = NULL;
            int r;

            pt2_err_clear(&err);
            r = pt2_archive_open(full, &a, &err);
            if (!alloc_failed()) {
                OK(r);
                pt2_archive_free(a);
            } else {
                ck_assert_int_eq(r, -1);
                ck_assert_int_eq(err.code, PT2_ERR_NOMEM);
            }
        }
    }
}
END_TEST

START_TEST(test_archive_no_memory_for_writing)
{
    uint8_t digest[SHA256_BYTES];
    uint64_t bytes;

    for (alloc_fail_begin(); alloc_fail_next();) {
        struct pt2_writer *w = NULL;
        struct pt2_payload_entry e = {.fqn = "w", .dtype = PT2_INT8};
        int fd = open(path, O_WRONLY | O_TRUNC), r;

        pt2_err_clear(&err);
        r = pt2_writer_new(fd, "m", &w, &err);
        r = r ? r : pt2_writer_fixed(w, &err);
        r = r ? r : pt2_writer_payloads(w, PT2_TABLE_WEIGHTS, &e, 1, &err);
        r = r ? r : pt2_writer_finish(w, digest, &bytes, &err);
        ck_assert_int_eq(r, alloc_failed() ? -1 : 0);
        ck_assert_int_eq(err.code, alloc_failed() ? PT2_ERR_NOMEM : PT2_ERR_NONE);
        pt2_writer_free(w);
        close(fd);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("archive");
    TCase *core = tcase_create("core"), *limits = tcase_create("limits"),
          *errors = tcase_create("errors");

    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_test(core, test_archive_unusual_but_good_ones_open);
    tcase_add_test(core, test_archive_pythons_archive_opens);
    tcase_add_test(core, test_archive_payloads_of_every_kind);
    tcase_add_test(core, test_archive_slices);
    tcase_add_test(core, test_archive_what_is_written_reads_back);
    tcase_add_test(core, test_archive_same_records_same_bytes);
    tcase_add_test(core, test_archive_without_a_digest);
    tcase_add_test(core, test_archive_zeros_are_zeros);
    tcase_add_test(core, test_archive_counting_is_exact);
    tcase_add_test(core, test_archive_goes_on_where_it_ended);
    tcase_add_test(core, test_archive_goes_on_with_its_own_alone);
    tcase_add_test(core, test_archive_other_tools_take_it);
    tcase_add_test(core, test_archive_many_records);
    tcase_set_timeout(core, 120);
    suite_add_tcase(suite, core);
    tcase_add_checked_fixture(limits, setup, teardown);
    tcase_add_test(limits, test_archive_read_keeps_to_its_limit);
    tcase_add_test(limits, test_archive_tensor_bytes);
    suite_add_tcase(suite, limits);
    tcase_add_checked_fixture(errors, setup, teardown);
    tcase_add_test(errors, test_archive_invalid_cases);
    tcase_add_test(errors, test_archive_what_is_no_file);
    tcase_add_test(errors, test_archive_cut_anywhere);
    tcase_add_test(errors, test_archive_changed_anywhere);
    tcase_add_test(errors, test_archive_verify_names_the_damaged_record);
    tcase_add_test(errors, test_archive_writer_refuses_misuse);
    tcase_add_test(errors, test_archive_writer_refuses_bad_tables);
    tcase_add_test(errors, test_archive_full_disk);
    tcase_add_test(errors, test_archive_no_memory_for_reading);
    tcase_add_test(errors, test_archive_no_memory_for_writing);
    tcase_set_timeout(errors, 120);
    suite_add_tcase(suite, errors);
    return suite_run(suite);
}
