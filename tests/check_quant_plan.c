/* check_quant_plan.c - plans of torchao's quantised linears and embeddings, and what they are
 * packed in.  One layer of attention whose first row sees itself alone, so that its logits are
 * the embedding's row by the head's weights; these are computed here element by element. */
#include "mini_graph.h"
#include "seed.h"
#include "suite.h"

#include "plan_run.h"

#include <fcntl.h>
#include <math.h>
#include <pt2/engine.h>
#include <sys/stat.h>

enum { K = 64, LEN = 16, VOCAB = 40, GROUP = 32, S = 3 };

enum twist {
    DYNAMIC, /* 8da4w */
    WEIGHT_ONLY,
    EIGHT_BITS,
    PER_CHANNEL,
    TIED,      /* the head is the table, dequantised once more */
    TURNED,    /* view, t, mm */
    BIAS,
    TWO_HEADS, /* that share their rows, each with its own chain; the sum of their logits */
    WIDE_DATA, /* larger numbers than quant_min and quant_max say */
    ZERO_POINTS,
    TALL_BLOCKS, /* (2, 16), which no kernel has */
    FLOAT_HEAD,  /* rows rounded to whole numbers meet floats */
    NOT_FINITE,  /* a scale */
    N_TAKEN,
    SYMMETRIC = N_TAKEN,
    NARROW_RANGE,
    HALF_ROWS,
    OTHER_ROWS,
    OTHER_ZERO_POINTS,
    TO_HALF,
    NO_EPS,
    SCALES_READ,
    WHOLE_READ,
    N_TWISTS
};

struct quant {
    int8_t data[VOCAB * K];
    float scale[VOCAB * 2];
    int8_t zero[VOCAB * 2];
};

static struct quant table, head;
static float bias[VOCAB];
static uint64_t state;

static uint32_t draw(void)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(state >> 33);
}

static void fill(enum twist twist)
{
    state = test_seed();
    for (int i = 0; i < VOCAB * K; i++) {
        table.data[i] = (int8_t)(draw() % 256 - 128);
        head.data[i] = twist == EIGHT_BITS ? (int8_t)(draw() % 256 - 128) : (int8_t)(draw() % 16 - 8);
    }
    for (int i = 0; i < VOCAB * 2; i++) {
        table.scale[i] = 1e-3f * (float)(1 + draw() % 1000) / 500;
        head.scale[i] = 1e-2f * (float)(1 + draw() % 1000) / 500;
        table.zero[i] = 0;
        head.zero[i] = twist == ZERO_POINTS ? (int8_t)(draw() % 16 - 8) : 0;
    }
    for (int i = 0; i < VOCAB; i++)
        bias[i] = (float)(draw() % 1000) / 1000;
    if (twist == WIDE_DATA)
        head.data[7 * K + 5] = 100;
    if (twist == NOT_FINITE)
        head.scale[9] = INFINITY;
}

/* ---- the graph ---- */

static uint32_t ao(struct mini *m, const char *op, enum pt2_dtype dtype, unsigned n_dims,
                   const int64_t *sizes, const struct pt2_named_arg *args, uint32_t n_args)
{
    struct pt2_tensor_meta meta = mini_meta(m, dtype, n_dims, sizes);
    struct pt2_err err = {0};
    char target[80];
    uint32_t value;

    snprintf(target, sizeof(target), "torch.ops.torchao.%s.default", op);
    ck_assert_msg(pt2_program_add_node(m->program, target, op, args, n_args, &meta, &value,
                                       &err) == 0,
                  "%s", err.text);
    return value;
}

#define AO(m, op, dtype, sizes, ...)                                                      \
    ao(m, op, dtype, sizes, (const struct pt2_named_arg[]){__VA_ARGS__},                  \
       sizeof((const struct pt2_named_arg[]){__VA_ARGS__}) / sizeof(struct pt2_named_arg))
