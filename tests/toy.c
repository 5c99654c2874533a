#include "toy.h"

#include "base/log.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>

/* ---- values ---- */

static struct toy full(const struct toy *toy)
{
    struct toy t = *toy;

    t.batch = t.batch ? t.batch : 1;
    t.length = t.length ? t.length : 16;
    t.vocab = t.vocab ? t.vocab : 11;
    t.dim = t.dim ? t.dim : 4;
    t.max_rows = t.max_rows ? t.max_rows : t.length;
    t.dtype = t.dtype ? t.dtype : PT2_FLOAT32;
    return t;
}

/* Multiples of 1/64 below 2: exact in every dtype. */
static double table(int64_t id, int64_t d, int64_t salt)
{
    return (double)((id * 37 + d * 101 + salt * 53 + id * d * 7) % 127 - 63) / 64;
}

double toy_embed(const struct toy *toy, int64_t id, int64_t d)
{
    return table(id, d, 1);
}

double toy_value(const struct toy *toy, int64_t id, int64_t d)
{
    return table(id, d, 2);
}

void toy_logits(const struct toy *toy, const int64_t *ids, int64_t n_ids,
                double *ret_logits)
{
    struct toy t = full(toy);
    double *p, top = -INFINITY, sum = 0;

    if (t.window > 0 && n_ids > t.window) {
        ids += n_ids - t.window;
        n_ids = t.window;
    }
    p = calloc((size_t)n_ids, sizeof(*p));

    for (int64_t j = 0; j < n_ids; j++) {
        for (int64_t d = 0; d < t.dim; d++)
            p[j] += toy_embed(&t, ids[n_ids - 1], d) * toy_embed(&t, ids[j], d);
        top = fmax(top, p[j]);
    }
    for (int64_t j = 0; j < n_ids; j++)
        sum += p[j] = exp(p[j] - top);
    for (int64_t v = 0; v < t.vocab; v++) {
        ret_logits[v] = 0;
        for (int64_t d = 0; d < t.dim; d++) {
            double out = 0;

            for (int64_t j = 0; j < n_ids; j++)
                out += p[j] / sum * toy_value(&t, ids[j], d);
            ret_logits[v] += out * toy_embed(&t, v, d);
        }
    }
    free(p);
}

/* ---- the graph ---- */

struct build {
    struct toy t;
    struct pt2_program *p;
    struct pt2_dim s;
    uint32_t embed, value, ids, position, counter, keys, values;
    uint32_t places; /* (s): where rows are written */
    int64_t held;    /* positions of the cache's buffers */
};

#define OK(call) ASSERT((call) == 0)
#define N(v)     ((struct pt2_dim){.value = (v)})

#define ARG(n, k, field, v)                                                              \
    ((struct pt2_named_arg){.name = (n), .kind = 1, .arg = {.kind = (k), .field = (v)}})
#define TENSOR(n, v) ARG(n, PT2_ARG_TENSOR, value, v)
#define INT(n, v)    ARG(n, PT2_ARG_INT, i, v)
#define FLOAT(n, v)  ARG(n, PT2_ARG_FLOAT, f, v)

static struct pt2_tensor_meta meta(struct build *b, enum pt2_dtype dtype, unsigned n_dims,
                                   const struct pt2_dim *sizes)
{
    struct pt2_tensor_meta m;

    OK(pt2_tensor_meta_contiguous(b->p, dtype, n_dims, sizes, &m, NULL));
    return m;
}
#define SIZES(...)                                                                       \
    sizeof((struct pt2_dim[]){__VA_ARGS__}) / sizeof(struct pt2_dim), (struct pt2_dim[]) \
    {                                                                                    \
        __VA_ARGS__                                                                      \
    }

#define SCALAR 0, NULL
#define COMMA  ,

