/* Expected values: torch 2.13.0+cpu, the same expression typed in (beside each). */
#include "native/eval.h"
#include "native/nodes.h"

#include "mini_graph.h"
#include "suite.h"

#define LEN 16 /* positions of the cache */

static struct eval_cache straight(int64_t length)
{
    return (struct eval_cache){length, false};
}

static struct eval *eval_of(struct mini *m, int64_t s, struct pt2_err *err)
{
    struct pt2_decoder d = {.cache_position = 1, .batch_size = 1, .seq_len = MAX(s, 0),
                            .max_seq_len = s > 0 ? s : LEN, .max_cache_len = LEN,
                            .vocab_size = 2, .n_layers = 1};
    struct eval *e = NULL;

    ck_assert_msg(eval_new(NULL, m->program, &d, &e, err) == 0, "%s", err->text);
    return e;
}

static void check_floats(struct eval *e, uint32_t value, int64_t first, int64_t s, size_t n,
                         const double *want, double eps)
{
    struct pt2_err err = {0};
    struct eval_tensor t;

    ck_assert_msg(eval_value(e, value, first, s, &t, &err) == 0, "%s", err.text);
    ck_assert_int_eq(t.n, n);
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(t.f[i] >= want[i] - eps && t.f[i] <= want[i] + eps,
                      "element %zu is %.9g, not %.9g", i, (double)t.f[i], want[i]);
    eval_tensor_done(&t);
}

static void check_ints(struct eval *e, uint32_t value, int64_t first, int64_t s, size_t n,
                       const int64_t *want)
{
    struct pt2_err err = {0};
    struct eval_tensor t;

    ck_assert_msg(eval_value(e, value, first, s, &t, &err) == 0, "%s", err.text);
    ck_assert_int_eq(t.n, n);
    for (size_t i = 0; i < n; i++)
        ck_assert_int_eq(t.dtype == PT2_BOOL ? t.b[i] : t.i[i], want[i]);
    eval_tensor_done(&t);
}

#define FLOATS(e, v, first, s, eps, ...)                                                  \
    check_floats(e, v, first, s, ARRAY_LEN(((double[]){__VA_ARGS__})),                    \
                 (double[]){__VA_ARGS__}, eps)
#define INTS(e, v, first, s, ...)                                                         \
    check_ints(e, v, first, s, ARRAY_LEN(((int64_t[]){__VA_ARGS__})),                     \
               (int64_t[]){__VA_ARGS__})

static void check_refused(int r, const struct pt2_err *err, const char *text)
{
    ck_assert_int_eq(r, -1);
    ck_assert_int_eq(err->code, PT2_ERR_PROGRAM_REFUSED);
    ck_assert_msg(strstr(err->text, text) != NULL, "'%s' is not in '%s'", text, err->text);
}

/* arange(n) as int64, and elements put in by a where chain would be long: a range moved. */
static uint32_t range(struct mini *m, int64_t from, int64_t to, int64_t step)
{
    return mini(m, "arange.start_step", PT2_INT64, SIZES((to - from + step - 1) / step), 3,
                ARG_I("start", from), ARG_I("end", to), ARG_I("step", step));
}

/* 1 / 10000 ** (arange(0, 8, 2).float() / 8), for positions 3 and 4; cos in bfloat16 times
 * 1.25, sin in float32 */
