/* lower_portable.c - nodes as calls of ExecuTorch's portable kernels. */
#include "base/log.h"
#include "pte/dtype.h"
#include "pte/lower_impl.h"

#define MAX_ARGS 12

/* How an op's functional form becomes its out= one: the schema's arguments in their order
 * (kernels/portable/functions.yaml), with what is taken where the node has none: n null,
 * f false, t true, or a number. */
struct kernel {
    const char *op; /* of aten */
    const char *name, *overload;
    const char *args; /* "self,dim=-1" */
    const char *scalar_overload; /* where `other` is a number */
};

static const struct kernel kernels[] = {
    {"__and__.Tensor", "aten::bitwise_and", "Tensor_out", "self,other", NULL},
    {"add.Tensor", "aten::add", "out", "self,other,alpha=1", "Scalar_out"},
    {"arange.default", "aten::arange", "out", "end", NULL},
    {"bitwise_not.default", "aten::bitwise_not", "out", "self", NULL},
    {"bmm.default", "aten::bmm", "out", "self,mat2", NULL},
    {"cat.default", "aten::cat", "out", "tensors,dim=0", NULL},
    {"clamp.default", "aten::clamp", "out", "self,min=n,max=n", NULL},
    {"constant_pad_nd.default", "aten::constant_pad_nd", "out", "self,pad,value=0", NULL},
    {"cos.default", "aten::cos", "out", "self", NULL},
    {"div.Tensor", "aten::div", "out", "self,other", "Scalar_out"},
    {"embedding.default", "aten::embedding", "out",
     "weight,indices,padding_idx=-1,scale_grad_by_freq=f,sparse=f", NULL},
    {"expand.default", "aten::expand_copy", "out", "self,size,implicit=f", NULL},
    {"exp.default", "aten::exp", "out", "self", NULL},
    {"expm1.default", "aten::expm1", "out", "self", NULL},
    {"floor.default", "aten::floor", "out", "self", NULL},
    {"gather.default", "aten::gather", "out", "self,dim,index,sparse_grad=f", NULL},
    {"gelu.default", "aten::gelu", "out", "self,approximate", NULL},
    {"gt.Scalar", "aten::gt", "Scalar_out", "self,other", NULL},
    {"gt.Tensor", "aten::gt", "Tensor_out", "self,other", NULL},
    {"index.Tensor", "aten::index", "Tensor_out", "self,indices", NULL},
    {"index_select.default", "aten::index_select", "out", "self,dim,index", NULL},
    {"le.Tensor", "aten::le", "Tensor_out", "self,other", NULL},
    {"linear.default", "aten::linear", "out", "input,weight,bias=n", NULL},
    {"log.default", "aten::log", "out", "self", NULL},
    {"lt.Scalar", "aten::lt", "Scalar_out", "self,other", NULL},
    {"masked_fill.Scalar", "aten::masked_fill", "Scalar_out", "self,mask,value", NULL},
    {"min.other", "aten::minimum", "out", "self,other", NULL},
    {"mul.Tensor", "aten::mul", "out", "self,other", "Scalar_out"},
    {"pow.Tensor_Scalar", "aten::pow", "Tensor_Scalar_out", "self,exponent", NULL},
    {"relu.default", "aten::relu", "out", "self", NULL},
    {"remainder.Scalar", "aten::remainder", "Scalar_out", "self,other", NULL},
    {"reshape.default", "aten::view_copy", "out", "self,shape", NULL},
    {"rsqrt.default", "aten::rsqrt", "out", "self", NULL},
    {"scatter.value", "aten::scatter", "value_out", "self,dim,index,value", NULL},
    {"select.int", "aten::select_copy", "int_out", "self,dim,index", NULL},
    {"sigmoid.default", "aten::sigmoid", "out", "self", NULL},
    {"sin.default", "aten::sin", "out", "self", NULL},
    {"slice.Tensor", "aten::slice_copy", "Tensor_out", "self,dim,start=0,end,step=1", NULL},
    {"softmax.int", "aten::_softmax", "out", "self,dim,half_to_float=f", NULL},
    {"squeeze.dim", "aten::squeeze_copy", "dim_out", "self,dim", NULL},
    {"sub.Tensor", "aten::sub", "out", "self,other,alpha=1", "Scalar_out"},
    {"sum.dim_IntList", "aten::sum", "IntList_out", "self,dim,keepdim=f,dtype=n", NULL},
    {"tanh.default", "aten::tanh", "out", "self", NULL},
    {"to.dtype", "aten::_to_copy", "out", "self,non_blocking=f,memory_format=n", NULL},
    {"transpose.int", "aten::transpose_copy", "int_out", "self,dim0,dim1", NULL},
    {"unsqueeze.default", "aten::unsqueeze_copy", "out", "self,dim", NULL},
    {"view.default", "aten::view_copy", "out", "self,size", NULL},
    {"where.self", "aten::where", "self_out", "condition,self,other", NULL},
};

