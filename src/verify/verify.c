#include "verify/verify.h"

#include "base/log.h"

#include <inttypes.h>
#include <math.h>

/* Logits that one buffer holds: steps at once are cut into slices that fit. */
#define BUFFER_BYTES ((size_t)32 << 20)

/* An engine, and the caches of its two runs. */
struct side {
    enum pt2_engine_kind kind;
    enum verify_run runs[2]; /* one token at a time, all at once */
    struct pt2_engine *engine;
    struct pt2_cache *caches[2];
};

struct verifying {
    const struct verify_task *task;
    struct verify_result *result;
    struct side sides[2]; /* native first */
    struct pt2_decoder decoder;
    int64_t *ids;             /* (batch_size, n_tokens) */
    int64_t slice;            /* tokens */
    float *reference, *other; /* (batch_size, slice, vocab_size) each */
    int64_t done, total;      /* tokens of all runs */
    struct pt2_err *err;
};

/* Tokens that are run at one go, of n_tokens. */
struct span {
    int64_t start, s;
    int64_t first; /* row of the span from which on there are logits */
};

/* ---- names and numbers ---- */

const char *verify_run_name(enum verify_run run)
{
    static const char *const names[VERIFY_N_RUNS] = {"native", "aten", "native_at_once",
                                                     "aten_at_once"};

    return names[run];
}

static const char *run_text(enum verify_run run)
{
    static const char *const texts[VERIFY_N_RUNS] = {
        "native, a token at a time", "aten, a token at a time", "native, all at once",
        "aten, all at once"};

    return texts[run];
}

/* u is half the distance from 1 to the next number. */
struct verify_limits verify_limits(enum pt2_dtype dtype, int64_t n_layers)
{
    double u = dtype == PT2_BFLOAT16 ? 0x1p-8 : 0x1p-11;

    if (dtype != PT2_BFLOAT16 && dtype != PT2_FLOAT16)
        return (struct verify_limits){.largest = 1e-4, .rms = 2e-5};
    return (struct verify_limits){.largest = 40 * u,
                                  .rms = 2 * u * sqrt((double)MAX(n_layers, 8))};
}

/* Steele, Lea and Flood, Fast splittable pseudorandom number generators (2014): splitmix64,
 * with its published constants. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* Position by position, so that fewer tokens are the beginning of more. */
static void draw_ids(const struct verifying *v)
{
    uint64_t state = v->task->seed;

    for (int64_t i = 0; i < v->task->n_tokens; i++)
        for (int64_t b = 0; b < v->decoder.batch_size; b++)
            v->ids[b * v->task->n_tokens + i] =
                (int64_t)(next_random(&state) % (uint64_t)v->decoder.vocab_size);
}

/* ---- opening ---- */

static void leave_out(struct verifying *v, enum verify_run run, const char *reason)
{
    snprintf(v->result->runs[run].reason, sizeof(v->result->runs[run].reason), "%s",
             reason);
}

static int open_side(struct verifying *v, struct side *side)
{
    struct pt2_engine_options options = v->task->engine;
    struct pt2_err why = {0};

    options.kind = side->kind;
    if (pt2_engine_open(v->task->path, &options, &side->engine, &why) == 0) {
        v->decoder = *pt2_engine_decoder(side->engine);
        return 0;
    }
    if (why.code != PT2_ERR_PROGRAM_REFUSED && why.code != PT2_ERR_LIMIT)
        return pt2_err_set(v->err, why.code, "%s: %s", pt2_engine_kind_name(side->kind),
                           why.text);
    leave_out(v, side->runs[0], why.text);
    leave_out(v, side->runs[1], why.text);
    return 0;
}

static int open_sides(struct verifying *v)
{
    for (size_t i = 0; i < ARRAY_LEN(v->sides); i++)
        if (open_side(v, &v->sides[i]) < 0)
            return -1;
    if (!v->sides[0].engine && !v->sides[1].engine)
        return pt2_err_set(v->err, PT2_ERR_PROGRAM_REFUSED,
                           "no engine takes the program: native: %s; aten: %s",
                           v->result->runs[VERIFY_NATIVE].reason,
                           v->result->runs[VERIFY_ATEN].reason);
    if (v->task->n_tokens < 1 || v->task->n_tokens > v->decoder.max_cache_len)
        return pt2_err_set(v->err, PT2_ERR_INVALID,
                           "%" PRId64 " tokens to verify with, the cache has %" PRId64
                           " positions",
                           v->task->n_tokens, v->decoder.max_cache_len);
    v->result->reference = v->sides[0].engine ? VERIFY_NATIVE : VERIFY_ATEN;
    v->result->batch_size = v->decoder.batch_size;
    for (size_t i = 0; i < VERIFY_N_RUNS; i++)
        if (i != VERIFY_NATIVE_AT_ONCE) /* which is the same bit for bit */
            v->result->runs[i].limits =
                verify_limits(v->task->dtype, v->decoder.n_layers);
    return 0;
}

