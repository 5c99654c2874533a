/* decoder_graph.h - a decoder spec as a program: forward(input_ids, cache_position).
 *
 * Profile "torch": index_copy_ into the caches, one bool mask per window,
 * scaled_dot_product_attention with enable_gqa, RMS norms in their parts, rounding where
 * eager Transformers rounds.  Profile "edge": what ExecuTorch's XNNPACK takes in few
 * pieces (decoder_edge.c).  decoder_parts.h has the pieces of both. */
#ifndef EXPORT_DECODER_GRAPH_H
#define EXPORT_DECODER_GRAPH_H

#include "export/decoder_buffers.h"
#include "export/spec.h"
#include "export/weights.h"

#include <pt2/export.h>
#include <pt2/program.h>

/* new: pt2_program_free.
 * Errors: NOMEM, BAD_PROGRAM (too many nodes). */
MUST_USE int decoder_graph_build(const struct decoder_spec *spec,
                                 const struct weights *weights,
                                 const struct decoder_buffers *buffers,
                                 const struct pt2_export_options *options,
                                 struct pt2_program **ret_program, struct pt2_err *err);

#endif
