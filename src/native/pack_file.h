/* pack_file.h - the file that a packing is kept in (pack.h draws it).  Private to pack*.c. */
#ifndef NATIVE_PACK_FILE_H
#define NATIVE_PACK_FILE_H

#include "native/plan.h"
#include "native/team.h"

struct mapping;
struct pack_map {
    struct mapping *mapping; /* NULL: none */
    const uint8_t *at;       /* its */
    size_t bytes;
};
void pack_map_done(struct pack_map *map);

/* Map the file; the plan's shapes get the bits that it was packed with.  *ret_first: where the
 * first matrix lies.  False where there is none that is whole and fits. */
MUST_USE bool pack_file_map(const char *path, struct plan *plan,
                            const struct pt2_archive *archive, struct team *team,
                            struct pack_map *ret_map, uint64_t *ret_first);
/* Write one of these bytes, then map it.  Errors: IO, NO_SPACE. */
MUST_USE int pack_file_write(const char *path, const struct plan *plan,
                             const struct pt2_archive *archive, struct team *team,
                             const uint8_t *packed, uint64_t bytes, struct pack_map *ret_map,
                             uint64_t *ret_first, struct pt2_err *err);

#endif
