/* flatbuffer.c - the bytes of a FlatBuffer. */
#include "pte/flatbuffer.h"

#include "base/log.h"

void fb_done(struct fb *fb)
{
    free(fb->data);
    free(fb->vtables);
    *fb = (struct fb){0};
}

/* len bytes before all others; NULL on failure. */
static uint8_t *put(struct fb *fb, size_t len)
{
    if (fb->failed || len > FB_MAX_BYTES - fb->len) {
        fb->failed = true;
        return NULL;
    }
    if (fb->len + len > fb->cap) {
        size_t cap = MAX(fb->cap * 2, MAX(fb->len + len, (size_t)4096));
        uint8_t *data = malloc(cap);

        if (!data) {
            fb->failed = true;
            return NULL;
        }
        if (fb->len)
            memcpy(data + cap - fb->len, fb->data + fb->cap - fb->len, fb->len);
        free(fb->data);
        fb->data = data;
        fb->cap = cap;
    }
    fb->len += len;
    return fb->data ? fb->data + fb->cap - fb->len : NULL; /* nothing of nothing */
}

static void put_bytes(struct fb *fb, const void *bytes, size_t len)
{
    uint8_t *to = put(fb, len);

    if (to && len)
        memcpy(to, bytes, len);
}

static void put_u32(struct fb *fb, uint32_t v)
{
    put_bytes(fb, &v, sizeof(v));
}

/* Zeros, so that what begins `behind` bytes further in front is aligned. */
static void pad(struct fb *fb, size_t align, size_t behind)
{
    size_t n = -(fb->len + behind) & (align - 1);
    uint8_t *to;

    fb->align = MAX(fb->align, align);
    to = put(fb, n);
    if (to)
        memset(to, 0, n);
}

static uint32_t here(const struct fb *fb)
{
    return fb->failed ? 0 : (uint32_t)fb->len;
}

uint32_t fb_string(struct fb *fb, const char *s)
{
    size_t len = strlen(s);

    pad(fb, 4, len + 1);
    put_bytes(fb, s, len + 1);
    put_u32(fb, (uint32_t)len);
    return here(fb);
}

uint32_t fb_vector(struct fb *fb, const void *items, size_t n, size_t size)
{
    if (n > FB_MAX_BYTES / size) {
        fb->failed = true;
        return 0;
    }
    pad(fb, MAX(size, (size_t)4), n * size); /* the first item is aligned, not the count */
    put_bytes(fb, items, n * size);
    put_u32(fb, (uint32_t)n);
    return here(fb);
}

uint32_t fb_refs(struct fb *fb, const uint32_t *at, size_t n)
{
    if (n > FB_MAX_BYTES / 4) {
        fb->failed = true;
        return 0;
    }
    pad(fb, 4, 4 * n);
    for (size_t i = n; i-- > 0 && !fb->failed;)
        put_u32(fb, (uint32_t)fb->len + 4 - at[i]);
    put_u32(fb, (uint32_t)n);
    return here(fb);
}

/* The vtable of these bytes, made where there is none yet. */
static uint32_t share_vtable(struct fb *fb, const uint16_t *vtable, uint32_t size)
{
    for (size_t i = 0; i < fb->n_vtables; i++) {
        const struct fb_vtable *v = &fb->vtables[i];

        if (v->size == size && memcmp(fb->data + fb->cap - v->at, vtable, size) == 0)
            return v->at;
    }
    if (fb->n_vtables == fb->cap_vtables) {
        size_t cap = MAX(fb->cap_vtables * 2, (size_t)32);
        struct fb_vtable *list = realloc(fb->vtables, cap * sizeof(*list));

        if (!list) {
            fb->failed = true;
            return 0;
        }
        fb->vtables = list;
        fb->cap_vtables = cap;
    }
    put_bytes(fb, vtable, size);
    if (!fb->failed)
        fb->vtables[fb->n_vtables++] = (struct fb_vtable){(uint32_t)fb->len, size};
    return here(fb);
}

/* Largest fields first, so that there are no holes. */
static size_t place_fields(const struct fb_field *fields, size_t n, uint16_t *vtable,
                           size_t *ret_align, size_t *ret_slots)
{
    size_t pos = 4, align = 4, n_slots = 0; /* the vtable's offset comes first */

    for (size_t size = 8; size > 0; size /= 2)
        for (size_t i = 0; i < n; i++) {
            if (fields[i].size != size)
                continue;
            pos = (pos + size - 1) & ~(size - 1);
            ASSERT(fields[i].slot < FB_MAX_FIELDS && vtable[2 + fields[i].slot] == 0);
            vtable[2 + fields[i].slot] = (uint16_t)pos;
            pos += size;
            align = MAX(align, size);
            n_slots = MAX(n_slots, (size_t)fields[i].slot + 1);
        }
    *ret_align = align;
    *ret_slots = n_slots;
    return pos;
}

uint32_t fb_table(struct fb *fb, const struct fb_field *fields, size_t n)
{
    uint16_t vtable[2 + FB_MAX_FIELDS] = {0};
    size_t align, n_slots, size = place_fields(fields, n, vtable, &align, &n_slots);
    uint32_t start, shared;
    uint8_t *table;
    int32_t to_vtable;

    vtable[0] = (uint16_t)(4 + 2 * n_slots);
    vtable[1] = (uint16_t)size;
    pad(fb, align, size);
    table = put(fb, size);
    if (!table)
        return 0;
    start = (uint32_t)fb->len;
    memset(table, 0, size);
    for (size_t i = 0; i < n; i++) {
        uint16_t pos = vtable[2 + fields[i].slot];
        uint64_t v = fields[i].value;

        if (fields[i].is_ref) /* from the field to what lies behind it */
            v = start - pos - v;
        memcpy(table + pos, &v, fields[i].size);
    }
    fb->n_tables++;
    shared = share_vtable(fb, vtable, vtable[0]);
    if (fb->failed)
        return 0;
    to_vtable = (int32_t)(shared - start); /* a table's start minus this is its vtable's */
    memcpy(fb->data + fb->cap - start, &to_vtable, sizeof(to_vtable));
    return start;
}

int fb_finish(struct fb *fb, uint32_t root, const char ident[4], size_t n_free,
              uint8_t **ret_bytes, size_t *ret_len, struct pt2_err *err)
{
    uint8_t *zeros;

    pad(fb, MAX(fb->align, (size_t)16), 8 + n_free);
    zeros = put(fb, n_free);
    if (zeros)
        memset(zeros, 0, n_free);
    put_bytes(fb, ident, 4);
    put_u32(fb, (uint32_t)fb->len + 4 - root);
    if (fb->failed)
        return fb->len > FB_MAX_BYTES / 2
                   ? pt2_err_set(err, PT2_ERR_LIMIT, "a FlatBuffer beyond %zu bytes",
                                 FB_MAX_BYTES)
                   : pt2_err_set(err, PT2_ERR_NOMEM, "a FlatBuffer");
    *ret_bytes = fb->data + fb->cap - fb->len;
    *ret_len = fb->len;
    return 0;
}
