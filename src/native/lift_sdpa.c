/* lift_sdpa.c - ops that are attention as a whole: scaled_dot_product_attention, and
 * ExecuTorch's llama::custom_sdpa. */
#include "native/lift.h"

#include <math.h>

/* Of queries (., heads, s, d) over caches (., kv_heads, positions, d).  mask < 0: a row sees
 * the positions up to its own. */
static int over_caches(struct lift *l, const struct lifted *q, const struct lifted *k,
                       const struct lifted *v, bool groups, double scale, int64_t mask,
                       struct lifted *ret)
{
    struct scores s;
    uint32_t heads;

    if (k->n_dims < 3 || v->n_dims < 3 || k->dims[k->n_dims - 2].label != DIM_POS ||
        v->dims[v->n_dims - 2].label != DIM_POS || v->dims[v->n_dims - 1].label != DIM_DATA)
        return lift_refuse(l, "caches that are shown otherwise");
    if (lift_queries(l, q, k, groups, &s) < 0)
        return -1;
    if (!lift_heads_match(l, q, v, groups, &heads) || heads != s.heads)
        return lift_refuse(l, "heads of queries and values that do not go together");
    s.inner *= scale;
    s.is_masked = mask < 0;
    if ((mask >= 0 && lift_mask_of(l, (uint32_t)mask, &s) < 0) ||
        lift_put_attend(l, &s, v, q, ret) < 0)
        return -1;
    for (unsigned d = ret->n_dims - 1; d-- > 0;) /* heads side by side, as lift_new_rows has */
        if (ret->dims[d].label != DIM_ROW && ret->dims[d].label != DIM_ONE &&
            ret->dims[d].label != DIM_BATCH && ret->dims[d].label != DIM_SEQ)
            return lift_refuse(l, "queries of another shape");
    return 0;
}

/* The arguments that both ops have.  Errors: PROGRAM_REFUSED. */
static int read_attention(struct lift *l, const char *dropout, bool *ret_is_causal,
                          double *ret_scale)
{
    const struct lifted *q = lift_arg(l, "query"), *k = lift_arg(l, "key"),
                        *v = lift_arg(l, "value");
    double p;

    if (!lift_is_rows(q) || q->n_dims < 3 || !k || k->kind != KIND_CACHE || !v ||
        v->kind != KIND_CACHE)
        return lift_refuse(l, "attention that is not over caches");
    if (!node_float(l->node, dropout, 0, &p) || p != 0 ||
        !node_bool(l->node, "is_causal", false, ret_is_causal))
        return lift_refuse(l, "attention with a dropout");
    if (!node_float(l->node, "scale", 1 / sqrt((double)q->dims[q->n_dims - 1].size),
                    ret_scale) ||
        !(*ret_scale > 0))
        return lift_refuse(l, "a scale that is no number");
    return 0;
}

/* Also of the op that it becomes on a CPU, whose logarithms of sums are the second output. */
int lift_sdpa(struct lift *l)
{
    int64_t mask = node_value(l->node, "attn_mask");
    bool is_causal, groups;
    double scale;
    int64_t sums = node_out_at(l->node, 1);
    struct lifted out;

    if (sums >= 0 && l->needed[sums])
        return lift_refuse(l, "attention's logarithms of sums");
    if (read_attention(l, "dropout_p", &is_causal, &scale) < 0)
        return -1;
    if (!node_bool(l->node, "enable_gqa", false, &groups) || is_causal || mask < 0)
        return lift_refuse(l, "attention without a mask");
    if (over_caches(l, lift_arg(l, "query"), lift_arg(l, "key"), lift_arg(l, "value"), groups,
                    scale, mask, &out) < 0)
        return -1;
    *lift_out(l) = out;
    return 0;
}

/* (., s, heads, d), and back */
static struct lifted heads_turned(const struct lifted *v)
{
    struct lifted turned = *v;

    turned.dims[v->n_dims - 3] = v->dims[v->n_dims - 2];
    turned.dims[v->n_dims - 2] = v->dims[v->n_dims - 3];
    return turned;
}

/* llama::custom_sdpa, of ExecuTorch: all is (batch, positions, heads, head_dim); is_causal counts
 * from start_pos, attn_mask is added, of whole caches; without both a row sees all that the
 * run has written. */
int lift_custom_sdpa(struct lift *l)
{
    int64_t mask = node_value(l->node, "attn_mask");
    struct lifted q, k, v, out;
    bool is_causal;
    double scale;

    if (read_attention(l, "drpout_p", &is_causal, &scale) < 0)
        return -1;
    q = *lift_arg(l, "query");
    k = *lift_arg(l, "key");
    v = *lift_arg(l, "value");
    if (q.n_dims != 4 || k.n_dims != 4 || v.n_dims != 4)
        return lift_refuse(l, "queries or caches of another shape");
    if (is_causal ? mask >= 0 : mask < 0 && l->decoder->seq_len != 1)
        return lift_refuse(l, "a mask beside causality, or neither");
    if (mask < 0 && lift_start_is_first(l, l->caches[k.cache].length) < 0)
        return -1;
    if (mask >= 0 && !pt2_dtype_is_float(
                         pt2_program_value(l->program, (uint32_t)mask)->meta.dtype))
        return lift_refuse(l, "a mask of booleans added");
    q = heads_turned(&q);
    k = heads_turned(&k);
    v = heads_turned(&v);
    if (over_caches(l, &q, &k, &v, /* groups= */ true, scale, mask, &out) < 0)
        return -1;
    *lift_out(l) = heads_turned(&out);
    return 0;
}
