/* fuzz_archive.c - a .pt2 from outside, as an upload is read: directory, records, tables of
 * payloads, program.  An input that begins with '{' is a table of payloads in an archive
 * that is otherwise sound, since a changed record seldom keeps its CRC-32. */
#include "fuzz.h"

#include "base/util.h"

#include <pt2/program.h>
#include <sys/mman.h>

const char fuzz_name[] = "archive";
const char *const fuzz_corpus[] = {"tests/data/archive-valid", "tests/data/archive-invalid",
                                   NULL};

static void check_payloads(const struct pt2_archive *archive)
{
    for (size_t i = 0; i < pt2_archive_n_payloads(archive); i++) {
        const struct pt2_payload *p = pt2_archive_payload(archive, i);
        uint64_t bytes;

        FUZZ_CHECK(p->n_dims <= PT2_MAX_DIMS && pt2_archive_find_payload(archive, p->fqn));
        FUZZ_CHECK(pt2_tensor_bytes(p->dtype, p->n_dims, p->sizes, &bytes));
        FUZZ_CHECK(p->storage_offset >= 0);
    }
}

static void check_records(const struct pt2_archive *archive)
{
    unsigned sum = 0;

    for (size_t i = 0; i < pt2_archive_n_records(archive); i++) {
        const struct pt2_record *r = pt2_archive_record(archive, i);
        const unsigned char *data = pt2_archive_data(archive, r);
        void *copy = NULL;
        size_t size = 0;

        FUZZ_CHECK(*r->name && (data != NULL) <= r->is_stored);
        for (uint64_t k = 0; data && k < r->size; k++)
            sum += data[k];
        if (pt2_archive_read(archive, r, 1 << 20, &copy, &size, NULL) == 0) {
            FUZZ_CHECK(size == r->size);
            FUZZ_CHECK(!data || memcmp(copy, data, size) == 0);
        }
        free(copy);
    }
    FUZZ_CHECK(sum < UINT32_MAX);
}

static void read_all(int fd)
{
    struct pt2_archive *archive = NULL;
    struct pt2_program *program = NULL;
    struct pt2_err err = {0};
    char *text = NULL;

    if (pt2_archive_open_fd(fd, "input", &archive, &err) < 0) {
        FUZZ_CHECK(err.code && *err.text && !archive);
        return;
    }
    check_payloads(archive);
    check_records(archive);
    if (pt2_archive_verify(archive, NULL) == 0 &&
        pt2_program_read(archive, &program, &err) == 0 &&
        pt2_program_print(program, &text, NULL) == 0)
        free(text);
    pt2_program_free(program);
    pt2_archive_free(archive);
}

/* The input as the table of weights; 64 bytes of each of two records. */
static int write_table(int fd, const uint8_t *data, size_t size)
{
    static const char bytes[64];
    struct pt2_writer *w;
    int ret = -1;

    FUZZ_CHECK(pt2_writer_new(fd, "p", &w, NULL) == 0);
    if (pt2_writer_fixed(w, NULL) == 0 && pt2_writer_model(w, "{}", 2, NULL) == 0 &&
        pt2_writer_record(w, "data/weights/weight_0", bytes, 64, 64, NULL) == 0 &&
        pt2_writer_record(w, "data/weights/weight_1", bytes, 64, 64, NULL) == 0 &&
        pt2_writer_record(w, "data/weights/model_weights_config.json", data, size, 1,
                          NULL) == 0 &&
        pt2_writer_payloads(w, PT2_TABLE_CONSTANTS, NULL, 0, NULL) == 0)
        ret = pt2_writer_finish(w, (uint8_t[32]){0}, &(uint64_t){0}, NULL);
    pt2_writer_free(w);
    return ret;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fd = memfd_create("input", MFD_CLOEXEC);

    FUZZ_CHECK(fd >= 0);
    if (size > 0 && *data == '{')
        FUZZ_CHECK(write_table(fd, data, size) == 0);
    else
        FUZZ_CHECK(write(fd, data, size) == (ssize_t)size);
    read_all(fd);
    close(fd);
    return 0;
}
