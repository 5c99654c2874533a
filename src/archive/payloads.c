/* payloads.c - the payload tables: which tensor lies in which record, as what.
 *
 *     {"config": {"<fqn>": {"path_name": "weight_0", "is_param": true, "use_pickle":
 * false, "tensor_meta": {"dtype": 7, "sizes": [{"as_int": 2}], ...}}}}
 *
 * (torch 2.13, torch/_export/serde/schema.py: PayloadConfig, PayloadMeta, TensorMeta.) */
#include "archive/archive.h"

#include "base/scan.h"

#define MAX_TABLE    ((size_t)64 << 20) /* bytes of one table's text */
#define MAX_PAYLOADS (1u << 20)
#define MAX_FQN      1024 /* bytes */
#define STRIDED      7    /* Layout of schema.py */

bool pt2_tensor_bytes(enum pt2_dtype dtype, unsigned n_dims, const int64_t *sizes,
                      uint64_t *ret_bytes)
{
    uint64_t n = pt2_dtype_size(dtype);
    bool is_empty = false;

    for (unsigned i = 0; i < n_dims; i++) {
        if (sizes[i] < 0)
            return false;
        is_empty |= sizes[i] == 0;
        /* An empty tensor's other sizes must fit, too. */
        if (sizes[i] > 0 && !size_mul(n, (uint64_t)sizes[i], &n))
            return false;
    }
    if (n > INT64_MAX)
        return false;
    *ret_bytes = is_empty ? 0 : n;
    return true;
}

/* One table while it is read. */
struct table {
    struct pt2_archive *archive;
    struct scan scan;
    const char *folder; /* "data/weights/" */
    bool is_constant;
    size_t cap; /* of archive->payloads, shared by both tables */
};

/* {"as_int": 5}; symbolic sizes have no place in a payload. */
static int read_as_int(struct scan *s, int64_t *ret)
{
    const char *name;
    int more, n = 0;

    if (scan_enter(s, '{') < 0)
        return -1;
    while ((more = scan_member(s, &name)) > 0) {
        if (!streq(name, "as_int") || n++)
            return scan_fail(s, "expected one number, \"as_int\", not \"%.32s\"", name);
        if (scan_int(s, ret) < 0)
            return -1;
    }
    if (more < 0)
        return -1;
    return n == 1 ? 0 : scan_fail(s, "expected \"as_int\"");
}

static int read_dims(struct scan *s, int64_t *dims, unsigned *ret_n)
{
    unsigned n = 0;
    int more;

    if (scan_enter(s, '[') < 0)
        return -1;
    while ((more = scan_item(s)) > 0) {
        if (n == PT2_MAX_DIMS)
            return scan_fail(s, "more than %d dimensions", PT2_MAX_DIMS);
        if (read_as_int(s, &dims[n++]) < 0)
            return -1;
    }
    *ret_n = n;
    return more;
}

static int read_dtype(struct scan *s, enum pt2_dtype *ret)
{
    int64_t code;

    if (scan_int(s, &code) < 0)
        return -1;
    *ret = code == (long)code ? pt2_dtype_from_schema((long)code) : PT2_DTYPE_NONE;
    return *ret == PT2_DTYPE_NONE
               ? scan_fail(s, "dtype %lld is none that is read", (long long)code)
               : 0;
}

static int read_layout(struct scan *s)
{
    int64_t layout;

    if (scan_int(s, &layout) < 0)
        return -1;
    return layout == STRIDED
               ? 0
               : scan_fail(s, "layout %lld is not strided", (long long)layout);
}

/* Members of a TensorMeta that must be there, as bits. */
enum {
    HAS_DTYPE = 1,
    HAS_SIZES = 2,
    HAS_STRIDES = 4,
    HAS_OFFSET = 8,
    HAS_LAYOUT = 16,
    HAS_ALL = 31
};

static int read_meta_member(struct scan *s, const char *name, struct pt2_payload *p,
                            unsigned *n_strides, unsigned *bit)
{
    if (streq(name, "dtype")) {
        *bit = HAS_DTYPE;
        return read_dtype(s, &p->dtype);
    }
    if (streq(name, "sizes")) {
        *bit = HAS_SIZES;
        return read_dims(s, p->sizes, &p->n_dims);
    }
    if (streq(name, "strides")) {
        *bit = HAS_STRIDES;
        return read_dims(s, p->strides, n_strides);
    }
    if (streq(name, "storage_offset")) {
        *bit = HAS_OFFSET;
        return read_as_int(s, &p->storage_offset);
    }
    if (streq(name, "layout")) {
        *bit = HAS_LAYOUT;
        return read_layout(s);
    }
    *bit = 0; /* device, requires_grad: nothing to us */
    return scan_skip(s);
}

