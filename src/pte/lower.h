/* lower.h - from an exported decoder (profile edge) to an ExecuTorch program.
 *
 * Each node of the graph becomes kernel calls of ExecuTorch's portable library, or nodes of
 * an XNNPACK delegate: one as long as every node is one that XNNPACK knows.  What only
 * gives a tensor another shape becomes another value at the same bytes.  Parameters and
 * tables become blobs whose keys are their fqns: who writes the file is asked for them.
 * Buffers that the graph writes to are caches, kept in the arena.
 *
 * doc/pte.md says which operator becomes what. */
#ifndef PTE_LOWER_H
#define PTE_LOWER_H

#include "pte/program.h"

#include <pt2/program.h>

enum pte_backend { PTE_XNNPACK, PTE_PORTABLE };

/* Fill in the program, which pte_init has made; its memory is planned and proved.  from is
 * borrowed until then.
 * Errors: NOT_EXPORTABLE (a node that has no counterpart; the text names it), BAD_PROGRAM
 * (nodes that are not what their metadata say), NOMEM, LIMIT. */
MUST_USE int pte_lower(const struct pt2_program *from, enum pte_backend backend,
                       struct pte_program *p, struct pt2_err *err);

#endif
