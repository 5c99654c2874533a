#include "export/request.h"

/* null, or one of the names of pt2_quant from first on. */
static void get_quant(struct json_obj *o, const char *name, enum pt2_quant first,
                      enum pt2_quant *ret)
{
    const char *names[PT2_QUANT_4W];
    size_t n = 0, i;

    if (!json_has(o, name) || json_is_null_member(o, name))
        return;
    for (enum pt2_quant q = first; q <= PT2_QUANT_4W; q++)
        names[n++] = pt2_quant_name(q);
    if (json_get_choice(o, name, names, n, &i))
        *ret = first + (enum pt2_quant)i;
}

/* 0, or a power of two. */
static void get_group(struct json_obj *o, const char *name, int64_t *ret)
{
    char pointer[JSON_POINTER_SIZE];
    int64_t size;

    if (!json_get_int(o, name, 0, 256, &size))
        return;
    *ret = size;
    if (size == 0 || size == 32 || size == 64 || size == 128 || size == 256)
        return;
    json_member_pointer(o, name, pointer);
    json_problem(o->problems, pointer, "must be 0, 32, 64, 128 or 256, not %lld",
                 (long long)size);
}

static void get_skip(struct json_obj *o, struct pt2_quantization *q)
{
    char pointer[JSON_POINTER_SIZE];
    const json_t *names = NULL;

    if (!json_get_array(o, "skip", 0, PT2_EXPORT_MAX_SKIP, &names))
        return;
    for (size_t i = 0; i < json_array_size(names); i++) {
        const json_t *item = json_array_get(names, i);
        size_t len = json_string_length(item);

        if (len == 0 || len >= PT2_EXPORT_SKIP_SIZE || strlen(json_string_value(item)) != len) {
            json_item_pointer(o, "skip", i, pointer);
            json_problem(o->problems, pointer, "must be a module's name of 1 to %d bytes",
                         PT2_EXPORT_SKIP_SIZE - 1);
            return;
        }
        memcpy(q->skip[q->n_skip++], json_string_value(item), len + 1);
    }
}

static void get_quantization(struct json_obj *body, struct pt2_quantization *q)
{
    struct json_obj o;

    if (!json_has(body, "quantization") || json_is_null_member(body, "quantization") ||
        !json_get_obj(body, "quantization", &o))
        return;
    q->group_size = PT2_EXPORT_DEFAULT_GROUP;
    get_quant(&o, "linear", PT2_QUANT_8DA4W, &q->linear);
    get_quant(&o, "fallback", PT2_QUANT_8DA4W, &q->fallback);
    get_quant(&o, "embedding", PT2_QUANT_8W, &q->embedding);
    get_group(&o, "group_size", &q->group_size);
    get_group(&o, "embedding_group_size", &q->embedding_group_size);
    get_skip(&o, q);
    json_obj_end(&o);
}

void export_request_pte(struct json_obj *o, struct pt2_pte_options *options,
                        bool *ret_custom_ops)
{
    static const char *const backends[] = {"xnnpack", "portable"};
    size_t i;

    if (json_get_choice(o, "backend", backends, ARRAY_LEN(backends), &i))
        options->backend = i == 0 ? PT2_PTE_XNNPACK : PT2_PTE_PORTABLE;
    json_get_bool(o, "custom_ops", ret_custom_ops);
}

/* null or an object, the latter with that format alone. */
static void get_pte(struct json_obj *body, struct pt2_export_options *options)
{
    struct json_obj o;

    if (!json_has(body, "pte") || json_is_null_member(body, "pte") ||
        !json_get_obj(body, "pte", &o))
        return;
    if (options->format != PT2_FORMAT_PTE)
        json_problem(body->problems, "/format", "must be pte where pte's options are given");
    export_request_pte(&o, &options->pte, &options->custom_ops);
    if (json_has(&o, "custom_ops") && json_has(body, "custom_ops") &&
        json_is_true(json_object_get(o.object, "custom_ops")) !=
            json_is_true(json_object_get(body->object, "custom_ops")))
        json_problem(body->problems, "/pte/custom_ops", "is not what /custom_ops says");
    json_obj_end(&o);
}

static void get_format(struct json_obj *body, struct pt2_export_options *options)
{
    static const char *const formats[] = {"pt2", "pte"};
    size_t i;

    if (json_get_choice(body, "format", formats, ARRAY_LEN(formats), &i) && i == 1)
        options->format = PT2_FORMAT_PTE;
    get_pte(body, options);
}

