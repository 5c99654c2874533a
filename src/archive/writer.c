/* writer.c - a zip of stored records, streamed: nothing is sought back to.
 *
 * A record that comes in pieces has its CRC-32 behind its bytes (a data descriptor, as
 * torch itself writes); one that comes whole has it in front.  No times, no owners: the
 * same records give the same bytes. */
#include <pt2/archive.h>

#include "archive/out.h"
#include "archive/zip.h"
#include "base/log.h"
#include "base/utf8.h"

#include <search.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <zlib.h>

#define MADE_BY      (3u << 8 | 45) /* Unix, APPNOTE 4.5 (4.4.2) */
#define ATTRIBUTES   (0100644u << 16)
#define DOS_DATE     0x0021 /* 1980-01-01, the earliest there is */
#define NEEDED       10     /* 4.4.3: to read a stored record */
#define NEEDED_ZIP64 45

struct written {
    char *name; /* with the root; the tree's key */
    uint64_t header, size;
    uint32_t crc32;
    uint16_t flags;
};

struct pt2_writer {
    struct out *out;
    char *root;
    struct written *entries;
    size_t n_entries, cap;
    void *names; /* tsearch's tree of the entries' names */
    bool is_open, is_finished, failed;
    uint64_t added; /* bytes of the open record */
};

DEFINE_AUTO(pt2_writer)

/* Little-endian fields, one behind the other. */
struct fields {
    uint8_t bytes[128];
    size_t len;
};

static void put(struct fields *f, uint64_t value, size_t n_bytes)
{
    ASSERT(f->len + n_bytes <= sizeof(f->bytes));
    for (size_t i = 0; i < n_bytes; i++)
        f->bytes[f->len++] = (uint8_t)(value >> 8 * i);
}

static int add_fields(struct pt2_writer *w, const struct fields *f, struct pt2_err *err)
{
    return out_add(w->out, f->bytes, f->len, err);
}

static bool is_wide(uint64_t value)
{
    return value >= UINT32_MAX;
}

