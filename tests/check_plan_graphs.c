/* Plans of one layer of attention in many spellings, and with one thing wrong. */
#include "mini_graph.h"
#include "suite.h"

#include "plan_run.h"

#include <fcntl.h>
#include <math.h>

enum { DIM = 4, LEN = 16, VOCAB = 8 };

/* What of the graph below is otherwise. */
enum twist {
    PLAIN,
    NO_MASK,
    TWO_MASKS,
    SCALED_AFTER_MASK,
    READ_BEFORE_WRITE,
    WRITTEN_TWICE,
    WRITTEN_ELSEWHERE,
    TRAINS,
    CHANGED_PROBABILITIES,
    READ_AFTER_WRITE_IN_PLACE,
    IN_PLACE,
    UNKNOWN_OP,
    DEAD_UNKNOWN_OP,
    LAST_ROW_BESIDE_ALL,
    MIXES_SEQUENCE,
    TOKENS_AS_POSITIONS,
    IS_CAUSAL,
    UNUSED_CACHE,
    MUTATION_OF_ANOTHER,
    NOT_WRITTEN_BACK,
    ROLLS_ALWAYS,
    ROLLED_AFTER_WRITE,
    SHARED_MEMORY,
    /* what no exporter writes, found by tests/fuzz/fuzz_plan */
    NOTHING_WRITTEN,
    PERMUTED_TWICE,
    EXPANDED_BELOW_ZERO,
    STACKED_UNEVEN,
    MANY_STEPS,
    QUERY_WITHOUT_DIMS,
    NO_OPERAND,
    CONSTANT_PERMUTED_TWICE,
    PRODUCT_OF_BOOLS,
    NEGATIVE_SIZES,
    WIDE_CACHE,
    SCORES_READ_AFTER_WRITE_IN_PLACE,
    ADDED_TO_ONES,
    ADDED_TO_WRITTEN_ZEROS,
    INDEXED_BACKWARDS,
    INDEXED_TWICE,
    /* other spellings of the same */
    SDPA,
    INDEX_PUT,
    FUNCTIONAL,
    WRITTEN_BACK,
    MASK_BY_WHERE,
    WINDOW,
    SCALED,
    SOFT_CAP,
    SCALED_IN_PLACE,
    ADDED_TO_ZEROS,
    INDEXED,
    NARROWED,
    ROLLS,
    ROLLS_IN_PLACE,
    N_TWISTS
};

struct twisted {
    struct mini m;
    enum twist twist;
    uint32_t weight, keys, values, x;
    uint32_t new_keys, new_values; /* what is attended to */
};

#define ROWS4(n) SIZES(1, 1, 3, n)

/* A copy of the cache, its rows moved on by so many. */
static uint32_t roll(struct twisted *t, uint32_t cache, int64_t by)
{
    struct mini *m = &t->m;
    uint32_t slots = mini(m, "arange.default", PT2_INT64, SIZES(LEN), 1, ARG_I("end", LEN));
    struct pt2_arg places[3] = {{.kind = PT2_ARG_NONE}, {.kind = PT2_ARG_NONE}};

    slots = mini(m, "add.Tensor", PT2_INT64, SIZES(LEN), 2, ARG_T("self", slots),
                 ARG_I("other", by));
    slots = mini(m, "remainder.Scalar", PT2_INT64, SIZES(LEN), 2, ARG_T("self", slots),
                 ARG_I("other", LEN));
    places[2] = (struct pt2_arg){PT2_ARG_TENSOR, {.value = slots}};
    return mini(m, "index.Tensor", PT2_FLOAT32, SIZES(1, 1, LEN, DIM), 2,
                ARG_T("self", cache), ARG_LIST("indices", PT2_ARG_OPTIONAL_TENSORS, places));
}

static uint32_t write_back(struct twisted *t, uint32_t cache, uint32_t src)
{
    mini(&t->m, "copy_.default", PT2_FLOAT32, SIZES(1, 1, LEN, DIM), 2, ARG_T("self", cache),
         ARG_T("src", src));
    return src;
}

