/* aten_cache.c - one session's buffers: made, forked, moved to another worker, copied out
 * and in. */
#include "engine/aten.h"

#include "base/log.h"

#define MAP_TIMEOUT_MS (60 * 1000)

/* ---- slots ---- */

/* A free slot of the engine; its table grows. */
static int slot_take(struct aten_engine *engine, struct aten_cache *cache,
                     struct pt2_err *err)
{
    size_t i = 0, n;
    struct aten_cache **slots;

    while (i < engine->n_slots && engine->slots[i])
        i++;
    if (i == engine->n_slots) {
        n = MIN(MAX(2 * engine->n_slots, 8), WIRE_MAX_CACHES);
        if (i == n)
            return pt2_err_set(err, PT2_ERR_LIMIT, "one engine holds %d caches at most",
                               WIRE_MAX_CACHES);
        if (!(slots = realloc(engine->slots, n * sizeof(struct aten_cache *))))
            return pt2_err_set(err, PT2_ERR_NOMEM, "cache");
        memset(slots + i, 0, (n - i) * sizeof(struct aten_cache *));
        engine->slots = slots;
        engine->n_slots = n;
    }
    engine->slots[i] = cache;
    engine->n_caches++;
    cache->base.engine = &engine->base;
    cache->slot = (uint32_t)i;
    cache->has_slot = true;
    return 0;
}

static void slot_free(struct aten_cache *cache)
{
    struct aten_engine *engine = aten_engine(cache->base.engine);

    engine->slots[cache->slot] = NULL;
    engine->n_caches--;
    cache->has_slot = false;
}

/* Leave the engine, whose worker forgets the memory. */
static void slot_leave(struct aten_cache *cache)
{
    struct aten_engine *engine = aten_engine(cache->base.engine);
    struct wire_request request = {.verb = WIRE_UNMAP, .slot = cache->slot};
    struct wire_reply reply;

    if (!cache->has_slot)
        return;
    if (!worker_is_dead(&engine->worker))
        (void)!worker_ask(&engine->worker, &request, -1, MAP_TIMEOUT_MS, &reply, NULL);
    slot_free(cache);
}

/* Give the cache's memory to the worker of engine. */
static int slot_map(struct aten_engine *engine, struct aten_cache *cache,
                    struct pt2_err *err)
{
    struct wire_request request = {.verb = WIRE_MAP};
    struct wire_reply reply;

    if (slot_take(engine, cache, err) < 0)
        return -1;
    request.slot = cache->slot;
    request.size = cache->memory.size;
    if (worker_ask(&engine->worker, &request, cache->memory.fd, MAP_TIMEOUT_MS, &reply,
                   err) < 0) {
        slot_free(cache);
        return -1;
    }
    shared_close_fd(&cache->memory);
    return 0;
}

/* ---- making ---- */

static void cache_free(struct aten_cache *cache)
{
    if (!cache)
        return;
    slot_leave(cache);
    shared_done(&cache->memory);
    free(cache->tokens);
    free(cache);
}

static inline void cache_freep(struct aten_cache **cache)
{
    cache_free(*cache);
}
#define AUTO_CACHE __attribute__((cleanup(cache_freep))) struct aten_cache *

static size_t tokens_bytes(const struct pt2_engine *engine)
{
    return (size_t)engine->decoder.batch_size * (size_t)engine->decoder.max_cache_len *
           sizeof(int32_t);
}

static void tokens_forget(struct aten_cache *cache)
{
    if (cache->tokens)
        memset(cache->tokens, 0xff, tokens_bytes(cache->base.engine));
}

/* Memory and tokens, in no slot yet. */
static int cache_alloc(struct aten_engine *engine, struct aten_cache **ret_cache,
                       struct pt2_err *err)
{
    AUTO_CACHE cache = calloc(1, sizeof(*cache));

    if (!cache)
        return pt2_err_set(err, PT2_ERR_NOMEM, "cache");
    cache->base = (struct pt2_cache){CACHE_MAGIC, &engine->base, PT2_DTYPE_NONE};
    cache->memory = (struct shared)SHARED_NONE;
    if (engine->shape.seq_len > 1) {
        if (!(cache->tokens = malloc(tokens_bytes(&engine->base))))
            return pt2_err_set(err, PT2_ERR_NOMEM, "%zu bytes of tokens",
                               tokens_bytes(&engine->base));
        tokens_forget(cache);
    }
    if (shared_init(&cache->memory, "pt2-cache", engine->base.layout.size, err) < 0)
        return -1;
    *ret_cache = TAKE(cache);
    return 0;
}

int aten_cache_new(struct pt2_engine *base, enum pt2_dtype dtype,
                   struct pt2_cache **ret_cache, struct pt2_err *err)
{
    struct aten_engine *engine = aten_engine(base);
    AUTO_CACHE cache = NULL;

    ASSERT(dtype == PT2_DTYPE_NONE); /* libtorch's ops want the program's */
    if (cache_alloc(engine, &cache, err) < 0)
        return -1;
    for (size_t i = 0; i < base->layout.n_buffers; i++) {
        const struct layout_buffer *b = &base->layout.buffers[i];

        if (engine->initial[i])
            memcpy((char *)cache->memory.data + b->offset, engine->initial[i], b->bytes);
    }
    if (slot_map(engine, cache, err) < 0)
        return -1;
    *ret_cache = &TAKE(cache)->base;
    return 0;
}

int aten_cache_fork(const struct pt2_cache *base, struct pt2_cache **ret_cache,
                    struct pt2_err *err)
{
    struct aten_engine *engine = aten_engine(base->engine);
    const struct aten_cache *cache = aten_cache(base);
    AUTO_CACHE fork = NULL;
    int r;

