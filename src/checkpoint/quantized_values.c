#include "checkpoint/quantized_values.h"

#include "base/half.h"
#include "checkpoint/float8.h"

#define RAW_BYTES  16384 /* of stored elements, read at once */
#define SCALES     512   /* read at once */
#define MAX_GROUPS 64    /* of a row, taken at once */

size_t quantized_scale_bytes(enum quantized_scale scale)
{
    static const size_t bytes[] = {0, 4, 2, 2, 1, 1};

    return bytes[scale];
}

/* ---- scales ---- */

/* Some scales, one behind the other in the grid. */
struct window {
    uint64_t first;
    size_t n;
    float values[SCALES];
};

static float scale_at(enum quantized_scale type, const uint8_t *raw)
{
    uint16_t half;
    float value;

    switch (type) {
    case QUANTIZED_F32:
        memcpy(&value, raw, sizeof(value));
        return value;
    case QUANTIZED_BF16:
        memcpy(&half, raw, sizeof(half));
        return bf16_to_float(half);
    case QUANTIZED_F16:
        memcpy(&half, raw, sizeof(half));
        return f16_to_float(half);
    case QUANTIZED_E8M0:
        return float8_e8m0(*raw);
    case QUANTIZED_EXPONENT:
        return float8_exponent(*raw);
    default:
        return 1;
    }
}

/* Let the window hold scale i. */
static int look_at(const struct quantized_source *s, const struct files *files,
                   uint64_t i, struct window *w, struct pt2_err *err)
{
    size_t size = quantized_scale_bytes(s->scale);
    uint8_t raw[SCALES * sizeof(float)];

    if (i >= w->first && i - w->first < w->n)
        return 0;
    w->first = i;
    w->n = (size_t)MIN(s->n_scales - i, (uint64_t)SCALES);
    if (size > 0 && files_read(files, s->scale_file, s->scale_offset + i * size, raw,
                               w->n * size, err) < 0)
        return -1;
    for (size_t k = 0; k < w->n; k++)
        w->values[k] = scale_at(s->scale, raw + k * size);
    return 0;
}

/* ---- float8 ---- */

/* Up to n values from value i on: as many as have one scale, or their scales side by side
 * in the window. */
static int scale_run(const struct quantized_source *s, const struct files *files,
                     const uint8_t *raw, uint64_t i, size_t n, struct window *w,
                     float *to, size_t *ret_done, struct pt2_err *err)
{
    uint64_t row = i / s->cols, col = i % s->cols, r = row % s->rows;
    uint64_t scale = (row / s->rows * s->scale_rows + r / s->block_rows) * s->scale_cols +
                     col / s->block_cols;
    uint64_t block_left = s->block_cols - col % s->block_cols;
    bool is_e4m3 = s->kind == QUANTIZED_E4M3;
    const float *scales;

    if (look_at(s, files, scale, w, err) < 0)
        return -1;
    scales = w->values + (scale - w->first);
    n = (size_t)MIN((uint64_t)n, s->cols - col);
    if (s->block_cols == 1) {
        n = MIN(n, w->n - (size_t)(scale - w->first));
        (is_e4m3 ? float8_e4m3_times : float8_e5m2_times)(raw, n, scales, to);
    } else {
        n = (size_t)MIN((uint64_t)n, block_left);
        (is_e4m3 ? float8_e4m3_scaled : float8_e5m2_scaled)(raw, n, *scales, to);
    }
    *ret_done = n;
    return 0;
}

static int make_float8(const struct quantized_source *s, const struct files *files,
                       uint64_t i, size_t n, float *to, struct pt2_err *err)
{
    struct window window = {0};
    uint8_t raw[RAW_BYTES];

    while (n > 0) {
        size_t got = MIN(n, (size_t)RAW_BYTES), done = 0;

        if (files_read(files, s->file, s->offset + i, raw, got, err) < 0)
            return -1;
        for (size_t at = 0; at < got; at += done)
            if (scale_run(s, files, raw + at, i + at, got - at, &window, to + at,
                          &done, err) < 0)
                return -1;
        i += got;
        n -= got;
        to += got;
    }
    return 0;
}

