#include "export/weight_schemes.h"

#include "export/weight_parts.h"

/* A row must fit a piece as float32, beside a source of float64 (pieces.h). */
#define MAX_GROUP (1 << 17)

const char *pt2_quant_name(enum pt2_quant quant)
{
    static const char *const names[] = {NULL, "8da4w", "8da8w", "8w", "4w"};

    return (unsigned)quant < ARRAY_LEN(names) ? names[quant] : NULL;
}

/* ---- options ---- */

static int check_group(const char *name, int64_t size, struct pt2_err *err)
{
    if (size == 0 || size == 32 || size == 64 || size == 128 || size == 256)
        return 0;
    return pt2_err_set(err, PT2_ERR_INVALID,
                       "quantization.%s must be 0, 32, 64, 128 or 256, not %lld", name,
                       (long long)size);
}

static int check_quant(const char *name, enum pt2_quant quant, bool is_embedding,
                       struct pt2_err *err)
{
    bool is_dynamic = quant == PT2_QUANT_8DA4W || quant == PT2_QUANT_8DA8W;

    if (quant == PT2_QUANT_NONE || (pt2_quant_name(quant) && !(is_embedding && is_dynamic)))
        return 0;
    return pt2_err_set(err, PT2_ERR_INVALID, "quantization.%s can't be %s", name,
                       pt2_quant_name(quant) ? pt2_quant_name(quant) : "that");
}

static int check_skip(const struct pt2_quantization *q, struct pt2_err *err)
{
    if (q->n_skip > PT2_EXPORT_MAX_SKIP)
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "quantization.skip has %zu names, %d are the most", q->n_skip,
                           PT2_EXPORT_MAX_SKIP);
    for (size_t i = 0; i < q->n_skip; i++)
        if (!memchr(q->skip[i], '\0', sizeof(q->skip[i])))
            return pt2_err_set(err, PT2_ERR_INVALID,
                               "quantization.skip: name %zu is longer than %d bytes", i,
                               PT2_EXPORT_SKIP_SIZE - 1);
    return 0;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void sort_names(struct pt2_quantization *q)
{
    size_t n = 0;

    qsort(q->skip, q->n_skip, sizeof(q->skip[0]), compare_names);
    for (size_t i = 0; i < q->n_skip; i++)
        if (n == 0 || !streq(q->skip[i], q->skip[n - 1]))
            memmove(q->skip[n++], q->skip[i], sizeof(q->skip[0]));
    memset(q->skip[n], 0, (PT2_EXPORT_MAX_SKIP - n) * sizeof(q->skip[0]));
    q->n_skip = n;
}

int weight_schemes_resolve(struct pt2_quantization *q, struct pt2_err *err)
{
    if (check_group("group_size", q->group_size, err) < 0 ||
        check_group("embedding_group_size", q->embedding_group_size, err) < 0 ||
        check_quant("linear", q->linear, false, err) < 0 ||
        check_quant("fallback", q->fallback, false, err) < 0 ||
        check_quant("embedding", q->embedding, true, err) < 0 || check_skip(q, err) < 0)
        return -1;
    if (q->fallback != PT2_QUANT_NONE &&
        (q->linear == PT2_QUANT_NONE || q->group_size == 0))
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "quantization.fallback is for linears that group_size does not "
                           "divide, but %s",
                           q->linear ? "group_size is 0" : "linear is null");
    if (q->linear == PT2_QUANT_NONE && q->embedding == PT2_QUANT_NONE) {
        if (q->n_skip > 0)
            return pt2_err_set(err, PT2_ERR_INVALID,
                               "quantization.skip names '%s', but linear and embedding are "
                               "null",
                               q->skip[0]);
        *q = (struct pt2_quantization){0};
        return 0;
    }
    if (q->linear == PT2_QUANT_NONE)
        q->group_size = 0;
    if (q->embedding == PT2_QUANT_NONE)
        q->embedding_group_size = 0;
    sort_names(q);
    return 0;
}