static uint32_t node_of(struct build *b, const char *op, enum pt2_dtype dtype,
                        unsigned n_dims, const struct pt2_dim *sizes, uint32_t n_args,
                        const struct pt2_named_arg *args)
{
    struct pt2_tensor_meta m = meta(b, dtype, n_dims, sizes);
    char target[80], name[40];
    uint32_t value;

    snprintf(target, sizeof(target), "torch.ops.%s%s",
             strncmp(op, "llama.", 6) ? "aten." : "", op);
    op += strncmp(op, "llama.", 6) ? 0 : 6;
    snprintf(name, sizeof(name), "%.*s", (int)strcspn(op, "."), op);
    OK(pt2_program_add_node(b->p, target, name, args, n_args, &m, &value, NULL));
    return value;
}
#define NODE(op, dtype, sizes, ...)                                                      \
    node_of(b, op, dtype, sizes,                                                         \
            sizeof((struct pt2_named_arg[]){__VA_ARGS__}) /                              \
                sizeof(struct pt2_named_arg),                                            \
            (struct pt2_named_arg[]){__VA_ARGS__})

static uint32_t input(struct build *b, enum pt2_input_kind kind, const char *name,
                      const char *fqn, enum pt2_dtype dtype, unsigned n_dims,
                      const struct pt2_dim *sizes)
{
    struct pt2_tensor_meta m = meta(b, dtype, n_dims, sizes);
    uint32_t value;

    OK(pt2_program_add_input(b->p, kind, name, fqn, false, &m, &value, NULL));
    return value;
}

static void add_inputs(struct build *b)
{
    struct toy *t = &b->t;
    struct pt2_dim cache[] = {N(t->batch), N(t->updates ? b->held : 1),
                              N(t->updates ? 1 : b->held), N(t->dim)};
    struct pt2_dim weight[] = {N(t->vocab), N(t->dim)};

    b->embed =
        input(b, PT2_INPUT_PARAMETER, "p_embed", "embed.weight", t->dtype, 2, weight);
    b->value =
        input(b, PT2_INPUT_PARAMETER, "p_value", "value.weight", t->dtype, 2, weight);
    b->keys = input(b, PT2_INPUT_BUFFER, "b_keys", "key_cache_0", t->dtype, 4, cache);
    b->values =
        input(b, PT2_INPUT_BUFFER, "b_values", "value_cache_0", t->dtype, 4, cache);
    if (t->counters)
        b->counter = input(b, PT2_INPUT_BUFFER, "b_counter", "cumulative_length_0",
                           PT2_INT64, 0, NULL);
    b->ids = input(b, PT2_INPUT_USER, "input_ids", NULL, PT2_INT64, 2,
                   (struct pt2_dim[]){N(t->batch), b->s});
    b->position = input(b, PT2_INPUT_USER, "cache_position", NULL, PT2_INT64, 1, &b->s);
}

/* Where the rows go: cache_position, or arange + counter, which then counts on. */
static void add_places(struct build *b)
{
    struct toy *t = &b->t;
    uint32_t range;

    b->places = b->position;
    if (t->window > 0)
        b->places = NODE("remainder.Scalar", PT2_INT64, SIZES(b->s),
                         TENSOR("self", b->position), INT("other", b->held));
    if (!t->counters)
        return;
    range =
        NODE("arange.default", PT2_INT64, SIZES(N(t->seq_len)), INT("end", t->seq_len));
    b->places = NODE("add.Tensor", PT2_INT64, SIZES(N(t->seq_len)), TENSOR("self", range),
                     TENSOR("other", b->counter));
    NODE("add_.Tensor", PT2_INT64, SCALAR, TENSOR("self", b->counter),
         INT("other", t->seq_len));
}

