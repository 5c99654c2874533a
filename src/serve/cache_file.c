#include "serve/cache_file.h"

#include "base/buf.h"
#include "base/json.h"
#include <endian.h>
#include <inttypes.h>

/* The buffer's shape in a file that holds `position` positions. */
static int64_t size_in_file(const struct pt2_cache_buffer *buffer, unsigned d,
                            int64_t position)
{
    return (int)d == buffer->position_dim ? pt2_cache_part_rows(buffer, 0, position)
                                          : buffer->sizes[d];
}

/* Call fn for each buffer of the cache as dtype, those of larger elements first, so that every
 * tensor of a file lies aligned to its elements. */
static int each_buffer(const struct pt2_cache *cache, enum pt2_dtype dtype,
                       int (*fn)(void *context, size_t i,
                                 const struct pt2_cache_buffer *buffer),
                       void *context)
{
    struct pt2_cache_buffer buffer;

    for (size_t bytes = 16; bytes > 0; bytes /= 2) {
        for (size_t i = 0; i < pt2_cache_n_buffers_as(cache, dtype); i++) {
            pt2_cache_buffer_as(cache, dtype, i, &buffer);
            if (pt2_dtype_size(buffer.dtype) == bytes && fn(context, i, &buffer) < 0)
                return -1;
        }
    }
    return 0;
}

/* ---- writing ---- */

struct writer {
    const struct pt2_cache *cache;
    struct buf header;
    int64_t position;
    size_t bytes; /* of the tensors so far */
    char *to;
};

static void add_json_string(struct buf *b, const char *s)
{
    json_auto_t *json = json_string_lossy(s);
    AUTO_PTR char *text = json ? json_to_text(json, JSON_ENCODE_ANY) : NULL;

    if (text)
        buf_str(b, text);
    else
        b->failed = true;
}

static int add_entry(void *context, size_t i, const struct pt2_cache_buffer *buffer)
{
    struct writer *w = context;
    size_t end = w->bytes + pt2_cache_part_bytes(buffer, 0, w->position);

    buf_str(&w->header, ",");
    add_json_string(&w->header, buffer->fqn);
    buf_printf(&w->header, ":{\"dtype\":\"%s\",\"shape\":[",
               pt2_dtype_safetensors(buffer->dtype));
    for (unsigned d = 0; d < buffer->n_dims; d++)
        buf_printf(&w->header, "%s%" PRId64, d ? "," : "",
                   size_in_file(buffer, d, w->position));
    buf_printf(&w->header, "],\"data_offsets\":[%zu,%zu]}", w->bytes, end);
    w->bytes = end;
    (void)i;
    return 0;
}

static int add_bytes(void *context, size_t i, const struct pt2_cache_buffer *buffer)
{
    struct writer *w = context;

    pt2_cache_read(w->cache, i, 0, w->position, w->to);
    w->to += pt2_cache_part_bytes(buffer, 0, w->position);
    return 0;
}

int cache_file_write(struct pt2_cache *cache, const char *program, int64_t position,
                     int (*reserve)(void *context, uint64_t bytes, struct pt2_err *err),
                     void *context, char **ret_file, size_t *ret_size,
                     struct pt2_err *err)
{
    struct writer w = {.cache = cache,
                       .header = BUF_INIT(CACHE_FILE_MAX_HEADER),
                       .position = position};
    AUTO_PTR char *header = NULL, *file = NULL;
    uint64_t header_size;
    int ret;

    buf_printf(&w.header,
               "{\"__metadata__\":{\"program\":\"%s\",\"position\":\"%" PRId64 "\"}",
               program, position);
    ret = each_buffer(cache, pt2_cache_dtype(cache), add_entry, &w);
    buf_str(&w.header, "}");
    while (w.header.len % 8 != 0 && !buf_failed(&w.header))
        buf_str(&w.header, " ");
    header_size = w.header.len;
    if (reserve && reserve(context, 8 + header_size + w.bytes, err) < 0) {
        buf_done(&w.header);
        return -1;
    }
    if (ret == 0 && !buf_failed(&w.header))
        file = malloc(8 + header_size + w.bytes + 1);
    header = buf_take(&w.header);
    if (!file || !header)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for a cache file of %zu bytes",
                           w.bytes);
    *ret_size = 8 + header_size + w.bytes;
    memcpy(file + 8, header, header_size);
    w.to = file + 8 + header_size;
    ret = each_buffer(cache, pt2_cache_dtype(cache), add_bytes, &w);
    header_size = htole64(header_size);
    memcpy(file, &header_size, 8);
    *ret_file = TAKE(file);
    return ret;
}

/* ---- reading ---- */

/* Where a tensor's bytes lie, behind the header. */
struct range {
    uint64_t first, end;
};

