/* native.h - what the files of the native engine share: a compiled plan with its memory.
 *
 * A cache is a block table for each of the batch; positions that were not written read as
 * zeros.  A buffer that is short in the program (it holds fewer positions than max_cache_len,
 * and rolls or is a ring) has a place for each of them here, of which the newest are kept in
 * whole blocks; it gets its shape when it is read or written from outside.  A cache of whole
 * numbers (PT2_INT8) has block tables of that form, and buffers that fit it; the program knows
 * nothing of it.  Private to native_*.c and the tests of the engine. */
#ifndef ENGINE_NATIVE_H
#define ENGINE_NATIVE_H

#include "engine/engine.h"
#include "native/run.h"

/* A buffer as it is seen from outside: one of the program's, or the scales of one. */
struct native_buffer {
    const struct plan_buffer *of;
    bool is_scale;
};

struct native_engine {
    struct pt2_engine base;
    struct pt2_archive *archive; /* weights are used where they lie in it */
    struct pt2_program *program;
    struct plan *plan;
    const struct kernels *kernels;
    struct native_buffer *int8; /* by the layout of PT2_INT8 */
    float *row;                 /* of a head, for whoever needs it as floats */
    struct block_store store;
    struct plan_runner *runner;
    uint32_t n_ids;  /* ids below this have a row in every embedding */
    size_t n_tables; /* of all caches */
    bool is_dead;    /* a file that it maps was cut: what it computes is no longer true */
    struct run_row rows[RUN_MAX_ROWS]; /* that the next run will compute */
    size_t n_rows;
};

struct native_cache {
    struct pt2_cache base;
    struct block_table *tables; /* batch_size of them */
    int64_t floor;              /* a step from below would see what is not there */
};

static inline struct native_engine *native_engine(const struct pt2_engine *engine)
{
    return (struct native_engine *)engine;
}

static inline struct native_cache *native_cache(const struct pt2_cache *cache)
{
    return (struct native_cache *)cache;
}

/* ---- native_step.c, native_cache.c, native_image.c: struct engine_ops' functions ---- */

void native_steps(struct pt2_engine *engine, struct pt2_step *steps, size_t n);

int native_cache_new(struct pt2_engine *engine, enum pt2_dtype dtype,
                     struct pt2_cache **ret_cache, struct pt2_err *err);
int native_cache_fork(const struct pt2_cache *cache, struct pt2_cache **ret_cache,
                      struct pt2_err *err);
int native_cache_adopt(struct pt2_cache *cache, struct pt2_engine *engine,
                       struct pt2_err *err);
void native_cache_free(struct pt2_cache *cache);
int64_t native_rewind_floor(const struct pt2_cache *cache, int64_t position);
uint64_t native_cache_cost(const struct pt2_engine *engine);
uint64_t native_cache_growth(const struct pt2_cache *cache, int64_t start, int64_t s);
uint64_t native_cache_bytes(const struct pt2_engine *engine);
void native_cache_read(const struct pt2_cache *cache, size_t i, int64_t first, int64_t n,
                       char *to);
int native_cache_write(struct pt2_cache *cache, enum pt2_dtype dtype, size_t i, int64_t first,
                       int64_t n, const char *from, struct pt2_err *err);
int native_put_away(const struct pt2_cache *cache, int64_t position, pt2_image_pass *pass,
                    void *context, struct pt2_err *err);
int native_take_back(struct pt2_cache *cache, pt2_image_pass *pass, void *context,
                     struct pt2_err *err);
uint64_t native_image_cost(const struct pt2_engine *engine, uint64_t image_bytes);
int native_undo_new(struct pt2_cache *cache, int64_t first, int64_t n,
                    struct pt2_undo **ret_undo, struct pt2_err *err);
void native_undo_apply(struct pt2_undo *undo);
void native_undo_free(struct pt2_undo *undo);

/* A step has ended before position `end`: let go of what no step from there on sees. */
void native_cache_forget(struct native_cache *cache, int64_t end);

/* Make the blocks of positions first .. first + n - 1 the cache's own, in all tables.
 * Errors: NOMEM. */
MUST_USE int native_cache_own(struct native_cache *cache, int64_t first, int64_t n,
                              struct pt2_err *err);

#endif
