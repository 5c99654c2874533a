/* weight_parts.h - the tensors that a weight is in an archive: one of floats, or three.
 *
 * A quantised weight (n, k) is its numbers, int8 (n, k), its scales, floats (n, k / group), and
 * its zero points, int8 (n, k / group), all 0; named as torch.nn.utils.parametrize names what
 * torchao's unwrap_tensor_subclass registers.  Any thread. */
#ifndef EXPORT_WEIGHT_PARTS_H
#define EXPORT_WEIGHT_PARTS_H

#include "export/weights.h"

enum weight_part { WEIGHT_VALUES, WEIGHT_SCALE, WEIGHT_ZERO_POINT };

struct weight_tensor {
    char fqn[WEIGHT_FQN_SIZE + 40];
    enum pt2_dtype dtype;
    unsigned n_dims;
    int64_t sizes[3];
    uint32_t record;
    uint64_t bytes;
    bool requires_grad;
};

/* 1, or 3. */
unsigned weight_n_parts(const struct weight *w);
/* dtype: the export's. */
void weight_tensor(const struct weight *w, enum pt2_dtype dtype, enum weight_part part,
                   struct weight_tensor *ret_tensor);
/* What n elements of the weight, whole groups, take in that part; dtype: the weight's. */
uint64_t weight_part_bytes(const struct weight_scheme *scheme, enum weight_part part,
                           enum pt2_dtype dtype, uint64_t n);

#endif