/* Would a run at once be another one than token by token? */
static const char *why_not_at_once(const struct verifying *v, const struct side *side)
{
    if (v->task->n_tokens == 1)
        return "one token is all there is";
    if (side->kind == PT2_ENGINE_ATEN && v->decoder.seq_len == 1)
        return "the program takes one token a call";
    return NULL;
}

static int make_caches(struct verifying *v, struct side *side)
{
    const char *reason = why_not_at_once(v, side);

    for (size_t i = 0; side->engine && i < ARRAY_LEN(side->caches); i++) {
        if (i == 1 && reason) {
            leave_out(v, side->runs[1], reason);
            continue;
        }
        if (pt2_cache_new(side->engine, &side->caches[i], v->err) < 0)
            return -1;
        v->result->runs[side->runs[i]].is_made = true;
        v->total += v->task->n_tokens;
    }
    return 0;
}

static int prepare(struct verifying *v)
{
    size_t batch, token_bytes, n;

    if (open_sides(v) < 0)
        return -1;
    batch = (size_t)v->decoder.batch_size;
    token_bytes = batch * (size_t)v->decoder.vocab_size * sizeof(float);
    n = MAX(MIN(BUFFER_BYTES / token_bytes, (size_t)v->task->n_tokens), (size_t)1);
    v->slice = (int64_t)n;
    v->ids = calloc(batch * (size_t)v->task->n_tokens, sizeof(*v->ids));
    v->reference = calloc(n, token_bytes);
    v->other = calloc(n, token_bytes);
    if (!v->ids || !v->reference || !v->other)
        return pt2_err_set(v->err, PT2_ERR_NOMEM, "logits of %zu bytes", n * token_bytes);
    draw_ids(v);
    for (size_t i = 0; i < ARRAY_LEN(v->sides); i++)
        if (make_caches(v, &v->sides[i]) < 0)
            return -1;
    return 0;
}

static void release(struct verifying *v)
{
    for (size_t i = 0; i < ARRAY_LEN(v->sides); i++) {
        struct side *side = &v->sides[i];

        pt2_cache_free(side->caches[0]);
        pt2_cache_free(side->caches[1]);
        if (side->engine)
            pt2_engine_free(side->engine);
    }
    free(v->ids);
    free(v->reference);
    free(v->other);
}

/* ---- running ---- */

/* One step of s tokens; the logits go to row `row` of the span's, and on. */
static int step(struct verifying *v, const struct side *side, size_t way, int64_t start,
                int64_t s, enum pt2_rows rows, int64_t row, float *logits)
{
    struct pt2_step asked = {.cache = side->caches[way],
                            .input_ids = v->ids + start,
                            .s = s,
                            .start = start,
                            .rows = rows,
                            .logits = logits + row * v->decoder.vocab_size,
                            .ids_stride = v->task->n_tokens,
                            .rows_stride = v->slice};

    pt2_engine_steps(side->engine, &asked, 1);
    if (asked.err.code)
        return pt2_err_set(v->err, asked.err.code, "%s, position %" PRId64 ": %s",
                           run_text(side->runs[way]), start, asked.err.text);
    v->done += s;
    if (v->task->progress)
        v->task->progress(v->task->ctx, v->done, v->total);
    return 0;
}

static int run_one_by_one(struct verifying *v, const struct side *side, struct span *span,
                          float *logits)
{
    span->first = 0;
    for (int64_t i = 0; i < span->s; i++)
        if (step(v, side, 0, span->start + i, 1, PT2_ROWS_LAST, i, logits) < 0)
            return -1;
    return 0;
}

/* A program that answers its last row alone is asked for no other, or it would have to be
 * run token by token. */
