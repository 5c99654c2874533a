/* calls.c - what include/pt2/engine.h offers on top of its other functions, the same for every
 * engine (the tests' fake one too). */
#include "base/util.h"

#include <pt2/engine.h>

int pt2_engine_step(struct pt2_engine *engine, struct pt2_cache *cache,
                    const int64_t *input_ids, int64_t s, int64_t start,
                    enum pt2_rows rows, float *logits, struct pt2_err *err)
{
    struct pt2_step step = {.cache = cache,
                            .input_ids = input_ids,
                            .s = s,
                            .start = start,
                            .rows = rows,
                            .logits = logits,
                            .ids_stride = s,
                            .rows_stride = rows == PT2_ROWS_ALL ? s : 1};

    pt2_engine_steps(engine, &step, 1);
    if (step.err.code == PT2_ERR_NONE)
        return 0;
    return pt2_err_set(err, step.err.code, "%s", step.err.text);
}

int64_t pt2_cache_part_rows(const struct pt2_cache_buffer *buffer, int64_t first,
                            int64_t n)
{
    int64_t all;

    if (buffer->position_dim < 0)
        return 0;
    all = buffer->sizes[buffer->position_dim];
    return first >= all ? 0 : MIN(n, all - first);
}

size_t pt2_cache_part_bytes(const struct pt2_cache_buffer *buffer, int64_t first,
                            int64_t n)
{
    size_t bytes = pt2_dtype_size(buffer->dtype);

    for (unsigned d = 0; d < buffer->n_dims; d++)
        bytes *= (size_t)((int)d == buffer->position_dim
                              ? pt2_cache_part_rows(buffer, first, n)
                              : buffer->sizes[d]);
    return bytes;
}
