/* decoder_parts.h - what decoder_graph.c builds a decoder from: norms, rotation,
 * attention, MLPs.  Each part reads knobs of the spec and knows no family.
 *
 * One thread at a time. */
#ifndef EXPORT_DECODER_PARTS_H
#define EXPORT_DECODER_PARTS_H

#include "export/decoder_buffers.h"
#include "export/graph.h"
#include "export/spec.h"
#include "export/weights.h"

#include <pt2/export.h>

/* The values of one layer, or of none: weights by role, and what else the layer needs. */
struct layer_values {
    const struct layer_spec *spec;    /* NULL: of no layer */
    uint32_t weights[N_WEIGHT_ROLES]; /* GRAPH_NO_BIAS where there is none; of several,
                                         the first: they follow one another; of a quantised
                                         one its numbers, scales, zero points */
    const struct weight *sources[N_WEIGHT_ROLES]; /* NULL where there is none */
    uint32_t key_cache, value_cache;
    uint32_t slots; /* (s): where in the caches the positions lie */
    uint32_t mask;  /* (s, the caches' length): bool, or edge: float32, to be added */
};

struct rope_values {
    /* Buffers (decoder_buffers.h); GRAPH_NO_BIAS where there is none. */
    uint32_t inv_freq, long_inv_freq, scale, turn;
    uint32_t cos, sin;    /* the tables, then their rows: (s, dim), edge: (s, head_dim) */
    uint32_t query_scale; /* (s, 1); GRAPH_NO_BIAS where there is none */
};

struct builder {
    struct graph graph;
    const struct decoder_spec *spec;
    const struct pt2_export_options *options;
    struct layer_values *layers, top; /* (n_layers), and what is of no layer */
    struct rope_values ropes[SPEC_MAX_ROPES];
    const struct decoder_buffers *buffers;
    uint32_t *buffer_values;         /* (buffers->n) */
    uint32_t places, column, causal; /* part_masks's; GRAPH_NO_BIAS: not made yet */
    uint32_t first; /* custom_ops: the number that is the first position; likewise */
    struct pt2_dim batch, seq;
    uint32_t input_ids, positions;
};

/* x normed by the weight of that role and the bias that follows it. */
uint32_t part_norm(struct builder *b, enum norm_kind kind, uint32_t x,
                   const struct layer_values *layer, enum weight_role role);

/* The mean over the last dimension, which is kept, as 1. */
uint32_t part_mean(struct builder *b, uint32_t x);

/* Fill in the layers' masks. */
void part_masks(struct builder *b);

/* Fill in the ropes' tables: cos, sin and query_scale of the positions. */
void part_rotary_tables(struct builder *b);
/* (s, hidden_size), of spec.is_sinusoidal. */
uint32_t part_sinusoids(struct builder *b);
/* Turn x, (batch, heads, s, head_dim). */
uint32_t part_rotate(struct builder *b, const struct rope_values *rope, uint32_t x);

/* The weight of that role as floats: itself, or what its numbers stand for. */
uint32_t part_weight(struct builder *b, const struct layer_values *layer,
                     enum weight_role role);
/* x times the weight of that role, plus the bias that follows it. */
uint32_t part_linear(struct builder *b, uint32_t x, const struct layer_values *layer,
                     enum weight_role role);

uint32_t part_activate(struct builder *b, uint32_t x, const struct layer_values *layer);

/* (batch, s, hidden) to the same; what it makes of x is not added to it. */
uint32_t part_attention(struct builder *b, uint32_t x, const struct layer_values *layer);
/* Profile edge: of (1, heads, s, head_dim) each, turned but not scaled, the same. */
uint32_t part_edge_attention(struct builder *b, uint32_t q, uint32_t k, uint32_t v,
                             const struct layer_values *layer);
/* custom_ops: of (1, s, heads, head_dim) each the same. */
uint32_t part_custom_attention(struct builder *b, uint32_t q, uint32_t k, uint32_t v,
                               const struct layer_values *layer);
#define FIRST_SYMBOL "u0"
uint32_t part_mlp(struct builder *b, uint32_t x, const struct layer_values *layer);
/* The MLP that all tokens pass beside their experts. */
uint32_t part_shared_mlp(struct builder *b, uint32_t x, const struct layer_values *layer);
uint32_t part_moe(struct builder *b, uint32_t x, const struct layer_values *layer);

#endif
