/* engine.h - run a program: the interface that every engine stands behind.
 *
 * An engine is a program opened to be stepped; a cache is one session's copy of its mutable
 * buffers.  Calls on one engine, its caches included: one thread at a time.  Steps are
 * atomic: a failed one leaves the cache byte for byte as it was, also where it overwrote,
 * also where the engine's worker process died.  After ENGINE_DIED the engine stays dead
 * (caches keep their contents and may be moved by pt2_cache_adopt). */
#ifndef PT2_ENGINE_H
#define PT2_ENGINE_H

#include <pt2/err.h>
#include <pt2/program.h>

struct pt2_engine;
struct pt2_cache;

enum pt2_engine_kind { PT2_ENGINE_AUTO, PT2_ENGINE_NATIVE, PT2_ENGINE_ATEN };

struct pt2_engine_options {
    enum pt2_engine_kind kind;
    unsigned n_threads;        /* compute threads; 0: as many as there are cores */
    uint64_t max_step_bytes;   /* allocated by one run of the graph; 0: 4 GiB */
    unsigned step_timeout_s;   /* a run longer than this kills the worker; 0: 600 */
    const char *worker_path;   /* pt2-aten; NULL: $PT2_LIBEXEC/pt2-aten, then the installed one */
};

/* Can this engine take the program?  0 with *ret_ok; ret_reason (may be NULL) says why not
 * (size bytes at most).  Loads the program as pt2_engine_open does.
 * Errors: IO, NOMEM, ENGINE_DIED. */
PT2_API PT2_MUST_USE int pt2_engine_check(const char *path, enum pt2_engine_kind kind,
                                          const struct pt2_engine_options *options,
                                          bool *ret_ok, char *ret_reason, size_t size,
                                          struct pt2_err *err);

/* Open the archive at path.  options may be NULL.  new: free with pt2_engine_free, after its
 * caches.
 * Errors: IO, BAD_ARCHIVE, BAD_PROGRAM, PROGRAM_REFUSED (no engine of that kind takes it; why),
 * ENGINE_DIED, NOMEM. */
PT2_API PT2_MUST_USE int pt2_engine_open(const char *path,
                                         const struct pt2_engine_options *options,
                                         struct pt2_engine **ret_engine, struct pt2_err *err);
PT2_API void pt2_engine_free(struct pt2_engine *engine);
PT2_API enum pt2_engine_kind pt2_engine_kind(const struct pt2_engine *engine); /* never AUTO */
PT2_API const char *pt2_engine_kind_name(enum pt2_engine_kind kind); /* "aten" */
PT2_API const struct pt2_decoder *pt2_engine_decoder(const struct pt2_engine *engine);
PT2_API bool pt2_engine_is_dead(const struct pt2_engine *engine);
/* False where a write does not go to the rows at cache_position (a rolling window): then a
 * session can not go back to an earlier position. */
PT2_API bool pt2_engine_can_rewind(const struct pt2_engine *engine);

/* A new cache holds the buffers as the archive has them.  new: pt2_cache_free.
 * Errors: NOMEM, ENGINE_DIED. */
PT2_API PT2_MUST_USE int pt2_cache_new(struct pt2_engine *engine, struct pt2_cache **ret_cache,
                                       struct pt2_err *err);
/* The same contents, from then on apart. */
PT2_API PT2_MUST_USE int pt2_cache_fork(const struct pt2_cache *cache,
                                        struct pt2_cache **ret_cache, struct pt2_err *err);
/* Move a cache to another engine of the same program and kind (the first one died). */
PT2_API PT2_MUST_USE int pt2_cache_adopt(struct pt2_cache *cache, struct pt2_engine *engine,
                                         struct pt2_err *err);
PT2_API void pt2_cache_free(struct pt2_cache *cache);
PT2_API uint64_t pt2_cache_bytes(const struct pt2_engine *engine); /* one cache's memory */

/* The buffers, for saving and restoring between steps. */
struct pt2_cache_buffer {
    const char *fqn;      /* "key_cache_0" */
    enum pt2_dtype dtype;
    unsigned n_dims;
    int64_t sizes[PT2_MAX_DIMS]; /* contiguous */
    int position_dim;     /* the dimension that cache_position indexes; -1: none */
    void *data;           /* borrowed; the whole buffer, writable */
};
PT2_API size_t pt2_cache_n_buffers(const struct pt2_cache *cache);
PT2_API void pt2_cache_buffer(struct pt2_cache *cache, size_t i,
                              struct pt2_cache_buffer *ret_buffer);

/* Which rows' logits a step returns. */
enum pt2_rows { PT2_ROWS_NONE, PT2_ROWS_LAST, PT2_ROWS_ALL };

/* Run s tokens at positions start to start + s - 1, for each of the batch.
 * input_ids: (batch_size, s) row-major, each in 0 .. vocab_size - 1.
 * Any s >= 1 with start + s <= max_cache_len, whatever sequence length was exported; the
 * caller has checked these.  Positions below start must have been written.
 * logits: room for (batch_size, 0, 1 or s, vocab_size) floats, by rows; computed in the
 * program's dtype and widened.
 * Errors: PROGRAM_FAILED (the graph raised one), ENGINE_DIED, NOMEM, LIMIT (max_step_bytes). */
PT2_API PT2_MUST_USE int pt2_engine_step(struct pt2_engine *engine, struct pt2_cache *cache,
                                         const int64_t *input_ids, int64_t s, int64_t start,
                                         enum pt2_rows rows, float *logits,
                                         struct pt2_err *err);

#endif
