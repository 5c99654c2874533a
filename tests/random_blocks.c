#include "random_graph.h"

/* ---- single ops ---- */

struct val gen_to(struct gen *g, struct val x, enum pt2_dtype dtype)
{
    struct val shape = x;

    shape.dtype = dtype;
    return OP(g, shape, "to.dtype", ARG_T("self", x.v), ARG_DTYPE("dtype", dtype));
}

struct val gen_unary(struct gen *g, const char *op, struct val x)
{
    char name[40];

    snprintf(name, sizeof(name), "%s.default", op);
    return OP(g, x, name, ARG_T("self", x.v));
}

static struct val broadcast(struct val a, struct val b)
{
    struct val shape = a.n >= b.n ? a : b;

    for (unsigned d = 0; d < shape.n; d++) {
        int at_a = (int)d - (int)(shape.n - a.n), at_b = (int)d - (int)(shape.n - b.n);
        int64_t in_a = at_a < 0 ? 1 : a.sizes[at_a], in_b = at_b < 0 ? 1 : b.sizes[at_b];

        ck_assert(in_a == in_b || in_a == 1 || in_b == 1);
        shape.sizes[d] = in_a == 1 ? in_b : in_a;
    }
    return shape;
}

struct val gen_binary(struct gen *g, const char *op, struct val a, struct val b)
{
    bool is_extreme = strstr(op, "imum") != NULL;
    char name[40];

    if (is_extreme && gen_chance(g, 50))
        snprintf(name, sizeof(name), "%.3s.other", op);
    else
        snprintf(name, sizeof(name), is_extreme ? "%s.default" : "%s.Tensor", op);
    return OP(g, broadcast(a, b), name, ARG_T("self", a.v), ARG_T("other", b.v));
}

struct val gen_number(struct gen *g, const char *op, struct val x, double number)
{
    bool is_whole = x.dtype == PT2_INT64 ||
                    (number == (double)(int64_t)number && gen_chance(g, 50));
    char name[40];

    snprintf(name, sizeof(name), "%s.%s", op, gen_chance(g, 80) ? "Tensor" : "Scalar");
    return OP(g, x, name, ARG_T("self", x.v),
              is_whole ? ARG_I("other", (int64_t)number) : ARG_F("other", number));
}

struct val gen_reshape(struct gen *g, struct val x, unsigned n, const int64_t *sizes)
{
    struct val shape = gen_shape(x.dtype, n, sizes);

    if (gen_chance(g, 50))
        return OP(g, shape, "reshape.default", ARG_T("self", x.v),
                  gen_ints(g, "shape", n, sizes));
    if (gen_chance(g, 50)) { /* what a view needs */
        x = gen_chance(g, 50)
                ? gen_unary(g, "contiguous", x)
                : OP(g, x, "clone.default", ARG_T("self", x.v),
                     ARG("memory_format", .kind = PT2_ARG_MEMORY_FORMAT, .i = 1));
        return OP(g, shape, gen_chance(g, 50) ? "view.default" : "_unsafe_view.default",
                  ARG_T("self", x.v), gen_ints(g, "size", n, sizes));
    }
    return OP(g, shape, "reshape.default", ARG_T("self", x.v),
              gen_ints(g, "shape", n, sizes));
}

struct val gen_turn(struct gen *g, struct val x, unsigned a, unsigned b)
{
    struct val shape = x;
    int64_t order[PT2_MAX_DIMS];

    shape.sizes[a] = x.sizes[b];
    shape.sizes[b] = x.sizes[a];
    if (gen_chance(g, 60))
        return OP(g, shape, "transpose.int", ARG_T("self", x.v),
                  ARG_I("dim0", gen_chance(g, 50) ? (int64_t)a : (int64_t)a - x.n),
                  ARG_I("dim1", b));
    for (unsigned d = 0; d < x.n; d++)
        order[d] = d == a ? b : d == b ? a : d;
    return OP(g, shape, "permute.default", ARG_T("self", x.v),
              gen_ints(g, "dims", x.n, order));
}

