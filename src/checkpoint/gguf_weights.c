#include "checkpoint/gguf_weights.h"

#include "checkpoint/made.h"

#define RAW_BYTES   16384 /* of blocks, read at once */
#define COLUMNS     2048  /* of a transposed tensor, taken at once */
#define HF_MAX_NAME 512   /* of what the table makes of a GGUF_MAX_NAME */

/* ---- names ---- */

/* "blk.7.attn_q.weight": layer "7", stem ".attn_q", suffix ".weight".  A tensor of no
 * layer has an empty one. */
struct parts {
    const char *layer, *stem, *suffix;
    int layer_len, stem_len;
};

static bool split_name(const char *name, struct parts *ret)
{
    const char *layer = after_prefix(name, "blk."), *suffix = strrchr(name, '.');

    *ret = (struct parts){.layer = "", .stem = name};
    if (!suffix || (!streq(suffix, ".weight") && !streq(suffix, ".bias")))
        return false;
    if (layer) {
        size_t n = strspn(layer, "0123456789");

        if (n == 0 || layer[n] != '.' || layer + n >= suffix)
            return false;
        ret->layer = layer;
        ret->layer_len = (int)n;
        ret->stem = layer + n;
    }
    ret->suffix = suffix;
    ret->stem_len = (int)(suffix - ret->stem);
    return true;
}

/* What the config took, and what every run computes anew. */
static bool is_of_the_config(const char *name)
{
    return streq(name, "rope_freqs.weight") || streq(name, "rope_factors_long.weight") ||
           streq(name, "rope_factors_short.weight") ||
           ends_with(name, ".attn_rot_embd.weight");
}

/* ---- mapping ---- */

struct mapping {
    const struct gguf *gguf;
    const struct gguf_arch *arch;
    struct tensors *tensors;
    struct gguf_sources *sources;
    struct pt2_err *err;
};

static int add_source(struct mapping *m, const struct gguf_source *source)
{
    struct gguf_sources *s = m->sources;
    size_t cap = MAX((size_t)64, s->cap * 2);
    struct gguf_source *grown;

    if (s->n == s->cap) {
        grown = reallocarray(s->items, cap, sizeof(*grown));
        if (!grown)
            return pt2_err_set(m->err, PT2_ERR_NOMEM, "no memory for tensors");
        s->items = grown;
        s->cap = cap;
    }
    s->items[s->n++] = *source;
    return 0;
}

/* Rows of a head, of as many as the metadata says. */
static int read_head_rows(struct mapping *m, const struct gguf_tensor *t, enum gguf_op op,
                          int64_t *ret)
{
    const struct gguf_value *q = gguf_find_own(m->gguf, "attention.head_count");
    const struct gguf_value *k = gguf_find_own(m->gguf, "attention.head_count_kv");
    int64_t heads;

    if (!gguf_int(op == GGUF_UNPERMUTE_K && k ? k : q, &heads) || heads < 1)
        return pt2_err_set(m->err, PT2_ERR_BAD_CHECKPOINT,
                           "%s.attention.head_count is missing, or no count",
                           m->gguf->arch);
    if (t->sizes[0] % heads || t->sizes[0] / heads % 2)
        return pt2_err_set(m->err, PT2_ERR_BAD_CHECKPOINT,
                           "tensor '%s' has %lld rows, no pairs for each of %lld heads",
                           t->name, (long long)t->sizes[0], (long long)heads);
    *ret = t->sizes[0] / heads;
    return 0;
}

