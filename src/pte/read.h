/* read.h - FlatBuffers from outside: every place is checked before it is read.
 *
 * What lies outside of the buffer reads as absent, and is remembered (bad); so does what is read
 * beyond the budget of items, since tables may be named again and again. */
#ifndef PTE_READ_H
#define PTE_READ_H

#include "base/util.h"

struct fb_reader {
    const uint8_t *data;
    size_t len;
    size_t budget; /* items of lists that may still be read */
    bool bad;
};

/* A table's place; 0: it is absent, and so are its fields. */
typedef uint32_t fb_at;

fb_at fb_root(struct fb_reader *r);
/* A scalar field of up to 8 bytes, little-endian, unsigned; otherwise where it is absent. */
uint64_t fb_number(struct fb_reader *r, fb_at table, unsigned slot, unsigned bytes,
                   uint64_t otherwise);
fb_at fb_table_at(struct fb_reader *r, fb_at table, unsigned slot);

struct fb_list {
    uint32_t at, n; /* of the first item */
};

/* Its items are of that many bytes; n 0 where it is absent. */
struct fb_list fb_list_at(struct fb_reader *r, fb_at table, unsigned slot, unsigned bytes);
/* The i-th, below n. */
uint64_t fb_item(struct fb_reader *r, struct fb_list list, uint32_t i, unsigned bytes);
fb_at fb_table_item(struct fb_reader *r, struct fb_list list, uint32_t i);
/* A copy, cut to size; "" where it is absent. */
void fb_text(struct fb_reader *r, fb_at table, unsigned slot, char *to, size_t size);

#endif
