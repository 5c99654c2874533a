/* spec.h - what a decoder computes, whatever family it comes from.
 *
 * A family reads its config.json into one of these (families.h); the graph builder
 * (decoder_graph.h) turns it into nodes and knows no family.  A knob at 0 (NULL, false)
 * is what Llama does.  A knob that no family here needs yet is not here yet:
 * doc/exports.md says how to add one.
 *
 * One thread at a time; immutable after decoder_spec_read.  The strings are static; what
 * a rope points to is the config's, which must outlive the spec. */
#ifndef EXPORT_SPEC_H
#define EXPORT_SPEC_H

#include "base/util.h"
#include "export/rope.h"

#include <jansson.h>
#include <pt2/err.h>

/* Bounds on what a config.json may say, so that no product of two of them overflows. */
#define SPEC_MAX_SIZE   (1 << 24) /* of a dimension */
#define SPEC_MAX_LAYERS 1024
#define SPEC_MAX_ROPES  2
#define SPEC_MAX_EXPERTS 1024 /* of a layer */

/* Where a norm rounds, and what it multiplies by. */
enum norm_kind {
    NORM_RMS,            /* x * rsqrt(mean(x^2) + eps) in float32, cast back, times w */
    NORM_RMS_WIDE,       /* the same, times w before the cast back */
    NORM_RMS_PLUS_ONE,   /* the same, times 1 + w before the cast back */
    NORM_RMS_PLAIN,      /* no weight */
    NORM_LAYER,          /* layer_norm with weight and bias */
    NORM_LAYER_PLUS_ONE, /* layer_norm with 1 + w and bias */
    NORM_LAYER_PLAIN,    /* layer_norm in float32, no weight */
    NORM_LAYER_WIDE,     /* mean and variance in their parts in float32, times w, cast */
};

enum qk_norm {
    QK_NORM_NONE,
    QK_NORM_HEAD,       /* over a head; one weight (head_dim) for all */
    QK_NORM_EVERY_HEAD, /* over a head; a weight (heads, head_dim) */
    QK_NORM_MODULES,    /* the same, a tensor (head_dim) for each head: norms.0, ... */
    QK_NORM_ALL,        /* over all heads together, before they are split */
};

enum qkv_layout {
    QKV_SEPARATE,
    QKV_FUSED,    /* one tensor: all of q, then k, then v */
    QKV_PER_HEAD, /* one tensor: of the first head of k and v its queries, its k, its v;
                     of the second, ... */
    QKV_BLOCKS,   /* one tensor: four blocks of heads, in each all of q, then v, then k */
};
#define QKV_N_BLOCKS 4

/* Which elements of a head turn together. */
enum rope_pairs {
    PAIRS_HALVES,         /* i and i + dim / 2 */
    PAIRS_HALVES_FLIPPED, /* the same, the other way round */
    PAIRS_NEIGHBOURS,     /* 2i and 2i + 1 */
};

enum rope_rounding {
    ROPE_IN_DTYPE,     /* cos and sin rounded to the dtype, applied in it */
    ROPE_TABLES_DTYPE, /* rounded, applied in float32 */
    ROPE_WIDE,         /* not rounded, applied in float32 */
};

/* Names in transformers' ACT2FN: see spec.c, read_act. */
enum act {
    ACT_SILU,
    ACT_GELU,
    ACT_GELU_TANH, /* gelu_pytorch_tanh */
    ACT_GELU_NEW,  /* the same formula, rounded after each operation */
    ACT_RELU,
    ACT_RELU2, /* relu, squared */
    ACT_SIGMOID,
    ACT_TANH,
    ACT_XIELU, /* with weights of its own: alpha_p, alpha_n, beta, eps */
};

enum mlp_kind {
    MLP_GATED,       /* down(act(gate(x)) * up(x)) */
    MLP_GATED_FUSED, /* the same; gate and up are one tensor, in that order */
    MLP_PLAIN,       /* down(act(up(x))) */
};

/* How a token's experts are chosen, and what they weigh. */
enum router {
    ROUTER_SOFTMAX,     /* softmax over all in float32, the top k of it */
    ROUTER_TOP_SOFTMAX, /* the top k of the logits, softmax over those in float32 */
    ROUTER_SIGMOID,     /* sigmoid in float32; the top k of it and a correction */
};

enum experts_kind {
    EXPERTS_GATED, /* down(act(gate(x)) * up(x)): gate_up is (experts, 2 size, hidden), down
                      (experts, hidden, size) */
    EXPERTS_CLAMPED, /* down((up(x) + 1) * g * sigmoid(1.702 g)), g = gate(x), both clamped
                        at 7, with biases; gate and up are every other column of (experts,
                        hidden, 2 size), down is (experts, size, hidden) */
};

/* The experts of those layers that have some; n_experts of 0: there are none. */
struct moe_spec {
    int64_t n_experts, top_k;
    int64_t size;        /* an expert's intermediate one */
    int64_t shared_size; /* of the MLP that every token passes too; 0: there is none */
    enum router router;
    bool router_bias;
    bool is_normed;       /* the weights of the chosen are divided by their sum */
    bool weights_wide;    /* they stay float32, and so does what they multiply */
    double weight_factor; /* 0: none */
    int64_t n_groups, top_groups; /* ROUTER_SIGMOID: of n groups only those with the
                                     largest two; n_groups of 1: all */
    enum experts_kind kind;
    bool shared_fused; /* its gate and up are one tensor, as in MLP_GATED_FUSED */
    bool shared_gate;  /* it is multiplied by a sigmoid of its own */
};