static uint32_t narrow(uint64_t value)
{
    return is_wide(value) ? UINT32_MAX : (uint32_t)value;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void keep_key(void *key)
{
}

/* Without its out. */
static int make(const char *root, size_t n_root, struct pt2_writer **ret_writer,
                struct pt2_err *err)
{
    AUTO(pt2_writer) w = calloc(1, sizeof(*w));

    if (!w || !(w->root = strndup(root, n_root)))
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for a writer");
    *ret_writer = TAKE(w);
    return 0;
}

int pt2_writer_new(int fd, const char *root, struct pt2_writer **ret_writer,
                   struct pt2_err *err)
{
    AUTO(pt2_writer) w = NULL;

    ASSERT(*root && !strchr(root, '/') && strlen(root) <= 255);
    if (make(root, strlen(root), &w, err) < 0 || out_new(fd, &w->out, err) < 0)
        return -1;
    *ret_writer = TAKE(w);
    return 0;
}

void pt2_writer_no_digest(struct pt2_writer *w)
{
    out_no_digest(w->out);
}

void pt2_writer_free(struct pt2_writer *w)
{
    if (!w)
        return;
    out_free(w->out);
    tdestroy(w->names, keep_key);
    for (size_t i = 0; i < w->n_entries; i++)
        free(w->entries[i].name);
    free(w->entries);
    free(w->root);
    free(w);
}

/* A new last entry of that name, which nobody may have. */
static int new_entry(struct pt2_writer *w, const char *name, struct written **ret_entry,
                     struct pt2_err *err)
{
    size_t cap = MAX((size_t)64, w->cap * 2);
    struct written *grown, *e;
    const char **node;

    if (w->n_entries == w->cap) {
        grown = reallocarray(w->entries, cap, sizeof(*grown));
        if (!grown)
            return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for record '%s'", name);
        w->entries = grown;
        w->cap = cap;
    }
    e = &w->entries[w->n_entries];
    *e = (struct written){0};
    if (asprintf(&e->name, "%s/%s", w->root, name) < 0)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for record '%s'", name);
    node = tsearch(e->name, &w->names, compare_names);
    if (node && *node == e->name) {
        w->n_entries++;
        *ret_entry = e;
        return 0;
    }
    free(e->name);
    if (!node)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for record '%s'", name);
    return pt2_err_set(err, PT2_ERR_INVALID, "record '%s' was written before", name);
}

static bool is_good_name(const char *name)
{
    size_t n = strlen(name);

    return n > 0 && n <= 512 && name[0] != '/' && name[n - 1] != '/' &&
           utf8_is_valid(name, n);
}

/* Bytes of the padding field's contents, so that what follows a field of 4 + this many
 * bytes at place is aligned; -1 where place is, and no field is needed. */
static int padding(uint64_t place, unsigned align)
{
    if (place % align == 0)
        return -1;
    return (int)((align - (place + 4) % align) % align);
}

/* The local header of e, so padded that the first byte behind it is aligned.  The sizes
 * and the CRC-32 stand in it where the flags do not say that they follow. */
static int add_local_header(struct pt2_writer *w, const struct written *e, unsigned align,
                            struct pt2_err *err)
{
    bool is_later = e->flags & ZIP_FLAG_DESCRIPTOR, wide = is_wide(e->size);
    size_t n_name = strlen(e->name), n_zip64 = wide ? 20 : 0;
    int pad = padding(e->header + ZIP_LOCAL_BYTES + n_name + n_zip64, align);
    uint32_t size = wide ? UINT32_MAX : is_later ? 0 : (uint32_t)e->size;
    struct fields f = {.len = 0};

    put(&f, ZIP_LOCAL_SIG, 4);
    put(&f, wide ? NEEDED_ZIP64 : NEEDED, 2);
    put(&f, e->flags, 2);
    put(&f, ZIP_STORED, 2);
    put(&f, 0, 2);
    put(&f, DOS_DATE, 2);
    put(&f, is_later ? 0 : e->crc32, 4);
    put(&f, size, 4);
    put(&f, size, 4);
    put(&f, n_name, 2);
    put(&f, n_zip64 + (pad < 0 ? 0 : 4 + (size_t)pad), 2);
    if (add_fields(w, &f, err) < 0 || out_add(w->out, e->name, n_name, err) < 0)
        return -1;
    f.len = 0;
    if (wide) {
        put(&f, ZIP_EXTRA_ZIP64, 2);
        put(&f, 16, 2);
        put(&f, e->size, 8);
        put(&f, e->size, 8);
    }
    if (pad >= 0) {
        put(&f, ZIP_EXTRA_PADDING, 2);
        put(&f, (uint64_t)pad, 2);
    }
    if (add_fields(w, &f, err) < 0)
        return -1;
    return pad > 0 ? out_add_zeros(w->out, (size_t)pad, err) : 0;
}

/* Begin a record; crc32 is NULL where it will follow. */
static int begin(struct pt2_writer *w, const char *name, uint64_t size, unsigned align,
                 const uint32_t *crc32_before, struct pt2_err *err)
{
    struct written *e = NULL;

    ASSERT(!w->is_finished);
    ASSERT(align > 0 && align <= 4096 && (align & (align - 1)) == 0);
    if (w->is_open || w->failed)
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "record '%s' begins before the last one ended", name);
    if (!is_good_name(name) || size > INT64_MAX)
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "record '%.64s' of %llu bytes can not be", name,
                           (unsigned long long)size);
    if (new_entry(w, name, &e, err) < 0)
        return -1;
    e->header = out_pos(w->out);
    e->size = size;
    e->crc32 = crc32_before ? *crc32_before : 0;
    e->flags = crc32_before ? 0 : ZIP_FLAG_DESCRIPTOR;
    for (const char *p = e->name; *p; p++)
        if ((unsigned char)*p >= 0x80)
            e->flags |= ZIP_FLAG_UTF8;
    w->is_open = true;
    w->added = 0;
    w->failed = add_local_header(w, e, align, err) < 0;
    return w->failed ? -1 : 0;
}

int pt2_writer_begin(struct pt2_writer *w, const char *name, uint64_t size,
                     unsigned align, struct pt2_err *err)
{
    return begin(w, name, size, align, NULL, err);
}

/* Add to the open record, its CRC-32 known or not wanted. */
static int add(struct pt2_writer *w, const void *data, size_t len, struct pt2_err *err)
{
    const struct written *e = &w->entries[w->n_entries - 1];

    if (len > e->size - w->added) {
        w->failed = true;
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "record '%s' gets more than its %llu bytes", e->name,
                           (unsigned long long)e->size);
    }
    w->added += len;
    w->failed = out_add(w->out, data, len, err) < 0;
    return w->failed ? -1 : 0;
}

int pt2_writer_add_summed(struct pt2_writer *w, const void *data, size_t len,
                          uint32_t crc32_of_data, struct pt2_err *err)
{
    struct written *e;

    if (!w->is_open || w->failed)
        return pt2_err_set(err, PT2_ERR_INVALID, "bytes for a record that is not open");
    e = &w->entries[w->n_entries - 1];
    e->crc32 = (uint32_t)crc32_combine(e->crc32, crc32_of_data, (z_off_t)len);
    return add(w, data, len, err);
}