struct val gen_slice(struct gen *g, struct val x, int64_t from, int64_t n)
{
    int64_t size = x.sizes[x.n - 1], last = (int64_t)x.n - 1;
    bool to_end = from + n == size && gen_chance(g, 50);

    if (gen_chance(g, 15))
        return OP(g, gen_wide(x, n), "narrow.default", ARG_T("self", x.v),
                  ARG_I("dim", -1), ARG_I("start", from), ARG_I("length", n));
    return OP(g, gen_wide(x, n), "slice.Tensor", ARG_T("self", x.v),
              ARG_I("dim", gen_chance(g, 50) ? -1 : last),
              ARG_I("start", gen_chance(g, 20) && from > 0 ? from - size : from),
              ARG_I("end", to_end ? INT64_MAX : from + n));
}

void gen_cut(struct gen *g, struct val x, unsigned n, const int64_t *sizes, struct val *ret)
{
    bool is_even = true;
    unsigned how = gen_below(g, 3);
    int64_t at = 0;

    for (unsigned i = 1; i < n; i++)
        is_even = is_even && sizes[i] == sizes[0];
    if (how == 1 && !is_even)
        how = 0;
    for (unsigned i = 0; i < n; at += sizes[i++])
        if (how == 2)
            ret[i] = gen_slice(g, x, at, sizes[i]);
        else if (how == 1 && n % 2 == 0)
            ret[i] = OP(g, gen_wide(x, sizes[i]), "chunk.default", ARG_T("self", x.v),
                        ARG_I("chunks", n), ARG_I("dim", -1));
        else if (how == 1)
            ret[i] = OP(g, gen_wide(x, sizes[i]), "split.Tensor", ARG_T("self", x.v),
                        ARG_I("split_size", sizes[0]), ARG_I("dim", -1));
        else
            ret[i] = OP(g, gen_wide(x, sizes[i]), "split_with_sizes.default",
                        ARG_T("self", x.v), gen_ints(g, "split_sizes", n, sizes),
                        ARG_I("dim", -1));
}

struct val gen_cat(struct gen *g, unsigned n, const struct val *parts)
{
    struct val shape = gen_wide(parts[0], 0);

    for (unsigned i = 0; i < n; i++)
        shape.sizes[shape.n - 1] += parts[i].sizes[shape.n - 1];
    return OP(g, shape, "cat.default", gen_tensors(g, "tensors", n, parts),
              ARG_I("dim", gen_chance(g, 60) ? -1 : (int64_t)shape.n - 1));
}

/* ---- linears ---- */

/* A matrix (out, k), or (k, out) where it is given turned. */
static struct val matrix(struct gen *g, int64_t k, int64_t out, bool is_turned)
{
    double spread = 1.7 / sqrt((double)k);
    struct val w;

    if (is_turned && gen_chance(g, 50))
        return gen_param(g, 0, spread, SIZES(k, out));
    switch (gen_below(g, 6)) {
    case 0: /* a part of a larger one */
        w = gen_param(g, 0, spread, SIZES(out + 8, k));
        w = OP(g, gen_shape(w.dtype, SIZES(out, k)), "slice.Tensor", ARG_T("self", w.v),
               ARG_I("dim", 0), ARG_I("start", 3), ARG_I("end", 3 + out));
        break;
    case 1: /* one that is computed */
        w = gen_number(g, "mul", gen_param(g, 0, spread * 2, SIZES(out, k)), 0.5);
        break;
    default:
        w = gen_param(g, 0, spread, SIZES(out, k));
    }
    if (!is_turned)
        return w;
    if (gen_chance(g, 50))
        return OP(g, gen_shape(w.dtype, SIZES(k, out)), "t.default", ARG_T("self", w.v));
    return gen_turn(g, w, 0, 1);
}

/* By products of flat matrices: addmm, mm. */
static struct val flat_linear(struct gen *g, struct val x, struct val w, bool has_bias)
{
    int64_t out = w.sizes[1], rows = g->s == -1 ? -1 : g->s * g->batch;
    struct val flat = x, shape, bias;

