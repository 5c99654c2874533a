#include "engine/initial.h"

#include "base/log.h"

/* The bytes of a payload's record: in the mapped file, or unpacked into *ret_new. */
static int record_bytes(const struct pt2_archive *archive,
                        const struct pt2_payload *payload, const char **ret_data,
                        size_t *ret_size, void **ret_new, struct pt2_err *err)
{
    const void *data = pt2_archive_data(archive, payload->record);

    *ret_size = payload->record->size;
    if (!data && payload->record->size > 0) {
        if (pt2_archive_read(archive, payload->record, payload->record->size, ret_new,
                             ret_size, err) < 0)
            return -1;
        data = *ret_new;
    }
    *ret_data = data;
    return 0;
}

/* The elements that the payload's strides pick, one behind the other.  The reader has
 * checked that the strides stay within the record; the last line of defence is here. */
static bool gather(const struct pt2_payload *p, const char *data, size_t size, char *out)
{
    uint64_t element = pt2_dtype_size(p->dtype), n = 1;
    int64_t index[PT2_MAX_DIMS] = {0};

    for (unsigned d = 0; d < p->n_dims; d++)
        n *= (uint64_t)p->sizes[d];
    for (uint64_t i = 0; i < n; i++) {
        int64_t at = p->storage_offset;

        for (unsigned d = 0; d < p->n_dims; d++)
            at += index[d] * p->strides[d];
        if (at < 0 || (uint64_t)at >= size / element)
            return false;
        memcpy(out + i * element, data + (uint64_t)at * element, element);
        for (unsigned d = p->n_dims; d-- > 0 && ++index[d] == p->sizes[d];)
            index[d] = 0;
    }
    return true;
}

static bool is_all_zeros(const char *data, size_t size)
{
    return size == 0 || (data[0] == 0 && memcmp(data, data + 1, size - 1) == 0);
}

static int buffer_read(const struct pt2_archive *archive, const struct layout_buffer *b,
                       void **ret_bytes, struct pt2_err *err)
{
    const struct pt2_payload *payload = pt2_archive_find_payload(archive, b->fqn);
    AUTO_PTR char *bytes = NULL;
    AUTO_PTR void *unpacked = NULL;
    const char *data;
    size_t size;

    if (!payload || payload->dtype != b->dtype || payload->n_dims != b->n_dims ||
        memcmp(payload->sizes, b->sizes, b->n_dims * sizeof(*b->sizes)) != 0)
        return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE,
                           "buffer '%s' has no payload of its dtype and shape", b->fqn);
    if (payload->is_zeros || b->bytes == 0)
        return 0;
    if (record_bytes(archive, payload, &data, &size, &unpacked, err) < 0)
        return -1;
    if (!(bytes = malloc(b->bytes)))
        return pt2_err_set(err, PT2_ERR_NOMEM, "buffer '%s'", b->fqn);
    if (!gather(payload, data, size, bytes))
        return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE, "buffer '%s' leaves its record",
                           b->fqn);
    if (!is_all_zeros(bytes, b->bytes))
        *ret_bytes = TAKE(bytes);
    return 0;
}

int initial_read(const struct pt2_archive *archive, const struct layout *layout,
                 void ***ret_initial, struct pt2_err *err)
{
    void **initial = calloc(layout->n_buffers + 1, sizeof(*initial));

    if (!initial)
        return pt2_err_set(err, PT2_ERR_NOMEM, "initial contents");
    for (size_t i = 0; i < layout->n_buffers; i++)
        if (buffer_read(archive, &layout->buffers[i], &initial[i], err) < 0) {
            initial_free(initial, layout);
            return -1;
        }
    *ret_initial = initial;
    return 0;
}

void initial_free(void **initial, const struct layout *layout)
{
    for (size_t i = 0; initial && i < layout->n_buffers; i++)
        free(initial[i]);
    free(initial);
}
