/* kern_avx512.c - the kernels for x86-64 with AVX-512 (F, BW, VL). */
#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512bw,avx512vl,fma,f16c")
#include "native/kern_avx512.h"

#define KERN_NAME kernels_avx512
#define KERN_TEXT "avx512"
#include "native/kern_body.h"
#endif
