#include "native/kern_math.h"

#include "base/half.h"

#include <math.h>

static float unary_one(enum kernel_unary f, float x)
{
    switch (f) {
    case KERNEL_ABS:
        return fabsf(x);
    case KERNEL_SQRT:
        return sqrtf(x);
    case KERNEL_RSQRT:
        return 1.0f / sqrtf(x);
    case KERNEL_COS:
        return cosf(x);
    case KERNEL_SIN:
        return sinf(x);
    case KERNEL_LOG:
        return logf(x);
    case KERNEL_SOFTPLUS:
        return x > 20 ? x : log1pf(expf(x));
    case KERNEL_EXPM1:
        return expm1f(x);
    case KERNEL_ROUND_BF16:
        return bf16_to_float(bf16_of_float(x));
    case KERNEL_ROUND_F16:
        return f16_to_float(f16_of_float(x));
    default:
        return NAN; /* the others are vectors' */
    }
}

void math_unary(enum kernel_unary f, const float *x, size_t n, float *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = unary_one(f, x[i]);
}

void math_extreme(enum kernel_binary f, const float *a, size_t a_step, const float *b,
                  size_t b_step, size_t n, float *y)
{
    for (size_t i = 0; i < n; i++) {
        float p = a[i * a_step], q = b[i * b_step];

        if (p != p || q != q)
            y[i] = p != p ? p : q;
        else
            y[i] = (f == KERNEL_MAX) == (p > q) ? p : q;
    }
}