/* As caches of 4.5x are written that could roll, and as long as the others never do. */
static uint32_t write_rolled(struct twisted *t, uint32_t cache, uint32_t index)
{
    uint32_t rolled = roll(t, cache, t->twist == ROLLS_ALWAYS), out;

    out = mini(&t->m,
               t->twist == ROLLS_IN_PLACE ? "index_copy_.default" : "index_copy.default",
               PT2_FLOAT32, SIZES(1, 1, LEN, DIM), 4, ARG_T("self", rolled), ARG_I("dim", 2),
               ARG_T("index", index), ARG_T("source", t->x));
    if (t->twist == ROLLED_AFTER_WRITE)
        out = roll(t, out, 0);
    return write_back(t, cache, t->twist == ROLLS_IN_PLACE ? rolled : out);
}

static uint32_t write_rows(struct twisted *t, uint32_t cache, uint32_t index)
{
    struct pt2_arg places[3] = {{.kind = PT2_ARG_NONE},
                                {.kind = PT2_ARG_NONE},
                                {PT2_ARG_TENSOR, {.value = index}}};
    bool functional = t->twist == FUNCTIONAL || t->twist == WRITTEN_BACK ||
                      t->twist == NOT_WRITTEN_BACK || t->twist == MUTATION_OF_ANOTHER;
    uint32_t out;

    if (t->twist == ROLLS || t->twist == ROLLS_IN_PLACE || t->twist == ROLLS_ALWAYS ||
        t->twist == ROLLED_AFTER_WRITE)
        return write_rolled(t, cache, index);
    if (t->twist == INDEX_PUT)
        return mini(&t->m, "index_put_.default", PT2_FLOAT32, SIZES(1, 1, LEN, DIM), 3,
                    ARG_T("self", cache),
                    ARG_LIST("indices", PT2_ARG_OPTIONAL_TENSORS, places),
                    ARG_T("values", t->x));
    if (functional) {
        out = mini(&t->m, "index_copy.default", PT2_FLOAT32, SIZES(1, 1, LEN, DIM), 4,
                   ARG_T("self", cache), ARG_I("dim", 2), ARG_T("index", index),
                   ARG_T("source", t->x));
        return t->twist == WRITTEN_BACK ? write_back(t, cache, out) : out;
    }
    return mini(&t->m, "index_copy_.default", PT2_FLOAT32, SIZES(1, 1, LEN, DIM),
                t->twist == NOTHING_WRITTEN ? 3 : 4, ARG_T("self", cache), ARG_I("dim", 2),
                ARG_T("index", index), ARG_T("source", t->x));
}

static uint32_t scores_of(struct twisted *t, uint32_t keys)
{
    uint32_t turned = mini(&t->m, "transpose.int", PT2_FLOAT32, SIZES(1, 1, DIM, LEN), 3,
                           ARG_T("self", keys), ARG_I("dim0", 2), ARG_I("dim1", 3));

    return mini(&t->m, "matmul.default", PT2_FLOAT32, ROWS4(LEN), 2, ARG_T("self", t->x),
                ARG_T("other", turned));
}

/* baddbmm of 2 * q @ k, of three dimensions */
static uint32_t added_to(struct twisted *t, uint32_t keys)
{
    struct pt2_arg sizes[4] = {{PT2_ARG_INT, {.i = 1}}, {PT2_ARG_INT, {.i = 3}},
                               {PT2_ARG_INT, {.i = LEN}}, {PT2_ARG_INT, {.i = LEN}}};
    struct mini *m = &t->m;
    uint32_t k = mini(m, "squeeze.dim", PT2_FLOAT32, SIZES(1, LEN, DIM), 2,
                      ARG_T("self", keys), ARG_I("dim", 1));
    uint32_t q = mini(m, "squeeze.dim", PT2_FLOAT32, SIZES(1, 3, DIM), 2, ARG_T("self", t->x),
                      ARG_I("dim", 1));
    struct pt2_named_arg size =
        ARG("size", .kind = PT2_ARG_INTS, .list = {sizes, 3});
    uint32_t to = mini(m, t->twist == ADDED_TO_ONES ? "ones.default" : "zeros.default",
                       PT2_FLOAT32, SIZES(1, 3, LEN), 1, size);

    if (t->twist == ADDED_TO_WRITTEN_ZEROS)
        mini(m, "add_.Tensor", PT2_FLOAT32, SIZES(1, 3, LEN), 2, ARG_T("self", to),
             ARG_F("other", 1));
    k = mini(m, "transpose.int", PT2_FLOAT32, SIZES(1, DIM, LEN), 3, ARG_T("self", k),
             ARG_I("dim0", 1), ARG_I("dim1", 2));
    to = mini(m, "baddbmm.default", PT2_FLOAT32, SIZES(1, 3, LEN), 5, ARG_T("self", to),
              ARG_T("batch1", q), ARG_T("batch2", k), ARG_F("beta", 1), ARG_F("alpha", 2));
    return mini(m, "unsqueeze.default", PT2_FLOAT32, ROWS4(LEN), 2, ARG_T("self", to),
                ARG_I("dim", 1));
}

