#include "pte/read.h"

static bool holds(struct fb_reader *r, uint64_t at, uint64_t bytes)
{
    if (at <= r->len && bytes <= r->len - at)
        return true;
    r->bad = true;
    return false;
}

static uint64_t read_number(struct fb_reader *r, uint64_t at, unsigned bytes)
{
    uint64_t v = 0;

    if (!holds(r, at, bytes))
        return 0;
    for (unsigned i = 0; i < bytes; i++)
        v |= (uint64_t)r->data[at + i] << (8 * i);
    return v;
}

/* Where the reference at that place leads; 0: nowhere. */
static fb_at follow(struct fb_reader *r, uint64_t at)
{
    uint64_t to = at + read_number(r, at, 4);

    if (r->bad || to == at || !holds(r, to, 4) || to > UINT32_MAX) {
        r->bad = true;
        return 0;
    }
    return (fb_at)to;
}

fb_at fb_root(struct fb_reader *r)
{
    return follow(r, 0);
}

/* The field's place; 0: absent. */
static uint64_t find(struct fb_reader *r, fb_at table, unsigned slot)
{
    int64_t vtable;
    uint64_t size, offset;

    if (!table || r->bad)
        return 0;
    vtable = (int64_t)table - (int32_t)read_number(r, table, 4);
    if (vtable < 0 || !holds(r, (uint64_t)vtable, 4)) {
        r->bad = true;
        return 0;
    }
    size = read_number(r, (uint64_t)vtable, 2);
    if (4 + 2 * (uint64_t)slot + 2 > size)
        return 0;
    offset = read_number(r, (uint64_t)vtable + 4 + 2 * slot, 2);
    return offset && !r->bad ? table + offset : 0;
}

uint64_t fb_number(struct fb_reader *r, fb_at table, unsigned slot, unsigned bytes,
                   uint64_t otherwise)
{
    uint64_t at = find(r, table, slot);

    return at ? read_number(r, at, bytes) : otherwise;
}

fb_at fb_table_at(struct fb_reader *r, fb_at table, unsigned slot)
{
    uint64_t at = find(r, table, slot);

    return at ? follow(r, at) : 0;
}

struct fb_list fb_list_at(struct fb_reader *r, fb_at table, unsigned slot, unsigned bytes)
{
    fb_at at = fb_table_at(r, table, slot);
    uint64_t n = at ? read_number(r, at, 4) : 0;

    if (!at || !holds(r, (uint64_t)at + 4, n * bytes) || n > r->budget) {
        r->bad = r->bad || at;
        return (struct fb_list){0};
    }
    r->budget -= n;
    return (struct fb_list){at + 4, (uint32_t)n};
}

uint64_t fb_item(struct fb_reader *r, struct fb_list list, uint32_t i, unsigned bytes)
{
    return read_number(r, list.at + (uint64_t)i * bytes, bytes);
}

fb_at fb_table_item(struct fb_reader *r, struct fb_list list, uint32_t i)
{
    return follow(r, list.at + (uint64_t)i * 4);
}

void fb_text(struct fb_reader *r, fb_at table, unsigned slot, char *to, size_t size)
{
    fb_at at = fb_table_at(r, table, slot);
    uint64_t n = at ? read_number(r, at, 4) : 0;

    if (!at || !holds(r, (uint64_t)at + 4, n))
        n = 0;
    n = MIN(n, (uint64_t)size - 1);
    if (n > 0)
        memcpy(to, r->data + at + 4, n);
    to[n] = '\0';
}
