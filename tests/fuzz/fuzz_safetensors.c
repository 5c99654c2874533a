/* fuzz_safetensors.c - the header of a .safetensors file.  An input that begins with '{' is
 * the JSON alone: its length is put before it and as many zeros behind it as the largest of
 * its numbers says, so that a changed text is still a whole file; any other input is the
 * file as it is.  What is read fills the file, without holes and overlaps. */
#include "fuzz.h"

#include "base/util.h"
#include "checkpoint/safetensors.h"

#include <ctype.h>
#include <sys/mman.h>

#define MAX_DATA 100000 /* larger numbers stand for no data */

const char fuzz_name[] = "safetensors";
const char *const fuzz_corpus[] = {"tests/data/safetensors-invalid", NULL};

static uint64_t largest_number(const uint8_t *text, size_t size)
{
    uint64_t largest = 0, n = 0;

    for (size_t i = 0; i < size; i++) {
        n = isdigit(text[i]) ? MIN(n * 10 + (text[i] - '0'), UINT32_MAX) : 0;
        if (n > largest && n <= MAX_DATA)
            largest = n;
    }
    return largest;
}

/* Returns its bytes. */
static uint64_t write_file(int fd, const uint8_t *data, size_t size)
{
    uint64_t n = size, bytes = size;

    if (size > 0 && *data == '{') {
        bytes += sizeof(n) + largest_number(data, size);
        FUZZ_CHECK(write(fd, &n, sizeof(n)) == sizeof(n));
    }
    FUZZ_CHECK(write(fd, data, size) == (ssize_t)size);
    FUZZ_CHECK(ftruncate(fd, (off_t)bytes) == 0);
    return bytes;
}

static int compare_places(const void *a, const void *b)
{
    const struct pt2_checkpoint_tensor *x = a, *y = b;

    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static void check_tensors(struct tensors *tensors, uint64_t bytes)
{
    uint64_t at = tensors->n ? 0 : bytes, n;

    if (tensors->n > 0)
        qsort(tensors->items, tensors->n, sizeof(*tensors->items), compare_places);
    for (size_t i = 0; i < tensors->n; i++) {
        const struct pt2_checkpoint_tensor *t = &tensors->items[i];

        FUZZ_CHECK(*t->name && t->n_dims <= PT2_MAX_DIMS && *t->dtype_name);
        FUZZ_CHECK(i == 0 ? t->offset >= 8 : t->offset == at);
        if (t->dtype != PT2_DTYPE_NONE) {
            FUZZ_CHECK(pt2_tensor_bytes(t->dtype, t->n_dims, t->sizes, &n));
            FUZZ_CHECK(n == t->bytes);
        }
        at = t->offset + t->bytes;
    }
    FUZZ_CHECK(at == bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char name[] = "model.safetensors";
    struct open_file file = {.info = {.name = name, .kind = PT2_FILE_WEIGHTS}};
    struct files files = {.dir_fd = -1, .files = &file, .n_files = 1};
    struct tensors tensors = {0};
    struct pt2_err err = {0};

    file.fd = memfd_create("input", MFD_CLOEXEC);
    FUZZ_CHECK(file.fd >= 0);
    file.info.bytes = write_file(file.fd, data, size);
    if (safetensors_read(&files, 0, &tensors, &err) < 0)
        FUZZ_CHECK(err.code == PT2_ERR_BAD_CHECKPOINT && *err.text);
    else
        check_tensors(&tensors, file.info.bytes);
    tensors_done(&tensors);
    close(file.fd);
    return 0;
}