#define INT_ARG(x)  {PT2_ARG_INT, {.i = (x)}}
#define ROW_BLOCK(a) ARG_LIST("block_size", PT2_ARG_INTS, a)

struct inputs {
    uint32_t data, scale, zero;
};

static struct inputs add_quant(struct mini *m, const char *name, int64_t n_groups)
{
    struct inputs in;
    char text[40];

    snprintf(text, sizeof(text), "%s.data", name);
    in.data = mini_input(m, PT2_INPUT_PARAMETER, text, PT2_INT8, SIZES(VOCAB, K));
    snprintf(text, sizeof(text), "%s.scale", name);
    in.scale = mini_input(m, PT2_INPUT_PARAMETER, text, PT2_FLOAT32, SIZES(VOCAB, n_groups));
    snprintf(text, sizeof(text), "%s.zero", name);
    in.zero = mini_input(m, PT2_INPUT_PARAMETER, text, PT2_INT8, SIZES(VOCAB, n_groups));
    return in;
}

static uint32_t weights(struct mini *m, const struct inputs *in, int64_t rows, int64_t group,
                        int64_t min, int64_t max)
{
    struct pt2_arg block[2] = {INT_ARG(rows), INT_ARG(group)};

    return AO(m, "dequantize_affine", PT2_FLOAT32, SIZES(VOCAB, K), ARG_T("input", in->data),
              ROW_BLOCK(block), ARG_T("scale", in->scale), ARG_T("zero_point", in->zero),
              ARG_DTYPE("input_dtype", PT2_INT8), ARG_I("quant_min", min), ARG_I("quant_max", max));
}

/* Rows to whole numbers and back. */
static uint32_t rounded(struct mini *m, uint32_t x, uint32_t other, enum twist twist)
{
    struct pt2_arg block[3] = {INT_ARG(1), INT_ARG(1), INT_ARG(twist == HALF_ROWS ? K / 2 : K)};
    struct pt2_tensor_meta metas[2] = {mini_meta(m, PT2_FLOAT32, SIZES(1, S)),
                                       mini_meta(m, PT2_INT8, SIZES(1, S))};
    int64_t min = twist == NARROW_RANGE ? -127 : -128;
    struct pt2_named_arg choose[] = {
        ARG_T("input", twist == OTHER_ROWS ? other : x),
        ARG_STR("mapping_type", twist == SYMMETRIC ? "SYMMETRIC" : "ASYMMETRIC"),
        ROW_BLOCK(block), ARG_DTYPE("target_dtype", PT2_INT8), ARG_I("quant_min", min),
        ARG_I("quant_max", 127), ARG_DTYPE("zero_point_dtype", PT2_INT8),
        ARG_F("eps", twist == NO_EPS ? 0.0 : 1e-7)};
    uint32_t facts[2], whole;
    struct pt2_err err = {0};

    ck_assert_msg(pt2_program_add_tuple(m->program,
                                        "torch.ops.torchao.choose_qparams_affine.default",
                                        "choose_qparams_affine", choose, 8, metas, 2, facts,
                                        &err) == 0,
                  "%s", err.text);
    if (twist == SCALES_READ) {
        uint32_t s = mini(m, "unsqueeze.default", PT2_FLOAT32, SIZES(1, S, 1), 2,
                          ARG_T("self", facts[0]), ARG_I("dim", 2));

        return mini(m, "mul.Tensor", PT2_FLOAT32, SIZES(1, S, K), 2, ARG_T("self", x),
                    ARG_T("other", s));
    }
    whole = AO(m, "quantize_affine", PT2_INT8, SIZES(1, S, K), ARG_T("input", x),
               ROW_BLOCK(block), ARG_T("scale", facts[0]), ARG_T("zero_point", facts[1]),
               ARG_DTYPE("output_dtype", PT2_INT8), ARG_I("quant_min", min),
               ARG_I("quant_max", 127));
    if (twist == WHOLE_READ)
        return mini(m, "mul.Tensor", PT2_FLOAT32, SIZES(1, S, K), 2, ARG_T("self", x),
                    ARG_T("other", whole));
    return AO(m, "dequantize_affine", PT2_FLOAT32, SIZES(1, S, K), ARG_T("input", whole),
              ROW_BLOCK(block), ARG_T("scale", facts[0]),
              ARG_T("zero_point", twist == OTHER_ZERO_POINTS ? facts[0] : facts[1]),
              ARG_DTYPE("input_dtype", PT2_INT8), ARG_I("quant_min", min),
              ARG_I("quant_max", 127),
              ARG_DTYPE("output_dtype", twist == TO_HALF ? PT2_FLOAT16 : PT2_FLOAT32));
}