/* edge where it is not given and the format wants it. */
static void get_profile(struct json_obj *body, struct pt2_export_options *options)
{
    static const char *const profiles[] = {"torch", "edge"};
    size_t i;

    if (json_get_choice(body, "profile", profiles, ARRAY_LEN(profiles), &i))
        options->profile = i == 0 ? PT2_PROFILE_TORCH : PT2_PROFILE_EDGE;
    if (options->format != PT2_FORMAT_PTE)
        return;
    if (!json_has(body, "profile"))
        options->profile = PT2_PROFILE_EDGE;
    else if (options->profile == PT2_PROFILE_TORCH)
        json_problem(body->problems, "/profile", "must be edge with format pte, not torch");
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
static int64_t get_length(struct json_problems *problems, const json_t *list,
                          const char *pointer)
{
    const json_t *item;
    size_t i;

    if (!json_is_array(list) || json_array_size(list) == 0 ||
        json_array_size(list) > PT2_EXPORT_MAX_CACHE_LEN) {
        json_problem(problems, pointer, "must be an array of 1 to %d integers",
                     PT2_EXPORT_MAX_CACHE_LEN);
        return 0;
    }
    json_array_foreach (list, i, item) {
        if (json_is_integer(item) && json_integer_value(item) >= 0)
            continue;
        json_problem(problems, pointer, "item %zu must be an integer, 0 or more", i);
        return 0;
    }
    return (int64_t)json_array_size(list);
}

/* Rows of one length, as many as the batch has. */
static int64_t get_input_ids(struct json_obj *body, int64_t batch_size)
{
    char pointer[JSON_POINTER_SIZE];
    const json_t *rows = NULL;
    int64_t length = 0, n;

    if (!json_get_array(body, "example_input_ids", 1, PT2_EXPORT_MAX_BATCH, &rows))
        return 0;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        json_item_pointer(body, "example_input_ids", i, pointer);
        n = get_length(body->problems, json_array_get(rows, i), pointer);
        if (n == 0)
            return 0;
        if (i == 0)
            length = n;
        if (n == length)
            continue;
        json_problem(body->problems, pointer, "has %lld ids, the first row %lld",
                     (long long)n, (long long)length);
        return 0;
    }
    if ((int64_t)json_array_size(rows) != batch_size) {
        json_member_pointer(body, "example_input_ids", pointer);
        json_problem(body->problems, pointer, "has %zu rows, cache.batch_size is %lld",
                     json_array_size(rows), (long long)batch_size);
    }
    return length;
}

/* The examples fix the sequence length; one of them is enough. */
static void get_examples(struct json_obj *body,
                         struct pt2_export_options *options)
{
    int64_t batch = options->batch_size ? options->batch_size : 1;
    int64_t n_ids = get_input_ids(body, batch), n_positions = 0;
    char pointer[JSON_POINTER_SIZE];

    json_member_pointer(body, "example_cache_position", pointer);
    if (json_has(body, "example_cache_position"))
        n_positions = get_length(
            body->problems, json_object_get(body->object, "example_cache_position"), pointer);
    if (n_ids > 0 && n_positions > 0 && n_ids != n_positions)
        json_problem(body->problems, pointer,
                     "has %lld positions, example_input_ids %lld ids",
                     (long long)n_positions, (long long)n_ids);
    options->seq_len = n_ids > 0 ? n_ids : n_positions;
    if (options->max_cache_len > 0 && options->seq_len > options->max_cache_len)
        json_problem(body->problems, n_ids > 0 ? "/example_input_ids/0" : pointer,
                     "has %lld items, cache.max_cache_len is %lld",
                     (long long)options->seq_len, (long long)options->max_cache_len);
}

/* As many tokens as the cache has room for; where its length is the default, that is known
 * later. */
static void get_verify(struct json_obj *body,
                       struct pt2_export_options *options)
{
    if (!json_get_int(body, "verify", 0, PT2_EXPORT_MAX_VERIFY, &options->verify) ||
        options->max_cache_len == 0 || options->verify <= options->max_cache_len)
        return;
    json_problem(body->problems, "/verify", "is %lld tokens, cache.max_cache_len is %lld",
                 (long long)options->verify, (long long)options->max_cache_len);
}

static void get_custom_ops(struct json_obj *body,
                           struct pt2_export_options *options)
{
    if (json_get_bool(body, "custom_ops", &options->custom_ops) && options->custom_ops &&
        options->profile != PT2_PROFILE_EDGE)
        json_problem(body->problems, "/custom_ops", "wants profile edge");
}

static void get_members(struct json_obj *body, bool wants_model,
                        struct export_request *request)
{
    static const char *const dtype_names[] = {"float32", "bfloat16", "float16"};
    static const enum pt2_dtype dtypes[] = {PT2_FLOAT32, PT2_BFLOAT16, PT2_FLOAT16};
    static const char *const attns[] = {"eager", "sdpa"};
    static const char *const kept[] = {"all", "last"};
    struct pt2_export_options *options = &request->options;
    size_t i;

