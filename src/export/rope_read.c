/* rope_read.c - rope_parameters, and what stood in its place before. */
#include "export/rope.h"

#include <math.h>

static const struct {
    const char *name;
    enum rope_type type;
} types[] = {
    {"default", ROPE_DEFAULT}, {"linear", ROPE_LINEAR}, {"dynamic", ROPE_DYNAMIC},
    {"yarn", ROPE_YARN},       {"llama3", ROPE_LLAMA3}, {"longrope", ROPE_LONGROPE},
};

/* One reading: the config, the object that holds the parameters, and what fills them. */
struct reading {
    const struct fields *config;
    struct fields r; /* object NULL: there is none */
    const struct rope_rules *rules;
    double theta; /* where r has none */
    struct rope *rope;
    struct pt2_err *err;
};

/* The fields that some type reads.  Anything else may change the positions in a way that
 * is not known here ("mrope_section"). */
static int check_known(const struct reading *reading)
{
    static const char *const known[] = {
        "rope_type",
        "type",
        "rope_theta",
        "partial_rotary_factor",
        "factor",
        "original_max_position_embeddings",
        "attention_factor",
        "beta_fast",
        "beta_slow",
        "mscale",
        "mscale_all_dim",
        "truncate",
        "low_freq_factor",
        "high_freq_factor",
        "short_factor",
        "long_factor",
        "max_position_embeddings",
    };
    const char *key;
    json_t *value;

    json_object_foreach ((json_t *)reading->r.object, key, value) {
        bool is_known =
            json_is_null(value) || (reading->rules->reads_alpha && streq(key, "alpha")) ||
            (reading->rules->reads_sections && streq(key, "mrope_section")) ||
            (reading->rules->reads_query_beta && streq(key, "llama_4_scaling_beta"));

        for (size_t i = 0; i < ARRAY_LEN(known); i++)
            is_known = is_known || streq(key, known[i]);
        if (!is_known)
            return field_refuse(&reading->r, key, reading->err,
                                "not known of rotary embeddings");
    }
    return 0;
}

static int read_type(const struct reading *reading)
{
    const struct fields *r = &reading->r;
    const char *name, *old_name;

    if (field_string(r, "type", "default", &old_name, reading->err) < 0 ||
        field_string(r, "rope_type", old_name, &name, reading->err) < 0)
        return -1;
    if (reading->rules->reads_sections && streq(name, "mrope"))
        name = "default";
    if (reading->rules->is_longrope_only && (streq(name, "su") || streq(name, "yarn")))
        name = "longrope";
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        bool is_offered = !reading->rules->is_longrope_only ||
                          types[i].type == ROPE_DEFAULT || types[i].type == ROPE_LONGROPE;

        if (streq(name, types[i].name) && is_offered) {
            reading->rope->type = types[i].type;
            return 0;
        }
    }
    return field_refuse(r, field_is_there(r, "rope_type") ? "rope_type" : "type",
                        reading->err, "'%s' is not offered; %s are", name,
                        reading->rules->is_longrope_only
                            ? "default and longrope"
                            : "default, linear, dynamic, yarn, llama3 and longrope");
}

static double yarn_mscale(double scale, double mscale)
{
    return scale <= 1 ? 1.0 : 0.1 * mscale * log(scale) + 1.0;
}

static int read_yarn(const struct reading *reading)
{
    const struct fields *r = &reading->r;
    struct rope *rope = reading->rope;
    struct pt2_err *err = reading->err;
    double mscale, mscale_all, preset = yarn_mscale(rope->factor, 1);

    if (field_number(r, "mscale", 0, 0, 1e6, &mscale, err) < 0 ||
        field_number(r, "mscale_all_dim", 0, 0, 1e6, &mscale_all, err) < 0)
        return -1;
    if (mscale != 0 && mscale_all != 0)
        preset =
            yarn_mscale(rope->factor, mscale) / yarn_mscale(rope->factor, mscale_all);
    if (field_number(r, "attention_factor", preset, 0, 1e6, &rope->attention_scale, err) <
            0 ||
        field_number(r, "beta_fast", 32, 0, 1e6, &rope->beta_fast, err) < 0 ||
        field_number(r, "beta_slow", 1, 0, 1e6, &rope->beta_slow, err) < 0 ||
        field_bool(r, "truncate", true, &rope->truncate, err) < 0)
        return -1;
    if (rope->beta_fast == 0) /* `or 32`, `or 1` there */
        rope->beta_fast = 32;
    if (rope->beta_slow == 0)
        rope->beta_slow = 1;
    if (rope->theta <= 1)
        return field_bad(r, "rope_theta", err, "must be above 1 for yarn, not %g",
                         rope->theta);
    return 0;
}

