/* blocks.h - the static caches of the native engine's sessions, in blocks of 16 positions.
 *
 *     table of a cache    | block 0 | block 1 | NULL | ...      max_cache_len / 16, rounded up
 *     block               layer 0 keys (kv_heads, 16, head_dim) | layer 0 values | layer 1 keys ..
 *
 * each part at a multiple of 64 bytes.  A block is made (zeroed) when first written, shared by
 * forks, and copied when written while shared.  So a session costs what it has written, and a
 * fork costs nothing.
 *
 * One thread at a time for all tables of one store. */
#ifndef NATIVE_BLOCKS_H
#define NATIVE_BLOCKS_H

#include "native/plan.h"

#define BLOCK_POSITIONS 16

struct block {
    unsigned n_refs;
    _Alignas(64) uint8_t data[];
};

/* Where the parts lie in a block's data; and how many blocks there are. */
struct block_store {
    uint64_t *key_offsets, *value_offsets; /* by layer, in data */
    uint64_t block_bytes;                  /* of data */
    uint64_t n_blocks;                     /* that exist */
};

struct block_table {
    struct block **blocks; /* NULL where nothing was written */
    size_t n;
};

MUST_USE int block_store_init(struct block_store *store, const struct plan *plan,
                              struct pt2_err *err);
void block_store_done(struct block_store *store); /* its tables go first */

/* Memory that one block takes. */
uint64_t block_store_block_size(const struct block_store *store);

MUST_USE int block_table_init(struct block_table *table, int64_t max_cache_len,
                              struct pt2_err *err);
void block_table_done(struct block_table *table, struct block_store *store);
/* The same contents, shared.  Errors: NOMEM. */
MUST_USE int block_table_fork(const struct block_table *from, struct block_table *ret,
                              struct block_store *store, struct pt2_err *err);
/* Of the blocks of positions first .. first + n - 1 those that are not there or are shared:
 * what block_table_own would make. */
size_t block_table_n_lacking(const struct block_table *table, int64_t first, int64_t n);
/* Make the blocks of positions first .. first + n - 1 writable: new, or copied where shared.
 * On failure the table is as before.  Errors: NOMEM. */
MUST_USE int block_table_own(struct block_table *table, struct block_store *store,
                             int64_t first, int64_t n, struct pt2_err *err);

#endif
