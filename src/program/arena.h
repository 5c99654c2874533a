/* arena.h - memory that lives and dies with one program.
 *
 * Taken in pieces, released all at once; aligned to 16 bytes.  One thread at a time. */
#ifndef PROGRAM_ARENA_H
#define PROGRAM_ARENA_H

#include "base/util.h"

struct arena_block;
struct arena {
    struct arena_block *blocks; /* the one in use first */
    size_t used, room;          /* bytes, of that one */
};

/* size bytes, not cleared; NULL where there is no memory. */
void *arena_alloc(struct arena *arena, size_t size);
/* len bytes of s with a '\0' behind them. */
char *arena_string(struct arena *arena, const char *s, size_t len);
/* n items of size bytes each; NULL also where the product does not fit. */
void *arena_copy(struct arena *arena, const void *items, size_t n, size_t size);
void arena_done(struct arena *arena);

#endif
