/* ctl_export.c - pt2ctl export: submit a job, watch it, bring the program here. */
#include "cmd/ctl.h"
#include "cmd/ctl_download.h"
#include "cmd/ctl_http.h"
#include "cmd/ctl_show.h"

#define WAIT_S 1 /* a long poll answers after this long, so that progress is seen */

struct export
{
    struct ctl *ctl;
    const char *output, *alias, *dtype, *attn, *profile, *cache, *logits, *format, *backend;
    struct output to; /* where output is given */
    int64_t batch_size, max_cache_len, seq_len, verify; /* 0: not given */
    const char *linear, *fallback, *embedding;
    int64_t group_size, embedding_group_size; /* -1: not given */
    bool dynamic_shapes, custom_ops, dry_run, no_wait;
    struct ctl_list labels, skip;
};

/* ---- the request ---- */

static json_t *zeros(int64_t n)
{
    json_t *list = json_array();

    for (int64_t i = 0; i < n; i++)
        json_array_append_new(list, json_integer(0));
    return list;
}

/* The example inputs stand for a sequence length; rows are as many as the batch has. */
static void add_examples(json_t *body, const struct export *e)
{
    json_t *rows = json_array(), *position = json_array();

    for (int64_t i = 0; i < MAX(e->batch_size, 1); i++)
        json_array_append_new(rows, zeros(e->seq_len));
    for (int64_t i = 0; i < e->seq_len; i++)
        json_array_append_new(position, json_integer(i));
    json_object_set_new(body, "example_input_ids", rows);
    json_object_set_new(body, "example_cache_position", position);
}

static void add_string(json_t *body, const char *name, const char *value)
{
    if (value)
        json_object_set_new(body, name, json_string(value));
}

static void add_quantization(json_t *body, const struct export *e)
{
    json_auto_t *q = json_object();
    json_t *skip = json_array();

    add_string(q, "linear", e->linear);
    add_string(q, "fallback", e->fallback);
    add_string(q, "embedding", e->embedding);
    if (e->group_size >= 0)
        json_object_set_new(q, "group_size", json_integer(e->group_size));
    if (e->embedding_group_size >= 0)
        json_object_set_new(q, "embedding_group_size",
                            json_integer(e->embedding_group_size));
    for (size_t i = 0; i < e->skip.n; i++)
        json_array_append_new(skip, json_string(e->skip.items[i]));
    if (e->skip.n)
        json_object_set(q, "skip", skip);
    json_decref(skip);
    if (json_object_size(q))
        json_object_set(body, "quantization", q);
}

static json_t *make_body(const struct export *e, const char *model)
{
    json_t *body = json_object(), *cache = json_object();

    add_string(body, "model", model);
    add_string(body, "dtype", e->dtype);
    add_string(body, "attn_implementation", e->attn);
    add_string(body, "profile", e->profile);
    if (e->custom_ops)
        json_object_set_new(body, "custom_ops", json_true());
    add_string(body, "logits_to_keep", e->logits);
    add_string(body, "format", e->format);
    if (e->backend)
        json_object_set_new(body, "pte", json_pack("{s:s}", "backend", e->backend));
    add_string(cache, "implementation", e->cache);
    if (e->batch_size)
        json_object_set_new(cache, "batch_size", json_integer(e->batch_size));
    if (e->max_cache_len)
        json_object_set_new(cache, "max_cache_len", json_integer(e->max_cache_len));
    if (json_object_size(cache))
        json_object_set(body, "cache", cache);
    json_decref(cache);
    add_quantization(body, e);
    if (e->seq_len)
        add_examples(body, e);
    if (e->dynamic_shapes)
        json_object_set_new(body, "dynamic_shapes", json_true());
    if (e->verify)
        json_object_set_new(body, "verify", json_integer(e->verify));
    if (e->dry_run)
        json_object_set_new(body, "dry_run", json_true());
    return body;
}

static int add_labels(const struct export *e, json_t *body)
{
    json_auto_t *labels = json_object();

    for (size_t i = 0; i < e->labels.n; i++) {
        const char *label = e->labels.items[i], *equals = strchr(label, '=');
        AUTO_PTR char *name = equals ? strndup(label, (size_t)(equals - label)) : NULL;

        if (!name)
            return ctl_fail(e->ctl, CTL_USAGE, "--label wants NAME=VALUE, not '%s'",
                            label);
        json_object_set_new(labels, name, json_string(equals + 1));
    }
    if (e->labels.n)
        json_object_set(body, "labels", labels);
    return 0;
}