int pt2_writer_add(struct pt2_writer *w, const void *data, size_t len,
                   struct pt2_err *err)
{
    return pt2_writer_add_summed(w, data, len, (uint32_t)crc32_z(0, data, len), err);
}

int pt2_writer_skip(struct pt2_writer *w, uint64_t len, struct pt2_err *err)
{
    const struct written *e;

    if (!w->is_open || w->failed)
        return pt2_err_set(err, PT2_ERR_INVALID, "bytes for a record that is not open");
    e = &w->entries[w->n_entries - 1];
    if (len > e->size - w->added) {
        w->failed = true;
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "record '%s' gets more than its %llu bytes", e->name,
                           (unsigned long long)e->size);
    }
    w->added += len;
    out_skip(w->out, len);
    return 0;
}

int pt2_writer_end(struct pt2_writer *w, struct pt2_err *err)
{
    const struct written *e;
    struct fields f = {.len = 0};
    size_t width;

    if (!w->is_open || w->failed)
        return pt2_err_set(err, PT2_ERR_INVALID, "the end of a record that is not open");
    w->is_open = false;
    e = &w->entries[w->n_entries - 1];
    width = is_wide(e->size) ? 8 : 4;
    if (w->added != e->size) {
        w->failed = true;
        return pt2_err_set(err, PT2_ERR_INVALID, "record '%s' got %llu of its %llu bytes",
                           e->name, (unsigned long long)w->added,
                           (unsigned long long)e->size);
    }
    if (!(e->flags & ZIP_FLAG_DESCRIPTOR))
        return 0;
    put(&f, ZIP_DESCRIPTOR_SIG, 4);
    put(&f, e->crc32, 4);
    put(&f, e->size, width);
    put(&f, e->size, width);
    w->failed = add_fields(w, &f, err) < 0;
    return w->failed ? -1 : 0;
}

int pt2_writer_record(struct pt2_writer *w, const char *name, const void *data,
                      size_t len, unsigned align, struct pt2_err *err)
{
    uint32_t crc = (uint32_t)crc32_z(0, data, len);

    if (begin(w, name, len, align, &crc, err) < 0 || add(w, data, len, err) < 0)
        return -1;
    return pt2_writer_end(w, err);
}

static int add_central_header(struct pt2_writer *w, const struct written *e,
                              struct pt2_err *err)
{
    bool wide_size = is_wide(e->size), wide_offset = is_wide(e->header);
    size_t n_values = (wide_size ? 16 : 0) + (wide_offset ? 8 : 0);
    struct fields f = {.len = 0};

    put(&f, ZIP_CENTRAL_SIG, 4);
    put(&f, MADE_BY, 2);
    put(&f, n_values ? NEEDED_ZIP64 : NEEDED, 2);
    put(&f, e->flags, 2);
    put(&f, ZIP_STORED, 2);
    put(&f, 0, 2);
    put(&f, DOS_DATE, 2);
    put(&f, e->crc32, 4);
    put(&f, narrow(e->size), 4);
    put(&f, narrow(e->size), 4);
    put(&f, strlen(e->name), 2);
    put(&f, n_values ? 4 + n_values : 0, 2);
    put(&f, 0, 2); /* comment */
    put(&f, 0, 2); /* disk */
    put(&f, 0, 2); /* internal attributes */
    put(&f, ATTRIBUTES, 4);
    put(&f, narrow(e->header), 4);
    if (add_fields(w, &f, err) < 0 || out_add(w->out, e->name, strlen(e->name), err) < 0)
        return -1;
    f.len = 0;
    if (n_values) {
        put(&f, ZIP_EXTRA_ZIP64, 2);
        put(&f, n_values, 2);
    }
    if (wide_size) {
        put(&f, e->size, 8);
        put(&f, e->size, 8);
    }
    if (wide_offset)
        put(&f, e->header, 8);
    return add_fields(w, &f, err);
}

static void put_zip64_end(struct fields *f, uint64_t n, uint64_t start, uint64_t end)
{
    put(f, ZIP_END64_SIG, 4);
    put(f, ZIP_END64_BYTES - 12, 8);
    put(f, MADE_BY, 2);
    put(f, NEEDED_ZIP64, 2);
    put(f, 0, 4); /* disks */
    put(f, 0, 4);
    put(f, n, 8);
    put(f, n, 8);
    put(f, end - start, 8);
    put(f, start, 8);
    put(f, ZIP_LOCATOR_SIG, 4);
    put(f, 0, 4);
    put(f, end, 8);
    put(f, 1, 4); /* disks, all of them */
}

