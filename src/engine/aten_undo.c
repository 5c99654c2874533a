#include "engine/aten_undo.h"

#include "base/log.h"

/* The bytes that low .. high - 1 of a buffer take when saved. */
static uint64_t saved_bytes(const struct layout_buffer *b, int64_t low, int64_t high)
{
    struct layout_rows r = layout_rows(b);

    return b->position_dim < 0 ? b->bytes
                               : r.n_outer * (uint64_t)(high - low) * r.row_bytes;
}

/* Copy rows from .. to - 1, of those saved as low .. high - 1, between the buffer and the
 * place where it was saved. */
static void copy_rows(const struct layout_buffer *b, char *buffer, char *saved,
                      int64_t low, int64_t high, int64_t from, int64_t to, bool put_back)
{
    struct layout_rows r = layout_rows(b);
    size_t len = (size_t)((uint64_t)(to - from) * r.row_bytes);

    for (uint64_t i = 0; i < r.n_outer; i++) {
        char *at = buffer + (i * r.n_rows + (uint64_t)from) * r.row_bytes;
        char *kept =
            saved + (i * (uint64_t)(high - low) + (uint64_t)(from - low)) * r.row_bytes;

        memcpy(put_back ? at : kept, put_back ? kept : at, len);
    }
}

static int undo_room(struct undo *undo, const struct layout *layout, int64_t low,
                     int64_t high, struct pt2_err *err)
{
    size_t need = 1;
    char *data;

    for (size_t i = 0; i < layout->n_buffers; i++)
        need +=
            saved_bytes(&layout->buffers[i], low, high); /* at most the cache's size */
    if (need <= undo->cap)
        return 0;
    if (!(data = malloc(need)))
        return pt2_err_set(err, PT2_ERR_NOMEM, "%zu bytes to undo a step", need);
    free(undo->data);
    undo->data = data;
    undo->cap = need;
    return 0;
}

/* Walk the buffers: rows from .. to - 1 of those with rows, and the others where whole.
 */
static void move_all(const struct undo *undo, const struct layout *layout, char *memory,
                     int64_t from, int64_t to, bool whole, bool put_back)
{
    char *saved = undo->data;

    for (size_t i = 0; i < layout->n_buffers; i++) {
        const struct layout_buffer *b = &layout->buffers[i];
        char *buffer = memory + b->offset;

        if (b->position_dim >= 0)
            copy_rows(b, buffer, saved, undo->low, undo->high, from, to, put_back);
        else if (whole)
            memcpy(put_back ? buffer : saved, put_back ? saved : buffer, b->bytes);
        saved += saved_bytes(b, undo->low, undo->high);
    }
}

int undo_save(struct undo *undo, const struct layout *layout, const void *memory,
              int64_t low, int64_t high, struct pt2_err *err)
{
    ASSERT(low >= 0 && low <= high);
    if (undo_room(undo, layout, low, high, err) < 0)
        return -1;
    undo->low = low;
    undo->high = high;
    move_all(undo, layout, (char *)memory, low, high, /* whole= */ true,
             /* put_back= */ false);
    return 0;
}

void undo_all(const struct undo *undo, const struct layout *layout, void *memory)
{
    move_all(undo, layout, memory, undo->low, undo->high, /* whole= */ true,
             /* put_back= */ true);
}

void undo_outside(const struct undo *undo, const struct layout *layout, void *memory,
                  int64_t low, int64_t high)
{
    if (undo->low < low)
        move_all(undo, layout, memory, undo->low, low, /* whole= */ false,
                 /* put_back= */ true);
    if (high < undo->high)
        move_all(undo, layout, memory, high, undo->high, /* whole= */ false,
                 /* put_back= */ true);
}

void undo_trim(struct undo *undo)
{
    if (undo->cap > UNDO_KEEP_BYTES)
        undo_done(undo);
}

void undo_done(struct undo *undo)
{
    free(undo->data);
    *undo = (struct undo){0};
}
