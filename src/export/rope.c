#include "export/rope.h"

#include <math.h>

/* Python rounds each operation; a compiler must not fuse two of them. */
#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#define NO_CONTRACT
#else
#define NO_CONTRACT __attribute__((optimize("fp-contract=off")))
#endif

static const struct {
    const char *name;
    enum rope_type type;
} types[] = {
    {"default", ROPE_DEFAULT}, {"linear", ROPE_LINEAR}, {"dynamic", ROPE_DYNAMIC},
    {"yarn", ROPE_YARN},       {"llama3", ROPE_LLAMA3},
};

/* ---- reading ---- */

/* The fields that some type reads.  Anything else may change the positions in a way that
 * is not known here ("mrope_section"). */
static int check_known(const struct fields *r, struct pt2_err *err)
{
    static const char *const known[] = {
        "rope_type",        "type",
        "rope_theta",       "partial_rotary_factor",
        "factor",           "original_max_position_embeddings",
        "attention_factor", "beta_fast",
        "beta_slow",        "mscale",
        "mscale_all_dim",   "truncate",
        "low_freq_factor",  "high_freq_factor",
        "short_factor",     "long_factor",
    };
    const char *key;
    json_t *value;

    json_object_foreach ((json_t *)r->object, key, value) {
        bool is_known = json_is_null(value);

        for (size_t i = 0; i < ARRAY_LEN(known); i++)
            is_known = is_known || streq(key, known[i]);
        if (!is_known)
            return field_refuse(r, key, err, "not known of rotary embeddings");
    }
    return 0;
}

static int read_type(const struct fields *r, enum rope_type *ret_type,
                     struct pt2_err *err)
{
    const char *name, *old_name;

    if (field_string(r, "type", "default", &old_name, err) < 0 ||
        field_string(r, "rope_type", old_name, &name, err) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (streq(name, types[i].name)) {
            *ret_type = types[i].type;
            return 0;
        }
    }
    return field_refuse(
        r, field_is_there(r, "rope_type") ? "rope_type" : "type", err,
        "'%s' is not offered; default, linear, dynamic, yarn and llama3 are", name);
}

static double yarn_mscale(double scale, double mscale)
{
    return scale <= 1 ? 1.0 : 0.1 * mscale * log(scale) + 1.0;
}

