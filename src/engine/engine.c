#include "engine/engine.h"

#include "base/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

DEFINE_AUTO(pt2_archive)
DEFINE_AUTO(pt2_program)

/* ---- opening ---- */

static int file_open(const char *path, int *ret_fd, struct pt2_err *err)
{
    AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "archive '%s'", path);
    if (!S_ISREG(st.st_mode))
        return pt2_err_set(err, PT2_ERR_IO, "archive '%s' is not a file", path);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int engine_read(const char *path, int *ret_fd, struct pt2_archive **ret_archive,
                struct pt2_program **ret_program, struct pt2_err *err)
{
    AUTO(pt2_archive) archive = NULL;
    AUTO_FD int fd = -1;

    if (file_open(path, &fd, err) < 0 ||
        pt2_archive_open_fd(fd, path, &archive, err) < 0 ||
        pt2_program_read(archive, ret_program, err) < 0)
        return -1;
    *ret_archive = TAKE(archive);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static int open_auto(const char *path, const struct pt2_engine_options *options,
                     struct pt2_engine **ret_engine, struct pt2_err *err)
{
    struct pt2_err why = {0};

    if (native_engine_open(path, options, ret_engine, &why) == 0)
        return 0;
    if (why.code == PT2_ERR_PROGRAM_REFUSED || why.code == PT2_ERR_LIMIT)
        return aten_engine_open(path, options, ret_engine, err);
    return pt2_err_set(err, why.code, "%s", why.text);
}

int pt2_engine_open(const char *path, const struct pt2_engine_options *options,
                    struct pt2_engine **ret_engine, struct pt2_err *err)
{
    switch (options ? options->kind : PT2_ENGINE_AUTO) {
    case PT2_ENGINE_NATIVE:
        return native_engine_open(path, options, ret_engine, err);
    case PT2_ENGINE_ATEN:
        return aten_engine_open(path, options, ret_engine, err);
    default:
        return open_auto(path, options, ret_engine, err);
    }
}

void pt2_engine_free(struct pt2_engine *engine)
{
    if (!engine)
        return;
    ASSERT(engine->magic == ENGINE_MAGIC);
    engine->magic = 0;
    engine->ops->free(engine);
}

/* Is this what a program is refused for, rather than what kept us from finding out? */
static bool is_refusal(enum pt2_error code)
{
    return code == PT2_ERR_PROGRAM_REFUSED || code == PT2_ERR_BAD_ARCHIVE ||
           code == PT2_ERR_BAD_PROGRAM || code == PT2_ERR_LIMIT;
}

int pt2_engine_check(const char *path, enum pt2_engine_kind kind,
                     const struct pt2_engine_options *options, bool *ret_ok,
                     char *ret_reason, size_t size, struct pt2_err *err)
{
    struct pt2_engine_options with = options ? *options : (struct pt2_engine_options){0};
    struct pt2_engine *engine = NULL;
    struct pt2_err why = {0};
    int r;

    with.kind = kind;
    r = pt2_engine_open(path, &with, &engine, &why);
    pt2_engine_free(engine);
    if (r < 0 && !is_refusal(why.code))
        return pt2_err_set(err, why.code, "%s", why.text);
    if (ret_reason && size > 0)
        snprintf(ret_reason, size, "%s", why.text);
    *ret_ok = r == 0;
    return 0;
}

/* ---- what an engine is ---- */

enum pt2_engine_kind pt2_engine_kind(const struct pt2_engine *engine)
{
    ASSERT(engine->magic == ENGINE_MAGIC);
    return engine->ops->kind;
}

const char *pt2_engine_kind_name(enum pt2_engine_kind kind)
{
    static const char *const names[] = {[PT2_ENGINE_AUTO] = "auto",
                                        [PT2_ENGINE_NATIVE] = "native",
                                        [PT2_ENGINE_ATEN] = "aten"};

    return (unsigned)kind < ARRAY_LEN(names) ? names[kind] : "unknown";
}

const char *pt2_engine_warning(const struct pt2_engine *engine)
{
    return engine->warning.code == PT2_ERR_NONE ? NULL : engine->warning.text;
}

const struct pt2_decoder *pt2_engine_decoder(const struct pt2_engine *engine)
{
    return &engine->decoder;
}

bool pt2_engine_is_dead(struct pt2_engine *engine)
{
    return engine->ops->is_dead(engine);
}

bool pt2_engine_can_rewind(const struct pt2_engine *engine)
{
    return engine->ops->can_rewind(engine);
}

int64_t pt2_cache_rewind_floor(const struct pt2_cache *cache, int64_t position)
{
    return cache->engine->ops->rewind_floor(cache, position);
}

int64_t pt2_engine_slice(const struct pt2_engine *engine)
{
    return engine->ops->slice(engine);
}

int64_t pt2_engine_max_rows(const struct pt2_engine *engine)
{
    return engine->ops->max_rows(engine);
}

/* ---- steps ---- */

static void check_step(const struct pt2_engine *engine, const struct pt2_step *step)
{
    ASSERT(step->cache->magic == CACHE_MAGIC && step->cache->engine == engine);
    ASSERT(step->logits || step->rows == PT2_ROWS_NONE);
    ASSERT(step->s >= 1 && step->start >= 0 &&
           step->start <= engine->decoder.max_cache_len - step->s);
}

void pt2_engine_steps(struct pt2_engine *engine, struct pt2_step *steps, size_t n)
{
    ASSERT(engine->magic == ENGINE_MAGIC);
    for (size_t i = 0; i < n; i++)
        check_step(engine, &steps[i]);
    engine->ops->steps(engine, steps, n);
}

/* ---- caches ---- */

int pt2_cache_new(struct pt2_engine *engine, struct pt2_cache **ret_cache,
                  struct pt2_err *err)
{
    return pt2_cache_new_as(engine, PT2_DTYPE_NONE, ret_cache, err);
}

int pt2_cache_new_as(struct pt2_engine *engine, enum pt2_dtype dtype,
                     struct pt2_cache **ret_cache, struct pt2_err *err)
{
    ASSERT(engine->magic == ENGINE_MAGIC);
    if (dtype != PT2_DTYPE_NONE && (dtype != PT2_INT8 || engine->int8.n_buffers == 0))
        return pt2_err_set(err, PT2_ERR_UNSUPPORTED, "no cache of the engine %s is %s",
                           pt2_engine_kind_name(engine->ops->kind), pt2_dtype_name(dtype));
    return engine->ops->cache_new(engine, dtype, ret_cache, err);
}

enum pt2_dtype pt2_cache_dtype(const struct pt2_cache *cache)
{
    return cache->dtype;
}

int pt2_cache_fork(const struct pt2_cache *cache, struct pt2_cache **ret_cache,
                   struct pt2_err *err)
{
    ASSERT(cache->magic == CACHE_MAGIC);
    return cache->engine->ops->cache_fork(cache, ret_cache, err);
}

static bool is_same_decoder(const struct pt2_decoder *a, const struct pt2_decoder *b)
{
    return a->batch_size == b->batch_size && a->seq_len == b->seq_len &&
           a->max_cache_len == b->max_cache_len && a->vocab_size == b->vocab_size &&
           a->logits_all_rows == b->logits_all_rows;
}

int pt2_cache_adopt(struct pt2_cache *cache, struct pt2_engine *engine,
                    struct pt2_err *err)
{
    const struct pt2_engine *old = cache->engine;

