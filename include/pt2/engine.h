/* engine.h - run a program: the interface that every engine stands behind.
 *
 * An engine is a program opened to be stepped; a cache is one session's copy of its mutable
 * buffers.  There are two kinds.  Native runs in this process, on a plan compiled from the
 * program's graph: many sessions' steps together, and the same logits bit for bit however
 * steps are cut or put together.  Aten runs the graph as it stands by libtorch's ops, in a
 * worker process (pt2-aten), one step at a time.
 *
 * Calls on one engine, its caches included: one thread at a time.  Steps are atomic: a
 * failed one leaves the cache byte for byte as it was, also where it overwrote, also where
 * the engine's worker process died.  After ENGINE_DIED the engine stays dead (caches keep
 * their contents and may be moved by pt2_cache_adopt).  A native engine dies where a file that
 * it maps is cut short and the process survives that (the daemon does, by base/mapping.h): the
 * steps that ran end with PROGRAM_DAMAGED, and what their caches hold from the steps' first
 * positions on is not to be relied on; below, they keep their contents. */
#ifndef PT2_ENGINE_H
#define PT2_ENGINE_H

#include <pt2/err.h>
#include <pt2/program.h>

struct pt2_engine;
struct pt2_cache;

/* AUTO: native where it takes the program, else aten. */
enum pt2_engine_kind { PT2_ENGINE_AUTO, PT2_ENGINE_NATIVE, PT2_ENGINE_ATEN };

struct pt2_engine_options {
    enum pt2_engine_kind kind;
    /* Compute threads; 0: as many as there are cores.  All native engines of a process share
     * one team, of as many as the first one asked for. */
    unsigned n_threads;
    /* Of native alone: a file that packed weights of whole numbers are kept in, so that the next
     * opening maps them; borrowed.  One that is not whole, or of another program, is written
     * anew.  NULL: they are packed in memory each time. */
    const char *packed_path;
    /* Of aten alone: */
    uint64_t max_step_bytes;   /* allocated by one run of the graph; 0: 4 GiB */
    unsigned step_timeout_s;   /* a run longer than this kills the worker; 0: 600 */
    const char *worker_path;   /* pt2-aten; NULL: in $PT2_LIBEXEC, beside the program, or installed */
    /* Borrowed; once it is readable (an eventfd), what the engine waits for ends at once, with
     * ENGINE_DIED; 0: none. */
    int stop_fd;
};

/* Can this engine take the program?  0 with *ret_ok; ret_reason (may be NULL) says why not
 * (size bytes at most).  Loads the program as pt2_engine_open does.
 * Errors: IO, NOMEM, PROGRAM_DAMAGED, ENGINE_DIED. */
PT2_API PT2_MUST_USE int pt2_engine_check(const char *path, enum pt2_engine_kind kind,
                                          const struct pt2_engine_options *options,
                                          bool *ret_ok, char *ret_reason, size_t size,
                                          struct pt2_err *err);

/* Open the archive at path.  options may be NULL.  new: free with pt2_engine_free, after its
 * caches.
 * Errors: IO, BAD_ARCHIVE, BAD_PROGRAM, PROGRAM_REFUSED (no engine of that kind takes it; why),
 * UNSUPPORTED ($PT2_ISA), PROGRAM_DAMAGED (cut while it was opened), ENGINE_DIED, NOMEM. */
PT2_API PT2_MUST_USE int pt2_engine_open(const char *path,
                                         const struct pt2_engine_options *options,
                                         struct pt2_engine **ret_engine, struct pt2_err *err);
PT2_API void pt2_engine_free(struct pt2_engine *engine);
PT2_API enum pt2_engine_kind pt2_engine_kind(const struct pt2_engine *engine); /* never AUTO */
PT2_API const char *pt2_engine_kind_name(enum pt2_engine_kind kind); /* "aten" */
/* What did not go as it should, and did no harm (packed_path could not be written); NULL:
 * nothing.  Borrowed from the engine. */
PT2_API const char *pt2_engine_warning(const struct pt2_engine *engine);
PT2_API const struct pt2_decoder *pt2_engine_decoder(const struct pt2_engine *engine);
/* Has its worker ended?  Looks, so that one which ended between two calls is found.  Of native:
 * was a file cut under it? */
PT2_API bool pt2_engine_is_dead(struct pt2_engine *engine);
/* False where a step can not be undone by its parts: the engine keeps a rolling cache as the
 * program has it, so that what left the window is gone.  Then a step is run as a whole. */
PT2_API bool pt2_engine_can_rewind(const struct pt2_engine *engine);

/* How a service should cut steps, and put them together.  Tokens of one step to run between
 * others' turns: of aten always as many, since its results depend on it by rounding. */
PT2_API int64_t pt2_engine_slice(const struct pt2_engine *engine);
/* Rows (tokens times batch_size) that one call of pt2_engine_steps runs together; 0: one step
 * a call is best. */
