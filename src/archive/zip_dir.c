/* zip_dir.c - the central directory and the local headers, each checked against the
 * other. */
#include "archive/zip.h"

#include "base/utf8.h"

#include <sys/mman.h>

/* How far deflate can compress: 258 bytes by 2 bits. */
#define DEFLATE_MAX_RATIO 1032

/* A page that is touched is mapped with all that lies in one piece of the system's cache,
 * up to a few MiB: so many headers are read between two times that all of it is let go. */
#define FORGET_ENTRIES 8

static int bad(struct pt2_err *err, const struct zip_entry *entry, const char *what)
{
    return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE, "record '%s': %s", entry->name, what);
}

/* The fields that the zip64 extra field may widen. */
struct widths {
    uint64_t size, packed, offset;
    bool has_extra; /* there is a zip64 extra field */
};

/* Take from the zip64 extra field what the header's own fields leave to it, in their
 * fixed order (4.5.3). */
static int widen(const uint8_t *extra, size_t len, struct widths *w, struct pt2_err *err,
                 const struct zip_entry *entry)
{
    uint64_t *fields[] = {&w->size, &w->packed, &w->offset};

    w->has_extra = true;
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        if (*fields[i] != UINT32_MAX)
            continue;
        if (len < 8)
            return bad(err, entry, "its zip64 extra field is too short");
        *fields[i] = zip_get64(extra);
        extra += 8;
        len -= 8;
    }
    return 0;
}

/* Walk the extra fields. */
static int read_extra(const uint8_t *extra, size_t len, struct widths *w,
                      struct pt2_err *err, const struct zip_entry *entry)
{
    w->has_extra = false;
    while (len > 0) {
        size_t n = len < 4 ? 0 : zip_get16(extra + 2);

        if (len < 4 || n > len - 4)
            return bad(err, entry, "its extra fields do not add up");
        if (zip_get16(extra) == ZIP_EXTRA_ZIP64) {
            if (w->has_extra)
                return bad(err, entry, "two zip64 extra fields");
            if (widen(extra + 4, n, w, err, entry) < 0)
                return -1;
        }
        extra += 4 + n;
        len -= 4 + n;
    }
    return 0;
}

/* A path below one folder: no empty, "." or ".." component, nothing that a terminal or
 * another system could take for something else. */
static bool is_good_name(const char *name, size_t len)
{
    size_t start = 0;

    if (!utf8_is_valid(name, len))
        return false;
    for (size_t i = 0; i <= len; i++) {
        if (i < len &&
            ((unsigned char)name[i] < 0x20 || name[i] == 0x7f || name[i] == '\\'))
            return false;
        if (i < len && name[i] != '/')
            continue;
        if (i == start && !(i == len && i > 0)) /* "a/" is a folder */
            return false;
        if ((i - start == 1 && name[start] == '.') ||
            (i - start == 2 && name[start] == '.' && name[start + 1] == '.'))
            return false;
        start = i + 1;
    }
    return true;
}

/* Method, flags and sizes that we can read. */
static int check_fields(const struct zip_entry *entry, struct pt2_err *err)
{
    const uint16_t known = ZIP_FLAG_DEFLATE | ZIP_FLAG_DESCRIPTOR | ZIP_FLAG_UTF8;

    if (entry->flags & ZIP_FLAG_ENCRYPTED)
        return bad(err, entry, "it is encrypted");
    if (entry->flags & ~known)
        return bad(err, entry, "unknown flags");
    if (entry->method != ZIP_STORED && entry->method != ZIP_DEFLATED)
        return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE,
                           "record '%s': compression method %u; only stored and deflated "
                           "records are read",
                           entry->name, entry->method);
    if (entry->method == ZIP_STORED && entry->packed != entry->size)
        return bad(err, entry, "stored, but its two sizes differ");
    if (entry->method == ZIP_DEFLATED && entry->size / DEFLATE_MAX_RATIO > entry->packed)
        return bad(err, entry, "deflated to fewer bytes than can be");
    if (entry->is_folder && entry->size != 0)
        return bad(err, entry, "a folder that holds bytes");
    return 0;
}

