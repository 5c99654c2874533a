#include "native/blocks.h"

#include "base/log.h"

static uint64_t aligned(uint64_t n)
{
    return (n + 63) / 64 * 64;
}

/* ---- stores ---- */

/* One more part at the end of a block's data.  False: too large. */
static bool add_part(enum pt2_dtype dtype, uint64_t heads, uint64_t dim, uint64_t *end,
                     struct block_part *ret)
{
    uint64_t head, bytes;

    ret->dtype = dtype;
    ret->offset = *end;
    if (!size_mul(dim, pt2_dtype_size(dtype), &ret->row_bytes) ||
        !size_mul(ret->row_bytes, BLOCK_POSITIONS, &head) ||
        !size_add(head, dtype == PT2_INT8 ? BLOCK_POSITIONS * sizeof(uint16_t) : 0, &head) ||
        !size_mul(head, heads, &bytes) || bytes > SIZE_MAX / 8)
        return false;
    ret->head_bytes = head;
    return size_add(*end, aligned(bytes), end);
}

static int lay_out(struct block_store *store, enum block_form form, const struct plan *plan,
                   struct pt2_err *err)
{
    for (size_t l = 0; l < plan->n_caches; l++) {
        const struct plan_cache *c = &plan->caches[l];
        enum pt2_dtype dtype = form == BLOCKS_INT8 ? PT2_INT8 : c->dtype;
        uint64_t *end = &store->block_bytes[form][store->kinds[l]];

        if (!add_part(dtype, c->kv_heads, c->head_dim, end, &store->parts[form][2 * l]) ||
            !add_part(dtype, c->kv_heads, c->v_head_dim, end, &store->parts[form][2 * l + 1]))
            return pt2_err_set(err, PT2_ERR_LIMIT, "the cache of layer %zu is too large", l);
    }
    return 0;
}

int block_store_init(struct block_store *store, const struct plan *plan, struct pt2_err *err)
{
    bool have = true;

    *store = (struct block_store){0};
    have = (store->kinds = calloc(plan->n_caches + 1, sizeof(*store->kinds))) != NULL;
    for (size_t f = 0; f < N_BLOCK_FORMS && have; f++)
        have = (store->parts[f] =
                    calloc(2 * plan->n_caches + 1, sizeof(*store->parts[f]))) != NULL;
    if (!have) {
        block_store_done(store);
        return pt2_err_set(err, PT2_ERR_NOMEM, "%zu layers", plan->n_caches);
    }
    for (size_t l = 0; l < plan->n_caches; l++) {
        if (plan->caches[l].length >= plan->decoder.max_cache_len)
            continue;
        store->kinds[l] = BLOCKS_WINDOW;
        store->window = MAX(store->window, plan->caches[l].length);
    }
    if (lay_out(store, BLOCKS_PLAIN, plan, err) == 0 &&
        lay_out(store, BLOCKS_INT8, plan, err) == 0)
        return 0;
    block_store_done(store);
    return -1;
}

void block_store_done(struct block_store *store)
{
    for (size_t f = 0; f < N_BLOCK_FORMS; f++) {
        for (size_t k = 0; k < N_BLOCK_KINDS; k++)
            ASSERT(store->n_blocks[f][k] == 0);
        free(store->parts[f]);
    }
    free(store->kinds);
    *store = (struct block_store){0};
}

/* Memory that one block takes; 0 of a kind that no layer is of. */
static uint64_t block_size(const struct block_store *store, enum block_form form, size_t kind)
{
    uint64_t bytes = store->block_bytes[form][kind];

    return bytes ? aligned(sizeof(struct block) + bytes) : 0;
}

uint64_t block_store_bytes(const struct block_store *store)
{
    uint64_t bytes = 0;

    for (size_t f = 0; f < N_BLOCK_FORMS; f++)
        for (size_t k = 0; k < N_BLOCK_KINDS; k++)
            bytes += store->n_blocks[f][k] * block_size(store, f, k);
    return bytes;
}

/* ---- blocks ---- */

static struct block *block_new(struct block_store *store, enum block_form form, size_t kind,
                               const struct block *from)
{
    struct block *block = aligned_alloc(64, block_size(store, form, kind));

    if (!block)
        return NULL;
    memset(block, 0, sizeof(*block));
    block->n_refs = 1;
    if (from)
        memcpy(block->data, from->data, store->block_bytes[form][kind]);
    else
        memset(block->data, 0, store->block_bytes[form][kind]);
    store->n_blocks[form][kind]++;
    return block;
}

static void block_unref(struct block *block, enum block_form form, size_t kind,
                        struct block_store *store)
{
    if (!block || --block->n_refs > 0)
        return;
    store->n_blocks[form][kind]--;
    free(block);
}

static bool is_own(const struct block *block)
{
    return block && block->n_refs == 1;
}

/* ---- tables ---- */