    if (x.n != 2) {
        rows = x.sizes[1] == 1 ? g->batch : rows;
        flat = gen_reshape(g, x, SIZES(rows, x.sizes[x.n - 1]));
    }
    shape = gen_wide(flat, out);
    if (has_bias) {
        bias = gen_param(g, 0, 0.5, SIZES(out));
        flat = OP(g, shape, "addmm.default", ARG_T("self", bias.v), ARG_T("mat1", flat.v),
                  ARG_T("mat2", w.v));
    } else {
        flat = OP(g, shape, "mm.default", ARG_T("self", flat.v), ARG_T("mat2", w.v));
    }
    if (x.n == 2)
        return flat;
    return gen_reshape(g, flat, SIZES(g->batch, x.sizes[1], out));
}

struct val gen_linear(struct gen *g, struct val x, int64_t out)
{
    int64_t k = x.sizes[x.n - 1];
    struct val w, bias;
    bool has_bias = gen_chance(g, 40),
         may_be_flat = x.n == 2 || (x.n == 3 && (g->batch == 1 || x.sizes[1] != -1));

    if (may_be_flat && gen_chance(g, 25))
        return flat_linear(g, x, matrix(g, k, out, true), has_bias);
    if (gen_chance(g, 25)) {
        w = matrix(g, k, out, true);
        x = OP(g, gen_wide(x, out), "matmul.default", ARG_T("self", x.v),
               ARG_T("other", w.v));
        return has_bias ? gen_binary(g, "add", x, gen_param(g, 0, 0.5, SIZES(out))) : x;
    }
    w = matrix(g, k, out, false);
    if (!has_bias)
        return OP(g, gen_wide(x, out), "linear.default", ARG_T("input", x.v),
                  ARG_T("weight", w.v));
    bias = gen_param(g, 0, 0.5, SIZES(out));
    return OP(g, gen_wide(x, out), "linear.default", ARG_T("input", x.v),
              ARG_T("weight", w.v), ARG_T("bias", bias.v));
}

/* ---- over the last dimension ---- */

static struct val over_last(struct gen *g, const char *op, struct val x)
{
    bool keeps = gen_chance(g, 70), is_max = strcmp(op, "amax") == 0;
    struct val shape = gen_wide(x, 1);
    char name[40];

    snprintf(name, sizeof(name), "%s.%s", op,
             is_max                       ? "default"
             : strcmp(op, "mean") == 0 ? "dim"
                                          : "dim_IntList");
    shape.n -= !keeps;
    shape = OP(g, shape, name, ARG_T("self", x.v),
               gen_ints(g, "dim", SIZES(gen_chance(g, 50) ? -1 : (int64_t)x.n - 1)),
               ARG_B("keepdim", keeps));
    if (keeps)
        return shape;
    return OP(g, gen_wide(x, 1), "unsqueeze.default", ARG_T("self", shape.v),
              ARG_I("dim", -1));
}

static struct val square(struct gen *g, struct val x)
{
    switch (gen_below(g, 3)) {
    case 0:
        return gen_binary(g, "mul", x, x);
    case 1:
        return gen_unary(g, "square", x);
    default:
        return OP(g, x, "pow.Tensor_Scalar", ARG_T("self", x.v),
                  gen_chance(g, 50) ? ARG_I("exponent", 2) : ARG_F("exponent", 2));
    }
}

/* x over the root of the mean of its squares. */
static struct val root_mean(struct gen *g, struct val x)
{
    struct val mean = over_last(g, "mean", square(g, x));

    mean = gen_number(g, "add", mean, 1e-5);
    if (gen_chance(g, 20))
        return gen_binary(g, "div", x, gen_unary(g, "sqrt", mean));
    if (gen_chance(g, 20))
        mean = OP(g, mean, "pow.Tensor_Scalar", ARG_T("self", mean.v),
                  ARG_F("exponent", -0.5));
    else
        mean = gen_unary(g, "rsqrt", mean);
    return gen_chance(g, 70) ? gen_binary(g, "mul", x, mean) : gen_binary(g, "mul", mean, x);
}

static struct val spelled_norm(struct gen *g, struct val x_in)
{
    struct val x = x_in, weight;
    bool is_early = gen_chance(g, 50);

