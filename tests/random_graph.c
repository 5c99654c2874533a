#include "random_graph.h"

#include "base/half.h"

#include <fcntl.h>
#include <jansson.h>

#define OK(expression)                                                                    \
    do {                                                                                  \
        struct pt2_err err = {0};                                                         \
        ck_assert_msg((expression) == 0, "%s", err.text);                                 \
    } while (0)

/* ---- dice ---- */

static uint64_t next(struct gen *g) /* splitmix64 */
{
    uint64_t z = (g->dice += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

unsigned gen_below(struct gen *g, unsigned n)
{
    return (unsigned)(next(g) % n);
}

bool gen_chance(struct gen *g, unsigned percent)
{
    return gen_below(g, 100) < percent;
}

double gen_real(struct gen *g, double from, double to)
{
    return from + (to - from) * (double)(next(g) >> 11) / 9007199254740992.0;
}

/* ---- values ---- */

struct val gen_shape(enum pt2_dtype dtype, unsigned n, const int64_t *sizes)
{
    struct val v = {.dtype = dtype, .n = n};

    if (n > 0)
        memcpy(v.sizes, sizes, n * sizeof(*sizes));
    return v;
}

struct val gen_wide(struct val x, int64_t last)
{
    x.sizes[x.n - 1] = last;
    return x;
}

struct val gen_op(struct gen *g, struct val shape, const char *op, uint32_t n_args,
                  const struct pt2_named_arg *args)
{
    struct pt2_tensor_meta meta = mini_meta(&g->m, shape.dtype, shape.n, shape.sizes);
    char target[80], name[40];

    snprintf(target, sizeof(target), "torch.ops.aten.%s", op);
    snprintf(name, sizeof(name), "%.*s", (int)strcspn(op, "."), op);
    OK(pt2_program_add_node(g->m.program, target, name, args, n_args, &meta, &shape.v, &err));
    return shape;
}

struct pt2_named_arg gen_ints(struct gen *g, const char *name, unsigned n,
                              const int64_t *ints)
{
    struct pt2_arg *items = pt2_program_alloc(g->m.program, (n + 1) * sizeof(*items));

    for (unsigned i = 0; i < n; i++)
        items[i] = (struct pt2_arg){.kind = PT2_ARG_INT, .i = ints[i]};
    return ARG(name, .kind = PT2_ARG_INTS, .list = {items, n});
}

struct pt2_named_arg gen_tensors(struct gen *g, const char *name, unsigned n,
                                 const struct val *vals)
{
    struct pt2_arg *items = pt2_program_alloc(g->m.program, (n + 1) * sizeof(*items));

    for (unsigned i = 0; i < n; i++)
        items[i] = (struct pt2_arg){.kind = PT2_ARG_TENSOR, .value = vals[i].v};
    return ARG(name, .kind = PT2_ARG_TENSORS, .list = {items, n});
}

/* ---- what lies in the archive ---- */

static size_t count(const struct val *shape)
{
    size_t n = 1;

    for (unsigned d = 0; d < shape->n; d++)
        n *= (size_t)shape->sizes[d];
    return n;
}

static struct val store(struct gen *g, enum pt2_input_kind kind, const char *fqn,
                        struct val shape, float *elements)
{
    struct stored *s = &g->stored[g->n_stored++];

    ck_assert_uint_le(g->n_stored, ARRAY_LEN(g->stored));
    shape.v = mini_input(&g->m, kind, fqn, shape.dtype, shape.n, shape.sizes);
    *s = (struct stored){.kind = kind, .shape = shape, .elements = elements};
    snprintf(s->fqn, sizeof(s->fqn), "%s", fqn);
    return shape;
}

struct val gen_param(struct gen *g, double center, double spread, unsigned n,
                     const int64_t *sizes)
{
    struct val shape = gen_shape(g->dtype, n, sizes);
    float *elements = calloc(count(&shape), sizeof(*elements));
    char fqn[24];

    ck_assert_ptr_nonnull(elements);
    for (size_t i = 0; i < count(&shape); i++)
        elements[i] = (float)gen_real(g, center - spread, center + spread);
    snprintf(fqn, sizeof(fqn), "p%u", g->n_stored);
    return store(g, PT2_INPUT_PARAMETER, fqn, shape, elements);
}

struct val gen_table(struct gen *g, float *elements, unsigned n, const int64_t *sizes)
{
    char fqn[24];

    snprintf(fqn, sizeof(fqn), "c%u", g->n_stored);
    return store(g, gen_chance(g, 50) ? PT2_INPUT_BUFFER : PT2_INPUT_CONSTANT, fqn,
                 gen_shape(PT2_FLOAT32, n, sizes), elements);
}

struct val gen_cache(struct gen *g, const char *fqn, unsigned n, const int64_t *sizes)
{
    return store(g, PT2_INPUT_BUFFER, fqn, gen_shape(g->dtype, n, sizes), NULL);
}

void gen_mutation(struct gen *g, const char *fqn, struct val value)
{
    OK(pt2_program_add_output(g->m.program, PT2_OUTPUT_BUFFER_MUTATION, value.v, fqn, &err));
}

static void write_elements(struct pt2_writer *w, const struct stored *s, uint32_t record)
{
    size_t n = count(&s->shape), size = pt2_dtype_size(s->shape.dtype);
    enum pt2_table table =
        s->kind == PT2_INPUT_PARAMETER ? PT2_TABLE_WEIGHTS : PT2_TABLE_CONSTANTS;

    OK(pt2_writer_begin_tensor(w, table, record, s->elements ? n * size : 0, &err));
    for (size_t i = 0; s->elements && i < n; i++) {
        uint16_t half = bf16_of_float(s->elements[i]);

        OK(pt2_writer_add(w, size == 2 ? (void *)&half : (void *)&s->elements[i], size,
                          &err));
    }
    OK(pt2_writer_end(w, &err));
}

static void write_table(struct pt2_writer *w, const struct gen *g, enum pt2_table table)
{
    struct pt2_payload_entry entries[ARRAY_LEN(g->stored)];
    uint32_t n = 0;

    for (unsigned i = 0; i < g->n_stored; i++) {
        const struct stored *s = &g->stored[i];

        if ((s->kind == PT2_INPUT_PARAMETER) != (table == PT2_TABLE_WEIGHTS))
            continue;
        entries[n] = (struct pt2_payload_entry){
            .fqn = s->fqn, .record = n, .dtype = s->shape.dtype, .n_dims = s->shape.n,
            .is_param = s->kind == PT2_INPUT_PARAMETER};
        memcpy(entries[n].sizes, s->shape.sizes, s->shape.n * sizeof(int64_t));
        write_elements(w, s, n++);
    }
    OK(pt2_writer_payloads(w, table, entries, n, &err));
}

/* An op with a list of outputs is made as a node for each of them, one after the other (a
 * built program's nodes have one output): these become one. */
static char *with_lists(const char *json, size_t len, size_t *ret_len)
{
    json_t *file = json_loadb(json, len, 0, NULL), *kept = json_array(), *node, *last = NULL;
    json_t *graph = json_object_get(json_object_get(file, "graph_module"), "graph");
    size_t i;
    char *text;

    json_array_foreach(json_object_get(graph, "nodes"), i, node)
    {
        const char *target = json_string_value(json_object_get(node, "target"));
        json_t *outputs = json_object_get(node, "outputs");
        json_t *tensor = json_object_get(json_array_get(outputs, 0), "as_tensor");

        if (!strstr(target, ".split") && !strstr(target, ".chunk.") &&
            !strstr(target, ".unbind.")) {
            json_array_append(kept, node);
            last = NULL;
            continue;
        }
        if (last && json_equal(json_object_get(last, "inputs"),
                               json_object_get(node, "inputs"))) {
            json_t *list = json_object_get(
                json_array_get(json_object_get(last, "outputs"), 0), "as_tensors");

            json_array_append(list, tensor);
            continue;
        }
        json_object_set_new(node, "outputs",
                            json_pack("[{s:[O]}]", "as_tensors", tensor));
        json_array_append(kept, node);
        last = node;
    }
    json_object_set_new(graph, "nodes", kept);
    text = json_dumps(file, JSON_COMPACT);
    ck_assert_ptr_nonnull(text);
    *ret_len = strlen(text);
    json_decref(file);
    return text;
}

static void write_archive(const struct gen *g, const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    struct pt2_writer *w;
    char *json, *text;
    uint8_t sha[32];
    uint64_t bytes;
    size_t len;

    ck_assert_int_ge(fd, 0);
    OK(pt2_program_to_json(g->m.program, &json, &len, &err));
    text = with_lists(json, len, &len);
    OK(pt2_writer_new(fd, "model", &w, &err));
    OK(pt2_writer_fixed(w, &err));
    OK(pt2_writer_model(w, text, len, &err));
    write_table(w, g, PT2_TABLE_WEIGHTS);
    write_table(w, g, PT2_TABLE_CONSTANTS);
    OK(pt2_writer_finish(w, sha, &bytes, &err));
    pt2_writer_free(w);
    close(fd);
    free(text);
    free(json);
}

/* ---- the frame ---- */

static void choose_shape(struct gen *g)
{
    static const int64_t lengths[] = {1, 4, -1}, dims[] = {16, 24, 32, 48};

    g->dtype = gen_chance(g, 25) ? PT2_BFLOAT16 : PT2_FLOAT32;
    g->batch = gen_chance(g, 30) ? 2 : 1;
    g->s = lengths[gen_below(g, 3)];
    g->len = gen_chance(g, 20) ? 64 : 16 + 8 * gen_below(g, 3);
    g->vocab = 19 + gen_below(g, 30);
    g->dim = dims[gen_below(g, ARRAY_LEN(dims))];
    g->last_row = g->s != 1 && gen_chance(g, 40);
}

static struct val embed(struct gen *g, struct val weight)
{
    struct val ids = gen_shape(PT2_INT64, SIZES(g->batch, g->s)), x;

    ids.v = g->m.ids;
    if (gen_chance(g, 10))
        ids = OP(g, ids, "to.dtype", ARG_T("self", ids.v), ARG_DTYPE("dtype", PT2_INT64));
    x = OP(g, gen_shape(g->dtype, SIZES(g->batch, g->s, g->dim)), "embedding.default",
           ARG_T("weight", weight.v), ARG_T("indices", ids.v));
    return gen_chance(g, 30) ? gen_number(g, "mul", x, gen_real(g, 0.5, 3)) : x;
}

static struct val residual(struct gen *g, struct val x, struct val y)
{
    if (gen_chance(g, 25))
        y = gen_number(g, "mul", y, gen_real(g, 0.2, 1.2));
    if (gen_chance(g, 20))
        y = gen_norm(g, y);
    return gen_chance(g, 50) ? gen_binary(g, "add", x, y) : gen_binary(g, "add", y, x);
}

static struct val layer(struct gen *g, struct val x)
{
    struct val h = gen_chance(g, 85) ? gen_norm(g, x) : x, y = gen_attention(g, h);

    if (gen_chance(g, 20)) /* in parallel */
        return residual(g, residual(g, x, y), gen_mlp(g, h));
    x = residual(g, x, y);
    if (gen_chance(g, 50))
        x = residual(g, x, gen_noise(g, gen_norm(g, x)));
    return residual(g, x, gen_mlp(g, gen_norm(g, x)));
}

/* (batch, dim), or (batch, 1, dim), of the last row. */
static struct val last_row(struct gen *g, struct val x)
{
    bool keeps = gen_chance(g, 50);

    if (!keeps)
        return OP(g, gen_shape(x.dtype, SIZES(g->batch, g->dim)), "select.int",
                  ARG_T("self", x.v), ARG_I("dim", 1), ARG_I("index", -1));
    return OP(g, gen_shape(x.dtype, SIZES(g->batch, 1, g->dim)), "slice.Tensor",
              ARG_T("self", x.v), ARG_I("dim", 1), ARG_I("start", -1),
              ARG_I("end", INT64_MAX));
}

static void head(struct gen *g, struct val x, struct val weight)
{
    bool is_early = gen_chance(g, 50);

    if (g->last_row && is_early)
        x = last_row(g, x);
    x = gen_norm(g, x);
    if (g->last_row && !is_early)
        x = last_row(g, x);
    x = gen_chance(g, 50) ? OP(g, gen_wide(x, g->vocab), "linear.default",
                               ARG_T("input", x.v), ARG_T("weight", weight.v))
                          : gen_linear(g, x, g->vocab);
    if (gen_chance(g, 20))
        x = gen_number(g, "mul", gen_unary(g, "tanh", gen_number(g, "div", x, 8)), 8);
    if (gen_chance(g, 20))
        x = gen_number(g, "div", x, gen_real(g, 0.5, 3));
    if (g->dtype != PT2_FLOAT32 && gen_chance(g, 30))
        x = gen_to(g, x, PT2_FLOAT32);
    OK(pt2_program_add_output(g->m.program, PT2_OUTPUT_USER, x.v, NULL, &err));
}

void random_graph_write(uint64_t seed, const char *path, struct random_facts *ret_facts)
{
    struct gen g = {.dice = seed * 1000003u, .window = -1};
    struct val weight;
    unsigned n_layers;

    choose_shape(&g);
    mini_new(&g.m);
    weight = gen_param(&g, 0, 1, SIZES(g.vocab, g.dim));
    mini_user(&g.m, g.batch, g.s);
    gen_positions(&g);
    n_layers = 1 + gen_below(&g, 3);
    g.x = embed(&g, weight);
    if (gen_chance(&g, 20))
        g.x = gen_place(&g, g.x);
    if (gen_chance(&g, 20))
        g.x = gen_norm(&g, g.x);
    for (unsigned i = 0; i < n_layers; i++)
        g.x = layer(&g, g.x);
    head(&g, g.x, weight);
    write_archive(&g, path);
    *ret_facts =
        (struct random_facts){g.batch, g.s, g.len, g.vocab, g.dtype != PT2_FLOAT32};
    for (unsigned i = 0; i < g.n_stored; i++)
        free(g.stored[i].elements);
    mini_done(&g.m);
}
