/* fuzz_body.c - JSON bodies of requests: the first byte says of which, 's' a step's, 'e' an
 * export's, 'j' the options of pt2-export --job; the rest is the body.  What is refused has
 * a reason; what is taken holds what the header says; JSON's canonical text parses again. */
#include "fuzz.h"

#include "export/request.h"
#include "http/step_body.h"

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
    if (*data == 's') {
        check_step(body, 1);
        check_step(body, 2);
    } else {
        check_export(body, *data == 'e');
    }
    text = json_canonical(body);
    FUZZ_CHECK(text && json_parse(text, strlen(text), &again, NULL) == 0);
    FUZZ_CHECK(json_equal(body, again));
    free(text);
    json_decref(again);
    json_decref(body);
    return 0;
}
