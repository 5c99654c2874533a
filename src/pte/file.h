/* file.h - an ExecuTorch program's bytes.
 *
 *     0    FlatBuffer "ET12", behind its identifier the extended header:
 *            "eh00" | u32 32 | u64 FlatBuffer's bytes | u64 where segments begin | u64 theirs
 *     ...  segments, each at a multiple of 128:
 *            constants, a blob at each multiple of 64
 *            a payload for each delegate
 *            a blob each that delegates alone know, by its key
 *            zeros, which all caches begin as
 *
 * A blob that both tensors and delegates have lies among the constants, once; the named
 * segment lies within that of the constants.  The same program gives the same bytes.
 * After ExecuTorch 1.5.1's schema/program.fbs and runtime/executor/program.cpp. */
#ifndef PTE_FILE_H
#define PTE_FILE_H

#include "archive/out.h"
#include "pte/program.h"

#define PTE_FILE_ALIGN  128
#define PTE_MAX_METHODS 16

/* A method without inputs whose outputs are these values, INTs or BOOLs. */
struct pte_method {
    const char *name;
    const struct pte_value *values;
    uint32_t n_values;
};

/* Add the blob's bytes, all of them, to out.  Errors: as pte_file_write's. */
typedef int pte_write_blob(void *ctx, uint32_t blob, struct out *out, struct pt2_err *err);

struct pte_file;

/* Lay the file out: everything but the blobs' bytes.  The program is borrowed; its memory
 * is planned (memory_plan), its blobs' offsets are filled in.  new: pte_file_free.
 * Errors: NOMEM, LIMIT. */
MUST_USE int pte_file_new(struct pte_program *p, const struct pte_method *methods,
                          uint32_t n_methods, struct pte_file **ret_file,
                          struct pt2_err *err);
void pte_file_free(struct pte_file *file);
DEFINE_AUTO(pte_file)

uint64_t pte_file_bytes(const struct pte_file *file);

/* Blobs without data are asked for in the file's order.
 * Errors: those of out_add, and write's own. */
MUST_USE int pte_file_write(const struct pte_file *file, struct out *out,
                            pte_write_blob *write, void *ctx, struct pt2_err *err);

#endif
