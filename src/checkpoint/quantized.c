#include "checkpoint/quantized.h"

#include "checkpoint/quantized_values.h"

#define MAX_NAME 1100 /* of a tensor's, and a suffix */

/* What is for activations, or for a cache of float8: of no use where both are not. */
static const char *const companions[] = {
    "input_scale", "input_scale_ub", "output_scale", "activation_scale",
};

struct mapping {
    struct tensors *tensors; /* sorted until the end */
    struct quantized_sources *sources;
    bool *is_gone;        /* (tensors->n) */
    const char *method;   /* quantization_config.quant_method; NULL: there is none */
    int64_t block[2];     /* rows, columns; 0: not said */
    struct pt2_err *err;
};

static int by_name(const void *a, const void *b)
{
    const struct pt2_checkpoint_tensor *x = a, *y = b;

    return strcmp(x->name, y->name);
}

/* The tensor of that name with suffix instead of its last cut bytes; NULL where there is
 * none. */
static struct pt2_checkpoint_tensor *find(const struct mapping *m, const char *name,
                                          size_t cut, const char *suffix)
{
    char text[MAX_NAME];
    struct pt2_checkpoint_tensor key = {.name = text};

    snprintf(text, sizeof(text), "%.*s%s", (int)(strlen(name) - cut), name, suffix);
    return bsearch(&key, m->tensors->items, m->tensors->n, sizeof(key), by_name);
}

static void drop(struct mapping *m, const struct pt2_checkpoint_tensor *t)
{
    if (t)
        m->is_gone[t - m->tensors->items] = true;
}

static int add_source(struct mapping *m, struct pt2_checkpoint_tensor *t,
                      const struct quantized_source *source)
{
    struct quantized_sources *s = m->sources;
    size_t cap = MAX((size_t)64, s->cap * 2);
    struct quantized_source *grown;
    uint64_t bytes = sizeof(float);

    if (s->n == s->cap) {
        grown = reallocarray(s->items, cap, sizeof(*grown));
        if (!grown)
            return pt2_err_set(m->err, PT2_ERR_NOMEM, "no memory for tensors");
        s->items = grown;
        s->cap = cap;
    }
    for (unsigned i = 0; i < t->n_dims; i++)
        if (!size_mul(bytes, (uint64_t)t->sizes[i], &bytes))
            return pt2_err_set(m->err, PT2_ERR_BAD_CHECKPOINT,
                               "tensor '%s': its shape is too big", t->name);
    s->items[s->n++] = *source;
    t->recipe = (uint32_t)s->n;
    t->dtype = PT2_FLOAT32;
    t->bytes = bytes;
    return 0;
}

/* ---- float8 ---- */

static enum quantized_scale scale_type(const struct pt2_checkpoint_tensor *t)
{
    if (streq(t->dtype_name, "F8_E8M0"))
        return QUANTIZED_E8M0;
    switch (t->dtype) {
    case PT2_FLOAT32:
        return QUANTIZED_F32;
    case PT2_BFLOAT16:
        return QUANTIZED_BF16;
    case PT2_FLOAT16:
        return QUANTIZED_F16;
    case PT2_UINT8:
        return QUANTIZED_EXPONENT;
    default:
        return QUANTIZED_NO_SCALE;
    }
}

static int refuse_shape(const struct mapping *m, const struct pt2_checkpoint_tensor *t,
                        const struct pt2_checkpoint_tensor *scale)
{
    return pt2_err_set(m->err, PT2_ERR_BAD_CHECKPOINT,
                       "the scales '%s' (%u dimensions, the last of %lld) are no grid "
                       "over tensor '%s' (%u dimensions, the last of %lld)",
                       scale->name, scale->n_dims,
                       (long long)(scale->n_dims ? scale->sizes[scale->n_dims - 1] : 1),
                       t->name, t->n_dims,
                       (long long)(t->n_dims ? t->sizes[t->n_dims - 1] : 1));
}

/* Elements along one side that share a scale, 0 where n_scales do not fit.  What the
 * config says comes first: there the last block may be cut. */
static uint64_t block_side(uint64_t size, uint64_t n_scales, int64_t said)
{
    uint64_t block = (uint64_t)said;

    if (n_scales == 1)
        return MAX(size, (uint64_t)1);
    if (block > 0 && size / block + (size % block > 0) == n_scales)
        return block;
    return n_scales > 0 && size % n_scales == 0 ? size / n_scales : 0;
}

static uint64_t n_elements(const struct pt2_checkpoint_tensor *t, unsigned n_dims)
{
    uint64_t n = 1;

    for (unsigned i = 0; i < n_dims; i++)
        n *= (uint64_t)t->sizes[i]; /* fits: its bytes do */
    return n;
}