START_TEST(test_eval_rotary_table)
{
    static const double inv[] = {1.0, 0.10000000149011612, 0.009999999776482582,
                                 0.0010000000474974513};
    struct pt2_err err = {0};
    struct mini m;
    uint32_t v, f, angles, cos, sin, width;
    struct pt2_arg both[2];
    struct eval *e;
    float *table;

    mini_init(&m, -1);
    v = mini(&m, "to.dtype", PT2_FLOAT32, SIZES(4), 2, ARG_T("self", range(&m, 0, 8, 2)),
             ARG_DTYPE("dtype", PT2_FLOAT32));
    v = mini(&m, "div.Tensor", PT2_FLOAT32, SIZES(4), 2, ARG_T("self", v), ARG_I("other", 8));
    v = mini(&m, "pow.Scalar", PT2_FLOAT32, SIZES(4), 2, ARG_I("self", 10000),
             ARG_T("exponent", v));
    f = mini(&m, "reciprocal.default", PT2_FLOAT32, SIZES(4), 1, ARG_T("self", v));
    v = mini(&m, "to.dtype", PT2_FLOAT32, SIZES(-1), 2, ARG_T("self", m.positions),
             ARG_DTYPE("dtype", PT2_FLOAT32));
    v = mini(&m, "view.default", PT2_FLOAT32, SIZES(1, 1, -1), 2, ARG_T("self", v),
             ARG_LIST("size", PT2_ARG_INTS,
                      ((struct pt2_arg[]){{PT2_ARG_INT, {.i = 1}},
                                          {PT2_ARG_INT, {.i = 1}},
                                          {PT2_ARG_INT, {.i = -1}}})));
    angles = mini(&m, "view.default", PT2_FLOAT32, SIZES(1, 4, 1), 2, ARG_T("self", f),
                  ARG_LIST("size", PT2_ARG_INTS,
                           ((struct pt2_arg[]){{PT2_ARG_INT, {.i = 1}},
                                               {PT2_ARG_INT, {.i = 4}},
                                               {PT2_ARG_INT, {.i = 1}}})));
    angles = mini(&m, "matmul.default", PT2_FLOAT32, SIZES(1, 4, -1), 2,
                  ARG_T("self", angles), ARG_T("other", v));
    angles = mini(&m, "transpose.int", PT2_FLOAT32, SIZES(1, -1, 4), 3,
                  ARG_T("self", angles), ARG_I("dim0", 1), ARG_I("dim1", 2));
    both[0] = both[1] = (struct pt2_arg){PT2_ARG_TENSOR, {.value = angles}};
    angles = mini(&m, "cat.default", PT2_FLOAT32, SIZES(1, -1, 8), 2,
                  ARG_LIST("tensors", PT2_ARG_TENSORS, both), ARG_I("dim", -1));
    cos = mini(&m, "cos.default", PT2_FLOAT32, SIZES(1, -1, 8), 1, ARG_T("self", angles));
    cos = mini(&m, "mul.Tensor", PT2_FLOAT32, SIZES(1, -1, 8), 2, ARG_T("self", cos),
               ARG_F("other", 1.25));
    cos = mini(&m, "to.dtype", PT2_BFLOAT16, SIZES(1, -1, 8), 2, ARG_T("self", cos),
               ARG_DTYPE("dtype", PT2_BFLOAT16));
    sin = mini(&m, "sin.default", PT2_FLOAT32, SIZES(1, -1, 8), 1, ARG_T("self", angles));
    e = eval_of(&m, 0, &err);
    ck_assert_int_eq(eval_class(e, f), EVAL_CONSTANT);
    ck_assert_int_eq(eval_class(e, cos), EVAL_POSITION);
    ck_assert_int_eq(eval_class(e, m.ids), EVAL_TOKENS);
    check_floats(e, f, 0, 1, 4, inv, 1e-10);
    FLOATS(e, cos, 3, 2, 0, -1.234375, 1.1953125, 1.25, 1.25, -1.234375, 1.1953125, 1.25,
           1.25, -0.81640625, 1.1484375, 1.25, 1.25, -0.81640625, 1.1484375, 1.25, 1.25);
    FLOATS(e, sin, 3, 2, 6e-8, 0.14112000167369843, 0.29552021622657776,
           0.029995499178767204, 0.0029999956022948027, 0.14112000167369843,
           0.29552021622657776, 0.029995499178767204, 0.0029999956022948027,
           -0.756802499294281, 0.389418363571167, 0.03998933359980583, 0.003999989479780197,
           -0.756802499294281, 0.389418363571167, 0.03998933359980583, 0.003999989479780197);
    ck_assert_msg(eval_table(e, cos, 1, &table, &width, &err) == 0, "%s", err.text);
    ck_assert_int_eq(width, 8);
    ck_assert(table[4 * 8] == -0.81640625f && table[4 * 8 + 1] == 1.1484375f);
    ck_assert(table[0] == 1.25f);
    free(table);
    eval_free(e);
    mini_done(&m);
}
END_TEST