    if (g->dtype != PT2_FLOAT32 || gen_chance(g, 20))
        x = gen_to(g, x, PT2_FLOAT32);
    if (gen_chance(g, 15))
        x = gen_binary(g, "sub", x, over_last(g, "mean", x));
    x = root_mean(g, x);
    if (is_early)
        x = gen_to(g, x, g->dtype);
    if (gen_chance(g, 80)) {
        if (gen_chance(g, 30))
            weight = gen_number(g, "add", gen_param(g, 0, 0.3, SIZES(x.sizes[x.n - 1])), 1);
        else
            weight = gen_param(g, 1, 0.3, SIZES(x.sizes[x.n - 1]));
        if (!is_early)
            weight = gen_to(g, weight, PT2_FLOAT32);
        x = gen_chance(g, 50) ? gen_binary(g, "mul", x, weight)
                              : gen_binary(g, "mul", weight, x);
    }
    if (gen_chance(g, 10))
        x = gen_binary(g, "add", x, gen_to(g, gen_param(g, 0, 0.3, SIZES(x.sizes[x.n - 1])),
                                           x.dtype));
    return x.dtype == g->dtype ? x : gen_to(g, x, g->dtype);
}

struct val gen_norm(struct gen *g, struct val x)
{
    int64_t size = x.sizes[x.n - 1];
    bool has_weight = gen_chance(g, 80), has_bias = has_weight && gen_chance(g, 60);
    bool is_rms = gen_chance(g, 40);
    struct pt2_named_arg args[5] = {ARG_T("input", x.v),
                                    gen_ints(g, "normalized_shape", SIZES(size))};
    unsigned n = 2;

    if (gen_chance(g, 60))
        return spelled_norm(g, x);
    if (has_weight)
        args[n++] = ARG_T("weight", gen_param(g, 1, 0.3, SIZES(size)).v);
    if (has_bias && !is_rms)
        args[n++] = ARG_T("bias", gen_param(g, 0, 0.3, SIZES(size)).v);
    if (gen_chance(g, 70))
        args[n++] = ARG_F("eps", gen_chance(g, 50) ? 1e-6 : 1e-3);
    return gen_op(g, x, is_rms ? "rms_norm.default" : "layer_norm.default", n, args);
}

/* ---- arithmetic ---- */

/* (x * 0.5) * (tanh((x + x^3 * 0.044715) * sqrt(2 / pi)) + 1) */
static struct val gelu_by_tanh(struct gen *g, struct val x)
{
    struct val y = OP(g, x, "pow.Tensor_Scalar", ARG_T("self", x.v), ARG_F("exponent", 3));

    y = gen_binary(g, "add", x, gen_number(g, "mul", y, 0.044715));
    y = gen_unary(g, "tanh", gen_number(g, "mul", y, 0.7978845608028654));
    y = gen_number(g, "add", y, 1);
    x = gen_number(g, "mul", x, 0.5);
    return gen_chance(g, 70) ? gen_binary(g, "mul", x, y) : gen_binary(g, "mul", y, x);
}

static struct val activation(struct gen *g, struct val x)
{
    static const char *const ops[] = {"silu", "sigmoid", "tanh", "relu", "softplus"};
    unsigned i = gen_below(g, 8);

    if (i < ARRAY_LEN(ops))
        return gen_unary(g, ops[i], x);
    if (i == 5)
        return gen_binary(g, "mul", x, gen_unary(g, "sigmoid", x));
    if (i == 6 && gen_chance(g, 40))
        return gelu_by_tanh(g, x);
    if (i == 6)
        return OP(g, x, "gelu.default", ARG_T("self", x.v), ARG_STR("approximate", "tanh"));
    return gen_unary(g, "gelu", x);
}

/* Bounded, so that what follows is well conditioned. */
static struct val one_op(struct gen *g, struct val x)
{
    static const char *const plain[] = {"neg", "abs", "cos", "sin", "tanh", "sigmoid"};