/* One tensor there: the stored one, or one of its experts. */
static int add_tensor(struct mapping *m, const struct gguf_tensor *t, enum gguf_op op,
                      const char *name, int64_t expert)
{
    bool is_slice = op == GGUF_EXPERTS, is_kept = op == GGUF_KEEP || op == GGUF_ROW;
    uint64_t bytes = is_slice ? t->bytes / (uint64_t)t->sizes[0] : t->bytes;
    uint64_t elements = is_slice ? t->n_elements / (uint64_t)t->sizes[0] : t->n_elements;
    struct gguf_source source = {
        .type = t->type,
        .op = op,
        .file = t->file,
        .offset = t->offset + bytes * (uint64_t)expert,
        .rows = t->sizes[0],
        .cols = (int64_t)(elements / (uint64_t)t->sizes[0]),
    };
    struct pt2_checkpoint_tensor *to;

    if ((op == GGUF_UNPERMUTE_Q || op == GGUF_UNPERMUTE_K) &&
        read_head_rows(m, t, op, &source.head_rows) < 0)
        return -1;
    if (tensors_add(m->tensors, name, &to, m->err) < 0)
        return -1;
    to->file = t->file;
    to->offset = source.offset;
    to->dtype_name = t->type->name;
    to->n_dims = t->n_dims - is_slice;
    memcpy(to->sizes, t->sizes + is_slice, to->n_dims * sizeof(*to->sizes));
    if (op == GGUF_ROW && t->n_dims == 1) {
        to->n_dims = 2;
        to->sizes[0] = 1;
        to->sizes[1] = t->sizes[0];
    }
    if (op == GGUF_TRANSPOSE) {
        to->sizes[0] = t->sizes[1];
        to->sizes[1] = t->sizes[0];
    }
    if (!t->type->to_float || (ggml_is_plain(t->type) && (is_kept || is_slice))) {
        to->dtype = t->type->dtype;
        to->bytes = bytes;
        return 0;
    }
    if (!size_mul(elements, sizeof(float), &to->bytes))
        return pt2_err_set(m->err, PT2_ERR_BAD_CHECKPOINT,
                           "tensor '%s': its shape is too big", t->name);
    to->dtype = PT2_FLOAT32;
    to->recipe = (uint32_t)m->sources->n + 1;
    to->group_bits = gguf_group_bits(&source);
    return add_source(m, &source);
}

static int add_experts(struct mapping *m, const struct gguf_tensor *t,
                       const struct gguf_name *entry, const struct parts *parts)
{
    const char *gap = strstr(entry->hf, "%d");
    char name[HF_MAX_NAME];

    for (int64_t i = 0; i < t->sizes[0]; i++) {
        snprintf(name, sizeof(name), "%s.%.*s%.*s%lld%s%s", m->arch->layers,
                 parts->layer_len, parts->layer, (int)(gap - entry->hf), entry->hf,
                 (long long)i, gap + 2, parts->suffix);
        if (add_tensor(m, t, GGUF_EXPERTS, name, i) < 0)
            return -1;
    }
    return 0;
}

static int map_tensor(struct mapping *m, const struct gguf_tensor *t)
{
    const struct gguf_name *entry = NULL;
    enum gguf_op op = GGUF_KEEP;
    char name[HF_MAX_NAME];
    struct parts parts;

    if (is_of_the_config(t->name))
        return 0;
    if (split_name(t->name, &parts))
        entry = gguf_arch_name(m->arch, parts.stem, (size_t)parts.stem_len);
    if (!entry)
        return add_tensor(m, t, op, t->name, 0);
    op = entry->op;
    if (streq(parts.suffix, ".bias") && (op == GGUF_MINUS_ONE || op == GGUF_TRANSPOSE))
        op = GGUF_KEEP;
    if ((op == GGUF_TRANSPOSE && t->n_dims != 2) || (op == GGUF_EXPERTS && t->n_dims < 2))
        return pt2_err_set(m->err, PT2_ERR_BAD_CHECKPOINT,
                           "tensor '%s' has %u dimensions, and must have %d", t->name,
                           t->n_dims, op == GGUF_EXPERTS ? 3 : 2);
    if (op == GGUF_EXPERTS)
        return add_experts(m, t, entry, &parts);
    if (parts.layer_len > 0)
        snprintf(name, sizeof(name), "%s.%.*s%s%s", m->arch->layers, parts.layer_len,
                 parts.layer, entry->hf, parts.suffix);
    else
        snprintf(name, sizeof(name), "%s%s", entry->hf, parts.suffix);
    return add_tensor(m, t, op, name, 0);
}

int gguf_map_tensors(const struct gguf *gguf, const struct gguf_arch *arch,
                     struct tensors *tensors, struct gguf_sources *ret_sources,
                     struct pt2_err *err)
{
    struct mapping m = {gguf, arch, tensors, ret_sources, err};

    for (size_t i = 0; i < gguf->n_tensors; i++)
        if (map_tensor(&m, &gguf->tensors[i]) < 0)
            return -1;
    return 0;
}

void gguf_sources_done(struct gguf_sources *sources)
{
    free(sources->items);
    *sources = (struct gguf_sources){0};
}

/* ---- values ---- */

