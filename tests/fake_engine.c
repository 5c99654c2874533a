#include "fake_engine.h"

#include "base/log.h"
#include "base/util.h"

#include <poll.h>
#include <pthread.h>
#include <unistd.h>

struct fake fake;

struct pt2_engine {
    enum pt2_engine_kind kind;
    struct pt2_decoder decoder;
    atomic_bool is_busy;
    bool is_dead;
    int n_caches, stop_fd;
    int64_t n_held; /* positions, of all caches */
    char path[64];
};

struct pt2_cache {
    struct pt2_engine *engine;
    int64_t written; /* the buffer "cumulative_length_0" */
    int64_t held;    /* positions that it has memory for, where fake.grows */
    /* "key_cache_0": (batch, max_cache_len, 2); an id and its position plus 1 */
    int32_t keys[];
};

void fake_reset(void)
{
    ASSERT(fake.n_engines == 0 && fake.n_caches == 0);
    memset(&fake, 0, sizeof(fake));
    fake.batch_size = 1;
    fake.max_cache_len = 64;
    fake.vocab_size = 16;
    fake.seq_len = 1;
    fake.can_rewind = true;
    sem_init(&fake.began, 0, 0);
    sem_init(&fake.go, 0, 0);
}

static bool is_due(atomic_int *countdown)
{
    return *countdown > 0 && --*countdown == 0;
}

static void enter(struct pt2_engine *engine)
{
    ASSERT(!atomic_exchange(&engine->is_busy, true));
}

static void leave(struct pt2_engine *engine)
{
    atomic_store(&engine->is_busy, false);
}

int pt2_engine_open(const char *path, const struct pt2_engine_options *options,
                    struct pt2_engine **ret_engine, struct pt2_err *err)
{
    struct pt2_engine *engine;

    if (is_due(&fake.fail_open))
        return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED, "told to fail");
    if (fake.refusal[options->kind])
        return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED, "%s",
                           fake.refusal[options->kind]);
    if (options->kind == PT2_ENGINE_NATIVE && !fake.has_native)
        return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED, "there is no native engine");
    engine = calloc(1, sizeof(*engine));
    engine->kind =
        options->kind == PT2_ENGINE_NATIVE ? PT2_ENGINE_NATIVE : PT2_ENGINE_ATEN;
    snprintf(engine->path, sizeof(engine->path), "%s", path);
    engine->decoder = (struct pt2_decoder){.batch_size = fake.batch_size,
                                           .max_cache_len = fake.max_cache_len,
                                           .vocab_size = fake.vocab_size,
                                           .seq_len = fake.seq_len,
                                           .logits_all_rows = fake.logits_all_rows};
    engine->stop_fd = options->stop_fd;
    fake.n_engines++;
    fake.n_opened++;
    *ret_engine = engine;
    return 0;
}

void pt2_engine_free(struct pt2_engine *engine)
{
    ASSERT(engine->n_caches == 0);
    fake.n_engines--;
    free(engine);
}

const char *pt2_engine_warning(const struct pt2_engine *engine)
{
    (void)engine;
    return NULL;
}

enum pt2_engine_kind pt2_engine_kind(const struct pt2_engine *engine)
{
    return engine->kind;
}

const char *pt2_engine_kind_name(enum pt2_engine_kind kind)
{
    return kind == PT2_ENGINE_NATIVE ? "native" : "aten";
}

const struct pt2_decoder *pt2_engine_decoder(const struct pt2_engine *engine)
{
    return &engine->decoder;
}

bool pt2_engine_is_dead(struct pt2_engine *engine)
{
    return engine->is_dead;
}

bool pt2_engine_can_rewind(const struct pt2_engine *engine)
{
    return fake.can_rewind;
}

static size_t n_keys(const struct pt2_engine *engine)
{
    return (size_t)(engine->decoder.batch_size * engine->decoder.max_cache_len * 2);
}

uint64_t pt2_cache_bytes(const struct pt2_engine *engine)
{
    return sizeof(struct pt2_cache) + n_keys(engine) * sizeof(int32_t);
}

uint64_t pt2_cache_bytes_as(const struct pt2_engine *engine, enum pt2_dtype dtype)
{
    return pt2_cache_bytes(engine);
}

enum pt2_dtype pt2_cache_dtype(const struct pt2_cache *cache)
{
    return PT2_DTYPE_NONE;
}

int pt2_cache_new(struct pt2_engine *engine, struct pt2_cache **ret_cache,
                  struct pt2_err *err)
{
    return pt2_cache_new_as(engine, PT2_DTYPE_NONE, ret_cache, err);
}

int pt2_cache_new_as(struct pt2_engine *engine, enum pt2_dtype dtype,
                     struct pt2_cache **ret_cache, struct pt2_err *err)
{
    struct pt2_cache *cache;

