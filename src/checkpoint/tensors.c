#include "checkpoint/tensors.h"

void tensors_done(struct tensors *tensors)
{
    for (size_t i = 0; i < tensors->n; i++)
        free((char *)(uintptr_t)tensors->items[i].name);
    free(tensors->items);
    *tensors = (struct tensors){0};
}

int tensors_add(struct tensors *t, const char *name,
                struct pt2_checkpoint_tensor **ret_tensor, struct pt2_err *err)
{
    size_t cap = MAX((size_t)64, t->cap * 2);
    struct pt2_checkpoint_tensor *grown;
    char *copy;

    if (t->n == TENSORS_MAX)
        return pt2_err_set(err, PT2_ERR_BAD_CHECKPOINT, "more than %u tensors",
                           TENSORS_MAX);
    if (t->n == t->cap) {
        grown = reallocarray(t->items, cap, sizeof(*grown));
        if (!grown)
            return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for tensors");
        t->items = grown;
        t->cap = cap;
    }
    copy = strdup(name);
    if (!copy)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for tensors");
    t->items[t->n] = (struct pt2_checkpoint_tensor){.name = copy};
    *ret_tensor = &t->items[t->n++];
    return 0;
}