static int run_at_once(struct verifying *v, const struct side *side, struct span *span,
                       float *logits)
{
    bool all = v->decoder.logits_all_rows;

    span->first = all ? 0 : span->s - 1;
    return step(v, side, 1, span->start, span->s, all ? PT2_ROWS_ALL : PT2_ROWS_LAST,
                span->first, logits);
}

/* ---- comparing ---- */

static size_t row_at(const struct verifying *v, int64_t element, int64_t row)
{
    return (size_t)((element * v->slice + row) * v->decoder.vocab_size);
}

static int check_finite(const struct verifying *v, enum verify_run run,
                        const struct span *span, const float *logits)
{
    size_t n = (size_t)v->decoder.vocab_size, bad;

    for (int64_t b = 0; b < v->decoder.batch_size; b++)
        for (int64_t i = span->first; i < span->s; i++)
            if ((bad = logits_find_bad(logits + row_at(v, b, i), n)) < n)
                return pt2_err_set(
                    v->err, PT2_ERR_VERIFY_FAILED,
                    "%s, gives id %zu the logit %g at position %" PRId64
                    " of batch element %" PRId64,
                    run_text(run), bad, (double)logits[row_at(v, b, i) + bad],
                    span->start + i, b);
    return 0;
}

static int compare(const struct verifying *v, enum verify_run run,
                   const struct span *span)
{
    struct comparison *c = &v->result->runs[run].comparison;
    const struct verify_limits *limits = &v->result->runs[run].limits;

    for (int64_t b = 0; b < v->decoder.batch_size; b++)
        for (int64_t i = span->first; i < span->s; i++)
            comparison_add(c, v->reference + row_at(v, b, i), v->other + row_at(v, b, i),
                           (size_t)v->decoder.vocab_size, span->start + i, b);
    if (comparison_ratio(c) <= limits->largest && comparison_rms(c) <= limits->rms)
        return 0;
    return pt2_err_set(v->err, PT2_ERR_VERIFY_FAILED,
                       "%s, and %s, differ most at position %" PRId64
                       " of batch element %" PRId64
                       ": logits up to %g by %g, %.3g of that; in the mean %.3g. Rounding "
                       "in %s is at most %g and %g",
                       run_text(v->result->reference), run_text(run), c->position,
                       c->element, c->logit, c->difference, comparison_ratio(c),
                       comparison_rms(c), pt2_dtype_name(v->task->dtype), limits->largest,
                       limits->rms);
}

/* Run and compare, or be what the others are compared with. */
static int run_span(struct verifying *v, const struct side *side, size_t way,
                    struct span *span)
{
    enum verify_run run = side->runs[way];
    bool is_reference = run == v->result->reference;
    float *logits = is_reference ? v->reference : v->other;
    int r;

    if (!side->caches[way])
        return 0;
    r = way == 0 ? run_one_by_one(v, side, span, logits)
                 : run_at_once(v, side, span, logits);
    if (r < 0 || check_finite(v, run, span, logits) < 0)
        return -1;
    return is_reference ? 0 : compare(v, run, span);
}

static int run_all(struct verifying *v)
{
    for (int64_t at = 0; at < v->task->n_tokens; at += v->slice) {
        struct span span = {.start = at, .s = MIN(v->slice, v->task->n_tokens - at)};

        for (size_t way = 0; way < 2; way++)
            for (size_t i = 0; i < ARRAY_LEN(v->sides); i++)
                if (run_span(v, &v->sides[i], way, &span) < 0)
                    return -1;
    }
    return 0;
}

int verify_program(const struct verify_task *task, struct verify_result *ret_result,
                   struct pt2_err *err)
{
    struct verify_result result = {
        .n_tokens = task->n_tokens, .seed = task->seed, .dtype = task->dtype};
    struct verifying v = {
        .task = task,
        .result = &result,
        .sides = {{.kind = PT2_ENGINE_NATIVE,
                   .runs = {VERIFY_NATIVE, VERIFY_NATIVE_AT_ONCE}},
                  {.kind = PT2_ENGINE_ATEN, .runs = {VERIFY_ATEN, VERIFY_ATEN_AT_ONCE}}},
        .err = err};
    int r;

    r = prepare(&v);
    if (r == 0)
        r = run_all(&v);
    release(&v);
    if (r == 0)
        *ret_result = result;
    return r;
}
