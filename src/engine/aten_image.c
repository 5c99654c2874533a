/* aten_image.c - a cache put away, and taken back.
 *
 *     | head | ids that it holds, by batch row | buffers in the layout's order |
 *
 * ids and buffers are cut to the positions written so far; what has no positions is whole. */
#include "engine/aten.h"

#include "base/log.h"

struct image_head {
    uint64_t magic, layout_bytes;
    int64_t position, floor;
};

/* All of it but the head, in either direction. */
static int pass_contents(const struct aten_cache *cache, int64_t position,
                         pt2_image_pass *pass, void *context, struct pt2_err *err)
{
    const struct pt2_engine *engine = cache->base.engine;
    const struct pt2_decoder *d = &engine->decoder;

    for (int64_t b = 0; cache->tokens && b < d->batch_size; b++)
        if (pass(context, cache->tokens + b * d->max_cache_len,
                 (size_t)position * sizeof(int32_t), err) < 0)
            return -1;
    for (size_t i = 0; i < engine->layout.n_buffers; i++) {
        const struct layout_buffer *b = &engine->layout.buffers[i];
        struct layout_rows r = layout_rows(b);
        uint64_t n = b->position_dim < 0 ? r.n_rows : MIN(r.n_rows, (uint64_t)position);
        char *at = (char *)cache->memory.data + b->offset;

        for (uint64_t o = 0; o < r.n_outer; o++, at += r.n_rows * r.row_bytes)
            if (pass(context, at, n * r.row_bytes, err) < 0)
                return -1;
    }
    return 0;
}

int aten_put_away(const struct pt2_cache *base, int64_t position, pt2_image_pass *pass,
                  void *context, struct pt2_err *err)
{
    const struct aten_cache *cache = aten_cache(base);
    struct image_head head = {ATEN_IMAGE_MAGIC, base->engine->layout.size, position,
                              cache->floor};

    if (pass(context, &head, sizeof(head), err) < 0)
        return -1;
    return pass_contents(cache, position, pass, context, err);
}

int aten_take_back(struct pt2_cache *base, pt2_image_pass *pass, void *context,
                   struct pt2_err *err)
{
    struct aten_cache *cache = aten_cache(base);
    int64_t max = base->engine->decoder.max_cache_len;
    struct image_head head;

    if (pass(context, &head, sizeof(head), err) < 0)
        return -1;
    if (head.magic != ATEN_IMAGE_MAGIC || head.layout_bytes != base->engine->layout.size ||
        head.position < 0 || head.position > max || head.floor < 0 || head.floor > max)
        return pt2_err_set(err, PT2_ERR_INVALID, "the image is of another cache");
    cache->floor = head.floor;
    return pass_contents(cache, head.position, pass, context, err);
}

uint64_t aten_image_cost(const struct pt2_engine *engine, uint64_t image_bytes)
{
    (void)image_bytes; /* the whole is there from the beginning */
    return engine->layout.size;
}
