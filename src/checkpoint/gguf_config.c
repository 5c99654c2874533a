#include "checkpoint/gguf_config.h"

#include "base/json.h"
#include <math.h>

#define MAX_FACTORS 4096 /* rotary frequencies of a head */

struct config {
    const struct gguf *gguf;
    const struct gguf_arch *arch;
    json_t *object;
    struct pt2_err *err;
};

static int no_memory(const struct config *c)
{
    return pt2_err_set(c->err, PT2_ERR_NOMEM, "no memory for the config of a GGUF file");
}

/* value is taken; NULL is no memory. */
static int set(const struct config *c, const char *name, json_t *value)
{
    return json_object_set_new(c->object, name, value) < 0 ? no_memory(c) : 0;
}

/* ---- numbers ---- */

static int bad_value(const struct config *c, const struct gguf_value *v, const char *must)
{
    if (v->kind == GGUF_ARRAY)
        return pt2_err_set(
            c->err, PT2_ERR_NOT_EXPORTABLE,
            "metadata '%s' is an array: layers that differ are not offered", v->key);
    return pt2_err_set(c->err, PT2_ERR_BAD_CHECKPOINT, "metadata '%s' must be %s", v->key,
                       must);
}

/* An integer stays one.  Left out where v is NULL. */
static int set_number(const struct config *c, const char *name,
                      const struct gguf_value *v)
{
    int64_t n;
    double d;

    if (!v)
        return 0;
    if (gguf_int(v, &n))
        return set(c, name, json_integer(n));
    if (!gguf_number(v, &d) || !isfinite(d))
        return bad_value(c, v, "a finite number");
    return set(c, name, json_real(d));
}

static int set_fields(const struct config *c, const struct gguf_field *fields)
{
    for (; fields->gguf; fields++)
        if (set_number(c, fields->hf, gguf_find_own(c->gguf, fields->gguf)) < 0)
            return -1;
    return 0;
}

static int64_t int_of(const struct config *c, const char *name)
{
    return json_integer_value(json_object_get(c->object, name));
}

/* ---- what follows from tensors ---- */

/* Of the whole file: as it was before it was quantised, float32; else the half type,
 * beside which norms are float32 all the same. */
static const char *dtype_name(const struct gguf *g)
{
    bool has_f16 = false, has_bf16 = false;

    for (size_t i = 0; i < g->n_tensors; i++) {
        if (!ggml_is_plain(g->tensors[i].type))
            return "float32";
        has_f16 = has_f16 || g->tensors[i].type->dtype == PT2_FLOAT16;
        has_bf16 = has_bf16 || g->tensors[i].type->dtype == PT2_BFLOAT16;
    }
    return has_bf16 ? "bfloat16" : has_f16 ? "float16" : "float32";
}

static int set_from_tensors(const struct config *c)
{
    const struct gguf_tensor *embed = gguf_find_tensor(c->gguf, "token_embd.weight");

    if (set(c, "tie_word_embeddings",
            json_boolean(!gguf_find_tensor(c->gguf, "output.weight"))) < 0 ||
        set(c, "dtype", json_string(dtype_name(c->gguf))) < 0)
        return -1;
    if (embed && embed->n_dims == 2 && !json_object_get(c->object, "vocab_size") &&
        set(c, "vocab_size", json_integer(embed->sizes[0])) < 0)
        return -1;
    for (const struct gguf_flag *f = c->arch->flags; f->hf; f++) {
        bool is_there = gguf_find_tensor(c->gguf, f->tensor);

        if (set(c, f->hf, json_boolean(is_there == f->if_there)) < 0)
            return -1;
    }
    return 0;
}

/* ---- heads ---- */

static int set_heads(const struct config *c)
{
    const struct gguf_value *key = gguf_find_own(c->gguf, "attention.key_length");
    const struct gguf_value *value = gguf_find_own(c->gguf, "attention.value_length");
    const struct gguf_value *rotary = gguf_find_own(c->gguf, "rope.dimension_count");
    int64_t heads = int_of(c, "num_attention_heads"), head = 0, n;

    if (!key && c->arch->head_is_rotary && set_number(c, "head_dim", rotary) < 0)
        return -1;
    if (heads > 0)
        head = int_of(c, "hidden_size") / heads;
    if (json_object_get(c->object, "head_dim"))
        head = int_of(c, "head_dim");
    if (gguf_int(value, &n) && n != head)
        return pt2_err_set(c->err, PT2_ERR_NOT_EXPORTABLE,
                           "metadata '%s' is %lld, and keys have %lld: not offered",
                           value->key, (long long)n, (long long)head);
    if (gguf_int(rotary, &n) && n > 0 && head > 0 && n != head &&
        set(c, "partial_rotary_factor", json_real((double)n / (double)head)) < 0)
        return -1;
    if (c->arch->scaled_by_heads > 0 && heads > 0 &&
        int_of(c, "num_hidden_layers") == c->arch->scaled_by_heads)
        return set(c, "query_pre_attn_scalar",
                   json_integer(int_of(c, "hidden_size") / heads));
    return 0;
}

