/* native_cache.c - one session's blocks: made, forked, copied out and in. */
#include "engine/native.h"

#include "base/log.h"

static size_t n_batch(const struct pt2_engine *engine)
{
    return (size_t)engine->decoder.batch_size;
}

/* ---- making ---- */

static void tables_free(struct pt2_engine *base, struct block_table *tables)
{
    struct native_engine *engine = native_engine(base);

    for (size_t b = 0; tables && b < n_batch(base); b++) {
        engine->n_tables -= tables[b].n > 0;
        block_table_done(&tables[b], &engine->store);
    }
    free(tables);
}

/* As many tables as the batch has elements, empty, or with the contents of from. */
static int tables_new(struct pt2_engine *base, enum pt2_dtype dtype,
                      const struct block_table *from, struct block_table **ret_tables,
                      struct pt2_err *err)
{
    enum block_form form = dtype == PT2_INT8 ? BLOCKS_INT8 : BLOCKS_PLAIN;
    struct native_engine *engine = native_engine(base);
    struct block_table *tables = calloc(n_batch(base), sizeof(*tables));

    if (!tables)
        return pt2_err_set(err, PT2_ERR_NOMEM, "cache");
    for (size_t b = 0; b < n_batch(base); b++) {
        int r = from ? block_table_fork(&from[b], &tables[b], &engine->store, err)
                     : block_table_init(&tables[b], form, base->decoder.max_cache_len, err);

        if (r < 0) {
            tables_free(base, tables);
            return -1;
        }
        engine->n_tables++;
    }
    *ret_tables = tables;
    return 0;
}

static int cache_new(struct pt2_engine *engine, enum pt2_dtype dtype,
                     const struct native_cache *from, struct pt2_cache **ret_cache,
                     struct pt2_err *err)
{
    AUTO_PTR struct native_cache *cache = calloc(1, sizeof(*cache));

    if (!cache)
        return pt2_err_set(err, PT2_ERR_NOMEM, "cache");
    cache->base = (struct pt2_cache){CACHE_MAGIC, engine, dtype};
    cache->floor = from ? from->floor : 0;
    if (tables_new(engine, dtype, from ? from->tables : NULL, &cache->tables, err) < 0)
        return -1;
    *ret_cache = &TAKE(cache)->base;
    return 0;
}

int native_cache_new(struct pt2_engine *engine, enum pt2_dtype dtype,
                     struct pt2_cache **ret_cache, struct pt2_err *err)
{
    return cache_new(engine, dtype, NULL, ret_cache, err);
}

int native_cache_fork(const struct pt2_cache *cache, struct pt2_cache **ret_cache,
                      struct pt2_err *err)
{
    return cache_new(cache->engine, cache->dtype, native_cache(cache), ret_cache, err);
}

/* All blocks, into an empty table of another store of the same plan. */
static int copy_table(const struct block_table *from, struct block_table *to,
                      struct block_store *store, struct pt2_err *err)
{
    for (size_t i = 0; i < from->n; i++) {
        if (!from->blocks[BLOCKS_WHOLE][i] && !from->blocks[BLOCKS_WINDOW][i])
            continue;
        if (block_table_own(to, store, (int64_t)i * BLOCK_POSITIONS, 1, err) < 0)
            return -1;
        for (size_t k = 0; k < N_BLOCK_KINDS; k++)
            if (from->blocks[k][i])
                memcpy(to->blocks[k][i]->data, from->blocks[k][i]->data,
                       store->block_bytes[to->form][k]);
    }
    block_table_forget(to, store, (int64_t)from->first * BLOCK_POSITIONS);
    return 0;
}

int native_cache_adopt(struct pt2_cache *cache, struct pt2_engine *engine,
                       struct pt2_err *err)
{
    struct native_cache *old = native_cache(cache);
    struct block_table *tables = NULL;

    if (tables_new(engine, cache->dtype, NULL, &tables, err) < 0)
        return -1;
    for (size_t b = 0; b < n_batch(engine); b++)
        if (copy_table(&old->tables[b], &tables[b], &native_engine(engine)->store, err) < 0) {
            tables_free(engine, tables);
            return -1;
        }
    tables_free(cache->engine, old->tables);
    old->tables = tables;
    cache->engine = engine;
    return 0;
}