/* The start of a name within a layer, and what checkpoints say for it. */
struct rename {
    const char *now, *saved;
};

/* Names of the modules in the checkpoint, those of a layer relative to it.  A norm
 * without a name is not there; without mlp_norm a parallel layer has one for both. */
struct decoder_names {
    const char *embed;           /* "model.embed_tokens" */
    const char *layers;          /* "model.layers"; a layer is "<layers>.<i>" */
    const char *norm;            /* the last one */
    const char *head, *old_head; /* the latter: its name in old checkpoints */
    const char *positions;       /* learned ones; NULL: none */
    const char *project_in, *project_out; /* where the embedding has another width */
    const char *attn_norm, *attn_post_norm; /* of attention's input, of its output */
    const char *q, *k, *v, *o;
    const char *qkv; /* all but QKV_SEPARATE */
    const char *last_o_bias; /* of o, in the last layer alone: the tensor's name */
    const char *attn_sub_norm, *mlp_sub_norm; /* of what o, down read; NORM_RMS */
    const char *sinks;
    const char *q_norm, *k_norm;
    const char *mlp_norm, *mlp_post_norm;
    const char *gate, *up, *down; /* MLP_GATED_FUSED: gate is both */
    const char *act;              /* ACT_XIELU */
    const char *router, *correction;
    const char *experts; /* its tensors gate_up_proj and down_proj hold all of them ... */
    const char *expert_gate, *expert_up, *expert_down; /* ... where a checkpoint doesn't
        have "<experts>.<e>.<expert_gate>.weight"; NULL: none does */
    const char *shared_gate, *shared_up, *shared_down; /* shared_fused: gate is both */
    const char *shared_router;
    const struct rename *saved; /* NULL, or ends with NULL: names as they once were */
    const char *rotary; /* the module whose inv_freq buffer the reference exports */
};

#define NO_ROPE (-1)

struct layer_spec {
    int64_t window;    /* positions that it sees, its own included; 0: all */
    int rope;          /* which of the ropes; NO_ROPE: it does not rotate */
    double attn_scale; /* of q @ k */
    bool has_experts;  /* instead of an MLP */
};

struct decoder_spec {
    const char *model_type; /* static */
    const char *part_of;    /* static: the type of the whole that it is the text part of;
                               NULL */
    const struct decoder_names *names;
    const char *const *ignores; /* ends of tensor names: saved once, never read */
    const char *note; /* static: where the reference's export is another; NULL */
    int64_t vocab_size, hidden_size, intermediate_size;
    int64_t n_layers, n_heads, n_kv_heads, head_dim;
    int64_t embed_size;      /* of the embedding and the head; 0: hidden_size */
    int64_t max_position;    /* max_position_embeddings */
    int64_t position_offset; /* rows of the learned positions before that of the first */
    enum norm_kind norm;
    double norm_eps;
    bool norms_wide_f16; /* their weights stay float32 where the rest is float16 */
    bool embed_norm;  /* the embedding passes a norm, which is NORM_RMS_PLAIN */
    bool is_parallel; /* attention and MLP read the same x; both are added to it */
    bool is_post_norm; /* attn_norm, mlp_norm are of the sum, behind the part */

    struct rope ropes[SPEC_MAX_ROPES];
    int n_ropes;
    bool is_sinusoidal; /* the one rope's sines and cosines are added to the embedding */
    enum rope_pairs pairs;
    enum rope_rounding rope_rounding;

    enum qkv_layout qkv;
    bool qkv_bias, o_bias;
    double qkv_clip; /* to -it .. it; 0: not at all */
    enum qk_norm qk_norm;
    enum norm_kind qk_norm_kind;
    bool qk_norm_after_rope;
    double attn_softcap; /* 0: none */
    bool has_sinks; /* each head attends to a number too that adds nothing */
    struct layer_spec layers[SPEC_MAX_LAYERS];

    enum mlp_kind mlp;
    enum act act;
    bool mlp_bias;
    struct moe_spec moe;
    int64_t n_extra_layers; /* behind the others in the checkpoint, never read */

    bool transposed;         /* linears of a layer are (in, out): transformers' Conv1D */
    double embed_multiplier; /* 0: none */
    bool embed_multiplier_cast; /* rounded to the dtype first */
    double residual_multiplier; /* of what is added; 0: none */
    double logits_multiplier, logits_divisor, logits_softcap; /* 0: none */
    bool tied; /* config.json says that the head is the embedding */
    bool head_bias;
};

/* Read it from the object of a config.json, which must outlive the spec.
 * Errors: NOT_EXPORTABLE (a model type, field or value that is not understood; the text
 * names it), BAD_CONFIG (one that can not be meant), NOMEM. */
MUST_USE int decoder_spec_read(const json_t *config, struct decoder_spec *ret_spec,
                               struct pt2_err *err);

#endif