/* ---- which weights ---- */

enum module { MODULE_OTHER, MODULE_LINEAR, MODULE_EMBEDDING };

/* Routers, experts and what is (in, out) are no nn.Linear in Transformers. */
static enum module module_of(const struct weight *w, const struct decoder_spec *spec)
{
    switch (w->role) {
    case WEIGHT_EMBED:
    case WEIGHT_POSITIONS:
        return MODULE_EMBEDDING;
    case WEIGHT_QKV:
    case WEIGHT_Q:
    case WEIGHT_K:
    case WEIGHT_V:
    case WEIGHT_O:
    case WEIGHT_GATE:
    case WEIGHT_UP:
    case WEIGHT_DOWN:
        return spec->transposed ? MODULE_OTHER : MODULE_LINEAR;
    case WEIGHT_PROJECT_IN:
    case WEIGHT_PROJECT_OUT:
    case WEIGHT_SHARED_GATE:
    case WEIGHT_SHARED_UP:
    case WEIGHT_SHARED_DOWN:
    case WEIGHT_SHARED_ROUTER:
    case WEIGHT_HEAD:
        return MODULE_LINEAR;
    default:
        return MODULE_OTHER;
    }
}

/* Is it a module of that name: the path, an end of it, or a beginning? */
static bool is_named(const struct weight *w, const char *name)
{
    const char *path = w->fqn + strlen("model.");
    size_t n = strlen(path) - strlen(".weight"), len = strlen(name);

    if (len == n)
        return strncmp(path, name, n) == 0;
    if (len > n)
        return false;
    return (path[len] == '.' && strncmp(path, name, len) == 0) ||
           (path[n - len - 1] == '.' && strncmp(path + n - len, name, len) == 0);
}

static bool is_skipped(const struct weight *w, const struct pt2_quantization *q)
{
    for (size_t i = 0; i < q->n_skip; i++)
        if (is_named(w, q->skip[i]))
            return true;
    return false;
}

static int check_names(const struct weights *ws, const struct decoder_spec *spec,
                       const struct pt2_quantization *q, struct pt2_err *err)
{
    for (size_t i = 0; i < q->n_skip; i++) {
        size_t n = 0;

        for (size_t k = 0; k < ws->n; k++)
            n += module_of(&ws->list[k], spec) != MODULE_OTHER &&
                 is_named(&ws->list[k], q->skip[i]);
        if (n == 0)
            return pt2_err_set(err, PT2_ERR_INVALID,
                               "quantization.skip: '%s' is no linear or embedding of this "
                               "%s model, and none is in it",
                               q->skip[i], spec->model_type);
    }
    return 0;
}

static struct weight_scheme scheme_of(enum pt2_quant quant, int64_t group, int64_t k)
{
    return (struct weight_scheme){
        .bits = quant == PT2_QUANT_8DA4W || quant == PT2_QUANT_4W ? 4 : 8,
        .group = group == 0 ? k : group,
        .is_dynamic = quant == PT2_QUANT_8DA4W || quant == PT2_QUANT_8DA8W,
    };
}

/* What there is to say in the end. */
struct count {
    size_t n_linears, n_embeddings;      /* quantised */
    const struct weight *undivided;      /* the first that group_size doesn't divide */
    size_t n_undivided;
    size_t n_stored, n_from_floats; /* groups of 32 in the checkpoint: kept; not kept */
};

/* Groups of the checkpoint that the scheme has room for are taken as they are; float16 scales
 * fit all dtypes but bfloat16.  Those of Q4_0 may be negative, and ExecuTorch 1.5.1's XNNPACK
 * doesn't load a linear that has one. */
static void take_stored(struct weight *w, const struct weights *ws,
                        const struct pt2_export_options *options, struct count *count)
{
    unsigned bits = ws->sources[w->first_source]->group_bits;
    bool is_xnnpacks = options->profile == PT2_PROFILE_EDGE && w->scheme.is_dynamic;

    if (bits == 0)
        return;
    w->scheme.is_stored =
        bits <= w->scheme.bits && options->dtype != PT2_BFLOAT16 &&
        w->scheme.group == PT2_CHECKPOINT_GROUP && !(is_xnnpacks && bits == 4);
    *(w->scheme.is_stored ? &count->n_stored : &count->n_from_floats) += 1;
}