/* Lay the scales over the tensor.  One for all; one a row; one a matrix; or a grid. */
static int lay(struct mapping *m, const struct pt2_checkpoint_tensor *t,
               const struct pt2_checkpoint_tensor *scale, struct quantized_source *s)
{
    unsigned n = t->n_dims;
    int64_t block_rows = m->block[0], block_cols = m->block[1];

    s->scale_rows = s->scale_cols = 1;
    s->n_scales = scale ? n_elements(scale, scale->n_dims) : 1;
    s->cols = n > 0 ? (uint64_t)t->sizes[n - 1] : 1;
    if (s->n_scales == 1) {
        s->rows = n > 1 ? n_elements(t, n - 1) : 1;
    } else if (n >= 2) {
        s->rows = (uint64_t)t->sizes[n - 2];
        if (scale->n_dims == n) {
            for (unsigned i = 0; i + 2 < n; i++)
                if (scale->sizes[i] != t->sizes[i])
                    return refuse_shape(m, t, scale);
            s->scale_rows = (uint64_t)scale->sizes[n - 2];
            s->scale_cols = (uint64_t)scale->sizes[n - 1];
        } else if (scale->n_dims == 1 && n == 2) {
            s->scale_rows = (uint64_t)scale->sizes[0];
        } else if (scale->n_dims != 1 || n != 3 || scale->sizes[0] != t->sizes[0]) {
            return refuse_shape(m, t, scale);
        }
    } else {
        return refuse_shape(m, t, scale);
    }
    s->block_rows = block_side(s->rows, s->scale_rows, block_rows);
    s->block_cols = block_side(s->cols, s->scale_cols, block_cols);
    if (s->block_rows == 0 || s->block_cols == 0)
        return refuse_shape(m, t, scale);
    return 0;
}

/* The scales of a float8 tensor: Transformers' name, compressed-tensors' and fbgemm's,
 * DeepSeek V4's. */
static const struct pt2_checkpoint_tensor *
find_scale(const struct mapping *m, const struct pt2_checkpoint_tensor *t)
{
    const struct pt2_checkpoint_tensor *scale = find(m, t->name, 0, "_scale_inv");

    if (!scale)
        scale = find(m, t->name, 0, "_scale");
    if (!scale && ends_with(t->name, ".weight"))
        scale = find(m, t->name, strlen("weight"), "scale");
    return scale;
}

/* "x.weight" has "x.input_scale", "x" has "x_input_scale". */
static void drop_companions(struct mapping *m, const struct pt2_checkpoint_tensor *t)
{
    size_t cut = ends_with(t->name, ".weight") ? strlen("weight") : 0;
    char suffix[40];

    for (size_t i = 0; i < ARRAY_LEN(companions); i++) {
        snprintf(suffix, sizeof(suffix), "%s%s", cut ? "" : "_", companions[i]);
        drop(m, find(m, t->name, cut, suffix));
    }
}

static int map_float8(struct mapping *m, struct pt2_checkpoint_tensor *t)
{
    const struct pt2_checkpoint_tensor *scale = find_scale(m, t);
    struct quantized_source s = {
        .kind = streq(t->dtype_name, "F8_E4M3") ? QUANTIZED_E4M3 : QUANTIZED_E5M2,
        .file = t->file,
        .offset = t->offset,
    };

    if (!scale && m->method)
        return pt2_err_set(m->err, PT2_ERR_BAD_CHECKPOINT,
                           "tensor '%s' is %s, but its scales, '%s_scale_inv' or "
                           "'%s_scale', are missing",
                           t->name, t->dtype_name, t->name, t->name);
    if (find(m, t->name, 0, "_zero_point"))
        return pt2_err_set(m->err, PT2_ERR_NOT_EXPORTABLE,
                           "tensor '%s' is %s with zero points, which are not read",
                           t->name, t->dtype_name);
    if (scale) {
        s.scale = scale_type(scale);
        s.scale_file = scale->file;
        s.scale_offset = scale->offset;
        if (s.scale == QUANTIZED_NO_SCALE)
            return pt2_err_set(m->err, PT2_ERR_NOT_EXPORTABLE,
                               "the scales '%s' are of dtype %s, which is not read",
                               scale->name, scale->dtype_name);
    }
    if (lay(m, t, scale, &s) < 0)
        return -1;
    drop(m, scale);
    drop_companions(m, t);
    return add_source(m, t, &s);
}

/* ---- MXFP4 ---- */