/* ---- MXFP4 ---- */

/* A part of one transposed matrix: values first to first + n, which lie in the groups g to
 * g + n_groups of the stored rows. */
struct part {
    uint64_t first, n;
    uint64_t g, n_groups;
    float *to;
};

/* One stored row's groups into their places: a column each, of those that the part has of
 * this row. */
static void scatter(const struct quantized_source *s, const struct part *p, uint64_t row,
                    const uint8_t *blocks, const uint8_t *scales)
{
    uint64_t last = p->first + p->n - 1;
    uint64_t c = p->first / s->rows + (p->first % s->rows > row);
    uint64_t end = last / s->rows + (last % s->rows >= row);
    float values[16];

    while (c < end) {
        uint64_t g = c / MXFP4_GROUP - p->g, stop = (g + p->g + 1) * MXFP4_GROUP;
        const uint8_t *block = blocks + g * MXFP4_GROUP_BYTES;

        float4_e2m1_values(scales[g], values);
        for (; c < MIN(stop, end); c++) {
            uint8_t two = block[c % MXFP4_GROUP / 2];

            p->to[c * s->rows + row - p->first] = values[c % 2 ? two >> 4 : two & 15];
        }
    }
}

/* Rows are read as they lie, whole but for the ends: what is between the groups that are
 * wanted costs less than a call for each row. */
static int make_part(const struct quantized_source *s, const struct files *files,
                     uint64_t matrix, const struct part *p, struct pt2_err *err)
{
    uint64_t groups = s->cols / MXFP4_GROUP, stride = groups * MXFP4_GROUP_BYTES;
    uint64_t span = p->n_groups * MXFP4_GROUP_BYTES;
    uint64_t at_once = (RAW_BYTES - span) / stride + 1;
    bool is_one_column = p->first / s->rows == (p->first + p->n - 1) / s->rows;
    uint64_t row = is_one_column ? p->first % s->rows : 0;
    uint64_t end = is_one_column ? row + p->n : s->rows;
    uint8_t blocks[RAW_BYTES], scales[RAW_BYTES / MXFP4_GROUP_BYTES];

    for (uint64_t count; row < end; row += count) {
        uint64_t group = (matrix * s->rows + row) * groups + p->g;

        count = MIN(at_once, end - row);
        if (files_read(files, s->file, s->offset + group * MXFP4_GROUP_BYTES, blocks,
                       (size_t)((count - 1) * stride + span), err) < 0 ||
            files_read(files, s->scale_file, s->scale_offset + group, scales,
                       (size_t)((count - 1) * groups + p->n_groups), err) < 0)
            return -1;
        for (uint64_t k = 0; k < count; k++)
            scatter(s, p, row + k, blocks + k * stride, scales + k * groups);
    }
    return 0;
}

static int make_mxfp4(const struct quantized_source *s, const struct files *files,
                      uint64_t i, size_t n, float *to, struct pt2_err *err)
{
    uint64_t size = s->rows * s->cols;

    while (n > 0) {
        struct part p = {.first = i % size, .to = to};
        uint64_t most, column = p.first / s->rows;

        p.g = column / MXFP4_GROUP;
        most = MIN((p.g + MAX_GROUPS) * MXFP4_GROUP * s->rows, size) - p.first;
        p.n = MIN((uint64_t)n, most);
        p.n_groups = (p.first + p.n - 1) / s->rows / MXFP4_GROUP - p.g + 1;
        if (make_part(s, files, i / size, &p, err) < 0)
            return -1;
        i += p.n;
        n -= (size_t)p.n;
        to += p.n;
    }
    return 0;
}

int quantized_values(const void *source, const struct files *files, uint64_t i, size_t n,
                     float *to, struct pt2_err *err)
{
    const struct quantized_source *s = source;

    return s->kind == QUANTIZED_MXFP4 ? make_mxfp4(s, files, i, n, to, err)
                                      : make_float8(s, files, i, n, to, err);
}
