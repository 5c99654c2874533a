/* kern_avx2.c - the kernels for x86-64 with AVX2, FMA and F16C. */
#if defined(__x86_64__)
#pragma GCC target("avx2,fma,f16c")
#include <immintrin.h>

#define KERN_NAME         kernels_avx2
#define KERN_TEXT         "avx2"
#define LANES             8
#define ROWS              3
#define OUTS              4
#define WIDE_OUTS         8
#define KERN_WIDEN_BF16(p)                                                               \
    ((vec)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)(p))), 16))
#define KERN_WIDEN_F16(p) ((vec)_mm256_cvtph_ps(_mm_loadu_si128((const void *)(p))))
#define KERN_MAX(a, b)    ((vec)_mm256_max_ps((__m256)(a), (__m256)(b)))
#define KERN_MIN(a, b)    ((vec)_mm256_min_ps((__m256)(a), (__m256)(b)))
#include "native/kern_body.h"
#endif