void native_cache_free(struct pt2_cache *cache)
{
    tables_free(cache->engine, native_cache(cache)->tables);
    free(cache);
}

/* ---- memory ---- */

static uint64_t table_bytes(const struct pt2_engine *engine)
{
    return ((uint64_t)engine->decoder.max_cache_len / BLOCK_POSITIONS + 1) *
               N_BLOCK_KINDS * sizeof(struct block *) +
           sizeof(struct block_table);
}

uint64_t native_cache_cost(const struct pt2_engine *engine)
{
    return n_batch(engine) * table_bytes(engine);
}

uint64_t native_cache_growth(const struct pt2_cache *cache, int64_t start, int64_t s)
{
    const struct native_engine *engine = native_engine(cache->engine);
    uint64_t n = 0;

    for (size_t b = 0; b < n_batch(cache->engine); b++)
        n += block_table_lacking_bytes(&native_cache(cache)->tables[b], &engine->store, start,
                                       s);
    return n;
}

uint64_t native_cache_bytes(const struct pt2_engine *base)
{
    const struct native_engine *engine = native_engine(base);

    return engine->n_tables * table_bytes(base) + block_store_bytes(&engine->store);
}

int native_cache_own(struct native_cache *cache, int64_t first, int64_t n,
                     struct pt2_err *err)
{
    struct native_engine *engine = native_engine(cache->base.engine);

    for (size_t b = 0; b < n_batch(&engine->base); b++)
        if (block_table_own(&cache->tables[b], &engine->store, first, n, err) < 0)
            return -1;
    return 0;
}

void native_cache_forget(struct native_cache *cache, int64_t end)
{
    struct block_store *store = &native_engine(cache->base.engine)->store;
    int64_t first = (end - store->window) / BLOCK_POSITIONS * BLOCK_POSITIONS;

    if (store->window == 0 || first <= 0)
        return;
    for (size_t b = 0; b < n_batch(cache->base.engine); b++)
        block_table_forget(&cache->tables[b], store, first);
    cache->floor = MAX(cache->floor, first + store->window - 1);
}

/* ---- reading and writing ---- */

/* A buffer of the layout of dtype, and what it is in the cache's own blocks. */
struct buffer {
    const struct plan_buffer *of;
    bool is_scale;
    enum pt2_dtype dtype; /* of the elements outside */
    size_t n, bytes;      /* of a head and position outside: elements, and their bytes */
    const struct block_part *part;
};

static struct buffer buffer_of(const struct native_cache *cache, enum pt2_dtype dtype,
                               size_t i)
{
    const struct native_engine *engine = native_engine(cache->base.engine);
    const struct plan_buffer *of =
        dtype == PT2_INT8 ? engine->int8[i].of : &engine->plan->buffers[i];
    const struct layout_buffer *b = &engine_layout(&engine->base, dtype)->buffers[i];
    struct buffer buffer = {.of = of, .dtype = b->dtype};

    if (of->is_counter)
        return buffer;
    buffer.is_scale = dtype == PT2_INT8 && engine->int8[i].is_scale;
    buffer.n = (size_t)b->sizes[b->n_dims - 1];
    buffer.bytes = buffer.n * pt2_dtype_size(b->dtype);
    buffer.part =
        block_part(&engine->store, cache->tables[0].form, of->layer, of->is_value);
    return buffer;
}

/* What lies of it in the cache: NULL where nothing was written. */
static uint8_t *row_at(const struct native_cache *cache, const struct buffer *buffer, size_t b,
                       size_t head, size_t position)
{
    const struct block_store *store = &native_engine(cache->base.engine)->store;
    struct block *block =
        block_at(&cache->tables[b], store, buffer->of->layer, position);

    return block ? block_rows(block, buffer->part, head) : NULL;
}

