#include "http/step_body.h"

#include <inttypes.h>

/* ---- input_ids ---- */

static void bad_item(struct json_obj *o, const char *name, int64_t row, int64_t i,
                     const char *text)
{
    char pointer[JSON_POINTER_SIZE];
    size_t n;

    json_item_pointer(o, name, (size_t)row, pointer);
    n = strlen(pointer);
    if (i >= 0)
        snprintf(pointer + n, sizeof(pointer) - n, "/%" PRId64, i);
    json_problem(o->problems, pointer, "%s", text);
}

static void read_row(struct step_body *body, struct json_obj *o, const json_t *row,
                     int64_t b, const struct serve_facts *facts)
{
    char text[160];

    if (!json_is_array(row)) {
        bad_item(o, "input_ids", b, -1, "must be an array of token ids");
        return;
    }
    if ((int64_t)json_array_size(row) != body->s) {
        snprintf(text, sizeof(text),
                 "must have as many ids as the first row, %" PRId64 ", not %zu", body->s,
                 json_array_size(row));
        bad_item(o, "input_ids", b, -1, text);
        return;
    }
    for (int64_t i = 0; i < body->s; i++) {
        const json_t *id = json_array_get(row, (size_t)i);
        int64_t value = json_integer_value(id);

        body->input_ids[b * body->s + i] = value;
        if (json_is_integer(id) && value >= 0 && value < facts->vocab_size)
            continue;
        if (json_is_integer(id))
            snprintf(text, sizeof(text),
                     "must be a token id of 0 to %" PRId64 ", not %" PRId64,
                     facts->vocab_size - 1, value);
        else
            snprintf(text, sizeof(text),
                     "must be a token id, an integer of 0 to %" PRId64,
                     facts->vocab_size - 1);
        bad_item(o, "input_ids", b, i, text);
    }
}

static void read_input_ids(struct step_body *body, struct json_obj *o,
                           const struct serve_facts *facts)
{
    size_t batch = (size_t)facts->batch_size, s;
    const json_t *rows = NULL;
    char text[160];

    json_require(o, "input_ids");
    if (!json_get_array(o, "input_ids", 1, SIZE_MAX, &rows))
        return;
    s = json_array_size(json_array_get(rows, 0));
    if (json_array_size(rows) != batch || !json_is_array(json_array_get(rows, 0))) {
        char pointer[JSON_POINTER_SIZE];

        json_member_pointer(o, "input_ids", pointer);
        json_problem(o->problems, pointer,
                     "must be (batch, tokens): %zu row%s of token ids, as %s", batch,
                     batch == 1 ? "" : "s",
                     batch == 1 ? "[[504, 282]]" : "[[504], [282]]");
        return;
    }
    if (s < 1 || (int64_t)s > facts->max_cache_len) {
        snprintf(text, sizeof(text),
                 "must have 1 to %" PRId64 " token ids (max_cache_len), not %zu",
                 facts->max_cache_len, s);
        bad_item(o, "input_ids", 0, -1, text);
        return;
    }
    body->input_ids = calloc(batch * s, sizeof(*body->input_ids));
    if (!body->input_ids) {
        o->problems->ran_out = true;
        bad_item(o, "input_ids", 0, -1, "no memory for so many ids");
        return;
    }
    body->s = (int64_t)s;
    for (size_t b = 0; b < batch; b++)
        read_row(body, o, json_array_get(rows, b), (int64_t)b, facts);
}

/* ---- the others ---- */

static void read_cache_position(struct step_body *body, struct json_obj *o,
                                const struct serve_facts *facts)
{
    AUTO_PTR int64_t *positions = NULL;
    char pointer[JSON_POINTER_SIZE];
    size_t n = 0;

    body->start = -1;
    if (!json_get_ints(o, "cache_position", 1, (size_t)facts->max_cache_len, 0,
                       facts->max_cache_len - 1, &positions, &n))
        return;
    if (body->s > 0 && (int64_t)n != body->s) {
        json_member_pointer(o, "cache_position", pointer);
        json_problem(o->problems, pointer,
                     "must have as many positions as there are tokens, %" PRId64
                     ", not %zu",
                     body->s, n);
    }
    for (size_t i = 1; i < n; i++) {
        if (positions[i] == positions[i - 1] + 1)
            continue;
        json_item_pointer(o, "cache_position", i, pointer);
        json_problem(o->problems, pointer,
                     "must be %" PRId64 ", as positions are consecutive, not %" PRId64,
                     positions[i - 1] + 1, positions[i]);
        return;
    }
    body->start = positions[0];
}

void step_body_read(struct step_body *body, struct json_obj *o,
                    const struct serve_facts *facts)
{
    static const char *const rows[] = {"last", "all"};
    size_t choice = 0;

    *body = (struct step_body){.logits = true, .start = -1};
    read_input_ids(body, o, facts);
    read_cache_position(body, o, facts);
    if (json_get_choice(o, "rows", rows, ARRAY_LEN(rows), &choice))
        body->all_rows = choice == 1;
    json_get_bool(o, "logits", &body->logits);
    json_get_int(o, "top_k", 0, facts->vocab_size, &body->top_k);
    json_get_ints(o, "logit_ids", 0, (size_t)facts->vocab_size, 0, facts->vocab_size - 1,
                  &body->logit_ids, &body->n_logit_ids);
}

void step_body_done(struct step_body *body)
{
    free(TAKE(body->input_ids));
    free(TAKE(body->logit_ids));
}

enum pt2_rows step_body_rows(const struct step_body *body)
{
    if (!body->logits && body->top_k == 0 && !body->logit_ids)
        return PT2_ROWS_NONE;
    return body->all_rows ? PT2_ROWS_ALL : PT2_ROWS_LAST;
}

int64_t step_body_n_rows(const struct step_body *body)
{
    return body->all_rows ? body->s : 1;
}
