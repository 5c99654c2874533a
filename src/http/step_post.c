/* POST /v1/sessions/{id}/step: run tokens, answer logits. */
#include "http/config.h"
#include "http/endpoints.h"
#include "http/reply.h"
#include "http/session_call.h"
#include "http/step_answer.h"

#include <inttypes.h>

struct step_context {
    struct step_body body;
    struct serve_facts facts;
    bool is_raw; /* the client wants the logits alone, as bytes */
};

static void context_free(void *extra)
{
    struct step_context *c = extra;

    step_body_done(&c->body);
    free(c);
}

/* ---- replies ---- */

static void reply_raw(struct session_call *sc, const struct step_context *c)
{
    size_t n =
        (size_t)(c->facts.batch_size * step_body_n_rows(&c->body) * c->facts.vocab_size);

    http_reply_header(sc->req, "X-Cache-Position", "%" PRId64 "-%" PRId64, sc->call.start,
                      sc->call.start + c->body.s - 1);
    http_reply_header(sc->req, "X-Session-Position", "%" PRId64, sc->call.position);
    if (!c->body.logits) {
        http_reply_empty(sc->req, 204);
        return;
    }
    http_reply_header(sc->req, "X-Tensor-Dtype", "float32");
    http_reply_header(sc->req, "X-Tensor-Shape", "%" PRId64 ",%" PRId64 ",%" PRId64,
                      c->facts.batch_size, step_body_n_rows(&c->body),
                      c->facts.vocab_size);
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "logits are answered as little-endian bytes, as they lie in memory"
#endif
    http_reply_bytes(sc->req, 200, "application/octet-stream",
                     (char *)TAKE(sc->call.logits), n * sizeof(float));
}

static void reply(struct session_call *sc)
{
    const struct step_context *c = sc->extra;
    /* num.h wants 1 KiB to spare */
    AUTO_BUF b = BUF_INIT(step_answer_bytes(&c->body, &c->facts, false) + 2048);
    size_t len;

    session_reply_timing(sc->req, &sc->call);
    if (c->is_raw) {
        reply_raw(sc, c);
        return;
    }
    step_answer_json(&b, &c->body, &c->facts, &sc->call);
    free(TAKE(sc->call.logits)); /* which the text has now */
    len = b.len;
    if (buf_failed(&b))
        http_reply_problem(sc->req, PT2_ERR_NOMEM, "no memory for the answer");
    else
        http_reply_bytes(sc->req, 200, "application/json", buf_take(&b), len);
}

/* ---- the request ---- */

static void check_raw(const struct step_context *c, struct json_problems *problems)
{
    if (!c->is_raw)
        return;
    if (c->body.top_k > 0)
        json_problem(
            problems, "/top_k",
            "is not answered as application/octet-stream, which holds the logits "
            "alone");
    if (c->body.logit_ids)
        json_problem(problems, "/logit_ids",
                     "are not answered as application/octet-stream, which holds all "
                     "logits or none");
}

/* -1: replied. */
static int read_body(struct http_request *req, struct step_context *c)
{
    struct json_problems problems = {0};
    struct pt2_err err = {0};
    struct json_obj o;

    json_obj_begin(&o, req->json, "", &problems);
    step_body_read(&c->body, &o, &c->facts);
    json_obj_end(&o);
    check_raw(c, &problems);
    if (json_problems_any(&problems)) {
        http_reply_problems(req, &problems);
        json_problems_done(&problems);
        return -1;
    }
    if (step_answer_check(&c->body, &c->facts, c->is_raw,
                          config_get_size(req->app->config, "sessions.max_answer_bytes"),
                          &err) == 0)
        return 0;
    http_reply_err(req, &err);
    return -1;
}

void step_post(struct http_request *req)
{
    struct session_call *sc;
    struct step_context *c;
    struct serve_facts facts;

    if (session_facts(req, &facts) < 0)
        return;
    sc = session_call_new(req, SERVE_STEP, reply);
    if (!sc)
        return;
    c = calloc(1, sizeof(*c));
    if (!c) {
        http_reply_problem(req, PT2_ERR_NOMEM, "no memory for a step");
        return;
    }
    sc->extra = c;
    sc->extra_free = context_free;
    c->facts = facts;
    c->is_raw = streq(req->accepts, "application/octet-stream");
    if (read_body(req, c) < 0)
        return;
    sc->answer_bytes = c->is_raw ? 0 : step_answer_bytes(&c->body, &c->facts, false);
    sc->call.step.input_ids = c->body.input_ids;
    sc->call.step.s = c->body.s;
    sc->call.step.start = c->body.start;
    sc->call.step.rows = step_body_rows(&c->body);
    session_call_submit(sc);
}
