#include "native/lift.h"

/* The indices as first, first + step, ...: (n) of them.  False where they are not. */
static bool is_progression(const struct eval_tensor *t, int64_t size, int64_t *ret_first,
                           int64_t *ret_step)
{
    if (t->dtype != PT2_INT64 || t->n_dims != 1 || t->n < 1)
        return false;
    for (int64_t i = 0; i < t->n; i++)
        if (t->i[i] < -size || t->i[i] >= size)
            return false;
    *ret_first = t->i[0] + (t->i[0] < 0 ? size : 0);
    *ret_step = t->n > 1 ? t->i[1] - t->i[0] : 1;
    for (int64_t i = 1; i < t->n; i++)
        if (t->i[i] - t->i[i - 1] != *ret_step || (t->i[i] < 0) != (t->i[0] < 0))
            return false;
    return *ret_step > 0;
}

/* The one dimension that is indexed, and by which value. */
static int indexed_dim(struct lift *l, const struct lifted *in, unsigned *ret_dim,
                       uint32_t *ret_value)
{
    const struct pt2_arg *list = node_list(l->node, "indices");
    int found = -1;

    if (!list || list->list.n > in->n_dims)
        return lift_refuse(l, "not one list of indices");
    for (uint32_t i = 0; i < list->list.n; i++) {
        if (list->list.items[i].kind != PT2_ARG_TENSOR)
            continue;
        if (found >= 0)
            return lift_refuse(l, "two lists of indices");
        found = (int)i;
        *ret_value = list->list.items[i].value;
    }
    if (found < 0)
        return lift_refuse(l, "not one list of indices");
    *ret_dim = (unsigned)found;
    return 0;
}

int lift_index(struct lift *l, const struct lifted *in, bool *ret_is)
{
    struct lifted v = *in;
    struct eval_tensor t;
    int64_t first, step, n;
    uint32_t value = 0;
    unsigned dim = 0;
    bool is;

    if (indexed_dim(l, in, &dim, &value) < 0)
        return -1;
    *ret_is = l->values[value].kind == KIND_EVAL;
    if (!*ret_is)
        return 0;
    if (in->dims[dim].label != DIM_ROW || eval_class(l->eval, value) != EVAL_CONSTANT)
        return lift_refuse(l, "indices of a dimension that is no row's, or not constant");
    if (eval_value(l->eval, value, 0, MAX(l->decoder->seq_len, 1), &t, l->err) < 0)
        return -1;
    is = is_progression(&t, in->dims[dim].size, &first, &step);
    n = t.n;
    eval_tensor_done(&t);
    if (!is)
        return lift_refuse(l, "indices that do not follow one another");
    v.offset += (uint32_t)(first * in->dims[dim].stride);
    if (n == 1)
        v.dims[dim] = new_dim(DIM_ONE, 1, 0);
    else
        v.dims[dim] = new_dim(DIM_ROW, n, (int32_t)(step * in->dims[dim].stride));
    *lift_out(l) = v;
    return 0;
}