    if (cache_alloc(engine, &fork, err) < 0)
        return -1;
    memcpy(fork->memory.data, cache->memory.data, cache->memory.size);
    if (cache->tokens)
        memcpy(fork->tokens, cache->tokens, tokens_bytes(base->engine));
    fork->floor = cache->floor;
    /* Of a dead engine it waits, as the first does, for one to adopt it. */
    r = pt2_engine_is_dead(base->engine) ? slot_take(engine, fork, err)
                                         : slot_map(engine, fork, err);
    if (r < 0)
        return -1;
    *ret_cache = &TAKE(fork)->base;
    return 0;
}

int aten_cache_adopt(struct pt2_cache *base, struct pt2_engine *new_base,
                     struct pt2_err *err)
{
    struct aten_engine *engine = aten_engine(new_base);
    struct aten_cache *cache = aten_cache(base);
    AUTO_CACHE moved = NULL;
    struct aten_cache old;

    /* Into memory that the first worker never had, should it live. */
    if (cache_alloc(engine, &moved, err) < 0)
        return -1;
    memcpy(moved->memory.data, cache->memory.data, cache->memory.size);
    if (slot_map(engine, moved, err) < 0)
        return -1;
    old = *cache;
    cache->base.engine = new_base;
    cache->slot = moved->slot;
    cache->memory = moved->memory;
    engine->slots[cache->slot] = cache;
    moved->base.engine = old.base.engine;
    moved->slot = old.slot;
    moved->memory = old.memory; /* goes with moved */
    return 0;
}

void aten_cache_free(struct pt2_cache *cache)
{
    cache_free(aten_cache(cache));
}

/* ---- reading and writing ---- */

/* Copy rows first .. first + n - 1 of the buffer, packed, out of the cache or into it. */
static void copy_part(const struct aten_cache *cache, size_t i, int64_t first, int64_t n,
                      char *packed, bool in)
{
    const struct layout_buffer *b = &cache->base.engine->layout.buffers[i];
    char *at = (char *)cache->memory.data + b->offset;
    struct layout_rows r = layout_rows(b);
    size_t len = (size_t)n * r.row_bytes;

    if (b->position_dim < 0) {
        memcpy(in ? at : packed, in ? packed : at, b->bytes);
        return;
    }
    for (size_t o = 0; len > 0 && o < r.n_outer; o++) {
        char *rows = at + (o * r.n_rows + (size_t)first) * r.row_bytes;
        char *part = packed + o * len;

        memcpy(in ? rows : part, in ? part : rows, len);
    }
}

void aten_cache_read(const struct pt2_cache *cache, size_t i, int64_t first, int64_t n,
                     char *to)
{
    copy_part(aten_cache(cache), i, first, n, to, /* in= */ false);
}

int aten_cache_write(struct pt2_cache *cache, enum pt2_dtype dtype, size_t i, int64_t first,
                     int64_t n, const char *from, struct pt2_err *err)
{
    (void)dtype, (void)err;
    copy_part(aten_cache(cache), i, first, n, (char *)from, /* in= */ true);
    tokens_forget(aten_cache(cache));
    aten_cache(cache)->floor = first + n;
    return 0;
}

void aten_set_counters(struct aten_cache *cache, int64_t position)
{
    const struct layout *layout = &cache->base.engine->layout;

    for (size_t i = 0; i < layout->n_buffers; i++) {
        const struct layout_buffer *b = &layout->buffers[i];
        char *at = (char *)cache->memory.data + b->offset;

        if (b->is_counter && b->dtype == PT2_INT64)
            memcpy(at, &position, sizeof(position));
        else if (b->is_counter)
            memcpy(at, &(int32_t){(int32_t)position}, sizeof(int32_t));
    }
}

int64_t aten_known_from(const struct aten_cache *cache, int64_t position)
{
    const struct pt2_decoder *d = &cache->base.engine->decoder;

    if (!cache->tokens)
        return position;
    for (; position > 0; position--)
        for (int64_t b = 0; b < d->batch_size; b++)
            if (cache->tokens[b * d->max_cache_len + position - 1] < 0)
                return position;
    return 0;
}

/* ---- undo ---- */

struct aten_undo {
    struct pt2_undo base;
    struct undo saved;
    int32_t *tokens; /* of the whole cache; NULL where it keeps none */
};

int aten_undo_new(struct pt2_cache *cache, int64_t first, int64_t n,
                  struct pt2_undo **ret_undo, struct pt2_err *err)
{
    const struct aten_cache *c = aten_cache(cache);
    size_t bytes = c->tokens ? tokens_bytes(cache->engine) : 0;
    struct aten_undo *undo = calloc(1, sizeof(*undo));

    if (!undo)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory to undo a step");
    undo->base.cache = cache;
    undo->tokens = malloc(bytes + 1);
    if (!undo->tokens ||
        undo_save(&undo->saved, &cache->engine->layout, c->memory.data, first, first + n,
                  err) < 0) {
        aten_undo_free(&undo->base);
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory to undo a step");
    }
    if (bytes > 0)
        memcpy(undo->tokens, c->tokens, bytes);
    *ret_undo = &undo->base;
    return 0;
}

void aten_undo_apply(struct pt2_undo *base)
{
    const struct aten_undo *undo = (struct aten_undo *)base;
    struct aten_cache *cache = aten_cache(base->cache);

    undo_all(&undo->saved, &base->cache->engine->layout, cache->memory.data);
    if (cache->tokens)
        memcpy(cache->tokens, undo->tokens, tokens_bytes(base->cache->engine));
}

void aten_undo_free(struct pt2_undo *base)
{
    struct aten_undo *undo = (struct aten_undo *)base;

    undo_done(&undo->saved);
    free(undo->tokens);
    free(undo);
}
