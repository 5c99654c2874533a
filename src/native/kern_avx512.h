/* kern_avx512.h - what AVX-512 (F, BW, VL) does for kern_body.h; KERN_NAME, KERN_TEXT and what
 * more a processor has are the including file's. */
#include <immintrin.h>

#define LANES        16
#define ROWS         4
#define OUTS         4
#define WIDE_OUTS    8
#define QUANT_ROWS   5
#define QUANT_PANELS 2
#define WEIGHT_ROWS  4
#define KERN_WIDEN_BF16(p)                                                               \
    ((vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(p))), 16))
#define KERN_WIDEN_F16(p) ((vec)_mm512_cvtph_ps(_mm256_loadu_si256((const void *)(p))))
#define KERN_WIDEN_I8(p)                                                                 \
    ((vec)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)(p)))))
#define FIRST_LANES(n)    ((__mmask16)((1u << (n)) - 1))
#define KERN_MAX(a, b)    ((vec)_mm512_max_ps((__m512)(a), (__m512)(b)))
#define KERN_MIN(a, b)    ((vec)_mm512_min_ps((__m512)(a), (__m512)(b)))
#define KERN_SCALE(y, n)  ((vec)_mm512_scalef_ps((__m512)(y), (__m512)(n)))
#define KERN_FMA(a, b, c) ((vec)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define KERN_LOAD_PART(p, n)     ((vec)_mm512_maskz_loadu_ps(FIRST_LANES(n), p))
#define KERN_STORE_PART(p, v, n) _mm512_mask_storeu_ps(p, FIRST_LANES(n), (__m512)(v))
/* a table's, by the lowest 4 bits */
#define KERN_OF_HALF(v)                                                                  \
    ((vec)_mm512_permutexvar_ps((__m512i)(v), _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, \
                                                             -1, 0, 1, 2, 3, 4, 5, 6, 7)))
#ifdef __AVX512VNNI__
#define KERN_DOT_U8(sum, w, x)                                                           \
    ((ivec)_mm512_dpbusd_epi32((__m512i)(sum), (__m512i)(w), (__m512i)(x)))
#else
#define KERN_DOT_U8(sum, w, x)                                                           \
    ((sum) +                                                                             \
     (ivec)_mm512_madd_epi16((__m512i)((w) & 0x00ff00ff),                                \
                             (__m512i)((words)(x) << 8 >> 8)) +                          \
     (ivec)_mm512_madd_epi16((__m512i)((uvec)(w) >> 8 & 0x00ff00ff),                     \
                             (__m512i)((words)(x) >> 8)))
#define KERN_DOT_U4(sum, w, x)                                                           \
    ((sum) + (ivec)_mm512_madd_epi16(_mm512_maddubs_epi16((__m512i)(w), (__m512i)(x)),   \
                                     _mm512_set1_epi16(1)))
#endif
