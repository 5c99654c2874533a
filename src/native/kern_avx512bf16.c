/* kern_avx512bf16.c - the kernels for x86-64 with AVX-512 and its bfloat16: a weight of that
 * type meets a row rounded to it, as in torch.  Subnormals count as zero there. */
#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512bf16,fma,f16c")
#include <immintrin.h>

#define KERN_NAME         kernels_avx512bf16
#define KERN_TEXT         "avx512bf16"
#define LANES             16
#define ROWS              4
#define OUTS              4
#define WIDE_OUTS         8
#define KERN_WIDEN_BF16(p)                                                               \
    ((vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(p))), 16))
#define KERN_WIDEN_F16(p) ((vec)_mm512_cvtph_ps(_mm256_loadu_si256((const void *)(p))))
#define KERN_DOT_BF16(sum, x, w)                                                          \
    ((vec)_mm512_dpbf16_ps((__m512)(sum), (__m512bh)(x), (__m512bh)(w)))
#define FIRST_LANES(n)    ((__mmask16)((1u << (n)) - 1))
#define KERN_MAX(a, b)    ((vec)_mm512_max_ps((__m512)(a), (__m512)(b)))
#define KERN_MIN(a, b)    ((vec)_mm512_min_ps((__m512)(a), (__m512)(b)))
#define KERN_SCALE(y, n)  ((vec)_mm512_scalef_ps((__m512)(y), (__m512)(n)))
#define KERN_LOAD_PART(p, n)     ((vec)_mm512_maskz_loadu_ps(FIRST_LANES(n), p))
#define KERN_STORE_PART(p, v, n) _mm512_mask_storeu_ps(p, FIRST_LANES(n), (__m512)(v))
#include "native/kern_body.h"
#endif
