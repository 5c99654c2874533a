/* quant.h - weights of whole numbers, packed as the kernels read them, and rows quantised.
 *
 * A matrix (n_out, k) of int8, each group of `group` numbers along k with a scale: what a
 * weight is, is scale * number.  One layout for all instruction sets, so that what is packed
 * once serves any; 4 bits stay 4 bits.
 *
 *     matrix  | panel 0 | panel 1 | ...              QUANT_PANEL outputs each, the last padded
 *     panel   | 16 floats | group 0 | group 1 | ...  of each output the sum of its weights
 *     group   | 16 floats | step | step | ...        of each output the scale
 *     step    64 bytes: byte 4 o + j belongs to output o of the panel
 *       8 bits, 4 along k:  w + 128 of k = 4 s + j in step s of the group
 *       4 bits, 8 along k:  low half  w + 8 of k = 8 s + j, high half of k = 8 s + 4 + j
 *
 * Numbers that pad are 0, scales that pad too.  So a vector of 16 sums meets one broadcast of
 * four numbers of a row in one instruction (dpbusd, sdot), and one stream is read.
 *
 * A quantised row, with room for QUANT_ROW_BYTES(k), 64-aligned:
 *
 *     | int8 x k, zeros up to a multiple of 64 | scale | zero point | sums |
 *
 * sums[i]: of the numbers before 32 i, for i up to that which is behind the last one.  With
 * these w + 8 and w + 128 are made good in whole numbers, whatever the group. */
#ifndef NATIVE_QUANT_H
#define NATIVE_QUANT_H

#include "base/util.h"

#define QUANT_PANEL 16    /* outputs */
#define QUANT_MAX_K 65536 /* so that no sum overflows 32 bits */

struct quant_shape {
    uint32_t n_out, k;
    uint32_t group; /* a multiple of 32 that divides k; or k: per channel */
    unsigned bits;  /* 8 or 4 */
};

/* Does the layout hold such a matrix?  All below is for those alone. */
bool quant_shape_is_valid(const struct quant_shape *shape);

/* Are all n numbers such as 4 bits hold, -8 .. 7? */
bool quant_fits_4_bits(const int8_t *data, size_t n);

size_t quant_packed_bytes(const struct quant_shape *shape); /* a multiple of 64 */

/* Pack outputs first .. first + n - 1 of data (n_out, k) with scale (n_out, k / group), as
 * they lie in an archive, on any alignment.  first: a multiple of QUANT_PANEL, and so is n
 * or it ends with n_out.  packed: the whole matrix, 64-aligned.  Of numbers of 4 bits the
 * lower ones count.  Any thread; disjoint outputs at the same time. */
void quant_pack(const struct quant_shape *shape, const void *data, const void *scale,
                uint32_t first, uint32_t n, void *packed);

/* What quant_pack was given for output o, as the kernels see it: k numbers and k / group
 * scales. */
void quant_unpack(const struct quant_shape *shape, const void *packed, uint32_t o,
                  int8_t *ret_data, float *ret_scale);

/* ---- the parts of the layout ---- */

static inline size_t quant_group_bytes(const struct quant_shape *shape)
{
    size_t steps = shape->bits == 4 ? ((size_t)shape->group + 7) / 8
                                    : ((size_t)shape->group + 3) / 4;

    return 64 + 64 * steps;
}

static inline size_t quant_panel_bytes(const struct quant_shape *shape)
{
    return 64 + shape->k / shape->group * quant_group_bytes(shape);
}

#define QUANT_ROW_END(k)   (((size_t)(k) + 63) / 64 * 64) /* of the numbers, in bytes */
#define QUANT_ROW_SUMS(k)  (((size_t)(k) + 31) / 32 + 1)
#define QUANT_ROW_BYTES(k) (QUANT_ROW_END(k) + (8 + QUANT_ROW_SUMS(k) * 4 + 63) / 64 * 64)

/* What follows the numbers of a row. */
struct quant_row {
    float scale;
    int32_t zero_point;
    int32_t sums[];
};

static inline struct quant_row *quant_row_at(void *row, size_t k)
{
    return (struct quant_row *)(void *)((uint8_t *)row + QUANT_ROW_END(k));
}

#endif
