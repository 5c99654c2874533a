#include "native/eval_impl.h"

#include <math.h>

enum math {
    /* of two */
    ADD, SUB, MUL, DIV, FLOOR_DIVIDE, REMAINDER, POW, MAXIMUM, MINIMUM,
    LE, LT, GE, GT, EQ, NE,
    AND, OR, XOR, LOGICAL_AND, LOGICAL_OR,
    /* of one */
    NEG, ABS, COS, SIN, EXP, SQRT, RSQRT, RECIPROCAL, TANH, LOG, SIGMOID, SQUARE, FLOOR, CEIL,
    EXPM1, SOFTPLUS,
    BITWISE_NOT, LOGICAL_NOT, ISNAN, ISINF,
    N_MATH
};

static const struct {
    const char *name;
    enum math math;
} names[] = {
    {"add", ADD}, {"sub", SUB}, {"rsub", SUB}, {"mul", MUL}, {"div", DIV}, {"true_divide", DIV},
    {"floor_divide", FLOOR_DIVIDE}, {"remainder", REMAINDER}, {"pow", POW},
    {"maximum", MAXIMUM}, {"minimum", MINIMUM},
    {"le", LE}, {"lt", LT}, {"ge", GE}, {"gt", GT}, {"eq", EQ}, {"ne", NE},
    {"bitwise_and", AND}, {"bitwise_or", OR}, {"bitwise_xor", XOR}, {"__and__", AND},
    {"__or__", OR}, {"__xor__", XOR}, {"logical_and", LOGICAL_AND}, {"logical_or", LOGICAL_OR},
    {"neg", NEG}, {"abs", ABS}, {"cos", COS}, {"sin", SIN}, {"exp", EXP}, {"sqrt", SQRT},
    {"rsqrt", RSQRT}, {"reciprocal", RECIPROCAL}, {"tanh", TANH}, {"log", LOG},
    {"sigmoid", SIGMOID}, {"square", SQUARE}, {"floor", FLOOR}, {"ceil", CEIL},
    {"bitwise_not", BITWISE_NOT}, {"logical_not", LOGICAL_NOT}, {"isnan", ISNAN},
    {"isinf", ISINF}, {"expm1", EXPM1}, {"softplus", SOFTPLUS},
    {"scalar.add", ADD}, {"scalar.sub", SUB}, {"scalar.mul", MUL},
    {"scalar.floordiv", FLOOR_DIVIDE}, {"scalar.mod", REMAINDER}, {"scalar.le", LE},
    {"scalar.lt", LT}, {"scalar.ge", GE}, {"scalar.gt", GT}, {"scalar.eq", EQ},
    {"scalar.ne", NE}, {"scalar.neg", NEG}, {"scalar.sym_max", MAXIMUM},
    {"scalar.sym_min", MINIMUM}, {"scalar.and_", AND}, {"scalar.or_", OR},
    {"scalar.sym_not", LOGICAL_NOT},
};

static enum math find(const char *op)
{
    size_t n = strlen(op);

    if (n > 1 && op[n - 1] == '_' && op[n - 2] != '_' && !strchr(op, '.'))
        n--; /* in place */
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strlen(names[i].name) == n && strncmp(names[i].name, op, n) == 0)
            return names[i].math;
    return N_MATH;
}

/* ---- two floats ---- */

static float extreme(float a, float b, bool is_max)
{
    if (a != a || b != b)
        return NAN;
    return is_max == (a > b) ? a : b;
}

/* Inlined with m known, so that the loops below are one instruction an element or two. */
static inline __attribute__((always_inline)) float
of_two(enum math m, float a, float b)
{
    float r;

    switch (m) {
    case ADD:
        return a + b;
    case SUB:
        return a - b;
    case MUL:
        return a * b;
    case DIV:
        return a / b;
    case FLOOR_DIVIDE:
        return floorf(a / b);
    case REMAINDER:
        r = fmodf(a, b);
        return r != 0 && (r < 0) != (b < 0) ? r + b : r;
    case POW:
        return b == 2 ? a * a : b == 3 ? a * a * a : b == 0.5f ? sqrtf(a) : powf(a, b);
    default:
        return extreme(a, b, m == MAXIMUM);
    }
}

static int64_t divide_down(int64_t a, int64_t b)
{
    int64_t q;

    if (b == 0 || (b == -1 && a == INT64_MIN))
        return 0;
    q = a / b;
    return q - (a % b != 0 && (a < 0) != (b < 0));
}

