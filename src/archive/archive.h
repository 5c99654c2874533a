/* archive.h - inside an open archive, for the files of this folder. */
#ifndef ARCHIVE_ARCHIVE_H
#define ARCHIVE_ARCHIVE_H

#include "archive/zip.h"
#include "base/mapping.h"

#include <pt2/archive.h>

struct pt2_archive {
    struct mapping *mapping;
    int fd; /* the mapping's, as what follows */
    const uint8_t *map;
    uint64_t len;
    char *root;
    struct zip_dir dir;         /* the names lie here */
    struct pt2_record *records; /* folders left out */
    size_t n_records;
    const struct pt2_record **by_name; /* sorted */
    struct pt2_payload *payloads;
    size_t n_payloads;
    const struct pt2_payload **by_fqn; /* sorted */
    char *tables[2]; /* the texts of the payload tables; the fqns lie there */
};

DEFINE_AUTO(pt2_archive)

/* Read both payload tables into the archive.
 * Errors: BAD_ARCHIVE, NOMEM. */
MUST_USE int archive_read_payloads(struct pt2_archive *archive, struct pt2_err *err);

#endif
