/* kern_funcs.h - functions of a vector of floats.  Part of kern_body.h. */

/* y * 2^n for whole n of -150 to 128, rounded once. */
#ifndef KERN_SCALE
INLINE vec scale_by_two(vec y, vec n)
{
    ivec whole = __builtin_convertvector(n, ivec), half = whole >> 1;

    y *= (vec)((half + 127) << 23); /* in two steps, so that subnormal results come out */
    return y * (vec)((whole - half + 127) << 23);
}
#define KERN_SCALE scale_by_two
#endif

/* e^x to 1 ulp or so; -inf gives 0, what overflows inf, NaN NaN.  2^n * e^r with
 * |r| <= ln 2 / 2 and a polynomial of degree 6 (the coefficients of Cephes' expf). */
INLINE vec exp_vec(vec x)
{
    vec n, r, y;

    x = KERN_MIN(splat(89.0f), x);   /* gives inf */
    x = KERN_MAX(splat(-104.0f), x); /* gives 0 */
    n = x * 1.44269504088896341f;
    n = (n + 12582912.0f) - 12582912.0f; /* to the nearest integer */
    r = x - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    y = splat(1.9875691500e-4f);
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    return KERN_SCALE(y, n);
}

INLINE vec sigmoid_vec(vec x)
{
    return 1.0f / (1.0f + exp_vec(-x));
}

/* y with the sign of x */
INLINE vec with_sign(vec y, vec x)
{
    return (vec)(((ivec)y & 0x7fffffff) | ((ivec)x & (int32_t)0x80000000));
}

/* Cephes' tanhf. */
INLINE vec tanh_vec(vec x)
{
    vec size = with_sign(x, (vec){}), s = x * x, y = splat(-5.70498872745e-3f);

    y = y * s + 2.06390887954e-2f;
    y = y * s - 5.37397155531e-2f;
    y = y * s + 1.33314422036e-1f;
    y = y * s - 3.33332819422e-1f;
    y = y * s * x + x;
    return choose(size >= 0.625f,
                  with_sign(1.0f - 2.0f / (exp_vec(size + size) + 1.0f), x), y);
}

/* Of two polynomials, for small x and, as 1 - e^p, for others; to 1 ulp or so (after
 * N. Juffa). */
INLINE vec erf_vec(vec x)
{
    vec size = with_sign(x, (vec){}), s = x * x, p = splat(-1.72853470e-5f),
        y = splat(-5.96761703e-4f);

    p = (p * size + 3.83197126e-4f) * s + (-3.88396438e-3f * size + 2.42546219e-2f);
    p = p * size - 1.06777877e-1f;
    p = p * size - 6.34846687e-1f;
    p = p * size - 1.28717512e-1f;
    p = p * size - size;
    y = y * s + 4.99119423e-3f;
    y = y * s - 2.67681349e-2f;
    y = y * s + 1.12819925e-1f;
    y = y * s - 3.76125336e-1f;
    y = y * s + 1.28379166e-1f;
    y = y * x + x;
    return choose(size > 0.927734375f, with_sign(1.0f - exp_vec(p), x), y);
}

/* The functions that unary_vec has; the others go through kern_math.c. */
#define EACH_FUNCTION(f)                                                                  \
    f(NEG) f(SQUARE) f(EXP) f(SILU) f(SIGMOID) f(TANH) f(GELU) f(GELU_TANH) f(RELU) \
    f(POSITIVE)

INLINE vec unary_vec(enum kernel_unary f, vec x)
{
    switch (f) {
    case KERNEL_NEG:
        return -x;
    case KERNEL_SQUARE:
        return x * x;
    case KERNEL_EXP:
        return exp_vec(x);
    case KERNEL_SIGMOID:
        return sigmoid_vec(x);
    case KERNEL_TANH:
        return tanh_vec(x);
    case KERNEL_GELU:
        return 0.5f * x * (1.0f + erf_vec(x * 0.70710678118654752f));
    case KERNEL_GELU_TANH: /* (1 + tanh u) / 2 is sigmoid 2u */
        return x * sigmoid_vec(1.5957691216057308f * (x + 0.044715f * x * x * x));
    case KERNEL_RELU:
        return choose(x < 0.0f, (vec){}, x); /* a NaN stays */
    case KERNEL_POSITIVE:
        return choose(x > 0.0f, splat(1.0f), (vec){});
    default: /* SILU */
        return x / (1.0f + exp_vec(-x));
    }
}
