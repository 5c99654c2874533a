/* zip.h - the zip container as far as .pt2 archives use it.
 *
 *     local header │ name │ extra │ bytes │ [data descriptor]      a record; repeated
 *     central header │ name │ extra │ comment                      one a record
 *     [zip64 end record │ zip64 locator]
 *     end record
 *
 * Section numbers in this folder are those of PKWARE's APPNOTE.TXT 6.3.10.  All numbers
 * are little-endian; a 32-bit field of all ones means that the number stands in the zip64
 * extra field (4.5.3) or the zip64 end record (4.3.14). */
#ifndef ARCHIVE_ZIP_H
#define ARCHIVE_ZIP_H

#include "base/util.h"

#include <pt2/err.h>

#define ZIP_LOCAL_SIG      UINT32_C(0x04034b50) /* 4.3.7 */
#define ZIP_DESCRIPTOR_SIG UINT32_C(0x08074b50) /* 4.3.9 */
#define ZIP_CENTRAL_SIG    UINT32_C(0x02014b50) /* 4.3.12 */
#define ZIP_END64_SIG      UINT32_C(0x06064b50) /* 4.3.14 */
#define ZIP_LOCATOR_SIG    UINT32_C(0x07064b50) /* 4.3.15 */
#define ZIP_END_SIG        UINT32_C(0x06054b50) /* 4.3.16 */

#define ZIP_LOCAL_BYTES   30
#define ZIP_CENTRAL_BYTES 46
#define ZIP_END64_BYTES   56
#define ZIP_LOCATOR_BYTES 20
#define ZIP_END_BYTES     22

#define ZIP_FLAG_ENCRYPTED  0x0001
#define ZIP_FLAG_DEFLATE    0x0006 /* how hard deflate tried */
#define ZIP_FLAG_DESCRIPTOR 0x0008 /* CRC and sizes follow the bytes */
#define ZIP_FLAG_UTF8       0x0800

#define ZIP_STORED   0
#define ZIP_DEFLATED 8

#define ZIP_EXTRA_ZIP64   0x0001
#define ZIP_EXTRA_PADDING 0x4246 /* "FB": what torch pads with, too */

#define ZIP_MAX_ENTRIES   (1u << 20)
#define ZIP_MAX_DIRECTORY (UINT64_C(256) << 20) /* bytes of all central headers */
#define ZIP_MAX_NAME      1024                  /* bytes */

static inline uint16_t zip_get16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}
static inline uint32_t zip_get32(const uint8_t *p)
{
    return zip_get16(p) | (uint32_t)zip_get16(p + 2) << 16;
}
static inline uint64_t zip_get64(const uint8_t *p)
{
    return zip_get32(p) | (uint64_t)zip_get32(p + 4) << 32;
}

/* Where the central directory lies. */
struct zip_end {
    uint64_t n_entries;
    uint64_t offset, size; /* of the central headers */
};

/* One record, all of it inside the file and apart from every other. */
struct zip_entry {
    const char *name; /* in zip_dir's names */
    uint64_t header;  /* offset of the local header */
    uint64_t data;    /* offset of the bytes */
    uint64_t end;     /* offset behind the bytes and the data descriptor */
    uint64_t packed, size;
    uint32_t crc32;
    uint16_t flags, method;
    bool is_folder; /* "a/": holds nothing */
};

struct zip_dir {
    struct zip_entry *entries; /* as the central directory has them */
    size_t n_entries;
    char *names;
};

/* Find and check the end records of the len bytes at map.
 * Errors: BAD_ARCHIVE. */
MUST_USE int zip_find_end(const uint8_t *map, uint64_t len, struct zip_end *ret_end,
                          struct pt2_err *err);

/* Read and check every central and local header.  map is the whole of a file, mapped: the
 * pages that headers lie in are let go of, as they would add up.  new: zip_dir_done.
 * Errors: BAD_ARCHIVE, NOMEM. */
MUST_USE int zip_read_dir(const uint8_t *map, uint64_t len, struct zip_dir *ret_dir,
                          struct pt2_err *err);
void zip_dir_done(struct zip_dir *dir);

#endif
