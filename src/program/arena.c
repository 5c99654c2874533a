#include "program/arena.h"

#include <stdalign.h>

#define ALIGN     ((size_t)16)
#define MIN_BLOCK ((size_t)16 << 10)
#define MAX_BLOCK ((size_t)1 << 20)

struct arena_block {
    alignas(16) struct arena_block *next;
    char data[];
};

/* A block with room for size bytes; blocks double, so that small programs stay small. */
static bool add_block(struct arena *arena, size_t size)
{
    size_t room = MAX(size, MIN(MAX(arena->room * 2, MIN_BLOCK), MAX_BLOCK));
    struct arena_block *block;

    if (room > SIZE_MAX - sizeof(*block))
        return false;
    block = malloc(sizeof(*block) + room);
    if (!block)
        return false;
    block->next = arena->blocks;
    arena->blocks = block;
    arena->used = 0;
    arena->room = room;
    return true;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    void *p;

    if (size > SIZE_MAX - ALIGN)
        return NULL;
    size = (size + ALIGN - 1) & ~(ALIGN - 1);
    if (size > arena->room - arena->used && !add_block(arena, size))
        return NULL;
    p = arena->blocks->data + arena->used;
    arena->used += size;
    return p;
}

char *arena_string(struct arena *arena, const char *s, size_t len)
{
    char *copy = len < SIZE_MAX ? arena_alloc(arena, len + 1) : NULL;

    if (!copy)
        return NULL;
    memcpy(copy, s, len);
    copy[len] = '\0';
    return copy;
}

void *arena_copy(struct arena *arena, const void *items, size_t n, size_t size)
{
    size_t bytes;
    void *copy;

    if (__builtin_mul_overflow(n, size, &bytes))
        return NULL;
    copy = arena_alloc(arena, MAX(bytes, (size_t)1));
    if (copy && bytes > 0)
        memcpy(copy, items, bytes);
    return copy;
}

void arena_done(struct arena *arena)
{
    while (arena->blocks) {
        struct arena_block *block = arena->blocks;

        arena->blocks = block->next;
        free(block);
    }
    *arena = (struct arena){0};
}
