/* decoder_graph.h - a decoder spec as a program: forward(input_ids, cache_position).
 *
 * The spelling is profile "torch": index_copy_ into the caches, one bool mask per window,
 * scaled_dot_product_attention with enable_gqa, RMS norms in their parts, rounding where
 * eager Transformers rounds.  decoder_parts.h has the pieces. */
#ifndef EXPORT_DECODER_GRAPH_H
#define EXPORT_DECODER_GRAPH_H

#include "export/spec.h"
#include "export/weights.h"

#include <pt2/export.h>
#include <pt2/program.h>

/* A buffer of the program, in the order of the signature. */
struct decoder_buffer {
    char fqn[96];
    enum pt2_dtype dtype;
    unsigned n_dims;
    int64_t sizes[4];
    bool is_cache; /* starts as zeros; otherwise the rope_inv_freq of a rope */
    int64_t layer; /* of a cache, and which of its two */
    bool is_value;
    int rope; /* of a table, and which of its lists */
    bool is_long;
};

/* The most tokens that a call takes; positions that a layer's caches hold: fewer than
 * max_cache_len of a ring, which has the window and what the last call wrote beside it.
 * options are resolved, here and below. */
int64_t decoder_max_rows(const struct decoder_spec *spec,
                         const struct pt2_export_options *options);
int64_t decoder_cache_len(const struct decoder_spec *spec,
                          const struct pt2_export_options *options, int64_t layer);

/* The frequencies of each rope, then key_cache_0, value_cache_0, key_cache_1, ...:
 * (batch, kv_heads, decoder_cache_len, head_dim). */
size_t decoder_n_buffers(const struct decoder_spec *spec,
                         const struct pt2_export_options *options);
struct decoder_buffer decoder_buffer_at(const struct decoder_spec *spec,
                                        const struct pt2_export_options *options,
                                        size_t i);

/* new: pt2_program_free.
 * Errors: NOMEM, BAD_PROGRAM (too many nodes). */
MUST_USE int decoder_graph_build(const struct decoder_spec *spec,
                                 const struct weights *weights,
                                 const struct pt2_export_options *options,
                                 struct pt2_program **ret_program, struct pt2_err *err);

#endif
