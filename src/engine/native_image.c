/* native_image.c - a cache put away, and taken back: its blocks as they lie in memory.
 *
 *     | head | table | block | its data | block | its data | ... | table | ...
 *
 * head, table and block are 64 bytes each, so that a block takes no more memory than it does
 * in the image. */
#include "engine/native.h"

#include "base/log.h"

struct image_head {
    uint64_t magic, n_tables;
    uint64_t block_bytes[N_BLOCK_KINDS];
    int64_t floor;
    uint64_t zero[3];
};

struct image_table {
    uint64_t n_blocks, first; /* that follow; struct block_table's */
    uint64_t zero[6];
};

struct image_block {
    uint64_t kind, index;
    uint64_t zero[6];
};

_Static_assert(sizeof(struct image_head) == 64 && sizeof(struct image_table) == 64 &&
                   sizeof(struct image_block) == 64,
               "what stands between the blocks' data is as they are aligned");

struct passing {
    pt2_image_pass *pass;
    void *context;
    struct pt2_err *err;
};

static int pass(const struct passing *p, void *data, size_t size)
{
    return p->pass(p->context, data, size, p->err);
}

static struct image_head head_of(const struct native_cache *cache)
{
    const struct native_engine *engine = native_engine(cache->base.engine);
    struct image_head head = {.magic = NATIVE_IMAGE_MAGIC,
                              .n_tables = (uint64_t)engine->base.decoder.batch_size,
                              .floor = cache->floor};

    for (size_t k = 0; k < N_BLOCK_KINDS; k++)
        head.block_bytes[k] = engine->store.block_bytes[cache->tables[0].form][k];
    return head;
}

/* ---- away ---- */

/* Blocks that hold positions below it. */
static size_t n_blocks_below(const struct block_table *table, int64_t position)
{
    return MIN(table->n, (size_t)(position + BLOCK_POSITIONS - 1) / BLOCK_POSITIONS);
}

static int put_table(const struct block_table *table, const struct block_store *store,
                     int64_t position, const struct passing *p)
{
    size_t n = n_blocks_below(table, position);
    struct image_table head = {.first = table->first};

    for (size_t k = 0; k < N_BLOCK_KINDS; k++)
        for (size_t i = 0; i < n; i++)
            head.n_blocks += table->blocks[k][i] != NULL;
    if (pass(p, &head, sizeof(head)) < 0)
        return -1;
    for (size_t k = 0; k < N_BLOCK_KINDS; k++) {
        for (size_t i = 0; i < n; i++) {
            struct image_block block = {.kind = k, .index = i};

            if (table->blocks[k][i] &&
                (pass(p, &block, sizeof(block)) < 0 ||
                 pass(p, table->blocks[k][i]->data, store->block_bytes[table->form][k]) < 0))
                return -1;
        }
    }
    return 0;
}

int native_put_away(const struct pt2_cache *base, int64_t position, pt2_image_pass *fn,
                    void *context, struct pt2_err *err)
{
    const struct native_cache *cache = native_cache(base);
    const struct native_engine *engine = native_engine(base->engine);
    const struct passing p = {fn, context, err};
    struct image_head head = head_of(cache);

    if (pass(&p, &head, sizeof(head)) < 0)
        return -1;
    for (uint64_t b = 0; b < head.n_tables; b++)
        if (put_table(&cache->tables[b], &engine->store, position, &p) < 0)
            return -1;
    return 0;
}

/* ---- back ---- */

static int take_block(struct block_table *table, struct block_store *store, size_t first,
                      const struct passing *p)
{
    struct image_block block;

    if (pass(p, &block, sizeof(block)) < 0)
        return -1;
    if (block.kind >= N_BLOCK_KINDS || block.index >= table->n ||
        store->block_bytes[table->form][block.kind] == 0 ||
        (block.kind == BLOCKS_WINDOW && block.index < first))
        return pt2_err_set(p->err, PT2_ERR_INVALID,
                           "the image has a block that the cache has not");
    if (block_table_own(table, store, (int64_t)block.index * BLOCK_POSITIONS, 1, p->err) < 0)
        return -1;
    /* At once, so that no more memory is taken than the cache had. */
    block_table_forget(table, store,
                       (int64_t)MIN(first, block.index + 1) * BLOCK_POSITIONS);
    return pass(p, table->blocks[block.kind][block.index]->data,
                store->block_bytes[table->form][block.kind]);
}

static int take_table(struct block_table *table, struct block_store *store,
                      const struct passing *p)
{
    struct image_table head;

    if (pass(p, &head, sizeof(head)) < 0)
        return -1;
    if (head.n_blocks > N_BLOCK_KINDS * table->n || head.first > table->n)
        return pt2_err_set(p->err, PT2_ERR_INVALID,
                           "the image has %llu blocks from %llu on, the cache %zu",
                           (unsigned long long)head.n_blocks,
                           (unsigned long long)head.first, N_BLOCK_KINDS * table->n);
    for (uint64_t i = 0; i < head.n_blocks; i++)
        if (take_block(table, store, (size_t)head.first, p) < 0)
            return -1;
    block_table_forget(table, store, (int64_t)head.first * BLOCK_POSITIONS);
    return 0;
}

int native_take_back(struct pt2_cache *base, pt2_image_pass *fn, void *context,
                     struct pt2_err *err)
{
    struct native_cache *cache = native_cache(base);
    struct native_engine *engine = native_engine(base->engine);
    const struct passing p = {fn, context, err};
    struct image_head want = head_of(cache), head;

    if (pass(&p, &head, sizeof(head)) < 0)
        return -1;
    want.floor = head.floor;
    if (memcmp(&head, &want, sizeof(head)) != 0 || head.floor < 0 ||
        head.floor > base->engine->decoder.max_cache_len)
        return pt2_err_set(err, PT2_ERR_INVALID, "the image is of another cache");
    cache->floor = head.floor;
    for (uint64_t b = 0; b < head.n_tables; b++)
        if (take_table(&cache->tables[b], &engine->store, &p) < 0)
            return -1;
    return 0;
}

uint64_t native_image_cost(const struct pt2_engine *engine, uint64_t image_bytes)
{
    return native_cache_cost(engine) + image_bytes;
}