int block_table_init(struct block_table *table, enum block_form form, int64_t max_cache_len,
                     struct pt2_err *err)
{
    size_t n = (size_t)(max_cache_len + BLOCK_POSITIONS - 1) / BLOCK_POSITIONS;

    *table = (struct block_table){.form = form};
    for (size_t k = 0; k < N_BLOCK_KINDS; k++)
        table->blocks[k] = calloc(n + 1, sizeof(struct block *));
    if (!table->blocks[BLOCKS_WHOLE] || !table->blocks[BLOCKS_WINDOW]) {
        for (size_t k = 0; k < N_BLOCK_KINDS; k++)
            free(table->blocks[k]);
        *table = (struct block_table){0};
        return pt2_err_set(err, PT2_ERR_NOMEM, "a table of %zu blocks", n);
    }
    table->n = n;
    return 0;
}

void block_table_done(struct block_table *table, struct block_store *store)
{
    for (size_t k = 0; k < N_BLOCK_KINDS; k++) {
        for (size_t i = 0; i < table->n; i++)
            block_unref(table->blocks[k][i], table->form, k, store);
        free(table->blocks[k]);
    }
    *table = (struct block_table){0};
}

int block_table_fork(const struct block_table *from, struct block_table *ret,
                     struct block_store *store, struct pt2_err *err)
{
    (void)store;
    if (block_table_init(ret, from->form, (int64_t)from->n * BLOCK_POSITIONS, err) < 0)
        return -1;
    ret->first = from->first;
    for (size_t k = 0; k < N_BLOCK_KINDS; k++)
        for (size_t i = 0; i < from->n; i++) {
            ret->blocks[k][i] = from->blocks[k][i];
            if (ret->blocks[k][i])
                ret->blocks[k][i]->n_refs++;
        }
    return 0;
}

/* The blocks of positions first .. first + n - 1: low .. high. */
static void blocks_of(const struct block_table *table, int64_t first, int64_t n, size_t *ret_low,
                      size_t *ret_high)
{
    *ret_low = (size_t)first / BLOCK_POSITIONS;
    *ret_high = (size_t)(first + n - 1) / BLOCK_POSITIONS;
    ASSERT(first >= 0 && n > 0 && *ret_high < table->n);
}

uint64_t block_table_lacking_bytes(const struct block_table *table,
                                   const struct block_store *store, int64_t first, int64_t n)
{
    uint64_t bytes = 0;
    size_t low, high;

    blocks_of(table, first, n, &low, &high);
    for (size_t k = 0; k < N_BLOCK_KINDS; k++)
        for (size_t i = low; i <= high; i++)
            bytes += is_own(table->blocks[k][i]) ? 0 : block_size(store, table->form, k);
    return bytes;
}

/* Blocks low .. high of a kind, made where they are lacking; made has room for them. */
static int make_kind(const struct block_table *table, struct block_store *store, size_t kind,
                     size_t low, size_t high, struct block **made, struct pt2_err *err)
{
    uint64_t bytes = store->block_bytes[table->form][kind];

    for (size_t i = low; bytes > 0 && i <= high; i++) {
        struct block *have = table->blocks[kind][i];

        if (!is_own(have) && !(made[i - low] = block_new(store, table->form, kind, have)))
            return pt2_err_set(err, PT2_ERR_NOMEM, "a cache block of %llu bytes",
                               (unsigned long long)bytes);
    }
    return 0;
}

int block_table_own(struct block_table *table, struct block_store *store, int64_t first,
                    int64_t n, struct pt2_err *err)
{
    AUTO_PTR struct block **made = NULL;
    size_t low, high, n_of_kind;
    int r = 0;

    blocks_of(table, first, n, &low, &high);
    if (block_table_lacking_bytes(table, store, first, n) == 0)
        return 0;
    n_of_kind = high - low + 1;
    made = calloc(N_BLOCK_KINDS * n_of_kind, sizeof(struct block *));
    if (!made)
        return pt2_err_set(err, PT2_ERR_NOMEM, "cache blocks");
    for (size_t k = 0; k < N_BLOCK_KINDS && r == 0; k++)
        r = make_kind(table, store, k, low, high, made + k * n_of_kind, err);
    if (r == 0)
        table->first = MIN(table->first, low);
    for (size_t i = 0; i < N_BLOCK_KINDS * n_of_kind; i++) {
        size_t kind = i / n_of_kind;
        struct block **at = &table->blocks[kind][low + i % n_of_kind];

        if (!made[i])
            continue;
        block_unref(r < 0 ? made[i] : *at, table->form, kind, store);
        if (r == 0)
            *at = made[i];
    }
    return r;
}

void block_table_forget(struct block_table *table, struct block_store *store, int64_t before)
{
    struct block **blocks = table->blocks[BLOCKS_WINDOW];
    size_t end = MIN((size_t)MAX(before, 0) / BLOCK_POSITIONS, table->n);

    for (; table->first < end; table->first++) {
        block_unref(blocks[table->first], table->form, BLOCKS_WINDOW, store);
        blocks[table->first] = NULL;
    }
}