/* The last dimension of x by all its indices: 0, 1, ... or 0, -1, ... */
static uint32_t indexed(struct twisted *t)
{
    struct pt2_arg places[4] = {{.kind = PT2_ARG_NONE}, {.kind = PT2_ARG_NONE},
                                {.kind = PT2_ARG_NONE}, {.kind = PT2_ARG_NONE}};
    struct mini *m = &t->m;
    uint32_t at = mini(m, "arange.default", PT2_INT64, SIZES(DIM), 1, ARG_I("end", DIM));

    if (t->twist == INDEXED_BACKWARDS)
        at = mini(m, "neg.default", PT2_INT64, SIZES(DIM), 1, ARG_T("self", at));
    places[3] = (struct pt2_arg){PT2_ARG_TENSOR, {.value = at}};
    if (t->twist == INDEXED_TWICE)
        places[2] = places[3];
    return mini(m, "index.Tensor", PT2_FLOAT32, ROWS4(DIM), 2, ARG_T("self", t->x),
                ARG_LIST("indices", PT2_ARG_OPTIONAL_TENSORS, places));
}

static uint32_t seen(struct twisted *t)
{
    struct mini *m = &t->m;
    uint32_t kv = mini(m, "arange.default", PT2_INT64, SIZES(LEN), 1, ARG_I("end", LEN));
    uint32_t q = mini(m, "unsqueeze.default", PT2_INT64, SIZES(3, 1), 2,
                      ARG_T("self", m->positions), ARG_I("dim", 1));
    uint32_t causal = mini(m, "le.Tensor", PT2_BOOL, SIZES(3, LEN), 2, ARG_T("self", kv),
                           ARG_T("other", q));
    uint32_t far;

    if (t->twist == NARROWED) {
        kv = mini(m, "arange.default", PT2_INT64, SIZES(2 * LEN), 1, ARG_I("end", 2 * LEN));
        kv = mini(m, "narrow.default", PT2_INT64, SIZES(LEN), 4, ARG_T("self", kv),
                  ARG_I("dim", 0), ARG_I("start", -2 * LEN), ARG_I("length", LEN));
        causal = mini(m, "le.Tensor", PT2_BOOL, SIZES(3, LEN), 2, ARG_T("self", kv),
                      ARG_T("other", q));
    }
    if (t->twist != WINDOW)
        return causal;
    far = mini(m, "sub.Tensor", PT2_INT64, SIZES(3, 1), 2, ARG_T("self", q),
               ARG_I("other", 6));
    far = mini(m, "gt.Tensor", PT2_BOOL, SIZES(3, LEN), 2, ARG_T("self", kv),
               ARG_T("other", far));
    return mini(m, "logical_and.default", PT2_BOOL, SIZES(3, LEN), 2, ARG_T("self", causal),
                ARG_T("other", far));
}

static uint32_t make_mask(struct twisted *t)
{
    return mini(&t->m, "where.Scalar", PT2_FLOAT32, SIZES(3, LEN), 3, 
                ARG_T("condition", seen(t)), ARG_F("self", 0), ARG_F("other", -INFINITY));
}

static uint32_t add(struct twisted *t, uint32_t a, uint32_t b, int64_t last)
{
    return mini(&t->m, "add.Tensor", PT2_FLOAT32, ROWS4(last), 2, ARG_T("self", a),
                ARG_T("other", b));
}

static uint32_t one(struct twisted *t, const char *op, uint32_t a, int64_t last)
{
    return mini(&t->m, op, PT2_FLOAT32, ROWS4(last), 1, ARG_T("self", a));
}

