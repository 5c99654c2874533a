/* loop.h - calls that are made for each row of a tensor.
 *
 *     loop = pte_loop_begin(p, x)
 *     row = pte_loop_row(p, &loop, x)
 *     calls that make `made` of it
 *     pte_loop_end(p, &loop, all, made)
 *
 * As ExecuTorch's own emitter spells torch.map (1.5.1, exir/emit/_emitter.py): a jump back,
 * while a number is below sym_size.  One thread at a time. */
#ifndef PTE_LOOP_H
#define PTE_LOOP_H

#include "pte/program.h"

struct pte_loop {
    uint32_t row, n_rows; /* Ints */
    uint32_t first;       /* call of a round */
};

/* A round for each row of x, of which there is one at least; no loop within another. */
struct pte_loop pte_loop_begin(struct pte_program *p, uint32_t x);
/* y's row of this round, without its first dimension; y has as many rows as x. */
uint32_t pte_loop_row(struct pte_program *p, const struct pte_loop *loop, uint32_t y);
/* Make `made` this round's row of `all`, which has had x's number of rows since before the
 * loop, and go on to the next. */
void pte_loop_end(struct pte_program *p, const struct pte_loop *loop, uint32_t all,
                  uint32_t made);

#endif