static const struct kernel *find_kernel(const char *op)
{
    for (size_t i = 0; i < ARRAY_LEN(kernels); i++)
        if (streq(kernels[i].op, op))
            return &kernels[i];
    return NULL;
}

/* ---- arguments ---- */

static uint32_t default_value(struct lowering *l, const char *text, size_t len)
{
    if (len == 1 && text[0] == 'n')
        return pte_null(l->p);
    if (len == 1 && (text[0] == 'f' || text[0] == 't'))
        return pte_bool(l->p, text[0] == 't');
    return pte_int(l->p, strtoll(text, NULL, 10));
}

static int list_value(struct lowering *l, const struct pt2_node *node,
                      const struct pt2_arg *arg, uint32_t *ret_value)
{
    int64_t numbers[PTE_MAX_DIMS];
    int32_t tensors[PTE_MAX_DIMS];
    uint32_t n = arg->list.n;

    if (n > PTE_MAX_DIMS)
        return lower_refuse(l, node, "a list this long");
    for (uint32_t i = 0; i < n; i++) {
        const struct pt2_arg *item = &arg->list.items[i];

        if (item->kind == PT2_ARG_INT)
            numbers[i] = item->i;
        else if (item->kind == PT2_ARG_TENSOR)
            tensors[i] = (int32_t)lower_value(l, item->value);
        else if (item->kind == PT2_ARG_NONE)
            tensors[i] = -1;
        else
            return lower_refuse(l, node, "a list of symbols");
    }
    if (arg->kind == PT2_ARG_TENSORS)
        *ret_value = pte_tensors(l->p, tensors, n);
    else if (arg->kind == PT2_ARG_OPTIONAL_TENSORS)
        *ret_value = pte_optional_tensors(l->p, tensors, n);
    else
        *ret_value = pte_ints(l->p, numbers, n);
    return 0;
}

static int arg_value(struct lowering *l, const struct pt2_node *node,
                     const struct pt2_arg *arg, uint32_t *ret_value)
{
    switch (arg->kind) {
    case PT2_ARG_TENSOR:
        *ret_value = lower_value(l, arg->value);
        return 0;
    case PT2_ARG_INT:
        *ret_value = pte_int(l->p, arg->i);
        return 0;
    case PT2_ARG_FLOAT:
        *ret_value = pte_double(l->p, arg->f);
        return 0;
    case PT2_ARG_BOOL:
        *ret_value = pte_bool(l->p, arg->b);
        return 0;
    case PT2_ARG_NONE:
        *ret_value = pte_null(l->p);
        return 0;
    case PT2_ARG_SCALAR_TYPE:
        *ret_value = pte_int(l->p, pte_scalar_type(arg->dtype));
        return 0;
    case PT2_ARG_STRING:
        *ret_value = pte_string(l->p, arg->s);
        return 0;
    case PT2_ARG_TENSORS:
    case PT2_ARG_OPTIONAL_TENSORS:
    case PT2_ARG_INTS:
    case PT2_ARG_SYM_INTS:
        return list_value(l, node, arg, ret_value);
    default:
        return lower_refuse(l, node, "an argument of this kind");
    }
}