PT2_API int64_t pt2_engine_max_rows(const struct pt2_engine *engine);

/* A new cache holds the buffers as the archive has them.  new: pt2_cache_free.
 * Errors: NOMEM, ENGINE_DIED. */
PT2_API PT2_MUST_USE int pt2_cache_new(struct pt2_engine *engine, struct pt2_cache **ret_cache,
                                       struct pt2_err *err);
/* The same, but that a native one may hold its rows as PT2_INT8, whatever the program's dtype:
 * each row of a head and position as whole numbers of -127 to 127 times a scale of its own.
 * PT2_DTYPE_NONE: as pt2_cache_new.
 * Errors: UNSUPPORTED (another dtype, or aten). */
PT2_API PT2_MUST_USE int pt2_cache_new_as(struct pt2_engine *engine, enum pt2_dtype dtype,
                                          struct pt2_cache **ret_cache, struct pt2_err *err);
/* What it was made as: PT2_INT8, or PT2_DTYPE_NONE. */
PT2_API enum pt2_dtype pt2_cache_dtype(const struct pt2_cache *cache);
/* The same contents and dtype, from then on apart. */
PT2_API PT2_MUST_USE int pt2_cache_fork(const struct pt2_cache *cache,
                                        struct pt2_cache **ret_cache, struct pt2_err *err);
/* Move a cache to another engine of the same program and kind (the first one died).
 * Errors: OTHER_PROGRAM, NOMEM, ENGINE_DIED. */
PT2_API PT2_MUST_USE int pt2_cache_adopt(struct pt2_cache *cache, struct pt2_engine *engine,
                                         struct pt2_err *err);
PT2_API void pt2_cache_free(struct pt2_cache *cache);
/* The lowest position that a cache which is at position can be stepped from: 0, or higher
 * where a window has rolled on (aten), or where no more than a window was restored (native).
 */
PT2_API int64_t pt2_cache_rewind_floor(const struct pt2_cache *cache, int64_t position);

/* Memory of caches, in bytes.  Native ones hold what was written, in blocks of 16 positions
 * that forks share; those of aten are there in full from the beginning. */
PT2_API uint64_t pt2_cache_bytes(const struct pt2_engine *engine); /* one, written in full */
PT2_API uint64_t pt2_cache_bytes_as(const struct pt2_engine *engine, enum pt2_dtype dtype);
PT2_API uint64_t pt2_cache_cost(const struct pt2_engine *engine);  /* a new one, or a fork */
/* What s tokens from start on add to it, at most. */
PT2_API uint64_t pt2_cache_growth(const struct pt2_cache *cache, int64_t start, int64_t s);
/* What all of the engine's hold now. */
PT2_API uint64_t pt2_engine_cache_bytes(const struct pt2_engine *engine);

/* The buffers, for saving and restoring between steps. */
struct pt2_cache_buffer {
    const char *fqn;      /* "key_cache_0"; borrowed from the engine */
    enum pt2_dtype dtype;
    unsigned n_dims;
    int64_t sizes[PT2_MAX_DIMS];
    int position_dim;     /* the dimension that cache_position indexes; -1: none: a counter,
                             a cache that rolls */
};
PT2_API size_t pt2_cache_n_buffers(const struct pt2_cache *cache);
PT2_API void pt2_cache_buffer(const struct pt2_cache *cache, size_t i,
                              struct pt2_cache_buffer *ret_buffer);
/* Of a buffer's positions first .. first + n - 1 those that it has. */
PT2_API int64_t pt2_cache_part_rows(const struct pt2_cache_buffer *buffer, int64_t first,
                                    int64_t n);
/* The bytes of that part, packed: (outer, rows, inner), as in a buffer of so many positions.
 * A buffer without positions: all of it, as it is when positions 0 .. first + n - 1 have been
 * written. */
PT2_API size_t pt2_cache_part_bytes(const struct pt2_cache_buffer *buffer, int64_t first,
                                    int64_t n);
/* Copy that part of buffer i out, or in.  After a write the cache no longer knows which
 * tokens it holds (pt2_engine_step, UNSUPPORTED).
 * Errors: NOMEM; nothing is written then.  With pt2_cache_growth's bytes to spare it works. */
PT2_API void pt2_cache_read(const struct pt2_cache *cache, size_t i, int64_t first, int64_t n,
                            void *to);
PT2_API PT2_MUST_USE int pt2_cache_write(struct pt2_cache *cache, size_t i, int64_t first,
                                         int64_t n, const void *from, struct pt2_err *err);

/* A cache has its buffers as what it was made as.  Of PT2_INT8 they are, for each cache of the
 * program, int8 of the same shape, and behind it "<fqn>.scale", bfloat16, with 1 in place of
 * head_dim.  A native cache can be written as the other kind, too: floats are rounded to whole
 * numbers, and whole numbers made floats.  Then every buffer is to be written, in order, and
 * a cache and its scales for the same positions.
 * n_buffers is 0 where the cache can't be written as dtype. */
