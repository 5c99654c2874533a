/* layout.c - the records that torch.export.load wants, and the payload tables. */
#include <pt2/archive.h>

#include "base/buf.h"
#include "base/utf8.h"

#include <inttypes.h>

#define MAX_TABLE ((size_t)64 << 20) /* bytes of one table's text: what we read back */
#define STRIDED   7                  /* Layout of schema.py */

static const struct {
    const char *folder, *prefix, *config;
} tables[] = {
    [PT2_TABLE_WEIGHTS] = {"data/weights", "weight", "model_weights_config.json"},
    [PT2_TABLE_CONSTANTS] = {"data/constants", "tensor", "model_constants_config.json"},
};

int pt2_writer_fixed(struct pt2_writer *writer, struct pt2_err *err)
{
    /* .data/version is that of PyTorch's own zip reader, which takes 1 to 10.  The sample
     * inputs would be a pickle; empty, there is none in the archive. */
    static const struct {
        const char *name, *text;
    } records[] = {
        {"archive_format", "pt2"},
        {"archive_version", "0"},
        {"byteorder", "little"},
        {".data/version", "6\n"},
        {"data/sample_inputs/model.pt", ""},
    };

    for (size_t i = 0; i < ARRAY_LEN(records); i++)
        if (pt2_writer_record(writer, records[i].name, records[i].text,
                              strlen(records[i].text), 1, err) < 0)
            return -1;
    return 0;
}

int pt2_writer_model(struct pt2_writer *writer, const char *json, size_t len,
                     struct pt2_err *err)
{
    return pt2_writer_record(writer, "models/model.json", json, len, 1, err);
}

int pt2_writer_begin_tensor(struct pt2_writer *writer, enum pt2_table table, uint32_t n,
                            uint64_t size, struct pt2_err *err)
{
    char name[64];

    snprintf(name, sizeof(name), "%s/%s_%" PRIu32, tables[table].folder,
             tables[table].prefix, n);
    return pt2_writer_begin(writer, name, size, PT2_TENSOR_ALIGN, err);
}

static void add_string(struct buf *b, const char *s)
{
    buf_str(b, "\"");
    for (; *s; s++) {
        if ((unsigned char)*s < 0x20)
            buf_printf(b, "\\u%04x", (unsigned)*s);
        else if (*s == '"' || *s == '\\')
            buf_printf(b, "\\%c", *s);
        else
            buf_add(b, s, 1);
    }
    buf_str(b, "\"");
}

static void add_dims(struct buf *b, const char *name, const int64_t *dims, unsigned n)
{
    buf_printf(b, "\"%s\":[", name);
    for (unsigned i = 0; i < n; i++)
        buf_printf(b, "%s{\"as_int\":%" PRId64 "}", i ? "," : "", dims[i]);
    buf_str(b, "],");
}

/* PayloadMeta and TensorMeta, all members: torch wants every one. */
static void add_entry(struct buf *b, enum pt2_table table,
                      const struct pt2_payload_entry *e)
{
    int64_t strides[PT2_MAX_DIMS], stride = 1;

    for (unsigned i = e->n_dims; i-- > 0;) {
        strides[i] = stride;
        stride *= MAX(e->sizes[i], (int64_t)1); /* fits: pt2_tensor_bytes said so */
    }
    add_string(b, e->fqn);
    buf_printf(b,
               ":{\"path_name\":\"%s_%" PRIu32 "\",\"is_param\":%s,\"use_pickle\":false,"
               "\"tensor_meta\":{\"dtype\":%d,",
               tables[table].prefix, e->record, e->is_param ? "true" : "false",
               pt2_dtype_schema(e->dtype));
    add_dims(b, "sizes", e->sizes, e->n_dims);
    buf_printf(b, "\"requires_grad\":%s,\"device\":{\"type\":\"cpu\",\"index\":null},",
               e->requires_grad ? "true" : "false");
    add_dims(b, "strides", strides, e->n_dims);
    buf_printf(b, "\"storage_offset\":{\"as_int\":0},\"layout\":%d}}", STRIDED);
}

static int check_entry(const struct pt2_payload_entry *e, struct pt2_err *err)
{
    uint64_t bytes;

    if (!*e->fqn || !utf8_is_valid(e->fqn, strlen(e->fqn)))
        return pt2_err_set(err, PT2_ERR_INVALID, "a tensor without a name, or not UTF-8");
    if (e->dtype == PT2_DTYPE_NONE || e->n_dims > PT2_MAX_DIMS ||
        !pt2_tensor_bytes(e->dtype, e->n_dims, e->sizes, &bytes))
        return pt2_err_set(err, PT2_ERR_INVALID, "tensor '%s': a shape that can not be",
                           e->fqn);
    if (e->requires_grad && !pt2_dtype_is_float(e->dtype))
        return pt2_err_set(err, PT2_ERR_INVALID, "tensor '%s': %s has no gradient",
                           e->fqn, pt2_dtype_name(e->dtype));
    return 0;
}

static int compare_fqns(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int check_entries(const struct pt2_payload_entry *entries, size_t n,
                         struct pt2_err *err)
{
    AUTO_PTR const char **fqns = calloc(n + 1, sizeof(*fqns));

    if (!fqns)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for %zu tensors", n);
    for (size_t i = 0; i < n; i++) {
        if (check_entry(&entries[i], err) < 0)
            return -1;
        fqns[i] = entries[i].fqn;
    }
    qsort(fqns, n, sizeof(*fqns), compare_fqns);
    for (size_t i = 1; i < n; i++)
        if (streq(fqns[i - 1], fqns[i]))
            return pt2_err_set(err, PT2_ERR_INVALID, "tensor '%s' is there twice",
                               fqns[i]);
    return 0;
}

int pt2_writer_payloads(struct pt2_writer *writer, enum pt2_table table,
                        const struct pt2_payload_entry *entries, size_t n_entries,
                        struct pt2_err *err)
{
    AUTO_BUF b = BUF_INIT(MAX_TABLE);
    char name[64];

    if (check_entries(entries, n_entries, err) < 0)
        return -1;
    buf_str(&b, "{\"config\":{");
    for (size_t i = 0; i < n_entries; i++) {
        if (i)
            buf_str(&b, ",");
        add_entry(&b, table, &entries[i]);
    }
    buf_str(&b, "}}");
    if (buf_failed(&b))
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for a table of %zu tensors",
                           n_entries);
    snprintf(name, sizeof(name), "%s/%s", tables[table].folder, tables[table].config);
    return pt2_writer_record(writer, name, b.data, b.len, 1, err);
}