static void make_input(struct twisted *t)
{
    struct mini *m = &t->m;

    mini_new(m);
    t->weight = mini_input(m, PT2_INPUT_PARAMETER, "w", PT2_FLOAT32, SIZES(VOCAB, DIM));
    t->keys = mini_input(m, PT2_INPUT_BUFFER, "key_cache_0", PT2_FLOAT32,
                         SIZES(1, 1, LEN, DIM));
    t->values = mini_input(m, PT2_INPUT_BUFFER, "value_cache_0", PT2_FLOAT32,
                           SIZES(1, t->twist == WIDE_CACHE ? INT64_C(1) << 32 : 1, LEN, DIM));
    mini_user(m, 1, 3);
    t->x = mini(m, "embedding.default", PT2_FLOAT32, SIZES(1, 3, DIM), 2,
                ARG_T("weight", t->weight), ARG_T("indices", m->ids));
    t->x = mini(m, "unsqueeze.default", PT2_FLOAT32, ROWS4(DIM), 2, ARG_T("self", t->x),
                ARG_I("dim", 1));
}

/* A constant that is none, (DIM). */
static uint32_t bad_constant(struct twisted *t, enum twist twist)
{
    struct mini *m = &t->m;
    struct pt2_arg ints[2] = {{PT2_ARG_INT, {.i = 1}}, {PT2_ARG_INT, {.i = 1}}};
    uint32_t y = t->weight; /* (VOCAB, DIM) */

    if (twist == NO_OPERAND)
        return mini(m, "rsqrt.default", PT2_FLOAT32, SIZES(DIM), 0);
    if (twist == CONSTANT_PERMUTED_TWICE)
        return mini(m, "permute.default", PT2_FLOAT32, SIZES(DIM, DIM), 2, ARG_T("self", y),
                    ARG_LIST("dims", PT2_ARG_INTS, ints));
    if (twist == PRODUCT_OF_BOOLS) {
        uint32_t turned = mini(m, "t.default", PT2_FLOAT32, SIZES(DIM, VOCAB), 1,
                               ARG_T("self", y));

        return mini(m, "matmul.default", PT2_BOOL, SIZES(VOCAB, VOCAB), 2, ARG_T("self", y),
                    ARG_T("other", turned));
    }
    ints[0].i = ints[1].i = -2; /* of the same product */
    y = mini(m, "select.int", PT2_FLOAT32, SIZES(DIM), 3, ARG_T("self", y), ARG_I("dim", 0),
             ARG_I("index", 0));
    return mini(m, "view.default", PT2_FLOAT32, SIZES(1, DIM), 2, ARG_T("self", y),
                ARG_LIST("size", PT2_ARG_INTS, ints));
}

/* What must be refused before it is looked at. */
static void twist_dims(struct twisted *t, enum twist twist)
{
    struct mini *m = &t->m;
    struct pt2_arg ints[4] = {{PT2_ARG_INT, {.i = 0}},
                              {PT2_ARG_INT, {.i = 3}},
                              {PT2_ARG_INT, {.i = 2}},
                              {PT2_ARG_INT, {.i = 3}}};
    struct pt2_arg parts[2] = {{PT2_ARG_TENSOR, {.value = t->x}}};
    uint32_t y = t->x;

    if (twist == PERMUTED_TWICE) {
        t->x = mini(m, "permute.default", PT2_FLOAT32, SIZES(1, DIM, 3, DIM), 2,
                    ARG_T("self", y), ARG_LIST("dims", PT2_ARG_INTS, ints));
    } else if (twist == EXPANDED_BELOW_ZERO) {
        for (int d = 0; d < 4; d++)
            ints[d].i = d == 1 ? -7 : -1;
        t->x = mini(m, "expand.default", PT2_FLOAT32, ROWS4(DIM), 2, ARG_T("self", y),
                    ARG_LIST("size", PT2_ARG_INTS, ints));
    } else if (twist == MANY_STEPS) { /* the largest of many lines put together in two parts */
        for (int d = 0; d < 4; d++)
            ints[d].i = d == 1 ? 100000 : -1;
        y = mini(m, "expand.default", PT2_FLOAT32, SIZES(1, 100000, 3, DIM), 2,
                 ARG_T("self", y), ARG_LIST("size", PT2_ARG_INTS, ints));
        parts[0].value = parts[1].value = y;
        parts[1].kind = PT2_ARG_TENSOR;
        y = mini(m, "cat.default", PT2_FLOAT32, SIZES(1, 100000, 3, 2 * DIM), 2,
                 ARG_LIST("tensors", PT2_ARG_TENSORS, parts), ARG_I("dim", 3));
        y = mini(m, "amax.default", PT2_FLOAT32, ROWS4(2 * DIM), 3, ARG_T("self", y),
                 ARG_I("dim", 1), ARG_B("keepdim", true));
        t->x = mini(m, "slice.Tensor", PT2_FLOAT32, ROWS4(DIM), 4, ARG_T("self", y),
                    ARG_I("dim", 3), ARG_I("start", 0), ARG_I("end", DIM));
    } else if (twist == STACKED_UNEVEN) {
        for (int d = 0; d < 2; d++)
            y = mini(m, "squeeze.dim", PT2_FLOAT32, SIZES(3, DIM), 2, ARG_T("self", y),
                     ARG_I("dim", 0));
        parts[1] = (struct pt2_arg){PT2_ARG_TENSOR, {.value = y}};
        t->x = mini(m, "stack.default", PT2_FLOAT32, SIZES(1, 1, 3, DIM, 2), 2,
                    ARG_LIST("tensors", PT2_ARG_TENSORS, parts), ARG_I("dim", -1));
    } else if (twist >= NO_OPERAND && twist <= NEGATIVE_SIZES) {
        t->x = add(t, t->x, bad_constant(t, twist), DIM);
    }
}