static uint32_t attend(struct mini *m, uint32_t x, uint32_t keys, uint32_t values)
{
    uint32_t kv = mini(m, "arange.default", PT2_INT64, SIZES(LEN), 1, ARG_I("end", LEN));
    uint32_t q = mini(m, "unsqueeze.default", PT2_INT64, SIZES(S, 1), 2,
                      ARG_T("self", m->positions), ARG_I("dim", 1));
    uint32_t seen = mini(m, "le.Tensor", PT2_BOOL, SIZES(S, LEN), 2, ARG_T("self", kv),
                         ARG_T("other", q)), new[2], out;

    x = mini(m, "unsqueeze.default", PT2_FLOAT32, SIZES(1, 1, S, K), 2, ARG_T("self", x),
             ARG_I("dim", 1));
    for (int i = 0; i < 2; i++)
        new[i] = mini(m, "index_copy_.default", PT2_FLOAT32, SIZES(1, 1, LEN, K), 4,
                      ARG_T("self", i ? values : keys), ARG_I("dim", 2),
                      ARG_T("index", m->positions), ARG_T("source", x));
    out = mini(m, "scaled_dot_product_attention.default", PT2_FLOAT32, SIZES(1, 1, S, K), 4,
               ARG_T("query", x), ARG_T("key", new[0]), ARG_T("value", new[1]),
               ARG_T("attn_mask", seen));
    return mini(m, "squeeze.dim", PT2_FLOAT32, SIZES(1, S, K), 2, ARG_T("self", out),
                ARG_I("dim", 1));
}

/* The head, of all spellings. */
static uint32_t logits_of(struct mini *m, enum twist twist, uint32_t x, uint32_t w, uint32_t b)
{
    if (twist == TURNED) {
        struct pt2_arg flat[2] = {INT_ARG(S), INT_ARG(K)},
                       back[3] = {INT_ARG(1), INT_ARG(S), INT_ARG(VOCAB)};

        x = mini(m, "view.default", PT2_FLOAT32, SIZES(S, K), 2, ARG_T("self", x),
                 ARG_LIST("size", PT2_ARG_INTS, flat));
        w = mini(m, "t.default", PT2_FLOAT32, SIZES(K, VOCAB), 1, ARG_T("self", w));
        x = mini(m, "mm.default", PT2_FLOAT32, SIZES(S, VOCAB), 2, ARG_T("self", x),
                 ARG_T("mat2", w));
        return mini(m, "view.default", PT2_FLOAT32, SIZES(1, S, VOCAB), 2, ARG_T("self", x),
                    ARG_LIST("size", PT2_ARG_INTS, back));
    }
    if (twist == BIAS)
        return mini(m, "linear.default", PT2_FLOAT32, SIZES(1, S, VOCAB), 3, ARG_T("input", x),
                    ARG_T("weight", w), ARG_T("bias", b));
    return mini(m, "linear.default", PT2_FLOAT32, SIZES(1, S, VOCAB), 2, ARG_T("input", x),
                ARG_T("weight", w));
}