/* ---- rotary scaling ---- */

/* The factors of a tensor, new; *ret is NULL where there is none of that name. */
static int read_factors(const struct config *c, const char *name, float **ret,
                        size_t *ret_n, struct pt2_err *err)
{
    const struct gguf_tensor *t = gguf_find_tensor(c->gguf, name);
    AUTO_PTR float *factors = NULL;

    *ret = NULL;
    *ret_n = 0;
    if (!t)
        return 0;
    if (t->type->dtype != PT2_FLOAT32 || t->n_elements > MAX_FACTORS)
        return pt2_err_set(err, PT2_ERR_BAD_CHECKPOINT,
                           "tensor '%s' must be at most %d of F32", name, MAX_FACTORS);
    factors = malloc(t->bytes);
    if (!factors)
        return no_memory(c);
    if (files_read(c->gguf->files, t->file, t->offset, factors, t->bytes, err) < 0)
        return -1;
    *ret_n = (size_t)t->n_elements;
    *ret = TAKE(factors);
    return 0;
}

/* Llama 3's: what a long wavelength is divided by, a short one is not, and those between
 * are in part (modeling_rope_utils.py, _compute_llama3_parameters). */
static double llama3_factor(double theta, size_t i, size_t n, double factor, double low,
                            double high, double original)
{
    double wavelength = 2 * M_PI * pow(theta, (double)i / (double)n), smooth;

    if (wavelength < original / high)
        return 1;
    if (wavelength > original / low)
        return factor;
    smooth = (original / wavelength - low) / (high - low);
    return 1 / ((1 - smooth) / factor + smooth);
}

/* llama.cpp keeps the factors alone; the numbers behind them are those of every Llama 3.
 */
static int set_llama3(const struct config *c, const float *factors, size_t n)
{
    const double low = 1, high = 4, original = 8192, factor = (double)factors[n - 1];
    double theta = json_number_value(json_object_get(c->object, "rope_theta"));

    for (size_t i = 0; i < n; i++) {
        double want = llama3_factor(theta, i, n, factor, low, high, original);

        if (!(fabs((double)factors[i] - want) <= 1e-4 * want))
            return pt2_err_set(
                c->err, PT2_ERR_NOT_EXPORTABLE,
                "tensor 'rope_freqs.weight' holds other factors than Llama "
                "3's: %g at %zu, not %g",
                (double)factors[i], i, want);
    }
    return set(c, "rope_scaling",
               json_pack("{s:s, s:f, s:f, s:f, s:i}", "rope_type", "llama3", "factor",
                         round(factor * 1e4) / 1e4, "low_freq_factor", low,
                         "high_freq_factor", high, "original_max_position_embeddings",
                         (int)original));
}

static json_t *json_floats(const float *list, size_t n)
{
    json_t *array = json_array();

    for (size_t i = 0; array && i < n; i++)
        if (json_array_append_new(array, json_real((double)list[i])) < 0) {
            json_decref(array);
            return NULL;
        }
    return array;
}

/* Phi-3's two lists. */
static int set_longrope(const struct config *c, const float *short_ones, size_t n_short,
                        const float *long_ones, size_t n_long)
{
    const struct gguf_value *attn = gguf_find_own(c->gguf, "rope.scaling.attn_factor");
    json_auto_t *rope = json_pack("{s:s, s:o, s:o}", "rope_type", "longrope",
                                  "short_factor", json_floats(short_ones, n_short),
                                  "long_factor", json_floats(long_ones, n_long));
    double d;

    if (!rope)
        return pt2_err_set(c->err, PT2_ERR_BAD_CHECKPOINT,
                           "tensors 'rope_factors_*.weight' must hold finite numbers");
    if (gguf_number(attn, &d) && isfinite(d) &&
        json_object_set_new(rope, "attention_factor", json_real(d)) < 0)
        return no_memory(c);
    return set(c, "rope_scaling", json_incref(rope));
}

