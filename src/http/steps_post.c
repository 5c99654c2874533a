/* POST /v1/steps: steps of several sessions in one request, answered together.
 *
 * Each is checked and run for itself; what one of them gets wrong is its own result. Each
 * result's text is made by the thread that ran the step; the last one replies. */
#include "http/config.h"
#include "base/json.h"
#include "http/endpoints.h"
#include "http/reply.h"
#include "http/session_call.h"
#include "http/step_answer.h"
#include "serve/ledger.h"

#include <stdatomic.h>

#define MAX_STEPS 256

struct item {
    struct serve_call call;
    struct steps *steps;
    const char *session; /* NULL: not even that was said */
    struct step_body body;
    struct serve_facts facts;
    bool is_good;     /* to be run */
    bool is_reserved; /* memory for its result */
    char *text;       /* the result; NULL: out of memory */
};

struct steps {
    struct http_request *req;
    atomic_size_t n_left; /* items that have no result yet, and one for the handler */
    size_t n;
    struct item items[];
};

static void context_free(void *context)
{
    struct steps *steps = context;

    for (size_t i = 0; i < steps->n; i++) {
        serve_call_done(&steps->items[i].call);
        step_body_done(&steps->items[i].body);
        free(steps->items[i].text);
    }
    free(steps);
}

/* ---- replies ---- */

static void reply(struct steps *steps)
{
    struct http_request *req = steps->req;
    AUTO_BUF b = BUF_INIT(SIZE_MAX / 2); /* the items' sizes were checked */
    size_t len;

    buf_str(&b, "{\"results\":[");
    for (size_t i = 0; i < steps->n; i++) {
        if (i > 0)
            buf_str(&b, ",");
        if (steps->items[i].text)
            buf_str(&b, steps->items[i].text);
        else
            b.failed = true;
        free(TAKE(steps->items[i].text));
    }
    buf_str(&b, "]}");
    len = b.len;
    if (buf_failed(&b))
        http_reply_problem(req, PT2_ERR_NOMEM, "no memory for the answer");
    else
        http_reply_bytes(req, 200, "application/json", buf_take(&b), len);
}

static void item_is_through(struct steps *steps)
{
    struct http_request *req = steps->req;

    if (atomic_fetch_sub(&steps->n_left, 1) > 1)
        return;
    reply(steps);
    http_request_unref(req); /* steps may go with it */
}

/* Results of a step: problem (taken) is NULL where it could not be made. */
static void set_problem(struct item *item, json_t *problem)
{
    json_t *status = json_incref(json_object_get(problem, "status"));
    json_auto_t *result = json_pack("{s:o, s:o}", "status", status, "body", problem);

    item->text = result ? json_to_text(result, JSON_COMPACT) : NULL;
}

static void set_err(struct item *item)
{
    json_t *problem = http_problem_json(&item->call.err);
    json_auto_t *extra = session_problem_extra(&item->call);

    if (problem && extra)
        json_object_update(problem, extra);
    set_problem(item, problem);
}

static void step_done(struct serve_call *call)
{
    struct item *item = call->context;
    AUTO_BUF b = BUF_INIT(step_answer_bytes(&item->body, &item->facts, false) + 2048);

    if (call->err.code == PT2_ERR_NONE) {
        buf_str(&b, "{\"status\":200,\"body\":");
        step_answer_json(&b, &item->body, &item->facts, call);
        buf_str(&b, "}");
        item->text = buf_failed(&b) ? NULL : buf_take(&b);
        free(TAKE(call->logits));
    } else {
        set_err(item);
    }
    item_is_through(item->steps);
}

static int reserve(struct serve_call *call, uint64_t bytes, struct pt2_err *err)
{
    struct item *item = call->context;

    bytes += step_answer_bytes(&item->body, &item->facts, false);
    if (!item->is_reserved && http_reserve_answer(item->steps->req, bytes, err) < 0)
        return -1;
    item->is_reserved = true;
    return 0;
}

static void cancelled(struct http_request *req, enum http_cancel why)
{
    struct steps *steps = req->context;

    for (size_t i = 0; i < steps->n; i++) {
        if (!steps->items[i].is_good)
            continue;
        if (why == HTTP_SHUTDOWN)
            serve_cancel(req->app->serve, &steps->items[i].call, PT2_ERR_DRAINING,
                         "the daemon is stopping");
        else if (why == HTTP_DEADLINE)
            session_call_late(req, &steps->items[i].call);
        else
            serve_cancel(req->app->serve, &steps->items[i].call, PT2_ERR_CANCELLED,
                         "the client closed its connection before the step had begun");
    }
}

/* ---- the request ---- */