    switch (gen_below(g, 16)) {
    case 0:
        return activation(g, x);
    case 1:
        return gen_unary(g, "exp", gen_unary(g, "neg", gen_unary(g, "abs", x)));
    case 2:
        return gen_unary(g, "sqrt", gen_number(g, "add", gen_unary(g, "abs", x), 0.5));
    case 3:
        return gen_unary(g, "rsqrt", gen_number(g, "add", square(g, x), 1));
    case 4:
        return gen_unary(g, "log", gen_number(g, "add", gen_unary(g, "abs", x), 1.5));
    case 5:
        x = gen_unary(g, "tanh", x);
        return OP(g, x, "pow.Tensor_Scalar", ARG_T("self", x.v), ARG_I("exponent", 3));
    case 6:
        return OP(g, x, "clamp.default", ARG_T("self", x.v), ARG_F("min", -0.75),
                  ARG_F("max", gen_real(g, 0.2, 2)));
    case 7:
        return gen_number(g, gen_chance(g, 50) ? "add" : "sub", x, gen_real(g, -1, 1));
    case 8:
        return gen_number(g, gen_chance(g, 50) ? "mul" : "div", x, gen_real(g, 0.5, 1.5));
    case 9:
        return OP(g, x, "rsub.Scalar", ARG_T("self", x.v), ARG_F("other", gen_real(g, 0, 2)));
    case 10:
        return OP(g, x, "clamp_min.default", ARG_T("self", x.v), ARG_F("min", -0.5));
    case 11: /* in place, into what nobody else reads */
        x = gen_unary(g, "tanh", x);
        return gen_chance(g, 50)
                   ? OP(g, x, "mul_.Tensor", ARG_T("self", x.v), ARG_F("other", 1.25))
                   : OP(g, x, "add_.Tensor", ARG_T("self", x.v), ARG_F("other", -0.25));
    case 12:
        return gelu_by_tanh(g, x);
    default:
        return gen_unary(g, plain[gen_below(g, ARRAY_LEN(plain))], x);
    }
}

static struct val chain(struct gen *g, struct val x)
{
    static const char *const ops[] = {"add", "sub", "mul", "maximum", "minimum"};
    struct val before = x, other;

    for (unsigned i = gen_below(g, 4); i-- > 0;)
        x = one_op(g, x);
    switch (gen_below(g, 3)) {
    case 0:
        other = gen_number(g, "mul", one_op(g, before), 0.375); /* else x + (1 - x) */
        break;
    case 1:
        other = gen_param(g, 0, 1, SIZES(x.sizes[x.n - 1]));
        break;
    default:
        return x;
    }
    return gen_chance(g, 50) ? gen_binary(g, ops[gen_below(g, 5)], x, other)
                             : gen_binary(g, ops[gen_below(g, 5)], other, x);
}

struct val gen_mlp(struct gen *g, struct val x)
{
    int64_t inner = g->dim + 8 * gen_below(g, 4);
    struct val parts[2];

    if (gen_chance(g, 30))
        return gen_linear(g, activation(g, gen_linear(g, x, inner)), g->dim);
    if (gen_chance(g, 40)) {
        gen_cut(g, gen_linear(g, x, 2 * inner), 2, (int64_t[]){inner, inner}, parts);
    } else {
        parts[0] = gen_linear(g, x, inner);
        parts[1] = gen_linear(g, x, inner);
    }
    parts[0] = activation(g, parts[0]);
    x = gen_chance(g, 70) ? gen_binary(g, "mul", parts[0], parts[1])
                          : gen_binary(g, "mul", parts[1], parts[0]);
    if (gen_chance(g, 15))
        x = chain(g, x);
    return gen_linear(g, x, g->dim);
}

/* ---- elements moved about: x is (batch, s, dim) ---- */

/* As (batch, s, dim / n, n), something, and back. */
static struct val in_groups(struct gen *g, struct val x)
{
    int64_t n = gen_chance(g, 50) ? 8 : 2, s = x.sizes[1];
    struct val y = gen_reshape(g, x, SIZES(g->batch, s, g->dim / n, n)), sum;