struct reader {
    const json_t *header;
    const char *data;
    uint64_t data_size;
    int64_t position;
    enum pt2_dtype dtype; /* what the file's cache is as */
    struct range *ranges; /* of the buffers checked so far */
    size_t n_buffers;
    struct pt2_err *err;
};

static int bad(struct pt2_err *err, const char *fmt, ...) PT2_PRINTF(2, 3);
static int bad(struct pt2_err *err, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    pt2_err_vset(err, PT2_ERR_INVALID, fmt, ap);
    va_end(ap);
    return pt2_err_prefix(err, "the cache file");
}

static int read_header(const char *file, size_t size, json_t **ret_header,
                       size_t *ret_size, struct pt2_err *err)
{
    uint64_t n;
    json_t *header;

    if (size < 8)
        return bad(err, "holds %zu bytes, which is no safetensors file", size);
    memcpy(&n, file, 8);
    n = le64toh(n);
    if (n > CACHE_FILE_MAX_HEADER || n > size - 8)
        return bad(err, "says that its header is %llu bytes long, of %zu in all",
                   (unsigned long long)n, size);
    if (json_parse(file + 8, n, &header, err) < 0) {
        if (err && err->code == PT2_ERR_BAD_JSON)
            err->code = PT2_ERR_INVALID; /* the request's body is not JSON anyway */
        return pt2_err_prefix(err, "the cache file's header");
    }
    *ret_header = header;
    *ret_size = n;
    return json_is_object(header) ? 0 : bad(err, "has a header that is no object");
}

static int read_metadata(struct reader *r, const char *program, int64_t max_cache_len)
{
    const json_t *metadata = json_object_get(r->header, "__metadata__");
    const char *of = json_string_value(json_object_get(metadata, "program")),
               *position = json_string_value(json_object_get(metadata, "position"));
    char again[24] = "";

    if (!of || !position)
        return bad(r->err, "lacks the metadata \"program\" and \"position\"");
    if (!streq(of, program))
        return pt2_err_set(r->err, PT2_ERR_OTHER_PROGRAM,
                           "the cache is of program '%.64s', the session of '%s'", of,
                           program);
    r->position = strtoll(position, NULL, 10);
    snprintf(again, sizeof(again), "%" PRId64, r->position);
    if (!streq(again, position) || r->position < 0 || r->position > max_cache_len)
        return bad(r->err, "says position '%.32s', not one of 0 to %" PRId64, position,
                   max_cache_len);
    return 0;
}

static int check_shape(const struct reader *r, const struct pt2_cache_buffer *buffer,
                       const json_t *shape)
{
    bool same = json_is_array(shape) && json_array_size(shape) == buffer->n_dims;

    for (unsigned d = 0; same && d < buffer->n_dims; d++) {
        const json_t *size = json_array_get(shape, d);

        same = json_is_integer(size) &&
               json_integer_value(size) == size_in_file(buffer, d, r->position);
    }
    if (same)
        return 0;
    return bad(r->err,
               "has '%s' in another shape than the program's, with %" PRId64 " positions",
               buffer->fqn, r->position);
}

static int find_range(const struct reader *r, const struct pt2_cache_buffer *buffer,
                      uint64_t *ret_first, uint64_t *ret_bytes)
{
    const json_t *entry = json_object_get(r->header, buffer->fqn),
                 *offsets = json_object_get(entry, "data_offsets"),
                 *from = json_array_get(offsets, 0), *to = json_array_get(offsets, 1);
    uint64_t bytes = pt2_cache_part_bytes(buffer, 0, r->position);

    if (!json_is_integer(from) || !json_is_integer(to) || json_array_size(offsets) != 2 ||
        json_integer_value(from) < 0 || json_integer_value(to) < json_integer_value(from))
        return bad(r->err, "has no data_offsets for '%s'", buffer->fqn);
    *ret_first = (uint64_t)json_integer_value(from);
    *ret_bytes = (uint64_t)json_integer_value(to) - *ret_first;
    if (*ret_bytes != bytes)
        return bad(r->err, "has %llu bytes of '%s', not %llu",
                   (unsigned long long)*ret_bytes, buffer->fqn,
                   (unsigned long long)bytes);
    if (*ret_first > r->data_size || bytes > r->data_size - *ret_first)
        return bad(r->err, "ends within '%s'", buffer->fqn);
    return 0;
}