static int read_llama3(const struct reading *reading)
{
    static const char *const names[] = {"low_freq_factor", "high_freq_factor"};
    const struct fields *r = &reading->r;
    struct rope *rope = reading->rope;
    struct pt2_err *err = reading->err;

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (!field_is_there(r, names[i]))
            return field_bad(r, names[i], err, "is required for llama3");
    if (field_number(r, "low_freq_factor", 1, 1e-6, 1e6, &rope->low_factor, err) < 0 ||
        field_number(r, "high_freq_factor", 4, 1e-6, 1e6, &rope->high_factor, err) < 0)
        return -1;
    if (rope->high_factor <= rope->low_factor)
        return field_bad(r, "high_freq_factor", err,
                         "is %g, and must be above low_freq_factor, %g",
                         rope->high_factor, rope->low_factor);
    return 0;
}

static int read_list(const struct reading *reading, const char *name,
                     const json_t **ret_list)
{
    const json_t *list = field_get(&reading->r, name), *item;
    int64_t n = reading->rope->dim / 2;
    size_t i;

    if (!json_is_array(list) || json_array_size(list) != (size_t)n)
        return field_bad(&reading->r, name, reading->err,
                         "must be a list of %lld numbers, one a frequency", (long long)n);
    json_array_foreach (list, i, item)
        if (!json_is_number(item) || !(json_number_value(item) >= 1e-6) ||
            json_number_value(item) > 1e12)
            return field_bad(&reading->r, name, reading->err,
                             "element %zu must be a number of 1e-6 to 1e12", i);
    *ret_list = list;
    return 0;
}

static int read_longrope(const struct reading *reading)
{
    struct rope *rope = reading->rope;
    double preset = 1;

    if (rope->factor > 1)
        preset = sqrt(1 + log(rope->factor) / log(MAX(rope->original_max, 2)));
    if (read_list(reading, "short_factor", &rope->short_factor) < 0 ||
        read_list(reading, "long_factor", &rope->long_factor) < 0)
        return -1;
    return field_number(&reading->r, "attention_factor", preset, 0, 1e6,
                        &rope->attention_scale, reading->err);
}

static int read_dynamic(const struct reading *reading)
{
    struct rope *rope = reading->rope;

    if (rope->dim <= 2)
        return field_bad(&reading->r, "rope_type", reading->err,
                         "dynamic wants heads of more than 2");
    return field_number(&reading->r, "alpha", 0, 0, 1e12, &rope->alpha, reading->err);
}

static int read_original_max(const struct reading *reading)
{
    static const char name[] = "original_max_position_embeddings";
    const struct fields *config = reading->config;
    struct rope *rope = reading->rope;
    double preset = (double)rope->max_position;

    /* Phi-3 and others say it outside; that one counts. */
    if (!field_is_there(config, name) && reading->rules->original_max == 0)
        config = &reading->r;
    else if (reading->rules->original_max != 0)
        preset = reading->rules->original_max;
    return field_number(config, name, preset, 1, 1e12, &rope->original_max, reading->err);
}

static int read_scaling(const struct reading *reading)
{
    const struct fields *r = &reading->r;
    struct rope *rope = reading->rope;
    bool may_lack = rope->type == ROPE_LONGROPE ||
                    (rope->type == ROPE_YARN && field_is_null(r, "factor"));

    if (!field_is_there(r, "factor") && !may_lack)
        return field_bad(r, "factor", reading->err, "is required for this rope_type");
    if (field_number(r, "factor", (double)rope->max_position / rope->original_max, 1e-6,
                     1e6, &rope->factor, reading->err) < 0)
        return -1;
    switch (rope->type) {
    case ROPE_YARN:
        return read_yarn(reading);
    case ROPE_LLAMA3:
        return read_llama3(reading);
    case ROPE_LONGROPE:
        return read_longrope(reading);
    case ROPE_DYNAMIC:
        return read_dynamic(reading);
    default:
        return 0;
    }
}

/* How many of head_dim elements turn: int(head_dim * partial_rotary_factor). */
static int read_dim(const struct reading *reading, int64_t head_dim)
{
    const struct rope_rules *rules = reading->rules;
    const char *outer =
        rules->partial_field ? rules->partial_field : "partial_rotary_factor";
    bool is_inner = field_is_there(&reading->r, "partial_rotary_factor");
    const struct fields *from = is_inner ? &reading->r : reading->config;
    const char *name = is_inner ? "partial_rotary_factor" : outer;
    double partial;

    if (field_number(from, name, rules->partial == 0 ? 1 : rules->partial, 0, 1, &partial,
                     reading->err) < 0)
        return -1;
    if (rules->partial == 0 && partial != 1)
        return field_refuse(from, name, reading->err,
                            "is %g, but this model type rotates whole heads", partial);
    reading->rope->dim = (int64_t)((double)head_dim * partial);
    if (reading->rope->dim >= 2 && reading->rope->dim % 2 == 0)
        return 0;
    if (partial == 1)
        return field_bad(reading->config, "head_dim", reading->err,
                         "is %lld, and must be even to be rotated", (long long)head_dim);
    return field_bad(from, name, reading->err,
                     "%g of %lld, the head's size, are %lld, and must be even to be "
                     "rotated",
                     partial, (long long)head_dim, (long long)reading->rope->dim);
}

