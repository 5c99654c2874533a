#include "native/run_impl.h"

#include <math.h>

const float *run_view(const struct plan_runner *r, const struct plan_view *view, size_t row)
{
    switch (view->source) {
    case PLAN_REGISTER:
        return r->registers[view->i] + row * r->plan->widths[view->i] + view->offset;
    case PLAN_TABLE:
        return r->plan->tables[view->i] +
               (size_t)r->rows[row].position * r->plan->table_widths[view->i] + view->offset;
    case PLAN_CONSTANT:
        return r->plan->constants[view->i] + view->offset;
    default:
        return &view->number;
    }
}

float *run_out(const struct plan_runner *r, const struct plan_step *s, size_t row)
{
    return r->registers[s->out] + row * r->plan->widths[s->out] + s->out_offset;
}

/* ---- linear ---- */

/* Outputs are dealt in blocks, so that no two parts write in one cache line, nor read in one
 * panel. */
#define OUT_BLOCK 16
_Static_assert(OUT_BLOCK == QUANT_PANEL, "parts share panels");

/* n outputs from `first` on, of weights of whole numbers. */
static void linear_quant(struct plan_runner *r, const struct plan_step *s,
                         const struct plan_quant *q, size_t first, size_t n, float *y, size_t ldy)
{
    const float *x = run_view(r, &s->in, 0);

    if (s->linear.of_whole)
        r->kernels->linear_q8(x, r->n_rows, &q->shape, q->packed, (uint32_t)first, (uint32_t)n, y,
                              ldy);
    else
        r->kernels->linear_w(x, r->plan->widths[s->in.i], r->n_rows, &q->shape, q->packed,
                             (uint32_t)first, (uint32_t)n, y, ldy);
}

static void linear_float(struct plan_runner *r, const struct plan_step *s,
                         const struct plan_linear_out *out, size_t first, size_t n, float *y,
                         size_t ldy, struct kernel_rows x)
{
    r->kernels->linear[out->dtype](
        x, r->n_rows,
        (const uint8_t *)out->weights + first * s->linear.k * pt2_dtype_size(out->dtype),
        s->linear.k, n, y, ldy, NULL);
}

void run_linear(struct plan_runner *r, const struct plan_step *s, unsigned part)
{
    size_t n_blocks = 0, from, to, before = 0;
    struct kernel_rows x = {0};
    enum pt2_dtype packed = PT2_DTYPE_NONE;

    for (uint32_t o = 0; o < s->linear.n_outs; o++)
        n_blocks += (s->linear.outs[o].n_out + OUT_BLOCK - 1) / OUT_BLOCK;
    from = n_blocks * part / r->n_parts;
    to = n_blocks * (part + 1) / r->n_parts;
    for (uint32_t o = 0; o < s->linear.n_outs; o++) {
        const struct plan_linear_out *out = &s->linear.outs[o];
        size_t mine = (out->n_out + OUT_BLOCK - 1) / OUT_BLOCK;
        size_t first = MIN(out->n_out, (MAX(from, before) - before) * OUT_BLOCK);
        size_t last = MIN(out->n_out, (MAX(to, before) - before) * OUT_BLOCK);
        size_t ldy = r->plan->widths[out->out];
        float *y = r->registers[out->out] + first;

        before += mine;
        if (first >= last)
            continue;
        if (out->weights && packed != out->dtype)
            x = r->kernels->pack[out->dtype](run_view(r, &s->in, 0), r->plan->widths[s->in.i],
                                             r->n_rows, s->linear.k, r->packed[part]);
        if (out->weights)
            packed = out->dtype;
        if (!out->weights)
            linear_quant(r, s, &r->plan->quants[out->quant], first, last - first, y, ldy);
        else
            linear_float(r, s, out, first, last - first, y, ldy, x);
        if (out->bias >= 0)
            for (size_t row = 0; row < r->n_rows; row++)
                r->kernels->binary(KERNEL_ADD, y + row * ldy, 1,
                                   r->plan->constants[out->bias] + first, 1, last - first,
                                   y + row * ldy);
    }
}

/* ---- steps of one row ---- */

/* A row of whole numbers, each group by its scale. */
static void widen_quant(const struct plan_quant *q, size_t row, float *out)
{
    size_t k = q->shape.k, group = q->shape.group;
    const int8_t *data = q->data + row * k;
    const float *scale = q->scale + row * (k / group);

    for (size_t g = 0; g < k / group; g++)
        for (size_t i = g * group; i < (g + 1) * group; i++)
            out[i] = (float)data[i] * scale[g];
}

static void embed(const struct plan_runner *r, const struct plan_step *s, size_t row)
{
    size_t width = s->embed.width, size = pt2_dtype_size(s->embed.dtype);
    float *out = run_out(r, s, row);

    if (!s->embed.weights)
        widen_quant(&r->plan->quants[s->embed.quant], (size_t)r->rows[row].token, out);
    else
        r->kernels->widen[s->embed.dtype]((const uint8_t *)s->embed.weights +
                                              (size_t)r->rows[row].token * width * size,
                                          width, out);
    if (s->embed.scale != 1.0f)
        r->kernels->binary(KERNEL_MUL, out, 1, &s->embed.scale, 0, width, out);
}