static int add_end(struct pt2_writer *w, uint64_t start, struct pt2_err *err)
{
    uint64_t end = out_pos(w->out), n = w->n_entries;
    struct fields f = {.len = 0};

    if (n >= UINT16_MAX || is_wide(end - start) || is_wide(start))
        put_zip64_end(&f, n, start, end);
    put(&f, ZIP_END_SIG, 4);
    put(&f, 0, 2); /* disks */
    put(&f, 0, 2);
    put(&f, MIN(n, (uint64_t)UINT16_MAX), 2);
    put(&f, MIN(n, (uint64_t)UINT16_MAX), 2);
    put(&f, narrow(end - start), 4);
    put(&f, narrow(start), 4);
    put(&f, 0, 2); /* comment */
    return add_fields(w, &f, err);
}

/* ---- going on with one ---- */

/* What it says of each record is all that our own central directory says. */
static int take_entries(struct pt2_writer *w, const struct zip_dir *dir,
                        struct pt2_err *err)
{
    size_t n_root = strlen(w->root);

    for (size_t i = 0; i < dir->n_entries; i++) {
        const struct zip_entry *from = &dir->entries[i];
        struct written *e = NULL;

        if (from->method != ZIP_STORED || strncmp(from->name, w->root, n_root) != 0 ||
            from->name[n_root] != '/')
            return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE,
                               "record '%s' is none that this writer wrote", from->name);
        if (new_entry(w, from->name + n_root + 1, &e, err) < 0)
            return -1;
        e->header = from->header;
        e->size = from->size;
        e->crc32 = from->crc32;
        e->flags = from->flags;
    }
    return 0;
}

static int reopen_mapped(int fd, const uint8_t *map, uint64_t len,
                         struct pt2_writer **ret_writer, uint8_t *ret_sha256,
                         struct pt2_err *err)
{
    AUTO(pt2_writer) w = NULL;
    struct sha256 records, whole;
    struct zip_dir dir = {0};
    struct zip_end end;
    const char *first;
    int r;

    if (zip_find_end(map, len, &end, err) < 0 || zip_read_dir(map, len, &dir, err) < 0)
        return -1;
    first = dir.n_entries ? dir.entries[0].name : "";
    r = make(first, strcspn(first, "/"), &w, err);
    if (r == 0)
        r = take_entries(w, &dir, err);
    zip_dir_done(&dir);
    if (r < 0)
        return -1;
    sha256_start(&records);
    sha256_add(&records, map, end.offset);
    whole = records;
    sha256_add(&whole, map + end.offset, len - end.offset);
    if (lseek(fd, (off_t)end.offset, SEEK_SET) < 0 || ftruncate(fd, (off_t)end.offset) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "go on with the archive");
    if (out_new_behind(fd, end.offset, &records, &w->out, err) < 0)
        return -1;
    sha256_finish(&whole, ret_sha256);
    *ret_writer = TAKE(w);
    return 0;
}

int pt2_writer_reopen(int fd, struct pt2_writer **ret_writer, uint8_t *ret_sha256,
                      struct pt2_err *err)
{
    struct stat st;
    void *map;
    int r;

    if (fstat(fd, &st) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "stat the archive");
    if (!S_ISREG(st.st_mode) || st.st_size == 0)
        return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE, "not a regular file, or an empty one");
    map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return pt2_err_errno(err, PT2_ERR_IO, "map %lld bytes", (long long)st.st_size);
    r = reopen_mapped(fd, map, (uint64_t)st.st_size, ret_writer, ret_sha256, err);
    munmap(map, (size_t)st.st_size);
    return r;
}

/* ---- the end ---- */

int pt2_writer_finish(struct pt2_writer *w, uint8_t *ret_sha256, uint64_t *ret_bytes,
                      struct pt2_err *err)
{
    uint64_t start = out_pos(w->out);

    if (w->is_open || w->failed || w->is_finished)
        return pt2_err_set(
            err, PT2_ERR_INVALID,
            "an archive is finished within a record, after a failure, or twice");
    w->is_finished = true;
    for (size_t i = 0; i < w->n_entries; i++)
        if (add_central_header(w, &w->entries[i], err) < 0)
            return -1;
    if (add_end(w, start, err) < 0 || out_finish(w->out, ret_sha256, err) < 0)
        return -1;
    *ret_bytes = out_pos(w->out);
    return 0;
}
