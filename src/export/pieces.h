/* pieces.h - weights on their way into an archive, in pieces that all cores prepare.
 *
 *     checkpoint ──► a thread a core: read, convert, CRC-32 ──► the caller: write, in order
 *
 * There are a few pieces of at most 1 MiB under way, so what it takes in memory depends on
 * the cores alone; bytes and errors do not depend on who was faster.  One thread at a
 * time; it is its calls that write. */
#ifndef EXPORT_PIECES_H
#define EXPORT_PIECES_H

#include "base/util.h"
#include "export/weight_parts.h"

#include <pt2/archive.h>
#include <pt2/checkpoint.h>

#define PIECE_BYTES ((size_t)1 << 20) /* at most, before and after the conversion */

/* Elements of one tensor, and where they go: into the record of a weight, which the first
 * piece begins and the last one ends; between them there may be several tensors.  Of a
 * quantised weight a piece holds whole groups, and becomes the numbers, scales or zero points
 * of these. */
struct piece {
    const struct pt2_checkpoint_tensor *source;
    enum pt2_dtype dtype; /* of the weight: float32, bfloat16 or float16 */
    struct weight_scheme scheme;
    enum weight_part part;
    uint64_t first;
    size_t n;
    uint32_t record;
    uint64_t record_bytes;
    bool is_first, is_last;
};

struct pieces;

/* Called when a piece of that many bytes was written, by the caller's thread. */
typedef void pieces_written(void *ctx, size_t bytes);

/* new: pieces_free.  Borrow checkpoint and writer.
 * Errors: NOMEM, INTERNAL (no thread). */
MUST_USE int pieces_new(const struct pt2_checkpoint *checkpoint, struct pt2_writer *writer,
                        pieces_written *written, void *ctx, struct pieces **ret_pieces,
                        struct pt2_err *err);
void pieces_free(struct pieces *pieces);
DEFINE_AUTO(pieces)

/* The most elements that a piece of this source, dtype and scheme may have. */
size_t pieces_max(const struct piece *piece);

/* Put one more into the queue; waits for a place, and writes what is ready by then.
 * Errors: those of pt2_checkpoint_read and pt2_writer_add, also of a piece before.  After
 * one there is nothing left but pieces_free. */
MUST_USE int pieces_put(struct pieces *pieces, const struct piece *piece,
                        struct pt2_err *err);
/* Write all that is under way.  Errors: the same. */
MUST_USE int pieces_finish(struct pieces *pieces, struct pt2_err *err);

#endif