static void read_row(const struct buffer *buffer, const uint8_t *rows, size_t i, char *to)
{
    if (!rows)
        memset(to, 0, buffer->bytes);
    else if (buffer->is_scale)
        memcpy(to, block_scales(rows, buffer->part) + i, buffer->bytes);
    else
        memcpy(to, rows + i * buffer->part->row_bytes, buffer->bytes);
}

/* Floats to whole numbers, or whole numbers and, after them, their scale to floats. */
static void convert_row(const struct native_engine *engine, const struct buffer *buffer,
                        uint8_t *rows, size_t i, const char *from)
{
    const struct kernels *k = engine->kernels;
    uint8_t *at = rows + i * buffer->part->row_bytes;
    enum pt2_dtype dtype = buffer->part->dtype;
    size_t n = buffer->part->row_bytes / pt2_dtype_size(dtype);
    float scale;

    if (dtype == PT2_INT8) {
        k->widen[buffer->dtype](from, n, engine->row);
        block_scales(rows, buffer->part)[i] = k->narrow_i8(engine->row, n, (int8_t *)at);
        return;
    }
    if (buffer->is_scale) {
        k->widen[PT2_BFLOAT16](from, 1, &scale);
        k->widen[dtype](at, n, engine->row);
        k->binary(KERNEL_MUL, engine->row, 1, &scale, 0, n, engine->row);
    } else {
        k->widen[PT2_INT8](from, n, engine->row);
    }
    k->narrow[dtype](engine->row, n, at);
}

static void write_row(const struct native_cache *cache, const struct buffer *buffer,
                      uint8_t *rows, size_t i, const char *from)
{
    bool is_int8 = buffer->is_scale || buffer->dtype == PT2_INT8;

    if (is_int8 != (buffer->part->dtype == PT2_INT8))
        convert_row(native_engine(cache->base.engine), buffer, rows, i, from);
    else if (buffer->is_scale)
        memcpy(block_scales(rows, buffer->part) + i, from, buffer->bytes);
    else
        memcpy(rows + i * buffer->part->row_bytes, from, buffer->bytes);
}

static bool is_heads_first(const struct plan_buffer *of)
{
    return of->position_dim + 2 == of->n_dims;
}

/* Where a head's elements of row i lie in what is packed, in heads of elements: (batch,
 * kv_heads, n_rows, head_dim), or (batch, n_rows, kv_heads, head_dim). */
static size_t packed_at(const struct plan_buffer *of, size_t b, size_t h, int64_t i,
                        int64_t n_rows)
{
    size_t n_heads = (size_t)of->sizes[of->n_dims - (is_heads_first(of) ? 3 : 2)];

    return is_heads_first(of) ? (b * n_heads + h) * (size_t)n_rows + (size_t)i
                              : (b * (size_t)n_rows + (size_t)i) * n_heads + h;
}

/* Positions first .. first + n - 1, which are rows `at` on of the n_rows in packed. */
static void copy_part(const struct native_cache *cache, const struct buffer *buffer,
                      int64_t first, int64_t n, int64_t at, int64_t n_rows, char *packed,
                      bool in)
{
    const struct plan_buffer *of = buffer->of;
    size_t n_heads = (size_t)of->sizes[of->n_dims - (is_heads_first(of) ? 3 : 2)];

    for (size_t b = 0; b < n_batch(cache->base.engine); b++)
        for (size_t h = 0; h < n_heads; h++)
            for (int64_t p = first; p < first + n; p++) {
                uint8_t *rows = row_at(cache, buffer, b, h, (size_t)p);
                char *row =
                    packed + packed_at(of, b, h, at + p - first, n_rows) * buffer->bytes;

                if (in)
                    write_row(cache, buffer, rows, (size_t)p % BLOCK_POSITIONS, row);
                else
                    read_row(buffer, rows, (size_t)p % BLOCK_POSITIONS, row);
            }
}

/* Does the buffer roll, or is it a ring? */
static bool is_short(const struct native_cache *cache, const struct plan_buffer *buffer)
{
    return !buffer->is_counter && buffer->length < cache->base.engine->decoder.max_cache_len;
}

