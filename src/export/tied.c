/* tied.c - an embedding and a head that may be one. */
#include "base/log.h"
#include "export/convert.h"
#include "export/weights.h"

#define SLICE ((size_t)1 << 17) /* elements */

struct comparison {
    const struct pt2_checkpoint *checkpoint;
    enum pt2_dtype dtype;
    uint8_t *raw, *rounded; /* (SLICE) elements each, of any type */
    float *a, *b;           /* (SLICE) each */
    struct pt2_err *err;
};

/* n values from element i on as the export will have them. */
static int fetch(const struct comparison *c, const struct pt2_checkpoint_tensor *t,
                 uint64_t i, size_t n, float *to)
{
    size_t size = pt2_dtype_size(t->dtype);

    if (pt2_checkpoint_read(c->checkpoint, t, i * size, c->raw, n * size, c->err) < 0)
        return -1;
    convert_elements(t->dtype, c->raw, c->dtype, c->rounded, n);
    convert_elements(c->dtype, c->rounded, PT2_FLOAT32, to, n);
    return 0;
}

/* As torch.equal: NaN equals nothing. */
static int compare(const struct comparison *c, const struct pt2_checkpoint_tensor *x,
                   const struct pt2_checkpoint_tensor *y, bool *ret_equal)
{
    uint64_t n = x->bytes / pt2_dtype_size(x->dtype);
    bool is_equal = true;

    for (uint64_t i = 0; i < n && is_equal; i += SLICE) {
        size_t some = (size_t)MIN(n - i, (uint64_t)SLICE);

        if (fetch(c, x, i, some, c->a) < 0 || fetch(c, y, i, some, c->b) < 0)
            return -1;
        for (size_t k = 0; k < some; k++)
            is_equal = is_equal && c->a[k] == c->b[k];
    }
    *ret_equal = is_equal;
    return 0;
}

/* The head takes the embedding's record; those behind it move up. */
static void tie(struct weights *ws, struct weight *head)
{
    uint64_t elements = 1;

    for (unsigned i = 0; i < head->n_dims; i++)
        elements *= (uint64_t)head->sizes[i];
    for (size_t i = 0; i < ws->n; i++)
        ws->list[i].record -= ws->list[i].record > head->record;
    head->record = ws->list[0].record;
    head->is_alias = true;
    ws->n_records--;
    ws->n_elements -= elements;
    ws->is_tied = true;
    ws->is_untied_by_data = false;
}

int weights_tie_equal(struct weights *ws, const struct pt2_checkpoint *checkpoint,
                      enum pt2_dtype dtype, struct pt2_err *err)
{
    AUTO_PTR uint8_t *memory = NULL;
    struct comparison c = {.checkpoint = checkpoint, .dtype = dtype, .err = err};
    struct weight *head = NULL;
    bool is_equal = false;

    if (!ws->is_untied_by_data)
        return 0;
    for (size_t i = 0; i < ws->n; i++)
        if (ws->list[i].role == WEIGHT_HEAD)
            head = &ws->list[i];
    ASSERT(head && ws->list[0].role == WEIGHT_EMBED);
    memory = malloc(SLICE * (sizeof(double) + 3 * sizeof(float)));
    if (!memory)
        return pt2_err_set(err, PT2_ERR_NOMEM, "slices of embedding and head");
    c.raw = memory;
    c.rounded = c.raw + SLICE * sizeof(double);
    c.a = (float *)(void *)(c.rounded + SLICE * sizeof(float));
    c.b = c.a + SLICE;
    if (compare(&c, ws->sources[ws->list[0].first_source],
                ws->sources[head->first_source], &is_equal) < 0)
        return -1;
    if (is_equal)
        tie(ws, head);
    return 0;
}
