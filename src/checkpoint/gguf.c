#include "checkpoint/gguf.h"

#include "base/half.h"
#include "base/utf8.h"
#include "checkpoint/tensors.h" /* TENSORS_MAX */

#include <stdarg.h>

#define WINDOW            65536 /* bytes */
#define DEFAULT_ALIGNMENT 32
#define MAX_ALIGNMENT     (1 << 20)

/* The place that is read, behind a window on the file. */
struct cursor {
    const struct files *files;
    size_t file;
    const char *name;
    uint64_t at, end; /* end: of the file, or of what a header may have */
    uint64_t window_at;
    size_t window_len;
    uint8_t *window; /* (WINDOW) */
    struct pt2_err *err;
};

static int fail(struct cursor *c, const char *fmt, ...) PT2_PRINTF(2, 3);
static int fail(struct cursor *c, const char *fmt, ...)
{
    char text[300];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return pt2_err_set(c->err, PT2_ERR_BAD_CHECKPOINT, "'%s', byte %llu: %s", c->name,
                       (unsigned long long)c->at, text);
}

/* ---- bytes ---- */

static int check_room(struct cursor *c, uint64_t len)
{
    if (len <= c->end - c->at)
        return 0;
    if (c->end == GGUF_MAX_HEADER)
        return fail(c, "metadata and tensors take more than %llu bytes",
                    (unsigned long long)GGUF_MAX_HEADER);
    return fail(c, "%llu bytes are expected, and the file ends at %llu",
                (unsigned long long)len, (unsigned long long)c->end);
}

/* The next len bytes, at most WINDOW; borrowed until the next call. */
static int take(struct cursor *c, size_t len, const uint8_t **ret)
{
    uint64_t skip = c->at - c->window_at;

    if (check_room(c, len) < 0)
        return -1;
    if (c->at < c->window_at || skip > c->window_len || len > c->window_len - skip) {
        size_t n = (size_t)MIN(c->end - c->at, (uint64_t)WINDOW);

        c->window_len = 0;
        if (files_read(c->files, c->file, c->at, c->window, n, c->err) < 0)
            return -1;
        c->window_at = c->at;
        c->window_len = n;
        skip = 0;
    }
    *ret = c->window + skip;
    c->at += len;
    return 0;
}

/* A little-endian number of that many bytes. */
static int take_uint(struct cursor *c, size_t bytes, uint64_t *ret)
{
    const uint8_t *p;
    uint64_t n = 0;

    if (take(c, bytes, &p) < 0)
        return -1;
    for (size_t i = 0; i < bytes; i++)
        n |= (uint64_t)p[i] << 8 * i;
    *ret = n;
    return 0;
}

static int skip(struct cursor *c, uint64_t len)
{
    if (check_room(c, len) < 0)
        return -1;
    c->at += len;
    return 0;
}

/* A key or a tensor's name, new. */
static int take_name(struct cursor *c, const char *what, char **ret)
{
    const uint8_t *p;
    uint64_t len;

    if (take_uint(c, 8, &len) < 0)
        return -1;
    if (len == 0 || len > GGUF_MAX_NAME)
        return fail(c, "%s must have 1 to %d bytes, not %llu", what, GGUF_MAX_NAME,
                    (unsigned long long)len);
    if (take(c, (size_t)len, &p) < 0)
        return -1;
    if (!utf8_is_valid((const char *)p, (size_t)len) || memchr(p, 0, (size_t)len))
        return fail(c, "%s is not UTF-8", what);
    *ret = strndup((const char *)p, (size_t)len);
    return *ret ? 0 : pt2_err_set(c->err, PT2_ERR_NOMEM, "no memory for '%s'", c->name);
}

/* ---- metadata ---- */