/* The central header at p, of which len bytes are left; its name goes to *names. */
static int read_central(const uint8_t *p, uint64_t len, char **names, size_t *ret_used,
                        struct zip_entry *ret_entry, struct pt2_err *err)
{
    struct zip_entry e = {.name = "?"};
    struct widths w;
    size_t n_name, n_extra, n_comment;

    if (len < ZIP_CENTRAL_BYTES || zip_get32(p) != ZIP_CENTRAL_SIG)
        return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE,
                           "central directory: no header where one should be");
    n_name = zip_get16(p + 28);
    n_extra = zip_get16(p + 30);
    n_comment = zip_get16(p + 32);
    *ret_used = ZIP_CENTRAL_BYTES + n_name + n_extra + n_comment;
    if (*ret_used > len)
        return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE,
                           "central directory: a header reaches beyond its end");
    if (n_name == 0 || n_name > ZIP_MAX_NAME ||
        !is_good_name((const char *)p + ZIP_CENTRAL_BYTES, n_name))
        return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE,
                           "central directory: a name that is not a plain relative path");
    memcpy(*names, p + ZIP_CENTRAL_BYTES, n_name);
    (*names)[n_name] = '\0';
    e.name = *names;
    *names += n_name + 1;
    e.is_folder = e.name[n_name - 1] == '/';
    e.flags = zip_get16(p + 8);
    e.method = zip_get16(p + 10);
    e.crc32 = zip_get32(p + 16);
    w = (struct widths){.packed = zip_get32(p + 20),
                        .size = zip_get32(p + 24),
                        .offset = zip_get32(p + 42)};
    if (read_extra(p + ZIP_CENTRAL_BYTES + n_name, n_extra, &w, err, &e) < 0)
        return -1;
    if (zip_get16(p + 34) != 0)
        return bad(err, &e, "it lies on another disk");
    e.packed = w.packed;
    e.size = w.size;
    e.header = w.offset;
    *ret_entry = e;
    return check_fields(&e, err);
}

/* Does the data descriptor at p (4.3.9), of which len bytes are there, say what the
 * central header says?  Its signature is optional, and its sizes are wide where there is
 * a zip64 extra field, or where the writer thought so.  Returns its bytes, 0 where it
 * does not. */
static size_t descriptor_len(const uint8_t *p, uint64_t len,
                             const struct zip_entry *entry)
{
    for (unsigned form = 0; form < 4; form++) {
        bool has_sig = form < 2, is_wide = form & 1;
        size_t sig = has_sig ? 4 : 0, width = is_wide ? 8 : 4, n = sig + 4 + 2 * width;
        const uint8_t *sizes = p + sig + 4;

        if (len < n || (has_sig && zip_get32(p) != ZIP_DESCRIPTOR_SIG) ||
            zip_get32(p + sig) != entry->crc32)
            continue;
        if (is_wide
                ? zip_get64(sizes) == entry->packed && zip_get64(sizes + 8) == entry->size
                : zip_get32(sizes) == entry->packed &&
                      zip_get32(sizes + 4) == entry->size)
            return n;
    }
    return 0;
}

/* CRC and sizes of the local header: the same as in the central one, or zeros where they
 * follow the bytes. */
static bool local_agrees(const struct zip_entry *entry, uint32_t crc,
                         const struct widths *w)
{
    bool is_later = entry->flags & ZIP_FLAG_DESCRIPTOR;

    if (is_later && crc == 0 && w->size == 0 && w->packed == 0)
        return true;
    return (crc == entry->crc32 || (is_later && crc == 0)) && w->size == entry->size &&
           w->packed == entry->packed;
}

/* Check the local header, and learn where the bytes lie.  The record must end at limit,
 * where the central directory begins, or before. */
static int read_local(const uint8_t *map, uint64_t limit, struct zip_entry *entry,
                      struct pt2_err *err)
{
    const uint8_t *p = map + entry->header;
    struct widths w;
    size_t n_name, n_extra, n;
    uint64_t left;

