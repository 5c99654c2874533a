/* loop.c - jumps back. */
#include "pte/loop.h"

#include "base/log.h"

struct pte_loop pte_loop_begin(struct pte_program *p, uint32_t x)
{
    struct pte_loop loop = {.row = pte_int_out(p), .n_rows = pte_int_out(p)};

    /* Numbers keep what the last call of the method left in them. */
    PTE_CALL(p, "executorch_prim::sub", "Scalar", loop.row, loop.row, loop.row);
    PTE_CALL(p, "aten::sym_size", "int", x, pte_int(p, 0), loop.n_rows);
    loop.first = p->n_calls;
    return loop;
}

uint32_t pte_loop_row(struct pte_program *p, const struct pte_loop *loop, uint32_t y)
{
    int64_t sizes[PTE_MAX_DIMS];
    struct pte_tensor t;
    uint32_t row;

    if (p->failed)
        return 0;
    t = *pte_tensor(p, y);
    ASSERT(t.n_dims > 0);
    for (unsigned i = 1; i < t.n_dims; i++)
        sizes[i - 1] = t.sizes[i];
    row = pte_activation(p, t.dtype, t.n_dims - 1, sizes);
    PTE_CALL(p, "aten::select_copy", "int_out", y, pte_int(p, 0), loop->row, row, row);
    return row;
}

void pte_loop_end(struct pte_program *p, const struct pte_loop *loop, uint32_t all,
                  uint32_t made)
{
    uint32_t is_last = pte_bool_out(p), jump;

    PTE_CALL(p, "executorch_prim::et_copy_index", "tensor", all, made, loop->row);
    if (!p->failed) {
        p->calls[p->n_calls - 1].n_outs = 0;
        p->calls[p->n_calls - 1].is_row = true;
    }
    PTE_CALL(p, "executorch_prim::add", "Scalar", loop->row, pte_int(p, 1), loop->row);
    PTE_CALL(p, "executorch_prim::ge", "Scalar", loop->row, loop->n_rows, is_last);
    jump = pte_jump_false(p, is_last);
    if (!p->failed)
        p->calls[jump].index = loop->first;
}