static uint32_t build(struct mini *m, enum twist twist)
{
    struct inputs of_table = add_quant(m, "table", 1),
                  of_head = add_quant(m, "head", twist == PER_CHANNEL ? 1 : 2);
    uint32_t b = mini_input(m, PT2_INPUT_PARAMETER, "bias", PT2_FLOAT32, SIZES(VOCAB));
    uint32_t floats = mini_input(m, PT2_INPUT_PARAMETER, "floats", PT2_FLOAT32, SIZES(VOCAB, K));
    uint32_t keys = mini_input(m, PT2_INPUT_BUFFER, "key_cache_0", PT2_FLOAT32,
                               SIZES(1, 1, LEN, K));
    uint32_t values = mini_input(m, PT2_INPUT_BUFFER, "value_cache_0", PT2_FLOAT32,
                                 SIZES(1, 1, LEN, K));
    int64_t bits = twist == EIGHT_BITS ? 7 : 3;
    uint32_t x, w, y, embedded;

    mini_user(m, 1, S);
    w = weights(m, &of_table, 1, K, -128, 127);
    embedded = mini(m, "embedding.default", PT2_FLOAT32, SIZES(1, S, K), 2, ARG_T("weight", w),
                    ARG_T("indices", m->ids));
    x = attend(m, embedded, keys, values);
    w = twist == FLOAT_HEAD ? floats
        : twist == TIED     ? weights(m, &of_table, 1, K, -128, 127)
                            : weights(m, &of_head, twist == TALL_BLOCKS ? 2 : 1,
                                      twist == PER_CHANNEL   ? K
                                      : twist == TALL_BLOCKS ? 16
                                                             : GROUP,
                                      -(INT64_C(1) << bits), (INT64_C(1) << bits) - 1);
    y = logits_of(m, twist, twist == WEIGHT_ONLY ? x : rounded(m, x, embedded, twist), w, b);
    if (twist == TWO_HEADS)
        y = mini(m, "add.Tensor", PT2_FLOAT32, SIZES(1, S, VOCAB), 2, ARG_T("self", y),
                 ARG_T("other", logits_of(m, twist, rounded(m, x, embedded, twist),
                                          weights(m, &of_table, 1, K, -128, 127), b)));
    return y;
}

/* ---- the archive ---- */

static const void *bytes_of(const char *fqn, uint64_t *ret)
{
    const struct quant *q = strncmp(fqn, "table", 5) == 0 ? &table : &head;
    const char *part = strchr(fqn, '.');

    *ret = streq(fqn, "bias") ? sizeof(bias) : 0;
    if (*ret || !part)
        return bias;
    *ret = streq(part, ".data") ? sizeof(q->data) : streq(part, ".scale") ? sizeof(q->scale)
                                                                          : sizeof(q->zero);
    return streq(part, ".data") ? (const void *)q->data
           : streq(part, ".scale") ? (const void *)q->scale
                                   : (const void *)q->zero;
}

static void write_table(struct pt2_writer *w, const struct pt2_program *program, unsigned table_i)
{
    enum pt2_table to = table_i ? PT2_TABLE_CONSTANTS : PT2_TABLE_WEIGHTS;
    struct pt2_payload_entry entries[12];
    struct pt2_err err = {0};
    uint32_t n = 0;

    for (uint32_t i = 0; i < pt2_program_n_inputs(program); i++) {
        const struct pt2_input *in = pt2_program_input(program, i);
        const struct pt2_tensor_meta *meta = &pt2_program_value(program, in->value)->meta;
        struct pt2_payload_entry *e = &entries[n];
        uint64_t size = 0;
        const void *data;

        if (in->kind != (table_i ? PT2_INPUT_BUFFER : PT2_INPUT_PARAMETER))
            continue;
        *e = (struct pt2_payload_entry){.fqn = in->fqn, .record = n++, .dtype = meta->dtype,
                                        .n_dims = meta->n_dims, .is_param = !table_i};
        data = table_i ? NULL : bytes_of(in->fqn, &size);
        for (unsigned d = 0; d < meta->n_dims; d++)
            e->sizes[d] = meta->sizes[d].value;
        if (size > 0)
            ck_assert(pt2_tensor_bytes(e->dtype, e->n_dims, e->sizes, &size));
        ck_assert_msg(pt2_writer_begin_tensor(w, to, e->record, size, &err) == 0 &&
                          (size == 0 || pt2_writer_add(w, data, size, &err) == 0) &&
                          pt2_writer_end(w, &err) == 0,
                      "%s", err.text);
    }
    ck_assert_msg(pt2_writer_payloads(w, to, entries, n, &err) == 0, "%s", err.text);
}