    ASSERT(cache->magic == CACHE_MAGIC && engine->magic == ENGINE_MAGIC);
    if (engine == old)
        return 0;
    if (engine->ops != old->ops || !is_same_decoder(&engine->decoder, &old->decoder) ||
        !layout_is_same(&engine->layout, &old->layout))
        return pt2_err_set(err, PT2_ERR_OTHER_PROGRAM,
                           "the cache is of a program with other buffers, or of another "
                           "kind of engine");
    return engine->ops->cache_adopt(cache, engine, err);
}

void pt2_cache_free(struct pt2_cache *cache)
{
    if (!cache)
        return;
    ASSERT(cache->magic == CACHE_MAGIC);
    cache->magic = 0;
    cache->engine->ops->cache_free(cache);
}

uint64_t pt2_cache_bytes(const struct pt2_engine *engine)
{
    return engine->layout.size;
}

uint64_t pt2_cache_bytes_as(const struct pt2_engine *engine, enum pt2_dtype dtype)
{
    return engine_layout(engine, dtype)->size;
}

uint64_t pt2_cache_cost(const struct pt2_engine *engine)
{
    return engine->ops->cache_cost(engine);
}

uint64_t pt2_cache_growth(const struct pt2_cache *cache, int64_t start, int64_t s)
{
    return cache->engine->ops->cache_growth(cache, start, s);
}

uint64_t pt2_engine_cache_bytes(const struct pt2_engine *engine)
{
    return engine->ops->cache_bytes(engine);
}

/* ---- buffers ---- */

size_t pt2_cache_n_buffers_as(const struct pt2_cache *cache, enum pt2_dtype dtype)
{
    return engine_layout(cache->engine, dtype)->n_buffers;
}

size_t pt2_cache_n_buffers(const struct pt2_cache *cache)
{
    return pt2_cache_n_buffers_as(cache, cache->dtype);
}

void pt2_cache_buffer_as(const struct pt2_cache *cache, enum pt2_dtype dtype, size_t i,
                         struct pt2_cache_buffer *ret_buffer)
{
    const struct layout *layout = engine_layout(cache->engine, dtype);
    const struct layout_buffer *b = &layout->buffers[i];

