/* kern_avx2.c - the kernels for x86-64 with AVX2, FMA and F16C. */
#if defined(__x86_64__)
#pragma GCC target("avx2,fma,f16c")
#include "native/kern_avx2.h"

#define KERN_NAME kernels_avx2
#define KERN_TEXT "avx2"
#include "native/kern_body.h"
#endif
