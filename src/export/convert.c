#include "export/convert.h"

#include "base/half.h"
#include "base/log.h"

#define SAME(x) (x)
#define LOOP(name, from_type, read, to_type, write)                                      \
    static void name(const from_type *restrict src, to_type *restrict dst, size_t n)     \
    {                                                                                    \
        for (size_t i = 0; i < n; i++)                                                   \
            dst[i] = write((float)read(src[i]));                                         \
    }

LOOP(f64_to_f32, double, SAME, float, SAME)
LOOP(f64_to_bf16, double, SAME, uint16_t, bf16_of_float)
LOOP(f64_to_half, double, SAME, uint16_t, f16_of_float)
LOOP(f32_to_bf16, float, SAME, uint16_t, bf16_of_float)
LOOP(f32_to_half, float, SAME, uint16_t, f16_of_float)
LOOP(bf16_to_f32, uint16_t, bf16_to_float, float, SAME)
LOOP(bf16_to_half, uint16_t, bf16_to_float, uint16_t, f16_of_float)
LOOP(half_to_f32, uint16_t, f16_to_float, float, SAME)
LOOP(half_to_bf16, uint16_t, f16_to_float, uint16_t, bf16_of_float)

static void from_f64(const double *src, enum pt2_dtype to, void *dst, size_t n)
{
    if (to == PT2_FLOAT32)
        f64_to_f32(src, dst, n);
    else if (to == PT2_BFLOAT16)
        f64_to_bf16(src, dst, n);
    else
        f64_to_half(src, dst, n);
}

void convert_elements(enum pt2_dtype from, const void *src, enum pt2_dtype to, void *dst,
                      size_t n)
{
    ASSERT(to == PT2_FLOAT32 || to == PT2_BFLOAT16 || to == PT2_FLOAT16);
    if (from == to)
        memcpy(dst, src, n * pt2_dtype_size(to));
    else if (from == PT2_FLOAT64)
        from_f64(src, to, dst, n);
    else if (from == PT2_FLOAT32 && to == PT2_BFLOAT16)
        f32_to_bf16(src, dst, n);
    else if (from == PT2_FLOAT32)
        f32_to_half(src, dst, n);
    else if (from == PT2_BFLOAT16 && to == PT2_FLOAT32)
        bf16_to_f32(src, dst, n);
    else if (from == PT2_BFLOAT16)
        bf16_to_half(src, dst, n);
    else if (from == PT2_FLOAT16 && to == PT2_FLOAT32)
        half_to_f32(src, dst, n);
    else if (from == PT2_FLOAT16)
        half_to_bf16(src, dst, n);
    else
        ASSERT(!"a type that is not floating point");
}