/* ---- the job ---- */

static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    return text ? text : "";
}

static bool is_finished(const json_t *job)
{
    const char *state = text_of(job, "state");

    return streq(state, "succeeded") || streq(state, "failed") ||
           streq(state, "cancelled");
}

static void draw_job(struct bar *bar, const json_t *job)
{
    const json_t *progress = json_object_get(job, "progress");
    const char *stage = text_of(progress, "stage");
    json_int_t done = json_integer_value(json_object_get(progress, "done")),
               total = json_integer_value(json_object_get(progress, "total"));

    if (!is_finished(job))
        bar_draw(bar, *stage ? stage : text_of(job, "state"), (uint64_t)MAX(done, 0),
                 (uint64_t)MAX(total, 0), true);
}

/* Watch the job until it is finished; *job is replaced by what it is then. */
static int watch(const struct export *e, json_t **job)
{
    AUTO_PTR char *id = strdup(text_of(*job, "id"));
    AUTO_PTR char *path = NULL, *url = NULL;
    struct bar bar;
    int r = 0;

    path = id ? ctl_path("/v1/exports/%s", id) : NULL;
    if (!path || asprintf(&url, "%s?wait=%d", path, WAIT_S) < 0) {
        url = NULL;
        return ctl_fail_nomem(e->ctl);
    }
    bar_start(&bar, e->ctl);
    while (r == 0 && !is_finished(*job)) {
        json_t *next = NULL;

        draw_job(&bar, *job);
        r = ctl_json(e->ctl, "GET", url, NULL, &next);
        if (r == 0) {
            json_decref(*job);
            *job = next;
        }
    }
    bar_end(&bar);
    if (r < 0 && e->ctl->exit == CTL_INTERRUPTED) {
        ctl_forgive(e->ctl);
        return ctl_fail(e->ctl, CTL_INTERRUPTED,
                        "interrupted; the job goes on: pt2ctl exports %s", id);
    }
    return r;
}

static int fail_job(struct ctl *ctl, const json_t *job)
{
    const json_t *error = json_object_get(job, "error");

    if (!streq(text_of(job, "state"), "failed"))
        return ctl_fail(ctl, CTL_REFUSED, "export %s was cancelled", text_of(job, "id"));
    ctl->problem = json_incref((json_t *)(uintptr_t)error);
    return ctl_fail(ctl, CTL_REFUSED, "export %s failed: %s: %s", text_of(job, "id"),
                    text_of(error, "title"), text_of(error, "detail"));
}

/* ---- what people read ---- */

static void print_deviations(const json_t *answer)
{
    json_t *item;
    size_t i;

    json_array_foreach (json_object_get(answer, "deviations"), i, item) {
        const char *text = json_string_value(item);

        show_line("deviation", "%s", text ? text : text_of(item, "text"));
    }
}

static void print_dry_run(const json_t *answer)
{
    static const char *const sizes[] = {"program_bytes", "pte_bytes", "cache_bytes"};
    char text[SHOW_SIZE_CHARS];

    show_member(answer, "options");
    show_member(answer, "parameters");
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        json_int_t n = json_integer_value(json_object_get(answer, sizes[i]));

        if (!json_is_integer(json_object_get(answer, sizes[i])))
            continue;
        show_line(sizes[i], "%lld (%s)", (long long)n,
                  show_bytes((uint64_t)MAX(n, 0), text));
    }
    print_deviations(answer);
}

static void print_verified(const json_t *verified)
{
    const json_t *most = json_object_get(verified, "largest_difference"), *run;
    long long n = json_integer_value(json_object_get(verified, "tokens"));
    const char *name;

    if (json_is_number(most))
        show_line("verified", "%lld tokens; logits up to %g differ by %g at most", n,
                  json_number_value(json_object_get(verified, "largest_logit")),
                  json_number_value(most));
    else if (json_is_object(verified))
        show_line("verified", "%lld tokens, with nothing to compare them with", n);
    json_object_foreach (json_object_get(verified, "runs"), name, run)
        if (*text_of(run, "reason"))
            show_line("", "without %s: %s", name, text_of(run, "reason"));
}