static int read_meta(struct scan *s, struct pt2_payload *p)
{
    unsigned seen = 0, bit, n_strides = 0;
    const char *name;
    int more;

    if (scan_enter(s, '{') < 0)
        return -1;
    while ((more = scan_member(s, &name)) > 0) {
        if (read_meta_member(s, name, p, &n_strides, &bit) < 0)
            return -1;
        if (seen & bit)
            return scan_fail(s, "\"%s\" is there twice", name);
        seen |= bit;
    }
    if (more < 0)
        return -1;
    if (seen != HAS_ALL)
        return scan_fail(
            s, "the tensor's meta lacks dtype, sizes, strides, storage_offset or "
               "layout");
    return n_strides == p->n_dims
               ? 0
               : scan_fail(s, "%u sizes and %u strides", p->n_dims, n_strides);
}

/* Do sizes, strides and offset stay within the record's bytes? */
static int check_extent(const struct pt2_payload *p, struct pt2_err *err)
{
    uint64_t last, span, bytes;

    if (!pt2_tensor_bytes(p->dtype, p->n_dims, p->sizes, &bytes))
        return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE, "tensor '%s': its sizes can not be",
                           p->fqn);
    if (p->storage_offset < 0)
        return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE, "tensor '%s': storage offset %lld",
                           p->fqn, (long long)p->storage_offset);
    last = (uint64_t)p->storage_offset;
    for (unsigned i = 0; i < p->n_dims; i++) {
        if (p->strides[i] < 0)
            return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE, "tensor '%s': stride %lld",
                               p->fqn, (long long)p->strides[i]);
        if (p->sizes[i] > 0 &&
            (!size_mul((uint64_t)p->sizes[i] - 1, (uint64_t)p->strides[i], &span) ||
             !size_add(last, span, &last)))
            return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE,
                               "tensor '%s': its strides overflow", p->fqn);
    }
    if (bytes == 0 || p->is_zeros)
        return 0;
    if (!size_add(last, 1, &last) || !size_mul(last, pt2_dtype_size(p->dtype), &last) ||
        last > p->record->size)
        return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE,
                           "tensor '%s' reaches beyond its record '%s' of %llu bytes",
                           p->fqn, p->record->name, (unsigned long long)p->record->size);
    return 0;
}

/* Find the record of a payload. */
static int find_record(const struct table *t, struct pt2_payload *p, const char *path,
                       struct pt2_err *err)
{
    char name[512];

    if (!*path || strchr(path, '/') || strlen(path) > 255)
        return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE,
                           "tensor '%s': \"path_name\" is no record's name", p->fqn);
    snprintf(name, sizeof(name), "%s%s", t->folder, path);
    p->record = pt2_archive_find(t->archive, name);
    if (!p->record)
        return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE,
                           "tensor '%s': its record '%s' is missing", p->fqn, name);
    p->is_zeros = p->record->size == 0;
    return check_extent(p, err);
}

/* One PayloadMeta. */
static int read_payload(struct table *t, struct pt2_payload *p, struct pt2_err *err)
{
    const char *name, *path = NULL;
    bool use_pickle = false, has_meta = false;
    struct scan *s = &t->scan;
    int more, r;

    if (scan_enter(s, '{') < 0)
        return -1;
    while ((more = scan_member(s, &name)) > 0) {
        if (streq(name, "path_name")) {
            r = scan_string(s, &path);
        } else if (streq(name, "is_param")) {
            r = scan_bool(s, &p->is_param);
        } else if (streq(name, "use_pickle")) {
            r = scan_bool(s, &use_pickle);
        } else if (streq(name, "tensor_meta") && scan_peek(s) == '{') {
            r = has_meta ? scan_fail(s, "\"tensor_meta\" is there twice")
                         : read_meta(s, p);
            has_meta = true;
        } else {
            r = scan_skip(s);
        }
        if (r < 0)
            return -1;
    }
    if (more < 0)
        return -1;
    if (use_pickle)
        return pt2_err_set(
            err, PT2_ERR_BAD_ARCHIVE,
            "tensor '%s' is a pickle, which could run any code: never read", p->fqn);
    if (!path || !has_meta)
        return pt2_err_set(
            err, PT2_ERR_BAD_ARCHIVE,
            "'%s' has no \"path_name\" or no \"tensor_meta\": not a tensor", p->fqn);
    return find_record(t, p, path, err);
}

/* Room for one more payload; NULL where there is no memory. */
static struct pt2_payload *add_payload(struct table *t)
{
    struct pt2_archive *archive = t->archive;
    size_t cap = MAX((size_t)64, t->cap * 2);
    struct pt2_payload *grown;

    if (archive->n_payloads == t->cap) {
        grown = reallocarray(archive->payloads, cap, sizeof(*grown));
        if (!grown)
            return NULL;
        archive->payloads = grown;
        t->cap = cap;
    }
    archive->payloads[archive->n_payloads] =
        (struct pt2_payload){.is_constant = t->is_constant};
    return &archive->payloads[archive->n_payloads++];
}

