#include "cmd/ctl_record.h"

#include "cmd/ctl_http.h"

#include <zlib.h>

#define TAIL          ((uint64_t)64 << 10) /* bytes that are asked for first */
#define MAX_DIRECTORY ((uint64_t)64 << 20)

/* PKWARE APPNOTE 6.3.10, sections 4.3.7, 4.3.12, 4.3.14 to 4.3.16 */
#define LOCAL_SIZE   30
#define ENTRY_SIZE   46
#define END64_SIZE   56
#define LOCATOR_SIZE 20
#define END_SIZE     22

struct record_reader {
    struct ctl *ctl;
    char *path;           /* of the program's file */
    uint64_t bytes;       /* of that file */
    struct buf directory; /* the central directory */
};

static uint64_t little(const char *p, size_t n)
{
    uint64_t value = 0;

    while (n-- > 0)
        value = value << 8 | (unsigned char)p[n];
    return value;
}

static int broken(struct record_reader *r)
{
    return ctl_fail(r->ctl, CTL_BROKEN, "%s is no archive that can be read", r->path);
}

/* len bytes from offset on, in ret (an empty buf). */
static int fetch(struct record_reader *r, uint64_t offset, uint64_t len, struct buf *ret)
{
    char range[80];
    struct ctl_request request = {
        .method = "GET", .path = r->path, .accept = "*/*", .headers = {range}};
    AUTO_REPLY reply = {0};

    if (len == 0 || offset > r->bytes || len > r->bytes - offset)
        return broken(r);
    snprintf(range, sizeof(range), "Range: bytes=%llu-%llu", (unsigned long long)offset,
             (unsigned long long)(offset + len - 1));
    if (ctl_http(r->ctl, &request, &reply) < 0)
        return -1;
    if (reply.body.len != len)
        return ctl_fail(r->ctl, CTL_BROKEN,
                        "GET %s answered %zu bytes of %llu that were "
                        "asked for",
                        r->path, reply.body.len, (unsigned long long)len);
    *ret = reply.body;
    reply.body = (struct buf){0};
    return 0;
}

/* ---- the directory ---- */

/* Where the directory lies, in the zip64 end record that a locator points to. */
static int read_end64(struct record_reader *r, uint64_t at, uint64_t *ret_offset,
                      uint64_t *ret_size)
{
    AUTO_BUF end = BUF_INIT(END64_SIZE);

    if (fetch(r, at, END64_SIZE, &end) < 0)
        return -1;
    if (little(end.data, 4) != 0x06064b50)
        return broken(r);
    *ret_size = little(end.data + 40, 8);
    *ret_offset = little(end.data + 48, 8);
    return 0;
}

/* The end record at the end of the file, behind it nothing but its comment. */
static int find_directory(struct record_reader *r, uint64_t *ret_offset,
                          uint64_t *ret_size)
{
    uint64_t n = MIN(r->bytes, TAIL);
    AUTO_BUF tail = BUF_INIT(TAIL);
    const char *end;

    if (n < END_SIZE)
        return broken(r);
    if (fetch(r, r->bytes - n, n, &tail) < 0)
        return -1;
    for (size_t i = n - END_SIZE + 1; i-- > 0;) {
        end = tail.data + i;
        if (little(end, 4) != 0x06054b50 || little(end + 20, 2) != n - END_SIZE - i)
            continue;
        *ret_size = little(end + 12, 4);
        *ret_offset = little(end + 16, 4);
        if (i >= LOCATOR_SIZE && little(end - LOCATOR_SIZE, 4) == 0x07064b50)
            return read_end64(r, little(end - LOCATOR_SIZE + 8, 8), ret_offset, ret_size);
        return 0;
    }
    return broken(r);
}

int record_reader_new(struct ctl *ctl, const char *id, uint64_t bytes,
                      struct record_reader **ret_reader)
{
    AUTO(record_reader) r = calloc(1, sizeof(*r));
    uint64_t offset = 0, size = 0;

    if (!r)
        return ctl_fail_nomem(ctl);
    r->ctl = ctl;
    r->bytes = bytes;
    r->path = ctl_path("/v1/programs/%s/file", id);
    if (!r->path)
        return ctl_fail_nomem(ctl);
    if (find_directory(r, &offset, &size) < 0)
        return -1;
    if (size > MAX_DIRECTORY)
        return broken(r);
    if (fetch(r, offset, size, &r->directory) < 0)
        return -1;
    *ret_reader = TAKE(r);
    return 0;
}

void record_reader_free(struct record_reader *r)
{
    if (!r)
        return;
    buf_done(&r->directory);
    free(r->path);
    free(r);
}

