/* ctl_generate.c - pt2ctl generate: continue a text, a token a step. */
#include "base/json.h"
#include "cmd/ctl.h"
#include "cmd/ctl_http.h"
#include "cmd/ctl_session.h"
#include "cmd/ctl_show.h"
#include "cmd/ctl_text.h"
#include "cmd/sampler.h"

#include <sys/random.h>
#include <time.h>

#define MAX_TOP_K 1024

struct generate {
    struct ctl *ctl;
    const char *prompt, *ids, *tokenizer, *engine, *cache_dtype;
    int64_t n, top_k, seed; /* seed -1: by chance */
    double temperature;
    bool no_stop, no_prompt;

    struct text text;
    struct text_printer out;
    struct sampler sampler;
    char session[128];
    int64_t batch_size, max_cache_len;
    json_t *prompt_ids, *new_ids;
    const char *stop; /* why it ended */
    double prompt_s, steps_s;
};

static double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- the prompt ---- */

static int encode_prompt(struct generate *g)
{
    AUTO_PTR int64_t *ids = NULL;
    struct pt2_err err = {0};
    size_t n = 0;

    if (tokenizer_encode(g->text.tokenizer, g->prompt, strlen(g->prompt), true, &ids, &n,
                         &err) < 0)
        return ctl_fail(g->ctl, CTL_USAGE, "--text: %s", err.text);
    g->prompt_ids = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(g->prompt_ids, json_integer(ids[i]));
    return 0;
}

static int read_prompt(struct generate *g)
{
    if (g->prompt) {
        if (encode_prompt(g) < 0)
            return -1;
    } else {
        g->prompt_ids = ctl_parse_ids(g->ids);
        if (!g->prompt_ids)
            return ctl_fail(g->ctl, CTL_USAGE, "--ids wants token ids, not '%s'", g->ids);
    }
    if (json_array_size(g->prompt_ids) == 0)
        return ctl_fail(g->ctl, CTL_USAGE, "the prompt is empty");
    if ((int64_t)json_array_size(g->prompt_ids) >= g->max_cache_len)
        return ctl_fail(g->ctl, CTL_REFUSED,
                        "the prompt has %zu tokens, the program's cache holds %lld",
                        json_array_size(g->prompt_ids), (long long)g->max_cache_len);
    return 0;
}

/* ---- steps ---- */

/* Run the ids from position on and choose the next one. */
static int step(struct generate *g, const json_t *ids, int64_t position,
                int64_t *ret_next)
{
    json_t *rows = json_array(), *positions = json_array();
    json_auto_t *answer = NULL;
    double logprobs[MAX_TOP_K];
    const json_t *top, *best;
    size_t n;

    for (int64_t i = 0; i < g->batch_size; i++)
        json_array_append_new(rows, json_deep_copy(ids));
    for (size_t i = 0; i < json_array_size(ids); i++)
        json_array_append_new(positions, json_integer(position + (json_int_t)i));
    if (ctl_session_step(g->ctl, g->session,
                         json_pack("{s:o, s:o, s:b, s:I}", "input_ids", rows,
                                   "cache_position", positions, "logits", 0, "top_k",
                                   (json_int_t)g->top_k),
                         &answer) < 0)
        return -1;
    top = json_object_get(answer, "top");
    best = json_array_get(json_array_get(json_object_get(top, "logprobs"), 0), 0);
    n = MIN(json_array_size(best), (size_t)MAX_TOP_K);
    if (n == 0)
        return ctl_fail(g->ctl, CTL_BROKEN, "the step's answer has no best tokens");
    for (size_t i = 0; i < n; i++)
        logprobs[i] = json_is_number(json_array_get(best, i))
                          ? json_number_value(json_array_get(best, i))
                          : -1e308;
    best = json_array_get(json_array_get(json_object_get(top, "ids"), 0), 0);
    *ret_next = json_integer_value(
        json_array_get(best, sampler_choose(&g->sampler, logprobs, n)));
    return 0;
}

