/* zip_end.c - the end records: where the central directory lies. */
#include "archive/zip.h"

static int bad(struct pt2_err *err, const char *what)
{
    return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE, "end record: %s", what);
}

/* Offset of the last end record.  Only the last signature is looked at, as in torch's
 * reader, so that both read the same directory. */
static int find_end_record(const uint8_t *map, uint64_t len, uint64_t *ret_at,
                           struct pt2_err *err)
{
    uint64_t lowest =
        len > ZIP_END_BYTES + UINT16_MAX ? len - ZIP_END_BYTES - UINT16_MAX : 0;
    uint64_t at, behind;

    if (len < ZIP_END_BYTES)
        return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE, "not a zip archive: %llu bytes long",
                           (unsigned long long)len);
    for (at = len - ZIP_END_BYTES; zip_get32(map + at) != ZIP_END_SIG; at--)
        if (at == lowest)
            return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE,
                               "not a zip archive, or cut: no end record");
    behind = len - at - ZIP_END_BYTES;
    if (zip_get16(map + at + 20) != behind)
        return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE,
                           "end record: %llu bytes follow it, its comment has %u",
                           (unsigned long long)behind, zip_get16(map + at + 20));
    *ret_at = at;
    return 0;
}

/* Is what a field of the end record says what the zip64 record says? */
static bool agrees(uint64_t narrow, uint64_t ones, uint64_t wide)
{
    return narrow == ones || narrow == wide;
}

/* The zip64 end record, whose locator lies right before the end record at `at`. */
static int read_end64(const uint8_t *map, uint64_t at, struct zip_end *end,
                      uint64_t *ret_start, struct pt2_err *err)
{
    const uint8_t *locator = map + at - ZIP_LOCATOR_BYTES, *record;
    uint64_t start = zip_get64(locator + 8), limit = at - ZIP_LOCATOR_BYTES;

    if (zip_get32(locator + 4) != 0 || zip_get32(locator + 16) > 1)
        return bad(err, "the archive is split over disks");
    if (limit < ZIP_END64_BYTES || start > limit - ZIP_END64_BYTES)
        return bad(err, "the zip64 locator points outside of the file");
    record = map + start;
    if (zip_get32(record) != ZIP_END64_SIG)
        return bad(err, "the zip64 locator does not point to a zip64 end record");
    if (zip_get64(record + 4) != limit - start - 12)
        return bad(err, "the zip64 end record's size is wrong");
    if (zip_get32(record + 16) != 0 || zip_get32(record + 20) != 0 ||
        zip_get64(record + 24) != zip_get64(record + 32))
        return bad(err, "the archive is split over disks");
    end->n_entries = zip_get64(record + 32);
    end->size = zip_get64(record + 40);
    end->offset = zip_get64(record + 48);
    record = map + at;
    if (!agrees(zip_get16(record + 10), UINT16_MAX, end->n_entries) ||
        !agrees(zip_get32(record + 12), UINT32_MAX, end->size) ||
        !agrees(zip_get32(record + 16), UINT32_MAX, end->offset))
        return bad(err, "contradicts the zip64 end record");
    *ret_start = start;
    return 0;
}

int zip_find_end(const uint8_t *map, uint64_t len, struct zip_end *ret_end,
                 struct pt2_err *err)
{
    struct zip_end end;
    uint64_t at = 0, start, dir_end;
    const uint8_t *record;

    if (find_end_record(map, len, &at, err) < 0)
        return -1;
    record = map + at;
    start = at;
    if (zip_get16(record + 4) != 0 || zip_get16(record + 6) != 0 ||
        zip_get16(record + 8) != zip_get16(record + 10))
        return bad(err, "the archive is split over disks");
    end.n_entries = zip_get16(record + 10);
    end.size = zip_get32(record + 12);
    end.offset = zip_get32(record + 16);
    if (at >= ZIP_LOCATOR_BYTES &&
        zip_get32(map + at - ZIP_LOCATOR_BYTES) == ZIP_LOCATOR_SIG &&
        read_end64(map, at, &end, &start, err) < 0)
        return -1;
    if (!size_add(end.offset, end.size, &dir_end) || dir_end != start)
        return pt2_err_set(
            err, PT2_ERR_BAD_ARCHIVE,
            "end record: the central directory (offset %llu, %llu bytes) does "
            "not end where the end records begin (%llu)",
            (unsigned long long)end.offset, (unsigned long long)end.size,
            (unsigned long long)start);
    if (end.n_entries > ZIP_MAX_ENTRIES || end.size > ZIP_MAX_DIRECTORY)
        return pt2_err_set(
            err, PT2_ERR_BAD_ARCHIVE,
            "end record: %llu records with %llu bytes of headers; at most %u "
            "and %llu are read",
            (unsigned long long)end.n_entries, (unsigned long long)end.size,
            ZIP_MAX_ENTRIES, (unsigned long long)ZIP_MAX_DIRECTORY);
    if (end.n_entries > end.size / ZIP_CENTRAL_BYTES)
        return bad(err, "more records than the central directory has room for");
    *ret_end = end;
    return 0;
}