/* i = tensor([-7, -4, -1, 2, 5, 8]) */
START_TEST(test_eval_whole_numbers)
{
    struct pt2_err err = {0};
    struct mini m;
    uint32_t i, half, rest, sum, clamped, not, between;
    struct eval *e;

    mini_init(&m, 1);
    i = range(&m, -7, 9, 3);
    half = mini(&m, "floor_divide.default", PT2_INT64, SIZES(6), 2, ARG_T("self", i),
                ARG_I("other", 2));
    rest = mini(&m, "remainder.Scalar", PT2_INT64, SIZES(6), 2, ARG_T("self", i),
                ARG_I("other", 4));
    sum = mini(&m, "cumsum.default", PT2_INT64, SIZES(6), 2, ARG_T("self", i), ARG_I("dim", 0));
    clamped = mini(&m, "clamp.default", PT2_INT64, SIZES(6), 3, ARG_T("self", i),
                   ARG_I("min", -2), ARG_I("max", 6));
    not = mini(&m, "bitwise_not.default", PT2_INT64, SIZES(6), 1, ARG_T("self", i));
    between = mini(&m, "__and__.Tensor", PT2_BOOL, SIZES(6), 2,
                   ARG_T("self", mini(&m, "gt.Scalar", PT2_BOOL, SIZES(6), 2, ARG_T("self", i),
                                      ARG_I("other", -4))),
                   ARG_T("other", mini(&m, "le.Scalar", PT2_BOOL, SIZES(6), 2,
                                       ARG_T("self", i), ARG_I("other", 5))));
    e = eval_of(&m, 1, &err);
    INTS(e, half, 0, 1, -4, -2, -1, 1, 2, 4);
    INTS(e, rest, 0, 1, 1, 0, 3, 2, 1, 0);
    INTS(e, sum, 0, 1, -7, -11, -12, -10, -5, 3);
    INTS(e, clamped, 0, 1, -2, -2, -1, 2, 5, 6);
    INTS(e, not, 0, 1, 6, 3, 0, -3, -6, -9);
    INTS(e, between, 0, 1, 0, 0, 1, 1, 1, 0);
    eval_free(e);
    mini_done(&m);
}
END_TEST

/* m = arange(12).view(3, 4): views share, as the write through one of them shows */
START_TEST(test_eval_views)
{
    struct pt2_err err = {0};
    struct mini m;
    uint32_t base, v, odd, turned, rows, twice;
    struct pt2_arg index[1];
    struct eval *e;

    mini_init(&m, 1);
    base = mini(&m, "view.default", PT2_INT64, SIZES(3, 4), 2,
                ARG_T("self", range(&m, 0, 12, 1)),
                ARG_LIST("size", PT2_ARG_INTS,
                         ((struct pt2_arg[]){{PT2_ARG_INT, {.i = 3}},
                                             {PT2_ARG_INT, {.i = -1}}})));
    odd = mini(&m, "slice.Tensor", PT2_INT64, SIZES(3, 2), 5, ARG_T("self", base),
               ARG_I("dim", 1), ARG_I("start", 1), ARG_I("end", INT64_MAX), ARG_I("step", 2));
    v = mini(&m, "numpy_T.default", PT2_INT64, SIZES(4, 3), 1, ARG_T("self", base));
    turned = mini(&m, "reshape.default", PT2_INT64, SIZES(2, 6), 2, ARG_T("self", v),
                  ARG_LIST("shape", PT2_ARG_INTS,
                           ((struct pt2_arg[]){{PT2_ARG_INT, {.i = 2}},
                                               {PT2_ARG_INT, {.i = 6}}})));
    twice = mini(&m, "repeat_interleave.self_int", PT2_INT64, SIZES(3, 8), 3,
                 ARG_T("self", base), ARG_I("repeats", 2), ARG_I("dim", 1));
    v = mini(&m, "add.Tensor", PT2_INT64, SIZES(2), 3, ARG_T("self", range(&m, 1, 3, 1)),
             ARG_T("other", range(&m, -1, 1, 1)), ARG_I("alpha", -1)); /* [2, 2] */
    index[0] = (struct pt2_arg){PT2_ARG_TENSOR, {.value = v}};
    rows = mini(&m, "index.Tensor", PT2_INT64, SIZES(2, 4), 2, ARG_T("self", base),
                ARG_LIST("indices", PT2_ARG_OPTIONAL_TENSORS, index));
    e = eval_of(&m, 1, &err);
    INTS(e, odd, 0, 1, 1, 3, 5, 7, 9, 11);
    INTS(e, turned, 0, 1, 0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11);
    INTS(e, rows, 0, 1, 8, 9, 10, 11, 8, 9, 10, 11);
    INTS(e, twice, 0, 1, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10,
         11, 11);
    eval_free(e);
    mini_done(&m);
}
END_TEST

