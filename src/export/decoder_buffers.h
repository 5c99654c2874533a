/* decoder_buffers.h - the buffers of a decoder's program: caches, and what of the
 * rotation, the masks and the norms is a table.
 *
 * Profile "torch" has the frequencies of each rope and computes the rest.  Profile "edge"
 * has tables that it takes rows of, as long as they are small (decoder_edge.c says why). */
#ifndef EXPORT_DECODER_BUFFERS_H
#define EXPORT_DECODER_BUFFERS_H

#include "export/spec.h"

#include <pt2/export.h>

/* Larger tables than these are computed in the graph. */
#define EDGE_MAX_ROPE_BYTES (8 << 20) /* cos and sin of a rope */
#define EDGE_MAX_MASK_BYTES (4 << 20)

/* What hides a position when it is added to its score: its exp() is 0 in float32, and it
 * stays a number where it is multiplied by 0. */
#define EDGE_MASKED (-1e30F)

enum decoder_buffer_kind {
    BUFFER_KEY_CACHE, /* zeros that take no room in the file */
    BUFFER_VALUE_CACHE,
    BUFFER_INV_FREQ, /* torch: (dim / 2) of a rope */
    /* Edge; of all the head, the part that does not rotate by an angle of 0. */
    BUFFER_HEAD_FREQ, /* (head_dim), where the tables would be large */
    BUFFER_HEAD_SCALE, /* (head_dim) attention_scale of what rotates, 1 of the rest */
    BUFFER_COS,        /* (max_cache_len, head_dim); custom_ops: (max_cache_len, 1, head_dim) */
    BUFFER_SIN,
    BUFFER_TURN, /* (head_dim, head_dim): linear(x, it) is x with its pairs turned */
    BUFFER_MASK, /* (max_cache_len, max_cache_len): 0 where seen, else EDGE_MASKED */
    BUFFER_MEAN, /* (1, n): linear(x, it) is the mean over n */
    BUFFER_SHARE,  /* (1, n): linear(x, it) is the sum of all but the last */
    BUFFER_COLUMN, /* (n): 1 at the last place alone */
};

struct decoder_buffer {
    char fqn[96];
    enum decoder_buffer_kind kind;
    enum pt2_dtype dtype;
    unsigned n_dims;
    int64_t sizes[4];
    int64_t layer;  /* of a cache */
    int64_t window; /* of a mask; 0: none */
    int rope;       /* of a table, and which of its lists of frequencies */
    bool is_long;
};

struct decoder_buffers {
    struct decoder_buffer *list; /* in the order of the signature */
    size_t n;
};

static inline bool decoder_buffer_is_cache(const struct decoder_buffer *b)
{
    return b->kind == BUFFER_KEY_CACHE || b->kind == BUFFER_VALUE_CACHE;
}

/* A window as long as the cache hides nothing that causality does not: 0. */
int64_t decoder_window(const struct decoder_spec *spec,
                       const struct pt2_export_options *options, int64_t layer);

/* The most tokens that a call takes; positions that a layer's caches hold: fewer than
 * max_cache_len of a ring, which has the window and what the last call wrote beside it.
 * options are resolved, here and below. */
int64_t decoder_max_rows(const struct decoder_spec *spec,
                         const struct pt2_export_options *options);
int64_t decoder_cache_len(const struct decoder_spec *spec,
                          const struct pt2_export_options *options, int64_t layer);

/* new: decoder_buffers_done.  Errors: NOMEM. */
MUST_USE int decoder_buffers_find(const struct decoder_spec *spec,
                                  const struct pt2_export_options *options,
                                  struct decoder_buffers *ret_buffers,
                                  struct pt2_err *err);
void decoder_buffers_done(struct decoder_buffers *buffers);

/* Its rows, each of sizes[n_dims - 1] elements; 1 for a buffer of one dimension, 0 for a
 * cache. */
int64_t decoder_buffer_n_rows(const struct decoder_buffer *b);
/* Row i as float32, which all but the caches are. */
void decoder_buffer_row(const struct decoder_spec *spec, const struct decoder_buffer *b,
                        int64_t i, float *ret_row);

#endif
