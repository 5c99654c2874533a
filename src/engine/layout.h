/* layout.h - where the buffers of one session lie in its cache's memory, and where a
 * run's tokens and logits lie in the area that daemon and worker share.
 *
 *     cache   | key_cache_0 | value_cache_0 | ...          each at a multiple of 64 bytes
 *     area    | input_ids (batch, s) int64 | cache_position (s) int64 | logits float32 |
 *
 * Both sides compute these from the program and the run's sizes; no offset is sent.
 * Immutable once filled; any thread. */
#ifndef ENGINE_LAYOUT_H
#define ENGINE_LAYOUT_H

#include "base/util.h"

#include <pt2/archive.h>

struct layout_buffer {
    char *fqn; /* ours */
    enum pt2_dtype dtype;
    unsigned n_dims;
    int64_t sizes[PT2_MAX_DIMS];
    int position_dim; /* -1: none */
    int64_t ring_len; /* of a ring, which has no position_dim: its rows; 0: it is none */
    bool is_counter;
    uint64_t offset, bytes; /* in the cache's memory */
};

struct layout {
    struct layout_buffer *buffers;
    size_t n_buffers;
    uint64_t size; /* of one cache, at least 64 */
};

/* Room for n buffers, to be given by layout_add in order.  Free with layout_done.
 * Errors: NOMEM. */
MUST_USE int layout_init(struct layout *layout, size_t max_buffers, struct pt2_err *err);
/* Add one behind the others; fqn is copied, offset and bytes are computed.
 * Errors: LIMIT (too large), NOMEM. */
MUST_USE int layout_add(struct layout *layout, const struct layout_buffer *buffer,
                        struct pt2_err *err);
void layout_done(struct layout *layout);
/* Do both have the same buffers, in order? */
bool layout_is_same(const struct layout *a, const struct layout *b);

/* A buffer as (n_outer, n_rows, row_bytes), rows along its position dimension; one row that
 * is the whole where it has none. */
struct layout_rows {
    uint64_t n_outer, n_rows, row_bytes;
};
struct layout_rows layout_rows(const struct layout_buffer *b);

/* The area of a run: byte offsets and its whole size. */
struct layout_area {
    uint64_t positions, logits, size; /* the ids are at 0 */
};

/* False where the sizes are negative or too large. */
MUST_USE bool layout_area(int64_t batch_size, int64_t vocab_size, int64_t s,
                          int64_t n_rows, struct layout_area *ret_area);

#endif