static void write_archive(const char *path, const struct pt2_program *program)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    struct pt2_writer *w;
    struct pt2_err err = {0};
    uint8_t sha[32];
    uint64_t bytes;
    size_t len;
    char *json;

    ck_assert(fd >= 0 && pt2_program_to_json(program, &json, &len, &err) == 0);
    ck_assert(pt2_writer_new(fd, "model", &w, &err) == 0 && pt2_writer_fixed(w, &err) == 0);
    ck_assert(pt2_writer_model(w, json, len, &err) == 0);
    write_table(w, program, 0);
    write_table(w, program, 1);
    ck_assert_msg(pt2_writer_finish(w, sha, &bytes, &err) == 0, "%s", err.text);
    pt2_writer_free(w);
    close(fd);
    free(json);
}

static void make(enum twist twist)
{
    struct pt2_err err = {0};
    struct mini m;

    fill(twist);
    mini_new(&m);
    ck_assert_int_eq(pt2_program_add_output(m.program, PT2_OUTPUT_USER, build(&m, twist), NULL,
                                            &err), 0);
    write_archive(plan_scratch(), m.program);
    mini_done(&m);
}

/* ---- what torchao computes ---- */

static void round_row(const float *x, float *ret)
{
    float min = 0, max = 0, scale, zero;

    for (int i = 0; i < K; i++) {
        min = fminf(min, x[i]);
        max = fmaxf(max, x[i]);
    }
    scale = fmaxf((max - min) / 255, 1e-7f);
    zero = fminf(fmaxf(-128 - rintf(min / scale), -128), 127);
    for (int i = 0; i < K; i++)
        ret[i] = (fminf(fmaxf(rintf(x[i] * (1 / scale)) + zero, -128), 127) - zero) * scale;
}

static double product(const float *x, const struct quant *q, int o, int group)
{
    double sum = 0;

    for (int i = 0; i < K; i++) {
        int g = o * (K / group) + i / group;

        sum += (double)x[i] * (q->data[o * K + i] - q->zero[g]) * (double)q->scale[g];
    }
    return sum;
}

static double tall_product(const float *x, int o)
{
    double sum = 0;

    for (int i = 0; i < K; i++)
        sum += (double)x[i] * head.data[o * K + i] * (double)head.scale[o / 2 * 4 + i / 16];
    return sum;
}

static double expected(enum twist twist, const float *x, int o)
{
    switch (twist) {
    case FLOAT_HEAD:
        return 0;
    case TIED:
        return product(x, &table, o, K);
    case TWO_HEADS:
        return product(x, &head, o, GROUP) + product(x, &table, o, K);
    case TALL_BLOCKS:
        return tall_product(x, o);
    default:
        return product(x, &head, o, twist == PER_CHANNEL ? K : GROUP) +
               (twist == BIAS ? (double)bias[o] : 0);
    }
}

static size_t count(const struct plan *plan, enum plan_op op)
{
    size_t n = 0;

    for (size_t i = 0; i < plan->n_steps; i++)
        n += plan->steps[i].op == op;
    return n;
}

