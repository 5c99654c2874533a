/* aten_undo.h - what a step may overwrite in a cache, kept to be put back.
 *
 * Of a buffer with a position dimension those rows, of any other the whole.  The memory
 * is kept from step to step, up to UNDO_KEEP_BYTES; one engine has one, since it runs one
 * step at a time.  One thread at a time. */
#ifndef ENGINE_ATEN_UNDO_H
#define ENGINE_ATEN_UNDO_H

#include "engine/layout.h"

#define UNDO_KEEP_BYTES ((size_t)16 << 20)

struct undo {
    char *data;
    size_t cap;
    int64_t low, high; /* positions saved: low .. high - 1 */
};

/* Save positions low .. high - 1 of the cache at memory.  Errors: NOMEM. */
MUST_USE int undo_save(struct undo *undo, const struct layout *layout, const void *memory,
                       int64_t low, int64_t high, struct pt2_err *err);
/* Put back all that was saved, byte for byte. */
void undo_all(const struct undo *undo, const struct layout *layout, void *memory);
/* Put back the rows outside low .. high - 1, and nothing of the buffers without rows. */
void undo_outside(const struct undo *undo, const struct layout *layout, void *memory,
                  int64_t low, int64_t high);
/* The step is through: give back what is above UNDO_KEEP_BYTES. */
void undo_trim(struct undo *undo);
void undo_done(struct undo *undo);

#endif