/* copy and slice_scatter leave self as it was. */
START_TEST(test_eval_copies_apart)
{
    struct pt2_err err = {0};
    struct mini m;
    uint32_t base, copied, scattered;
    struct eval *e;

    mini_init(&m, 1);
    base = range(&m, 0, 6, 1);
    copied = mini(&m, "copy.default", PT2_INT64, SIZES(6), 2, ARG_T("self", base),
                  ARG_T("src", range(&m, 9, 10, 1)));
    scattered = mini(&m, "slice_scatter.default", PT2_INT64, SIZES(6), 6, ARG_T("self", base),
                     ARG_T("src", range(&m, 7, 9, 1)), ARG_I("dim", 0), ARG_I("start", 1),
                     ARG_I("end", 4), ARG_I("step", 2));
    e = eval_of(&m, 1, &err);
    INTS(e, copied, 0, 1, 9, 9, 9, 9, 9, 9);
    INTS(e, scattered, 0, 1, 0, 7, 2, 8, 4, 5);
    INTS(e, base, 0, 1, 0, 1, 2, 3, 4, 5);
    eval_free(e);
    mini_done(&m);
}
END_TEST

START_TEST(test_eval_triangles)
{
    struct pt2_err err = {0};
    struct mini m;
    uint32_t base, upper, lower, below;
    struct eval *e;

    mini_init(&m, 1);
    base = mini(&m, "view.default", PT2_INT64, SIZES(3, 3), 2,
                ARG_T("self", range(&m, 1, 10, 1)),
                ARG_LIST("size", PT2_ARG_INTS,
                         ((struct pt2_arg[]){{PT2_ARG_INT, {.i = 3}},
                                             {PT2_ARG_INT, {.i = 3}}})));
    upper = mini(&m, "triu.default", PT2_INT64, SIZES(3, 3), 2, ARG_T("self", base),
                 ARG_I("diagonal", 1));
    lower = mini(&m, "tril.default", PT2_INT64, SIZES(3, 3), 1, ARG_T("self", base));
    below = mini(&m, "triu.default", PT2_INT64, SIZES(3, 3), 2, ARG_T("self", base),
                 ARG_I("diagonal", -7));
    e = eval_of(&m, 1, &err);
    INTS(e, upper, 0, 1, 0, 2, 3, 0, 0, 6, 0, 0, 0);
    INTS(e, lower, 0, 1, 1, 0, 0, 4, 5, 0, 7, 8, 9);
    INTS(e, below, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9);
    INTS(e, base, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9);
    eval_free(e);
    mini_done(&m);
}
END_TEST

/* x = full(3.140625) in bfloat16: x + 1e-3, x * x, x / 3; float16's pow(3) */
START_TEST(test_eval_rounding)
{
    struct pt2_err err = {0};
    struct mini m;
    uint32_t x, h, v[4];
    struct eval *e;

    mini_init(&m, 1);
    x = mini(&m, "full.default", PT2_BFLOAT16, SIZES(1), 2,
             ARG_LIST("size", PT2_ARG_INTS, ((struct pt2_arg[]){{PT2_ARG_INT, {.i = 1}}})),
             ARG_F("fill_value", 3.140625));
    v[0] = mini(&m, "add.Tensor", PT2_BFLOAT16, SIZES(1), 2, ARG_T("self", x),
                ARG_F("other", 1e-3));
    v[1] = mini(&m, "mul.Tensor", PT2_BFLOAT16, SIZES(1), 2, ARG_T("self", x),
                ARG_T("other", x));
    v[2] = mini(&m, "div.Tensor", PT2_BFLOAT16, SIZES(1), 2, ARG_T("self", x),
                ARG_I("other", 3));
    h = mini(&m, "to.dtype", PT2_FLOAT16, SIZES(1), 2, ARG_T("self", x),
             ARG_DTYPE("dtype", PT2_FLOAT16));
    v[3] = mini(&m, "pow.Tensor_Scalar", PT2_FLOAT16, SIZES(1), 2, ARG_T("self", h),
                ARG_I("exponent", 3));
    e = eval_of(&m, 1, &err);
    FLOATS(e, v[0], 0, 1, 0, 3.140625);
    FLOATS(e, v[1], 0, 1, 0, 9.875);
    FLOATS(e, v[2], 0, 1, 0, 1.046875);
    FLOATS(e, v[3], 0, 1, 0, 30.984375);
    eval_free(e);
    mini_done(&m);
}
END_TEST