PT2_API size_t pt2_cache_n_buffers_as(const struct pt2_cache *cache, enum pt2_dtype dtype);
PT2_API void pt2_cache_buffer_as(const struct pt2_cache *cache, enum pt2_dtype dtype, size_t i,
                                 struct pt2_cache_buffer *ret_buffer);
PT2_API PT2_MUST_USE int pt2_cache_write_as(struct pt2_cache *cache, enum pt2_dtype dtype,
                                            size_t i, int64_t first, int64_t n,
                                            const void *from, struct pt2_err *err);

/* A cache of which positions below `position` are written, put away and taken back whole: all that
 * steps may see of it, pt2_cache_rewind_floor and the tokens that it knows included.  An
 * image is made of bytes of the engine's own, as they lie in memory: for the same program,
 * kind of engine and dtype of cache, on the same kind of machine. */

/* Given the next size bytes of an image, to keep or to be filled; -1 with err ends it. */
typedef int pt2_image_pass(void *context, void *data, size_t size, struct pt2_err *err);
/* Hand out the image; pass does not write. Errors: those of pass. */
PT2_API PT2_MUST_USE int pt2_cache_put_away(const struct pt2_cache *cache, int64_t position,
                                            pt2_image_pass *pass, void *context,
                                            struct pt2_err *err);
/* How long it would be. */
PT2_API uint64_t pt2_cache_image_bytes(const struct pt2_cache *cache, int64_t position);
/* Fill a new cache from an image.
 * Errors: INVALID (it is none of such a cache), NOMEM, those of pass; the cache is then good
 * for pt2_cache_free alone. */
PT2_API PT2_MUST_USE int pt2_cache_take_back(struct pt2_cache *cache, pt2_image_pass *pass,
                                             void *context, struct pt2_err *err);
/* Do its first bytes begin an image as this version of that kind of engine (not AUTO) makes
 * them?  Whether the rest fits a cache, pt2_cache_take_back says. */
#define PT2_IMAGE_FIRST_BYTES 8
PT2_API bool pt2_image_is_known(enum pt2_engine_kind kind,
                                const uint8_t first[PT2_IMAGE_FIRST_BYTES]);
/* Memory that a cache takes which is filled from an image of so many bytes, at most. */
PT2_API uint64_t pt2_cache_image_cost(const struct pt2_engine *engine, uint64_t image_bytes);

/* A cache as it is now, as far as steps from position first on may change it where positions
 * below first + n were written; to be put back.  new: pt2_undo_free, before the cache.
 * Errors: NOMEM. */
struct pt2_undo;
PT2_API PT2_MUST_USE int pt2_undo_new(struct pt2_cache *cache, int64_t first, int64_t n,
                                      struct pt2_undo **ret_undo, struct pt2_err *err);
PT2_API void pt2_undo_apply(struct pt2_undo *undo); /* once */
PT2_API void pt2_undo_free(struct pt2_undo *undo);

/* Which rows' logits a step returns. */
enum pt2_rows { PT2_ROWS_NONE, PT2_ROWS_LAST, PT2_ROWS_ALL };

/* Run s tokens at positions start to start + s - 1, for each of the batch.  Any s >= 1 with
 * start + s <= max_cache_len, whatever sequence length was exported; the caller has checked
 * these.  Positions below start must have been written. */
struct pt2_step {
    struct pt2_cache *cache;
    const int64_t *input_ids; /* (batch_size, s), each in 0 .. vocab_size - 1 */
    int64_t s, start;
    enum pt2_rows rows;
    /* Room for (batch_size, 0, 1 or s, vocab_size) floats, by rows; computed in the program's
     * dtype (native: float32) and widened. */
    float *logits;
    /* From one batch element to the next: ids, and rows of logits.  s, and 0, 1 or s; more
     * where this is a part of a longer step. */
    int64_t ids_stride, rows_stride;
    /* What came of it; zeroed by the caller.  PROGRAM_FAILED (the graph raised one, an id that
     * the embedding lacks), ENGINE_DIED, PROGRAM_DAMAGED (above), NOMEM, LIMIT
     * (max_step_bytes), UNSUPPORTED (a program of k > 1 tokens a run that writes at a counter,
     * less than k before the end of a cache that was restored; the text says from where it can
     * be stepped). */
    struct pt2_err err;
};

/* Run steps of different caches of the engine, as far as it can together.  Each fails or
 * succeeds by itself. */
PT2_API void pt2_engine_steps(struct pt2_engine *engine, struct pt2_step *steps, size_t n);

/* Run one.  Errors: those of struct pt2_step. */
PT2_API PT2_MUST_USE int pt2_engine_step(struct pt2_engine *engine, struct pt2_cache *cache,
                                         const int64_t *input_ids, int64_t s, int64_t start,
                                         enum pt2_rows rows, float *logits,
                                         struct pt2_err *err);

#endif