static int read_one(const struct reading *reading, int64_t head_dim, int64_t max_position)
{
    struct rope *rope = reading->rope;

    *rope =
        (struct rope){.max_position = max_position, .attention_scale = 1, .prefix = ""};
    if (check_known(reading) < 0 || read_type(reading) < 0 ||
        read_dim(reading, head_dim) < 0 ||
        field_number(&reading->r, "rope_theta", reading->theta, 1e-6, 1e18, &rope->theta,
                     reading->err) < 0 ||
        read_original_max(reading) < 0)
        return -1;
    if (reading->rules->reads_query_beta &&
        field_number(&reading->r, "llama_4_scaling_beta", 0, 0, 1e6, &rope->query_beta,
                     reading->err) < 0)
        return -1;
    return rope->type == ROPE_DEFAULT ? 0 : read_scaling(reading);
}

/* `rope_scaling or rope_parameters` there: an empty object counts as none. */
static int find_parameters(struct reading *reading)
{
    static const char *const spellings[] = {"rope_scaling", "rope_parameters"};
    const struct fields *config = reading->config;

    reading->r = fields_of(NULL, "rope_parameters");
    for (size_t i = 0; i < ARRAY_LEN(spellings); i++) {
        if (json_object_size(reading->r.object) > 0 ||
            !field_is_there(config, spellings[i]))
            continue;
        reading->r = fields_of(field_get(config, spellings[i]), spellings[i]);
        if (!json_is_object(reading->r.object))
            return field_bad(config, spellings[i], reading->err,
                             "must be an object or null");
    }
    if (reading->rules->is_required && json_object_size(reading->r.object) == 0)
        return field_refuse(config, "rope_parameters", reading->err,
                            "must be there: what this model type fills in for it is not "
                            "offered");
    return 0;
}

static int read_theta(struct reading *reading, const char *field, double preset)
{
    reading->theta = preset == 0 ? 10000 : preset;
    return field ? field_number(reading->config, field, reading->theta, 1e-6, 1e18,
                                &reading->theta, reading->err)
                 : 0;
}

int rope_read(const struct fields *config, const struct rope_rules *rules,
              int64_t head_dim, int64_t max_position, struct rope *ret_rope,
              struct pt2_err *err)
{
    struct rope rope;
    struct reading reading = {
        .config = config, .rules = rules, .rope = &rope, .err = err};

    if (find_parameters(&reading) < 0 ||
        read_theta(&reading, rules->theta_field ? rules->theta_field : "rope_theta",
                   rules->theta) < 0 ||
        read_one(&reading, head_dim, max_position) < 0)
        return -1;
    *ret_rope = rope;
    return 0;
}

int rope_read_two(const struct fields *config, const struct rope_rules *rules,
                  const char *local_field, double local_theta, int64_t head_dim,
                  int64_t max_position, struct rope ret_ropes[2], struct pt2_err *err)
{
    static const char *const names[] = {"full_attention", "sliding_attention"};
    static const char *const where[] = {"rope_parameters.full_attention",
                                        "rope_parameters.sliding_attention"};
    static const char *const prefixes[] = {"full_attention_", "sliding_attention_"};
    struct rope ropes[2];
    struct reading reading = {.config = config, .rules = rules, .err = err};
    struct fields all;
    bool is_nested;

    if (find_parameters(&reading) < 0)
        return -1;
    all = reading.r;
    is_nested = streq(all.where, "rope_parameters") && json_object_size(all.object) > 0;
    for (size_t i = 0; i < 2; i++) {
        const json_t *inner = is_nested ? field_get(&all, names[i]) : NULL;

        if (is_nested && (!json_is_object(inner) || json_object_size(all.object) != 2))
            return field_refuse(config, "rope_parameters", err,
                                "must hold full_attention and sliding_attention, an "
                                "object each, and nothing else");
        reading.rope = &ropes[i];
        reading.r = is_nested ? fields_of(inner, where[i])
                    : i == 0  ? all
                              : fields_of(NULL, "rope_parameters");
        if (read_theta(&reading, i == 0 ? "rope_theta" : local_field,
                       i == 0 ? rules->theta : local_theta) < 0 ||
            read_one(&reading, head_dim, max_position) < 0)
            return -1;
        ropes[i].prefix = prefixes[i];
    }
    memcpy(ret_ropes, ropes, sizeof(ropes));
    return 0;
}