    ASSERT(i < layout->n_buffers);
    *ret_buffer = (struct pt2_cache_buffer){.fqn = b->fqn,
                                            .dtype = b->dtype,
                                            .n_dims = b->n_dims,
                                            .position_dim = b->position_dim};
    memcpy(ret_buffer->sizes, b->sizes, sizeof(b->sizes));
}

void pt2_cache_buffer(const struct pt2_cache *cache, size_t i,
                      struct pt2_cache_buffer *ret_buffer)
{
    pt2_cache_buffer_as(cache, cache->dtype, i, ret_buffer);
}

/* The rows of the buffer that a part has. */
static int64_t part_rows(const struct pt2_cache *cache, enum pt2_dtype dtype, size_t i,
                         int64_t first, int64_t n)
{
    struct pt2_cache_buffer buffer;

    pt2_cache_buffer_as(cache, dtype, i, &buffer);
    return buffer.position_dim < 0 ? n : pt2_cache_part_rows(&buffer, first, n);
}

void pt2_cache_read(const struct pt2_cache *cache, size_t i, int64_t first, int64_t n,
                    void *to)
{
    cache->engine->ops->cache_read(cache, i, first,
                                   part_rows(cache, cache->dtype, i, first, n), to);
}

int pt2_cache_write_as(struct pt2_cache *cache, enum pt2_dtype dtype, size_t i, int64_t first,
                       int64_t n, const void *from, struct pt2_err *err)
{
    return cache->engine->ops->cache_write(cache, dtype, i, first,
                                           part_rows(cache, dtype, i, first, n), from, err);
}

int pt2_cache_write(struct pt2_cache *cache, size_t i, int64_t first, int64_t n,
                    const void *from, struct pt2_err *err)
{
    return pt2_cache_write_as(cache, cache->dtype, i, first, n, from, err);
}

/* ---- images ---- */

int pt2_cache_put_away(const struct pt2_cache *cache, int64_t position,
                       pt2_image_pass *pass, void *context, struct pt2_err *err)
{
    ASSERT(cache->magic == CACHE_MAGIC);
    return cache->engine->ops->put_away(cache, position, pass, context, err);
}

static int count(void *context, void *data, size_t size, struct pt2_err *err)
{
    (void)data, (void)err;
    *(uint64_t *)context += size;
    return 0;
}

uint64_t pt2_cache_image_bytes(const struct pt2_cache *cache, int64_t position)
{
    uint64_t bytes = 0;

    (void)!pt2_cache_put_away(cache, position, count, &bytes, NULL); /* does not fail */
    return bytes;
}

int pt2_cache_take_back(struct pt2_cache *cache, pt2_image_pass *pass, void *context,
                        struct pt2_err *err)
{
    ASSERT(cache->magic == CACHE_MAGIC);
    return cache->engine->ops->take_back(cache, pass, context, err);
}

bool pt2_image_is_known(enum pt2_engine_kind kind, const uint8_t first[PT2_IMAGE_FIRST_BYTES])
{
    uint64_t magic;

    _Static_assert(sizeof(magic) == PT2_IMAGE_FIRST_BYTES, "what both engines begin with");
    memcpy(&magic, first, sizeof(magic));
    return magic == (kind == PT2_ENGINE_NATIVE ? NATIVE_IMAGE_MAGIC : ATEN_IMAGE_MAGIC);
}

uint64_t pt2_cache_image_cost(const struct pt2_engine *engine, uint64_t image_bytes)
{
    return engine->ops->image_cost(engine, image_bytes);
}

/* ---- undo ---- */

int pt2_undo_new(struct pt2_cache *cache, int64_t first, int64_t n,
                 struct pt2_undo **ret_undo, struct pt2_err *err)
{
    return cache->engine->ops->undo_new(cache, first, n, ret_undo, err);
}

void pt2_undo_apply(struct pt2_undo *undo)
{
    undo->cache->engine->ops->undo_apply(undo);
}

void pt2_undo_free(struct pt2_undo *undo)
{
    if (undo)
        undo->cache->engine->ops->undo_free(undo);
}