/* kv <= q - shift, and kv > q - window */
static uint32_t mask_graph(struct mini *m, int64_t s, int64_t shift, int64_t window)
{
    uint32_t q, kv, low, mask, causal;

    mini_init(m, s);
    kv = range(m, 0, LEN, 1);
    q = mini(m, "unsqueeze.default", PT2_INT64, SIZES(s, 1), 2, ARG_T("self", m->positions),
             ARG_I("dim", 1));
    if (shift)
        low = mini(m, "sub.Tensor", PT2_INT64, SIZES(s, 1), 2, ARG_T("self", q),
                   ARG_I("other", shift));
    else
        low = q;
    causal = mini(m, "le.Tensor", PT2_BOOL, SIZES(s, LEN), 2, ARG_T("self", kv),
                  ARG_T("other", low));
    if (window == 0)
        return causal;
    low = mini(m, "sub.Tensor", PT2_INT64, SIZES(s, 1), 2, ARG_T("self", q),
               ARG_I("other", window));
    mask = mini(m, "gt.Tensor", PT2_BOOL, SIZES(s, LEN), 2, ARG_T("self", kv),
                ARG_T("other", low));
    return mini(m, "bitwise_and.Tensor", PT2_BOOL, SIZES(s, LEN), 2, ARG_T("self", causal),
                ARG_T("other", mask));
}

START_TEST(test_eval_masks)
{
    static const int64_t lengths[] = {1, 3, -1};

    for (size_t i = 0; i < ARRAY_LEN(lengths); i++)
        for (int64_t window = 0; window <= LEN; window += 4) {
            struct pt2_err err = {0};
            struct mini m;
            uint32_t mask = mask_graph(&m, lengths[i], 0, window), added;
            int64_t got = -1;
            struct eval *e;

            added = mini(&m, "where.ScalarSelf", PT2_FLOAT32, SIZES(lengths[i], LEN), 3,
                         ARG_T("condition",
                               mini(&m, "logical_not.default", PT2_BOOL,
                                    SIZES(lengths[i], LEN), 1, ARG_T("self", mask))),
                         ARG_F("self", -3.4028234663852886e+38), ARG_F("other", 0));
            e = eval_of(&m, MAX(lengths[i], 0), &err);
            ck_assert_msg(eval_mask(e, mask, straight(LEN), &got, &err) == 0, "%s", err.text);
            ck_assert_int_eq(got, window < LEN ? window : 0);
            ck_assert_msg(eval_mask(e, added, straight(LEN), &got, &err) == 0, "%s", err.text);
            ck_assert_int_eq(got, window < LEN ? window : 0);
            eval_free(e);
            mini_done(&m);
        }
}
END_TEST

START_TEST(test_eval_refuses_other_masks)
{
    for (int64_t shift = -1; shift <= 1; shift += 2) {
        struct pt2_err err = {0};
        struct mini m;
        uint32_t mask = mask_graph(&m, 1, shift, 0);
        struct eval *e = eval_of(&m, 1, &err);
        int64_t window;

        check_refused(eval_mask(e, mask, straight(LEN), &window, &err), &err, "neither causal nor a window");
        eval_free(e);
        mini_done(&m);
    }
}
END_TEST

/* The first position of the run, which is no table of positions: a run of two from 3 on
 * gives 4 the row of 3. */
