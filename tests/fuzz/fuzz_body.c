/* fuzz_body.c - JSON bodies of requests: the first byte says of which, the rest is the body.
 * What is refused has a reason; what is taken holds what the header says; JSON's canonical
 * text parses again. */
#include "fuzz.h"

#include "checkpoint/file_names.h"
#include "export/request.h"
#include "http/alias_json.h"
#include "http/publish_body.h"
#include "http/session_body.h"
#include "http/step_body.h"
#include "store/programs.h"

const char fuzz_name[] = "body";
const char *const fuzz_corpus[] = {NULL};

static void check_problems(const struct json_problems *problems)
{
    char *text;

    if (!json_problems_any(problems))
        return;
    FUZZ_CHECK(json_array_size(problems->errors) >= 1);
    FUZZ_CHECK(json_array_size(problems->errors) <= JSON_MAX_PROBLEMS);
    text = json_dumps(problems->errors, 0);
    FUZZ_CHECK(text);
    free(text);
}

static void check_step(const json_t *body, int64_t batch_size)
{
    struct serve_facts facts = {
        .batch_size = batch_size, .max_cache_len = 16, .vocab_size = 300};
    struct json_problems problems = {0};
    struct step_body step;
    struct json_obj o;

    json_obj_begin(&o, body, "", &problems);
    step_body_read(&step, &o, &facts);
    json_obj_end(&o);
    check_problems(&problems);
    if (!json_problems_any(&problems)) {
        FUZZ_CHECK(step.s >= 1 && step.s <= 16 && step.start >= -1 && step.start < 16);
        FUZZ_CHECK(step.top_k >= 0 && step.top_k <= 300 && step.n_logit_ids <= 300);
        for (int64_t i = 0; i < batch_size * step.s; i++)
            FUZZ_CHECK(step.input_ids[i] >= 0 && step.input_ids[i] < 300);
        for (size_t i = 0; i < step.n_logit_ids; i++)
            FUZZ_CHECK(step.logit_ids[i] >= 0 && step.logit_ids[i] < 300);
        FUZZ_CHECK(step_body_n_rows(&step) >= 1);
    }
    step_body_done(&step);
    json_problems_done(&problems);
}

static void check_export(const json_t *body, bool wants_model)
{
    struct json_problems problems = {0};
    struct export_request request;
    struct pt2_err err = {0};

    if (export_request_parse(body, wants_model, &problems, &request, &err) < 0) {
        FUZZ_CHECK(err.code && *err.text);
        check_problems(&problems);
    } else {
        FUZZ_CHECK(!json_problems_any(&problems) && (request.model || !wants_model));
    }
    json_problems_done(&problems);
}

#define MAX_CACHE_LEN 16
#define MAX_TTL_S     3600

static void check_open(const json_t *body)
{
    struct serve_call call = {.verb = SERVE_OPEN};
    struct json_problems problems = {0};
    const char *program = NULL;

    session_body_open(body, /* ttl_s= */ 60, MAX_TTL_S, &call, &program, &problems);
    check_problems(&problems);
    if (!json_problems_any(&problems)) {
        FUZZ_CHECK(program && strlen(program) <= PROGRAM_NAME_MAX);
        FUZZ_CHECK(call.open.ttl_s >= 1 && call.open.ttl_s <= MAX_TTL_S);
        FUZZ_CHECK(call.open.kind <= PT2_ENGINE_ATEN);
        FUZZ_CHECK(call.open.cache_dtype != PT2_INT8 || call.open.kind == PT2_ENGINE_NATIVE);
        FUZZ_CHECK(!call.open.labels || json_is_object(call.open.labels));
    }
    json_problems_done(&problems);
}

static void check_fork(const json_t *body)
{
    struct serve_call call = {.verb = SERVE_FORK};
    struct json_problems problems = {0};

    session_body_fork(body, MAX_CACHE_LEN, MAX_TTL_S, &call, &problems);
    check_problems(&problems);
    FUZZ_CHECK(call.fork.position >= -1 && call.fork.position <= MAX_CACHE_LEN);
    FUZZ_CHECK(call.fork.ttl_s == -1 ||
               (call.fork.ttl_s >= 1 && call.fork.ttl_s <= MAX_TTL_S));
    json_problems_done(&problems);
}

static void check_rewind(const json_t *body)
{
    struct serve_call call = {.verb = SERVE_REWIND, .rewind.position = -1};
    struct json_problems problems = {0};

    session_body_rewind(body, MAX_CACHE_LEN, &call, &problems);
    check_problems(&problems);
    if (!json_problems_any(&problems))
        FUZZ_CHECK(call.rewind.position >= 0 && call.rewind.position <= MAX_CACHE_LEN);
    json_problems_done(&problems);
}

static void check_alias(const json_t *body)
{
    struct json_problems problems = {0};
    const char *program = NULL;

    alias_read(body, &program, &problems);
    check_problems(&problems);
    if (!json_problems_any(&problems))
        FUZZ_CHECK(program && strlen(program) <= PROGRAM_NAME_MAX);
    json_problems_done(&problems);
}

static void check_publish(const json_t *body)
{
    struct publish_body *publish = calloc(1, sizeof(*publish));
    struct json_problems problems = {0};
    uint8_t digest[SHA256_BYTES];

    FUZZ_CHECK(publish);
    publish_body_read(publish, body, &problems);
    check_problems(&problems);
    FUZZ_CHECK(publish->n <= UPLOADS_MAX_FILES);
    if (!json_problems_any(&problems)) {
        FUZZ_CHECK(publish->n >= 1);
        for (size_t i = 0; i < publish->n; i++) {
            FUZZ_CHECK(file_names_is_allowed(publish->files[i].name));
            FUZZ_CHECK(sha256_from_hex(publish->files[i].sha256, digest));
            for (size_t j = 0; j < i; j++)
                FUZZ_CHECK(strcmp(publish->files[i].name, publish->files[j].name) != 0);
        }
    }
    json_problems_done(&problems);
    free(publish);
}

static void check_body(const json_t *body, char kind)
{
    switch (kind) {
    case 's':
        check_step(body, 1);
        check_step(body, 2);
        break;
    case 'o':
        check_open(body);
        break;
    case 'f':
        check_fork(body);
        break;
    case 'r':
        check_rewind(body);
        break;
    case 'a':
        check_alias(body);
        break;
    case 'p':
        check_publish(body);
        break;
    default: /* 'j': the options of pt2-export --job, which names no model */
        check_export(body, kind == 'e');
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_t *body = NULL, *again = NULL;
    struct pt2_err err = {0};
    char *text;

    if (size < 1)
        return 0;
    if (json_parse((const char *)data + 1, size - 1, &body, &err) < 0) {
        FUZZ_CHECK(err.code && *err.text && !body);
        return 0;
    }
    check_body(body, (char)*data);
    text = json_canonical(body);
    FUZZ_CHECK(text && json_parse(text, strlen(text), &again, NULL) == 0);
    FUZZ_CHECK(json_equal(body, again));
    free(text);
    json_decref(again);
    json_decref(body);
    return 0;
}
