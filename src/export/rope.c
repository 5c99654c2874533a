#include "export/rope.h"

#include <math.h>

/* Python rounds each operation; a compiler must not fuse two of them. */
#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#define NO_CONTRACT
#else
#define NO_CONTRACT __attribute__((optimize("fp-contract=off")))
#endif

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

bool rope_is_long(const struct rope *rope, int64_t max_cache_len)
{
    return rope->type == ROPE_LONGROPE && (double)max_cache_len > rope->original_max;
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

/* modeling_xglm.py, get_embedding */
static float sinusoidal_freq(const struct rope *r, int64_t i)
{
    float step = (float)-(log(r->theta) / (double)(r->dim / 2 - 1));

    return (float)exp((double)((float)i * step));
}

static float longrope_freq(const struct rope *r, bool is_long, int64_t i)
{
    const json_t *list = is_long ? r->long_factor : r->short_factor;
    float factor = (float)json_number_value(json_array_get(list, (size_t)i));

    return 1.0f / (factor * position_freq(r->theta, i, r->dim));
}

void rope_inv_freq(const struct rope *rope, bool is_long, float *ret_freq)
{
    double theta = rope->theta, low = 0, high = 0;
    double max = (double)rope->max_position, dim = (double)rope->dim;

    if (rope->type == ROPE_YARN)
        yarn_range(rope, &low, &high);
    if (rope->type == ROPE_DYNAMIC && rope->alpha != 0)
        theta *= pow(rope->alpha, dim / (dim - 2));
    else if (rope->type == ROPE_DYNAMIC)
        theta *= pow(rope->factor * max / max - (rope->factor - 1), dim / (dim - 2));
    for (int64_t i = 0; i < rope->dim / 2; i++) {
        float freq = 1.0f / position_freq(theta, i, rope->dim);

        if (rope->type == ROPE_SINUSOIDAL)
            freq = sinusoidal_freq(rope, i);
        else if (rope->type == ROPE_LONGROPE)
            freq = longrope_freq(rope, is_long, i);
        else if (rope->type == ROPE_LINEAR)
            freq /= (float)rope->factor;
        else if (rope->type == ROPE_LLAMA3)
            freq = llama3_freq(rope, freq);
        else if (rope->type == ROPE_YARN)
            freq = yarn_freq(rope, i, low, high);
        ret_freq[i] = freq;
    }
}