START_TEST(test_eval_refuses_what_depends_on_the_run)
{
    struct pt2_err err = {0};
    struct mini m;
    uint32_t v, width;
    struct eval *e;
    float *table;
    bool is;

    mini_init(&m, -1);
    v = mini(&m, "select.int", PT2_INT64, NO_SIZES, 3, ARG_T("self", m.positions),
             ARG_I("dim", 0), ARG_I("index", 0));
    v = mini(&m, "mul.Tensor", PT2_INT64, SIZES(-1), 2,
             ARG_T("self", mini(&m, "ones_like.default", PT2_INT64, SIZES(-1), 1,
                                ARG_T("self", m.positions))),
             ARG_T("other", v));
    e = eval_of(&m, 0, &err);
    check_refused(eval_table(e, v, 0, &table, &width, &err), &err, "depends on the run");
    pt2_err_clear(&err);
    ck_assert_int_eq(eval_is_positions(e, v, straight(LEN), &is, &err), 0);
    ck_assert(!is);
    eval_free(e);
    mini_done(&m);
}
END_TEST

/* A cache of 4 positions that rolls, as HybridCache of Transformers 4.53 has it: its slots are
 * (arange(4) + (p + 1 > 4)) % 4, min(p, 4 - 1) is written, and the mask is of the positions
 * arange(4) + max(p - 4 + 1, 0). */
START_TEST(test_eval_rolling)
{
    struct pt2_err err = {0};
    struct mini m;
    uint32_t moves, slots, place, base, positions, mask;
    struct eval *e;
    int64_t window = -1;
    bool is;

    mini_init(&m, 1);
    moves = mini(&m, "gt.Scalar", PT2_BOOL, SIZES(1), 2,
                 ARG_T("self", mini(&m, "add.Tensor", PT2_INT64, SIZES(1), 2,
                                    ARG_T("self", m.positions), ARG_I("other", 1))),
                 ARG_I("other", 4));
    slots = mini(&m, "add.Tensor", PT2_INT64, SIZES(4), 2, ARG_T("self", range(&m, 0, 4, 1)),
                 ARG_T("other", mini(&m, "sum.default", PT2_INT64, NO_SIZES, 1,
                                     ARG_T("self", moves))));
    slots = mini(&m, "remainder.Scalar", PT2_INT64, SIZES(4), 2, ARG_T("self", slots),
                 ARG_I("other", 4));
    place = mini(&m, "clamp.default", PT2_INT64, SIZES(1), 3, ARG_T("self", m.positions),
                 ARG_I("min", 0), ARG_I("max", 3));
    base = mini(&m, "clamp.default", PT2_INT64, SIZES(1), 2,
                ARG_T("self", mini(&m, "sub.Tensor", PT2_INT64, SIZES(1), 2,
                                   ARG_T("self", m.positions), ARG_I("other", 3))),
                ARG_I("min", 0));
    positions = mini(&m, "add.Tensor", PT2_INT64, SIZES(4), 2,
                     ARG_T("self", range(&m, 0, 4, 1)), ARG_T("other", base));
    mask = mini(&m, "le.Tensor", PT2_BOOL, SIZES(1, 4), 2, ARG_T("self", positions),
                ARG_T("other", mini(&m, "unsqueeze.default", PT2_INT64, SIZES(1, 1), 2,
                                    ARG_T("self", m.positions), ARG_I("dim", 1))));
    e = eval_of(&m, 1, &err);
    INTS(e, slots, 3, 1, 0, 1, 2, 3);
    INTS(e, slots, 4, 1, 1, 2, 3, 0);
    ck_assert(eval_is_rolling(e, slots, 4, &is, &err) == 0 && is);
    ck_assert(eval_is_rolling(e, slots, 3, &is, &err) == 0 && !is);
    ck_assert(eval_is_rolling(e, positions, 4, &is, &err) == 0 && !is);
    ck_assert(eval_is_positions(e, place, straight(4), &is, &err) == 0 && is);
    ck_assert(eval_is_positions(e, place, straight(LEN), &is, &err) == 0 && !is);
    ck_assert(eval_is_positions(e, m.positions, straight(4), &is, &err) == 0 && !is);
    ck_assert(eval_mask(e, mask, straight(4), &window, &err) == 0 && window == 4);
    check_refused(eval_mask(e, mask, straight(LEN), &window, &err), &err, "is not over the cache's");
    eval_free(e);
    mini_done(&m);
}
END_TEST