/* Write rows (batch, 1, s, dim) into a cache; the cache afterwards. */
static uint32_t add_write(struct build *b, uint32_t cache, uint32_t rows)
{
    struct toy *t = &b->t;
    struct pt2_arg both[2];
    uint32_t rest;

    if (!t->rolls)
        return NODE("index_copy_.default", t->dtype,
                    SIZES(N(t->batch), N(1), N(b->held), N(t->dim)),
                    TENSOR("self", cache), INT("dim", 2), TENSOR("index", b->places),
                    TENSOR("source", rows));
    rest = NODE(
        "slice.Tensor", t->dtype, SIZES(N(t->batch), N(1), N(b->held - 1), N(t->dim)),
        TENSOR("self", cache), INT("dim", 2), INT("start", 1), INT("end", INT64_MAX));
    both[0] = (struct pt2_arg){.kind = PT2_ARG_TENSOR, .value = rest};
    both[1] = (struct pt2_arg){.kind = PT2_ARG_TENSOR, .value = rows};
    rest =
        NODE("cat.default", t->dtype, SIZES(N(t->batch), N(1), N(b->held), N(t->dim)),
             ((struct pt2_named_arg){
                 .name = "tensors",
                 .kind = 1,
                 .arg = {.kind = PT2_ARG_TENSORS, .list = {.items = both, .n = 2}}}),
             INT("dim", 2));
    return NODE("copy_.default", t->dtype,
                SIZES(N(t->batch), N(1), N(b->held), N(t->dim)), TENSOR("self", cache),
                TENSOR("src", rest));
}

/* The position that each slot of the ring holds, (held): last - (last - slot) % held. */
static uint32_t add_ring(struct build *b, uint32_t slots)
{
    uint32_t last = NODE("slice.Tensor", PT2_INT64, SIZES(N(1)), TENSOR("self", b->position),
                         INT("dim", 0), INT("start", -1), INT("end", INT64_MAX));
    uint32_t age = NODE("sub.Tensor", PT2_INT64, SIZES(N(b->held)), TENSOR("self", last),
                        TENSOR("other", slots));

    age = NODE("remainder.Scalar", PT2_INT64, SIZES(N(b->held)), TENSOR("self", age),
               INT("other", b->held));
    return NODE("sub.Tensor", PT2_INT64, SIZES(N(b->held)), TENSOR("self", last),
                TENSOR("other", age));
}

/* True where a row must not be seen: (s, held). */
static uint32_t add_mask(struct build *b)
{
    struct toy *t = &b->t;
    uint32_t j = NODE("arange.default", PT2_INT64, SIZES(N(b->held)),
                      INT("end", b->held)),
             at, seen;

    if (t->rolls) {
        at = NODE("neg.default", PT2_INT64, SIZES(b->s), TENSOR("self", b->places));
        at = NODE("add.Tensor", PT2_INT64, SIZES(b->s), TENSOR("self", at),
                  INT("other", b->held - 1));
        seen = NODE("le.Tensor", PT2_BOOL, SIZES(N(b->held)), TENSOR("self", at),
                    TENSOR("other", j));
        return NODE("bitwise_not.default", PT2_BOOL, SIZES(N(b->held)),
                    TENSOR("self", seen));
    }
    if (t->window > 0)
        j = add_ring(b, j);
    at = NODE("unsqueeze.default", PT2_INT64, SIZES(b->s, N(1)),
              TENSOR("self", t->window > 0 ? b->position : b->places), INT("dim", 1));
    seen = NODE("le.Tensor", PT2_BOOL, SIZES(b->s, N(b->held)), TENSOR("self", j),
                TENSOR("other", at));
    if (t->window > 0) {
        at = NODE("sub.Tensor", PT2_INT64, SIZES(b->s, N(1)), TENSOR("self", at),
                  INT("other", t->window));
        at = NODE("gt.Tensor", PT2_BOOL, SIZES(b->s, N(b->held)), TENSOR("self", j),
                  TENSOR("other", at));
        seen = NODE("bitwise_and.Tensor", PT2_BOOL, SIZES(b->s, N(b->held)),
                    TENSOR("self", seen), TENSOR("other", at));
        at = NODE("ge.Scalar", PT2_BOOL, SIZES(N(b->held)), TENSOR("self", j),
                  INT("other", 0));
        seen = NODE("bitwise_and.Tensor", PT2_BOOL, SIZES(b->s, N(b->held)),
                    TENSOR("self", seen), TENSOR("other", at));
    }
    return NODE("bitwise_not.default", PT2_BOOL, SIZES(b->s, N(b->held)),
                TENSOR("self", seen));
}