/* What comes before attention. */
static void twist_input(struct twisted *t, enum twist twist)
{
    struct mini *m = &t->m;
    uint32_t y;

    if (twist == UNKNOWN_OP || twist == DEAD_UNKNOWN_OP) {
        y = one(t, "erfinv.default", t->x, DIM);
        t->x = twist == UNKNOWN_OP ? y : t->x;
    } else if (twist == IN_PLACE || twist == READ_AFTER_WRITE_IN_PLACE) {
        uint32_t before = one(t, "neg.default", t->x, DIM);

        y = mini(m, "mul_.Tensor", PT2_FLOAT32, ROWS4(DIM), 2, ARG_T("self", before),
                 ARG_F("other", 2));
        t->x = twist == IN_PLACE ? y : add(t, before, y, DIM);
    } else if (twist == INDEXED || twist == INDEXED_BACKWARDS || twist == INDEXED_TWICE) {
        t->x = indexed(t);
    } else if (twist == LAST_ROW_BESIDE_ALL) {
        y = mini(m, "slice.Tensor", PT2_FLOAT32, SIZES(1, 1, 1, DIM), 4, ARG_T("self", t->x),
                 ARG_I("dim", 2), ARG_I("start", -1), ARG_I("end", INT64_MAX));
        t->x = add(t, t->x, y, DIM);
    } else if (twist == NARROWED) {
        struct pt2_arg twice[2] = {{PT2_ARG_TENSOR, {.value = t->x}},
                                   {PT2_ARG_TENSOR, {.value = t->x}}};

        y = mini(m, "cat.default", PT2_FLOAT32, ROWS4(2 * DIM), 2,
                 ARG_LIST("tensors", PT2_ARG_TENSORS, twice), ARG_I("dim", 3));
        t->x = mini(m, "narrow.default", PT2_FLOAT32, ROWS4(DIM), 4, ARG_T("self", y),
                    ARG_I("dim", -1), ARG_I("start", 2), ARG_I("length", DIM));
    } else if (twist == MIXES_SEQUENCE) {
        y = mini(m, "view.default", PT2_FLOAT32, SIZES(1, 1, DIM, 3), 2, ARG_T("self", t->x),
                 ARG_LIST("size", PT2_ARG_INTS,
                          ((struct pt2_arg[]){{PT2_ARG_INT, {.i = 1}},
                                              {PT2_ARG_INT, {.i = 1}},
                                              {PT2_ARG_INT, {.i = DIM}},
                                              {PT2_ARG_INT, {.i = 3}}})));
        t->x = mini(m, "transpose.int", PT2_FLOAT32, ROWS4(DIM), 3, ARG_T("self", y),
                    ARG_I("dim0", 2), ARG_I("dim1", 3));
    }
}

static uint32_t with(struct twisted *t, const char *op, uint32_t scores, double number)
{
    return mini(&t->m, op, PT2_FLOAT32, ROWS4(LEN), 2, ARG_T("self", scores),
                ARG_F("other", number));
}

