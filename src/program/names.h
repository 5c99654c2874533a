/* names.h - which value has a name: a hash table from names to numbers.
 *
 * Names are borrowed (from the program's arena).  The hash is seeded by chance, so that a
 * file can't choose names that collide.  One thread at a time; find alone: any. */
#ifndef PROGRAM_NAMES_H
#define PROGRAM_NAMES_H

#include "base/util.h"

struct name_slot {
    const char *name; /* NULL: empty */
    uint32_t len;
    uint32_t number;
    uint32_t next_suffix; /* the "_1" to try first when the name is asked for again */
};

struct names {
    struct name_slot *slots;
    uint32_t n, cap; /* cap is a power of 2 */
    uint64_t seed;
};

void names_init(struct names *names);
void names_done(struct names *names);

/* NULL where the name is not there.  The slot moves when a name is added. */
struct name_slot *names_find(const struct names *names, const char *name, size_t len);
/* Add a name that is not there yet.  False where there is no memory. */
bool names_add(struct names *names, const char *name, uint32_t number);

#endif