/* Take a token that was chosen.  False: it ends the text. */
static bool take(struct generate *g, int64_t id)
{
    if (!g->no_stop && text_ends_with(&g->text, id)) {
        g->stop = "end";
        return false;
    }
    json_array_append_new(g->new_ids, json_integer(id));
    if (g->text.tokenizer) {
        text_print(&g->out, &g->text, id);
    } else if (g->out.to) {
        printf("%lld ", (long long)id);
        fflush(stdout);
    }
    if ((int64_t)json_array_size(g->new_ids) < g->n)
        return true;
    g->stop = "length";
    return false;
}

static int run_steps(struct generate *g)
{
    int64_t position = (int64_t)json_array_size(g->prompt_ids), id = 0;
    double start = now_s();

    if (step(g, g->prompt_ids, 0, &id) < 0)
        return -1;
    g->prompt_s = now_s() - start;
    start = now_s();
    while (take(g, id)) {
        json_auto_t *one = json_pack("[I]", (json_int_t)id);

        if (position == g->max_cache_len) {
            g->stop = "cache";
            break;
        }
        if (step(g, one, position++, &id) < 0)
            return -1;
    }
    g->steps_s = now_s() - start;
    return 0;
}

/* ---- the answer ---- */

static void print_prompt(struct generate *g)
{
    if (g->no_prompt || !g->out.to)
        return;
    if (g->text.tokenizer)
        for (size_t i = 0; i < json_array_size(g->prompt_ids); i++)
            text_print(&g->out, &g->text,
                       json_integer_value(json_array_get(g->prompt_ids, i)));
    else
        for (size_t i = 0; i < json_array_size(g->prompt_ids); i++)
            printf("%lld ",
                   (long long)json_integer_value(json_array_get(g->prompt_ids, i)));
}

static int print_end(struct generate *g)
{
    size_t n = json_array_size(g->new_ids);
    json_auto_t *answer = NULL;

    text_print_end(&g->out);
    if (g->ctl->json) {
        answer = json_pack("{s:O, s:O, s:o*, s:s, s:I, s:f, s:f}", "prompt_ids",
                           g->prompt_ids, "ids", g->new_ids, "text",
                           g->text.tokenizer
                               ? json_string_lossy(g->out.all.data ? g->out.all.data : "")
                               : NULL,
                           "stop", g->stop, "seed", (json_int_t)g->seed, "prompt_s",
                           g->prompt_s, "steps_s", g->steps_s);
        return answer ? show_json(g->ctl, answer) : ctl_fail_nomem(g->ctl);
    }
    putchar('\n');
    if (!g->ctl->quiet && isatty(STDERR_FILENO) == 1)
        fprintf(stderr, "[%zu + %zu tokens, %.2f + %.2f s, %.1f tokens/s; stopped: %s]\n",
                json_array_size(g->prompt_ids), n, g->prompt_s, g->steps_s,
                n > 1 && g->steps_s > 0 ? (double)(n - 1) / g->steps_s : 0.0, g->stop);
    return 0;
}

/* ---- all of it ---- */

static int open_session(struct generate *g, const char *id)
{
    json_auto_t *session = NULL;

    if (ctl_session_open(g->ctl, id, g->engine, g->cache_dtype, 0, &session) < 0)
        return -1;
    snprintf(g->session, sizeof(g->session), "%s", ctl_session_id(session));
    return 0;
}

static int prepare(struct generate *g, const char *name, json_t **ret_program)
{
    AUTO_PTR char *path = ctl_path("/v1/programs/%s", name);
    const json_t *cache;

    if (ctl_json(g->ctl, "GET", path, NULL, ret_program) < 0)
        return -1;
    cache = json_object_get(*ret_program, "cache");
    g->batch_size = json_integer_value(json_object_get(cache, "batch_size"));
    g->max_cache_len = json_integer_value(json_object_get(cache, "max_cache_len"));
    if (g->batch_size < 1)
        return ctl_fail(g->ctl, CTL_REFUSED,
                        "program '%s' is no decoder with a static cache", name);
    if (text_init(&g->text, g->ctl, *ret_program, g->tokenizer, g->prompt != NULL) < 0)
        return -1;
    g->top_k =
        MIN(g->top_k, json_integer_value(json_object_get(*ret_program, "vocab_size")));
    return read_prompt(g);
}