    if (is_due(&fake.fail_new))
        return pt2_err_set(err, PT2_ERR_NOMEM, "told to fail");
    if (is_due(&fake.die_new)) {
        engine->is_dead = true;
        return pt2_err_set(err, PT2_ERR_ENGINE_DIED, "told to die");
    }
    enter(engine);
    cache = calloc(1, pt2_cache_bytes(engine));
    cache->engine = engine;
    engine->n_caches++;
    fake.n_caches++;
    leave(engine);
    *ret_cache = cache;
    return 0;
}

static void hold(struct pt2_cache *cache, int64_t n)
{
    if (!fake.grows || n <= cache->held)
        return;
    cache->engine->n_held += n - cache->held;
    cache->held = n;
}

int pt2_cache_fork(const struct pt2_cache *cache, struct pt2_cache **ret_cache,
                   struct pt2_err *err)
{
    struct pt2_cache *copy;

    if (pt2_cache_new(cache->engine, &copy, err) < 0)
        return -1;
    memcpy(copy, cache, pt2_cache_bytes(cache->engine));
    copy->held = 0;
    hold(copy, cache->held);
    *ret_cache = copy;
    return 0;
}

int pt2_cache_adopt(struct pt2_cache *cache, struct pt2_engine *engine,
                    struct pt2_err *err)
{
    ASSERT(cache->engine->is_dead && streq(cache->engine->path, engine->path));
    cache->engine->n_caches--;
    engine->n_caches++;
    cache->engine->n_held -= cache->held;
    engine->n_held += cache->held;
    cache->engine = engine;
    fake.n_adopted++;
    return 0;
}

void pt2_cache_free(struct pt2_cache *cache)
{
    if (!cache)
        return;
    enter(cache->engine);
    cache->engine->n_caches--;
    cache->engine->n_held -= cache->held;
    fake.n_caches--;
    leave(cache->engine);
    free(cache);
}

uint64_t pt2_cache_cost(const struct pt2_engine *engine)
{
    return fake.grows ? 64 : pt2_cache_bytes(engine);
}

uint64_t pt2_cache_growth(const struct pt2_cache *cache, int64_t start, int64_t s)
{
    return fake.grows ? (uint64_t)MAX(start + s - cache->held, 0) * 64 : 0;
}

uint64_t pt2_engine_cache_bytes(const struct pt2_engine *engine)
{
    return (uint64_t)engine->n_caches * pt2_cache_cost(engine) +
           (uint64_t)engine->n_held * 64;
}

int64_t pt2_cache_rewind_floor(const struct pt2_cache *cache, int64_t position)
{
    return fake.can_rewind ? 0 : position;
}

int64_t pt2_engine_slice(const struct pt2_engine *engine)
{
    int64_t seq_len = engine->decoder.seq_len;

    return fake.slice   ? fake.slice
           : seq_len > 0 ? (7 + seq_len) / seq_len * seq_len
                         : 64;
}

int64_t pt2_engine_max_rows(const struct pt2_engine *engine)
{
    return fake.max_rows;
}

size_t pt2_cache_n_buffers(const struct pt2_cache *cache)
{
    return 2;
}

void pt2_cache_buffer(const struct pt2_cache *cache, size_t i, struct pt2_cache_buffer *ret)
{
    const struct pt2_decoder *d = &cache->engine->decoder;

    if (i == 0)
        *ret = (struct pt2_cache_buffer){.fqn = "key_cache_0",
                                         .dtype = PT2_INT32,
                                         .n_dims = 3,
                                         .sizes = {d->batch_size, d->max_cache_len, 2},
                                         .position_dim = 1};
    else
        *ret = (struct pt2_cache_buffer){.fqn = "cumulative_length_0",
                                         .dtype = PT2_INT64,
                                         .position_dim = -1};
}

static void copy_part(struct pt2_cache *cache, size_t i, int64_t first, int64_t n,
                      char *packed, bool in)
{
    const struct pt2_decoder *d = &cache->engine->decoder;
    size_t len = (size_t)MAX(MIN(n, d->max_cache_len - first), 0) * 2 * sizeof(int32_t);

    if (i == 1) {
        memcpy(in ? (char *)&cache->written : packed,
               in ? packed : (char *)&cache->written, sizeof(int64_t));
        return;
    }
    for (int64_t b = 0; b < d->batch_size; b++, packed += len) {
        char *at = (char *)(cache->keys + (b * d->max_cache_len + first) * 2);

        memcpy(in ? at : packed, in ? packed : at, len);
    }
}

size_t pt2_cache_n_buffers_as(const struct pt2_cache *cache, enum pt2_dtype dtype)
{
    return dtype == PT2_DTYPE_NONE ? pt2_cache_n_buffers(cache) : 0;
}

