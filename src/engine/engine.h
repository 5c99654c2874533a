/* engine.h - what every kind of engine has, and the table of functions behind which the
 * kinds stand.
 *
 *     engine.c                   include/pt2/engine.h: opening by kind, and calls by the table
 *     calls.c                    what of it rests on the rest
 *     aten_*.c, worker.c, ...    by libtorch's ops, in a worker process
 *     native_*.c                 by a plan (src/native), in this process
 *
 * A kind's own structs begin with these.  Private to src/engine and its tests; threads as
 * in pt2/engine.h. */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include "engine/layout.h"

#include <pt2/engine.h>

#define ENGINE_MAGIC 0x656e6769u
#define CACHE_MAGIC  0x63616368u
/* What images begin with; another layout, another number. */
#define NATIVE_IMAGE_MAGIC 0x31676d6974616e31u
#define ATEN_IMAGE_MAGIC   0x31676d696e657461u

struct pt2_engine {
    unsigned magic;
    const struct engine_ops *ops;
    struct pt2_decoder decoder;
    struct layout layout; /* of a session's buffers */
    struct pt2_err warning; /* pt2_engine_warning */
    struct layout int8;   /* of caches of PT2_INT8; empty where there are none */
};

struct pt2_cache {
    unsigned magic;
    struct pt2_engine *engine;
    enum pt2_dtype dtype; /* PT2_INT8; NONE: the buffers' own */
};

static inline const struct layout *engine_layout(const struct pt2_engine *engine,
                                                 enum pt2_dtype dtype)
{
    return dtype == PT2_INT8 ? &engine->int8 : &engine->layout;
}

struct pt2_undo {
    struct pt2_cache *cache;
};

/* What include/pt2/engine.h says of the functions of these names. */
struct engine_ops {
    enum pt2_engine_kind kind;
    void (*free)(struct pt2_engine *engine);
    bool (*is_dead)(struct pt2_engine *engine);
    bool (*can_rewind)(const struct pt2_engine *engine);
    int64_t (*rewind_floor)(const struct pt2_cache *cache, int64_t position);
    int64_t (*slice)(const struct pt2_engine *engine);
    int64_t (*max_rows)(const struct pt2_engine *engine);
    void (*steps)(struct pt2_engine *engine, struct pt2_step *steps, size_t n);

    /* dtype: of those that have a layout */
    int (*cache_new)(struct pt2_engine *engine, enum pt2_dtype dtype,
                     struct pt2_cache **ret_cache, struct pt2_err *err);
    int (*cache_fork)(const struct pt2_cache *cache, struct pt2_cache **ret_cache,
                      struct pt2_err *err);
    /* both engines are of this kind and have the same decoder and layout */
    int (*cache_adopt)(struct pt2_cache *cache, struct pt2_engine *engine,
                       struct pt2_err *err);
    void (*cache_free)(struct pt2_cache *cache);
    uint64_t (*cache_cost)(const struct pt2_engine *engine);
    uint64_t (*cache_growth)(const struct pt2_cache *cache, int64_t start, int64_t s);
    uint64_t (*cache_bytes)(const struct pt2_engine *engine); /* of all that there are */
    /* n: rows that the buffer has; of one without positions, as the caller gave it */
    void (*cache_read)(const struct pt2_cache *cache, size_t i, int64_t first, int64_t n,
                       char *to);
    /* i and from: by the layout of dtype */
    int (*cache_write)(struct pt2_cache *cache, enum pt2_dtype dtype, size_t i, int64_t first,
                       int64_t n, const char *from, struct pt2_err *err);

    int (*put_away)(const struct pt2_cache *cache, int64_t position, pt2_image_pass *pass,
                    void *context, struct pt2_err *err);
    int (*take_back)(struct pt2_cache *cache, pt2_image_pass *pass, void *context,
                     struct pt2_err *err);
    uint64_t (*image_cost)(const struct pt2_engine *engine, uint64_t image_bytes);

    int (*undo_new)(struct pt2_cache *cache, int64_t first, int64_t n,
                    struct pt2_undo **ret_undo, struct pt2_err *err);
    void (*undo_apply)(struct pt2_undo *undo);
    void (*undo_free)(struct pt2_undo *undo);
};

/* By kind; path is that of a regular file's archive.  Errors: as pt2_engine_open. */
MUST_USE int aten_engine_open(const char *path, const struct pt2_engine_options *options,
                              struct pt2_engine **ret_engine, struct pt2_err *err);
MUST_USE int native_engine_open(const char *path, const struct pt2_engine_options *options,
                                struct pt2_engine **ret_engine, struct pt2_err *err);

/* Open the archive at path, which must be a regular file; *ret_fd is new.
 * Errors: IO, BAD_ARCHIVE, BAD_PROGRAM, NOMEM. */
MUST_USE int engine_read(const char *path, int *ret_fd, struct pt2_archive **ret_archive,
                         struct pt2_program **ret_program, struct pt2_err *err);

#endif