/* To whole numbers, and back. */
static void quantize(const struct plan_runner *r, const struct plan_step *s, size_t row)
{
    r->kernels->quantize_rows(run_view(r, &s->in, row), s->sizes[3], 1, s->sizes[3],
                              s->quantize_eps, run_out(r, s, row));
}

static void dequantize(const struct plan_runner *r, const struct plan_step *s, size_t row)
{
    float *in = (float *)run_view(r, &s->in, row), *out = run_out(r, s, row);
    const struct quant_row *facts = quant_row_at(in, s->sizes[3]);
    const int8_t *x = (const int8_t *)in;

    for (uint32_t i = 0; i < s->sizes[3]; i++)
        out[i] = (float)(x[i] - facts->zero_point) * facts->scale;
}

static const float *constant(const struct plan_runner *r, int32_t i)
{
    return i < 0 ? NULL : r->plan->constants[i];
}

static void norm(const struct plan_runner *r, const struct plan_step *s, size_t row)
{
    const float *in = run_view(r, &s->in, row);
    float *out = run_out(r, s, row);

    for (uint32_t g = 0; g < s->norm.n_groups; g++) {
        const float *x = in + (size_t)g * (size_t)s->in.strides[0];
        float *y = out + (size_t)g * s->norm.size;

        if (s->op == PLAN_RMS_NORM)
            r->kernels->rms_norm(x, s->norm.size, s->norm.eps, constant(r, s->norm.weight),
                                 s->norm.unit_offset, y);
        else
            r->kernels->layer_norm(x, s->norm.size, s->norm.eps, constant(r, s->norm.weight),
                                   constant(r, s->norm.bias), y);
    }
}

static void rope(const struct plan_runner *r, const struct plan_step *s, size_t row)
{
    const float *in = run_view(r, &s->in, row);
    size_t position = (size_t)r->rows[row].position;
    const float *cos =
        r->plan->tables[s->rope.cos] + position * r->plan->table_widths[s->rope.cos];
    const float *sin =
        r->plan->tables[s->rope.sin] + position * r->plan->table_widths[s->rope.sin];
    float *out = run_out(r, s, row);

    for (uint32_t g = 0; g < s->rope.n_groups; g++) {
        const float *x = in + (size_t)g * (size_t)s->in.strides[0];
        float *y = out + (size_t)g * s->rope.size;

        r->kernels->rope(x, s->rope.n_rot, cos, sin, s->rope.interleaved, y);
        memcpy(y + s->rope.n_rot, x + s->rope.n_rot,
               (s->rope.size - s->rope.n_rot) * sizeof(float));
    }
}

static void cache_store(const struct plan_runner *r, const struct plan_step *s, size_t row)
{
    const struct plan_cache *cache = &r->plan->caches[s->store.layer];
    size_t dim = s->store.is_value ? cache->v_head_dim : cache->head_dim;
    size_t position = (size_t)r->rows[row].position, i = position % BLOCK_POSITIONS;
    const struct block_table *table = r->rows[row].table;
    const struct block_part *part =
        block_part(r->store, table->form, s->store.layer, s->store.is_value);
    struct block *block = block_at(table, r->store, s->store.layer, position);
    const float *in = run_view(r, &s->in, row);

    for (size_t g = 0; g < cache->kv_heads; g++, in += s->in.strides[0]) {
        uint8_t *rows = block_rows(block, part, g), *to = rows + i * part->row_bytes;

        if (table->form == BLOCKS_INT8)
            block_scales(rows, part)[i] = r->kernels->narrow_i8(in, dim, (int8_t *)to);
        else
            r->kernels->narrow[part->dtype](in, dim, to);
    }
}

/* ---- strided elements ---- */

size_t run_outer_offset(const struct plan_view *v, const size_t *at)
{
    return at[0] * (size_t)v->strides[0] + at[1] * (size_t)v->strides[1] +
           at[2] * (size_t)v->strides[2];
}

bool run_next_outer(const struct plan_step *s, size_t *at)
{
    for (int d = 2; d >= 0; d--) {
        if (++at[d] < s->sizes[d])
            return true;
        at[d] = 0;
    }
    return false;
}

static void copy_strided(const float *x, ptrdiff_t stride, size_t n, float *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = x[(ptrdiff_t)i * stride];
}

static void line_of_two(const struct plan_runner *r, const struct plan_step *s,
                        const float *a, const float *b, float *y)
{
    ptrdiff_t a_step = s->in.strides[3], b_step = s->b.strides[3];
    size_t n = s->sizes[3];

    if (s->op == PLAN_GATE) {
        r->kernels->gate(s->unary, a, b, n, y);
    } else if ((a_step == 0 || a_step == 1) && (b_step == 0 || b_step == 1)) {
        r->kernels->binary(s->binary, a, (size_t)a_step, b, (size_t)b_step, n, y);
    } else {
        for (size_t i = 0; i < n; i++)
            r->kernels->binary(s->binary, a + (ptrdiff_t)i * a_step, 1,
                               b + (ptrdiff_t)i * b_step, 1, 1, y + i);
    }
}

