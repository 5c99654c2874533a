#include "cmd/export_flags.h"

#include <errno.h>
#include <getopt.h>

enum flag_kind {
    FLAG_MODE,   /* not a member of the body */
    FLAG_STRING, /* a member */
    FLAG_INT,
    FLAG_TRUE,
    FLAG_LIST, /* one more item of an array */
};

static const struct flag {
    char letter; /* 0: none */
    const char *name, *arg;
    enum flag_kind kind;
    const char *member; /* "cache/batch_size" of the body; NULL where it is none */
    const char *help;
} flags[] = {
    {'o', "output", "FILE", FLAG_MODE, NULL, "the .pt2 (or .pte) to write"},
    {0, "dtype", "TYPE", FLAG_STRING, "dtype",
     "float32, bfloat16 or float16; otherwise the checkpoint's"},
    {0, "batch-size", "N", FLAG_INT, "cache/batch_size", "rows; 1"},
    {0, "max-cache-len", "N", FLAG_INT, "cache/max_cache_len",
     "positions; otherwise max_position_embeddings, 4096 at most"},
    {0, "seq-len", "N", FLAG_MODE, NULL, "tokens that a call takes; 1"},
    {0, "dynamic-shapes", NULL, FLAG_TRUE, "dynamic_shapes",
     "a call takes any number of tokens, up to max-cache-len"},
    {0, "attn-implementation", "NAME", FLAG_STRING, "attn_implementation",
     "eager (as trained; default) or sdpa (as the reference exports)"},
    {0, "cache-implementation", "NAME", FLAG_STRING, "cache/implementation",
     "static (default) or hybrid (sliding layers in rings of their window)"},
    {0, "logits-to-keep", "WHICH", FLAG_STRING, "logits_to_keep",
     "all (default) or last (of the last token of a call alone)"},
    {0, "profile", "NAME", FLAG_STRING, "profile",
     "torch (default), or edge: for ExecuTorch, float32, a batch of one"},
    {0, "custom-ops", NULL, FLAG_TRUE, "custom_ops",
     "with profile edge: ExecuTorch's own cache and attention ops"},
    {0, "format", "NAME", FLAG_STRING, "format",
     "pt2 (default), or pte: the ExecuTorch program of it, with profile edge"},
    {0, "pte-backend", "NAME", FLAG_STRING, "pte/backend",
     "of format pte: xnnpack (default) or portable"},
    {0, "quantize-linear", "SCHEME", FLAG_STRING, "quantization/linear",
     "8da4w, 8da8w, 8w or 4w: weights of 8 or 4 bits, with 8da tokens of 8, too"},
    {0, "quantize-embedding", "SCHEME", FLAG_STRING, "quantization/embedding", "8w or 4w"},
    {0, "group-size", "N", FLAG_INT, "quantization/group_size",
     "neighbours that share a scale: 32 (default), 64, 128, 256; 0: a row"},
    {0, "embedding-group-size", "N", FLAG_INT, "quantization/embedding_group_size",
     "the same of embeddings; 0 (default): a row"},
    {0, "quantize-fallback", "SCHEME", FLAG_STRING, "quantization/fallback",
     "of linears that group-size does not divide, per row; otherwise they stay floats"},
    {0, "skip", "MODULE", FLAG_LIST, "quantization/skip",
     "leave lm_head, mlp.down_proj or model.layers.0 floats; more than once"},
    {0, "verify", "N", FLAG_INT, "verify",
     "run the program for N tokens on each engine and compare the logits; 0"},
    {'n', "dry-run", NULL, FLAG_TRUE, "dry_run",
     "write nothing; print the resolved options and sizes"},
    {0, "sync", NULL, FLAG_MODE, NULL, "wait until the file is on the disk"},
    {'j', "json", NULL, FLAG_MODE, NULL, "print the result, or the problem, in JSON"},
    {'q', "quiet", NULL, FLAG_MODE, NULL, "no progress"},
    {0, "job", NULL, FLAG_MODE, NULL,
     "options in JSON on standard input, progress and result in JSON lines on standard "
     "output; syncs"},
    {0, "verify-job", NULL, FLAG_MODE, NULL,
     "MODEL is a file that --job wrote: verify it, as standard input says"},
    {0, "pte-job", NULL, FLAG_MODE, NULL,
     "MODEL is a file that --job wrote: make a .pte of it, as standard input says"},
    {'h', "help", NULL, FLAG_MODE, NULL, "this text"},
    {'V', "version", NULL, FLAG_MODE, NULL, "the version"},
};

static int usage_error(const char *fmt, ...) PT2_PRINTF(1, 2);
static int usage_error(const char *fmt, ...)
{
    va_list ap;

    fputs("pt2-export: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputs("\nTry 'pt2-export --help'.\n", stderr);
    return 2;
}

static void print_help(void)
{
    puts("Usage: pt2-export MODEL -o FILE.pt2 [OPTION]...\n"
         "Make a torch.export program of the checkpoint MODEL (a directory of "
         "config.json and\n"
         "safetensors, or a GGUF file): forward(input_ids, cache_position) -> logits, "
         "with a\n"
         "static cache.\n");
    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        char left[64];

        snprintf(left, sizeof(left), "%c%c%c --%s%s%s", flags[i].letter ? '-' : ' ',
                 flags[i].letter ? flags[i].letter : ' ', flags[i].letter ? ',' : ' ',
                 flags[i].name, flags[i].arg ? " " : "",
                 flags[i].arg ? flags[i].arg : "");
        printf("  %-30s %s\n", left, flags[i].help);
    }
}