    if (wants_model)
        json_require(body, "model");
    json_get_string(body, "model", EXPORT_MODEL_MAX, &request->model);
    if (json_get_choice(body, "dtype", dtype_names, ARRAY_LEN(dtype_names), &i))
        options->dtype = dtypes[i];
    get_cache(body, options);
    get_examples(body, options);
    json_get_bool(body, "dynamic_shapes", &options->dynamic_shapes);
    if (json_get_choice(body, "attn_implementation", attns, ARRAY_LEN(attns), &i))
        options->attn = i == 0 ? PT2_ATTN_EAGER : PT2_ATTN_SDPA;
    if (json_get_choice(body, "logits_to_keep", kept, ARRAY_LEN(kept), &i))
        options->logits = i == 0 ? PT2_LOGITS_ALL : PT2_LOGITS_LAST;
    get_format(body, options);
    get_profile(body, options);
    get_custom_ops(body, options);
    get_quantization(body, &options->quantization);
    get_verify(body, options);
    json_get_bool(body, "dry_run", &request->dry_run);
    json_get_labels(body, "labels", &request->labels);
}

int export_request_parse(const json_t *body, bool wants_model,
                         struct json_problems *problems,
                         struct export_request *ret_request, struct pt2_err *err)
{
    struct export_request request = {0};
    size_t before = problems->n;
    struct json_obj o;

    json_obj_begin(&o, body, "", problems);
    get_members(&o, wants_model, &request);
    json_obj_end(&o);
    if (problems->n > before)
        return json_problems_to_err(problems, PT2_ERR_INVALID, err);
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

static json_t *name_or_null(enum pt2_quant quant)
{
    return quant == PT2_QUANT_NONE ? json_null() : json_string(pt2_quant_name(quant));
}

static json_t *quantization_to_json(const struct pt2_quantization *q)
{
    json_t *skip;

    if (q->linear == PT2_QUANT_NONE && q->embedding == PT2_QUANT_NONE)
        return json_null();
    skip = json_array();
    for (size_t i = 0; i < q->n_skip; i++)
        json_array_append_new(skip, json_string(q->skip[i]));
    return json_pack("{s:o, s:I, s:o, s:o, s:I, s:o}", "linear", name_or_null(q->linear),
                     "group_size", (json_int_t)q->group_size, "fallback",
                     name_or_null(q->fallback), "embedding", name_or_null(q->embedding),
                     "embedding_group_size", (json_int_t)q->embedding_group_size, "skip",
                     skip);
}

static json_t *pte_to_json(const struct pt2_export_options *options)
{
    if (options->format != PT2_FORMAT_PTE)
        return json_null();
    return json_pack("{s:s, s:b}", "backend", pt2_pte_backend_name(options->pte.backend),
                     "custom_ops", (int)options->custom_ops);
}

json_t *export_options_to_json(const struct pt2_export_options *options)
{
    const size_t shortages = json_shortages();
    json_t *rows = json_array(), *json;

    for (int64_t i = 0; i < options->batch_size; i++)
        json_array_append_new(rows, numbers(options->seq_len, 1, 0));
    json = json_pack(
        "{s:s, s:{s:s, s:I, s:I}, s:o, s:o, s:s, s:b, s:s, s:s, s:b, s:o, s:s, s:o, s:I}",
        "dtype",
        pt2_dtype_name(options->dtype), "cache", "implementation",
        pt2_cache_impl_name(options->cache), "batch_size",
        (json_int_t)options->batch_size, "max_cache_len",
        (json_int_t)options->max_cache_len, "example_input_ids", rows,
        "example_cache_position", numbers(options->seq_len, 0, 1), "logits_to_keep",
        pt2_logits_name(options->logits), "dynamic_shapes", (int)options->dynamic_shapes,
        "attn_implementation", pt2_attn_name(options->attn), "profile",
        pt2_profile_name(options->profile), "custom_ops", (int)options->custom_ops,
        "quantization", quantization_to_json(&options->quantization), "format",
        pt2_format_name(options->format), "pte", pte_to_json(options), "verify",
        (json_int_t)options->verify);
    return json_if_whole(json, shortages);
}

json_t *export_summary_to_json(const struct pt2_export *exp)
{
    struct pt2_pte_facts pte = pt2_export_pte_facts(exp);
    const size_t shortages = json_shortages();
    json_t *deviations = json_array(), *json;

    for (size_t i = 0; i < pt2_export_n_deviations(exp); i++)
        json_array_append_new(deviations, json_string(pt2_export_deviation(exp, i)));
    json = json_pack("{s:o, s:I, s:o, s:I, s:I, s:o}", "options",
                     export_options_to_json(pt2_export_resolved(exp)), "program_bytes",
                     (json_int_t)pt2_export_program_bytes(exp), "pte_bytes",
                     pte.file_bytes ? json_integer((json_int_t)pte.file_bytes) : json_null(),
                     "cache_bytes",
                     (json_int_t)pt2_export_cache_bytes(exp), "parameters",
                     (json_int_t)pt2_export_n_parameters(exp), "deviations", deviations);
    return json_if_whole(json, shortages);
}