void pt2_cache_buffer_as(const struct pt2_cache *cache, enum pt2_dtype dtype, size_t i,
                         struct pt2_cache_buffer *ret)
{
    pt2_cache_buffer(cache, i, ret);
}

int pt2_cache_write_as(struct pt2_cache *cache, enum pt2_dtype dtype, size_t i, int64_t first,
                       int64_t n, const void *from, struct pt2_err *err)
{
    return pt2_cache_write(cache, i, first, n, from, err);
}

void pt2_cache_read(const struct pt2_cache *cache, size_t i, int64_t first, int64_t n,
                    void *to)
{
    copy_part((struct pt2_cache *)cache, i, first, n, to, false);
}

int pt2_cache_write(struct pt2_cache *cache, size_t i, int64_t first, int64_t n,
                    const void *from, struct pt2_err *err)
{
    if (is_due(&fake.fail_write))
        return pt2_err_set(err, PT2_ERR_NOMEM, "told to fail");
    if (i == 0)
        hold(cache, first + n);
    copy_part(cache, i, first, n, (char *)from, true);
    return 0;
}

/* ---- images: the counter, how many positions, the keys of these ---- */

struct fake_image {
    int64_t written, position;
};

static int pass_keys(const struct pt2_cache *cache, int64_t position, pt2_image_pass *pass,
                     void *context, struct pt2_err *err)
{
    const struct pt2_decoder *d = &cache->engine->decoder;

    for (int64_t b = 0; b < d->batch_size; b++)
        if (pass(context, (int32_t *)cache->keys + b * d->max_cache_len * 2,
                 (size_t)position * 2 * sizeof(int32_t), err) < 0)
            return -1;
    return 0;
}

int pt2_cache_put_away(const struct pt2_cache *cache, int64_t position, pt2_image_pass *pass,
                       void *context, struct pt2_err *err)
{
    struct fake_image image = {cache->written, position};
    int ret;

    enter(cache->engine);
    ret = pass(context, &image, sizeof(image), err);
    usleep((useconds_t)fake.image_us);
    if (ret == 0)
        ret = pass_keys(cache, position, pass, context, err);
    leave(cache->engine);
    return ret;
}

uint64_t pt2_cache_image_bytes(const struct pt2_cache *cache, int64_t position)
{
    const struct pt2_decoder *d = &cache->engine->decoder;

    return sizeof(struct fake_image) +
           (uint64_t)(d->batch_size * position * 2) * sizeof(int32_t);
}

int pt2_cache_take_back(struct pt2_cache *cache, pt2_image_pass *pass, void *context,
                        struct pt2_err *err)
{
    struct fake_image image;
    int ret;

    if (is_due(&fake.fail_take_back))
        return pt2_err_set(err, PT2_ERR_NOMEM, "told to fail");
    enter(cache->engine);
    ret = pass(context, &image, sizeof(image), err);
    if (ret == 0 && (image.position < 0 || image.position > fake.max_cache_len))
        ret = pt2_err_set(err, PT2_ERR_INVALID, "it is no image");
    if (ret == 0) {
        cache->written = image.written;
        hold(cache, image.position);
        ret = pass_keys(cache, image.position, pass, context, err);
    }
    leave(cache->engine);
    return ret;
}

uint64_t pt2_cache_image_cost(const struct pt2_engine *engine, uint64_t image_bytes)
{
    return pt2_cache_cost(engine) + (fake.grows ? image_bytes * 8 : 0);
}

struct pt2_undo {
    struct pt2_cache *cache, *saved;
};

int pt2_undo_new(struct pt2_cache *cache, int64_t first, int64_t n,
                 struct pt2_undo **ret_undo, struct pt2_err *err)
{
    struct pt2_undo *undo = malloc(sizeof(*undo));
    size_t bytes = pt2_cache_bytes(cache->engine);

    ASSERT(first >= 0 && n >= 0);
    fake.n_undos++;
    *undo = (struct pt2_undo){cache, malloc(bytes)};
    memcpy(undo->saved, cache, bytes);
    *ret_undo = undo;
    return 0;
}

void pt2_undo_apply(struct pt2_undo *undo)
{
    struct pt2_engine *engine = undo->cache->engine;
    int64_t held = undo->cache->held;

    memcpy(undo->cache, undo->saved, pt2_cache_bytes(engine));
    undo->cache->engine = engine;
    undo->cache->held = held;
}

void pt2_undo_free(struct pt2_undo *undo)
{
    if (!undo)
        return;
    fake.n_undos--;
    free(undo->saved);
    free(undo);
}

