/* kern_avx512bf16.c - the kernels for x86-64 with AVX-512, its bfloat16 and its dot products
 * of bytes, which no processor with the former lacks.  A weight of bfloat16 meets a row
 * rounded to it, as in torch.  Subnormals count as zero there. */
#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512vnni,avx512bf16,fma,f16c")
#include "native/kern_avx512.h"

#define KERN_NAME kernels_avx512bf16
#define KERN_TEXT "avx512bf16"
#define KERN_DOT_BF16(sum, x, w)                                                          \
    ((vec)_mm512_dpbf16_ps((__m512)(sum), (__m512bh)(x), (__m512bh)(w)))
#include "native/kern_body.h"
#endif