/* of the same sign as b */
static int64_t remainder_down(int64_t a, int64_t b)
{
    int64_t r;

    if (b == 0 || b == -1)
        return 0;
    r = a % b;
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

static int64_t whole_power(int64_t a, int64_t b)
{
    uint64_t r = 1;

    for (; b > 0 && b < 64; b--)
        r *= (uint64_t)a;
    return (int64_t)r;
}

static inline __attribute__((always_inline)) int64_t
of_two_whole(enum math m, int64_t a, int64_t b)
{
    switch (m) {
    case ADD:
        return (int64_t)((uint64_t)a + (uint64_t)b);
    case SUB:
        return (int64_t)((uint64_t)a - (uint64_t)b);
    case MUL:
        return (int64_t)((uint64_t)a * (uint64_t)b);
    case FLOOR_DIVIDE:
        return divide_down(a, b);
    case REMAINDER:
        return remainder_down(a, b);
    case POW:
        return whole_power(a, b);
    case MAXIMUM:
        return MAX(a, b);
    case MINIMUM:
        return MIN(a, b);
    case AND:
        return a & b;
    case OR:
        return a | b;
    case XOR:
        return a ^ b;
    case LOGICAL_AND:
        return a && b;
    default:
        return a || b;
    }
}

#define WHOLE(m)                                                                          \
    case m:                                                                               \
        for (size_t k = 0; k < n; k++)                                                    \
            out->i[k] = of_two_whole(m, in[0].i[k], in[1].i[k]);                          \
        break
#define FLOATS(m)                                                                         \
    case m:                                                                               \
        for (size_t k = 0; k < n; k++)                                                    \
            out->f[k] = of_two(m, in[0].f[k], in[1].f[k]);                                \
        break
#define COMPARES(m, op)                                                                   \
    case m:                                                                               \
        for (size_t k = 0; k < n && in[0].is_int; k++)                                    \
            out->i[k] = in[0].i[k] op in[1].i[k];                                         \
        for (size_t k = 0; k < n && !in[0].is_int; k++)                                   \
            out->i[k] = in[0].f[k] op in[1].f[k];                                         \
        break

static void whole_line(enum math m, const struct line *in, size_t n, struct line *out)
{
    switch (m) {
        WHOLE(ADD);
        WHOLE(SUB);
        WHOLE(MUL);
        WHOLE(FLOOR_DIVIDE);
        WHOLE(REMAINDER);
        WHOLE(POW);
        WHOLE(MAXIMUM);
        WHOLE(MINIMUM);
        WHOLE(AND);
        WHOLE(OR);
        WHOLE(XOR);
        WHOLE(LOGICAL_AND);
    default:
        for (size_t k = 0; k < n; k++)
            out->i[k] = of_two_whole(LOGICAL_OR, in[0].i[k], in[1].i[k]);
    }
}

static void float_line(enum math m, const struct line *in, size_t n, struct line *out)
{
    switch (m) {
        FLOATS(ADD);
        FLOATS(SUB);
        FLOATS(MUL);
        FLOATS(DIV);
        FLOATS(FLOOR_DIVIDE);
        FLOATS(REMAINDER);
        FLOATS(POW);
        FLOATS(MAXIMUM);
    default:
        for (size_t k = 0; k < n; k++)
            out->f[k] = of_two(MINIMUM, in[0].f[k], in[1].f[k]);
    }
}

static void line_of_two(const void *context, struct line *in, size_t n, struct line *out)
{
    enum math m = *(const enum math *)context;

    switch (m) {
        COMPARES(LE, <=);
        COMPARES(LT, <);
        COMPARES(GE, >=);
        COMPARES(GT, >);
        COMPARES(EQ, ==);
        COMPARES(NE, !=);
    default:
        (in[0].is_int ? whole_line : float_line)(m, in, n, out);
    }
}

/* ---- one ---- */

static float of_one(enum math m, float a)
{
    switch (m) {
    case NEG:
        return -a;
    case ABS:
        return fabsf(a);
    case COS: /* torch's vectors are within a unit in the last place of this */
        return (float)cos((double)a);
    case SIN:
        return (float)sin((double)a);
    case EXP:
        return (float)exp((double)a);
    case SQRT:
        return sqrtf(a);
    case RSQRT:
        return 1 / sqrtf(a);
    case RECIPROCAL:
        return 1 / a;
    case TANH:
        return tanhf(a);
    case LOG:
        return (float)log((double)a);
    case SIGMOID:
        return 1 / (1 + expf(-a));
    case SQUARE:
        return a * a;
    case FLOOR:
        return floorf(a);
    case EXPM1:
        return expm1f(a);
    case SOFTPLUS:
        return a > 20 ? a : log1pf(expf(a));
    default:
        return ceilf(a);
    }
}

static void line_of_one(const void *context, struct line *in, size_t n, struct line *out)
{
    enum math m = *(const enum math *)context;

    for (size_t k = 0; k < n; k++)
        if (m == LOGICAL_NOT)
            out->i[k] = in->is_int ? in->i[k] == 0 : in->f[k] == 0;
        else if (m == ISNAN || m == ISINF)
            out->i[k] = !in->is_int && (m == ISNAN ? in->f[k] != in->f[k]
                                                   : isinf(in->f[k]) != 0);
        else if (!in->is_int)
            out->f[k] = of_one(m, in->f[k]);
        else
            out->i[k] = m == NEG           ? of_two_whole(SUB, 0, in->i[k])
                        : m == ABS         ? in->i[k] < 0 ? of_two_whole(SUB, 0, in->i[k])
                                                          : in->i[k]
                        : m == SQUARE      ? of_two_whole(MUL, in->i[k], in->i[k])
                        : m == BITWISE_NOT ? ~in->i[k]
                                           : in->i[k];
}

static void line_not(const void *context, struct line *in, size_t n, struct line *out)
{
    (void)context;
    for (size_t k = 0; k < n; k++)
        out->i[k] = !in->i[k];
}

/* ---- nodes ---- */

/* Where the result goes: new memory, or the tensor that the node writes. */
static int make_out(struct eval *e, const struct pt2_node *node, const struct tensor *ins,
                    unsigned n_ins, struct tensor *ret, struct pt2_err *err)
{
    int64_t sizes[PT2_MAX_DIMS];
    unsigned n_dims;

    if (node_written(node) >= 0) {
        *ret = ins[0];
        e->work += (uint64_t)tensor_n(ret);
        return 0;
    }
    if (tensor_broadcast(ins, n_ins, &n_dims, sizes, node, err) < 0)
        return -1;
    return tensor_new(e, eval_out_dtype(e, node), n_dims, sizes, ret, err);
}

/* The operands, whatever they are called: self and other, self and exponent, a and b. */
static int operands(struct eval *e, const struct pt2_node *node, struct tensor *ins,
                    struct pt2_err *err)
{
    const char *second = node_arg(node, "exponent") ? "exponent" : "other";

    if (node_arg(node, "self"))
        return eval_arg(e, node, "self", &ins[0], err) < 0 ||
                       eval_arg(e, node, second, &ins[1], err) < 0
                   ? -1
                   : 0;
    if (node->n_inputs < 2)
        return eval_refuse(err, node, "one operand");
    for (unsigned i = 0; i < 2; i++)
        if (eval_arg(e, node, node->inputs[i].name, &ins[i], err) < 0)
            return -1;
    return 0;
}

static int scale_other(struct eval *e, const struct pt2_node *node, struct tensor *other,
                       struct pt2_err *err)
{
    enum math mul = MUL;
    struct tensor ins[2] = {*other}, out;
    bool whole[2];

    if (!node_arg(node, "alpha"))
        return 0;
    if (eval_arg(e, node, "alpha", &ins[1], err) < 0)
        return -1;
    whole[0] = whole[1] = !tensor_is_float(&ins[0]) && !tensor_is_float(&ins[1]);
    if (tensor_new(e, whole[0] ? PT2_INT64 : PT2_FLOAT32, ins[0].n_dims, ins[0].sizes, &out,
                   err) < 0 ||
        tensor_map(&out, whole[0], ins, whole, 2, line_of_two, &mul, node, err) < 0)
        return -1;
    *other = out;
    return 0;
}

static int run_two(struct eval *e, const struct pt2_node *node, struct tensor *ret,
                   struct pt2_err *err)
{
    struct node_op op = node_op(node);
    enum math m = find(op.name);
    bool compares = m >= LE && m <= NE, whole[2];
    struct tensor ins[2];
    const struct pt2_arg *rounding = node_arg(node, "rounding_mode");

    if (operands(e, node, ins, err) < 0 || scale_other(e, node, &ins[1], err) < 0 ||
        make_out(e, node, ins, 2, ret, err) < 0)
        return -1;
    if (streq(op.name, "rsub")) {
        struct tensor self = ins[0];

        if (node_arg(node, "alpha"))
            return eval_refuse(err, node, "a factor");
        ins[0] = ins[1];
        ins[1] = self;
    }
    if (rounding) {
        if (rounding->kind != PT2_ARG_STRING || !streq(rounding->s, "floor"))
            return eval_refuse(err, node, "rounding that is not 'floor'");
        m = FLOOR_DIVIDE;
    }
    whole[0] = compares || m == LOGICAL_AND || m == LOGICAL_OR
                   ? !tensor_is_float(&ins[0]) && !tensor_is_float(&ins[1])
                   : !tensor_is_float(ret);
    if (m == LOGICAL_AND || m == LOGICAL_OR || (m >= AND && m <= XOR))
        if (!whole[0])
            return eval_refuse(err, node, "logic on floats");
    if (m == DIV && whole[0])
        return eval_refuse(err, node, "a division into whole numbers");
    whole[1] = whole[0];
    return tensor_map(ret, compares || whole[0], ins, whole, 2, line_of_two, &m, node, err);
}

static int run_one(struct eval *e, const struct pt2_node *node, struct tensor *ret,
                   struct pt2_err *err)
{
    struct node_op op = node_op(node);
    enum math m = find(op.name);
    struct tensor in;
    bool whole, answers = m == LOGICAL_NOT || m == ISNAN || m == ISINF;
    double beta, threshold;

    if (node->n_inputs < 1)
        return eval_refuse(err, node, "no operand");
    if (m == SOFTPLUS && (!node_float(node, "beta", 1, &beta) || beta != 1 ||
                          !node_float(node, "threshold", 20, &threshold) || threshold != 20))
        return eval_refuse(err, node, "numbers that are not the usual ones");
    if (eval_arg(e, node, node->inputs[0].name, &in, err) < 0 ||
        make_out(e, node, &in, 1, ret, err) < 0)
        return -1;
    whole = !tensor_is_float(answers ? &in : ret);
    if (m == BITWISE_NOT && in.storage->dtype == PT2_BOOL)
        return tensor_map(ret, true, &in, &whole, 1, line_not, NULL, node, err);
    if (m == BITWISE_NOT && !whole)
        return eval_refuse(err, node, "logic on floats");
    return tensor_map(ret, whole || answers, &in, &whole, 1, line_of_one, &m, node, err);
}

/* ---- choosing ---- */

static void line_where(const void *context, struct line *in, size_t n, struct line *out)
{
    (void)context;
    for (size_t k = 0; k < n; k++)
        if (out->is_int)
            out->i[k] = in[in[0].i[k] ? 1 : 2].i[k];
        else
            out->f[k] = in[in[0].i[k] ? 1 : 2].f[k];
}

static int choose(struct eval *e, const struct pt2_node *node, struct tensor *ins,
                  struct tensor *ret, struct pt2_err *err)
{
    bool whole[3] = {true}, in_place = node_written(node) >= 0;
    struct tensor target = ins[2];

    if (in_place)
        *ret = target;
    else if (make_out(e, node, ins, 3, ret, err) < 0)
        return -1;
    whole[1] = whole[2] = !tensor_is_float(ret);
    return tensor_map(ret, whole[1], ins, whole, 3, line_where, NULL, node, err);
}

static int run_where(struct eval *e, const struct pt2_node *node, struct tensor *ret,
                     struct pt2_err *err)
{
    struct tensor ins[3];

    if (eval_arg(e, node, "condition", &ins[0], err) < 0 ||
        eval_arg(e, node, "self", &ins[1], err) < 0 ||
        eval_arg(e, node, "other", &ins[2], err) < 0)
        return -1;
    return choose(e, node, ins, ret, err);
}

static int run_masked_fill(struct eval *e, const struct pt2_node *node, struct tensor *ret,
                           struct pt2_err *err)
{
    struct tensor ins[3];

    if (eval_arg(e, node, "mask", &ins[0], err) < 0 ||
        eval_arg(e, node, "value", &ins[1], err) < 0 ||
        eval_arg(e, node, "self", &ins[2], err) < 0)
        return -1;
    return choose(e, node, ins, ret, err);
}

static int run_clamp(struct eval *e, const struct pt2_node *node, struct tensor *ret,
                     struct pt2_err *err)
{
    enum math max = MAXIMUM, min = MINIMUM;
    struct tensor ins[2];
    bool whole[2];

    if (eval_arg(e, node, "self", &ins[0], err) < 0 || make_out(e, node, ins, 1, ret, err) < 0)
        return -1;
    whole[0] = whole[1] = !tensor_is_float(ret);
    if (tensor_copy(ret, &ins[0], node, err) < 0)
        return -1;
    ins[0] = *ret;
    if (node_arg(node, "min") &&
        (eval_arg(e, node, "min", &ins[1], err) < 0 ||
         tensor_map(ret, whole[0], ins, whole, 2, line_of_two, &max, node, err) < 0))
        return -1;
    if (node_arg(node, "max") &&
        (eval_arg(e, node, "max", &ins[1], err) < 0 ||
         tensor_map(ret, whole[0], ins, whole, 2, line_of_two, &min, node, err) < 0))
        return -1;
    return 0;
}

eval_fn *eval_math_find(const char *op)
{
    enum math m = find(op);

    if (streq(op, "where"))
        return run_where;
    if (streq(op, "masked_fill") || streq(op, "masked_fill_"))
        return run_masked_fill;
    if (streq(op, "clamp") || streq(op, "clamp_") || streq(op, "clamp_min"))
        return run_clamp;
    return m == N_MATH ? NULL : m < NEG ? run_two : run_one;
}