/* ---- a record ---- */

struct entry {
    uint64_t packed, size, offset;
    unsigned method;
    uint32_t crc32;
};

/* The sizes and the offset that do not fit in 32 bits stand in extra field 1, in order.
 */
static bool read_extra64(const char *extra, size_t len, struct entry *e)
{
    uint64_t *const fields[] = {&e->size, &e->packed, &e->offset};

    while (len >= 4) {
        size_t n = little(extra + 2, 2);
        const char *at = extra + 4;

        if (n > len - 4)
            return false;
        for (size_t i = 0; little(extra, 2) == 1 && i < ARRAY_LEN(fields); i++) {
            if (*fields[i] != UINT32_MAX)
                continue;
            if ((size_t)(extra + 4 + n - at) < 8)
                return false;
            *fields[i] = little(at, 8);
            at += 8;
        }
        extra += 4 + n;
        len -= 4 + n;
    }
    return true;
}

/* Is the record's name, without the root folder, this one? */
static bool has_name(const char *full, size_t len, const char *name)
{
    const char *slash = memchr(full, '/', len);
    size_t rest = slash ? len - (size_t)(slash + 1 - full) : 0;

    return slash && rest == strlen(name) && memcmp(slash + 1, name, rest) == 0;
}

/* 1: found; 0: there is none. */
static int find_entry(struct record_reader *r, const char *name, struct entry *ret)
{
    const char *p = r->directory.data, *end = p + r->directory.len;

    while ((size_t)(end - p) >= ENTRY_SIZE && little(p, 4) == 0x02014b50) {
        size_t n_name = little(p + 28, 2), n_extra = little(p + 30, 2),
               n = ENTRY_SIZE + n_name + n_extra + little(p + 32, 2);

        if (n > (size_t)(end - p))
            return broken(r);
        if (has_name(p + ENTRY_SIZE, n_name, name)) {
            *ret = (struct entry){.method = (unsigned)little(p + 10, 2),
                                  .crc32 = (uint32_t)little(p + 16, 4),
                                  .packed = little(p + 20, 4),
                                  .size = little(p + 24, 4),
                                  .offset = little(p + 42, 4)};
            return read_extra64(p + ENTRY_SIZE + n_name, n_extra, ret) ? 1 : broken(r);
        }
        p += n;
    }
    return 0;
}

static bool inflate_all(const struct buf *packed, char *to, size_t size)
{
    z_stream z = {.next_in = (Bytef *)packed->data,
                  .avail_in = (uInt)packed->len,
                  .next_out = (Bytef *)to,
                  .avail_out = (uInt)size};
    int result;

    if (inflateInit2(&z, -MAX_WBITS) != Z_OK)
        return false;
    result = inflate(&z, Z_FINISH);
    inflateEnd(&z);
    return result == Z_STREAM_END && z.total_out == size;
}

/* The record's bytes, unpacked and checked. */
static int unpack(struct record_reader *r, const struct entry *e, struct buf *packed,
                  char **ret_text)
{
    AUTO_PTR char *text = NULL;

    if (e->method == 0 && e->packed == e->size) {
        text = buf_take(packed);
    } else if (e->method == 8) {
        text = malloc(e->size + 1);
        if (text && !inflate_all(packed, text, e->size))
            return broken(r);
    } else {
        return broken(r);
    }
    if (!text)
        return ctl_fail_nomem(r->ctl);
    text[e->size] = '\0';
    if (crc32(0, (const Bytef *)text, (uInt)e->size) != e->crc32)
        return broken(r);
    *ret_text = TAKE(text);
    return 0;
}

int record_reader_get(struct record_reader *r, const char *name, size_t max,
                      char **ret_text, size_t *ret_len)
{
    AUTO_BUF local = BUF_INIT(LOCAL_SIZE), packed = BUF_INIT(max);
    struct entry e;
    int found = find_entry(r, name, &e);

    *ret_text = NULL;
    if (found <= 0)
        return found;
    if (e.size > max || e.packed > max || e.size == 0)
        return ctl_fail(r->ctl, CTL_BROKEN, "%s has %llu bytes, must have 1 to %zu", name,
                        (unsigned long long)e.size, max);
    if (fetch(r, e.offset, LOCAL_SIZE, &local) < 0)
        return -1;
    if (little(local.data, 4) != 0x04034b50)
        return broken(r);
    e.offset += LOCAL_SIZE + little(local.data + 26, 2) + little(local.data + 28, 2);
    if (fetch(r, e.offset, e.packed, &packed) < 0 || unpack(r, &e, &packed, ret_text) < 0)
        return -1;
    *ret_len = e.size;
    return 0;
}
