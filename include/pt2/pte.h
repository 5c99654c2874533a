/* pte.h - an ExecuTorch program (.pte) made of an exported one (.pt2, profile edge).
 *
 * What Python's to_edge_transform_and_lower(...).to_executorch() does, without Python: the
 * graph becomes kernel calls and XNNPACK delegates, weights flow from archive to file.
 * doc/pte.md says how.  The same archive and options give the same bytes.
 *
 * One thread at a time per struct pt2_pte; archive and program are only read. */
#ifndef PT2_PTE_H
#define PT2_PTE_H

#include <pt2/archive.h>
#include <pt2/program.h>

enum pt2_pte_backend { PT2_PTE_XNNPACK, PT2_PTE_PORTABLE };

PT2_API const char *pt2_pte_backend_name(enum pt2_pte_backend backend); /* "xnnpack" */

struct pt2_pte_options {
    enum pt2_pte_backend backend;
};

struct pt2_pte;

/* Lower the archive's program and lay the file out.  Borrows the archive.
 * new: free with pt2_pte_free.
 * Errors: NOT_EXPORTABLE (a node that ExecuTorch has nothing for; a program that was not
 * exported with profile edge), BAD_ARCHIVE, BAD_PROGRAM, NOMEM, LIMIT. */
PT2_API PT2_MUST_USE int pt2_pte_new(const struct pt2_archive *archive,
                                     const struct pt2_pte_options *options,
                                     struct pt2_pte **ret_pte, struct pt2_err *err);
PT2_API void pt2_pte_free(struct pt2_pte *pte);

struct pt2_pte_facts {
    uint64_t file_bytes, arena_bytes;
    uint32_t n_instructions, n_delegates;
};

PT2_API struct pt2_pte_facts pt2_pte_facts(const struct pt2_pte *pte);

/* Would pt2_pte_new take an archive with that program, and what would it make of it?
 * metadata is the text of its extra/executorch_metadata.json, NULL: it has none.
 * Errors: as pt2_pte_new's. */
PT2_API PT2_MUST_USE int pt2_pte_check(const struct pt2_program *program,
                                       const char *metadata,
                                       const struct pt2_pte_options *options,
                                       struct pt2_pte_facts *ret_facts,
                                       struct pt2_err *err);

/* Called between slices; done and total are bytes of the file's weights. */
typedef void pt2_pte_progress(void *ctx, uint64_t done, uint64_t total);

/* Write the file to fd, from its current place on (borrowed; not synced).  progress may be
 * NULL.  ret_sha256 (32 bytes) and ret_bytes are the file's.
 * Errors: BAD_ARCHIVE (a weight that can not be read), IO, NO_SPACE, NOMEM, INTERNAL. */
PT2_API PT2_MUST_USE int pt2_pte_write(struct pt2_pte *pte, int fd,
                                       pt2_pte_progress *progress, void *ctx,
                                       uint8_t *ret_sha256, uint64_t *ret_bytes,
                                       struct pt2_err *err);

#endif
