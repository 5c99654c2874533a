/* archive_read.c - the bytes of records, inflated and checked. */
#include "archive/archive.h"

#include <errno.h>
#include <limits.h>
#include <unistd.h>
#include <zlib.h>

static int bad(const struct pt2_record *record, const char *what, struct pt2_err *err)
{
    return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE, "record '%s': %s", record->name, what);
}

/* zlib's lengths are unsigned ints. */
static uInt slice(uint64_t len)
{
    return (uInt)MIN(len, (uint64_t)1 << 30);
}

static uint32_t crc_of(const uint8_t *data, uint64_t len)
{
    return (uint32_t)crc32_z(0, data, len);
}

/* Run one inflate over a record: out, cap bytes, is filled again and again, and given to take
 * (NULL: nobody wants it) each time it is full, and at the end.  Checks the CRC-32 of all. */
static int inflate_to(const struct pt2_archive *archive, const struct pt2_record *record,
                      uint8_t *out, uint64_t cap, pt2_archive_take *take, void *ctx,
                      struct pt2_err *err)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)(archive->map + record->offset)};
    uint64_t left_in = record->packed, done = 0, filled = 0;
    uint32_t crc = 0;
    int r, taken = 0;

    if (inflateInit2(&z, -MAX_WBITS) != Z_OK)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory to inflate record '%s'",
                           record->name);
    do {
        uInt given = slice(left_in), got = slice(cap - filled);

        z.avail_in = given;
        z.next_out = out + filled;
        z.avail_out = got;
        r = inflate(&z, Z_NO_FLUSH);
        left_in -= given - z.avail_in;
        got -= z.avail_out;
        crc = (uint32_t)crc32_z(crc, z.next_out - got, got);
        done += got;
        filled += got;
        if (filled < cap && r == Z_OK)
            continue;
        taken = take && filled > 0 ? take(ctx, out, (size_t)filled, err) : 0;
        filled = 0;
    } while (r == Z_OK && done <= record->size && taken == 0);
    inflateEnd(&z);
    if (taken < 0)
        return -1;
    if (r == Z_MEM_ERROR)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory to inflate record '%s'",
                           record->name);
    if (r != Z_STREAM_END || done != record->size || left_in != 0)
        return bad(record, "its deflated bytes are damaged or of another length", err);
    if (crc != record->crc32)
        return bad(record, "its CRC-32 is wrong", err);
    return 0;
}

int pt2_archive_read(const struct pt2_archive *archive, const struct pt2_record *record,
                     size_t max_bytes, void **ret_data, size_t *ret_size,
                     struct pt2_err *err)
{
    AUTO_PTR uint8_t *data = NULL;

    if (record->size > max_bytes)
        return pt2_err_set(err, PT2_ERR_LIMIT,
                           "record '%s' has %llu bytes, at most %zu are read",
                           record->name, (unsigned long long)record->size, max_bytes);
    data = malloc(record->size + 1);
    if (!data)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for the %llu bytes of '%s'",
                           (unsigned long long)record->size, record->name);
    if (record->is_stored) {
        memcpy(data, archive->map + record->offset, record->size);
        if (crc_of(data, record->size) != record->crc32)
            return bad(record, "its CRC-32 is wrong", err);
    } else if (inflate_to(archive, record, data, record->size + 1, NULL, NULL, err) < 0) {
        return -1;
    }
    data[record->size] = '\0';
    *ret_size = record->size;
    *ret_data = TAKE(data);
    return 0;
}

/* By pread, not from the mapping: its pages would count as this process's own memory, and a
 * page that is touched brings as much with it as lies in one piece of the system's cache. */
static int take_stored(const struct pt2_archive *archive, const struct pt2_record *record,
                       uint8_t *room, pt2_archive_take *take, void *ctx, struct pt2_err *err)
{
    for (uint64_t done = 0; done < record->size;) {
        size_t want = (size_t)MIN(record->size - done, (uint64_t)PT2_ARCHIVE_SLICE), got = 0;

        while (got < want) {
            ssize_t n = pread(archive->fd, room + got, want - got,
                              (off_t)(record->offset + done + got));

            if (n < 0 && errno == EINTR)
                continue;
            if (n < 0)
                return pt2_err_errno(err, PT2_ERR_IO, "read record '%s'", record->name);
            if (n == 0)
                return bad(record, "the file has become shorter", err);
            got += (size_t)n;
        }
        if (take(ctx, room, want, err) < 0)
            return -1;
        done += want;
    }
    return 0;
}

int pt2_archive_slices(const struct pt2_archive *archive, const struct pt2_record *record,
                       pt2_archive_take *take, void *ctx, struct pt2_err *err)
{
    AUTO_PTR uint8_t *room = malloc(PT2_ARCHIVE_SLICE);

    if (!room)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a slice of record '%s'", record->name);
    return record->is_stored
               ? take_stored(archive, record, room, take, ctx, err)
               : inflate_to(archive, record, room, PT2_ARCHIVE_SLICE, take, ctx, err);
}

int pt2_archive_verify(const struct pt2_archive *archive, struct pt2_err *err)
{
    enum { PIECE = 1 << 18 };
    AUTO_PTR uint8_t *piece = malloc(PIECE);

    if (!piece)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory to check an archive");
    for (size_t i = 0; i < archive->n_records; i++) {
        const struct pt2_record *record = &archive->records[i];

        if (record->is_stored
                ? crc_of(archive->map + record->offset, record->size) != record->crc32
                : inflate_to(archive, record, piece, PIECE, NULL, NULL, err) < 0)
            return bad(record, "its CRC-32 is wrong", err);
    }
    return 0;
}
