/* aten.h - what the files of the aten engine share: the daemon's side of a worker process.
 * Private to aten_*.c and the tests of the engine. */
#ifndef ENGINE_ATEN_H
#define ENGINE_ATEN_H

#include "engine/aten_undo.h"
#include "engine/chunk.h"
#include "engine/engine.h"
#include "engine/shared.h"
#include "engine/worker.h"

struct aten_engine {
    struct pt2_engine base;
    struct worker worker;
    struct chunk_shape shape;
    void **initial; /* for each buffer its first contents; NULL: zeros */
    struct undo undo;
    struct shared area; /* tokens and logits of a run; grown as needed */
    int64_t step_timeout_ms;
    struct aten_cache *
        *slots; /* by the number that the worker knows them by; NULL: free */
    size_t n_slots;
    size_t n_caches;  /* slots taken */
    uint64_t n_calls; /* nodes that one run executes */
    int64_t fail_at;  /* for tests; -1 */
    bool dies;
};

struct aten_cache {
    struct pt2_cache base;
    bool has_slot;
    uint32_t slot;
    struct shared memory;
    /* For programs of more than one row a run: (batch_size, max_cache_len) ids that the
     * cache holds, -1 where not known; otherwise NULL. */
    int32_t *tokens;
    int64_t floor; /* of a restored ring: where it was restored; otherwise 0 */
};

static inline struct aten_engine *aten_engine(const struct pt2_engine *engine)
{
    return (struct aten_engine *)engine;
}

static inline struct aten_cache *aten_cache(const struct pt2_cache *cache)
{
    return (struct aten_cache *)cache;
}

/* The memory that a worker may allocate in one run. */
uint64_t aten_max_step_bytes(const struct pt2_engine_options *options);

/* ---- aten_step.c, aten_cache.c, aten_image.c: struct engine_ops' functions ---- */

void aten_steps(struct pt2_engine *engine, struct pt2_step *steps, size_t n);

int aten_cache_new(struct pt2_engine *engine, enum pt2_dtype dtype,
                   struct pt2_cache **ret_cache, struct pt2_err *err);
int aten_cache_fork(const struct pt2_cache *cache, struct pt2_cache **ret_cache,
                    struct pt2_err *err);
int aten_cache_adopt(struct pt2_cache *cache, struct pt2_engine *engine,
                     struct pt2_err *err);
void aten_cache_free(struct pt2_cache *cache);
void aten_cache_read(const struct pt2_cache *cache, size_t i, int64_t first, int64_t n,
                     char *to);
int aten_cache_write(struct pt2_cache *cache, enum pt2_dtype dtype, size_t i, int64_t first,
                     int64_t n, const char *from, struct pt2_err *err);
int aten_put_away(const struct pt2_cache *cache, int64_t position, pt2_image_pass *pass,
                  void *context, struct pt2_err *err);
int aten_take_back(struct pt2_cache *cache, pt2_image_pass *pass, void *context,
                   struct pt2_err *err);
uint64_t aten_image_cost(const struct pt2_engine *engine, uint64_t image_bytes);
int aten_undo_new(struct pt2_cache *cache, int64_t first, int64_t n,
                  struct pt2_undo **ret_undo, struct pt2_err *err);
void aten_undo_apply(struct pt2_undo *undo);
void aten_undo_free(struct pt2_undo *undo);

/* Set the counters of the cache to position. */
void aten_set_counters(struct aten_cache *cache, int64_t position);
/* The tokens at ret .. position - 1 are known, all batch rows of them. */
int64_t aten_known_from(const struct aten_cache *cache, int64_t position);

/* ---- for tests ---- */

/* The next runs fail in place of call i (-1: no more); the ones before it are done.  With
 * dies the worker kills itself there. */
void aten_test_fail_at(struct pt2_engine *engine, int64_t call, bool dies);

#endif