/* The head's matrix among the plan's; NULL: floats. */
static const struct plan_quant *head_quant(const struct plan *plan, bool *ret_of_whole)
{
    for (size_t i = plan->n_steps; i-- > 0;) {
        const struct plan_step *s = &plan->steps[i];

        *ret_of_whole = s->linear.of_whole;
        if (s->op == PLAN_LINEAR)
            return s->linear.outs[0].quant < 0 ? NULL : &plan->quants[s->linear.outs[0].quant];
    }
    return NULL;
}

START_TEST(test_quant_plan_taken)
{
    enum twist twist = (enum twist)_i;
    bool is_float = twist == ZERO_POINTS || twist == TALL_BLOCKS || twist == FLOAT_HEAD, of_whole;
    const int64_t ids[S] = {5, 17, 39};
    float logits[S * VOCAB], one[S * VOCAB], x[K];
    const struct plan_quant *q;
    struct pt2_err err = {0};
    struct plan_run r;

    make(twist);
    ck_assert_msg(plan_run_open(&r, plan_scratch(), &err) == 0, "%s", err.text);
    q = head_quant(r.plan, &of_whole);
    ck_assert_int_eq(q == NULL, is_float);
    ck_assert_int_eq(of_whole, !is_float && twist != WEIGHT_ONLY);
    ck_assert_uint_eq(count(r.plan, PLAN_QUANTIZE), twist != WEIGHT_ONLY);
    ck_assert_uint_eq(count(r.plan, PLAN_DEQUANTIZE), is_float);
    if (q)
        ck_assert_uint_eq(q->shape.bits,
                          twist == EIGHT_BITS || twist == TIED || twist == WIDE_DATA ? 8 : 4);
    plan_run_tokens(&r, ids, S, S, logits);
    plan_run_tokens(&r, ids, S, 1, one);
    ck_assert_mem_eq(logits, one, sizeof(logits));
    for (int i = 0; i < K; i++)
        x[i] = (float)table.data[ids[0] * K + i] * table.scale[ids[0]];
    if (twist != WEIGHT_ONLY)
        round_row(x, x);
    for (int o = 0; o < VOCAB; o++) {
        double want = expected(twist, x, o);

        if (twist == NOT_FINITE && o == 4)
            ck_assert_msg(!isfinite(logits[o]), "%g", (double)logits[o]);
        else
            ck_assert_msg(fabs((double)logits[o] - want) <= 2e-6 * (1 + fabs(want)),
                          "%d: %.9g, expected %.9g", o, (double)logits[o], want);
    }
    plan_run_close(&r);
    unlink(plan_scratch());
}
END_TEST

START_TEST(test_quant_plan_refused)
{
    static const char *const texts[N_TWISTS] = {
        [SYMMETRIC] = "in another way than ASYMMETRIC",
        [NARROW_RANGE] = "other whole numbers than int8, -128 to 127",
        [HALF_ROWS] = "a scale for other blocks than a row of 64",
        [OTHER_ROWS] = "scales of other rows than those",
        [OTHER_ZERO_POINTS] = "scales and zero points of different rows",
        [TO_HALF] = "rows that are not float32",
        [NO_EPS] = "a smallest scale that is no normal number",
        [SCALES_READ] = "no tokens' value to show otherwise",
        [WHOLE_READ] = "an operand of another kind",
    };
    struct pt2_err err = {0};
    struct plan_run r;

    make((enum twist)_i);
    ck_refused(plan_run_open(&r, plan_scratch(), &err), &err, texts[_i]);
    plan_run_close(&r);
    unlink(plan_scratch());
}
END_TEST

int main(void)
{
    Suite *s = suite_create("quant_plan");
    TCase *core = tcase_create("core"), *errors = tcase_create("errors");

    tcase_add_loop_test(core, test_quant_plan_taken, 0, N_TAKEN);
    tcase_add_loop_test(errors, test_quant_plan_refused, N_TAKEN, N_TWISTS);
    suite_add_tcase(s, core);
    suite_add_tcase(s, errors);
    return suite_run(s);
}
