/* tables.h - the tables of schema/program.fbs.  Private to file.c. */
#ifndef PTE_TABLES_H
#define PTE_TABLES_H

#include "pte/file.h"
#include "pte/flatbuffer.h"

struct pte_segment {
    uint64_t offset, bytes; /* from where segments begin */
    uint32_t blob;          /* PTE_NONE: of no one blob */
    uint32_t delegate;      /* PTE_NONE: no payload */
    bool is_within;         /* that of the constants */
};

struct pte_layout {
    struct pte_segment *segments;
    uint32_t n_segments;
    uint32_t first_payload;
    uint32_t *constants; /* by blob: which constant, from 1; 0: none */
    uint32_t n_constants;
    uint32_t *named; /* by blob: its segment's number plus 1; 0: none */
    uint32_t zeros;  /* the same of what caches begin as */
};

/* Where the root table is. */
uint32_t pte_program_table(struct fb *fb, const struct pte_program *p,
                           const struct pte_layout *layout,
                           const struct pte_method *methods, uint32_t n_methods);

#endif