static const uint8_t kind_bytes[GGUF_N_KINDS] = {
    [GGUF_U8] = 1,  [GGUF_I8] = 1,  [GGUF_U16] = 2, [GGUF_I16] = 2,
    [GGUF_U32] = 4, [GGUF_I32] = 4, [GGUF_F32] = 4, [GGUF_BOOL] = 1,
    [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,
};

static int take_kind(struct cursor *c, const char *key, enum gguf_kind *ret)
{
    uint64_t kind;

    if (take_uint(c, 4, &kind) < 0)
        return -1;
    if (kind >= GGUF_N_KINDS)
        return fail(c, "'%.64s' is of type %llu, which there is not", key,
                    (unsigned long long)kind);
    *ret = (enum gguf_kind)kind;
    return 0;
}

static int take_scalar(struct cursor *c, struct gguf_value *v)
{
    unsigned bytes = kind_bytes[v->kind], spare = 64 - 8 * bytes;
    uint64_t n;

    if (take_uint(c, bytes, &n) < 0)
        return -1;
    v->u = n;
    v->i = (int64_t)(n << spare) >> spare; /* the sign comes along */
    if (v->kind == GGUF_F32)
        v->f = (double)float_of_bits((uint32_t)n);
    else
        memcpy(&v->f, &n, sizeof(n));
    if (v->kind == GGUF_BOOL && n > 1)
        return fail(c, "'%.64s' is a bool of value %llu", v->key, (unsigned long long)n);
    return 0;
}

static int skip_string(struct cursor *c)
{
    uint64_t len;

    return take_uint(c, 8, &len) < 0 ? -1 : skip(c, len);
}

static int take_array(struct cursor *c, struct gguf_value *v)
{
    uint64_t bytes;

    if (take_kind(c, v->key, &v->item_kind) < 0 || take_uint(c, 8, &v->n_items) < 0)
        return -1;
    v->at = c->at;
    if (v->item_kind == GGUF_ARRAY)
        return fail(c, "'%.64s' is an array of arrays", v->key);
    if (v->item_kind != GGUF_STRING) {
        if (!size_mul(v->n_items, kind_bytes[v->item_kind], &bytes))
            bytes = UINT64_MAX;
        if (skip(c, bytes) < 0)
            return -1;
    } else {
        for (uint64_t i = 0; i < v->n_items; i++)
            if (skip_string(c) < 0)
                return -1;
    }
    v->bytes = c->at - v->at;
    return 0;
}

static int take_value(struct cursor *c, struct gguf_value *v)
{
    if (take_name(c, "a key", &v->key) < 0 || take_kind(c, v->key, &v->kind) < 0)
        return -1;
    if (v->kind == GGUF_ARRAY)
        return take_array(c, v);
    if (v->kind != GGUF_STRING)
        return take_scalar(c, v);
    if (take_uint(c, 8, &v->bytes) < 0)
        return -1;
    v->at = c->at;
    return skip(c, v->bytes);
}

static int by_key(const void *a, const void *b)
{
    const struct gguf_value *x = a, *y = b;

    return strcmp(x->key, y->key);
}

static int take_values(struct cursor *c, struct gguf *g, uint64_t n)
{
    if (n > GGUF_MAX_VALUES)
        return fail(c, "%llu metadata values, at most %d are read", (unsigned long long)n,
                    GGUF_MAX_VALUES);
    g->values = calloc(n + 1, sizeof(*g->values));
    if (!g->values)
        return pt2_err_set(c->err, PT2_ERR_NOMEM, "no memory for '%s'", c->name);
    for (uint64_t i = 0; i < n; i++) {
        g->n_values++;
        if (take_value(c, &g->values[i]) < 0)
            return -1;
    }
    qsort(g->values, g->n_values, sizeof(*g->values), by_key);
    for (size_t i = 1; i < g->n_values; i++)
        if (streq(g->values[i - 1].key, g->values[i].key))
            return fail(c, "'%.64s' is there twice", g->values[i].key);
    return 0;
}

static void free_values(struct gguf_value *values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(values[i].key);
    free(values);
}

/* ---- tensors ---- */

static int take_sizes(struct cursor *c, struct gguf_tensor *t)
{
    uint64_t n_dims, size;

    if (take_uint(c, 4, &n_dims) < 0)
        return -1;
    if (n_dims < 1 || n_dims > GGUF_MAX_DIMS)
        return fail(c, "tensor '%s' has %llu dimensions; 1 to %d are read", t->name,
                    (unsigned long long)n_dims, GGUF_MAX_DIMS);
    t->n_dims = (unsigned)n_dims;
    t->n_elements = 1;
    for (unsigned i = t->n_dims; i-- > 0;) {
        if (take_uint(c, 8, &size) < 0)
            return -1;
        if (size == 0 || size > INT64_MAX ||
            !size_mul(t->n_elements, size, &t->n_elements))
            return fail(c, "tensor '%s': dimension %u of %llu elements", t->name,
                        t->n_dims - 1 - i, (unsigned long long)size);
        t->sizes[i] = (int64_t)size;
    }
    return 0;
}

static int take_type(struct cursor *c, struct gguf_tensor *t)
{
    int64_t row = t->sizes[t->n_dims - 1];
    uint64_t id;

    if (take_uint(c, 4, &id) < 0)
        return -1;
    t->type = ggml_type_find((uint32_t)id);
    if (!t->type)
        return fail(c, "tensor '%s' is of element type %llu, which is not known", t->name,
                    (unsigned long long)id);
    if (row % t->type->block_elements)
        return fail(c, "tensor '%s': rows of %lld are no whole blocks of %s, %u each",
                    t->name, (long long)row, t->type->name, t->type->block_elements);
    if (!size_mul(t->n_elements / t->type->block_elements, t->type->block_bytes,
                  &t->bytes))
        return fail(c, "tensor '%s': its shape is too big", t->name);
    return 0;
}

static int take_tensor(struct cursor *c, struct gguf *g)
{
    size_t cap = MAX((size_t)64, g->cap_tensors * 2);
    struct gguf_tensor *grown, *t;

    if (g->n_tensors == TENSORS_MAX)
        return fail(c, "more than %u tensors", TENSORS_MAX);
    if (g->n_tensors == g->cap_tensors) {
        grown = reallocarray(g->tensors, cap, sizeof(*grown));
        if (!grown)
            return pt2_err_set(c->err, PT2_ERR_NOMEM, "no memory for '%s'", c->name);
        g->tensors = grown;
        g->cap_tensors = cap;
    }
    t = &g->tensors[g->n_tensors];
    *t = (struct gguf_tensor){.file = (uint32_t)c->file};
    if (take_name(c, "a tensor's name", &t->name) < 0)
        return -1;
    g->n_tensors++;
    if (take_sizes(c, t) < 0 || take_type(c, t) < 0)
        return -1;
    return take_uint(c, 8, &t->offset);
}

static int by_place(const void *a, const void *b)
{
    const struct gguf_tensor *x = a, *y = b;

    if (x->offset != y->offset)
        return x->offset > y->offset ? 1 : -1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* Each within the file, none over another; offsets count from the file's begin then. */
static int place_tensors(struct cursor *c, struct gguf_tensor *tensors, size_t n,
                         uint64_t alignment, uint64_t file_bytes)
{
    uint64_t data = (c->at + alignment - 1) / alignment * alignment;
    uint64_t room = data < file_bytes ? file_bytes - data : 0, at = data;

    for (size_t i = 0; i < n; i++) {
        struct gguf_tensor *t = &tensors[i];

        if (t->offset % alignment)
            return fail(c, "tensor '%s' lies at %llu, no multiple of %llu", t->name,
                        (unsigned long long)t->offset, (unsigned long long)alignment);
        if (t->offset > room || t->bytes > room - t->offset)
            return fail(
                c,
                "tensor '%s' takes bytes %llu and %llu more of the weights, which "
                "have %llu: cut?",
                t->name, (unsigned long long)t->offset, (unsigned long long)t->bytes,
                (unsigned long long)room);
        t->offset += data;
    }
    if (n > 0)
        qsort(tensors, n, sizeof(*tensors), by_place);
    for (size_t i = 0; i < n; at = tensors[i].offset + tensors[i].bytes, i++)
        if (tensors[i].offset < at)
            return fail(c, "tensors '%s' and '%s' overlap", tensors[i - 1].name,
                        tensors[i].name);
    return 0;
}

/* ---- the file ---- */

static int take_magic(struct cursor *c)
{
    uint64_t version;
    const uint8_t *p;

    if (take(c, 4, &p) < 0)
        return -1;
    if (memcmp(p, "GGUF", 4) != 0)
        return pt2_err_set(c->err, PT2_ERR_BAD_CHECKPOINT, "'%s' is not a GGUF file",
                           c->name);
    if (take_uint(c, 4, &version) < 0)
        return -1;
    if (version != 2 && version != 3)
        return fail(c, "version %llu; 2 and 3 are read, little-endian",
                    (unsigned long long)version);
    return 0;
}

static int read_alignment(struct cursor *c, const struct gguf *g, uint64_t *ret)
{
    const struct gguf_value *v = gguf_find(g, "general.alignment");
    int64_t n = DEFAULT_ALIGNMENT;

    if (v && (!gguf_int(v, &n) || n < 1 || n > MAX_ALIGNMENT || n % 8))
        return fail(c, "general.alignment must be a multiple of 8, at most %d",
                    MAX_ALIGNMENT);
    *ret = (uint64_t)n;
    return 0;
}

static int read_arch(struct cursor *c, struct gguf *g)
{
    const struct gguf_value *v = gguf_find(g, "general.architecture");
    AUTO_PTR char *text = NULL;

    if (!v || v->kind != GGUF_STRING || v->bytes == 0 || v->bytes >= sizeof(g->arch))
        return fail(c, "general.architecture must be a name of 1 to %zu bytes",
                    sizeof(g->arch) - 1);
    if (gguf_bytes(g, v, sizeof(g->arch), &text, c->err) < 0)
        return -1;
    if (!utf8_is_valid(text, (size_t)v->bytes))
        return fail(c, "general.architecture is not UTF-8");
    snprintf(g->arch, sizeof(g->arch), "%s", text);
    return 0;
}

static int read_all(struct cursor *c, struct gguf *g, uint64_t file_bytes)
{
    struct gguf part = {.files = g->files, .first = c->file}, *of = g->values ? &part : g;
    uint64_t n_tensors, n_values, alignment = 0;
    size_t before = g->n_tensors;
    int r;

    if (take_magic(c) < 0 || take_uint(c, 8, &n_tensors) < 0 ||
        take_uint(c, 8, &n_values) < 0)
        return -1;
    r = take_values(c, of, n_values);
    if (r == 0)
        r = read_alignment(c, of, &alignment);
    free_values(part.values, part.n_values);
    if (r < 0 || (of == g && read_arch(c, g) < 0))
        return -1;
    for (uint64_t i = 0; i < n_tensors; i++)
        if (take_tensor(c, g) < 0)
            return -1;
    return place_tensors(c, g->tensors ? g->tensors + before : NULL,
                         g->n_tensors - before, alignment, file_bytes);
}

int gguf_read(struct gguf *gguf, const struct files *files, size_t i, struct pt2_err *err)
{
    const struct pt2_checkpoint_file *info = &files->files[i].info;
    AUTO_PTR uint8_t *window = malloc(WINDOW);
    struct cursor c = {.files = files,
                       .file = i,
                       .name = info->name,
                       .end = MIN(info->bytes, GGUF_MAX_HEADER),
                       .window = window,
                       .err = err};

    if (!window)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for '%s'", info->name);
    gguf->files = files;
    if (!gguf->values)
        gguf->first = i;
    return read_all(&c, gguf, info->bytes);
}

void gguf_done(struct gguf *gguf)
{
    free_values(gguf->values, gguf->n_values);
    for (size_t i = 0; i < gguf->n_tensors; i++)
        free(gguf->tensors[i].name);
    free(gguf->tensors);
    *gguf = (struct gguf){0};
}

/* ---- what it says ---- */

const struct gguf_value *gguf_find(const struct gguf *gguf, const char *key)
{
    const struct gguf_value wanted = {.key = (char *)(uintptr_t)key};

    return gguf->n_values ? bsearch(&wanted, gguf->values, gguf->n_values,
                                    sizeof(*gguf->values), by_key)
                          : NULL;
}

const struct gguf_value *gguf_find_own(const struct gguf *gguf, const char *name)
{
    char key[GGUF_MAX_NAME + 64];

    snprintf(key, sizeof(key), "%s.%s", gguf->arch, name);
    return gguf_find(gguf, key);
}

const struct gguf_tensor *gguf_find_tensor(const struct gguf *gguf, const char *name)
{
    for (size_t i = 0; i < gguf->n_tensors; i++)
        if (streq(gguf->tensors[i].name, name))
            return &gguf->tensors[i];
    return NULL;
}

bool gguf_int(const struct gguf_value *v, int64_t *ret)
{
    if (!v)
        return false;
    switch (v->kind) {
    case GGUF_U8:
    case GGUF_U16:
    case GGUF_U32:
    case GGUF_U64:
        if (v->u > INT64_MAX)
            return false;
        *ret = (int64_t)v->u;
        return true;
    case GGUF_I8:
    case GGUF_I16:
    case GGUF_I32:
    case GGUF_I64:
        *ret = v->i;
        return true;
    default:
        return false;
    }
}

bool gguf_number(const struct gguf_value *v, double *ret)
{
    int64_t n;

    if (v && (v->kind == GGUF_F32 || v->kind == GGUF_F64))
        *ret = v->f;
    else if (gguf_int(v, &n))
        *ret = (double)n;
    else
        return false;
    return true;
}

bool gguf_bool(const struct gguf_value *v, bool preset)
{
    return v && v->kind == GGUF_BOOL ? v->u == 1 : preset;
}

int gguf_bytes(const struct gguf *gguf, const struct gguf_value *v, size_t max,
               char **ret_bytes, struct pt2_err *err)
{
    AUTO_PTR char *bytes = NULL;

    if (v->bytes > max)
        return pt2_err_set(err, PT2_ERR_LIMIT,
                           "'%.64s' has %llu bytes, at most %zu are read", v->key,
                           (unsigned long long)v->bytes, max);
    bytes = malloc(v->bytes + 1);
    if (!bytes)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for '%.64s'", v->key);
    if (files_read(gguf->files, gguf->first, v->at, bytes, v->bytes, err) < 0)
        return -1;
    bytes[v->bytes] = '\0';
    *ret_bytes = TAKE(bytes);
    return 0;
}