static void set_scheme(struct weight *w, enum module module,
                       const struct pt2_quantization *q, struct count *count)
{
    bool is_linear = module == MODULE_LINEAR;
    enum pt2_quant quant = is_linear ? q->linear : q->embedding;
    int64_t group = is_linear ? q->group_size : q->embedding_group_size, k = w->sizes[1];

    if (quant == PT2_QUANT_NONE || is_skipped(w, q))
        return;
    if (group > 0 && k % group != 0) {
        if (count->n_undivided++ == 0)
            count->undivided = w;
        quant = is_linear ? q->fallback : PT2_QUANT_NONE;
        group = 0;
    }
    if (quant == PT2_QUANT_NONE)
        return;
    w->scheme = scheme_of(quant, group, k);
    *(is_linear ? &count->n_linears : &count->n_embeddings) += 1;
}

/* ---- records ---- */

/* The head and the embedding have one record if they are the same numbers. */
static void untie(struct weights *ws)
{
    const struct weight_scheme *embed = &ws->list[0].scheme;

    for (size_t i = 0; i < ws->n; i++) {
        struct weight *w = &ws->list[i];

        if (w->is_alias &&
            (w->scheme.bits != embed->bits || w->scheme.group != embed->group))
            w->is_alias = false;
    }
}

static void number_records(struct weights *ws)
{
    ws->n_records = 0;
    for (size_t i = 0; i < ws->n; i++) {
        struct weight *w = &ws->list[i];

        if (w->is_alias) {
            w->record = ws->list[0].record;
            continue;
        }
        w->record = ws->n_records;
        ws->n_records += weight_n_parts(w);
    }
}

/* ---- what there is to say ---- */

#define ADD(...) (deviations_add(deviations, err, "quantization: " __VA_ARGS__) < 0)

static int say_what(const struct pt2_quantization *q, const struct count *count,
                    struct deviations *deviations, struct pt2_err *err)
{
    const struct weight *w = count->undivided;
    char how[60] = "stay floats";

    if (ADD("%zu weight%s of linears and %zu of embeddings %s whole numbers, as torchao's "
            "choose_qparams_affine makes them (symmetric); the reference export's are "
            "floats.",
            count->n_linears, count->n_linears == 1 ? "" : "s", count->n_embeddings,
            count->n_linears + count->n_embeddings == 1 ? "is" : "are"))
        return -1;
    if (q->fallback != PT2_QUANT_NONE)
        snprintf(how, sizeof(how), "are %s per channel", pt2_quant_name(q->fallback));
    if (w && ADD("the group size does not divide the rows of %zu of them ('%s': %lld), which "
                 "%s.",
                 count->n_undivided, w->fqn + strlen("model."), (long long)w->sizes[1], how))
        return -1;
    return 0;
}

/* What torchao's quantize_ with a filter for nn.Linear does not reach. */
static int say_what_not(const struct decoder_spec *spec, struct deviations *deviations,
                        struct pt2_err *err)
{
    if (spec->moe.n_experts > 0 &&
        ADD("experts and their routers stay floats: they are no linears in Transformers, and "
            "torchao's configurations leave them."))
        return -1;
    if (spec->transposed &&
        ADD("the weights in the layers of %s stay floats: they are (in, out), Transformers' "
            "Conv1D, which torchao's configurations leave.",
            spec->model_type))
        return -1;
    return 0;
}

