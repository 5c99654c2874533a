#include "engine/layout.h"

#include "base/log.h"

static bool round_up(uint64_t n, uint64_t *ret)
{
    if (!size_add(n, PT2_TENSOR_ALIGN - 1, &n))
        return false;
    *ret = n / PT2_TENSOR_ALIGN * PT2_TENSOR_ALIGN;
    return true;
}

int layout_init(struct layout *layout, size_t max_buffers, struct pt2_err *err)
{
    *layout = (struct layout){.size = PT2_TENSOR_ALIGN};
    if (!(layout->buffers = calloc(max_buffers + 1, sizeof(*layout->buffers))))
        return pt2_err_set(err, PT2_ERR_NOMEM, "%zu cache buffers", max_buffers);
    return 0;
}

int layout_add(struct layout *layout, const struct layout_buffer *buffer,
               struct pt2_err *err)
{
    struct layout_buffer *b = &layout->buffers[layout->n_buffers];
    uint64_t offset = layout->n_buffers ? layout->size : 0, end;

    *b = *buffer;
    b->fqn = NULL;
    b->offset = offset;
    if (!pt2_tensor_bytes(b->dtype, b->n_dims, b->sizes, &b->bytes) ||
        !size_add(offset, MAX(b->bytes, 1), &end) || !round_up(end, &end) ||
        end > INT64_MAX)
        return pt2_err_set(err, PT2_ERR_LIMIT, "buffer '%s' is too large", buffer->fqn);
    if (!(b->fqn = strdup(buffer->fqn)))
        return pt2_err_set(err, PT2_ERR_NOMEM, "buffer '%s'", buffer->fqn);
    layout->size = end;
    layout->n_buffers++;
    return 0;
}

void layout_done(struct layout *layout)
{
    for (size_t i = 0; i < layout->n_buffers; i++)
        free(layout->buffers[i].fqn);
    free(layout->buffers);
    *layout = (struct layout){0};
}

static bool buffer_is_same(const struct layout_buffer *a, const struct layout_buffer *b)
{
    return streq(a->fqn, b->fqn) && a->dtype == b->dtype && a->n_dims == b->n_dims &&
           memcmp(a->sizes, b->sizes, a->n_dims * sizeof(*a->sizes)) == 0 &&
           a->position_dim == b->position_dim && a->ring_len == b->ring_len &&
           a->is_counter == b->is_counter;
}

bool layout_is_same(const struct layout *a, const struct layout *b)
{
    if (a->n_buffers != b->n_buffers)
        return false;
    for (size_t i = 0; i < a->n_buffers; i++)
        if (!buffer_is_same(&a->buffers[i], &b->buffers[i]))
            return false;
    return true;
}

struct layout_rows layout_rows(const struct layout_buffer *b)
{
    struct layout_rows r = {.n_outer = 1, .n_rows = 1, .row_bytes = b->bytes};

    if (b->position_dim < 0 || b->bytes == 0)
        return r;
    for (int d = 0; d < b->position_dim; d++)
        r.n_outer *= (uint64_t)b->sizes[d];
    r.n_rows = (uint64_t)b->sizes[b->position_dim];
    r.row_bytes = b->bytes / r.n_outer / r.n_rows;
    return r;
}

bool layout_area(int64_t batch_size, int64_t vocab_size, int64_t s, int64_t n_rows,
                 struct layout_area *ret_area)
{
    struct layout_area area;
    uint64_t n;

    if (batch_size < 1 || vocab_size < 1 || s < 1 || n_rows < 0)
        return false;
    if (!size_mul((uint64_t)batch_size, (uint64_t)s, &n) ||
        !size_mul(n, sizeof(int64_t), &n))
        return false;
    area.positions = n;
    if (!size_mul((uint64_t)s, sizeof(int64_t), &n) || !size_add(n, area.positions, &n) ||
        !round_up(n, &area.logits))
        return false;
    if (!size_mul((uint64_t)batch_size, (uint64_t)n_rows, &n) ||
        !size_mul(n, (uint64_t)vocab_size, &n) || !size_mul(n, sizeof(float), &n) ||
        !size_add(n, area.logits, &area.size) || area.size > INT64_MAX)
        return false;
    *ret_area = area;
    return true;
}