static int read_yarn(const struct fields *r, struct rope *rope, struct pt2_err *err)
{
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

static int read_llama3(const struct fields *r, struct rope *rope, struct pt2_err *err)
{
    static const char *const names[] = {"low_freq_factor", "high_freq_factor"};

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

static int read_scaling(const struct fields *config, const struct fields *r,
                        struct rope *rope, struct pt2_err *err)
{
    /* Phi-3 and others say it outside; that one counts. */
    const struct fields *from =
        field_is_there(config, "original_max_position_embeddings") ? config : r;

    if (field_number(from, "original_max_position_embeddings", (double)rope->max_position,
                     1, 1e12, &rope->original_max, err) < 0)
        return -1;
    if (!field_is_there(r, "factor") &&
        !(rope->type == ROPE_YARN && field_is_null(r, "factor")))
        return field_bad(r, "factor", err, "is required for this rope_type");
    if (field_number(r, "factor", (double)rope->max_position / rope->original_max, 1e-6,
                     1e6, &rope->factor, err) < 0)
        return -1;
    switch (rope->type) {
    case ROPE_YARN:
        return read_yarn(r, rope, err);
    case ROPE_LLAMA3:
        return read_llama3(r, rope, err);
    case ROPE_DYNAMIC:
        if (rope->dim <= 2)
            return field_bad(r, "rope_type", err, "dynamic wants heads of more than 2");
        return 0;
    default:
        return 0;
    }
}

static int check_partial(const struct fields *config, const struct fields *r,
                         struct pt2_err *err)
{
    const struct fields *from = field_is_there(r, "partial_rotary_factor") ? r : config;
    double partial;

    if (field_number(from, "partial_rotary_factor", 1, 0, 1, &partial, err) < 0)
        return -1;
    if (partial != 1)
        return field_refuse(from, "partial_rotary_factor", err,
                            "is %g, but this model type rotates whole heads", partial);
    return 0;
}

int rope_read(const struct fields *config, int64_t dim, int64_t max_position,
              struct rope *ret_rope, struct pt2_err *err)
{
    static const char *const spellings[] = {"rope_scaling", "rope_parameters"};
    struct rope rope = {.dim = dim, .max_position = max_position, .attention_scale = 1};
    struct fields r = fields_of(NULL, "rope_parameters");
    double theta;

    /* `rope_scaling or rope_parameters` there: an empty object counts as none. */
    for (size_t i = 0; i < ARRAY_LEN(spellings) && !json_object_size(r.object); i++) {
        if (!field_is_there(config, spellings[i]))
            continue;
        r = fields_of(field_get(config, spellings[i]), spellings[i]);
        if (!json_is_object(r.object))
            return field_bad(config, spellings[i], err, "must be an object or null");
    }
    if (dim < 2 || dim % 2)
        return field_bad(config, "head_dim", err,
                         "is %lld, and must be even to be rotated", (long long)dim);
    if (check_known(&r, err) < 0 || read_type(&r, &rope.type, err) < 0 ||
        check_partial(config, &r, err) < 0 ||
        field_number(config, "rope_theta", 10000, 1e-6, 1e18, &theta, err) < 0 ||
        field_number(&r, "rope_theta", theta, 1e-6, 1e18, &rope.theta, err) < 0)
        return -1;
    if (rope.type != ROPE_DEFAULT && read_scaling(config, &r, &rope, err) < 0)
        return -1;
    *ret_rope = rope;
    return 0;
}

int rope_check_len(const struct rope *rope, int64_t max_cache_len, struct pt2_err *err)
{
    if (rope->type == ROPE_DYNAMIC && max_cache_len > rope->max_position)
        return pt2_err_set(err, PT2_ERR_NOT_EXPORTABLE,
                           "config.json: rope_parameters.rope_type: dynamic changes the "
                           "frequencies beyond "
                           "max_position_embeddings, %lld, which a program can not; "
                           "max_cache_len is %lld",
                           (long long)rope->max_position, (long long)max_cache_len);
    return 0;
}

/* ---- frequencies ---- */

/* base ** (2i / dim) */
static float position_freq(double base, int64_t i, int64_t dim)
{
    float exponent = (float)(2 * i) / (float)dim;

    return (float)pow((double)(float)base, (double)exponent);
}

NO_CONTRACT static float llama3_freq(const struct rope *r, float freq)
{
    float low_wavelen = (float)(r->original_max / r->low_factor);
    float high_wavelen = (float)(r->original_max / r->high_factor);
    float wavelen = (1.0f / freq) * (float)(2 * M_PI);
    float scaled = wavelen > low_wavelen ? freq / (float)r->factor : freq;
    float smooth, a, b;

    if (wavelen < high_wavelen || wavelen > low_wavelen)
        return scaled;
    smooth = (1.0f / wavelen) * (float)r->original_max;
    smooth = smooth - (float)r->low_factor;
    smooth = smooth / (float)(r->high_factor - r->low_factor);
    a = (1.0f - smooth) * scaled;
    a = a / (float)r->factor;
    b = smooth * scaled;
    return a + b;
}

/* The dimension that turns num_rotations times within the original length. */
static double yarn_dim(const struct rope *r, double num_rotations)
{
    return ((double)r->dim * log(r->original_max / (num_rotations * 2 * M_PI))) /
           (2 * log(r->theta));
}

static void yarn_range(const struct rope *r, double *ret_low, double *ret_high)
{
    double low = yarn_dim(r, r->beta_fast), high = yarn_dim(r, r->beta_slow);

    if (r->truncate) {
        low = floor(low);
        high = ceil(high);
    }
    *ret_low = MAX(low, 0);
    *ret_high = MIN(high, (double)(r->dim - 1));
    if (*ret_low == *ret_high)
        *ret_high += 0.001; /* as there: no division by zero */
}

NO_CONTRACT static float yarn_freq(const struct rope *r, int64_t i, double low,
                                   double high)
{
    float pos = position_freq(r->theta, i, r->dim);
    float extrapolated = 1.0f / pos, scaled = (float)r->factor * pos;
    float interpolated = 1.0f / scaled;
    float ramp = ((float)i - (float)low) / (float)(high - low);
    float keep, a, b;

    ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
    keep = 1.0f - ramp;
    a = interpolated * (1.0f - keep);
    b = extrapolated * keep;
    return a + b;
}

void rope_inv_freq(const struct rope *rope, float *ret_freq)
{
    double theta = rope->theta, low = 0, high = 0;
    double max = (double)rope->max_position, dim = (double)rope->dim;

    if (rope->type == ROPE_YARN)
        yarn_range(rope, &low, &high);
    if (rope->type == ROPE_DYNAMIC)
        theta *= pow(rope->factor * max / max - (rope->factor - 1), dim / (dim - 2));
    for (int64_t i = 0; i < rope->dim / 2; i++) {
        float freq = 1.0f / position_freq(theta, i, rope->dim);

        if (rope->type == ROPE_LINEAR)
            freq /= (float)rope->factor;
        else if (rope->type == ROPE_LLAMA3)
            freq = llama3_freq(rope, freq);
        else if (rope->type == ROPE_YARN)
            freq = yarn_freq(rope, i, low, high);
        ret_freq[i] = freq;
    }
}