static int run(struct generate *g, const char *name)
{
    json_auto_t *program = NULL;
    int r;

    if (prepare(g, name, &program) < 0 ||
        open_session(g, json_string_value(json_object_get(program, "id"))) < 0)
        return -1;
    print_prompt(g);
    r = run_steps(g);
    ctl_session_close(g->ctl, g->session);
    if (r < 0) {
        if (g->out.to)
            putchar('\n');
        return -1;
    }
    return print_end(g);
}

/* A seed by chance, which the answer names, so that it can be had again. */
static void choose_seed(struct generate *g)
{
    uint32_t seed = (uint32_t)time(NULL);

    if (g->seed < 0 && getrandom(&seed, sizeof(seed), GRND_NONBLOCK) >= 0)
        g->seed = seed;
    if (g->seed < 0)
        g->seed = seed;
    sampler_init(&g->sampler, g->temperature, (uint64_t)g->seed);
}

int ctl_cmd_generate(struct ctl *ctl, int argc, char **argv)
{
    struct generate g = {.ctl = ctl, .n = 64, .top_k = 40, .seed = -1};
    const struct ctl_option options[] = {
        {'t', "text", CTL_STRING, &g.prompt, "TEXT", "the prompt", 0, 0},
        {'i', "ids", CTL_STRING, &g.ids, "IDS", "the prompt as token ids: 1,2,3", 0, 0},
        {'n', "tokens", CTL_INT, &g.n, "N", "at most so many new tokens; otherwise 64", 1,
         INT32_MAX},
        {0, "temperature", CTL_DOUBLE, &g.temperature, "T",
         "0 (the default): always the likeliest; above: by chance", 0, 0},
        {'k', "top-k", CTL_INT, &g.top_k, "N",
         "with a temperature: among the N likeliest; otherwise 40", 1, MAX_TOP_K},
        {0, "seed", CTL_INT, &g.seed, "N", "the same seed, the same choices", 0,
         INT64_MAX},
        {0, "no-stop", CTL_FLAG, &g.no_stop, NULL,
         "go on after a token that ends the text", 0, 0},
        {0, "no-prompt", CTL_FLAG, &g.no_prompt, NULL, "print the continuation alone", 0,
         0},
        {0, "tokenizer", CTL_STRING, &g.tokenizer, "FILE",
         "a tokenizer.json; otherwise the one in the program", 0, 0},
        {0, "engine", CTL_STRING, &g.engine, "NAME", "auto, native or aten", 0, 0},
        {0, "cache-dtype", CTL_STRING, &g.cache_dtype, "DTYPE",
         "int8: a cache of half the memory", 0, 0},
        {0}};
    const struct ctl_usage usage = {
        .usage = "generate PROGRAM --text TEXT | --ids IDS [options]",
        .about = "Continue a prompt, token by token, in a session of its own.",
        .options = options,
        .min_args = 1,
        .max_args = 1};
    const char *args[1];
    int n, r;

    if (ctl_options(ctl, argc, argv, &usage, args, &n) < 0)
        return -1;
    if (ctl->help)
        return 0;
    if (!g.prompt == !g.ids)
        return ctl_fail(ctl, CTL_USAGE, "either --text or --ids must be given");
    if (!(g.temperature > 0))
        g.top_k = 1;
    choose_seed(&g);
    g.new_ids = json_array();
    text_printer_init(&g.out, ctl->json ? NULL : stdout);
    r = run(&g, args[0]);
    text_printer_done(&g.out);
    text_done(&g.text);
    json_decref(g.prompt_ids);
    json_decref(g.new_ids);
    return r;
}