/* What is computed alike is the same, unless the memory it is of, or from, is written. */
START_TEST(test_eval_same_values)
{
    struct mini m;
    uint32_t a, b, written, sums[4], *roots, *same;

    mini_init(&m, 1);
    a = range(&m, 0, 4, 1);
    b = range(&m, 0, 4, 1);
    written = range(&m, 0, 4, 1);
    for (unsigned i = 0; i < 4; i++)
        sums[i] = mini(&m, "add.Tensor", PT2_INT64, SIZES(4), 2,
                       ARG_T("self", i == 0 ? a : i == 1 ? b : i == 2 ? written : a),
                       ARG_I("other", i == 3 ? 2 : 1));
    mini(&m, "add_.Tensor", PT2_INT64, SIZES(4), 2, ARG_T("self", written),
         ARG_I("other", 1));
    roots = calloc(pt2_program_n_values(m.program), sizeof(*roots));
    same = calloc(pt2_program_n_values(m.program), sizeof(*same));
    nodes_roots(m.program, roots);
    ck_assert(nodes_same(m.program, roots, same));
    ck_assert_uint_eq(same[a], a);
    ck_assert_uint_eq(same[b], a);
    ck_assert_uint_eq(same[written], written);
    ck_assert_uint_eq(same[sums[1]], sums[0]);
    ck_assert_uint_eq(same[sums[2]], sums[2]);
    ck_assert_uint_eq(same[sums[3]], sums[3]);
    free(roots);
    free(same);
    mini_done(&m);
}
END_TEST

/* As Transformers 5 has it: the counter is read, then moved on, through a view. */
static uint32_t counter_graph(struct mini *m, int64_t step, uint32_t *ret_after)
{
    uint32_t counter, view, places;

    mini_new(m);
    counter = mini_input(m, PT2_INPUT_BUFFER, "cumulative_length_0", PT2_INT64, NO_SIZES);
    mini_user(m, 1, 4);
    mini(m, "copy_.default", PT2_INT64, NO_SIZES, 2, ARG_T("self", counter),
         ARG_T("src", mini(m, "select.int", PT2_INT64, NO_SIZES, 3,
                           ARG_T("self", m->positions), ARG_I("dim", 0),
                           ARG_I("index", 0))));
    view = mini(m, "to.dtype_layout", PT2_INT64, NO_SIZES, 2, ARG_T("self", counter),
                ARG_DTYPE("dtype", PT2_INT64));
    places = mini(m, "add.Tensor", PT2_INT64, SIZES(4), 2, ARG_T("self", range(m, 0, 4, 1)),
                  ARG_T("other", view));
    mini(m, "add_.Tensor", PT2_INT64, NO_SIZES, 2, ARG_T("self", view), ARG_I("other", step));
    *ret_after = mini(m, "add.Tensor", PT2_INT64, NO_SIZES, 2, ARG_T("self", counter),
                      ARG_I("other", 100));
    return places;
}

static struct pt2_archive *counter_archive(void)
{
    char path[] = "/tmp/pt2-eval-XXXXXX";
    int fd = mkstemp(path);
    struct pt2_err err = {0};
    struct pt2_writer *w;
    struct pt2_archive *archive;
    struct pt2_payload_entry entry = {.fqn = "cumulative_length_0", .dtype = PT2_INT64};
    uint8_t sha[32];
    uint64_t bytes;

    ck_assert(fd >= 0 && pt2_writer_new(fd, "model", &w, &err) == 0);
    ck_assert(pt2_writer_fixed(w, &err) == 0 && pt2_writer_model(w, "{}", 2, &err) == 0);
    ck_assert(pt2_writer_payloads(w, PT2_TABLE_WEIGHTS, NULL, 0, &err) == 0);
    ck_assert(pt2_writer_begin_tensor(w, PT2_TABLE_CONSTANTS, 0, 0, &err) == 0 &&
              pt2_writer_end(w, &err) == 0);
    ck_assert(pt2_writer_payloads(w, PT2_TABLE_CONSTANTS, &entry, 1, &err) == 0);
    ck_assert_msg(pt2_writer_finish(w, sha, &bytes, &err) == 0, "%s", err.text);
    pt2_writer_free(w);
    ck_assert_msg(pt2_archive_open(path, &archive, &err) == 0, "%s", err.text);
    close(fd);
    unlink(path);
    return archive;
}