/* What became of a session that is not there, or its facts. */
static bool find_session(struct item *item)
{
    struct http_request *req = item->steps->req;
    const char *who = http_who(req);
    struct pt2_err not_found = {0};

    if (serve_facts(req->app->serve, item->session, who, &item->facts, &not_found) == 0)
        return true;
    ledger_fate(req->app->store, item->session, who, &item->call.err);
    set_err(item);
    return false;
}

static void read_item(struct item *item, const json_t *json, size_t i)
{
    struct json_problems problems = {0};
    char pointer[32];
    struct json_obj o;

    snprintf(pointer, sizeof(pointer), "/steps/%zu", i);
    json_obj_begin(&o, json, pointer, &problems);
    json_require(&o, "session");
    if (json_get_string(&o, "session", SERVE_ID_SIZE - 1, &item->session)) {
        if (!find_session(item))
            return;
        step_body_read(&item->body, &o, &item->facts);
        json_obj_end(&o);
    }
    if (json_problems_any(&problems))
        set_problem(item, http_problems_json(&problems));
    else
        item->is_good = true;
    json_problems_done(&problems);
}

/* One session at most once. */
static void check_sessions(const struct steps *steps, struct json_problems *problems)
{
    char pointer[48];

    for (size_t i = 0; i < steps->n; i++) {
        for (size_t j = 0; j < i; j++) {
            if (!steps->items[i].session || !steps->items[j].session ||
                !streq(steps->items[i].session, steps->items[j].session))
                continue;
            snprintf(pointer, sizeof(pointer), "/steps/%zu/session", i);
            json_problem(problems, pointer, "is the session of /steps/%zu already", j);
            break;
        }
    }
}

static int check_bytes(const struct steps *steps, uint64_t max_bytes, struct pt2_err *err)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < steps->n; i++) {
        const struct item *item = &steps->items[i];

        if (item->is_good &&
            step_answer_check(&item->body, &item->facts, false, max_bytes, err) < 0)
            return pt2_err_prefix(err, "/steps/%zu", i);
        if (item->is_good)
            bytes += step_answer_bytes(&item->body, &item->facts, false);
    }
    if (bytes <= max_bytes)
        return 0;
    return pt2_err_set(err, PT2_ERR_ANSWER_TOO_LARGE,
                       "the %zu answers may take %llu bytes together, more than %llu: "
                       "take fewer steps a request",
                       steps->n, (unsigned long long)bytes,
                       (unsigned long long)max_bytes);
}

static struct steps *steps_new(struct http_request *req, const json_t *array)
{
    size_t n = json_array_size(array);
    struct steps *steps = calloc(1, sizeof(*steps) + n * sizeof(steps->items[0]));

    if (!steps) {
        http_reply_problem(req, PT2_ERR_NOMEM, "no memory for %zu steps", n);
        return NULL;
    }
    steps->req = req;
    steps->n = n;
    req->context = steps;
    req->context_free = context_free;
    for (size_t i = 0; i < n; i++) {
        struct item *item = &steps->items[i];

        item->steps = steps;
        serve_call_init(&item->call, SERVE_STEP, step_done, item);
        session_call_of(req, &item->call);
        item->call.reserve = reserve;
        read_item(item, json_array_get(array, i), i);
    }
    return steps;
}

static void submit(struct steps *steps)
{
    struct serve *serve = steps->req->app->serve;

    steps->n_left = steps->n + 1;
    http_on_cancel(steps->req, cancelled);
    http_set_deadline(steps->req,
                      config_get_ms(steps->req->app->config, "sessions.max_wait"));
    http_request_ref(steps->req);
    for (size_t i = 0; i < steps->n; i++) {
        struct item *item = &steps->items[i];

        if (!item->is_good) {
            item_is_through(steps);
            continue;
        }
        item->call.step.input_ids = item->body.input_ids;
        item->call.step.s = item->body.s;
        item->call.step.start = item->body.start;
        item->call.step.rows = step_body_rows(&item->body);
        serve_submit(serve, item->session, &item->call);
    }
    item_is_through(steps);
}

void steps_post(struct http_request *req)
{
    struct json_problems problems = {0};
    const json_t *array = NULL;
    struct pt2_err err = {0};
    struct steps *steps = NULL;
    struct json_obj o;

    json_obj_begin(&o, req->json, "", &problems);
    json_require(&o, "steps");
    json_get_array(&o, "steps", 1, MAX_STEPS, &array);
    json_obj_end(&o);
    if (!json_problems_any(&problems)) {
        steps = steps_new(req, array);
        if (!steps)
            return;
        check_sessions(steps, &problems);
    }
    if (json_problems_any(&problems)) {
        http_reply_problems(req, &problems);
        json_problems_done(&problems);
        return;
    }
    if (check_bytes(steps, config_get_size(req->app->config, "sessions.max_answer_bytes"),
                    &err) < 0)
        http_reply_err(req, &err);
    else
        submit(steps);
}
