/* ctl_step.c - pt2ctl step: run tokens, show what comes next. */
#include "cmd/ctl.h"
#include "cmd/ctl_http.h"
#include "cmd/ctl_session.h"
#include "cmd/ctl_show.h"

struct step {
    struct ctl *ctl;
    const char *engine, *cache_dtype, *ids_wanted;
    int64_t position, top_k, batch_size; /* position -1: where the session is */
    bool all_rows, logits, keep;
};

/* The same ids for each row of the batch; taken. */
static json_t *rows_of(json_t *ids, int64_t batch_size)
{
    json_t *rows = json_array();

    for (int64_t i = 0; i < batch_size; i++)
        json_array_append(rows, ids);
    json_decref(ids);
    return rows;
}

/* The body of a step; ids is taken. */
static json_t *make_body(const struct step *s, json_t *ids, json_t *wanted)
{
    json_t *body = json_object(), *position = json_array();
    size_t n = json_array_size(ids);

    for (size_t i = 0; s->position >= 0 && i < n; i++)
        json_array_append_new(position, json_integer(s->position + (json_int_t)i));
    if (s->position >= 0)
        json_object_set(body, "cache_position", position);
    json_decref(position);
    json_object_set_new(body, "input_ids", rows_of(ids, s->batch_size));
    json_object_set_new(body, "rows", json_string(s->all_rows ? "all" : "last"));
    json_object_set_new(body, "logits", json_boolean(s->logits));
    json_object_set_new(body, "top_k", json_integer(s->top_k));
    if (wanted)
        json_object_set(body, "logit_ids", wanted);
    return body;
}

static void add_number(struct table *table, const json_t *number)
{
    char text[40];

    if (json_is_number(number))
        snprintf(text, sizeof(text), "%.6g", json_number_value(number));
    else
        snprintf(text, sizeof(text), "%s",
                 json_is_string(number) ? json_string_value(number) : "-");
    table_add(table, text);
}

/* "1003", by the row of the batch where there are some. */
static void add_place(struct table *table, const json_t *answer, size_t batch, size_t row,
                      size_t n_rows)
{
    const json_t *positions = json_object_get(answer, "cache_position");
    size_t first = json_array_size(positions) - MIN(n_rows, json_array_size(positions));

    table_add_int(table, (json_int_t)batch);
    table_add_int(table, json_integer_value(json_array_get(positions, first + row)));
}

/* One table of ids and numbers, each (batch, rows, n); ids NULL: those of `wanted`. */
static void print_numbers(const json_t *answer, const json_t *ids, const json_t *numbers,
                          const json_t *wanted, const char *title)
{
    const char *const titles[] = {"ROW", "POSITION", "TOKEN", title};
    AUTO(table) table = table_new(ARRAY_LEN(titles), titles);

    for (size_t b = 0; b < json_array_size(numbers); b++) {
        const json_t *rows = json_array_get(numbers, b);

        for (size_t i = 0; i < json_array_size(rows); i++) {
            const json_t *row = json_array_get(rows, i),
                         *names =
                             ids ? json_array_get(json_array_get(ids, b), i) : wanted;

            for (size_t k = 0; k < json_array_size(row); k++) {
                add_place(table, answer, b, i, json_array_size(rows));
                table_add_int(table, json_integer_value(json_array_get(names, k)));
                add_number(table, json_array_get(row, k));
            }
        }
    }
    table_print(table, NULL);
}

static int print_answer(const struct step *s, const json_t *answer, const json_t *wanted)
{
    const json_t *top = json_object_get(answer, "top");

    if (s->ctl->json)
        return show_json(s->ctl, answer);
    show_member(answer, "position");
    if (s->logits)
        show_member(answer, "logits");
    if (json_is_object(top))
        print_numbers(answer, json_object_get(top, "ids"),
                      json_object_get(top, "logprobs"), NULL, "LOG-PROBABILITY");
    if (wanted)
        print_numbers(answer, NULL, json_object_get(answer, "selected"), wanted, "LOGIT");
    return 0;
}

static int run(struct step *s, const char *name, json_t *ids)
{
    bool is_session = after_prefix(name, "ses_") != NULL;
    json_auto_t *session = NULL, *answer = NULL, *wanted = NULL, *taken = ids;
    AUTO_PTR char *path = ctl_path("/v1/sessions/%s", name);
    const char *id;
    int r;

    if (s->ids_wanted && !(wanted = ctl_parse_ids(s->ids_wanted)))
        return ctl_fail(s->ctl, CTL_USAGE, "--logit-ids wants token ids, not '%s'",
                        s->ids_wanted);
    if ((is_session ? ctl_json(s->ctl, "GET", path, NULL, &session)
                    : ctl_session_open(s->ctl, name, s->engine, s->cache_dtype, 0, &session)) < 0)
        return -1;
    id = ctl_session_id(session);
    s->batch_size = MAX(json_integer_value(json_object_get(session, "batch_size")), 1);
    r = ctl_session_step(s->ctl, id, make_body(s, TAKE(taken), wanted), &answer);
    if (!is_session && (!s->keep || r < 0))
        ctl_session_close(s->ctl, id);
    if (r < 0)
        return -1;
    if (!is_session && s->keep && !s->ctl->json)
        show_line("session", "%s", id);
    if (!is_session && s->keep)
        json_object_set_new(answer, "session", json_string(id));
    return print_answer(s, answer, wanted);
}

int ctl_cmd_step(struct ctl *ctl, int argc, char **argv)
{
    struct step s = {.ctl = ctl, .position = -1, .top_k = 5};
    const struct ctl_option options[] = {
        {'p', "position", CTL_INT, &s.position, "N",
         "the first token's position; otherwise where the session is", 0, INT32_MAX},
        {'k', "top-k", CTL_INT, &s.top_k, "N",
         "how many of the best to show; otherwise 5", 0, INT32_MAX},
        {'a', "all", CTL_FLAG, &s.all_rows, NULL, "for each token, not the last alone", 0,
         0},
        {0, "logits", CTL_FLAG, &s.logits, NULL, "all logits", 0, 0},
        {0, "logit-ids", CTL_STRING, &s.ids_wanted, "IDS", "the logits of these tokens",
         0, 0},
        {0, "engine", CTL_STRING, &s.engine, "NAME", "auto, native or aten", 0, 0},
        {0, "cache-dtype", CTL_STRING, &s.cache_dtype, "DTYPE",
         "int8: a cache of half the memory", 0, 0},
        {0, "keep", CTL_FLAG, &s.keep, NULL,
         "leave the session that was opened, and name it", 0, 0},
        {0}};
    const struct ctl_usage usage = {
        .usage = "step PROGRAM|SESSION IDS [options]",
        .about =
            "Run token ids (1,2,3) through a session (ses_...), or through a program in "
            "a session\nof its own, and show the likeliest next tokens.",
        .options = options,
        .min_args = 2,
        .max_args = 2};
    const char *args[2];
    json_t *ids;
    int n;

    if (ctl_options(ctl, argc, argv, &usage, args, &n) < 0)
        return -1;
    if (ctl->help)
        return 0;
    ids = ctl_parse_ids(args[1]);
    if (!ids || json_array_size(ids) == 0) {
        json_decref(ids);
        return ctl_fail(ctl, CTL_USAGE, "IDS are token ids like 1,2,3, not '%s'",
                        args[1]);
    }
    return run(&s, args[0], ids);
}