/* (batch, 1, s, dim): rows of a table. */
static uint32_t add_rows(struct build *b, uint32_t weight)
{
    struct toy *t = &b->t;
    uint32_t x = NODE("embedding.default", t->dtype, SIZES(N(t->batch), b->s, N(t->dim)),
                      TENSOR("weight", weight), TENSOR("indices", b->ids));

    return NODE("unsqueeze.default", t->dtype, SIZES(N(t->batch), N(1), b->s, N(t->dim)),
                TENSOR("self", x), INT("dim", 1));
}

/* A number of the run: one of its positions. */
static uint32_t add_start(struct build *b)
{
    uint32_t first = NODE("select.int", PT2_INT64, SCALAR, TENSOR("self", b->position),
                          INT("dim", 0), INT("index", b->t.start));
    const struct pt2_named_arg arg = TENSOR("self", first);
    uint32_t value;

    OK(pt2_program_add_symbol(b->p, "torch.ops.aten.item.default", "item", &arg, 1, "u0",
                              &value, NULL));
    OK(pt2_program_add_range(b->p, "u0", 0, b->t.length - 1, NULL));
    return value;
}

/* The same by ExecuTorch's ops: (batch, s, 1, dim). */
static uint32_t add_updated_attention(struct build *b)
{
    struct toy *t = &b->t;
    struct pt2_dim rows[] = {N(t->batch), b->s, N(1), N(t->dim)};
    uint32_t start = add_start(b), x[2];

    for (int i = 0; i < 2; i++) {
        x[i] = NODE("embedding.default", t->dtype, SIZES(N(t->batch), b->s, N(t->dim)),
                    TENSOR("weight", i ? b->value : b->embed), TENSOR("indices", b->ids));
        x[i] = NODE("unsqueeze.default", t->dtype, 4 COMMA rows, TENSOR("self", x[i]),
                    INT("dim", 2));
        NODE("llama.update_cache.default", t->dtype, SIZES(N(1)), TENSOR("value", x[i]),
             TENSOR("cache", i ? b->values : b->keys),
             ARG("start_pos", PT2_ARG_SYM_INT, value, start));
    }
    return NODE("llama.custom_sdpa.default", t->dtype, 4 COMMA rows, TENSOR("query", x[0]),
                TENSOR("key", b->keys), TENSOR("value", b->values),
                ARG("start_pos", PT2_ARG_SYM_INT, value, start),
                ARG("is_causal", PT2_ARG_BOOL, b, !t->not_causal), FLOAT("scale", 1));
}

/* (batch, 1, s, dim) */
static uint32_t add_plain_attention(struct build *b)
{
    struct toy *t = &b->t;
    struct pt2_dim scores[] = {N(t->batch), N(1), b->s, N(b->held)};
    uint32_t q = add_rows(b, b->embed), v = add_rows(b, b->value);
    uint32_t keys = add_write(b, b->keys, q), values = add_write(b, b->values, v);
    uint32_t x =
        NODE("transpose.int", t->dtype, SIZES(N(t->batch), N(1), N(t->dim), N(b->held)),
             TENSOR("self", keys), INT("dim0", 2), INT("dim1", 3));

    x = NODE("matmul.default", t->dtype, 4 COMMA scores, TENSOR("self", q),
             TENSOR("other", x));
    x = NODE("masked_fill.Scalar", t->dtype, 4 COMMA scores, TENSOR("self", x),
             TENSOR("mask", add_mask(b)), FLOAT("value", -INFINITY));
    x = NODE("softmax.int", t->dtype, 4 COMMA scores, TENSOR("self", x), INT("dim", -1));
    return NODE("matmul.default", t->dtype, SIZES(N(t->batch), N(1), b->s, N(t->dim)),
                TENSOR("self", x), TENSOR("other", values));
}

