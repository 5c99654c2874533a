/* tensors.h - the tensors of a checkpoint, as they are found: a list that grows.
 *
 * One thread at a time. */
#ifndef CHECKPOINT_TENSORS_H
#define CHECKPOINT_TENSORS_H

#include "base/util.h"

#include <pt2/checkpoint.h>

#define TENSORS_MAX (1u << 20) /* of a checkpoint */

struct tensors {
    struct pt2_checkpoint_tensor *items; /* names are owned */
    size_t n, cap;
};

void tensors_done(struct tensors *tensors);

/* Append one of that name (copied), all else zero; borrowed until the next.
 * Errors: BAD_CHECKPOINT (more than TENSORS_MAX), NOMEM. */
MUST_USE int tensors_add(struct tensors *tensors, const char *name,
                         struct pt2_checkpoint_tensor **ret_tensor, struct pt2_err *err);

#endif
