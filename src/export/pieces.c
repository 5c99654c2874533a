#include "export/pieces.h"

#include "base/cores.h"
#include "base/log.h"
#include "export/convert.h"
#include "export/quantize.h"

#include <errno.h>
#include <pthread.h>
#include <zlib.h>

#define MAX_THREADS 8
#define STACK_BYTES ((size_t)256 << 10)

struct slot {
    struct piece piece;
    uint8_t *from, *to; /* (PIECE_BYTES) each */
    const uint8_t *data; /* one of them */
    uint32_t crc32;
    struct pt2_err err;
    bool is_ready, failed;
};

struct pieces {
    const struct pt2_checkpoint *checkpoint;
    struct pt2_writer *writer;
    pieces_written *written;
    void *ctx;
    uint8_t *memory;
    struct slot slots[MAX_THREADS + 2];
    size_t n_slots;
    uint64_t n_put, n_written; /* n_put is read under the lock */

    pthread_t threads[MAX_THREADS];
    unsigned n_threads;
    bool has_sync;
    pthread_mutex_t lock; /* guards what follows, and each slot's is_ready */
    pthread_cond_t put, ready;
    uint64_t n_taken;
    bool stop;
};

/* What is written of it. */
static size_t bytes_of(const struct piece *piece)
{
    return (size_t)weight_part_bytes(&piece->scheme, piece->part, piece->dtype, piece->n);
}

/* ---- threads ---- */

/* s.data in that dtype; it and the other buffer change places. */
static void convert(struct slot *s, enum pt2_dtype from, enum pt2_dtype to)
{
    uint8_t *other = s->data == s->from ? s->to : s->from;

    if (from == to)
        return;
    convert_elements(from, s->data, to, other, s->piece.n);
    s->data = other;
}

/* s.data are the elements as float32, rounded to the dtype of the weight. */
static void quantize(struct slot *s)
{
    const struct piece *piece = &s->piece;
    size_t group = (size_t)piece->scheme.group, n_groups = piece->n / group;
    const float *x = (const float *)(const void *)s->data;
    uint8_t *other = s->data == s->from ? s->to : s->from;

    if (piece->part == WEIGHT_SCALE)
        quantize_scales(piece->dtype, piece->scheme.bits, x, n_groups, group, other);
    else
        quantize_values(piece->dtype, piece->scheme.bits, x, n_groups, group,
                        (int8_t *)other);
    s->data = other;
}

/* Groups as the checkpoint has them. */
static int read_stored(const struct pieces *p, struct slot *s)
{
    const struct piece *piece = &s->piece;
    uint64_t first = piece->first / PT2_CHECKPOINT_GROUP;
    size_t n = piece->n / PT2_CHECKPOINT_GROUP;
    bool is_scale = piece->part == WEIGHT_SCALE;

    s->data = s->to;
    if (pt2_checkpoint_read_groups(p->checkpoint, piece->source, first, n,
                                   is_scale ? NULL : (int8_t *)s->to,
                                   is_scale ? (float *)(void *)s->to : NULL, &s->err) < 0)
        return -1;
    if (is_scale && piece->dtype != PT2_FLOAT32) {
        convert_elements(PT2_FLOAT32, s->to, piece->dtype, s->from, n);
        s->data = s->from;
    }
    return 0;
}

/* Elements of the checkpoint in the dtype and scheme of the weight. */
static int read_elements(const struct pieces *p, struct slot *s)
{
    const struct piece *piece = &s->piece;
    enum pt2_dtype from = piece->source->dtype;
    size_t size = pt2_dtype_size(from);

    if (pt2_checkpoint_read(p->checkpoint, piece->source, piece->first * size, s->from,
                            piece->n * size, &s->err) < 0)
        return -1;
    s->data = s->from;
    convert(s, from, piece->dtype);
    if (piece->scheme.bits > 0) {
        convert(s, piece->dtype, PT2_FLOAT32);
        quantize(s);
    }
    return 0;
}

static int prepare(const struct pieces *p, struct slot *s)
{
    const struct piece *piece = &s->piece;

    if (piece->part == WEIGHT_ZERO_POINT)
        s->data = memset(s->to, 0, bytes_of(piece));
    else if ((piece->scheme.is_stored ? read_stored : read_elements)(p, s) < 0)
        return -1;
    s->crc32 = (uint32_t)crc32_z(0, s->data, bytes_of(piece));
    return 0;
}

