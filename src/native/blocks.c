#include "native/blocks.h"

#include "base/log.h"

static uint64_t aligned(uint64_t n)
{
    return (n + 63) / 64 * 64;
}

static int lay_out(struct block_store *store, const struct plan *plan, struct pt2_err *err)
{
    uint64_t at = 0;

    for (size_t l = 0; l < plan->n_caches; l++) {
        const struct plan_cache *c = &plan->caches[l];
        uint64_t rows = (uint64_t)c->kv_heads * BLOCK_POSITIONS, keys, values;

        if (!size_mul(rows * pt2_dtype_size(c->dtype), c->head_dim, &keys) ||
            !size_mul(rows * pt2_dtype_size(c->dtype), c->v_head_dim, &values) ||
            keys > SIZE_MAX / 8 || values > SIZE_MAX / 8 ||
            !size_add(at, aligned(keys) + aligned(values), &store->block_bytes))
            return pt2_err_set(err, PT2_ERR_LIMIT, "the cache of layer %zu is too large", l);
        store->key_offsets[l] = at;
        store->value_offsets[l] = at + aligned(keys);
        at = store->block_bytes;
    }
    return 0;
}

int block_store_init(struct block_store *store, const struct plan *plan, struct pt2_err *err)
{
    *store = (struct block_store){0};
    store->key_offsets = calloc(plan->n_caches + 1, sizeof(*store->key_offsets));
    store->value_offsets = calloc(plan->n_caches + 1, sizeof(*store->value_offsets));
    if (!store->key_offsets || !store->value_offsets) {
        block_store_done(store);
        return pt2_err_set(err, PT2_ERR_NOMEM, "%zu layers", plan->n_caches);
    }
    if (lay_out(store, plan, err) == 0)
        return 0;
    block_store_done(store);
    return -1;
}

void block_store_done(struct block_store *store)
{
    ASSERT(store->n_blocks == 0);
    free(store->key_offsets);
    free(store->value_offsets);
    *store = (struct block_store){0};
}

static struct block *block_new(struct block_store *store, const struct block *from)
{
    struct block *block = aligned_alloc(64, block_store_block_size(store));

    if (!block)
        return NULL;
    memset(block, 0, sizeof(*block));
    block->n_refs = 1;
    if (from)
        memcpy(block->data, from->data, store->block_bytes);
    else
        memset(block->data, 0, store->block_bytes);
    store->n_blocks++;
    return block;
}

static void block_unref(struct block *block, struct block_store *store)
{
    if (!block || --block->n_refs > 0)
        return;
    store->n_blocks--;
    free(block);
}

uint64_t block_store_block_size(const struct block_store *store)
{
    return aligned(sizeof(struct block) + store->block_bytes);
}

int block_table_init(struct block_table *table, int64_t max_cache_len,
                     struct pt2_err *err)
{
    table->n = (size_t)(max_cache_len + BLOCK_POSITIONS - 1) / BLOCK_POSITIONS;
    table->blocks = calloc(table->n + 1, sizeof(struct block *));
    if (!table->blocks)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a table of %zu blocks", table->n);
    return 0;
}

void block_table_done(struct block_table *table, struct block_store *store)
{
    for (size_t i = 0; table->blocks && i < table->n; i++)
        block_unref(table->blocks[i], store);
    free(table->blocks);
    *table = (struct block_table){0};
}

int block_table_fork(const struct block_table *from, struct block_table *ret,
                     struct block_store *store, struct pt2_err *err)
{
    if (block_table_init(ret, (int64_t)from->n * BLOCK_POSITIONS, err) < 0)
        return -1;
    for (size_t i = 0; i < from->n; i++) {
        ret->blocks[i] = from->blocks[i];
        if (ret->blocks[i])
            ret->blocks[i]->n_refs++;
    }
    return 0;
}

static bool is_own(const struct block *block)
{
    return block && block->n_refs == 1;
}

size_t block_table_n_lacking(const struct block_table *table, int64_t first, int64_t n)
{
    size_t low = (size_t)first / BLOCK_POSITIONS, n_lacking = 0;
    size_t high = (size_t)(first + n - 1) / BLOCK_POSITIONS;

    ASSERT(first >= 0 && n > 0 && high < table->n);
    for (size_t i = low; i <= high; i++)
        n_lacking += !is_own(table->blocks[i]);
    return n_lacking;
}

int block_table_own(struct block_table *table, struct block_store *store, int64_t first,
                    int64_t n, struct pt2_err *err)
{
    size_t low = (size_t)first / BLOCK_POSITIONS;
    size_t high = (size_t)(first + n - 1) / BLOCK_POSITIONS;
    AUTO_PTR struct block **made = NULL;

    if (block_table_n_lacking(table, first, n) == 0)
        return 0;
    made = calloc(high - low + 1, sizeof(struct block *));
    if (!made)
        return pt2_err_set(err, PT2_ERR_NOMEM, "cache blocks");
    for (size_t i = low; i <= high; i++) {
        if (is_own(table->blocks[i]) || (made[i - low] = block_new(store, table->blocks[i])))
            continue;
        while (i-- > low)
            block_unref(made[i - low], store);
        return pt2_err_set(err, PT2_ERR_NOMEM, "a cache block of %llu bytes",
                           (unsigned long long)store->block_bytes);
    }
    for (size_t i = low; i <= high; i++) {
        if (!made[i - low])
            continue;
        block_unref(table->blocks[i], store);
        table->blocks[i] = made[i - low];
    }
    return 0;
}
