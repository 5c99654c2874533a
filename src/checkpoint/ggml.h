/* ggml.h - the element types of GGUF files: their blocks, and the values that those hold.
 *
 * A quantised type packs 32 to 256 values and their scales into a block; a plain type is
 * a block of one.  Values come out bit for bit as the `gguf` package's quants.py 0.19
 * makes them: product before sum, nothing fused.
 *
 * Pure functions; any thread. */
#ifndef CHECKPOINT_GGML_H
#define CHECKPOINT_GGML_H

#include "base/util.h"

#include <pt2/dtype.h>

#define GGML_MAX_BLOCK_ELEMENTS 256
#define GGML_MAX_BLOCK_BYTES    292

struct ggml_type {
    uint32_t id; /* enum ggml_type of ggml.h */
    const char *name;
    unsigned block_elements, block_bytes;
    enum pt2_dtype dtype; /* of a plain type, whose elements lie there as they are */
    /* n blocks to n * block_elements float32.  NULL: this type is not offered. */
    void (*to_float)(const uint8_t *blocks, size_t n, float *to);
};

/* NULL where there is no type of that number. */
const struct ggml_type *ggml_type_find(uint32_t id);

static inline bool ggml_is_plain(const struct ggml_type *type)
{
    return type->block_elements == 1;
}

#endif
