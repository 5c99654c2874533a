/* lower_impl.h - what the files of the lowering share.  Private to lower*.c. */
#ifndef PTE_LOWER_IMPL_H
#define PTE_LOWER_IMPL_H

#include "pte/lower.h"
#include "pte/xnn.h"

#define NO_VALUE UINT32_MAX

/* What a value of the graph has become. */
struct lowered {
    uint32_t value; /* of the program; NO_VALUE: it is in the delegate alone */
    uint32_t blob;  /* a parameter's or a table's; PTE_NONE */
    uint32_t inner; /* of the delegate that is being made; NO_VALUE */
    uint32_t last_use; /* node; n_nodes: the program's output */
    uint32_t n_uses;
    uint32_t same_as; /* nothing was done to that value to make it; NO_VALUE */
    bool rows_first; /* a cache whose positions are its first dimension, */
    bool is_turned;  /* or rows for one, whose first two dimensions change places */
    /* Of a quantised program: */
    uint32_t rows_of; /* it is this value's rows, through whole numbers of 8 bits */
    uint32_t data, scales; /* it is a parameter's whole numbers by scales; NO_VALUE */
    uint32_t group;        /* of columns that share a scale */
    bool is_int4;
    uint32_t transposed; /* the value that this one is the transpose of, and that bmm
                            takes as it is; NO_VALUE */
};

/* Attention of one layer over one cache, as profile edge spells it: q (kv_heads, repeats * s,
 * head_dim) by keys, capped, masked, softmax, by values. */
struct attention {
    uint32_t first, last;       /* nodes: the two bmm */
    uint32_t q, mask, out;      /* values of the graph */
    uint32_t keys, values;      /* the caches */
    int64_t repeats;
    bool is_split; /* the mask is added to (kv_heads, repeats, s, window) */
    double cap;                 /* of the scores; 0: none */
};

/* A delegate that attends to the first `window` positions, for all layers of that shape. */
struct attention_delegate {
    int64_t window, kv_heads, repeats, head_dim;
    double cap;
    bool is_split;
    uint32_t delegate, cap_value; /* the latter of the program */
};

#define MAX_ATTENTION_DELEGATES 64

struct lowering {
    const struct pt2_program *from;
    enum pte_backend backend;
    struct pte_program *p;
    struct lowered *values; /* by the graph's values */
    struct pt2_node *nodes; /* of the graph, by lower_copy_nodes; owned, as the next */
    struct pt2_named_arg *node_args;
    uint32_t node; /* that is being lowered */
    bool is_row;   /* of one token: the symbol stands for 1 (lower_rows.c) */
    struct xnn_graph *delegate; /* NULL: none is being made */
    uint32_t *args;  /* values of the program, its inputs; room for all values */
    uint32_t *inner; /* values of the graph that it has made */
    uint32_t n_args, n_inner;
    uint32_t n_constants; /* numbers, for their keys */
    struct attention *attentions;
    uint32_t n_attentions;
    struct attention_delegate attend[MAX_ATTENTION_DELEGATES];
    uint32_t n_attend;
    uint32_t is_below[8]; /* Bools: the position is below window i, n_windows of them */
    uint32_t n_windows;
    uint32_t position; /* the input cache_position, of the program */
    uint32_t never;     /* a Bool that is false, for jumps that always go */
    struct pt2_decoder decoder;
    struct pt2_err *err;
};

/* ---- lower.c ---- */

/* The argument, or NULL where the node has none of that name. */
const struct pt2_arg *lower_arg(const struct pt2_node *node, const char *name);
/* That tensor argument's value of the graph. */
uint32_t lower_tensor(const struct pt2_node *node, const char *name);
int64_t lower_int(const struct pt2_node *node, const char *name, int64_t otherwise);
/* Where a size is symbolic: the largest. */
MUST_USE int lower_sizes(struct lowering *l, uint32_t value, int64_t ret_sizes[PTE_MAX_DIMS],
                         unsigned *ret_n);
