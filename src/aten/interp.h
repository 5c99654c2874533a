/* interp.h - run a decoder's program by libtorch, node by node.
 *
 * Used inside a worker process only (pt2-aten): a fault in libtorch ends the process that
 * it happens in.  An aten_program borrows the archive and the program that it was opened
 * from; weights and constants are used where they lie in the mapped file, read-only.
 * Everything in the graph is untrusted: ops that are not on tbl_ops.h, arguments that do
 * not fit the op's schema, and writes that would reach anything but session buffers or
 * fresh intermediates are refused when it is opened; what only shows with real shapes
 * fails the run.
 *
 * One thread at a time; libtorch's own threads (limits.n_threads) work under each call.
 */
#ifndef ATEN_INTERP_H
#define ATEN_INTERP_H

#include "base/util.h"

#include <pt2/archive.h>
#include <pt2/program.h>

struct aten_program;

struct aten_limits {
    unsigned n_threads;     /* of the whole process; 0: as many as there are cores */
    uint64_t max_run_bytes; /* alive at one time in one run, caches and weights not
                             * counted; 0: 4 GiB */
};

/* A mutated buffer: one that some node writes, or that the signature calls mutated.
 * These, and no other, are a session's state. */
struct aten_buffer {
    const char *fqn; /* "key_cache_0"; borrowed from the program */
    enum pt2_dtype dtype;
    unsigned n_dims;
    int64_t sizes[PT2_MAX_DIMS]; /* contiguous */
    uint64_t bytes;
    /* Every write to the buffer goes to the rows start .. start + s - 1 of this dimension
     * (index_copy_, index_put_ at the positions of the run) and nothing else of it
     * changes. -1: may change anywhere (a rolling window, a counter). */
    int position_dim;
    /* The rows are those of the positions modulo the dimension's size, and nothing reads the
     * buffer before it is written. */
    bool is_ring;
    /* One integer that counts the positions written (transformers 5's
     * cumulative_length_N): set it to the run's start before each run. */
    bool is_counter;
    const void *initial; /* bytes, borrowed from the archive; NULL: zeros */
};

/* Load the program: check all of it against the table of ops and the write rule, and
 * prepare its calls.  limits may be NULL.  new: free with aten_program_free, before the
 * archive and the program. Errors: PROGRAM_REFUSED (no decoder, or an op, argument or
 * write that does not pass; the text names the node), LIMIT, NOMEM. */
MUST_USE int aten_program_open(const struct pt2_archive *archive,
                               const struct pt2_program *program,
                               const struct aten_limits *limits,
                               struct aten_program **ret_program, struct pt2_err *err);
void aten_program_free(struct aten_program *program);

const struct pt2_decoder *aten_program_decoder(const struct aten_program *program);
size_t aten_program_n_buffers(const struct aten_program *program);
const struct aten_buffer *aten_program_buffer(const struct aten_program *program,
                                              size_t i);
/* False where a buffer that is no counter has no position_dim. */
bool aten_program_can_rewind(const struct aten_program *program);

/* Run the graph once.
 * buffers: one pointer for each session buffer, in aten_program_buffer's order, each to
 *   .bytes bytes aligned to 64, read and written in place (a failed run may have
 * written). input_ids (batch_size, s) and cache_position (s), row-major.  s is the
 * exported seq_len, or 1 .. max_seq_len where that is symbolic. logits: NULL (not
 * wanted), or room for (batch_size, n_rows, vocab_size) floats: rows first_row ..
 * first_row + n_rows - 1 of the s that the run computes, widened from the program's
 * dtype.  Where the program answers the last row alone, that row is s - 1, the only one
 * there is. Errors: PROGRAM_FAILED (the node and what it said), INVALID (s, rows), LIMIT
 * (max_run_bytes), NOMEM. */
MUST_USE int aten_program_run(struct aten_program *program, void *const *buffers,
                              const int64_t *input_ids, const int64_t *cache_position,
                              int64_t s, int64_t first_row, int64_t n_rows, float *logits,
                              struct pt2_err *err);

/* For tests: the calls of one run, and a run that fails (PROGRAM_FAILED) in place of call
 * i, the ones before it done; -1: no more. */
size_t aten_program_n_calls(const struct aten_program *program);
void aten_program_fail_at(struct aten_program *program, int64_t call);

#endif
