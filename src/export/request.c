#include "export/request.h"

/* A body under way: its problems, and how many of them are of later versions only. */
struct reading {
    struct json_problems *problems;
    size_t n_later;
};

/* A value that is known, and offered by a later version. */
static void refuse_later(struct reading *r, struct json_obj *o, const char *name,
                         const char *what)
{
    char pointer[JSON_POINTER_SIZE];

    json_member_pointer(o, name, pointer);
    json_problem(r->problems, pointer, "%s is not offered by this version", what);
    r->n_later++;
}

/* A choice between what is offered (0) and what a later version offers (1). */
static void get_offered(struct reading *r, struct json_obj *o, const char *name,
                        const char *offered, const char *later)
{
    const char *choices[] = {offered, later};
    char what[80];
    size_t i;

    if (!json_get_choice(o, name, choices, 2, &i) || i == 0)
        return;
    snprintf(what, sizeof(what), "%s \"%s\"", name, later);
    refuse_later(r, o, name, what);
}

/* null, or an object that a later version reads. */
static void get_later_object(struct reading *r, struct json_obj *o, const char *name)
{
    char pointer[JSON_POINTER_SIZE];

    if (!json_has(o, name) || json_is_null_member(o, name))
        return;
    if (json_is_object(json_object_get(o->object, name))) {
        refuse_later(r, o, name, name);
        return;
    }
    json_member_pointer(o, name, pointer);
    json_problem(r->problems, pointer, "must be null or an object");
}

static void get_cache(struct json_obj *body, struct pt2_export_options *options)
{
    static const char *const impls[] = {"static", "hybrid"};
    struct json_obj cache;
    size_t i;

    if (!json_has(body, "cache") || !json_get_obj(body, "cache", &cache))
        return;
    if (json_get_choice(&cache, "implementation", impls, ARRAY_LEN(impls), &i))
        options->cache = i == 0 ? PT2_CACHE_STATIC : PT2_CACHE_HYBRID;
    json_get_int(&cache, "batch_size", 1, PT2_EXPORT_MAX_BATCH, &options->batch_size);
    json_get_int(&cache, "max_cache_len", 1, PT2_EXPORT_MAX_CACHE_LEN,
                 &options->max_cache_len);
    json_obj_end(&cache);
}

/* The length of a list of token ids or positions; 0, and a problem, where it is none. */
static int64_t get_length(struct reading *r, const json_t *list, const char *pointer)
{
    const json_t *item;
    size_t i;

    if (!json_is_array(list) || json_array_size(list) == 0 ||
        json_array_size(list) > PT2_EXPORT_MAX_CACHE_LEN) {
        json_problem(r->problems, pointer, "must be an array of 1 to %d integers",
                     PT2_EXPORT_MAX_CACHE_LEN);
        return 0;
    }
    json_array_foreach (list, i, item) {
        if (json_is_integer(item) && json_integer_value(item) >= 0)
            continue;
        json_problem(r->problems, pointer, "item %zu must be an integer, 0 or more", i);
        return 0;
    }
    return (int64_t)json_array_size(list);
}

/* Rows of one length, as many as the batch has. */
static int64_t get_input_ids(struct reading *r, struct json_obj *body, int64_t batch_size)
{
    char pointer[JSON_POINTER_SIZE];
    const json_t *rows = NULL;
    int64_t length = 0, n;

    if (!json_get_array(body, "example_input_ids", 1, PT2_EXPORT_MAX_BATCH, &rows))
        return 0;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        json_item_pointer(body, "example_input_ids", i, pointer);
        n = get_length(r, json_array_get(rows, i), pointer);
        if (n == 0)
            return 0;
        if (i == 0)
            length = n;
        if (n == length)
            continue;
        json_problem(r->problems, pointer, "has %lld ids, the first row %lld",
                     (long long)n, (long long)length);
        return 0;
    }
    if ((int64_t)json_array_size(rows) != batch_size) {
        json_member_pointer(body, "example_input_ids", pointer);
        json_problem(r->problems, pointer, "has %zu rows, cache.batch_size is %lld",
                     json_array_size(rows), (long long)batch_size);
    }
    return length;
}

/* The examples fix the sequence length; one of them is enough. */
static void get_examples(struct reading *r, struct json_obj *body,
                         struct pt2_export_options *options)
{
    int64_t batch = options->batch_size ? options->batch_size : 1;
    int64_t n_ids = get_input_ids(r, body, batch), n_positions = 0;
    char pointer[JSON_POINTER_SIZE];

    json_member_pointer(body, "example_cache_position", pointer);
    if (json_has(body, "example_cache_position"))
        n_positions = get_length(
            r, json_object_get(body->object, "example_cache_position"), pointer);
    if (n_ids > 0 && n_positions > 0 && n_ids != n_positions)
        json_problem(r->problems, pointer,
                     "has %lld positions, example_input_ids %lld ids",
                     (long long)n_positions, (long long)n_ids);
    options->seq_len = n_ids > 0 ? n_ids : n_positions;
    if (options->max_cache_len > 0 && options->seq_len > options->max_cache_len)
        json_problem(r->problems, n_ids > 0 ? "/example_input_ids/0" : pointer,
                     "has %lld items, cache.max_cache_len is %lld",
                     (long long)options->seq_len, (long long)options->max_cache_len);
}