static int check_entry(void *context, size_t i, const struct pt2_cache_buffer *buffer)
{
    struct reader *r = context;
    const json_t *entry = json_object_get(r->header, buffer->fqn);
    const char *dtype = json_string_value(json_object_get(entry, "dtype")),
               *want = pt2_dtype_safetensors(buffer->dtype);
    uint64_t first, bytes;

    if (!entry)
        return bad(r->err, "lacks the buffer '%s'", buffer->fqn);
    if (!dtype || !streq(dtype, want))
        return bad(r->err, "has '%s' as %.16s, the program as %s", buffer->fqn,
                   dtype ? dtype : "nothing", want);
    if (check_shape(r, buffer, json_object_get(entry, "shape")) < 0 ||
        find_range(r, buffer, &first, &bytes) < 0)
        return -1;
    (void)i;
    r->ranges[r->n_buffers++] = (struct range){first, first + bytes};
    return 0;
}

static int compare_ranges(const void *a, const void *b)
{
    const struct range *x = a, *y = b;

    if (x->first != y->first)
        return x->first < y->first ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

/* Each byte belongs to one tensor. */
static int check_ranges(struct reader *r)
{
    uint64_t at = 0;

    qsort(r->ranges, r->n_buffers, sizeof(*r->ranges), compare_ranges);
    for (size_t i = 0; i < r->n_buffers; i++) {
        if (r->ranges[i].first != at)
            return bad(r->err, "has %s at byte %llu behind its header",
                       r->ranges[i].first < at ? "tensors that overlap" : "a hole",
                       (unsigned long long)MIN(at, r->ranges[i].first));
        at = r->ranges[i].end;
    }
    if (at == r->data_size)
        return 0;
    return bad(r->err, "has %llu bytes of tensors, and %llu bytes behind its header",
               (unsigned long long)at, (unsigned long long)r->data_size);
}

/* Fill the buffers that have positions, or those that have none. */
static int fill_buffers(const struct reader *r, struct pt2_cache *cache, bool positions)
{
    for (size_t i = 0; i < pt2_cache_n_buffers_as(cache, r->dtype); i++) {
        struct pt2_cache_buffer buffer;
        uint64_t first = 0, bytes;

        pt2_cache_buffer_as(cache, r->dtype, i, &buffer);
        if ((buffer.position_dim >= 0) != positions)
            continue;
        if (find_range(r, &buffer, &first, &bytes) < 0 ||
            pt2_cache_write_as(cache, r->dtype, i, 0, r->position, r->data + first, r->err) <
                0)
            return -1;
    }
    return 0;
}

/* Is it a cache of PT2_INT8?  Some program's may have buffers of that, but no scales. */
static enum pt2_dtype dtype_of_file(const json_t *header, const struct pt2_cache *cache)
{
    for (size_t i = 0; i < pt2_cache_n_buffers_as(cache, PT2_INT8); i++) {
        struct pt2_cache_buffer buffer;
        const json_t *dtype;

        pt2_cache_buffer_as(cache, PT2_INT8, i, &buffer);
        dtype = json_object_get(json_object_get(header, buffer.fqn), "dtype");
        if (buffer.dtype == PT2_INT8 && json_is_string(dtype))
            return streq(json_string_value(dtype), pt2_dtype_safetensors(PT2_INT8))
                       ? PT2_INT8
                       : PT2_DTYPE_NONE;
    }
    return PT2_DTYPE_NONE;
}

int cache_file_read(const char *file, size_t size, struct pt2_cache *cache,
                    const char *program, int64_t max_cache_len,
                    int (*reserve)(void *context, int64_t position, struct pt2_err *err),
                    void *context, int64_t *ret_position, struct pt2_err *err)
{
    json_auto_t *header = NULL;
    AUTO_PTR struct range *ranges = NULL;
    struct reader r = {.err = err};
    size_t header_size = 0;

    if (read_header(file, size, &header, &header_size, err) < 0)
        return -1;
    r.header = header;
    r.data = file + 8 + header_size;
    r.data_size = size - 8 - header_size;
    r.dtype = dtype_of_file(header, cache);
    r.ranges = ranges =
        calloc(pt2_cache_n_buffers_as(cache, r.dtype) + 1, sizeof(*ranges));
    if (!ranges)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory to check a cache file");
    if (read_metadata(&r, program, max_cache_len) < 0 ||
        each_buffer(cache, r.dtype, check_entry, &r) < 0)
        return -1;
    if (json_object_size(header) != r.n_buffers + 1)
        return bad(err, "has %zu tensors, the program %zu buffers",
                   json_object_size(header) - 1, r.n_buffers);
    if (check_ranges(&r) < 0 || (reserve && reserve(context, r.position, err) < 0))
        return -1;
    /* The first write takes the memory for all of them: it alone may fail. */
    if (fill_buffers(&r, cache, /* positions= */ true) < 0 ||
        fill_buffers(&r, cache, /* positions= */ false) < 0)
        return -1;
    *ret_position = r.position;
    return 0;
}
