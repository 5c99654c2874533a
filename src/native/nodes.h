/* nodes.h - reading the nodes of a graph: ops by name, arguments by their schema's names.
 *
 * Pure functions; any thread. */
#ifndef NATIVE_NODES_H
#define NATIVE_NODES_H

#include "base/util.h"

#include <pt2/program.h>

#define NODE_MAX_OP 48

/* "add" of "torch.ops.aten.add.Tensor", "scalar.add" of "_operator.add" and the like,
 * "transformers.f" of "torch.ops.transformers.f.default", "torchao.f", "llama.f" likewise; "" for all
 * else. */
struct node_op {
    char name[NODE_MAX_OP];
};
struct node_op node_op(const struct pt2_node *node);
bool node_is(const struct pt2_node *node, const char *op);

/* Is one of the names, which end with a NULL, the op's? */
bool node_is_in(const struct node_op *op, const char *const *names);

/* The argument of that name; NULL where it is not given or None. */
const struct pt2_arg *node_arg(const struct pt2_node *node, const char *name);
/* A list among the arguments; NULL where it is not given, or no list. */
const struct pt2_arg *node_list(const struct pt2_node *node, const char *name);
/* The value that an argument is (a tensor or a symbol); -1 where it is none. */
int64_t node_value(const struct pt2_node *node, const char *name);
/* Plain arguments; `other` where they are not given.  False where they are of another kind. */
MUST_USE bool node_int(const struct pt2_node *node, const char *name, int64_t other,
                       int64_t *ret);
MUST_USE bool node_float(const struct pt2_node *node, const char *name, double other,
                         double *ret);
MUST_USE bool node_bool(const struct pt2_node *node, const char *name, bool other, bool *ret);
/* A dimension, counted from the front. */
MUST_USE bool node_dim(const struct pt2_node *node, const char *name, int64_t other,
                       unsigned n_dims, unsigned *ret);

/* Its only tensor or symbol output; -1 where there are none or several. */
int64_t node_out(const struct pt2_node *node);
/* The i-th output, through lists; -1 where there are not so many. */
int64_t node_out_at(const struct pt2_node *node, unsigned i);

/* Call fn for each value that the node reads, through lists. */
void node_each_input(const struct pt2_node *node, void (*fn)(void *context, uint32_t value),
                     void *context);

/* The value that the node writes in place; -1: none. */
int64_t node_written(const struct pt2_node *node);
/* May the output show its input's memory (views; and conversions, which may)? */
bool node_is_view(const struct node_op *op);
/* Does the op read no element of its self, its shape and dtype alone? */
bool node_reads_shape_only(const struct node_op *op);
/* Does it only check something? */
bool node_is_check(const struct node_op *op);

/* roots[v]: the value whose memory v may show; v itself where it has its own. */
void nodes_roots(const struct pt2_program *program, uint32_t *roots);

/* nodes_same.c: same[v]: the first value that is computed as v is, by the same op of the same
 * things, from memory that no node writes; v itself where there is none.  Random ops count
 * as others do: nobody may ask about what they make.  False: no memory. */
MUST_USE bool nodes_same(const struct pt2_program *program, const uint32_t *roots,
                         uint32_t *same);

#endif
