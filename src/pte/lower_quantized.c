/* lower_quantized.c - torchao's nodes, and what reads them.
 *
 * A linear of dynamically quantised rows is one node of XNNPACK's, with its weights packed
 * as that wants them: two of 4 bits a byte with scales in bfloat16, or bytes with a scale a
 * row.  An embedding is a kernel of ExecuTorch's quantized library.  What has no such
 * counterpart (weights alone quantised, bytes in groups) is refused: ExecuTorch does not
 * lower it either. */
#include "base/log.h"
#include "pte/lower_impl.h"

/* ---- torchao's nodes ---- */

static bool is_parameter(const struct lowering *l, uint32_t value)
{
    return value != NO_VALUE && l->values[value].blob != PTE_NONE;
}

/* The last number of its block_size. */
static int64_t group_of(const struct pt2_node *node)
{
    const struct pt2_arg *block = lower_arg(node, "block_size");

    if (!block || block->kind != PT2_ARG_INTS || block->list.n == 0)
        return 0;
    return block->list.items[block->list.n - 1].i;
}

static int note_weight(struct lowering *l, const struct pt2_node *node, uint32_t data)
{
    struct lowered *x = &l->values[node->outputs[0].value];
    const struct pt2_tensor_meta *meta = lower_meta(l, data);
    int64_t min = lower_int(node, "quant_min", 0), max = lower_int(node, "quant_max", 0),
            group = group_of(node);

    x->data = data;
    x->scales = lower_tensor(node, "scale");
    x->is_int4 = min == -8 && max == 7;
    if ((!x->is_int4 && (min != -128 || max != 127)) || meta->dtype != PT2_INT8 ||
        meta->n_dims != 2 || !is_parameter(l, x->scales) ||
        lower_meta(l, x->scales)->dtype != PT2_FLOAT32 || group < 1 ||
        meta->sizes[1].value % group)
        return lower_refuse(l, node, "no int8 matrix of 4 or 8 bits with float32 scales");
    x->group = (uint32_t)group;
    return 0;
}

int lower_quantized(struct lowering *l, const struct pt2_node *node)
{
    const char *op = after_prefix(node->target, "torch.ops.torchao.");
    uint32_t input = lower_tensor(node, "input");

    if (!op)
        return lower_refuse(l, node, "neither of aten nor of torchao");
    if (l->backend != PTE_XNNPACK)
        return lower_refuse(l, node, "quantised programs want the backend xnnpack");
    if (streq(op, "choose_qparams_affine.default"))
        return 0; /* XNNPACK chooses them itself */
    if (streq(op, "dequantize_affine.default") && is_parameter(l, input))
        return note_weight(l, node, input);
    if (!streq(op, "dequantize_affine.default") && !streq(op, "quantize_affine.default"))
        return lower_refuse(l, node, "ExecuTorch has nothing for it");
    if (lower_int(node, "quant_min", 0) != -128 || lower_int(node, "quant_max", 0) != 127)
        return lower_refuse(l, node, "rows of other than 8 bits");
    l->values[node->outputs[0].value].rows_of =
        l->values[input].rows_of == NO_VALUE ? input : l->values[input].rows_of;
    return 0;
}

/* ---- their readers ---- */

bool lower_takes_quantized(const struct lowering *l, const struct pt2_node *node)
{
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        const struct pt2_arg *arg = &node->inputs[i].arg;

        if (arg->kind == PT2_ARG_TENSOR && (l->values[arg->value].data != NO_VALUE ||
                                            l->values[arg->value].rows_of != NO_VALUE))
            return true;
    }
    return false;
}

static uint32_t form_of(struct lowering *l, uint32_t parameter, enum pte_form form)
{
    const struct pte_blob *plain;

    if (pte_failed(l->p))
        return 0;
    plain = &l->p->blobs[l->values[parameter].blob];
    return form == PTE_PLAIN ? l->values[parameter].blob
                             : pte_blob(l->p, plain->source, form, plain->bytes);
}