static uint32_t twist_scores(struct twisted *t, enum twist twist, uint32_t scores)
{
    uint32_t mask = twist == NO_MASK || twist == MASK_BY_WHERE ? 0 : make_mask(t);

    if (twist == SCALED || twist == SOFT_CAP)
        scores = with(t, "div.Tensor", with(t, "mul.Tensor", scores, 0.5), 0.25);
    if (twist == SCALED_IN_PLACE)
        scores = with(t, "div_.Tensor", scores, 0.5);
    if (twist == SCORES_READ_AFTER_WRITE_IN_PLACE)
        with(t, "mul_.Tensor", scores, 2);
    if (twist == SOFT_CAP)
        scores = with(t, "mul.Tensor",
                      one(t, "tanh.default", with(t, "div.Tensor", scores, 20), LEN), 20);
    if (twist == MASK_BY_WHERE)
        scores = mini(&t->m, "where.ScalarOther", PT2_FLOAT32, ROWS4(LEN), 3,
                      ARG_T("condition", seen(t)), ARG_T("self", scores),
                      ARG_F("other", -3.4028234663852886e+38));
    else if (twist != NO_MASK)
        scores = add(t, scores, mask, LEN);
    if (twist == TWO_MASKS)
        scores = add(t, scores, mask, LEN);
    if (twist == SCALED_AFTER_MASK)
        scores = with(t, "mul.Tensor", scores, 0.5);
    scores = mini(&t->m, "softmax.int", PT2_FLOAT32, ROWS4(LEN), 2, ARG_T("self", scores),
                  ARG_I("dim", -1));
    if (twist == TRAINS)
        scores = mini(&t->m, "dropout.default", PT2_FLOAT32, ROWS4(LEN), 3,
                      ARG_T("input", scores), ARG_F("p", 0.1), ARG_B("train", true));
    if (twist == CHANGED_PROBABILITIES)
        scores = with(t, "mul.Tensor", scores, 0.5);
    return scores;
}

static uint32_t attend(struct twisted *t, enum twist twist)
{
    struct mini *m = &t->m;
    uint32_t index = m->positions, scores, early = 0;

    if (twist == WRITTEN_ELSEWHERE)
        index = mini(m, "add.Tensor", PT2_INT64, SIZES(3), 2, ARG_T("self", index),
                     ARG_I("other", 1));
    if (twist == TOKENS_AS_POSITIONS)
        index = mini(m, "select.int", PT2_INT64, SIZES(3), 3, ARG_T("self", m->ids),
                     ARG_I("dim", 0), ARG_I("index", 0));
    if (twist == READ_BEFORE_WRITE)
        early = scores_of(t, t->keys);
    t->new_keys = write_rows(t, t->keys, index);
    t->new_values = write_rows(t, t->values, index);
    if (twist == WRITTEN_TWICE)
        write_rows(t, t->values, index);
    if (twist == IS_CAUSAL)
        return mini(m, "scaled_dot_product_attention.default", PT2_FLOAT32, ROWS4(DIM), 4,
                    ARG_T("query", t->x), ARG_T("key", t->keys), ARG_T("value", t->values),
                    ARG_B("is_causal", true));
    if (twist == QUERY_WITHOUT_DIMS)
        for (int d = 0; d < 4; d++)
            t->x = mini(m, "select.int", PT2_FLOAT32, NO_SIZES, 3, ARG_T("self", t->x),
                        ARG_I("dim", d < 2 ? 2 : 0), ARG_I("index", d ? 0 : -1));
    if (twist == SDPA || twist == QUERY_WITHOUT_DIMS)
        return mini(m, "scaled_dot_product_attention.default", PT2_FLOAT32, ROWS4(DIM), 4,
                    ARG_T("query", t->x), ARG_T("key", t->keys),
                    ARG_T("value", t->new_values), ARG_T("attn_mask", seen(t)));
    scores = twist == READ_BEFORE_WRITE ? early
             : twist == ADDED_TO_ZEROS || twist == ADDED_TO_ONES ||
                     twist == ADDED_TO_WRITTEN_ZEROS
                 ? added_to(t, t->new_keys)
                 : scores_of(t, t->new_keys);
    scores = twist_scores(t, twist, scores);
    return mini(m, "matmul.default", PT2_FLOAT32, ROWS4(DIM), 2, ARG_T("self", scores),
                ARG_T("other", twist == UNUSED_CACHE ? t->new_keys : t->new_values));
}

