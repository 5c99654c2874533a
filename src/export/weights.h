/* weights.h - which tensor of the checkpoint is which weight of the decoder.
 *
 * Borrows the spec and the checkpoint.  Immutable after weights_bind. */
#ifndef EXPORT_WEIGHTS_H
#define EXPORT_WEIGHTS_H

#include "base/util.h"
#include "export/spec.h"

#include <pt2/checkpoint.h>

/* What a weight is for.  A bias follows its weight. */
enum weight_role {
    WEIGHT_EMBED,
    WEIGHT_POSITIONS,
    WEIGHT_PROJECT_IN,
    WEIGHT_PROJECT_IN_BIAS, /* of neither projection there is one */
    WEIGHT_ATTN_NORM,
    WEIGHT_ATTN_NORM_BIAS,
    WEIGHT_QKV,
    WEIGHT_QKV_BIAS,
    WEIGHT_Q,
    WEIGHT_Q_BIAS,
    WEIGHT_K,
    WEIGHT_K_BIAS,
    WEIGHT_V,
    WEIGHT_V_BIAS,
    WEIGHT_Q_NORM,
    WEIGHT_Q_NORM_BIAS,
    WEIGHT_K_NORM,
    WEIGHT_K_NORM_BIAS,
    WEIGHT_ATTN_SUB_NORM,
    WEIGHT_ATTN_SUB_NORM_BIAS,
    WEIGHT_SINKS,
    WEIGHT_O,
    WEIGHT_O_BIAS,
    WEIGHT_ATTN_POST_NORM,
    WEIGHT_ATTN_POST_NORM_BIAS,
    WEIGHT_MLP_NORM,
    WEIGHT_MLP_NORM_BIAS,
    WEIGHT_GATE,
    WEIGHT_GATE_BIAS,
    WEIGHT_UP,
    WEIGHT_UP_BIAS,
    WEIGHT_ALPHA_P, /* ACT_XIELU's */
    WEIGHT_ALPHA_N,
    WEIGHT_ACT_BETA,
    WEIGHT_ACT_EPS,
    WEIGHT_MLP_SUB_NORM,
    WEIGHT_MLP_SUB_NORM_BIAS,
    WEIGHT_DOWN,
    WEIGHT_DOWN_BIAS,
    WEIGHT_ROUTER,
    WEIGHT_ROUTER_BIAS,
    WEIGHT_CORRECTION,
    WEIGHT_EXPERTS_GATE_UP,
    WEIGHT_EXPERTS_GATE_UP_BIAS,
    WEIGHT_EXPERTS_DOWN,
    WEIGHT_EXPERTS_DOWN_BIAS,
    WEIGHT_SHARED_GATE,
    WEIGHT_SHARED_GATE_BIAS,
    WEIGHT_SHARED_UP,
    WEIGHT_SHARED_UP_BIAS,
    WEIGHT_SHARED_DOWN,
    WEIGHT_SHARED_DOWN_BIAS,
    WEIGHT_SHARED_ROUTER,
    WEIGHT_SHARED_ROUTER_BIAS,
    WEIGHT_MLP_POST_NORM,
    WEIGHT_MLP_POST_NORM_BIAS,
    WEIGHT_NORM,
    WEIGHT_NORM_BIAS,
    WEIGHT_PROJECT_OUT,
    WEIGHT_PROJECT_OUT_BIAS,
    WEIGHT_HEAD,
    WEIGHT_HEAD_BIAS,
    N_WEIGHT_ROLES
};

#define WEIGHT_FQN_SIZE      160
#define WEIGHTS_MAX_LEFT_OUT 8
#define WEIGHTS_MAX_NAMED    3 /* tensors in a message */

/* Whole numbers that stand for floats. */
struct weight_scheme {
    unsigned bits;   /* 8 or 4; 0: floats */
    int64_t group;   /* neighbours in a row that share a scale; divides the row */
    bool is_dynamic; /* what it multiplies is made whole numbers too */
    bool is_stored;  /* the checkpoint has such groups, and they are taken as they are */
};

struct weight {
    enum weight_role role;
    int64_t layer;             /* -1: of no layer */
    int64_t head;              /* QK_NORM_MODULES: which; otherwise 0 */
    char fqn[WEIGHT_FQN_SIZE]; /* of the reference's ep.state_dict: "model." and the name
                                */
    size_t first_source, n_sources; /* of weights.sources: its values, one behind another */
    unsigned n_dims;
    int64_t sizes[3];
    struct weight_scheme scheme;
    uint32_t record; /* number of its record in the archive, of quantised the first of three */
    bool is_alias;  /* a tied head: the record is the embedding's, the graph takes that */
    bool is_buffer; /* a persistent buffer, no parameter */
    bool is_wide, is_wide_f16; /* float32 whatever the export's dtype, or if float16 */
};

static inline enum pt2_dtype weight_dtype(const struct weight *w, enum pt2_dtype dtype)
{
    bool is_wide = w->is_wide || (w->is_wide_f16 && dtype == PT2_FLOAT16);

    return is_wide ? PT2_FLOAT32 : dtype;
}

struct weights {
    struct weight *list; /* in the order in which the graph takes them */
    size_t n;
    const struct pt2_checkpoint_tensor **sources;
    size_t n_sources;
    uint32_t n_records;
    uint64_t n_elements;    /* of all records */
    bool is_tied; /* the head is the embedding: an alias, or quantised in another way */
    bool is_untied_by_data; /* config.json ties, but the checkpoint holds both */
    size_t n_left_out; /* tensors of a whole that is more than its text part */
    const char *left_out[WEIGHTS_MAX_LEFT_OUT]; /* the modules that they are of, static */
    size_t n_left_out_modules;
    /* the first tensors that are no weight, and how many there are */
    const struct pt2_checkpoint_tensor *unused[WEIGHTS_MAX_NAMED];
    size_t n_unused;
};

/* Find every weight.  Those that text_part.h knows of where the spec is a part of a whole
 * are counted as left out, all else that is no weight as unused.
 * Errors: BAD_CHECKPOINT (some are missing: the first are named, all counted; or one is of
 * another shape), NOT_EXPORTABLE (a dtype that is not floating point), NOMEM. */
MUST_USE int weights_bind(const struct decoder_spec *spec,
                          const struct pt2_checkpoint *checkpoint,
                          struct weights *ret_weights, struct pt2_err *err);
void weights_done(struct weights *weights);

/* Where is_untied_by_data: as transformers' tie_weights does, tie the two if they hold the
 * same values in dtype.  Reads both; else nothing is read.
 * Errors: those of pt2_checkpoint_read, NOMEM. */
MUST_USE int weights_tie_equal(struct weights *weights,
                               const struct pt2_checkpoint *checkpoint,
                               enum pt2_dtype dtype, struct pt2_err *err);

#endif