/* Has some short buffer held more of 0 .. end - 1 than it does? */
static bool has_forgotten(const struct native_cache *cache, int64_t end)
{
    const struct plan *plan = native_engine(cache->base.engine)->plan;

    for (size_t i = 0; i < plan->n_buffers; i++)
        if (is_short(cache, &plan->buffers[i]) && plan->buffers[i].length < end)
            return true;
    return false;
}

/* Of a short buffer the positions that it holds of 0 .. end - 1, to where they lie in it, or
 * from there. */
static void copy_short(const struct native_cache *cache, const struct buffer *buffer,
                       int64_t end, char *packed, bool in)
{
    int64_t length = buffer->of->length, first = MAX(end - length, 0);

    for (int64_t p = first; p < end; p++) {
        int64_t row = buffer->of->is_ring ? p % length : p - first;

        copy_part(cache, buffer, p, 1, row, length, packed, in);
    }
}

void native_cache_read(const struct pt2_cache *base, size_t i, int64_t first, int64_t n,
                       char *to)
{
    const struct native_cache *cache = native_cache(base);
    struct buffer buffer = buffer_of(cache, base->dtype, i);
    int64_t end = first + n;

    if (is_short(cache, buffer.of)) {
        memset(to, 0, engine_layout(base->engine, base->dtype)->buffers[i].bytes);
        copy_short(cache, &buffer, end, to, /* in= */ false);
    } else if (!buffer.of->is_counter) {
        copy_part(cache, &buffer, first, n, 0, n, to, /* in= */ false);
    } else if (buffer.dtype == PT2_INT64) {
        memcpy(to, &end, sizeof(end));
    } else {
        memcpy(to, &(int32_t){(int32_t)end}, sizeof(int32_t));
    }
}

/* What counters hold is known from the positions of a step. */
int native_cache_write(struct pt2_cache *base, enum pt2_dtype dtype, size_t i, int64_t first,
                       int64_t n, const char *from, struct pt2_err *err)
{
    struct native_cache *cache = native_cache(base);
    struct buffer buffer = buffer_of(cache, dtype, i);
    int64_t end = first + n;

    if (buffer.of->is_counter || n == 0)
        return 0;
    if (!is_short(cache, buffer.of)) {
        if (native_cache_own(cache, first, n, err) < 0)
            return -1;
        copy_part(cache, &buffer, first, n, 0, n, (char *)from, /* in= */ true);
        return 0;
    }
    first = MAX(end - buffer.of->length, 0);
    if (native_cache_own(cache, first, end - first, err) < 0)
        return -1;
    copy_short(cache, &buffer, end, (char *)from, /* in= */ true);
    cache->floor = has_forgotten(cache, end) ? end : 0;
    native_cache_forget(cache, end);
    return 0;
}

int64_t native_rewind_floor(const struct pt2_cache *cache, int64_t position)
{
    return MIN(native_cache(cache)->floor, position);
}

/* ---- undo: the blocks as they are, shared until they are written ---- */

struct native_undo {
    struct pt2_undo base;
    struct block_table *tables; /* NULL once applied */
    int64_t floor;
};

int native_undo_new(struct pt2_cache *base, int64_t first, int64_t n,
                    struct pt2_undo **ret_undo, struct pt2_err *err)
{
    struct native_cache *cache = native_cache(base);
    struct native_undo *undo = calloc(1, sizeof(*undo));

    (void)first;
    (void)n;
    if (!undo)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory to undo a step");
    undo->base.cache = base;
    undo->floor = cache->floor;
    if (tables_new(base->engine, base->dtype, cache->tables, &undo->tables, err) < 0) {
        free(undo);
        return -1;
    }
    *ret_undo = &undo->base;
    return 0;
}

void native_undo_apply(struct pt2_undo *base)
{
    struct native_undo *undo = (struct native_undo *)base;
    struct native_cache *cache = native_cache(base->cache);

    ASSERT(undo->tables);
    tables_free(base->cache->engine, cache->tables);
    cache->tables = TAKE(undo->tables);
    cache->floor = undo->floor;
}

void native_undo_free(struct pt2_undo *base)
{
    struct native_undo *undo = (struct native_undo *)base;

    tables_free(base->cache->engine, undo->tables);
    free(undo);
}
