/* blocks.h - the static caches of the native engine's sessions, in blocks of 16 positions.
 *
 *     table of a cache    | block 0 | block 1 | NULL | ...      max_cache_len / 16, rounded up
 *     block               layer 0 keys (kv_heads, 16, head_dim) | layer 0 values | layer 1 keys ..
 *
 * each part at a multiple of 64 bytes.  A block is made (zeroed) when first written, shared by
 * forks, and copied when written while shared.  So a session costs what it has written, and a
 * fork costs nothing.
 *
 * A table has two rows of such blocks: of the layers that keep all positions, and of those
 * whose caches in the program are shorter, which block_table_forget cuts from the left:
 *
 *     BLOCKS_WHOLE    | block 0 | block 1 | block 2 | block 3 | NULL | ...
 *     BLOCKS_WINDOW   | NULL    | NULL    | block 2 | block 3 | NULL | ...
 *
 * A block has one of two forms, that of its table.  BLOCKS_INT8 takes half of bfloat16: each
 * row of a head and position is whole numbers of -127 to 127 times a scale of its own, and a
 * part is, for each head,
 *
 *     | 16 rows of head_dim int8 | 16 scales, bfloat16 |
 *
 * One thread at a time for all tables of one store. */
#ifndef NATIVE_BLOCKS_H
#define NATIVE_BLOCKS_H

#include "native/plan.h"

#define BLOCK_POSITIONS 16

enum block_kind { BLOCKS_WHOLE, BLOCKS_WINDOW };
#define N_BLOCK_KINDS 2

enum block_form { BLOCKS_PLAIN, BLOCKS_INT8 }; /* the program's dtype; see above */
#define N_BLOCK_FORMS 2

/* A layer's keys or values in a block's data. */
struct block_part {
    enum pt2_dtype dtype; /* of the rows */
    uint64_t offset, head_bytes, row_bytes; /* head_bytes: from one head to the next */
};

struct block {
    unsigned n_refs;
    _Alignas(64) uint8_t data[];
};

/* Where the parts lie in a block's data; and how many blocks there are. */
struct block_store {
    uint8_t *kinds; /* enum block_kind, by layer */
    struct block_part *parts[N_BLOCK_FORMS]; /* (n_layers, 2): keys, values */
    uint64_t block_bytes[N_BLOCK_FORMS][N_BLOCK_KINDS]; /* of data; 0: no layer is of it */
    uint64_t n_blocks[N_BLOCK_FORMS][N_BLOCK_KINDS];    /* that exist */
    int64_t window; /* positions that the layers of BLOCKS_WINDOW need, at most; 0: none */
};

struct block_table {
    enum block_form form;
    struct block **blocks[N_BLOCK_KINDS]; /* NULL where nothing was written, or is left */
    size_t n;                             /* of each kind */
    size_t first;                         /* of BLOCKS_WINDOW: those below are NULL */
};

MUST_USE int block_store_init(struct block_store *store, const struct plan *plan,
                              struct pt2_err *err);
void block_store_done(struct block_store *store); /* its tables go first */

/* Memory that all blocks take. */
uint64_t block_store_bytes(const struct block_store *store);

MUST_USE int block_table_init(struct block_table *table, enum block_form form,
                              int64_t max_cache_len, struct pt2_err *err);
void block_table_done(struct block_table *table, struct block_store *store);
/* The same contents and form, shared.  Errors: NOMEM. */
MUST_USE int block_table_fork(const struct block_table *from, struct block_table *ret,
                              struct block_store *store, struct pt2_err *err);
/* Memory that block_table_own would take for positions first .. first + n - 1: for blocks that
 * are not there or are shared. */
uint64_t block_table_lacking_bytes(const struct block_table *table,
                                   const struct block_store *store, int64_t first, int64_t n);
/* Make the blocks of positions first .. first + n - 1 writable: new, or copied where shared.
 * On failure the table is as before.  Errors: NOMEM. */
MUST_USE int block_table_own(struct block_table *table, struct block_store *store,
                             int64_t first, int64_t n, struct pt2_err *err);
/* Nobody asks for positions below `before` of the layers with a window any more: let go of the
 * blocks of BLOCKS_WINDOW that hold no others. */
void block_table_forget(struct block_table *table, struct block_store *store, int64_t before);
/* A layer's block of a position; NULL where nothing was written, or is left. */
static inline struct block *block_at(const struct block_table *table,
                                     const struct block_store *store, uint32_t layer,
                                     size_t position)
{
    return table->blocks[store->kinds[layer]][position / BLOCK_POSITIONS];
}
static inline const struct block_part *block_part(const struct block_store *store,
                                                  enum block_form form, uint32_t layer,
                                                  bool is_value)
{
    return &store->parts[form][2 * layer + is_value];
}
/* A head's rows of the block's positions. */
static inline uint8_t *block_rows(struct block *block, const struct block_part *part,
                                  size_t head)
{
    return block->data + part->offset + head * part->head_bytes;
}
/* Of the head with these rows, in blocks of BLOCKS_INT8, the scales. */
static inline uint16_t *block_scales(const uint8_t *rows, const struct block_part *part)
{
    return (uint16_t *)(uintptr_t)(rows + BLOCK_POSITIONS * part->row_bytes);
}

#endif