static int say_of_stored(const struct count *count, struct deviations *deviations,
                         struct pt2_err *err)
{
    if (count->n_stored > 0 &&
        ADD("%zu weight%s the numbers and scales of their Q8_0 or Q4_0 blocks, which are "
            "groups of %d.",
            count->n_stored, count->n_stored == 1 ? " keeps" : "s keep",
            PT2_CHECKPOINT_GROUP))
        return -1;
    if (count->n_from_floats > 0 &&
        ADD("%zu weight%s Q8_0 or Q4_0 blocks in the checkpoint, but made anew from the "
            "floats that these stand for: they keep their numbers and scales in groups of "
            "%d with as many bits, not in bfloat16, and Q4_0's, some negative, in no "
            "linear of 8da4w with profile edge, which XNNPACK would not load.",
            count->n_from_floats, count->n_from_floats == 1 ? " is" : "s are",
            PT2_CHECKPOINT_GROUP))
        return -1;
    return 0;
}

/* ExecuTorch 1.5.1: what its XNNPACK doesn't take has no kernel there. */
static int say_of_edge(const struct pt2_quantization *q, struct deviations *deviations,
                       struct pt2_err *err)
{
    bool is_dynamic = q->linear == PT2_QUANT_8DA4W || q->linear == PT2_QUANT_8DA8W;

    if (q->linear == PT2_QUANT_NONE)
        return 0;
    if (!is_dynamic || q->fallback == PT2_QUANT_8W || q->fallback == PT2_QUANT_4W)
        return ADD("linears of 8w and 4w are not lowered by ExecuTorch's XNNPACK; 8da4w and "
                   "8da8w are.")
                   ? -1
                   : 0;
    if (q->linear == PT2_QUANT_8DA8W && q->group_size > 0)
        return ADD("ExecuTorch's XNNPACK lowers 8da8w with group_size 0 alone.") ? -1 : 0;
    return 0;
}

static int say_of_head(const struct weights *ws, struct deviations *deviations,
                       struct pt2_err *err)
{
    for (size_t i = 0; ws->is_tied && i < ws->n; i++)
        if (ws->list[i].role == WEIGHT_HEAD && !ws->list[i].is_alias)
            return ADD("head and embedding are tied, but of two schemes: both are in the "
                       "file.")
                       ? -1
                       : 0;
    return 0;
}

static int say(const struct weights *ws, const struct decoder_spec *spec,
               const struct pt2_export_options *options, const struct count *count,
               struct deviations *deviations, struct pt2_err *err)
{
    const struct pt2_quantization *q = &options->quantization;

    if (say_what(q, count, deviations, err) < 0)
        return -1;
    if (q->linear != PT2_QUANT_NONE && say_what_not(spec, deviations, err) < 0)
        return -1;
    if (options->profile == PT2_PROFILE_EDGE && say_of_edge(q, deviations, err) < 0)
        return -1;
    if (say_of_stored(count, deviations, err) < 0)
        return -1;
    return say_of_head(ws, deviations, err);
}

int weight_schemes_set(struct weights *ws, const struct decoder_spec *spec,
                       const struct pt2_export_options *options,
                       struct deviations *deviations, struct pt2_err *err)
{
    const struct pt2_quantization *q = &options->quantization;
    struct count count = {0};

    if (q->linear == PT2_QUANT_NONE && q->embedding == PT2_QUANT_NONE)
        return 0;
    if (check_names(ws, spec, q, err) < 0)
        return -1;
    for (size_t i = 0; i < ws->n; i++) {
        struct weight *w = &ws->list[i];
        enum module module = module_of(w, spec);

        if (module == MODULE_OTHER)
            continue;
        w->scheme = (struct weight_scheme){0};
        set_scheme(w, module, q, &count);
        if (w->scheme.bits > 0)
            take_stored(w, ws, options, &count);
        if (w->scheme.group > MAX_GROUP)
            return pt2_err_set(err, PT2_ERR_NOT_EXPORTABLE,
                               "'%s' has rows of %lld, one group each; at most %d are "
                               "offered",
                               w->fqn, (long long)w->scheme.group, MAX_GROUP);
    }
    untie(ws);
    number_records(ws);
    return say(ws, spec, options, &count, deviations, err);
}