static void print_pte(const json_t *pte)
{
    static const char *const numbers[] = {"bytes", "instructions", "delegates"};
    long long n[ARRAY_LEN(numbers)];

    if (!json_is_object(pte))
        return;
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        n[i] = json_integer_value(json_object_get(pte, numbers[i]));
    show_line("pte", "%s", text_of(pte, "sha256"));
    show_line("", "%s, %lld bytes, %lld instructions, %lld delegates",
              text_of(pte, "backend"), n[0], n[1], n[2]);
}

static void print_job(const json_t *job)
{
    show_line("export", "%s %s%s", text_of(job, "id"), text_of(job, "state"),
              json_is_true(json_object_get(job, "cached")) ? " (it was there already)"
                                                           : "");
    if (*text_of(job, "program"))
        show_line("program", "%s", text_of(job, "program"));
    print_pte(json_object_get(job, "pte"));
    print_verified(json_object_get(job, "verify"));
    print_deviations(job);
}

/* The .pte where one was asked for, otherwise the .pt2. */
static int fetch_file(const struct export *e, const json_t *job, uint64_t *ret_bytes,
                      uint64_t *ret_resumed)
{
    const json_t *pte = json_object_get(job, "pte");

    if (!e->format || !streq(e->format, "pte"))
        return ctl_download(e->ctl, text_of(job, "program"), &e->to, ret_bytes, ret_resumed);
    *ret_bytes = (uint64_t)MAX(json_integer_value(json_object_get(pte, "bytes")), 0);
    return ctl_download_pte(e->ctl, text_of(job, "id"), text_of(pte, "sha256"), *ret_bytes,
                            &e->to, ret_resumed);
}

/* Bring the file here and say so in the answer. */
static int download(const struct export *e, json_t *job)
{
    char text[SHOW_SIZE_CHARS], more[64] = "";
    uint64_t bytes, resumed;

    if (fetch_file(e, job, &bytes, &resumed) < 0)
        return -1;
    json_object_set_new(job, "file",
                        json_pack("{s:s, s:I, s:I}", "path", e->output, "bytes",
                                  (json_int_t)bytes, "resumed", (json_int_t)resumed));
    if (resumed == bytes)
        snprintf(more, sizeof(more), ", it was there already");
    else if (resumed)
        snprintf(more, sizeof(more), ", the last %llu bytes of it now",
                 (unsigned long long)(bytes - resumed));
    if (!e->ctl->json)
        show_line("file", "%s, %s%s; its SHA-256 is the %s's", e->output,
                  show_bytes(bytes, text), more,
                  e->format && streq(e->format, "pte") ? "pte" : "program");
    return 0;
}

/* Let the alias point to the program, whatever it pointed to before. */
static int name_it(const struct export *e, json_t *job)
{
    AUTO_PTR char *path = ctl_path("/v1/aliases/%s", e->alias);

    if (ctl_json(e->ctl, "PUT", path,
                 json_pack("{s:s}", "program", text_of(job, "program")), NULL) < 0)
        return -1;
    json_object_set_new(job, "alias", json_string(e->alias));
    if (!e->ctl->json)
        show_line("alias", "%s", e->alias);
    return 0;
}

static int finish(const struct export *e, json_t *job)
{
    if (is_finished(job) && !streq(text_of(job, "state"), "succeeded"))
        return fail_job(e->ctl, job);
    if (!e->ctl->json)
        print_job(job);
    if (e->alias && name_it(e, job) < 0)
        return -1;
    if (e->output && download(e, job) < 0)
        return -1;
    return e->ctl->json ? show_json(e->ctl, job) : 0;
}

static int run(const struct export *e, const char *model)
{
    json_auto_t *body = make_body(e, model), *answer = NULL;

    if (add_labels(e, body) < 0 ||
        ctl_json(e->ctl, "POST", "/v1/exports", TAKE(body), &answer) < 0)
        return -1;
    if (e->dry_run) {
        if (e->ctl->json)
            return show_json(e->ctl, answer);
        print_dry_run(answer);
        return 0;
    }
    if (!*text_of(answer, "id"))
        return ctl_fail(e->ctl, CTL_BROKEN, "the answer to POST /v1/exports has no id");
    if (!e->no_wait && watch(e, &answer) < 0)
        return -1;
    return finish(e, answer);
}