/* One row's logits, of all that it sees. */
static void logits_of(const int32_t *keys, int64_t n, int64_t vocab, float *logits)
{
    uint32_t hash = 2166136261u;

    for (int64_t i = 0; i < 2 * n; i++)
        hash = (hash ^ (uint32_t)keys[i]) * 16777619u;
    for (int64_t v = 0; v < vocab; v++)
        logits[v] =
            (float)(((hash >> 3) ^ (uint32_t)(v + 1) * 2654435761u) % 20011u) / 1000.0f -
            10.0f;
}

void fake_expect(const int64_t *ids, int64_t n, float *logits)
{
    int32_t keys[2048];

    for (int64_t i = 0; i < n; i++) {
        keys[2 * i] = (int32_t)ids[i];
        keys[2 * i + 1] = (int32_t)i + 1;
    }
    logits_of(keys, n, fake.vocab_size, logits);
}

/* Of the step's row i. */
static void spoil(const struct pt2_step *step, int64_t i, float *logits)
{
    if (fake.wrong.kind == step->cache->engine->kind &&
        fake.wrong.at_once == (step->s > 1) && fake.wrong.position == step->start + i)
        logits[1] += fake.wrong.by;
}

static void run(const struct pt2_step *step)
{
    struct pt2_cache *cache = step->cache;
    const struct pt2_decoder *d = &cache->engine->decoder;
    int64_t s = step->s, start = step->start;

    hold(cache, start + s);
    cache->written = start + s;
    for (int64_t b = 0; b < d->batch_size; b++) {
        int32_t *keys = cache->keys + b * d->max_cache_len * 2;
        float *logits = step->logits + b * step->rows_stride * d->vocab_size;

        for (int64_t i = 0; i < start; i++)
            ASSERT(keys[2 * i + 1] == i + 1); /* was written */
        for (int64_t i = 0; i < s; i++) {
            keys[2 * (start + i)] = (int32_t)step->input_ids[b * step->ids_stride + i];
            keys[2 * (start + i) + 1] = (int32_t)(start + i) + 1;
            if (step->rows != PT2_ROWS_ALL)
                continue;
            logits_of(keys, start + i + 1, d->vocab_size, logits + i * d->vocab_size);
            spoil(step, i, logits + i * d->vocab_size);
        }
        if (step->rows == PT2_ROWS_LAST) {
            logits_of(keys, start + s, d->vocab_size, logits);
            spoil(step, s - 1, logits);
        }
    }
}

/* Wait at the gate; false: the engine was told to stop. */
static bool may_go(struct pt2_engine *engine)
{
    struct pollfd p = {.fd = engine->stop_fd, .events = POLLIN};

    sem_post(&fake.began);
    while (sem_trywait(&fake.go) != 0)
        if (poll(&p, 1, 2) > 0)
            return false;
    return true;
}

/* A test that begins its log anew while programs step has two of them write the same place. */
static void log_step(const struct pt2_engine *engine, const struct pt2_step *step, size_t n)
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    int at;

    pthread_mutex_lock(&mutex);
    at = atomic_fetch_add(&fake.n_log, 1);
    ASSERT(at < FAKE_LOG && step->cache->engine == engine && !engine->is_dead);
    fake.log_id[at] = step->input_ids[0];
    fake.log_s[at] = step->s;
    fake.log_together[at] = (int)n;
    pthread_mutex_unlock(&mutex);
}

static void one_step(struct pt2_engine *engine, struct pt2_step *step)
{
    if (is_due(&fake.fail_step)) {
        pt2_err_set(&step->err, PT2_ERR_PROGRAM_FAILED, "told to fail");
    } else if (is_due(&fake.die_step)) {
        engine->is_dead = true;
        pt2_err_set(&step->err, PT2_ERR_ENGINE_DIED, "told to die");
    } else if (is_due(&fake.cut_step)) {
        engine->is_dead = true;
        run(step);
        for (int64_t i = 2 * step->start; i < 2 * (step->start + step->s); i += 2)
            step->cache->keys[i] ^= 0x55;
        pt2_err_set(&step->err, PT2_ERR_PROGRAM_DAMAGED, "told to be cut");
    } else {
        run(step);
    }
}

void pt2_engine_steps(struct pt2_engine *engine, struct pt2_step *steps, size_t n)
{
    int64_t n_rows = 0;

    for (size_t i = 0; i < n; i++)
        n_rows += steps[i].s * engine->decoder.batch_size;
    ASSERT(n == 1 || n_rows <= fake.max_rows);
    enter(engine);
    for (size_t i = 0; i < n; i++)
        log_step(engine, &steps[i], n);
    if (fake.gated && !may_go(engine)) {
        engine->is_dead = true;
        for (size_t i = 0; i < n; i++)
            pt2_err_set(&steps[i].err, PT2_ERR_ENGINE_DIED, "told to stop");
    } else {
        usleep((useconds_t)fake.run_us);
        for (size_t i = 0; i < n; i++)
            one_step(engine, &steps[i]);
    }
    leave(engine);
}
