#include "program/names.h"

#include <sys/random.h>

#define MIN_SLOTS 64

void names_init(struct names *names)
{
    *names = (struct names){0};
    /* Early at boot there may be no randomness yet; an address is better than nothing. */
    if (getrandom(&names->seed, sizeof(names->seed), GRND_NONBLOCK) !=
        sizeof(names->seed))
        names->seed = (uint64_t)(uintptr_t)names * 0x9e3779b97f4a7c15u;
}

void names_done(struct names *names)
{
    free(names->slots);
    names->slots = NULL;
    names->n = names->cap = 0;
}

static uint64_t fold(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t hash(const struct names *names, const char *s, size_t len)
{
    uint64_t h = names->seed ^ len, word;

    for (; len >= sizeof(word); s += sizeof(word), len -= sizeof(word)) {
        memcpy(&word, s, sizeof(word));
        h = fold(h ^ word, names->seed | 1);
        h ^= 0x9e3779b97f4a7c15u;
    }
    word = 0;
    memcpy(&word, s, len);
    return fold(h ^ word, 0xd6e8feb86659fd93u);
}

/* The name's slot, or the empty one where it would go. */
static struct name_slot *slot_for(const struct names *names, const char *name, size_t len)
{
    uint32_t mask = names->cap - 1;
    uint32_t i = (uint32_t)hash(names, name, len) & mask;

    for (;; i = (i + 1) & mask) {
        struct name_slot *slot = &names->slots[i];

        if (!slot->name || (slot->len == len && memcmp(slot->name, name, len) == 0))
            return slot;
    }
}

struct name_slot *names_find(const struct names *names, const char *name, size_t len)
{
    struct name_slot *slot = names->n ? slot_for(names, name, len) : NULL;

    return slot && slot->name ? slot : NULL;
}

static bool grow(struct names *names)
{
    struct names bigger = *names;

    bigger.cap = names->cap ? names->cap * 2 : MIN_SLOTS;
    bigger.slots = calloc(bigger.cap, sizeof(*bigger.slots));
    if (!bigger.slots)
        return false;
    for (uint32_t i = 0; i < names->cap; i++) {
        const struct name_slot *old = &names->slots[i];

        if (old->name)
            *slot_for(&bigger, old->name, old->len) = *old;
    }
    free(names->slots);
    *names = bigger;
    return true;
}

bool names_add(struct names *names, const char *name, uint32_t number)
{
    size_t len = strlen(name);

    if (names->n >= names->cap / 2 && !grow(names))
        return false;
    *slot_for(names, name, len) = (struct name_slot){
        .name = name, .len = (uint32_t)len, .number = number, .next_suffix = 1};
    names->n++;
    return true;
}