START_TEST(test_eval_counters)
{
    for (int64_t step = 4; step <= 5; step++) {
        struct pt2_err err = {0};
        struct pt2_decoder d = {.cache_position = 1, .batch_size = 1, .seq_len = 4,
                                .max_seq_len = 4, .max_cache_len = LEN};
        struct pt2_archive *archive = counter_archive();
        struct mini m;
        uint32_t after, places = counter_graph(&m, step, &after);
        struct eval *e = NULL;
        bool is = false;

        ck_assert_msg(eval_new(archive, m.program, &d, &e, &err) == 0, "%s", err.text);
        ck_assert(eval_is_counter(e, 0));
        INTS(e, places, 5, 4, 5, 6, 7, 8);
        INTS(e, after, 5, 4, 105 + step);
        ck_assert_int_eq(eval_is_positions(e, places, straight(LEN), &is, &err), 0);
        ck_assert(is);
        if (step == 4)
            ck_assert_msg(eval_check_counters(e, &err) == 0, "%s", err.text);
        else
            check_refused(eval_check_counters(e, &err), &err, "does not count positions");
        eval_free(e);
        mini_done(&m);
        pt2_archive_free(archive);
    }
}
END_TEST

START_TEST(test_eval_memory_is_bounded)
{
    struct pt2_err err = {0};
    struct eval_tensor t;
    struct mini m;
    uint32_t many;
    struct eval *e;

    mini_init(&m, 1);
    many = range(&m, 0, INT64_C(1) << 28, 1);
    e = eval_of(&m, 1, &err);
    ck_assert_int_eq(eval_value(e, many, 0, 1, &t, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_LIMIT);
    ck_assert_msg(strstr(err.text, "more than 2147483648 bytes") != NULL, "%s", err.text);
    eval_free(e);
    mini_done(&m);
}
END_TEST

START_TEST(test_eval_refusals)
{
    struct pt2_err err = {0};
    struct eval_tensor t;
    struct mini m;
    uint32_t unknown, wide, far, tokens;
    struct eval *e;
    bool is;

    mini_init(&m, 1);
    unknown = mini(&m, "erfinv.default", PT2_FLOAT32, SIZES(1), 1, ARG_T("self", m.positions));
    wide = mini(&m, "to.dtype", PT2_FLOAT64, SIZES(1), 2, ARG_T("self", m.positions),
                ARG_DTYPE("dtype", PT2_FLOAT64));
    far = mini(&m, "index_select.default", PT2_INT64, SIZES(1), 3,
               ARG_T("self", range(&m, 0, 3, 1)), ARG_I("dim", 0),
               ARG_T("index", m.positions));
    tokens = mini(&m, "add.Tensor", PT2_INT64, SIZES(1, 1), 2, ARG_T("self", m.ids),
                  ARG_T("other", m.positions));
    e = eval_of(&m, 1, &err);
    check_refused(eval_value(e, unknown, 0, 1, &t, &err), &err, "aten.erfinv.default");
    pt2_err_clear(&err);
    check_refused(eval_value(e, wide, 0, 1, &t, &err), &err, "float64");
    pt2_err_clear(&err);
    check_refused(eval_value(e, tokens, 0, 1, &t, &err), &err, "depends on tokens");
    pt2_err_clear(&err);
    INTS(e, far, 2, 1, 2);
    check_refused(eval_is_positions(e, far, straight(LEN), &is, &err), &err, "index 3 of 3");
    eval_free(e);
    mini_done(&m);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("eval");
    TCase *core = tcase_create("core"), *errors = tcase_create("errors");

    tcase_add_test(core, test_eval_rotary_table);
    tcase_add_test(core, test_eval_whole_numbers);
    tcase_add_test(core, test_eval_views);
    tcase_add_test(core, test_eval_copies_apart);
    tcase_add_test(core, test_eval_triangles);
    tcase_add_test(core, test_eval_rounding);
    tcase_add_test(core, test_eval_masks);
    tcase_add_test(core, test_eval_rolling);
    tcase_add_test(core, test_eval_same_values);
    tcase_add_test(core, test_eval_counters);
    tcase_add_test(errors, test_eval_refuses_other_masks);
    tcase_add_test(errors, test_eval_refuses_what_depends_on_the_run);
    tcase_add_test(errors, test_eval_memory_is_bounded);
    tcase_add_test(errors, test_eval_refusals);
    suite_add_tcase(s, core);
    suite_add_tcase(s, errors);
    return suite_run(s);
}