/* rope.scaling.*: llama.cpp applies them, Transformers leaves them out. */
static int set_scaling_type(const struct config *c)
{
    static const struct gguf_field yarn[] = {
        {"rope.scaling.original_context_length", "original_max_position_embeddings"},
        {"rope.scaling.yarn_beta_fast", "beta_fast"},
        {"rope.scaling.yarn_beta_slow", "beta_slow"},
        {NULL, NULL},
    };
    const struct gguf_value *type = gguf_find_own(c->gguf, "rope.scaling.type");
    const struct gguf_value *factor = gguf_find_own(c->gguf, "rope.scaling.factor");
    struct config rope = *c;
    AUTO_PTR char *name = NULL;
    bool is_yarn;

    if (!type && !factor) { /* as older files say it */
        factor = gguf_find_own(c->gguf, "rope.scale_linear");
        if (!factor)
            return 0;
    }
    if (type && type->kind != GGUF_STRING)
        return bad_value(c, type, "a string");
    if (type && gguf_bytes(c->gguf, type, 64, &name, c->err) < 0)
        return -1;
    if (name && streq(name, "none"))
        return 0;
    is_yarn = name && streq(name, "yarn");
    if (name && !is_yarn && !streq(name, "linear"))
        return pt2_err_set(c->err, PT2_ERR_NOT_EXPORTABLE,
                           "metadata '%s' is neither none, linear nor yarn, and no "
                           "'rope_factors_*.weight' are there",
                           type->key);
    rope.object = json_pack("{s:s}", "rope_type", is_yarn ? "yarn" : "linear");
    if (set(c, "rope_scaling", rope.object) < 0 ||
        set_number(&rope, "factor", factor) < 0)
        return -1;
    return is_yarn ? set_fields(&rope, yarn) : 0;
}

static int set_rope(const struct config *c)
{
    AUTO_PTR float *freqs = NULL, *short_ones = NULL, *long_ones = NULL;
    size_t n, n_short, n_long;

    if (read_factors(c, "rope_freqs.weight", &freqs, &n, c->err) < 0 ||
        read_factors(c, "rope_factors_short.weight", &short_ones, &n_short, c->err) < 0 ||
        read_factors(c, "rope_factors_long.weight", &long_ones, &n_long, c->err) < 0)
        return -1;
    if (freqs)
        return set_llama3(c, freqs, n);
    if (!short_ones != !long_ones)
        return pt2_err_set(
            c->err, PT2_ERR_BAD_CHECKPOINT,
            "of 'rope_factors_short.weight' and 'rope_factors_long.weight' "
            "one is missing");
    if (short_ones)
        return set_longrope(c, short_ones, n_short, long_ones, n_long);
    return set_scaling_type(c);
}

/* ---- all of it ---- */

static int set_ids(const struct config *c)
{
    static const struct gguf_field ids[] = {
        {"tokenizer.ggml.bos_token_id", "bos_token_id"},
        {"tokenizer.ggml.eos_token_id", "eos_token_id"},
        {"tokenizer.ggml.unknown_token_id", "unk_token_id"},
        {"tokenizer.ggml.padding_token_id", "pad_token_id"},
    };

    for (size_t i = 0; i < ARRAY_LEN(ids); i++)
        if (set_number(c, ids[i].hf, gguf_find(c->gguf, ids[i].gguf)) < 0)
            return -1;
    return 0;
}

int gguf_config(const struct gguf *gguf, const struct gguf_arch *arch,
                json_t **ret_config, struct pt2_err *err)
{
    json_auto_t *object = json_of_text(arch->presets);
    struct config c = {gguf, arch, object, err};

    if (!object)
        return no_memory(&c);
    if (set(&c, "model_type", json_string(arch->model_type)) < 0 ||
        set(&c, "architectures", json_pack("[s]", arch->architecture)) < 0 ||
        set_fields(&c, arch->fields) < 0 || set_fields(&c, arch->more) < 0 ||
        set_ids(&c) < 0 || set_from_tensors(&c) < 0 || set_heads(&c) < 0 ||
        set_rope(&c) < 0)
        return -1;
    *ret_config = TAKE(object);
    return 0;
}
