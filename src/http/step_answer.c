#include "http/step_answer.h"

#include "base/num.h"
#include "serve/rank.h"

#include <inttypes.h>

/* ---- how large ---- */

#define INT_CHARS 20 /* of an int64_t */

/* Of one row of the results, at most, brackets and commas included. */
static uint64_t row_bytes(const struct step_body *body, const struct serve_facts *facts,
                          bool is_raw)
{
    uint64_t n = 16; /* brackets */

    if (is_raw)
        return body->logits ? (uint64_t)facts->vocab_size * sizeof(float) : 0;
    if (body->logits)
        n += (uint64_t)facts->vocab_size * (NUM_FLOAT_CHARS + 1);
    n += (uint64_t)body->top_k * (NUM_DOUBLE_CHARS + 1 + INT_CHARS + 1);
    n += (uint64_t)body->n_logit_ids * (NUM_FLOAT_CHARS + 1);
    return n;
}

/* Of an answer to a step of s tokens. */
static uint64_t bytes_for(const struct step_body *body, const struct serve_facts *facts,
                          bool is_raw, int64_t s)
{
    uint64_t rows = (uint64_t)(body->all_rows ? s : 1) * (uint64_t)facts->batch_size,
             bytes = row_bytes(body, facts, is_raw);

    if (is_raw)
        return rows * bytes;
    return 256 + (uint64_t)s * (INT_CHARS + 1) + rows * bytes +
           (uint64_t)facts->batch_size * 12;
}

uint64_t step_answer_bytes(const struct step_body *body, const struct serve_facts *facts,
                           bool is_raw)
{
    return bytes_for(body, facts, is_raw, body->s);
}

int step_answer_check(const struct step_body *body, const struct serve_facts *facts,
                      bool is_raw, uint64_t max_bytes, struct pt2_err *err)
{
    uint64_t bytes = step_answer_bytes(body, facts, is_raw), first, second;

    if (bytes <= max_bytes)
        return 0;
    first = bytes_for(body, facts, is_raw, 1);
    second = bytes_for(body, facts, is_raw, 2);
    if (first > max_bytes)
        return pt2_err_set(err, PT2_ERR_ANSWER_TOO_LARGE,
                           "the answer may take %" PRIu64 " bytes, more than %" PRIu64
                           ", and even one token's %" PRIu64,
                           bytes, max_bytes, first);
    return pt2_err_set(err, PT2_ERR_ANSWER_TOO_LARGE,
                       "the answer may take %" PRIu64 " bytes, more than %" PRIu64
                       ": take at most %" PRIu64 " tokens (s) a step",
                       bytes, max_bytes, 1 + (max_bytes - first) / (second - first));
}

/* ---- the text ---- */

/* The rows of all batches, and what is written of them. */
struct rows {
    struct buf *to;
    const struct step_body *body;
    int64_t n_batches, n_rows, vocab;
    const float *logits;  /* (n_batches, n_rows, vocab) */
    int64_t *top_ids;     /* (n_batches, n_rows, top_k) */
    double *top_logprobs; /* likewise */
};

static void put_logits(const struct rows *r, int64_t row)
{
    num_add_floats(r->to, r->logits + row * r->vocab, (size_t)r->vocab);
}

static void put_selected(const struct rows *r, int64_t row)
{
    for (size_t i = 0; i < r->body->n_logit_ids; i++) {
        if (i > 0)
            buf_str(r->to, ",");
        num_add_floats(r->to, &r->logits[row * r->vocab + r->body->logit_ids[i]], 1);
    }
}

static void put_top_ids(const struct rows *r, int64_t row)
{
    for (int64_t i = 0; i < r->body->top_k; i++)
        buf_printf(r->to, "%s%" PRId64, i ? "," : "",
                   r->top_ids[row * r->body->top_k + i]);
}

static void put_top_logprobs(const struct rows *r, int64_t row)
{
    num_add_doubles(r->to, r->top_logprobs + row * r->body->top_k,
                    (size_t)r->body->top_k);
}

/* (batch, rows, …): the brackets, and put for each row. */
static void put_all(const struct rows *r, void (*put)(const struct rows *r, int64_t row))
{
    buf_str(r->to, "[");
    for (int64_t b = 0; b < r->n_batches; b++) {
        buf_str(r->to, b ? ",[" : "[");
        for (int64_t i = 0; i < r->n_rows; i++) {
            buf_str(r->to, i ? ",[" : "[");
            put(r, b * r->n_rows + i);
            buf_str(r->to, "]");
        }
        buf_str(r->to, "]");
    }
    buf_str(r->to, "]");
}

static void put_top(struct rows *r)
{
    size_t k = (size_t)r->body->top_k, n = (size_t)(r->n_batches * r->n_rows);
    AUTO_PTR int64_t *ids = calloc(n * k, sizeof(*ids));
    AUTO_PTR double *logprobs = calloc(n * k, sizeof(*logprobs));

    if (!ids || !logprobs) {
        r->to->failed = true;
        return;
    }
    for (size_t i = 0; i < n; i++)
        rank_top(r->logits + i * (size_t)r->vocab, (size_t)r->vocab, k, ids + i * k,
                 logprobs + i * k);
    r->top_ids = ids;
    r->top_logprobs = logprobs;
    buf_str(r->to, "{\"ids\":");
    put_all(r, put_top_ids);
    buf_str(r->to, ",\"logprobs\":");
    put_all(r, put_top_logprobs);
    buf_str(r->to, "}");
}

void step_answer_json(struct buf *to, const struct step_body *body,
                      const struct serve_facts *facts, const struct serve_call *call)
{
    struct rows r = {.to = to,
                     .body = body,
                     .n_batches = facts->batch_size,
                     .n_rows = step_body_n_rows(body),
                     .vocab = facts->vocab_size,
                     .logits = call->logits};

    buf_str(to, "{\"cache_position\":[");
    for (int64_t i = 0; i < body->s; i++)
        buf_printf(to, "%s%" PRId64, i ? "," : "", call->start + i);
    buf_printf(to, "],\"position\":%" PRId64 ",\"logits\":", call->position);
    if (body->logits)
        put_all(&r, put_logits);
    else
        buf_str(to, "null");
    buf_str(to, ",\"top\":");
    if (body->top_k > 0)
        put_top(&r);
    else
        buf_str(to, "null");
    buf_str(to, ",\"selected\":");
    if (body->logit_ids)
        put_all(&r, put_selected);
    else
        buf_str(to, "null");
    buf_str(to, "}");
}