/* (batch, s, dim), or (batch, dim) of the last row. */
static uint32_t add_attention(struct build *b)
{
    struct toy *t = &b->t;
    struct pt2_arg shape[] = {{.kind = PT2_ARG_INT, .i = t->batch},
                              {.kind = PT2_ARG_INT, .i = -1},
                              {.kind = PT2_ARG_INT, .i = t->dim}};
    uint32_t x = t->updates ? add_updated_attention(b) : add_plain_attention(b);

    x = NODE("reshape.default", t->dtype, SIZES(N(t->batch), b->s, N(t->dim)),
             TENSOR("self", x),
             ((struct pt2_named_arg){
                 .name = "shape",
                 .kind = 1,
                 .arg = {.kind = PT2_ARG_INTS, .list = {.items = shape, .n = 3}}}));
    if (t->last_row)
        x = NODE("select.int", t->dtype, SIZES(N(t->batch), N(t->dim)), TENSOR("self", x),
                 INT("dim", 1), INT("index", -1));
    return x;
}

static void add_graph(struct build *b)
{
    struct toy *t = &b->t;
    uint32_t x;

    add_inputs(b);
    add_places(b);
    x = add_attention(b);
    if (t->extra_op)
        NODE(t->extra_op, t->dtype, SIZES(N(t->batch), b->s, N(t->dim)),
             TENSOR("self", x));
    if (t->last_row)
        x = NODE("linear.default", t->dtype, SIZES(N(t->batch), N(t->vocab)),
                 TENSOR("input", x), TENSOR("weight", b->embed));
    else
        x = NODE("linear.default", t->dtype, SIZES(N(t->batch), b->s, N(t->vocab)),
                 TENSOR("input", x), TENSOR("weight", b->embed));
    OK(pt2_program_add_output(b->p, PT2_OUTPUT_USER, x, NULL, NULL));
}

/* ---- the archive ---- */

static size_t put_element(enum pt2_dtype dtype, double value, void *to)
{
    float f = (float)value;
    _Float16 half = (_Float16)f;
    uint32_t bits;

    memcpy(&bits, &f, sizeof(bits));
    bits >>= 16; /* bfloat16: the values are exact in it */
    if (dtype == PT2_FLOAT32)
        memcpy(to, &f, sizeof(f));
    else if (dtype == PT2_FLOAT16)
        memcpy(to, &half, sizeof(half));
    else
        memcpy(to, &(uint16_t){(uint16_t)bits}, sizeof(uint16_t));
    return pt2_dtype_size(dtype);
}

/* Tokens 1, 2, 3 at positions 0, 1, 2 of each batch row; at the last three where it
 * rolls. */
static double cache_element(const struct toy *t, bool is_value, int64_t i)
{
    int64_t d = i % t->dim, at = i / t->dim % t->length;
    int64_t id = t->rolls ? at - (t->length - 4) : at + 1;

    if (id < 1 || id > 3)
        return 0;
    return is_value ? toy_value(t, id, d) : toy_embed(t, id, d);
}

static void write_tensor(struct pt2_writer *w, const struct toy *t, enum pt2_table where,
                         uint32_t n, int64_t n_elements, bool is_value)
{
    size_t size = pt2_dtype_size(t->dtype);
    char *data = calloc((size_t)n_elements, size);

    for (int64_t i = 0; i < n_elements; i++)
        put_element(t->dtype,
                    where == PT2_TABLE_CONSTANTS ? cache_element(t, is_value, i)
                    : is_value                   ? toy_value(t, i / t->dim, i % t->dim)
                                                 : toy_embed(t, i / t->dim, i % t->dim),
                    data + (size_t)i * size);
    OK(pt2_writer_begin_tensor(w, where, n, (size_t)n_elements * size, NULL));
    OK(pt2_writer_add(w, data, (size_t)n_elements * size, NULL));
    OK(pt2_writer_end(w, NULL));
    free(data);
}