/* The value of "config". */
static int read_config(struct table *t, struct pt2_err *err)
{
    struct pt2_payload *p;
    const char *fqn;
    int more;

    if (scan_enter(&t->scan, '{') < 0)
        return -1;
    while ((more = scan_member(&t->scan, &fqn)) > 0) {
        if (!*fqn || strlen(fqn) > MAX_FQN)
            return scan_fail(&t->scan, "a tensor's name must have 1 to %d bytes",
                             MAX_FQN);
        if (t->archive->n_payloads == MAX_PAYLOADS)
            return scan_fail(&t->scan, "more than %u tensors", MAX_PAYLOADS);
        p = add_payload(t);
        if (!p)
            return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for a payload table");
        p->fqn = fqn;
        if (read_payload(t, p, err) < 0)
            return -1;
    }
    return more;
}

static int read_table(struct table *t, const char *name, char **text, struct pt2_err *err)
{
    const struct pt2_record *record = pt2_archive_find(t->archive, name);
    bool has_config = false;
    const char *member;
    char what[80];
    void *data;
    size_t len;
    int more;

    if (!record)
        return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE,
                           "record '%s' is missing; torch.export.save writes it since 2.9 "
                           "(2.8 a pickle in its place)",
                           name);
    if (pt2_archive_read(t->archive, record, MAX_TABLE, &data, &len, err) < 0)
        return -1;
    *text = data;
    snprintf(what, sizeof(what), "record '%s'", name);
    scan_begin(&t->scan, *text, len, what, PT2_ERR_BAD_ARCHIVE, err);
    if (scan_enter(&t->scan, '{') < 0)
        return -1;
    while ((more = scan_member(&t->scan, &member)) > 0) {
        bool is_config = streq(member, "config");

        if (is_config && has_config)
            return scan_fail(&t->scan, "\"config\" is there twice");
        has_config |= is_config;
        if ((is_config ? read_config(t, err) : scan_skip(&t->scan)) < 0)
            return -1;
    }
    if (more < 0 || scan_end(&t->scan) < 0)
        return -1;
    return has_config ? 0 : scan_fail(&t->scan, "\"config\" is missing");
}

static int compare_payloads(const void *a, const void *b)
{
    const struct pt2_payload *const *x = a, *const *y = b;

    return strcmp((*x)->fqn, (*y)->fqn);
}

static int compare_fqn(const void *fqn, const void *payload)
{
    const struct pt2_payload *const *p = payload;

    return strcmp(fqn, (*p)->fqn);
}

static int by_record(const void *a, const void *b)
{
    const struct pt2_payload *const *x = a, *const *y = b;

    return ((*x)->record > (*y)->record) - ((*x)->record < (*y)->record);
}

/* No name twice; and tensors that share a record share its dtype, too.  Leaves them
 * sorted by name. */
static int check_together(struct pt2_archive *archive, struct pt2_err *err)
{
    size_t n = archive->n_payloads;
    const struct pt2_payload **sorted = calloc(n + 1, sizeof(*sorted));

    if (!sorted)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for %zu tensors", n);
    archive->by_fqn = sorted;
    for (size_t i = 0; i < n; i++)
        sorted[i] = &archive->payloads[i];
    qsort(sorted, n, sizeof(*sorted), by_record);
    for (size_t i = 1; i < n; i++)
        if (sorted[i - 1]->record == sorted[i]->record &&
            sorted[i - 1]->dtype != sorted[i]->dtype)
            return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE,
                               "tensors '%s' and '%s' share a record, but not the dtype",
                               sorted[i - 1]->fqn, sorted[i]->fqn);
    qsort(sorted, n, sizeof(*sorted), compare_payloads);
    for (size_t i = 1; i < n; i++)
        if (streq(sorted[i - 1]->fqn, sorted[i]->fqn))
            return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE, "tensor '%s' is there twice",
                               sorted[i]->fqn);
    return 0;
}

int archive_read_payloads(struct pt2_archive *archive, struct pt2_err *err)
{
    struct table t = {.archive = archive, .folder = "data/weights/"};

    if (read_table(&t, "data/weights/model_weights_config.json", &archive->tables[0],
                   err) < 0)
        return -1;
    t.folder = "data/constants/";
    t.is_constant = true;
    if (read_table(&t, "data/constants/model_constants_config.json", &archive->tables[1],
                   err) < 0)
        return -1;
    return check_together(archive, err);
}

size_t pt2_archive_n_payloads(const struct pt2_archive *archive)
{
    return archive->n_payloads;
}

const struct pt2_payload *pt2_archive_payload(const struct pt2_archive *archive, size_t i)
{
    return &archive->payloads[i];
}

const struct pt2_payload *pt2_archive_find_payload(const struct pt2_archive *archive,
                                                   const char *fqn)
{
    const struct pt2_payload *const *found = bsearch(
        fqn, archive->by_fqn, archive->n_payloads, sizeof(*archive->by_fqn), compare_fqn);

    return found ? *found : NULL;
}
