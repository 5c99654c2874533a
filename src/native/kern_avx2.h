/* kern_avx2.h - what AVX2, FMA and F16C do for kern_body.h; KERN_NAME, KERN_TEXT and what more
 * a processor has are the including file's. */
#include <immintrin.h>

#define LANES        8
#define ROWS         3
#define OUTS         4
#define WIDE_OUTS    8
#define QUANT_ROWS   3
#define QUANT_PANELS 1
#define WEIGHT_ROWS  2
#define KERN_WIDEN_BF16(p)                                                               \
    ((vec)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)(p))), 16))
#define KERN_WIDEN_F16(p) ((vec)_mm256_cvtph_ps(_mm_loadu_si128((const void *)(p))))
#define KERN_WIDEN_I8(p)                                                                 \
    ((vec)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadu_si64((const void *)(p)))))
#define KERN_MAX(a, b)    ((vec)_mm256_max_ps((__m256)(a), (__m256)(b)))
#define KERN_MIN(a, b)    ((vec)_mm256_min_ps((__m256)(a), (__m256)(b)))
#define KERN_FMA(a, b, c) ((vec)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#ifdef __AVXVNNI__
#define KERN_DOT_U8(sum, w, x)                                                           \
    ((ivec)_mm256_dpbusd_avx_epi32((__m256i)(sum), (__m256i)(w), (__m256i)(x)))
#else
#define KERN_DOT_U8(sum, w, x)                                                           \
    ((sum) +                                                                             \
     (ivec)_mm256_madd_epi16((__m256i)((w) & 0x00ff00ff),                                \
                             (__m256i)((words)(x) << 8 >> 8)) +                          \
     (ivec)_mm256_madd_epi16((__m256i)((uvec)(w) >> 8 & 0x00ff00ff),                     \
                             (__m256i)((words)(x) >> 8)))
#define KERN_DOT_U4(sum, w, x)                                                           \
    ((sum) + (ivec)_mm256_madd_epi16(_mm256_maddubs_epi16((__m256i)(w), (__m256i)(x)),   \
                                     _mm256_set1_epi16(1)))
#endif