/* The arguments that the kernel's row names. */
static int collect(struct lowering *l, const struct pt2_node *node, const char *names,
                   uint32_t args[MAX_ARGS], uint32_t *ret_n)
{
    uint32_t n = 0;

    for (const char *at = names; *at; n++) {
        size_t len = strcspn(at, ",="), rest = strcspn(at, ",");
        char name[32];
        const struct pt2_arg *arg;

        snprintf(name, sizeof(name), "%.*s", (int)len, at);
        arg = lower_arg(node, name);
        if (arg && arg_value(l, node, arg, &args[n]) < 0)
            return -1;
        if (!arg && len == rest && !streq(name, "approximate"))
            return lower_refuse(l, node, "an argument is missing");
        if (!arg)
            args[n] = len == rest ? pte_string(l->p, "none")
                                  : default_value(l, at + len + 1, rest - len - 1);
        at += at[rest] ? rest + 1 : rest;
    }
    *ret_n = n;
    return 0;
}

static int call_kernel(struct lowering *l, const struct pt2_node *node,
                       const struct kernel *k)
{
    const struct pt2_arg *other = lower_arg(node, "other");
    bool is_scalar = k->scalar_overload && other && other->kind != PT2_ARG_TENSOR;
    uint32_t args[MAX_ARGS], n;

    if (collect(l, node, k->args, args, &n) < 0)
        return -1;
    if (is_scalar && streq(k->name, "aten::mul"))
        n = 2;
    args[n] = args[n + 1] = lower_result(l, node);
    pte_call(l->p, k->name, is_scalar ? k->scalar_overload : k->overload, args, n + 2);
    return 0;
}

/* ---- what is more than a call ---- */

/* One that is shaped like the result. */
static uint32_t like_result(struct lowering *l, const struct pt2_node *node)
{
    return lower_activation(l, node->outputs[0].value);
}

static int lower_silu(struct lowering *l, const struct pt2_node *node)
{
    uint32_t x = lower_value(l, lower_tensor(node, "self")), s = like_result(l, node), out;

    PTE_CALL(l->p, "aten::sigmoid", "out", x, s, s);
    out = lower_result(l, node);
    PTE_CALL(l->p, "aten::mul", "out", x, s, out, out);
    return 0;
}

static int lower_square(struct lowering *l, const struct pt2_node *node)
{
    uint32_t x = lower_value(l, lower_tensor(node, "self")), out = lower_result(l, node);

    PTE_CALL(l->p, "aten::mul", "out", x, x, out, out);
    return 0;
}

/* log(1 + e^x), and x where that is the same (torch: beyond 20). */
static int lower_softplus(struct lowering *l, const struct pt2_node *node)
{
    uint32_t x = lower_value(l, lower_tensor(node, "self")), e = like_result(l, node);
    uint32_t y = like_result(l, node), is_far = like_result(l, node), out;

    if (node->n_inputs != 1)
        return lower_refuse(l, node, "beta or threshold of another value");
    if (!pte_failed(l->p))
        l->p->values[is_far].tensor.dtype = PT2_BOOL;
    PTE_CALL(l->p, "aten::exp", "out", x, e, e);
    PTE_CALL(l->p, "aten::log1p", "out", e, y, y);
    PTE_CALL(l->p, "aten::gt", "Scalar_out", x, pte_int(l->p, 20), is_far, is_far);
    out = lower_result(l, node);
    PTE_CALL(l->p, "aten::where", "self_out", is_far, x, y, out, out);
    return 0;
}

static int lower_zeros_like(struct lowering *l, const struct pt2_node *node)
{
    uint32_t x = lower_value(l, lower_tensor(node, "self")), out = lower_result(l, node);

    PTE_CALL(l->p, "aten::full_like", "out", x, pte_int(l->p, 0), pte_null(l->p), out, out);
    return 0;
}

static int lower_topk(struct lowering *l, const struct pt2_node *node)
{
    static const char names[] = "self,k,dim=-1,largest=t,sorted=t";
    uint32_t args[MAX_ARGS], n;
    int32_t outs[2];

    if (collect(l, node, names, args, &n) < 0)
        return -1;
    for (uint32_t i = 0; i < 2; i++)
        outs[i] = (int32_t)(args[n + i] = lower_result_at(l, node, i));
    args[n + 2] = pte_tensors(l->p, outs, 2);
    pte_call_outs(l->p, "aten::topk", "values", args, n + 3, 3);
    return 0;
}