/* An archive of zeros for the inputs; each its own fqn, and record unless buffers share one. */
static void write_zeros(const char *path, const struct pt2_program *program, bool shares)
{
    static const char zeros[LEN * DIM * sizeof(float)];

    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    struct pt2_payload_entry entries[2][4];
    size_t n[2] = {0};
    struct pt2_writer *w;
    struct pt2_err err = {0};
    uint8_t sha[32];
    uint64_t bytes;
    size_t len;
    char *json;

    ck_assert(fd >= 0 && pt2_program_to_json(program, &json, &len, &err) == 0);
    ck_assert(pt2_writer_new(fd, "model", &w, &err) == 0 && pt2_writer_fixed(w, &err) == 0);
    ck_assert(pt2_writer_model(w, json, len, &err) == 0);
    for (unsigned table = 0; table < 2; table++) {
        for (uint32_t i = 0; i < pt2_program_n_inputs(program); i++) {
            const struct pt2_input *in = pt2_program_input(program, i);
            const struct pt2_tensor_meta *meta = &pt2_program_value(program, in->value)->meta;
            struct pt2_payload_entry *e = &entries[table][n[table]];

            if (in->kind != (table ? PT2_INPUT_BUFFER : PT2_INPUT_PARAMETER))
                continue;
            *e = (struct pt2_payload_entry){.fqn = in->fqn, .record = (uint32_t)n[table],
                                            .dtype = meta->dtype, .n_dims = meta->n_dims,
                                            .is_param = !table};
            for (unsigned d = 0; d < meta->n_dims; d++)
                e->sizes[d] = meta->sizes[d].value;
            if (table && shares)
                e->record = 0;
            if (n[table]++ > e->record)
                continue;
            ck_assert(pt2_writer_begin_tensor(
                          w, table ? PT2_TABLE_CONSTANTS : PT2_TABLE_WEIGHTS, e->record,
                          table && shares ? sizeof(zeros) : 0, &err) == 0 &&
                      (!table || !shares ||
                       pt2_writer_add(w, zeros, sizeof(zeros), &err) == 0) &&
                      pt2_writer_end(w, &err) == 0);
        }
        ck_assert(pt2_writer_payloads(w, table ? PT2_TABLE_CONSTANTS : PT2_TABLE_WEIGHTS,
                                      entries[table], n[table], &err) == 0);
    }
    ck_assert_msg(pt2_writer_finish(w, sha, &bytes, &err) == 0, "%s", err.text);
    pt2_writer_free(w);
    close(fd);
    free(json);
}

static void add_mutations(struct twisted *t)
{
    bool swaps = t->twist == MUTATION_OF_ANOTHER;
    struct pt2_err err = {0};

    if (t->twist != FUNCTIONAL && !swaps)
        return;
    ck_assert(pt2_program_add_output(t->m.program, PT2_OUTPUT_BUFFER_MUTATION,
                                     swaps ? t->new_values : t->new_keys, "key_cache_0",
                                     &err) == 0 &&
              pt2_program_add_output(t->m.program, PT2_OUTPUT_BUFFER_MUTATION,
                                     swaps ? t->new_keys : t->new_values, "value_cache_0",
                                     &err) == 0);
}

/* One attention, over both caches: of the scale, cap and window that the spelling says. */
static void check_spelling(const struct plan_run *r, enum twist twist, int result,
                           const struct pt2_err *err)
{
    const struct plan_step *attend = NULL;
    size_t n_stores = 0;

    ck_assert_msg(result == 0, "%s", err->text);
    for (size_t i = 0; i < r->plan->n_steps; i++) {
        const struct plan_step *s = &r->plan->steps[i];

        n_stores += s->op == PLAN_STORE;
        if (s->op == PLAN_ATTEND)
            attend = s;
    }
    ck_assert_uint_eq(n_stores, 2);
    ck_assert_ptr_nonnull(attend);
    ck_assert_uint_eq(r->plan->n_caches, 1);
    ck_assert_str_eq(r->plan->caches[0].key_fqn, "key_cache_0");
    ck_assert_int_eq(attend->attend.window, twist == WINDOW ? 6 : 0);
    ck_assert_float_eq_tol(attend->attend.soft_cap, twist == SOFT_CAP ? 20 : 0, 1e-5f);
    ck_assert_float_eq_tol(attend->attend.scale,
                           twist == SCALED || twist == SOFT_CAP ||
                                   twist == SCALED_IN_PLACE || twist == ADDED_TO_ZEROS ||
                                   twist == IN_PLACE /* the queries */
                               ? 2
                           : twist == SDPA                      ? 0.5f /* 1 / sqrt(4) */
                                                                : 1,
                           1e-6f);
}