/* How far positions go: of a ring nothing else says it. */
static void write_metadata(struct pt2_writer *w, const struct toy *t)
{
    char text[80];
    size_t n = (size_t)snprintf(text, sizeof(text), "{\"get_max_context_len\":%lld}",
                                (long long)t->length);

    OK(pt2_writer_begin(w, "extra/executorch_metadata.json", n, 1, NULL));
    OK(pt2_writer_add(w, text, n, NULL));
    OK(pt2_writer_end(w, NULL));
}

static void write_payloads(struct pt2_writer *w, const struct build *b)
{
    const struct toy *t = &b->t;
    struct pt2_payload_entry weights[2] = {{.fqn = "embed.weight"},
                                           {.fqn = "value.weight"}};
    struct pt2_payload_entry caches[3] = {{.fqn = "key_cache_0"},
                                          {.fqn = "value_cache_0"}};

    for (uint32_t i = 0; i < 2; i++) {
        weights[i].record = caches[i].record = i;
        weights[i].dtype = caches[i].dtype = t->dtype;
        weights[i].is_param = true;
        weights[i].n_dims = 2;
        weights[i].sizes[0] = t->vocab;
        weights[i].sizes[1] = t->dim;
        caches[i].n_dims = 4;
        memcpy(caches[i].sizes,
               (int64_t[]){t->batch, t->updates ? b->held : 1, t->updates ? 1 : b->held,
                           t->dim},
               4 * sizeof(int64_t));
        write_tensor(w, t, PT2_TABLE_WEIGHTS, i, t->vocab * t->dim, i == 1);
    }
    OK(pt2_writer_payloads(w, PT2_TABLE_WEIGHTS, weights, 2, NULL));
    for (uint32_t i = 0; i < 2; i++)
        if (t->filled) {
            write_tensor(w, t, PT2_TABLE_CONSTANTS, i, t->batch * b->held * t->dim,
                         i == 1);
        } else {
            OK(pt2_writer_begin_tensor(w, PT2_TABLE_CONSTANTS, i, 0, NULL));
            OK(pt2_writer_end(w, NULL));
        }
    caches[2] = (struct pt2_payload_entry){
        .fqn = "cumulative_length_0", .record = 2, .dtype = PT2_INT64};
    if (t->counters) {
        OK(pt2_writer_begin_tensor(w, PT2_TABLE_CONSTANTS, 2, 0, NULL));
        OK(pt2_writer_end(w, NULL));
    }
    OK(pt2_writer_payloads(w, PT2_TABLE_CONSTANTS, caches, t->counters ? 3 : 2, NULL));
}

void toy_write(const struct toy *toy, const char *path)
{
    struct build b = {.t = full(toy)};
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    struct pt2_writer *w;
    uint8_t sha256[32];
    uint64_t bytes;
    char *json;
    size_t len;

    ASSERT(fd >= 0);
    OK(pt2_program_new(&b.p, NULL));
    b.s = b.t.seq_len ? N(b.t.seq_len) : (struct pt2_dim){.expr = "s0", .value = 3};
    if (!b.t.seq_len)
        OK(pt2_program_add_range(b.p, "s0", 1, b.t.max_rows, NULL));
    b.held = b.t.window ? b.t.window + (b.t.seq_len ? b.t.seq_len : b.t.max_rows) - 1
                        : b.t.length;
    add_graph(&b);
    OK(pt2_program_to_json(b.p, &json, &len, NULL));
    OK(pt2_writer_new(fd, "toy", &w, NULL));
    OK(pt2_writer_fixed(w, NULL));
    OK(pt2_writer_model(w, json, len, NULL));
    write_payloads(w, &b);
    write_metadata(w, &b.t);
    OK(pt2_writer_finish(w, sha256, &bytes, NULL));
    pt2_writer_free(w);
    pt2_program_free(b.p);
    free(json);
    close(fd);
}