    if (limit < ZIP_LOCAL_BYTES || entry->header > limit - ZIP_LOCAL_BYTES)
        return bad(err, entry, "its local header lies outside of the records");
    left = limit - entry->header - ZIP_LOCAL_BYTES;
    if (zip_get32(p) != ZIP_LOCAL_SIG)
        return bad(err, entry, "no local header where the central directory says");
    n_name = zip_get16(p + 26);
    n_extra = zip_get16(p + 28);
    if (n_name + n_extra > left)
        return bad(err, entry, "its local header reaches beyond the records");
    left -= n_name + n_extra;
    if (n_name != strlen(entry->name) ||
        memcmp(p + ZIP_LOCAL_BYTES, entry->name, n_name) != 0)
        return bad(err, entry, "its local header has another name");
    if (zip_get16(p + 6) != entry->flags || zip_get16(p + 8) != entry->method)
        return bad(err, entry, "its local header has other flags or another method");
    w = (struct widths){.packed = zip_get32(p + 18), .size = zip_get32(p + 22)};
    if (read_extra(p + ZIP_LOCAL_BYTES + n_name, n_extra, &w, err, entry) < 0)
        return -1;
    if (!local_agrees(entry, zip_get32(p + 14), &w))
        return bad(err, entry, "its local header has another CRC-32 or other sizes");
    entry->data = entry->header + ZIP_LOCAL_BYTES + n_name + n_extra;
    if (entry->packed > left)
        return bad(err, entry, "its bytes reach beyond the records");
    left -= entry->packed;
    entry->end = entry->data + entry->packed;
    if (entry->flags & ZIP_FLAG_DESCRIPTOR) {
        n = descriptor_len(map + entry->end, left, entry);
        if (n == 0)
            return bad(err, entry,
                       "its data descriptor is missing or says something else");
        entry->end += n;
    }
    return 0;
}

static int by_header(const void *a, const void *b)
{
    const struct zip_entry *const *x = a, *const *y = b;

    return ((*x)->header > (*y)->header) - ((*x)->header < (*y)->header);
}

static int check_overlaps(const struct zip_dir *dir, struct pt2_err *err)
{
    AUTO_PTR const struct zip_entry **sorted =
        calloc(dir->n_entries + 1, sizeof(*sorted));

    if (!sorted)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for %zu records",
                           dir->n_entries);
    for (size_t i = 0; i < dir->n_entries; i++)
        sorted[i] = &dir->entries[i];
    qsort(sorted, dir->n_entries, sizeof(*sorted), by_header);
    for (size_t i = 1; i < dir->n_entries; i++)
        if (sorted[i - 1]->end > sorted[i]->header)
            return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE, "records '%s' and '%s' overlap",
                               sorted[i - 1]->name, sorted[i]->name);
    return 0;
}

static int read_entries(const uint8_t *map, uint64_t len, const struct zip_end *end,
                        struct zip_dir *dir, struct pt2_err *err)
{
    uint64_t at = end->offset, dir_end = end->offset + end->size;
    char *names = dir->names;
    size_t used = 0;

    for (dir->n_entries = 0; dir->n_entries < end->n_entries; dir->n_entries++) {
        struct zip_entry *entry = &dir->entries[dir->n_entries];

        if (read_central(map + at, dir_end - at, &names, &used, entry, err) < 0 ||
            read_local(map, end->offset, entry, err) < 0)
            return -1;
        at += used;
        if (dir->n_entries % FORGET_ENTRIES == 0)
            madvise((void *)(uintptr_t)map, len, MADV_DONTNEED);
    }
    if (at != dir_end)
        return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE,
                           "central directory: %llu bytes behind its %llu headers",
                           (unsigned long long)(dir_end - at),
                           (unsigned long long)end->n_entries);
    return check_overlaps(dir, err);
}

int zip_read_dir(const uint8_t *map, uint64_t len, struct zip_dir *ret_dir,
                 struct pt2_err *err)
{
    struct zip_dir dir = {0};
    struct zip_end end;

    if (zip_find_end(map, len, &end, err) < 0)
        return -1;
    dir.entries = calloc(end.n_entries + 1, sizeof(*dir.entries));
    /* A header is longer than its name and the '\0'. */
    dir.names = malloc(end.size + 1);
    if (!dir.entries || !dir.names) {
        zip_dir_done(&dir);
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for %llu records",
                           (unsigned long long)end.n_entries);
    }
    if (read_entries(map, len, &end, &dir, err) < 0) {
        zip_dir_done(&dir);
        return -1;
    }
    *ret_dir = dir;
    return 0;
}

void zip_dir_done(struct zip_dir *dir)
{
    free(dir->entries);
    free(dir->names);
    *dir = (struct zip_dir){0};
}