/* Part of one block: its elements from first on. */
static int fetch_part(const struct gguf_source *s, const struct files *files,
                      uint64_t block, size_t first, size_t n, float *to,
                      struct pt2_err *err)
{
    uint8_t raw[GGML_MAX_BLOCK_BYTES];
    float values[GGML_MAX_BLOCK_ELEMENTS];

    if (files_read(files, s->file, s->offset + block * s->type->block_bytes, raw,
                   s->type->block_bytes, err) < 0)
        return -1;
    s->type->to_float(raw, 1, values);
    memcpy(to, values + first, n * sizeof(*to));
    return 0;
}

/* n stored elements from element i on. */
static int fetch(const struct gguf_source *s, const struct files *files, uint64_t i,
                 size_t n, float *to, struct pt2_err *err)
{
    unsigned elements = s->type->block_elements, bytes = s->type->block_bytes;
    uint8_t raw[RAW_BYTES];

    while (n > 0) {
        size_t first = (size_t)(i % elements);
        size_t blocks = MIN(n / elements, RAW_BYTES / bytes), done;

        if (first > 0 || blocks == 0) {
            done = MIN(n, elements - first);
            if (fetch_part(s, files, i / elements, first, done, to, err) < 0)
                return -1;
        } else {
            done = blocks * elements;
            if (files_read(files, s->file, s->offset + i / elements * bytes, raw,
                           blocks * bytes, err) < 0)
                return -1;
            s->type->to_float(raw, blocks, to);
        }
        i += done;
        n -= done;
        to += done;
    }
    return 0;
}

/* Row r of a head is pair r % half, of its half r / half: llama.cpp keeps the two of a
 * pair side by side (convert_hf_to_gguf.py, LlamaModel.permute). */
uint64_t gguf_stored_row(const struct gguf_source *s, uint64_t row)
{
    uint64_t head = (uint64_t)s->head_rows, half = head / 2, r;

    if (head == 0)
        return row;
    r = row % head;
    return row - r + r % half * 2 + r / half;
}

static int make_unpermuted(const struct gguf_source *s, const struct files *files,
                           uint64_t i, size_t n, float *to, struct pt2_err *err)
{
    uint64_t cols = (uint64_t)s->cols;

    while (n > 0) {
        uint64_t stored = gguf_stored_row(s, i / cols), col = i % cols;
        size_t done = (size_t)MIN((uint64_t)n, cols - col);

        if (fetch(s, files, stored * cols + col, done, to, err) < 0)
            return -1;
        i += done;
        n -= done;
        to += done;
    }
    return 0;
}

/* Rows are stored columns: a few columns of every stored row at a time. */
static int make_transposed(const struct gguf_source *s, const struct files *files,
                           uint64_t i, size_t n, float *to, struct pt2_err *err)
{
    uint64_t rows = (uint64_t)s->rows, cols = (uint64_t)s->cols, end = i + n;
    float part[COLUMNS];

    for (uint64_t c = i / rows, count; c * rows < end; c += count) {
        count = MIN((end - c * rows + rows - 1) / rows, (uint64_t)COLUMNS);
        for (uint64_t r = 0; r < rows; r++) {
            if (fetch(s, files, r * cols + c, (size_t)count, part, err) < 0)
                return -1;
            for (uint64_t k = 0; k < count; k++) {
                uint64_t at = (c + k) * rows + r;

                if (at >= i && at < end)
                    to[at - i] = part[k];
            }
        }
    }
    return 0;
}

static int make(const void *source, const struct files *files, uint64_t i, size_t n,
                float *to, struct pt2_err *err)
{
    const struct gguf_source *s = source;

    switch (s->op) {
    case GGUF_UNPERMUTE_Q:
    case GGUF_UNPERMUTE_K:
        return make_unpermuted(s, files, i, n, to, err);
    case GGUF_TRANSPOSE:
        return make_transposed(s, files, i, n, to, err);
    case GGUF_MINUS_ONE:
        if (fetch(s, files, i, n, to, err) < 0)
            return -1;
        for (size_t k = 0; k < n; k++)
            to[k] -= 1;
        return 0;
    default:
        return fetch(s, files, i, n, to, err);
    }
}

int gguf_source_read(const struct gguf_source *source, const struct files *files,
                     uint64_t offset, void *buf, size_t len, struct pt2_err *err)
{
    return made_read(make, source, files, offset, buf, len, err);
}
