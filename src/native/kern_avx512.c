/* kern_avx512.c - the kernels for x86-64 with AVX-512 (F, BW, VL). */
#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512bw,avx512vl,fma,f16c")
#include <immintrin.h>

#define KERN_NAME         kernels_avx512
#define KERN_TEXT         "avx512"
#define LANES             16
#define ROWS              4
#define OUTS              4
#define WIDE_OUTS         8
#define KERN_WIDEN_F16(p) ((vec)_mm512_cvtph_ps(_mm256_loadu_si256((const void *)(p))))
#include "native/kern_body.h"
#endif
