/* gguf_groups.c - blocks of GGUF as the whole numbers and scales that they are. */
#include "base/half.h"
#include "checkpoint/gguf_weights.h"

#include <pt2/checkpoint.h>

#define RAW_BLOCKS 512 /* read at once */
#define Q4_0       2   /* enum ggml_type: {d, 16 bytes}, low halves first, less 8 */
#define Q8_0       8   /* {d, 32 signed bytes} */

unsigned gguf_group_bits(const struct gguf_source *s)
{
    bool keeps_rows = s->op != GGUF_TRANSPOSE && s->op != GGUF_MINUS_ONE;

    if (!keeps_rows || s->cols % PT2_CHECKPOINT_GROUP != 0)
        return 0;
    return s->type->id == Q4_0 ? 4 : s->type->id == Q8_0 ? 8 : 0;
}

static void split_block(uint32_t id, const uint8_t *b, int8_t *values, float *scale)
{
    if (scale)
        *scale = f16_to_float((uint16_t)(b[0] | b[1] << 8));
    if (!values)
        return;
    if (id == Q8_0) {
        memcpy(values, b + 2, PT2_CHECKPOINT_GROUP);
        return;
    }
    for (unsigned j = 0; j < 16; j++) {
        values[j] = (int8_t)((b[2 + j] & 15) - 8);
        values[16 + j] = (int8_t)((b[2 + j] >> 4) - 8);
    }
}

/* n blocks that lie one behind another. */
static int read_blocks(const struct gguf_source *s, const struct files *files,
                       uint64_t block, size_t n, int8_t *values, float *scales,
                       struct pt2_err *err)
{
    uint8_t raw[RAW_BLOCKS * 34];
    size_t bytes = s->type->block_bytes, some;

    for (; n > 0; n -= some, block += some) {
        some = MIN(n, (size_t)RAW_BLOCKS);
        if (files_read(files, s->file, s->offset + block * bytes, raw, some * bytes, err) < 0)
            return -1;
        for (size_t i = 0; i < some; i++)
            split_block(s->type->id, raw + i * bytes,
                        values ? values + i * PT2_CHECKPOINT_GROUP : NULL,
                        scales ? scales + i : NULL);
        values = values ? values + some * PT2_CHECKPOINT_GROUP : NULL;
        scales = scales ? scales + some : NULL;
    }
    return 0;
}

int gguf_groups_read(const struct gguf_source *s, const struct files *files, uint64_t first,
                     size_t n, int8_t *values, float *scales, struct pt2_err *err)
{
    uint64_t in_row = (uint64_t)s->cols / PT2_CHECKPOINT_GROUP;
    size_t done;

    for (; n > 0; n -= done, first += done) {
        done = s->head_rows > 0 ? (size_t)MIN((uint64_t)n, in_row - first % in_row) : n;
        if (read_blocks(s, files, gguf_stored_row(s, first / in_row) * in_row + first % in_row,
                        done, values, scales, err) < 0)
            return -1;
        values = values ? values + done * PT2_CHECKPOINT_GROUP : NULL;
        scales = scales ? scales + done : NULL;
    }
    return 0;
}
