/* lower_check.h - are a graph's nodes what their metadata say?
 *
 * The lowering goes by the sizes that the graph gives for each value.  Of a graph from outside
 * they may be anything, so first each node that the lowering knows is checked against what its
 * op makes of its operands: the tensors that it needs are there, dimensions are in range, sizes
 * and dtypes are the op's (torch's meta functions say them).  Nodes that it does not know are
 * passed over; they are refused where they are met. */
#ifndef PTE_LOWER_CHECK_H
#define PTE_LOWER_CHECK_H

#include "pte/lower_impl.h"

/* Errors: BAD_PROGRAM (names the node), NOT_EXPORTABLE (a size or dtype that a file has not),
 * LIMIT. */
MUST_USE int lower_check(struct lowering *l);

#endif