static int map_mxfp4(struct mapping *m, struct pt2_checkpoint_tensor *t)
{
    const struct pt2_checkpoint_tensor *scale =
        find(m, t->name, strlen("blocks"), "scales");
    struct quantized_source s = {
        .kind = QUANTIZED_MXFP4,
        .scale = QUANTIZED_EXPONENT,
        .file = t->file,
        .offset = t->offset,
    };

    if (!scale)
        return pt2_err_set(m->err, PT2_ERR_BAD_CHECKPOINT,
                           "the scales of tensor '%s', '%.*s_scales', are missing",
                           t->name, (int)(strlen(t->name) - strlen("_blocks")), t->name);
    if (t->n_dims != 4 || t->sizes[3] != MXFP4_GROUP_BYTES || scale->n_dims != 3 ||
        scale->dtype != PT2_UINT8 || memcmp(t->sizes, scale->sizes, 3 * sizeof(int64_t)))
        return pt2_err_set(m->err, PT2_ERR_BAD_CHECKPOINT,
                           "tensor '%s' must be (n, rows, groups, %d), and '%s' U8 and "
                           "(n, rows, groups)",
                           t->name, MXFP4_GROUP_BYTES, scale->name);
    s.scale_file = scale->file;
    s.scale_offset = scale->offset;
    s.rows = (uint64_t)t->sizes[1];
    s.cols = (uint64_t)t->sizes[2] * MXFP4_GROUP;
    t->dtype_name = "MXFP4";
    t->n_dims = 3;
    t->sizes[2] = t->sizes[1];
    t->sizes[1] = (int64_t)s.cols;
    drop(m, scale);
    return add_source(m, t, &s);
}

/* ---- all ---- */

/* weight_block_size, or what compressed-tensors calls so, of the first group with one. */
static void read_block(const json_t *quantization, int64_t ret_block[2])
{
    const json_t *block = json_object_get(quantization, "weight_block_size"), *group;
    const char *name;

    json_object_foreach((json_t *)(uintptr_t)json_object_get(quantization,
                                                             "config_groups"),
                        name, group)
        if (!json_is_array(block))
            block = json_object_get(json_object_get(group, "weights"), "block_structure");
    for (size_t i = 0; i < 2 && json_array_size(block) == 2; i++)
        ret_block[i] = MAX((json_int_t)0, json_integer_value(json_array_get(block, i)));
}

/* Without those that are gone; what was X_blocks is X. */
static void tidy(struct mapping *m)
{
    struct tensors *t = m->tensors;
    size_t kept = 0;

    for (size_t i = 0; i < t->n; i++) {
        char *name = (char *)(uintptr_t)t->items[i].name;

        if (m->is_gone[i]) {
            free(name);
            continue;
        }
        if (t->items[i].recipe && streq(t->items[i].dtype_name, "MXFP4"))
            name[strlen(name) - strlen("_blocks")] = '\0';
        t->items[kept++] = t->items[i];
    }
    t->n = kept;
}

int quantized_map(const json_t *config, struct tensors *tensors,
                  struct quantized_sources *ret_sources, struct pt2_err *err)
{
    const json_t *quantization = json_object_get(config, "quantization_config");
    AUTO_PTR bool *is_gone = calloc(tensors->n + 1, sizeof(*is_gone));
    struct mapping m = {
        .tensors = tensors,
        .sources = ret_sources,
        .is_gone = is_gone,
        .method = json_string_value(json_object_get(quantization, "quant_method")),
        .err = err,
    };
    bool is_mxfp4 = m.method && streq(m.method, "mxfp4");

    if (!is_gone)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for tensors");
    read_block(quantization, m.block);
    for (size_t i = 0; i < tensors->n; i++) {
        struct pt2_checkpoint_tensor *t = &tensors->items[i];
        bool is_float8 =
            streq(t->dtype_name, "F8_E4M3") || streq(t->dtype_name, "F8_E5M2");

        if (is_float8 && map_float8(&m, t) < 0)
            return -1;
        if (is_mxfp4 && t->dtype == PT2_UINT8 && ends_with(t->name, "_blocks") &&
            map_mxfp4(&m, t) < 0)
            return -1;
    }
    tidy(&m);
    return 0;
}

void quantized_done(struct quantized_sources *sources)
{
    free(sources->items);
    *sources = (struct quantized_sources){0};
}

int quantized_read(const struct quantized_sources *sources, size_t i,
                   const struct files *files, uint64_t offset, void *buf, size_t len,
                   struct pt2_err *err)
{
    return made_read(quantized_values, &sources->items[i], files, offset, buf, len, err);
}