static void *prepare_all(void *arg)
{
    struct pieces *p = arg;
    struct slot *s;

    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (p->n_taken == p->n_put && !p->stop)
            pthread_cond_wait(&p->put, &p->lock);
        if (p->stop)
            break;
        s = &p->slots[p->n_taken++ % p->n_slots];
        pthread_mutex_unlock(&p->lock);
        s->failed = prepare(p, s) < 0;
        pthread_mutex_lock(&p->lock);
        s->is_ready = true;
        pthread_cond_signal(&p->ready);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* As many as can be had, but one. */
static int start_threads(struct pieces *p, unsigned n, struct pt2_err *err)
{
    pthread_attr_t attr;
    int e = pthread_attr_init(&attr);

    if (e == 0) {
        pthread_attr_setstacksize(&attr, STACK_BYTES);
        while (p->n_threads < n && e == 0) {
            e = pthread_create(&p->threads[p->n_threads], &attr, prepare_all, p);
            p->n_threads += e == 0;
        }
        pthread_attr_destroy(&attr);
    }
    if (p->n_threads > 0)
        return 0;
    errno = e;
    return pt2_err_errno(err, PT2_ERR_INTERNAL, "no thread for the weights");
}

/* ---- making ---- */

void pieces_free(struct pieces *p)
{
    if (!p)
        return;
    if (p->has_sync) {
        pthread_mutex_lock(&p->lock);
        p->stop = true;
        pthread_cond_broadcast(&p->put);
        pthread_mutex_unlock(&p->lock);
        for (unsigned i = 0; i < p->n_threads; i++)
            pthread_join(p->threads[i], NULL);
        pthread_cond_destroy(&p->ready);
        pthread_cond_destroy(&p->put);
        pthread_mutex_destroy(&p->lock);
    }
    free(p->memory);
    free(p);
}

int pieces_new(const struct pt2_checkpoint *checkpoint, struct pt2_writer *writer,
               pieces_written *written, void *ctx, struct pieces **ret_pieces,
               struct pt2_err *err)
{
    unsigned n_threads = MIN(cores_count(), (unsigned)MAX_THREADS);
    AUTO(pieces) p = calloc(1, sizeof(*p));

    if (!p)
        return pt2_err_set(err, PT2_ERR_NOMEM, "pieces of weights");
    p->checkpoint = checkpoint;
    p->writer = writer;
    p->written = written;
    p->ctx = ctx;
    p->n_slots = n_threads + 2; /* one is written, one waits for that */
    p->memory = malloc(p->n_slots * 2 * PIECE_BYTES);
    if (!p->memory)
        return pt2_err_set(err, PT2_ERR_NOMEM, "pieces of weights");
    for (size_t i = 0; i < p->n_slots; i++) {
        p->slots[i].from = p->memory + 2 * i * PIECE_BYTES;
        p->slots[i].to = p->slots[i].from + PIECE_BYTES;
    }
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->put, NULL);
    pthread_cond_init(&p->ready, NULL);
    p->has_sync = true;
    if (start_threads(p, n_threads, err) < 0)
        return -1;
    *ret_pieces = TAKE(p);
    return 0;
}

size_t pieces_max(const struct piece *piece)
{
    size_t size = MAX(pt2_dtype_size(piece->source->dtype), pt2_dtype_size(piece->dtype));
    size_t group = (size_t)piece->scheme.group;

    if (piece->scheme.bits == 0)
        return PIECE_BYTES / size;
    return PIECE_BYTES / MAX(size, sizeof(float)) / group * group;
}

/* ---- writing ---- */

static int write_piece(struct pieces *p, const struct slot *s, struct pt2_err *err)
{
    const struct piece *piece = &s->piece;
    size_t bytes = bytes_of(piece);

    if (s->failed)
        return pt2_err_set(err, s->err.code, "%s", s->err.text);
    if (piece->is_first &&
        pt2_writer_begin_tensor(p->writer, PT2_TABLE_WEIGHTS, piece->record,
                                piece->record_bytes, err) < 0)
        return -1;
    if (pt2_writer_add_summed(p->writer, s->data, bytes, s->crc32, err) < 0)
        return -1;
    if (piece->is_last && pt2_writer_end(p->writer, err) < 0)
        return -1;
    p->written(p->ctx, bytes);
    return 0;
}

/* The oldest, when it is ready. */
static int write_next(struct pieces *p, struct pt2_err *err)
{
    struct slot *s = &p->slots[p->n_written % p->n_slots];

    pthread_mutex_lock(&p->lock);
    while (!s->is_ready)
        pthread_cond_wait(&p->ready, &p->lock);
    pthread_mutex_unlock(&p->lock);
    p->n_written++;
    return write_piece(p, s, err);
}

int pieces_put(struct pieces *p, const struct piece *piece, struct pt2_err *err)
{
    struct slot *s;

    ASSERT(piece->n <= pieces_max(piece));
    if (p->n_put - p->n_written == p->n_slots && write_next(p, err) < 0)
        return -1;
    s = &p->slots[p->n_put % p->n_slots];
    s->piece = *piece;
    s->is_ready = s->failed = false;
    pt2_err_clear(&s->err);
    pthread_mutex_lock(&p->lock);
    p->n_put++;
    pthread_cond_signal(&p->put);
    pthread_mutex_unlock(&p->lock);
    return 0;
}

int pieces_finish(struct pieces *p, struct pt2_err *err)
{
    while (p->n_written < p->n_put)
        if (write_next(p, err) < 0)
            return -1;
    return 0;
}
