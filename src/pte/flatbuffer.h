/* flatbuffer.h - a FlatBuffer, made back to front.
 *
 * Offsets in a FlatBuffer point forward, so what is pointed to is made first and lies
 * behind.  Each call answers where its thing is, counted from the end; that is what
 * FB_REF and fb_refs take.  Tables with the same layout share a vtable; scalars are
 * written also where they have the schema's default.  Format:
 * https://flatbuffers.dev/internals/
 *
 * One thread at a time.  The first failure (no memory, too big) sticks: later calls do
 * nothing and answer 0; fb_finish says it. */
#ifndef PTE_FLATBUFFER_H
#define PTE_FLATBUFFER_H

#include "base/util.h"

#include <pt2/err.h>

#define FB_MAX_BYTES  ((size_t)1 << 30)
#define FB_MAX_FIELDS 16 /* of a table */

struct fb_vtable {
    uint32_t at, size;
};

struct fb {
    uint8_t *data; /* the last len bytes of cap are there */
    size_t len, cap;
    size_t align; /* the largest that anything in it needs */
    struct fb_vtable *vtables;
    size_t n_vtables, cap_vtables;
    size_t n_tables;
    bool failed;
};

/* A field of a table: the schema's slot, bytes, and the value's or where it is. */
struct fb_field {
    uint8_t slot, size;
    bool is_ref;
    uint64_t value;
};

#define FB_U8(slot, v)  ((struct fb_field){(slot), 1, false, (uint8_t)(v)})
#define FB_I16(slot, v) ((struct fb_field){(slot), 2, false, (uint16_t)(v)})
#define FB_U32(slot, v) ((struct fb_field){(slot), 4, false, (uint32_t)(v)})
#define FB_I32(slot, v) FB_U32(slot, (int32_t)(v))
#define FB_U64(slot, v) ((struct fb_field){(slot), 8, false, (uint64_t)(v)})
#define FB_I64(slot, v) FB_U64(slot, (int64_t)(v))
#define FB_REF(slot, at) ((struct fb_field){(slot), 4, true, (at)})

void fb_done(struct fb *fb);
#define AUTO_FB __attribute__((cleanup(fb_done))) struct fb

uint32_t fb_string(struct fb *fb, const char *s);
/* n scalars of 1, 2, 4 or 8 bytes, little-endian as they lie here. */
uint32_t fb_vector(struct fb *fb, const void *items, size_t n, size_t size);
/* n tables or strings. */
uint32_t fb_refs(struct fb *fb, const uint32_t *at, size_t n);
/* Fields in any order, each slot once. */
uint32_t fb_table(struct fb *fb, const struct fb_field *fields, size_t n);
#define FB_TABLE(fb, ...)                                                                 \
    fb_table((fb), (const struct fb_field[]){__VA_ARGS__},                                \
             sizeof((const struct fb_field[]){__VA_ARGS__}) / sizeof(struct fb_field))

/* Put root's offset, the identifier and n_free zero bytes behind it in front.  The bytes
 * are *ret_len ones at the answer, the fb's; it must be aligned to 16 where it is read.
 * Errors: NOMEM, LIMIT (more than FB_MAX_BYTES). */
MUST_USE int fb_finish(struct fb *fb, uint32_t root, const char ident[4], size_t n_free,
                       uint8_t **ret_bytes, size_t *ret_len, struct pt2_err *err);

#endif