START_TEST(test_plan_graphs_twisted)
{
    static const char *const texts[N_TWISTS] = {
        [NO_MASK] = "without a mask",
        [TWO_MASKS] = "masked twice",
        [SCALED_AFTER_MASK] = "scaled after their mask",
        [READ_BEFORE_WRITE] = "before it is written",
        [WRITTEN_TWICE] = "'value_cache_0' is written twice",
        [WRITTEN_ELSEWHERE] = "not the run's positions",
        [TRAINS] = "a dropout in training",
        [CHANGED_PROBABILITIES] = "probabilities changed",
        [READ_AFTER_WRITE_IN_PLACE] = "node 'mul_' (torch.ops.aten.mul_.Tensor): written in "
                                      "place, and read later",
        [UNKNOWN_OP] = "torch.ops.aten.erfinv.default",
        [LAST_ROW_BESIDE_ALL] = "the last row beside all rows",
        [MIXES_SEQUENCE] = "mixes batch or sequence",
        [TOKENS_AS_POSITIONS] = "depends on tokens",
        [IS_CAUSAL] = "attention without a mask",
        [UNUSED_CACHE] = "are no pair",
        [MUTATION_OF_ANOTHER] = "ends a run as something else",
        [ROLLS_ALWAYS] = "does not roll cache 'key_cache_0' by one row",
        [ROLLED_AFTER_WRITE] = "rolled after it was written",
        [NOTHING_WRITTEN] = "what is written is no row of each token",
        [PERMUTED_TWICE] = "aten.permute.default): dimensions",
        [EXPANDED_BELOW_ZERO] = "an expansion to -7",
        [MANY_STEPS] = "a plan of more than",
        [STACKED_UNEVEN] = "parts of different shapes",
        [QUERY_WITHOUT_DIMS] = "attention that is not over caches",
        [NO_OPERAND] = "aten.rsqrt.default): no operand",
        [CONSTANT_PERMUTED_TWICE] = "aten.permute.default): dimensions",
        [PRODUCT_OF_BOOLS] = "a product that is no float",
        [NEGATIVE_SIZES] = "aten.view.default): a size of -2",
        [WIDE_CACHE] = "'value_cache_0' has rows of more than",
        [SCORES_READ_AFTER_WRITE_IN_PLACE] = "written in place, and read later",
        [ADDED_TO_ONES] = "scores that do not start from zeros",
        [ADDED_TO_WRITTEN_ZEROS] = "scores that do not start from zeros",
        [INDEXED_BACKWARDS] = "indices that do not follow one another",
        [INDEXED_TWICE] = "two lists of indices",
        [SHARED_MEMORY] = "'key_cache_0' is written and shares its memory with 'value_cache_0'",
        [NOT_WRITTEN_BACK] = "aten.index_copy.default): the op is not compiled",
    };
    struct twisted t;
    struct pt2_err err = {0};
    struct plan_run r;
    uint32_t out;
    int result;

    t.twist = (enum twist)_i;
    make_input(&t);
    twist_input(&t, (enum twist)_i);
    twist_dims(&t, (enum twist)_i);
    out = attend(&t, (enum twist)_i);
    out = mini(&t.m, "squeeze.dim", PT2_FLOAT32, SIZES(1, 3, DIM), 2, ARG_T("self", out),
               ARG_I("dim", 1));
    out = mini(&t.m, "linear.default", PT2_FLOAT32, SIZES(1, 3, VOCAB), 2,
               ARG_T("input", out), ARG_T("weight", t.weight));
    add_mutations(&t);
    ck_assert_int_eq(pt2_program_add_output(t.m.program, PT2_OUTPUT_USER, out, NULL, &err), 0);
    write_zeros(plan_scratch(), t.m.program, t.twist == SHARED_MEMORY);
    result = plan_run_open(&r, plan_scratch(), &err);
    if (texts[_i])
        ck_refused(result, &err, texts[_i]);
    else
        check_spelling(&r, t.twist, result, &err);
    plan_run_close(&r);
    mini_done(&t.m);
    unlink(plan_scratch());
}
END_TEST

int main(void)
{
    Suite *s = suite_create("plan_graphs");
    TCase *core = tcase_create("core"), *errors = tcase_create("errors");

    tcase_add_loop_test(core, test_plan_graphs_twisted, SDPA, N_TWISTS);
    tcase_add_loop_test(errors, test_plan_graphs_twisted, 0, SDPA);
    suite_add_tcase(s, core);
    suite_add_tcase(s, errors);
    return suite_run(s);
}