int ctl_cmd_export(struct ctl *ctl, int argc, char **argv)
{
    struct export e = {.ctl = ctl, .group_size = -1, .embedding_group_size = -1};
    const struct ctl_option options[] = {
        {'o', "output", CTL_STRING, &e.output, "FILE",
         "bring the .pt2 (or .pte) here; a broken download goes on where it stopped", 0, 0},
        {'a', "alias", CTL_STRING, &e.alias, "NAME",
         "let this name point to the program", 0, 0},
        {0, "dtype", CTL_STRING, &e.dtype, "TYPE",
         "float32, bfloat16 or float16; otherwise the checkpoint's", 0, 0},
        {0, "batch-size", CTL_INT, &e.batch_size, "N", "rows; otherwise 1", 1, 4096},
        {0, "max-cache-len", CTL_INT, &e.max_cache_len, "N",
         "positions; otherwise max_position_embeddings, 4096 at most", 1, INT32_MAX},
        {0, "seq-len", CTL_INT, &e.seq_len, "N", "tokens that a call takes; otherwise 1",
         1, 65536},
        {0, "dynamic-shapes", CTL_FLAG, &e.dynamic_shapes, NULL,
         "a call takes any number of tokens", 0, 0},
        {0, "attn-implementation", CTL_STRING, &e.attn, "NAME",
         "eager (as trained; the default) or sdpa (as the reference exports)", 0, 0},
        {0, "cache-implementation", CTL_STRING, &e.cache, "NAME",
         "static (the default) or hybrid (sliding layers in rings of their window)", 0, 0},
        {0, "logits-to-keep", CTL_STRING, &e.logits, "WHICH",
         "all (the default) or last (of a call's last token alone)", 0, 0},
        {0, "profile", CTL_STRING, &e.profile, "NAME", "torch (the default) or edge", 0, 0},
        {0, "custom-ops", CTL_FLAG, &e.custom_ops, NULL,
         "with profile edge: ExecuTorch's own cache and attention ops", 0, 0},
        {0, "format", CTL_STRING, &e.format, "NAME",
         "pt2 (the default), or pte: its ExecuTorch program as well", 0, 0},
        {0, "pte-backend", CTL_STRING, &e.backend, "NAME",
         "of format pte: xnnpack (the default) or portable", 0, 0},
        {0, "quantize-linear", CTL_STRING, &e.linear, "SCHEME", "8da4w, 8da8w, 8w or 4w", 0, 0},
        {0, "quantize-embedding", CTL_STRING, &e.embedding, "SCHEME", "8w or 4w", 0, 0},
        {0, "group-size", CTL_INT, &e.group_size, "N",
         "neighbours that share a scale; otherwise 32; 0: a row", 0, 256},
        {0, "embedding-group-size", CTL_INT, &e.embedding_group_size, "N",
         "the same of embeddings; otherwise 0", 0, 256},
        {0, "quantize-fallback", CTL_STRING, &e.fallback, "SCHEME",
         "of linears that the group size does not divide, per row", 0, 0},
        {0, "skip", CTL_LIST, &e.skip, "MODULE", "leave lm_head, mlp.down_proj ... floats", 0, 0},
        {0, "verify", CTL_INT, &e.verify, "N",
         "run the program for N tokens on each engine and compare the logits", 0, 4096},
        {'l', "label", CTL_LIST, &e.labels, "NAME=VALUE", "a label of the job", 0, 0},
        {'n', "dry-run", CTL_FLAG, &e.dry_run, NULL, "only say what would be made", 0, 0},
        {0, "no-wait", CTL_FLAG, &e.no_wait, NULL, "do not wait for the job", 0, 0},
        {0}};
    const struct ctl_usage usage = {
        .usage = "export MODEL [-o FILE] [options]",
        .about = "Export a model: submit the job, show its progress, wait until it is "
                 "finished,\nand with -o download the program and check its digest.",
        .options = options,
        .min_args = 1,
        .max_args = 1};
    const char *args[1];
    int n, r;

    if (ctl_options(ctl, argc, argv, &usage, args, &n) < 0)
        return -1;
    if (ctl->help)
        return 0;
    if ((e.output || e.alias) && (e.no_wait || e.dry_run))
        return ctl_fail(ctl, CTL_USAGE,
                        "-o and --alias go with neither --no-wait nor --dry-run");
    if (e.output && ctl_output(ctl, e.output, &e.to) < 0)
        return -1;
    r = run(&e, args[0]);
    output_done(&e.to);
    return r;
}
