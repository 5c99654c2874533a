/* quantized_values.h - how the values of one quantised tensor are made.
 *
 * Immutable; any thread. */
#ifndef CHECKPOINT_QUANTIZED_VALUES_H
#define CHECKPOINT_QUANTIZED_VALUES_H

#include "checkpoint/made.h"

#define MXFP4_GROUP       32 /* values with one scale */
#define MXFP4_GROUP_BYTES 16

enum quantized_kind { QUANTIZED_E4M3, QUANTIZED_E5M2, QUANTIZED_MXFP4 };

enum quantized_scale {
    QUANTIZED_NO_SCALE,
    QUANTIZED_F32,
    QUANTIZED_BF16,
    QUANTIZED_F16,
    QUANTIZED_E8M0,     /* a power of two; 255 is NaN */
    QUANTIZED_EXPONENT, /* the same in U8; 255 is infinite */
};

/* float8: a list of matrices (rows, cols), each with a grid of scales (scale_rows,
 * scale_cols), of which one serves block_rows x block_cols elements.
 * MXFP4: a list of matrices (rows, cols) in groups along the columns, which are read
 * transposed. */
struct quantized_source {
    enum quantized_kind kind;
    enum quantized_scale scale;
    uint32_t file, scale_file;
    uint64_t offset, scale_offset; /* of the first stored byte */
    uint64_t rows, cols;
    uint64_t scale_rows, scale_cols, block_rows, block_cols;
    uint64_t n_scales;
};

/* Bytes of one scale. */
size_t quantized_scale_bytes(enum quantized_scale scale);

/* n values from value i on, of the struct quantized_source.
 * Errors: CHECKPOINT_CHANGED, IO. */
made_values quantized_values;

#endif
