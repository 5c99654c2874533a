#include "export/weight_parts.h"

#include "base/log.h"

unsigned weight_n_parts(const struct weight *w)
{
    return w->scheme.bits > 0 ? 3 : 1;
}

uint64_t weight_part_bytes(const struct weight_scheme *scheme, enum weight_part part,
                           enum pt2_dtype dtype, uint64_t n)
{
    if (scheme->bits == 0)
        return n * pt2_dtype_size(dtype);
    if (part == WEIGHT_VALUES)
        return n;
    n /= (uint64_t)scheme->group;
    return part == WEIGHT_SCALE ? n * pt2_dtype_size(dtype) : n;
}

static void name_part(const struct weight *w, enum weight_part part, char *to, size_t size)
{
    static const char end[] = ".weight";
    size_t stem = strlen(w->fqn) - (sizeof(end) - 1);

    ASSERT(ends_with(w->fqn, end));
    snprintf(to, size, "%.*s.parametrizations.weight.original%d", (int)stem, w->fqn, part);
}

void weight_tensor(const struct weight *w, enum pt2_dtype dtype, enum weight_part part,
                   struct weight_tensor *ret_tensor)
{
    struct weight_tensor t = {.dtype = weight_dtype(w, dtype),
                              .n_dims = w->n_dims,
                              .record = w->record + part,
                              .requires_grad = !w->is_buffer};
    uint64_t n = 1;

    memcpy(t.sizes, w->sizes, sizeof(t.sizes));
    for (unsigned i = 0; i < w->n_dims; i++)
        n *= (uint64_t)w->sizes[i]; /* fits: its sources' do */
    t.bytes = weight_part_bytes(&w->scheme, part, t.dtype, n);
    if (w->scheme.bits == 0) {
        memcpy(t.fqn, w->fqn, sizeof(w->fqn));
        *ret_tensor = t;
        return;
    }
    name_part(w, part, t.fqn, sizeof(t.fqn));
    t.requires_grad = false;
    if (part != WEIGHT_SCALE)
        t.dtype = PT2_INT8;
    if (part != WEIGHT_VALUES)
        t.sizes[1] /= w->scheme.group;
    *ret_tensor = t;
}