static int parse_int(const struct flag *f, const char *text, int64_t *ret_value)
{
    char *end;

    errno = 0;
    *ret_value = strtoll(text, &end, 10);
    if (errno || end == text || *end)
        return usage_error("--%s wants a whole number, not '%s'", f->name, text);
    return -1;
}

static void set_in(json_t *object, const char *name, bool is_item, json_t *value)
{
    json_t *list = json_object_get(object, name);

    if (!is_item) {
        json_object_set_new(object, name, value);
        return;
    }
    if (!list) {
        list = json_array();
        json_object_set_new(object, name, list);
    }
    json_array_append_new(list, value);
}

/* Put value (taken) where the member's path says, at most two levels deep. */
static int set_member(json_t *body, const struct flag *f, json_t *value)
{
    const char *slash = strchr(f->member, '/');
    json_t *inner = body;

    if (!value)
        return usage_error("--%s wants UTF-8", f->name);
    if (slash) {
        size_t len = (size_t)(slash - f->member);

        inner = json_object_getn(body, f->member, len);
        if (!inner) {
            inner = json_object();
            json_object_setn_new(body, f->member, len, inner);
        }
    }
    set_in(inner, slash ? slash + 1 : f->member, f->kind == FLAG_LIST, value);
    return -1;
}

static int take_member(struct export_flags *to, const struct flag *f, const char *text)
{
    int64_t number;
    int status;

    switch (f->kind) {
    case FLAG_INT:
        status = parse_int(f, text, &number);
        return status >= 0 ? status : set_member(to->body, f, json_integer(number));
    case FLAG_TRUE:
        return set_member(to->body, f, json_true());
    default:
        return set_member(to->body, f, json_string(text));
    }
}

static int take_mode(struct export_flags *to, const struct flag *f, const char *text)
{
    if (streq(f->name, "output")) {
        to->output = text;
    } else if (streq(f->name, "seq-len")) {
        int status = parse_int(f, text, &to->seq_len);

        if (status < 0 && to->seq_len < 1)
            return usage_error("--seq-len must be 1 or more, not '%s'", text);
        return status;
    } else if (streq(f->name, "sync")) {
        to->sync = true;
    } else if (streq(f->name, "json")) {
        to->json = true;
    } else if (streq(f->name, "quiet")) {
        to->quiet = true;
    } else if (streq(f->name, "job")) {
        to->job = true;
    } else if (streq(f->name, "verify-job")) {
        to->job = to->verify_job = true;
    } else if (streq(f->name, "pte-job")) {
        to->job = to->pte_job = true;
    } else if (streq(f->name, "help")) {
        print_help();
        return 0;
    } else {
        printf("pt2-export %s\n", pt2_exporter_version());
        return 0;
    }
    return -1;
}

/* The tables that getopt_long reads, made from ours.  An option's value is its place. */
static void make_getopt(struct option longs[ARRAY_LEN(flags) + 1], char *letters)
{
    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        longs[i] =
            (struct option){flags[i].name, flags[i].arg ? required_argument : no_argument,
                            NULL, 256 + (int)i};
        if (!flags[i].letter)
            continue;
        *letters++ = flags[i].letter;
        if (flags[i].arg)
            *letters++ = ':';
    }
    longs[ARRAY_LEN(flags)] = (struct option){0};
    *letters = '\0';
}

static const struct flag *find(int c)
{
    for (size_t i = 0; i < ARRAY_LEN(flags); i++)
        if (c == 256 + (int)i || (flags[i].letter && c == flags[i].letter))
            return &flags[i];
    return NULL;
}

static int check_complete(const struct export_flags *f, int n_left)
{
    bool dry = json_is_true(json_object_get(f->body, "dry_run"));

    if (n_left != 1)
        return usage_error(n_left ? "one MODEL at a time" : "which MODEL?");
    if (f->job && (json_object_size(f->body) > 0 || f->seq_len > 0))
        return usage_error("with --job the options come on standard input");
    if (!f->output && !dry && !f->verify_job)
        return usage_error("which file? (-o FILE.pt2, or --dry-run)");
    return -1;
}

int export_flags_parse(int argc, char **argv, struct export_flags *ret_flags)
{
    struct option longs[ARRAY_LEN(flags) + 1];
    struct export_flags f = {.body = json_object()};
    char letters[2 * ARRAY_LEN(flags) + 1];
    int c, status = -1;

    make_getopt(longs, letters);
    while (status < 0 && (c = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
        const struct flag *flag = find(c);

        if (!flag)
            status = usage_error("see above");
        else
            status = flag->kind == FLAG_MODE ? take_mode(&f, flag, optarg)
                                             : take_member(&f, flag, optarg);
    }
    if (status < 0)
        status = check_complete(&f, argc - optind);
    f.model_dir = argv[optind];
    if (status >= 0)
        export_flags_done(&f);
    else
        *ret_flags = f;
    return status;
}

void export_flags_done(struct export_flags *f)
{
    json_decref(f->body);
    *f = (struct export_flags){0};
}

const char *export_flag_of(const char *pointer)
{
    static char name[80];

    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        if (*pointer != '/' || !flags[i].member || !streq(flags[i].member, pointer + 1))
            continue;
        snprintf(name, sizeof(name), "--%s", flags[i].name);
        return name;
    }
    return pointer;
}