static int linear(struct lowering *l, const struct pt2_node *node)
{
    uint32_t input = lower_tensor(node, "input"), bias_value = lower_tensor(node, "bias");
    const struct lowered *w = &l->values[lower_tensor(node, "weight")];
    uint32_t x, weights, data, scales, bias = XNN_NO_VALUE;
    struct xnn_shape shape = {.n = 2};

    if (w->data == NO_VALUE || l->values[input].rows_of == NO_VALUE)
        return lower_refuse(l, node,
                            "only weights or only rows are quantised, which ExecuTorch "
                            "does not lower; 8da4w and 8da8w are");
    for (unsigned i = 0; i < 2; i++)
        shape.sizes[i] = (uint32_t)lower_meta(l, w->data)->sizes[i].value;
    if (!w->is_int4 && w->group != shape.sizes[1])
        return lower_refuse(l, node, "8 bits in groups, which XNNPACK has not; a group "
                                     "size of 0 gives a scale for each row");
    if (w->is_int4 && w->group % 32)
        return lower_refuse(l, node, "4 bits in groups that are no multiple of 32");
    if (lower_xnn_begin(l) < 0 ||
        lower_xnn_value(l, l->values[input].rows_of, &x) < 0 ||
        (bias_value != NO_VALUE && lower_xnn_weight(l, bias_value, &bias) < 0))
        return -1;
    data = form_of(l, w->data, w->is_int4 ? PTE_LOW_NIBBLES : PTE_PLAIN);
    scales = form_of(l, w->scales, w->is_int4 ? PTE_BFLOAT16 : PTE_PLAIN);
    if (w->is_int4)
        weights = xnn_weights_int4(l->delegate, &shape, w->group, pte_blob_key(l->p, data),
                                   pte_blob_key(l->p, scales));
    else
        weights = xnn_weights_int8(l->delegate, &shape, pte_blob_key(l->p, data),
                                   pte_blob_key(l->p, scales));
    lower_xnn_made(l, node,
                   xnn_fully_connected(l->delegate, xnn_rows_int8(l->delegate, x), weights,
                                       bias));
    return 0;
}

static int embedding(struct lowering *l, const struct pt2_node *node)
{
    const struct lowered *w = &l->values[lower_tensor(node, "weight")];
    const struct pt2_tensor_meta *meta = lower_meta(l, w->data);
    int64_t table[] = {meta->sizes[0].value, meta->sizes[1].value};
    int64_t scales[] = {table[0], table[1] / w->group};
    uint32_t data, scale, out, ids = lower_value(l, lower_tensor(node, "indices"));

    if (w->is_int4 && table[1] % 2)
        return lower_refuse(l, node, "rows of an odd number of 4 bits");
    if (w->is_int4)
        table[1] /= 2;
    data = pte_constant(l->p, form_of(l, w->data, w->is_int4 ? PTE_HIGH_NIBBLES : PTE_PLAIN),
                        w->is_int4 ? PT2_UINT8 : PT2_INT8, 2, table);
    scale = pte_constant(l->p, form_of(l, w->scales, PTE_PLAIN), PT2_FLOAT32, 2, scales);
    out = lower_result(l, node);
    PTE_CALL(l->p,
             w->is_int4 ? "quantized_decomposed::embedding_4bit"
                        : "quantized_decomposed::embedding_byte",
             "out", data, scale, pte_null(l->p), pte_int(l->p, w->is_int4 ? -8 : -128),
             pte_int(l->p, w->is_int4 ? 7 : 127), ids, out, out);
    return 0;
}

int lower_of_quantized(struct lowering *l, const struct pt2_node *node)
{
    const char *op = lower_op(node);

    if (streq(op, "linear.default"))
        return linear(l, node);
    if (!streq(op, "embedding.default") ||
        l->values[lower_tensor(node, "weight")].data == NO_VALUE)
        return lower_refuse(l, node, "reads quantised values as floats");
    if (lower_xnn_end(l) < 0)
        return -1;
    return embedding(l, node);
}