static void elements(const struct plan_runner *r, const struct plan_step *s, size_t row)
{
    const float *a = run_view(r, &s->in, row);
    const float *b = plan_has_second(s) ? run_view(r, &s->b, row) : NULL;
    float *y = run_out(r, s, row);
    size_t at[3] = {0};

    do {
        const float *x = a + run_outer_offset(&s->in, at);

        if (plan_has_second(s)) {
            line_of_two(r, s, x, b + run_outer_offset(&s->b, at), y);
        } else if (s->in.strides[3] == 1) {
            if (s->op == PLAN_UNARY)
                r->kernels->unary(s->unary, x, s->sizes[3], y);
            else
                memcpy(y, x, s->sizes[3] * sizeof(float));
        } else {
            copy_strided(x, s->in.strides[3], s->sizes[3], y);
            if (s->op == PLAN_UNARY)
                r->kernels->unary(s->unary, y, s->sizes[3], y);
        }
        y += s->sizes[3];
    } while (run_next_outer(s, at));
}

static void turn_line(const struct plan_turn *turn, const float *x, ptrdiff_t stride, size_t n,
                      float *y)
{
    size_t half = turn->n_rot / 2;

    for (size_t i = 0; i < half; i++) {
        size_t a = turn->interleaved ? 2 * i : i, b = turn->interleaved ? a + 1 : i + half;
        float first = x[(ptrdiff_t)a * stride], second = x[(ptrdiff_t)b * stride];

        y[a] = turn->flipped ? second : -second;
        y[b] = turn->flipped ? -first : first;
    }
    memset(y + turn->n_rot, 0, (n - turn->n_rot) * sizeof(*y));
}

/* Over the last dimension of the input, of sizes[3] elements: a number for each line, or
 * for SOFTMAX and TURN a line. */
static void lines(const struct plan_runner *r, const struct plan_step *s, size_t row)
{
    const float *in = run_view(r, &s->in, row);
    float *y = run_out(r, s, row);
    size_t at[3] = {0}, n = s->sizes[3];

    do {
        const float *x = in + run_outer_offset(&s->in, at);
        float result;

        if (s->op == PLAN_TURN) {
            turn_line(&s->turn, x, s->in.strides[3], n, y);
            y += n;
            continue;
        }
        if (s->op == PLAN_SOFTMAX) {
            copy_strided(x, s->in.strides[3], n, y);
            r->kernels->softmax(y, n);
            y += n;
            continue;
        }
        result = s->reduce == PLAN_MAX ? -INFINITY : 0;
        for (size_t i = 0; i < n; i++) {
            float e = x[(ptrdiff_t)i * s->in.strides[3]];

            if (s->reduce != PLAN_MAX)
                result += e;
            else if (e > result || e != e)
                result = e;
        }
        *y++ = s->reduce == PLAN_MEAN ? result / (float)n : result;
    } while (run_next_outer(s, at));
}

static void run_row(const struct plan_runner *r, const struct plan_step *s, size_t row)
{
    switch (s->op) {
    case PLAN_EMBED:
        embed(r, s, row);
        break;
    case PLAN_QUANTIZE:
        quantize(r, s, row);
        break;
    case PLAN_DEQUANTIZE:
        dequantize(r, s, row);
        break;
    case PLAN_RMS_NORM:
    case PLAN_LAYER_NORM:
        norm(r, s, row);
        break;
    case PLAN_ROPE:
        rope(r, s, row);
        break;
    case PLAN_STORE:
        cache_store(r, s, row);
        break;
    case PLAN_UNARY:
    case PLAN_BINARY:
    case PLAN_GATE:
    case PLAN_COPY:
        elements(r, s, row);
        break;
    case PLAN_REDUCE:
    case PLAN_SOFTMAX:
    case PLAN_TURN:
        lines(r, s, row);
        break;
    case PLAN_LOGITS:
        if (r->rows[row].logits)
            memcpy(r->rows[row].logits, run_view(r, &s->in, row),
                   (size_t)r->plan->decoder.vocab_size * sizeof(float));
        break;
    case PLAN_TOPK:
    case PLAN_GATHER:
    case PLAN_SCATTER:
    case PLAN_PICK:
    case PLAN_MIX:
        run_choice(r, s, row);
        break;
    case PLAN_LINEAR:
    case PLAN_ATTEND:
    case PLAN_EXPERTS:
        break; /* cut in other ways */
    }
}

void run_rows(struct plan_runner *r, const struct plan_step *s, struct share rows)
{
    for (size_t row = rows.from; row < rows.to; row++)
        run_row(r, s, row);
}