/* As many tokens as the cache has room for; where its length is the default, that is known
 * later. */
static void get_verify(struct reading *r, struct json_obj *body,
                       struct pt2_export_options *options)
{
    if (!json_get_int(body, "verify", 0, PT2_EXPORT_MAX_VERIFY, &options->verify) ||
        options->max_cache_len == 0 || options->verify <= options->max_cache_len)
        return;
    json_problem(r->problems, "/verify", "is %lld tokens, cache.max_cache_len is %lld",
                 (long long)options->verify, (long long)options->max_cache_len);
}

static void get_members(struct reading *r, struct json_obj *body, bool wants_model,
                        struct export_request *request)
{
    static const char *const dtype_names[] = {"float32", "bfloat16", "float16"};
    static const enum pt2_dtype dtypes[] = {PT2_FLOAT32, PT2_BFLOAT16, PT2_FLOAT16};
    static const char *const attns[] = {"eager", "sdpa"};
    static const char *const kept[] = {"all", "last"};
    static const char *const profiles[] = {"torch", "edge"};
    struct pt2_export_options *options = &request->options;
    size_t i;

    if (wants_model)
        json_require(body, "model");
    json_get_string(body, "model", EXPORT_MODEL_MAX, &request->model);
    if (json_get_choice(body, "dtype", dtype_names, ARRAY_LEN(dtype_names), &i))
        options->dtype = dtypes[i];
    get_cache(body, options);
    get_examples(r, body, options);
    json_get_bool(body, "dynamic_shapes", &options->dynamic_shapes);
    if (json_get_choice(body, "attn_implementation", attns, ARRAY_LEN(attns), &i))
        options->attn = i == 0 ? PT2_ATTN_EAGER : PT2_ATTN_SDPA;
    if (json_get_choice(body, "logits_to_keep", kept, ARRAY_LEN(kept), &i))
        options->logits = i == 0 ? PT2_LOGITS_ALL : PT2_LOGITS_LAST;
    if (json_get_choice(body, "profile", profiles, ARRAY_LEN(profiles), &i))
        options->profile = i == 0 ? PT2_PROFILE_TORCH : PT2_PROFILE_EDGE;
    get_offered(r, body, "format", "pt2", "pte");
    get_later_object(r, body, "quantization");
    get_later_object(r, body, "pte");
    get_verify(r, body, options);
    json_get_bool(body, "dry_run", &request->dry_run);
    json_get_labels(body, "labels", &request->labels);
}

int export_request_parse(const json_t *body, bool wants_model,
                         struct json_problems *problems,
                         struct export_request *ret_request, struct pt2_err *err)
{
    struct reading r = {.problems = problems};
    struct export_request request = {0};
    size_t before = problems->n;
    struct json_obj o;

    json_obj_begin(&o, body, "", problems);
    get_members(&r, &o, wants_model, &request);
    json_obj_end(&o);
    if (problems->n > before)
        return json_problems_to_err(
            problems,
            problems->n - before == r.n_later ? PT2_ERR_UNSUPPORTED : PT2_ERR_INVALID,
            err);
    *ret_request = request;
    return 0;
}

/* ---- answers ---- */

static json_t *numbers(int64_t n, int64_t first, int64_t step)
{
    json_t *list = json_array();

    for (int64_t i = 0; i < n; i++)
        json_array_append_new(list, json_integer(first + i * step));
    return list;
}

json_t *export_options_to_json(const struct pt2_export_options *options)
{
    json_t *rows = json_array();

    for (int64_t i = 0; i < options->batch_size; i++)
        json_array_append_new(rows, numbers(options->seq_len, 1, 0));
    return json_pack(
        "{s:s, s:{s:s, s:I, s:I}, s:o, s:o, s:s, s:b, s:s, s:s, s:n, s:s, s:I}", "dtype",
        pt2_dtype_name(options->dtype), "cache", "implementation",
        pt2_cache_impl_name(options->cache), "batch_size",
        (json_int_t)options->batch_size, "max_cache_len",
        (json_int_t)options->max_cache_len, "example_input_ids", rows,
        "example_cache_position", numbers(options->seq_len, 0, 1), "logits_to_keep",
        pt2_logits_name(options->logits), "dynamic_shapes", (int)options->dynamic_shapes,
        "attn_implementation", pt2_attn_name(options->attn), "profile",
        pt2_profile_name(options->profile), "quantization", "format", "pt2", "verify",
        (json_int_t)options->verify);
}

json_t *export_summary_to_json(const struct pt2_export *exp)
{
    json_t *deviations = json_array();

    for (size_t i = 0; i < pt2_export_n_deviations(exp); i++)
        json_array_append_new(deviations, json_string(pt2_export_deviation(exp, i)));
    return json_pack("{s:o, s:I, s:I, s:I, s:o}", "options",
                     export_options_to_json(pt2_export_resolved(exp)), "program_bytes",
                     (json_int_t)pt2_export_program_bytes(exp), "cache_bytes",
                     (json_int_t)pt2_export_cache_bytes(exp), "parameters",
                     (json_int_t)pt2_export_n_parameters(exp), "deviations", deviations);
}