/* Is the size symbolic? */
bool lower_is_open(const struct lowering *l, const struct pt2_dim *size);
bool lower_is_dynamic(const struct lowering *l, uint32_t value);
/* Is that size a symbol of the program's, and no multiple of one? */
bool lower_is_symbol(const struct lowering *l, const char *expr);
/* A new one of the value's shape. */
uint32_t lower_activation(struct lowering *l, uint32_t value);
const struct pt2_tensor_meta *lower_meta(const struct lowering *l, uint32_t value);
/* The program's value of one of the graph; of a constant a tensor is made. */
uint32_t lower_value(struct lowering *l, uint32_t value);
/* An activation for what the node makes, its i-th output. */
uint32_t lower_result_at(struct lowering *l, const struct pt2_node *node, uint32_t i);
static inline uint32_t lower_result(struct lowering *l, const struct pt2_node *node)
{
    return lower_result_at(l, node, 0);
}
/* The same bytes in the result's shape; -1: they are the caller's. */
MUST_USE int lower_as_view(struct lowering *l, const struct pt2_node *node, uint32_t x);
/* A constant of one float32. */
uint32_t lower_number(struct lowering *l, double number);
MUST_USE int lower_refuse(struct lowering *l, const struct pt2_node *node, const char *why);
/* "mul.Tensor" of torch.ops.aten.mul.Tensor; NULL of another namespace. */
const char *lower_op(const struct pt2_node *node);
/* Does the node give another shape, and nothing else? */
bool lower_is_shape(const struct lowering *l, const struct pt2_node *node);

/* The node, by a delegate or a kernel. */
MUST_USE int lower_node(struct lowering *l, const struct pt2_node *node);

/* ---- lower_rows.c ---- */

/* Do nodes begin here that a symbolic number of tokens can not pass at once, but one after
 * another?  *ret_last: their last. */
bool lower_rows_at(const struct lowering *l, uint32_t node, uint32_t *ret_last);
/* Put them; the walk goes on behind the last. */
MUST_USE int lower_rows(struct lowering *l, uint32_t first, uint32_t last);

/* ---- lower_nodes.c ---- */

/* What the value is the same as, itself otherwise. */
static inline uint32_t lower_root(const struct lowering *l, uint32_t value)
{
    return l->values[value].same_as == NO_VALUE ? value : l->values[value].same_as;
}
bool lower_does_nothing(const struct lowering *l, const struct pt2_node *node);
/* The graph's, but for what lower_root says; a node that does nothing has no inputs. */
MUST_USE int lower_copy_nodes(struct lowering *l);

/* ---- lower_attention.c ---- */

/* Find what can be attended to by windows, and mark its caches. */
void lower_find_attentions(struct lowering *l);
/* The one that begins at this node; NULL. */
const struct attention *lower_attention_at(const struct lowering *l, uint32_t node);
/* Put its calls; the walk goes on behind its last node. */
MUST_USE int lower_attention(struct lowering *l, const struct attention *a);

/* ---- lower_quantized.c ---- */

/* A node of torchao: what it stands for is noted, for those that read it. */
MUST_USE int lower_quantized(struct lowering *l, const struct pt2_node *node);
/* Does the node read what such nodes have made? */
bool lower_takes_quantized(const struct lowering *l, const struct pt2_node *node);
MUST_USE int lower_of_quantized(struct lowering *l, const struct pt2_node *node);

/* ---- lower_llama.c ---- */

/* Is it one of ExecuTorch's ops for caches, or the number that those take? */
bool lower_is_llama(const struct pt2_node *node);
MUST_USE int lower_llama(struct lowering *l, const struct pt2_node *node);

/* ---- lower_portable.c ---- */

MUST_USE int lower_portable(struct lowering *l, const struct pt2_node *node);

/* ---- lower_xnn.c ---- */

/* Begin a delegate where none is being made. */
MUST_USE int lower_xnn_begin(struct lowering *l);
/* What the graph's value is within the delegate; it becomes an input where it is none of
 * its own. */
MUST_USE int lower_xnn_value(struct lowering *l, uint32_t value, uint32_t *ret_inner);
/* A weight or bias that XNNPACK packs. */
MUST_USE int lower_xnn_weight(struct lowering *l, uint32_t value, uint32_t *ret_inner);
/* The node's result is this value of the delegate. */
void lower_xnn_made(struct lowering *l, const struct pt2_node *node, uint32_t inner);
/* Put the node into the delegate; *ret_taken is false where XNNPACK has no such thing. */
MUST_USE int lower_xnn(struct lowering *l, const struct pt2_node *node, bool *ret_taken);
/* End the delegate that is being made: what is read later becomes its outputs. */
MUST_USE int lower_xnn_end(struct lowering *l);

#endif
