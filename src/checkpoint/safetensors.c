#include "checkpoint/safetensors.h"

#include "base/scan.h"

#include <stdarg.h>

#define MAX_NAME     1024 /* bytes */
#define PREFIX_BYTES 8

/* Element types that the format has and programs do not: name, bits. */
static const struct {
    const char *name;
    unsigned bits;
} foreign[] = {
    {"F4", 4},      {"F6_E2M3", 6},     {"F6_E3M2", 6},     {"F8_E5M2", 8},
    {"F8_E4M3", 8}, {"F8_E5M2FNUZ", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E8M0", 8},
    {"U16", 16},    {"U32", 32},        {"U64", 64},        {"C64", 64},
};

/* A header while it is read. */
struct header {
    struct scan scan;
    struct tensors *tensors;
    size_t first; /* of this file, among the tensors */
    uint32_t file;
    const char *file_name;
    uint64_t data, data_bytes; /* where the tensors lie in the file */
};

/* What is wrong with the file, not with the JSON at one place. */
static int fail(struct header *h, const char *fmt, ...) PT2_PRINTF(2, 3);
static int fail(struct header *h, const char *fmt, ...)
{
    char text[300];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return pt2_err_set(h->scan.err, PT2_ERR_BAD_CHECKPOINT, "'%s': %s", h->file_name,
                       text);
}

static int add_tensor(struct header *h, const char *name,
                      struct pt2_checkpoint_tensor **ret_tensor)
{
    if (!*name || strlen(name) > MAX_NAME)
        return scan_fail(&h->scan, "a tensor's name must have 1 to %d bytes", MAX_NAME);
    if (tensors_add(h->tensors, name, ret_tensor, h->scan.err) < 0)
        return -1;
    (*ret_tensor)->file = h->file;
    return 0;
}

static int read_dtype(struct scan *s, struct pt2_checkpoint_tensor *t, unsigned *ret_bits)
{
    const char *name;

    if (scan_string(s, &name) < 0)
        return -1;
    t->dtype = pt2_dtype_from_safetensors(name);
    if (t->dtype != PT2_DTYPE_NONE) {
        t->dtype_name = pt2_dtype_safetensors(t->dtype);
        *ret_bits = 8 * (unsigned)pt2_dtype_size(t->dtype);
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(foreign); i++) {
        if (streq(foreign[i].name, name)) {
            t->dtype_name = foreign[i].name;
            *ret_bits = foreign[i].bits;
            return 0;
        }
    }
    return scan_fail(s, "tensor '%s' has unknown dtype '%.32s'", t->name, name);
}

static int read_shape(struct scan *s, struct pt2_checkpoint_tensor *t)
{
    uint64_t size;
    int more;

    if (scan_enter(s, '[') < 0)
        return -1;
    while ((more = scan_item(s)) > 0) {
        if (t->n_dims == PT2_MAX_DIMS)
            return scan_fail(s, "tensor '%s' has more than %d dimensions", t->name,
                             PT2_MAX_DIMS);
        if (scan_uint(s, &size) < 0)
            return -1;
        t->sizes[t->n_dims++] = (int64_t)size;
    }
    return more;
}

static int read_offsets(struct scan *s, uint64_t ret[2])
{
    int n = 0, more;

    if (scan_enter(s, '[') < 0)
        return -1;
    while ((more = scan_item(s)) > 0)
        if (n == 2 ? scan_fail(s, "more than two offsets") < 0
                   : scan_uint(s, &ret[n++]) < 0)
            return -1;
    if (more < 0)
        return -1;
    return n == 2 ? 0 : scan_fail(s, "expected two offsets");
}

/* Do dtype and shape take the bytes that the offsets span? */
static int set_span(struct header *h, struct pt2_checkpoint_tensor *t, unsigned bits,
                    const uint64_t offsets[2])
{
    uint64_t n = bits;

    if (offsets[1] < offsets[0] || offsets[1] > h->data_bytes)
        return fail(h, "tensor '%s' spans bytes %llu to %llu; the file has %llu of data",
                    t->name, (unsigned long long)offsets[0],
                    (unsigned long long)offsets[1], (unsigned long long)h->data_bytes);
    for (unsigned i = 0; i < t->n_dims; i++)
        if (!size_mul(n, (uint64_t)t->sizes[i], &n))
            return fail(h, "tensor '%s': its shape is too big", t->name);
    if (n % 8 != 0)
        return fail(h, "tensor '%s' takes %llu bits: no whole bytes", t->name,
                    (unsigned long long)n);
    if (n / 8 != offsets[1] - offsets[0])
        return fail(h, "tensor '%s' spans %llu bytes; its dtype and shape take %llu",
                    t->name, (unsigned long long)(offsets[1] - offsets[0]),
                    (unsigned long long)(n / 8));
    t->offset = h->data + offsets[0];
    t->bytes = n / 8;
    return 0;
}

enum { HAS_DTYPE = 1, HAS_SHAPE = 2, HAS_OFFSETS = 4, HAS_ALL = 7 };

static int read_tensor(struct header *h, const char *name)
{
    struct pt2_checkpoint_tensor *t = NULL;
    struct scan *s = &h->scan;
    uint64_t offsets[2] = {0, 0};
    unsigned seen = 0, bit, bits = 0;
    int more, r;

    if (add_tensor(h, name, &t) < 0 || scan_enter(s, '{') < 0)
        return -1;
    while ((more = scan_member(s, &name)) > 0) {
        bit = streq(name, "dtype")          ? HAS_DTYPE
              : streq(name, "shape")        ? HAS_SHAPE
              : streq(name, "data_offsets") ? HAS_OFFSETS
                                            : 0;
        if (seen & bit)
            return scan_fail(s, "tensor '%s' has \"%s\" twice", t->name, name);
        seen |= bit;
        r = bit == HAS_DTYPE     ? read_dtype(s, t, &bits)
            : bit == HAS_SHAPE   ? read_shape(s, t)
            : bit == HAS_OFFSETS ? read_offsets(s, offsets)
                                 : scan_skip(s);
        if (r < 0)
            return -1;
    }
    if (more < 0)
        return -1;
    if (seen != HAS_ALL)
        return scan_fail(s, "tensor '%s' lacks \"dtype\", \"shape\" or \"data_offsets\"",
                         t->name);
    return set_span(h, t, bits, offsets);
}

static int read_metadata(struct scan *s)
{
    const char *name, *text;
    int more;

    if (scan_enter(s, '{') < 0)
        return -1;
    while ((more = scan_member(s, &name)) > 0)
        if (scan_string(s, &text) < 0)
            return -1;
    return more;
}

static int by_place(const void *a, const void *b)
{
    const struct pt2_checkpoint_tensor *x = a, *y = b;

    if (x->offset != y->offset)
        return x->offset > y->offset ? 1 : -1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* One behind the other, from the first byte of the data to the last. */
static int check_places(struct header *h)
{
    size_t n = h->tensors->n - h->first;
    struct pt2_checkpoint_tensor *items = n ? h->tensors->items + h->first : NULL;
    uint64_t at = h->data;

    if (n > 0)
        qsort(items, n, sizeof(*items), by_place);
    for (size_t i = 0; i < n; i++) {
        if (items[i].offset < at)
            return fail(h, "tensors '%s' and '%s' overlap", items[i - 1].name,
                        items[i].name);
        if (items[i].offset > at)
            return fail(h, "%llu bytes before tensor '%s' belong to none",
                        (unsigned long long)(items[i].offset - at), items[i].name);
        at += items[i].bytes;
    }
    if (at != h->data + h->data_bytes)
        return fail(h, "%llu bytes at the end belong to no tensor",
                    (unsigned long long)(h->data + h->data_bytes - at));
    return 0;
}

static int read_header(struct header *h)
{
    struct scan *s = &h->scan;
    bool has_metadata = false;
    const char *name;
    int more;

    if (scan_enter(s, '{') < 0)
        return -1;
    while ((more = scan_member(s, &name)) > 0) {
        if (!streq(name, "__metadata__")) {
            if (read_tensor(h, name) < 0)
                return -1;
            continue;
        }
        if (has_metadata)
            return scan_fail(s, "\"__metadata__\" is there twice");
        has_metadata = true;
        if (read_metadata(s) < 0)
            return -1;
    }
    if (more < 0 || scan_end(s) < 0)
        return -1;
    return check_places(h);
}

/* The header's length, checked against the file's. */
static int read_length(const struct files *files, size_t i, uint64_t *ret,
                       struct pt2_err *err)
{
    const struct pt2_checkpoint_file *info = &files->files[i].info;
    uint8_t le[PREFIX_BYTES];
    uint64_t n = 0;

    if (info->bytes < PREFIX_BYTES)
        return pt2_err_set(err, PT2_ERR_BAD_CHECKPOINT,
                           "'%s' has %llu bytes: not a safetensors file", info->name,
                           (unsigned long long)info->bytes);
    if (files_read(files, i, 0, le, sizeof(le), err) < 0)
        return -1;
    for (unsigned b = 0; b < PREFIX_BYTES; b++)
        n |= (uint64_t)le[b] << 8 * b;
    if (n > info->bytes - PREFIX_BYTES)
        return pt2_err_set(
            err, PT2_ERR_BAD_CHECKPOINT,
            "'%s': its header has %llu bytes, the file %llu: cut, or not a "
            "safetensors file",
            info->name, (unsigned long long)n, (unsigned long long)info->bytes);
    if (n > SAFETENSORS_MAX_HEADER)
        return pt2_err_set(err, PT2_ERR_BAD_CHECKPOINT,
                           "'%s': its header has %llu bytes, at most %llu are read",
                           info->name, (unsigned long long)n,
                           (unsigned long long)SAFETENSORS_MAX_HEADER);
    *ret = n;
    return 0;
}

int safetensors_read(const struct files *files, size_t i, struct tensors *tensors,
                     struct pt2_err *err)
{
    const struct pt2_checkpoint_file *info = &files->files[i].info;
    struct header h = {.tensors = tensors,
                       .first = tensors->n,
                       .file = (uint32_t)i,
                       .file_name = info->name};
    AUTO_PTR char *text = NULL;
    char what[300];
    uint64_t n = 0;

    if (read_length(files, i, &n, err) < 0)
        return -1;
    text = malloc(n + 1);
    if (!text)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for the header of '%s'",
                           info->name);
    if (files_read(files, i, PREFIX_BYTES, text, n, err) < 0)
        return -1;
    text[n] = '\0';
    h.data = PREFIX_BYTES + n;
    h.data_bytes = info->bytes - h.data;
    snprintf(what, sizeof(what), "'%s', header", info->name);
    scan_begin(&h.scan, text, n, what, PT2_ERR_BAD_CHECKPOINT, err);
    return read_header(&h);
}
