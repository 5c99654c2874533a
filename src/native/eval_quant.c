/* Constants that are kept as whole numbers, as torchao makes floats of them. */
#include "native/eval_impl.h"

/* dequantize_affine: (number - zero point) * scale, these for blocks of block_size. */
struct blocks {
    struct tensor scale, zero;
    bool has_zero;
    int64_t sizes[PT2_MAX_DIMS], n_blocks[PT2_MAX_DIMS]; /* of one, and along each dimension */
};

/* One of the blocks' own tensors: as many elements as there are blocks, in their order. */
static int block_tensor(struct eval *e, const struct pt2_node *node, const char *name, int64_t n,
                        struct tensor *ret, struct pt2_err *err)
{
    if (eval_arg(e, node, name, ret, err) < 0)
        return -1;
    if (tensor_n(ret) != n || !tensor_is_contiguous(ret))
        return eval_refuse(err, node, "'%s' of %lld elements for %lld blocks", name,
                           (long long)tensor_n(ret), (long long)n);
    return 0;
}

static int find_blocks(struct eval *e, const struct pt2_node *node, const struct tensor *in,
                       struct blocks *ret, struct pt2_err *err)
{
    int64_t n = 1;
    unsigned n_dims;

    if (eval_arg_ints(e, node, "block_size", ret->sizes, &n_dims, err) < 0)
        return -1;
    if (n_dims != in->n_dims)
        return eval_refuse(err, node, "blocks of %u dimensions", n_dims);
    for (unsigned d = 0; d < n_dims; d++) {
        if (ret->sizes[d] < 1 || in->sizes[d] % ret->sizes[d] != 0)
            return eval_refuse(err, node, "blocks of %lld along %lld",
                               (long long)ret->sizes[d], (long long)in->sizes[d]);
        ret->n_blocks[d] = in->sizes[d] / ret->sizes[d];
        n *= ret->n_blocks[d];
    }
    ret->has_zero = node_arg(node, "zero_point") != NULL;
    if (block_tensor(e, node, "scale", n, &ret->scale, err) < 0 ||
        (ret->has_zero && block_tensor(e, node, "zero_point", n, &ret->zero, err) < 0))
        return -1;
    if (!tensor_is_float(&ret->scale))
        return eval_refuse(err, node, "scales that are no floats");
    return 0;
}

static int run_dequantize(struct eval *e, const struct pt2_node *node, struct tensor *ret,
                          struct pt2_err *err)
{
    struct blocks b = {0};
    struct tensor in;
    int64_t at[PT2_MAX_DIMS] = {0}, to = 0;

    if (eval_arg(e, node, "input", &in, err) < 0 || find_blocks(e, node, &in, &b, err) < 0)
        return -1;
    if (tensor_is_float(&in) || eval_out_dtype(e, node) != PT2_FLOAT32)
        return eval_refuse(err, node, "floats, or not to float32");
    if (tensor_new(e, PT2_FLOAT32, in.n_dims, in.sizes, ret, err) < 0)
        return -1;
    if (tensor_n(&in) == 0)
        return 0;
    do {
        int64_t block = 0;
        float f = tensor_f(&in, tensor_at(&in, at));

        for (unsigned d = 0; d < in.n_dims; d++)
            block = block * b.n_blocks[d] + at[d] / b.sizes[d];
        if (b.has_zero)
            f -= tensor_f(&b.zero, b.zero.offset + block);
        ret->storage->f[to++] = f * tensor_f(&b.scale, b.scale.offset + block);
    } while (tensor_next(in.n_dims, in.sizes, at));
    return 0;
}

eval_fn *eval_quant_find(const char *op)
{
    return streq(op, "torchao.dequantize_affine") ? run_dequantize : NULL;
}