    switch (gen_below(g, 6)) {
    case 0:
        y = gen_turn(g, y, 2, 3);
        break;
    case 1: /* heads before the sequence */
        y = gen_turn(g, chain(g, gen_turn(g, y, 1, 2)), 1, 2);
        break;
    case 2:
        y = n == 2 ? chain(g, y) : gen_norm(g, y); /* a norm of two is nearly a sign */
        break;
    case 3:
        y = OP(g, y, "softmax.int", ARG_T("self", y.v), ARG_I("dim", -1));
        break;
    case 4:
        sum = over_last(g, "sum", y);
        if (gen_chance(g, 50))
            sum = OP(g, y, "expand.default", ARG_T("self", sum.v),
                     gen_ints(g, "size", SIZES(-1, -1, -1, n)));
        y = gen_binary(g, "add", y, gen_number(g, "div", sum, (double)n));
        break;
    default: /* over what is not the last */
        sum = OP(g, gen_shape(x.dtype, SIZES(g->batch, s, 1, n)), "amax.default",
                 ARG_T("self", y.v), gen_ints(g, "dim", SIZES(2)), ARG_B("keepdim", true));
        y = gen_binary(g, "sub", y, sum);
    }
    if (y.sizes[3] != n && gen_chance(g, 30))
        y = gen_turn(g, chain(g, y), 2, 3);
    return gen_reshape(g, y, SIZES(g->batch, s, g->dim));
}

static struct val in_parts(struct gen *g, struct val x)
{
    int64_t sizes[3] = {g->dim / 4, g->dim / 2, g->dim / 4};
    struct val parts[3];

    gen_cut(g, x, 3, sizes, parts);
    parts[0] = chain(g, parts[0]);
    return gen_cat(g, 3, (struct val[]){parts[2], parts[0], parts[1]});
}

/* Even and odd elements, apart and together again. */
static struct val in_pairs(struct gen *g, struct val x)
{
    int64_t half = g->dim / 2, s = x.sizes[1];
    struct val parts[2], y;
    bool unbinds = gen_chance(g, 50);

    y = unbinds ? gen_reshape(g, x, SIZES(g->batch, s, half, 2)) : x;
    for (int64_t i = 0; i < 2; i++)
        parts[i] = unbinds ? OP(g, gen_wide(x, half), "unbind.int", ARG_T("self", y.v),
                                ARG_I("dim", -1))
                           : OP(g, gen_wide(x, half), "slice.Tensor", ARG_T("self", x.v),
                                ARG_I("dim", 2), ARG_I("start", i), ARG_I("end", INT64_MAX),
                                ARG_I("step", 2));
    parts[0] = chain(g, parts[0]);
    if (gen_chance(g, 50))
        return gen_cat(g, 2, parts);
    y = OP(g, gen_shape(x.dtype, SIZES(g->batch, s, half, 2)), "stack.default",
           gen_tensors(g, "tensors", 2, parts), ARG_I("dim", -1));
    if (gen_chance(g, 50))
        return OP(g, x, "flatten.using_ints", ARG_T("self", y.v), ARG_I("start_dim", -2),
                  ARG_I("end_dim", -1));
    return gen_reshape(g, y, SIZES(g->batch, s, g->dim));
}

static struct val reduced(struct gen *g, struct val x)
{
    switch (gen_below(g, 3)) {
    case 0:
        return gen_binary(g, "sub", x, over_last(g, "mean", x));
    case 1:
        return gen_binary(g, "mul", x,
                          gen_unary(g, "sigmoid", over_last(g, "sum", gen_number(
                                                      g, "mul", x, 0.125))));
    default:
        return gen_binary(
            g, "div", x,
            gen_number(g, "add", over_last(g, "amax", gen_unary(g, "abs", x)), 1));
    }
}

struct val gen_noise(struct gen *g, struct val x)
{
    for (unsigned i = 1 + gen_below(g, 3); i-- > 0;)
        switch (gen_below(g, 5)) {
        case 0:
            x = in_groups(g, x);
            break;
        case 1:
            x = in_parts(g, x);
            break;
        case 2:
            x = in_pairs(g, x);
            break;
        case 3:
            x = reduced(g, x);
            break;
        default:
            x = chain(g, x);
        }
    return gen_norm(g, x);
}