/* Each element n times, one behind another: expanded along a dimension of its own. */
static int lower_repeat(struct lowering *l, const struct pt2_node *node)
{
    uint32_t value = lower_tensor(node, "self"), x = lower_value(l, value), out;
    int64_t repeats = lower_int(node, "repeats", 0), dim = lower_int(node, "dim", 0);
    int64_t sizes[PTE_MAX_DIMS + 1];
    unsigned n;

    if (lower_sizes(l, value, sizes, &n) < 0)
        return -1;
    dim += dim < 0 ? n : 0;
    if (n >= PTE_MAX_DIMS || dim < 0 || dim >= (int64_t)n)
        return lower_refuse(l, node, "a dimension that is not there");
    if (lower_is_dynamic(l, value))
        return lower_refuse(l, node, "experts of a symbolic number of tokens");
    for (unsigned i = n; i > (unsigned)dim + 1; i--)
        sizes[i] = sizes[i - 1];
    sizes[dim + 1] = 1;
    if (pte_failed(l->p))
        return 0;
    x = pte_view(l->p, x, lower_meta(l, value)->dtype, n + 1, sizes, 0);
    sizes[dim + 1] = repeats;
    out = pte_activation(l->p, lower_meta(l, value)->dtype, n + 1, sizes);
    PTE_CALL(l->p, "aten::expand_copy", "out", x, pte_ints(l->p, sizes, n + 1),
             pte_bool(l->p, false), out, out);
    if (lower_sizes(l, node->outputs[0].value, sizes, &n) < 0)
        return -1;
    l->values[node->outputs[0].value].value =
        pte_view(l->p, out, lower_meta(l, value)->dtype, n, sizes, 0);
    return 0;
}

/* The rows of the cache at these positions, in place. */
static int lower_index_copy(struct lowering *l, const struct pt2_node *node)
{
    uint32_t cache = lower_value(l, lower_tensor(node, "self"));
    uint32_t rows = lower_value(l, lower_tensor(node, "source"));
    int64_t dim = lower_int(node, "dim", 0);
    int32_t indices[PTE_MAX_DIMS];
    unsigned n_dims = lower_meta(l, lower_tensor(node, "self"))->n_dims;

    dim += dim < 0 ? n_dims : 0;
    if (dim < 0 || dim >= (int64_t)n_dims)
        return lower_refuse(l, node, "a dimension that is not there");
    if (l->values[lower_tensor(node, "self")].rows_first)
        dim = 0; /* and so the rows are turned */
    for (int64_t i = 0; i < dim; i++)
        indices[i] = -1;
    indices[dim] = (int32_t)lower_value(l, lower_tensor(node, "index"));
    PTE_CALL(l->p, "aten::index_put_", "", cache,
             pte_optional_tensors(l->p, indices, (uint32_t)dim + 1), rows,
             pte_bool(l->p, false), cache);
    l->values[node->outputs[0].value].value = cache;
    return 0;
}

/* Ops that one kernel alone is not. */
static const struct {
    const char *op;
    int (*lower)(struct lowering *l, const struct pt2_node *node);
} others[] = {
    {"index_copy_.default", lower_index_copy},
    {"repeat_interleave.self_int", lower_repeat},
    {"silu.default", lower_silu},
    {"softplus.default", lower_softplus},
    {"square.default", lower_square},
    {"topk.default", lower_topk},
    {"zeros_like.default", lower_zeros_like},
};

/* The caller's bytes are nowhere in the arena. */
static bool is_input(struct lowering *l, uint32_t value)
{
    uint32_t x = lower_value(l, value);

    return !pte_failed(l->p) && pte_tensor(l->p, x)->place == PTE_INPUT;
}

/* Another shape of the same elements: where sizes are known, another value at their place. */
static int lower_shape(struct lowering *l, const struct pt2_node *node)
{
    if (!lower_is_dynamic(l, node->outputs[0].value) && !is_input(l, lower_tensor(node, "self")))
        return lower_as_view(l, node, lower_tensor(node, "self"));
    return call_kernel(l, node, find_kernel(lower_op(node)));
}

int lower_portable(struct lowering *l, const struct pt2_node *node)
{
    const char *op = lower_op(node);
    const struct kernel *k = find_kernel(op);

    if (lower_is_shape(l, node))
        return lower_shape(l, node);
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        if (streq(op, others[i].op))
            return others[i].lower(l, node);
    if (!k)
        return lower_refuse(l, node, "ExecuTorch has no kernel for it");
    return call_kernel(l, node, k);
}
