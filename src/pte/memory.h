/* memory.h - where the tensors of a program lie in its arena.
 *
 * Tensors whose lives do not meet share bytes; a life is from the first call that names a
 * tensor, or one that lies within it, to the last, and all of a loop where only one of them
 * is in it.  Nothing in ExecuTorch checks a plan, so memory_check proves each: it follows
 * the calls and knows nothing of lives.
 *
 * Pure functions of the program; one thread at a time. */
#ifndef PTE_MEMORY_H
#define PTE_MEMORY_H

#include "pte/program.h"

#define MEMORY_ALIGN 64 /* bytes, of each tensor's place */
/* XNNPACK reads up to 16 bytes behind a tensor (XNN_EXTRA_BYTES). */
#define MEMORY_BEHIND 64

/* Fill in the arena's tensors' offsets and arena_bytes.  Errors: NOMEM, LIMIT. */
MUST_USE int memory_plan(struct pte_program *p, struct pt2_err *err);

/* Follow the calls: what one reads was written and has not been written over since, what is
 * kept is there at the end, all lies within the arena.  Errors: INTERNAL (the text names
 * the call and the tensor), NOMEM. */
MUST_USE int memory_check(const struct pte_program *p, struct pt2_err *err);

#endif
